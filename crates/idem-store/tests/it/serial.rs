//! Whatever transactions do at the same time, there is an order in which they gave the same one by one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Barrier},
    thread,
};

use idem_model::{Object, Value};
use idem_store::{Store, StoreConfig, Transaction, TransactionOptions};

use crate::fixture::{Random, assert_sound};

const KEYS: u64 = 5;
const THREADS: u64 = 4;
const TRANSACTIONS: u64 = 40;

type Map = BTreeMap<i64, i64>;

/// What a transaction saw and did, in its order.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// A document, `None` if it was not there.
    Read(i64, Option<i64>),
    /// The documents whose value is at least this, through an index.
    Range(i64, Map),
    Count(i64),
    Put(i64, i64),
    /// Adds to what was there.
    Add(i64, i64),
    Delete(i64),
}

#[derive(Debug)]
struct Done {
    /// Commits that had ended before it began, and that had begun when it ended.
    after: u64,
    before: u64,
    commit: Option<u64>,
    steps: Vec<Step>,
}

fn args(fields: &[(&str, i64)]) -> Object {
    fields
        .iter()
        .map(|&(name, value)| (name.to_owned(), Value::Int(value)))
        .collect()
}

fn map_of(items: &[Object]) -> Map {
    items
        .iter()
        .map(|row| (row["_id"].as_int().unwrap(), row["v"].as_int().unwrap()))
        .collect()
}

fn take_step(transaction: &mut Transaction, random: &mut Random, is_read_only: bool) -> Step {
    let key = i64::try_from(random.below(KEYS)).unwrap();
    let value = i64::try_from(random.below(20)).unwrap();
    let mut run = |text: &str, args: Object| transaction.execute(text, args).unwrap().items;
    let choices = if is_read_only { 3 } else { 7 };
    match random.below(choices) {
        0 => {
            let text = "SELECT _id, v FROM t WHERE _id = :key";
            let found = map_of(&run(text, args(&[("key", key)])));
            Step::Read(key, found.get(&key).copied())
        }
        1 => {
            let text = "SELECT _id, v FROM t WHERE v >= :value";
            Step::Range(value, map_of(&run(text, args(&[("value", value)]))))
        }
        2 => {
            let rows = run("SELECT COUNT(*) AS n FROM t", Object::new());
            Step::Count(rows[0]["n"].as_int().unwrap())
        }
        3 => {
            run("DELETE FROM t WHERE _id = :key", args(&[("key", key)]));
            Step::Delete(key)
        }
        4 => {
            let text = "UPDATE t SET v = v + :value WHERE _id = :key";
            run(text, args(&[("key", key), ("value", value)]));
            Step::Add(key, value)
        }
        _ => {
            let text =
                "INSERT INTO t DOCUMENTS ({'_id': :key, 'v': :value}) ON ID CONFLICT DO UPDATE";
            run(text, args(&[("key", key), ("value", value)]));
            Step::Put(key, value)
        }
    }
}

fn work(store: &Store, random: &mut Random) -> Vec<Done> {
    let mut done = Vec::new();
    for _ in 0..TRANSACTIONS {
        let is_read_only = random.is(40);
        let after = store.last_commit();
        let options = TransactionOptions::new().read_only(is_read_only);
        let mut transaction = store.begin(options).unwrap();
        let mut steps = Vec::new();
        for _ in 0..1 + random.below(5) {
            steps.push(take_step(&mut transaction, random, is_read_only));
            if random.is(30) {
                thread::yield_now();
            }
        }
        if random.is(20) {
            transaction.rollback();
            // Its reads must fit all the same; its writes are nobody's.
            let before = store.last_commit();
            done.push(Done {
                after,
                before,
                commit: None,
                steps,
            });
            continue;
        }
        let commit = transaction.commit().unwrap();
        let before = store.last_commit();
        done.push(Done {
            after,
            before,
            commit,
            steps,
        });
    }
    done
}

/// Whether the steps fit a state, which they change.
fn fits(steps: &[Step], state: &mut Map) -> bool {
    steps.iter().all(|step| match step {
        Step::Read(key, seen) => state.get(key) == seen.as_ref(),
        Step::Range(least, seen) => {
            let there = state.iter().filter(|(_, value)| *value >= least);
            there.map(|(key, value)| (*key, *value)).eq(seen.clone())
        }
        Step::Count(seen) => state.len() == usize::try_from(*seen).unwrap(),
        Step::Put(key, value) => {
            state.insert(*key, *value);
            true
        }
        Step::Add(key, value) => {
            if let Some(old) = state.get_mut(key) {
                *old += value;
            }
            true
        }
        Step::Delete(key) => {
            state.remove(key);
            true
        }
    })
}

fn check(seed: u64, config: StoreConfig) {
    let store = Store::open(config).unwrap();
    store
        .execute("CREATE INDEX by_v ON t (v)", Object::new())
        .unwrap();
    let start = Arc::new(Barrier::new(usize::try_from(THREADS).unwrap()));
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let (store, start) = (store.clone(), Arc::clone(&start));
            thread::spawn(move || {
                let mut random = Random(seed * 100 + number + 1);
                start.wait();
                work(&store, &mut random)
            })
        })
        .collect();
    let mut committed = BTreeMap::new();
    let mut others = Vec::new();
    for done in threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
    {
        match done.commit {
            Some(commit) => assert!(committed.insert(commit, done).is_none()),
            None => others.push(done),
        }
    }
    // The order of the commits is one order that must fit.
    let mut states = vec![Map::new()];
    for (number, (commit, done)) in committed.iter().enumerate() {
        assert_eq!(*commit, number as u64 + 1, "seed {seed}");
        assert!(
            (done.after..=done.before).contains(commit),
            "seed {seed}: {done:?}"
        );
        let mut state = states[number].clone();
        assert!(fits(&done.steps, &mut state), "seed {seed}: {done:?}");
        states.push(state);
    }
    // One without a commit saw one moment between its begin and its end.
    for done in others {
        let moments = usize::try_from(done.after).unwrap()..=usize::try_from(done.before).unwrap();
        let sees = |moment: usize| fits(&done.steps, &mut states[moment].clone());
        assert!(moments.clone().any(sees), "seed {seed}: {done:?}");
    }
    let rows = store
        .execute("SELECT _id, v FROM t", Object::new())
        .unwrap()
        .items;
    assert_eq!(&map_of(&rows), states.last().unwrap(), "seed {seed}");
    assert_sound(&store);
}

#[test]
fn concurrent_transactions_have_a_serial_order() {
    for seed in 0..6 {
        check(seed, StoreConfig::memory());
    }
    let directory = tempfile::tempdir().unwrap();
    let config = StoreConfig::directory(directory.path());
    check(7, config.durability(idem_store::Durability::Relaxed));
}
