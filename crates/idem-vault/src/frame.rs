//! Frames of a log: sealed before their place is known, bound to it when it is.

use crate::{Cipher, SEAL_BYTES, Seal, Unsealed, cipher::key_of};

/// Bytes by which a sealed payload is longer: seal, and the hash that binds it to its position.
pub const FRAME_OVERHEAD_BYTES: usize = SEAL_BYTES + PLACE_BYTES;

const PLACE_BYTES: usize = 16;

impl Cipher {
    /// Seals the payload that consists of `parts`, without its place: `seal | content`.
    pub fn seal_frame(&self, log: u64, parts: &[&[u8]]) -> Vec<u8> {
        let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut sealed = Vec::with_capacity(FRAME_OVERHEAD_BYTES + bytes);
        sealed.resize(SEAL_BYTES, 0);
        for part in parts {
            sealed.extend_from_slice(part);
        }
        let seal = self.seal(&log.to_be_bytes(), &mut sealed[SEAL_BYTES..]);
        sealed[..SEAL_BYTES].copy_from_slice(&seal);
        sealed
    }

    /// What comes behind a payload that was sealed, at `position` of the log: a keyed hash of both. Sealing
    /// takes time, so it is done before the position is known; this takes a tenth of a microsecond.
    pub fn place_frame(&self, log: u64, position: u64, sealed: &[u8]) -> [u8; PLACE_BYTES] {
        let seal: &Seal = sealed.first_chunk().expect("sealed by this cipher");
        let place = self.place_of(log, position, seal);
        place.expect("the key that sealed is in the ring")
    }

    fn place_of(
        &self,
        log: u64,
        position: u64,
        seal: &Seal,
    ) -> Result<[u8; PLACE_BYTES], Unsealed> {
        let parts: [&[u8]; 3] = [&log.to_be_bytes(), &position.to_be_bytes(), seal];
        let hash = self.mac(key_of(seal), &parts)?;
        Ok(*hash.first_chunk().expect("16 of 32 bytes"))
    }

    /// Opens a payload at its position.
    ///
    /// # Errors
    /// [`Unsealed`].
    pub fn open_frame(&self, log: u64, position: u64, payload: &[u8]) -> Result<Vec<u8>, Unsealed> {
        let (sealed, place) = payload.split_last_chunk::<PLACE_BYTES>().ok_or(Unsealed)?;
        let (seal, content) = sealed.split_first_chunk::<SEAL_BYTES>().ok_or(Unsealed)?;
        let expected = self.place_of(log, position, seal)?;
        // Hashes are compared in constant time.
        if blake3::Hash::from(widened(expected)) != blake3::Hash::from(widened(*place)) {
            return Err(Unsealed);
        }
        let mut content = content.to_vec();
        self.open(&log.to_be_bytes(), seal, &mut content)?;
        Ok(content)
    }
}

fn widened(hash: [u8; PLACE_BYTES]) -> [u8; 32] {
    let mut wide = [0; 32];
    wide[..PLACE_BYTES].copy_from_slice(&hash);
    wide
}
