//! Stores that exchange everything become equal, whatever the order.

use idem_model::{
    ActorId, DocumentKey, Dot, InsertConflict, Object, PeerId, VersionVector, limits,
};
use idem_store::{
    ApplyOutcome, Cursor, CursorUpdate, Incoming, IncomingState, SimulatedDisk, Store, StoreConfig,
};

use crate::fixture::{
    Random, TestClock, assert_sound, collection, documents, exchange, id, memory, object, run,
    run_with, send, to_json,
};

fn edit(store: &Store, random: &mut Random) {
    let id = random.below(6);
    let name = ["cars", "people"][usize::try_from(random.below(2)).unwrap()];
    let field = ["a", "b", "m.x", "m.y"][usize::try_from(random.below(4)).unwrap()];
    let value = random.below(100);
    let text = match random.below(8) {
        0 | 1 => format!(
            "INSERT INTO {name} DOCUMENTS ({{'_id': {id}, 'a': {value}, 'm': {{'x': 1}}}}) \
             ON ID CONFLICT DO UPDATE"
        ),
        2..=4 => format!("UPDATE {name} SET {field} = {value} WHERE _id = {id}"),
        5 => format!("UPDATE {name} UNSET {field} WHERE _id = {id}"),
        6 => format!("UPDATE {name} APPLY n PN_INCREMENT BY {value} WHERE _id = {id}"),
        _ => format!("DELETE FROM {name} WHERE _id = {id}"),
    };
    run(store, &text);
}

#[test]
fn random_edits_on_three_stores_converge() {
    for seed in 0..30 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let clock = TestClock::at(1_000_000);
        let stores: Vec<Store> = (0..3)
            .map(|number| {
                let config = StoreConfig::simulated(SimulatedDisk::new())
                    .clock(clock.clock())
                    .entropy_seed(seed * 10 + number);
                Store::open(config).unwrap()
            })
            .collect();
        run(&stores[0], "CREATE INDEX by_a ON cars (a)");
        for _ in 0..60 {
            clock.set(1_000_000 + random.below(500));
            let one = usize::try_from(random.below(3)).unwrap();
            let other = usize::try_from(random.below(3)).unwrap();
            if random.is(75) || one == other {
                edit(&stores[one], &mut random);
            } else {
                let name = ["cars", "people"][usize::try_from(random.below(2)).unwrap()];
                let bytes = usize::try_from(1 + random.below(500)).unwrap();
                send(&stores[one], &stores[other], name, 0, bytes);
            }
        }
        for (a, b) in [(0, 1), (1, 2), (0, 1), (0, 2)] {
            exchange(&stores[a], &stores[b], &["cars", "people"]);
        }
        let digests: Vec<_> = stores.iter().map(|store| store.digest().unwrap()).collect();
        assert!(digests.iter().all(|digest| *digest == digests[0]));
        assert_eq!(documents(&stores[0], "cars"), documents(&stores[2], "cars"));
        assert_eq!(exchange(&stores[0], &stores[2], &["cars", "people"]), 0);
        stores.iter().for_each(assert_sound);
    }
}

