//! Appending, writing and group commit.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::state::{State, Writer, lock};
use crate::frame::HEADER_BYTES;
use crate::limits::{BUFFER_BYTES, PAYLOAD_BYTES_MAX};
use crate::segment::{SegmentFile, SlotHeader};
use crate::{Log, LogError, Position};

/// Where the log stands after what was buffered is written.
pub(super) struct Written {
    /// The segment with the last frame; all before it are durable.
    segment: Arc<SegmentFile>,
    pub(super) end: Position,
}

impl Log {
    /// Adds a frame to the log's buffer and returns the position of its end.
    ///
    /// After a crash before [`sync_to`](Self::sync_to) returned for its position the frame may be
    /// there or not. A payload larger than the rest of the segment goes to the next one; an
    /// allocation that [`prepare`](Self::prepare) did not do beforehand happens here.
    ///
    /// # Errors
    ///
    /// [`LogError::Full`] if a new segment is needed and there is no room for it: nothing was
    /// appended and the log is not poisoned. [`LogError::TooLarge`], [`LogError::Poisoned`].
    pub fn append(&self, payload: &[u8]) -> Result<Position, LogError> {
        self.append_parts(&[payload])
    }

    /// [`append`](Self::append) of a payload that consists of `parts`, one behind the other.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_parts(&self, parts: &[&[u8]]) -> Result<Position, LogError> {
        let payload_len = parts.iter().map(|part| part.len()).sum::<usize>();
        if payload_len > PAYLOAD_BYTES_MAX {
            let (bytes, bytes_max) = (payload_len as u64, PAYLOAD_BYTES_MAX as u64);
            return Err(LogError::TooLarge { bytes, bytes_max });
        }
        let Some(cipher) = &self.options.cipher else {
            return self.append_frame(parts, |_, _| [0; 0]);
        };
        // Before the lock is taken: only binding the frame to its position needs that.
        let sealed = cipher.seal_frame(self.id, parts);
        self.append_frame(&[&sealed], |position, sealed| {
            cipher.place_frame(self.id, position, sealed[0])
        })
    }

    /// Adds the frame whose payload is `parts` and what `place` makes of its position and them.
    fn append_frame<const N: usize>(
        &self,
        parts: &[&[u8]],
        place: impl FnOnce(Position, &[&[u8]]) -> [u8; N],
    ) -> Result<Position, LogError> {
        let payload_len = parts.iter().map(|part| part.len()).sum::<usize>() + N;
        let payload_bytes = u32::try_from(payload_len).expect("bounded by the caller");
        let payload_crc = parts
            .iter()
            .fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        let frame_bytes = (HEADER_BYTES + payload_len) as u64;

        let mut state = lock(&self.state);
        state.check()?;
        if state.room() < frame_bytes {
            state.roll(&*self.storage, &self.options, self.id, frame_bytes)?;
        }
        let place = place(state.end, parts);
        let payload_crc = crc32c::crc32c_append(payload_crc, &place);
        let header = self
            .sealer
            .seal(state.end, state.durable, payload_bytes, payload_crc);
        let buffer = state.buffer();
        buffer.extend_from_slice(&header);
        for part in parts {
            buffer.extend_from_slice(part);
        }
        buffer.extend_from_slice(&place);
        state.buffered_bytes += HEADER_BYTES + payload_len;
        state.end += frame_bytes;
        state.marked = false;
        state.stats.frames += 1;
        state.stats.bytes += frame_bytes;
        let (end, buffered_bytes) = (state.end, state.buffered_bytes);
        drop(state);
        if buffered_bytes > BUFFER_BYTES {
            self.write_out(false)?;
        }
        Ok(end)
    }

    /// Hands every frame up to `position` to the operating system: it survives the end of the
    /// process, but not of the machine. The caller calls [`sync_to`](Self::sync_to) later.
    ///
    /// # Errors
    ///
    /// As [`sync_to`](Self::sync_to).
    pub fn flush_to_os(&self, position: Position) -> Result<(), LogError> {
        let written = self.write_out(false)?;
        assert!(position <= written.end, "position {position} was appended");
        Ok(())
    }

    /// Returns once every frame up to `position` is durable. Threads that wait at the same time
    /// share one `fdatasync`; a thread that finds none running does it without switching threads.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`] or [`LogError::Poisoned`] if a write or sync failed, now or earlier.
    ///
    /// # Panics
    ///
    /// If `position` was never appended.
    pub fn sync_to(&self, position: Position) -> Result<(), LogError> {
        if self.durable() >= position {
            return Ok(());
        }
        let mut state = lock(&self.state);
        assert!(position <= state.end, "position {position} was appended");
        loop {
            if state.durable >= position {
                return Ok(());
            }
            state.check()?;
            if !state.leading {
                state.leading = true;
                drop(state);
                return self.lead();
            }
            // The running sync may have begun before the frame was appended: then wait for the next.
            let turn = if position <= state.in_flight {
                state.turn
            } else {
                state.turn + 1
            };
            let parity = usize::from(turn % 2 == 1);
            state.waiters[parity] += 1;
            state = self.waiting[parity]
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiters[parity] -= 1;
        }
    }

    /// Makes everything durable and marks the log as closed in good order, so that the next opening
    /// can tell damage to the last frame from a write that was cut off. Not needed for safety.
    ///
    /// # Errors
    ///
    /// As [`sync_to`](Self::sync_to).
    pub fn close(&self) -> Result<(), LogError> {
        self.sync_to(self.end())?;
        let mut state = lock(&self.state);
        if state.marked || state.durable < state.end || state.room() < HEADER_BYTES as u64 {
            return Ok(());
        }
        let header = self.sealer.seal_mark(state.end);
        state.buffer().extend_from_slice(&header);
        state.end += HEADER_BYTES as u64;
        state.marked = true;
        let end = state.end;
        drop(state);
        self.sync_to(end)
    }

    /// Writes and syncs for everyone that waits.
    fn lead(&self) -> Result<(), LogError> {
        let leadership = Leadership { log: self };
        let written = self.write_out(true)?;
        self.sync_segment(&written.segment, written.end)?;
        drop(leadership);
        Ok(())
    }

    /// Hands everything that is buffered to the operating system.
    pub(super) fn write_out(&self, leads: bool) -> Result<Written, LogError> {
        let mut writer = lock(&self.writer);
        let (runs, end) = {
            let mut state = lock(&self.state);
            state.check()?;
            if leads {
                state.turn += 1;
                state.in_flight = state.end;
            }
            state.buffered_bytes = 0;
            (std::mem::take(&mut state.runs), state.end)
        };
        let mut idle_buffer = Vec::new();
        for mut run in runs {
            if let Some((header, in_force)) = &run.begins {
                self.begin_segment(&mut writer, &run.segment, header, *in_force)?;
            }
            // Zeros where the next header will be show the next opening that nothing follows.
            let room = run.segment.file_bytes - run.offset - run.bytes.len() as u64;
            let terminator = room.min(HEADER_BYTES as u64);
            run.bytes.extend(std::iter::repeat_n(
                0,
                usize::try_from(terminator).expect("at most 16"),
            ));
            if let Err(source) = run.segment.file.write_at(run.offset, &run.bytes) {
                return Err(lock(&self.state).poison("write", &run.segment.name, source));
            }
            idle_buffer = run.bytes;
        }
        if idle_buffer.capacity() > 0 && idle_buffer.capacity() <= 2 * BUFFER_BYTES {
            idle_buffer.clear();
            lock(&self.state).idle_buffer = idle_buffer;
        }
        Ok(Written {
            segment: Arc::clone(&writer.filling),
            end,
        })
    }

    /// Puts a segment's header in force. All segments before it are durable afterwards, and so is
    /// the header: recovery relies on both.
    fn begin_segment(
        &self,
        writer: &mut Writer,
        segment: &Arc<SegmentFile>,
        header: &SlotHeader,
        in_force: Option<u64>,
    ) -> Result<(), LogError> {
        self.sync_segment(&writer.filling, header.base)?;
        if let Err(source) = segment.write_header(header, in_force) {
            return Err(lock(&self.state).poison("write", &segment.name, source));
        }
        let _turn = lock(&self.sync_turn);
        let mut state = self.sync_file(segment)?;
        state.header_live_from = header.live_from;
        writer.filling = Arc::clone(segment);
        Ok(())
    }

    /// Makes everything up to `end` durable, which all lies in `segment` or is durable already.
    fn sync_segment(&self, segment: &SegmentFile, end: Position) -> Result<(), LogError> {
        let _turn = lock(&self.sync_turn);
        if self.durable() >= end {
            return Ok(());
        }
        let mut state = self.sync_file(segment)?;
        state.durable = end;
        self.durable.store(end, Ordering::Release);
        Ok(())
    }

    /// One `fdatasync`. The caller holds the turn, and notes success while it holds the state.
    fn sync_file(
        &self,
        segment: &SegmentFile,
    ) -> Result<std::sync::MutexGuard<'_, State>, LogError> {
        let result = segment.file.sync_data();
        let mut state = lock(&self.state);
        state.stats.syncs += 1;
        if let Err(source) = result {
            return Err(state.poison("sync", &segment.name, source));
        }
        state.check()?;
        Ok(state)
    }
}

/// The role of the thread that syncs for the others. Passes it on when dropped.
struct Leadership<'a> {
    log: &'a Log,
}

impl Drop for Leadership<'_> {
    fn drop(&mut self) {
        let log = self.log;
        let mut state = lock(&log.state);
        state.leading = false;
        if std::thread::panicking() {
            // What reached the disk is unknown, as after a failed sync.
            state.poison("sync", "", io::Error::other("the storage panicked"));
        }
        let covered = usize::from(state.turn % 2 == 1);
        let next = 1 - covered;
        let failed = state.check().is_err();
        let (wake_covered, wake_next) = (state.waiters[covered] > 0, state.waiters[next] > 0);
        drop(state);
        // The next leader first: its sync runs while the others wake up. One is enough, for its sync
        // covers all of them.
        if wake_next && !failed {
            log.waiting[next].notify_one();
        } else if wake_next {
            log.waiting[next].notify_all();
        }
        if wake_covered {
            log.waiting[covered].notify_all();
        }
    }
}
