//! Finding the rows of a scan: by id, through an index, or all of them.

mod aggregates;
mod entry;
mod ordered;

use std::{borrow::Cow, collections::BTreeSet, ops::ControlFlow};

use idem_model::{CollectionName, DocId, FieldPath, Object, Value};

pub(super) use self::aggregates::{aggregates, totals};
use super::{hold::Holding, kinds::Typed};
use crate::{
    ast::CompareOp,
    bound::{self, FromItem, Order, Place},
    error::{ErrorKind, ExecuteError, QueryError},
    eval::{Env, Row, Slot, Val, eval, holds},
    expr::Expr,
    plan::{self, BranchPath, Catalog, FieldTest, IndexPath, PathKind, Wish},
    source::{FETCH_ENTRIES_MAX, FETCH_ENTRIES_MIN, Fields, IndexInfo, KeySpan, Source, Tested},
    span::Span,
    spelling,
};

pub(super) use crate::plan::AccessPath as Path;

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
        let catalog = catalog(item, wish, source)?;
        Ok(plan::choose(item, wish, &catalog, text)?)
    }

    /// What the rows are still to be sorted by. Rows that are equal for ORDER BY come by their ids,
    /// whatever the path: where it does not give them so, the id is the last key.
    pub(super) fn order_left<'o>(&self, item: &FromItem, order: &'o [Order]) -> Cow<'o, [Order]> {
        if self.is_ordered {
            return Cow::Borrowed(&[]);
        }
        let is_stored = matches!(item.place, Place::Stored(_));
        if order.is_empty() || !is_stored || self.is_by_id() {
            return Cow::Borrowed(order);
        }
        let id = Order {
            key: Expr::Field(item.slot, FieldPath::field("_id")),
            descending: false,
        };
        Cow::Owned(order.iter().cloned().chain([id]).collect())
    }
}

/// What there is to choose from.
fn catalog<S: Source>(
    item: &FromItem,
    wish: &Wish<'_>,
    source: &S,
) -> Result<Catalog, ExecuteError<S::Error>> {
    let typed = match &item.place {
        Place::Stored(collection) if !item.kinds.is_empty() => {
            Some(Typed::of(source, collection, &item.kinds)?)
        }
        _ => None,
    };
    // An index holds what shows without the statement's own kinds.
    let shows = |index: &IndexInfo| match &typed {
        Some(typed) => typed.are_shown_by(&item.kinds, index),
        None => true,
    };
    let mut catalog = Catalog::default();
    if let Place::Stored(collection) = &item.place
        && plan::wants_index(item, wish)
    {
        let indexes = source.indexes(collection).map_err(ExecuteError::Source)?;
        for index in indexes.into_iter().filter(shows) {
            let statistics = source.statistics(&index).map_err(ExecuteError::Source)?;
            catalog.indexes.push((index, statistics));
        }
        if !catalog.indexes.is_empty() {
            let documents = source.count(collection).map_err(ExecuteError::Source)?;
            catalog.documents = Some(documents);
        }
    }
    Ok(catalog)
}

/// Takes rows, out of their place if it keeps them.
type Visit<'v> = dyn FnMut(&mut Object) -> ControlFlow<()> + 'v;

/// Calls `visit` with every row of a stored or system collection that passes the source's filter,
/// until it breaks; it may take the row. `outer` has the slots before the source: those around the query and, with a path
/// that was chosen for a join, those of the sources before.
pub(super) fn each<S: Source>(
    item: &FromItem,
    path: &Path,
    outer: &Row<'_>,
    env: &Env<'_>,
    source: &S,
    visit: &mut Visit<'_>,
) -> Result<(), ExecuteError<S::Error>> {
    let walk = Walk {
        item,
        outer,
        env,
        source,
    };
    let tests = &item.access.tests;
    let _stopped = match (&item.place, &path.kind) {
        (Place::Derived(_) | Place::Unnest(_), _) => {
            unreachable!("only collections have paths")
        }
        (Place::System(name, at), _) => system_rows(name, at.0, env.text, source)?
            .into_iter()
            .try_for_each(|mut row| walk.give(0, &mut row, visit)),
        (Place::Stored(collection), PathKind::Everything) => {
            walk.everything(collection, visit)?;
            ControlFlow::Continue(())
        }
        (_, PathKind::Ids) => walk.by_ids(item.access.ids.as_ref(), None, visit)?,
        (_, PathKind::JoinedIds) => walk.by_ids(item.access.joined_ids.as_ref(), None, visit)?,
        (_, PathKind::Index(index)) => match index.order {
            Some(order) => ordered::each(&walk, tests, index, order, visit)?,
            None => walk.by_index(tests, index, None, visit)?,
        },
        (_, PathKind::Union(at, paths)) => walk.union(*at, paths, visit)?,
        (_, PathKind::Intersection(paths)) => walk.intersection(paths, visit)?,
    };
    Ok(())
}

