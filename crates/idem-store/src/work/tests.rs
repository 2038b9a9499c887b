//! The short ways to rows, beside reading all documents whole.

use std::{collections::BTreeSet, ops::ControlFlow};

use idem_model::{
    CollectionName, DocId, DocumentOp, FieldOp, FieldPath, InsertConflict, Object, Value,
};
use idem_query::{Fields, IndexInfo, KeySpan, Source, Target, Tested};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::Work;
use crate::{Store, StoreConfig};

/// `_id` is a name like any other for a filter.
const NAMES: [&str; 7] = ["", "_", "_id", "a", "b", "bb", "z"];

/// What happens to a document, in the order of the commits: before, and in the open transaction.
#[derive(Debug, Clone)]
enum Change {
    Insert(Object),
    Set(&'static str, Value),
    Unset(&'static str),
    Delete,
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3_i64..3).prop_map(Value::Int),
        any::<i64>().prop_map(Value::Int),
        (-9_000_i64..9_000).prop_map(|number| Value::Int(number * 100)),
        select(vec![0.5, -1.0, 1e300]).prop_map(Value::Float),
        select(vec!["", "x", "xy", "\u{fc}"]).prop_map(Value::from),
        (100_usize..300).prop_map(|len| "l".repeat(len).into()),
        vec(any::<u8>(), 0..4).prop_map(Value::Binary),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let name = select(NAMES[3..].to_vec()).prop_map(str::to_owned);
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::Array),
            proptest::collection::btree_map(name, inner, 0..3).prop_map(Value::Object),
        ]
    })
}

/// A field that can be written.
fn field() -> impl Strategy<Value = &'static str> {
    select(vec!["", "_", "a", "b", "bb", "z"])
}

fn change() -> impl Strategy<Value = Change> {
    let fields = proptest::collection::btree_map(field().prop_map(str::to_owned), value(), 0..5);
    prop_oneof![
        4 => fields.prop_map(Change::Insert),
        2 => (field(), value()).prop_map(|(name, value)| Change::Set(name, value)),
        1 => field().prop_map(Change::Unset),
        1 => Just(Change::Delete),
    ]
}

fn id() -> impl Strategy<Value = DocId> {
    let values = vec![
        Value::Int(1),
        Value::Int(300),
        Value::Bool(true),
        "".into(),
        "a\0b".into(),
        "x".into(),
        Value::Array(vec![Value::Int(1), "x".into()]),
        Value::Object(Object::from([("z".to_owned(), Value::Bool(false))])),
    ];
    select(values).prop_map(|value| DocId::new(value).unwrap())
}

fn changes() -> impl Strategy<Value = Vec<(DocId, Change)>> {
    vec((id(), change()), 0..20)
}

/// Names that rise strictly.
fn names() -> impl Strategy<Value = Vec<String>> {
    let chosen = proptest::sample::subsequence(NAMES.to_vec(), 0..=NAMES.len());
    chosen.prop_map(|names| names.into_iter().map(str::to_owned).collect())
}

fn fields() -> impl Strategy<Value = Fields> {
    prop_oneof![
        1 => Just(Fields::All),
        4 => names().prop_map(|mut names| {
            names.retain(|name| name != "_id");
            Fields::Named(names.into())
        }),
    ]
}

/// Fields with those that a filter looks at, as a statement has them.
fn with_tested(fields: Fields, tested: &[String]) -> Fields {
    let Fields::Named(names) = fields else {
        return fields;
    };
    let tested = tested.iter().filter(|name| *name != "_id");
    let all: BTreeSet<String> = names.iter().chain(tested).cloned().collect();
    Fields::Named(all.into_iter().collect())
}

fn collection() -> CollectionName {
    CollectionName::new("t").unwrap()
}

fn apply(work: &mut Work, changes: Vec<(DocId, Change)>) {
    for (id, change) in changes {
        let op = match change {
            Change::Insert(fields) => DocumentOp::Insert {
                fields,
                kinds: Vec::new(),
                conflict: InsertConflict::DoUpdate,
            },
            Change::Set(name, value) => DocumentOp::Update(vec![FieldOp::Set {
                path: FieldPath::field(name),
                value,
                kind: None,
            }]),
            Change::Unset(name) => DocumentOp::Update(vec![FieldOp::Unset {
                path: FieldPath::field(name),
            }]),
            Change::Delete => DocumentOp::Delete,
        };
        work.apply(&collection(), &id, op).unwrap();
    }
}

/// A transaction with changes on top of others.
fn work(before: Vec<(DocId, Change)>, now: Vec<(DocId, Change)>) -> (Store, Work) {
    let store = Store::open(StoreConfig::memory()).unwrap();
    let index = "CREATE INDEX by_a ON t (a, b DESC)";
    store.execute(index, Object::new()).unwrap();
    let core = store.core().unwrap();
    let patience = core.patience();
    let mut first = Work::write(core.clone(), &patience).unwrap();
    apply(&mut first, before);
    first.commit().unwrap();
    let mut second = Work::write(core, &patience).unwrap();
    apply(&mut second, now);
    (store, second)
}

/// What a statement that looks at these fields may see of a row.
fn seen(row: &Object, fields: &Fields) -> Object {
    let row = row.clone().into_iter();
    row.filter(|(name, _)| fields.contains(name)).collect()
}

