//! A parsed statement and what a caller may ask it before running it.

use std::sync::Arc;

use idem_model::{CollectionName, Object, Value};

use crate::{
    bind::{Directives, bind},
    bound::{Body, FromItem, InsertRows, Query},
    error::{ErrorKind, QueryError, Warning},
    expr::Expr,
    parser::parse_statement,
    selector::Selector,
    span::Span,
    window::Window,
};

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatementKind {
    /// Reads rows.
    Select,
    /// Adds documents.
    Insert,
    /// Edits documents.
    Update,
    /// Removes documents everywhere.
    Delete,
    /// Forgets documents on this peer.
    Evict,
    /// Makes an index.
    CreateIndex,
    /// Removes an index.
    DropIndex,
    /// Changes a system parameter.
    AlterSystem,
    /// Reads system parameters.
    Show,
    /// Declares the kinds of a collection's fields.
    CreateCollection,
    /// Calls a function of the database.
    ExecuteFunction,
    /// Describes how another statement would run.
    Explain,
    /// Names the indexes that would help another statement.
    Advise,
}

impl StatementKind {
    /// The words of the kind in lower case, such as `create index`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Evict => "evict",
            Self::CreateIndex => "create index",
            Self::DropIndex => "drop index",
            Self::AlterSystem => "alter system",
            Self::Show => "show",
            Self::Explain => "explain",
            Self::CreateCollection => "create collection",
            Self::ExecuteFunction => "execute function",
            Self::Advise => "advise",
        }
    }
}

/// A statement whose text was parsed and whose names are resolved. It holds no arguments and may be
/// kept and run many times, from many threads. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Statement {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    text: String,
    body: Body,
    params: Vec<String>,
    param_spans: Vec<Span>,
    collections: Vec<CollectionName>,
    reads_system: bool,
    warnings: Vec<Warning>,
}

/// Parses and binds one statement. The cost is linear in the text.
///
/// ```
/// use idem_model::Object;
/// let statement = idem_query::parse("SELECT * FROM orders WHERE status = :status")?;
/// assert_eq!(statement.collections()[0].as_str(), "orders");
///
/// let wrong = "SELECT * FRM orders";
/// let error = idem_query::parse(wrong).unwrap_err();
/// assert_eq!(error.hint(), Some("did you mean FROM instead of `FRM`?"));
/// println!("{}", error.render(wrong));
/// # Ok::<(), idem_query::QueryError>(())
/// ```
///
/// # Errors
/// [`QueryError`] with the position of what is wrong.
pub fn parse(text: &str) -> Result<Statement, QueryError> {
    parse_with(text, &Directives::default())
}

/// As [`parse`], with directives for where the statement says nothing else.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(text: &str, directives: &Directives) -> Result<Statement, QueryError> {
    parse_for(text, directives, true)
}

/// As [`parse`]; without `prepares` a statement that the executor cannot run, as it is written.
pub(crate) fn parse_for(
    text: &str,
    directives: &Directives,
    prepares: bool,
) -> Result<Statement, QueryError> {
    let tree = parse_statement(text)?;
    let bound = bind(text, &tree, directives, prepares)?;
    Ok(Statement {
        inner: Arc::new(Inner {
            text: text.to_owned(),
            body: bound.body,
            params: bound.params,
            param_spans: bound.param_spans,
            collections: bound.collections,
            reads_system: bound.reads_system,
            warnings: bound.warnings,
        }),
    })
}

impl Statement {
    /// What it does.
    pub fn kind(&self) -> StatementKind {
        match self.run_body() {
            Body::Select(_) => StatementKind::Select,
            Body::Insert(_) => StatementKind::Insert,
            Body::Update(_) => StatementKind::Update,
            Body::Delete(delete) if delete.evict => StatementKind::Evict,
            Body::Delete(_) => StatementKind::Delete,
            Body::CreateIndex { .. } => StatementKind::CreateIndex,
            Body::DropIndex { .. } => StatementKind::DropIndex,
            Body::AlterSet { .. } | Body::AlterReset { .. } => StatementKind::AlterSystem,
            Body::Show { .. } | Body::ShowAll(_) => StatementKind::Show,
            Body::CreateCollection { .. } => StatementKind::CreateCollection,
            Body::Call { .. } => StatementKind::ExecuteFunction,
            Body::Explain(_) | Body::Profile(_) => StatementKind::Explain,
            Body::Advise { .. } => StatementKind::Advise,
        }
    }

