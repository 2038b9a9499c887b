//! Choosing how the rows of a source are found.
//!
//! The rules, in this order: ids; what a hint says; a path that gives the order that was asked for
//! when few of its rows will be looked at; else the cheapest of one index, two that are intersected,
//! and the indexes of an OR. All rows are looked at only where no index narrows the search, or where
//! the statistics say that it would not. Costs are counted in rows that a scan reads.

use idem_model::limits;

use super::{Branch, FieldTest, Test, access::ordered_by, conditions::uses, spans::usable};
use crate::{
    ast::CompareOp,
    bound::{FromItem, Order, Place},
    error::{ErrorKind, QueryError},
    expr::Expr,
    source::{IndexInfo, IndexKey, IndexStatistics},
};

/// What the caller can make use of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish<'q> {
    /// ORDER BY, if its keys are over this source alone and rows that come in this order need no
    /// sort; empty otherwise.
    pub(crate) order: &'q [Order],
    /// How many rows will be looked at at most; `None` for all of them.
    pub(crate) limit: Option<usize>,
    /// Whether the rows of the sources before are given, so that ON helps to find the partners of
    /// each. Without it, all rows that pass the filter are found.
    pub(crate) joined: bool,
}

/// How the rows of a source are found, chosen once per run of a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AccessPath {
    pub(crate) kind: PathKind,
    /// Whether the rows come in the wished order, those that are equal in it by id.
    pub(crate) is_ordered: bool,
    /// About how many rows are looked at, where it is known.
    pub(crate) estimate: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PathKind {
    /// All of them.
    Everything,
    /// By the ids of [`super::Access::ids`].
    Ids,
    /// By the ids of [`super::Access::joined_ids`].
    JoinedIds,
    Index(IndexPath),
    /// The rows that one of several paths finds, for the alternatives of
    /// [`super::Access::any_of`] with this number.
    Union(usize, Vec<BranchPath>),
    /// The rows that all of several paths find.
    Intersection(Vec<IndexPath>),
}

/// The path to the rows of one alternative of an OR.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BranchPath {
    Ids,
    Index(IndexPath),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IndexPath {
    pub(crate) index: IndexInfo,
    /// Whether tests against the sources before are used.
    pub(crate) joined: bool,
    /// Whether the keys hold everything that is looked at, so that no document is fetched.
    pub(crate) is_covering: bool,
    /// Set if the rows are to come in order.
    pub(crate) order: Option<IndexOrder>,
    /// How many leading fields are narrowed by tests.
    pub(crate) tested_fields: usize,
}

/// How an index gives an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexOrder {
    /// Leading fields with single values, which do not matter for the order.
    pub(crate) fixed_fields: usize,
    /// The fields behind them by which the rows are ordered.
    pub(crate) ordered_fields: usize,
    /// Whether the index is read backwards.
    pub(crate) is_reverse: bool,
    /// Whether rows that are equal in those fields come by descending id.
    pub(crate) ids_descend: bool,
}

impl AccessPath {
    fn of(kind: PathKind) -> Self {
        Self {
            kind,
            is_ordered: false,
            estimate: None,
        }
    }

    /// Whether it finds other rows for other rows in the slots from `first` on, so that it is worth
    /// walking it for every one of them.
    pub(crate) fn looks_up(&self, item: &FromItem, first: usize) -> bool {
        match &self.kind {
            PathKind::Everything | PathKind::Union(..) | PathKind::Intersection(_) => false,
            PathKind::Ids => {
                let mut ids = item.access.ids.iter().map(uses);
                ids.any(|uses| !uses.slots.all_below(first))
            }
            PathKind::JoinedIds => true,
            PathKind::Index(path) => path.joined,
        }
    }

    /// Whether the rows come in the order of their ids.
    pub(crate) fn is_by_id(&self) -> bool {
        match &self.kind {
            PathKind::Index(_) | PathKind::Union(..) => false,
            PathKind::Everything
            | PathKind::Ids
            | PathKind::JoinedIds
            | PathKind::Intersection(_) => true,
        }
    }
}

/// The indexes of a collection and what is known about them.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) indexes: Vec<(IndexInfo, IndexStatistics)>,
    pub(crate) documents: Option<u64>,
}

/// Whether a source's rows may be found through an index, so that asking for the indexes is worth it.
pub(crate) fn wants_index(item: &FromItem, wish: &Wish<'_>) -> bool {
    if !matches!(item.place, Place::Stored(_)) || item.access.ids.is_some() {
        return false;
    }
    if wish.joined && item.access.joined_ids.is_some() {
        return false;
    }
    match &item.index {
        Some((name, _)) => !name.is_empty(),
        None => {
            let is_narrowed = !item.access.tests.is_empty() || !item.access.any_of.is_empty();
            is_narrowed || !wish.order.is_empty() || item.access.needs.is_some()
        }
    }
}

