//! Functions about null and MISSING, and choices between values.

use idem_model::Value;

use super::{Function, MANY, Problem, example, function, string, take};
use crate::eval::{Env, Val, equal};

pub(super) const FUNCTIONS: &[Function] = &[
    function("coalesce", 1, MANY, coalesce).about(
        "coalesce(a, b, ..)",
        "The first argument that is neither null nor MISSING, null if there is none. \
         `ifmissingornull` is the same.",
        &[
            example("coalesce(nofield, null, 3)", "3"),
            example("coalesce(nofield, null)", "null"),
        ],
    ),
    function("ifmissingornull", 1, MANY, coalesce).about(
        "ifmissingornull(a, b, ..)",
        "The first argument that is neither null nor MISSING, null if there is none. `coalesce` \
         is the same.",
        &[example("ifmissingornull(null, 'x')", r#""x""#)],
    ),
    function("nvl", 2, 3, nvl).about(
        "nvl(value, if_absent [, instead])",
        "`nvl(value, if_absent)` is the value, or `if_absent` where the value is null or MISSING. \
         `nvl(value, if_there, if_absent)` is one of the last two and never the value itself.",
        &[
            example("nvl(nofield, 5)", "5"),
            example("nvl('x', 'there', 'absent')", r#""there""#),
            example("nvl(null, 'there', 'absent')", r#""absent""#),
        ],
    ),
    function("ifmissing", 1, MANY, if_missing).about(
        "ifmissing(a, b, ..)",
        "The first argument that is not MISSING. Null counts as a value.",
        &[
            example("ifmissing(nofield, 0)", "0"),
            example("ifmissing(null, 0)", "null"),
        ],
    ),
    function("ifnull", 1, MANY, if_null).about(
        "ifnull(a, b, ..)",
        "The first argument that is not null. The search stops at MISSING, which is then the \
         result.",
        &[
            example("ifnull(null, 0)", "0"),
            example("ifnull(nofield, 0)", "MISSING"),
        ],
    ),
    function("ismissing", 1, 1, is_missing).about(
        "ismissing(value)",
        "Whether the value is MISSING.",
        &[
            example("ismissing(nofield)", "true"),
            example("ismissing(null)", "false"),
        ],
    ),
    function("isnull", 1, 1, is_null).about(
        "isnull(value)",
        "Whether the value is null; false for MISSING.",
        &[
            example("isnull(null)", "true"),
            example("isnull(nofield)", "false"),
        ],
    ),
    function("ismissingornull", 1, 1, is_missing_or_null).about(
        "ismissingornull(value)",
        "Whether the value is null or MISSING.",
        &[
            example("ismissingornull(nofield)", "true"),
            example("ismissingornull(0)", "false"),
        ],
    ),
    function("nullif", 2, 2, null_if).about(
        "nullif(a, b)",
        "Null if the two are equal, else the first.",
        &[
            example("nullif(1, 1.0)", "null"),
            example("nullif(1, 2)", "1"),
        ],
    ),
    function("missingif", 2, 2, missing_if).about(
        "missingif(a, b)",
        "MISSING if the two are equal, else the first.",
        &[
            example("missingif(1, 1)", "MISSING"),
            example("missingif(1, 2)", "1"),
        ],
    ),
    function("decode", 3, MANY, decode).about(
        "decode(value, case1, result1, .. [, default])",
        "The result behind the first case that equals the value, else the default, else null. No \
         type is converted: '2' is not 2, but 2 is 2.0. Null equals null here.",
        &[
            example("decode(2, 1, 'one', 2, 'two', 'other')", r#""two""#),
            example("decode('2', 1, 'one', 2, 'two', 'other')", r#""other""#),
            example("decode(9, 1, 'one')", "null"),
        ],
    ),
    function("sorts_within", 3, MANY, sorts_within).about(
        "sorts_within(place, directions, value, ..)",
        "Whether ORDER BY of the values, each ascending (a) or descending (d) as its letter says, puts \
         them not behind a place, given as the hexadecimal digits of its key or of the beginning of one. \
         MISSING is a value here. Subscriptions with ORDER BY and LIMIT are made of it.",
        &[
            example("sorts_within('', 'a', 7)", "true"),
            example("sorts_within('0b', 'a', nofield)", "false"),
        ],
    ),
];

type Answer<'a> = Result<Val<'a>, Problem>;

fn first<'a>(args: &mut [Val<'a>], fits: impl Fn(&Val<'a>) -> bool) -> Option<Val<'a>> {
    let index = args.iter().position(fits)?;
    Some(take(args, index))
}

fn coalesce<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(first(args, |arg| !arg.is_missing() && !arg.is_null()).unwrap_or(Val::NULL))
}

fn sorts_within<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let (place, directions) = (string(args, 0)?, string(args, 1)?);
    let values = args[2..].iter().map(Val::get);
    match crate::window::sorts_within(place, directions, values) {
        Ok(is_within) => Ok(Val::bool(is_within)),
        Err((argument, expected)) => Err(Problem::Argument(argument, expected)),
    }
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

/// Two nulls and two MISSING match here.
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
