//! ADVISE: which indexes would help a statement.
//!
//! For each source that conditions narrow and no index does: an index of the fields with single
//! values, then those of ORDER BY or the first with a range.

use idem_model::{Object, Value};

use super::rows::Path;
use crate::{
    bound::{Body, FromItem, InsertRows, Order, Place, Query},
    error::ExecuteError,
    plan::{self, AccessPath, FieldTest, PathKind, Tested, Wish},
    print::{self, Style},
    source::{IndexExpression, IndexField, IndexInfo, IndexKey, IndexSpec, Source, Target},
};

/// Fields of a suggested index: what a row is found by is rarely more.
const FIELDS_MAX: usize = 4;

/// What is said about a statement.
#[derive(Default)]
pub(super) struct Advice {
    existing: Vec<Value>,
    suggested: Vec<Suggestion>,
    created: Vec<Value>,
    failed: Vec<Value>,
}

struct Suggestion {
    spec: IndexSpec,
    reason: String,
}

/// The advice for a statement.
pub(super) fn advise<S: Source>(
    body: &Body,
    text: &str,
    source: &S,
) -> Result<Advice, ExecuteError<S::Error>> {
    let mut advice = Advice::default();
    match body {
        Body::Select(query) => query_advice(query, text, source, &mut advice)?,
        Body::Insert(insert) => {
            if let InsertRows::Select(query, _) = &insert.rows {
                query_advice(query, text, source, &mut advice)?;
            }
        }
        Body::Update(update) => {
            let order = &update.scan.window.order;
            item_advice(&update.scan.item, order, text, source, &mut advice)?;
        }
        Body::Delete(delete) => {
            let order = &delete.scan.window.order;
            item_advice(&delete.scan.item, order, text, source, &mut advice)?;
        }
        Body::Explain(inner) | Body::Profile(inner) => return advise(inner, text, source),
        _ => {}
    }
    Ok(advice)
}

fn query_advice<S: Source>(
    query: &Query,
    text: &str,
    source: &S,
    advice: &mut Advice,
) -> Result<(), ExecuteError<S::Error>> {
    for branch in &query.branches {
        let order = match branch.from.as_slice() {
            [_] if branch.output.grouping.is_none() && query.branches.len() == 1 => {
                query.window.order.as_slice()
            }
            _ => &[],
        };
        for item in &branch.from {
            match &item.place {
                Place::Derived(query) => query_advice(query, text, source, advice)?,
                _ => item_advice(item, order, text, source, advice)?,
            }
        }
        let mut inner = Ok(());
        plan::for_each_subquery(branch, &query.window, &mut |query| {
            if inner.is_ok() {
                inner = query_advice(query, text, source, advice);
            }
        });
        inner?;
    }
    Ok(())
}

fn item_advice<S: Source>(
    item: &FromItem,
    order: &[Order],
    text: &str,
    source: &S,
    advice: &mut Advice,
) -> Result<(), ExecuteError<S::Error>> {
    let Place::Stored(collection) = &item.place else {
        return Ok(());
    };
    let wish = Wish {
        order,
        limit: None,
        joined: item.join.is_some(),
    };
    let path = Path::choose_for(item, &wish, text, source)?;
    for index in indexes_of(&path) {
        let known = Value::Object(Object::from([
            ("collection".to_owned(), collection.as_str().into()),
            ("index".to_owned(), index.name().into()),
        ]));
        if !advice.existing.contains(&known) {
            advice.existing.push(known);
        }
    }
    let known = source.indexes(collection).map_err(ExecuteError::Source)?;
    let mut suggest = |tests: &[FieldTest], order: &[Order], path: Option<&AccessPath>| {
        let Some((fields, reason)) = fields_for(item, tests, order, path) else {
            return;
        };
        let starts = |index: &IndexInfo| index.fields().starts_with(&fields);
        let asked = |one: &Suggestion| {
            one.spec.collection == *collection && one.spec.fields.starts_with(&fields)
        };
        if known.iter().any(starts) || advice.suggested.iter().any(asked) {
            return;
        }
        let names = known.iter().map(IndexInfo::name);
        let others = advice.suggested.iter().map(|one| one.spec.name.as_str());
        let taken: Vec<&str> = names.chain(others).collect();
        advice.suggested.push(Suggestion {
            spec: IndexSpec {
                name: name_of(collection.as_str(), &fields, &taken),
                collection: collection.clone(),
                fields,
            },
            reason,
        });
    };
    match path.kind {
        PathKind::Ids | PathKind::JoinedIds => {}
        PathKind::Everything if item.access.tests.is_empty() => {
            for branch in item
                .access
                .any_of
                .iter()
                .flat_map(|any_of| &any_of.branches)
            {
                if branch.ids.is_none() {
                    suggest(&branch.tests, &[], None);
                }
            }
            if item.access.any_of.is_empty() {
                suggest(&[], order, None);
            }
        }
        _ => suggest(&item.access.tests, order, Some(&path)),
    }
    Ok(())
}

fn indexes_of(path: &AccessPath) -> Vec<IndexInfo> {
    match &path.kind {
        PathKind::Index(path) => vec![path.index.clone()],
        PathKind::Intersection(paths) => paths.iter().map(|path| path.index.clone()).collect(),
        PathKind::Union(_, paths) => paths
            .iter()
            .filter_map(|path| match path {
                plan::BranchPath::Index(path) => Some(path.index.clone()),
                plan::BranchPath::Ids => None,
            })
            .collect(),
        PathKind::Everything | PathKind::Ids | PathKind::JoinedIds => Vec::new(),
    }
}

