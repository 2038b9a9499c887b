//! The functions of DQL.
//!
//! A function never fails: an argument of a wrong type gives MISSING, and [`Problem`] says which one
//! for the warning. Names are matched without regard to case.
//!
//! Each table entry holds what the reference, the errors and shell completion print of a function,
//! so a function is described where it is written and nowhere else.

mod condition;
mod date;
pub(crate) mod foreign;
mod object;
mod request;
mod special;
mod string;
mod value;

use idem_model::{Object, Value};

use crate::eval::{Env, Val};

/// What a function of the language is called, takes and gives: for references and completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionInfo {
    /// In lower case; statements may write it in any case.
    pub name: &'static str,
    /// What it is about, such as `strings`: the group it is listed in.
    pub category: &'static str,
    /// How it is called, such as `substr(text, start [, length])`; brackets hold what may be left
    /// out.
    pub signature: &'static str,
    /// What it gives, in one or two sentences.
    pub description: &'static str,
    /// At least one, but none for what asks about a stored document.
    pub examples: &'static [FunctionExample],
}

/// An expression that runs `FROM system:dual`, with what it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionExample {
    /// The expression.
    pub expression: &'static str,
    /// Its value as JSON, or `MISSING`.
    pub result: &'static str,
}

/// Every function, aggregate and form that is called like a function, by category.
///
/// ```
/// let trim = idem_query::functions().find(|function| function.name == "ltrim").unwrap();
/// assert_eq!(trim.signature, "ltrim(text [, characters])");
/// ```
pub fn functions() -> impl Iterator<Item = FunctionInfo> {
    let callable = TABLES.iter().flat_map(|(category, table)| {
        table.iter().map(|function| FunctionInfo {
            name: function.name,
            category,
            signature: function.signature,
            description: function.description,
            examples: function.examples,
        })
    });
    callable.chain(special::FORMS.iter().copied())
}

/// A function by its name.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// Fewest and most arguments.
    pub(crate) arity: (usize, usize),
    pub(crate) body: Body,
    pub(crate) signature: &'static str,
    /// Whether it gives something else when the same statement runs again on the same data.
    pub(crate) varies: bool,
    description: &'static str,
    examples: &'static [FunctionExample],
}

