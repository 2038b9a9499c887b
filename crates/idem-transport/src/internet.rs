//! Links over the internet: QUIC, directly between two machines or by way of a relay server that the app names.
//!
//! The bytes of a link, from the preamble on, are those of one bidirectional QUIC stream, so everything above is as
//! over TCP. QUIC encrypts them once more, and the key of an endpoint proves that the machine is the one of the
//! address; who the peer is, the handshake of the link proves inside of it.
//!
//! Nothing is asked of a public relay or look-up service: an endpoint knows the relays that it is told of and no
//! others, and finds nobody by itself.

use std::{fmt, net::SocketAddr, str::FromStr};

use crate::error::LinkError;

#[cfg(feature = "internet")]
mod quic;
#[cfg(not(feature = "internet"))]
mod without;

#[cfg(feature = "internet")]
pub use quic::{InternetEndpoint, InternetIncoming};
#[cfg(not(feature = "internet"))]
pub use without::{InternetEndpoint, InternetIncoming};

/// What an address begins with.
const SCHEME: &str = "iroh:";

/// Ways that an address may have.
const WAYS_MAX: usize = 16;

/// Where a peer is on the internet: `iroh:KEY@WAY[,WAY..]`, with the key of its endpoint in 64 hex digits and
/// each way a socket address (`203.0.113.7:4040`, `[2001:db8::7]:4040`) or the URL of a relay server that it
/// uses (`https://relay.example.org`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternetAddress {
    key: [u8; 32],
    sockets: Vec<SocketAddr>,
    relays: Vec<String>,
}

impl InternetAddress {
    /// Whether `text` is meant to be one.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The socket addresses, in their order.
    pub fn sockets(&self) -> &[SocketAddr] {
        &self.sockets
    }

    /// The URLs of relays, in their order.
    pub fn relays(&self) -> &[String] {
        &self.relays
    }
}

impl FromStr for InternetAddress {
    type Err = LinkError;

    /// # Errors
    /// [`LinkError::AddressInvalid`].
    fn from_str(text: &str) -> Result<Self, LinkError> {
        let invalid = |what| LinkError::AddressInvalid {
            address: text.to_owned(),
            what,
        };
        let rest = text.strip_prefix(SCHEME);
        let rest = rest.ok_or_else(|| invalid("it does not begin with iroh:"))?;
        let (key, ways) = rest
            .split_once('@')
            .ok_or_else(|| invalid("it names no way, as in iroh:KEY@HOST:PORT"))?;
        let key = bytes(key).ok_or_else(|| invalid("its key has not 64 hex digits"))?;
        let mut address = Self {
            key,
            sockets: Vec::new(),
            relays: Vec::new(),
        };
        for (count, way) in ways.split(',').enumerate() {
            if count == WAYS_MAX {
                return Err(invalid("it names more than 16 ways"));
            }
            if way.starts_with("https://") || way.starts_with("http://") {
                address.relays.push(way.to_owned());
            } else {
                let socket: SocketAddr = way
                    .parse()
                    .map_err(|_| invalid("a way is neither IP:PORT nor the URL of a relay"))?;
                address.sockets.push(socket);
            }
        }
        Ok(address)
    }
}

impl fmt::Display for InternetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        for byte in self.key {
            write!(f, "{byte:02x}")?;
        }
        let sockets = self.sockets.iter().map(ToString::to_string);
        let ways: Vec<String> = sockets.chain(self.relays.iter().cloned()).collect();
        write!(f, "@{}", ways.join(","))
    }
}

fn bytes(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let is_whole = hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    for (at, byte) in bytes.iter_mut().enumerate().filter(|_| is_whole) {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    is_whole.then_some(bytes)
}

/// How an endpoint is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternetConfig {
    /// The address to bind, UDP. Port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Relay servers, by their URLs. None means that only direct connections are made.
    pub relays: Vec<String>,
    /// Whether others may connect.
    pub is_listening: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        let key = "0123456789abcdef".repeat(4);
        for ways in [
            "203.0.113.7:4040",
            "[2001:db8::7]:4040,203.0.113.7:4040",
            "https://relay.example.org",
            "203.0.113.7:4040,https://relay.example.org:8443/",
        ] {
            let text = format!("iroh:{key}@{ways}");
            let address: InternetAddress = text.parse().unwrap();
            let back: InternetAddress = address.to_string().parse().unwrap();
            assert_eq!(back, address, "{text}");
            assert!(InternetAddress::is_meant(&text));
        }
        let many = vec!["203.0.113.7:4040"; 17].join(",");
        for wrong in [
            String::new(),
            key.clone(),
            format!("iroh:{key}"),
            format!("iroh:{key}@"),
            format!("iroh:{key}@example.org:4040"),
            format!("iroh:{key}@203.0.113.7"),
            format!("iroh:{key}@{many}"),
            format!("iroh:{}@203.0.113.7:4040", &key[1..]),
            format!("iroh:{}\u{fc}@203.0.113.7:4040", &key[2..]),
            format!("iroh:+{}@203.0.113.7:4040", &key[1..]),
        ] {
            let error = wrong.parse::<InternetAddress>().unwrap_err();
            assert_eq!(error.reason(), "address-invalid", "{wrong}");
        }
    }
}
