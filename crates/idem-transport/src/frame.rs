//! Frames in pieces: pure functions between frames and the plaintext of records.
//!
//! The plaintext of a record is a row of chunks: one byte of flags, for the first chunk of a frame
//! its length as a `u32`, the length of the chunk as a `u16`, and the bytes. Numbers are
//! little-endian.

use idem_model::{Lane, limits};

use crate::error::LinkError;

/// Bytes that encryption adds to a record.
const CIPHER_TAG_BYTES: usize = 16;

/// Room for chunks in one record.
pub(crate) const RECORD_PLAIN_BYTES_MAX: usize = limits::LINK_RECORD_BYTES_MAX - CIPHER_TAG_BYTES;

const FLAG_LANE: u8 = 0b0000_0011;
const FLAG_FIRST: u8 = 0b0000_0100;
const FLAG_LAST: u8 = 0b0000_1000;
/// A control message of the link itself; the lane bits say which.
const FLAG_LINK: u8 = 0b0001_0000;

const LINK_PING: u8 = 0;
const LINK_GOODBYE: u8 = 1;
const LINK_QUESTION: u8 = 2;

/// The length of the record that `bytes` begins with, its 2-byte length field included; `None` if
/// the field is not there yet.
///
/// # Errors
/// [`LinkError::Malformed`] if the record could not even hold its cipher tag.
pub fn record_bytes(bytes: &[u8]) -> Result<Option<usize>, LinkError> {
    let Some(field) = bytes.first_chunk::<2>() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes(*field));
    if len < CIPHER_TAG_BYTES {
        return Err(LinkError::Malformed {
            what: "a record shorter than its tag",
        });
    }
    Ok(Some(2 + len))
}

/// One piece of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Part of a frame.
    Data {
        /// The lane of the frame.
        lane: Lane,
        /// The length of the whole frame, in its first chunk.
        frame_bytes: Option<u32>,
        /// Whether the frame ends here.
        is_last: bool,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A sign of life.
    Ping,
    /// The sender will send nothing more.
    Goodbye,
    /// The sender wants a sign of life.
    Question,
}

impl Chunk<'_> {
    /// Bytes before the content.
    pub(crate) fn head_bytes(is_first: bool) -> usize {
        if is_first { 7 } else { 3 }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Chunk::Data {
                lane,
                frame_bytes,
                is_last,
                bytes,
            } => {
                let mut flags = lane.number();
                flags |= if frame_bytes.is_some() { FLAG_FIRST } else { 0 };
                flags |= if is_last { FLAG_LAST } else { 0 };
                out.push(flags);
                if let Some(frame_bytes) = frame_bytes {
                    out.extend_from_slice(&frame_bytes.to_le_bytes());
                }
                let len = u16::try_from(bytes.len()).expect("a chunk fits a record");
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Chunk::Ping => out.push(FLAG_LINK | LINK_PING),
            Chunk::Goodbye => out.push(FLAG_LINK | LINK_GOODBYE),
            Chunk::Question => out.push(FLAG_LINK | LINK_QUESTION),
        }
    }
}

/// Reads the chunks of a record's plaintext. After an error it yields nothing more.
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Chunks<'a> {
    /// The chunks of `plain`.
    pub fn new(plain: &'a [u8]) -> Self {
        Self { rest: plain }
    }

    fn read(&mut self) -> Option<Chunk<'a>> {
        let (&flags, mut rest) = self.rest.split_first()?;
        let chunk = match flags {
            flag if flag == FLAG_LINK | LINK_PING => Chunk::Ping,
            flag if flag == FLAG_LINK | LINK_GOODBYE => Chunk::Goodbye,
            flag if flag == FLAG_LINK | LINK_QUESTION => Chunk::Question,
            flag if flag & !(FLAG_LANE | FLAG_FIRST | FLAG_LAST) != 0 => return None,
            _ => {
                let mut frame_bytes = None;
                if flags & FLAG_FIRST != 0 {
                    let (field, after) = rest.split_first_chunk::<4>()?;
                    frame_bytes = Some(u32::from_le_bytes(*field));
                    rest = after;
                }
                let (field, after) = rest.split_first_chunk::<2>()?;
                let (bytes, after) =
                    after.split_at_checked(usize::from(u16::from_le_bytes(*field)))?;
                rest = after;
                Chunk::Data {
                    lane: Lane::from_number(flags & FLAG_LANE)?,
                    frame_bytes,
                    is_last: flags & FLAG_LAST != 0,
                    bytes,
                }
            }
        };
        self.rest = rest;
        Some(chunk)
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, LinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let chunk = self.read();
        if chunk.is_none() {
            self.rest = &[];
        }
        Some(chunk.ok_or(LinkError::Malformed {
            what: "a chunk that ends too early or has unknown flags",
        }))
    }
}

/// Puts frames together again, one at a time per lane.
#[derive(Debug)]
pub struct Reassembler {
    frame_bytes_max: u32,
    lanes: [Option<Partial>; 4],
}

#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    missing: usize,
}

impl Reassembler {
    /// Refuses frames over `frame_bytes_max`.
    pub fn new(frame_bytes_max: u32) -> Self {
        Self {
            frame_bytes_max,
            lanes: [const { None }; 4],
        }
    }

