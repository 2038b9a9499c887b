//! Real keys.

use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use idem_mesh::Signer;
use idem_model::PeerId;

#[derive(Clone, Debug)]
pub(crate) struct Key(SigningKey);

impl Key {
    pub(crate) fn from_secret(secret: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&secret))
    }

    pub(crate) fn new(number: u32) -> Self {
        Self::from_secret(*blake3::hash(&number.to_be_bytes()).as_bytes())
    }

    pub(crate) fn peer(&self) -> PeerId {
        PeerId(self.0.verifying_key().to_bytes())
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    fn holds(&self, peer: &PeerId, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&peer.0).is_ok_and(|key| {
            !key.is_weak()
                && key
                    .verify(message, &Signature::from_bytes(signature))
                    .is_ok()
        })
    }
}
