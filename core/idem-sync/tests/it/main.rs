//! Sessions in pairs, over links that the test moves frame by frame.

mod announce;
mod both_ways;
mod compare;
mod confirm;
mod deleted;
mod exchange;
mod farewell;
mod floor;
mod frames;
mod gossip;
mod hostile;
mod leave;
mod links;
mod mesh;
mod names;
mod pair;
mod projected;
mod relay;
mod resume;
mod scope;
mod scopes;
mod sketch;
mod stale;
mod trio;
mod unheld;
mod windows;
