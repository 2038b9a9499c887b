//! Object and array functions.

use idem_model::{Object, Value};

use super::{Function, MANY, Problem, array, because, fields, flag, function, string, take};
use crate::eval::{Env, Val, equal};

pub(super) const FUNCTIONS: &[Function] = &[
    function("object_keys", 1, 1, object_keys),
    function("object_values", 1, 1, object_values),
    function("object_length", 1, 1, object_length),
    function("object_size", 1, 1, object_size),
    function("object_set", 3, 4, object_set),
    function("object_unset", 2, 3, object_unset),
    function("object_concat", 1, MANY, object_concat),
    function("object_rename", 3, 3, object_rename),
    function("array_contains", 2, 2, array_contains),
    function("array_contains_null", 1, 1, array_contains_null),
    function("array_length", 1, 1, array_length),
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
        return because(format!("the object has `{name}` already"));
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
        return because(format!("the object has no `{name}`"));
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
        return because(format!("the object has no `{from}`"));
    };
    if object.insert(to.clone(), value).is_some() {
        return because(format!("the object has `{to}` already"));
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
