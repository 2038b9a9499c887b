//! Building in steps, with writers, crashes and drops in between.

use std::collections::BTreeMap;

use idem_kv::{Engine, Table};
use idem_log::Fault;
use idem_model::{Object, Value};
use idem_store::{SimulatedDisk, Store, StoreConfig, StoreError, TransactionOptions};

use super::{config, declare, fill, open, states, step_all, uses};
use crate::fixture::{Random, assert_sound, rows, run, run_with, send};

/// Keys and values.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// The entries of all indexes by the number of the index, without that number.
fn entries(disk: &SimulatedDisk, store: &Store) -> BTreeMap<u32, Entries> {
    store.checkpoint().unwrap();
    let mut entries = BTreeMap::<u32, Entries>::new();
    let snapshot = disk.engine().snapshot().unwrap();
    snapshot
        .scan(Table(2), &[], None, false, &mut |key, value| {
            let (index, rest) = key.split_first_chunk().unwrap();
            let index = u32::from_be_bytes(*index);
            let entry = (rest.to_vec(), value.to_vec());
            entries.entry(index).or_default().push(entry);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

#[test]
fn a_small_collection_is_indexed_in_its_own_transaction() {
    let disk = SimulatedDisk::new();
    let store = Store::open(StoreConfig::simulated(disk).index_inline_documents(20)).unwrap();
    fill(&store, 0..20);
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    let create = |name: &str| format!("CREATE INDEX {name} ON t (a)");
    transaction
        .execute(&create("inside"), Object::new())
        .unwrap();
    let plan = transaction
        .execute("EXPLAIN SELECT * FROM t WHERE a = 1", Object::new())
        .unwrap();
    assert!(format!("{plan:?}").contains("inside"));
    transaction.commit().unwrap();
    assert_eq!(states(&store), [r#"{"_id":"t.inside","state":"ready"}"#]);
    assert_eq!(step_all(&store), 0);
    // One more document is too much.
    fill(&store, 20..21);
    declare(&store, &create("behind"));
    assert_eq!(
        states(&store)[1],
        r#"{"_id":"t.behind","state":"building"}"#
    );
    assert_sound(&store);
}

#[test]
fn an_index_is_used_when_it_is_complete_and_not_before() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store, 0..20);
    // A rollback leaves nothing to be built.
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    transaction
        .execute("CREATE INDEX by_a ON t (a)", Object::new())
        .unwrap();
    transaction.rollback();
    assert!(!store.step_index_work().unwrap());
    declare(&store, "CREATE INDEX by_a ON t (a)");
    let mut seen = Vec::new();
    while !uses(&store, "by_a", "a = 1") {
        assert!(
            store.step_index_work().unwrap(),
            "it is complete at some time"
        );
        assert_sound(&store);
        assert_eq!(run(&store, "SELECT _id FROM t WHERE a = 1").items.len(), 5);
        seen.extend(rows(
            &store,
            "SELECT state, progress, entries FROM system:indexes",
        ));
    }
    assert_eq!(
        seen[0],
        r#"{"entries":3,"progress":0.15,"state":"building"}"#
    );
    assert_eq!(
        seen[5],
        r#"{"entries":18,"progress":0.9,"state":"building"}"#
    );
    assert_eq!(seen[6], r#"{"entries":20,"progress":1.0,"state":"ready"}"#);
    assert_eq!(seen.len(), 7);
}

#[test]
fn without_threads_create_index_builds_to_the_end() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store, 0..100);
    run(&store, "CREATE INDEX by_a ON t (a)");
    assert!(uses(&store, "by_a", "a = 1"));
    assert_eq!(
        rows(&store, "SELECT entries, distinct_keys FROM system:indexes"),
        [r#"{"distinct_keys":[4],"entries":100}"#]
    );
    // Complete also means on disk.
    drop(store);
    disk.crash(1);
    assert!(uses(&open(&disk), "by_a", "a = 1"));
}

#[test]
fn a_name_is_taken_while_its_index_is_built() {
    let store = open(&SimulatedDisk::new());
    fill(&store, 0..20);
    declare(&store, "CREATE INDEX by_a ON t (a)");
    let error = store
        .execute("CREATE INDEX by_a ON t (b)", Object::new())
        .unwrap_err();
    assert!(error.to_string().contains("already exists"), "{error}");
    assert_eq!(states(&store), [r#"{"_id":"t.by_a","state":"building"}"#]);
    // It waits, which here means that it builds.
    run(&store, "CREATE INDEX IF NOT EXISTS by_a ON t (a)");
    assert_eq!(states(&store), [r#"{"_id":"t.by_a","state":"ready"}"#]);
}

/// One random change of the documents 0 to 59.
fn change(store: &Store, other: &Store, random: &mut Random) {
    let id = i64::try_from(random.below(60)).unwrap();
    let value = i64::try_from(random.below(4)).unwrap();
    let args = format!("{{\"id\": {id}, \"v\": {value}, \"tags\": [{value}, {id}, {value}]}}");
    match random.below(10) {
        0..=3 => {
            let text = "INSERT INTO t DOCUMENTS ({'_id': :id, 'a': :v, 'tags': :tags}) \
                        ON ID CONFLICT DO UPDATE";
            run_with(store, text, &args);
        }
        4 => drop(run_with(
            store,
            "UPDATE t SET b.c = :v WHERE _id = :id",
            &args,
        )),
        5 => drop(run_with(store, "UPDATE t UNSET a WHERE _id > :id", &args)),
        6 => drop(run_with(store, "DELETE FROM t WHERE _id = :id", &args)),
        7 => drop(run_with(store, "EVICT FROM t WHERE _id = :id", &args)),
        8 => {
            let large = Value::from("x".repeat(3000));
            let args = Object::from([("id".to_owned(), Value::Int(id)), ("x".to_owned(), large)]);
            let text = "UPDATE t SET b.c = :x WHERE _id = :id";
            store.execute(text, args).unwrap();
        }
        _ => {
            let text = "INSERT INTO t DOCUMENTS ({'_id': :id, 'b': {'c': :v}}) \
                        ON ID CONFLICT DO UPDATE";
            run_with(other, text, &args);
            send(other, store, "t", 0, usize::MAX);
        }
    }
}

const DEFINITIONS: [&str; 4] = [
    "(a)",
    "(b.c DESC, a)",
    "(a + 1, a)",
    "(a, DISTINCT ARRAY v FOR v IN tags END DESC)",
];

#[test]
fn what_was_written_during_a_build_is_as_if_it_was_built_at_the_end() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let disk = SimulatedDisk::new();
        let other = Store::open(config(&SimulatedDisk::new()).entropy_seed(seed + 100)).unwrap();
        let mut store = open(&disk);
        for _ in 0..random.below(60) {
            change(&store, &other, &mut random);
        }
        for (number, fields) in DEFINITIONS.iter().enumerate() {
            declare(
                &store,
                &format!("CREATE INDEX early_{number} ON t {fields}"),
            );
        }
        for _ in 0..random.below(40) {
            match random.below(10) {
                0..=3 => drop(store.step_index_work().unwrap()),
                4 => {
                    drop(store);
                    store = open(&disk);
                }
                _ => change(&store, &other, &mut random),
            }
            assert_sound(&store);
        }
        step_all(&store);
        drop(store);
        let store = Store::open(config(&disk).index_inline_documents(2000)).unwrap();
        for (number, fields) in DEFINITIONS.iter().enumerate() {
            run(&store, &format!("CREATE INDEX late_{number} ON t {fields}"));
        }
        let entries = entries(&disk, &store);
        // Without a document there are no entries to compare.
        if run(&store, "SELECT _id FROM t").items.is_empty() {
            assert!(entries.is_empty());
            continue;
        }
        let numbers: Vec<_> = entries.values().collect();
        assert_eq!(numbers.len(), 2 * DEFINITIONS.len());
        for (early, late) in numbers.iter().zip(&numbers[DEFINITIONS.len()..]) {
            assert_eq!(early, late);
        }
        assert_sound(&store);
    }
}

/// Declares indexes and takes steps, with writes and a drop in between, until something fails.
fn live(store: &Store) -> Result<(), StoreError> {
    let execute = |text: &str| store.execute(text, Object::new());
    let declare = |text: &str| {
        let mut transaction = store.begin(TransactionOptions::new())?;
        transaction.execute(text, Object::new())?;
        transaction.commit()
    };
    execute("INSERT INTO t DOCUMENTS ({'_id': 1, 'a': 1}), ({'_id': 2, 'a': 2}), ({'_id': 4})")?;
    execute(
        "INSERT INTO t DOCUMENTS ({'_id': 5}), ({'_id': 6, 'a': 2}), ({'_id': 8}), ({'_id': 9})",
    )?;
    declare("CREATE INDEX kept ON t (a)")?;
    declare("CREATE INDEX dropped ON t (b, a)")?;
    for round in 0..8 {
        store.step_index_work()?;
        match round {
            0 => drop(execute("INSERT INTO t DOCUMENTS ({'_id': 0, 'a': 7})")?),
            1 => drop(execute("UPDATE t SET a = 3 WHERE _id = 8")?),
            2 => store.checkpoint()?,
            3 => drop(execute("DELETE FROM t WHERE _id = 9")?),
            4 => drop(execute("DROP INDEX dropped ON t")?),
            5 => drop(execute("EVICT FROM t WHERE _id = 1")?),
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn power_loss_at_every_write_neither_loses_nor_invents_an_entry() {
    let total = {
        let disk = SimulatedDisk::new();
        live(&open(&disk)).unwrap();
        disk.log().writes() + disk.log().syncs()
    };
    assert!(total > 20, "the run writes: {total}");
    let mut unfinished = 0;
    for at in 1..=total {
        for fault in [
            Fault::Write(at),
            Fault::Sync(at),
            Fault::TornWrite { nth: at, bytes: 40 },
        ] {
            let disk = SimulatedDisk::new();
            disk.log().inject(fault);
            if let Ok(store) = Store::open(config(&disk)) {
                // How far it came does not matter.
                let _ = live(&store);
            }
            disk.log().heal();
            disk.crash(at);
            let store = open(&disk);
            assert_sound(&store);
            let before = states(&store);
            unfinished += before.iter().filter(|row| row.contains("building")).count();
            step_all(&store);
            assert_sound(&store);
            for (before, after) in before.iter().zip(states(&store)) {
                let finished = before.replace("building", "ready");
                assert!(
                    before.contains("dropping") || finished == after,
                    "{before} {after}"
                );
            }
            // What was left of the dropped one is gone, whatever happened.
            let entries = entries(&disk, &store);
            assert!(entries.len() <= states(&store).len(), "{fault:?}");
            assert!(states(&store).iter().all(|row| row.contains("ready")));
        }
    }
    assert!(unfinished > 20, "the faults hit builds: {unfinished}");
}

#[test]
fn a_drop_during_the_build_ends_it_and_frees_the_name_but_not_the_number() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store, 0..20);
    declare(&store, "CREATE INDEX by_a ON t (a)");
    store.step_index_work().unwrap();
    run(&store, "DROP INDEX by_a ON t");
    declare(&store, "CREATE INDEX by_a ON t (b.c)");
    let listed = rows(&store, "SELECT _id, state, entries FROM system:indexes");
    assert_eq!(
        listed,
        [
            r#"{"_id":"t.by_a","entries":0,"state":"building"}"#,
            r#"{"_id":"t.by_a#1","entries":3,"state":"dropping"}"#
        ]
    );
    assert_eq!(
        entries(&disk, &store).keys().copied().collect::<Vec<_>>(),
        [1],
        "nothing is deleted yet"
    );
    while store.step_index_work().unwrap() {
        assert_sound(&store);
    }
    assert_eq!(states(&store), [r#"{"_id":"t.by_a","state":"ready"}"#]);
    let left = entries(&disk, &store);
    assert_eq!(left.keys().copied().collect::<Vec<_>>(), [2]);
    assert_eq!(left[&2].len(), 20);
    // Now the first number is free, and gives none of its old entries back.
    run(&store, "DROP INDEX by_a ON t");
    step_all(&store);
    assert!(entries(&disk, &store).is_empty());
}

#[test]
fn many_entries_are_deleted_in_batches() {
    let disk = SimulatedDisk::new();
    let store = Store::open(config(&disk).index_batch_documents(60_000)).unwrap();
    fill(&store, 0..2500);
    run(&store, "CREATE INDEX by_a ON t (a)");
    run(&store, "DROP INDEX by_a ON t");
    let mut left = Vec::new();
    while store.step_index_work().unwrap() {
        assert_sound(&store);
        left.push(entries(&disk, &store).get(&1).map_or(0, Vec::len));
    }
    assert_eq!(left, [2500 - 1024, 2500 - 2048, 0]);
}

#[test]
fn two_builds_take_turns() {
    let store = open(&SimulatedDisk::new());
    fill(&store, 0..30);
    declare(&store, "CREATE INDEX by_a ON t (a)");
    declare(&store, "CREATE INDEX by_b ON t (b.c)");
    for _ in 0..4 {
        store.step_index_work().unwrap();
    }
    assert_eq!(
        rows(&store, "SELECT entries FROM system:indexes"),
        [r#"{"entries":6}"#, r#"{"entries":6}"#]
    );
    step_all(&store);
    assert!(uses(&store, "by_a", "a = 1") && uses(&store, "by_b", "b.c = 1"));
    assert_sound(&store);
}

#[test]
fn a_copy_of_a_store_goes_on_with_the_build() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store, 0..30);
    declare(&store, "CREATE INDEX by_a ON t (a)");
    store.step_index_work().unwrap();
    store.checkpoint().unwrap();
    let copy = disk.copy();
    let copied = open(&copy);
    for store in [&copied, &store] {
        assert_eq!(states(store), [r#"{"_id":"t.by_a","state":"building"}"#]);
        step_all(store);
        assert_sound(store);
    }
    assert_eq!(entries(&copy, &copied), entries(&disk, &store));
}

#[test]
fn a_batch_is_bounded_in_bytes() {
    const BYTES: usize = 8 * 1024;
    const DOCUMENT: usize = 1500;
    let disk = SimulatedDisk::new();
    let config = config(&disk)
        .index_batch_documents(60_000)
        .index_batch_bytes(BYTES);
    let store = Store::open(config).unwrap();
    for id in 0..100 {
        let text = "x".repeat(DOCUMENT);
        let args = format!("{{\"id\": {id}, \"text\": \"{text}\"}}");
        run_with(
            &store,
            "INSERT INTO t DOCUMENTS ({'_id': :id, 'text': :text})",
            &args,
        );
    }
    declare(&store, "CREATE INDEX by_text ON t (text)");
    let pending = || store.statistics().unwrap().pending_bytes;
    let mut steps = 0;
    let mut before = pending();
    while states(&store)[0].contains("building") {
        store.step_index_work().unwrap();
        let grown = usize::try_from(pending() - before).unwrap();
        // The entries of a batch, those of the document that ended it, and some rows about it.
        assert!(grown < BYTES + DOCUMENT + 4096, "{grown}");
        before = pending();
        steps += 1;
    }
    // A row and its entry are read for each document.
    assert!(
        steps >= 100 * 2 * DOCUMENT / (BYTES + 2 * DOCUMENT),
        "{steps}"
    );
    assert_sound(&store);
}

#[test]
fn ids_that_rise_do_not_keep_a_build_from_its_end() {
    let store = open(&SimulatedDisk::new());
    fill(&store, 0..10);
    declare(&store, "CREATE INDEX by_a ON t (a)");
    let mut steps = 0;
    while states(&store)[0].contains("building") {
        fill(&store, 10 + 10 * steps..20 + 10 * steps);
        store.step_index_work().unwrap();
        assert_sound(&store);
        steps += 1;
    }
    assert_eq!(
        steps, 4,
        "ten documents in steps of three, whatever comes behind"
    );
}