/// The fields of the index that fits best, if the path is not as good, and why.
fn fields_for(
    item: &FromItem,
    tests: &[FieldTest],
    order: &[Order],
    path: Option<&AccessPath>,
) -> Option<(Vec<IndexField>, String)> {
    let mut fields: Vec<IndexField> = Vec::new();
    let mut reasons = Vec::new();
    let mut add = |of: &Tested, descending: bool| {
        let key = key_of(of);
        let repeats = |key: &IndexKey| matches!(key, IndexKey::Elements(_));
        let is_known = fields
            .iter()
            .any(|field: &IndexField| field.key == key || repeats(&field.key) && repeats(&key));
        if !is_known && fields.len() < FIELDS_MAX {
            fields.push(IndexField { key, descending });
        }
        fields.len()
    };
    let mut narrowing = 0;
    for test in tests.iter().filter(|test| test.test.strength() == 3) {
        narrowing = add(&test.of, false);
        reasons.push(Style::default().text(&test.condition));
    }
    let keys: Option<Vec<(Tested, bool)>> = order
        .iter()
        .map(|one| Some((plan::ordered_by(&one.key, item.slot)?, one.descending)))
        .collect();
    // An index narrows by one range, and gives no order behind it.
    match keys.filter(|keys| !keys.is_empty()) {
        Some(keys) => {
            for (of, descending) in keys {
                add(&of, descending);
            }
            reasons.push("ORDER BY".to_owned());
        }
        None => {
            if let Some(test) = tests.iter().find(|test| test.test.strength() == 2) {
                narrowing = add(&test.of, false);
                reasons.push(Style::default().text(&test.condition));
            }
        }
    }
    let is_better = match path.map(|path| (&path.kind, path.is_ordered)) {
        None | Some((PathKind::Everything, false)) => true,
        Some((PathKind::Index(known), is_ordered)) => {
            known.tested_fields < narrowing || !order.is_empty() && !is_ordered
        }
        Some(_) => false,
    };
    (is_better && !fields.is_empty()).then(|| {
        let what = reasons.join(", ");
        (fields, format!("no index is made for: {what}"))
    })
}

fn key_of(of: &Tested) -> IndexKey {
    let expression =
        |expr: &crate::expr::Expr| IndexExpression::new(Style::default().text(expr), expr.clone());
    match of {
        Tested::Path(path) => IndexKey::Path(path.clone()),
        Tested::Value(expr) => IndexKey::Expression(expression(expr)),
        Tested::Element(expr) => IndexKey::Elements(expression(expr)),
    }
}

/// A name made of what is indexed, that no other index has.
fn name_of(collection: &str, fields: &[IndexField], taken: &[&str]) -> String {
    let mut name = format!("by_{collection}");
    for field in fields {
        let words = field.key.text();
        let words = words.split(|c: char| !c.is_ascii_alphanumeric());
        for word in words.filter(|word| !word.is_empty()) {
            name.push('_');
            name.push_str(&word.to_ascii_lowercase());
        }
    }
    name.retain(|c| c.is_ascii_alphanumeric() || c == '_');
    name.truncate(60);
    let whole = name.clone();
    let mut number = 2;
    while taken.contains(&name.as_str()) {
        name = format!("{whole}_{number}");
        number += 1;
    }
    name
}

fn statement_of(spec: &IndexSpec) -> String {
    let mut text = "CREATE INDEX IF NOT EXISTS ".to_owned();
    print::name(&spec.name, &mut text);
    text.push_str(" ON ");
    print::name(spec.collection.as_str(), &mut text);
    let fields = spec.fields.iter().map(|field| match field.descending {
        true => format!("{} DESC", field.key.text()),
        false => field.key.text(),
    });
    let fields: Vec<String> = fields.collect();
    text.push_str(&format!(" ({})", fields.join(", ")));
    text
}

impl Advice {
    /// Makes the suggested indexes.
    pub(super) fn provision<T: Target>(
        &mut self,
        target: &mut T,
    ) -> Result<(), ExecuteError<T::Error>> {
        for suggestion in &self.suggested {
            let spec = suggestion.spec.clone();
            let is_made = target.create_index(spec).map_err(ExecuteError::Source)?;
            let statement = statement_of(&suggestion.spec).into();
            match is_made {
                true => self.created.push(statement),
                false => self.failed.push(statement),
            }
        }
        Ok(())
    }

    /// The row of ADVISE.
    pub(super) fn into_row(self, text: &str) -> Object {
        let suggested: Vec<Value> = self
            .suggested
            .iter()
            .map(|one| {
                Value::Object(Object::from([
                    ("collection".to_owned(), one.spec.collection.as_str().into()),
                    ("reason".to_owned(), one.reason.as_str().into()),
                    ("statement".to_owned(), statement_of(&one.spec).into()),
                ]))
            })
            .collect();
        let outcome = match (suggested.len(), self.created.len()) {
            (0, _) if !self.existing.is_empty() => "the indexes that serve it are there",
            (0, _) => "no index would help",
            (_, 0) => "indexes are suggested",
            _ => "indexes were made",
        };
        let advice = Object::from([
            ("statement".to_owned(), text.into()),
            ("suggestedIndexes".to_owned(), Value::Array(suggested)),
            ("existingIndexes".to_owned(), Value::Array(self.existing)),
            ("createdIndexes".to_owned(), Value::Array(self.created)),
            ("failedIndexes".to_owned(), Value::Array(self.failed)),
            ("outcome".to_owned(), outcome.into()),
        ]);
        Object::from([("advice".to_owned(), Value::Object(advice))])
    }
}
