//! SELECT and the clauses that other statements share with it.

use idem_model::FieldKind;

use super::Parser;
use crate::{
    ast::{ExprKind, Ident, Projection, Select, Source, UseIds, Window},
    error::{ErrorKind, QueryError},
    lexer::TokenKind,
    span::Span,
};

/// Words that may follow a source or a projected value and so are no alias without AS.
const NOT_ALIAS: [&str; 4] = ["DOCUMENTS", "VALUES", "INITIAL", "UNION"];

impl Parser<'_> {
    pub(super) fn select(&mut self) -> Result<Select, QueryError> {
        self.expect_word("SELECT")?;
        let distinct = self.eat_word("DISTINCT").then(|| self.last_span());
        let projection = self.projections()?;
        if self.peek().kind == TokenKind::End {
            return Err(self
                .expected("FROM", &["FROM"])
                .with_hint("a row without a collection comes FROM system:dual"));
        }
        self.expect_word("FROM")?;
        let source = self.source(true)?;
        self.refuse_join()?;
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
            distinct,
            projection,
            source,
            filter,
            group,
            having,
            window: self.window()?,
        })
    }

    fn refuse_join(&self) -> Result<(), QueryError> {
        let joins = ["JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS"];
        let comma = self.at_sign(",");
        if comma || joins.iter().any(|word| self.at_word(word)) {
            let error = QueryError::new(ErrorKind::Unsupported, "joins are not supported yet");
            return Err(error.at(self.peek().span.position(self.text)));
        }
        Ok(())
    }

    pub(super) fn filter(&mut self) -> Result<Option<crate::ast::Expr>, QueryError> {
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
                let descending = parser.eat_word("DESC");
                if !descending {
                    parser.eat_word("ASC");
                }
                Ok((key, descending))
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

    fn alias(&mut self) -> Result<Option<Ident>, QueryError> {
        if self.eat_word("AS") {
            return self.ident("an alias").map(Some);
        }
        let excluded = NOT_ALIAS.iter().any(|word| self.at_word(word));
        match self.at_ident() && !excluded {
            true => self.ident("an alias").map(Some),
            false => Ok(None),
        }
    }

    /// `[namespace:]collection [[AS] alias] [USE ..]` or `COLLECTION collection (path KIND, ..) ..`.
    pub(super) fn source(&mut self, with_alias: bool) -> Result<Source, QueryError> {
        let declared = self.at_word("COLLECTION")
            && matches!(self.peek_at(1).kind, TokenKind::Word | TokenKind::Quoted)
            && matches!(self.peek_at(2).kind, TokenKind::Sign("("));
        if self.at_sign(":") || self.at_sign("(") {
            return Err(self
                .expected("a collection name", &[])
                .with_hint("a collection cannot be a parameter or a subquery"));
        }
        if declared {
            self.at += 1;
        }
        let mut name = self.ident("a collection name")?;
        let mut namespace = None;
        if self.eat_sign(":") {
            namespace = Some(std::mem::replace(
                &mut name,
                self.ident("a collection name")?,
            ));
        }
        let mut source = Source {
            namespace,
            name,
            kinds: Vec::new(),
            alias: None,
            ids: None,
            index: None,
        };
        if declared {
            self.expect_sign("(")?;
            source.kinds = self.clause_list(Self::declared_kind)?;
            self.expect_sign(")")?;
        }
        if with_alias || self.at_word("AS") {
            source.alias = self.alias()?;
        }
        self.hints(&mut source)?;
        Ok(source)
    }

    fn declared_kind(&mut self) -> Result<(Vec<Ident>, FieldKind), QueryError> {
        let path = self.path("a field path")?;
        let kind = match self.word(0).to_ascii_uppercase().as_str() {
            "REGISTER" => FieldKind::Register,
            "MAP" => FieldKind::Map,
            "COUNTER" | "PN_COUNTER" => FieldKind::Counter,
            "ATTACHMENT" => FieldKind::Attachment,
            _ => {
                return Err(self.expected(
                    "REGISTER, MAP, COUNTER or ATTACHMENT",
                    &["REGISTER", "MAP", "COUNTER", "ATTACHMENT"],
                ));
            }
        };
        self.at += 1;
        Ok((path, kind))
    }

    fn hints(&mut self, source: &mut Source) -> Result<(), QueryError> {
        while self.eat_word("USE") {
            if self.eat_word("IDS") {
                source.ids = Some(match self.at_word("LIST") && !self.list_is_name() {
                    true => {
                        self.at += 1;
                        UseIds::List(self.expr()?)
                    }
                    false => UseIds::Each(self.comma_list(Self::expr)?),
                });
            } else if self.eat_word("INDEX") {
                source.index = Some(self.string("the name of an index as a string")?);
            } else if self.eat_word("DIRECTIVES") {
                self.string("directives as a string")?;
            } else {
                return Err(
                    self.expected("IDS, INDEX or DIRECTIVES", &["IDS", "INDEX", "DIRECTIVES"])
                );
            }
        }
        Ok(())
    }

    /// Whether `LIST` is not followed by an expression.
    fn list_is_name(&self) -> bool {
        match self.peek_at(1).kind {
            TokenKind::End => true,
            TokenKind::Word => super::is_reserved(self.word(1)) && !self.starts_expr(1),
            TokenKind::Sign(sign) => !matches!(sign, ":" | "[" | "{" | "(" | "-"),
            _ => false,
        }
    }

    fn starts_expr(&self, offset: usize) -> bool {
        ["ARRAY", "CASE", "OBJECT", "ANY", "EVERY", "NOT", "NULL"]
            .iter()
            .any(|word| self.word(offset).eq_ignore_ascii_case(word))
    }

    /// The place of an expression's first token, for errors about a clause.
    pub(super) fn literal_or_object(&mut self) -> Result<crate::ast::Expr, QueryError> {
        let span: Span = self.peek().span;
        let value = self.expr()?;
        let mut plain = true;
        check_plain(&value.kind, &mut plain);
        match plain {
            true => Ok(value),
            false => Err(self.error(span, "expected a literal, an object or DEFAULT")),
        }
    }
}

fn check_plain(kind: &ExprKind, plain: &mut bool) {
    match kind {
        ExprKind::Literal(_) | ExprKind::Array(_) | ExprKind::Object(_) | ExprKind::Param(_) => {}
        _ => *plain = false,
    }
    kind.each_child(&mut |child| check_plain(&child.kind, plain));
}
