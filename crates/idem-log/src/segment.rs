//! One segment file: its header slots and where its frames lie.
//!
//! A segment has two header slots, and of the valid ones that with the higher generation is in
//! force. A segment that is used again gets its next header in the other slot: a write that is cut
//! off leaves the older header in force, and nothing has to be renamed.

use std::io;
use std::sync::Arc;

use crate::{LogError, Position, Segment};

/// Where the frames begin: on a page of their own, so that headers are never rewritten with them.
pub(crate) const DATA_START: u64 = 4096;

/// Room for frames in the smallest segment that can be asked for, in bytes.
pub(crate) const CAPACITY_MIN: u64 = 4096;

/// The slots lie in different sectors, so that one cut-off write cannot reach both.
const SLOT_STRIDE: u64 = 512;
const SLOT_BYTES: usize = 52;

const MAGIC: &[u8; 7] = b"idemlog";
const VERSION: u8 = 1;

/// What a slot says about its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotHeader {
    /// Identity of the log.
    pub(crate) id: u64,
    /// Counts the uses of all segments of the log, from 1: the order of the segments.
    pub(crate) generation: u64,
    /// Position of the first frame.
    pub(crate) base: Position,
    /// Frames before this position were given up when the header was written.
    pub(crate) live_from: Position,
    /// Size of the file.
    pub(crate) file_bytes: u64,
}

impl SlotHeader {
    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..7].copy_from_slice(MAGIC);
        bytes[7] = VERSION;
        let fields = [
            self.id,
            self.generation,
            self.base,
            self.live_from,
            self.file_bytes,
        ];
        for (field, to) in fields.iter().zip(bytes[8..48].chunks_exact_mut(8)) {
            to.copy_from_slice(&field.to_be_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..48]);
        bytes[48..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SLOT_BYTES]) -> Slot {
        if bytes.iter().all(|&byte| byte == 0) {
            return Slot::Blank;
        }
        if crc32c::crc32c(&bytes[..48]).to_be_bytes() != bytes[48..] || bytes[..7] != MAGIC[..] {
            return Slot::Damaged;
        }
        if bytes[7] != VERSION {
            return Slot::UnknownVersion(bytes[7]);
        }
        let field = |at: usize| {
            u64::from_be_bytes(
                bytes[at..at + 8]
                    .try_into()
                    .expect("a slice of eight bytes"),
            )
        };
        Slot::Valid(Self {
            id: field(8),
            generation: field(16),
            base: field(24),
            live_from: field(32),
            file_bytes: field(40),
        })
    }
}

enum Slot {
    Blank,
    Damaged,
    UnknownVersion(u8),
    Valid(SlotHeader),
}

/// What both slots of a file say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Headers {
    /// The header in force, if any slot is valid.
    pub(crate) current: Option<SlotHeader>,
    /// The slot in which it lies.
    pub(crate) slot: u64,
    /// Whether a slot is neither blank nor valid.
    pub(crate) damaged: bool,
}

/// The slot for the next header of a segment.
pub(crate) fn next_slot(in_force: Option<u64>) -> u64 {
    in_force.map_or(0, |slot| 1 - slot)
}

/// An open segment file.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) name: String,
    pub(crate) file: Arc<dyn Segment>,
    /// Size of the file, fixed for its life.
    pub(crate) file_bytes: u64,
}

impl SegmentFile {
    /// Room for frames in bytes.
    pub(crate) fn capacity(&self) -> u64 {
        self.file_bytes.saturating_sub(DATA_START)
    }

