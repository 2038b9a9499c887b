//! Truth: comparisons, AND, OR, XOR, NOT, IN, IS, CASE.
//!
//! A truth value is true, false, null or MISSING. A comparison with MISSING is MISSING, else with
//! null is null, else of different types is MISSING.

use std::cmp::Ordering;

use idem_model::Value;

use super::{Env, Row, Val, eval, holds};
use crate::{
    ast::{CompareOp, IsTest},
    expr::{Case, Expr, SubqueryKind},
    span::Site,
};

/// The order of two values that can be compared; `Err` holds null or MISSING.
fn ordering(left: Option<&Value>, right: Option<&Value>) -> Result<Ordering, Val<'static>> {
    let (Some(left), Some(right)) = (left, right) else {
        return Err(Val::Missing);
    };
    if matches!(left, Value::Null) || matches!(right, Value::Null) {
        return Err(Val::NULL);
    }
    if left.kind() != right.kind() {
        return Err(Val::Missing);
    }
    Ok(left.compare(right))
}

/// Whether two values are equal in the sense of `=`.
pub(crate) fn equal(left: &Value, right: &Value) -> bool {
    !matches!(left, Value::Null)
        && left.kind() == right.kind()
        && left.compare(right) == Ordering::Equal
}

pub(super) fn compare(op: CompareOp, left: &Val<'_>, right: &Val<'_>) -> Val<'static> {
    compare_values(op, left.get(), right.get())
}

/// As [`compare`]; `None` is MISSING.
pub(super) fn compare_values(
    op: CompareOp,
    left: Option<&Value>,
    right: Option<&Value>,
) -> Val<'static> {
    let order = match ordering(left, right) {
        Ok(order) => order,
        Err(unknown) => return unknown,
    };
    Val::bool(match op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Less => order.is_lt(),
        CompareOp::LessEqual => order.is_le(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::GreaterEqual => order.is_ge(),
    })
}

pub(super) fn between(
    value: &Val<'_>,
    low: &Val<'_>,
    high: &Val<'_>,
    negated: bool,
) -> Val<'static> {
    let above = compare(CompareOp::GreaterEqual, value, low);
    let below = compare(CompareOp::LessEqual, value, high);
    negate_if(negated, and(above, below))
}

pub(super) fn is(value: &Val<'_>, test: IsTest, negated: bool) -> Val<'static> {
    let found = match test {
        IsTest::Null => value.is_null(),
        IsTest::Missing => value.is_missing(),
        IsTest::True => value.is_true(),
        IsTest::False => matches!(value.get(), Some(Value::Bool(false))),
    };
    Val::bool(found != negated)
}

/// IN: true if an element equals the value; else null if an element is null; else false. A list that
/// is written out is not built, its elements are looked at one by one.
pub(super) fn is_in<'a>(
    value: &'a Expr,
    list: &'a Expr,
    negated: bool,
    site: Site,
    env: &Env<'a>,
    row: &Row<'a>,
) -> Val<'a> {
    let value = eval(value, env, row);
    let Some(wanted) = value.get() else {
        return Val::Missing;
    };
    let mut null = matches!(wanted, Value::Null);
    let mut found = false;
    let look = |found: &mut bool, null: &mut bool, item: Option<&Value>| {
        match item {
            Some(Value::Null) => *null = true,
            Some(item) => *found = equal(item, wanted),
            None => {}
        }
        !*found
    };
    if let (Expr::Subquery(SubqueryKind::Values, query, _), Some(host)) = (list, row.host) {
        let among = host.find(wanted, query, env, row);
        found = among.equal;
        null |= among.null;
    } else if let Expr::Array(items) = list {
        let _stopped = items
            .iter()
            .all(|item| look(&mut found, &mut null, eval(item, env, row).get()));
    } else {
        let list = eval(list, env, row);
        match list.get() {
            Some(Value::Array(items)) => {
                let _stopped = items
                    .iter()
                    .all(|item| look(&mut found, &mut null, Some(item)));
            }
            Some(Value::Null) => return Val::NULL,
            None => return Val::Missing,
            Some(other) => {
                env.warn(site.0, || {
                    format!(
                        "IN gave MISSING: its right side takes an array, found {}",
                        other.type_name()
                    )
                });
                return Val::Missing;
            }
        }
    }
    let result = match (found, null) {
        (true, _) => Val::bool(true),
        (false, true) => Val::NULL,
        (false, false) => Val::bool(false),
    };
    negate_if(negated, result)
}

