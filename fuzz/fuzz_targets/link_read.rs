//! What a link reads before and after it is decrypted: nothing is reserved that did not arrive, and
//! no frame is larger than allowed.

use idem_model::{DatabaseId, Lane};
use idem_transport::{Chunk, Chunks, LinkMode, Preamble, Reassembler, VersionRange, record_bytes};

use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "link_read",
    run,
    seeds,
};

const FRAME_BYTES_MAX: u32 = 1000;

fn chunk(lane: Lane, frame_bytes: Option<u32>, is_last: bool, bytes: &[u8]) -> Vec<u8> {
    let mut out =
        vec![lane.number() | u8::from(frame_bytes.is_some()) << 2 | u8::from(is_last) << 3];
    out.extend(frame_bytes.into_iter().flat_map(u32::to_le_bytes));
    let len = u16::try_from(bytes.len()).expect("a short chunk");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
    out
}

fn seeds() -> Vec<Vec<u8>> {
    let (database, mode) = (DatabaseId([1; 16]), LinkMode::SharedKey);
    let preamble = Preamble::new(VersionRange::OURS, database, mode, [9; 16]);
    let interleaved = [
        chunk(Lane::Bulk, Some(6), false, b"abc"),
        chunk(Lane::Control, Some(2), true, b"hi"),
        chunk(Lane::Bulk, None, true, b"def"),
        vec![0x10, 0x11],
    ];
    vec![preamble.to_bytes().to_vec(), interleaved.concat()]
}

fn run(data: &[u8]) -> Verdict {
    if let Ok(Some(len)) = record_bytes(data) {
        assert!((18..=2 + 65_535).contains(&len), "a record of {len} bytes");
    }
    if let Some(Ok(_)) = data.first_chunk().map(Preamble::decode) {
        return Verdict::Accepted;
    }
    let mut reassembler = Reassembler::new(FRAME_BYTES_MAX);
    let mut frames = 0;
    for chunk in Chunks::new(data) {
        let Ok(chunk) = chunk else {
            return Verdict::Rejected;
        };
        let Chunk::Data {
            lane,
            frame_bytes,
            is_last,
            bytes,
        } = chunk
        else {
            continue;
        };
        match reassembler.push(lane, frame_bytes, is_last, bytes) {
            Ok(Some(frame)) => {
                assert!(frame.len() <= FRAME_BYTES_MAX as usize, "a frame too large");
                frames += frame.len();
            }
            Ok(None) => {}
            Err(_) => return Verdict::Rejected,
        }
    }
    assert!(frames <= data.len(), "more came out than went in");
    Verdict::Accepted
}
