//! Ordered key-value store behind one trait, with its engines.
