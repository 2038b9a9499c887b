//! Syntax tree to statement: names are resolved, parameters get slots, clauses are checked against
//! each other, and the filter is taken apart for the planner.

mod expression;
mod grouping;

use idem_model::{CollectionName, FieldKind, FieldPath, InsertConflict, limits};

use self::expression::Place;
use crate::{
    ast,
    bound::{
        Action, Aggregate, Body, Delete, Edit, FromItem, Grouping, Insert, InsertRows, Item, Items,
        Order, Output, Place as Stored, Query, Scan, Select, Update, Window,
    },
    error::{ErrorKind, QueryError},
    expr::Expr,
    plan::{self, Access},
    source::{Fields, IndexField, IndexKey, IndexSpec},
    span::Span,
};

/// A bound statement with what the binder found on the way.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) body: Body,
    /// Names of the parameters by slot.
    pub(crate) params: Vec<String>,
    /// Where each is used first.
    pub(crate) param_spans: Vec<Span>,
    /// Stored collections that are read or written.
    pub(crate) collections: Vec<CollectionName>,
}

/// Binds a statement of `text`.
pub(crate) fn bind(text: &str, statement: &ast::Statement) -> Result<Bound, QueryError> {
    let mut binder = Binder {
        text,
        params: Vec::new(),
        param_spans: Vec::new(),
        collections: Vec::new(),
        sources: Vec::new(),
        locals: Vec::new(),
        columns: Vec::new(),
        aggregates: Vec::new(),
        place: Place::Rows("this statement"),
        copied: 0,
    };
    let mut body = binder.statement(statement)?;
    plan::prepare_body(&mut body);
    Ok(Bound {
        body,
        params: binder.params,
        param_spans: binder.param_spans,
        collections: binder.collections,
    })
}

struct Binder<'t> {
    text: &'t str,
    params: Vec<String>,
    param_spans: Vec<Span>,
    collections: Vec<CollectionName>,
    /// The sources whose rows are visible.
    sources: Vec<Visible>,
    /// The variables that are visible, the innermost last.
    locals: Vec<String>,
    /// The output columns that are visible by their alias.
    columns: Vec<(String, Expr)>,
    aggregates: Vec<Aggregate>,
    place: Place,
    /// Nodes copied from output columns so far.
    copied: usize,
}

struct Visible {
    alias: String,
    /// Whether the alias was written and is not just the collection's name.
    explicit: bool,
}

