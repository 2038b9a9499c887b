//! Sketches: every difference is found, at the promised cost, and nothing else is.

mod cost;
mod golden;
mod hostile;
mod property;

use idem_sync::sketch::{Decoder, Difference, Hopeless, Item, Salt, Sketch, Verdict};

const SALT: Salt = Salt([0x5a; 16]);

/// SplitMix64: items by number.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A made-up document at a made-up version.
fn item(document: u64, version: u64) -> Item {
    let [a, b, c, d, ..] = mixed(document).to_le_bytes();
    Item {
        tag: [a, b, c, d],
        version: mixed(mixed(document) ^ mixed(version + 1).rotate_left(17)).to_le_bytes(),
    }
}

fn sketch(items: &[Item], symbols: u32) -> Sketch {
    Sketch::of(SALT, items.iter().copied(), symbols)
}

/// How a decoder came to its end.
struct Run {
    outcome: Result<Difference, Hopeless>,
    /// With the summary.
    symbols: u32,
    blocks: u32,
}

impl Run {
    /// Bytes of the summary and the symbols.
    fn bytes(&self, remote: &Sketch) -> usize {
        let mut bytes = Vec::new();
        remote.summary().encode(&mut bytes);
        bytes.len() + 17 * (self.symbols as usize - 1)
    }
}

/// Sends what the decoder asks for.
fn run(local: &Sketch, remote: &Sketch) -> Run {
    let mut decoder = Decoder::new(local.clone(), &remote.summary());
    let mut blocks = 0;
    loop {
        let outcome = match decoder.verdict() {
            Verdict::Complete(difference) => Ok(difference.clone()),
            Verdict::Hopeless(reason) => Err(*reason),
            &Verdict::NeedMore(count) => {
                let block = remote.block(decoder.received(), count);
                decoder.push(&block).expect("the next block");
                blocks += 1;
                continue;
            }
        };
        return Run {
            outcome,
            symbols: decoder.received(),
            blocks,
        };
    }
}
