//! What sketches cost the processor: `cargo bench -p idem-sync [-- PART OF A NAME]`.
//!
//! 100,000 documents with keys of 36 characters and versions of two actors; medians of nine rounds.

use std::{hint::black_box, time::Instant};

use idem_model::{ActorId, CollectionName, DocId, Dot, VersionVector};
use idem_sync::sketch::{Decoder, Item, Salt, Sketch, Verdict};

const DOCUMENTS: u64 = 100_000;
const CHANGED: usize = 1_000;
const ROUNDS: usize = 9;
const SALT: Salt = Salt([7; 16]);

fn main() {
    let collection = CollectionName::new("airports").expect("a valid name");
    let ids: Vec<Vec<u8>> = (0..DOCUMENTS)
        .map(|number| DocId::from(format!("{number:036}").as_str()).to_key())
        .collect();
    let version = |n| {
        let dot = |actor, n| Dot {
            actor: ActorId([actor; 16]),
            n,
        };
        VersionVector::from_iter([dot(1, 7), dot(2, n)])
    };
    let (before, after) = (version(300), version(301));
    let of = |id: &Vec<u8>, version| Item::of_key(&SALT, &collection, id, version);
    let items: Vec<Item> = ids.iter().map(|id| of(id, &before)).collect();

    report("item from key and version", DOCUMENTS, || {
        for id in &ids {
            black_box(of(id, &before));
        }
    });
    for symbols in [1, 64, 256, 1024, 4096] {
        report(&format!("item into {symbols} symbols"), DOCUMENTS, || {
            black_box(Sketch::of(SALT, items.iter().copied(), symbols));
        });
    }

    let local = Sketch::of(SALT, items.iter().copied(), 4096);
    let mut remote = local.clone();
    for (id, item) in ids.iter().zip(&items).take(CHANGED) {
        remote.remove(*item);
        remote.insert(of(id, &after));
    }
    report("decoding, for each difference", 2 * CHANGED as u64, || {
        let mut decoder = Decoder::new(local.clone(), &remote.summary());
        while let &Verdict::NeedMore(count) = decoder.verdict() {
            let block = remote.block(decoder.received(), count);
            decoder.push(&block).expect("the next block");
        }
        assert!(matches!(decoder.verdict(), Verdict::Complete(_)), "found");
    });
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn report(name: &str, count: u64, run: impl Fn()) {
    // Cargo gives arguments of its own, which begin with a dash.
    let mut words = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'));
    if words.next().is_some_and(|word| !name.contains(&word)) {
        return;
    }
    let mut figures: Vec<u128> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed().as_nanos()
        })
        .collect();
    figures.sort_unstable();
    let middle = figures[ROUNDS / 2] / u128::from(count);
    let best = figures[0] / u128::from(count);
    println!("{name:<32} {middle:>6} ns, at best {best:>6} ns");
}
