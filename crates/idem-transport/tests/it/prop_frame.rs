//! Framing under random bytes and random frames.

use idem_transport::{Chunk, Chunks, Lane, Preamble, Reassembler, record_bytes};
use proptest::prelude::*;

/// Feeds bytes from outside through everything that reads them in clear.
fn read_anything(bytes: &[u8]) {
    let _ = record_bytes(bytes);
    if let Some(head) = bytes.first_chunk::<60>() {
        let _ = Preamble::decode(head);
    }
    let mut reassembler = Reassembler::new(1000);
    let mut passed = 0;
    for chunk in Chunks::new(bytes) {
        let Ok(Chunk::Data {
            lane,
            frame_bytes,
            is_last,
            bytes,
        }) = chunk
        else {
            continue;
        };
        match reassembler.push(lane, frame_bytes, is_last, bytes) {
            Ok(Some(frame)) => {
                assert!(frame.len() <= 1000);
                passed += frame.len();
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
    assert!(passed <= bytes.len());
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_anything(&bytes);
    }

    #[test]
    fn reading_near_misses_never_panics(
        flags in proptest::collection::vec((0u8..20, 0u32..1200, 0u16..40), 0..20)
    ) {
        let mut bytes = Vec::new();
        for (flag, frame_bytes, len) in flags {
            bytes.push(flag);
            if flag & 4 != 0 {
                bytes.extend_from_slice(&frame_bytes.to_le_bytes());
            }
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend(std::iter::repeat_n(7, usize::from(len)));
        }
        read_anything(&bytes);
    }

}

proptest! {
    // Each case makes a link and carries up to 600 kB.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn frames_arrive_as_they_were_sent(
        frames in proptest::collection::vec((0usize..4, 0usize..150_000, any::<u8>()), 1..8)
    ) {
        super::on_runtime(async move {
            let (a, b) = (
                super::credentials(1, super::DATABASE, 7),
                super::credentials(2, super::DATABASE, 7),
            );
            let (at_a, mut at_b) = idem_transport::memory_link_pair(&a, &b).await.unwrap();
            let mut expected: [Vec<Vec<u8>>; 4] = Default::default();
            let sent: Vec<_> = frames
                .into_iter()
                .map(|(lane, len, fill)| {
                    let frame: Vec<u8> = (0..len).map(|n| fill.wrapping_add(n as u8)).collect();
                    expected[lane].push(frame.clone());
                    (Lane::ALL[lane], frame)
                })
                .collect();
            let count = sent.len();
            let sending = async {
                for (lane, frame) in sent {
                    at_a.send(lane, frame).await.unwrap();
                }
            };
            let receiving = async {
                let mut got: [Vec<Vec<u8>>; 4] = Default::default();
                for _ in 0..count {
                    let (lane, frame) = at_b.recv().await.unwrap().unwrap();
                    got[usize::from(lane.number())].push(frame);
                }
                got
            };
            let ((), got) = tokio::join!(sending, receiving);
            assert_eq!(got, expected, "order holds inside a lane");
        });
    }
}