#[test]
fn a_delta_applies_onto_what_it_needs_and_else_names_the_gap() {
    let (a, b, c) = (memory(), memory(), memory());
    let key = DocumentKey {
        collection: collection("t"),
        id: id("x"),
    };
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'v': 1})");
    send(&a, &b, "t", 0, usize::MAX);
    let since = b.document_version(&key).unwrap();
    run(&a, "UPDATE t SET w = 2 WHERE _id = 'x'");
    let delta = a.document_state(&key).unwrap().unwrap().delta(&since);
    let incoming = || {
        vec![Incoming {
            key: key.clone(),
            group: 0,
            state: IncomingState::Delta(delta.to_bytes()),
        }]
    };
    let peer = PeerId([7; 32]);
    let cursor = Cursor {
        actor: a.actor(),
        commit: 2,
    };
    let cursors = [CursorUpdate {
        peer,
        subscription: b"all".to_vec(),
        cursor: Some(cursor),
    }];
    let report = c.apply(incoming(), &cursors).unwrap();
    assert_eq!(report.outcomes, [ApplyOutcome::Gap(VersionVector::new())]);
    assert_eq!(c.cursor(peer, b"all").unwrap(), None, "no data, no cursor");
    assert_eq!(c.last_commit(), 0);

    let report = b.apply(incoming(), &cursors).unwrap();
    assert_eq!(report.outcomes, [ApplyOutcome::Changed]);
    assert_eq!(b.cursor(peer, b"all").unwrap(), Some(cursor));
    assert_eq!(b.cursor(peer, b"other").unwrap(), None);
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
    let report = b.apply(incoming(), &[]).unwrap();
    assert_eq!(report.outcomes, [ApplyOutcome::Unchanged]);
    assert_eq!(report.commit, 2);
    assert_eq!(b.last_commit(), 2, "nothing changed, nothing to send on");
}

#[test]
fn a_cursor_alone_moves_no_feed() {
    let store = memory();
    let update = |cursor| CursorUpdate {
        peer: PeerId([1; 32]),
        subscription: vec![9; 8],
        cursor,
    };
    let cursor = Cursor {
        actor: ActorId([5; 16]),
        commit: 77,
    };
    store.apply(Vec::new(), &[update(Some(cursor))]).unwrap();
    assert_eq!(store.last_commit(), 0);
    assert_eq!(
        store.cursor(PeerId([1; 32]), &[9; 8]).unwrap(),
        Some(cursor)
    );
    store.apply(Vec::new(), &[update(None)]).unwrap();
    assert_eq!(store.cursor(PeerId([1; 32]), &[9; 8]).unwrap(), None);
}

#[test]
fn one_bad_document_holds_back_the_whole_call() {
    let (a, b) = (memory(), memory());
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'good'})");
    let good = DocumentKey {
        collection: collection("t"),
        id: id("good"),
    };
    let bytes = a.document(&good).unwrap().unwrap();
    let incoming = |key: &str, bytes: Vec<u8>| Incoming {
        key: DocumentKey {
            collection: collection("t"),
            id: id(key),
        },
        group: 0,
        state: IncomingState::Whole(bytes),
    };
    let report = b
        .apply(
            vec![incoming("good", bytes), incoming("bad", vec![0xee; 20])],
            &[],
        )
        .unwrap();
    assert!(!report.is_applied());
    assert_eq!(report.outcomes[0], ApplyOutcome::Changed);
    assert!(matches!(report.outcomes[1], ApplyOutcome::Refused { .. }));
    assert!(documents(&b, "t").is_empty());
    assert_eq!(b.last_commit(), 0);
}

#[test]
fn a_clock_far_ahead_is_not_merged_and_one_ahead_is_not_followed() {
    let here = TestClock::at(1_000_000);
    let there = TestClock::at(1_000_000);
    let open = |clock: &TestClock| Store::open(StoreConfig::memory().clock(clock.clock())).unwrap();
    let (a, b) = (open(&there), open(&here));
    let check = |ahead: u64, is_merged: bool, is_followed: bool| {
        there.set(1_000_000 + ahead);
        run_with(
            &a,
            "INSERT INTO t DOCUMENTS ({'_id': :id})",
            &format!("{{\"id\": \"{ahead}\"}}"),
        );
        let key = DocumentKey {
            collection: collection("t"),
            id: id(&ahead.to_string()),
        };
        let report = b
            .apply(
                vec![Incoming {
                    state: IncomingState::Whole(a.document(&key).unwrap().unwrap()),
                    key,
                    group: 0,
                }],
                &[],
            )
            .unwrap();
        assert_eq!(report.is_applied(), is_merged, "{ahead}: {report:?}");
        let time = b.timestamp().unix_ms();
        assert_eq!(time == 1_000_000 + ahead, is_followed, "{ahead}: {time}");
    };
    check(limits::CLOCK_SKEW_FOLLOW_MS - 1, true, true);
    check(limits::CLOCK_SKEW_HOLD_MS - 1, true, false);
    check(limits::CLOCK_SKEW_HOLD_MS, false, false);
    assert_eq!(documents(&b, "t").len(), 2);
}

