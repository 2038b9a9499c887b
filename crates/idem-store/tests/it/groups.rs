//! Whoever reads the feed batch by batch never sees half of a transaction.

use std::collections::BTreeMap;

use idem_store::{Incoming, IncomingState, SimulatedDisk, Store, StoreConfig, TransactionOptions};

use crate::fixture::{Random, assert_sound, collection, object, run, run_with};

fn simulated(seed: u64) -> Store {
    Store::open(StoreConfig::simulated(SimulatedDisk::new()).entropy_seed(seed)).unwrap()
}

/// Transactions that write the same number into some documents. After the last one, two documents
/// are consistent if each shows the latest number that the other one's last transaction allows.
struct History {
    /// For each transaction its documents, by number from 1.
    transactions: Vec<Vec<u64>>,
}

impl History {
    /// Checks that some prefix-closed set of transactions explains what is seen: if a document shows
    /// transaction `t`, then so does, or shows a later one, every other document of `t` and of every
    /// transaction on that document before it.
    fn check(&self, seen: &BTreeMap<u64, u64>, what: &str) {
        for (&document, &shown) in seen {
            for (at, documents) in self.transactions.iter().enumerate() {
                let number = at as u64 + 1;
                if number > shown || !documents.contains(&document) {
                    continue;
                }
                for other in documents {
                    let other_shown = seen.get(other).copied().unwrap_or(0);
                    assert!(
                        other_shown >= number,
                        "{what}: document {document} shows {shown} and so transaction {number}, \
                         document {other} shows {other_shown}"
                    );
                }
            }
        }
    }
}

fn seen(store: &Store) -> BTreeMap<u64, u64> {
    run(store, "SELECT * FROM t")
        .items
        .iter()
        .map(|fields| {
            let int = |name: &str| u64::try_from(fields[name].as_int().unwrap()).unwrap();
            (int("_id"), int("n"))
        })
        .collect()
}

fn write(store: &Store, history: &mut History, documents: Vec<u64>) {
    history.transactions.push(documents.clone());
    let number = history.transactions.len();
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    for id in documents {
        let args = object(&format!("{{\"id\": {id}, \"n\": {number}}}"));
        let text = "INSERT INTO t DOCUMENTS ({'_id': :id, 'n': :n}) ON ID CONFLICT DO UPDATE";
        transaction.execute(text, args).unwrap();
    }
    transaction.commit().unwrap();
}

/// Takes batches of the feed, each group as a transaction of its own, and checks after each.
fn follow(
    from: &Store,
    to: &Store,
    cursor: &mut u64,
    batches: usize,
    check: &mut dyn FnMut(&Store),
) {
    for _ in 0..batches {
        let batch = from
            .changed_since(&collection("t"), *cursor, *cursor, 1)
            .unwrap();
        for group in batch.groups {
            let incoming = group.into_iter().map(|changed| Incoming {
                key: changed.key,
                group: 0,
                state: IncomingState::Whole(changed.document),
            });
            let report = to.apply(incoming.collect(), &[]).unwrap();
            assert!(report.is_applied());
            check(to);
        }
        *cursor = batch.up_to;
        if !batch.more {
            return;
        }
    }
}

#[test]
fn no_transaction_is_seen_by_half() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let (origin, follower, last) = (simulated(1), simulated(2), simulated(3));
        let mut history = History {
            transactions: Vec::new(),
        };
        let (mut first_cursor, mut second_cursor) = (0, 0);
        let ids = 2 + random.below(8);
        for _ in 0..40 {
            if random.is(70) {
                let count = 1 + random.below(4);
                let mut documents: Vec<u64> = (0..count).map(|_| random.below(ids)).collect();
                documents.sort_unstable();
                documents.dedup();
                write(&origin, &mut history, documents);
            } else {
                let batches = usize::try_from(random.below(4)).unwrap();
                follow(&origin, &follower, &mut first_cursor, batches, &mut |to| {
                    history.check(&seen(to), "follower");
                });
                // A third store reads the follower's feed, whose commits are the groups it got.
                let batches = usize::try_from(random.below(4)).unwrap();
                follow(&follower, &last, &mut second_cursor, batches, &mut |to| {
                    history.check(&seen(to), "last");
                });
            }
        }
        for (from, to, cursor) in [
            (&origin, &follower, &mut first_cursor),
            (&follower, &last, &mut second_cursor),
        ] {
            follow(from, to, cursor, usize::MAX, &mut |to| {
                history.check(&seen(to), "at the end");
            });
        }
        for store in [&origin, &follower, &last] {
            assert_eq!(seen(store), seen(&origin));
            assert_sound(store);
        }
        // One that starts from nothing.
        let fresh = simulated(4);
        follow(&origin, &fresh, &mut 0, usize::MAX, &mut |to| {
            history.check(&seen(to), "fresh");
        });
        assert_eq!(fresh.digest().unwrap(), origin.digest().unwrap());
    }
}

