//! Names of an expression: variables, aliases, sources, fields, functions, parameters.

use idem_model::{FieldPath, limits};

use super::Binder;
use crate::{
    ast::{self, ExprKind},
    bound::{Aggregate, AggregateKind},
    error::{ErrorKind, QueryError},
    expr::{Case, Expr, Like, Range, Step},
    functions::{self, functions},
    span::{Site, Span},
    spelling,
};

/// Where an expression stands, which decides whether aggregates may be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A clause that looks at single rows, by its name.
    Rows(&'static str),
    /// A clause behind GROUP BY.
    Groups,
}

impl Binder<'_> {
    pub(super) fn expr(&mut self, expr: &ast::Expr) -> Result<Expr, QueryError> {
        let site = Site(expr.span);
        Ok(match &expr.kind {
            ExprKind::Literal(value) => Expr::Literal(value.clone()),
            ExprKind::Missing => Expr::Missing,
            ExprKind::Param(name) => Expr::Param(self.slot(name, expr.span)?),
            ExprKind::Name(name) => self.name(name, expr.span, &[])?,
            ExprKind::Access(base, steps) => self.access(base, steps)?,
            ExprKind::Array(items) => Expr::Array(self.exprs(items)?),
            ExprKind::Object(fields) => Expr::Object(self.object(fields)?, site),
            ExprKind::Not(inner) => Expr::Not(self.boxed(inner)?, site),
            ExprKind::Negate(inner) => Expr::Negate(self.boxed(inner)?, site),
            ExprKind::Chain(first, rest) => {
                let first = self.boxed(first)?;
                let rest = rest
                    .iter()
                    .map(|(op, operand)| Ok((*op, self.expr(operand)?)))
                    .collect::<Result<_, QueryError>>()?;
                Expr::Chain(first, rest, site)
            }
            ExprKind::Compare(op, left, right) => {
                Expr::Compare(*op, self.boxed(left)?, self.boxed(right)?)
            }
            ExprKind::And(items) => Expr::And(self.exprs(items)?, site),
            ExprKind::Or(items) => Expr::Or(self.exprs(items)?, site),
            ExprKind::Xor(items) => Expr::Xor(self.exprs(items)?, site),
            ExprKind::Between {
                value,
                low,
                high,
                negated,
            } => {
                let parts = [self.expr(value)?, self.expr(low)?, self.expr(high)?];
                Expr::Between(Box::new(parts), *negated)
            }
            ExprKind::In {
                value,
                list,
                negated,
            } => {
                let parts = [self.expr(value)?, self.expr(list)?];
                Expr::In(Box::new(parts), *negated, site)
            }
            ExprKind::Like { .. } => self.like(expr, site)?,
            ExprKind::Is {
                value,
                test,
                negated,
            } => Expr::Is(self.boxed(value)?, *test, *negated),
            ExprKind::Call(call) => self.call(call, expr.span)?,
            ExprKind::Cast(value, to) => Expr::Cast(self.boxed(value)?, *to, site),
            ExprKind::Case { .. } => self.case(expr)?,
            ExprKind::Quantified { .. } | ExprKind::ArrayOf { .. } | ExprKind::ObjectOf { .. } => {
                self.collection(expr, site)?
            }
            ExprKind::Subquery(..) => return Err(self.unsupported("a subquery", expr.span)),
        })
    }

    fn boxed(&mut self, expr: &ast::Expr) -> Result<Box<Expr>, QueryError> {
        self.expr(expr).map(Box::new)
    }

    fn optional(&mut self, expr: Option<&ast::Expr>) -> Result<Option<Expr>, QueryError> {
        expr.map(|expr| self.expr(expr)).transpose()
    }

    fn exprs(&mut self, items: &[ast::Expr]) -> Result<Box<[Expr]>, QueryError> {
        items.iter().map(|item| self.expr(item)).collect()
    }

    fn object(
        &mut self,
        fields: &[(ast::Expr, ast::Expr)],
    ) -> Result<Box<[(Expr, Expr)]>, QueryError> {
        let mut bound = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let no_row = self.sources.is_empty() && self.locals.is_empty();
            if let (ExprKind::Name(bare), true) = (&name.kind, no_row) {
                return Err(self
                    .error(name.span, "the name of a field must be a string")
                    .with_hint(format!("put it in quotes: '{bare}'")));
            }
            bound.push((self.expr(name)?, self.expr(value)?));
        }
        Ok(bound.into())
    }

    fn like(&mut self, expr: &ast::Expr, site: Site) -> Result<Expr, QueryError> {
        let ExprKind::Like {
            kind,
            value,
            pattern,
            escape,
            negated,
        } = &expr.kind
        else {
            unreachable!("called for LIKE only");
        };
        Ok(Expr::Like(Box::new(Like {
            kind: *kind,
            value: self.expr(value)?,
            pattern: self.expr(pattern)?,
            escape: self.optional(escape.as_deref())?,
            negated: *negated,
            site,
        })))
    }

    fn case(&mut self, expr: &ast::Expr) -> Result<Expr, QueryError> {
        let ExprKind::Case {
            operand,
            branches,
            otherwise,
        } = &expr.kind
        else {
            unreachable!("called for CASE only");
        };
        Ok(Expr::Case(Box::new(Case {
            operand: self.optional(operand.as_deref())?,
            branches: branches
                .iter()
                .map(|(when, then)| Ok((self.expr(when)?, self.expr(then)?)))
                .collect::<Result<_, QueryError>>()?,
            otherwise: self.optional(otherwise.as_deref())?,
        })))
    }

    fn collection(&mut self, expr: &ast::Expr, site: Site) -> Result<Expr, QueryError> {
        let (ExprKind::Quantified { range, .. }
        | ExprKind::ArrayOf { range, .. }
        | ExprKind::ObjectOf { range, .. }) = &expr.kind
        else {
            unreachable!("called for collection expressions only");
        };
        let bound = Box::new(Range {
            named: range.name.is_some(),
            within: range.within,
            source: self.expr(&range.source)?,
            site: Site(range.source.span),
        });
        let outside = self.locals.len();
        if let Some(name) = &range.name {
            self.locals.push(name.name.clone());
        }
        self.locals.push(range.item.name.clone());
        let result = match &expr.kind {
            ExprKind::Quantified {
                kind, satisfies, ..
            } => Expr::Quantified(*kind, bound, self.boxed(satisfies)?),
            ExprKind::ArrayOf { item, when, .. } => Expr::ArrayOf(
                self.boxed(item)?,
                bound,
                self.optional(when.as_deref())?.map(Box::new),
            ),
            ExprKind::ObjectOf {
                name, item, when, ..
            } => Expr::ObjectOf(
                Box::new([self.expr(name)?, self.expr(item)?]),
                bound,
                self.optional(when.as_deref())?.map(Box::new),
                site,
            ),
            _ => unreachable!("matched above"),
        };
        self.locals.truncate(outside);
        Ok(result)
    }

    fn access(&mut self, base: &ast::Expr, steps: &[ast::Step]) -> Result<Expr, QueryError> {
        if let ExprKind::Name(name) = &base.kind {
            return self.name(name, base.span, steps);
        }
        let base = self.expr(base)?;
        self.steps(base, steps)
    }

    fn steps(&mut self, base: Expr, steps: &[ast::Step]) -> Result<Expr, QueryError> {
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

    /// Resolves the first name of a path: a variable, the alias of an output column where those are
    /// visible, the alias of a source, else a field.
    fn name(&mut self, name: &str, span: Span, steps: &[ast::Step]) -> Result<Expr, QueryError> {
        if let Some(at) = self.locals.iter().rposition(|local| local == name) {
            let index = self.locals.len() - 1 - at;
            return self.steps(Expr::Local(index), steps);
        }
        if let Some(column) = self.columns.iter().position(|(column, _)| column == name) {
            let copy = self.column(column, span)?;
            return self.steps(copy, steps);
        }
        let source = self
            .sources
            .iter()
            .position(|source| source.alias == name && (source.explicit || !steps.is_empty()));
        if let Some(source) = source {
            return match steps.first() {
                Some(ast::Step::Name(first)) => self.field(source, &first.name, span, &steps[1..]),
                _ => self.steps(Expr::Row(source), steps),
            };
        }
        match self.sources.len() {
            0 => Err(self.unknown_name(name, span)),
            1 => self.field(0, name, span, steps),
            _ => Err(self
                .error(span, format!("Ambiguous reference to field `{name}`"))
                .with_hint("put the alias of its collection before it")),
        }
    }

    /// A copy of an output column. The copies are counted, or a long column in many places would
    /// make a tree far larger than the statement.
    fn column(&mut self, index: usize, span: Span) -> Result<Expr, QueryError> {
        let column = &self.columns[index].1;
        self.copied += nodes(column);
        if self.copied > limits::STATEMENT_TOKENS_MAX {
            return Err(self.error(span, "the statement uses a long output column too often"));
        }
        Ok(column.clone())
    }

    fn unknown_name(&self, name: &str, span: Span) -> QueryError {
        self.error(span, format!("`{name}` is not known here"))
            .with_hint(format!(
                "there is no row to take a field from; a string goes into quotes: '{name}'"
            ))
    }

    fn field(
        &mut self,
        source: usize,
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
        self.steps(Expr::Field(source, path), rest)
    }

    fn call(&mut self, call: &ast::Call, span: Span) -> Result<Expr, QueryError> {
        let name = call.name.name.to_ascii_lowercase();
        if let Some(kind) = AggregateKind::find(&name) {
            return self.aggregate(kind, call, span);
        }
        if call.distinct || call.star {
            let message = format!("`{name}` is not an aggregate and takes no DISTINCT and no *");
            return Err(self.error(span, message));
        }
        let Some(function) = functions::find(&name) else {
            return Err(self.unknown_function(&name, call.name.span));
        };
        let count = call.args.len();
        if let Some(wanted) = function.wants_other_than(count) {
            let message = format!("`{name}` takes {wanted}, not {count}");
            let hint = format!("it is called as {}", function.signature);
            return Err(self.error(span, message).with_hint(hint));
        }
        Ok(Expr::Call(function, self.exprs(&call.args)?, Site(span)))
    }

    fn unknown_function(&self, name: &str, span: Span) -> QueryError {
        let known = functions().map(|function| function.name);
        let hint = spelling::nearest(name, known)
            .map(|name| format!("did you mean `{name}`?"))
            .unwrap_or_default();
        self.error(span, format!("there is no function `{name}`"))
            .with_hint(hint)
    }

    fn aggregate(
        &mut self,
        kind: AggregateKind,
        call: &ast::Call,
        span: Span,
    ) -> Result<Expr, QueryError> {
        let name = kind.name().to_ascii_uppercase();
        if let Place::Rows(clause) = self.place {
            let hint = match clause {
                "WHERE" => "conditions on groups go into HAVING",
                _ => "",
            };
            let message = format!("{name} is an aggregate and cannot be in {clause}");
            return Err(self.error(span, message).with_hint(hint));
        }
        if call.star && kind != AggregateKind::Count {
            return Err(self.error(span, format!("{name} takes an expression, not *")));
        }
        if !call.star && call.args.len() != 1 {
            return Err(self.error(
                span,
                format!("{name} takes 1 argument, not {}", call.args.len()),
            ));
        }
        let place = std::mem::replace(&mut self.place, Place::Rows("another aggregate"));
        // Columns are made of groups, and the argument looks at rows.
        let columns = std::mem::take(&mut self.columns);
        let argument = self.optional(call.args.first());
        self.columns = columns;
        self.place = place;
        let aggregate = Aggregate {
            kind,
            distinct: call.distinct,
            argument: argument?,
        };
        if aggregate.argument.as_ref().is_some_and(uses_variables) {
            let message = format!("{name} cannot use a variable of a collection expression");
            return Err(self.error(span, message));
        }
        let known = self.aggregates.iter().position(|one| *one == aggregate);
        if known.is_none() {
            self.check_count(self.aggregates.len(), "aggregates", span)?;
            self.aggregates.push(aggregate);
        }
        let index = known.unwrap_or(self.aggregates.len() - 1);
        Ok(Expr::Aggregate(index))
    }

    fn slot(&mut self, name: &str, span: Span) -> Result<usize, QueryError> {
        if let Some(known) = self.params.iter().position(|known| known == name) {
            return Ok(known);
        }
        self.check_count(self.params.len(), "parameters", span)?;
        self.params.push(name.to_owned());
        self.param_spans.push(span);
        Ok(self.params.len() - 1)
    }

    /// Whether there may be one more.
    fn check_count(&self, count: usize, what: &str, span: Span) -> Result<(), QueryError> {
        let limit = limits::CLAUSE_ITEMS_MAX;
        match count < limit {
            true => Ok(()),
            false => Err(self.error(span, format!("the statement has more than {limit} {what}"))),
        }
    }

    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> QueryError {
        QueryError::new(ErrorKind::Invalid, message).at(span.position(self.text))
    }
}

fn nodes(expr: &Expr) -> usize {
    let mut count = 1;
    expr.each_child(&mut |child, _| count += nodes(child));
    count
}

/// Whether a variable from outside of the expression is in it.
fn uses_variables(expr: &Expr) -> bool {
    fn under(expr: &Expr, inside: usize) -> bool {
        if let Expr::Local(index) = expr {
            return *index >= inside;
        }
        let mut found = false;
        expr.each_child(&mut |child, more| found = found || under(child, inside + more));
        found
    }
    under(expr, 0)
}
