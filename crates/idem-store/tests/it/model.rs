//! Random statements, transactions and reopenings against a plain map.

use std::collections::BTreeMap;

use idem_model::{Object, Value};
use idem_store::{SimulatedDisk, Store, StoreConfig, StoreError, Transaction, TransactionOptions};

use crate::fixture::{Random, TestClock, assert_sound};

/// `_id` -> field -> value.
type Twin = BTreeMap<i64, BTreeMap<&'static str, i64>>;

const FIELDS: [&str; 3] = ["a", "b", "c"];
const IDS: u64 = 12;

/// Runs a statement on the store itself or inside a transaction.
enum Place<'a> {
    Store(&'a Store),
    Transaction(&'a mut Transaction),
}

impl Place<'_> {
    fn run(&mut self, text: &str, args: &[(&str, i64)]) -> Result<Vec<Object>, StoreError> {
        let args: Object = args
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::Int(*value)))
            .collect();
        let result = match self {
            Self::Store(store) => store.execute(text, args),
            Self::Transaction(transaction) => transaction.execute(text, args),
        };
        result.map(|result| result.items)
    }
}

fn fields_of(object: &Object) -> (i64, BTreeMap<&'static str, i64>) {
    let id = object["_id"].as_int().unwrap();
    let fields = FIELDS
        .iter()
        .filter_map(|name| Some((*name, object.get(*name)?.as_int().unwrap())));
    assert_eq!(object.len(), 1 + fields.clone().count(), "{object:?}");
    (id, fields.collect())
}

/// One random statement on both sides.
fn step(place: &mut Place<'_>, twin: &mut Twin, random: &mut Random) {
    let id = i64::try_from(random.below(IDS)).unwrap();
    let field = FIELDS[usize::try_from(random.below(3)).unwrap()];
    let value = i64::try_from(random.below(5)).unwrap();
    match random.below(10) {
        0..=2 => insert(place, twin, random, id, value),
        3 | 4 => {
            let text = format!("UPDATE t SET {field} = :v WHERE _id = :id");
            place.run(&text, &[("v", value), ("id", id)]).unwrap();
            if let Some(fields) = twin.get_mut(&id) {
                fields.insert(field, value);
            }
        }
        5 => {
            let text = format!("UPDATE t SET a = :v WHERE {field} = :w");
            let new = value + 1;
            place.run(&text, &[("v", new), ("w", value)]).unwrap();
            for fields in twin.values_mut() {
                if fields.get(field) == Some(&value) {
                    fields.insert("a", new);
                }
            }
        }
        6 => {
            let text = format!("UPDATE t UNSET {field} WHERE _id = :id");
            place.run(&text, &[("id", id)]).unwrap();
            if let Some(fields) = twin.get_mut(&id) {
                fields.remove(field);
            }
        }
        7 => {
            place
                .run("DELETE FROM t WHERE _id = :id", &[("id", id)])
                .unwrap();
            twin.remove(&id);
        }
        8 => {
            let text = format!("DELETE FROM t WHERE {field} = :v AND b = :v");
            place.run(&text, &[("v", value)]).unwrap();
            twin.retain(|_, fields| {
                fields.get(field) != Some(&value) || fields.get("b") != Some(&value)
            });
        }
        _ => {
            place
                .run("EVICT FROM t WHERE _id = :id", &[("id", id)])
                .unwrap();
            twin.remove(&id);
        }
    }
}

fn insert(place: &mut Place<'_>, twin: &mut Twin, random: &mut Random, id: i64, value: i64) {
    // The second document makes a failed statement one that had already changed something.
    let step = i64::try_from(1 + random.below(IDS - 1)).unwrap();
    let other = (id + step) % i64::try_from(IDS).unwrap();
    let documents = "({'_id': :other, 'a': :v, 'c': 1}), ({'_id': :id, 'a': :v, 'b': :v})";
    let (conflict, fails) = match random.below(3) {
        0 => ("", true),
        1 => (" ON ID CONFLICT DO NOTHING", false),
        _ => (" ON ID CONFLICT DO UPDATE", false),
    };
    let is_update = conflict.ends_with("UPDATE");
    let result = place.run(
        &format!("INSERT INTO t DOCUMENTS {documents}{conflict}"),
        &[("id", id), ("other", other), ("v", value)],
    );
    if fails && (twin.contains_key(&id) || twin.contains_key(&other)) {
        result.unwrap_err();
        return;
    }
    result.unwrap();
    for (id, fields) in [
        (other, [("a", value), ("c", 1)]),
        (id, [("a", value), ("b", value)]),
    ] {
        if !twin.contains_key(&id) || is_update {
            twin.entry(id).or_default().extend(fields);
        }
    }
}

