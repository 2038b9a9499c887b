//! Files that are rewritten in place: sealed sector by sector.

use crate::{Cipher, SEAL_BYTES, Seal, Unsealed, VaultError, cipher::key_of};

/// Content of one sector.
pub const SECTOR_BYTES: usize = 4096;

/// What a full sector takes on disk: seal, content.
pub const SEALED_SECTOR_BYTES: usize = SEAL_BYTES + SECTOR_BYTES;

/// A random name of a file of sectors, which stands in its head: sectors of another file do not open in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId(pub [u8; 16]);

impl FileId {
    /// A fresh one.
    ///
    /// # Errors
    /// [`VaultError::Entropy`].
    pub fn random() -> Result<Self, VaultError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| VaultError::Entropy)?;
        Ok(Self(id))
    }
}

/// What a sector is bound to.
fn place(file: FileId, number: u64, version: u64) -> [u8; 32] {
    let mut place = [0; 32];
    place[..16].copy_from_slice(&file.0);
    place[16..24].copy_from_slice(&number.to_be_bytes());
    place[24..].copy_from_slice(&version.to_be_bytes());
    place
}

impl Cipher {
    /// Appends the sealed form of a sector, full or shorter, to `out`. `version` tells copies of one sector
    /// apart, and is 0 where there is one.
    pub fn seal_sector(
        &self,
        file: FileId,
        number: u64,
        version: u64,
        content: &[u8],
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.resize(start + SEAL_BYTES, 0);
        out.extend_from_slice(content);
        let seal = self.seal(
            &place(file, number, version),
            &mut out[start + SEAL_BYTES..],
        );
        out[start..start + SEAL_BYTES].copy_from_slice(&seal);
    }

    /// Opens a sector in place and gives its content.
    ///
    /// # Errors
    /// [`Unsealed`].
    pub fn open_sector<'a>(
        &self,
        file: FileId,
        number: u64,
        version: u64,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Unsealed> {
        let (seal, content) = sealed
            .split_first_chunk_mut::<SEAL_BYTES>()
            .ok_or(Unsealed)?;
        self.open(&place(file, number, version), seal, content)?;
        Ok(content)
    }

    /// Whether a sector was never written, or was cut where nothing was: its seal is all zeros. No key has
    /// the id 0.
    pub fn is_blank(sealed: &[u8]) -> bool {
        let seal = &sealed[..sealed.len().min(SEAL_BYTES)];
        seal.iter().all(|&byte| byte == 0)
    }

    /// Whether a sector was sealed under the key that seals now.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        let seal: Option<&Seal> = sealed.first_chunk();
        seal.is_some_and(|seal| key_of(seal) == self.current_key())
    }
}
