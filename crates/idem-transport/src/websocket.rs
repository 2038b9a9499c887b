//! Links in WebSockets: the way through proxies and out of browsers.
//!
//! The bytes of a link, from the preamble on, are the contents of binary messages, put together;
//! where one ends means nothing. So everything above is as over TCP, the encryption too: TLS around
//! the WebSocket hides that there is a link, and is not needed to keep it secret.

mod dial;
mod serve;
mod stream;

pub use dial::{WebSocketUrl, websocket_connect};
pub use serve::{HttpIncoming, HttpLinkListener};

/// The path at which a peer opens WebSocket links.
pub const WEBSOCKET_PATH: &str = "/_idem/v1/sync";
