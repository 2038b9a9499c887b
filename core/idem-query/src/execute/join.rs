//! The rows of several sources together.
//!
//! The sources are joined in the order in which they are written, the first with the second, the rows
//! of both with the third, and so on. [`Method`] says how one of them is joined with those before it.
//! Rows go from the innermost source to the visitor on the stack; only what a method has to keep is
//! held, and counted.

mod hashed;

use std::{borrow::Cow, ops::ControlFlow};

use idem_model::Value;

use super::{
    hold::{Given, Held, Holding},
    host::Reader,
    profile::{Part, Stats},
    query,
    rows::{self, Path},
};
use crate::{
    bound::{FromItem, Join, JoinKind, Order, Place, Select},
    error::ExecuteError,
    eval::{Env, Row, Slot, equal, eval, holds},
    expr::Expr,
    plan::{PathKind, Wish},
    source::Source,
};

/// How one source is found and joined with those before it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) path: Path,
    pub(super) method: Method,
}

/// How the rows of a source find their partners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// The source is read again for each row before it: by ids or an index that such a row tells, or
    /// because its rows are made of that row.
    Nested,
    /// All of its rows are held and found by a hash of the keys.
    HashHere,
    /// The rows before it are held and found by a hash of the keys.
    HashBefore,
    /// All of its rows are held and each is looked at for each row before it.
    Held,
}

/// Visits rows; breaks to see no more.
type Visit<'v> = dyn FnMut(&Row<'_>) -> ControlFlow<()> + 'v;
type Flow<E> = Result<ControlFlow<()>, ExecuteError<E>>;

/// How many times as costly it is to look up a row as to read it in a scan.
const LOOKUP_COST: u64 = 4;

/// Rows that a source is taken to have where nothing is known.
const ROWS_UNKNOWN: u64 = 1000;

/// How the sources of a branch are found and joined.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Whether the rows come in the order of ORDER BY.
    pub(super) is_ordered: bool,
}

impl Plan {
    /// Decides for a branch whose rows are then put into `order`. `limit` tells how many rows are
    /// enough where no row is dropped or put together with others behind.
    pub(super) fn new<S: Source>(
        branch: &Select,
        order: &[Order],
        limit: Option<usize>,
        (text, source): (&str, &S),
    ) -> Result<Self, ExecuteError<S::Error>> {
        let first = branch.from[0].slot;
        let is_over_first = order.iter().all(|one| {
            let mut slots = one.key.slots().range(first..).copied().collect::<Vec<_>>();
            slots.retain(|slot| *slot != first);
            slots.is_empty()
        });
        let wish = Wish {
            order: match is_over_first && branch.output.grouping.is_none() {
                true => order,
                false => &[],
            },
            limit: limit.filter(|_| branch.from.len() == 1),
            joined: false,
        };
        let mut steps: Vec<Step> = Vec::with_capacity(branch.from.len());
        let mut before = 0;
        for item in &branch.from {
            let step = match item.join {
                None => {
                    let path = Path::choose_for(item, &wish, text, source)?;
                    if branch.from.len() > 1 {
                        before = estimate(item, &path, source)?;
                    }
                    let method = Method::Nested;
                    Step { path, method }
                }
                Some(_) => join_step(item, first, before, (text, source))?,
            };
            steps.push(step);
        }
        let keeps_order = branch.from.iter().zip(&steps).skip(1).all(|(item, step)| {
            let kind = item.join.as_ref().map(|join| join.kind);
            kind != Some(JoinKind::Right) && step.method != Method::HashBefore
        });
        let is_ordered = steps[0].path.is_ordered && keeps_order;
        Ok(Self { steps, is_ordered })
    }

    /// What the rows are still to be sorted by.
    pub(super) fn order_left<'o>(&self, branch: &Select, order: &'o [Order]) -> Cow<'o, [Order]> {
        match (branch.from.as_slice(), self.steps.as_slice()) {
            _ if self.is_ordered => Cow::Borrowed(&[]),
            ([only], [step]) if branch.output.grouping.is_none() => {
                step.path.order_left(only, order)
            }
            _ => Cow::Borrowed(order),
        }
    }
}

/// Decides how a source is joined with about `before` rows before it.
fn join_step<S: Source>(
    item: &FromItem,
    first: usize,
    before: u64,
    (text, source): (&str, &S),
) -> Result<Step, ExecuteError<S::Error>> {
    let kind = item.join.as_ref().map(|join| join.kind);
    let may_nest = kind != Some(JoinKind::Right);
    let has_keys = item.join.as_ref().is_some_and(|join| !join.keys.is_empty());
    let path = Path::choose(item, text, source)?;
    let looks_up = may_nest && path.looks_up(item, first);
    if matches!(item.place, Place::Unnest(_)) || looks_up && !has_keys {
        let method = Method::Nested;
        return Ok(Step { path, method });
    }
    let alone = match path.looks_up(item, first) {
        true => Path::choose_for(item, &Wish::default(), text, source)?,
        false => path.clone(),
    };
    let here = estimate(item, &alone, source)?;
    let few = before.saturating_mul(LOOKUP_COST) <= here;
    let method = match (has_keys, looks_up) {
        (true, true) if few || item.index.is_some() => {
            let method = Method::Nested;
            return Ok(Step { path, method });
        }
        (false, _) => Method::Held,
        (true, _) if few => Method::HashBefore,
        (true, _) => Method::HashHere,
    };
    let path = alone;
    Ok(Step { path, method })
}

