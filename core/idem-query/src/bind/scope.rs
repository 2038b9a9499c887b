//! Which name means what: variables, output columns, aliases of sources, fields.

use idem_model::{FieldPath, Value, limits};

use super::Binder;
use crate::{
    ast,
    bound::{FromItem, Place},
    error::QueryError,
    expr::{Expr, Step},
    span::{Site, Span},
    spelling,
};

/// The sources of one query.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) sources: Vec<Visible>,
    /// How many variables are visible around the query.
    pub(super) locals: usize,
}

/// A source whose rows are visible.
#[derive(Debug)]
pub(super) struct Visible {
    pub(super) slot: usize,
    pub(super) alias: String,
    /// Whether the alias was written and is not just the collection's name.
    pub(super) is_explicit: bool,
    pub(super) kind: VisibleKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VisibleKind {
    /// Documents of a stored collection.
    Documents,
    /// Rows of a system collection or subquery.
    Rows,
    /// Elements that UNNEST gives.
    Elements,
}

impl Scope {
    /// The scope of a change.
    pub(super) fn of(item: &FromItem, written: &ast::Source) -> Self {
        Self {
            sources: vec![Visible::of(item, written.alias.is_some())],
            locals: 0,
        }
    }
}

impl Visible {
    pub(super) fn of(item: &FromItem, is_explicit: bool) -> Self {
        Self {
            slot: item.slot,
            alias: item.alias.clone(),
            is_explicit,
            kind: match &item.place {
                Place::Stored(_) => VisibleKind::Documents,
                Place::Unnest(_) => VisibleKind::Elements,
                _ => VisibleKind::Rows,
            },
        }
    }
}

impl Binder<'_> {
    /// How many slots are visible.
    pub(super) fn slots(&self) -> usize {
        self.scopes.iter().map(|scope| scope.sources.len()).sum()
    }

    /// Whether there is a row or a variable that a name could be about.
    pub(super) fn sees_rows(&self) -> bool {
        self.slots() > 0 || !self.locals.is_empty()
    }

    /// Resolves the first name of a path. The innermost query counts first, and in it a variable, the
    /// alias of an output column where those are visible, and the alias of a source. What is none
    /// of these is a field of the innermost query's source.
    pub(super) fn name(
        &mut self,
        name: &str,
        span: Span,
        steps: &[ast::Step],
    ) -> Result<Expr, QueryError> {
        let mut end = self.locals.len();
        for level in (0..self.scopes.len()).rev() {
            let from = self.scopes[level].locals;
            if let Some(local) = self.local(name, from, end) {
                return self.steps(local, steps);
            }
            end = from;
            // These are of the innermost query, which comes first.
            let column = self.columns.iter().position(|(column, _)| column == name);
            if let Some(column) = column {
                let copy = self.column(column, span)?;
                return self.steps(copy, steps);
            }
            let source = self.scopes[level]
                .sources
                .iter()
                .find(|source| source.alias == name && (source.is_explicit || !steps.is_empty()));
            if let Some(slot) = source.map(|source| source.slot) {
                self.used.insert(slot);
                return match steps.first() {
                    Some(ast::Step::Name(first)) => {
                        self.field(slot, &first.name, span, &steps[1..])
                    }
                    _ => self.steps(Expr::Row(slot), steps),
                };
            }
        }
        if let Some(local) = self.local(name, 0, end) {
            return self.steps(local, steps);
        }
        let sources = self.scopes.last().map_or(&[][..], |scope| &scope.sources);
        match sources {
            [] => Err(self.unknown_name(name, span)),
            [only] => {
                let slot = only.slot;
                self.used.insert(slot);
                self.field(slot, name, span, steps)
            }
            _ if name == "_id" => self.composite_id(span, steps),
            _ if matches!(steps.first(), Some(ast::Step::Name(_))) => {
                Err(self.unknown_alias(name, span))
            }
            several => {
                let aliases: Vec<String> = several
                    .iter()
                    .map(|source| format!("{}.{name}", source.alias))
                    .collect();
                let hint = format!("put an alias before it: {}", aliases.join(" or "));
                Err(self
                    .error(span, format!("Ambiguous reference to field `{name}`"))
                    .with_hint(hint))
            }
        }
    }

