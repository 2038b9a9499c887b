//! Random sets with fixed seeds: a failure names the case, and no run is unlucky.

use std::collections::BTreeSet;

use idem_model::{ActorId, CollectionName, DocId, Dot, VersionVector};
use idem_sync::sketch::{BlockError, Decoder, Hopeless, Item, SetChanged, Sketch, Verdict};

use super::{SALT, item, mixed, run, sketch};

/// Two sets and what they differ in.
#[derive(Default)]
struct Pair {
    local: Vec<Item>,
    remote: Vec<Item>,
    local_only: Vec<Item>,
    remote_only: Vec<Item>,
}

/// Up to 3,000 items and 500 differences, among them documents that changed.
fn pair(seed: u64) -> Pair {
    let choose = |what: u64, below: u64| mixed(seed * 16 + what) % below;
    // Small sets and small differences come as often as large ones.
    let scale = |what: u64, most: u64| choose(what, most + 1) >> choose(what + 1, 11);
    let tags = [u32::MAX, 0xff, 0][choose(7, 3) as usize];
    let narrow = |document, version| {
        let whole = item(seed << 32 | document, version);
        Item {
            tag: (u32::from_le_bytes(whole.tag) & tags).to_le_bytes(),
            ..whole
        }
    };
    let mut pair = Pair::default();
    let both = scale(0, 3000);
    for document in 0..both {
        pair.local.push(narrow(document, 0));
        pair.remote.push(narrow(document, 0));
    }
    let (changed, ours, theirs) = (scale(2, 100), scale(3, 150), scale(5, 150));
    pair.local_only
        .extend((0..changed + ours).map(|at| narrow(both + at, 1)));
    let theirs = (0..changed).chain(changed + ours..changed + ours + theirs);
    pair.remote_only
        .extend(theirs.map(|at| narrow(both + at, 2)));
    pair.local.extend(&pair.local_only);
    pair.remote.extend(&pair.remote_only);
    pair.local_only.sort();
    pair.remote_only.sort();
    pair
}

#[test]
fn what_is_found_is_the_difference() {
    let mut complete = 0;
    for seed in 0..150 {
        let pair = pair(seed);
        let (sizes, larger) = (
            pair.local.len().abs_diff(pair.remote.len()),
            pair.local.len().max(pair.remote.len()),
        );
        let run = run(&sketch(&pair.local, 4096), &sketch(&pair.remote, 4096));
        match run.outcome {
            Ok(difference) => {
                complete += 1;
                assert_eq!(difference.local_only, pair.local_only, "seed {seed}");
                assert_eq!(difference.remote_only, pair.remote_only, "seed {seed}");
            }
            Err(Hopeless::SizesApart) => assert!(sizes > 64 && sizes > larger / 5, "seed {seed}"),
            Err(Hopeless::TooDifferent) => {
                let differences = pair.local_only.len() + pair.remote_only.len();
                assert!(3 * differences > larger, "seed {seed}");
            }
            Err(reason) => panic!("seed {seed}: {reason:?}"),
        }
    }
    assert!(complete > 100, "most are found: {complete}");
}

#[test]
fn the_size_of_the_blocks_does_not_matter() {
    for seed in 0..40 {
        let pair = pair(seed);
        let (local, remote) = (sketch(&pair.local, 1024), sketch(&pair.remote, 1024));
        let mut decoder = Decoder::new(local, &remote.summary());
        let mut at = 0;
        while matches!(decoder.verdict(), Verdict::NeedMore(_)) && decoder.received() < 1024 {
            at += 1;
            let count = 1 + mixed(seed * 4096 + at) % 40;
            let count = u32::try_from(count).unwrap().min(1024 - decoder.received());
            decoder
                .push(&remote.block(decoder.received(), count))
                .unwrap();
        }
        if let Verdict::Complete(difference) = decoder.verdict() {
            assert_eq!(difference.local_only, pair.local_only, "seed {seed}");
            assert_eq!(difference.remote_only, pair.remote_only, "seed {seed}");
        }
    }
}

