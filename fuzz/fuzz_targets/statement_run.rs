//! DQL from text to result: statements on a store with documents of many shapes never panic.

use std::cell::RefCell;

use idem_model::{CollectionName, InsertConflict, Object, Value};
use idem_store::{Store, StoreConfig, StoreError, TransactionOptions};

use super::{samples, statement_compare};
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "statement_run",
    run,
    seeds: || {
        let written = SCRIPTS.iter().map(|text| text.as_bytes().to_vec());
        written.chain(statement_compare::scripts()).collect()
    },
};

/// Statements of one transaction, each on a line of its own.
const SCRIPTS: &[&str] = &[
    "SELECT * FROM things",
    "SELECT type(v) AS t, COUNT(*) AS n, SUM(v), MIN(v), MAX(v), AVG(n) FROM things GROUP BY type(v) \
     ORDER BY t DESC LIMIT 3 OFFSET 1",
    "SELECT DISTINCT v FROM things WHERE v > 1 OR v LIKE '%e_t%' OR v IN (1, 'a', NULL) ORDER BY v",
    "SELECT upper(v) || 'x', abs(n) / 2 % 3, n * -9e2 FROM things WHERE NOT (n BETWEEN 2 AND 4)",
    "SELECT * FROM things WHERE _id = 3 AND v.a[0].b IS NOT MISSING",
    "INSERT INTO things DOCUMENTS ({'_id': 3, 'v': [1, {'a': 2}]}) ON ID CONFLICT DO UPDATE\n\
     SELECT v FROM things WHERE _id = 3",
    "UPDATE things SET n = n + 1, v.new = 'x' UNSET w WHERE n >= 2\nSELECT * FROM things",
    "UPDATE things APPLY hits INCREMENT BY 9223372036854775807\n\
     UPDATE things APPLY hits INCREMENT BY 1",
    "DELETE FROM things WHERE n > 2 LIMIT 2\nEVICT FROM things\nSELECT COUNT(*) FROM things",
    "CREATE INDEX IF NOT EXISTS by_n ON things (n)\nEXPLAIN SELECT * FROM things WHERE n = 2",
    "SELECT * FROM system:collections\nSHOW ALL",
    "PROFILE SELECT t.n FROM things t JOIN things u ON t.n = u.n WHERE u.n > 1\n\
     ADVISE SELECT * FROM things WHERE n = 2",
    "INSERT INTO others SELECT _id, n AS m FROM things WHERE n < 5\n\
     UPDATE others SET m = m + 1 ORDER BY m DESC LIMIT 2 RETURNING m\n\
     DELETE FROM others WHERE m IN (SELECT n FROM things) RETURNING COUNT(*)",
    "CREATE INDEX by_v ON things ((type(v)), n DESC)\nDROP INDEX IF EXISTS by_v ON things",
    "CREATE INDEX by_e ON things ((DISTINCT ARRAY e FOR e IN v END))\n\
     SELECT * FROM things WHERE ANY e IN v SATISFIES e = 1 END",
];

thread_local! {
    /// Every input runs in a transaction that is rolled back, so one store serves them all.
    static STORE: RefCell<Option<Store>> = const { RefCell::new(None) };
}

fn open() -> Store {
    let config = StoreConfig::memory()
        .background_threads(false)
        .entropy_seed(1);
    let store = Store::open(config).expect("a store in memory opens");
    let documents: Vec<Object> = (0i64..)
        .zip(samples::values())
        .map(|(n, v)| {
            Object::from([
                ("_id".to_owned(), Value::Int(n)),
                ("n".to_owned(), Value::Int(n)),
                ("v".to_owned(), v),
            ])
        })
        .collect();
    let things = CollectionName::new("things").expect("a name");
    store
        .insert_many(&things, documents, InsertConflict::Fail)
        .expect("the samples can be stored");
    store
}

fn run(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else {
        return Verdict::Rejected;
    };
    // Taken out while it runs: after a panic the next input gets a store of its own.
    let store = STORE.take().unwrap_or_else(open);
    let verdict = script(&store, text);
    STORE.set(Some(store));
    verdict
}

fn script(store: &Store, text: &str) -> Verdict {
    let options = TransactionOptions::default();
    let mut transaction = store.begin(options).expect("nothing else is open");
    let mut verdict = Verdict::Rejected;
    for statement in text.split('\n') {
        match transaction.execute(statement, Object::new()) {
            Ok(_) => verdict = Verdict::Accepted,
            Err(
                error @ (StoreError::Poisoned { .. }
                | StoreError::Corrupt { .. }
                | StoreError::Engine(_)
                | StoreError::Log(_)),
            ) => panic!("{statement}: {error}"),
            Err(_) => {}
        }
    }
    transaction.rollback();
    verdict
}
