//! What is on disk when a log is opened: which segments are live, where the frames end, and
//! whether anything between is missing.
//!
//! A write that was cut off and damage to bytes that were durable look alike at the place itself.
//! What follows tells them apart: nothing is written to a segment before all segments before it are
//! durable, and every frame notes how far the log was durable when it was appended. So a later
//! segment, or a later frame that noted more than the place, proves damage.

use std::ops::Range;
use std::sync::Arc;

use crate::frame::{HEADER_BYTES, Sealer};
use crate::limits::{PAYLOAD_BYTES_MAX, SEGMENTS_MAX};
use crate::segment::{CAPACITY_MIN, DATA_START, Headers, SegmentFile, SlotHeader};
use crate::{LogError, LogStorage, Position, TornTail};

/// What segment files are called, followed by a number that says nothing about their order.
const NAME_PREFIX: &str = "segment-";

/// A segment that holds frames, or will take the next ones.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) base: Position,
    /// The slot of the header in force.
    pub(crate) slot: u64,
    pub(crate) segment: Arc<SegmentFile>,
}

/// A segment whose frames are all given up.
#[derive(Debug)]
pub(crate) struct Spare {
    /// The slot of the header in force, if the segment was ever used.
    pub(crate) slot: Option<u64>,
    /// No frame that it holds ends after this position.
    pub(crate) end: Position,
    pub(crate) segment: Arc<SegmentFile>,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: u64,
    /// Live segments, oldest first.
    pub(crate) live: Vec<Live>,
    pub(crate) spare: Vec<Spare>,
    /// What the newest header says was given up.
    pub(crate) live_from: Position,
    pub(crate) end: Position,
    /// Whether the last frame is a mark.
    pub(crate) marked: bool,
    pub(crate) torn: Option<TornTail>,
    pub(crate) next_number: u64,
    /// Generation of the newest header.
    pub(crate) generation: u64,
}

#[derive(Debug)]
struct Candidate {
    segment: Arc<SegmentFile>,
    headers: Headers,
}

pub(crate) fn segment_name(number: u64) -> String {
    format!("{NAME_PREFIX}{number:08}")
}

/// Examines the storage. Returns the number for the first segment if there is no log.
pub(crate) fn recover(storage: &dyn LogStorage) -> Result<Result<Found, u64>, LogError> {
    let (candidates, next_number) = candidates(storage)?;
    let mut formatted: Vec<(SlotHeader, &Candidate)> = Vec::new();
    for candidate in &candidates {
        if let Some(header) = candidate.headers.current {
            formatted.push((header, candidate));
        }
    }
    // Not by base: a segment that never got a frame has the base of the one after it.
    formatted.sort_by_key(|(header, _)| header.generation);
    let Some(&(newest, _)) = formatted.last() else {
        discard_unformatted(storage, &candidates)?;
        return Ok(Err(next_number));
    };
    for (header, candidate) in &formatted {
        if header.id != newest.id {
            return Err(candidate.segment.corrupt(0));
        }
    }
    let first_live = formatted
        .iter()
        .rposition(|(header, _)| header.base <= newest.live_from)
        .ok_or_else(|| formatted[0].1.segment.corrupt(0))?;
    let (dead, chain) = formatted.split_at(first_live);

    let sealer = Sealer::new(newest.id);
    let walk = walk(sealer, chain, &candidates)?;
    let live = chain.iter().map(|(header, candidate)| Live {
        base: header.base,
        slot: candidate.headers.slot,
        segment: Arc::clone(&candidate.segment),
    });
    let mut found = Found {
        id: newest.id,
        live: live.collect(),
        spare: Vec::new(),
        live_from: newest.live_from,
        end: walk.end,
        marked: walk.marked,
        torn: walk.torn,
        next_number,
        generation: newest.generation,
    };
    // Nothing may be deleted before the chain turned out to be whole.
    for candidate in &candidates {
        let dead_header = dead
            .iter()
            .find(|(_, dead)| Arc::ptr_eq(&dead.segment, &candidate.segment));
        match dead_header {
            Some((header, _)) if header.file_bytes == candidate.segment.file_bytes => {
                found.spare.push(Spare {
                    slot: Some(candidate.headers.slot),
                    end: newest.live_from,
                    segment: Arc::clone(&candidate.segment),
                });
            }
            None if candidate.headers.current.is_some() => {}
            // Allocated beforehand and not put to use yet.
            None if !candidate.headers.damaged && candidate.segment.capacity() >= CAPACITY_MIN => {
                found.spare.push(Spare {
                    slot: None,
                    end: 0,
                    segment: Arc::clone(&candidate.segment),
                });
            }
            // Cut short while it was made, or when it was first put to use.
            _ => delete(storage, &candidate.segment)?,
        }
    }
    Ok(Ok(found))
}

