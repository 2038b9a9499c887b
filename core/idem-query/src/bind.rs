//! Syntax tree to statement: names are resolved, parameters get slots, clauses are checked against
//! each other, and the filter is taken apart for the planner.

mod expression;
mod from;
mod grouping;
mod hints;
mod index;
mod query;
mod scope;
mod subscription;

pub use self::hints::Directives;
pub(crate) use self::index::index_expression;

use std::collections::BTreeSet;

use idem_model::{CollectionName, FieldKind, FieldPath, InsertConflict, limits};

use self::{expression::Place, scope::Scope};
use crate::{
    ast,
    bound::{
        Action, Aggregate, Body, Delete, Edit, FromItem, Insert, InsertRows, Place as Stored, Scan,
        Update,
    },
    error::{ErrorKind, QueryError, Warning},
    expr::Expr,
    plan,
    span::Span,
};

/// System collections from which DELETE removes rows, each of which ends what it is about.
const SYSTEM_ROWS_THAT_END: [&str; 2] = ["active_requests", "request_history"];

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
    /// Whether a collection of the `system` namespace is read.
    pub(crate) reads_system: bool,
    /// What is legal and probably not meant.
    pub(crate) warnings: Vec<Warning>,
}

/// Binds a statement of `text`. With `prepares`, the planner gets it ready to be run; without, it
/// stays as it is written. `directives` hold where it says nothing else.
pub(crate) fn bind(
    text: &str,
    parsed: &ast::Parsed,
    directives: &Directives,
    prepares: bool,
) -> Result<Bound, QueryError> {
    let mut binder = Binder::new(text);
    binder.prepares = prepares;
    for span in &parsed.stray {
        binder.warn(
            *span,
            "these directives are read over: they stand at the start, behind SELECT or behind a collection",
        );
    }
    binder.statement_hints(&parsed.directives, directives)?;
    let mut body = binder.statement(&parsed.statement)?;
    if prepares {
        plan::prepare_body(&mut body);
    }
    Ok(Bound {
        body,
        params: binder.params,
        param_spans: binder.param_spans,
        collections: binder.collections,
        reads_system: binder.reads_system,
        warnings: binder.warnings,
    })
}

struct Binder<'t> {
    text: &'t str,
    prepares: bool,
    params: Vec<String>,
    param_spans: Vec<Span>,
    collections: Vec<CollectionName>,
    reads_system: bool,
    warnings: Vec<Warning>,
    /// The queries around what is being bound, the innermost last, with their sources so far.
    scopes: Vec<Scope>,
    /// The variables that are visible, the innermost last.
    locals: Vec<String>,
    /// The output columns that are visible by their alias.
    columns: Vec<(String, Expr)>,
    aggregates: Vec<Aggregate>,
    place: Place,
    /// Nodes copied from output columns so far.
    copied: usize,
    /// Slots that the query being bound has used so far, its own and those around it.
    used: BTreeSet<usize>,
    /// The outermost variable that it has used, by its position in `locals`.
    lowest_local: usize,
    /// What directives before the statement say.
    hints: hints::SelectHints,
}