    /// What runs, without PROFILE around it.
    fn run_body(&self) -> &Body {
        let mut body = &self.inner.body;
        while let Body::Profile(inner) = body {
            body = inner;
        }
        body
    }

    /// Whether it needs [`crate::execute_mut`]. A DELETE from a system collection does not: it changes
    /// no document.
    pub fn is_mutating(&self) -> bool {
        if let Body::Delete(delete) = self.run_body() {
            return delete.collection.is_some();
        }
        match self.kind() {
            StatementKind::Select | StatementKind::Show | StatementKind::Explain => false,
            StatementKind::Advise => {
                matches!(
                    self.inner.body,
                    Body::Advise {
                        provision: true,
                        ..
                    }
                )
            }
            _ => true,
        }
    }

    /// The collections it reads or writes, each once, without those of the `system` namespace.
    pub fn collections(&self) -> &[CollectionName] {
        &self.inner.collections
    }

    /// Whether it reads a collection of the `system` namespace, of whose changes no commit tells.
    pub fn reads_system(&self) -> bool {
        self.inner.reads_system
    }

    /// What is legal in it and probably not meant. Every run gives these warnings too.
    pub fn warnings(&self) -> &[Warning] {
        &self.inner.warnings
    }

    /// Checks that it can be observed.
    ///
    /// # Errors
    /// [`QueryError`] if it is no SELECT.
    pub(crate) fn observable(&self) -> Result<(), QueryError> {
        match self.kind() {
            StatementKind::Select => Ok(()),
            _ => Err(QueryError::new(
                ErrorKind::Unsupported,
                "only a SELECT can be observed",
            )),
        }
    }

    /// The text it was parsed from.
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// The names of its parameters, each once, in the order of their first use.
    pub fn parameters(&self) -> &[String] {
        &self.inner.params
    }

    /// The statement as a subscription: `SELECT * FROM c [alias] [WHERE ..]`, or paths of fields in the
    /// place of `*`, and nothing else.
    ///
    /// # Errors
    /// [`QueryError`] that names the clause which a subscription cannot have, or a missing argument.
    pub fn subscription(&self, args: &Object) -> Result<Selector, QueryError> {
        let query = self.subscribed()?;
        self.refuse_clause(query.window_clause)?;
        Selector::new(&self.inner.text, query, &self.arguments(args)?)
    }

    /// The statement as a window, `SELECT * FROM c [alias] [WHERE ..] ORDER BY .. LIMIT n`; `None` if it has
    /// neither order nor limit, as a subscription of other kind.
    ///
    /// # Errors
    /// [`QueryError`] that names the clause which a subscription cannot have, what is wrong with the
    /// window, or a missing argument.
    pub fn window(&self, args: &Object) -> Result<Option<Window>, QueryError> {
        let query = self.subscribed()?;
        if query.window_clause.is_none() {
            return Ok(None);
        }
        Window::new(&self.inner.text, query, &self.arguments(args)?).map(Some)
    }

    /// The query of a subscription or a window.
    fn subscribed(&self) -> Result<&Query, QueryError> {
        let Body::Select(query) = &self.inner.body else {
            return Err(QueryError::new(
                ErrorKind::Unsupported,
                "non-SELECT statement in sync subscription",
            ));
        };
        self.refuse_clause(query.beyond_subscription)?;
        Ok(query)
    }

