//! An index changes how many rows are read, never which ones are found.

use idem_model::{CollectionName, FieldPath, Object, Value, json};
use idem_query::{IndexExpression, IndexField, IndexKey, IndexSpec, Target as _};
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

/// A condition that an index of an expression or of elements may know of, or that none does.
fn other_condition() -> impl Strategy<Value = String> {
    let literal = || value().prop_map(|value| json::to_string(&value));
    let operator = || select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let source = || select(vec!["c", "b"]);
    let element = || select(vec!["v", "v.x"]);
    prop_oneof![
        (literal(), source()).prop_map(|(value, source)| format!("{value} IN {source}")),
        (literal(), source())
            .prop_map(|(value, source)| format!("array_contains({source}, {value})")),
        (element(), operator(), literal(), source()).prop_map(|(element, operator, value, source)| {
            format!("ANY v IN {source} SATISFIES {element} {operator} {value} END")
        }),
        (element(), literal(), literal(), source()).prop_map(|(element, low, high, source)| {
            format!(
                "ANY v IN {source} SATISFIES {element} >= {low} AND {element} <= {high} AND v != 7 END"
            )
        }),
        (operator(), select(vec!["", "a", "ab", "b"]))
            .prop_map(|(operator, text)| format!("lower(a) {operator} '{text}'")),
        (operator(), 0i64..4).prop_map(|(operator, number)| format!("a + 1 {operator} {number}")),
        Just("a = b".to_owned()),
        Just("_id > 3".to_owned()),
        Just("_id IN [1, 2.0, 5, 'x']".to_owned()),
        Just("_id = 4".to_owned()),
    ]
}

fn any_condition() -> impl Strategy<Value = String> {
    let simple = || {
        prop_oneof![
            3 => condition(),
            1 => other_condition(),
        ]
    };
    let all = || prop::collection::vec(simple(), 1..3).prop_map(|all| all.join(" AND "));
    prop_oneof![
        4 => simple(),
        2 => prop::collection::vec(all(), 2..4)
            .prop_map(|any| format!("({})", any.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" OR "))),
    ]
}

fn expression(text: &str) -> IndexExpression {
    IndexExpression::parse(text).unwrap()
}

/// What a field of an index can hold.
fn keys() -> Vec<IndexKey> {
    let paths = ["a", "b", "c", "a.x"];
    let path = |name: &str| {
        IndexKey::Path(FieldPath::new(name.split('.').map(str::to_owned).collect()).unwrap())
    };
    let mut keys: Vec<IndexKey> = paths.iter().map(|name| path(name)).collect();
    keys.extend(["lower(a)", "a + 1"].map(|text| IndexKey::Expression(expression(text))));
    let elements = ["ARRAY v FOR v IN c END", "ARRAY v.x FOR v IN c END"];
    keys.extend(elements.map(|text| IndexKey::Elements(expression(text))));
    keys
}

fn indexes() -> impl Strategy<Value = Vec<IndexSpec>> {
    let count = keys().len();
    let field = (0..count, any::<bool>());
    let index = prop::collection::vec(field, 1..4);
    prop::collection::vec(index, 1..4).prop_map(|all| {
        let mut specs = Vec::new();
        for (at, fields) in all.into_iter().enumerate() {
            let keys = keys();
            let mut chosen: Vec<IndexField> = Vec::new();
            for (key, descending) in fields {
                let key = keys[key].clone();
                let repeats = |key: &IndexKey| matches!(key, IndexKey::Elements(_));
                let known =
                    |field: &IndexField| field.key == key || repeats(&field.key) && repeats(&key);
                if !chosen.iter().any(known) {
                    chosen.push(IndexField { key, descending });
                }
            }
            specs.push(IndexSpec {
                name: format!("i{at}"),
                collection: CollectionName::new("c").unwrap(),
                fields: chosen,
            });
        }
        specs
    })
}

fn order() -> impl Strategy<Value = Vec<String>> {
    let key = select(vec!["a", "b", "c", "a.x", "lower(a)", "a + 1", "_id"]);
    let direction = select(vec!["", " DESC"]);
    let key = (key, direction).prop_map(|(key, direction)| format!("{key}{direction}"));
    prop::collection::vec(key, 1..4)
}

fn filled(documents: Vec<Object>, indexes: Vec<IndexSpec>, tells_statistics: bool) -> Memory {
    let mut memory = Memory::default();
    memory.tells_statistics = tells_statistics;
    let documents: Vec<Value> = documents
        .into_iter()
        .enumerate()
        .map(|(id, mut fields)| {
            fields.insert("_id".to_owned(), Value::Int(i64::try_from(id).unwrap()));
            Value::Object(fields)
        })
        .collect();
    let args = Object::from([("documents".to_owned(), Value::Array(documents))]);
    memory
        .run("INSERT INTO c DOCUMENTS (:documents)", &args)
        .unwrap();
    for index in indexes {
        memory.create_index(index).unwrap();
    }
    memory
}