pub(crate) type Body = for<'a> fn(&Env<'a>, &mut [Val<'a>]) -> Result<Val<'a>, Problem>;

/// Why a function gave MISSING.
pub(crate) enum Problem {
    /// The argument with this index has a wrong type; the text says which one it should have. Null
    /// and MISSING pass without a warning.
    Argument(usize, &'static str),
    /// The argument with this index has a value that the function does not know, for this reason.
    Value(usize, String),
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

const TABLES: [(&str, &[Function]); 8] = [
    ("absent data", condition::FUNCTIONS),
    ("types", value::TYPES),
    ("numbers", value::NUMBERS),
    ("strings", string::FUNCTIONS),
    ("arrays", object::ARRAYS),
    ("objects", object::OBJECTS),
    ("JSON and the request", request::FUNCTIONS),
    ("time", date::FUNCTIONS),
];

const fn function(name: &'static str, least: usize, most: usize, body: Body) -> Function {
    Function {
        name,
        arity: (least, most),
        body,
        signature: "",
        varies: false,
        description: "",
        examples: &[],
    }
}

impl Function {
    /// What the reference says of the function.
    const fn about(
        self,
        signature: &'static str,
        description: &'static str,
        examples: &'static [FunctionExample],
    ) -> Self {
        Self {
            signature,
            description,
            examples,
            ..self
        }
    }

    /// How many arguments it takes, if not so many.
    pub(crate) fn wants_other_than(&self, count: usize) -> Option<String> {
        let (least, most) = self.arity;
        if (least..=most).contains(&count) {
            return None;
        }
        Some(match (least, most) {
            (_, 0) => "no arguments".to_owned(),
            (1, 1) => "1 argument".to_owned(),
            (1, MANY) => "at least 1 argument".to_owned(),
            (least, MANY) => format!("at least {least} arguments"),
            (least, most) if least == most => format!("{least} arguments"),
            (least, most) => format!("{least} to {most} arguments"),
        })
    }

    const fn varying(self) -> Self {
        Self {
            varies: true,
            ..self
        }
    }
}

const fn example(expression: &'static str, result: &'static str) -> FunctionExample {
    FunctionExample { expression, result }
}

/// The function of a name in lower case.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name == name)
}

/// Every function with a body.
pub(crate) fn all() -> impl Iterator<Item = &'static Function> {
    TABLES.iter().flat_map(|(_, table)| table.iter())
}

fn string<'v>(args: &'v [Val<'_>], index: usize) -> Result<&'v str, Problem> {
    match args[index].get() {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Problem::Argument(index, "a string")),
    }
}

fn integer(args: &[Val<'_>], index: usize) -> Result<i64, Problem> {
    match args[index].get() {
        Some(Value::Int(number)) => Ok(*number),
        // A float without a fraction is what division and JSON encoders make of an integer.
        Some(Value::Float(number)) if number.fract() == 0.0 => {
            crate::eval::whole(*number).ok_or(Problem::Argument(index, "an integer"))
        }
        _ => Err(Problem::Argument(index, "an integer")),
    }
}

fn array<'v>(args: &'v [Val<'_>], index: usize) -> Result<&'v [Value], Problem> {
    match args[index].get() {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(Problem::Argument(index, "an array")),
    }
}

fn fields<'v>(args: &'v [Val<'_>], index: usize) -> Result<&'v Object, Problem> {
    match args[index].get() {
        Some(Value::Object(fields)) => Ok(fields),
        _ => Err(Problem::Argument(index, "an object")),
    }
}

/// An optional boolean argument, `false` without it.
fn flag(args: &[Val<'_>], index: usize) -> Result<bool, Problem> {
    match args.get(index).map(Val::get) {
        None => Ok(false),
        Some(Some(Value::Bool(flag))) => Ok(*flag),
        Some(_) => Err(Problem::Argument(index, "true or false")),
    }
}

fn because<T>(reason: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Because(reason.into()))
}

/// The text of a wrong argument as a warning shows it.
pub(crate) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("`{}..`", &text[..end]),
        None => format!("`{text}`"),
    }
}

/// Text that a function made, paid from the budget of the row.
fn made<'a>(env: &Env<'a>, text: String) -> Result<Val<'a>, Problem> {
    match env.spend(text.len()) {
        true => Ok(Val::text(text)),
        false => because("the result is too long"),
    }
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
        let mut names: Vec<&str> = functions().map(|function| function.name).collect();
        assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        // `trim` and `pos` are functions and have a form of their own.
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_function_is_described() {
        for function in functions() {
            let name = function.name;
            let start = function.signature.to_ascii_lowercase();
            assert!(start.starts_with(&format!("{name}(")), "{name}");
            assert!(function.description.ends_with('.'), "{name}");
            let is_of_documents = function.category == "documents";
            assert_eq!(function.examples.is_empty(), is_of_documents, "{name}");
        }
    }

    #[test]
    fn the_number_of_arguments_is_that_of_the_signature() {
        let count = |text: &str| {
            let names = text.trim_matches(['(', ')', '[', ']', ' ']);
            names
                .split(',')
                .filter(|name| !name.trim().is_empty())
                .count()
        };
        for function in all() {
            let inside = &function.signature[function.name.len()..];
            let required = inside.split('[').next().unwrap();
            let (least, most) = function.arity;
            match most {
                MANY => assert!(inside.contains(".."), "{}", function.name),
                _ => assert_eq!(count(inside), most, "{}", function.name),
            }
            if most != MANY {
                assert_eq!(count(required), least, "{}", function.name);
            }
        }
    }
}
