//! Links that carry no more than the smallest frames that are allowed. That no frame is larger is checked
//! where frames leave (`Pair::collect`).

use idem_sync::Event;
use proptest::prelude::*;

use crate::{
    compare::strangers,
    pair::{Pair, insert, key, selector, set},
};

const FRAME_BYTES_MIN: u32 = 16 * 1024;

/// Two peers that never met and hold the same documents, on links of the smallest frames.
fn narrow(documents: usize) -> Pair {
    let mut pair = strangers(documents);
    pair.frame_bytes_max = FRAME_BYTES_MIN;
    pair
}

/// A subscription that takes some 60 kB to write down, which selects everything.
fn long_statement() -> String {
    let ids: Vec<String> = (0..2_000)
        .map(|id| format!("'no document {id:>12}'"))
        .collect();
    format!("SELECT * FROM things WHERE NOT (n IN [{}])", ids.join(", "))
}

#[test]
fn a_long_statement_is_told_in_parts() {
    let mut pair = Pair::apart();
    pair.frame_bytes_max = FRAME_BYTES_MIN;
    let statement = long_statement();
    let canonical = selector(&statement).canonical();
    assert!(canonical.len() > 3 * FRAME_BYTES_MIN as usize);
    let subscription = pair.peers[1].subscribe(&statement);
    pair.peers[0].commit(&[(key("a"), insert(&[("n", 1.into())]))]);
    pair.link();
    pair.settle();
    pair.assert_same();
    pair.assert_calm();
    let told = pair.peers[0].events.iter().find(|event| {
        matches!(event, Event::RemoteSubscribed { subscription: it, .. } if *it == subscription)
    });
    let expected = Event::RemoteSubscribed {
        subscription,
        statement: canonical,
    };
    assert_eq!(told, Some(&expected));
}

/// More symbols than a frame carries are needed, and then the list of all.
#[test]
fn a_sketch_and_a_list_are_told_in_parts() {
    for changed in [20, 900, 1_700] {
        let mut pair = narrow(changed + 100);
        for number in 0..changed {
            let key = key(&format!("d{number}"));
            pair.peers[number % 2].commit(&[(key, set("n", 7))]);
        }
        pair.link();
        pair.settle();
        pair.assert_same();
        pair.assert_calm();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// All tiers: what was never compared, large documents that are asked about first, live changes, and going
    /// on from cursors.
    #[test]
    fn everything_fits_into_the_smallest_frames(
        documents in prop_oneof![0..5usize, 60..70usize, 300..600usize],
        edits in prop::collection::vec((0..2usize, 0..600usize, 0..60_000usize, any::<bool>()), 0..40),
    ) {
        let mut pair = narrow(documents);
        let mut link = None;
        for (at, (peer, number, bytes, is_moving)) in edits.iter().enumerate() {
            let name = key(&format!("d{number}"));
            let text = format!("{at}-{}", "y".repeat(*bytes));
            let operation = match pair.peers[*peer].documents().contains_key(&name) {
                true => set("text", text),
                false => insert(&[("text", text.into())]),
            };
            pair.peers[*peer].commit(&[(name, operation)]);
            match link {
                None if at >= edits.len() / 3 => link = Some(pair.link()),
                Some(up) if at % 7 == 6 => {
                    pair.cut(up);
                    link = Some(pair.link());
                }
                _ => {}
            }
            if *is_moving {
                pair.step();
            }
        }
        if link.is_none() {
            pair.link();
        }
        pair.settle();
        pair.assert_calm();
        pair.assert_same();
    }
}
