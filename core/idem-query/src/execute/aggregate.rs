//! COUNT, SUM, AVG, MIN, MAX, MEDIAN, MID over the rows of a group.

use std::cmp::Ordering;

use idem_model::{Value, key};

use super::table::{self, Table};

use crate::{
    bound::{Aggregate, AggregateKind},
    eval::{Env, Row, eval, weight},
    exact::{ExactSum, sum_or_average},
};

/// One aggregate while its rows come in.
#[derive(Debug)]
pub(super) struct State<'q> {
    aggregate: &'q Aggregate,
    /// Values seen, for DISTINCT, and memory for the form of the next one.
    seen: Option<(Table, Vec<u8>)>,
    total: Total,
    /// Bytes of the largest value that was kept.
    kept: usize,
}

#[derive(Debug)]
enum Total {
    Count(u64),
    /// Integers and floats apart: without floats the result is an integer.
    Sum {
        whole: i128,
        floats: Option<ExactSum>,
        count: u64,
    },
    Least(Option<Value>),
    Greatest(Option<Value>),
    Numbers(Vec<Value>),
    Ends(Option<Value>, Option<Value>),
}

impl<'q> State<'q> {
    pub(super) fn new(aggregate: &'q Aggregate) -> Self {
        let total = match aggregate.kind {
            AggregateKind::Count => Total::Count(0),
            AggregateKind::Sum | AggregateKind::Avg => Total::Sum {
                whole: 0,
                floats: None,
                count: 0,
            },
            AggregateKind::Min => Total::Least(None),
            AggregateKind::Max => Total::Greatest(None),
            AggregateKind::Median => Total::Numbers(Vec::new()),
            AggregateKind::Mid => Total::Ends(None, None),
        };
        Self {
            aggregate,
            seen: aggregate.distinct.then(Default::default),
            total,
            kept: 0,
        }
    }

    /// Adds many rows to COUNT(*) at once.
    pub(super) fn add_count(&mut self, rows: u64) {
        if let Total::Count(count) = &mut self.total {
            *count += rows;
        }
    }

    /// Adds a row; gives the bytes that are held more than before.
    pub(super) fn add<'a>(&mut self, env: &Env<'a>, row: &Row<'a>) -> usize
    where
        'q: 'a,
    {
        let Some(argument) = &self.aggregate.argument else {
            self.add_count(1);
            return 0;
        };
        let value = eval(argument, env, row);
        let Some(value) = value
            .get()
            .filter(|value| counts(self.aggregate.kind, value))
        else {
            return 0;
        };
        let mut more = 0;
        if let Some((seen, form)) = &mut self.seen {
            form.clear();
            table::encode(Some(value), form);
            if !seen.insert(form).1 {
                return 0;
            }
            more += Table::bytes_of(form);
        }
        match &mut self.total {
            Total::Count(count) => *count += 1,
            Total::Sum {
                whole,
                floats,
                count,
            } => {
                *count += 1;
                match value {
                    Value::Int(number) => *whole += i128::from(*number),
                    other => floats
                        .get_or_insert_default()
                        .add(other.as_f64().unwrap_or(0.0)),
                }
            }
            Total::Least(best) | Total::Greatest(best) => {
                let wanted = match self.aggregate.kind {
                    AggregateKind::Min => Ordering::Less,
                    _ => Ordering::Greater,
                };
                if keep(best, value, wanted) {
                    let grown = weight(value).saturating_sub(self.kept);
                    self.kept += grown;
                    more += grown;
                }
            }
            Total::Numbers(numbers) => {
                more += size_of::<Value>();
                numbers.push(value.clone());
            }
            Total::Ends(least, greatest) => {
                keep(least, value, Ordering::Less);
                keep(greatest, value, Ordering::Greater);
            }
        }
        more
    }

    /// The result; `None` is MISSING.
    pub(super) fn finish(self) -> Option<Value> {
        match self.total {
            Total::Count(count) => Some(Value::Int(i64::try_from(count).unwrap_or(i64::MAX))),
            Total::Sum {
                whole,
                floats,
                count,
            } => sum_or_average(self.aggregate.kind, whole, floats, count),
            Total::Least(best) | Total::Greatest(best) => best,
            Total::Numbers(mut numbers) => {
                // Of 1 and 1.0 the result must not depend on which came first.
                numbers.sort_by(|a, b| a.compare(b).then_with(|| form(a).cmp(&form(b))));
                // The middle one, of two the lower one: always a number that is there.
                let middle = numbers.len().checked_sub(1)? / 2;
                Some(numbers.swap_remove(middle))
            }
            Total::Ends(least, greatest) => {
                let (least, greatest) = (least?, greatest?);
                match (&least, &greatest) {
                    (Value::Int(a), Value::Int(b))
                        if (i128::from(*a) + i128::from(*b)) % 2 == 0 =>
                    {
                        i64::try_from((i128::from(*a) + i128::from(*b)) / 2)
                            .ok()
                            .map(Value::Int)
                    }
                    _ => Value::float(least.as_f64()? / 2.0 + greatest.as_f64()? / 2.0),
                }
            }
        }
    }
}

/// Keeps a value if it is better; whether it is.
fn keep(best: &mut Option<Value>, value: &Value, wanted: Ordering) -> bool {
    let is_better = best.as_ref().is_none_or(|best| {
        let order = value.compare(best);
        // Of equal values of several forms, as 1 and 1.0, always the same one.
        order == wanted || order.is_eq() && value != best && form(value).cmp(&form(best)) == wanted
    });
    if is_better {
        *best = Some(value.clone());
    }
    is_better
}

/// The exact form of a value, as bytes.
fn form(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    key::encode(value, &mut out);
    out
}

/// Whether an aggregate looks at a value: COUNT skips null and false, MIN and MAX skip null, the
/// others look at numbers only.
pub(crate) fn counts(kind: AggregateKind, value: &Value) -> bool {
    match kind {
        AggregateKind::Count => !matches!(value, Value::Null | Value::Bool(false)),
        AggregateKind::Min | AggregateKind::Max => !matches!(value, Value::Null),
        _ => matches!(value, Value::Int(_) | Value::Float(_)),
    }
}
