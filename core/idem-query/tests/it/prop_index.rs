//! An index changes how many rows are read, never which ones are found.

use idem_model::{Object, Value, json};
use proptest::{prelude::*, sample::select};

use crate::memory::Memory;

/// Values near each other across kinds, so that bounds are hit exactly.
fn value() -> impl Strategy<Value = Value> {
    let scalar = || {
        prop_oneof![
            6 => (0i64..3).prop_map(Value::Int),
            6 => (-1i64..5).prop_map(|half| Value::Float(half as f64 / 2.0)),
            1 => select(vec![i64::MIN, i64::MAX, i64::MAX - 1, (1 << 53) + 1]).prop_map(Value::Int),
            4 => select(vec!["", "a", "ab", "b", "a\u{0}", "%", "\u{e9}"]).prop_map(Value::from),
            2 => any::<bool>().prop_map(Value::Bool),
            1 => Just(Value::Null),
        ]
    };
    prop_oneof![
        4 => scalar(),
        // Equal in value, different in key.
        1 => select(vec!["[1]", "[1.0]", "[1,\"a\"]", "[1.0,\"b\"]", "{\"x\":1}", "{\"x\":1.0}"])
            .prop_map(|text| json::parse(text).unwrap()),
        1 => prop::collection::vec(scalar(), 0..3).prop_map(Value::Array),
        1 => prop::collection::btree_map(select(vec!["x".to_owned(), "y".to_owned()]), scalar(), 0..3)
            .prop_map(Value::Object),
    ]
}

fn document() -> impl Strategy<Value = Object> {
    let names = select(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]);
    prop::collection::btree_map(names, value(), 0..4)
}

/// A condition on one field, with its value written out.
fn condition() -> impl Strategy<Value = String> {
    let field = select(vec!["a", "b", "c", "a.x"]);
    let operator = select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let literal = || value().prop_map(|value| json::to_string(&value));
    let pattern = select(vec!["a%", "%", "a\\\\%", "_b", "ab", ""]);
    prop_oneof![
        6 => (field.clone(), operator, literal(), any::<bool>()).prop_map(
            |(field, operator, literal, turned)| match turned {
                true => format!("{literal} {operator} {field}"),
                false => format!("{field} {operator} {literal}"),
            }
        ),
        2 => (field.clone(), prop::collection::vec(literal(), 0..4))
            .prop_map(|(field, list)| format!("{field} IN [{}]", list.join(", "))),
        2 => (field.clone(), literal(), literal())
            .prop_map(|(field, low, high)| format!("{field} BETWEEN {low} AND {high}")),
        1 => (field.clone(), pattern).prop_map(|(field, p)| format!("{field} LIKE '{p}'")),
        1 => (
            field,
            select(vec!["NULL", "MISSING", "TRUE", "NOT MISSING", "NOT NULL"])
        )
            .prop_map(|(field, test)| format!("{field} IS {test}")),
    ]
}

fn index() -> impl Strategy<Value = String> {
    let field = (select(vec!["a", "b", "c", "a.x"]), any::<bool>());
    prop::collection::vec(field, 1..4).prop_map(|mut fields| {
        let mut seen = Vec::new();
        fields.retain(|(name, _)| {
            !seen.contains(name) && {
                seen.push(*name);
                true
            }
        });
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, descending)| format!("{name}{}", if *descending { " DESC" } else { "" }))
            .collect();
        format!("CREATE INDEX ix ON c ({})", fields.join(", "))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn an_index_scan_finds_what_a_scan_finds(
        documents in prop::collection::vec(document(), 1..30),
        index in index(),
        conditions in prop::collection::vec(condition(), 1..4),
    ) {
        let mut memory = Memory::default();
        let documents: Vec<Value> = documents
            .into_iter()
            .enumerate()
            .map(|(id, mut fields)| {
                fields.insert("_id".to_owned(), Value::Int(i64::try_from(id).unwrap()));
                Value::Object(fields)
            })
            .collect();
        let args = Object::from([("documents".to_owned(), Value::Array(documents))]);
        memory.run("INSERT INTO c DOCUMENTS (:documents)", &args).unwrap();
        memory.rows(&index);
        let filter = conditions.join(" AND ");
        let scanned = memory.rows(&format!("SELECT _id FROM c USE INDEX '' WHERE {filter} ORDER BY _id"));
        let indexed = memory.rows(&format!("SELECT _id FROM c USE INDEX 'ix' WHERE {filter} ORDER BY _id"));
        let chosen = memory.rows(&format!("SELECT _id FROM c WHERE {filter} ORDER BY _id"));
        prop_assert_eq!(&scanned, &indexed);
        prop_assert_eq!(&scanned, &chosen);
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_short_window_shows_the_head_of_the_whole_order(
        documents in prop::collection::vec(document(), 0..400),
        limit in 0usize..20,
        offset in 0usize..20,
        descending in any::<bool>(),
    ) {
        let mut memory = Memory::default();
        let documents: Vec<Value> = documents.into_iter().map(Value::Object).collect();
        let args = Object::from([("documents".to_owned(), Value::Array(documents))]);
        memory.run("INSERT INTO c DOCUMENTS (:documents)", &args).unwrap();
        let order = if descending { "a DESC, b" } else { "a, b DESC" };
        let whole = memory.rows(&format!("SELECT _id, a, b FROM c ORDER BY {order}"));
        let head = memory.rows(&format!(
            "SELECT _id, a, b FROM c ORDER BY {order} LIMIT {limit} OFFSET {offset}"
        ));
        let expected: Vec<Object> = whole.iter().skip(offset).take(limit).cloned().collect();
        prop_assert_eq!(head, expected);
        let rank = |row: &Object| row.get("a").map_or(8, |value| match value {
            Value::Bool(_) => 0,
            Value::Int(_) | Value::Float(_) => 1,
            Value::Binary(_) => 2,
            Value::String(_) => 3,
            Value::Array(_) => 4,
            Value::Object(_) => 5,
            Value::Null => 6,
        });
        let ranks: Vec<i32> = whole.iter().map(rank).collect();
        let sorted = ranks.is_sorted_by(|a, b| if descending { a >= b } else { a <= b });
        prop_assert!(sorted);
    }
}
