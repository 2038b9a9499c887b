//! When a deletion may be forgotten, and that the store says so.

use std::time::{Duration, Instant};

use idem_log::Fault;
use idem_model::{DeletedDay, DocumentKey, PeerId, Timestamp};
use idem_store::{
    Cancellation, EvictReason, Incoming, IncomingState, SimulatedDisk, Store, StoreConfig, Synced,
};

use crate::fixture::{Random, TestClock, assert_sound, collection, documents, id, rows, run, send};

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
const START_MS: u64 = 20_000 * DAY_MS;

fn open(disk: &SimulatedDisk, clock: &TestClock) -> Store {
    let config = StoreConfig::simulated(disk.clone()).clock(clock.clock());
    Store::open(config).unwrap()
}

fn fresh() -> (Store, TestClock) {
    let clock = TestClock::at(START_MS);
    (open(&SimulatedDisk::new(), &clock), clock)
}

fn key(number: u64) -> DocumentKey {
    DocumentKey {
        collection: collection("t"),
        id: idem_model::DocId::new(idem_model::Value::from(i64::try_from(number).unwrap()))
            .unwrap(),
    }
}

fn insert(store: &Store, number: u64) {
    run(
        store,
        &format!("INSERT INTO t DOCUMENTS ({{'_id': {number}}})"),
    );
}

fn delete(store: &Store, number: u64) {
    run(store, &format!("DELETE FROM t WHERE _id = {number}"));
}

/// Numbers of the documents up to `count` that the store knows anything of.
fn known(store: &Store, count: u64) -> Vec<u64> {
    let is_known = |number: &u64| store.document(&key(*number)).unwrap().is_some();
    (0..count).filter(is_known).collect()
}

/// An app that is never open for long.
#[test]
fn a_store_forgets_as_soon_as_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::at(START_MS);
    let open = || {
        let config = StoreConfig::directory(directory.path()).clock(clock.clock());
        Store::open(config).unwrap()
    };
    let store = open();
    insert(&store, 0);
    delete(&store, 0);
    store.close().unwrap();
    clock.set(START_MS + 8 * DAY_MS);
    let store = open();
    let start = Instant::now();
    while !known(&store, 1).is_empty() {
        // Less than the minute that other work of the kind waits.
        assert!(
            start.elapsed() < Duration::from_secs(45),
            "it is still known"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_tombstone_goes_when_its_life_is_over_and_the_floor_rises() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::at(START_MS));
    let store = open(&disk, &clock);
    for number in 0..3 {
        insert(&store, number);
    }
    clock.set(START_MS + DAY_MS);
    delete(&store, 0);
    let deleted_at = store.timestamp();
    clock.set(START_MS + 2 * DAY_MS);
    delete(&store, 1);
    clock.set(START_MS + 8 * DAY_MS - 1);
    store.forget_tombstones().unwrap();
    assert_eq!(known(&store, 3), [0, 1, 2]);
    assert_eq!(store.gc_floor(), Timestamp::ZERO);

    clock.set(START_MS + 8 * DAY_MS);
    // It is another round, which may be wished for at any time.
    store.upkeep().unwrap();
    assert_eq!(known(&store, 3), [0, 1, 2]);
    store.forget_tombstones().unwrap();
    assert_eq!(known(&store, 3), [1, 2]);
    assert_eq!(store.gc_floor(), deleted_at);
    let info = rows(
        &store,
        "SELECT key, `value` FROM system:system_info WHERE key LIKE 'tombstones%' ORDER BY key",
    );
    let expected = [
        r#"{"key":"tombstones","value":1}"#,
        r#"{"key":"tombstones_removed","value":1}"#,
    ];
    assert_eq!(info, expected);
    assert_sound(&store);
    drop(store);
    disk.crash(4);
    let store = open(&disk, &clock);
    assert_eq!(known(&store, 3), [1, 2]);
    assert_eq!(store.gc_floor(), deleted_at);
    // The id is free, but not under the actor that wrote to it before.
    let actor = store.actor();
    insert(&store, 0);
    assert_ne!(store.actor(), actor);
    assert_eq!(documents(&store, "t").len(), 2);
    assert_sound(&store);
}

