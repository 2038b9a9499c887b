//! Queries: their branches, the clauses of a select, and what ORDER BY may see.

use idem_model::Value;

use super::{
    Binder,
    expression::Place,
    scope::{Scope, Visible, VisibleKind},
};
use crate::{
    ast,
    bound::{
        FromItem, Grouping, Item, Items, Order, Output, Place as Stored, Query, ScanHints, Select,
        Window,
    },
    error::QueryError,
    expr::Expr,
    plan::{self, Access},
    source::Fields,
    span::Span,
};

impl Binder<'_> {
    /// Binds a query, whose slots begin behind those that are visible.
    pub(super) fn query(&mut self, query: &ast::Query) -> Result<Query, QueryError> {
        let outer_slots = self.slots();
        let outer_locals = self.locals.len();
        let used = std::mem::take(&mut self.used);
        let lowest_local = std::mem::replace(&mut self.lowest_local, usize::MAX);
        let columns = std::mem::take(&mut self.columns);
        let aggregates = std::mem::take(&mut self.aggregates);
        let place = self.place;

        let (branches, window) = self.branches(query)?;
        let outer_used: Vec<usize> = self.used.range(..outer_slots).copied().collect();
        let mut bound = Query {
            branches,
            distinct: query.distinct.is_some(),
            window,
            outer_slots,
            is_correlated: !outer_used.is_empty() || self.lowest_local < outer_locals,
            outer_used,
            beyond_subscription: None,
            window_clause: None,
        };
        if self.prepares {
            plan::prepare_query(&mut bound);
        }

        self.place = place;
        self.aggregates = aggregates;
        self.columns = columns;
        self.lowest_local = lowest_local.min(self.lowest_local);
        self.used = used;
        self.used.extend(&bound.outer_used);
        Ok(bound)
    }

    fn branches(&mut self, query: &ast::Query) -> Result<(Vec<Select>, Window), QueryError> {
        if let [ast::Branch::Select(select)] = query.branches.as_slice() {
            let (select, window) = self.select(select, &query.window)?;
            return Ok((vec![select], window));
        }
        let mut branches = Vec::with_capacity(query.branches.len());
        let none = ast::Window::default();
        for branch in &query.branches {
            branches.push(match branch {
                ast::Branch::Select(select) => self.select(select, &none)?.0,
                ast::Branch::Query(query) => all_of(self.slots(), self.query(query)?),
            });
        }
        let window = match branches.len() {
            // The rows of the only branch are the rows to be ordered.
            1 => self.output_window(&query.window, self.slots())?,
            _ => self.output_window(&query.window, 0)?,
        };
        Ok((branches, window))
    }

    /// ORDER BY, LIMIT and OFFSET over output rows, which stand in `slot`.
    fn output_window(&mut self, window: &ast::Window, slot: usize) -> Result<Window, QueryError> {
        let row = Visible {
            slot,
            // No name is this one, so every name is a field of the row.
            alias: String::new(),
            is_explicit: false,
            kind: VisibleKind::Rows,
        };
        let scopes = std::mem::take(&mut self.scopes);
        let used = std::mem::take(&mut self.used);
        self.scopes.push(Scope {
            sources: vec![row],
            locals: self.locals.len(),
        });
        self.place = Place::Rows("ORDER BY of a UNION");
        let bound = self.window(window)?;
        self.used = used;
        self.scopes = scopes;
        Ok(bound)
    }

    pub(super) fn window(&mut self, window: &ast::Window) -> Result<Window, QueryError> {
        let mut order = Vec::with_capacity(window.order.len());
        for (key, descending) in &window.order {
            self.warn_position("ORDER BY", key);
            let key = self.expr(key)?;
            order.push(Order {
                key,
                descending: *descending,
            });
        }
        Ok(Window {
            order,
            limit: self.bound(window.limit.as_ref(), "LIMIT")?,
            offset: self.bound(window.offset.as_ref(), "OFFSET")?,
        })
    }

    /// A number is a value here, though in SQL it is the position of a column.
    fn warn_position(&mut self, clause: &str, key: &ast::Expr) {
        let message = match key.kind {
            ast::ExprKind::Literal(Value::Int(_)) => {
                format!("{clause} takes no positions: a number is the same for all rows")
            }
            ast::ExprKind::Literal(Value::String(_)) => format!(
                "a string is the same for all rows: a name in {clause} stands bare or in backticks"
            ),
            _ => return,
        };
        self.warn(key.span, message);
    }

    /// LIMIT or OFFSET: an expression that no row changes.
    fn bound(
        &mut self,
        expr: Option<&ast::Expr>,
        clause: &'static str,
    ) -> Result<Option<(Expr, Span)>, QueryError> {
        let Some(expr) = expr else {
            return Ok(None);
        };
        let place = std::mem::replace(&mut self.place, Place::Rows(clause));
        let bound = self.expr(expr)?;
        self.place = place;
        if !bound.is_constant() {
            let message = format!("{clause} cannot use fields or subqueries");
            return Err(self.error(expr.span, message));
        }
        Ok(Some((bound, expr.span)))
    }

    fn select(
        &mut self,
        select: &ast::Select,
        window: &ast::Window,
    ) -> Result<(Select, Window), QueryError> {
        let first_slot = self.slots();
        let hints = self.select_hints(&select.directives)?;
        self.scopes.push(Scope {
            sources: Vec::with_capacity(select.from.len()),
            locals: self.locals.len(),
        });
        let mut from = self.from(&select.from, &hints)?;
        self.place = Place::Rows("WHERE");
        let mut filter = select
            .filter
            .as_ref()
            .map(|filter| self.condition(filter))
            .transpose()?;
        self.place = Place::Rows("GROUP BY");
        let mut keys = Vec::with_capacity(select.group.len());
        for key in &select.group {
            self.warn_position("GROUP BY", key);
            keys.push(self.expr(key)?);
        }
        let mut output = self.output(&select.projection, true)?;
        self.place = Place::Groups;
        let mut having = select
            .having
            .as_ref()
            .map(|having| self.condition(having))
            .transpose()?;
        let mut bound_window = self.window(window)?;
        self.columns.clear();
        let aggregates = std::mem::take(&mut self.aggregates);
        if !keys.is_empty() || !aggregates.is_empty() || having.is_some() {
            let grouping = Grouping { keys, aggregates };
            self.check_groups(
                (select, window),
                (&grouping, first_slot),
                &mut output,
                having.as_mut(),
                &mut bound_window.order,
            )?;
            output.grouping = Some(grouping);
        }
        self.scopes.pop();
        if let [only] = from.as_mut_slice()
            && matches!(only.place, Stored::Stored(_) | Stored::System(..))
        {
            only.filter = filter.take();
        }
        let bound = Select {
            from,
            filter,
            output,
            distinct: select.distinct.is_some(),
            having,
        };
        Ok((bound, bound_window))
    }

    /// The projection. With `columns`, its aliases are visible to what is bound afterwards.
    fn output(
        &mut self,
        projection: &[ast::Projection],
        columns: bool,
    ) -> Result<Output, QueryError> {
        self.place = Place::Groups;
        let mut items = Vec::with_capacity(projection.len());
        let mut without = Vec::new();
        let mut visible = Vec::new();
        for (index, item) in projection.iter().enumerate() {
            match item {
                ast::Projection::All(_) => self.use_all(),
                ast::Projection::AllOf(value) => items.push(Item::Splice(self.all_of(value)?)),
                ast::Projection::Without(field) => match self.expr(field)? {
                    Expr::Field(_, path) => without.push(path),
                    _ => {
                        return Err(self.error(field.span, "MISSING takes the path of a field"));
                    }
                },
                ast::Projection::Value(value, alias) => {
                    let bound = self.expr(value)?;
                    if let (Some(alias), true) = (alias, columns) {
                        visible.push((alias.name.clone(), bound.clone()));
                    }
                    let name = alias
                        .as_ref()
                        .map(|alias| alias.name.clone())
                        .or_else(|| column_name(value))
                        .unwrap_or_else(|| format!("(${})", index + 1));
                    items.push(Item::Value(name, bound));
                }
            }
        }
        self.columns = visible;
        let all = matches!(projection, [ast::Projection::All(_)]);
        Ok(Output {
            items: if all { Items::All } else { Items::Each(items) },
            without,
            grouping: None,
        })
    }

    /// `*` uses every source of the innermost query.
    fn use_all(&mut self) {
        if let Some(scope) = self.scopes.last() {
            self.used
                .extend(scope.sources.iter().map(|source| source.slot));
        }
    }

    /// What `e.*` is about: a whole row, if `e` is the name of its source.
    fn all_of(&mut self, value: &ast::Expr) -> Result<Expr, QueryError> {
        if let ast::ExprKind::Name(name) = &value.kind {
            let mut sources = self.scopes.iter().rev().flat_map(|scope| &scope.sources);
            if let Some(source) = sources.find(|source| source.alias == *name) {
                let slot = source.slot;
                self.used.insert(slot);
                return Ok(Expr::Row(slot));
            }
        }
        self.expr(value)
    }

    pub(super) fn returning(
        &mut self,
        projection: &[ast::Projection],
    ) -> Result<Option<Output>, QueryError> {
        if projection.is_empty() {
            return Ok(None);
        }
        let mut output = self.output(projection, false)?;
        let aggregates = std::mem::take(&mut self.aggregates);
        if !aggregates.is_empty() {
            let grouping = Grouping {
                keys: Vec::new(),
                aggregates,
            };
            self.check_output(projection, (&grouping, 0), &mut output)?;
            output.grouping = Some(grouping);
        }
        Ok(Some(output))
    }
}

/// A select of all rows of a query in brackets.
fn all_of(slot: usize, query: Query) -> Select {
    Select {
        from: vec![FromItem {
            slot,
            place: Stored::Derived(Box::new(query)),
            alias: String::new(),
            kinds: Vec::new(),
            ids: None,
            index: None,
            hints: ScanHints::default(),
            join: None,
            access: Access::default(),
            filter: None,
            fields: Fields::All,
            tested: None,
            passed: None,
        }],
        filter: None,
        output: Output {
            items: Items::All,
            without: Vec::new(),
            grouping: None,
        },
        distinct: false,
        having: None,
    }
}

/// The name that an expression gives its column by itself: the last name of a path.
fn column_name(expr: &ast::Expr) -> Option<String> {
    match &expr.kind {
        ast::ExprKind::Name(name) => Some(name.clone()),
        ast::ExprKind::Access(_, steps) => match steps.last() {
            Some(ast::Step::Name(name)) => Some(name.name.clone()),
            _ => None,
        },
        _ => None,
    }
}
