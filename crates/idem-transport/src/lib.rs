//! Encrypted, mutually authenticated links between peers.
//!
//! A [`Link`] carries frames on four [`Lane`]s between two peers that proved to each other that they
//! hold the same shared key of the same database, and which ed25519 identity each of them is. It
//! knows nothing about what the frames say.
//!
//! What happens on a byte stream, in order (docs/format/wire.md, "Links"):
//!
//! 1. Both sides send a [`Preamble`] in clear: magic, protocol versions, and a tag that only a peer
//!    of the same database can check. Garbage, another version and another database are told apart
//!    here.
//! 2. Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s with the preambles as prologue, so nobody can alter them
//!    unnoticed. The pre-shared key is derived from the database's shared key and its id.
//! 3. Each side signs the handshake hash and its Noise static key with its ed25519 identity, inside
//!    the encryption: a stranger without the shared key never learns who is there. The app of each
//!    side may then refuse the other, before anything else is said.
//! 4. Records of up to 65,535 bytes, each holding pieces of frames ([`Chunks`], [`Reassembler`]). A
//!    small frame of a more urgent lane goes between the pieces of a large one.
//!
//! In a database with certificates ([`LinkMode`]) each side shows one with its proof, and a [`Certifier`]
//! judges that of the other; the pre-shared key is then made of the database's id where there is no shared key.
//!
//! Over Bluetooth Low Energy the stream of bytes is made of datagrams ([`BleFraming`]), which a
//! [`BleBackend`] carries.
//!
//! There is no mode without encryption. Every failure is a [`LinkError`] with a stable
//! [`reason`](LinkError::reason), on both sides where the protocol can tell the other side.
//!
//! Invariants: no length that the other side claims is trusted before it is compared with its limit,
//! and memory grows with the bytes that arrived, not with those that were announced.

mod ble;
mod certified;
mod cipher;
mod error;
mod frame;
mod handshake;
mod identity;
mod internet;
mod lanes;
mod link;
#[cfg(feature = "mdns")]
mod mdns;
mod memory;
mod pipe;
mod preamble;
mod silence;
mod tcp;
#[cfg(feature = "websocket")]
mod tls;
mod traffic;
#[cfg(feature = "websocket")]
mod websocket;

#[cfg(all(feature = "ble", target_os = "linux"))]
pub use ble::BluezBackend;
pub use ble::{
    BLE_CHARACTERISTIC_READ, BLE_CHARACTERISTIC_WRITE, BleAddress, BleAdvert, BleBackend,
    BleBearer, BleError, BleEvent, BleFraming, BleFuture, BleIncoming, BlePlace, BleRadio,
    BleScout, BleSighting, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MIN, ble_service,
};
#[cfg(any(test, feature = "__simulated_ble"))]
pub use ble::{SimulatedAir, SimulatedAirConfig, SimulatedAntenna};
pub use certified::{CertificateFault, CertificateRefusal, Certifier, LinkMode};
pub use error::{LinkError, Refusal, TrySendError};
pub use frame::{Chunk, Chunks, Reassembler, record_bytes};
pub use handshake::{ByteStream, Role, link_over};
pub use idem_model::Lane;
pub use identity::{
    Applicant, LinkCredentials, LinkIdentity, SharedSecret, Verdict, signature_holds,
};
pub use internet::{InternetAddress, InternetConfig, InternetEndpoint, InternetIncoming};
pub use link::{Link, LinkKind, LinkProperties, LinkReceiver, LinkSender};
#[cfg(feature = "mdns")]
pub use mdns::{Discovery, DiscoveryConfig, DiscoveryEvent, Reachable};
pub use memory::{memory_link_pair, memory_streams};
pub use preamble::{PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, Preamble, VersionRange};
pub use tcp::{TcpIncoming, TcpLinkListener, tcp_connect, tcp_connect_any};
#[cfg(feature = "websocket")]
pub use tls::{TlsCertificate, TlsError, TlsTrust};
pub use traffic::{LinkProbe, Traffic};
#[cfg(feature = "websocket")]
pub use websocket::{
    HttpIncoming, HttpLinkListener, WEBSOCKET_PATH, WebSocketUrl, websocket_connect,
};