#[test]
fn only_who_wrote_to_what_was_forgotten_takes_a_new_actor() {
    let (store, clock) = fresh();
    let origin = open(&SimulatedDisk::new(), &clock);
    for number in 0..4 {
        insert(&origin, number);
        delete(&origin, number);
        insert(&store, 10 + number);
    }
    send(&origin, &store, "t", 0, usize::MAX);
    for number in 10..13 {
        delete(&store, number);
    }
    clock.set(START_MS + 8 * DAY_MS);
    store.forget_tombstones().unwrap();
    assert_eq!(known(&store, 14), [13]);
    assert_sound(&store);
    let actor = store.actor();
    // It never wrote to these.
    insert(&store, 0);
    insert(&store, 20);
    assert_eq!(store.actor(), actor);
    // It did to this one; after that, all that it ever forgot is as if it were another's.
    insert(&store, 10);
    let next = store.actor();
    assert_ne!(next, actor);
    insert(&store, 11);
    assert_eq!(store.actor(), next);
    assert_sound(&store);
    // What is noted of the actor before goes with the next round, and nothing of it is missing.
    store.upkeep().unwrap();
    assert_sound(&store);
    insert(&store, 12);
    assert_eq!(store.actor(), next);
    assert_sound(&store);
}

#[test]
fn the_parameter_sets_the_life_of_later_tombstones() {
    let (store, clock) = fresh();
    insert(&store, 0);
    insert(&store, 1);
    delete(&store, 0);
    run(&store, "ALTER SYSTEM SET tombstone_ttl_hours = 1");
    delete(&store, 1);
    clock.set(START_MS + HOUR_MS);
    store.forget_tombstones().unwrap();
    assert_eq!(known(&store, 2), [0]);
}

#[test]
fn many_go_in_one_round() {
    let (store, clock) = fresh();
    for number in 0..2500 {
        insert(&store, number);
    }
    run(&store, "DELETE FROM t");
    clock.set(START_MS + 8 * DAY_MS);
    let before = store.last_commit();
    store.forget_tombstones().unwrap();
    assert_eq!(known(&store, 2500), Vec::<u64>::new());
    assert_eq!(store.last_commit() - before, 3, "in short transactions");
    assert_sound(&store);
}

#[test]
fn a_clock_that_jumps_ahead_costs_one_day_of_memory() {
    let (store, clock) = fresh();
    for number in 0..20 {
        clock.set(START_MS + number * 12 * HOUR_MS);
        insert(&store, number);
        delete(&store, number);
    }
    let now_ms = START_MS + 20 * 12 * HOUR_MS;
    clock.set(now_ms + 10 * 365 * DAY_MS);
    store.forget_tombstones().unwrap();
    let left: Vec<u64> = (2..20).collect();
    assert_eq!(known(&store, 20), left);
    assert!(
        store.gc_floor().unix_ms() < START_MS + DAY_MS,
        "not above what is gone"
    );
    // Set right again, it removes what is due: tombstones of the first three days.
    clock.set(now_ms);
    for _ in 0..10 {
        store.forget_tombstones().unwrap();
    }
    let left: Vec<u64> = (7..20).collect();
    assert_eq!(known(&store, 20), left);
}

#[test]
fn a_clock_that_is_behind_does_not_shorten_a_life() {
    let (store, clock) = fresh();
    insert(&store, 0);
    clock.set(START_MS - 100 * DAY_MS);
    delete(&store, 0);
    clock.set(START_MS + DAY_MS);
    store.forget_tombstones().unwrap();
    assert_eq!(known(&store, 1), [0]);
    clock.set(START_MS + 8 * DAY_MS);
    store.forget_tombstones().unwrap();
    assert_eq!(known(&store, 1), Vec::<u64>::new());
}

