//! The table of DESIGN section 3.1, row by row, whichever side is later.