#[test]
fn groups_of_one_call_stay_apart_in_the_feed() {
    let (origin, follower) = (simulated(1), simulated(2));
    let mut history = History {
        transactions: Vec::new(),
    };
    for documents in [vec![1, 2], vec![3], vec![4, 5], vec![6]] {
        write(&origin, &mut history, documents);
    }
    crate::fixture::send(&origin, &follower, "t", 0, usize::MAX);
    assert_eq!(follower.last_commit(), 1);
    let sizes = |store: &Store, after| -> Vec<usize> {
        let batch = store.changed_since(&collection("t"), after, after, usize::MAX);
        let mut sizes: Vec<usize> = batch.unwrap().groups.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(sizes(&follower, 0), [1, 1, 2, 2]);
    // A member that changed alone still brings the others to who lacks them, and to nobody else.
    run(&follower, "UPDATE t SET n = 9 WHERE _id = 4");
    assert_eq!(sizes(&follower, 0), [1, 1, 2, 2]);
    assert_eq!(sizes(&follower, 1), [1]);
    assert_sound(&follower);
}

#[test]
fn a_group_reaches_over_collections() {
    let store = simulated(1);
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    for text in [
        "INSERT INTO orders DOCUMENTS ({'_id': 1})",
        "INSERT INTO stock DOCUMENTS ({'_id': 1})",
    ] {
        transaction.execute(text, object("{}")).unwrap();
    }
    transaction.commit().unwrap();
    run(&store, "INSERT INTO stock DOCUMENTS ({'_id': 2})");
    let batch = store
        .changed_since(&collection("orders"), 0, 0, usize::MAX)
        .unwrap();
    let keys: Vec<String> = batch.groups[0]
        .iter()
        .map(|changed| changed.key.to_string())
        .collect();
    assert_eq!((batch.groups.len(), keys.len()), (1, 2), "{keys:?}");
    assert_eq!((batch.up_to, batch.more), (2, false));
}

#[test]
fn what_is_kept_of_groups_does_not_grow_with_transactions() {
    let disk = SimulatedDisk::new();
    let store = Store::open(StoreConfig::simulated(disk.clone()).entropy_seed(1)).unwrap();
    let mut rows = Vec::new();
    for round in 0..3 {
        for number in 0..100 {
            for ids in [[1, 2], [2, 3], [1, 3]] {
                let text = "INSERT INTO t DOCUMENTS ({'_id': :a, 'n': :n}), ({'_id': :b, 'n': :n}) \
                            ON ID CONFLICT DO UPDATE";
                let [a, b] = ids;
                let n = round * 100 + number;
                run_with(
                    &store,
                    text,
                    &format!("{{\"a\": {a}, \"b\": {b}, \"n\": {n}}}"),
                );
            }
        }
        store.checkpoint().unwrap();
        let mut count = 0;
        idem_kv::Engine::snapshot(disk.engine())
            .unwrap()
            .scan(idem_kv::Table(3), &[], None, false, &mut |_, _| {
                count += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        rows.push(count);
    }
    assert!(rows[2] <= rows[0] && rows[0] < 20, "{rows:?}");
    assert_sound(&store);
}

#[test]
fn an_eviction_leaves_its_group_in_order() {
    let store = simulated(1);
    let mut history = History {
        transactions: Vec::new(),
    };
    write(&store, &mut history, vec![1, 2, 3]);
    write(&store, &mut history, vec![3, 4]);
    run(&store, "EVICT FROM t WHERE _id = 2");
    assert_sound(&store);
    let batch = store
        .changed_since(&collection("t"), 0, 0, usize::MAX)
        .unwrap();
    assert_eq!(batch.groups.len(), 1);
    assert_eq!(batch.groups[0].len(), 3);
    run(&store, "EVICT FROM t");
    assert_sound(&store);
    assert!(
        store
            .changed_since(&collection("t"), 0, 0, usize::MAX)
            .unwrap()
            .groups
            .is_empty()
    );
}

#[test]
fn what_overtakes_brings_along_what_is_not_held_yet() {
    let store = simulated(1);
    let mut history = History {
        transactions: Vec::new(),
    };
    for documents in [vec![1, 2], vec![3], vec![4], vec![2, 5]] {
        write(&store, &mut history, documents);
    }
    let ids = |after, held_to| -> Vec<String> {
        let batch = store
            .changed_since(&collection("t"), after, held_to, usize::MAX)
            .unwrap();
        let mut ids: Vec<String> = (batch.groups.iter().flatten())
            .map(|changed| changed.key.id.to_string())
            .collect();
        ids.sort();
        ids
    };
    // Document 1 shared the first transaction with document 2, which the receiver may not hold.
    assert_eq!(ids(3, 0), ["1", "2", "5"]);
    assert_eq!(ids(3, 1), ["2", "5"]);
    assert_eq!(ids(3, 3), ["2", "5"]);
    assert_eq!(ids(2, 0), ["1", "2", "4", "5"]);
}

#[test]
fn documents_that_transactions_join_without_end_still_travel() {
    let store = simulated(1);
    let text = "INSERT INTO t DOCUMENTS ({'_id': :a, 'n': :a}), ({'_id': :b, 'n': :a}) \
                ON ID CONFLICT DO UPDATE";
    // A chain in which every document shares one transaction with the one before and the one after.
    let count = 6_000;
    for number in 0..count {
        let args = format!("{{\"a\": {number}, \"b\": {}}}", number + 1);
        run_with(&store, text, &args);
    }
    let fresh = simulated(2);
    let mut cursor = 0;
    let mut sent = 0;
    loop {
        let batch = store
            .changed_since(&collection("t"), cursor, cursor, 100_000)
            .unwrap();
        let incoming: Vec<Incoming> = (batch.groups.into_iter().flatten())
            .map(|changed| Incoming {
                key: changed.key,
                group: 0,
                state: IncomingState::Whole(changed.document),
            })
            .collect();
        sent += incoming.len();
        assert!(fresh.apply(incoming, &[]).unwrap().is_applied());
        cursor = batch.up_to;
        if !batch.more {
            break;
        }
    }
    assert!(
        sent <= 2 * (count + 1),
        "each document travels once or twice: {sent}"
    );
    assert_eq!(fresh.digest().unwrap(), store.digest().unwrap());
}