    fn refuse_clause(&self, clause: Option<(&'static str, Span)>) -> Result<(), QueryError> {
        if let Some((clause, span)) = clause {
            let message = format!("{clause} is not supported in sync subscription");
            let error = QueryError::new(ErrorKind::Unsupported, message)
                .with_hint(subscription_hint(clause));
            return Err(match span.end > span.start {
                true => error.at(span.position(&self.inner.text)),
                false => error,
            });
        }
        Ok(())
    }

    /// The parameter of `INSERT INTO c DOCUMENTS (:documents)`, where the statement uses it nowhere
    /// else: whoever has no more use for its argument can give it away
    /// ([`Context::with_documents`](crate::Context::with_documents)).
    pub fn documents_parameter(&self) -> Option<&str> {
        let Body::Insert(insert) = &self.inner.body else {
            return None;
        };
        let (InsertRows::Documents(documents), [name]) = (&insert.rows, &self.inner.params[..])
        else {
            return None;
        };
        let is_all = matches!(documents[..], [(Expr::Param(_), _)]) && insert.returning.is_none();
        is_all.then_some(name.as_str())
    }

    pub(crate) fn body(&self) -> &Body {
        &self.inner.body
    }

    /// The arguments by slot. Their floats are finite: of applications that make values of their own
    /// this is the door.
    pub(crate) fn arguments<'a>(&self, args: &'a Object) -> Result<Vec<&'a Value>, QueryError> {
        self.inner
            .params
            .iter()
            .zip(&self.inner.param_spans)
            .map(|(name, span)| {
                let error = |message| {
                    QueryError::new(ErrorKind::ArgumentsInvalid, message)
                        .at(span.position(&self.inner.text))
                };
                let value = args.get(name).ok_or_else(|| {
                    error(format!("Parameter {name} was not provided"))
                        .with_hint(argument_hint(name, args))
                })?;
                match value.is_finite() {
                    true => Ok(value),
                    false => Err(error(not_finite(name))),
                }
            })
            .collect()
    }
}

/// What is wrong with the argument of a parameter that holds NaN or an infinity.
pub(crate) fn not_finite(name: &str) -> String {
    format!("Parameter {name} holds a number that is not finite")
}

/// Why a subscription cannot have a clause, and what to write instead.
fn subscription_hint(clause: &str) -> &'static str {
    match clause {
        "AS" | "an expression" | "a projection of all below" | "MISSING" => {
            "a subscription takes all fields with *, or some by their paths, such as SELECT _id, name, \
             address.city FROM collection; compute and rename in the query on this peer"
        }
        "DISTINCT" | "GROUP BY" | "HAVING" => {
            "a subscription brings documents, or some of their fields; group in the query on this peer"
        }
        _ => "a subscription is SELECT * | path, .. FROM collection [WHERE condition]",
    }
}

fn argument_hint(name: &str, args: &Object) -> String {
    match args.keys().find(|given| given.eq_ignore_ascii_case(name)) {
        Some(given) => format!("`{given}` was provided: names are case-sensitive"),
        None => crate::spelling::nearest(name, args.keys().map(String::as_str))
            .map(|given| format!("did you mean `{given}`?"))
            .unwrap_or_default(),
    }
}

impl Query {
    /// Its first source.
    pub(crate) fn single(&self) -> &FromItem {
        &self.branches[0].from[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An argument that is taken is gone: nothing else may look at it.
    #[test]
    fn only_documents_that_nothing_else_looks_at_are_given_away() {
        let check = |text: &str, expected: Option<&str>| {
            let statement = parse(text).unwrap();
            assert_eq!(statement.documents_parameter(), expected, "{text}");
        };
        check("INSERT INTO c DOCUMENTS (:d)", Some("d"));
        let update = "INSERT INTO c DOCUMENTS (:d) ON ID CONFLICT DO UPDATE";
        check(update, Some("d"));
        check("INSERT INTO c DOCUMENTS (:d), (:d)", None);
        check("INSERT INTO c DOCUMENTS (:d), (:e)", None);
        check("INSERT INTO c DOCUMENTS (:d) RETURNING :d AS given", None);
        check("INSERT INTO c DOCUMENTS ({'a': :d})", None);
        check("PROFILE INSERT INTO c DOCUMENTS (:d)", None);
        check("UPDATE c SET a = :d", None);
        check("SELECT :d FROM c", None);
    }
}
