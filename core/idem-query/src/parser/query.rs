//! Queries: SELECT, UNION, and the clauses that other statements share with them.

use idem_model::limits;

use super::Parser;
use crate::{
    ast::{Branch, Expr, ExprKind, Projection, Query, Select, SubqueryKind, Window},
    error::QueryError,
    lexer::TokenKind,
    span::Span,
};

/// What a query inside another counts against [`limits::NESTING_LEVELS_MAX`]: reading, binding and
/// running one takes about as much stack as this many expressions.
const QUERY_LEVELS: usize = 4;

/// See [`Parser::query_goes_on`].
pub(super) enum GoesOn {
    Query(Box<Query>),
    Operand(Expr),
}

impl Parser<'_> {
    /// Whether SELECT comes.
    pub(super) fn at_query(&self) -> bool {
        self.word(0).eq_ignore_ascii_case("SELECT")
    }

    /// Whether a query comes behind so many tokens, maybe in brackets.
    pub(super) fn at_query_from(&self, mut offset: usize) -> bool {
        while matches!(self.peek_at(offset).kind, TokenKind::Sign("(")) {
            offset += 1;
        }
        self.word(offset).eq_ignore_ascii_case("SELECT")
    }

    /// A query inside another statement, without its brackets.
    pub(super) fn nested_query(&mut self) -> Result<Query, QueryError> {
        self.nested(Self::query)
    }

    /// What follows an operand `(SELECT ..)` in brackets of its own makes the whole a query:
    /// `((SELECT ..) UNION ALL ..`. Gives the operand back if nothing does.
    pub(super) fn query_goes_on(&mut self, operand: Expr) -> Result<GoesOn, QueryError> {
        let more = ["UNION", "ORDER", "LIMIT", "OFFSET"];
        match operand.kind {
            ExprKind::Subquery(SubqueryKind::Scalar, first)
                if more.iter().any(|word| self.at_word(word)) =>
            {
                let first = as_branch(*first);
                let height = self.height;
                let query = self.nested(|parser| {
                    parser.height = height;
                    parser.query_from(first)
                })?;
                Ok(GoesOn::Query(Box::new(query)))
            }
            _ => Ok(GoesOn::Operand(operand)),
        }
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Query, QueryError>,
    ) -> Result<Query, QueryError> {
        self.levels += QUERY_LEVELS;
        if self.levels > limits::NESTING_LEVELS_MAX {
            return Err(self.too_many_queries(self.peek().span));
        }
        let around = std::mem::take(&mut self.height);
        let mut query = read(self)?;
        query.levels = QUERY_LEVELS + self.height;
        self.height = around.max(query.levels);
        if query.levels > limits::NESTING_LEVELS_MAX {
            return Err(self.too_many_queries(self.last_span()));
        }
        self.levels -= QUERY_LEVELS;
        Ok(query)
    }

    fn too_many_queries(&self, span: Span) -> QueryError {
        self.too_deep(span)
            .with_hint(format!("a subquery counts as {QUERY_LEVELS} levels"))
    }

    /// `SELECT .. [UNION [ALL] SELECT ..] [ORDER BY ..] [LIMIT n] [OFFSET n]`. Branches may stand in
    /// brackets, which they need for a window of their own.
    pub(super) fn query(&mut self) -> Result<Query, QueryError> {
        let first = self.branch()?;
        self.query_from(first)
    }

    fn branch(&mut self) -> Result<Branch, QueryError> {
        if !self.eat_sign("(") {
            return self.select().map(|select| Branch::Select(Box::new(select)));
        }
        let query = self.nested_query()?;
        self.expect_sign(")")?;
        Ok(as_branch(query))
    }

    /// What follows the first branch of a query.
    pub(super) fn query_from(&mut self, first: Branch) -> Result<Query, QueryError> {
        let mut query = Query {
            branches: vec![first],
            distinct: None,
            window: Window::default(),
            levels: 0,
        };
        while self.at_word("UNION") {
            let union = self.peek().span;
            self.at += 1;
            let all = self.eat_word("ALL");
            if !all {
                self.eat_word("DISTINCT");
            }
            // Equal rows are one up to here, and not behind.
            if all && query.distinct.is_some() {
                self.height += QUERY_LEVELS;
                if self.height > limits::NESTING_LEVELS_MAX {
                    return Err(self.too_many_queries(union));
                }
                query.levels = self.height;
                query = Query {
                    branches: vec![Branch::Query(Box::new(query))],
                    distinct: None,
                    window: Window::default(),
                    levels: 0,
                };
            }
            if !all {
                query.distinct = query.distinct.or(Some(union));
            }
            let branch = self.branch()?;
            query.branches.push(branch);
            if query.branches.len() > limits::CLAUSE_ITEMS_MAX {
                let most = limits::CLAUSE_ITEMS_MAX;
                return Err(self.error(union, format!("this UNION has more than {most} selects")));
            }
        }
        for word in ["EXCEPT", "INTERSECT"] {
            if self.at_word(word) {
                return Err(self
                    .unexpected(&[])
                    .with_hint("write it as a condition: WHERE [NOT] EXISTS (SELECT ..)"));
            }
        }
        query.window = self.window()?;
        if self.at_word("UNION") && !query.window.is_empty() {
            return Err(self.unexpected(&[]).with_hint(
                "a select with its own ORDER BY, LIMIT or OFFSET stands in parentheses",
            ));
        }
        // Brackets around a whole query mean nothing.
        if query.window.is_empty() && query.branches.len() == 1 {
            match query.branches.pop() {
                Some(Branch::Query(inner)) => return Ok(*inner),
                Some(select) => query.branches.push(select),
                None => {}
            }
        }
        Ok(query)
    }

    fn select(&mut self) -> Result<Select, QueryError> {
        self.expect_word("SELECT")?;
        let directives = self.comment_directives()?;
        let distinct = self.eat_word("DISTINCT").then(|| self.last_span());
        let projection = self.projections()?;
        if matches!(self.peek().kind, TokenKind::End | TokenKind::Sign(")")) {
            return Err(self
                .expected("FROM", &["FROM"])
                .with_hint("a row without a collection comes FROM system:dual"));
        }
        self.expect_word("FROM")?;
        let from = self.from()?;
        let filter = self.filter()?;
        let mut group = Vec::new();
        if self.eat_word("GROUP") {
            self.expect_word("BY")?;
            group = self.clause_list(Self::expr)?;
        }
        let having = match self.eat_word("HAVING") {
            true => Some(self.expr()?),
            false => None,
        };
        Ok(Select {
            directives,
            distinct,
            projection,
            from,
            filter,
            group,
            having,
        })
    }

    pub(super) fn filter(&mut self) -> Result<Option<Expr>, QueryError> {
        match self.eat_word("WHERE") {
            true => Ok(Some(self.expr()?)),
            false => Ok(None),
        }
    }

    pub(super) fn window(&mut self) -> Result<Window, QueryError> {
        let mut window = Window::default();
        if self.eat_word("ORDER") {
            self.expect_word("BY")?;
            window.order = self.clause_list(|parser| {
                let key = parser.expr()?;
                Ok((key, parser.direction()))
            })?;
        }
        if self.eat_word("LIMIT") {
            window.limit = Some(self.expr()?);
        }
        if self.eat_word("OFFSET") {
            window.offset = Some(self.expr()?);
        }
        Ok(window)
    }

    /// `[ASC | DESC]`: whether it is DESC.
    pub(super) fn direction(&mut self) -> bool {
        let descending = self.eat_word("DESC");
        if !descending {
            self.eat_word("ASC");
        }
        descending
    }

    pub(super) fn returning(&mut self) -> Result<Vec<Projection>, QueryError> {
        match self.eat_word("RETURNING") {
            true => self.projections(),
            false => Ok(Vec::new()),
        }
    }

    fn projections(&mut self) -> Result<Vec<Projection>, QueryError> {
        let items = self.clause_list(Self::projection)?;
        let star = items.iter().find_map(|item| match item {
            Projection::All(span) => Some(*span),
            _ => None,
        });
        match star {
            Some(span) if items.len() > 1 => Err(self
                .error(
                    span,
                    "unqualified * with other projection elements is not supported",
                )
                .with_hint("name the collection: SELECT c.*, .. FROM orders c")),
            _ => Ok(items),
        }
    }

    fn projection(&mut self) -> Result<Projection, QueryError> {
        if self.eat_sign("*") {
            return Ok(Projection::All(self.last_span()));
        }
        if self.at_word("MISSING") && self.names_follow() {
            self.at += 1;
            let field = self.expr()?;
            return Ok(Projection::Without(field));
        }
        let value = self.expr()?;
        if self.at_sign(".") {
            self.at += 1;
            self.expect_sign("*")?;
            return Ok(Projection::AllOf(value));
        }
        Ok(Projection::Value(value, self.alias()?))
    }

    /// Whether the word after the next is a name, as in `MISSING f`.
    fn names_follow(&self) -> bool {
        match self.peek_at(1).kind {
            TokenKind::Quoted => true,
            TokenKind::Word => !super::is_reserved(self.word(1)),
            _ => false,
        }
    }
}

/// A query in brackets as a branch; the brackets are dropped if they say nothing.
fn as_branch(mut query: Query) -> Branch {
    let plain = query.window.is_empty() && query.distinct.is_none() && query.branches.len() == 1;
    match query.branches.pop() {
        Some(only) if plain => only,
        Some(last) => {
            query.branches.push(last);
            Branch::Query(Box::new(query))
        }
        None => Branch::Query(Box::new(query)),
    }
}