fn sorted(rows: &[Object]) -> Vec<String> {
    let mut rows: Vec<String> = rows
        .iter()
        .map(|row| json::to_string(&row.clone().into()))
        .collect();
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn indexes_change_no_result(
        documents in prop::collection::vec(document(), 1..40),
        indexes in indexes(),
        tells_statistics in any::<bool>(),
        conditions in prop::collection::vec(any_condition(), 0..4),
        projection in select(vec!["*", "_id", "_id, a", "a, b", "_id, a.x, c", "b", "lower(a) AS l, _id"]),
        order in order(),
        hint in select(vec!["", "", "USE INDEX 'i0'"]),
        (limit, offset) in (0usize..6, 0usize..4),
    ) {
        let mut memory = filled(documents, indexes, tells_statistics);
        let filter = match conditions.as_slice() {
            [] => String::new(),
            all => format!("WHERE {}", all.join(" AND ")),
        };
        let mut both = |columns: &str, tail: &str| {
            let plain = memory.rows(&format!("SELECT {columns} FROM c USE INDEX '' {filter} {tail}"));
            let found = memory.rows(&format!("SELECT {columns} FROM c {hint} {filter} {tail}"));
            (plain, found)
        };
        let (plain, found) = both(projection, "");
        prop_assert_eq!(sorted(&plain), sorted(&found));
        let (_, short) = both(projection, &format!("LIMIT {limit}"));
        prop_assert_eq!(short.len(), limit.min(plain.len()));
        let order = order.join(", ");
        let (plain, found) = both(projection, &format!("ORDER BY {order}"));
        prop_assert_eq!(&plain, &found, "ORDER BY {}", order);
        let window = format!("ORDER BY {order} LIMIT {limit} OFFSET {offset}");
        let (plain, found) = both(projection, &window);
        prop_assert_eq!(&plain, &found, "{}", window);
        for aggregates in ["COUNT(*) AS n", "MIN(a) AS a", "MAX(a) AS a, MIN(b) AS b, COUNT(*) AS n"] {
            let (plain, found) = both(aggregates, "");
            prop_assert_eq!(plain, found, "{}", aggregates);
        }
        let (plain, found) = both("a, COUNT(*) AS n", "GROUP BY a");
        prop_assert_eq!(plain, found);
        let mut gone = Vec::new();
        for hint in ["USE INDEX ''", hint] {
            let before = memory.snapshot();
            let text = format!("DELETE FROM c {hint} {filter} ORDER BY {order} LIMIT {limit}");
            gone.push(memory.run(&text, &Object::new()).unwrap().mutated_ids);
            memory.restore(before);
        }
        prop_assert_eq!(&gone[0], &gone[1]);
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

/// `count` documents with the values that `fields` gives, and an index.
fn many(count: i64, index: &str, fields: impl Fn(i64) -> Vec<(&'static str, Value)>) -> Memory {
    let document = |id: i64| {
        let fields = fields(id).into_iter();
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        fields
            .chain([("_id".to_owned(), Value::Int(id))])
            .collect::<Object>()
    };
    let mut memory = filled((0..count).map(document).collect(), Vec::new(), false);
    memory.rows(index);
    memory
}

/// More entries are equal in the order than are read at once.
#[test]
fn long_runs_of_equal_keys_come_by_id() {
    let number = |id: i64| match id % 7 {
        0 => Value::Float(1.0),
        _ => Value::Int(1),
    };
    type Fields = fn(i64) -> Vec<(&'static str, Value)>;
    let runs: [(&str, Fields); 4] = [
        ("CREATE INDEX i ON c (a)", |_| vec![("a", "x".into())]),
        ("CREATE INDEX i ON c (a, b)", |id| {
            vec![("a", Value::Int(2)), ("b", Value::Int(-id / 3))]
        }),
        ("CREATE INDEX i ON c (a DESC)", |id| {
            vec![(
                "a",
                if id % 2 == 0 {
                    Value::Int(1)
                } else {
                    Value::Float(1.0)
                },
            )]
        }),
        ("CREATE INDEX i ON c (a, b DESC)", |id| {
            vec![("a", "x".into()), ("b", Value::Int(id % 2))]
        }),
    ];
    for (index, fields) in runs {
        let mut memory = many(4_500, index, fields);
        for order in [
            "a",
            "a DESC",
            "a, b",
            "a DESC, b DESC",
            "a, _id DESC",
            "a DESC, b, _id",
        ] {
            for window in ["LIMIT 3", "LIMIT 40 OFFSET 4440"] {
                let tail = format!("ORDER BY {order} {window}");
                let plain = memory.rows(&format!("SELECT _id FROM c USE INDEX '' {tail}"));
                let found = memory.rows(&format!("SELECT * FROM c USE INDEX 'i' {tail}"));
                let ids = |rows: &[Object]| -> Vec<Value> {
                    rows.iter().map(|row| row["_id"].clone()).collect()
                };
                assert_eq!(ids(&plain), ids(&found), "{index}: {tail}");
            }
        }
    }
    let mut memory = many(5_000, "CREATE INDEX i ON c (a)", move |id| {
        vec![("a", number(id))]
    });
    let found = memory.rows("SELECT * FROM c USE INDEX 'i' ORDER BY a DESC LIMIT 3");
    assert_eq!(
        found
            .iter()
            .map(|row| row["_id"].as_int())
            .collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2)]
    );
}

/// What a statement reads: documents, and entries of indexes.
#[test]
fn several_values_of_the_first_field_come_in_one_order() {
    let mut memory = many(60, "CREATE INDEX i ON c (a, b DESC)", |number| {
        vec![("a", (number % 4).into()), ("b", (number * 7 % 11).into())]
    });
    for list in ["[1]", "[0, 2]", "[3, 1, 9, 0]", "[2.0, 1, 'x', 2]"] {
        for window in ["b", "b DESC", "b DESC LIMIT 7", "b LIMIT 5 OFFSET 20"] {
            let from = |hint: &str| {
                format!("SELECT a, b FROM c {hint} WHERE a IN {list} ORDER BY {window}")
            };
            let plan = memory.rows(&format!("EXPLAIN {}", from("")));
            let plan = idem_query::plan_to_text(&plan[0]["plan"]);
            assert!(plan.contains("\"order\":"), "{plan}");
            let expected = memory.rows(&from("USE INDEX ''"));
            assert!(!expected.is_empty() || window.contains("OFFSET"));
            assert_eq!(memory.rows(&from("")), expected, "{}", from(""));
        }
    }
}

#[test]
fn an_index_is_read_no_further_than_needed() {
    let mut memory = many(1_000, "CREATE INDEX by_n ON c (n)", |id| {
        vec![
            ("n", Value::Int((id * 7) % 1_000)),
            ("g", Value::Int(id % 10)),
            ("s", format!("s{:03}", id % 100).into()),
        ]
    });
    memory.rows("CREATE INDEX by_s ON c (s, n)");
    memory.rows("CREATE INDEX by_low ON c (lower(s))");
    let mut check = |text: &str, rows: usize, entries: usize| {
        memory.rows_read.set(0);
        memory.entries_read.set(0);
        memory.rows(text);
        let read = (memory.rows_read.get(), memory.entries_read.get());
        assert!(read.0 == rows && read.1 <= entries, "{text}: {read:?}");
    };
    check("SELECT * FROM c ORDER BY n LIMIT 20", 20, 64);
    check("SELECT * FROM c ORDER BY n DESC LIMIT 5 OFFSET 5", 10, 64);
    check("SELECT * FROM c WHERE n >= 500 ORDER BY n LIMIT 5", 5, 64);
    check(
        "SELECT * FROM c WHERE s = 's007' ORDER BY n DESC LIMIT 2",
        2,
        10,
    );
    check("SELECT n FROM c WHERE n BETWEEN 10 AND 19", 0, 10);
    check("SELECT s, n FROM c WHERE s = 's001' AND n > 300", 0, 10);
    check("SELECT COUNT(*) FROM c WHERE n < 100", 0, 100);
    check("SELECT COUNT(*) FROM c WHERE s LIKE 's00%'", 0, 100);
    check("SELECT MIN(n), MAX(n), COUNT(*) FROM c", 0, 2);
    check("SELECT MAX(n) FROM c WHERE s = 's003'", 0, 1);
    check("SELECT * FROM c WHERE lower(s) = 's005'", 10, 10);
    check(
        "SELECT * FROM c WHERE n = 3 OR s = 's005' OR _id = 9",
        12,
        11,
    );
    check("SELECT * FROM c WHERE n IN [1, 2, 3] AND g = 1", 3, 3);
    check("DELETE FROM c WHERE n = 5", 0, 1);
    check(
        "SELECT * FROM c WHERE s = 's001' AND n IS NOT MISSING LIMIT 3",
        3,
        10,
    );
    let list: Vec<Value> = (0..5_000).map(|n| Value::Int(n * 2)).collect();
    let args = Object::from([("list".to_owned(), Value::Array(list))]);
    for field in ["n", "_id"] {
        let text = format!("SELECT COUNT(*) AS n FROM c WHERE {field} IN :list");
        let found = memory.run(&text, &args).unwrap();
        assert_eq!(found.items[0]["n"], Value::Int(500), "{text}");
    }
}

/// Two indexes are intersected where the statistics say that it pays.
#[test]
fn two_indexes_are_intersected_where_it_pays() {
    let mut memory = many(2_000, "CREATE INDEX by_a ON c (a)", |id| {
        vec![
            ("a", Value::Int(id % 20)),
            ("b", Value::Int(id % 19)),
            ("d", Value::Int(id)),
        ]
    });
    memory.rows("CREATE INDEX by_b ON c (b)");
    memory.tells_statistics = true;
    let statement = "SELECT * FROM c WHERE a = 3 AND b = 4";
    let plan = &memory.rows(&format!("EXPLAIN {statement}"))[0]["plan"];
    assert!(idem_query::plan_to_text(plan).contains("intersectScan"));
    memory.rows_read.set(0);
    let rows = memory.rows(statement);
    assert_eq!(
        rows.len(),
        (0..2_000).filter(|n| n % 20 == 3 && n % 19 == 4).count()
    );
    assert_eq!(memory.rows_read.get(), rows.len());
}

#[test]
fn advice_names_the_index_that_a_statement_lacks() {
    let mut memory = Memory::default();
    memory.rows("CREATE INDEX by_a ON c (a)");
    let mut advice = |statement: &str| {
        let row = memory.rows(statement).remove(0);
        let Value::Object(advice) = row["advice"].clone() else {
            panic!("{row:?}");
        };
        let texts = |name: &str, member: &str| -> Vec<String> {
            let items = advice[name].as_array().unwrap().iter();
            let items = items.map(|item| match item {
                Value::Object(fields) => fields[member].as_str().unwrap().to_owned(),
                other => other.as_str().unwrap().to_owned(),
            });
            items.collect()
        };
        (
            texts("suggestedIndexes", "statement"),
            texts("existingIndexes", "index"),
            texts("createdIndexes", ""),
            advice["outcome"].as_str().unwrap().to_owned(),
        )
    };
    let mut check = |statement: &str, suggested: &[&str]| {
        let (found, ..) = advice(statement);
        assert_eq!(found, suggested, "{statement}");
    };
    check("ADVISE SELECT * FROM c WHERE a = 1", &[]);
    check("ADVISE SELECT * FROM c WHERE _id = 1", &[]);
    check(
        "ADVISE SELECT * FROM c WHERE b.x = 1 AND d > 2 AND e > 3",
        &["CREATE INDEX IF NOT EXISTS by_c_b_x_d ON c (b.x, d)"],
    );
    check(
        "ADVISE SELECT * FROM c WHERE a = 1 AND b = 2 ORDER BY d DESC LIMIT 3",
        &["CREATE INDEX IF NOT EXISTS by_c_a_b_d ON c (a, b, d DESC)"],
    );
    check(
        "ADVISE SELECT * FROM c WHERE lower(b) = 'x'",
        &["CREATE INDEX IF NOT EXISTS by_c_lower_b ON c (lower(b))"],
    );
    check(
        "ADVISE SELECT * FROM c WHERE a = 1 OR d = 2",
        &["CREATE INDEX IF NOT EXISTS by_c_d ON c (d)"],
    );
    check(
        "ADVISE SELECT * FROM c JOIN o ON o.k = c.k WHERE c.a = 1",
        &["CREATE INDEX IF NOT EXISTS by_o_k ON o (k)"],
    );
    let statement = "SELECT * FROM c WHERE 'x' IN tags";
    let (suggested, existing, created, outcome) =
        advice(&format!("ADVISE AND PROVISION {statement}"));
    assert_eq!((suggested.len(), existing.len()), (1, 0));
    assert_eq!(
        (&created, outcome.as_str()),
        (&suggested, "indexes were made")
    );
    let (suggested, existing, created, outcome) = advice(&format!("ADVISE {statement}"));
    assert_eq!((suggested.len(), existing.len(), created.len()), (0, 1, 0));
    assert_eq!(outcome, "the indexes that serve it are there");
    let (.., outcome) = advice("ADVISE SELECT * FROM c WHERE starts_with(b, 'x')");
    assert_eq!(outcome, "no index would help");
}