/// Whoever took in everything up to the floor holds nothing that was deleted and is forgotten.
#[test]
fn the_floor_tells_who_may_hold_what_was_deleted() {
    let (mut stale, mut current) = (0, 0);
    for seed in 0..40 {
        let mut random = Random(seed);
        let (source, clock) = fresh();
        // Deletions come from it, too.
        let origin = open(&SimulatedDisk::new(), &clock);
        let peers: Vec<(Store, PeerId)> = (0..3)
            .map(|number| (open(&SimulatedDisk::new(), &clock), PeerId([number; 32])))
            .collect();
        let mut now_ms = START_MS;
        for _ in 0..200 {
            now_ms += random.below(DAY_MS);
            // Sometimes it is a little behind.
            clock.set(now_ms - random.below(2) * random.below(HOUR_MS));
            let number = random.below(12);
            match random.below(10) {
                0..4 => {
                    let text = format!("INSERT INTO t DOCUMENTS ({{'_id': {number}}})");
                    run(&source, &format!("{text} ON ID CONFLICT DO NOTHING"));
                }
                4..6 => delete(&source, number),
                6 => {
                    send(&source, &origin, "t", 0, usize::MAX);
                    delete(&origin, number);
                }
                // The source hears of it after others have heard from the source.
                7 if random.is(50) => {
                    send(&origin, &source, "t", 0, usize::MAX);
                }
                7 => source.forget_tombstones().unwrap(),
                _ => {
                    let (peer, name) = &peers[usize::try_from(random.below(3)).unwrap()];
                    let last = peer.last_synced(*name, &collection("t")).unwrap();
                    send(&source, peer, "t", 0, usize::MAX);
                    // Everything came from the source, so what it does not know was deleted there.
                    let is_gone = |number: &u64| {
                        let has = |store: &Store| store.document(&key(*number)).unwrap();
                        let is_live =
                            |bytes: Vec<u8>| idem_crdt::visible_fields(&bytes).unwrap().is_some();
                        has(peer).is_some_and(is_live) && has(&source).is_none()
                    };
                    let gone: Vec<u64> = (0..12).filter(is_gone).collect();
                    if last.is_none_or(|last| last < source.gc_floor()) {
                        stale += usize::from(!gone.is_empty());
                    } else {
                        assert_eq!(gone, Vec::<u64>::new(), "seed {seed}");
                        current += 1;
                    }
                    let versions = gone.into_iter().map(|number| {
                        let version = peer.document_version(&key(number)).unwrap();
                        (key(number), version)
                    });
                    let versions: Vec<_> = versions.collect();
                    let never = Cancellation::new();
                    peer.evict(&versions, EvictReason::Deleted, &never).unwrap();
                    let synced = Synced {
                        peer: *name,
                        collection: collection("t"),
                        time: source.timestamp(),
                    };
                    peer.apply_visible(Vec::new(), &[], &[synced], &never)
                        .unwrap();
                }
            }
        }
        assert_sound(&source);
    }
    assert!(stale > 20 && current > 100, "{stale} {current}");
}

/// What a run of [`keep_notes`] did before it failed.
#[derive(Default)]
struct Done {
    synced: u64,
}

/// Deletes, evicts, removes tombstones, merges and quarantines until something fails.
fn keep_notes(
    store: &Store,
    clock: &TestClock,
    incoming: &[Incoming],
    done: &mut Done,
) -> Option<()> {
    let never = Cancellation::new();
    let execute = |text: &str| store.execute(text, Default::default()).ok();
    for round in 0..4_u64 {
        clock.set(START_MS + round * 3 * DAY_MS);
        execute(&format!("INSERT INTO t DOCUMENTS ({{'_id': {round}}})"))?;
        execute(&format!("DELETE FROM t WHERE _id = {round}"))?;
        store.forget_tombstones().ok()?;
        let synced = Synced {
            peer: PeerId([1; 32]),
            collection: collection("t"),
            time: Timestamp::new(round + 1, 0),
        };
        let part = incoming[usize::try_from(round).unwrap()].clone();
        store
            .apply_visible(vec![part], &[], &[synced], &never)
            .ok()?;
        store.wait_durable(store.last_commit()).ok()?;
        done.synced = round + 1;
        let keys = [DocumentKey {
            collection: collection("o"),
            id: id("q0"),
        }];
        match round {
            1 => store
                .quarantine(&keys, PeerId([2; 32]), &never)
                .ok()
                .map(drop)?,
            3 => store.leave_quarantine(&keys, &never).ok().map(drop)?,
            _ => {}
        }
    }
    Some(())
}

