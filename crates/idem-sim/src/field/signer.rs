//! Signatures that are cheap enough for millions.

use idem_mesh::Signer;
use idem_model::PeerId;

/// Stands for ed25519. Whoever reads this can forge it, so a peer that is to be unable to forge must not
/// use it.
#[derive(Debug)]
pub(crate) struct SimulatedSigner(pub(crate) PeerId);

impl SimulatedSigner {
    fn mark(peer: &PeerId, message: &[u8]) -> [u8; 64] {
        let mut hasher = blake3::Hasher::new_keyed(&peer.0);
        let mut mark = [0; 64];
        hasher.update(message).finalize_xof().fill(&mut mark);
        mark
    }
}

impl Signer for SimulatedSigner {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        Self::mark(&self.0, message)
    }

    fn holds(&self, peer: &PeerId, message: &[u8], signature: &[u8; 64]) -> bool {
        Self::mark(peer, message) == *signature
    }
}
