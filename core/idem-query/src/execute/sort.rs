//! ORDER BY, OFFSET and LIMIT.

use std::{cell::Cell, cmp::Ordering, ops::ControlFlow};

use idem_model::{Object, Value};

use super::{
    hold::{Holding, weight_of},
    profile::{Part, Profile, Stats},
    rows::Window,
};
use crate::{
    bound::Order,
    eval::{Env, Row, eval, weight},
};

/// Takes what is made of the rows, in order of arrival.
pub(super) type Sink<'s> = dyn FnMut(Object) -> ControlFlow<()> + 's;

/// Gives on the rows that the window shows. Without ORDER BY it holds nothing. With ORDER BY and
/// LIMIT it holds at most twice as many as it will give: when it is full, the worse half goes, and
/// rows that are worse than the rest are not taken any more.
pub(super) struct Sorter<'e> {
    env: &'e Env<'e>,
    order: &'e [Order],
    window: Window,
    entries: Vec<Entry>,
    /// Rows taken so far; breaks ties by arrival.
    taken: usize,
    /// Whether the entry at the end of the window is the worst one that still matters.
    full: bool,
    held: Holding<'e>,
    /// What it is measured as.
    part: Option<Part>,
    stats: Cell<Stats>,
}

/// The values that a row is sorted by, each `None` for MISSING.
pub(super) type Keys = Vec<Option<Value>>;

struct Entry {
    keys: Keys,
    arrival: usize,
    item: Object,
    bytes: usize,
}

/// A buffer below this is not worth cutting.
const ENTRIES_MIN: usize = 256;

/// Entries that are sorted without a look at the interrupt: a few hundredths of a second.
const PART_ENTRIES: usize = if cfg!(test) { 16 } else { 32 * 1024 };

impl<'e> Sorter<'e> {
    pub(super) fn new(order: &'e [Order], window: Window, env: &'e Env<'e>) -> Self {
        Self {
            env,
            order,
            window,
            entries: Vec::new(),
            taken: 0,
            full: false,
            held: Holding::new(env, "ORDER BY"),
            part: None,
            stats: Cell::default(),
        }
    }

    /// The same sorter, measured as a part of the statement.
    pub(super) fn of(mut self, part: Part) -> Self {
        self.part = Some(part);
        self
    }

    /// The time of now, if it is measured and sorts.
    fn start(&self) -> Option<u64> {
        match self.order.is_empty() {
            true => None,
            false => self.env.profile().map(Profile::now),
        }
    }

    /// Counts what was done since [`Sorter::start`].
    fn count(&self, since: Option<u64>, documents_in: u64) {
        if let (Some(profile), Some(start)) = (self.env.profile(), since) {
            let mut stats = self.stats.get();
            stats.documents_in += documents_in;
            stats.nanos += profile.now().saturating_sub(start);
            self.stats.set(stats);
        }
    }

