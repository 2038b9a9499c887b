//! JSON text, and what a statement knows of itself.

use idem_model::{Object, Value, json};

use super::{Function, Problem, because, example, function, made, string};
use crate::eval::{Env, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    function("serialize_json", 1, 1, serialize_json).about(
        "serialize_json(value)",
        "The value as JSON text, with the names of objects in order.",
        &[example(
            "serialize_json({'b': [1, 2.5], 'a': null})",
            r#""{\"a\":null,\"b\":[1,2.5]}""#,
        )],
    ),
    function("deserialize_json", 1, 1, deserialize_json).about(
        "deserialize_json(text)",
        "The value that JSON text describes; MISSING if the text is not JSON.",
        &[
            example(r#"deserialize_json('{"a": [1, 2]}')"#, r#"{"a":[1,2]}"#),
            example("deserialize_json('{a}')", "MISSING"),
        ],
    ),
    function("request_info", 0, 0, request_info)
        .varying()
        .about(
            "request_info()",
            "An object about the running statement: `statement`, its text, and `start_time`, the \
         Unix milliseconds at which it began.",
            &[
                example("type(request_info())", r#""object""#),
                example("is_number(request_info().start_time)", "true"),
            ],
        ),
];

type Answer<'a> = Result<Val<'a>, Problem>;

fn serialize_json<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    match args[0].get() {
        Some(value) => made(env, json::to_string(value)),
        None => Err(Problem::Absent),
    }
}

fn deserialize_json<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    // A parsed value takes up to 32 times its text (an array of small numbers).
    if !env.spend(text.len().saturating_mul(32)) {
        return because("the text is too long");
    }
    match json::parse(text) {
        Ok(value) if value.nesting_levels() <= idem_model::limits::NESTING_LEVELS_MAX => {
            Ok(Val::Own(value))
        }
        Ok(_) => Err(Problem::Value(0, "the value nests too deep".to_owned())),
        Err(error) => Err(Problem::Value(0, format!("this is not JSON, {error}"))),
    }
}

fn request_info<'a>(env: &Env<'a>, _: &mut [Val<'a>]) -> Answer<'a> {
    if !env.spend(env.text.len()) {
        return because("the statement is too long");
    }
    let start = i64::try_from(env.now_ms).unwrap_or(i64::MAX);
    Ok(Val::Own(Value::Object(Object::from([
        ("statement".to_owned(), Value::from(env.text)),
        ("start_time".to_owned(), Value::Int(start)),
    ]))))
}
