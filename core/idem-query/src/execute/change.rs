//! INSERT, UPDATE, DELETE and EVICT.
//!
//! A statement first finds and computes everything, then writes: what it writes never changes what
//! it reads.

use std::{collections::BTreeSet, ops::ControlFlow};

use idem_model::{
    CollectionName, DocId, DocumentOp, FieldKind, FieldOp, FieldPath, InsertConflict, Object,
    Value, limits,
};

use super::{
    QueryOutput,
    collect::Collector,
    hold::{Holding, weight_of},
    host::{Reader, Scope},
    kinds::Typed,
    profile::{Part, Profile, Stats},
    query,
    rows::{self, Path, Window},
    sort::Sorter,
    strict::Strict,
};
use crate::{
    bound::{Action, Delete, Edit, Insert, InsertRows, Output, Place, Scan, Update},
    error::{ErrorKind, ExecuteError, QueryError},
    eval::{Env, Row, Slot, eval, weight},
    expr::Expr,
    plan::Wish,
    source::{Fields, Outcome, Source, Target},
    span::Span,
};

pub(super) fn insert<T: Target>(
    insert: &Insert,
    env: &Env<'_>,
    target: &mut T,
) -> Result<QueryOutput, ExecuteError<T::Error>> {
    let typed = Typed::of(target, &insert.collection, &insert.kinds)?;
    let documents = documents(insert, env, target)?;
    let mut seen: Option<BTreeSet<DocId>> = None;
    let mut ready: Vec<Ready> = Vec::with_capacity(documents.len());
    for (mut fields, span) in documents {
        let place = |error: QueryError| error.at(span.position(env.text));
        let id = match fields.remove("_id") {
            Some(id) => {
                DocId::new(id).map_err(|error| place(arguments_invalid(error.to_string())))?
            }
            None => target.generate_id(),
        };
        check_document(&fields, &insert.kinds)
            .and_then(|()| typed.check_document(&fields))
            .map_err(place)?;
        if is_repeated(&id, &ready, &mut seen) {
            let message = format!("Expected unique document identifiers, found {id} twice");
            return Err(place(arguments_invalid(message)).into());
        }
        ready.push((id, fields, span));
    }
    check_count(ready.len())?;
    let strict = Strict::of(&insert.collection, &insert.kinds, target)?;
    let mut written = Vec::new();
    for (id, fields, span) in ready {
        env.step()?;
        let kinds = match &strict {
            None => insert.kinds.clone(),
            Some(strict) => strict.insert_kinds(&insert.kinds, &fields),
        };
        let op = match insert.initial {
            true => DocumentOp::InsertInitial { fields, kinds },
            false => DocumentOp::Insert {
                fields,
                kinds,
                conflict: insert.conflict,
            },
        };
        let outcome = target
            .apply(&insert.collection, &id, op)
            .map_err(ExecuteError::Source)?;
        match outcome {
            Outcome::Changed => written.push(id),
            // It was asked to write and did, though nothing is different.
            Outcome::Unchanged if insert.conflict == InsertConflict::DoUpdate => written.push(id),
            Outcome::Unchanged => {}
            Outcome::AlreadyExists => {
                let message = format!(
                    "document with _id {id} already exists in collection `{}`",
                    insert.collection
                );
                return Err(QueryError::new(ErrorKind::Execution, message)
                    .at(span.position(env.text))
                    .with_hint("ON ID CONFLICT DO UPDATE or DO NOTHING says what to do then")
                    .into());
            }
        }
    }
    let items = after_images(
        insert.returning.as_ref(),
        &insert.collection,
        &written,
        env,
        target,
    )?;
    Ok(QueryOutput {
        items,
        mutated_ids: written,
        ..QueryOutput::default()
    })
}

/// A document of an INSERT, with the place of what gave it.
type Ready = (DocId, Object, Span);

/// Whether a document with this id came before. `seen` has the ids once they did not rise; mostly they
/// do, and then none is there twice.
fn is_repeated(id: &DocId, before: &[Ready], seen: &mut Option<BTreeSet<DocId>>) -> bool {
    if seen.is_none() && before.last().is_none_or(|(last, ..)| last < id) {
        return false;
    }
    let ids = || before.iter().map(|(id, ..)| id.clone()).collect();
    !seen.get_or_insert_with(ids).insert(id.clone())
}

fn arguments_invalid(message: impl Into<String>) -> QueryError {
    QueryError::new(ErrorKind::ArgumentsInvalid, message)
}