impl Binder<'_> {
    fn statement(&mut self, statement: &ast::Statement) -> Result<Body, QueryError> {
        Ok(match statement {
            ast::Statement::Query(query) => Body::Select(self.query(query)?),
            ast::Statement::Insert(insert) => Body::Insert(self.insert(insert)?),
            ast::Statement::Update(update) => Body::Update(self.update(update)?),
            ast::Statement::Delete(delete) => Body::Delete(self.delete(delete)?),
            ast::Statement::CreateIndex {
                name,
                collection,
                keys,
                if_not_exists,
            } => self.create_index(name, collection, keys, *if_not_exists)?,
            ast::Statement::DropIndex {
                name,
                collection,
                if_exists,
            } => Body::DropIndex {
                collection: self.stored(collection)?,
                name: name.name.clone(),
                if_exists: *if_exists,
                span: name.span,
            },
            ast::Statement::AlterSet { name, value } => Body::AlterSet {
                name: name.name.to_ascii_lowercase(),
                value: value.as_ref().map(|value| self.expr(value)).transpose()?,
                span: name.span,
            },
            ast::Statement::AlterReset { name } => Body::AlterReset {
                name: name
                    .as_ref()
                    .map(|name| (name.name.to_ascii_lowercase(), name.span)),
            },
            ast::Statement::Show { name } => Body::Show {
                name: name.name.to_ascii_lowercase(),
                span: name.span,
            },
            ast::Statement::ShowAll { pattern } => Body::ShowAll(match pattern {
                None => None,
                Some((kind, pattern, escape)) => Some((
                    *kind,
                    self.expr(pattern)?,
                    escape
                        .as_ref()
                        .map(|escape| self.expr(escape))
                        .transpose()?,
                )),
            }),
            ast::Statement::Explain(inner) => Body::Explain(Box::new(self.statement(inner)?)),
            ast::Statement::Profile(_) => return Err(self.unsupported("PROFILE", START)),
            ast::Statement::Advise { .. } => return Err(self.unsupported("ADVISE", START)),
            ast::Statement::Execute { name, .. } => {
                return Err(self.unsupported("EXECUTE FUNCTION", name.span));
            }
            ast::Statement::CreateCollection { name, .. } => {
                return Err(self.unsupported("CREATE COLLECTION", name.span));
            }
        })
    }

    /// For what the grammar has and this build does not.
    fn unsupported(&self, what: &str, span: Span) -> QueryError {
        QueryError::new(
            ErrorKind::Unsupported,
            format!("{what} is not supported yet"),
        )
        .at(span.position(self.text))
    }

    fn query(&mut self, query: &ast::Query) -> Result<Query, QueryError> {
        match query.branches.as_slice() {
            [ast::Branch::Select(select)] => self.select(select, &query.window),
            _ => Err(self.unsupported("UNION", query.distinct.unwrap_or(START))),
        }
    }

    /// A stored collection, noted as touched.
    fn stored(&mut self, name: &ast::Ident) -> Result<CollectionName, QueryError> {
        let collection = CollectionName::new(&name.name)
            .map_err(|error| self.error(name.span, error.to_string()))?;
        if !self.collections.contains(&collection) {
            self.collections.push(collection.clone());
        }
        Ok(collection)
    }

    /// A source without what the statement does with its rows.
    fn source(&mut self, source: &ast::Source) -> Result<FromItem, QueryError> {
        let place = match &source.namespace {
            None => Stored::Stored(self.stored(&source.name)?),
            Some(namespace) if namespace.name == "default" => {
                Stored::Stored(self.stored(&source.name)?)
            }
            Some(namespace) if namespace.name == "system" => {
                Stored::System(source.name.name.clone())
            }
            Some(namespace) => {
                return Err(self
                    .error(
                        namespace.span,
                        format!("there is no namespace `{}`", namespace.name),
                    )
                    .with_hint("the namespaces are system and default"));
            }
        };
        let alias = source.alias.as_ref().unwrap_or(&source.name);
        Ok(FromItem {
            slot: 0,
            place,
            alias: alias.name.clone(),
            kinds: self.kinds(&source.kinds)?,
            ids: None,
            index: source
                .index
                .as_ref()
                .map(|index| (index.name.clone(), index.span)),
            join: None,
            access: Access::default(),
            filter: None,
            fields: Fields::All,
        })
    }

    /// The target of a change, which must be stored.
    fn target(&mut self, source: &ast::Source) -> Result<(FromItem, CollectionName), QueryError> {
        let bound = self.source(source)?;
        match &bound.place {
            Stored::Stored(collection) => {
                let collection = collection.clone();
                Ok((bound, collection))
            }
            _ => Err(QueryError::new(
                ErrorKind::Unsupported,
                "system collections cannot be changed",
            )
            .at(source.name.span.position(self.text))),
        }
    }

    fn kinds(
        &self,
        kinds: &[(Vec<ast::Ident>, FieldKind)],
    ) -> Result<Vec<(FieldPath, FieldKind)>, QueryError> {
        let mut bound: Vec<(FieldPath, FieldKind)> = Vec::with_capacity(kinds.len());
        for (path, kind) in kinds {
            let span = path_span(path);
            let path = self.path(path)?;
            if bound.iter().any(|(known, _)| *known == path) {
                return Err(self.error(span, format!("`{path}` is declared twice")));
            }
            bound.push((path, *kind));
        }
        Ok(bound)
    }

    fn path(&self, path: &[ast::Ident]) -> Result<FieldPath, QueryError> {
        let names = path.iter().map(|name| name.name.clone()).collect();
        FieldPath::new(names).map_err(|error| self.error(path_span(path), error.to_string()))
    }

    /// Makes the rows of a source visible from here on, and binds the filter on them.
    fn filtered(
        &mut self,
        mut item: FromItem,
        written: &ast::Source,
        filter: Option<&ast::Expr>,
    ) -> Result<FromItem, QueryError> {
        self.sources = vec![Visible {
            alias: item.alias.clone(),
            explicit: written.alias.is_some(),
        }];
        self.place = Place::Rows("WHERE");
        item.filter = filter.map(|filter| self.expr(filter)).transpose()?;
        self.place = Place::Rows("USE IDS");
        let visible = std::mem::take(&mut self.sources);
        item.ids = match &written.ids {
            None => None,
            Some(_) if !matches!(item.place, Stored::Stored(_)) => {
                return Err(self.error(written.name.span, "USE IDS is for stored collections only"));
            }
            Some(ast::UseIds::List(list)) => Some(self.expr(list)?),
            Some(ast::UseIds::Each(ids)) => {
                let ids = ids
                    .iter()
                    .map(|id| self.expr(id))
                    .collect::<Result<Vec<_>, _>>()?;
                Some(Expr::Array(ids.into()))
            }
        };
        self.sources = visible;
        Ok(item)
    }

    fn window(&mut self, window: &ast::Window) -> Result<Window, QueryError> {
        let mut order = Vec::with_capacity(window.order.len());
        for (key, descending) in &window.order {
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
            return Err(self.error(expr.span, format!("{clause} cannot use fields")));
        }
        Ok(Some((bound, expr.span)))
    }

    fn select(&mut self, select: &ast::Select, window: &ast::Window) -> Result<Query, QueryError> {
        let source = match select.from.as_slice() {
            [
                ast::FromItem {
                    kind: ast::FromKind::Collection(source),
                    ..
                },
            ] => source,
            [_, item, ..] => {
                let span = item.join.as_ref().map_or(item.span, |join| join.span);
                return Err(self.unsupported("JOIN", span));
            }
            [item] => return Err(self.unsupported("a subquery in FROM", item.span)),
            [] => return Err(self.unsupported("FROM nothing", START)),
        };
        let item = self.source(source)?;
        let item = self.filtered(item, source, select.filter.as_ref())?;
        self.place = Place::Rows("GROUP BY");
        let keys = select
            .group
            .iter()
            .map(|key| self.expr(key))
            .collect::<Result<Vec<_>, _>>()?;
        let mut output = self.output(&select.projection, true)?;
        self.place = Place::Groups;
        let mut having = select
            .having
            .as_ref()
            .map(|having| self.expr(having))
            .transpose()?;
        let mut bound_window = self.window(window)?;
        self.columns.clear();
        let aggregates = std::mem::take(&mut self.aggregates);
        if !keys.is_empty() || !aggregates.is_empty() || having.is_some() {
            let grouping = Grouping { keys, aggregates };
            self.check_groups(
                (select, window),
                &grouping,
                &mut output,
                having.as_mut(),
                &mut bound_window.order,
            )?;
            output.grouping = Some(grouping);
        }
        self.sources.clear();
        let branch = Select {
            from: vec![item],
            filter: None,
            output,
            distinct: select.distinct.is_some(),
            having,
        };
        let mut query = Query {
            branches: vec![branch],
            distinct: false,
            window: bound_window,
            outer_slots: 0,
            is_correlated: false,
            beyond_subscription: beyond_subscription(select, source, window),
        };
        plan::prepare_query(&mut query);
        Ok(query)
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
                ast::Projection::All(_) => {}
                ast::Projection::AllOf(value) => {
                    let whole = match &value.kind {
                        ast::ExprKind::Name(name) => {
                            self.sources.iter().position(|source| source.alias == *name)
                        }
                        _ => None,
                    };
                    items.push(Item::Splice(match whole {
                        Some(source) => Expr::Row(source),
                        None => self.expr(value)?,
                    }));
                }
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

    fn returning(&mut self, projection: &[ast::Projection]) -> Result<Option<Output>, QueryError> {
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
            self.check_output(projection, &grouping, &mut output)?;
            output.grouping = Some(grouping);
        }
        Ok(Some(output))
    }

    fn insert(&mut self, insert: &ast::Insert) -> Result<Insert, QueryError> {
        let (target, collection) = self.target(&insert.target)?;
        if let Some(ids) = &insert.target.ids {
            return Err(self.error(ids.span(), "INSERT takes no USE IDS"));
        }
        self.place = Place::Rows("DOCUMENTS");
        let rows = match &insert.rows {
            ast::InsertRows::Documents(documents) => InsertRows::Documents(
                documents
                    .iter()
                    .map(|document| Ok((self.expr(document)?, document.span)))
                    .collect::<Result<_, QueryError>>()?,
            ),
            ast::InsertRows::Query(query) => {
                let span = match query.branches.as_slice() {
                    [ast::Branch::Select(select), ..] => {
                        select.from.first().map_or(START, |item| item.span)
                    }
                    _ => START,
                };
                InsertRows::Select(Box::new(self.query(query)?), span)
            }
        };
        self.sources = vec![Visible {
            alias: target.alias.clone(),
            explicit: insert.target.alias.is_some(),
        }];
        Ok(Insert {
            collection,
            kinds: target.kinds,
            initial: insert.initial,
            rows,
            conflict: match insert.initial {
                true => InsertConflict::DoNothing,
                false => insert.conflict,
            },
            returning: self.returning(&insert.returning)?,
        })
    }

    fn update(&mut self, update: &ast::Update) -> Result<Update, QueryError> {
        let (source, collection) = self.target(&update.target)?;
        let kinds = source.kinds.clone();
        let item = self.filtered(source, &update.target, update.filter.as_ref())?;
        let mut edits: Vec<Edit> = Vec::with_capacity(update.edits.len());
        for edit in &update.edits {
            let bound = self.edit(edit, &update.target, &kinds)?;
            edits.push(bound);
        }
        self.check_overlap(&edits)?;
        self.place = Place::Rows("ORDER BY");
        let window = self.window(&update.window)?;
        let mut scan = Scan { item, window };
        plan::prepare_scan(&mut scan);
        Ok(Update {
            collection,
            scan,
            edits,
            returning: self.returning(&update.returning)?,
        })
    }

    /// No two edits may be about one path or about a path and a part of it.
    fn check_overlap(&self, edits: &[Edit]) -> Result<(), QueryError> {
        let mut sorted: Vec<&Edit> = edits.iter().collect();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        // A path sorts directly before the paths below it.
        for pair in sorted.windows(2) {
            if pair[0].path.contains(&pair[1].path) {
                let later = pair[0].span.max_start(pair[1].span);
                let message = format!(
                    "More than one modification specified for the path `{}`",
                    pair[0].path
                );
                return Err(self.error(later, message));
            }
        }
        Ok(())
    }

    fn edit(
        &mut self,
        edit: &ast::Edit,
        target: &ast::Source,
        kinds: &[(FieldPath, FieldKind)],
    ) -> Result<Edit, QueryError> {
        let span = path_span(&edit.path);
        let alias = target.alias.as_ref().map(|alias| alias.name.as_str());
        let qualified = edit.path.len() > 1 && alias == Some(edit.path[0].name.as_str());
        let path = self.path(&edit.path[usize::from(qualified)..])?;
        if path.segments()[0] == "_id" {
            return Err(self
                .error(span, "_id cannot be changed")
                .with_hint("insert the document under the other id and delete this one"));
        }
        let kind = kinds
            .iter()
            .find(|(declared, _)| *declared == path)
            .map(|(_, kind)| *kind);
        let above = kinds
            .iter()
            .find(|(declared, _)| *declared != path && declared.contains(&path));
        if let Some((declared, FieldKind::Register | FieldKind::Attachment)) = above {
            let message = format!("Unsupported DML operation on REGISTER field `{declared}`");
            return Err(self
                .error(span, message)
                .with_hint("a register is written as a whole; declare it as MAP to edit a part"));
        }
        self.place = Place::Rows("SET");
        let is_counter = matches!(kind, None | Some(FieldKind::Counter));
        let action = match &edit.action {
            ast::Action::Set(value) => Action::Set(self.expr(value)?, kind),
            ast::Action::Unset => Action::Unset,
            ast::Action::Increment(_) | ast::Action::Restart(_) if !is_counter => {
                return Err(self.error(span, format!("`{path}` is not declared as a COUNTER")));
            }
            ast::Action::Increment(by) => Action::Increment(self.expr(by)?),
            ast::Action::Restart(to) => {
                Action::Restart(to.as_ref().map(|to| self.expr(to)).transpose()?)
            }
        };
        Ok(Edit { path, action, span })
    }

    fn delete(&mut self, delete: &ast::Delete) -> Result<Delete, QueryError> {
        let (source, collection) = self.target(&delete.target)?;
        let item = self.filtered(source, &delete.target, delete.filter.as_ref())?;
        self.place = Place::Rows("ORDER BY");
        let window = self.window(&delete.window)?;
        let mut scan = Scan { item, window };
        plan::prepare_scan(&mut scan);
        Ok(Delete {
            collection,
            evict: delete.evict,
            scan,
            returning: self.returning(&delete.returning)?,
        })
    }

    fn create_index(
        &mut self,
        name: &ast::Ident,
        collection: &ast::Ident,
        keys: &[ast::IndexKey],
        if_not_exists: bool,
    ) -> Result<Body, QueryError> {
        if name.name.is_empty() || name.name.len() > limits::COLLECTION_NAME_BYTES_MAX {
            let limit = limits::COLLECTION_NAME_BYTES_MAX;
            return Err(self.error(name.span, format!("an index name has 1 to {limit} bytes")));
        }
        if keys.len() > limits::INDEX_FIELDS_MAX {
            let limit = limits::INDEX_FIELDS_MAX;
            return Err(self.error(name.span, format!("an index has at most {limit} fields")));
        }
        let mut bound: Vec<IndexField> = Vec::with_capacity(keys.len());
        for key in keys {
            let span = key.span;
            let ast::IndexKeyKind::Path(path) = &key.kind else {
                return Err(self.unsupported("an index on an expression", span));
            };
            let path = self.path(path)?;
            let index_key = IndexKey::Path(path);
            if bound.iter().any(|field| field.key == index_key) {
                let text = index_key.text();
                return Err(self.error(span, format!("`{text}` is in the index twice")));
            }
            bound.push(IndexField {
                key: index_key,
                descending: key.descending,
            });
        }
        Ok(Body::CreateIndex {
            spec: IndexSpec {
                name: name.name.clone(),
                collection: self.stored(collection)?,
                fields: bound,
            },
            if_not_exists,
            span: name.span,
        })
    }
}

