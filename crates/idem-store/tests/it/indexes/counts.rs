//! What is known about the entries of an index.

use idem_model::Object;
use idem_store::{SimulatedDisk, Store};

use super::{config, fill, open, step_all};
use crate::fixture::{Random, rows, run, run_with};

fn counts(store: &Store) -> Vec<String> {
    rows(store, "SELECT entries, distinct_keys FROM system:indexes")
}

#[test]
fn a_small_index_is_counted_when_it_is_made() {
    let disk = SimulatedDisk::new();
    let store = Store::open(config(&disk).index_inline_documents(2000)).unwrap();
    fill(&store, 0..40);
    run(&store, "CREATE INDEX by_a_b ON t (a DESC, b.c)");
    assert_eq!(counts(&store), [r#"{"distinct_keys":[4,40],"entries":40}"#]);
    drop(store);
    assert_eq!(
        counts(&open(&disk)),
        [r#"{"distinct_keys":[4,40],"entries":40}"#]
    );
}

#[test]
fn counts_follow_the_changes() {
    let disk = SimulatedDisk::new();
    let mut store = open(&disk);
    run(&store, "CREATE INDEX by_n ON t (n, m)");
    let mut random = Random(3);
    let (mut inserted, mut counted) = (0_u64, 0);
    for round in 0..60 {
        let many = 1 + random.below(40);
        for _ in 0..many {
            inserted += 1;
            let text = "INSERT INTO t DOCUMENTS ({'_id': :id, 'n': :n, 'm': :m})";
            let (n, m) = (inserted % 50, inserted % 7);
            run_with(
                &store,
                text,
                &format!("{{\"id\": {inserted}, \"n\": {n}, \"m\": {m}}}"),
            );
        }
        if round % 10 == 9 {
            drop(store);
            store = open(&disk);
        }
        counted += step_all(&store);
        let row = run(&store, "SELECT entries, distinct_keys FROM system:indexes")
            .items
            .remove(0);
        assert_eq!(row["entries"].as_int(), i64::try_from(inserted).ok());
        let Some(distinct) = row["distinct_keys"]
            .as_array()
            .filter(|some| !some.is_empty())
        else {
            assert!(inserted < 64, "enough to be counted: {inserted}");
            continue;
        };
        for (found, right) in distinct.iter().zip([inserted.min(50), inserted.min(350)]) {
            let found = u64::try_from(found.as_int().unwrap()).unwrap();
            assert!(
                found * 2 >= right.saturating_sub(64) && found <= right,
                "{found} of {right} after {inserted}"
            );
        }
    }
    assert!(
        inserted > 700 && counted < 20,
        "{counted} counts of {inserted} documents"
    );
}

#[test]
fn a_count_in_several_steps_is_the_same_and_takes_turns_with_others() {
    let disk = SimulatedDisk::new();
    let store = Store::open(
        config(&disk)
            .index_batch_documents(65_536)
            .index_batch_bytes(64 * 1024 * 1024),
    )
    .unwrap();
    // More than one step counts.
    let documents = (0..20_000)
        .map(|id| {
            Object::from([
                ("_id".to_owned(), idem_model::Value::Int(id)),
                ("a".to_owned(), idem_model::Value::Int(id % 300)),
                ("b".to_owned(), idem_model::Value::Int(id % 7)),
            ])
        })
        .collect();
    let name = crate::fixture::collection("t");
    store
        .insert_many(&name, documents, idem_model::InsertConflict::Fail)
        .unwrap();
    super::declare(&store, "CREATE INDEX by_a ON t (a)");
    super::declare(&store, "CREATE INDEX by_b ON t (b, a)");
    step_all(&store);
    assert_eq!(
        counts(&store),
        [
            r#"{"distinct_keys":[300],"entries":20000}"#,
            r#"{"distinct_keys":[7,2100],"entries":20000}"#
        ]
    );
}