#[test]
fn a_power_loss_leaves_no_note_without_its_documents() {
    let clock = TestClock::at(START_MS);
    let peer = open(&SimulatedDisk::new(), &clock);
    for number in 0..4 {
        run(
            &peer,
            &format!("INSERT INTO o DOCUMENTS ({{'_id': 'q{number}'}})"),
        );
    }
    let batch = peer
        .changed_since(&collection("o"), 0, 0, usize::MAX)
        .unwrap();
    let changed = batch.groups.into_iter().flatten();
    let incoming: Vec<Incoming> = changed
        .map(|changed| Incoming {
            key: changed.key,
            group: 0,
            state: IncomingState::Whole(changed.document),
        })
        .collect();
    let run_on = |disk: &SimulatedDisk| {
        let clock = TestClock::at(START_MS);
        let mut done = Done::default();
        if let Ok(store) = Store::open(StoreConfig::simulated(disk.clone()).clock(clock.clock())) {
            keep_notes(&store, &clock, &incoming, &mut done);
        }
        done
    };
    let disk = SimulatedDisk::new();
    assert_eq!(run_on(&disk).synced, 4);
    let total = disk.log().writes() + disk.log().syncs();
    for at in 1..=total {
        for fault in [Fault::Write(at), Fault::Sync(at)] {
            let disk = SimulatedDisk::new();
            disk.log().inject(fault);
            let done = run_on(&disk);
            disk.log().heal();
            disk.crash(at);
            let store = open(&disk, &TestClock::at(START_MS + 20 * DAY_MS));
            let what = format!("{fault:?}");
            // The time and the document that came with it.
            let time = store
                .last_synced(PeerId([1; 32]), &collection("t"))
                .unwrap();
            let synced = time.map_or(0, Timestamp::unix_ms);
            assert!(synced >= done.synced, "{what}: {synced}");
            assert_eq!(documents(&store, "o").len() as u64, synced, "{what}");
            // A tombstone that is gone is below the floor.
            let inserted = run(
                &store,
                "SELECT * FROM system:system_info WHERE key = 'gc_floor'",
            );
            let floor = inserted.items[0]["value"].as_int().unwrap();
            let removed = run(
                &store,
                "SELECT * FROM system:system_info WHERE key = 'tombstones_removed'",
            );
            let removed = removed.items[0]["value"].as_int().unwrap();
            assert_eq!(floor > 0, removed > 0, "{what}");
            let expected_floor = match removed {
                0 => 0,
                count => START_MS + (u64::try_from(count).unwrap() - 1) * 3 * DAY_MS,
            };
            assert_eq!(u64::try_from(floor).unwrap(), expected_floor, "{what}");
            // It is told of as one of its day.
            let days = store.deleted_days(&collection("t")).unwrap();
            assert_eq!(i64::try_from(days.len()).unwrap(), removed, "{what}");
            // It checks quarantine against the rows of the documents.
            assert_sound(&store);
        }
    }
}

fn day(day: u32, heard: u64) -> DeletedDay {
    let kept = 0;
    DeletedDay { day, heard, kept }
}

