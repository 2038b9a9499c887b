//! Expressions: operators, functions, aggregates, parameters, subqueries.

use std::sync::Arc;

use idem_model::{Value, limits};

use super::{Binder, scope::VisibleKind};
use crate::{
    ast::{self, ExprKind},
    bound::{Aggregate, AggregateKind},
    error::{ErrorKind, QueryError},
    expr::{Case, Expr, Like, Range, SubqueryKind},
    functions::{self, functions},
    span::{Site, Span},
    spelling,
};

/// The names and values of an object.
type Members = Box<[(Expr, Expr)]>;

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
            ExprKind::Object(fields) => {
                let (fields, is_suspicious) = self.object(fields)?;
                // What is said already is not said of every row again.
                let site = if is_suspicious { Site::NOWHERE } else { site };
                Expr::Object(fields, site)
            }
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
                self.warn_constant(left, right);
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
                self.over_elements(expr, site)?
            }
            ExprKind::Subquery(kind, query) => {
                let kind = match kind {
                    ast::SubqueryKind::Scalar => SubqueryKind::Scalar,
                    ast::SubqueryKind::Rows => SubqueryKind::Values,
                    ast::SubqueryKind::Exists => SubqueryKind::Exists,
                };
                Expr::Subquery(kind, Arc::new(self.query(query)?), site)
            }
        })
    }

    /// A condition. One that may be anything else than a boolean is marked with its place.
    pub(super) fn condition(&mut self, expr: &ast::Expr) -> Result<Expr, QueryError> {
        if let ExprKind::And(items) = &expr.kind {
            // The planner may check its operands in different places.
            let items = items.iter().map(|item| self.condition(item));
            let items: Result<_, QueryError> = items.collect();
            return Ok(Expr::And(items?, Site(expr.span)));
        }
        let bound = self.expr(expr)?;
        let may_be_anything = match &bound {
            Expr::Literal(value) => !matches!(value, Value::Bool(_) | Value::Null),
            Expr::Param(_)
            | Expr::Row(_)
            | Expr::Field(..)
            | Expr::Local(_)
            | Expr::Outside(..)
            | Expr::Access(..)
            | Expr::Array(_)
            | Expr::Object(..)
            | Expr::Negate(..)
            | Expr::Chain(..)
            | Expr::Cast(..)
            | Expr::Case(_)
            | Expr::ArrayOf(..)
            | Expr::ObjectOf(..)
            | Expr::Subquery(SubqueryKind::Scalar | SubqueryKind::Values, ..)
            | Expr::Aggregate(_) => true,
            // The planner knows it, and it gives no other value than a boolean.
            Expr::Call(function, ..) => function.name != "array_contains",
            _ => false,
        };
        Ok(match may_be_anything {
            true => Expr::Truth(Box::new(bound), Site(expr.span)),
            false => bound,
        })
    }

    fn boxed_condition(
        &mut self,
        expr: Option<&ast::Expr>,
    ) -> Result<Option<Box<Expr>>, QueryError> {
        expr.map(|expr| self.condition(expr).map(Box::new))
            .transpose()
    }

    fn boxed(&mut self, expr: &ast::Expr) -> Result<Box<Expr>, QueryError> {
        self.expr(expr).map(Box::new)
    }

    fn optional(&mut self, expr: Option<&ast::Expr>) -> Result<Option<Expr>, QueryError> {
        expr.map(|expr| self.expr(expr)).transpose()
    }

    pub(super) fn exprs(&mut self, items: &[ast::Expr]) -> Result<Box<[Expr]>, QueryError> {
        items.iter().map(|item| self.expr(item)).collect()
    }

    /// The members of an object, and whether one was warned of.
    fn object(&mut self, fields: &[(ast::Expr, ast::Expr)]) -> Result<(Members, bool), QueryError> {
        let mut is_suspicious = false;
        let mut bound = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let ExprKind::Name(bare) = &name.kind else {
                bound.push((self.expr(name)?, self.expr(value)?));
                continue;
            };
            if !self.sees_rows() {
                return Err(self
                    .error(name.span, "the name of a field must be a string")
                    .with_hint(format!("put it in quotes: '{bare}'")));
            }
            let key = self.expr(name)?;
            if matches!(key, Expr::Field(..)) {
                let message = format!(
                    "the name of a field is not in quotes: `{bare}` stands for the value of a field here"
                );
                self.warn(name.span, message);
                is_suspicious = true;
            }
            bound.push((key, self.expr(value)?));
        }
        Ok((bound.into(), is_suspicious))
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
                .map(|(when, then)| {
                    let when = match operand {
                        None => self.condition(when)?,
                        Some(_) => self.expr(when)?,
                    };
                    Ok((when, self.expr(then)?))
                })
                .collect::<Result<_, QueryError>>()?,
            otherwise: self.optional(otherwise.as_deref())?,
        })))
    }

    fn over_elements(&mut self, expr: &ast::Expr, site: Site) -> Result<Expr, QueryError> {
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
            } => Expr::Quantified(*kind, bound, Box::new(self.condition(satisfies)?)),
            ExprKind::ArrayOf { item, when, .. } => Expr::ArrayOf(
                self.boxed(item)?,
                bound,
                self.boxed_condition(when.as_deref())?,
            ),
            ExprKind::ObjectOf {
                name, item, when, ..
            } => Expr::ObjectOf(
                Box::new([self.expr(name)?, self.expr(item)?]),
                bound,
                self.boxed_condition(when.as_deref())?,
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

    fn call(&mut self, call: &ast::Call, span: Span) -> Result<Expr, QueryError> {
        let name = call.name.name.to_ascii_lowercase();
        if let Some(kind) = AggregateKind::find(&name) {
            return self.aggregate(kind, call, span);
        }
        match name.as_str() {
            "conflicts" => return self.conflicts(call, span),
            "document_version" => return self.version(call, span),
            _ => {}
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

    /// A comparison that looks at no document although its writer probably thinks so.
    fn warn_constant(&mut self, left: &ast::Expr, right: &ast::Expr) {
        let chained = left.span.text(self.text);
        if matches!(left.kind, ExprKind::Compare(..)) && !chained.starts_with('(') {
            let what = "this compares the result of a comparison: write AND or OR between two; || joins strings";
            self.warn(left.span, what);
        }
        let is_fixed =
            |expr: &ast::Expr| matches!(expr.kind, ExprKind::Literal(_) | ExprKind::Param(_));
        for (one, other) in [(left, right), (right, left)] {
            let ExprKind::Literal(value) = &one.kind else {
                continue;
            };
            if *value == Value::Null && !is_fixed(other) {
                let what = "a comparison with null is never true: write IS NULL or IS NOT NULL";
                self.warn(one.span, what);
            }
            let shown = one.span.text(self.text);
            if shown.starts_with('"') && is_fixed(other) {
                let name = shown.trim_matches('"');
                let what = format!(
                    "{shown} is a string and no field: a name stands bare or in backticks, `{name}`"
                );
                self.warn(one.span, what);
                return;
            }
        }
    }

    /// `conflicts(path)`: the path of a field of a stored document.
    fn conflicts(&mut self, call: &ast::Call, span: Span) -> Result<Expr, QueryError> {
        let [path] = call.args.as_slice() else {
            let message = format!("`conflicts` takes 1 argument, not {}", call.args.len());
            return Err(self.error(span, message));
        };
        let stored = |binder: &Self, slot: usize| {
            let mut sources = binder.scopes.iter().flat_map(|scope| &scope.sources);
            let of = sources.find(|source| source.slot == slot);
            of.is_some_and(|source| source.kind == VisibleKind::Documents)
        };
        match self.expr(path)? {
            Expr::Field(slot, path) if stored(self, slot) => Ok(Expr::Conflicts(slot, path)),
            _ => Err(self.error(
                path.span,
                "`conflicts` takes the path of a field of a stored document",
            )),
        }
    }

    /// `document_version()`, or `document_version(alias)` where there are several sources.
    fn version(&mut self, call: &ast::Call, span: Span) -> Result<Expr, QueryError> {
        let alias = match call.args.as_slice() {
            [] => None,
            [only] => match &only.kind {
                ExprKind::Name(alias) => Some(alias.as_str()),
                _ => {
                    let message = "`document_version` takes the alias of a collection";
                    return Err(self.error(only.span, message));
                }
            },
            more => {
                let message = format!(
                    "`document_version` takes 0 to 1 arguments, not {}",
                    more.len()
                );
                return Err(self.error(span, message));
            }
        };
        self.documents(alias, span).map(Expr::Version)
    }

    fn unknown_function(&self, name: &str, span: Span) -> QueryError {
        let nearest = || {
            let known = functions().map(|function| function.name);
            spelling::nearest(name, known).map(|name| format!("did you mean `{name}`?"))
        };
        let hint = functions::foreign::instead(name)
            .or_else(nearest)
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
            let hint = match kind {
                AggregateKind::Count if call.args.is_empty() => "write COUNT(*)",
                AggregateKind::Count => "for several fields together write COUNT(DISTINCT [a, b])",
                _ => "",
            };
            return Err(self
                .error(
                    span,
                    format!("{name} takes 1 argument, not {}", call.args.len()),
                )
                .with_hint(hint));
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
        if aggregate
            .argument
            .as_ref()
            .is_some_and(Expr::uses_variables)
        {
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