/// Chooses among what there is.
///
/// # Errors
/// If USE INDEX names an index that is not there.
pub(crate) fn choose(
    item: &FromItem,
    wish: &Wish<'_>,
    catalog: &Catalog,
    text: &str,
) -> Result<AccessPath, QueryError> {
    if item.access.ids.is_some() {
        return Ok(AccessPath {
            is_ordered: is_by_id(wish.order, item),
            ..AccessPath::of(PathKind::Ids)
        });
    }
    if wish.joined && item.access.joined_ids.is_some() {
        return Ok(AccessPath::of(PathKind::JoinedIds));
    }
    let chooser = Chooser {
        item,
        wish,
        catalog,
        documents: catalog.documents.map_or(DOCUMENTS_GUESS, as_float),
    };
    match &item.index {
        Some((name, _)) if name.is_empty() => Ok(chooser.everything().path),
        Some((name, span)) => {
            let mut indexes = catalog.indexes.iter();
            match indexes.find(|(index, _)| index.name() == name) {
                Some((index, statistics)) => Ok(chooser.forced(index, statistics)),
                None => {
                    let names = catalog.indexes.iter().map(|(index, _)| index.name());
                    let hint = crate::spelling::among(name, names, "the collection has no index");
                    let message = format!("there is no index `{name}`");
                    Err(QueryError::new(ErrorKind::Execution, message)
                        .at(span.position(text))
                        .with_hint(hint))
                }
            }
        }
        None => Ok(chooser.best()),
    }
}

/// Costs in rows that a scan reads. Fetching a document by its id is a look-up in the store's tree and
/// not the next row; an entry of an index is smaller than a document.
const FETCH: f64 = 1.5;
const ENTRY: f64 = 0.4;
/// Sorting a row, and keeping it until then.
const SORT: f64 = 0.5;
/// A filter that no index knows of passes one row in so many.
const PASSES_ONE_IN: f64 = 10.0;
/// The documents of a collection that nothing is known about.
const DOCUMENTS_GUESS: f64 = 10_000.0;
/// The parts of an index that tests leave, where the statistics do not say.
const EQUAL_GUESS: f64 = 0.01;
const RANGE_GUESS: f64 = 0.25;
const UNEQUAL_GUESS: f64 = 0.9;
/// How many values a list has whose length is not known.
const LIST_GUESS: f64 = 10.0;
/// A collection so small that it is not worth to think about.
const DOCUMENTS_FEW: f64 = 1_000.0;

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate, which is never negative"
)]
fn as_count(rows: f64) -> u64 {
    rows.round() as u64
}

struct Candidate {
    path: AccessPath,
    cost: f64,
    /// How well its tests fit: decides between equal costs, and against looking at all rows.
    fit: Fit,
    rows: f64,
    is_known: bool,
}

/// Leading fields with single values, strength behind them, and fewer fields.
type Fit = (usize, u8, std::cmp::Reverse<usize>);

/// How much of an index its tests leave.
struct Narrowed {
    fit: Fit,
    rows: f64,
    /// Whether the statistics say so.
    is_known: bool,
    joined: bool,
    tested_fields: usize,
}

struct Chooser<'c> {
    item: &'c FromItem,
    wish: &'c Wish<'c>,
    catalog: &'c Catalog,
    documents: f64,
}

