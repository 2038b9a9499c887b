//! Aggregates that are known without looking at every row.

use std::{cmp::Ordering, collections::VecDeque, ops::ControlFlow};

use idem_model::{Value, key};

use super::{FETCH_ENTRIES_MAX, Path, Walk, covers, entry};
use crate::{
    bound::{AggregateKind, FromItem, Order, Place, Select},
    error::ExecuteError,
    eval::{Env, Row, Slot, eval},
    expr::Expr,
    plan::{
        self, FieldTest, IndexOrder, IndexPath, Origin, PathKind, SpanGroup, Test, Total, Wish,
    },
    source::{KeySpan, Source},
};

/// The results of the aggregates of a branch without keys of GROUP BY, where they are known without
/// looking at every row: its rows are only counted, or an end of an index has the least or greatest
/// value. `None` where the rows have to be aggregated.
pub(in crate::execute) fn aggregates<S: Source>(
    branch: &Select,
    outer: &Row<'_>,
    env: &Env<'_>,
    source: &S,
) -> Result<Option<Vec<Option<Value>>>, ExecuteError<S::Error>> {
    let Some((item, aggregates)) = answerable(branch) else {
        return Ok(None);
    };
    let walk = Walk {
        item,
        outer,
        env,
        source,
    };
    let mut count = None;
    let mut results = Vec::with_capacity(aggregates.len());
    for (kind, argument) in aggregates {
        let result = match argument {
            None => {
                if count.is_none() {
                    count = walk.count()?;
                }
                let Some(count) = count else {
                    return Ok(None);
                };
                Some(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
            }
            Some(argument) => match walk.end(argument, kind)? {
                Some(result) => result,
                None => return Ok(None),
            },
        };
        results.push(result);
    }
    Ok(Some(results))
}

/// Where [`aggregates`] would find the results, to be shown. Whether the ranges of an index are exact
/// depends on arguments too; it is taken for granted where every condition is a test.
pub(in crate::execute) fn totals<S: Source>(
    branch: &Select,
    text: &str,
    source: &S,
) -> Result<Option<Vec<Total>>, ExecuteError<S::Error>> {
    let Some((item, aggregates)) = answerable(branch) else {
        return Ok(None);
    };
    let mut totals = Vec::with_capacity(aggregates.len());
    for (kind, argument) in aggregates {
        let Some(argument) = argument else {
            if item.filter.is_none() && item.access.ids.is_none() {
                totals.push(Total::Collection);
                continue;
            }
            let path = Path::choose_for(item, &Wish::default(), text, source)?;
            match path.kind {
                PathKind::Index(path) if is_tested(item, &path) => {
                    totals.push(Total::Entries(path));
                }
                _ => return Ok(None),
            }
            continue;
        };
        let Some(item) = ordered_item(item, argument) else {
            return Ok(None);
        };
        let order = order_of(argument, kind);
        let wish = Wish {
            order: &order,
            limit: Some(1),
            joined: false,
        };
        match Path::choose_for(&item, &wish, text, source)?.kind {
            PathKind::Index(path) if path.order.is_some() && !entry::repeats(&path.index) => {
                totals.push(Total::End(path));
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(totals))
}

/// Whether every condition of the filter is a test of the fields that narrow the scan.
fn is_tested(item: &FromItem, path: &IndexPath) -> bool {
    let mut covered = 0;
    let fields = &path.index.fields()[..path.tested_fields];
    for test in &item.access.tests {
        if let Origin::Filter(at @ 0..64) = test.origin
            && test.is_whole
            && fields.iter().any(|field| test.of.is(&field.key))
        {
            covered |= 1 << at;
        }
    }
    let is_covered = item
        .filter
        .as_ref()
        .is_none_or(|filter| covers(covered, filter));
    is_covered && !entry::repeats(&path.index)
}

/// COUNT(*), and MIN or MAX of an expression.
type Answerable<'q> = Vec<(AggregateKind, Option<&'q Expr>)>;

/// The source and the aggregates of a branch of which no row needs to be made.
fn answerable(branch: &Select) -> Option<(&FromItem, Answerable<'_>)> {
    let ([item], None) = (branch.from.as_slice(), &branch.filter) else {
        return None;
    };
    let grouping = branch.output.grouping.as_ref()?;
    if !grouping.keys.is_empty() || !matches!(item.place, Place::Stored(_)) {
        return None;
    }
    let mut aggregates = Vec::with_capacity(grouping.aggregates.len());
    for aggregate in &grouping.aggregates {
        match (aggregate.kind, &aggregate.argument) {
            (AggregateKind::Count, None) => aggregates.push((AggregateKind::Count, None)),
            (kind @ (AggregateKind::Min | AggregateKind::Max), Some(argument)) => {
                aggregates.push((kind, Some(argument)));
            }
            _ => return None,
        }
    }
    (!aggregates.is_empty()).then_some((item, aggregates))
}

/// A source whose rows come by a value, those without it left out.
fn ordered_item(item: &FromItem, argument: &Expr) -> Option<FromItem> {
    let of = plan::ordered_by(argument, item.slot)?;
    let mut item = item.clone();
    item.access.tests.push(FieldTest {
        of,
        test: Test::Present,
        origin: Origin::Implied,
        is_whole: false,
        condition: Expr::Is(
            Box::new(argument.clone()),
            crate::ast::IsTest::Missing,
            true,
        ),
    });
    Some(item)
}

/// The order in which the least or greatest value comes first.
fn order_of(argument: &Expr, kind: AggregateKind) -> [Order; 1] {
    [Order {
        key: argument.clone(),
        descending: kind == AggregateKind::Max,
    }]
}

impl<S: Source> Walk<'_, S> {
    /// How many rows pass, if they need not be looked at for that.
    fn count(&self) -> Result<Option<u64>, ExecuteError<S::Error>> {
        let Place::Stored(collection) = &self.item.place else {
            return Ok(None);
        };
        if self.item.filter.is_none() && self.item.access.ids.is_none() {
            let count = self.source.count(collection);
            return count.map(Some).map_err(ExecuteError::Source);
        }
        let wish = Wish::default();
        let path = Path::choose_for(self.item, &wish, self.env.text, self.source)?;
        let PathKind::Index(path) = &path.kind else {
            return Ok(None);
        };
        let found = plan::index_spans(&self.item.access.tests, path, self.outer, self.env);
        let is_exact = match &self.item.filter {
            None => true,
            Some(filter) => covers(found.covered, filter),
        };
        if !is_exact || entry::repeats(&path.index) {
            return Ok(None);
        }
        let mut count = 0;
        for span in found.groups.iter().flat_map(|group| &group.spans) {
            self.source
                .scan_index(&path.index, span, false, &mut |_, _| {
                    count += 1;
                    if count % 256 == 0 {
                        self.env.next_row();
                    }
                    match self.env.interrupted() {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                })
                .map_err(ExecuteError::Source)?;
        }
        Ok(Some(count))
    }

    /// The least or greatest value, if an index ends with it.
    fn end(
        &self,
        argument: &Expr,
        kind: AggregateKind,
    ) -> Result<Option<Option<Value>>, ExecuteError<S::Error>> {
        let Some(item) = ordered_item(self.item, argument) else {
            return Ok(None);
        };
        let order = order_of(argument, kind);
        let wish = Wish {
            order: &order,
            limit: Some(1),
            joined: false,
        };
        let path = Path::choose_for(&item, &wish, self.env.text, self.source)?;
        let PathKind::Index(path) = &path.kind else {
            return Ok(None);
        };
        let Some(order) = path.order else {
            return Ok(None);
        };
        let found = plan::index_spans(&item.access.tests, path, self.outer, self.env);
        if !found.is_grouped || entry::repeats(&path.index) {
            return Ok(None);
        }
        let mut best: Option<Value> = None;
        for group in &found.groups {
            let of_group = self.first(path, order, group, (argument, found.covered))?;
            match of_group {
                // Their keys are not in the order of their values if there are numbers inside.
                Some(Value::Array(_) | Value::Object(_)) => return Ok(None),
                Some(value) => keep_end(&mut best, value, kind),
                None => {}
            }
        }
        Ok(Some(best))
    }

    /// The value on the first row of a group that passes. Of an integer and a float that are equal, it
    /// is the integer in ascending order and the float in descending order.
    fn first(
        &self,
        path: &IndexPath,
        order: IndexOrder,
        group: &SpanGroup,
        (argument, covered): (&Expr, u64),
    ) -> Result<Option<Value>, ExecuteError<S::Error>> {
        let mut rest: VecDeque<KeySpan> = group.spans.iter().cloned().collect();
        let mut batch = 1;
        loop {
            let span = match order.is_reverse {
                true => rest.pop_back(),
                false => rest.pop_front(),
            };
            let Some(span) = span else {
                return Ok(None);
            };
            let (entries, goes_on) = self.batch(&path.index, &span, order.is_reverse, batch)?;
            if goes_on && let Some((key, id)) = entries.last() {
                match order.is_reverse {
                    true => rest.push_back(KeySpan {
                        from: span.from,
                        to: Some(entry::at((key, id))),
                    }),
                    false => rest.push_front(KeySpan {
                        from: entry::behind((key, id)),
                        to: span.to,
                    }),
                }
                batch = (batch * 2).min(FETCH_ENTRIES_MAX);
            }
            for (key, id) in entries {
                self.env.next_row();
                if self.env.interrupted() {
                    return Ok(None);
                }
                let row = self.row(path, &key, &id, covered)?;
                if let Some(row) = row.filter(|row| self.passes(covered, row)) {
                    let slot = Slot::Document(&row);
                    return Ok(self.outer.with_slot(self.item.slot, slot, |row| {
                        eval(argument, self.env, row).get().cloned()
                    }));
                }
            }
        }
    }
}

fn keep_end(best: &mut Option<Value>, value: Value, kind: AggregateKind) {
    let wanted = match kind {
        AggregateKind::Max => Ordering::Greater,
        _ => Ordering::Less,
    };
    let form = |value: &Value| {
        let mut form = Vec::new();
        key::encode(value, &mut form);
        form
    };
    let is_better = best.as_ref().is_none_or(|best| {
        let order = value.compare(best);
        order == wanted || order.is_eq() && form(&value).cmp(&form(best)) == wanted
    });
    if is_better {
        *best = Some(value);
    }
}
