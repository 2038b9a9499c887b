//! Behind GROUP BY only the keys, the aggregates and what is made of them exist.

use super::Binder;
use crate::{
    ast,
    bound::{Grouping, Item, Items, Order, Output},
    error::QueryError,
    expr::Expr,
    span::Span,
};

impl Binder<'_> {
    /// Rewrites every expression behind GROUP BY in terms of keys and aggregates. With the grouping
    /// comes the first slot of the rows that were grouped.
    pub(super) fn check_groups(
        &self,
        (select, window): (&ast::Select, &ast::Window),
        grouping: (&Grouping, usize),
        output: &mut Output,
        having: Option<&mut Expr>,
        order: &mut [Order],
    ) -> Result<(), QueryError> {
        self.check_output(&select.projection, grouping, output)?;
        if let (Some(having), Some(written)) = (having, &select.having) {
            self.check(having, grouping, written.span)?;
        }
        for (order, (written, _)) in order.iter_mut().zip(&window.order) {
            self.check(&mut order.key, grouping, written.span)?;
        }
        Ok(())
    }

    pub(super) fn check_output(
        &self,
        projection: &[ast::Projection],
        grouping: (&Grouping, usize),
        output: &mut Output,
    ) -> Result<(), QueryError> {
        let span = projection.first().map_or(Span::default(), span_of);
        let Items::Each(items) = &mut output.items else {
            return Err(self.group_error(span));
        };
        let written = projection
            .iter()
            .filter(|item| !matches!(item, ast::Projection::Without(_)));
        for (item, written) in items.iter_mut().zip(written) {
            match item {
                Item::Value(_, value) => self.check(value, grouping, span_of(written))?,
                Item::Splice(_) => return Err(self.group_error(span_of(written))),
            }
        }
        Ok(())
    }

    fn check(
        &self,
        expr: &mut Expr,
        grouping: (&Grouping, usize),
        span: Span,
    ) -> Result<(), QueryError> {
        rewrite(expr, grouping, 0).map_err(|NotGrouped| self.group_error(span))
    }

    fn group_error(&self, span: Span) -> QueryError {
        let message = format!(
            "Expression `{}` must depend only on group keys or aggregates",
            span.text(self.text)
        );
        self.error(span, message).with_hint(
            "put the field into GROUP BY or into an aggregate such as MIN; GROUP BY takes expressions, not aliases",
        )
    }
}

struct NotGrouped;

/// `variables` are those of the collection expressions around it, which the keys do not see.
fn rewrite(
    expr: &mut Expr,
    grouping: (&Grouping, usize),
    variables: usize,
) -> Result<(), NotGrouped> {
    let (keys, first_slot) = (&grouping.0.keys, grouping.1);
    let is_key = |key: &Expr| key == expr && (variables == 0 || !key.uses_variables());
    if let Some(index) = keys.iter().position(is_key) {
        *expr = Expr::Key(index);
        return Ok(());
    }
    match expr {
        // The rows around a subquery are the same for all of its groups.
        Expr::Field(slot, _) | Expr::Row(slot) | Expr::Conflicts(slot, _) | Expr::Version(slot)
            if *slot >= first_slot =>
        {
            Err(NotGrouped)
        }
        // What is inside of a subquery does not know the keys.
        Expr::Subquery(_, query, _) => {
            match query.outer_used.iter().any(|slot| *slot >= first_slot) {
                true => Err(NotGrouped),
                false => Ok(()),
            }
        }
        Expr::Outside(fewer, inner) => rewrite(inner, grouping, variables.saturating_sub(*fewer)),
        _ => expr.each_child_mut(&mut |child, more| rewrite(child, grouping, variables + more)),
    }
}

fn span_of(projection: &ast::Projection) -> Span {
    match projection {
        ast::Projection::All(span) => *span,
        ast::Projection::AllOf(expr)
        | ast::Projection::Value(expr, _)
        | ast::Projection::Without(expr) => expr.span,
    }
}
