//! What a log knows in memory, and how it gets its segments.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::recovery::{Found, Live, Spare, segment_name};
use crate::error::is_no_room;
use crate::limits::SEGMENT_BYTES_MIN;
use crate::segment::{CAPACITY_MIN, DATA_START, SegmentFile, SlotHeader, next_slot};
use crate::{LogError, LogOptions, LogStats, LogStorage, Position};

/// Bytes on their way to one segment.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) segment: Arc<SegmentFile>,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
    /// The header to put in force first, if these are the first bytes of the segment, and the slot
    /// that is in force until then.
    pub(crate) begins: Option<(SlotHeader, Option<u64>)>,
}

/// The segment that was written to last. Whoever holds its lock writes.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) filling: Arc<SegmentFile>,
}

/// Everything that appends, waits and trims share.
#[derive(Debug)]
pub(crate) struct State {
    /// Live segments, oldest first; never empty.
    pub(crate) live: VecDeque<Live>,
    pub(crate) spare: Vec<Spare>,
    next_number: u64,
    /// Generation of the newest header.
    generation: u64,
    /// Frames that end at or before it are given up.
    live_from: Position,
    /// What the newest header on disk says of `live_from`. A segment whose frames are after it may
    /// be overwritten by a newer header, but not deleted.
    pub(crate) header_live_from: Position,
    pub(crate) end: Position,
    pub(crate) durable: Position,
    /// Whether the last frame is a mark.
    pub(crate) marked: bool,
    pub(crate) runs: Vec<Run>,
    pub(crate) buffered_bytes: usize,
    /// The buffer of an earlier write, to be used again.
    pub(crate) idle_buffer: Vec<u8>,
    /// Whether a thread is syncing on behalf of those that wait.
    pub(crate) leading: bool,
    /// Number of syncs begun by leaders.
    pub(crate) turn: u64,
    /// Up to where the running sync reaches.
    pub(crate) in_flight: Position,
    /// Threads that wait, by the parity of the turn they wait for.
    pub(crate) waiters: [usize; 2],
    poison: Option<Poison>,
    pub(crate) stats: LogStats,
}

#[derive(Debug, Clone)]
struct Poison {
    operation: &'static str,
    file: String,
    source: Arc<io::Error>,
}

impl State {
    pub(crate) fn after(found: Found) -> Self {
        Self {
            live: found.live.into(),
            spare: found.spare,
            next_number: found.next_number,
            generation: found.generation,
            live_from: found.live_from,
            header_live_from: found.live_from,
            end: found.end,
            durable: found.end,
            marked: found.marked,
            runs: Vec::new(),
            buffered_bytes: 0,
            idle_buffer: Vec::new(),
            leading: false,
            turn: 0,
            in_flight: found.end,
            waiters: [0; 2],
            poison: None,
            stats: LogStats::default(),
        }
    }

    pub(crate) fn newest(&self) -> &Live {
        self.live.back().expect("a log has a live segment")
    }

    pub(crate) fn start(&self) -> Position {
        self.live.front().expect("a log has a live segment").base
    }

    pub(crate) fn check(&self) -> Result<(), LogError> {
        match self.poison.clone() {
            None => Ok(()),
            Some(Poison {
                operation,
                file,
                source,
            }) => Err(LogError::Poisoned {
                operation,
                file,
                source,
            }),
        }
    }

    /// Refuses everything from now on, and returns the error for whoever met the cause.
    pub(crate) fn poison(
        &mut self,
        operation: &'static str,
        file: &str,
        source: io::Error,
    ) -> LogError {
        let source = Arc::new(source);
        let file = file.to_owned();
        self.poison.get_or_insert_with(|| Poison {
            operation,
            file: file.clone(),
            source: Arc::clone(&source),
        });
        LogError::Io {
            operation,
            file,
            source,
        }
    }

    /// Bytes that the newest segment still takes.
    pub(crate) fn room(&self) -> u64 {
        let newest = self.newest();
        newest.segment.capacity() - (self.end - newest.base)
    }

    /// Continues in another segment with room for `bytes`. Nothing changes if there is none.
    pub(crate) fn roll(
        &mut self,
        storage: &dyn LogStorage,
        options: &LogOptions,
        id: u64,
        bytes: u64,
    ) -> Result<(), LogError> {
        let fitting = self
            .spare
            .iter()
            .enumerate()
            .filter(|(_, s)| s.segment.capacity() >= bytes);
        // The largest, so that the small ones of the log's youth go out of use.
        let largest = fitting
            .max_by_key(|(_, s)| s.segment.file_bytes)
            .map(|(index, _)| index);
        let spare = if let Some(index) = largest {
            self.spare.swap_remove(index)
        } else {
            let own = (bytes + DATA_START).next_multiple_of(4096);
            let file_bytes = self.next_segment_bytes(options).max(own);
            let number = self.take_number();
            allocate(storage, number, file_bytes)?
        };
        assert!(
            spare.end <= self.live_from,
            "a spare segment holds no live frame"
        );
        self.generation += 1;
        let (base, generation) = (self.end, self.generation);
        let live_from = self.live_from;
        let file_bytes = spare.segment.file_bytes;
        self.runs.push(Run {
            segment: Arc::clone(&spare.segment),
            offset: DATA_START,
            bytes: std::mem::take(&mut self.idle_buffer),
            begins: Some((
                SlotHeader {
                    id,
                    generation,
                    base,
                    live_from,
                    file_bytes,
                },
                spare.slot,
            )),
        });
        let slot = next_slot(spare.slot);
        self.live.push_back(Live {
            base,
            slot,
            segment: spare.segment,
        });
        Ok(())
    }

