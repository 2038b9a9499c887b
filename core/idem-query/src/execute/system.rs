//! Indexes and system parameters.

use idem_model::{Object, Value};

use super::{QueryOutput, kinds};
use crate::{
    ast::LikeKind,
    bound::Body,
    error::{ErrorKind, ExecuteError, QueryError},
    eval::{Env, Row, eval, pattern},
    expr::Expr,
    parameters::{self, Parameter},
    source::{IndexInfo, IndexSpec, Source, Target},
    span::Span,
    spelling,
};

/// Runs EXECUTE FUNCTION.
pub(super) fn call<T: Target>(
    name: &str,
    args: &[Expr],
    span: Span,
    env: &Env<'_>,
    target: &mut T,
) -> Result<QueryOutput, ExecuteError<T::Error>> {
    env.next_row();
    let values: Vec<Value> = args
        .iter()
        .map(|arg| env.own(eval(arg, env, &Row::default())).unwrap_or_default())
        .collect();
    match target.call(name, &values).map_err(ExecuteError::Source)? {
        Some(items) => Ok(QueryOutput {
            items,
            ..QueryOutput::default()
        }),
        None => {
            let message = format!("there is no function `{name}` to execute");
            let hint = spelling::among(name, target.functions().iter().copied(), "");
            Err(QueryError::new(ErrorKind::Unsupported, message)
                .at(span.position(env.text))
                .with_hint(hint)
                .into())
        }
    }
}

/// Runs CREATE COLLECTION, CREATE INDEX, DROP INDEX and ALTER SYSTEM.
pub(super) fn change<T: Target>(
    body: &Body,
    env: &Env<'_>,
    target: &mut T,
) -> Result<(), ExecuteError<T::Error>> {
    match body {
        Body::CreateIndex {
            spec,
            if_not_exists,
            span,
        } => create_index(spec, *if_not_exists, *span, env, target),
        Body::DropIndex {
            collection,
            name,
            if_exists,
            span,
        } => {
            let dropped = target
                .drop_index(collection, name)
                .map_err(ExecuteError::Source)?;
            if dropped || *if_exists {
                return Ok(());
            }
            let indexes = target.indexes(collection).map_err(ExecuteError::Source)?;
            let names = indexes.iter().map(IndexInfo::name);
            let hint = spelling::among(name, names, "the collection has no index");
            let message = format!("there is no index `{name}` on `{collection}`");
            Err(QueryError::new(ErrorKind::Execution, message)
                .at(span.position(env.text))
                .with_hint(hint)
                .into())
        }
        Body::CreateCollection {
            collection,
            kinds: declared,
            if_not_exists,
            span,
        } => kinds::declare(collection, declared, *if_not_exists, *span, env, target),
        Body::AlterSet { name, value, span } => {
            let parameter = find(name, *span, env)?;
            let value = match value {
                None => None,
                Some(value) => {
                    let value = env.own(eval(value, env, &Row::default()));
                    let value = value.unwrap_or(Value::Null);
                    parameter
                        .check(&value)
                        .map_err(|error| error.at(span.position(env.text)))?;
                    Some(value)
                }
            };
            target
                .set_parameter(parameter.name, value)
                .map_err(ExecuteError::Source)
        }
        Body::AlterReset {
            name: Some((name, span)),
        } => {
            let parameter = find(name, *span, env)?;
            target
                .set_parameter(parameter.name, None)
                .map_err(ExecuteError::Source)
        }
        Body::AlterReset { name: None } => {
            for parameter in parameters::ALL {
                target
                    .set_parameter(parameter.name, None)
                    .map_err(ExecuteError::Source)?;
            }
            Ok(())
        }
        _ => unreachable!("the caller runs every other statement itself"),
    }
}

fn create_index<T: Target>(
    spec: &IndexSpec,
    if_not_exists: bool,
    span: Span,
    env: &Env<'_>,
    target: &mut T,
) -> Result<(), ExecuteError<T::Error>> {
    let is_made = target
        .create_index(spec.clone())
        .map_err(ExecuteError::Source)?;
    if is_made || if_not_exists {
        return Ok(());
    }
    let message = format!(
        "index `{}` already exists on `{}`",
        spec.name, spec.collection
    );
    Err(QueryError::new(ErrorKind::Execution, message)
        .at(span.position(env.text))
        .with_hint("CREATE INDEX IF NOT EXISTS leaves it as it is")
        .into())
}

fn find(name: &str, span: Span, env: &Env<'_>) -> Result<&'static Parameter, QueryError> {
    parameters::find(name).map_err(|error| error.at(span.position(env.text)))
}

/// The parameters that differ from their default, by name.
fn changed<S: Source>(source: &S) -> Result<Object, ExecuteError<S::Error>> {
    let rows = source
        .system("system_parameters")
        .map_err(ExecuteError::Source)?;
    let pairs = rows.into_iter().flatten().filter_map(|mut row| {
        match (row.remove("name"), row.remove("value")) {
            (Some(Value::String(name)), Some(value)) => Some((name, value)),
            _ => None,
        }
    });
    Ok(pairs.collect())
}

/// Whether a parameter that is a flag is set.
pub(super) fn flag<S: Source>(name: &str, source: &S) -> Result<bool, ExecuteError<S::Error>> {
    let value = changed(source)?.remove(name);
    Ok(value == Some(Value::Bool(true)))
}

fn row(parameter: &Parameter, changed: &Object) -> Object {
    let value = changed
        .get(parameter.name)
        .cloned()
        .unwrap_or_else(|| parameter.default_value());
    Object::from([(parameter.name.to_owned(), value)])
}

pub(super) fn show<S: Source>(
    name: &str,
    span: Span,
    env: &Env<'_>,
    source: &S,
) -> Result<Vec<Object>, ExecuteError<S::Error>> {
    let parameter = find(name, span, env)?;
    Ok(vec![row(parameter, &changed(source)?)])
}

/// One row for each parameter whose name fits, in the order of the names.
pub(super) fn show_all<S: Source>(
    shape: Option<&(LikeKind, Expr, Option<Expr>)>,
    env: &Env<'_>,
    source: &S,
) -> Result<Vec<Object>, ExecuteError<S::Error>> {
    let text = |expr: &Expr| match eval(expr, env, &Row::default()).get() {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(QueryError::new(
            ErrorKind::ArgumentsInvalid,
            "expected a string as pattern",
        )),
    };
    // Names of parameters have no case, so LIKE and ILIKE are the same here.
    let shape = match shape {
        None => None,
        Some((_, shape, escape)) => {
            let escape = match escape {
                None => Some(pattern::DEFAULT_ESCAPE),
                Some(escape) => text(escape)?.chars().next(),
            };
            Some((text(shape)?.to_lowercase(), escape))
        }
    };
    let changed = changed(source)?;
    Ok(parameters::ALL
        .iter()
        .filter(|parameter| match &shape {
            None => true,
            // A name is a few letters, so this needs no bound.
            Some((shape, escape)) => {
                pattern::matches(parameter.name, shape, *escape, false, &mut |_| true) == Some(true)
            }
        })
        .map(|parameter| row(parameter, &changed))
        .collect())
}
