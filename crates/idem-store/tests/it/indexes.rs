//! The life of indexes: built in steps, used when complete, dropped at once, counted.

mod building;
mod counts;
mod damage;
mod threads;

use idem_model::{Object, Value};
use idem_store::{SimulatedDisk, Store, StoreConfig, TransactionOptions};

use crate::fixture::{TestClock, rows, run};

/// A store without threads that builds every index of a collection with documents in steps of three.
fn config(disk: &SimulatedDisk) -> StoreConfig {
    StoreConfig::simulated(disk.clone())
        .clock(TestClock::at(5_000).clock())
        .entropy_seed(7)
        .index_inline_documents(0)
        .index_batch_documents(3)
}

fn open(disk: &SimulatedDisk) -> Store {
    Store::open(config(disk)).unwrap()
}

/// Inserts documents with the ids `range`, whose fields follow from them.
fn fill(store: &Store, range: std::ops::Range<i64>) {
    for id in range {
        let args = Object::from([
            ("id".to_owned(), Value::Int(id)),
            ("a".to_owned(), Value::Int(id % 4)),
            (
                "tags".to_owned(),
                vec![Value::Int(id % 3), Value::Int(id % 5)].into(),
            ),
        ]);
        let text =
            "INSERT INTO t DOCUMENTS ({'_id': :id, 'a': :a, 'b': {'c': :id}, 'tags': :tags})";
        store.execute(text, args).unwrap();
    }
}

/// Declares an index without building it, as a transaction does.
fn declare(store: &Store, statement: &str) {
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    transaction.execute(statement, Object::new()).unwrap();
    transaction.commit().unwrap();
}

/// Takes all steps that there are; gives their number.
fn step_all(store: &Store) -> usize {
    let mut steps = 0;
    while store.step_index_work().unwrap() {
        steps += 1;
        assert!(steps < 100_000, "the work on indexes has an end");
    }
    steps
}

fn states(store: &Store) -> Vec<String> {
    rows(store, "SELECT _id, state FROM system:indexes")
}

/// Whether a query on the field takes the index.
fn uses(store: &Store, index: &str, condition: &str) -> bool {
    let text = format!("EXPLAIN SELECT * FROM t WHERE {condition}");
    let plan = run(store, &text).items;
    format!("{plan:?}").contains(index)
}
