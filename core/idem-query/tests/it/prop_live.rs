//! A live query shows after every change what running it again shows, and is never overlooked.

use std::collections::BTreeSet;

use idem_model::{CollectionName, DocId, Object, Value, json};
use idem_query::{Context, DocumentChange, Effect, Fields, Interests, LiveQuery, Source, parse};
use proptest::{prelude::*, sample::select};

use crate::memory::{Memory, NOW_MS};

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (0i64..4).prop_map(Value::Int),
        4 => select(vec![0.0, 0.5, 1.0, 0.1, 1e16, -0.1]).prop_map(Value::Float),
        3 => select(vec!["", "a", "ab", "b"]).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => Just(Value::Null),
        1 => select(vec!["[1]", "[1.0]", "{\"x\":1}", "{\"x\":1.0}", "{\"x\":\"a\"}"])
            .prop_map(|text| json::parse(text).unwrap()),
    ]
}

fn document() -> impl Strategy<Value = Object> {
    let names = select(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]);
    prop::collection::btree_map(names, value(), 0..4)
}

/// What happens to one of a few documents: it is written anew, changed, or goes.
#[derive(Debug, Clone)]
enum Step {
    Write(u8, Object),
    Set(u8, &'static str, Value),
    Delete(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..12, document()).prop_map(|(id, fields)| Step::Write(id, fields)),
        4 => (0u8..12, select(vec!["a", "b", "c"]), value())
            .prop_map(|(id, name, value)| Step::Set(id, name, value)),
        1 => (0u8..12).prop_map(Step::Delete),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let field = || select(vec!["a", "b", "c", "a.x"]);
    let operator = select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let literal = || value().prop_map(|value| json::to_string(&value));
    prop_oneof![
        6 => (field(), operator, literal())
            .prop_map(|(field, operator, literal)| format!("{field} {operator} {literal}")),
        2 => (field(), prop::collection::vec(literal(), 0..3))
            .prop_map(|(field, list)| format!("{field} IN [{}]", list.join(", "))),
        1 => (field(), literal(), literal())
            .prop_map(|(field, low, high)| format!("{field} BETWEEN {low} AND {high}")),
        1 => (0u8..12).prop_map(|id| format!("_id = {id}")),
        1 => prop::collection::vec(0u8..12, 0..4).prop_map(|ids| format!("_id IN {ids:?}")),
        1 => field().prop_map(|field| format!("{field} IS NOT MISSING")),
        1 => Just("(a = 1 OR b = 'a')".to_owned()),
    ]
}

fn statement() -> impl Strategy<Value = String> {
    let projection = select(vec![
        "*",
        "a, b",
        "_id, a AS n, [b, c] AS both",
        "MISSING b, a.x, c.*",
        "COUNT(*) AS n, SUM(a) AS s, MIN(b) AS low, MAX(b) AS high",
        "b, COUNT(a) AS n, AVG(a) AS mean",
        "c, MAX(a) AS high, SUM(a) AS s",
        "COUNT(DISTINCT a) AS n, MEDIAN(a) AS m",
        "DISTINCT a",
    ]);
    let order = select(vec!["", "a", "a DESC, _id", "b, a DESC", "_id DESC"]);
    (
        projection,
        prop::collection::vec(condition(), 0..3),
        order,
        prop::option::of((0u8..5, 0u8..4)),
        any::<bool>(),
    )
        .prop_map(|(projection, conditions, order, window, having)| {
            let group = match projection.split_once(',').map(|(key, _)| key) {
                Some(key @ ("b" | "c")) => Some(key),
                _ => None,
            };
            let is_grouped = projection.contains('(');
            let filter = match conditions.is_empty() {
                true => String::new(),
                false => format!(" WHERE {}", conditions.join(" AND ")),
            };
            let group = match (group, having) {
                (Some(key), true) => {
                    format!(" GROUP BY {key} HAVING COUNT(*) > 1 ORDER BY COUNT(*) DESC, {key}")
                }
                (Some(key), false) => format!(" GROUP BY {key}"),
                (None, _) => String::new(),
            };
            let order = match order {
                "" => String::new(),
                _ if is_grouped || projection.contains("DISTINCT") => String::new(),
                order => format!(" ORDER BY {order}"),
            };
            let window = match window {
                Some((limit, offset)) => format!(" LIMIT {limit} OFFSET {offset}"),
                None => String::new(),
            };
            format!("SELECT {projection} FROM c{filter}{group}{order}{window}")
        })
}

fn act(memory: &mut Memory, step: &Step) {
    let (text, args) = match step {
        Step::Write(id, fields) => {
            let mut fields = fields.clone();
            fields.insert("_id".to_owned(), Value::Int((*id).into()));
            let delete = format!("DELETE FROM c WHERE _id = {id}");
            memory.run(&delete, &Object::new()).unwrap();
            (
                "INSERT INTO c DOCUMENTS (:d)".to_owned(),
                ("d", Value::Object(fields)),
            )
        }
        Step::Set(id, name, value) => (
            format!("UPDATE c SET {name} = :v WHERE _id = {id}"),
            ("v", value.clone()),
        ),
        Step::Delete(id) => (
            format!("DELETE FROM c WHERE _id = {id}"),
            ("v", Value::Null),
        ),
    };
    memory
        .run(&text, &Object::from([(args.0.to_owned(), args.1)]))
        .unwrap();
}

fn image(memory: &Memory, collection: &CollectionName, id: u8) -> Option<Object> {
    memory.get(collection, &doc_id(id), &Fields::All).unwrap()
}

fn doc_id(id: u8) -> DocId {
    DocId::new(Value::Int(id.into())).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_live_query_shows_what_running_it_shows(
        first in prop::collection::vec(step(), 0..15),
        texts in prop::collection::vec(statement(), 1..6),
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let mut memory = Memory::default();
        first.iter().for_each(|step| act(&mut memory, step));
        let none = Object::new();
        let context = Context::new(&none, NOW_MS);
        let mut interests = Interests::default();
        let mut queries = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            let statement = parse(text).unwrap();
            interests.insert(number, &statement, &none).unwrap();
            let mut query = LiveQuery::new(statement, Object::new()).unwrap();
            query.load(&context, &memory).unwrap();
            let shown = query.output(NOW_MS).unwrap().items;
            prop_assert_eq!(&shown, &memory.rows(text), "{} at first", text);
            queries.push((query, shown));
        }
        let collection = CollectionName::new("c").unwrap();
        for step in &steps {
            let (Step::Write(id, _) | Step::Set(id, ..) | Step::Delete(id)) = step;
            let before = image(&memory, &collection, *id);
            act(&mut memory, step);
            let after = image(&memory, &collection, *id);
            let mut found = BTreeSet::new();
            for image in [&before, &after].into_iter().flatten() {
                interests.find(&collection, Some(image), &mut found);
            }
            let by_id = interests.may_concern(&collection, &doc_id(*id));
            prop_assert!(by_id || found.is_empty(), "{texts:?} overlook the id of {step:?}");
            for (number, (query, shown)) in queries.iter_mut().enumerate() {
                let text = &texts[number];
                let now = memory.rows(text);
                if !found.contains(&number) {
                    prop_assert_eq!(&now, &*shown, "{} was overlooked for {:?}", text, step);
                    continue;
                }
                let change = DocumentChange {
                    collection: &collection,
                    before: before.as_ref(),
                    after: after.as_ref(),
                };
                match query.apply(change, NOW_MS) {
                    Effect::Nothing => {
                        prop_assert_eq!(&now, &*shown, "{} should change by {:?}", text, step);
                    }
                    Effect::Changed => *shown = query.output(NOW_MS).unwrap().items,
                    Effect::Reload => {
                        prop_assert!(query.output(NOW_MS).is_none());
                        query.load(&context, &memory).unwrap();
                        *shown = query.output(NOW_MS).unwrap().items;
                    }
                }
                prop_assert_eq!(&now, &*shown, "{} after {:?}", text, step);
            }
        }
        for number in 0..queries.len() {
            interests.remove(number);
        }
        prop_assert!(!interests.watches(&collection));
    }
}

