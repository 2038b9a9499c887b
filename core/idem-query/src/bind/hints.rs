//! Directives: what they say to the planner, and to whom.

use idem_model::{Value, limits};

use super::Binder;
use crate::{
    ast::Directive,
    bound::ScanHints,
    error::{ErrorKind, QueryError},
    span::Span,
    spelling,
};

/// The names of the directives, without their `#`.
const NAMES: [&str; 4] = ["index", "prefer_order", "max_scans", "max_joins"];

/// Directives of a SELECT.
#[derive(Debug, Clone, Default)]
pub(super) struct SelectHints {
    /// The index of its first source.
    pub(super) index: Option<(String, Span)>,
    pub(super) max_joins: Option<usize>,
    /// For all of its sources.
    pub(super) scan: ScanHints,
}

/// Directives that hold for every statement that says nothing else: what the system parameter
/// `dql_default_directives` sets. The default is none.
#[derive(Debug, Clone, Default)]
pub struct Directives {
    hints: SelectHints,
}

impl Directives {
    /// Reads directives out of an object such as `{"#prefer_order": true}`. The `#` may be left out.
    /// There is no default for `#index`, which is about one collection.
    ///
    /// # Errors
    /// [`QueryError`] of the kind [`ErrorKind::Parameter`] if the value is no object, a directive is
    /// not known, or its value is out of bounds.
    pub fn new(value: &Value) -> Result<Self, QueryError> {
        let error = |message: String| QueryError::new(ErrorKind::Parameter, message);
        let Value::Object(members) = value else {
            let found = value.type_name();
            return Err(error(format!("directives are an object, not {found}")));
        };
        let mut hints = SelectHints::default();
        for (written, value) in members {
            let name = bare(written);
            match hints.take(name, value) {
                Taken::Yes => {}
                Taken::Wrong(expected) => {
                    return Err(error(format!("the directive `{written}` is {expected}")));
                }
                Taken::Unknown => {
                    let names = || NAMES.into_iter().filter(|name| *name != "index");
                    let hint = spelling::nearest(name, names()).map_or_else(
                        || format!("there are #{}", names().collect::<Vec<_>>().join(", #")),
                        |name| format!("did you mean `#{name}`?"),
                    );
                    let message = format!("the directive `{written}` has no default");
                    return Err(error(message).with_hint(hint));
                }
            }
        }
        Ok(Self { hints })
    }
}

/// Whether [`SelectHints::take`] took a directive.
enum Taken {
    Yes,
    Unknown,
    /// What its value has to be.
    Wrong(String),
}

fn bare(name: &str) -> &str {
    name.strip_prefix('#').unwrap_or(name)
}

impl SelectHints {
    /// Takes a directive that is not about one source.
    fn take(&mut self, name: &str, value: &Value) -> Taken {
        let number = |most: usize| {
            let number = match value {
                Value::Int(number) => usize::try_from(*number).ok(),
                _ => None,
            };
            let number = number.filter(|number| *number <= most);
            number.ok_or_else(|| format!("an integer from 0 to {most}"))
        };
        let result = match name {
            "prefer_order" => match value {
                Value::Bool(flag) => {
                    self.scan.prefers_order = Some(*flag);
                    Ok(())
                }
                _ => Err("true or false".to_owned()),
            },
            "max_scans" => {
                number(limits::INDEX_SPANS_MAX).map(|most| self.scan.scans_max = Some(most))
            }
            "max_joins" => {
                number(limits::JOINS_DIRECTIVE_MAX).map(|most| self.max_joins = Some(most))
            }
            _ => return Taken::Unknown,
        };
        result.map_or_else(Taken::Wrong, |()| Taken::Yes)
    }
}

impl Binder<'_> {
    /// Takes the directives before a statement, which hold for every SELECT in it that says nothing
    /// else, and those that hold where it says nothing.
    pub(super) fn statement_hints(
        &mut self,
        directives: &[Directive],
        defaults: &Directives,
    ) -> Result<(), QueryError> {
        let own = self.read(directives, true)?;
        self.hints = SelectHints {
            index: own.index,
            max_joins: own.max_joins.or(defaults.hints.max_joins),
            scan: own.scan.or(defaults.hints.scan),
        };
        Ok(())
    }

    /// The directives of a SELECT, and of the statement.
    pub(super) fn select_hints(
        &mut self,
        directives: &[Directive],
    ) -> Result<SelectHints, QueryError> {
        let own = self.read(directives, true)?;
        let all = &mut self.hints;
        Ok(SelectHints {
            // An index of the statement is one of its first source.
            index: own.index.or_else(|| all.index.take()),
            max_joins: own.max_joins.or(all.max_joins),
            scan: own.scan.or(all.scan),
        })
    }

    /// The directives behind a collection.
    pub(super) fn source_hints(
        &mut self,
        directives: &[Directive],
    ) -> Result<SelectHints, QueryError> {
        self.read(directives, false)
    }

    fn read(
        &mut self,
        directives: &[Directive],
        is_select: bool,
    ) -> Result<SelectHints, QueryError> {
        let mut hints = SelectHints::default();
        for directive in directives {
            let name = bare(&directive.name);
            match name {
                "index" => {
                    let Value::String(index) = &directive.value else {
                        return Err(self.wrong(directive, "the name of an index"));
                    };
                    hints.index = Some((index.clone(), directive.span));
                }
                "max_joins" if !is_select => self.warn_unknown(name, directive),
                _ => match hints.take(name, &directive.value) {
                    Taken::Yes => {}
                    Taken::Unknown => self.warn_unknown(name, directive),
                    Taken::Wrong(expected) => return Err(self.wrong(directive, &expected)),
                },
            }
        }
        Ok(hints)
    }

    fn warn_unknown(&mut self, name: &str, directive: &Directive) {
        let meant = spelling::nearest(name, NAMES.into_iter())
            .map(|name| format!("; did you mean `#{name}`?"))
            .unwrap_or_default();
        let message = format!(
            "the directive `{}` is not known here{meant}",
            directive.name
        );
        self.warn(directive.span, message);
    }

    fn wrong(&self, directive: &Directive, expected: &str) -> QueryError {
        let message = format!("the directive `{}` is {expected}", directive.name);
        self.error(directive.span, message)
    }
}

impl ScanHints {
    /// These, and `others` where these say nothing.
    pub(super) fn or(self, others: Self) -> Self {
        Self {
            prefers_order: self.prefers_order.or(others.prefers_order),
            scans_max: self.scans_max.or(others.scans_max),
        }
    }
}