    /// The bytes to which the next frame is added.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.runs.is_empty() {
            let newest = self.newest();
            let segment = Arc::clone(&newest.segment);
            let offset = DATA_START + (self.end - newest.base);
            let bytes = std::mem::take(&mut self.idle_buffer);
            self.runs.push(Run {
                segment,
                offset,
                bytes,
                begins: None,
            });
        }
        &mut self.runs.last_mut().expect("one was pushed").bytes
    }

    pub(crate) fn trim(&mut self, before: Position) {
        self.live_from = self.live_from.max(before.min(self.durable));
        while self.live.len() > 1 && self.live[1].base <= self.live_from {
            let live = self.live.pop_front().expect("there are two");
            let end = self.live[0].base;
            self.spare.push(Spare {
                slot: Some(live.slot),
                end,
                segment: live.segment,
            });
        }
    }

    /// Takes out spare segments beyond `bytes_max`, smallest first, for deletion.
    pub(crate) fn take_excess(&mut self, bytes_max: u64) -> Vec<Spare> {
        let mut excess = Vec::new();
        let mut bytes: u64 = self
            .spare
            .iter()
            .map(|spare| spare.segment.file_bytes)
            .sum();
        while bytes > bytes_max {
            let live_from = self.header_live_from;
            let deletable = self
                .spare
                .iter()
                .enumerate()
                .filter(|(_, s)| s.end <= live_from);
            let Some((index, _)) = deletable.min_by_key(|(_, s)| s.segment.file_bytes) else {
                break;
            };
            let spare = self.spare.swap_remove(index);
            bytes -= spare.segment.file_bytes;
            excess.push(spare);
        }
        excess
    }

    /// Size of the next file: as much as there is already, so that a small log stays small.
    pub(crate) fn next_segment_bytes(&self, options: &LogOptions) -> u64 {
        let max = options.segment_bytes.max(DATA_START + CAPACITY_MIN);
        self.allocated_bytes()
            .clamp(SEGMENT_BYTES_MIN.min(max), max)
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        let live: u64 = self.live.iter().map(|live| live.segment.file_bytes).sum();
        let spare: u64 = self
            .spare
            .iter()
            .map(|spare| spare.segment.file_bytes)
            .sum();
        live + spare
    }

    pub(crate) fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}

/// Creates the first segment of a log.
pub(crate) fn create(
    storage: &dyn LogStorage,
    options: &LogOptions,
    number: u64,
) -> Result<Found, LogError> {
    // The hasher's keys are the one source of entropy in `std`.
    let id = options
        .id
        .unwrap_or_else(|| RandomState::new().hash_one(number));
    let bytes = SEGMENT_BYTES_MIN.min(options.segment_bytes.max(DATA_START + CAPACITY_MIN));
    let Spare { segment, .. } = allocate(storage, number, bytes)?;
    let header = SlotHeader {
        id,
        generation: 1,
        base: options.start,
        live_from: options.start,
        file_bytes: bytes,
    };
    segment
        .write_header(&header, None)
        .map_err(|source| segment.error("write", source))?;
    segment
        .file
        .sync_data()
        .map_err(|source| segment.error("sync", source))?;
    Ok(Found {
        id,
        live: vec![Live {
            base: options.start,
            slot: 0,
            segment,
        }],
        spare: Vec::new(),
        live_from: options.start,
        end: options.start,
        marked: false,
        torn: None,
        next_number: number + 1,
        generation: 1,
    })
}

/// Creates a file full of zeros. Leaves no file behind if that fails.
pub(crate) fn allocate(
    storage: &dyn LogStorage,
    number: u64,
    file_bytes: u64,
) -> Result<Spare, LogError> {
    let name = segment_name(number);
    let failed = |source: io::Error| {
        if is_no_room(&source) {
            return LogError::Full {
                needed: file_bytes,
                source: Arc::new(source),
            };
        }
        LogError::Io {
            operation: "create",
            file: segment_name(number),
            source: Arc::new(source),
        }
    };
    let file = storage.create(&name).map_err(failed)?;
    if let Err(source) = file.allocate(file_bytes) {
        // The next opening removes it if this does not.
        let _ = storage.delete(&name);
        return Err(failed(source));
    }
    let segment = Arc::new(SegmentFile {
        name,
        file,
        file_bytes,
    });
    Ok(Spare {
        slot: None,
        end: 0,
        segment,
    })
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while leading poisons the log by itself; the other sections leave nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
