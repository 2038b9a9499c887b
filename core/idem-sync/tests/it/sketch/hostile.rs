//! Symbols that no set has, and sets that nobody has.

use idem_sync::sketch::{
    Decoder, Difference, Hopeless, Item, Sketch, SketchBlock, SketchSummary, SketchSymbol, Verdict,
};

use super::{SALT, item, mixed, sketch};

/// Local items of every try.
const ITEMS: u64 = 24;

/// Symbols of every try: more than a decoder takes for a set of that size.
const SYMBOLS: u32 = 96;

/// A row of numbers for one try.
struct Chance {
    state: u64,
}

impl Chance {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        mixed(self.state)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    fn garbage(&mut self) -> SketchSymbol {
        SketchSymbol {
            xor: self.bytes(),
            check: self.bytes(),
            count: [0, 1, 255, 2, 7][self.below(5) as usize],
        }
    }
}

/// A remote as it presents itself.
#[derive(Clone)]
struct Claim {
    summary: SketchSummary,
    symbols: Vec<SketchSymbol>,
}

impl Claim {
    fn of(sketch: &Sketch) -> Self {
        Self {
            summary: sketch.summary(),
            symbols: sketch.block(1, sketch.symbols() - 1).symbols,
        }
    }

    /// Adds or takes away an item in one symbol only.
    fn plant(&mut self, item: Item, at: usize, count: u8) {
        // The sketch of one item has it in symbol 0.
        let alone = sketch(&[item], 1).summary();
        let symbol = &mut self.symbols[at];
        xor(&mut symbol.xor, &alone.xor);
        let [a, b, c, d, ..] = alone.check;
        let hash = u32::from_le_bytes([a, b, c, d]);
        let check = u32::from_le_bytes(symbol.check);
        let check = match count {
            255 => check.wrapping_sub(hash),
            _ => check.wrapping_add(hash),
        };
        symbol.check = check.to_le_bytes();
        symbol.count = symbol.count.wrapping_add(count);
    }

    fn run(&self, local: &Sketch) -> Decoder {
        let mut decoder = Decoder::new(local.clone(), &self.summary);
        while let &Verdict::NeedMore(count) = decoder.verdict() {
            let first = decoder.received();
            assert!(
                count > 0 && first + count <= SYMBOLS,
                "it asks within its bounds"
            );
            let range = first as usize - 1..(first + count) as usize - 1;
            let symbols = self.symbols[range].to_vec();
            decoder
                .push(&SketchBlock { first, symbols })
                .expect("the next block");
        }
        decoder
    }
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    bytes
        .iter_mut()
        .zip(with)
        .for_each(|(byte, with)| *byte ^= with);
}

fn local() -> (Vec<Item>, Sketch) {
    let items: Vec<Item> = (0..ITEMS).map(|document| item(document, 0)).collect();
    let sketch = sketch(&items, SYMBOLS);
    (items, sketch)
}

/// A remote set near the local one, and what it differs in.
fn honest(chance: &mut Chance, items: &[Item]) -> (Sketch, Difference) {
    let mut difference = Difference::default();
    for item in items {
        if chance.below(8) == 0 {
            difference.local_only.push(*item);
        }
    }
    let extra = chance.below(5);
    difference
        .remote_only
        .extend((0..extra).map(|_| item(ITEMS + chance.next() % 1_000_000, 1)));
    difference.remote_only.sort();
    difference.remote_only.dedup();
    difference.local_only.sort();
    let mut remote = sketch(items, SYMBOLS);
    difference
        .local_only
        .iter()
        .for_each(|it| remote.remove(*it));
    difference
        .remote_only
        .iter()
        .for_each(|it| remote.insert(*it));
    (remote, difference)
}

/// What was found explains all that was received.
fn assert_explained(local: &Sketch, decoder: &Decoder, claim: &Claim, what: &str) {
    let Verdict::Complete(difference) = decoder.verdict() else {
        return;
    };
    let mut remote = local.clone();
    difference
        .remote_only
        .iter()
        .for_each(|it| remote.insert(*it));
    difference
        .local_only
        .iter()
        .for_each(|it| remote.remove(*it));
    assert_eq!(remote.summary(), claim.summary, "{what}");
    let count = decoder.received() - 1;
    if count > 0 {
        let symbols = remote.block(1, count).symbols;
        assert_eq!(symbols, claim.symbols[..count as usize], "{what}");
    }
}

#[test]
fn garbage_is_never_a_difference() {
    let (_, local) = local();
    for seed in 0..40_000 {
        let chance = &mut Chance { state: seed << 20 };
        let claim = Claim {
            summary: SketchSummary {
                items: ITEMS + chance.below(9) - 4,
                xor: chance.bytes(),
                check: chance.bytes(),
            },
            symbols: (1..SYMBOLS).map(|_| chance.garbage()).collect(),
        };
        let decoder = claim.run(&local);
        let verdict = decoder.verdict();
        assert!(
            matches!(verdict, Verdict::Hopeless(_)),
            "{seed}: {verdict:?}"
        );
    }
}