    pub(super) fn is_unordered(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether the next row is left out whatever it is, so that nothing need be made of it; counts it
    /// then.
    pub(super) fn skips(&mut self) -> bool {
        let skips = self.order.is_empty() && self.taken < self.window.offset;
        self.taken += usize::from(skips);
        skips
    }

    /// What the row is sorted by; `None` if it cannot be in the result. Keys are copied only of rows
    /// that can.
    pub(super) fn keys<'a>(&self, env: &Env<'a>, row: &Row<'a>) -> Option<Keys>
    where
        'e: 'a,
    {
        let start = self.start();
        let keys = self.keys_of(env, row);
        self.count(start, 1);
        keys
    }

    fn keys_of<'a>(&self, env: &Env<'a>, row: &Row<'a>) -> Option<Keys>
    where
        'e: 'a,
    {
        if self.full
            && let Some(worst) = self.entries.get(self.window.end() - 1)
        {
            let mut better = false;
            for (order, worst) in self.order.iter().zip(&worst.keys) {
                let key = eval(&order.key, env, row);
                match compare_one(order, key.get(), worst.as_ref()) {
                    Ordering::Less => {
                        better = true;
                        break;
                    }
                    Ordering::Equal => {}
                    Ordering::Greater => return None,
                }
            }
            // Of equal rows those that came before stay.
            if !better {
                return None;
            }
        }
        let keys = self.order.iter();
        Some(
            keys.map(|order| env.own(eval(&order.key, env, row)))
                .collect(),
        )
    }

    /// Takes a row; breaks when no further one can matter.
    pub(super) fn push(
        &mut self,
        keys: Keys,
        item: Object,
        sink: &mut Sink<'_>,
    ) -> ControlFlow<()> {
        let end = self.window.end();
        if self.order.is_empty() {
            self.taken += 1;
            if self.taken > self.window.offset {
                sink(item)?;
            }
            return match self.taken >= end {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
        }
        let start = self.start();
        let of_keys: usize = keys.iter().flatten().map(weight).sum();
        let bytes = size_of::<Entry>() + of_keys + weight_of(&item);
        self.entries.push(Entry {
            keys,
            arrival: self.taken,
            item,
            bytes,
        });
        self.taken += 1;
        if !self.held.add(bytes) {
            return ControlFlow::Break(());
        }
        if self.entries.len() >= end.saturating_mul(2).max(ENTRIES_MIN) {
            self.sort();
            if self.env.interrupted() {
                return ControlFlow::Break(());
            }
            let gone: usize = self.entries.drain(end..).map(|entry| entry.bytes).sum();
            self.held.remove(gone);
            self.full = end > 0;
        }
        self.count(start, 0);
        ControlFlow::Continue(())
    }

    /// Sorts, unless the run has to end. Many entries are sorted in parts, which are merged pairwise, and
    /// between them the interrupt is looked at.
    fn sort(&mut self) {
        let order = self.order;
        let compare =
            |a: &Entry, b: &Entry| compare(order, &a.keys, &b.keys).then(a.arrival.cmp(&b.arrival));
        let mut sorted = PART_ENTRIES;
        for part in self.entries.chunks_mut(sorted) {
            part.sort_unstable_by(compare);
            if !self.env.goes_on_after(part.len()) {
                return;
            }
        }
        while sorted < self.entries.len() {
            sorted *= 2;
            for part in self.entries.chunks_mut(sorted) {
                // It finds the two halves sorted and merges them.
                part.sort_by(compare);
                if !self.env.goes_on_after(part.len()) {
                    return;
                }
            }
        }
    }

    /// Gives on what it held back.
    pub(super) fn finish(mut self, sink: &mut Sink<'_>) {
        if self.order.is_empty() || self.env.interrupted() {
            return;
        }
        let start = self.start();
        self.sort();
        self.count(start, 0);
        if self.env.interrupted() {
            return;
        }
        let mut stats = self.stats.get();
        for entry in self
            .entries
            .into_iter()
            .skip(self.window.offset)
            .take(self.window.limit)
        {
            self.held.remove(entry.bytes);
            stats.documents_out += 1;
            if sink(entry.item).is_break() {
                break;
            }
        }
        if let (Some(profile), Some(part)) = (self.env.profile(), self.part) {
            profile.add(part, stats);
        }
    }
}

fn compare(order: &[Order], a: &[Option<Value>], b: &[Option<Value>]) -> Ordering {
    for ((a, b), order) in a.iter().zip(b).zip(order) {
        let ordering = compare_one(order, a.as_ref(), b.as_ref());
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}

fn compare_one(order: &Order, a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let ordering = match (a, b) {
        (Some(a), Some(b)) => a.compare(b),
        // MISSING comes after every value.
        (a, b) => b.is_some().cmp(&a.is_some()),
    };
    match order.descending {
        true => ordering.reverse(),
        false => ordering,
    }
}

#[cfg(test)]
mod tests {
    use idem_model::FieldPath;

    use super::*;
    use crate::{
        error::ErrorKind,
        expr::Expr,
        interrupt::{Gauge, Interrupt, StatementLimits},
    };

    /// Sorts rows of these keys; what came out, with the place at which each came in.
    fn sorted(numbers: &[i64], window: Window, env: &Env<'_>) -> Vec<(i64, usize)> {
        let order = [Order {
            key: Expr::Field(0, FieldPath::field("n")),
            descending: false,
        }];
        let mut out = Vec::new();
        let mut sink = |item: Object| {
            let at = usize::try_from(item["at"].as_int().unwrap()).unwrap();
            out.push((item["n"].as_int().unwrap(), at));
            ControlFlow::Continue(())
        };
        let mut sorter = Sorter::new(&order, window, env);
        for (at, number) in numbers.iter().enumerate() {
            let item = Object::from([
                ("n".to_owned(), Value::Int(*number)),
                ("at".to_owned(), Value::Int(i64::try_from(at).unwrap())),
            ]);
            let keys = vec![Some(Value::Int(*number))];
            if sorter.push(keys, item, &mut sink).is_break() {
                break;
            }
        }
        sorter.finish(&mut sink);
        out
    }

    #[test]
    fn parts_are_merged_and_equal_rows_stay_in_order() {
        let env = Env::new("", Vec::new(), 0);
        for count in [0, 1, 15, 16, 17, 31, 32, 33, 48, 100, 257, 1000] {
            let numbers: Vec<i64> = (0..count).map(|n| (n * 7919) % 61).collect();
            let mut expected: Vec<(i64, usize)> = numbers
                .iter()
                .copied()
                .enumerate()
                .map(|(at, n)| (n, at))
                .collect();
            expected.sort_unstable();
            assert_eq!(
                sorted(&numbers, Window::ALL, &env),
                expected,
                "{count} rows"
            );
            let window = Window {
                offset: 3,
                limit: 150,
            };
            let shown: Vec<(i64, usize)> = expected.into_iter().skip(3).take(150).collect();
            assert_eq!(sorted(&numbers, window, &env), shown, "{count} rows");
        }
    }

    #[test]
    fn a_long_sort_is_stopped() {
        let looks = Cell::new(0);
        let check = || {
            looks.set(looks.get() + 1);
            (looks.get() == 2).then_some(Interrupt::TimedOut(std::time::Duration::from_millis(1)))
        };
        let gauge = Gauge::new(StatementLimits::default(), Some(&check));
        let env = Env::new("", Vec::new(), 0).with_gauge(gauge);
        let numbers: Vec<i64> = (0..20_000).rev().collect();
        assert_eq!(sorted(&numbers, Window::ALL, &env), []);
        assert_eq!(env.finish().unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(looks.get(), 2);
    }
}
