//! The conformance cases of the language, on a real store.

use std::collections::BTreeSet;

use idem_model::{Object, Value, json};
use idem_store::{SimulatedDisk, Store, StoreConfig, StoreError, TransactionOptions};

use crate::fixture::{TestClock, exchange, memory, object, run};

const CASES: &str = include_str!("../../../../vectors/dql/cases.jsonl");

fn text<'a>(case: &'a Object, name: &str) -> &'a str {
    case[name].as_str().unwrap()
}

fn args_of(value: Option<&Value>) -> Object {
    value
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

fn ids(items: &[Object]) -> Vec<Value> {
    items.iter().map(|item| item["_id"].clone()).collect()
}

fn sorted(values: &[Value]) -> Vec<String> {
    let mut texts: Vec<String> = values.iter().map(json::to_string).collect();
    texts.sort();
    texts
}

fn array<'a>(expect: &'a Object, name: &str) -> Option<&'a [Value]> {
    expect.get(name).map(|value| value.as_array().unwrap())
}

fn check(case: &Object) -> Result<(), String> {
    let store = memory();
    for step in case.get("setup").and_then(Value::as_array).unwrap_or(&[]) {
        let step = step.as_array().unwrap();
        store
            .execute(step[0].as_str().unwrap(), args_of(step.get(1)))
            .map_err(|error| format!("setup: {error}"))?;
    }
    let expect = case["expect"].as_object().unwrap();
    let result = store.execute(text(case, "stmt"), args_of(case.get("args")));
    if let Some(class) = expect.get("error") {
        return match (result, class.as_str()) {
            (Err(StoreError::Query(error)), Some("syntax")) => {
                let is_syntax = error.code() == "query/invalid";
                is_syntax
                    .then_some(())
                    .ok_or(format!("is {}", error.code()))
            }
            (Err(_), _) => Ok(()),
            (Ok(result), _) => Err(format!("no error but {:?}", result.items)),
        };
    }
    let result = result.map_err(|error| error.to_string())?;
    let same = |what: &str, found: Vec<Value>, expected: &[Value]| {
        (found == expected)
            .then_some(())
            .ok_or_else(|| format!("{what}: {found:?} instead of {expected:?}"))
    };
    let rows = |items: Vec<Object>| items.into_iter().map(Value::Object).collect::<Vec<_>>();
    if let Some(row) = expect.get("row") {
        same("row", rows(result.items.clone()), std::slice::from_ref(row))?;
    }
    if let Some(expected) = array(expect, "rows") {
        same("rows", rows(result.items.clone()), expected)?;
    }
    if let Some(expected) = array(expect, "ids_in_order") {
        same("ids", ids(&result.items), expected)?;
    }
    if let Some(expected) = array(expect, "ids_any_order")
        && sorted(&ids(&result.items)) != sorted(expected)
    {
        return Err(format!("ids: {:?}", ids(&result.items)));
    }
    let mutated: Vec<Value> = (result.mutated_document_ids.iter())
        .map(|id| id.as_value().clone())
        .collect();
    if let Some(expected) = array(expect, "mutated_ids") {
        same("mutated", mutated.clone(), expected)?;
    }
    if let Some(expected) = array(expect, "mutated_ids_any_order")
        && sorted(&mutated) != sorted(expected)
    {
        return Err(format!("mutated: {mutated:?}"));
    }
    if let Some(count) = expect.get("mutated_count")
        && count.as_int() != i64::try_from(mutated.len()).ok()
    {
        return Err(format!("mutated: {mutated:?}"));
    }
    if let Some(then) = array(expect, "then") {
        let found = run(&store, then[0].as_str().unwrap()).items;
        same("then", rows(found), then[1].as_array().unwrap())?;
    }
    Ok(())
}

