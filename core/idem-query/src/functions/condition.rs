//! Conditional, type, number and JSON functions.

use idem_model::{Value, json};

use super::{Function, MANY, Problem, because, function, take};
use crate::eval::{Env, Val, equal};

pub(super) const FUNCTIONS: &[Function] = &[
    function("coalesce", 1, MANY, coalesce),
    function("ifmissingornull", 1, MANY, coalesce),
    function("nvl", 2, 3, nvl),
    function("ifmissing", 1, MANY, if_missing),
    function("ifnull", 1, MANY, if_null),
    function("ismissing", 1, 1, is_missing),
    function("isnull", 1, 1, is_null),
    function("ismissingornull", 1, 1, is_missing_or_null),
    function("nullif", 2, 2, null_if),
    function("missingif", 2, 2, missing_if),
    function("decode", 3, MANY, decode),
    function("type", 1, 1, type_of),
    function("json_type", 1, 1, json_type),
    function("is_number", 1, 1, is_number),
    function("is_string", 1, 1, is_string),
    function("is_boolean", 1, 1, is_boolean),
    function("is_array", 1, 1, is_array),
    function("is_object", 1, 1, is_object),
    function("abs", 1, 1, abs),
    function("ceil", 1, 1, ceil),
    function("floor", 1, 1, floor),
    function("serialize_json", 1, 1, serialize_json),
    function("deserialize_json", 1, 1, deserialize_json),
];

type Answer<'a> = Result<Val<'a>, Problem>;

fn first<'a>(args: &mut [Val<'a>], fits: impl Fn(&Val<'a>) -> bool) -> Option<Val<'a>> {
    let index = args.iter().position(fits)?;
    Some(take(args, index))
}

fn coalesce<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(first(args, |arg| !arg.is_missing() && !arg.is_null()).unwrap_or(Val::NULL))
}

fn nvl<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let known = !args[0].is_missing() && !args[0].is_null();
    let chosen = match (known, args.len()) {
        (true, 2) => 0,
        (true, _) => 1,
        (false, count) => count - 1,
    };
    Ok(take(args, chosen))
}

fn if_missing<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(first(args, |arg| !arg.is_missing()).unwrap_or(Val::Missing))
}

/// The first argument that is not null; MISSING ends the search.
fn if_null<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(first(args, |arg| !arg.is_null()).unwrap_or(Val::NULL))
}

fn is_missing<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::bool(args[0].is_missing()))
}

fn is_null<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::bool(args[0].is_null()))
}

fn is_missing_or_null<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::bool(args[0].is_missing() || args[0].is_null()))
}

fn same(args: &[Val<'_>]) -> bool {
    match (args[0].get(), args[1].get()) {
        (Some(a), Some(b)) => equal(a, b),
        _ => false,
    }
}

fn null_if<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(if same(args) { Val::NULL } else { take(args, 0) })
}

fn missing_if<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(if same(args) {
        Val::Missing
    } else {
        take(args, 0)
    })
}

/// `decode(x, c1, r1, .. [, default])`; two nulls and two MISSING match here.
fn decode<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let pairs = (args.len() - 1) / 2;
    for pair in 0..pairs {
        let found = match (args[0].get(), args[1 + 2 * pair].get()) {
            (Some(Value::Null), Some(Value::Null)) | (None, None) => true,
            (Some(a), Some(b)) => equal(a, b),
            _ => false,
        };
        if found {
            return Ok(take(args, 2 + 2 * pair));
        }
    }
    match args.len() % 2 {
        0 => Ok(take(args, args.len() - 1)),
        _ => Ok(Val::NULL),
    }
}

fn type_of<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::text(args[0].type_name()))
}

fn json_type<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::text(match args[0].type_name() {
        "integer" | "float" => "number",
        "missing" => "null",
        name => name,
    }))
}

/// Whether the argument is of a type: null for null, MISSING for MISSING.
fn is_type<'a>(arg: &Val<'a>, fits: impl Fn(&Value) -> bool) -> Answer<'a> {
    Ok(match arg.get() {
        None => Val::Missing,
        Some(Value::Null) => Val::NULL,
        Some(value) => Val::bool(fits(value)),
    })
}

fn is_number<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    is_type(&args[0], |value| {
        matches!(value, Value::Int(_) | Value::Float(_))
    })
}

fn is_string<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    is_type(&args[0], |value| matches!(value, Value::String(_)))
}

fn is_boolean<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    is_type(&args[0], |value| matches!(value, Value::Bool(_)))
}

fn is_array<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    is_type(&args[0], |value| matches!(value, Value::Array(_)))
}

fn is_object<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    is_type(&args[0], |value| matches!(value, Value::Object(_)))
}

fn abs<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    match args[0].get() {
        Some(Value::Int(number)) => number.checked_abs().map_or_else(
            || because("the result does not fit 64 bits"),
            |n| Ok(Val::int(n)),
        ),
        Some(Value::Float(number)) => Ok(Val::float(number.abs())),
        _ => Err(Problem::Argument(0)),
    }
}

fn rounded<'a>(args: &[Val<'a>], round: fn(f64) -> f64) -> Answer<'a> {
    match args[0].get().and_then(Value::as_f64) {
        Some(number) => Ok(Val::float(round(number))),
        None => Err(Problem::Argument(0)),
    }
}

fn ceil<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    rounded(args, f64::ceil)
}

fn floor<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    rounded(args, f64::floor)
}

fn serialize_json<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let Some(value) = args[0].get() else {
        return Err(Problem::Absent);
    };
    let text = json::to_string(value);
    match env.spend(text.len()) {
        true => Ok(Val::text(text)),
        false => because("the result is too long"),
    }
}

fn deserialize_json<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = super::string(args, 0)?;
    // A parsed value takes up to 32 times its text (an array of small numbers).
    if !env.spend(text.len().saturating_mul(32)) {
        return because("the text is too long");
    }
    match json::parse(text) {
        Ok(value) if value.nesting_levels() <= idem_model::limits::NESTING_LEVELS_MAX => {
            Ok(Val::Own(value))
        }
        Ok(_) => because("the value nests too deep"),
        Err(error) => because(error.to_string()),
    }
}
