//! The predicates of one collection: equalities on one field become one list of values, which is looked up.

use std::collections::{BTreeMap, BTreeSet};

use idem_model::{CollectionName, FieldPath, Object, Value, limits};
use idem_query::{Selector, parse};

use super::Reach;
use crate::grants::GrantError;

const PARAMETERS: [&str; 3] = ["user", "peer", "claims"];

/// The documents that match one of some predicates.
#[derive(Debug)]
pub(super) struct Rules {
    is_whole: bool,
    lists: Vec<List>,
    others: Vec<Selector>,
}

/// A field that equals one of these values.
#[derive(Debug)]
struct List {
    path: FieldPath,
    /// Rising in the order of [`Value::compare`], in which 1 and 1.0 are one value.
    values: Vec<Value>,
}

impl Rules {
    pub(super) fn compile(
        collection: &CollectionName,
        predicates: &BTreeSet<String>,
        args: &Object,
    ) -> Result<Self, GrantError> {
        let mut rules = Self {
            is_whole: false,
            lists: Vec::new(),
            others: Vec::new(),
        };
        let mut lists: BTreeMap<FieldPath, Vec<Value>> = BTreeMap::new();
        for predicate in predicates {
            let selector = selector(collection, predicate, args)?;
            if selector.is_unfiltered() || is_true(predicate) {
                rules.is_whole = true;
            } else if let Some((path, values)) = selector.alternatives() {
                lists.entry(path).or_default().extend(values);
            } else {
                rules.others.push(selector);
            }
        }
        rules.lists = lists
            .into_iter()
            .map(|(path, mut values)| {
                values.sort_by(Value::compare);
                values.dedup_by(|a, b| a.compare(b).is_eq());
                List { path, values }
            })
            .collect();
        Ok(rules)
    }

    pub(super) fn has(&self, document: &Object) -> bool {
        self.is_whole
            || self.lists.iter().any(|list| list.has(document))
            || self
                .others
                .iter()
                .any(|other| other.matches_within(document, limits::GRANT_WORK_BYTES_MAX))
    }

    pub(super) fn reach(&self) -> Reach {
        if self.is_whole {
            return Reach::Whole;
        }
        let lists = self.lists.iter().map(|list| match list.values.is_empty() {
            true => Reach::Nothing,
            false => by_fields([list.path.segments()[0].clone()].into()),
        });
        let others = self.others.iter().map(|other| {
            let names = other.fields().map(|names| names.iter().cloned().collect());
            names.map_or(Reach::ByDocument, by_fields)
        });
        lists.chain(others).fold(Reach::Nothing, Reach::or)
    }
}

impl List {
    fn has(&self, document: &Object) -> bool {
        match self.path.find(document) {
            // Nothing equals null.
            None | Some(Value::Null) => false,
            Some(value) => self
                .values
                .binary_search_by(|known| known.compare(value))
                .is_ok(),
        }
    }
}

fn by_fields(mut names: BTreeSet<String>) -> Reach {
    names.remove("_id");
    match names.is_empty() {
        true => Reach::ById,
        false => Reach::ByFields(names),
    }
}

/// All documents, as identity services say it.
fn is_true(predicate: &str) -> bool {
    predicate.trim().eq_ignore_ascii_case("true")
}

/// A predicate as a selector. What the certificate says of its holder goes in as values, never as text.
fn selector(
    collection: &CollectionName,
    predicate: &str,
    args: &Object,
) -> Result<Selector, GrantError> {
    let text = format!("SELECT * FROM `{collection}` WHERE {predicate}");
    let refused = |source| GrantError::Predicate {
        collection: collection.clone(),
        predicate: predicate.to_owned(),
        source,
    };
    let statement = parse(&text).map_err(refused)?;
    let mut parameters = statement.parameters().iter();
    if let Some(parameter) = parameters.find(|name| !PARAMETERS.contains(&name.as_str())) {
        return Err(GrantError::Parameter {
            collection: collection.clone(),
            predicate: predicate.to_owned(),
            parameter: parameter.clone(),
        });
    }
    // Refuses every clause behind WHERE, subqueries, and functions of the time or of chance.
    let selector = statement.subscription(args).map_err(refused)?;
    assert_eq!(
        selector.collection(),
        collection,
        "what stands in backticks is one name"
    );
    match selector.is_linear() {
        true => Ok(selector),
        false => Err(GrantError::Costly {
            collection: collection.clone(),
            predicate: predicate.to_owned(),
        }),
    }
}