#[test]
fn an_evicted_document_comes_back_from_a_peer() {
    let (a, b) = (memory(), memory());
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'v': 1})");
    run(&b, "CREATE INDEX by_v ON t (v)");
    send(&a, &b, "t", 0, usize::MAX);
    run(&b, "EVICT FROM t WHERE v = 1");
    assert!(documents(&b, "t").is_empty());
    let batch = b.changed_since(&collection("t"), 0, 0, usize::MAX).unwrap();
    assert!(batch.groups.is_empty(), "an eviction does not travel");
    assert_sound(&b);
    send(&a, &b, "t", 0, usize::MAX);
    assert_eq!(documents(&b, "t").len(), 1);
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
    assert_sound(&b);
}

#[test]
fn a_deletion_travels_and_stays() {
    let (a, b) = (memory(), memory());
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'v': 1})");
    let cursor = send(&a, &b, "t", 0, usize::MAX);
    run(&b, "UPDATE t SET v = 2 WHERE _id = 'x'");
    run(&a, "DELETE FROM t WHERE _id = 'x'");
    send(&a, &b, "t", cursor, usize::MAX);
    send(&b, &a, "t", 0, usize::MAX);
    for store in [&a, &b] {
        assert!(documents(store, "t").is_empty());
        assert_eq!(store.statistics().unwrap().documents, 0);
        assert_sound(store);
    }
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
}

#[test]
fn every_commit_has_one_dot_without_gaps() {
    let store = memory();
    for number in 1..=5u64 {
        run(
            &store,
            &format!("INSERT INTO t DOCUMENTS ({{'_id': '{number}'}})"),
        );
        run(&store, "DELETE FROM t WHERE _id = 'nobody'");
        run(&store, "EVICT FROM t WHERE _id = '1'");
        let key = DocumentKey {
            collection: collection("t"),
            id: id(&number.to_string()),
        };
        if number > 1 {
            let expected = VersionVector::from_iter([Dot {
                actor: store.actor(),
                n: number,
            }]);
            assert_eq!(store.document_version(&key).unwrap(), expected);
        }
    }
}

#[test]
fn importing_equals_inserting() {
    let (a, b) = (memory(), memory());
    let make = |number: usize| {
        if number.is_multiple_of(2) {
            object(&format!("{{\"_id\": {number}, \"v\": {number}}}"))
        } else {
            object(&format!("{{\"v\": {number}}}"))
        }
    };
    let list: Vec<Object> = (0..100).map(make).collect();
    let report = a
        .insert_many(&collection("t"), list.clone(), InsertConflict::Fail)
        .unwrap();
    assert_eq!(
        (report.changed, report.unchanged, report.commit_id),
        (100, 0, Some(1))
    );
    let again = a.insert_many(&collection("t"), vec![make(0)], InsertConflict::Fail);
    again.unwrap_err();
    let again = a
        .insert_many(&collection("t"), vec![make(0)], InsertConflict::DoNothing)
        .unwrap();
    assert_eq!(
        (again.changed, again.unchanged, again.commit_id),
        (0, 1, None)
    );
    for fields in list {
        let args = Object::from([("d".to_owned(), idem_model::Value::Object(fields))]);
        b.execute("INSERT INTO t DOCUMENTS (:d)", args).unwrap();
    }
    let values = |store: &Store| {
        let mut values: Vec<i64> = documents(store, "t")
            .values()
            .map(|fields| fields["v"].as_int().unwrap())
            .collect();
        values.sort_unstable();
        values
    };
    assert_eq!(values(&a), values(&b));
    let nothing = a
        .insert_many(&collection("t"), Vec::new(), InsertConflict::Fail)
        .unwrap();
    assert_eq!(nothing.commit_id, None);
}

