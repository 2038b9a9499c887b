//! ANY, EVERY, ARRAY and OBJECT over the elements of a value.

use std::ops::ControlFlow;

use idem_model::{Object, Value, limits};

use super::{Env, Local, Row, Val, eval, holds};
use crate::{
    ast::Quantifier,
    expr::{Expr, Range},
    span::Site,
};

/// Calls `visit` with the row that sees each element; `Err` is the result for a source that has no
/// elements: MISSING, or null for a scalar.
fn each<'a>(
    range: &'a Range,
    env: &Env<'a>,
    row: &Row<'a>,
    visit: &mut dyn FnMut(&Row<'_>, &Env<'_>) -> ControlFlow<()>,
) -> Result<(), Val<'static>> {
    let source = eval(&range.source, env, row);
    let Some(source) = source.get() else {
        return Err(Val::Missing);
    };
    if !matches!(source, Value::Array(_) | Value::Object(_)) {
        if !matches!(source, Value::Null) {
            env.warn(range.site.0, || {
                format!(
                    "a collection expression gave null: it goes through arrays and objects, found {}",
                    source.type_name()
                )
            });
        }
        return Err(Val::NULL);
    }
    let _stopped = walk(range, source, env, row, 0, visit);
    Ok(())
}

fn walk(
    range: &Range,
    source: &Value,
    env: &Env<'_>,
    row: &Row<'_>,
    levels: usize,
    visit: &mut dyn FnMut(&Row<'_>, &Env<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut one = |name: &dyn Fn() -> Value, item: &Value| {
        // Also bounds the time: nested ranges multiply.
        if !env.spend(limits::EXPRESSION_STEP_BYTES) {
            return ControlFlow::Break(());
        }
        // Few ranges name the position, so that it is made for those only.
        let name = range.named.then(name);
        let named = name.as_ref().map(|value| Local {
            value,
            outer: row.locals,
        });
        let local = Local {
            value: item,
            outer: named.as_ref().or(row.locals),
        };
        let inner = Row {
            locals: Some(&local),
            ..*row
        };
        visit(&inner, env)?;
        if range.within && levels < limits::NESTING_LEVELS_MAX {
            walk(range, item, env, row, levels + 1, visit)?;
        }
        ControlFlow::Continue(())
    };
    match source {
        Value::Array(items) => items.iter().enumerate().try_for_each(|(at, item)| {
            one(&|| Value::Int(i64::try_from(at).unwrap_or(i64::MAX)), item)
        }),
        Value::Object(fields) => fields
            .iter()
            .try_for_each(|(name, item)| one(&|| Value::String(name.clone()), item)),
        _ => ControlFlow::Continue(()),
    }
}

pub(super) fn quantified<'a>(
    kind: Quantifier,
    range: &'a Range,
    satisfies: &'a Expr,
    env: &Env<'a>,
    row: &Row<'a>,
) -> Val<'a> {
    let mut empty = true;
    let mut decided = false;
    let outcome = each(range, env, row, &mut |row, env| {
        empty = false;
        let satisfied = holds(satisfies, env, row);
        if satisfied == (kind == Quantifier::Any) {
            decided = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    if let Err(unknown) = outcome {
        return unknown;
    }
    Val::bool(match kind {
        Quantifier::Any => decided,
        Quantifier::Every => !decided,
        Quantifier::AnyAndEvery => !decided && !empty,
    })
}

pub(super) fn array_of<'a>(
    item: &'a Expr,
    range: &'a Range,
    when: Option<&'a Expr>,
    env: &Env<'a>,
    row: &Row<'a>,
) -> Val<'a> {
    let mut items = Vec::new();
    let outcome = each(range, env, row, &mut |row, env| {
        if when.is_none_or(|when| holds(when, env, row))
            && let Some(value) = env.own(eval(item, env, row))
        {
            items.push(value);
        }
        ControlFlow::Continue(())
    });
    match outcome {
        Ok(()) => Val::Own(Value::Array(items)),
        Err(unknown) => unknown,
    }
}

pub(super) fn object_of<'a>(
    parts: &'a [Expr; 2],
    range: &'a Range,
    when: Option<&'a Expr>,
    site: Site,
    env: &Env<'a>,
    row: &Row<'a>,
) -> Val<'a> {
    let mut fields = Object::new();
    let outcome = each(range, env, row, &mut |row, env| {
        if when.is_some_and(|when| !holds(when, env, row)) {
            return ControlFlow::Continue(());
        }
        let [name, item] = parts;
        match env.own(eval(name, env, row)) {
            Some(Value::String(name)) => {
                if let Some(value) = env.own(eval(item, env, row)) {
                    fields.insert(name, value);
                }
            }
            None => {}
            Some(other) => env.warn(site.0, || {
                format!(
                    "OBJECT left out an element: a name is a string, found {}",
                    other.type_name()
                )
            }),
        }
        ControlFlow::Continue(())
    });
    match outcome {
        Ok(()) => Val::Own(Value::Object(fields)),
        Err(unknown) => unknown,
    }
}
