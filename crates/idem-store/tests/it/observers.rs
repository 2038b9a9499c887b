//! Live queries.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use idem_model::Object;
use idem_store::{QueryResult, SimulatedDisk, Store, StoreConfig, StoreError, TransactionOptions};

use crate::fixture::{Inbox, memory, run, send, to_json};

/// A store that runs its observers on the committing thread, so that what does not happen can be told.
fn inline() -> Store {
    Store::open(StoreConfig::simulated(SimulatedDisk::new()).entropy_seed(1)).unwrap()
}

fn into(inbox: &Inbox<String>) -> impl FnMut(Result<QueryResult, StoreError>) + Send + use<> {
    let inbox = inbox.clone();
    move |result| {
        let items = result.unwrap().items.into_iter().map(to_json);
        inbox.push(items.collect::<Vec<_>>().join(" "));
    }
}

#[test]
fn an_observer_hears_of_what_its_result_holds_and_of_nothing_else() {
    let store = inline();
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1, 'v': 1})");
    let inbox = Inbox::new();
    let observer = store
        .observe(
            "SELECT * FROM t WHERE v < 10 ORDER BY _id",
            Object::new(),
            into(&inbox),
        )
        .unwrap();
    let one = r#"{"_id":1,"v":1}"#;
    assert_eq!(inbox.all(), [one]);
    let mut expected = vec![one.to_owned()];
    let mut check = |text: &str, next: Option<&str>| {
        run(&store, text);
        expected.extend(next.map(str::to_owned));
        assert_eq!(inbox.all(), expected, "{text}");
    };
    check("INSERT INTO other DOCUMENTS ({'_id': 1, 'v': 1})", None);
    check("INSERT INTO t DOCUMENTS ({'_id': 2, 'v': 20})", None);
    check("UPDATE t SET v = 30 WHERE _id = 2", None);
    check(
        "UPDATE t SET v = 2 WHERE _id = 2",
        Some(r#"{"_id":1,"v":1} {"_id":2,"v":2}"#),
    );
    check(
        "UPDATE t SET v = 11 WHERE _id = 1",
        Some(r#"{"_id":2,"v":2}"#),
    );
    check("EVICT FROM t WHERE _id = 2", Some(""));
    check("DELETE FROM t WHERE _id = 1", None);
    assert_eq!(store.observer_count(), 1);
    observer.cancel();
    assert_eq!(store.observer_count(), 0);
    check("INSERT INTO t DOCUMENTS ({'_id': 3, 'v': 3})", None);
}

#[test]
fn only_what_a_commit_touches_is_run_again() {
    let store = inline();
    run(&store, "CREATE INDEX by_v ON t (v)");
    let inbox = Inbox::new();
    let _observer = store
        .observe("SELECT * FROM t WHERE v = 1", Object::new(), into(&inbox))
        .unwrap();
    let runs = || {
        // Each run of a query begins with a read of the store; here only the observer reads.
        inbox.all().len()
    };
    for number in 0..10 {
        run(
            &store,
            &format!("INSERT INTO t DOCUMENTS ({{'_id': {number}, 'v': 2}})"),
        );
    }
    assert_eq!(runs(), 1);
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 'hit', 'v': 1})");
    assert_eq!(runs(), 2);
}

#[test]
fn aggregates_arguments_and_later_collections() {
    let store = inline();
    let inbox = Inbox::new();
    let args = crate::fixture::object(r#"{"low": 5}"#);
    let _observer = store
        .observe(
            "SELECT COUNT(*) AS n FROM t WHERE v > :low",
            args,
            into(&inbox),
        )
        .unwrap();
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1, 'v': 6})");
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 2, 'v': 4})");
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 3, 'v': 7})");
    assert_eq!(inbox.all().last().unwrap(), r#"{"n":2}"#);
    assert_eq!(inbox.all().len(), 3);
}