#[test]
fn a_sketch_kept_up_to_date_is_the_one_made_at_once() {
    let mut kept = Sketch::new(SALT, 300);
    let mut set = BTreeSet::new();
    for step in 0..2_000 {
        let item = item(mixed(step) % 300, 0);
        if set.remove(&item) {
            kept.remove(item);
        } else {
            set.insert(item);
            kept.insert(item);
        }
        if step % 200 == 0 {
            assert_eq!(kept, Sketch::of(SALT, set.iter().copied(), 300));
        }
    }
    // More than 256 items, so that counts went round.
    set.extend((1_000..1_700).map(|document| item(document, 0)));
    let items: Vec<Item> = set.iter().copied().collect();
    let whole = sketch(&items, 300);
    let (left, right) = items.split_at(items.len() / 3);
    let mut sum = sketch(left, 300);
    sum.add(&sketch(right, 400));
    assert_eq!(sum, whole, "sketches of disjoint sets add up");
    let mut sum = sketch(right, 300);
    sum.add(&sketch(left, 200));
    assert_eq!(sum, sketch(&items, 200), "as far as both reach");

    let mut longer = sketch(&items, 50);
    longer.extend(items.iter().copied(), 300).unwrap();
    assert_eq!(longer, whole);
    longer.extend([], 10).unwrap();
    assert_eq!(longer, whole, "it is that long already");
    let others = left.iter().copied();
    assert_eq!(longer.extend(others, 301), Err(SetChanged));
    assert_eq!(longer, whole, "and nothing happened");
}

#[test]
fn a_short_local_sketch_is_made_longer_on_the_way() {
    let pair = (0..)
        .map(pair)
        .find(|it| it.local_only.len() > 100)
        .unwrap();
    let remote = sketch(&pair.remote, 4096);
    let mut decoder = Decoder::new(sketch(&pair.local, 16), &remote.summary());
    let mut short = 0;
    while let &Verdict::NeedMore(count) = decoder.verdict() {
        let block = remote.block(decoder.received(), count);
        match decoder.push(&block) {
            Ok(_) => {}
            Err(BlockError::LocalTooShort { needed, present }) => {
                assert_eq!(present, decoder.local_symbols());
                let others = pair.remote.iter().copied();
                assert_eq!(decoder.extend(others, needed), Err(SetChanged));
                let items = pair.local.iter().copied();
                decoder.extend(items, needed).unwrap();
                short += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let Verdict::Complete(difference) = decoder.verdict() else {
        panic!("found, not {:?}", decoder.verdict());
    };
    assert_eq!(difference.local_only, pair.local_only);
    assert!(short > 1, "the sketch was too short");
}

#[test]
fn blocks_come_in_order() {
    let local: Vec<Item> = (0..100).map(|document| item(document, 0)).collect();
    let remote: Vec<Item> = (10..110).map(|document| item(document, 0)).collect();
    let (local, remote) = (sketch(&local, 64), sketch(&remote, 64));
    let mut decoder = Decoder::new(local, &remote.summary());
    let error = BlockError::OutOfOrder {
        expected: 1,
        found: 2,
    };
    assert_eq!(decoder.push(&remote.block(2, 4)), Err(error));
    decoder.push(&remote.block(1, 4)).unwrap();
    let again = decoder.push(&remote.block(1, 4)).unwrap_err();
    assert_eq!(again.to_string(), "symbols from 1 on, expected from 5 on");
    decoder.push(&remote.block(5, 59)).unwrap();
    let verdict = decoder.verdict().clone();
    assert!(matches!(verdict, Verdict::Complete(_)), "{verdict:?}");
    // The remote may have sent more before it knew.
    assert_eq!(decoder.push(&remote.block(40, 3)), Ok(&verdict));
}

#[test]
fn items_tell_documents_and_versions_apart() {
    let of = |collection: &str, id: &str, n: u64| {
        let version = VersionVector::from_iter([Dot {
            actor: ActorId([1; 16]),
            n,
        }]);
        let collection = CollectionName::new(collection).unwrap();
        Item::of(&SALT, &collection, &DocId::from(id), &version)
    };
    let one = of("airports", "FRA", 1);
    assert_eq!(one, of("airports", "FRA", 1));
    assert_eq!(Item::from_bytes(one.to_bytes()), one);
    assert_eq!(one.tag, of("airports", "FRA", 2).tag);
    assert_ne!(one.version, of("airports", "FRA", 2).version);
    assert_ne!(of("ab", "c", 1).tag, of("a", "bc", 1).tag);
    // Documents of one transaction have one version vector.
    assert_ne!(one.version, of("airports", "MUC", 1).version);
    let before = [of("a", "x", 1), of("a", "y", 1)];
    let after = [of("a", "x", 2), of("a", "y", 2)];
    let (before, after) = (sketch(&before, 1).summary(), sketch(&after, 1).summary());
    assert_ne!(before.xor, after.xor, "they do not cancel out");
}