/// The documents of an INSERT, each with the place of what gave it.
fn documents<S: Source>(
    insert: &Insert,
    env: &Env<'_>,
    source: &S,
) -> Result<Vec<(Object, Span)>, ExecuteError<S::Error>> {
    match &insert.rows {
        InsertRows::Select(query, span) => {
            let reader = Reader::new(source);
            let mut held = Holding::new(env, "INSERT");
            let mut documents = Vec::new();
            query::each(query, &Row::default(), env, &reader, &mut |row| {
                let goes_on = held.add(weight_of(&row));
                documents.push((row, *span));
                match goes_on {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
            reader.finish()?;
            env.finish()?;
            Ok(documents)
        }
        InsertRows::Documents(exprs) => {
            let reader = Reader::new(source);
            let scope = Scope::of(&reader, &insert.collection);
            let row = scope.row();
            let mut documents = Vec::with_capacity(exprs.len());
            for (expr, span) in exprs {
                env.next_row();
                // An argument is taken or copied whatever its size; the size of documents is the
                // store's.
                let value = match expr {
                    Expr::Param(slot) => Some(env.take_documents(*slot)),
                    _ => env.own(eval(expr, env, &row)),
                };
                let items = match value {
                    Some(Value::Array(items)) => items,
                    Some(other) => vec![other],
                    None => Vec::new(),
                };
                for item in items {
                    match item {
                        Value::Object(fields) => documents.push((fields, *span)),
                        other => {
                            let message = format!(
                                "expected a document (an object) or an array of documents, found {}",
                                other.type_name()
                            );
                            return Err(arguments_invalid(message)
                                .at(span.position(env.text))
                                .into());
                        }
                    }
                }
            }
            reader.finish()?;
            Ok(documents)
        }
    }
}

fn check_document(fields: &Object, kinds: &[(FieldPath, FieldKind)]) -> Result<(), QueryError> {
    // The document itself is the first level.
    let levels = 1 + fields
        .values()
        .map(Value::nesting_levels)
        .max()
        .unwrap_or(0);
    if levels > limits::NESTING_LEVELS_MAX {
        return Err(arguments_invalid(format!(
            "document nests {levels} levels deep, over the limit of {}",
            limits::NESTING_LEVELS_MAX
        )));
    }
    for (path, kind) in kinds {
        if let Some(value) = path.find(fields) {
            check_kind(path, value, *kind)?;
        }
    }
    Ok(())
}

/// Whether a value can be written to a field of a declared kind.
fn check_kind(path: &FieldPath, value: &Value, kind: FieldKind) -> Result<(), QueryError> {
    match kind.takes(value) {
        true => Ok(()),
        false => Err(wrong_kind(path, kind, value.type_name())),
    }
}

/// A value of the type `found` was given to a field of a kind that takes others.
pub(super) fn wrong_kind(path: &FieldPath, kind: FieldKind, found: &str) -> QueryError {
    let expected = match kind {
        FieldKind::Counter => "an integer value",
        FieldKind::Map => "an object, because it is declared as MAP",
        FieldKind::Attachment => "the token of an attachment",
        _ => "a value",
    };
    arguments_invalid(format!("expected `{path}` to be {expected}, found {found}"))
}

fn check_count(count: usize) -> Result<(), QueryError> {
    if count <= limits::TRANSACTION_DOCUMENTS_MAX {
        return Ok(());
    }
    Err(QueryError::new(
        ErrorKind::Execution,
        format!(
            "the statement would change {count} documents, over the limit of {}",
            limits::TRANSACTION_DOCUMENTS_MAX
        ),
    )
    .with_hint("use LIMIT and repeat the statement"))
}

/// The rows of RETURNING, from the documents as they are now.
fn after_images<S: Source>(
    returning: Option<&Output>,
    collection: &CollectionName,
    ids: &[DocId],
    env: &Env<'_>,
    source: &S,
) -> Result<Vec<Object>, ExecuteError<S::Error>> {
    let Some(output) = returning else {
        return Ok(Vec::new());
    };
    returned(output, collection, env, source, |add| {
        for id in ids {
            if let Some(row) = source
                .get(collection, id, &Fields::All)
                .map_err(ExecuteError::Source)?
            {
                add(row);
            }
        }
        Ok(())
    })
}

/// The rows of RETURNING, from the documents that `give` adds.
fn returned<S: Source>(
    output: &Output,
    collection: &CollectionName,
    env: &Env<'_>,
    source: &S,
    give: impl FnOnce(&mut dyn FnMut(Object)) -> Result<(), ExecuteError<S::Error>>,
) -> Result<Vec<Object>, ExecuteError<S::Error>> {
    let reader = Reader::new(source);
    let scope = Scope::of(&reader, collection);
    let mut items = Vec::new();
    let mut sink = |item| {
        items.push(item);
        ControlFlow::Continue(())
    };
    let mut collector = Collector::of_returning(output, scope.row(), env);
    give(&mut |mut document| {
        env.next_row();
        let _never_full = collector.add_document(0, &mut document, &mut sink);
    })?;
    collector.finish(&mut sink);
    reader.finish()?;
    Ok(items)
}

/// Gives the documents that a change is about, after its window, to `take`.
fn matching<S: Source>(
    scan: &Scan,
    scope: &Scope<'_, S>,
    env: &Env<'_>,
    take: &mut dyn FnMut(Object) -> Result<(), QueryError>,
) -> Result<(), ExecuteError<S::Error>> {
    let window = Window::new(&scan.window, env)?;
    if window.is_empty() {
        return Ok(());
    }
    let mut count = 0;
    let mut result = Ok(());
    let mut sink = |document| {
        count += 1;
        // One document too many is enough to know.
        if count <= limits::TRANSACTION_DOCUMENTS_MAX {
            let rows = env.rows();
            result = take(document);
            env.set_rows(rows);
        }
        match result.is_ok() && count <= limits::TRANSACTION_DOCUMENTS_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let source = scope.reader.source;
    let wish = Wish {
        order: &scan.window.order,
        limit: Some(window.end()).filter(|end| *end < usize::MAX),
        joined: false,
    };
    let path = Path::choose_for(&scan.item, &wish, env.text, source)?;
    let order = path.order_left(&scan.item, &scan.window.order);
    let mut sorter = Sorter::new(&order, window, env).of(Part::sort(&scan.window));
    let outer = scope.row();
    let (start, rows) = (env.profile().map_or(0, Profile::now), env.rows());
    rows::each(&scan.item, &path, &outer, env, source, &mut |document| {
        let keys = outer.with_slot(0, Slot::Document(document), |row| sorter.keys(env, row));
        match keys {
            None => ControlFlow::Continue(()),
            Some(keys) => sorter.push(keys, std::mem::take(document), &mut sink),
        }
    })?;
    sorter.finish(&mut sink);
    if let Some(profile) = env.profile() {
        let stats = Stats {
            documents_in: env.rows() - rows,
            documents_out: count as u64,
            nanos: profile.now().saturating_sub(start),
        };
        profile.add(Part::item(&scan.item), stats);
    }
    scope.reader.finish()?;
    env.finish()?;
    result?;
    check_count(count)?;
    Ok(())
}

fn id_of(document: &Object) -> Result<DocId, QueryError> {
    doc_id(document.get("_id").cloned())
}

fn take_id(mut document: Object) -> Result<DocId, QueryError> {
    doc_id(document.remove("_id"))
}

fn doc_id(id: Option<Value>) -> Result<DocId, QueryError> {
    id.and_then(|id| DocId::new(id).ok())
        .ok_or_else(|| QueryError::new(ErrorKind::Execution, "the source gave a row without _id"))
}

pub(super) fn update<T: Target>(
    update: &Update,
    env: &Env<'_>,
    target: &mut T,
) -> Result<QueryOutput, ExecuteError<T::Error>> {
    let typed = Typed::of(target, &update.collection, &update.scan.item.kinds)?;
    let strict = Strict::of(&update.collection, &update.scan.item.kinds, target)?;
    if let Some(strict) = &strict {
        strict.check(&update.edits, env.text)?;
    }
    let mut changes = Vec::new();
    let mut held = Holding::new(env, "UPDATE");
    {
        let reader = Reader::new(&*target);
        let scope = Scope::of(&reader, &update.collection);
        matching(&update.scan, &scope, env, &mut |document| {
            env.next_row();
            let row = scope.row();
            let ops = row.with_slot(0, Slot::Document(&document), |row| {
                field_ops(&update.edits, (&typed, strict.as_ref()), env, row)
            })?;
            if !ops.is_empty() {
                let bytes: usize = ops.iter().map(weight_of_op).sum();
                changes.push((take_id(document)?, ops));
                reader.source.will_change();
                held.add(bytes);
            }
            Ok(())
        })?;
    }
    let mut written = Vec::with_capacity(changes.len());
    for (number, (id, ops)) in changes.into_iter().enumerate() {
        env.step()?;
        let before = match number < COUNTERS_CHECKED_MAX {
            true => held_before(update, &id, &ops, target)?,
            false => Vec::new(),
        };
        target
            .apply(&update.collection, &id, DocumentOp::Update(ops))
            .map_err(ExecuteError::Source)?;
        warn_of_hidden(update, &id, before, env, target)?;
        written.push(id);
    }
    let items = after_images(
        update.returning.as_ref(),
        &update.collection,
        &written,
        env,
        target,
    )?;
    Ok(QueryOutput {
        items,
        mutated_ids: written,
        ..QueryOutput::default()
    })
}

/// Documents of one UPDATE of which it is looked at what INCREMENT did: those of a statement are alike,
/// and reading documents again costs as much as writing them.
const COUNTERS_CHECKED_MAX: usize = 16;

/// A field, by how much it is incremented, and what it held before.
type Incremented = (FieldPath, i64, Value);

/// What the fields hold that are to be incremented.
fn held_before<S: Source>(
    update: &Update,
    id: &DocId,
    ops: &[FieldOp],
    source: &S,
) -> Result<Vec<Incremented>, ExecuteError<S::Error>> {
    let increments = ops.iter().filter_map(|op| match op {
        FieldOp::Increment { path, by } => Some((path, *by)),
        _ => None,
    });
    let mut held = Vec::new();
    for (path, by) in increments {
        if let Some(value) = value_at(update, id, path, source)? {
            held.push((path.clone(), by, value));
        }
    }
    Ok(held)
}

/// Warns of values that are no counters and that an increment hid.
fn warn_of_hidden<S: Source>(
    update: &Update,
    id: &DocId,
    before: Vec<Incremented>,
    env: &Env<'_>,
    source: &S,
) -> Result<(), ExecuteError<S::Error>> {
    for (path, by, held) in before {
        let sum = held.as_int().and_then(|count| count.checked_add(by));
        let shown = value_at(update, id, &path, source)?;
        let was_counter = sum.is_some() && shown.as_ref().and_then(Value::as_int) == sum;
        let edit = update.edits.iter().find(|edit| edit.path == path);
        if let (false, Some(edit)) = (was_counter, edit) {
            env.warn(edit.span, || {
                let found = held.type_name();
                format!(
                    "`{path}` held {found} that is no counter: INCREMENT counts beside it, from 0 or where it was, and hides it"
                )
            });
        }
    }
    Ok(())
}

/// The value of a field as it shows without declarations of the statement.
fn value_at<S: Source>(
    update: &Update,
    id: &DocId,
    path: &FieldPath,
    source: &S,
) -> Result<Option<Value>, ExecuteError<S::Error>> {
    let name = path.segments().first().cloned();
    let fields = Fields::Named(name.into_iter().collect());
    let document = source.get(&update.collection, id, &fields);
    let document = document.map_err(ExecuteError::Source)?;
    Ok(document.and_then(|fields| path.find(&fields).cloned()))
}

/// The edits of one document, computed from what it was before.
fn field_ops(
    edits: &[Edit],
    (typed, strict): (&Typed, Option<&Strict>),
    env: &Env<'_>,
    row: &Row<'_>,
) -> Result<Vec<FieldOp>, QueryError> {
    let mut ops = Vec::with_capacity(edits.len());
    for edit in edits {
        let path = edit.path.clone();
        let place = |error: QueryError| error.at(edit.span.position(env.text));
        match &edit.action {
            Action::Unset => ops.push(FieldOp::Unset { path }),
            Action::Increment(by) => {
                let by = counter_value(by, &path, "the increment of", env, row).map_err(place)?;
                ops.push(FieldOp::Increment { path, by });
            }
            Action::Restart(to) => {
                let to = match to {
                    None => 0,
                    Some(to) => {
                        counter_value(to, &path, "the restart of", env, row).map_err(place)?
                    }
                };
                ops.push(FieldOp::Restart { path, to });
            }
            Action::Set(value, kind) => {
                let value = match value {
                    Expr::Param(slot) => Some(env.args[*slot].clone()),
                    _ => env.own(eval(value, env, row)),
                };
                let Some(value) = value else {
                    env.warn(edit.span, || {
                        format!("`{path}` was not set: its value is MISSING; UNSET removes a field")
                    });
                    continue;
                };
                if let Some(kind) = kind {
                    check_kind(&path, &value, *kind).map_err(place)?;
                }
                let levels = path.segments().len() + value.nesting_levels();
                if levels > limits::NESTING_LEVELS_MAX {
                    let limit = limits::NESTING_LEVELS_MAX;
                    return Err(place(arguments_invalid(format!(
                        "`{path}` would nest {levels} levels deep, over the limit of {limit}"
                    ))));
                }
                let kind = kind.or_else(|| strict.and_then(|strict| strict.set_kind(&path)));
                ops.push(FieldOp::Set { path, value, kind });
            }
        }
        if let Some(op) = ops.last() {
            typed.check_edit(op).map_err(place)?;
        }
    }
    Ok(ops)
}

fn counter_value<'a>(
    expr: &'a Expr,
    path: &FieldPath,
    what: &str,
    env: &Env<'a>,
    row: &Row<'a>,
) -> Result<i64, QueryError> {
    let value = eval(expr, env, row);
    match value.get() {
        Some(Value::Int(number)) => Ok(*number),
        _ => Err(arguments_invalid(format!(
            "expected {what} `{path}` to be an integer value, found {}",
            value.type_name()
        ))),
    }
}

pub(super) fn delete<T: Target>(
    delete: &Delete,
    env: &Env<'_>,
    target: &mut T,
) -> Result<QueryOutput, ExecuteError<T::Error>> {
    let collection = delete.collection.as_ref();
    let collection = collection.expect("a DELETE without a stored collection changes nothing");
    let mut documents = Vec::new();
    let mut held = Holding::new(env, "DELETE");
    {
        let reader = Reader::new(&*target);
        let scope = Scope::of(&reader, collection);
        matching(&delete.scan, &scope, env, &mut |document| {
            let document = match delete.returning {
                Some(_) => document,
                None => only_id(document),
            };
            held.add(weight_of(&document));
            documents.push(document);
            reader.source.will_change();
            Ok(())
        })?;
    }
    let mut written = Vec::with_capacity(documents.len());
    for document in &documents {
        let id = id_of(document)?;
        env.step()?;
        let op = match delete.evict {
            true => DocumentOp::Evict,
            false => DocumentOp::Delete,
        };
        target
            .apply(collection, &id, op)
            .map_err(ExecuteError::Source)?;
        written.push(id);
    }
    let items = match &delete.returning {
        None => Vec::new(),
        Some(output) => returned(output, collection, env, target, |add| {
            documents.into_iter().for_each(add);
            Ok(())
        })?,
    };
    Ok(QueryOutput {
        items,
        mutated_ids: written,
        ..QueryOutput::default()
    })
}

/// About how many bytes an edit holds.
fn weight_of_op(op: &FieldOp) -> usize {
    size_of::<FieldOp>()
        + match op {
            FieldOp::Set { value, .. } => weight(value),
            _ => 0,
        }
}

/// DELETE from a system collection. Its rows are not documents, so no ids are given.
pub(super) fn forget<S: Source>(
    delete: &Delete,
    env: &Env<'_>,
    source: &S,
) -> Result<Vec<Object>, ExecuteError<S::Error>> {
    let Place::System(name, at) = &delete.scan.item.place else {
        unreachable!("the caller looked");
    };
    // What only documents have is asked of a collection that has none.
    let nowhere = CollectionName::new("__system").expect("it is a name");
    let mut rows = Vec::new();
    {
        let reader = Reader::new(source);
        let scope = Scope::of(&reader, &nowhere);
        matching(&delete.scan, &scope, env, &mut |row| {
            rows.push(row);
            Ok(())
        })?;
    }
    for row in &rows {
        if !source.forget(name, row).map_err(ExecuteError::Source)? {
            let message = format!("the rows of `system:{name}` cannot be deleted");
            return Err(QueryError::new(ErrorKind::Unsupported, message)
                .at(at.0.position(env.text))
                .into());
        }
    }
    match &delete.returning {
        None => Ok(Vec::new()),
        Some(output) => returned(output, &nowhere, env, source, |add| {
            rows.into_iter().for_each(add);
            Ok(())
        }),
    }
}

fn only_id(mut document: Object) -> Object {
    let id = document.remove("_id");
    id.map(|id| ("_id".to_owned(), id)).into_iter().collect()
}