impl<'t> Binder<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            prepares: true,
            params: Vec::new(),
            param_spans: Vec::new(),
            collections: Vec::new(),
            reads_system: false,
            warnings: Vec::new(),
            scopes: Vec::new(),
            locals: Vec::new(),
            columns: Vec::new(),
            aggregates: Vec::new(),
            place: Place::Rows("this statement"),
            copied: 0,
            used: BTreeSet::new(),
            lowest_local: usize::MAX,
            hints: hints::SelectHints::default(),
        }
    }

    /// Notes something legal that is probably not meant.
    fn warn(&mut self, span: Span, message: impl Into<String>) {
        if self.warnings.len() >= limits::QUERY_WARNINGS_MAX {
            return;
        }
        let warning = Warning {
            message: message.into(),
            position: Some(span.position(self.text)),
        };
        // An expression may be bound more than once.
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

impl Binder<'_> {
    #[expect(
        clippy::too_many_lines,
        reason = "one short arm for each kind of statement"
    )]
    fn statement(&mut self, statement: &ast::Statement) -> Result<Body, QueryError> {
        Ok(match statement {
            ast::Statement::Query(query) => {
                let mut bound = self.query(query)?;
                bound.beyond_subscription = subscription::beyond(query);
                bound.window_clause = subscription::windowed(query);
                Body::Select(bound)
            }
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
            ast::Statement::Profile(inner) => Body::Profile(Box::new(self.statement(inner)?)),
            ast::Statement::Advise { inner, provision } => Body::Advise {
                inner: Box::new(self.statement(inner)?),
                provision: *provision,
            },
            ast::Statement::Execute { name, args } => Body::Call {
                name: name.name.to_ascii_lowercase(),
                args: self.exprs(args)?.into_vec(),
                span: name.span,
            },
            ast::Statement::CreateCollection {
                name,
                kinds,
                if_not_exists,
            } => Body::CreateCollection {
                collection: self.writable(name)?,
                kinds: self.kinds(kinds)?,
                if_not_exists: *if_not_exists,
                span: name.span,
            },
        })
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

    /// A stored collection that statements may change.
    fn writable(&mut self, name: &ast::Ident) -> Result<CollectionName, QueryError> {
        let collection = self.stored(name)?;
        self.check_writable(&collection, name.span)?;
        Ok(collection)
    }

    fn check_writable(&self, name: &CollectionName, span: Span) -> Result<(), QueryError> {
        if !name.is_system() {
            return Ok(());
        }
        let message = format!("collection `{name}` is reserved for the system");
        Err(QueryError::new(ErrorKind::Unsupported, message)
            .at(span.position(self.text))
            .with_hint("statements may read it; CREATE COLLECTION declares kinds of fields"))
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

    /// The target of a change, which must be stored.
    fn target(&mut self, source: &ast::Source) -> Result<(FromItem, CollectionName), QueryError> {
        let bound = self.collection(source, 0)?;
        match &bound.place {
            Stored::Stored(collection) => {
                let collection = collection.clone();
                self.check_writable(&collection, source.name.span)?;
                Ok((bound, collection))
            }
            _ => Err(QueryError::new(
                ErrorKind::Unsupported,
                "system collections cannot be changed",
            )
            .at(source.name.span.position(self.text))),
        }
    }

    /// The target of UPDATE or DELETE, whose rows are visible from here on, and its filter.
    fn filtered(
        &mut self,
        mut item: FromItem,
        written: &ast::Source,
        filter: Option<&ast::Expr>,
    ) -> Result<FromItem, QueryError> {
        item.ids = self.ids(written)?;
        item.hints = item.hints.or(self.hints.scan);
        item.index = item.index.or_else(|| self.hints.index.take());
        self.scopes = vec![Scope::of(&item, written)];
        self.place = Place::Rows("WHERE");
        item.filter = filter.map(|filter| self.condition(filter)).transpose()?;
        Ok(item)
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
                let span = query.span();
                InsertRows::Select(Box::new(self.query(query)?), span)
            }
        };
        self.scopes = vec![Scope::of(&target, &insert.target)];
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
        if self.prepares {
            plan::prepare_scan(&mut scan);
        }
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
        let is_system = matches!(&delete.target.namespace, Some(name) if name.name == "system");
        let can_end = SYSTEM_ROWS_THAT_END.contains(&&*delete.target.name.name);
        let (source, collection) = if is_system && can_end && !delete.evict {
            (self.collection(&delete.target, 0)?, None)
        } else {
            let (source, collection) = self.target(&delete.target)?;
            (source, Some(collection))
        };
        let item = self.filtered(source, &delete.target, delete.filter.as_ref())?;
        self.place = Place::Rows("ORDER BY");
        let window = self.window(&delete.window)?;
        let mut scan = Scan { item, window };
        if self.prepares {
            plan::prepare_scan(&mut scan);
        }
        Ok(Delete {
            collection,
            evict: delete.evict,
            scan,
            returning: self.returning(&delete.returning)?,
        })
    }
}

fn path_span(path: &[ast::Ident]) -> Span {
    match path {
        [] => Span::default(),
        [first, .., last] => first.span.to(last.span),
        [only] => only.span,
    }
}
