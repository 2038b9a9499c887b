//! Finding the rows of a scan: by id, through an index, or all of them.

use std::{collections::BTreeSet, ops::ControlFlow};

use idem_model::{CollectionName, DocId, Object, Value};

use crate::{
    bound::{self, FromItem, Place},
    error::{ErrorKind, ExecuteError, QueryError},
    eval::{Env, Row, Slot, eval, holds},
    expr::Expr,
    plan,
    source::{IndexInfo, IndexKey, KeySpan, Source},
    span::Span,
};

/// Entries read from an index before their documents are fetched; doubles up to the second. Fetching
/// happens between index scans and never inside one, so a source may hold a lock while it scans.
const FETCH_ENTRIES_MIN: usize = 64;
const FETCH_ENTRIES_MAX: usize = 4096;

/// OFFSET and LIMIT as numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}

impl Window {
    pub(super) const ALL: Self = Self {
        offset: 0,
        limit: usize::MAX,
    };

    pub(crate) fn new(window: &bound::Window, env: &Env<'_>) -> Result<Self, QueryError> {
        Ok(Self {
            offset: number(window.offset.as_ref(), "OFFSET", env)?.unwrap_or(0),
            limit: number(window.limit.as_ref(), "LIMIT", env)?.unwrap_or(usize::MAX),
        })
    }

    pub(super) fn is_empty(self) -> bool {
        self.limit == 0
    }

    /// How many of the first rows matter.
    pub(crate) fn end(self) -> usize {
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

/// How the rows of a source are found in one run. It is chosen once, and holds for every row of the
/// sources before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Path {
    index: Option<IndexInfo>,
}

impl Path {
    /// The path with the indexes of now.
    pub(super) fn choose<S: Source>(
        item: &FromItem,
        text: &str,
        source: &S,
    ) -> Result<Self, ExecuteError<S::Error>> {
        let index = match &item.place {
            Place::Stored(collection) if plan::wants_index(item) => {
                let indexes = source.indexes(collection).map_err(ExecuteError::Source)?;
                plan::choose(item, indexes, text)?
            }
            _ => None,
        };
        Ok(Self { index })
    }

    /// The index that it scans.
    pub(super) fn index(&self) -> Option<&IndexInfo> {
        self.index.as_ref()
    }

    /// Whether it finds other rows for other rows in the slots from `first` on, so that it is worth
    /// walking it for every one of them.
    pub(super) fn looks_up(&self, item: &FromItem, first: usize) -> bool {
        let looks = |expr: &Expr| expr.slots().range(first..item.slot).next().is_some();
        match (&item.access.ids, &self.index) {
            (Some(ids), _) => looks(ids),
            (None, Some(index)) => {
                let Some(IndexKey::Path(leading)) = index.fields().first().map(|field| &field.key)
                else {
                    return false;
                };
                let mut tests = item.access.tests.iter();
                tests.any(|test| test.path == *leading && looks(&test.condition))
            }
            (None, None) => false,
        }
    }
}

/// Calls `visit` with every row of a stored or system collection that passes the source's filter,
/// until it breaks. `outer` holds the slots before it.
pub(super) fn each<S: Source>(
    item: &FromItem,
    path: &Path,
    outer: &Row<'_>,
    env: &Env<'_>,
    source: &S,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<(), ExecuteError<S::Error>> {
    let mut filtered = |document: Object| {
        env.next_row();
        if env.interrupted() {
            return ControlFlow::Break(());
        }
        let passes = item.filter.as_ref().is_none_or(|filter| {
            outer.with_slot(item.slot, Slot::Document(&document), |row| {
                holds(filter, env, row)
            })
        });
        match passes {
            true => visit(document),
            false => ControlFlow::Continue(()),
        }
    };
    match (&item.place, &item.access.ids) {
        (Place::Derived(_) | Place::Unnest(_), _) => {
            unreachable!("only collections have paths")
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
            let ids = (ids, collection);
            by_ids(ids, item, outer, env, source, &mut filtered)
        }
        (Place::Stored(collection), None) => match &path.index {
            Some(index) => by_index(item, index, outer, env, source, &mut filtered),
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
    (ids, collection): (&Expr, &CollectionName),
    item: &FromItem,
    outer: &Row<'_>,
    env: &Env<'_>,
    source: &S,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<(), ExecuteError<S::Error>> {
    let fields = &item.fields;
    // One id, written out, is by far the most frequent case and needs no set.
    if let Expr::Array(items) = ids
        && let [only] = &**items
    {
        if let Some(id) = doc_id(eval(only, env, outer).get())
            && let Some(row) = source
                .get(collection, &id, fields)
                .map_err(ExecuteError::Source)?
        {
            let _stopped = visit(row);
        }
        return Ok(());
    }
    let list = eval(ids, env, outer);
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
    outer: &Row<'_>,
    env: &Env<'_>,
    source: &S,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<(), ExecuteError<S::Error>> {
    let mut batch = FETCH_ENTRIES_MIN;
    for span in plan::index_spans(item, index, env, outer) {
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