/// The key of the fields, and the document.
type Entry = (Vec<u8>, DocId);

/// Whether to go on.
type Flow<E> = Result<ControlFlow<()>, ExecuteError<E>>;

/// About how many bytes an id takes in a set.
const ID_BYTES: usize = 96;

/// The ids that were seen, where a row may be found more than once.
struct Seen<'e> {
    ids: BTreeSet<DocId>,
    held: Holding<'e>,
}

impl<'e> Seen<'e> {
    fn new(env: &'e Env<'e>) -> Self {
        Self {
            ids: BTreeSet::new(),
            held: Holding::new(env, "an index scan"),
        }
    }

    /// Notes an id; whether it was not seen before. Ends the run if there are too many.
    fn insert(&mut self, id: &DocId) -> bool {
        self.ids.insert(id.clone()) && self.held.add(ID_BYTES)
    }
}

/// One run through the rows of a source.
struct Walk<'w, S: Source> {
    item: &'w FromItem,
    outer: &'w Row<'w>,
    env: &'w Env<'w>,
    source: &'w S,
}

impl<'w, S: Source> Walk<'w, S> {
    fn everything(
        &self,
        collection: &CollectionName,
        visit: &mut Visit<'_>,
    ) -> Result<(), ExecuteError<S::Error>> {
        let fields = &self.item.fields;
        let done = match &self.item.tested {
            None => self
                .source
                .scan_in_place(collection, fields, &mut |row| self.give(0, row, visit)),
            Some(tested) => {
                let mut passes = |row: Option<&Object>| {
                    self.env.next_row();
                    match self.env.interrupted() {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(row.is_some_and(|row| self.passes(0, row))),
                    }
                };
                let text = self.text();
                let text = match &text {
                    Some((name, value)) => match value.get() {
                        Some(Value::String(text)) => Some((*name, text.as_str())),
                        _ => None,
                    },
                    None => None,
                };
                let tested = Tested {
                    names: tested,
                    text,
                };
                self.source
                    .scan_passing(collection, tested, fields, &mut passes, visit)
            }
        };
        done.map_err(ExecuteError::Source)
    }

    /// The field that the whole filter compares with a constant, and that. Nothing else is evaluated for
    /// a row, so that nothing is missed where a row is left out without it.
    fn text(&self) -> Option<(&'w str, Val<'w>)> {
        let Some(Expr::Compare(CompareOp::Equal, left, right)) = &self.item.filter else {
            return None;
        };
        let (path, constant) = match (&**left, &**right) {
            (Expr::Field(slot, path), constant) | (constant, Expr::Field(slot, path))
                if *slot == self.item.slot =>
            {
                (path, constant)
            }
            _ => return None,
        };
        let [name] = path.segments() else {
            return None;
        };
        let is_plain = matches!(constant, Expr::Literal(_) | Expr::Param(_)) && name != "_id";
        is_plain.then(|| (name.as_str(), eval(constant, self.env, self.outer)))
    }

    /// Gives on a row if it passes the conditions of the filter that are not `covered`.
    fn give(&self, covered: u64, document: &mut Object, visit: &mut Visit<'_>) -> ControlFlow<()> {
        self.env.next_row();
        if self.env.interrupted() {
            return ControlFlow::Break(());
        }
        match self.passes(covered, document) {
            true => visit(document),
            false => ControlFlow::Continue(()),
        }
    }

    fn passes(&self, covered: u64, document: &Object) -> bool {
        let Some(filter) = &self.item.filter else {
            return true;
        };
        if covers(covered, filter) {
            return true;
        }
        let slot = Slot::Document(document);
        self.outer
            .with_slot(self.item.slot, slot, |row| match filter {
                Expr::And(items, _) if covered != 0 => items
                    .iter()
                    .enumerate()
                    .all(|(at, item)| is_set(covered, at) || holds(item, self.env, row)),
                filter => holds(filter, self.env, row),
            })
    }

