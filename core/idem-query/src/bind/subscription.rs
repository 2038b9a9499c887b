//! What a subscription cannot have.

use crate::{
    ast::{Branch, Expr, ExprKind, FromKind, Projection, Query, Select, Source, Step, UseIds},
    span::Span,
};

type Clause = (&'static str, Span);

/// The first clause of a query that a subscription cannot have.
pub(super) fn beyond(query: &Query) -> Option<Clause> {
    let [Branch::Select(select)] = query.branches.as_slice() else {
        return Some(("UNION", query.distinct.unwrap_or(query.span())));
    };
    let joined = select.from.get(1).map(|item| {
        let clause = match item.kind {
            FromKind::Unnest(..) => "UNNEST",
            _ => "JOIN",
        };
        (
            clause,
            item.join.as_ref().map_or(item.span, |join| join.span),
        )
    });
    let derived = select.from.iter().find_map(|item| match item.kind {
        FromKind::Query(..) => Some(("a subquery", item.span)),
        _ => None,
    });
    let source = select.from.iter().find_map(|item| match &item.kind {
        FromKind::Collection(source) => hinted(source),
        _ => None,
    });
    joined
        .or(derived)
        .or_else(|| of_select(select))
        .or(source)
        .or_else(|| select.filter.as_ref().and_then(asks_data))
        .or_else(|| {
            let mut keys = query.window.order.iter();
            keys.find_map(|(key, _)| asks_data(key))
        })
}

fn of_select(select: &Select) -> Option<Clause> {
    let first = |exprs: &[Expr]| exprs.first().map(|expr| expr.span);
    pick([
        ("DISTINCT", select.distinct),
        ("GROUP BY", first(&select.group)),
        ("HAVING", select.having.as_ref().map(|having| having.span)),
    ])
    .or_else(|| select.projection.iter().find_map(of_projection))
}

/// What is selected is `*` or fields by their paths.
fn of_projection(projection: &Projection) -> Option<Clause> {
    match projection {
        Projection::All(_) => None,
        Projection::Value(_, Some(alias)) => Some(("AS", alias.span)),
        Projection::Value(e, None) => (!is_path(e)).then_some(("an expression", e.span)),
        Projection::AllOf(e) => Some(("a projection of all below", e.span)),
        Projection::Without(e) => Some(("MISSING", e.span)),
    }
}

fn is_path(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Name(_) => true,
        ExprKind::Access(base, steps) => {
            is_path(base) && steps.iter().all(|step| matches!(step, Step::Name(_)))
        }
        _ => false,
    }
}

/// The first clause of a query that only a window can have.
pub(super) fn windowed(query: &Query) -> Option<Clause> {
    let window = &query.window;
    pick([
        ("ORDER BY", window.order.first().map(|(key, _)| key.span)),
        ("LIMIT", window.limit.as_ref().map(|limit| limit.span)),
        ("OFFSET", window.offset.as_ref().map(|offset| offset.span)),
    ])
}

fn hinted(source: &Source) -> Option<Clause> {
    let directives = source.directives.first();
    pick([
        ("USE IDS", source.ids.as_ref().map(UseIds::span)),
        ("USE INDEX", source.index.as_ref().map(|index| index.span)),
        ("a directive", directives.map(|directive| directive.span)),
    ])
}

fn pick<const N: usize>(clauses: [(&'static str, Option<Span>); N]) -> Option<Clause> {
    clauses
        .into_iter()
        .find_map(|(clause, span)| span.map(|span| (clause, span)))
}

/// What of a condition looks at more than the document.
fn asks_data(expr: &Expr) -> Option<Clause> {
    match &expr.kind {
        ExprKind::Subquery(..) => return Some(("a subquery", expr.span)),
        ExprKind::Call(call) => {
            for name in ["conflicts", "document_version"] {
                if call.name.name.eq_ignore_ascii_case(name) {
                    return Some((name, expr.span));
                }
            }
        }
        _ => {}
    }
    let mut found = None;
    expr.kind
        .each_child(&mut |child| found = found.or_else(|| asks_data(child)));
    found
}
