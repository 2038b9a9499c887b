//! Directives: what they say to the planner, and to whom.

use idem_model::{Value, limits};

use super::Binder;
use crate::{ast::Directive, bound::ScanHints, error::QueryError, span::Span, spelling};

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

impl Binder<'_> {
    /// Takes the directives before a statement, which hold for every SELECT in it that says nothing
    /// else.
    pub(super) fn statement_hints(&mut self, directives: &[Directive]) -> Result<(), QueryError> {
        self.hints = self.read(directives, true)?;
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
            let name = directive.name.strip_prefix('#').unwrap_or(&directive.name);
            match name {
                "index" => {
                    let Value::String(index) = &directive.value else {
                        return Err(self.wrong(directive, "the name of an index"));
                    };
                    hints.index = Some((index.clone(), directive.span));
                }
                "prefer_order" => {
                    let Value::Bool(flag) = directive.value else {
                        return Err(self.wrong(directive, "true or false"));
                    };
                    hints.scan.prefers_order = Some(flag);
                }
                "max_scans" => {
                    let most = self.number(directive, limits::INDEX_SPANS_MAX)?;
                    hints.scan.scans_max = Some(most);
                }
                "max_joins" if is_select => {
                    hints.max_joins = Some(self.number(directive, limits::JOINS_DIRECTIVE_MAX)?);
                }
                _ => self.warn_unknown(name, directive),
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

    fn number(&self, directive: &Directive, most: usize) -> Result<usize, QueryError> {
        let number = match directive.value {
            Value::Int(number) => usize::try_from(number).ok(),
            _ => None,
        };
        number
            .filter(|number| *number <= most)
            .ok_or_else(|| self.wrong(directive, &format!("an integer from 0 to {most}")))
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