/// A filter that looks at every part of some fields: it lets through about half of all rows.
fn lets_through(row: &Object, tested: &[String], salt: u64) -> bool {
    let text: String = tested
        .iter()
        .map(|name| format!("{:?};", row.get(name)))
        .collect();
    let hash = text.bytes().fold(salt, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) & 1 == 0
}

fn all(work: &Work) -> Vec<Object> {
    let mut rows = Vec::new();
    work.scan(&collection(), &Fields::All, &mut |row| {
        rows.push(row);
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

fn index(work: &Work) -> IndexInfo {
    work.indexes(&collection()).unwrap().remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// What a scan in two steps gives is what passes among all documents, up to where it is stopped.
    #[test]
    fn a_sieve_lets_through_what_passes(
        before in changes(),
        now in changes(),
        tested in names(),
        fields in fields(),
        salt: u64,
        taken in vec(any::<bool>(), 8),
        stop in option::of(0_usize..6),
    ) {
        let fields = with_tested(fields, &tested);
        let (_store, work) = work(before, now);
        let everything = all(&work);
        let passing = everything.iter().filter(|row| lets_through(row, &tested, salt));
        let expected: Vec<Object> = passing
            .map(|row| seen(row, &fields))
            .take(stop.map_or(usize::MAX, |stop| stop + 1))
            .collect();
        let mut found = Vec::new();
        let mut tests = 0;
        work.scan_passing(
            &collection(),
            Tested { names: &tested, text: None },
            &fields,
            &mut |row| {
                tests += 1;
                ControlFlow::Continue(lets_through(row.unwrap(), &tested, salt))
            },
            &mut |row| {
                found.push(seen(row, &fields));
                if taken[found.len() % taken.len()] {
                    std::mem::take(row);
                }
                match stop {
                    Some(stop) if found.len() > stop => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            },
        ).unwrap();
        prop_assert_eq!(&found, &expected);
        prop_assert!(tests >= found.len() && tests <= everything.len());
    }

    /// A text that a field must be leaves out no document that has it, and every document is counted.
    #[test]
    fn a_sieve_knows_by_a_text_what_does_not_pass(
        before in changes(),
        now in changes(),
        fields in fields(),
        name in field(),
        text in select(vec!["", "x", "xy", "\u{fc}"]),
    ) {
        let names = [name.to_owned()];
        let fields = with_tested(fields, &names);
        let (_store, work) = work(before, now);
        let everything = all(&work);
        let is_wanted = |row: &Object| row.get(name) == Some(&Value::from(text));
        let expected: Vec<Object> = everything
            .iter()
            .filter(|row| is_wanted(row))
            .map(|row| seen(row, &fields))
            .collect();
        let (mut tests, mut found) = (0, Vec::new());
        let mut passes = |row: Option<&Object>| {
            tests += 1;
            ControlFlow::Continue(row.is_some_and(is_wanted))
        };
        let tested = Tested { names: &names, text: Some((name, text)) };
        work.scan_passing(&collection(), tested, &fields, &mut passes, &mut |row| {
            found.push(seen(row, &fields));
            ControlFlow::Continue(())
        }).unwrap();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(tests, everything.len());
    }

    /// A filter that ends the scan ends it.
    #[test]
    fn a_sieve_can_stop(before in changes(), now in changes(), after in 0_usize..4) {
        let (_store, work) = work(before, now);
        let (mut tests, mut found) = (0, 0);
        let mut passes = |_: Option<&Object>| {
            tests += 1;
            match tests > after {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(true),
            }
        };
        let tested = Tested { names: &[], text: None };
        work.scan_passing(&collection(), tested, &Fields::All, &mut passes, &mut |_| {
            found += 1;
            ControlFlow::Continue(())
        }).unwrap();
        prop_assert_eq!(found, after.min(all(&work).len()));
    }

    /// The rows of an index are the documents of its entries, in their order.
    #[test]
    fn an_index_gives_the_documents_of_its_entries(
        before in changes(),
        now in changes(),
        fields in fields(),
        from in option::of(value()),
        taken in vec(any::<bool>(), 8),
        stop in option::of(0_usize..6),
    ) {
        let (_store, work) = work(before, now);
        let index = index(&work);
        let mut span = KeySpan { from: Vec::new(), to: None };
        if let Some(from) = from {
            idem_model::key::encode(&from, &mut span.from);
        }
        let mut ids = Vec::new();
        work.scan_index(&index, &span, false, &mut |_, id| {
            ids.push(id);
            ControlFlow::Continue(())
        }).unwrap();
        let rows = ids.iter().map(|id| work.get(&collection(), id, &Fields::All).unwrap().unwrap());
        let expected: Vec<Object> = rows
            .map(|row| seen(&row, &fields))
            .take(stop.map_or(usize::MAX, |stop| stop + 1))
            .collect();
        let mut found = Vec::new();
        work.scan_index_rows(&index, &span, &fields, &mut |row| {
            found.push(seen(row, &fields));
            if taken[found.len() % taken.len()] {
                std::mem::take(row);
            }
            match stop {
                Some(stop) if found.len() > stop => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }).unwrap();
        prop_assert_eq!(found, expected);
    }
}
