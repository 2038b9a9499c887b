//! Functions about the types of values, and numbers.

use idem_model::Value;

use super::{Function, Problem, because, example, function};
use crate::eval::{Env, Val};

pub(super) const TYPES: &[Function] = &[
    function("type", 1, 1, type_of).about(
        "type(value)",
        "The name of the type: boolean, integer, float, string, object, array, binary, null or \
         missing.",
        &[
            example("type(1)", r#""integer""#),
            example("type(1.0)", r#""float""#),
            example("type(nofield)", r#""missing""#),
        ],
    ),
    function("json_type", 1, 1, json_type).about(
        "json_type(value)",
        "The name of the type in JSON: number for integer and float, null for MISSING.",
        &[
            example("json_type(1.5)", r#""number""#),
            example("json_type(nofield)", r#""null""#),
        ],
    ),
    function("is_number", 1, 1, is_number).about(
        "is_number(value)",
        "Whether the value is an integer or a float; null for null, MISSING for MISSING.",
        &[
            example("is_number(1.5)", "true"),
            example("is_number('1')", "false"),
            example("is_number(null)", "null"),
        ],
    ),
    function("is_string", 1, 1, is_string).about(
        "is_string(value)",
        "Whether the value is a string; null for null, MISSING for MISSING.",
        &[
            example("is_string('a')", "true"),
            example("is_string(1)", "false"),
        ],
    ),
    function("is_boolean", 1, 1, is_boolean).about(
        "is_boolean(value)",
        "Whether the value is true or false; null for null, MISSING for MISSING.",
        &[
            example("is_boolean(false)", "true"),
            example("is_boolean(nofield)", "MISSING"),
        ],
    ),
    function("is_array", 1, 1, is_array).about(
        "is_array(value)",
        "Whether the value is an array; null for null, MISSING for MISSING.",
        &[example("is_array([1])", "true")],
    ),
    function("is_object", 1, 1, is_object).about(
        "is_object(value)",
        "Whether the value is an object; null for null, MISSING for MISSING.",
        &[example("is_object([1])", "false")],
    ),
];

pub(super) const NUMBERS: &[Function] = &[
    function("abs", 1, 1, abs).about(
        "abs(number)",
        "The number without its sign; an integer stays an integer.",
        &[example("abs(-3)", "3"), example("abs(-1.5)", "1.5")],
    ),
    function("ceil", 1, 1, ceil).about(
        "ceil(number)",
        "The least whole number that is not below, as a float.",
        &[
            example("ceil(1.2)", "2.0"),
            example("ceil(-1.2)", "-1.0"),
            example("type(ceil(1))", r#""float""#),
        ],
    ),
    function("floor", 1, 1, floor).about(
        "floor(number)",
        "The greatest whole number that is not above, as a float.",
        &[example("floor(1.8)", "1.0"), example("floor(-1.2)", "-2.0")],
    ),
];

type Answer<'a> = Result<Val<'a>, Problem>;

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
        _ => Err(Problem::Argument(0, "a number")),
    }
}

fn rounded<'a>(args: &[Val<'a>], round: fn(f64) -> f64) -> Answer<'a> {
    match args[0].get().and_then(Value::as_f64) {
        Some(number) => Ok(Val::float(round(number))),
        None => Err(Problem::Argument(0, "a number")),
    }
}

fn ceil<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    rounded(args, f64::ceil)
}

fn floor<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    rounded(args, f64::floor)
}
