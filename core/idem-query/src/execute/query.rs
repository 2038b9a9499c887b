//! Running a query: its branches, and what is done with all of their rows.

use std::ops::ControlFlow;

use super::{
    collect::{Collector, Distinct},
    hold::Given,
    host::{Places, Reader, Scope},
    join::{Joins, Plan},
    profile::{Part, Profile, Stats},
    rows::{self, Window},
    sort::{Sink, Sorter},
};
use crate::{
    bound::{Order, Query, Select},
    error::ExecuteError,
    eval::{Env, Host, Row, Slot, holds},
    source::Source,
};

/// Calls `sink` with every row of a query until it breaks. `outer` is the row around it: its first
/// slots, as many as the query sees.
pub(super) fn each<S: Source>(
    query: &Query,
    outer: &Row<'_>,
    env: &Env<'_>,
    reader: &Reader<'_, S>,
    sink: &mut Sink<'_>,
) -> Result<(), ExecuteError<S::Error>> {
    let window = Window::new(&query.window, env)?;
    if window.is_empty() {
        return Ok(());
    }
    let outer = Row {
        slots: &outer.slots[..outer.slots.len().min(query.outer_slots)],
        keys: &[],
        aggregates: &[],
        ..*outer
    };
    let run = Run {
        env,
        reader,
        outer,
        first: query.outer_slots,
        sort: Part::sort(&query.window),
    };
    if let ([only], false) = (query.branches.as_slice(), query.distinct) {
        return run.branch(only, &query.window.order, window, sink);
    }
    let mut distinct = query.distinct.then(|| Distinct::new("UNION", env));
    let mut sorter = Sorter::new(&query.window.order, window, env).of(run.sort);
    let mut stopped = false;
    for branch in &query.branches {
        run.branch(branch, &[], Window::ALL, &mut |item| {
            let is_first = match &mut distinct {
                None => ControlFlow::Continue(true),
                Some(distinct) => distinct.is_first(&item),
            };
            let flow = match is_first {
                ControlFlow::Break(()) => ControlFlow::Break(()),
                ControlFlow::Continue(false) => ControlFlow::Continue(()),
                ControlFlow::Continue(true) => {
                    let slots = [Slot::Document(&item)];
                    let row = Row {
                        slots: &slots,
                        ..outer
                    };
                    match sorter.keys(env, &row) {
                        None => ControlFlow::Continue(()),
                        Some(keys) => sorter.push(keys, item, sink),
                    }
                }
            };
            stopped = flow.is_break();
            flow
        })?;
        if stopped || env.interrupted() {
            break;
        }
    }
    sorter.finish(sink);
    Ok(())
}

/// What the branches of one query have in common.
struct Run<'r, S: Source> {
    env: &'r Env<'r>,
    reader: &'r Reader<'r, S>,
    outer: Row<'r>,
    first: usize,
    /// What ORDER BY is measured as.
    sort: Part,
}

impl<S: Source> Run<'_, S> {
    fn branch(
        &self,
        branch: &Select,
        order: &[Order],
        window: Window,
        sink: &mut Sink<'_>,
    ) -> Result<(), ExecuteError<S::Error>> {
        let Some(profile) = self.env.profile() else {
            return self.rows(branch, order, window, sink).map(|_rows| ());
        };
        let start = profile.now();
        let mut stats = Stats::default();
        stats.documents_in = self.rows(branch, order, window, &mut |item| {
            stats.documents_out += 1;
            sink(item)
        })?;
        stats.nanos = profile.now().saturating_sub(start);
        profile.add(Part::branch(branch), stats);
        Ok(())
    }

    /// Runs a branch; returns how many rows its sources gave together.
    fn rows(
        &self,
        branch: &Select,
        order: &[Order],
        window: Window,
        sink: &mut Sink<'_>,
    ) -> Result<u64, ExecuteError<S::Error>> {
        let env = self.env;
        let scope = Scope {
            reader: self.reader,
            places: Places::From(&branch.from),
            first: self.first,
            outer: self.outer.host,
        };
        let outer = Row {
            host: Some(&scope as &dyn Host),
            ..self.outer
        };
        let source = self.reader.source;
        if let Some(totals) = rows::aggregates(branch, &outer, env, source)? {
            let mut collector =
                Collector::of_branch(branch, (order, self.sort), window, outer, env);
            let _flow = collector.add_totals(&totals, sink);
            collector.finish_rows(sink);
            return Ok(1);
        }
        let profile = env.profile();
        let start = profile.map_or(0, Profile::now);
        let plan = self.reader.plan(branch, || {
            let is_whole = branch.output.grouping.is_none() && !branch.distinct;
            let limit = Some(window.end()).filter(|end| is_whole && *end < usize::MAX);
            Plan::new(branch, order, limit, (env.text, source))
        })?;
        profile.inspect(|profile| profile.add_planning(start));
        let joins = Joins {
            from: &branch.from,
            steps: &plan.steps,
            outer,
            env,
            reader: self.reader,
        };
        let order = plan.order_left(branch, order);
        let order = &*order;
        let mut collector = Collector::of_branch(branch, (order, self.sort), window, outer, env);
        let filter = branch.filter.as_ref();
        let mut rows = 0;
        if let [only] = branch.from.as_slice() {
            joins.each_alone(only, &mut |given| {
                let passes = filter.is_none_or(|filter| {
                    outer.with_slot(only.slot, given.slot(), |row| holds(filter, env, row))
                });
                rows += u64::from(passes);
                match (passes, given) {
                    (false, _) => ControlFlow::Continue(()),
                    (true, Given::Document(document)) => {
                        collector.add_document(only.slot, document, sink)
                    }
                    (true, given @ Given::Value(_)) => {
                        outer.with_slot(only.slot, given.slot(), |row| collector.add(row, sink))
                    }
                }
            })?;
        } else {
            joins.each(&mut |row| {
                if filter.is_some_and(|filter| !holds(filter, env, row)) {
                    return ControlFlow::Continue(());
                }
                rows += 1;
                collector.add(row, sink)
            })?;
        }
        if !env.interrupted() {
            collector.finish(sink);
        }
        Ok(rows)
    }
}
