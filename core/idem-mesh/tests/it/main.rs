//! Meshes under random events, and many of them on a network that is made of nothing.

mod gateways;
mod golden;
mod hostile;
mod key;
mod prop_interests;
mod prop_links;
mod thousand;
mod toy;
