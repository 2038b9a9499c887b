//! Arithmetic, string concatenation and CAST.
//!
//! Integers stay integers: division truncates, and what does not fit 64 bits is MISSING with a
//! warning. An operation with MISSING is MISSING, else with null is null.

use idem_model::Value;

use super::{Env, Row, Val, eval};
use crate::{
    ast::{ArithOp, CastType},
    expr::Expr,
    span::Site,
};

pub(super) fn chain<'a>(
    first: &'a Expr,
    rest: &'a [(ArithOp, Expr)],
    site: Site,
    env: &Env<'a>,
    row: &Row<'a>,
) -> Val<'a> {
    let mut result = eval(first, env, row);
    for (op, operand) in rest {
        let operand = eval(operand, env, row);
        // A chain of `||` grows one string instead of copying it for each operand.
        if let (ArithOp::Concat, Val::Own(Value::String(text)), Some(Value::String(more))) =
            (op, &mut result, operand.get())
            && env.spend(more.len())
        {
            text.push_str(more);
            continue;
        }
        result = match (result.get(), operand.get()) {
            (None, _) | (_, None) => Val::Missing,
            (Some(Value::Null), _) | (_, Some(Value::Null)) => Val::NULL,
            (Some(left), Some(right)) => match apply(*op, left, right, env) {
                Ok(value) => Val::Own(value),
                Err(reason) => {
                    env.warn(site.0, || {
                        format!(
                            "`{}` of {} and {} gave MISSING: {reason}",
                            symbol(*op),
                            left.type_name(),
                            right.type_name()
                        )
                    });
                    Val::Missing
                }
            },
        };
    }
    result
}

fn apply(op: ArithOp, left: &Value, right: &Value, env: &Env<'_>) -> Result<Value, &'static str> {
    match (op, left, right) {
        (ArithOp::Concat, Value::String(left), Value::String(right)) => {
            match env.spend(left.len() + right.len()) {
                true => Ok(Value::String(format!("{left}{right}"))),
                false => Err("the result is too long"),
            }
        }
        (ArithOp::Concat, ..) => Err("it joins strings only"),
        (ArithOp::ShiftLeft | ArithOp::ShiftRight, Value::Int(left), Value::Int(right)) => {
            shift(op, *left, *right)
        }
        (ArithOp::ShiftLeft | ArithOp::ShiftRight, ..) => Err("it shifts integers only"),
        (_, Value::Int(left), Value::Int(right)) => integers(op, *left, *right),
        _ => match (left.as_f64(), right.as_f64()) {
            (Some(left), Some(right)) => floats(op, left, right),
            _ => Err("it takes numbers only"),
        },
    }
}

fn integers(op: ArithOp, left: i64, right: i64) -> Result<Value, &'static str> {
    let result = match op {
        ArithOp::Add => left.checked_add(right),
        ArithOp::Subtract => left.checked_sub(right),
        ArithOp::Multiply => left.checked_mul(right),
        ArithOp::Divide | ArithOp::Remainder if right == 0 => return Err("division by zero"),
        ArithOp::Divide => left.checked_div(right),
        _ => left.checked_rem(right),
    };
    result
        .map(Value::Int)
        .ok_or("the result does not fit 64 bits")
}

fn floats(op: ArithOp, left: f64, right: f64) -> Result<Value, &'static str> {
    let result = match op {
        ArithOp::Add => left + right,
        ArithOp::Subtract => left - right,
        ArithOp::Multiply => left * right,
        ArithOp::Divide | ArithOp::Remainder if right == 0.0 => return Err("division by zero"),
        ArithOp::Divide => left / right,
        _ => left % right,
    };
    Value::float(result).ok_or("the result is out of range")
}

fn shift(op: ArithOp, left: i64, right: i64) -> Result<Value, &'static str> {
    let bits = u32::try_from(right).map_err(|_| "the distance is negative")?;
    // A distance of 64 or more moves every bit out.
    Ok(Value::Int(match op {
        ArithOp::ShiftLeft => left.checked_shl(bits).unwrap_or(0),
        _ => left.checked_shr(bits).unwrap_or(left >> 63),
    }))
}

