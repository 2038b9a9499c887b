//! The canonical text of a selector parses to a selector of the same meaning.

use idem_model::{Object, Value, json};
use idem_query::parse;
use proptest::{prelude::*, sample::select};

fn literal() -> impl Strategy<Value = String> {
    select(vec![
        "1",
        "-1",
        "2.5",
        "-0.5",
        "'a'",
        "\"it's\"",
        "'\\u00e9\\n'",
        "null",
        "true",
        "[1, 'a']",
        "{'k': [1]}",
        ":p",
        ":deep",
        "9223372036854775807",
        "-9223372036854775808",
        "1e300",
    ])
    .prop_map(str::to_owned)
}

fn operand() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "a", "b", "o.x", "`select`", "o.`a b`", "tags[0]", "_id", "c.a", "v0", "d"
        ])
        .prop_map(str::to_owned),
        literal(),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let operator = select(vec!["=", "==", "!=", "<", ">=", "+", "-", "*", "||", "<<"]);
    let leaf = prop_oneof![
        (operand(), operator, operand()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        (operand(), operand(), operand())
            .prop_map(|(a, b, c)| format!("{a} NOT BETWEEN {b} AND {c}")),
        (operand(), operand()).prop_map(|(a, b)| format!("{a} IN ({b}, 1)")),
        (operand(), operand()).prop_map(|(a, b)| format!("{a} IN {b}")),
        (operand(), operand())
            .prop_map(|(a, b)| format!("{a} IN CASE WHEN {b} = 1 THEN [{b}] ELSE [1] END")),
        operand().prop_map(|a| format!("{a} LIKE 'a%' ESCAPE '!'")),
        operand().prop_map(|a| format!("-{a} IS NOT MISSING")),
        (operand(), operand())
            .prop_map(|(a, b)| format!("coalesce({a}, trim({b})) = CAST({a} AS string)")),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} AND {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) OR ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} XOR {b}")),
            inner.clone().prop_map(|a| format!("NOT ({a})")),
            (operand(), inner.clone())
                .prop_map(|(a, b)| format!("ANY i:v IN {a} SATISFIES {b} AND i > v END")),
            (operand(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("CASE {a} WHEN {b} THEN {c} ELSE null END")),
            (operand(), inner).prop_map(|(a, b)| format!(
                "array_length(ARRAY v FOR v WITHIN {a} WHEN {b} END) = 1"
            )),
        ]
    })
}

fn fields() -> impl Strategy<Value = Object> {
    let value = select(vec![
        "1",
        "-1",
        "2.5",
        "\"a\"",
        "null",
        "true",
        "[1,\"a\"]",
        "{\"x\":1,\"a b\":\"a\"}",
        "\"it's\"",
    ])
    .prop_map(|text| json::parse(text).unwrap());
    let name = select(vec!["a", "b", "o", "select", "tags", "_id", "v0", "d", "c"]);
    prop::collection::btree_map(name.prop_map(str::to_owned), value, 0..6)
}

