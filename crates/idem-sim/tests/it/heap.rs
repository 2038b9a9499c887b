//! What peers hold in memory, to the byte.

use std::time::Duration;

use idem_model::{
    ActorId, CollectionName, DocId, DocumentKey, DocumentOp, InsertConflict, Object, Value, limits,
};
use idem_sim::{Pair, Scenario, run_with};
use idem_sync::{MemoryReplica, Session};

use crate::memory::{freed_by, peak_of};

/// Documents of some 300 bytes, with numbers that no compression makes smaller.
fn insert(pair: &mut Pair, side: usize, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let text = |turn| Value::from(format!("{:016x}", mixed.rotate_left(turn)).repeat(5));
        let fields = ["name", "note", "place"].into_iter().zip([0, 9, 31]);
        let fields: Object = fields
            .map(|(name, turn)| (name.to_owned(), text(turn)))
            .collect();
        let key = DocumentKey {
            collection: CollectionName::new("c").expect("a valid name"),
            id: DocId::from(format!("{mixed:016x}").as_str()),
        };
        let insert = DocumentOp::Insert {
            fields,
            kinds: Vec::new(),
            conflict: InsertConflict::Fail,
        };
        pair.commit(side, &[(key, insert)])
            .expect("a valid transaction");
    }
}

/// A pair that is linked and holds so many documents, and after them so many live changes came.
fn linked(documents: u64, changes: u64) -> Pair {
    let [a, b] = [1, 2].map(|n| MemoryReplica::new(ActorId([n; 16]), 1_000_000));
    let mut pair = Pair::new(a, b);
    insert(&mut pair, 0, 0..documents);
    for side in 0..2 {
        pair.subscribe(side, "SELECT * FROM c").expect("few");
    }
    pair.connect();
    pair.run_to_rest();
    for number in documents..documents + changes {
        insert(&mut pair, usize::from(number % 2 == 1), number..number + 1);
        pair.run_to_rest();
    }
    assert!(pair.holds_the_same());
    pair
}

/// Bytes on the heap that a session of the pair holds beyond one without a link: what goes when both
/// processes end. What is stored stays.
fn session_bytes(mut pair: Pair) -> usize {
    let both = freed_by(|| (0..2).for_each(|side| pair.restart(side)));
    both / 2
}

/// A link that carried little takes little, and one at rest no more than the windows of what it
/// carried, which both sides need to understand what comes next.
#[test]
fn a_session_holds_little_when_little_happens() {
    // Documents that one side had before, live changes, bytes after them, bytes at rest.
    let ceilings = [
        (0, 0, 7_000, 5_500),
        (1, 0, 11_000, 7_000),
        (0, 4, 15_500, 8_700),
        (10, 10, 52_000, 20_000),
    ];
    for (documents, changes, busy_max, rested_max) in ceilings {
        let name = format!("{documents} documents, {changes} changes");
        let busy = session_bytes(linked(documents, changes));
        assert!(busy <= busy_max, "{name}: {busy} bytes");
        let mut pair = linked(documents, changes);
        let traffic = pair.pass(Duration::from_millis(limits::LANE_REST_MS));
        assert_eq!(traffic.frames(), 0, "{name}: rest needs no frame");
        let rested = session_bytes(pair);
        assert!(rested <= rested_max, "{name}: {rested} bytes at rest");
        println!("{name}: {busy} bytes, at rest {rested}");
    }
    let own = size_of::<Session>();
    println!("a session itself: {own} bytes");
    assert!(own <= 4_000, "{own} bytes");
}

/// Rest is not forgetting: the next change is as small as without it.
#[test]
fn a_change_after_a_rest_costs_no_more_than_before() {
    let change = |rest: Duration| {
        let mut pair = linked(0, 40);
        pair.pass(rest);
        insert(&mut pair, 0, 100..101);
        let bytes = pair.run_to_rest().bytes();
        assert!(pair.holds_the_same());
        bytes
    };
    let rested = change(Duration::from_millis(limits::LANE_REST_MS));
    let at_once = change(Duration::ZERO);
    println!("a change: {at_once} bytes, {rested} after a rest");
    assert!(rested <= at_once, "{rested} bytes after {at_once}");
}

/// The largest part are the windows of compression, of each session of a peer.
#[test]
fn a_simulated_peer_holds_what_its_links_carry() {
    const PEERS: usize = 12;
    let scenario = Scenario::ready("lan").expect("it comes along");
    let options = scenario.options(Some(PEERS), 3);
    let (report, peak) = peak_of(|| run_with(&options, None));
    assert!(report.is_ok(), "the run passes");
    println!("{} bytes for each simulated peer", peak / PEERS);
    assert!(peak / PEERS <= 640 * 1024, "{}", peak / PEERS);
}