    /// The first name of a path that could be of any of several sources.
    fn unknown_alias(&self, name: &str, span: Span) -> QueryError {
        let in_reach = self.scopes.iter().rev().flat_map(|scope| &scope.sources);
        let mut aliases: Vec<&str> = in_reach.map(|source| &*source.alias).collect();
        aliases.dedup();
        // Of aliases of a letter or two any other is near.
        let words = aliases.iter().copied().filter(|alias| alias.len() > 2);
        let hint = match spelling::nearest(name, words) {
            Some(meant) => format!("did you mean `{meant}`? "),
            None => String::new(),
        };
        let first = aliases.first().copied().unwrap_or_default();
        let hint = format!(
            "{hint}the aliases in reach are {}; a field stands behind one, as in {first}.{name}",
            aliases.join(", ")
        );
        self.error(span, format!("there is no source `{name}` here"))
            .with_hint(hint)
    }

    /// A variable among those from `from` to before `end`.
    fn local(&mut self, name: &str, from: usize, end: usize) -> Option<Expr> {
        let at = from
            + self.locals[from..end]
                .iter()
                .rposition(|local| local == name)?;
        self.lowest_local = self.lowest_local.min(at);
        Some(Expr::Local(self.locals.len() - 1 - at))
    }

    /// The `_id` of a row of several sources: that of each under its alias.
    fn composite_id(&mut self, span: Span, steps: &[ast::Step]) -> Result<Expr, QueryError> {
        let sources = self.scopes.last().map_or(&[][..], |scope| &scope.sources);
        let ids: Vec<(usize, String)> = sources
            .iter()
            .filter(|source| source.kind != VisibleKind::Elements)
            .map(|source| (source.slot, source.alias.clone()))
            .collect();
        if let Some(ast::Step::Name(first)) = steps.first()
            && let Some((slot, _)) = ids.iter().find(|(_, alias)| *alias == first.name)
        {
            self.used.insert(*slot);
            return self.field(*slot, "_id", span, &steps[1..]);
        }
        let mut members = Vec::with_capacity(ids.len());
        for (slot, alias) in ids {
            self.used.insert(slot);
            let id = self.field(slot, "_id", span, &[])?;
            members.push((Expr::Literal(Value::String(alias)), id));
        }
        self.steps(Expr::Object(members.into(), Site(span)), steps)
    }

    /// A copy of an output column, which does not see the variables between it and the place of the
    /// copy. The copies are counted, or a long column in many places would
    /// make a tree far larger than the statement.
    fn column(&mut self, index: usize, span: Span) -> Result<Expr, QueryError> {
        let column = &self.columns[index].1;
        self.copied += nodes(column);
        if self.copied > limits::STATEMENT_TOKENS_MAX {
            return Err(self.error(span, "the statement uses a long output column too often"));
        }
        let column = column.clone();
        let outside = self.scopes.last().map_or(0, |scope| scope.locals);
        let between = self.locals.len() - outside;
        Ok(match between > 0 && sees_variables(&column) {
            true => Expr::Outside(between, Box::new(column)),
            false => column,
        })
    }

    fn unknown_name(&self, name: &str, span: Span) -> QueryError {
        self.error(span, format!("`{name}` is not known here"))
            .with_hint(format!(
                "there is no row to take a field from; a string goes into quotes: '{name}'"
            ))
    }

    fn field(
        &mut self,
        slot: usize,
        first: &str,
        span: Span,
        steps: &[ast::Step],
    ) -> Result<Expr, QueryError> {
        let names = steps
            .iter()
            .map_while(|step| match step {
                ast::Step::Name(name) => Some(name.name.clone()),
                ast::Step::Index(_) => None,
            })
            .collect::<Vec<_>>();
        let rest = &steps[names.len()..];
        let path = std::iter::once(first.to_owned()).chain(names).collect();
        let path = FieldPath::new(path).map_err(|error| self.error(span, error.to_string()))?;
        self.steps(Expr::Field(slot, path), rest)
    }

    pub(super) fn steps(&mut self, base: Expr, steps: &[ast::Step]) -> Result<Expr, QueryError> {
        if steps.is_empty() {
            return Ok(base);
        }
        let steps = steps
            .iter()
            .map(|step| {
                Ok(match step {
                    ast::Step::Name(name) => Step::Name(name.name.clone()),
                    ast::Step::Index(index) => Step::Index(self.expr(index)?),
                })
            })
            .collect::<Result<_, QueryError>>()?;
        Ok(Expr::Access(Box::new(base), steps))
    }
}

/// Whether it uses a variable from outside of it, or a subquery that may.
fn sees_variables(expr: &Expr) -> bool {
    fn has_query(expr: &Expr) -> bool {
        let mut found = matches!(expr, Expr::Subquery(_, query, _) if query.is_correlated);
        expr.each_child(&mut |child, _| found = found || has_query(child));
        found
    }
    expr.uses_variables() || has_query(expr)
}

fn nodes(expr: &Expr) -> usize {
    let mut count = 1;
    expr.each_child(&mut |child, _| count += nodes(child));
    count
}
