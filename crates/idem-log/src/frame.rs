//! Frames: how a payload lies in a segment. `docs/format/disk.md`, section "Log", has the layout.

/// Bytes before a payload: length, lag, payload checksum, header checksum, `u32` big-endian each.
pub(crate) const HEADER_BYTES: usize = 16;

/// Set in the length of a frame that carries no payload but says that all before it is durable.
const MARK: u32 = 1 << 31;

/// A frame found in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Length of the payload in bytes.
    pub(crate) payload_bytes: usize,
    /// Bytes before the frame that were not known to be durable when it was appended.
    lag: u32,
    payload_crc: u32,
    mark: bool,
}

impl Frame {
    /// Header and payload.
    pub(crate) fn bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes
    }

    /// Whether this is a mark, which readers do not see.
    pub(crate) fn is_mark(&self) -> bool {
        self.mark
    }

    /// Whether the frame, which begins at `position`, proves that bytes after `end` were durable.
    pub(crate) fn proves_durable_after(&self, position: u64, end: u64) -> bool {
        self.durable_before(position)
            .is_some_and(|durable| durable > end)
    }

    /// Up to where the log was known to be durable when the frame, which begins at `position`, was appended.
    /// A saturated lag tells nothing.
    pub(crate) fn durable_before(&self, position: u64) -> Option<u64> {
        (self.lag != u32::MAX).then(|| position.saturating_sub(u64::from(self.lag)))
    }
}

/// Makes and checks frames of one log.
///
/// The header's checksum covers the log's identity and the frame's position, so that what an
/// earlier use of a segment left behind is never taken for a frame. The payload's checksum does
/// not, so that it can be computed before the position is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sealer {
    seed: u32,
}

impl Sealer {
    pub(crate) fn new(log_id: u64) -> Self {
        Self {
            seed: crc32c::crc32c(&log_id.to_be_bytes()),
        }
    }

    /// The header of a frame that begins at `position`, when all before `durable` is durable.
    pub(crate) fn seal(
        self,
        position: u64,
        durable: u64,
        payload_bytes: u32,
        payload_crc: u32,
    ) -> [u8; HEADER_BYTES] {
        let lag = u32::try_from(position - durable).unwrap_or(u32::MAX);
        self.header(position, payload_bytes, lag, payload_crc)
    }

    /// The header of a mark at `position`.
    pub(crate) fn seal_mark(self, position: u64) -> [u8; HEADER_BYTES] {
        self.header(position, MARK, 0, 0)
    }

    fn header(self, position: u64, length: u32, lag: u32, payload_crc: u32) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(&length.to_be_bytes());
        header[4..8].copy_from_slice(&lag.to_be_bytes());
        header[8..12].copy_from_slice(&payload_crc.to_be_bytes());
        let crc = self.header_crc(position, &header[..12]);
        header[12..16].copy_from_slice(&crc.to_be_bytes());
        header
    }

    fn header_crc(self, position: u64, covered: &[u8]) -> u32 {
        let crc = crc32c::crc32c_append(self.seed, &position.to_be_bytes());
        // Never zero, so that sixteen zero bytes are never a frame.
        crc32c::crc32c_append(crc, covered).max(1)
    }

    /// Reads the header that `bytes` begins with, if it is one of this log at `position` and the
    /// frame fits into `room` bytes. The payload is not checked.
    pub(crate) fn open_header(self, position: u64, bytes: &[u8], room: u64) -> Option<Frame> {
        let header = bytes.get(..HEADER_BYTES)?;
        let word = |at: usize| {
            u32::from_be_bytes(
                header[at..at + 4]
                    .try_into()
                    .expect("a slice of four bytes"),
            )
        };
        let length = word(0);
        let mark = length & MARK != 0;
        let payload_bytes = usize::try_from(length & !MARK).ok()?;
        if (HEADER_BYTES + payload_bytes) as u64 > room || (mark && payload_bytes > 0) {
            return None;
        }
        if self.header_crc(position, &header[..12]) != word(12) {
            return None;
        }
        Some(Frame {
            payload_bytes,
            lag: word(4),
            payload_crc: word(8),
            mark,
        })
    }

    /// Reads the whole frame that `bytes` begins with.
    pub(crate) fn open(self, position: u64, bytes: &[u8]) -> Option<(Frame, &[u8])> {
        let frame = self.open_header(position, bytes, bytes.len() as u64)?;
        let payload = &bytes[HEADER_BYTES..frame.bytes()];
        (crc32c::crc32c(payload) == frame.payload_crc).then_some((frame, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(sealer: Sealer, position: u64, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap();
        let mut bytes = sealer
            .seal(position, 0, length, crc32c::crc32c(payload))
            .to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_frame_is_valid_only_where_it_was_written() {
        let sealer = Sealer::new(7);
        let bytes = sealed(sealer, 1000, b"payload");
        assert_eq!(sealer.open(1000, &bytes).unwrap().1, b"payload");
        assert!(sealer.open(1001, &bytes).is_none());
        assert!(sealer.open(1000 + (1 << 32), &bytes).is_none());
        assert!(Sealer::new(8).open(1000, &bytes).is_none());
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let sealer = Sealer::new(7);
        let bytes = sealed(sealer, 99, b"some payload of a frame");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(99, &damaged).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused() {
        let sealer = Sealer::new(7);
        let bytes = sealed(sealer, 0, &[1; 100]);
        assert!(sealer.open(0, &bytes[..115]).is_none());
        assert!(sealer.open(0, &bytes[..15]).is_none());
    }

    #[test]
    fn zeros_are_no_frame() {
        for position in 0..10_000 {
            assert!(Sealer::new(position).open(position, &[0; 64]).is_none());
        }
    }
}
