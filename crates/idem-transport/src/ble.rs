//! Links over Bluetooth Low Energy (docs/format/ble.md).
//!
//! What the system's Bluetooth does is behind [`BleBackend`]: it advertises, scans, connects and takes
//! connections, and carries datagrams in order and without loss, either in an L2CAP channel or in a
//! GATT characteristic. Above that is [`BleFraming`], which makes a stream of bytes of them, and above
//! that the handshake and the records of any link.
//!
//! A [`BleScout`] uses a backend: it tells which peers of a database are in sight, and who connects.
//! Nothing that is advertised is believed before the handshake.

mod advert;
#[cfg(all(feature = "ble", target_os = "linux"))]
mod bluez;
mod framing;
mod scout;
#[cfg(any(test, feature = "__simulated_ble"))]
mod simulated;
mod stream;
#[cfg(test)]
mod tests;

use std::{fmt, io, pin::Pin};

use tokio::sync::mpsc;

pub use advert::{BLE_CHARACTERISTIC_READ, BLE_CHARACTERISTIC_WRITE, BleAdvert, ble_service};
#[cfg(all(feature = "ble", target_os = "linux"))]
pub use bluez::BluezBackend;
pub use framing::{BleFraming, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MIN};
pub use scout::{BleIncoming, BlePlace, BleScout, BleSighting};
#[cfg(any(test, feature = "__simulated_ble"))]
pub use simulated::{SimulatedAir, SimulatedAirConfig, SimulatedAntenna};

/// Datagrams that wait between a link and a backend, in each direction: enough to keep a carrier busy, and
/// few, because urgent frames wait behind them.
const BEARER_DATAGRAMS: usize = 4;

/// What a backend gives in time.
pub type BleFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BleError>> + Send + 'a>>;

/// The Bluetooth of a system. Implement it to let peers meet where this crate knows no Bluetooth.
pub trait BleBackend: fmt::Debug + Send + Sync + 'static {
    /// Advertises this peer, looks for others and takes connections, until what it gives is dropped.
    /// The backend adds to the advert the PSM at which it listens, if it has L2CAP channels.
    ///
    /// Fails with a [`BleError`] that names the remedy; it is called again after a while.
    fn start(&self, advert: BleAdvert) -> BleFuture<'_, Box<dyn BleRadio>>;
}

/// A radio that is on.
pub trait BleRadio: Send + Sync {
    /// The next thing that happens. May be dropped and called again without losing anything. An error means
    /// that the radio is of no use any more.
    fn next(&self) -> BleFuture<'_, BleEvent>;

    /// Connects to a peer: over an L2CAP channel to `psm`, or over GATT without one. The caller gives it a
    /// few seconds.
    fn connect(&self, address: BleAddress, psm: Option<u8>) -> BleFuture<'_, BleBearer>;
}

/// What a radio tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum BleEvent {
    /// Somebody advertises. It may be told again and again.
    Seen {
        /// Who.
        address: BleAddress,
        /// The UUID of its service data.
        service: [u8; 16],
        /// Its service data.
        data: Vec<u8>,
        /// How strong its signal is.
        signal_dbm: Option<i8>,
    },
    /// Somebody connected.
    Connected(BleBearer),
}

/// How a backend names another device: a Bluetooth address, or whatever its system has instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BleAddress(pub String);

impl fmt::Display for BleAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A connection that carries datagrams in order, each whole or not at all. When one of its channels ends,
/// the connection is over.
#[derive(Debug)]
pub struct BleBearer {
    /// The other end.
    pub address: BleAddress,
    /// The largest datagram that it carries, in bytes: an MTU less what the carrier needs of it.
    pub datagram_bytes_max: usize,
    /// To the other end.
    pub outgoing: mpsc::Sender<Vec<u8>>,
    /// From the other end.
    pub incoming: mpsc::Receiver<Vec<u8>>,
}

impl BleBearer {
    /// A bearer, and what its backend has in hand: what comes out of the first is to be carried to the other
    /// end, what comes from there is to be put into the second.
    pub fn with_ends(
        address: BleAddress,
        datagram_bytes_max: usize,
    ) -> (Self, mpsc::Receiver<Vec<u8>>, mpsc::Sender<Vec<u8>>) {
        let (outgoing, to_carry) = mpsc::channel(BEARER_DATAGRAMS);
        let (arrived, incoming) = mpsc::channel(BEARER_DATAGRAMS);
        let bearer = Self {
            address,
            datagram_bytes_max,
            outgoing,
            incoming,
        };
        (bearer, to_carry, arrived)
    }
}

/// Why Bluetooth is of no use now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BleError {
    /// This build knows no Bluetooth.
    #[error(
        "this build has no Bluetooth: build it for Linux with the feature `ble`, or hand it a `BleBackend`"
    )]
    NotBuilt,
    /// The system's service does not answer.
    #[error(
        "the Bluetooth service cannot be reached: see that D-Bus and bluetoothd (the package bluez) run"
    )]
    NoService {
        /// What the system says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no adapter that could be used.
    #[error("there is no Bluetooth adapter: plug one in, and see that bluetoothd runs")]
    NoAdapter {
        /// What the system says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The adapter cannot be switched on.
    #[error("the Bluetooth adapter cannot be switched on: try `rfkill unblock bluetooth`")]
    AdapterOff {
        /// What the system says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something that the backend does not tell apart.
    #[error("{what}")]
    Failed {
        /// What did not work.
        what: String,
        /// What the system says, if anything.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl BleError {
    /// A failure of something.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::Failed {
            what: what.into(),
            source: None,
        }
    }

    /// It with all its causes, as a sentence.
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(below) = cause {
            text.push_str(": ");
            text.push_str(&below.to_string());
            cause = below.source();
        }
        text
    }
}

impl From<BleError> for io::Error {
    fn from(error: BleError) -> Self {
        Self::other(error)
    }
}