fn symbol(op: ArithOp) -> &'static str {
    match op {
        ArithOp::Add => "+",
        ArithOp::Subtract => "-",
        ArithOp::Multiply => "*",
        ArithOp::Divide => "/",
        ArithOp::Remainder => "%",
        ArithOp::ShiftLeft => "<<",
        ArithOp::ShiftRight => ">>",
        ArithOp::Concat => "||",
    }
}

pub(super) fn negate<'a>(value: &Val<'a>, site: Site, env: &Env<'_>) -> Val<'a> {
    let result = match value.get() {
        None => return Val::Missing,
        Some(Value::Null) => return Val::NULL,
        Some(Value::Int(number)) => number.checked_neg().map(Value::Int),
        Some(Value::Float(number)) => Value::float(-number),
        Some(_) => None,
    };
    result.map_or_else(
        || {
            env.warn(site.0, || {
                let reason = match value.get() {
                    Some(Value::Int(_)) => "the result does not fit 64 bits",
                    _ => "it takes numbers only",
                };
                format!("`-` of {} gave MISSING: {reason}", value.type_name())
            });
            Val::Missing
        },
        Val::Own,
    )
}

pub(super) fn cast<'a>(value: Val<'a>, to: CastType, site: Site, env: &Env<'_>) -> Val<'a> {
    let Some(from) = value.get() else {
        return Val::Missing;
    };
    if matches!(from, Value::Null) {
        return Val::NULL;
    }
    let result = match to {
        CastType::String => match from {
            Value::String(_) => return value,
            Value::Binary(bytes) => String::from_utf8(bytes.clone()).ok().map(Value::String),
            Value::Array(_) | Value::Object(_) => None,
            scalar => Some(Value::String(idem_model::json::to_string(scalar))),
        },
        CastType::Integer => to_integer(from).map(Value::Int),
        CastType::Float => match from {
            Value::String(text) => text.trim().parse().ok().and_then(Value::float),
            Value::Bool(flag) => Some(Value::Float(f64::from(u8::from(*flag)))),
            number => number.as_f64().and_then(Value::float),
        },
        CastType::Boolean => match from {
            Value::Bool(flag) => Some(Value::Bool(*flag)),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
            Value::String(_) => None,
            number => number.as_f64().map(|number| Value::Bool(number != 0.0)),
        },
        CastType::Binary => match from {
            Value::Binary(_) => return value,
            Value::String(text) => Some(Value::Binary(text.as_bytes().to_vec())),
            _ => None,
        },
    };
    result.map_or_else(
        || {
            env.warn(site.0, || {
                let found = match from {
                    Value::String(text) => crate::functions::shown(text),
                    Value::Int(_) | Value::Float(_) => idem_model::json::to_string(from),
                    other => other.type_name().to_owned(),
                };
                format!("CAST gave MISSING: {found} cannot be {}", name(to))
            });
            Val::Missing
        },
        Val::Own,
    )
}

fn name(to: CastType) -> &'static str {
    match to {
        CastType::String => "a string",
        CastType::Integer => "an integer",
        CastType::Float => "a float",
        CastType::Boolean => "a boolean",
        CastType::Binary => "binary",
    }
}

fn to_integer(from: &Value) -> Option<i64> {
    match from {
        Value::Int(number) => Some(*number),
        Value::Float(number) => whole(*number),
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::String(text) => {
            let text = text.trim();
            text.parse()
                .ok()
                .or_else(|| text.parse().ok().and_then(whole))
        }
        _ => None,
    }
}

/// The integer part; `None` if it does not fit.
pub(crate) fn whole(number: f64) -> Option<i64> {
    const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    ((-TWO_POW_63..TWO_POW_63).contains(&number)).then(|| number.trunc() as i64)
}