#[test]
fn a_flipped_bit_never_changes_the_difference() {
    let (items, local) = local();
    let mut complete = 0;
    for seed in 0..30_000 {
        let chance = &mut Chance { state: seed << 20 };
        let (remote, truth) = honest(chance, &items);
        let mut claim = Claim::of(&remote);
        let bit = 1u8 << chance.below(8);
        let at = chance.below(12) as usize;
        match chance.below(6) {
            0 => claim.summary.items ^= u64::from(bit),
            1 => claim.summary.xor[at] ^= bit,
            2 => claim.summary.check[at % 8] ^= bit,
            rest => {
                let symbol = &mut claim.symbols[chance.below(20) as usize];
                match rest {
                    3 => symbol.xor[at] ^= bit,
                    4 => symbol.check[at % 4] ^= bit,
                    _ => symbol.count ^= bit,
                }
            }
        }
        let decoder = claim.run(&local);
        assert_explained(&local, &decoder, &claim, &format!("seed {seed}"));
        if let Verdict::Complete(found) = decoder.verdict() {
            // The flipped bit was in a symbol that was not needed.
            assert_eq!(*found, truth, "{seed}");
            complete += 1;
        }
    }
    assert!(
        (100..29_000).contains(&complete),
        "{complete} were complete"
    );
}

#[test]
fn crafted_items_are_explained_or_refused() {
    let (items, local) = local();
    let mut verdicts = [0; 3];
    for seed in 0..30_000 {
        let chance = &mut Chance { state: seed << 20 };
        let (remote, _) = honest(chance, &items);
        let mut claim = Claim::of(&remote);
        for _ in 0..=chance.below(3) {
            let crafted = match chance.below(3) {
                0 => items[chance.below(ITEMS) as usize],
                1 => item(chance.next(), 0),
                // The item that is its own opposite.
                _ => Item::from_bytes([0; 12]),
            };
            let count = [1, 255, 0, 128][chance.below(4) as usize];
            for _ in 0..=chance.below(4) {
                claim.plant(crafted, chance.below(30) as usize, count);
            }
        }
        let decoder = claim.run(&local);
        assert_explained(&local, &decoder, &claim, &format!("seed {seed}"));
        let at = match decoder.verdict() {
            Verdict::Complete(_) => 0,
            Verdict::Hopeless(Hopeless::Contradiction) => 1,
            _ => 2,
        };
        verdicts[at] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 100), "{verdicts:?}");
}

#[test]
fn an_item_in_one_of_its_symbols_only_goes_round_until_it_is_stopped() {
    let (_, local) = local();
    let mut stopped = 0;
    for at in 0..30 {
        for document in 0..40 {
            let mut claim = Claim::of(&local);
            // Unequal summaries, or the rest is not looked at.
            claim.summary.check[7] ^= 1;
            claim.plant(item(document, 5), at, 1);
            let decoder = claim.run(&local);
            let reason = decoder.verdict();
            assert!(matches!(reason, Verdict::Hopeless(_)), "{reason:?}");
            stopped += u32::from(*reason == Verdict::Hopeless(Hopeless::Contradiction));
        }
    }
    assert!(stopped > 100, "{stopped} went round");
}

#[test]
fn summaries_that_lie_are_refused() {
    let (items, local) = local();
    let (remote, _) = honest(&mut Chance { state: 1 }, &items);
    let check = |change: &dyn Fn(&mut SketchSummary), expected| {
        let mut claim = Claim::of(&remote);
        change(&mut claim.summary);
        let decoder = claim.run(&local);
        assert_eq!(decoder.verdict(), &Verdict::Hopeless(expected));
    };
    check(&|summary| summary.items = u64::MAX, Hopeless::SizesApart);
    check(&|summary| summary.items += 65, Hopeless::SizesApart);
    check(&|summary| summary.items += 1, Hopeless::TooDifferent);
    // The count of symbol 0 does not tell 256 from none; the size does.
    let many: Vec<Item> = (0..2_000).map(|document| item(document, 0)).collect();
    let many = sketch(&many, SYMBOLS);
    let mut summary = many.summary();
    summary.items += 256;
    let decoder = Decoder::new(many, &summary);
    let expected = Verdict::Hopeless(Hopeless::Contradiction);
    assert_eq!(decoder.verdict(), &expected);
    // Half of the hash of all items is in no symbol.
    check(&|summary| summary.check[7] ^= 1, Hopeless::Contradiction);
    let empty = Sketch::new(SALT, SYMBOLS);
    let nothing = Difference::default();
    let decoder = Decoder::new(empty.clone(), &empty.summary());
    assert_eq!(decoder.verdict(), &Verdict::Complete(nothing));
}