fn args() -> Object {
    let deep = (0..20).fold(Value::Int(1), |inner, _| Value::Array(vec![inner]));
    Object::from([
        ("p".to_owned(), Value::Binary(vec![0, 255])),
        ("deep".to_owned(), deep),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn canonical_text_means_the_same(
        condition in condition(),
        documents in prop::collection::vec(fields(), 8),
    ) {
        let text = format!("SELECT * FROM c WHERE {condition}");
        let Ok(statement) = parse(&text) else {
            return Ok(());
        };
        let first = statement.subscription(&args()).unwrap();
        let canonical = first.canonical();
        let second = match parse(&canonical) {
            Ok(statement) => statement.subscription(&Object::new()).unwrap(),
            Err(error) => panic!("{text}\n{}", error.render(&canonical)),
        };
        prop_assert_eq!(second.canonical(), canonical);
        for document in &documents {
            prop_assert_eq!(first.matches(document), second.matches(document), "{:?}", document);
        }
    }
}

#[test]
fn one_meaning_has_one_text() {
    let canonical = |text: &str| {
        let args = Object::from([("s".to_owned(), "open".into()), ("n".to_owned(), 3.into())]);
        parse(text)
            .unwrap()
            .subscription(&args)
            .unwrap()
            .canonical()
    };
    let check = |texts: &[&str]| {
        for text in &texts[1..] {
            assert_eq!(canonical(texts[0]), canonical(text), "{text}");
        }
    };
    check(&[
        "SELECT * FROM orders WHERE status = 'open' AND n > 3",
        "select * from orders o where o.n > :n and o.status == :s",
        "SELECT * FROM `orders` WHERE (3 < n) AND 'open' = orders.status -- note",
        "SELECT * FROM default:orders WHERE n > 3 AND status = \"open\" AND n > 3",
    ]);
    check(&[
        "SELECT * FROM c WHERE _id = 'a'",
        "SELECT * FROM c x WHERE x._id IN ['a', 'a']",
    ]);
    assert_ne!(
        canonical("SELECT * FROM c WHERE a = 1"),
        canonical("SELECT * FROM c WHERE a = '1'")
    );
}

#[test]
fn a_selector_matches_by_its_condition() {
    let check = |text: &str, document: &str, expected: bool| {
        let Value::Object(fields) = json::parse(document).unwrap() else {
            panic!("not an object");
        };
        let selector = parse(text).unwrap().subscription(&Object::new()).unwrap();
        assert_eq!(selector.matches(&fields), expected, "{text} {document}");
    };
    check("SELECT * FROM c", "{}", true);
    check("SELECT * FROM c WHERE a > 1", r#"{"a": 2}"#, true);
    check("SELECT * FROM c WHERE a > 1", r#"{"a": "x"}"#, false);
    check(
        "SELECT * FROM c WHERE _id IN ['k', 2] AND a = 1",
        r#"{"_id": "k", "a": 1}"#,
        true,
    );
    check(
        "SELECT * FROM c WHERE _id IN ['k', 2] AND a = 1",
        r#"{"_id": "k"}"#,
        false,
    );
    check("SELECT * FROM c WHERE _id = 2.0", r#"{"_id": 2}"#, true);
    check("SELECT * FROM c WHERE _id = 'k'", r#"{"_id": "x"}"#, false);
}

#[test]
fn fields_are_named_in_one_way() {
    let canonical = |text: &str| {
        let selector = parse(text).unwrap().subscription(&args()).unwrap();
        let again = parse(&selector.canonical()).unwrap();
        let again = again.subscription(&Object::new()).unwrap();
        assert_eq!(again.canonical(), selector.canonical(), "{text}");
        assert_eq!(again.projection(), selector.projection(), "{text}");
        selector.canonical()
    };
    let expected = "SELECT d._id, d.name, d.price FROM products AS d WHERE (d.shop = 7)";
    for text in [
        "SELECT _id, name, price FROM products WHERE shop = 7",
        "SELECT price, name FROM products WHERE 7 = shop",
        "select p.price, p.name, p.price, p._id from products p where p.shop == 7",
        "SELECT name, name.first, price.net.eur, price, _id FROM products WHERE shop = 7",
    ] {
        assert_eq!(canonical(text), expected, "{text}");
    }
    for (text, expected) in [
        ("SELECT _id FROM c", "SELECT d._id FROM c AS d"),
        ("SELECT _id.x FROM c", "SELECT d._id FROM c AS d"),
        (
            "SELECT b.c, ab, a, `two words`.x, `select` FROM `x y`",
            "SELECT d._id, d.a, d.ab, d.b.c, d.select, d.`two words`.x FROM `x y` AS d",
        ),
    ] {
        assert_eq!(canonical(text), expected, "{text}");
    }
    let all = parse("SELECT * FROM c WHERE n = 1").unwrap();
    let all = all.subscription(&Object::new()).unwrap();
    assert_eq!(all.projection(), None);
    assert_eq!(all.canonical_projection(), "SELECT * FROM c AS d");
}

#[test]
fn what_is_no_path_of_a_field_is_refused_with_its_place() {
    for (fields, clause, column) in [
        ("name AS n", "AS", 16),
        ("_id, price * 2", "an expression", 13),
        ("tags[0]", "an expression", 8),
        ("p.*", "a projection of all below", 8),
        ("COUNT(*)", "an expression", 8),
        ("name, MISSING price", "MISSING", 22),
    ] {
        let text = format!("SELECT {fields} FROM products p");
        let error = match parse(&text) {
            Ok(statement) => statement.subscription(&Object::new()).unwrap_err(),
            Err(error) => panic!("{}", error.render(&text)),
        };
        let expected = format!("{clause} is not supported in sync subscription");
        assert_eq!(error.message(), expected, "{text}");
        assert_eq!(error.position().unwrap().column, column, "{text}");
    }
    let many: Vec<String> = (0..257).map(|at| format!("f{at}")).collect();
    let refused = |count: usize| {
        let text = format!("SELECT {} FROM c", many[..count].join(", "));
        parse(&text).unwrap().subscription(&Object::new()).err()
    };
    assert!(refused(256).is_none());
    assert!(
        refused(257)
            .unwrap()
            .message()
            .contains("at most 256 fields")
    );
    let text = "SELECT name FROM products ORDER BY price LIMIT 3";
    let error = parse(text).unwrap().window(&Object::new()).unwrap_err();
    let expected = "ORDER BY with single fields is not supported in sync subscription";
    assert_eq!(error.message(), expected);
    let row = parse("SELECT p FROM products p").unwrap();
    assert!(row.subscription(&Object::new()).is_err());
}
