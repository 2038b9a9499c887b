//! Sketches of a remote: what is found explains all that was received.

use idem_model::codec::Reader;
use idem_sync::sketch::{
    Decoder, Item, Salt, Sketch, SketchBlock, SketchSummary, Verdict as Found,
};

use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "sketch_decode",
    run,
    seeds,
};

const SYMBOLS: u32 = 256;

fn item(number: u64) -> Item {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [a, b, c, d, ..] = mixed.to_le_bytes();
    Item {
        tag: [a, b, c, d],
        version: mixed.rotate_left(29).to_le_bytes(),
    }
}

fn sketch(numbers: std::ops::Range<u64>) -> Sketch {
    Sketch::of(Salt([9; 16]), numbers.map(item), SYMBOLS)
}

fn seeds() -> Vec<Vec<u8>> {
    [0..100, 0..101, 5..104, 30..130, 0..60, 20..120]
        .into_iter()
        .map(|range| {
            let remote = sketch(range);
            let mut bytes = Vec::new();
            remote.summary().encode(&mut bytes);
            for (first, count) in [(1, 4), (5, 5), (10, 10), (20, 60), (80, 176)] {
                remote.block(first, count).encode(&mut bytes);
            }
            bytes
        })
        .collect()
}

fn run(data: &[u8]) -> Verdict {
    let mut reader = Reader::new(data);
    let Ok(summary) = SketchSummary::decode(&mut reader) else {
        return Verdict::Rejected;
    };
    let local = sketch(0..100);
    let mut decoder = Decoder::new(local.clone(), &summary);
    let mut received = Vec::new();
    while let Ok(block) = SketchBlock::decode(&mut reader) {
        let before = decoder.received();
        if decoder.push(&block).is_err() {
            assert_eq!(
                decoder.received(),
                before,
                "a refused block changes nothing"
            );
            return Verdict::Rejected;
        }
        if decoder.received() > before {
            received.extend(block.symbols);
        }
    }
    let Found::Complete(difference) = decoder.verdict() else {
        return Verdict::Rejected;
    };
    let mut remote = local;
    for item in &difference.remote_only {
        remote.insert(*item);
    }
    for item in &difference.local_only {
        remote.remove(*item);
    }
    assert_eq!(remote.summary(), summary, "the summary is explained");
    if let Some(count) = u32::try_from(received.len())
        .ok()
        .filter(|count| *count > 0)
    {
        assert_eq!(
            remote.block(1, count).symbols,
            received,
            "so is each symbol"
        );
    }
    Verdict::Accepted
}
