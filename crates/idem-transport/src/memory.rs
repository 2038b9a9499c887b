//! Links inside one process, with the same handshake and cipher as any other.

use tokio::io::DuplexStream;

use crate::{
    error::LinkError,
    handshake::{Role, link_over},
    identity::LinkCredentials,
    link::{Link, LinkKind},
};

/// Bytes that may be on their way in each direction.
const BUFFER_BYTES: usize = 256 * 1024;

/// Two ends of a stream in memory, for [`link_over`].
pub fn memory_streams() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(BUFFER_BYTES)
}

/// Links two peers in memory.
///
/// # Errors
/// The failure of the initiator's side if the credentials do not fit together.
pub async fn memory_link_pair(
    initiator: &LinkCredentials,
    responder: &LinkCredentials,
) -> Result<(Link, Link), LinkError> {
    let (a, b) = memory_streams();
    let (a, b) = tokio::join!(
        link_over(
            Box::new(a),
            Role::Initiator,
            LinkKind::Memory,
            None,
            initiator
        ),
        link_over(
            Box::new(b),
            Role::Responder,
            LinkKind::Memory,
            None,
            responder
        ),
    );
    Ok((a?, b?))
}
