//! Finding the rows of a scan: by id, through an index, or all of them.

use std::{collections::BTreeSet, ops::ControlFlow};

use idem_model::{CollectionName, DocId, Object, Value};

use crate::{
    bound::{self, FromItem, Place},
    error::{ErrorKind, ExecuteError, QueryError},
    eval::{Env, Row, Slot, eval, holds},
    expr::Expr,
    plan,
    source::{Fields, IndexInfo, KeySpan, Source},
    span::Span,
};

/// Entries read from an index before their documents are fetched; doubles up to the second. Fetching
/// happens between index scans and never inside one, so a source may hold a lock while it scans.
const FETCH_ENTRIES_MIN: usize = 64;
const FETCH_ENTRIES_MAX: usize = 4096;

/// OFFSET and LIMIT as numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) offset: usize,
    pub(super) limit: usize,
}

impl Window {
    pub(super) const ALL: Self = Self {
        offset: 0,
        limit: usize::MAX,
    };

    pub(super) fn new(window: &bound::Window, env: &Env<'_>) -> Result<Self, QueryError> {
        Ok(Self {
            offset: number(window.offset.as_ref(), "OFFSET", env)?.unwrap_or(0),
            limit: number(window.limit.as_ref(), "LIMIT", env)?.unwrap_or(usize::MAX),
        })
    }

    pub(super) fn is_empty(self) -> bool {
        self.limit == 0
    }

    /// How many of the first rows matter.
    pub(super) fn end(self) -> usize {
        self.offset.saturating_add(self.limit)
    }
}

fn number(
    expr: Option<&(Expr, Span)>,
    clause: &str,
    env: &Env<'_>,
) -> Result<Option<usize>, QueryError> {
    let Some((expr, span)) = expr else {
        return Ok(None);
    };
    let value = eval(expr, env, &Row::default());
    let number = match value.get() {
        Some(Value::Int(number)) => usize::try_from(*number).ok(),
        Some(Value::Float(number)) if number.fract() == 0.0 => {
            crate::eval::whole(*number).and_then(|number| usize::try_from(number).ok())
        }
        _ => None,
    };
    number.map(Some).ok_or_else(|| {
        let found = value
            .get()
            .map_or("MISSING".to_owned(), idem_model::json::to_string);
        let found: String = found.chars().take(40).collect();
        QueryError::new(
            ErrorKind::ArgumentsInvalid,
            format!("expected {clause} to be an integer of at least 0, found {found}"),
        )
        .at(span.position(env.text))
    })
}

/// The index that the scan runs on with the indexes of now.
pub(super) fn index_for<S: Source>(
    item: &FromItem,
    text: &str,
    source: &S,
) -> Result<Option<IndexInfo>, ExecuteError<S::Error>> {
    match &item.place {
        Place::Stored(collection) if plan::wants_index(item) => {
            let indexes = source.indexes(collection).map_err(ExecuteError::Source)?;
            Ok(plan::choose(item, indexes, text)?)
        }
        _ => Ok(None),
    }
}

/// Calls `visit` with every document that passes the scan's filter, until it breaks.
pub(super) fn each<S: Source>(
    item: &FromItem,
    env: &Env<'_>,
    source: &S,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<(), ExecuteError<S::Error>> {
    let mut filtered = |document: Object| {
        env.next_row();
        if env.interrupted() {
            return ControlFlow::Break(());
        }
        let passes = item
            .filter
            .as_ref()
            .is_none_or(|filter| holds(filter, env, &Row::of(&[Slot::Document(&document)])));
        match passes {
            true => visit(document),
            false => ControlFlow::Continue(()),
        }
    };
    match (&item.place, &item.access.ids) {
        (Place::Derived(_) | Place::Unnest(_), _) => {
            let message = "a subquery in FROM and UNNEST are not supported";
            Err(QueryError::new(ErrorKind::Unsupported, message).into())
        }
        (Place::System(name), _) => {
            for row in system_rows(name, source)? {
                if filtered(row).is_break() {
                    break;
                }
            }
            Ok(())
        }
        (Place::Stored(collection), Some(ids)) => {
            by_ids(collection, ids, &item.fields, env, source, &mut filtered)
        }
        (Place::Stored(collection), None) => match index_for(item, env.text, source)? {
            Some(index) => by_index(item, &index, env, source, &mut filtered),
            None => source
                .scan(collection, &item.fields, &mut filtered)
                .map_err(ExecuteError::Source),
        },
    }
}

fn system_rows<S: Source>(name: &str, source: &S) -> Result<Vec<Object>, ExecuteError<S::Error>> {
    if name == "dual" {
        return Ok(vec![Object::new()]);
    }
    match source.system(name).map_err(ExecuteError::Source)? {
        Some(rows) => Ok(rows),
        None => {
            let message = format!("there is no system collection `system:{name}`");
            Err(QueryError::new(ErrorKind::Execution, message).into())
        }
    }
}

fn by_ids<S: Source>(
    collection: &CollectionName,
    ids: &Expr,
    fields: &Fields,
    env: &Env<'_>,
    source: &S,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<(), ExecuteError<S::Error>> {
    // One id, written out, is by far the most frequent case and needs no set.
    if let Expr::Array(items) = ids
        && let [only] = &**items
    {
        if let Some(id) = doc_id(eval(only, env, &Row::default()).get())
            && let Some(row) = source
                .get(collection, &id, fields)
                .map_err(ExecuteError::Source)?
        {
            let _stopped = visit(row);
        }
        return Ok(());
    }
    let list = eval(ids, env, &Row::default());
    let Some(Value::Array(items)) = list.get() else {
        return Ok(());
    };
    let wanted: BTreeSet<DocId> = items.iter().filter_map(|item| doc_id(Some(item))).collect();
    for id in &wanted {
        if let Some(row) = source
            .get(collection, id, fields)
            .map_err(ExecuteError::Source)?
            && visit(row).is_break()
        {
            break;
        }
    }
    Ok(())
}

/// The id that equals a value, if a document can have it.
fn doc_id(value: Option<&Value>) -> Option<DocId> {
    DocId::new(plan::canonical(value?.clone())).ok()
}

fn by_index<S: Source>(
    item: &FromItem,
    index: &IndexInfo,
    env: &Env<'_>,
    source: &S,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<(), ExecuteError<S::Error>> {
    let mut batch = FETCH_ENTRIES_MIN;
    for span in plan::index_spans(item, index, env) {
        let mut rest = Some(span);
        while let Some(span) = rest.take() {
            let mut ids = Vec::new();
            let mut last = Vec::new();
            source
                .scan_index(index, &span, false, &mut |key, id| {
                    let full = ids.len() + 1 >= batch;
                    if full {
                        last = [key, &id.to_key()].concat();
                    }
                    ids.push(id);
                    match full {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                })
                .map_err(ExecuteError::Source)?;
            if !last.is_empty() {
                // The smallest key above the last one.
                last.push(0);
                rest = Some(KeySpan {
                    from: last,
                    to: span.to,
                });
                batch = (batch * 2).min(FETCH_ENTRIES_MAX);
            }
            for id in ids {
                let row = source
                    .get(index.collection(), &id, &item.fields)
                    .map_err(ExecuteError::Source)?;
                if let Some(row) = row
                    && visit(row).is_break()
                {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