#[test]
fn the_cases_hold_on_a_store() {
    let mut failed = Vec::new();
    let mut passed = BTreeSet::new();
    for line in CASES.lines() {
        let case = object(line);
        let id = text(&case, "id");
        let result = match text(&case, "kind") {
            "merge" => check_merge(&case),
            // Written out below, or checked where plans and subscriptions are made.
            "tx" | "plan" | "subscription" => continue,
            _ => check(&case),
        };
        match result {
            Ok(()) => {
                passed.insert(id.to_owned());
            }
            Err(problem) => failed.push((id.to_owned(), problem)),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(passed.len() > 100, "{}", passed.len());
}

/// The statement that a short form of the cases stands for, on the document `_id` 1.
fn statement(short: &str) -> Option<(String, Object)> {
    let (text, document) = match short.split_once(' ') {
        Some(("SET" | "UNSET", _)) => (format!("UPDATE m {short} WHERE _id = 1"), None),
        Some(("INSERT", rest)) => {
            let (form, document) = match rest.strip_prefix("INITIAL ") {
                Some(document) => ("INSERT INTO m INITIAL DOCUMENTS (:d)", document),
                None => ("INSERT INTO m DOCUMENTS (:d)", rest),
            };
            (form.to_owned(), Some(document))
        }
        _ if short == "EVICT" => ("EVICT FROM m WHERE _id = 1".to_owned(), None),
        _ if short == "(nothing)" => return None,
        _ => panic!("{short}"),
    };
    let args = document.map_or(Object::new(), |document| {
        let mut fields = Object::new();
        let inner = document.trim_start_matches('{').trim_end_matches('}');
        for pair in inner.split(',') {
            let (name, value) = pair.split_once(':').unwrap();
            let value = json::parse(&value.replace('\'', "\"")).unwrap();
            fields.insert(name.to_owned(), value);
        }
        Object::from([("d".to_owned(), Value::Object(fields))])
    });
    Some((text, args))
}

fn check_merge(case: &Object) -> Result<(), String> {
    let expect = case["expect"].as_object().unwrap();
    let later = text(case, "later");
    for a_is_later in [later != "B", later == "A"] {
        let clock = TestClock::at(1_000_000);
        let open = |seed| {
            let config = StoreConfig::simulated(SimulatedDisk::new());
            Store::open(config.clock(clock.clock()).entropy_seed(seed)).unwrap()
        };
        let stores = [open(1), open(2)];
        if let Some(fields) = case["init"].as_object() {
            let mut fields = fields.clone();
            fields.insert("_id".to_owned(), Value::Int(1));
            let args = Object::from([("d".to_owned(), Value::Object(fields))]);
            stores[0]
                .execute("INSERT INTO m DOCUMENTS (:d)", args)
                .map_err(|error| error.to_string())?;
            exchange(&stores[0], &stores[1], &["m"]);
        }
        for (number, name) in ["A", "B"].into_iter().enumerate() {
            let is_later = (number == 0) == a_is_later;
            clock.set(1_000_000 + if is_later { 2_000 } else { 1_000 });
            if let Some((statement, args)) = statement(text(case, name)) {
                stores[number]
                    .execute(&statement, args)
                    .map_err(|error| format!("{statement}: {error}"))?;
            }
        }
        if let Some(fields) = expect.get("B").and_then(Value::as_object)
            && expect.contains_key("A")
        {
            // EVICT: nothing travels by itself, and what a subscription matches comes back.
            assert!(run(&stores[0], "SELECT * FROM m").items.is_empty());
            exchange(&stores[0], &stores[1], &["m"]);
            compare(&stores, fields)?;
            continue;
        }
        exchange(&stores[0], &stores[1], &["m"]);
        exchange(&stores[0], &stores[1], &["m"]);
        compare(&stores, expect)?;
    }
    Ok(())
}

fn compare(stores: &[Store; 2], expected: &Object) -> Result<(), String> {
    for store in stores {
        let mut items = run(store, "SELECT * FROM m").items;
        items.iter_mut().for_each(|item| drop(item.remove("_id")));
        if items != std::slice::from_ref(expected) {
            return Err(format!("{items:?} instead of {expected:?}"));
        }
    }
    let [a, b] = stores;
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
    Ok(())
}

/// T280: what a failed transaction did is gone.
#[test]
fn case_t280() {
    let store = memory();
    let failing = || -> Result<(), StoreError> {
        let mut transaction = store.begin(TransactionOptions::new())?;
        transaction.execute("INSERT INTO t DOCUMENTS ({'_id': 1})", Object::new())?;
        transaction.execute("INSERT INTO", Object::new())?;
        transaction.commit()?;
        Ok(())
    };
    failing().unwrap_err();
    assert!(run(&store, "SELECT * FROM t").items.is_empty());
    assert_eq!(store.last_commit(), 0);
}

/// T282: the commit is named when it is done, not before.
#[test]
fn case_t282() {
    let store = memory();
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    let inside = transaction
        .execute("INSERT INTO t DOCUMENTS ({'_id': 1})", Object::new())
        .unwrap();
    assert_eq!(inside.commit_id, None);
    assert!(transaction.commit().unwrap().is_some());
}