pub(super) fn negate_if(negated: bool, value: Val<'_>) -> Val<'_> {
    match value.get() {
        Some(Value::Bool(flag)) if negated => Val::bool(!*flag),
        _ => value,
    }
}

fn and<'a>(left: Val<'a>, right: Val<'a>) -> Val<'a> {
    match (left.get(), right.get()) {
        (Some(Value::Bool(false)), _) | (_, Some(Value::Bool(false))) => Val::bool(false),
        (None, _) | (_, None) => Val::Missing,
        (Some(Value::Null), _) | (_, Some(Value::Null)) => Val::NULL,
        _ => Val::bool(true),
    }
}

pub(super) fn logic<'a>(expr: &'a Expr, env: &Env<'a>, row: &Row<'a>) -> Val<'a> {
    match expr {
        Expr::Not(inner, site) => match truth(inner, *site, env, row) {
            Truth::Known(flag) => Val::bool(!flag),
            Truth::Null => Val::NULL,
            Truth::Missing => Val::Missing,
        },
        Expr::And(items, site) => {
            let mut result = Truth::Known(true);
            for item in items {
                match truth(item, *site, env, row) {
                    Truth::Known(false) => return Val::bool(false),
                    Truth::Known(true) => {}
                    Truth::Missing => result = Truth::Missing,
                    Truth::Null if result == Truth::Known(true) => result = Truth::Null,
                    Truth::Null => {}
                }
            }
            result.into_val()
        }
        Expr::Or(items, site) => {
            let mut result = Truth::Known(false);
            for item in items {
                match truth(item, *site, env, row) {
                    Truth::Known(true) => return Val::bool(true),
                    Truth::Known(false) => {}
                    Truth::Null => result = Truth::Null,
                    Truth::Missing if result == Truth::Known(false) => result = Truth::Missing,
                    Truth::Missing => {}
                }
            }
            result.into_val()
        }
        Expr::Xor(items, site) => {
            let mut result = Truth::Known(false);
            for item in items {
                result = match (result, truth(item, *site, env, row)) {
                    (Truth::Known(a), Truth::Known(b)) => Truth::Known(a != b),
                    (Truth::Missing, _) | (_, Truth::Missing) => Truth::Missing,
                    _ => Truth::Null,
                };
            }
            result.into_val()
        }
        _ => Val::Missing,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Known(bool),
    Null,
    Missing,
}

impl Truth {
    fn into_val<'a>(self) -> Val<'a> {
        match self {
            Self::Known(flag) => Val::bool(flag),
            Self::Null => Val::NULL,
            Self::Missing => Val::Missing,
        }
    }
}

/// A condition that stands alone.
pub(super) fn condition<'a>(expr: &'a Expr, site: Site, env: &Env<'a>, row: &Row<'a>) -> Val<'a> {
    truth(expr, site, env, row).into_val()
}

/// The truth of an operand; what is not a boolean counts as MISSING.
fn truth<'a>(expr: &'a Expr, site: Site, env: &Env<'a>, row: &Row<'a>) -> Truth {
    match eval(expr, env, row).get() {
        Some(Value::Bool(flag)) => Truth::Known(*flag),
        Some(Value::Null) => Truth::Null,
        None => Truth::Missing,
        Some(other) => {
            env.warn(site.0, || {
                format!(
                    "a condition counts as MISSING: it takes true or false, found {}",
                    other.type_name()
                )
            });
            Truth::Missing
        }
    }
}

pub(super) fn case<'a>(case: &'a Case, env: &Env<'a>, row: &Row<'a>) -> Val<'a> {
    let operand = case.operand.as_ref().map(|operand| eval(operand, env, row));
    for (when, then) in &case.branches {
        let chosen = match &operand {
            None => holds(when, env, row),
            Some(operand) => compare(CompareOp::Equal, operand, &eval(when, env, row)).is_true(),
        };
        if chosen {
            return eval(then, env, row);
        }
    }
    match &case.otherwise {
        Some(otherwise) => eval(otherwise, env, row),
        None => Val::NULL,
    }
}
