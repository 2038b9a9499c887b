//! The functions of DQL.
//!
//! A function never fails: an argument of a wrong type gives MISSING, and [`Problem`] says which one
//! for the warning. Names are matched without regard to case.

mod condition;
mod date;
mod object;
mod string;

use idem_model::Value;

use crate::eval::{Env, Val};

/// A function by its name.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// Fewest and most arguments.
    pub(crate) arity: (usize, usize),
    pub(crate) body: Body,
}

pub(crate) type Body = for<'a> fn(&Env<'a>, &mut [Val<'a>]) -> Result<Val<'a>, Problem>;

/// Why a function gave MISSING.
pub(crate) enum Problem {
    /// The argument with this index has a wrong type. Null and MISSING pass without a warning.
    Argument(usize),
    /// Another reason.
    Because(String),
    /// An argument is absent data; nobody is at fault.
    Absent,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// As many arguments as wanted.
const MANY: usize = usize::MAX;

const TABLES: [&[Function]; 4] = [
    condition::FUNCTIONS,
    string::FUNCTIONS,
    object::FUNCTIONS,
    date::FUNCTIONS,
];

const fn function(name: &'static str, least: usize, most: usize, body: Body) -> Function {
    Function {
        name,
        arity: (least, most),
        body,
    }
}

/// The function of a name in lower case.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name == name)
}

/// Every function.
pub(crate) fn all() -> impl Iterator<Item = &'static Function> {
    TABLES.iter().flat_map(|table| table.iter())
}

fn string<'v>(args: &'v [Val<'_>], index: usize) -> Result<&'v str, Problem> {
    match args[index].get() {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Problem::Argument(index)),
    }
}

fn integer(args: &[Val<'_>], index: usize) -> Result<i64, Problem> {
    match args[index].get() {
        Some(Value::Int(number)) => Ok(*number),
        // A float without a fraction is what division and JSON encoders make of an integer.
        Some(Value::Float(number)) if number.fract() == 0.0 => {
            crate::eval::whole(*number).ok_or(Problem::Argument(index))
        }
        _ => Err(Problem::Argument(index)),
    }
}

fn array<'v>(args: &'v [Val<'_>], index: usize) -> Result<&'v [Value], Problem> {
    match args[index].get() {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(Problem::Argument(index)),
    }
}

fn fields<'v>(args: &'v [Val<'_>], index: usize) -> Result<&'v idem_model::Object, Problem> {
    match args[index].get() {
        Some(Value::Object(fields)) => Ok(fields),
        _ => Err(Problem::Argument(index)),
    }
}

/// An optional boolean argument, `false` without it.
fn flag(args: &[Val<'_>], index: usize) -> Result<bool, Problem> {
    match args.get(index).map(Val::get) {
        None => Ok(false),
        Some(Some(Value::Bool(flag))) => Ok(*flag),
        Some(_) => Err(Problem::Argument(index)),
    }
}

fn because<T>(reason: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Because(reason.into()))
}

/// Moves an argument out.
fn take<'a>(args: &mut [Val<'a>], index: usize) -> Val<'a> {
    std::mem::replace(&mut args[index], Val::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_lower_case() {
        let mut names: Vec<&str> = all().map(|function| function.name).collect();
        assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_reference_names_every_function() {
        let reference = include_str!("../../../docs/dql.md");
        for function in all() {
            let name = function.name;
            let named = [format!("`{name}`"), format!("`{name}(")]
                .iter()
                .any(|form| reference.contains(form));
            assert!(named, "{name} is not in docs/dql.md");
        }
    }
}