#[test]
fn what_can_be_followed_is() {
    let mut memory = Memory::default();
    for (text, is_followed) in [
        ("SELECT * FROM c", true),
        (
            "SELECT a + 1 AS n FROM c WHERE b > 2 ORDER BY a DESC LIMIT 3 OFFSET 1",
            true,
        ),
        ("SELECT COUNT(*) FROM c WHERE a = 1", true),
        (
            "SELECT b, SUM(a), AVG(a), MIN(a), MAX(a) FROM c GROUP BY b HAVING COUNT(*) > 1",
            true,
        ),
        ("SELECT * FROM c WHERE _id IN ['1', '2']", true),
        ("SELECT MEDIAN(a) FROM c", false),
        ("SELECT DISTINCT a FROM c", false),
        ("SELECT COUNT(DISTINCT a) FROM c", false),
        ("SELECT * FROM c WHERE a < clock()", false),
        ("SELECT * FROM system:dual", false),
    ] {
        let none = Object::new();
        let mut query = LiveQuery::new(parse(text).unwrap(), Object::new()).unwrap();
        query.load(&Context::new(&none, NOW_MS), &memory).unwrap();
        assert_eq!(query.is_incremental(), is_followed, "{text}");
        assert_eq!(
            query.output(NOW_MS).unwrap().items,
            memory.rows(text),
            "{text}"
        );
    }
}

