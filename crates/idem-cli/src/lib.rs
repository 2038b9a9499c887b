//! The `idem` command.
