//! The cipher of one link after its handshake.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use idem_model::limits;
use snow::TransportState;

use crate::error::LinkError;

/// Seals and opens records. Both directions share one state; each lock lasts for one record.
pub(crate) struct Cipher {
    state: Mutex<TransportState>,
    rekey_records: u64,
}

impl Cipher {
    pub(crate) fn new(state: TransportState) -> Self {
        Self {
            state: Mutex::new(state),
            rekey_records: limits::LINK_REKEY_RECORDS,
        }
    }

    fn lock(&self) -> MutexGuard<'_, TransportState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends the record of `plain` to `out`, its length field first.
    pub(crate) fn seal(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), LinkError> {
        let start = out.len();
        let sealed = plain.len() + 16;
        let field = u16::try_from(sealed).expect("a record has at most 65,535 bytes");
        out.extend_from_slice(&field.to_be_bytes());
        out.resize(start + 2 + sealed, 0);
        let mut state = self.lock();
        let written = state
            .write_message(plain, &mut out[start + 2..])
            .map_err(|_| LinkError::Malformed {
                what: "the cipher refuses to go on",
            })?;
        assert_eq!(written, sealed, "a record grows by its tag");
        // The nonce counts records and both sides count alike, so they change keys together.
        if state.sending_nonce().is_multiple_of(self.rekey_records) {
            state.rekey_outgoing();
        }
        Ok(())
    }

    /// Replaces `plain` by the content of `record`, which has no length field.
    pub(crate) fn open(&self, record: &[u8], plain: &mut Vec<u8>) -> Result<(), LinkError> {
        plain.resize(record.len(), 0);
        let mut state = self.lock();
        let len = state
            .read_message(record, plain)
            .map_err(|_| LinkError::Tampered)?;
        if state.receiving_nonce().is_multiple_of(self.rekey_records) {
            state.rekey_incoming();
        }
        plain.truncate(len);
        Ok(())
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(rekey_a: u64, rekey_b: u64) -> (Cipher, Cipher) {
        let builder = || snow::Builder::new("Noise_NN_25519_ChaChaPoly_BLAKE2s".parse().unwrap());
        let mut a = builder().build_initiator().unwrap();
        let mut b = builder().build_responder().unwrap();
        let (mut message, mut payload) = ([0; 200], [0; 200]);
        let len = a.write_message(b"", &mut message).unwrap();
        b.read_message(&message[..len], &mut payload).unwrap();
        let len = b.write_message(b"", &mut message).unwrap();
        a.read_message(&message[..len], &mut payload).unwrap();
        let cipher = |state: snow::HandshakeState, rekey_records| Cipher {
            state: Mutex::new(state.into_transport_mode().unwrap()),
            rekey_records,
        };
        (cipher(a, rekey_a), cipher(b, rekey_b))
    }

    fn carry(from: &Cipher, to: &Cipher, plain: &[u8]) -> Result<Vec<u8>, LinkError> {
        let (mut record, mut out) = (Vec::new(), Vec::new());
        from.seal(plain, &mut record)?;
        to.open(&record[2..], &mut out)?;
        Ok(out)
    }

    #[test]
    fn keys_change_on_both_sides_at_once() {
        let (a, b) = pair(3, 3);
        for n in 0..10u8 {
            assert_eq!(carry(&a, &b, &[n]).unwrap(), [n]);
            assert_eq!(carry(&b, &a, &[n, n]).unwrap(), [n, n]);
        }
        let (a, b) = pair(3, 1000);
        let failed_at = (0..10u8).find(|n| carry(&a, &b, &[*n]).is_err());
        assert_eq!(failed_at, Some(3));
    }

    #[test]
    fn a_record_opens_once_and_unaltered_only() {
        let (a, b) = pair(1000, 1000);
        let (mut record, mut out) = (Vec::new(), Vec::new());
        a.seal(b"hello", &mut record).unwrap();
        let mut altered = record.clone();
        altered[7] ^= 1;
        assert!(b.open(&altered[2..], &mut out).is_err());
        b.open(&record[2..], &mut out).unwrap();
        assert_eq!(out, b"hello");
        assert!(b.open(&record[2..], &mut out).is_err(), "replayed");
    }
}