impl Chooser<'_> {
    fn best(&self) -> AccessPath {
        let everything = self.everything();
        if self.catalog.indexes.is_empty() {
            return everything.path;
        }
        let mut candidates = Vec::new();
        for (index, statistics) in &self.catalog.indexes {
            candidates.extend(self.narrowing(index, statistics));
            candidates.extend(self.ordering(index, statistics));
        }
        if self.item.hints.prefers_order == Some(true)
            && candidates.iter().any(|one| one.path.is_ordered)
        {
            candidates.retain(|one| one.path.is_ordered);
            let best = candidates
                .into_iter()
                .reduce(|best, next| if next.cost < best.cost { next } else { best });
            return best.map_or(everything.path, |best| best.path);
        }
        candidates.extend(self.intersection());
        for (at, any_of) in self.item.access.any_of.iter().enumerate() {
            candidates.extend(self.union(at, &any_of.branches));
        }
        let best = candidates.into_iter().reduce(|best, next| {
            match next.cost < best.cost || (next.cost == best.cost && next.fit > best.fit) {
                true => next,
                false => best,
            }
        });
        match best {
            Some(best) if self.beats(&best, &everything) => best.path,
            _ => everything.path,
        }
    }

    /// Whether an index is better than a look at all rows.
    fn beats(&self, best: &Candidate, everything: &Candidate) -> bool {
        let narrows = (best.fit.0, best.fit.1) > (0, 0);
        match narrows {
            // What is not known about a test does not speak against it.
            true => !best.is_known || self.documents < DOCUMENTS_FEW || best.cost < everything.cost,
            false => best.cost < everything.cost,
        }
    }

    fn everything(&self) -> Candidate {
        let is_ordered = is_by_id(self.wish.order, self.item);
        let passes = match self.item.filter {
            None => 1.0,
            Some(_) => PASSES_ONE_IN,
        };
        let mut rows = self.documents;
        if let Some(limit) = self.wish.limit
            && (is_ordered || self.wish.order.is_empty())
        {
            rows = rows.min(as_float(limit as u64) * passes);
        }
        let sorts = !is_ordered && !self.wish.order.is_empty();
        Candidate {
            path: AccessPath {
                kind: PathKind::Everything,
                is_ordered,
                estimate: self.catalog.documents,
            },
            cost: rows + if sorts { rows * SORT } else { 0.0 },
            fit: (0, 0, std::cmp::Reverse(0)),
            rows,
            is_known: true,
        }
    }

    /// The path that USE INDEX asks for.
    fn forced(&self, index: &IndexInfo, statistics: &IndexStatistics) -> AccessPath {
        let narrowing = self.narrowing(index, statistics);
        let ordering = self.ordering(index, statistics);
        let best = match (ordering, narrowing) {
            (Some(ordering), Some(narrowing)) => match ordering.cost <= narrowing.cost {
                true => ordering,
                false => narrowing,
            },
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => {
                let narrowed = self.narrowed(&self.item.access.tests, index, statistics);
                self.candidate(index, narrowed, None)
            }
        };
        best.path
    }

    fn narrowed(
        &self,
        tests: &[FieldTest],
        index: &IndexInfo,
        statistics: &IndexStatistics,
    ) -> Narrowed {
        let entries = match statistics.entries {
            0 => self.documents,
            entries => as_float(entries),
        };
        let mut narrowed = Narrowed {
            fit: (0, 0, std::cmp::Reverse(index.fields().len())),
            rows: entries,
            is_known: statistics.entries > 0,
            joined: false,
            tested_fields: 0,
        };
        let mut lists = 1.0;
        for (at, field) in index.fields().iter().enumerate() {
            let of_field = usable(tests, self.wish.joined, field);
            let Some(strength) = of_field.clone().map(|test| test.test.strength()).max() else {
                break;
            };
            narrowed.tested_fields += 1;
            narrowed.joined |= of_field
                .clone()
                .any(|test| matches!(test.origin, super::Origin::On(_)));
            if strength < 3 {
                narrowed.fit.1 = strength;
                narrowed.is_known = false;
                for test in of_field {
                    narrowed.rows *= match test.test.strength() {
                        2 => RANGE_GUESS,
                        _ => UNEQUAL_GUESS,
                    };
                }
                break;
            }
            narrowed.fit.0 += 1;
            let list = of_field.map(|test| list_len(&test.test));
            lists *= list.fold(f64::INFINITY, f64::min);
            narrowed.rows = match statistics.distinct.get(at) {
                Some(0) | None => {
                    narrowed.is_known = false;
                    narrowed.rows * EQUAL_GUESS
                }
                Some(distinct) => entries / as_float(*distinct),
            };
        }
        narrowed.rows = (narrowed.rows * lists).clamp(1.0, entries.max(1.0));
        narrowed
    }

    /// The path through an index whose tests narrow the search.
    fn narrowing(&self, index: &IndexInfo, statistics: &IndexStatistics) -> Option<Candidate> {
        let narrowed = self.narrowed(&self.item.access.tests, index, statistics);
        let is_narrow = (narrowed.fit.0, narrowed.fit.1) > (0, 0);
        let covers = self.covers(index);
        (is_narrow || covers).then(|| self.candidate(index, narrowed, None))
    }

    /// The path through an index that gives the wished order.
    fn ordering(&self, index: &IndexInfo, statistics: &IndexStatistics) -> Option<Candidate> {
        let order = self.order_of(index)?;
        let narrowed = self.narrowed(&self.item.access.tests, index, statistics);
        Some(self.candidate(index, narrowed, Some(order)))
    }

    fn candidate(
        &self,
        index: &IndexInfo,
        narrowed: Narrowed,
        order: Option<IndexOrder>,
    ) -> Candidate {
        let is_covering = self.covers(index);
        let per_row = ENTRY + if is_covering { 0.0 } else { FETCH };
        let mut rows = narrowed.rows;
        if let Some(limit) = self.wish.limit
            && (order.is_some() || self.wish.order.is_empty())
        {
            // What the index tests, the filter passes.
            let passes = match self.is_tested(narrowed.tested_fields, index) {
                true => 1.0,
                false => PASSES_ONE_IN,
            };
            rows = rows.min((as_float(limit as u64) * passes).max(1.0));
        }
        let sorts = order.is_none() && !self.wish.order.is_empty();
        let cost = rows * per_row + if sorts { rows * SORT } else { 0.0 };
        let path = IndexPath {
            index: index.clone(),
            joined: narrowed.joined,
            is_covering,
            order,
            tested_fields: narrowed.tested_fields,
        };
        Candidate {
            path: AccessPath {
                kind: PathKind::Index(path),
                is_ordered: order.is_some(),
                estimate: narrowed.is_known.then(|| as_count(narrowed.rows)),
            },
            cost,
            fit: narrowed.fit,
            rows: narrowed.rows,
            is_known: narrowed.is_known,
        }
    }

    /// Whether every condition of the filter is a test of one of the first fields of the index.
    fn is_tested(&self, fields: usize, index: &IndexInfo) -> bool {
        let conditions = match &self.item.filter {
            None => 0,
            Some(Expr::And(items, _)) => items.len(),
            Some(_) => 1,
        };
        (0..conditions).all(|condition| {
            let mut tests = self.item.access.tests.iter();
            tests.any(|test| {
                test.origin == super::Origin::Filter(condition)
                    && index.fields()[..fields]
                        .iter()
                        .any(|field| test.of.is(&field.key))
            })
        })
    }

    fn covers(&self, index: &IndexInfo) -> bool {
        let Some(needs) = &self.item.access.needs else {
            return false;
        };
        let paths = || {
            index.fields().iter().filter_map(|field| match &field.key {
                IndexKey::Path(path) => Some(path),
                _ => None,
            })
        };
        let has_elements = index
            .fields()
            .iter()
            .any(|field| matches!(field.key, IndexKey::Elements(_)));
        !has_elements
            && needs
                .iter()
                .all(|need| need.segments() == ["_id"] || paths().any(|path| path.contains(need)))
    }

    /// How the index gives the wished order, if it does.
    fn order_of(&self, index: &IndexInfo) -> Option<IndexOrder> {
        let slot = self.item.slot;
        if self.wish.order.is_empty() {
            return None;
        }
        let tests = &self.item.access.tests;
        // Each key with its direction; those behind the id do not matter.
        let mut keys = Vec::new();
        let mut ids_descend = false;
        for order in self.wish.order {
            if is_id(&order.key, slot) {
                ids_descend = order.descending;
                break;
            }
            keys.push((ordered_by(&order.key, slot)?, order.descending));
        }
        let has_one_value = |key: &IndexKey| {
            let equal = |test: &&FieldTest| {
                test.of.is(key)
                    && !matches!(test.origin, super::Origin::On(_))
                    && matches!(
                        test.test,
                        Test::Compare(CompareOp::Equal, _) | Test::Is(_, false)
                    )
            };
            tests.iter().any(|test| equal(&test))
        };
        // A key that is the same for all rows does not matter either.
        keys.retain(|(key, _)| {
            let mut fields = index.fields().iter();
            !fields.any(|field| key.is(&field.key) && has_one_value(&field.key))
        });
        let (first, _) = keys.first()?;
        let fixed_fields = index
            .fields()
            .iter()
            .position(|field| first.is(&field.key))?;
        let single = |key: &IndexKey| {
            let single = |test: &FieldTest| {
                test.of.is(key)
                    && !matches!(test.origin, super::Origin::On(_))
                    && test.test.strength() == 3
            };
            tests.iter().any(single)
        };
        let (fixed, rest) = index.fields().split_at(fixed_fields);
        if !fixed.iter().all(|field| single(&field.key)) || rest.len() < keys.len() {
            return None;
        }
        let is_reverse = keys[0].1 != rest[0].descending;
        let fits = keys.iter().zip(rest).all(|((key, descending), field)| {
            key.is(&field.key)
                && (*descending != field.descending) == is_reverse
                && !matches!(field.key, IndexKey::Elements(_))
        });
        fits.then_some(IndexOrder {
            fixed_fields,
            ordered_fields: keys.len(),
            is_reverse,
            ids_descend,
        })
    }

    /// Index scans whose rows may be united or intersected.
    fn scans_max(&self) -> usize {
        let hint = self.item.hints.scans_max;
        hint.unwrap_or(limits::INDEX_SCANS_MAX)
            .min(limits::INDEX_SCANS_MAX)
    }

    /// Two indexes whose common rows are so few that reading both costs less than fetching what one
    /// of them gives. Only where the statistics say so.
    fn intersection(&self) -> Option<Candidate> {
        if self.scans_max() < 2 || self.item.access.tests.len() < 2 {
            return None;
        }
        let mut single: Vec<Candidate> = Vec::new();
        for (index, statistics) in &self.catalog.indexes {
            let one = self.narrowing(index, statistics);
            let one = one.filter(|one| one.is_known && one.fit.0 > 0);
            single.extend(one.filter(|one| {
                !matches!(&one.path.kind, PathKind::Index(path) if path.is_covering || path.joined)
            }));
        }
        single.sort_by(|a, b| a.rows.total_cmp(&b.rows));
        let [first, second, ..] = single.as_slice() else {
            return None;
        };
        let (PathKind::Index(a), PathKind::Index(b)) = (&first.path.kind, &second.path.kind) else {
            return None;
        };
        if a.index.fields()[0].key == b.index.fields()[0].key {
            return None;
        }
        let common = (first.rows * second.rows / self.documents.max(1.0)).max(1.0);
        let sorts = if self.wish.order.is_empty() {
            0.0
        } else {
            SORT
        };
        Some(Candidate {
            cost: (first.rows + second.rows) * ENTRY + common * (FETCH + sorts),
            fit: first.fit,
            rows: common,
            is_known: true,
            path: AccessPath {
                kind: PathKind::Intersection(vec![a.clone(), b.clone()]),
                is_ordered: false,
                estimate: Some(as_count(common)),
            },
        })
    }

    /// The paths to the rows of every alternative of an OR.
    fn union(&self, at: usize, branches: &[Branch]) -> Option<Candidate> {
        if branches.len() > self.scans_max() {
            return None;
        }
        let mut paths = Vec::with_capacity(branches.len());
        let mut cost = 0.0;
        let mut rows = 0.0;
        let mut is_known = true;
        let mut fit = (usize::MAX, u8::MAX, std::cmp::Reverse(0));
        for branch in branches {
            if branch.ids.is_some() {
                paths.push(BranchPath::Ids);
                cost += FETCH;
                rows += 1.0;
                continue;
            }
            let indexes = self.catalog.indexes.iter();
            let best = indexes
                .filter_map(|(index, statistics)| {
                    let narrowed = self.narrowed(&branch.tests, index, statistics);
                    let is_narrow = (narrowed.fit.0, narrowed.fit.1) > (0, 0);
                    (is_narrow && !narrowed.joined).then(|| self.candidate(index, narrowed, None))
                })
                .reduce(|best, next| {
                    match next.cost < best.cost || (next.cost == best.cost && next.fit > best.fit) {
                        true => next,
                        false => best,
                    }
                })?;
            let PathKind::Index(path) = best.path.kind else {
                return None;
            };
            paths.push(BranchPath::Index(path));
            cost += best.cost;
            rows += best.rows;
            is_known &= best.is_known;
            fit = fit.min(best.fit);
        }
        Some(Candidate {
            path: AccessPath {
                kind: PathKind::Union(at, paths),
                is_ordered: false,
                estimate: is_known.then(|| as_count(rows)),
            },
            cost,
            fit,
            rows,
            is_known,
        })
    }
}

/// How many values a test allows.
fn list_len(test: &Test) -> f64 {
    let len = |count: usize| as_float(count as u64);
    match test {
        Test::In(Expr::Array(items)) => len(items.len()),
        Test::In(Expr::Literal(idem_model::Value::Array(items))) => len(items.len()),
        Test::In(_) => LIST_GUESS,
        _ => 1.0,
    }
}

fn is_id(key: &Expr, slot: usize) -> bool {
    matches!(key, Expr::Field(of, path) if *of == slot && path.segments() == ["_id"])
}

/// Whether an order is that of the ids, in which a stored collection gives its rows. The rows of
/// others have a field `_id` at most.
fn is_by_id(order: &[Order], item: &FromItem) -> bool {
    let is_stored = matches!(item.place, Place::Stored(_));
    let first = order.first().filter(|_| is_stored);
    first.is_some_and(|first| is_id(&first.key, item.slot) && !first.descending)
}
