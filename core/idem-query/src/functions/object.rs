//! Object and array functions.

use idem_model::{Object, Value};

use super::{
    Function, MANY, Problem, array, because, example, fields, flag, function, shown, string, take,
};
use crate::eval::{Env, Val, equal};

pub(super) const ARRAYS: &[Function] = &[
    function("array_contains", 2, 2, array_contains).about(
        "array_contains(array, value)",
        "Whether an element equals the value, as `value IN array`. Null equals nothing.",
        &[
            example("array_contains([1, 2], 2.0)", "true"),
            example("array_contains([1, null], null)", "false"),
        ],
    ),
    function("array_contains_null", 1, 1, array_contains_null).about(
        "array_contains_null(array)",
        "Whether an element is null.",
        &[
            example("array_contains_null([1, null])", "true"),
            example("array_contains_null([1])", "false"),
        ],
    ),
    function("array_length", 1, 1, array_length).about(
        "array_length(array)",
        "How many elements there are.",
        &[
            example("array_length([1, 2, 3])", "3"),
            example("array_length('abc')", "MISSING"),
        ],
    ),
];

pub(super) const OBJECTS: &[Function] = &[
    function("object_keys", 1, 1, object_keys).about(
        "object_keys(object)",
        "The names of the fields, in order.",
        &[example("object_keys({'b': 2, 'a': 1})", r#"["a","b"]"#)],
    ),
    function("object_values", 1, 1, object_values).about(
        "object_values(object)",
        "The values of the fields, in the order of their names.",
        &[example("object_values({'b': 2, 'a': 1})", "[1,2]")],
    ),
    function("object_length", 1, 1, object_length).about(
        "object_length(object)",
        "How many fields there are, without those of nested objects.",
        &[example("object_length({'a': {'b': 1}})", "1")],
    ),
    function("object_size", 1, 1, object_size).about(
        "object_size(object)",
        "About how many bytes the object takes when it is stored.",
        &[example("object_size({'a': 1}) > 0", "true")],
    ),
    function("object_set", 3, 4, object_set).about(
        "object_set(object, name, value [, replace])",
        "The object with one more field. MISSING if it has that field already, unless `replace` \
         is true.",
        &[
            example("object_set({'a': 1}, 'b', 2)", r#"{"a":1,"b":2}"#),
            example("object_set({'a': 1}, 'a', 2)", "MISSING"),
            example("object_set({'a': 1}, 'a', 2, true)", r#"{"a":2}"#),
        ],
    ),
    function("object_unset", 2, 3, object_unset).about(
        "object_unset(object, name [, ignore])",
        "The object without a field. MISSING if it has no such field, unless `ignore` is true.",
        &[
            example("object_unset({'a': 1, 'b': 2}, 'b')", r#"{"a":1}"#),
            example("object_unset({'a': 1}, 'b')", "MISSING"),
            example("object_unset({'a': 1}, 'b', true)", r#"{"a":1}"#),
        ],
    ),
    function("object_concat", 1, MANY, object_concat).about(
        "object_concat(object, ..)",
        "One object with the fields of all; of equal names the last one counts.",
        &[example(
            "object_concat({'a': 1}, {'a': 3, 'b': 2})",
            r#"{"a":3,"b":2}"#,
        )],
    ),
    function("object_rename", 3, 3, object_rename).about(
        "object_rename(object, from, to)",
        "The object with a field under another name. MISSING if `from` is absent or `to` is \
         there.",
        &[
            example("object_rename({'a': 1}, 'a', 'z')", r#"{"z":1}"#),
            example("object_rename({'a': 1}, 'b', 'z')", "MISSING"),
        ],
    ),
];

type Answer<'a> = Result<Val<'a>, Problem>;

fn object_keys<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let fields = fields(args, 0)?;
    let names = fields.keys().map(|name| Value::String(name.clone()));
    if !env.spend(fields.keys().map(|name| 32 + name.len()).sum()) {
        return because("the result is too long");
    }
    Ok(Val::Own(Value::Array(names.collect())))
}

fn object_values<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let values = fields(args, 0)?
        .values()
        .map_while(|value| env.own(Val::Ref(value)));
    Ok(Val::Own(Value::Array(values.collect())))
}

fn object_length<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::size(fields(args, 0)?.len()))
}

/// About how many bytes the object takes when stored.
fn object_size<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    fields(args, 0)?;
    let bytes = args[0].get().map_or(0, |value| value.to_bytes().len());
    Ok(Val::size(bytes))
}

/// The object as one that can be changed.
fn owned(env: &Env<'_>, args: &mut [Val<'_>], index: usize) -> Result<Object, Problem> {
    fields(args, index)?;
    match env.own(take(args, index)) {
        Some(Value::Object(fields)) => Ok(fields),
        _ => because("the object is too large"),
    }
}

/// `object_set(object, name, value [, replace])`: MISSING if the name is there and replace is false.
fn object_set<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let name = string(args, 1)?.to_owned();
    let replace = flag(args, 3)?;
    if fields(args, 0)?.contains_key(&name) && !replace {
        let reason = format!("the object has {} already", shown(&name));
        return Err(Problem::Value(1, reason));
    }
    let Some(value) = env.own(take(args, 2)) else {
        return Err(Problem::Absent);
    };
    let mut object = owned(env, args, 0)?;
    object.insert(name, value);
    Ok(Val::Own(Value::Object(object)))
}

/// `object_unset(object, name [, ignore])`: MISSING if the name is absent and ignore is false.
fn object_unset<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let name = string(args, 1)?.to_owned();
    let ignore = flag(args, 2)?;
    let mut object = owned(env, args, 0)?;
    if object.remove(&name).is_none() && !ignore {
        let reason = format!("the object has no {}", shown(&name));
        return Err(Problem::Value(1, reason));
    }
    Ok(Val::Own(Value::Object(object)))
}

/// Of repeated names the last one counts.
fn object_concat<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let mut result = owned(env, args, 0)?;
    for index in 1..args.len() {
        result.extend(owned(env, args, index)?);
    }
    Ok(Val::Own(Value::Object(result)))
}

/// `object_rename(object, from, to)`: MISSING if `from` is absent or `to` is there.
fn object_rename<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let from = string(args, 1)?.to_owned();
    let to = string(args, 2)?.to_owned();
    let mut object = owned(env, args, 0)?;
    let Some(value) = object.remove(&from) else {
        let reason = format!("the object has no {}", shown(&from));
        return Err(Problem::Value(1, reason));
    };
    if object.insert(to.clone(), value).is_some() {
        let reason = format!("the object has {} already", shown(&to));
        return Err(Problem::Value(2, reason));
    }
    Ok(Val::Own(Value::Object(object)))
}

fn array_contains<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let items = array(args, 0)?;
    let Some(wanted) = args[1].get() else {
        return Err(Problem::Absent);
    };
    Ok(Val::bool(items.iter().any(|item| equal(item, wanted))))
}

fn array_contains_null<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let items = array(args, 0)?;
    Ok(Val::bool(items.contains(&Value::Null)))
}

fn array_length<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::size(array(args, 0)?.len()))
}
