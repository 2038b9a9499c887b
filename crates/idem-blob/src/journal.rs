//! The file that says what of an unfinished blob is on disk (docs/format/disk.md, "Blobs").
//!
//! Records are appended after what they say is durable, so whatever of the file survives is true. A record
//! that is torn ends it.

use std::{ops::Range, sync::Arc};

use idem_model::{BlobId, BlobKey, GroupSet, limits};

use crate::{error::BlobError, storage::BlobFile, store::Purpose};

const MAGIC: [u8; 8] = *b"idemblob";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 16;

/// What may be read of a journal at once.
const READ_BYTES: usize = 1024 * RECORD_BYTES;

/// In place of the first group of a record: the blob is this peer's own.
const ADOPTED: u64 = u64::MAX;

/// A journal that was read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) journal: Journal,
    pub(crate) key: BlobKey,
    /// What is there.
    pub(crate) groups: GroupSet,
    pub(crate) purpose: Purpose,
}

#[derive(Debug)]
pub(crate) struct Journal {
    file: Arc<dyn BlobFile>,
    name: String,
    end: u64,
}

impl Journal {
    /// Begins a journal in an empty file.
    pub(crate) fn begin(file: Arc<dyn BlobFile>, name: &str, len: u64) -> Result<Self, BlobError> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&[VERSION, 0, 0, 0]);
        header.extend_from_slice(&len.to_le_bytes());
        let check = crc32c::crc32c(&header);
        header.extend_from_slice(&check.to_le_bytes());
        file.write_at(0, &header)
            .map_err(BlobError::io("writing", name))?;
        Ok(Self {
            file,
            name: name.to_owned(),
            end: HEADER_BYTES as u64,
        })
    }

    /// Reads a journal. `None` if it is not one of this version.
    pub(crate) fn open(
        file: Arc<dyn BlobFile>,
        name: &str,
        id: BlobId,
    ) -> Result<Option<Found>, BlobError> {
        let failed = || BlobError::io("reading", name);
        let bytes = file.len().map_err(failed())?;
        let mut header = [0; HEADER_BYTES];
        if bytes < HEADER_BYTES as u64 {
            return Ok(None);
        }
        file.read_at(0, &mut header).map_err(failed())?;
        let Some(len) = read_header(&header) else {
            return Ok(None);
        };
        let key = BlobKey { id, len };
        let mut groups = GroupSet::new(key.groups());
        let mut purpose = Purpose::Relay;
        let mut end = HEADER_BYTES as u64;
        let mut buffer = vec![0; READ_BYTES];
        'file: while end + RECORD_BYTES as u64 <= bytes {
            let left = (bytes - end) / RECORD_BYTES as u64 * RECORD_BYTES as u64;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
            file.read_at(end, &mut buffer[..count]).map_err(failed())?;
            for record in buffer[..count].chunks_exact(RECORD_BYTES) {
                match read_record(record, key) {
                    Some(Record::Groups(range)) => groups.insert(range),
                    Some(Record::Adopted) => purpose = Purpose::Own,
                    None => break 'file,
                }
                end += RECORD_BYTES as u64;
            }
        }
        let journal = Self {
            file,
            name: name.to_owned(),
            end,
        };
        Ok(Some(Found {
            journal,
            key,
            groups,
            purpose,
        }))
    }

    /// Adds groups that are durable.
    pub(crate) fn append(
        &mut self,
        runs: impl Iterator<Item = Range<u64>>,
    ) -> Result<(), BlobError> {
        let mut records = Vec::new();
        for run in runs {
            let count = u32::try_from(run.end - run.start).expect("2^24 groups at most");
            put_record(&mut records, run.start, count);
        }
        self.write(&records)
    }

    /// Notes that the blob is this peer's own.
    pub(crate) fn adopt(&mut self) -> Result<(), BlobError> {
        let mut record = Vec::new();
        put_record(&mut record, ADOPTED, 0);
        self.write(&record)
    }

    /// Makes the journal durable.
    pub(crate) fn sync(&self) -> Result<(), BlobError> {
        let synced = self.file.sync();
        synced.map_err(BlobError::io("syncing", &self.name))
    }

    fn write(&mut self, records: &[u8]) -> Result<(), BlobError> {
        self.file
            .write_at(self.end, records)
            .map_err(BlobError::io("writing", &self.name))?;
        self.end += records.len() as u64;
        Ok(())
    }
}

fn read_header(header: &[u8; HEADER_BYTES]) -> Option<u64> {
    let (body, check) = header.split_last_chunk::<4>()?;
    let len = u64::from_le_bytes(*body.last_chunk()?);
    let fits = body.starts_with(&MAGIC)
        && body[MAGIC.len()] == VERSION
        && crc32c::crc32c(body) == u32::from_le_bytes(*check)
        && len <= limits::BLOB_BYTES_MAX;
    fits.then_some(len)
}

enum Record {
    Groups(Range<u64>),
    Adopted,
}

fn put_record(out: &mut Vec<u8>, first: u64, count: u32) {
    let start = out.len();
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    let check = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&check.to_le_bytes());
}

fn read_record(record: &[u8], key: BlobKey) -> Option<Record> {
    let (body, check) = record.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*check) {
        return None;
    }
    let first = u64::from_le_bytes(*body.first_chunk()?);
    if first == ADOPTED {
        return Some(Record::Adopted);
    }
    let count = u64::from(u32::from_le_bytes(*body.last_chunk()?));
    let end = first.checked_add(count)?;
    (end <= key.groups()).then_some(Record::Groups(first..end))
}