    /// Takes a chunk of data, and gives the frame that it completes.
    ///
    /// # Errors
    /// [`LinkError::FrameTooLarge`] before anything is allocated for the frame, or
    /// [`LinkError::Malformed`] if the chunks of a lane do not form frames.
    pub fn push(
        &mut self,
        lane: Lane,
        frame_bytes: Option<u32>,
        is_last: bool,
        bytes: &[u8],
    ) -> Result<Option<Vec<u8>>, LinkError> {
        let malformed = |what| Err(LinkError::Malformed { what });
        let slot = &mut self.lanes[usize::from(lane.number())];
        if let Some(claimed) = frame_bytes {
            if slot.is_some() {
                return malformed("a frame begins inside another one");
            }
            if claimed > self.frame_bytes_max {
                return Err(LinkError::FrameTooLarge {
                    claimed: claimed.into(),
                    limit: self.frame_bytes_max.into(),
                });
            }
            *slot = Some(Partial {
                // Memory follows what arrived, not what was announced.
                bytes: Vec::with_capacity(bytes.len()),
                missing: claimed as usize,
            });
        }
        let Some(partial) = slot else {
            return malformed("a frame without a beginning");
        };
        let Some(missing) = partial.missing.checked_sub(bytes.len()) else {
            return malformed("a frame longer than it claimed");
        };
        if is_last != (missing == 0) {
            return malformed("a frame that does not end where it claimed");
        }
        partial.missing = missing;
        partial.bytes.extend_from_slice(bytes);
        Ok(if is_last {
            slot.take().map(|partial| partial.bytes)
        } else {
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_gigabytes_are_refused_before_allocation() {
        let mut reassembler = Reassembler::new(256 * 1024);
        let error = reassembler
            .push(Lane::Bulk, Some(u32::MAX), false, b"x")
            .unwrap_err();
        assert_eq!(error.reason(), "frame-too-large");
        assert!(reassembler.lanes[usize::from(Lane::Bulk.number())].is_none());
    }

    #[test]
    fn a_claim_within_the_limit_reserves_only_what_came() {
        let mut reassembler = Reassembler::new(256 * 1024);
        let part = reassembler.push(Lane::Bulk, Some(256 * 1024), false, b"x");
        assert_eq!(part.unwrap(), None);
        let partial = reassembler.lanes[usize::from(Lane::Bulk.number())]
            .as_ref()
            .unwrap();
        assert!(partial.bytes.capacity() < 64);
    }

    #[test]
    fn chunks_that_lie_are_malformed() {
        let check = |chunks: &[(Option<u32>, bool, &[u8])]| {
            let mut reassembler = Reassembler::new(100);
            let failed = chunks.iter().any(|(frame_bytes, is_last, bytes)| {
                reassembler
                    .push(Lane::Control, *frame_bytes, *is_last, bytes)
                    .is_err()
            });
            assert!(failed, "{chunks:?}");
        };
        check(&[(None, true, b"a")]);
        check(&[(Some(2), true, b"a")]);
        check(&[(Some(1), false, b"a")]);
        check(&[(Some(1), true, b"ab")]);
        check(&[(Some(2), false, b"a"), (Some(2), false, b"a")]);
        check(&[(Some(101), false, b"a")]);
    }

    #[test]
    fn an_empty_frame_is_a_frame() {
        let mut out = Vec::new();
        Chunk::Data {
            lane: Lane::Blobs,
            frame_bytes: Some(0),
            is_last: true,
            bytes: b"",
        }
        .encode(&mut out);
        Chunk::Ping.encode(&mut out);
        Chunk::Goodbye.encode(&mut out);
        let chunks: Vec<_> = Chunks::new(&out).map(Result::unwrap).collect();
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[1..], [Chunk::Ping, Chunk::Goodbye]);
        let frame = Reassembler::new(1).push(Lane::Blobs, Some(0), true, b"");
        assert_eq!(frame.unwrap(), Some(Vec::new()));
    }

    /// The frames that the plaintext of a record completes, as the vectors write them.
    fn read(plain: &[u8]) -> Result<String, LinkError> {
        let frame_bytes_max = u32::try_from(limits::FRAME_BYTES_MAX).unwrap();
        let mut reassembler = Reassembler::new(frame_bytes_max);
        let mut frames = Vec::new();
        for chunk in Chunks::new(plain) {
            let Chunk::Data {
                lane,
                frame_bytes,
                is_last,
                bytes,
            } = chunk?
            else {
                continue;
            };
            if let Some(frame) = reassembler.push(lane, frame_bytes, is_last, bytes)? {
                let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
                frames.push(format!("{}:{hex}", lane.number()));
            }
        }
        Ok(match frames.is_empty() {
            true => "-".to_owned(),
            false => frames.join(" "),
        })
    }

    #[test]
    fn records_are_read_and_refused_as_they_were() {
        let records = include_str!("../../../vectors/wire/records.txt");
        let mut counts = [0, 0];
        for line in records.lines().filter(|line| !line.starts_with('#')) {
            let [name, plain, expected] = line.split(" | ").collect::<Vec<_>>()[..] else {
                panic!("{line} has three parts");
            };
            let places = (0..plain.len()).step_by(2);
            let plain: Vec<u8> = places
                .map(|at| u8::from_str_radix(&plain[at..at + 2], 16).unwrap())
                .collect();
            let frames = read(&plain).unwrap_or_else(|_| "refused".to_owned());
            assert_eq!(frames, expected, "{name}");
            counts[usize::from(expected == "refused")] += 1;
        }
        assert_eq!(counts, [12, 18]);
    }
}