#[test]
fn a_bound_that_moves_with_the_clock_hides_no_change() {
    let store = inline();
    let inbox = Inbox::new();
    let _observer = store
        .observe(
            "SELECT _id FROM t WHERE due < clock()",
            Object::new(),
            into(&inbox),
        )
        .unwrap();
    run(
        &store,
        "INSERT INTO t DOCUMENTS ({'_id': 1, 'due': '1980-01-01T00:00:00.000Z'})",
    );
    assert_eq!(inbox.all(), ["", r#"{"_id":1}"#]);
}

#[test]
fn a_transaction_is_told_whole_and_a_rollback_not_at_all() {
    let store = inline();
    let inbox = Inbox::new();
    let _observer = store
        .observe(
            "SELECT _id FROM t ORDER BY _id",
            Object::new(),
            into(&inbox),
        )
        .unwrap();
    for is_committed in [false, true] {
        let mut transaction = store.begin(TransactionOptions::new()).unwrap();
        for id in [1, 2] {
            let text = format!("INSERT INTO t DOCUMENTS ({{'_id': {id}}})");
            transaction.execute(&text, Object::new()).unwrap();
        }
        assert_eq!(inbox.all().len(), 1);
        if is_committed {
            transaction.commit().unwrap();
        }
    }
    assert_eq!(inbox.all(), ["", r#"{"_id":1} {"_id":2}"#]);
}

#[test]
fn a_merge_is_told_like_a_local_commit() {
    let (a, b) = (inline(), inline());
    let inbox = Inbox::new();
    let _observer = b
        .observe("SELECT v FROM t", Object::new(), into(&inbox))
        .unwrap();
    run(&a, "INSERT INTO t DOCUMENTS ({'_id': 1, 'v': 5})");
    send(&a, &b, "t", 0, usize::MAX);
    assert_eq!(inbox.all(), ["", r#"{"v":5}"#]);
}

#[test]
fn a_slow_callback_gets_the_newest_result_next() {
    let store = memory();
    let inbox = Inbox::new();
    let (enter, entered) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let overlapping = Arc::new(AtomicUsize::new(0));
    let mut is_first = true;
    let _observer = {
        let (inbox, overlapping) = (inbox.clone(), overlapping.clone());
        store
            .observe(
                "SELECT COUNT(*) AS n FROM t",
                Object::new(),
                move |result| {
                    assert_eq!(overlapping.fetch_add(1, Ordering::SeqCst), 0);
                    if std::mem::take(&mut is_first) {
                        enter.send(()).unwrap();
                        gate.recv().unwrap();
                    }
                    let items = result.unwrap().items;
                    inbox.push(items.into_iter().map(to_json).collect::<String>());
                    overlapping.fetch_sub(1, Ordering::SeqCst);
                },
            )
            .unwrap()
    };
    entered.recv().unwrap();
    for _ in 0..50 {
        run(&store, "INSERT INTO t DOCUMENTS ({})");
    }
    release.send(()).unwrap();
    let results = inbox.wait(|results| results.iter().any(|result| result == r#"{"n":50}"#));
    assert_eq!(results.len(), 2, "{results:?}");
}

#[test]
fn an_observer_with_a_signal_waits_for_it() {
    let store = inline();
    let inbox = Inbox::new();
    let signals = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let (inbox, signals) = (inbox.clone(), signals.clone());
        store
            .observe_with_signal_next("SELECT COUNT(*) AS n FROM t", Object::new(), {
                move |result, signal| {
                    inbox.push(result.unwrap().items.len());
                    signals.lock().unwrap().push(signal);
                }
            })
            .unwrap()
    };
    for _ in 0..3 {
        run(&store, "INSERT INTO t DOCUMENTS ({})");
    }
    assert_eq!(inbox.all().len(), 1);
    let signal = signals.lock().unwrap()[0].clone();
    signal.signal();
    assert_eq!(inbox.all().len(), 2);
    let signal = signals.lock().unwrap()[1].clone();
    signal.signal();
    assert_eq!(inbox.all().len(), 2, "nothing has changed since");
    run(&store, "INSERT INTO t DOCUMENTS ({})");
    assert_eq!(inbox.all().len(), 3);
    drop(observer);
    signal.signal();
}

#[test]
fn a_callback_may_use_the_store_and_drop_its_observer() {
    for store in [memory(), inline()] {
        let inbox = Inbox::new();
        let slot = Arc::new(Mutex::new(None));
        let observer = {
            let (inbox, slot, store_) = (inbox.clone(), slot.clone(), store.clone());
            store
                .observe("SELECT * FROM t", Object::new(), move |result| {
                    let count = result.unwrap().items.len();
                    if count == 0 {
                        // The observer is not in its slot yet.
                    } else if count < 3 {
                        run(&store_, "INSERT INTO t DOCUMENTS ({})");
                    } else {
                        drop(slot.lock().unwrap().take());
                    }
                    inbox.push(count);
                })
                .unwrap()
        };
        *slot.lock().unwrap() = Some(observer);
        run(&store, "INSERT INTO t DOCUMENTS ({})");
        inbox.wait(|counts| counts.contains(&3));
        run(&store, "INSERT INTO t DOCUMENTS ({})");
        assert_eq!(*inbox.all().iter().max().unwrap(), 3);
    }
}

#[test]
fn a_panicking_callback_ends_its_observer_alone() {
    let store = inline();
    let inbox = Inbox::new();
    let _bad = store
        .observe("SELECT * FROM t", Object::new(), |_| {
            panic!("the app's own")
        })
        .unwrap();
    let _good = store
        .observe("SELECT * FROM t", Object::new(), into(&inbox))
        .unwrap();
    assert_eq!(store.observer_count(), 1);
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    assert_eq!(inbox.all(), ["", r#"{"_id":1}"#]);
}

#[test]
fn only_a_select_can_be_observed() {
    let store = memory();
    for text in ["DELETE FROM t", "SELEKT", "CREATE INDEX i ON t (v)"] {
        let result = store.observe(text, Object::new(), |_| ());
        assert!(matches!(result, Err(StoreError::Query(_))), "{text}");
    }
}

/// What is observed in the property below; every shape that follows changes, and some that do not.
const OBSERVED: [&str; 9] = [
    "SELECT * FROM t WHERE v >= 2",
    "SELECT _id, v + 1 AS n FROM t WHERE w = 'a' ORDER BY v DESC, _id LIMIT 2 OFFSET 1",
    "SELECT COUNT(*) AS n, SUM(v) AS s, MIN(v) AS low, MAX(v) AS high FROM t",
    "SELECT w, AVG(v) AS mean, COUNT(*) AS n FROM t GROUP BY w HAVING COUNT(*) > 1",
    "SELECT v FROM t WHERE _id IN [1, 3]",
    "SELECT DISTINCT w FROM t ORDER BY w",
    "SELECT COUNT(*) AS n FROM u WHERE v = 1",
    "SELECT MEDIAN(v) AS m FROM t",
    "SELECT _id FROM t WHERE w BETWEEN 'a' AND 'b' ORDER BY _id",
];

fn change() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::{prelude::*, sample::select};
    let value = || select(vec!["1", "2", "2.5", "3", "null", "'x'"]);
    let word = || select(vec!["'a'", "'b'", "'c'", "1"]);
    let collection = || select(vec!["t", "t", "t", "u"]);
    prop_oneof![
        4 => (collection(), 0..8, value(), word()).prop_map(|(c, id, v, w)| format!(
            "INSERT INTO {c} DOCUMENTS ({{'_id': {id}, 'v': {v}, 'w': {w}}}) ON ID CONFLICT DO UPDATE"
        )),
        3 => (collection(), 0..8, value())
            .prop_map(|(c, id, v)| format!("UPDATE {c} SET v = {v} WHERE _id = {id}")),
        1 => (value(), word()).prop_map(|(v, w)| format!("UPDATE t SET v = {v} WHERE w = {w}")),
        1 => (0..8).prop_map(|id| format!("UPDATE t UNSET w WHERE _id = {id}")),
        2 => (0..8).prop_map(|id| format!("DELETE FROM t WHERE _id = {id}")),
        1 => (0..8).prop_map(|id| format!("EVICT FROM t WHERE _id = {id}")),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 60, ..Default::default() })]

    /// Whatever is committed, in transactions of any size, the last call had what a query gives now.
    #[test]
    fn a_live_result_is_what_running_the_query_gives(
        commits in proptest::collection::vec(
            (proptest::collection::vec(change(), 1..5), proptest::bool::ANY), 1..15),
    ) {
        let store = inline();
        let observed: Vec<_> = OBSERVED
            .iter()
            .map(|text| {
                let inbox = Inbox::new();
                let observer = store.observe(text, Object::new(), into(&inbox)).unwrap();
                (*text, inbox, observer)
            })
            .collect();
        for (statements, is_committed) in commits {
            let mut transaction = store.begin(TransactionOptions::new()).unwrap();
            for text in &statements {
                transaction.execute(text, Object::new()).unwrap();
            }
            match is_committed {
                true => drop(transaction.commit().unwrap()),
                false => transaction.rollback(),
            }
            for (text, inbox, _observer) in &observed {
                let now = store.execute(text, Object::new()).unwrap().items;
                let now: Vec<String> = now.into_iter().map(to_json).collect();
                let calls = inbox.all();
                proptest::prop_assert_eq!(calls.last().unwrap(), &now.join(" "), "{}", text);
                let repeats = calls.windows(2).any(|pair| pair[0] == pair[1]);
                proptest::prop_assert!(!repeats, "{} was told twice of the same", text);
            }
        }
    }
}

/// More changes than the queue holds are not followed one by one, and none is missed.
#[test]
fn a_flood_of_changes_is_not_missed() {
    let store = inline();
    let inbox = Inbox::new();
    let _observer = store
        .observe(
            "SELECT COUNT(*) AS n, MAX(v) AS high FROM t",
            Object::new(),
            into(&inbox),
        )
        .unwrap();
    let many = idem_model::limits::LIVE_CHANGES_QUEUED_MAX as i64 + 10;
    let documents = (0..many).map(|n| {
        idem_model::Value::Object(Object::from([("v".to_owned(), idem_model::Value::Int(n))]))
    });
    let args = Object::from([(
        "d".to_owned(),
        idem_model::Value::Array(documents.collect()),
    )]);
    store.execute("INSERT INTO t DOCUMENTS (:d)", args).unwrap();
    let expected = format!(r#"{{"high":{},"n":{many}}}"#, many - 1);
    assert_eq!(inbox.all().last(), Some(&expected));
    run(&store, "INSERT INTO t DOCUMENTS ({'v': -1})");
    let expected = format!(r#"{{"high":{},"n":{}}}"#, many - 1, many + 1);
    assert_eq!(inbox.all().last(), Some(&expected));
}

/// Writers and the observing thread at the same time, and queries that are loaded between: the last
/// call of each has everything once.
#[test]
fn nothing_is_missed_or_counted_twice_while_writers_write() {
    let store = memory();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let store = store.clone();
            std::thread::spawn(move || {
                for n in 0..200 {
                    let value = writer * 200 + n;
                    let text =
                        format!("INSERT INTO t DOCUMENTS ({{'_id': {value}, 'v': {value}}})");
                    run(&store, &text);
                }
            })
        })
        .collect();
    let mut observed = Vec::new();
    while !writers.iter().all(std::thread::JoinHandle::is_finished) && observed.len() < 200 {
        let inbox = Inbox::new();
        let text = match observed.len() % 2 {
            0 => "SELECT COUNT(*) AS n, SUM(v) AS s FROM t",
            _ => "SELECT v FROM t ORDER BY v DESC LIMIT 1",
        };
        let observer = store.observe(text, Object::new(), into(&inbox)).unwrap();
        inbox.wait(|calls| !calls.is_empty());
        observed.push((inbox, observer));
    }
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    let sum: i64 = (0..800).sum();
    let expected = [
        format!(r#"{{"n":800,"s":{sum}}}"#),
        r#"{"v":799}"#.to_owned(),
    ];
    for (number, (inbox, _observer)) in observed.iter().enumerate() {
        inbox.wait(|calls| calls.last() == Some(&expected[number % 2]));
    }
}
