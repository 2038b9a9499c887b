//! All statements but SELECT.

use idem_model::InsertConflict;

use super::Parser;
use crate::{
    ast::{
        Action, Delete, Edit, Expr, ExprKind, Ident, IndexKey, IndexKeyKind, Insert, InsertRows,
        LikeKind, Source, Statement, Step, Update,
    },
    error::QueryError,
    habits,
    lexer::TokenKind,
};

/// The words that statements begin with.
pub const STATEMENT_WORDS: [&str; 13] = [
    "SELECT", "INSERT", "UPDATE", "DELETE", "EVICT", "CREATE", "DROP", "ALTER", "SHOW", "EXPLAIN",
    "PROFILE", "ADVISE", "EXECUTE",
];

/// Statements that are about another one.
const ABOUT: [&str; 3] = ["EXPLAIN", "PROFILE", "ADVISE"];

impl Parser<'_> {
    pub(super) fn statement(&mut self) -> Result<Statement, QueryError> {
        if self.at_query_from(0) {
            return Ok(Statement::Query(Box::new(self.query()?)));
        }
        match self.word(0).to_ascii_uppercase().as_str() {
            "INSERT" => self.insert(),
            "UPDATE" => self.update(),
            "DELETE" => self.delete(false),
            "EVICT" => self.delete(true),
            "CREATE" => self.create(),
            "DROP" => self.drop_index(),
            "ALTER" => self.alter_system(),
            "SHOW" => self.show(),
            "EXECUTE" => self.execute(),
            "EXPLAIN" => {
                self.at += 1;
                Ok(Statement::Explain(self.inner()?))
            }
            "PROFILE" => {
                self.at += 1;
                Ok(Statement::Profile(self.inner()?))
            }
            "ADVISE" => {
                self.at += 1;
                let provision = self.eat_words(&["AND", "PROVISION"]);
                Ok(Statement::Advise {
                    inner: self.inner()?,
                    provision,
                })
            }
            _ => Err(self.expected("a statement", &STATEMENT_WORDS)),
        }
    }

    /// The statement that another is about.
    fn inner(&mut self) -> Result<Box<Statement>, QueryError> {
        if ABOUT.iter().any(|word| self.at_word(word)) {
            return Err(self.unexpected(&[]));
        }
        self.statement().map(Box::new)
    }

    /// `EXECUTE FUNCTION name(argument, ..)`
    fn execute(&mut self) -> Result<Statement, QueryError> {
        self.at += 1;
        self.expect_word("FUNCTION")?;
        let name = self.ident("a function name")?;
        self.expect_sign("(")?;
        let args = match self.at_sign(")") {
            true => Vec::new(),
            false => self.clause_list(Self::expr)?,
        };
        self.expect_sign(")")?;
        Ok(Statement::Execute { name, args })
    }

    fn insert(&mut self) -> Result<Statement, QueryError> {
        self.at += 1;
        self.expect_word("INTO")?;
        let target = self.source(false)?;
        let initial = self.eat_word("INITIAL");
        let rows = if !initial && self.at_query_from(0) {
            InsertRows::Query(Box::new(self.query()?))
        } else if self.eat_word("DOCUMENTS") || self.eat_word("VALUES") {
            InsertRows::Documents(self.comma_list(|parser| {
                parser.expect_sign("(")?;
                let document = parser.expr()?;
                parser.expect_sign(")")?;
                Ok(document)
            })?)
        } else {
            return Err(self.expected(
                "DOCUMENTS, VALUES, INITIAL DOCUMENTS or SELECT",
                &["DOCUMENTS", "VALUES", "INITIAL", "SELECT"],
            ));
        };
        if initial && self.at_word("ON") {
            return Err(self
                .unexpected(&[])
                .with_hint("INITIAL documents never conflict: they lose to any real write"));
        }
        let conflict = self.conflict()?;
        Ok(Statement::Insert(Insert {
            target,
            initial,
            rows,
            conflict,
            returning: self.returning()?,
        }))
    }

    fn conflict(&mut self) -> Result<InsertConflict, QueryError> {
        if !self.eat_word("ON") {
            return Ok(InsertConflict::Fail);
        }
        self.expect_word("ID")?;
        self.expect_word("CONFLICT")?;
        let with_do = self.eat_word("DO");
        for (word, needs_do, conflict) in [
            ("FAIL", false, InsertConflict::Fail),
            ("NOTHING", true, InsertConflict::DoNothing),
            ("UPDATE", true, InsertConflict::DoUpdate),
            ("UPDATE_LOCAL_DIFF", true, InsertConflict::DoUpdateLocalDiff),
        ] {
            if (with_do || !needs_do) && self.eat_word(word) {
                return Ok(conflict);
            }
        }
        Err(self.expected(
            "DO FAIL, DO NOTHING, DO UPDATE or DO UPDATE_LOCAL_DIFF",
            &["FAIL", "NOTHING", "UPDATE", "UPDATE_LOCAL_DIFF"],
        ))
    }

    fn update(&mut self) -> Result<Statement, QueryError> {
        self.at += 1;
        let target = self.source(true)?;
        let mut edits = Vec::new();
        if self.eat_word("APPLY") {
            edits.append(&mut self.clause_list(Self::counter_edit)?);
        }
        if self.eat_word("SET") {
            for more in self.clause_list(Self::set_edits)? {
                edits.extend(more);
            }
        }
        if self.eat_word("UNSET") {
            edits.append(&mut self.clause_list(|parser| {
                Ok(Edit {
                    path: parser.path("a field path")?,
                    action: Action::Unset,
                })
            })?);
        }
        if edits.is_empty() {
            return Err(self.expected("APPLY, SET or UNSET", &["APPLY", "SET", "UNSET"]));
        }
        // The v4 form `f -> tombstone()` in SET is an UNSET.
        edits.sort_by_key(|edit| matches!(edit.action, Action::Unset));
        if ["APPLY", "SET"].iter().any(|word| self.at_word(word)) {
            return Err(self
                .unexpected(&[])
                .with_hint("the clauses come in the order APPLY, SET, UNSET, WHERE"));
        }
        Ok(Statement::Update(Update {
            target,
            edits,
            filter: self.filter()?,
            window: self.window()?,
            returning: self.returning()?,
        }))
    }

    fn counter_edit(&mut self) -> Result<Edit, QueryError> {
        let path = self.path("a field path")?;
        let action = if self.eat_word("INCREMENT") || self.eat_word("PN_INCREMENT") {
            self.expect_word("BY")?;
            Action::Increment(self.expr()?)
        } else if self.eat_word("RESTART") {
            Action::Restart(match self.eat_word("WITH") {
                true => Some(self.expr()?),
                false => None,
            })
        } else {
            return Err(self.expected(
                "INCREMENT BY or RESTART",
                &["INCREMENT", "RESTART", "PN_INCREMENT"],
            ));
        };
        Ok(Edit { path, action })
    }

    /// `path = e`, or one of the v4 forms `path -> (sub = e, ..)` and `path -> tombstone()`.
    fn set_edits(&mut self) -> Result<Vec<Edit>, QueryError> {
        let path = self.path("a field path")?;
        if !self.eat_sign("->") {
            if !self.eat_sign("=") {
                return Err(self.expected("`=`", &[]));
            }
            return Ok(vec![Edit {
                path,
                action: Action::Set(self.expr()?),
            }]);
        }
        if self.eat_word("TOMBSTONE") {
            self.expect_sign("(")?;
            self.expect_sign(")")?;
            return Ok(vec![Edit {
                path,
                action: Action::Unset,
            }]);
        }
        self.levels += 1;
        if self.levels > idem_model::limits::NESTING_LEVELS_MAX {
            return Err(self.error(self.last_span(), "field path is too deep"));
        }
        self.expect_sign("(")?;
        let mut edits = self.clause_list(Self::set_edits)?.concat();
        self.expect_sign(")")?;
        self.levels -= 1;
        for edit in &mut edits {
            edit.path.splice(0..0, path.iter().cloned());
        }
        Ok(edits)
    }

    fn delete(&mut self, evict: bool) -> Result<Statement, QueryError> {
        self.at += 1;
        self.expect_word("FROM")?;
        let target = self.source(true)?;
        Ok(Statement::Delete(Delete {
            target,
            evict,
            filter: self.filter()?,
            window: self.window()?,
            returning: self.returning()?,
        }))
    }

    fn create(&mut self) -> Result<Statement, QueryError> {
        self.at += 1;
        if self.eat_word("COLLECTION") {
            return self.create_collection();
        }
        if !self.eat_word("INDEX") {
            return Err(self.expected("INDEX or COLLECTION", &["INDEX", "COLLECTION"]));
        }
        let if_not_exists = self.eat_words(&["IF", "NOT", "EXISTS"]);
        let name = self.ident("a name for the index")?;
        self.expect_word("ON")?;
        let collection = self.index_collection()?;
        self.expect_sign("(")?;
        let keys = self.clause_list(Self::index_key)?;
        self.expect_sign(")")?;
        if self.at_word("WHERE") {
            return Err(self
                .unexpected(&[])
                .with_hint("an index is over all documents of its collection"));
        }
        Ok(Statement::CreateIndex {
            name,
            collection: collection.name,
            keys,
            if_not_exists,
        })
    }

    /// `path`, an expression, or `DISTINCT array`, and a direction.
    fn index_key(&mut self) -> Result<IndexKey, QueryError> {
        let start = self.peek().span;
        let elements = self.eat_word("DISTINCT");
        if self.at_word("ALL") && self.peek_at(1).kind == TokenKind::Word {
            return Err(self
                .unexpected(&[])
                .with_hint("write DISTINCT: an element that is there twice has one entry"));
        }
        let expr = self.expr()?;
        let kind = match elements {
            true => IndexKeyKind::Elements(expr),
            false => plain_path(&expr).map_or(IndexKeyKind::Expression(expr), IndexKeyKind::Path),
        };
        let span = start.to(self.last_span());
        Ok(IndexKey {
            kind,
            descending: self.direction(),
            span,
        })
    }

    /// `CREATE COLLECTION [IF NOT EXISTS] name (path KIND, ..)`
    fn create_collection(&mut self) -> Result<Statement, QueryError> {
        let if_not_exists = self.eat_words(&["IF", "NOT", "EXISTS"]);
        let name = self.ident("a name for the collection")?;
        if !self.at_sign("(") {
            return Err(self.expected("`(`", &[]).with_hint(
                "a collection needs no creation; this declares fields: (path KIND, ..)",
            ));
        }
        self.at += 1;
        let kinds = self.clause_list(Self::declared_kind)?;
        self.expect_sign(")")?;
        Ok(Statement::CreateCollection {
            name,
            kinds,
            if_not_exists,
        })
    }

    fn drop_index(&mut self) -> Result<Statement, QueryError> {
        self.at += 1;
        self.expect_word("INDEX")?;
        let if_exists = self.eat_words(&["IF", "EXISTS"]);
        let name = self.ident("the name of an index")?;
        self.expect_word("ON")?;
        Ok(Statement::DropIndex {
            name,
            collection: self.index_collection()?.name,
            if_exists,
        })
    }

    /// A collection of the default namespace.
    fn index_collection(&mut self) -> Result<Source, QueryError> {
        let source = self.source(false)?;
        match &source.namespace {
            Some(namespace) if namespace.name != "default" => {
                Err(self.error(namespace.span, "only stored collections have indexes"))
            }
            _ => Ok(source),
        }
    }

    fn alter_system(&mut self) -> Result<Statement, QueryError> {
        self.at += 1;
        self.expect_word("SYSTEM")?;
        if self.eat_word("SET") {
            let name = self.ident("a parameter name")?;
            if !self.eat_sign("=") && !self.eat_word("TO") {
                return Err(self.expected("`=` or TO", &["TO"]));
            }
            let value: Option<Expr> = match self.eat_word("DEFAULT") {
                true => None,
                false => Some(self.literal_or_object()?),
            };
            return Ok(Statement::AlterSet { name, value });
        }
        if self.eat_word("RESET") {
            let name: Option<Ident> = match self.eat_word("ALL") {
                true => None,
                false => Some(self.ident("a parameter name or ALL")?),
            };
            return Ok(Statement::AlterReset { name });
        }
        Err(self.expected("SET or RESET", &["SET", "RESET"]))
    }

    fn show(&mut self) -> Result<Statement, QueryError> {
        // What others show has a name like that of a parameter; the hint is looked up again later.
        if habits::advice(self.text, &self.tokens, self.at).is_some() {
            self.at += 1;
            return Err(self.expected("the name of a system parameter or ALL", &[]));
        }
        self.at += 1;
        if !self.eat_word("ALL") {
            return Ok(Statement::Show {
                name: self.ident("a parameter name or ALL")?,
            });
        }
        let kind = if self.eat_word("LIKE") {
            LikeKind::Like
        } else if self.eat_word("ILIKE") {
            LikeKind::ILike
        } else {
            return Ok(Statement::ShowAll { pattern: None });
        };
        let pattern = self.expr()?;
        let escape = match self.eat_word("ESCAPE") {
            true => Some(self.expr()?),
            false => None,
        };
        Ok(Statement::ShowAll {
            pattern: Some((kind, pattern, escape)),
        })
    }
}

/// The names of an expression that is nothing but a path.
fn plain_path(expr: &Expr) -> Option<Vec<Ident>> {
    let name = |name: &String, span| Ident {
        name: name.clone(),
        span,
    };
    match &expr.kind {
        ExprKind::Name(only) => Some(vec![name(only, expr.span)]),
        ExprKind::Access(base, steps) => {
            let ExprKind::Name(first) = &base.kind else {
                return None;
            };
            std::iter::once(Some(name(first, base.span)))
                .chain(steps.iter().map(|step| match step {
                    Step::Name(name) => Some(name.clone()),
                    Step::Index(_) => None,
                }))
                .collect()
        }
        _ => None,
    }
}
