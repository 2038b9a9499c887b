//! What a store does in a second, on documents of about 300 bytes with one secondary index.
//!
//! `cargo bench -p idem-store [-- WORKLOAD]`. The files go to the current directory's file system.
//! For a comparison with another database see `idem-bench-compare`.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails says where")]

use std::{
    hint::black_box,
    ops::ControlFlow,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use idem_model::{CollectionName, DocId, DocumentKey, InsertConflict, Object, Value};
use idem_store::{Incoming, IncomingState, ScopeFilter, Store, StoreConfig};

/// How long each workload runs.
const TIME: Duration = Duration::from_secs(3);

/// A name, and what gives documents per second on an empty store.
type Workload = (&'static str, fn(&Store) -> f64);

fn main() {
    let wanted: Option<String> = std::env::args().nth(1).filter(|arg| !arg.starts_with('-'));
    let workloads: [Workload; 10] = [
        ("insert_1", |store| insert(store, 1, 1)),
        ("insert_1_by_32", |store| insert(store, 1, 32)),
        ("insert_100", |store| insert(store, 100, 1)),
        ("import_1000", import),
        ("update_1", update),
        ("read", read),
        ("apply_500", apply),
        ("scan_scope", |store| {
            scan_scope(store, "SELECT * FROM docs")
        }),
        ("scan_filtered", |store| {
            scan_scope(store, "SELECT * FROM docs WHERE category < 10")
        }),
        ("changed_1000", changed_documents),
    ];
    for (name, run) in workloads {
        if wanted.as_ref().is_none_or(|wanted| wanted == name) {
            let directory = tempfile::tempdir_in(".").unwrap();
            let store = open(directory.path());
            println!("{name:>16} {:>10.0} documents/s", run(&store));
            store.close().unwrap();
        }
    }
}

fn open(path: &Path) -> Store {
    let store = Store::open(StoreConfig::directory(path)).unwrap();
    let index = "CREATE INDEX by_category ON docs (category)";
    store.execute(index, Object::new()).unwrap();
    store
}

fn document(number: u64) -> Object {
    let text = |text: String| Value::String(text);
    // A fixed mixing of the number stands for the irregularity of real data.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    let fields = [
        ("_id", text(format!("{mixed:016x}-{number:012}"))),
        ("category", Value::Int((mixed % 1000).cast_signed())),
        ("name", text(format!("document number {number}"))),
        ("note", text(format!("{mixed:x} ").repeat(9))),
        ("price", Value::Float((mixed % 10_000) as f64 / 100.0)),
        ("count", Value::Int(7)),
        ("is_new", Value::Bool(true)),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn insert(store: &Store, per_commit: u64, threads: u64) -> f64 {
    let start = Instant::now();
    let total: u64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || {
                    let mut done = 0;
                    while start.elapsed() < TIME {
                        // The argument of INSERT is a document or a list of documents.
                        let documents = (0..per_commit)
                            .map(|at| document((worker << 40) + done + at).into())
                            .collect();
                        let args = Object::from([("d".to_owned(), Value::Array(documents))]);
                        store
                            .execute("INSERT INTO docs DOCUMENTS (:d)", args)
                            .unwrap();
                        done += per_commit;
                    }
                    done
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });
    total as f64 / start.elapsed().as_secs_f64()
}

fn fill(store: &Store, count: u64) {
    let docs = CollectionName::new("docs").unwrap();
    for first in (0..count).step_by(1000) {
        let documents = (first..first + 1000).map(document).collect();
        store
            .insert_many(&docs, documents, InsertConflict::Fail)
            .unwrap();
    }
}

fn import(store: &Store) -> f64 {
    let start = Instant::now();
    fill(store, 100_000);
    100_000.0 / start.elapsed().as_secs_f64()
}

fn id(number: u64) -> Value {
    document(number)["_id"].clone()
}

fn update(store: &Store) -> f64 {
    fill(store, 20_000);
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < TIME {
        let args = Object::from([
            ("id".to_owned(), id(done * 7919 % 20_000)),
            ("n".to_owned(), Value::Int(done.cast_signed())),
        ]);
        store
            .execute("UPDATE docs SET count = :n WHERE _id = :id", args)
            .unwrap();
        done += 1;
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn read(store: &Store) -> f64 {
    fill(store, 50_000);
    let ids: Vec<Value> = (0..1000).map(|number| id(number * 7919 % 50_000)).collect();
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < TIME {
        for id in &ids {
            let args = Object::from([("id".to_owned(), id.clone())]);
            let result = store
                .execute("SELECT * FROM docs WHERE _id = :id", args)
                .unwrap();
            assert_eq!(black_box(result).items.len(), 1);
        }
        done += ids.len();
    }
    done as f64 / start.elapsed().as_secs_f64()
}

/// Documents looked at, as replication does to compare a scope.
fn scan_scope(store: &Store, statement: &str) -> f64 {
    fill(store, 100_000);
    store.checkpoint().unwrap();
    let statement = idem_query::parse(statement).unwrap();
    let selector = statement.subscription(&Object::new()).unwrap();
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < TIME {
        let mut bytes = 0;
        store
            .scan_scope(&[0; 32], &selector, ScopeFilter::Selected, &mut |item| {
                bytes += black_box(item.id).len() + black_box(item.version).len();
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(bytes > 0);
        done += 100_000;
    }
    done as f64 / start.elapsed().as_secs_f64()
}

/// Documents read by their keys, of groups of a thousand.
fn changed_documents(store: &Store) -> f64 {
    fill(store, 100_000);
    for number in 0..1000 {
        let args = Object::from([("id".to_owned(), id(number * 97))]);
        let text = "UPDATE docs SET count = 8 WHERE _id = :id";
        store.execute(text, args).unwrap();
    }
    store.checkpoint().unwrap();
    let collection = CollectionName::new("docs").unwrap();
    let key = |number: u64| DocumentKey {
        collection: collection.clone(),
        id: DocId::new(id(number * 97)).unwrap(),
    };
    let keys: Vec<DocumentKey> = (0..1000).map(key).collect();
    let held_to = store.last_commit();
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < TIME {
        let mut rest = &keys[..];
        while !rest.is_empty() {
            let (groups, consumed) = store.changed_documents(rest, held_to, 64 * 1024).unwrap();
            black_box(groups);
            rest = &rest[consumed..];
        }
        done += 1000;
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn apply(store: &Store) -> f64 {
    let origin = Store::open(StoreConfig::memory()).unwrap();
    fill(&origin, 100_000);
    let docs = CollectionName::new("docs").unwrap();
    let batch = origin.changed_since(&docs, 0, 0, usize::MAX).unwrap();
    let mut incoming = batch
        .groups
        .into_iter()
        .flatten()
        .zip(0u32..)
        .map(|(changed, group)| Incoming {
            key: changed.key,
            group,
            state: IncomingState::Whole(changed.document),
        });
    let calls: Vec<Vec<Incoming>> = std::iter::from_fn(|| {
        let call: Vec<Incoming> = incoming.by_ref().take(500).collect();
        (!call.is_empty()).then_some(call)
    })
    .collect();
    let start = Instant::now();
    for call in calls {
        assert!(store.apply(call, &[]).unwrap().is_applied());
    }
    100_000.0 / start.elapsed().as_secs_f64()
}