/// Compares everything that a query can see.
fn compare(place: &mut Place<'_>, twin: &Twin, random: &mut Random) {
    let found: Twin = (place.run("SELECT * FROM t", &[]).unwrap().iter())
        .map(fields_of)
        .collect();
    assert_eq!(found, *twin);
    let counted = place.run("SELECT COUNT(*) AS n FROM t", &[]).unwrap();
    let counted = counted.first().map_or(0, |row| row["n"].as_int().unwrap());
    assert_eq!(usize::try_from(counted).unwrap(), twin.len());
    let value = i64::try_from(random.below(6)).unwrap();
    for field in FIELDS {
        let text = format!("SELECT * FROM t WHERE {field} = :v");
        let found: Twin = (place.run(&text, &[("v", value)]).unwrap().iter())
            .map(fields_of)
            .collect();
        let mut expected = twin.clone();
        expected.retain(|_, fields| fields.get(field) == Some(&value));
        assert_eq!(found, expected, "{text} with {value}");
    }
    let id = i64::try_from(random.below(IDS)).unwrap();
    let found = place
        .run("SELECT * FROM t WHERE _id = :id", &[("id", id)])
        .unwrap();
    assert_eq!(
        found.first().map(fields_of).map(|(_, fields)| fields),
        twin.get(&id).cloned()
    );
}

fn change_indexes(store: &Store, random: &mut Random) {
    // Whether there is one already does not matter here.
    let _ = match random.below(4) {
        0 => store.execute("CREATE INDEX by_a ON t (a)", Object::new()),
        1 => store.execute("CREATE INDEX by_b_c ON t (b DESC, c)", Object::new()),
        2 => store.execute("DROP INDEX by_a ON t", Object::new()),
        _ => store.execute("DROP INDEX by_b_c ON t", Object::new()),
    };
}

#[test]
fn random_statements_agree_with_a_map() {
    for seed in 0..25 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let clock = TestClock::at(1_000_000);
        let disk = SimulatedDisk::new();
        let open = |disk: &SimulatedDisk| {
            let config = StoreConfig::simulated(disk.clone())
                .clock(clock.clock())
                .entropy_seed(seed);
            Store::open(config).unwrap()
        };
        let mut store = open(&disk);
        let mut twin = Twin::new();
        for _ in 0..100 {
            clock.set(1_000_000 + random.below(1000));
            match random.below(20) {
                0 => {
                    let actor = store.actor();
                    if random.is(50) {
                        store.close().unwrap();
                    }
                    drop(store);
                    store = open(&disk);
                    assert_eq!(store.actor(), actor, "the same life goes on");
                }
                1 => store.checkpoint().unwrap(),
                2 | 3 => change_indexes(&store, &mut random),
                4..=8 => transaction(&store, &mut twin, &mut random),
                _ => step(&mut Place::Store(&store), &mut twin, &mut random),
            }
            compare(&mut Place::Store(&store), &twin, &mut random);
        }
        assert_sound(&store);
    }
}

fn transaction(store: &Store, twin: &mut Twin, random: &mut Random) {
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    let mut inside = twin.clone();
    for _ in 0..=random.below(4) {
        step(
            &mut Place::Transaction(&mut transaction),
            &mut inside,
            random,
        );
        compare(&mut Place::Transaction(&mut transaction), &inside, random);
    }
    if random.is(70) {
        let before = store.last_commit();
        let commit = transaction.commit().unwrap();
        assert!(commit.is_none_or(|commit| commit == before + 1));
        *twin = inside;
    } else if random.is(50) {
        transaction.rollback();
    } else {
        drop(transaction);
    }
}