/// Opens all segment files. Returns them with the number for the next one.
fn candidates(storage: &dyn LogStorage) -> Result<(Vec<Candidate>, u64), LogError> {
    let list_error = |source| LogError::Io {
        operation: "list",
        file: String::new(),
        source: Arc::new(source),
    };
    let mut numbers = Vec::new();
    for name in storage.list().map_err(list_error)? {
        let number = name
            .strip_prefix(NAME_PREFIX)
            .and_then(|digits| digits.parse().ok());
        // Only names that we would give: others are not ours to open or delete.
        if let Some(number) = number
            && segment_name(number) == name
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    if numbers.len() > SEGMENTS_MAX {
        return Err(LogError::Corrupt {
            file: segment_name(numbers[SEGMENTS_MAX]),
            offset: 0,
        });
    }
    let mut candidates = Vec::new();
    for &number in &numbers {
        let name = segment_name(number);
        let open_error = |source| LogError::Io {
            operation: "open",
            file: segment_name(number),
            source: Arc::new(source),
        };
        let file = storage.open(&name).map_err(open_error)?;
        let file_bytes = file.len().map_err(open_error)?;
        let segment = SegmentFile {
            name,
            file,
            file_bytes,
        };
        if segment.capacity() > 2 * PAYLOAD_BYTES_MAX as u64 {
            return Err(segment.corrupt(0));
        }
        let headers = segment.read_headers()?;
        candidates.push(Candidate {
            segment: Arc::new(segment),
            headers,
        });
    }
    let next_number = numbers
        .last()
        .map_or(1, |last: &u64| last.saturating_add(1));
    Ok((candidates, next_number))
}

/// Removes what a creation that was cut off left behind, unless it turns out to hold something.
fn discard_unformatted(storage: &dyn LogStorage, candidates: &[Candidate]) -> Result<(), LogError> {
    for candidate in candidates {
        let segment = &candidate.segment;
        if segment.capacity() > 0 {
            let data = segment.read_vec(DATA_START, segment.capacity())?;
            if data.iter().any(|&byte| byte != 0) {
                return Err(segment.corrupt(0));
            }
        }
    }
    candidates
        .iter()
        .try_for_each(|candidate| delete(storage, &candidate.segment))
}

fn delete(storage: &dyn LogStorage, segment: &SegmentFile) -> Result<(), LogError> {
    storage
        .delete(&segment.name)
        .map_err(|source| segment.error("delete", source))
}

struct Walk {
    end: Position,
    marked: bool,
    torn: Option<TornTail>,
}

/// Checks every frame of the chain, and that each segment begins where the one before it ends.
fn walk(
    sealer: Sealer,
    chain: &[(SlotHeader, &Candidate)],
    candidates: &[Candidate],
) -> Result<Walk, LogError> {
    let mut walk = Walk {
        end: 0,
        marked: false,
        torn: None,
    };
    let mut durable = 0;
    for (index, (header, candidate)) in chain.iter().enumerate() {
        let segment = &candidate.segment;
        if header.file_bytes != segment.file_bytes {
            return Err(segment.corrupt(segment.file_bytes.min(header.file_bytes)));
        }
        let data = segment.read_vec(DATA_START, segment.capacity())?;
        let mut at = 0;
        while let Some((frame, _)) = sealer.open(header.base + at as u64, &data[at..]) {
            durable = durable.max(frame.durable_before(header.base + at as u64).unwrap_or(0));
            at += frame.bytes();
            walk.marked = frame.is_mark();
        }
        walk.end = header.base + at as u64;
        match chain.get(index + 1) {
            Some((next, _)) if next.base == walk.end => {}
            Some(_) => {
                find_lost_header(sealer, walk.end, candidates)?;
                return Err(segment.corrupt(DATA_START + at as u64));
            }
            None => {
                find_lost_header(sealer, walk.end, candidates)?;
                walk.torn = cut_tail(sealer, segment, header.base, &data, at)?;
                let unproven = usize::try_from(durable.saturating_sub(header.base)).unwrap_or(at);
                write_again(segment, &data, unproven.min(at)..at)?;
            }
        }
    }
    Ok(walk)
}

/// Looks for a segment that continues the log at `end` but whose header is lost. Headers are durable
/// before the first frame, so a frame there means that the header was whole once.
fn find_lost_header(
    sealer: Sealer,
    end: Position,
    candidates: &[Candidate],
) -> Result<(), LogError> {
    for Candidate { segment, headers } in candidates {
        let suspect = headers.damaged || headers.current.is_none();
        if !suspect || segment.capacity() < HEADER_BYTES as u64 {
            continue;
        }
        let header = segment.read_vec(DATA_START, HEADER_BYTES as u64)?;
        if sealer
            .open_header(end, &header, segment.capacity())
            .is_some()
        {
            return Err(segment.corrupt(0));
        }
    }
    Ok(())
}

/// Writes the frames of `span` once more and makes them durable.
///
/// They were read, but perhaps from a page cache that holds them although a sync had failed before
/// the process ended: the system then takes those pages for clean and would sync nothing.
fn write_again(segment: &SegmentFile, data: &[u8], span: Range<usize>) -> Result<(), LogError> {
    let offset = DATA_START + span.start as u64;
    let written = segment.file.write_at(offset, &data[span]);
    written.map_err(|source| segment.error("write", source))?;
    segment
        .file
        .sync_data()
        .map_err(|source| segment.error("sync", source))
}

/// Decides what lies behind the last frame: nothing, the remains of writes that were cut off, which
/// are overwritten with zeros, or proof of damage.
fn cut_tail(
    sealer: Sealer,
    segment: &SegmentFile,
    base: Position,
    data: &[u8],
    end: usize,
) -> Result<Option<TornTail>, LogError> {
    let tail = &data[end..];
    let mut remains = 0;
    for at in 0..tail.len().saturating_sub(HEADER_BYTES - 1) {
        // Most of a tail is zeros.
        if tail[at..at + HEADER_BYTES] == [0; HEADER_BYTES] {
            continue;
        }
        let position = base + (end + at) as u64;
        let room = (tail.len() - at) as u64;
        let Some(frame) = sealer.open_header(position, &tail[at..], room) else {
            continue;
        };
        remains = remains.max(at + frame.bytes());
        let whole = sealer.open(position, &tail[at..]).is_some();
        if whole && frame.proves_durable_after(position, base + end as u64) {
            return Err(segment.corrupt(DATA_START + end as u64));
        }
    }
    // Every write ends with zeros where the next header will be.
    let terminator = &tail[..tail.len().min(HEADER_BYTES)];
    if terminator.iter().any(|&byte| byte != 0) {
        remains = remains.max(terminator.len());
    }
    if remains == 0 {
        return Ok(None);
    }
    // A frame that was written but not reached must not turn up when the log has grown to it again.
    let offset = DATA_START + end as u64;
    segment
        .file
        .write_at(offset, &vec![0; remains])
        .map_err(|source| segment.error("write", source))?;
    segment
        .file
        .sync_data()
        .map_err(|source| segment.error("sync", source))?;
    Ok(Some(TornTail {
        file: segment.name.clone(),
        offset,
        bytes: remains as u64,
    }))
}