/// About how many rows a source gives.
fn estimate<S: Source>(
    item: &FromItem,
    path: &Path,
    source: &S,
) -> Result<u64, ExecuteError<S::Error>> {
    if let Some(estimate) = path.estimate {
        return Ok(estimate);
    }
    match (&item.place, &path.kind) {
        (Place::Stored(_), PathKind::Ids | PathKind::JoinedIds) => Ok(1),
        (Place::Stored(collection), kind) => {
            let count = source.count(collection).map_err(ExecuteError::Source)?;
            Ok(match kind {
                PathKind::Everything => count,
                _ => count.min(ROWS_UNKNOWN),
            })
        }
        _ => Ok(ROWS_UNKNOWN),
    }
}

/// The sources of one branch.
pub(super) struct Joins<'j, S: Source> {
    pub(super) from: &'j [FromItem],
    pub(super) steps: &'j [Step],
    /// The row around the query.
    pub(super) outer: Row<'j>,
    pub(super) env: &'j Env<'j>,
    pub(super) reader: &'j Reader<'j, S>,
}

impl<S: Source> Joins<'_, S> {
    /// Visits the rows of all sources.
    pub(super) fn each(&self, visit: &mut Visit<'_>) -> Result<(), ExecuteError<S::Error>> {
        self.upto(self.from.len() - 1, visit).map(|_flow| ())
    }

    /// Visits the rows of the only source.
    pub(super) fn each_alone(
        &self,
        item: &FromItem,
        visit: &mut dyn FnMut(Given<'_>) -> ControlFlow<()>,
    ) -> Result<(), ExecuteError<S::Error>> {
        self.source(item, &self.steps[0].path, &self.outer, visit)
    }

    /// Visits the joined rows of the first sources, those up to `last`.
    fn upto(&self, last: usize, visit: &mut Visit<'_>) -> Flow<S::Error> {
        let item = &self.from[last];
        let step = &self.steps[last];
        let Some(join) = &item.join else {
            let mut flow = ControlFlow::Continue(());
            self.source(item, &step.path, &self.outer, &mut |given| {
                flow = self
                    .outer
                    .with_slot(item.slot, given.slot(), |row| visit(row));
                flow
            })?;
            return Ok(flow);
        };
        match step.method {
            Method::Nested => self.nested(last, join, visit),
            Method::Held => self.held(last, join, visit),
            Method::HashHere => self.hash_here(last, join, visit),
            Method::HashBefore => self.hash_before(last, join, visit),
        }
    }

    /// Reads the source again for each row before it.
    fn nested(&self, last: usize, join: &Join, visit: &mut Visit<'_>) -> Flow<S::Error> {
        let item = &self.from[last];
        let path = &self.steps[last].path;
        let mut failed = None;
        let flow = self.upto(last - 1, &mut |before| {
            let mut flow = ControlFlow::Continue(());
            let mut matched = false;
            let read = self.source(item, path, before, &mut |given| {
                flow = before.with_slot(item.slot, given.slot(), |row| {
                    match self.keys_match(join, row) && self.on_holds(join, row) {
                        true => {
                            matched = true;
                            visit(row)
                        }
                        false => ControlFlow::Continue(()),
                    }
                });
                flow
            });
            if let Err(error) = read {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            if !matched && join.kind == JoinKind::Left && self.goes_on() {
                return before.with_slot(item.slot, Slot::Absent, |row| visit(row));
            }
            flow
        })?;
        match failed {
            None => Ok(flow),
            Some(error) => Err(error),
        }
    }

    /// Looks at all rows of the source for each row before it.
    fn held(&self, last: usize, join: &Join, visit: &mut Visit<'_>) -> Flow<S::Error> {
        let item = &self.from[last];
        let mut held = Holding::new(self.env, "JOIN");
        let rows = self.hold(last, &mut held)?;
        if rows.is_empty() && join.kind != JoinKind::Left {
            return Ok(ControlFlow::Continue(()));
        }
        let mut partners = vec![false; rows.len()];
        let flow = self.upto(last - 1, &mut |before| {
            let mut matched = false;
            for (number, one) in rows.iter().enumerate() {
                self.env.next_row();
                if !self.goes_on() {
                    return ControlFlow::Break(());
                }
                before.with_slot(item.slot, one.slot(), |row| {
                    if self.on_holds(join, row) {
                        matched = true;
                        partners[number] = true;
                        return visit(row);
                    }
                    ControlFlow::Continue(())
                })?;
            }
            if !matched && join.kind == JoinKind::Left {
                return before.with_slot(item.slot, Slot::Absent, |row| visit(row));
            }
            ControlFlow::Continue(())
        })?;
        if flow.is_break() || join.kind != JoinKind::Right {
            return Ok(flow);
        }
        Ok(self.without_partner(item, rows.iter().zip(partners), visit))
    }

    /// Visits the rows of a RIGHT join that found no partner.
    fn without_partner<'h>(
        &self,
        item: &FromItem,
        rows: impl Iterator<Item = (&'h Held, bool)>,
        visit: &mut Visit<'_>,
    ) -> ControlFlow<()> {
        for (one, _) in rows.filter(|(_, matched)| !matched) {
            if !self.goes_on() {
                return ControlFlow::Break(());
            }
            self.outer
                .with_slot(item.slot, one.slot(), |row| visit(row))?;
        }
        ControlFlow::Continue(())
    }

    /// All rows of a source.
    fn hold(
        &self,
        last: usize,
        held: &mut Holding<'_>,
    ) -> Result<Vec<Held>, ExecuteError<S::Error>> {
        let mut rows = Vec::new();
        let item = &self.from[last];
        self.source(item, &self.steps[last].path, &self.outer, &mut |given| {
            let one = given.hold();
            let goes_on = held.add(one.bytes());
            rows.push(one);
            match goes_on {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        Ok(rows)
    }

    /// Visits the rows of a source that pass its filter. `before` holds the slots before it.
    fn source(
        &self,
        item: &FromItem,
        path: &Path,
        before: &Row<'_>,
        visit: &mut dyn FnMut(Given<'_>) -> ControlFlow<()>,
    ) -> Result<(), ExecuteError<S::Error>> {
        let Some(profile) = self.env.profile() else {
            return self.read(item, path, before, visit);
        };
        let (start, rows) = (profile.now(), self.env.rows());
        // What happens to its rows counts for the operators that take them.
        let mut behind = Stats::default();
        let result = self.read(item, path, before, &mut |given| {
            let (start, rows) = (profile.now(), self.env.rows());
            behind.documents_out += 1;
            let flow = visit(given);
            behind.documents_in += self.env.rows() - rows;
            behind.nanos += profile.now().saturating_sub(start);
            flow
        });
        let nanos = profile.now().saturating_sub(start);
        profile.add(
            Part::item(item),
            Stats {
                documents_in: self.env.rows() - rows - behind.documents_in,
                documents_out: behind.documents_out,
                nanos: nanos.saturating_sub(behind.nanos),
            },
        );
        result
    }

    fn read(
        &self,
        item: &FromItem,
        path: &Path,
        before: &Row<'_>,
        visit: &mut dyn FnMut(Given<'_>) -> ControlFlow<()>,
    ) -> Result<(), ExecuteError<S::Error>> {
        let passes = |slot: Slot<'_>| {
            item.filter.as_ref().is_none_or(|filter| {
                before.with_slot(item.slot, slot, |row| holds(filter, self.env, row))
            })
        };
        match &item.place {
            Place::Stored(_) | Place::System(..) => {
                let source = self.reader.source;
                rows::each(item, path, before, self.env, source, &mut |document| {
                    visit(Given::Document(document))
                })
            }
            Place::Derived(query) => {
                query::each(query, before, self.env, self.reader, &mut |mut document| {
                    self.env.next_row();
                    match passes(Slot::Document(&document)) {
                        true => visit(Given::Document(&mut document)),
                        false => ControlFlow::Continue(()),
                    }
                })
            }
            Place::Unnest(array) => {
                let array = eval(array, self.env, before);
                if let Some(Value::Array(elements)) = array.get() {
                    for element in elements {
                        self.env.next_row();
                        if !self.goes_on()
                            || passes(Slot::Value(element))
                                && visit(Given::Value(element)).is_break()
                        {
                            break;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn goes_on(&self) -> bool {
        !self.env.interrupted()
    }

    fn on_holds(&self, join: &Join, row: &Row<'_>) -> bool {
        join.on.as_ref().is_none_or(|on| holds(on, self.env, row))
    }

    /// Whether the keys are equal, where they were not compared to find the row.
    fn keys_match(&self, join: &Join, row: &Row<'_>) -> bool {
        join.keys
            .iter()
            .all(|(before, here)| are_equal(before, here, self.env, row))
    }
}

fn are_equal<'a>(left: &'a Expr, right: &'a Expr, env: &Env<'a>, row: &Row<'a>) -> bool {
    match (eval(left, env, row).get(), eval(right, env, row).get()) {
        (Some(left), Some(right)) => equal(left, right),
        _ => false,
    }
}
