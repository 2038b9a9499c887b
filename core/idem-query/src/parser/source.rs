//! What a statement reads from or writes to: collections with their hints, joins, subqueries, UNNEST.

use idem_model::{FieldKind, limits};

use super::Parser;
use crate::{
    ast::{Expr, ExprKind, FromItem, FromKind, Ident, Join, JoinKind, Source, Step, UseIds},
    error::{ErrorKind, QueryError},
    lexer::TokenKind,
    span::Span,
};

/// Words that may follow a source or a projected value and so are no alias without AS.
const NOT_ALIAS: [&str; 9] = [
    "CROSS",
    "DOCUMENTS",
    "EXCEPT",
    "INITIAL",
    "INTERSECT",
    "NATURAL",
    "UNION",
    "UNNEST",
    "VALUES",
];

impl Parser<'_> {
    /// What stands behind FROM: a source and what is joined to it.
    pub(super) fn from(&mut self) -> Result<Vec<FromItem>, QueryError> {
        let start = self.peek().span;
        let kind = self.source_kind()?;
        let mut items = vec![FromItem {
            join: None,
            kind,
            span: start.to(self.last_span()),
        }];
        while let Some(item) = self.joined()? {
            items.push(item);
            if items.len() > limits::CLAUSE_ITEMS_MAX {
                let most = limits::CLAUSE_ITEMS_MAX;
                return Err(self.error(start, format!("FROM has more than {most} sources")));
            }
        }
        Ok(items)
    }

    fn source_kind(&mut self) -> Result<FromKind, QueryError> {
        if !self.at_sign("(") {
            return self.source(true).map(FromKind::Collection);
        }
        self.at += 1;
        if !self.at_query_from(0) {
            return Err(self.expected("SELECT", &["SELECT"]));
        }
        let query = self.nested_query()?;
        self.expect_sign(")")?;
        match self.alias()? {
            Some(alias) => Ok(FromKind::Query(Box::new(query), alias)),
            None => Err(self
                .expected("an alias for the subquery", &[])
                .with_hint("give its rows a name: FROM (SELECT ..) AS a")),
        }
    }

    /// One more source: `[INNER | LEFT [OUTER] | RIGHT [OUTER]] JOIN source ON condition` or
    /// `[INNER | LEFT [OUTER]] [JOIN] UNNEST array [AS] alias`.
    fn joined(&mut self) -> Result<Option<FromItem>, QueryError> {
        self.refuse_join()?;
        let start = self.peek().span;
        let (mut kind, mut named) = (JoinKind::Inner, true);
        if self.eat_word("LEFT") {
            kind = JoinKind::Left;
            self.eat_word("OUTER");
        } else if self.eat_word("RIGHT") {
            kind = JoinKind::Right;
            self.eat_word("OUTER");
        } else {
            named = self.eat_word("INNER");
        }
        let join = self.eat_word("JOIN");
        let unnest = self.at_word("UNNEST") && (!join || self.unnest_follows());
        if !join && !unnest {
            return match named {
                true => Err(self.expected("JOIN or UNNEST", &["JOIN", "UNNEST"])),
                false => Ok(None),
            };
        }
        if unnest {
            if kind == JoinKind::Right {
                return Err(self
                    .unexpected(&[])
                    .with_hint("UNNEST is INNER or LEFT: its elements belong to a row before it"));
            }
            self.at += 1;
            let words = start.to(self.last_span());
            return self.unnest(kind, words).map(Some);
        }
        let words = start.to(self.last_span());
        let source = self.source_kind()?;
        if !self.at_word("ON") {
            return Err(self
                .expected("ON", &["ON"])
                .with_hint("a join has a condition: JOIN orders o ON o.customer = c._id"));
        }
        self.at += 1;
        let on = self.expr()?;
        Ok(Some(FromItem {
            join: Some(Join {
                kind,
                on: Some(on),
                span: words,
            }),
            kind: source,
            span: start.to(self.last_span()),
        }))
    }

    /// Whether UNNEST is the keyword and not a collection of that name.
    fn unnest_follows(&self) -> bool {
        match self.peek_at(1).kind {
            TokenKind::Word => !super::is_reserved(self.word(1)) || self.starts_expr(1),
            TokenKind::Quoted | TokenKind::Sign("[" | "(" | ":") => true,
            _ => false,
        }
    }

    fn unnest(&mut self, kind: JoinKind, words: Span) -> Result<FromItem, QueryError> {
        let array = self.expr()?;
        let alias = match self.alias()? {
            Some(alias) => alias,
            None => last_name(&array).ok_or_else(|| {
                self.expected("an alias for the elements", &[])
                    .with_hint("give the elements a name: UNNEST (..) AS element")
            })?,
        };
        Ok(FromItem {
            join: Some(Join {
                kind,
                on: None,
                span: words,
            }),
            kind: FromKind::Unnest(array, alias),
            span: words.to(self.last_span()),
        })
    }

    /// Joins that the language does not have.
    fn refuse_join(&self) -> Result<(), QueryError> {
        let hint = if self.at_sign(",") {
            "join with a condition: FROM a JOIN b ON b.x = a.x"
        } else if self.at_word("CROSS") {
            "for every pair of rows write JOIN .. ON true"
        } else if self.at_word("NATURAL") {
            "write the fields that must be equal: JOIN .. ON a.x = b.x"
        } else if self.at_word("FULL") {
            "write a LEFT JOIN UNION ALL a RIGHT JOIN WHERE the left side IS MISSING"
        } else {
            return Ok(());
        };
        let what = match self.at_sign(",") {
            true => "a list of sources".to_owned(),
            false => format!("{} JOIN", self.word(0).to_ascii_uppercase()),
        };
        let message = format!("{what} is not supported");
        Err(QueryError::new(ErrorKind::Unsupported, message)
            .at(self.peek().span.position(self.text))
            .with_hint(hint))
    }

    pub(super) fn alias(&mut self) -> Result<Option<Ident>, QueryError> {
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
        for (sign, what) in [(":", "a parameter"), ("(", "a subquery")] {
            if self.at_sign(sign) {
                return Err(self
                    .expected("a collection name", &[])
                    .with_hint(format!("a collection cannot be {what} here")));
            }
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
            directives: self.comment_directives()?,
        };
        if declared {
            self.expect_sign("(")?;
            source.kinds = self.clause_list(Self::declared_kind)?;
            self.expect_sign(")")?;
            source.directives.append(&mut self.comment_directives()?);
        }
        if with_alias || self.at_word("AS") {
            source.alias = self.alias()?;
            source.directives.append(&mut self.comment_directives()?);
        }
        self.hints(&mut source)?;
        Ok(source)
    }

    /// `path KIND`
    pub(super) fn declared_kind(&mut self) -> Result<(Vec<Ident>, FieldKind), QueryError> {
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

    /// `USE IDS ..`, `USE INDEX ..` and `USE DIRECTIVES ..`, each at most once, in any order.
    fn hints(&mut self, source: &mut Source) -> Result<(), QueryError> {
        let mut directives = false;
        while self.at_word("USE") {
            let start = self.advance().span;
            let twice = if self.eat_word("IDS") {
                let ids = match self.at_word("LIST") && !self.list_is_name() {
                    true => {
                        self.at += 1;
                        UseIds::List(self.expr()?)
                    }
                    false => UseIds::Each(self.comma_list(Self::expr)?),
                };
                source.ids.replace(ids).is_some()
            } else if self.eat_word("INDEX") {
                let index = self.string("the name of an index as a string")?;
                source.index.replace(index).is_some()
            } else if self.eat_word("DIRECTIVES") {
                let text = self.string("directives as a string")?;
                let mut more = self.directives(&text.name, text.span)?;
                source.directives.append(&mut more);
                std::mem::replace(&mut directives, true)
            } else {
                return Err(
                    self.expected("IDS, INDEX or DIRECTIVES", &["IDS", "INDEX", "DIRECTIVES"])
                );
            };
            if twice {
                return Err(self.error(start.to(self.last_span()), "this hint is here twice"));
            }
            source.directives.append(&mut self.comment_directives()?);
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
    pub(super) fn literal_or_object(&mut self) -> Result<Expr, QueryError> {
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

/// The last name of a path, which is the alias of its elements.
fn last_name(array: &Expr) -> Option<Ident> {
    match &array.kind {
        ExprKind::Name(name) => Some(Ident {
            name: name.clone(),
            span: array.span,
        }),
        ExprKind::Access(_, steps) => match steps.last() {
            Some(Step::Name(name)) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}