    /// What is read of documents for which these conditions of the filter are known to hold.
    fn fields(&self, covered: u64) -> &Fields {
        let item = self.item;
        match (&item.passed, &item.filter) {
            (Some(passed), Some(filter)) if covers(covered, filter) => passed,
            _ => &item.fields,
        }
    }

    fn fetch(&self, id: &DocId, covered: u64) -> Result<Option<Object>, ExecuteError<S::Error>> {
        let Place::Stored(collection) = &self.item.place else {
            return Ok(None);
        };
        self.source
            .get(collection, id, self.fields(covered))
            .map_err(ExecuteError::Source)
    }

    fn by_ids(
        &self,
        ids: Option<&Expr>,
        mut seen: Option<&mut Seen<'w>>,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, ExecuteError<S::Error>> {
        let Some(ids) = ids else {
            return Ok(ControlFlow::Continue(()));
        };
        // One id, written out, is by far the most frequent case and needs no set.
        if let Expr::Array(items) = ids
            && let [only] = &**items
        {
            if let Some(id) = doc_id(eval(only, self.env, self.outer).get())
                && is_new(&mut seen, &id)
                && let Some(mut row) = self.fetch(&id, 0)?
            {
                return Ok(self.give(0, &mut row, visit));
            }
            return Ok(ControlFlow::Continue(()));
        }
        let list = eval(ids, self.env, self.outer);
        let Some(Value::Array(items)) = list.get() else {
            return Ok(ControlFlow::Continue(()));
        };
        let wanted: BTreeSet<DocId> = items.iter().filter_map(|item| doc_id(Some(item))).collect();
        for id in &wanted {
            if !self.env.goes_on() {
                return Ok(ControlFlow::Break(()));
            }
            if is_new(&mut seen, id)
                && let Some(mut row) = self.fetch(id, 0)?
                && self.give(0, &mut row, visit).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Calls `visit` with the key and the id of every entry, outside of the scans.
    fn entries(
        &self,
        path: &IndexPath,
        spans: impl IntoIterator<Item = KeySpan>,
        visit: &mut dyn FnMut(Vec<u8>, DocId) -> Flow<S::Error>,
    ) -> Result<ControlFlow<()>, ExecuteError<S::Error>> {
        let mut batch = FETCH_ENTRIES_MIN;
        for span in spans {
            let mut rest = Some(span);
            while let Some(span) = rest.take() {
                let (entries, goes_on) = self.batch(&path.index, &span, false, batch)?;
                if goes_on {
                    let last = entries.last().map(|(key, id)| entry::behind((key, id)));
                    rest = last.map(|from| KeySpan { from, to: span.to });
                    batch = (batch * 2).min(FETCH_ENTRIES_MAX);
                }
                for (key, id) in entries {
                    if !self.env.goes_on() || visit(key, id)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Up to so many entries, and whether there may be more.
    fn batch(
        &self,
        index: &IndexInfo,
        span: &KeySpan,
        reverse: bool,
        max: usize,
    ) -> Result<(Vec<Entry>, bool), ExecuteError<S::Error>> {
        let mut entries = Vec::new();
        let mut goes_on = false;
        self.source
            .scan_index(index, span, reverse, &mut |key, id| {
                entries.push((key.to_vec(), id));
                goes_on = entries.len() >= max;
                match goes_on {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
            .map_err(ExecuteError::Source)?;
        Ok((entries, goes_on))
    }

    /// The row of an entry: from its key, if that has all that is needed, else from its document. The
    /// entry tells that the `covered` conditions of the filter hold.
    fn row(
        &self,
        path: &IndexPath,
        key: &[u8],
        id: &DocId,
        covered: u64,
    ) -> Result<Option<Object>, ExecuteError<S::Error>> {
        match path.is_covering {
            true => Ok(Some(entry::decode(&path.index, key, id)?)),
            false => self.fetch(id, covered),
        }
    }

    fn by_index(
        &self,
        tests: &[FieldTest],
        path: &IndexPath,
        seen: Option<&mut Seen<'w>>,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, ExecuteError<S::Error>> {
        let found = plan::index_spans(tests, path, self.outer, self.env);
        let mut own = Seen::new(self.env);
        let mut seen = match seen {
            None if entry::repeats(&path.index) => Some(&mut own),
            given => given,
        };
        let spans = found.groups.into_iter().flat_map(|group| group.spans);
        if seen.is_none() && !path.is_covering {
            let fields = self.fields(found.covered);
            for span in spans {
                // There may be many of them, without any row.
                if !self.env.goes_on() {
                    return Ok(ControlFlow::Break(()));
                }
                let mut flow = ControlFlow::Continue(());
                let mut give = |row: &mut Object| {
                    flow = self.give(found.covered, row, visit);
                    flow
                };
                self.source
                    .scan_index_rows(&path.index, &span, fields, &mut give)
                    .map_err(ExecuteError::Source)?;
                if flow.is_break() {
                    return Ok(flow);
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        self.entries(path, spans, &mut |key, id| {
            if !is_new(&mut seen, &id) {
                // Where the run ended because of too many ids, the next entry tells.
                return Ok(ControlFlow::Continue(()));
            }
            Ok(match self.row(path, &key, &id, found.covered)? {
                Some(mut row) => self.give(found.covered, &mut row, visit),
                None => ControlFlow::Continue(()),
            })
        })
    }

    fn union(
        &self,
        at: usize,
        paths: &[BranchPath],
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, ExecuteError<S::Error>> {
        let mut seen = Seen::new(self.env);
        let branches = self.item.access.any_of.get(at);
        let branches = branches.map_or(&[][..], |any_of| &any_of.branches);
        for (branch, path) in branches.iter().zip(paths) {
            let goes_on = match path {
                BranchPath::Ids => self.by_ids(branch.ids.as_ref(), Some(&mut seen), visit)?,
                BranchPath::Index(path) => {
                    self.by_index(&branch.tests, path, Some(&mut seen), visit)?
                }
            };
            if goes_on.is_break() {
                return Ok(goes_on);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn intersection(
        &self,
        paths: &[IndexPath],
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, ExecuteError<S::Error>> {
        let mut common: Option<Seen<'_>> = None;
        let mut covered = 0;
        for path in paths {
            let found = plan::index_spans(&self.item.access.tests, path, self.outer, self.env);
            covered |= found.covered;
            let mut seen = Seen::new(self.env);
            let spans = found.groups.into_iter().flat_map(|group| group.spans);
            let _all = self.entries(path, spans, &mut |_, id| {
                let is_common = |common: &Seen<'_>| common.ids.contains(&id);
                if common.as_ref().is_none_or(is_common) {
                    seen.insert(&id);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            common = Some(seen);
        }
        for id in common.iter().flat_map(|common| &common.ids) {
            if !self.env.goes_on() {
                return Ok(ControlFlow::Break(()));
            }
            if let Some(mut row) = self.fetch(id, covered)?
                && self.give(covered, &mut row, visit).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// [`Seen::insert`], where ids are noted.
fn is_new(seen: &mut Option<&mut Seen<'_>>, id: &DocId) -> bool {
    seen.as_mut().is_none_or(|seen| seen.insert(id))
}

fn is_set(bits: u64, at: usize) -> bool {
    u32::try_from(at).is_ok_and(|at| bits.checked_shr(at).is_some_and(|bits| bits & 1 == 1))
}

/// Whether every condition of the filter is covered.
fn covers(covered: u64, filter: &Expr) -> bool {
    let conditions = match filter {
        Expr::And(items, _) => items.len(),
        _ => 1,
    };
    (0..conditions).all(|at| is_set(covered, at))
}

/// The rows of a system collection whose name stands `at` a place of `text`.
fn system_rows<S: Source>(
    name: &str,
    at: Span,
    text: &str,
    source: &S,
) -> Result<Vec<Object>, ExecuteError<S::Error>> {
    if name == "dual" {
        return Ok(vec![Object::new()]);
    }
    match source.system(name).map_err(ExecuteError::Source)? {
        Some(rows) => Ok(rows),
        None => {
            let message = format!("there is no system collection `system:{name}`");
            let hint = spelling::among(name, source.system_names().iter().copied(), "");
            Err(QueryError::new(ErrorKind::Execution, message)
                .at(at.position(text))
                .with_hint(hint)
                .into())
        }
    }
}

/// The id that equals a value, if a document can have it.
fn doc_id(value: Option<&Value>) -> Option<DocId> {
    DocId::new(plan::canonical(value?.clone())).ok()
}
