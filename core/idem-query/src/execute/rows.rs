//! Finding the rows of a scan: by id, through an index, or all of them.

use std::{collections::BTreeSet, ops::ControlFlow};

use idem_model::{CollectionName, DocId, Object, Value};

use crate::{
    bound::{self, FromItem, Place, Select},
    error::{ErrorKind, ExecuteError, QueryError},
    eval::{Env, Row, Slot, eval, holds},
    expr::Expr,
    plan::{self, Catalog, IndexPath, PathKind, Wish},
    source::{KeySpan, Source},
    span::Span,
};

pub(super) use crate::plan::AccessPath as Path;

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

impl Path {
    /// How the rows of a source are found with the indexes of now, to be chosen once per run. Of a
    /// source that is joined it is the path to the partners of a row of the sources before, if
    /// [`Path::looks_up`] then, else to all rows that can have partners.
    pub(super) fn choose<S: Source>(
        item: &FromItem,
        text: &str,
        source: &S,
    ) -> Result<Self, ExecuteError<S::Error>> {
        let wish = Wish {
            joined: item.join.is_some(),
            ..Wish::default()
        };
        Self::choose_for(item, &wish, text, source)
    }

    /// As [`Path::choose`], for a caller that can make use of more.
    pub(super) fn choose_for<S: Source>(
        item: &FromItem,
        wish: &Wish<'_>,
        text: &str,
        source: &S,
    ) -> Result<Self, ExecuteError<S::Error>> {
        let mut catalog = Catalog::default();
        if let Place::Stored(collection) = &item.place
            && plan::wants_index(item, wish)
        {
            let indexes = source.indexes(collection).map_err(ExecuteError::Source)?;
            for index in indexes {
                let statistics = source.statistics(&index).map_err(ExecuteError::Source)?;
                catalog.indexes.push((index, statistics));
            }
            if !catalog.indexes.is_empty() {
                let documents = source.count(collection).map_err(ExecuteError::Source)?;
                catalog.documents = Some(documents);
            }
        }
        Ok(plan::choose(item, wish, catalog, text)?)
    }
}

/// Calls `visit` with every document of a stored or system source that passes its filter, until it
/// breaks; it may take the document. `outer` has the slots before the source: those around the query and, with a path that was
/// chosen for a join, those of the sources before.
pub(super) fn each<S: Source>(
    item: &FromItem,
    path: &Path,
    outer: &Row<'_>,
    env: &Env<'_>,
    source: &S,
    visit: &mut dyn FnMut(&mut Object) -> ControlFlow<()>,
) -> Result<(), ExecuteError<S::Error>> {
    let mut filtered_in_place = |document: &mut Object| {
        env.next_row();
        if env.interrupted() {
            return ControlFlow::Break(());
        }
        let passes = item.filter.as_ref().is_none_or(|filter| {
            outer.with_slot(item.slot, Slot::Document(document), |row| {
                holds(filter, env, row)
            })
        });
        match passes {
            true => visit(document),
            false => ControlFlow::Continue(()),
        }
    };
    if let (Place::Stored(collection), PathKind::Everything) = (&item.place, &path.kind) {
        return source
            .scan_in_place(collection, &item.fields, &mut filtered_in_place)
            .map_err(ExecuteError::Source);
    }
    let mut filtered = |mut document: Object| filtered_in_place(&mut document);
    let collection = match &item.place {
        Place::Derived(_) | Place::Unnest(_) => {
            unreachable!("only collections have paths")
        }
        Place::System(name) => {
            for row in system_rows(name, source)? {
                if filtered(row).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        Place::Stored(collection) => collection,
    };
    let ids = match &path.kind {
        PathKind::Ids => &item.access.ids,
        PathKind::JoinedIds => &item.access.joined_ids,
        PathKind::Index(index) => {
            return by_index(item, index, outer, env, source, &mut filtered);
        }
        PathKind::Everything => unreachable!("it was scanned above"),
    };
    match ids {
        Some(ids) => by_ids(item, collection, ids, (outer, env), source, &mut filtered),
        None => Ok(()),
    }
}

/// The results of the aggregates of a branch without keys of GROUP BY, where they are known without
/// looking at every row: its rows are only counted, or an end of an index has the least or greatest
/// value. `None` where the rows have to be aggregated.
pub(super) fn aggregates<S: Source>(
    branch: &Select,
    _outer: &Row<'_>,
    _env: &Env<'_>,
    source: &S,
) -> Result<Option<Vec<Option<Value>>>, ExecuteError<S::Error>> {
    let Some(collection) = branch.counts_all() else {
        return Ok(None);
    };
    let count = source.count(collection).map_err(ExecuteError::Source)?;
    let count = Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
    let aggregates = branch.output.grouping.iter();
    let aggregates = aggregates.flat_map(|grouping| &grouping.aggregates);
    Ok(Some(aggregates.map(|_| Some(count.clone())).collect()))
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
    item: &FromItem,
    collection: &CollectionName,
    ids: &Expr,
    (outer, env): (&Row<'_>, &Env<'_>),
    source: &S,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<(), ExecuteError<S::Error>> {
    // One id, written out, is by far the most frequent case and needs no set.
    if let Expr::Array(items) = ids
        && let [only] = &**items
    {
        if let Some(id) = doc_id(eval(only, env, outer).get())
            && let Some(row) = source
                .get(collection, &id, &item.fields)
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
            .get(collection, id, &item.fields)
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
    path: &IndexPath,
    outer: &Row<'_>,
    env: &Env<'_>,
    source: &S,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<(), ExecuteError<S::Error>> {
    let index = &path.index;
    let mut batch = FETCH_ENTRIES_MIN;
    for span in plan::index_spans(item, path, outer, env) {
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
