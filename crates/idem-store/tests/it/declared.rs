//! CREATE COLLECTION: kinds that are declared once, sync as data, and hold on every store.

use idem_model::{DocumentKey, FieldKind, FieldPath, Object, Value, json, limits};
use idem_store::{SimulatedDisk, Store, StoreConfig, TransactionOptions};

use crate::fixture::{
    Inbox, Random, TestClock, assert_sound, collection, documents, exchange, id, memory, rows, run,
    run_with,
};

const ALL: [&str; 2] = ["__collections", "t"];

fn error(store: &Store, text: &str) -> String {
    let error = store.execute(text, Object::new()).unwrap_err();
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn conflicts(store: &Store, document: &str, field: &str) -> String {
    let key = DocumentKey {
        collection: collection("t"),
        id: id(document),
    };
    let path = FieldPath::new(field.split('.').map(str::to_owned).collect()).unwrap();
    json::to_string(&Value::Array(store.conflicts(&key, &path).unwrap()))
}

#[test]
fn a_declaration_is_kept_shown_and_enforced() {
    let disk = SimulatedDisk::new();
    let open = || Store::open(StoreConfig::simulated(disk.clone())).unwrap();
    let store = open();
    let result = run(
        &store,
        "CREATE COLLECTION t (n COUNTER, o.n COUNTER, whole REGISTER)",
    );
    assert!(result.commit_id.is_some());
    let again = run(&store, "CREATE COLLECTION t (n COUNTER, more MAP)");
    assert!(again.commit_id.is_some(), "one path was added");
    let nothing = run(&store, "CREATE COLLECTION IF NOT EXISTS t (n COUNTER)");
    assert_eq!(nothing.commit_id, None);
    run(
        &store,
        "INSERT INTO t DOCUMENTS ({'_id': 'a', 'n': 1, 'o': {'n': 1}, 'whole': {'x': 1}})",
    );

    store.close().unwrap();
    let store = open();
    let kinds = store.declared(&collection("t")).unwrap();
    let kinds: Vec<_> = kinds
        .iter()
        .map(|(path, kind)| format!("{path} {kind}"))
        .collect();
    assert_eq!(
        kinds,
        ["more MAP", "n COUNTER", "o.n COUNTER", "whole REGISTER"]
    );
    assert_eq!(
        rows(&store, "SELECT * FROM system:collections"),
        [
            r#"{"documents":1,"name":"t","types":{"more":"MAP","n":"COUNTER","o.n":"COUNTER","whole":"REGISTER"}}"#
        ]
    );
    assert_eq!(
        rows(
            &store,
            "SELECT kind FROM __collections WHERE _id = {'collection': 't', 'path': ['o', 'n']}"
        ),
        [r#"{"kind":"COUNTER"}"#]
    );
    assert_sound(&store);
}

#[test]
fn declared_kinds_hold_for_statements_that_say_nothing() {
    let store = memory();
    run(
        &store,
        "CREATE COLLECTION t (n COUNTER, o.n COUNTER, whole REGISTER)",
    );
    run(
        &store,
        "INSERT INTO t DOCUMENTS ({'_id': 'a', 'n': 1, 'o': {'n': 1}, 'whole': {'x': 1}})",
    );
    run(
        &store,
        "UPDATE t APPLY n INCREMENT BY 2, o.n INCREMENT BY 3 SET whole = {'y': 2}",
    );
    assert_eq!(
        rows(&store, "SELECT n, o, whole FROM t"),
        [r#"{"n":3,"o":{"n":4},"whole":{"y":2}}"#]
    );
    run(
        &store,
        "UPDATE COLLECTION t (n COUNTER, free COUNTER) SET n = 7, free = 1",
    );
    assert_eq!(
        rows(&store, "SELECT n, free FROM t"),
        [r#"{"free":1,"n":7}"#]
    );
}

/// Statements on a collection that declares `n COUNTER, o.n COUNTER, whole REGISTER`, and their errors.
const REFUSED: [(&str, &str); 11] = [
    (
        "UPDATE t SET n = 'x'",
        "expected `n` to be an integer value, found string",
    ),
    (
        "UPDATE t SET o = {'n': true}",
        "expected `o.n` to be an integer value, found boolean",
    ),
    (
        "UPDATE t SET o = 5",
        "expected `o` to be an object, because it is declared as MAP, found integer",
    ),
    (
        "INSERT INTO t DOCUMENTS ({'n': null})",
        "expected `n` to be an integer value, found null",
    ),
    (
        "UPDATE t SET whole.x = 1",
        "Unsupported DML operation on REGISTER field `whole`: it has no `whole.x`",
    ),
    (
        "UPDATE t APPLY whole INCREMENT BY 1",
        "Unsupported DML operation on REGISTER field `whole`",
    ),
    (
        "UPDATE COLLECTION t (n MAP) SET x = 1",
        "`n` is a MAP in this statement, and `t` declares it as COUNTER",
    ),
    (
        "INSERT INTO COLLECTION t (whole.x MAP) DOCUMENTS ({'x': 1})",
        "`whole.x` is a MAP in this statement, and `t` declares `whole` above it as REGISTER",
    ),
    (
        "CREATE COLLECTION t (n MAP)",
        "`n` of `t` is declared COUNTER and cannot become a MAP",
    ),
    (
        "CREATE COLLECTION t (whole.x MAP)",
        "`whole.x` of `t` cannot be a MAP while `whole` is declared REGISTER: only a MAP has fields below it",
    ),
    (
        "CREATE COLLECTION t (o REGISTER)",
        "`o` of `t` cannot be a REGISTER while `o.n` is declared COUNTER: only a MAP has fields below it",
    ),
];

#[test]
fn what_disagrees_with_a_declaration_is_an_error_that_names_both() {
    let store = memory();
    run(
        &store,
        "CREATE COLLECTION t (n COUNTER, o.n COUNTER, whole REGISTER)",
    );
    run(
        &store,
        "INSERT INTO t DOCUMENTS ({'_id': 'a', 'n': 1, 'o': {'n': 1}, 'whole': {'x': 1}})",
    );
    let before = store.digest().unwrap();
    for (text, message) in REFUSED {
        assert_eq!(error(&store, text), message, "{text}");
    }
    assert_eq!(store.digest().unwrap(), before);
    let stays = run(&store, "CREATE COLLECTION IF NOT EXISTS t (n MAP)");
    assert_eq!(
        stays.warnings[0].message,
        "`n` stays a COUNTER, as it is declared, and did not become a MAP"
    );
    // Documents that come without a statement are held to it too.
    let document = Object::from([("n".to_owned(), Value::from("x"))]);
    let imported = store.insert_many(&collection("t"), vec![document], Default::default());
    let imported = imported.unwrap_err();
    let source = std::error::Error::source(&imported).unwrap().to_string();
    assert_eq!(
        source,
        "n is declared COUNTER and does not take a value of type string"
    );
    assert_sound(&store);
}

#[test]
fn statements_read_declarations_and_do_not_write_them() {
    let store = memory();
    run(&store, "CREATE COLLECTION t (n COUNTER)");
    for text in [
        "INSERT INTO __collections DOCUMENTS ({'_id': 'x'})",
        "UPDATE __collections SET kind = 'MAP'",
        "DELETE FROM __collections",
        "EVICT FROM __collections",
        "CREATE INDEX i ON __collections (kind)",
        "CREATE COLLECTION __collections (kind COUNTER)",
    ] {
        assert_eq!(
            error(&store, text),
            "collection `__collections` is reserved for the system",
            "{text}"
        );
    }
    assert_eq!(
        rows(&store, "SELECT COUNT(*) AS n FROM __collections"),
        [r#"{"n":1}"#]
    );
}

#[test]
fn a_declaration_is_undone_with_its_statement_and_its_transaction() {
    let store = memory();
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    let mut execute = |text: &str| transaction.execute(text, Object::new());
    execute("CREATE COLLECTION t (n COUNTER)").unwrap();
    execute("INSERT INTO t DOCUMENTS ({'_id': 'a', 'n': 1})").unwrap();
    execute("UPDATE t APPLY n INCREMENT BY 1").unwrap();
    execute("CREATE COLLECTION t (a MAP, n.x MAP)").unwrap_err();
    execute("INSERT INTO t DOCUMENTS ({'_id': 'b', 'a': 1})").unwrap();
    let found = execute("SELECT n FROM t WHERE _id = 'a'").unwrap();
    assert_eq!(found.items[0]["n"], Value::Int(2));
    transaction.rollback();
    assert_eq!(store.declared(&collection("t")).unwrap().len(), 0);
    run(
        &store,
        "INSERT INTO t DOCUMENTS ({'_id': 'a', 'n': 'free'})",
    );
}

#[test]
fn a_collection_declares_a_bounded_number_of_paths() {
    let store = memory();
    let declare = |from: usize, to: usize| {
        let kinds: Vec<_> = (from..to).map(|n| format!("f{n} MAP")).collect();
        format!("CREATE COLLECTION t ({})", kinds.join(", "))
    };
    run(&store, &declare(0, limits::DECLARED_KINDS_MAX));
    assert_eq!(
        error(&store, &declare(0, limits::DECLARED_KINDS_MAX + 1)),
        "a collection declares at most 1024 paths"
    );
    let kinds = store.declared(&collection("t")).unwrap();
    assert_eq!(kinds.len(), limits::DECLARED_KINDS_MAX);
}

#[test]
fn peers_that_declare_the_same_make_the_same_document() {
    let stores: Vec<Store> = (0..5).map(|_| memory()).collect();
    for store in &stores {
        run(store, "CREATE COLLECTION t (n COUNTER, o MAP)");
    }
    let digest = stores[0].digest().unwrap();
    assert!(stores.iter().all(|store| store.digest().unwrap() == digest));
    assert_eq!(exchange(&stores[0], &stores[1], &ALL), 0);
}

/// Data of several kinds is there already when the declaration comes, here by a statement and there by
/// sync: what shows changes, with the index and for observers, and nothing is lost.
#[test]
fn a_declaration_decides_over_data_that_was_there() {
    let clock = TestClock::at(1_000_000);
    let open = || Store::open(StoreConfig::memory().clock(clock.clock())).unwrap();
    let (a, b) = (open(), open());
    for store in [&a, &b] {
        run(store, "CREATE INDEX by_n ON t (n)");
    }
    run(
        &a,
        "INSERT INTO t DOCUMENTS ({'_id': 'x', 'n': 1}), ({'_id': 'y', 'n': 2})",
    );
    exchange(&a, &b, &ALL);
    run(&a, "UPDATE t APPLY n INCREMENT BY 40 WHERE _id = 'x'");
    clock.set(1_000_500);
    run(&b, "UPDATE t SET n = 5 WHERE _id = 'x'");
    exchange(&a, &b, &ALL);
    let inbox = Inbox::new();
    let sink = inbox.clone();
    let text = "SELECT _id FROM t WHERE n = 40";
    let _observer = b
        .observe(text, Object::new(), move |result| {
            sink.push(result.unwrap().items.len())
        })
        .unwrap();
    inbox.wait(|seen| seen == [0]);
    let newest = rows(&a, "SELECT n FROM t WHERE _id = 'x'");
    assert_eq!(newest, [r#"{"n":5}"#]);

    run(&a, "CREATE COLLECTION t (n COUNTER)");
    exchange(&a, &b, &ALL);
    for store in [&a, &b] {
        assert_eq!(
            rows(store, "SELECT n FROM t WHERE _id = 'x'"),
            [r#"{"n":40}"#]
        );
        assert_eq!(
            rows(store, "SELECT _id FROM t WHERE n = 40"),
            [r#"{"_id":"x"}"#]
        );
        assert_eq!(
            rows(store, "SELECT _id FROM t WHERE n = 5"),
            Vec::<String>::new()
        );
        assert_eq!(conflicts(store, "x", "n"), "[40,5]");
        // What has only another kind shows it.
        assert_eq!(
            rows(store, "SELECT n FROM t WHERE _id = 'y'"),
            [r#"{"n":2}"#]
        );
        assert_sound(store);
    }
    inbox.wait(|seen| seen.last() == Some(&1));
    // The next write settles it.
    run(&b, "UPDATE t SET n = 7 WHERE _id = 'y'");
    run(&b, "UPDATE t APPLY n INCREMENT BY 1 WHERE _id = 'y'");
    exchange(&a, &b, &ALL);
    assert_eq!(rows(&a, "SELECT n FROM t WHERE _id = 'y'"), [r#"{"n":8}"#]);
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
}

/// The kinds of one statement count when it reads, and then no index of their fields is used.
#[test]
fn a_statement_reads_as_the_kinds_that_it_declares() {
    let clock = TestClock::at(1_000_000);
    let store = Store::open(StoreConfig::memory().clock(clock.clock())).unwrap();
    run(&store, "CREATE INDEX by_n ON t (n)");
    run(&store, "CREATE INDEX by_a ON t (a)");
    run(
        &store,
        "INSERT INTO t DOCUMENTS ({'_id': 'x', 'n': 1, 'a': 1, 'o': {'q': 1}})",
    );
    run(&store, "UPDATE t APPLY n INCREMENT BY 40");
    clock.set(1_000_500);
    run(&store, "UPDATE t SET n = 5, o = 'gone'");
    let seen = |text: &str| rows(&store, text);
    assert_eq!(
        seen("SELECT n, o FROM t WHERE n = 5"),
        [r#"{"n":5,"o":"gone"}"#]
    );
    for condition in ["n = 40", "n > 39 AND a = 1", "_id = 'x' AND n = 40"] {
        let text = format!("SELECT n, o FROM COLLECTION t (n COUNTER, o MAP) WHERE {condition}");
        assert_eq!(seen(&text), [r#"{"n":40,"o":{"q":1}}"#], "{condition}");
    }
    assert_eq!(
        seen("SELECT * FROM COLLECTION t (n COUNTER) WHERE n = 5"),
        Vec::<String>::new()
    );
    let plan = rows(
        &store,
        "EXPLAIN SELECT * FROM COLLECTION t (n COUNTER) WHERE n = 5",
    );
    assert!(!plan[0].contains("by_n"), "{plan:?}");
    let plan = rows(
        &store,
        "EXPLAIN SELECT * FROM COLLECTION t (n COUNTER) WHERE a = 5",
    );
    assert!(plan[0].contains("by_a"), "{plan:?}");
    // What the collection declares as well is in the index.
    run(&store, "CREATE COLLECTION t (n COUNTER)");
    let plan = rows(
        &store,
        "EXPLAIN SELECT * FROM COLLECTION t (n COUNTER) WHERE n = 5",
    );
    assert!(plan[0].contains("by_n"), "{plan:?}");
    assert_eq!(
        error(&store, "SELECT * FROM COLLECTION t (n MAP)"),
        "`n` is a MAP in this statement, and `t` declares it as COUNTER"
    );
}

/// What another version or another program may have put there means nothing, and does no harm.
#[test]
fn declarations_that_mean_nothing_are_ignored() {
    use idem_crdt::Document;
    use idem_model::{ActorId, DocId, DocumentOp, Dot, Stamp, Timestamp};
    use idem_store::{Incoming, IncomingState};
    let store = memory();
    let incoming = [
        (r#""t""#, r#"{"kind":"COUNTER"}"#),
        (r#"{"collection":"t"}"#, r#"{"kind":"COUNTER"}"#),
        (r#"{"collection":"t","path":[]}"#, r#"{"kind":"COUNTER"}"#),
        (
            r#"{"collection":"t","path":["a",1]}"#,
            r#"{"kind":"COUNTER"}"#,
        ),
        (r#"{"collection":"","path":["a"]}"#, r#"{"kind":"COUNTER"}"#),
        (r#"{"collection":"t","path":["new"]}"#, r#"{"kind":"TEXT"}"#),
        (
            r#"{"collection":"t","path":["a"]}"#,
            r#"{"kind":["COUNTER"]}"#,
        ),
        (
            r#"{"collection":"t","path":["n"]}"#,
            r#"{"kind":"COUNTER"}"#,
        ),
        (
            r#"{"collection":"t","path":["n"],"more":1}"#,
            r#"{"kind":"MAP"}"#,
        ),
    ];
    let incoming = (1..).zip(incoming).map(|(n, (id, fields))| {
        let mut document = Document::new();
        let Value::Object(fields) = json::parse(fields).unwrap() else {
            panic!("fields are an object");
        };
        let kinds = Vec::new();
        let stamp = Stamp {
            dot: Dot {
                actor: ActorId([9; 16]),
                n,
            },
            time: Timestamp::new(n, 0),
        };
        let conflict = Default::default();
        let op = DocumentOp::Insert {
            fields,
            kinds,
            conflict,
        };
        document.apply(&op, stamp).unwrap();
        Incoming {
            key: DocumentKey {
                collection: collection("__collections"),
                id: DocId::new(json::parse(id).unwrap()).unwrap(),
            },
            group: 0,
            state: IncomingState::Whole(document.to_bytes()),
        }
    });
    let report = store.apply(incoming.collect(), &[]).unwrap();
    assert!(report.is_applied());
    let kinds = store.declared(&collection("t")).unwrap();
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    assert_eq!(kinds[0].0, FieldPath::field("n"));
    assert_eq!(
        error(&store, "CREATE COLLECTION t (new MAP)"),
        "`new` of `t` is declared as a kind that this version does not know"
    );
}

fn kind(random: &mut Random) -> FieldKind {
    FieldKind::ALL[usize::try_from(random.below(3)).unwrap()]
}

/// One random write or declaration; what the declarations of the store refuse does not happen.
fn step(store: &Store, random: &mut Random) -> bool {
    let id = random.below(4);
    let field = ["n", "m.c", "m.r", "o", "o.deep"][usize::try_from(random.below(5)).unwrap()];
    let number = random.below(12);
    let text = match random.below(10) {
        0 | 1 => {
            let kind = kind(random);
            format!("CREATE COLLECTION IF NOT EXISTS t ({field} {kind})")
        }
        2 | 3 => format!(
            "INSERT INTO t DOCUMENTS ({{'_id': {id}, 'n': {number}, 'm': {{'c': {number}}}, 'o': {{'deep': 1}}}}) \
             ON ID CONFLICT DO UPDATE"
        ),
        4 => format!("INSERT INTO t INITIAL DOCUMENTS ({{'_id': {id}, 'n': 1, 'm': {{'c': 2}}}})"),
        5 => format!("UPDATE t SET {field} = {number} WHERE _id = {id}"),
        6 => format!("UPDATE t SET {field} = {{'deep': {number}}} WHERE _id = {id}"),
        7 => format!("UPDATE t APPLY {field} INCREMENT BY {number} WHERE _id = {id}"),
        8 => format!("UPDATE t UNSET {field} WHERE _id = {id}"),
        _ => format!("DELETE FROM t WHERE _id = {id}"),
    };
    store.execute(&text, Object::new()).is_ok()
}

/// Answers by index and by scan.
fn answers(store: &Store) -> Vec<String> {
    let mut answers = Vec::new();
    for number in 0..12 {
        for field in ["n", "m.c"] {
            let by = |hint: &str| {
                let text =
                    format!("SELECT _id, {field} FROM t {hint} WHERE {field} = :v ORDER BY _id");
                let args = format!(r#"{{"v":{number}}}"#);
                let items = run_with(store, &text, &args).items;
                items
                    .into_iter()
                    .map(crate::fixture::to_json)
                    .collect::<Vec<_>>()
            };
            let name = if field == "n" { "by_n" } else { "by_c" };
            let found = by(&format!("USE INDEX '{name}'"));
            assert_eq!(found, by("USE INDEX ''"), "{field} = {number}");
            answers.extend(found);
        }
    }
    answers
}

#[test]
fn random_declarations_and_writes_converge() {
    let (mut written, mut refused) = (0, 0);
    for seed in 0..20 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let clock = TestClock::at(1_000_000);
        let stores: Vec<Store> = (0..3)
            .map(|number| {
                let config = StoreConfig::simulated(SimulatedDisk::new())
                    .clock(clock.clock())
                    .entropy_seed(seed * 10 + number);
                let store = Store::open(config).unwrap();
                run(&store, "CREATE INDEX by_n ON t (n)");
                run(&store, "CREATE INDEX by_c ON t (m.c)");
                store
            })
            .collect();
        for _ in 0..60 {
            clock.set(1_000_000 + random.below(500));
            let one = usize::try_from(random.below(3)).unwrap();
            let other = usize::try_from(random.below(3)).unwrap();
            if random.is(80) || one == other {
                match step(&stores[one], &mut random) {
                    true => written += 1,
                    false => refused += 1,
                }
            } else {
                // Declarations and documents also travel apart.
                let names: &[&str] =
                    [&ALL[..], &ALL[..1], &ALL[1..]][usize::try_from(random.below(3)).unwrap()];
                exchange(&stores[one], &stores[other], names);
            }
        }
        for (a, b) in [(0, 1), (1, 2), (0, 1), (0, 2)] {
            exchange(&stores[a], &stores[b], &ALL);
        }
        let first = &stores[0];
        for store in &stores {
            assert_eq!(store.digest().unwrap(), first.digest().unwrap());
            let kinds = store.declared(&collection("t")).unwrap();
            assert_eq!(kinds, first.declared(&collection("t")).unwrap());
            assert_eq!(documents(store, "t"), documents(first, "t"));
            assert_eq!(answers(store), answers(first));
            assert_sound(store);
        }
        assert_eq!(exchange(&stores[0], &stores[2], &ALL), 0);
    }
    assert!(written > 500 && refused > 50, "{written} {refused}");
}
