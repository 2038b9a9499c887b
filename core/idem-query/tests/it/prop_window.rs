//! A window within its reach has the documents that ORDER BY and LIMIT give, and no others.

use idem_model::{Object, Value, json, limits};
use idem_query::{Reach, Window, parse};
use proptest::{prelude::*, sample::select};

use crate::memory::Memory;

fn value() -> impl Strategy<Value = String> {
    select(vec![
        "1",
        "1.0",
        "2",
        "-3",
        "0.5",
        "1e300",
        "\"a\"",
        "\"ab\"",
        "\"\"",
        "null",
        "true",
        "false",
        "[1]",
        "[1,2]",
        "{\"x\":1}",
        "{}",
    ])
    .prop_map(str::to_owned)
}

/// Documents of which any field may be missing.
fn documents() -> impl Strategy<Value = Vec<(Option<String>, Option<String>)>> {
    let field = || prop::option::weighted(0.8, value());
    prop::collection::vec((field(), field()), 0..24)
}

fn order() -> impl Strategy<Value = String> {
    let key = select(vec![
        "a",
        "b",
        "_id",
        "a + b",
        "type(a)",
        "c.a",
        "[a, b]",
        "ifmissing(a, b)",
    ]);
    let key = (key, select(vec!["", " ASC", " DESC"])).prop_map(|(key, way)| format!("{key}{way}"));
    prop::collection::vec(key, 1..4).prop_map(|keys| keys.join(", "))
}

fn filled(documents: &[(Option<String>, Option<String>)]) -> Memory {
    let mut memory = Memory::default();
    for (at, (a, b)) in documents.iter().enumerate() {
        // Ids of two kinds, in no order.
        let at = (at * 7) % 25;
        let id = if at % 3 == 0 {
            format!("\"{at}\"")
        } else {
            at.to_string()
        };
        let field = |name: &str, value: &Option<String>| {
            value
                .as_ref()
                .map(|value| format!(", \"{name}\": {value}"))
                .unwrap_or_default()
        };
        let text = format!("{{\"_id\": {id}{}{}}}", field("a", a), field("b", b));
        memory.rows(&format!("INSERT INTO c DOCUMENTS ({text})"));
    }
    memory
}

fn window(text: &str) -> Window {
    parse(text)
        .unwrap()
        .window(&Object::new())
        .unwrap()
        .unwrap()
}

fn ids<'d>(documents: impl IntoIterator<Item = &'d Object>) -> Vec<String> {
    let ids = documents
        .into_iter()
        .map(|document| json::to_string(&document["_id"]));
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    ids
}

fn reach_of(window: &Window, number: u32, memory: &mut Memory) -> Reach {
    let rows = memory.rows(&window.last_statement(number));
    rows.first().map_or(Reach::ALL, |row| window.reach_of(row))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_window_has_the_first_documents(
        documents in documents(),
        order in order(),
        is_filtered in any::<bool>(),
        count in 1_u32..30,
        cut in 0_usize..20,
    ) {
        let mut memory = filled(&documents);
        let condition = if is_filtered { "WHERE b IS NOT NULL OR a = 1" } else { "" };
        let text = format!("SELECT * FROM c {condition} ORDER BY {order} LIMIT {count}");
        let window = window(&text);
        let all = memory.rows("SELECT * FROM c");
        let first = memory.rows(&format!(
            "SELECT * FROM c {condition} ORDER BY {order}, _id LIMIT {count}"
        ));
        let reach = reach_of(&window, count, &mut memory);
        prop_assert_eq!(reach.is_all(), first.len() < count as usize);
        let selector = window.within(&reach);
        let inside = all.iter().filter(|document| selector.matches(document));
        prop_assert_eq!(ids(inside), ids(&first), "{}", selector.canonical());
        // The same on every peer.
        let text = selector.canonical();
        let read = parse(&text).unwrap().subscription(&Object::new()).unwrap();
        prop_assert_eq!(read.canonical(), text);
        // What is cut goes farther.
        let shorter = Reach::to_place(&reach.as_bytes()[..cut.min(reach.as_bytes().len())]);
        prop_assert!(shorter >= reach);
        let selector = window.within(&shorter);
        prop_assert!(first.iter().all(|document| selector.matches(document)));
    }

    #[test]
    fn the_smaller_reach_is_a_subset(
        documents in documents(),
        order in order(),
        places in prop::array::uniform2(prop::collection::vec(any::<u8>(), 0..4)),
    ) {
        let mut memory = filled(&documents);
        let window = window(&format!("SELECT * FROM c ORDER BY {order} LIMIT 1"));
        let [one, other] = places.map(|place| Reach::to_place(&place));
        let (small, large) = (window.within(&one.clone().min(other.clone())), window.within(&one.max(other)));
        for document in memory.rows("SELECT * FROM c") {
            prop_assert!(large.matches(&document) || !small.matches(&document), "{:?}", document);
        }
    }
}