/// Peers that have the same tombstones hear nothing new of each other, whichever of them are gone where.
#[test]
fn what_was_heard_of_outlives_the_tombstones_and_the_process() {
    let never = Cancellation::new();
    let clock = TestClock::at(START_MS);
    let disks = [SimulatedDisk::new(), SimulatedDisk::new()];
    let [source, peer] = disks.each_ref().map(|disk| open(disk, &clock));
    // Two on each day.
    for number in 0..6 {
        insert(&source, number);
        clock.set(START_MS + number / 2 * DAY_MS);
        delete(&source, number);
    }
    send(&source, &peer, "t", 0, usize::MAX);
    let (name, days) = (collection("t"), |store: &Store| {
        store.deleted_days(&collection("t")).unwrap()
    });
    assert_eq!(days(&source), []);
    clock.set(START_MS + 8 * DAY_MS);
    source.forget_tombstones().unwrap();
    let told = days(&source);
    assert_eq!(told.len(), 1);
    assert_eq!(known(&source, 6), [2, 3, 4, 5]);
    let deleted = source.gone(&name).unwrap().unwrap().deleted;
    let floor = peer.gc_floor();
    peer.learn_gone(&name, &Default::default(), &told, &never)
        .unwrap();
    assert_eq!(peer.gc_floor(), floor, "it has heard of them");
    // One that never met them is told once, and says the same of them.
    let third_disk = SimulatedDisk::new();
    let third = open(&third_disk, &clock);
    third.learn_gone(&name, &deleted, &told, &never).unwrap();
    let floor = third.gc_floor();
    assert!(floor > Timestamp::ZERO && third.learned_floor() == floor);
    for store in [&source, &third] {
        assert_eq!(days(store), told);
    }
    source.close().unwrap();
    third.close().unwrap();
    let [source, third] = [&disks[0], &third_disk].map(|disk| open(disk, &clock));
    assert_eq!((days(&source), days(&third)), (told.clone(), told.clone()));
    third.learn_gone(&name, &deleted, &told, &never).unwrap();
    assert_eq!(
        (third.gc_floor(), third.learned_floor()),
        (floor, Timestamp::ZERO)
    );
    // Another sum of the same day is another set.
    let other = [day(told[0].day, told[0].heard + 1)];
    third.learn_gone(&name, &deleted, &other, &never).unwrap();
    assert!(third.gc_floor() > floor);
    assert_eq!(days(&third), [told[0], other[0]]);
    for store in [&source, &peer, &third] {
        assert_sound(store);
    }
}

/// What was learned is there after a power loss if the floor is that rose for it, and the other way round.
#[test]
fn what_was_learned_comes_with_its_floor() {
    let clock = TestClock::at(START_MS);
    let run_on = |disk: &SimulatedDisk| -> Option<()> {
        let never = Cancellation::new();
        let store = Store::open(StoreConfig::simulated(disk.clone()).clock(clock.clock())).ok()?;
        for number in 1..4 {
            let told = [day(number, 7)];
            let learned = store.learn_gone(&collection("t"), &Default::default(), &told, &never);
            learned.ok()?;
            store.wait_durable(store.last_commit()).ok()?;
        }
        Some(())
    };
    let disk = SimulatedDisk::new();
    run_on(&disk).expect("nothing fails");
    let total = disk.log().writes() + disk.log().syncs();
    let mut lost = 0;
    for at in 1..=total {
        for fault in [Fault::Write(at), Fault::Sync(at)] {
            let disk = SimulatedDisk::new();
            disk.log().inject(fault);
            run_on(&disk);
            disk.log().heal();
            disk.crash(at);
            let store = open(&disk, &clock);
            let days = store.deleted_days(&collection("t")).unwrap();
            assert_eq!(
                days.is_empty(),
                store.gc_floor() == Timestamp::ZERO,
                "{fault:?}"
            );
            assert!(
                days.iter()
                    .zip(1..)
                    .all(|(it, number)| *it == day(number, 7))
            );
            lost += usize::from(days.len() < 3);
        }
    }
    assert!(lost > 0, "some faults came in between");
}
