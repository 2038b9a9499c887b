//! Meshes under random events, and many of them on a network that is made of nothing.

mod prop_links;