/// The place of what has none of its own.
const START: Span = Span { start: 0, end: 0 };

fn path_span(path: &[ast::Ident]) -> Span {
    match path {
        [] => Span::default(),
        [first, .., last] => first.span.to(last.span),
        [only] => only.span,
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

/// The first clause that a subscription cannot have.
fn beyond_subscription(
    select: &ast::Select,
    source: &ast::Source,
    window: &ast::Window,
) -> Option<(&'static str, Span)> {
    let first = |exprs: &[ast::Expr]| exprs.first().map(|expr| expr.span);
    let projection = match select.projection.as_slice() {
        [ast::Projection::All(_)] => None,
        [ast::Projection::AllOf(e) | ast::Projection::Value(e, _), ..] => Some(e.span),
        [ast::Projection::Without(e), ..] => Some(e.span),
        _ => Some(Span::default()),
    };
    [
        ("DISTINCT", select.distinct),
        ("a projection", projection),
        ("GROUP BY", first(&select.group)),
        ("HAVING", select.having.as_ref().map(|having| having.span)),
        ("ORDER BY", window.order.first().map(|(key, _)| key.span)),
        ("LIMIT", window.limit.as_ref().map(|limit| limit.span)),
        ("OFFSET", window.offset.as_ref().map(|offset| offset.span)),
        ("USE IDS", source.ids.as_ref().map(ast::UseIds::span)),
        ("USE INDEX", source.index.as_ref().map(|index| index.span)),
    ]
    .into_iter()
    .find_map(|(clause, span)| span.map(|span| (clause, span)))
}
