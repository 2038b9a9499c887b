//! Opening a link through a web server.

use std::{fmt, str::FromStr, time::Duration};

use idem_model::limits;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{Error, http::Uri},
};

use super::{
    WEBSOCKET_PATH,
    stream::{MessageStream, socket_config},
};
use crate::{
    error::LinkError,
    handshake::{ByteStream, Role, link_over},
    identity::LinkCredentials,
    link::{Link, LinkKind},
    tcp::{connect, local_address},
    tls::{TlsTrust, begin_as_client},
};

/// Where a peer opens WebSocket links: `ws://host[:port][/path]`, or `wss://` for TLS around it. The port is
/// 80, or 443, and the path [`WEBSOCKET_PATH`] where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketUrl {
    host: String,
    /// `host:port`.
    address: String,
    whole: String,
    is_tls: bool,
}

impl WebSocketUrl {
    /// Whether there is to be TLS around it.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }
}

impl FromStr for WebSocketUrl {
    type Err = LinkError;

    /// # Errors
    /// [`LinkError::AddressInvalid`], also for `wss://` in a build without the feature `tls`.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        let invalid = |what| LinkError::AddressInvalid {
            address: text.to_owned(),
            what,
        };
        let uri: Uri = text.parse().map_err(|_| invalid("it is no URL"))?;
        let (scheme, port) = match uri.scheme_str() {
            Some("ws") => ("ws", 80),
            Some("wss") if cfg!(feature = "tls") => ("wss", 443),
            Some("wss") => {
                return Err(invalid(
                    "there is no TLS in this build, and a link over ws:// is encrypted all the same",
                ));
            }
            _ => return Err(invalid("it does not begin with ws:// or wss://")),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(invalid("it holds a user name, which is not sent"));
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| invalid("it names no host"))?;
        // What follows the host is read here: the parser takes a port that is none for no port.
        let port = match authority.strip_prefix(host) {
            Some("") => port,
            Some(rest) => match rest.strip_prefix(':').map(str::parse::<u16>) {
                Some(Ok(port @ 1..)) => port,
                _ => return Err(invalid("its port is none")),
            },
            None => return Err(invalid("it names no host")),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path == "/" { WEBSOCKET_PATH } else { path };
        let address = format!("{host}:{port}");
        Ok(Self {
            host: host.to_owned(),
            whole: format!("{scheme}://{address}{path}"),
            address,
            is_tls: scheme == "wss",
        })
    }
}

impl fmt::Display for WebSocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.whole)
    }
}

/// Dials `url`. No redirect is followed. Where it asks for TLS, the server has to have a certificate of `trust`.
///
/// # Errors
/// [`LinkError::Unreachable`] if nobody answers, [`LinkError::CertificateInvalid`] and [`LinkError::TlsFailed`]
/// if TLS does not begin, [`LinkError::HttpStatus`] if a web server answers that opens no link,
/// [`LinkError::NotAPeer`] if it is no web server, else as [`link_over`].
pub async fn websocket_connect(
    url: &WebSocketUrl,
    trust: Option<&TlsTrust>,
    credentials: &LinkCredentials,
) -> Result<Link, LinkError> {
    let (stream, remote) = connect(&url.address).await?;
    stream.set_nodelay(true)?;
    let here = local_address(&stream);
    let limit = Duration::from_millis(limits::LINK_HANDSHAKE_TIMEOUT_MS);
    let upgraded = timeout(limit, upgrade(url, trust, stream))
        .await
        .map_err(|_| LinkError::HandshakeTimedOut)??;
    let stream = Box::new(upgraded);
    let kind = LinkKind::WebSocket;
    let link = link_over(stream, Role::Initiator, kind, Some(remote), credentials).await?;
    Ok(link.at_local(here))
}

/// Makes a connection to a web server a WebSocket.
async fn upgrade(
    url: &WebSocketUrl,
    trust: Option<&TlsTrust>,
    stream: TcpStream,
) -> Result<MessageStream, LinkError> {
    let stream: Box<dyn ByteStream> = match (url.is_tls, trust) {
        (false, _) => Box::new(stream),
        (true, Some(trust)) => begin_as_client(stream, &url.host, trust).await?,
        (true, None) => {
            return Err(LinkError::CertificateInvalid {
                host: url.host.clone(),
                what: "nobody is trusted here".to_owned(),
            });
        }
    };
    let begun = client_async_with_config(url.whole.as_str(), stream, Some(socket_config())).await;
    let (socket, _) = begun.map_err(|error| match error {
        Error::Io(error) => error.into(),
        Error::Http(response) => LinkError::HttpStatus {
            status: response.status().as_u16(),
        },
        _ => LinkError::NotAPeer,
    })?;
    Ok(MessageStream::new(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_once() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let url = text.parse::<WebSocketUrl>().ok();
            let found = url
                .as_ref()
                .map(|url| (url.address.as_str(), url.whole.as_str()));
            assert_eq!(found, expected, "{text}");
        };
        let whole = "ws://example.org:80/_idem/v1/sync";
        check("ws://example.org", Some(("example.org:80", whole)));
        check("ws://example.org/", Some(("example.org:80", whole)));
        check(
            "ws://[::1]:4040/a/b?c=d",
            Some(("[::1]:4040", "ws://[::1]:4040/a/b?c=d")),
        );
        let whole = "wss://example.org:443/_idem/v1/sync";
        let secured = Some(("example.org:443", whole));
        check(
            "wss://example.org",
            secured.filter(|_| cfg!(feature = "tls")),
        );
        for wrong in [
            "",
            "example.org:4040",
            "http://example.org",
            "wss:/example.org",
            "ws://",
            "ws://example.org:0",
            "ws://example.org:70000",
            "ws://example.org:",
            "ws://me:secret@example.org",
            "ws://exa mple.org",
            "ws:///path",
            "/path",
        ] {
            check(wrong, None);
        }
    }
}