    /// Reads both slots. A file that is too short for them has blank ones.
    pub(crate) fn read_headers(&self) -> Result<Headers, LogError> {
        let mut headers = Headers {
            current: None,
            slot: 0,
            damaged: false,
        };
        if self.file_bytes < DATA_START {
            return Ok(headers);
        }
        for slot in 0..2 {
            let mut bytes = [0; SLOT_BYTES];
            self.read(slot * SLOT_STRIDE, &mut bytes)?;
            match SlotHeader::decode(&bytes) {
                Slot::Blank => {}
                Slot::Damaged => headers.damaged = true,
                Slot::UnknownVersion(version) => {
                    return Err(LogError::UnknownVersion {
                        file: self.name.clone(),
                        version,
                    });
                }
                Slot::Valid(header) => {
                    let known = headers.current.map_or(0, |known| known.generation);
                    if header.generation > known {
                        headers.current = Some(header);
                        headers.slot = slot;
                    }
                }
            }
        }
        Ok(headers)
    }

    /// Puts `header` in force once it is synced. The slot that was in force stays as it is.
    pub(crate) fn write_header(
        &self,
        header: &SlotHeader,
        in_force: Option<u64>,
    ) -> io::Result<()> {
        let bytes = header.encode();
        let slot = next_slot(in_force);
        self.file.write_at(slot * SLOT_STRIDE, &bytes)?;
        if in_force.is_none() {
            // There is no earlier use to fall back to: a second copy guards against decay instead.
            self.file.write_at((1 - slot) * SLOT_STRIDE, &bytes)?;
        }
        Ok(())
    }

    /// Reads with the error that names this file.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), LogError> {
        self.file
            .read_at(offset, into)
            .map_err(|source| self.error("read", source))
    }

    /// Reads `bytes` bytes from `offset` on. The caller has checked them against the file's size.
    pub(crate) fn read_vec(&self, offset: u64, bytes: u64) -> Result<Vec<u8>, LogError> {
        let mut found = vec![0; usize::try_from(bytes).expect("a segment fits into memory")];
        self.read(offset, &mut found)?;
        Ok(found)
    }

    pub(crate) fn error(&self, operation: &'static str, source: io::Error) -> LogError {
        LogError::Io {
            operation,
            file: self.name.clone(),
            source: Arc::new(source),
        }
    }

    pub(crate) fn corrupt(&self, offset: u64) -> LogError {
        LogError::Corrupt {
            file: self.name.clone(),
            offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogStorage, MemoryStorage};

    fn header(generation: u64, base: Position) -> SlotHeader {
        SlotHeader {
            id: 5,
            generation,
            base,
            live_from: 0,
            file_bytes: 8192,
        }
    }

    fn file(storage: &MemoryStorage) -> SegmentFile {
        let file = storage.create("s").unwrap();
        file.allocate(8192).unwrap();
        SegmentFile {
            name: "s".into(),
            file,
            file_bytes: 8192,
        }
    }

    #[test]
    fn the_later_generation_counts_and_a_damaged_one_leaves_the_earlier() {
        let storage = MemoryStorage::default();
        let segment = file(&storage);
        assert_eq!(segment.read_headers().unwrap().current, None);
        let mut in_force = None;
        for generation in [1, 5, 6, 20] {
            segment
                .write_header(&header(generation, generation * 100), in_force)
                .unwrap();
            let found = segment.read_headers().unwrap();
            assert_eq!(found.current, Some(header(generation, generation * 100)));
            assert!(!found.damaged);
            in_force = Some(found.slot);
        }
        let newest = in_force.unwrap() * SLOT_STRIDE * 8;
        for bit in newest..newest + SLOT_BYTES as u64 * 8 {
            assert!(storage.flip_bit("s", bit));
            let found = segment.read_headers().unwrap();
            assert_eq!(found.current, Some(header(6, 600)));
            assert!(found.damaged);
            assert!(storage.flip_bit("s", bit));
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let storage = MemoryStorage::default();
        let segment = file(&storage);
        let mut bytes = header(1, 0).encode();
        bytes[7] = 9;
        let crc = crc32c::crc32c(&bytes[..48]);
        bytes[48..].copy_from_slice(&crc.to_be_bytes());
        segment.file.write_at(0, &bytes).unwrap();
        let found = segment.read_headers().unwrap_err();
        assert!(
            matches!(found, LogError::UnknownVersion { version: 9, .. }),
            "{found}"
        );
    }
}