/// Only the queries on the values of a document are found, however many others there are.
#[test]
fn a_change_finds_the_queries_on_its_values_only() {
    let collection = CollectionName::new("c").unwrap();
    let mut interests = Interests::default();
    for number in 0..1000 {
        let args = Object::from([("n".to_owned(), Value::Int(number))]);
        let text = match number % 4 {
            0 => "SELECT * FROM c WHERE a = :n",
            1 => "SELECT * FROM c WHERE _id = :n",
            2 => "SELECT COUNT(*) FROM c WHERE a > :n",
            _ => "SELECT * FROM c WHERE b = 1 AND a IN [:n]",
        };
        interests
            .insert(number, &parse(text).unwrap(), &args)
            .unwrap();
    }
    let find = |text: &str| {
        let mut found = BTreeSet::new();
        let image = json::parse(text).unwrap();
        interests.find(&collection, image.as_object(), &mut found);
        found.into_iter().collect::<Vec<i64>>()
    };
    assert_eq!(find(r#"{"_id": 5, "a": 4}"#), [2, 4, 5]);
    // Of two conditions it waits at the one with fewer others.
    assert_eq!(find(r#"{"_id": 5, "a": 7.0, "b": 1.0}"#), [2, 3, 5, 6, 7]);
    assert!(find(r#"{"_id": "x", "a": null}"#).is_empty());
    assert!(find(r#"{"_id": "x"}"#).is_empty());
}

/// A change of a document that nobody asks for by its id needs no look at the document.
#[test]
fn queries_on_ids_are_told_by_the_id() {
    let none = Object::new();
    let collection = CollectionName::new("c").unwrap();
    let mut interests = Interests::default();
    let insert = |interests: &mut Interests<u32>, number, text| {
        let statement = parse(text).unwrap();
        interests.insert(number, &statement, &none).unwrap();
    };
    assert!(!interests.may_concern(&collection, &doc_id(1)));
    insert(&mut interests, 0, "SELECT * FROM c WHERE _id = 1 AND a = 5");
    insert(&mut interests, 1, "SELECT a FROM c WHERE _id IN [2, 3]");
    let asked = |interests: &Interests<u32>| {
        let ids = (0..6).filter(|id| interests.may_concern(&collection, &doc_id(*id)));
        ids.collect::<Vec<u8>>()
    };
    assert_eq!(asked(&interests), [1, 2, 3]);
    for text in [
        "SELECT * FROM c WHERE a = 1",
        "SELECT * FROM c WHERE _id > 4",
        "SELECT COUNT(*) FROM c",
    ] {
        insert(&mut interests, 2, text);
        assert_eq!(asked(&interests), [0, 1, 2, 3, 4, 5], "{text}");
        interests.remove(2);
    }
    assert_eq!(asked(&interests), [1, 2, 3]);
}