#[test]
fn a_clock_that_was_wrong_here_keeps_no_changes_of_others_out() {
    let here = TestClock::at(1_000_000 + 2 * limits::CLOCK_SKEW_HOLD_MS);
    let b = Store::open(StoreConfig::memory().clock(here.clock())).unwrap();
    let a = Store::open(StoreConfig::memory().clock(TestClock::at(1_000_000).clock())).unwrap();
    run(&b, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'v': 1})");
    here.set(1_000_000);
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'w': 2})");
    send(&a, &b, "t", 0, usize::MAX);
    let held = documents(&b, "t").remove("\"x\"").unwrap();
    assert_eq!(to_json(held), r#"{"_id":"x","v":1,"w":2}"#);
}

#[test]
fn commits_of_ours_that_were_lost_here_are_not_numbered_again() {
    let disk = SimulatedDisk::new();
    let open = |disk: &SimulatedDisk, seed| {
        Store::open(StoreConfig::simulated(disk.clone()).entropy_seed(seed)).unwrap()
    };
    let (a, b) = (open(&disk, 1), memory());
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'v': 1})");
    let actor = a.actor();
    let key = DocumentKey {
        collection: collection("t"),
        id: id("x"),
    };
    let mut state = a.document_state(&key).unwrap().unwrap();
    // As after the store was put back in place to the state before this commit.
    let lost = idem_model::Stamp {
        dot: Dot { actor, n: 7 },
        time: idem_model::Timestamp::new(2_000_000, 0),
    };
    state.apply(&idem_model::DocumentOp::Delete, lost).unwrap();
    let report = a
        .apply(
            vec![Incoming {
                key: key.clone(),
                group: 0,
                state: IncomingState::Whole(state.to_bytes()),
            }],
            &[],
        )
        .unwrap();
    assert!(report.is_applied());
    assert_ne!(a.actor(), actor);
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'v': 2})");
    let expected = VersionVector::from_iter([
        Dot { actor, n: 7 },
        Dot {
            actor: a.actor(),
            n: 1,
        },
    ]);
    assert_eq!(a.document_version(&key).unwrap(), expected);
    exchange(&a, &b, &["t"]);
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
    let renewed = a.actor();
    a.close().unwrap();
    assert_eq!(open(&disk, 2).actor(), renewed);
}

#[test]
fn what_is_written_after_an_eviction_removes_nothing_elsewhere() {
    for is_older_copy_first in [false, true] {
        let (a, b, c) = (memory(), memory(), memory());
        run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'v': 1})");
        send(&a, &c, "t", 0, usize::MAX);
        run(&a, "UPDATE t SET w = 2 WHERE _id = 'x'");
        send(&a, &b, "t", 0, usize::MAX);
        run(&b, "UPDATE t SET b = 3 WHERE _id = 'x'");
        run(&a, "EVICT FROM t WHERE _id = 'x'");
        if is_older_copy_first {
            send(&c, &a, "t", 0, usize::MAX);
            run(&a, "UPDATE t SET a = 4 WHERE _id = 'x'");
        } else {
            run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'a': 4})");
        }
        exchange(&a, &b, &["t"]);
        for store in [&a, &b] {
            let held = documents(store, "t").remove("\"x\"").unwrap();
            assert_eq!(to_json(held), r#"{"_id":"x","a":4,"b":3,"v":1,"w":2}"#);
            assert_sound(store);
        }
        assert_eq!(a.digest().unwrap(), b.digest().unwrap());
    }
}

#[test]
fn an_evicted_document_that_comes_back_whole_changes_no_actor() {
    let (a, b) = (memory(), memory());
    let actor = a.actor();
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'v': 1})");
    exchange(&a, &b, &["t"]);
    run(&a, "EVICT FROM t");
    exchange(&a, &b, &["t"]);
    run(&a, "UPDATE t SET v = 2 WHERE _id = 'x'");
    assert_eq!(a.actor(), actor);
}
