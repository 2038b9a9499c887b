//! A permit against a twin that evaluates each predicate by itself, as a subscription.

use idem_auth::{Access, Certificate, Grants, Permit};
use idem_model::{Object, Value};
use proptest::prelude::*;

use crate::parties::{certificate, collection};

const FIELDS: [&str; 5] = ["a", "b", "o.p", "_id", "l"];

fn literal() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "1",
        "1.0",
        "2",
        "2.5",
        "'x'",
        "'1'",
        "true",
        "null",
        "[1, 2]",
        "[null]",
        "{'p': 1}",
        ":user",
        ":claims.site",
        ":claims.level",
        ":claims.gates",
        ":claims.absent",
    ])
}

fn predicate() -> impl Strategy<Value = String> {
    let field = || prop::sample::select(FIELDS.to_vec());
    let equal = (field(), literal()).prop_map(|(field, value)| format!("{field} = {value}"));
    let turned = (field(), literal()).prop_map(|(field, value)| format!("{value} = {field}"));
    let listed = (field(), prop::collection::vec(literal(), 0..4))
        .prop_map(|(field, values)| format!("{field} IN [{}]", values.join(", ")));
    let other = (field(), literal()).prop_map(|(field, value)| format!("{field} > {value}"));
    let leaf =
        prop_oneof![4 => equal, 2 => turned, 2 => listed, 2 => other, 1 => Just("true".to_owned())];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) AND ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) OR ({b})")),
            inner.prop_map(|it| format!("NOT ({it})")),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        Value::Null,
        Value::from(true),
        Value::from(1),
        Value::from(2),
        Value::Float(1.0),
        Value::Float(2.5),
        Value::from("x"),
        Value::from("1"),
        Value::from("north"),
        Value::from("ada@example.com"),
        Value::from(vec![1, 2]),
        Value::from(vec![7, 8]),
        Value::Array(vec![Value::Null]),
        Value::Object(Object::from([("p".to_owned(), Value::from(1))])),
    ])
}

fn document() -> impl Strategy<Value = Object> {
    let names = prop::sample::select(vec!["a", "b", "o", "l"]);
    let fields = prop::collection::btree_map(names.prop_map(str::to_owned), value(), 0..5);
    let id = prop::sample::select(vec![Value::from("x"), Value::from(1), Value::from(true)]);
    (fields, id).prop_map(|(mut fields, id)| {
        fields.insert("_id".to_owned(), id);
        fields
    })
}

fn granting(predicates: &[String]) -> Certificate {
    let predicates: Vec<&str> = predicates.iter().map(String::as_str).collect();
    Certificate {
        grants: Grants {
            read: Access::of(&[("c", &predicates)]),
            ..Grants::default()
        },
        ..certificate()
    }
}

fn by_subscription(predicate: &str, certificate: &Certificate, document: &Object) -> bool {
    let args = Object::from([
        ("user".to_owned(), Value::from(certificate.user.as_str())),
        (
            "claims".to_owned(),
            Value::Object(certificate.claims.clone()),
        ),
    ]);
    let text = format!("SELECT * FROM c WHERE {predicate}");
    let statement = idem_query::parse(&text).expect("a statement");
    statement
        .subscription(&args)
        .expect("a selector")
        .matches(document)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn joined_predicates_allow_what_each_of_them_does(
        predicates in prop::collection::vec(predicate(), 1..8),
        documents in prop::collection::vec(document(), 1..8),
    ) {
        let certificate = granting(&predicates);
        let permit = Permit::compile(&certificate).expect("a grant");
        for document in &documents {
            let expected = predicates
                .iter()
                .any(|it| by_subscription(it, &certificate, document));
            let found = permit.may_read(&collection("c"), document);
            prop_assert_eq!(found, expected, "{:?} on {:?}", predicates, document);
        }
    }

    /// What a grant is said to depend on is all that it looks at.
    #[test]
    fn other_fields_than_those_named_change_nothing(
        predicates in prop::collection::vec(predicate(), 1..4),
        document in document(),
        other in document(),
    ) {
        let permit = Permit::compile(&granting(&predicates)).expect("a grant");
        let seen = match permit.reading(&collection("c")) {
            idem_auth::Reach::ByFields(names) => names,
            idem_auth::Reach::ByDocument => return Ok(()),
            _ => std::collections::BTreeSet::new(),
        };
        let mut changed = other;
        for name in seen.iter().map(String::as_str).chain(["_id"]) {
            changed.remove(name);
            if let Some(value) = document.get(name) {
                changed.insert(name.to_owned(), value.clone());
            }
        }
        let may = |document| permit.may_read(&collection("c"), document);
        prop_assert_eq!(may(&document), may(&changed), "{:?}", predicates);
    }
}