#[test]
fn a_window_reads_back_from_its_text() {
    let args = Object::from([("n".to_owned(), 3.into()), ("s".to_owned(), "open".into())]);
    let read = |text: &str| parse(text).unwrap().window(&args).unwrap().unwrap();
    let one =
        read("select * from orders o where o.state = :s order by o.total desc, o.at limit :n");
    let other =
        read("SELECT * FROM orders WHERE 'open' = state ORDER BY total DESC, at ASC LIMIT 1 + 2");
    assert_eq!(one, other);
    let text =
        "SELECT * FROM orders AS d WHERE (d.state = \"open\") ORDER BY d.total DESC, d.at LIMIT 3";
    assert_eq!(one.canonical(), text);
    assert_eq!(read(text), one);
    assert_eq!(one.count(), 3);
    assert!(
        parse("SELECT * FROM c")
            .unwrap()
            .window(&args)
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_window_that_cannot_be_kept_is_refused_with_its_place() {
    let limit = format!(
        "LIMIT of a sync subscription is a number from 1 to {}",
        limits::WINDOW_DOCUMENTS_MAX
    );
    let keys = vec!["a"; 17].join(", ");
    let many = format!("SELECT * FROM c ORDER BY {keys} LIMIT 1");
    for (text, message, column) in [
        (
            "SELECT * FROM c ORDER BY a",
            "ORDER BY without LIMIT is not supported in sync subscription",
            26,
        ),
        (
            "SELECT * FROM c LIMIT 3",
            "LIMIT without ORDER BY is not supported in sync subscription",
            23,
        ),
        (
            "SELECT * FROM c ORDER BY a LIMIT 3 OFFSET 1",
            "OFFSET is not supported in sync subscription",
            43,
        ),
        ("SELECT * FROM c ORDER BY a LIMIT 0", &limit, 34),
        ("SELECT * FROM c ORDER BY a LIMIT 10001", &limit, 34),
        ("SELECT * FROM c ORDER BY a LIMIT -1", &limit, 34),
        ("SELECT * FROM c ORDER BY a LIMIT 'x'", &limit, 34),
        (
            "SELECT a FROM c ORDER BY a LIMIT 1",
            "ORDER BY with single fields is not supported in sync subscription",
            26,
        ),
        (
            "SELECT * FROM c ORDER BY (SELECT a FROM c) LIMIT 1",
            "a subquery is not supported in sync subscription",
            26,
        ),
        (
            "SELECT * FROM c ORDER BY conflicts(a) LIMIT 1",
            "conflicts is not supported in sync subscription",
            26,
        ),
        (
            "SELECT * FROM c ORDER BY clock() LIMIT 1",
            "clock() is not supported in sync subscription",
            0,
        ),
        (
            "SELECT * FROM system:indexes ORDER BY a LIMIT 1",
            "a system collection is not supported in sync subscription",
            0,
        ),
        (
            &many,
            "17 expressions in ORDER BY of a sync subscription, 16 are the limit",
            26,
        ),
    ] {
        let error = parse(text).unwrap().window(&Object::new()).unwrap_err();
        assert_eq!(error.message(), message, "{text}");
        let found = error.position().map_or(0, |position| position.column);
        if column > 0 {
            assert_eq!(found, column, "{}", error.render(text));
        }
    }
}

#[test]
fn a_plain_subscription_takes_no_window() {
    let statement = parse("SELECT * FROM c ORDER BY a LIMIT 1").unwrap();
    let error = statement.subscription(&Object::new()).unwrap_err();
    assert_eq!(
        error.message(),
        "ORDER BY is not supported in sync subscription"
    );
    assert!(error.position().is_some());
}

#[test]
fn a_long_place_is_cut_and_reaches_farther() {
    let mut memory = Memory::default();
    let long = "x".repeat(2000);
    for end in ["a", "b", "c"] {
        memory.rows(&format!(
            "INSERT INTO c DOCUMENTS ({{'_id': '{end}', 'k': '{long}{end}'}})"
        ));
    }
    memory.rows("INSERT INTO c DOCUMENTS ({'_id': 'z', 'k': 'y'})");
    let window = window("SELECT * FROM c ORDER BY k LIMIT 1");
    let reach = reach_of(&window, 1, &mut memory);
    assert_eq!(reach.as_bytes().len(), limits::WINDOW_PLACE_BYTES_MAX);
    let selector = window.within(&reach);
    let all = memory.rows("SELECT * FROM c");
    let inside = all.iter().filter(|document| selector.matches(document));
    assert_eq!(ids(inside), [r#""a""#, r#""b""#, r#""c""#]);
    assert!(matches!(all[0]["k"], Value::String(_)));
}
