//! Tokens to a syntax tree, by recursive descent.

mod directives;
mod expression;
pub(crate) mod precedence;
mod query;
mod source;
mod statement;

use idem_model::limits;

pub use self::statement::STATEMENT_WORDS;
use crate::{
    ast::{Expr, Ident, Parsed, Statement},
    error::{ErrorKind, QueryError},
    habits,
    lexer::{Comment, Token, TokenKind, tokens},
    span::Span,
    spelling,
};

/// Words that cannot be a bare name, because the grammar would read on at most places where a name
/// may stand. All others are keywords by their place only.
const RESERVED: [&str; 52] = [
    "AND",
    "ANY",
    "APPLY",
    "ARRAY",
    "AS",
    "BETWEEN",
    "CASE",
    "DELETE",
    "DISTINCT",
    "ELSE",
    "END",
    "EVERY",
    "EVICT",
    "FALSE",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INSERT",
    "INTO",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MISSING",
    "NOT",
    "NULL",
    "OBJECT",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "RETURNING",
    "RIGHT",
    "SATISFIES",
    "SELECT",
    "SET",
    "SIMILAR",
    "THEN",
    "TRUE",
    "UNSET",
    "UPDATE",
    "USE",
    "WHEN",
    "WHERE",
    "WITHIN",
];

/// The words that clauses begin with.
const CLAUSES: [&str; 16] = [
    "WHERE",
    "GROUP BY",
    "HAVING",
    "ORDER BY",
    "LIMIT",
    "OFFSET",
    "USE IDS",
    "JOIN",
    "UNNEST",
    "UNION",
    "SET",
    "UNSET",
    "APPLY",
    "RETURNING",
    "FROM",
    "ON ID CONFLICT",
];

/// Reads one expression and nothing else.
pub(crate) fn parse_expression(text: &str) -> Result<Expr, QueryError> {
    let mut parser = Parser::new(text)?;
    let expr = parser.expr()?;
    match parser.peek().kind {
        TokenKind::End => Ok(expr),
        _ => Err(parser.unexpected(&[])),
    }
}

/// Reads one statement; a semicolon may end it.
pub(crate) fn parse_statement(text: &str) -> Result<Parsed, QueryError> {
    let mut parser = Parser::new(text)?;
    whole_statement(&mut parser).map_err(|error| {
        match habits::advice(text, &parser.tokens, parser.at) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    })
}

fn whole_statement(parser: &mut Parser<'_>) -> Result<Parsed, QueryError> {
    let directives = parser.comment_directives()?;
    let statement = parser.statement()?;
    parser.eat_sign(";");
    if parser.peek().kind != TokenKind::End {
        return Err(parser.clause_or_end(&statement));
    }
    parser.skip_comments(usize::MAX);
    Ok(Parsed {
        statement,
        directives,
        stray: std::mem::take(&mut parser.stray),
    })
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    /// How many expressions the current one is inside of.
    levels: usize,
    /// Height of the highest expression since the query began that is being read.
    height: usize,
    comments: Vec<Comment>,
    /// The first of the comments that no place has taken.
    comment: usize,
    /// Comments that no place took.
    stray: Vec<Span>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self, QueryError> {
        let (tokens, comments) = tokens(text)?;
        Ok(Self {
            text,
            tokens,
            at: 0,
            levels: 0,
            height: 0,
            comments,
            comment: 0,
            stray: Vec::new(),
        })
    }
}

impl Parser<'_> {
    fn peek(&self) -> Token {
        self.peek_at(0)
    }

    fn peek_at(&self, offset: usize) -> Token {
        let last = self.tokens.len() - 1;
        self.tokens[(self.at + offset).min(last)]
    }

    fn advance(&mut self) -> Token {
        let token = self.peek();
        if token.kind != TokenKind::End {
            self.at += 1;
        }
        token
    }

    /// The place just read.
    fn last_span(&self) -> Span {
        match self.at {
            0 => Span::default(),
            at => self.tokens[at - 1].span,
        }
    }

    fn word(&self, offset: usize) -> &str {
        let token = self.peek_at(offset);
        match token.kind {
            TokenKind::Word => token.span.text(self.text),
            _ => "",
        }
    }

    fn at_word(&self, keyword: &str) -> bool {
        self.word(0).eq_ignore_ascii_case(keyword)
    }

    fn at_words(&self, keywords: &[&str]) -> bool {
        keywords
            .iter()
            .enumerate()
            .all(|(offset, keyword)| self.word(offset).eq_ignore_ascii_case(keyword))
    }

    fn eat_word(&mut self, keyword: &str) -> bool {
        self.eat_words(&[keyword])
    }

    fn eat_words(&mut self, keywords: &[&str]) -> bool {
        let found = self.at_words(keywords);
        if found {
            self.at += keywords.len();
        }
        found
    }

    fn expect_word(&mut self, keyword: &'static str) -> Result<(), QueryError> {
        if self.eat_word(keyword) {
            Ok(())
        } else {
            Err(self.expected(keyword, &[keyword]))
        }
    }

    fn at_sign(&self, sign: &str) -> bool {
        matches!(self.peek().kind, TokenKind::Sign(found) if found == sign)
    }

    fn eat_sign(&mut self, sign: &str) -> bool {
        let found = self.at_sign(sign);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect_sign(&mut self, sign: &'static str) -> Result<(), QueryError> {
        if self.eat_sign(sign) {
            Ok(())
        } else {
            Err(self.expected(&format!("`{sign}`"), &[]))
        }
    }

    /// A name: bare and not reserved, or in backticks.
    fn ident(&mut self, what: &str) -> Result<Ident, QueryError> {
        let token = self.peek();
        let shown = token.span.text(self.text);
        match token.kind {
            TokenKind::Quoted => {
                self.at += 1;
                Ok(Ident {
                    name: shown[1..shown.len() - 1].to_owned(),
                    span: token.span,
                })
            }
            TokenKind::Word if !is_reserved(shown) => {
                self.at += 1;
                Ok(Ident {
                    name: shown.to_owned(),
                    span: token.span,
                })
            }
            TokenKind::Word => Err(self.expected(what, &[]).with_hint(format!(
                "`{shown}` is a keyword; as a name it goes into backticks: `{shown}`"
            ))),
            _ => Err(self.expected(what, &[])),
        }
    }

    /// A name behind a dot, where every word is one.
    fn member(&mut self) -> Result<Ident, QueryError> {
        let token = self.peek();
        if token.kind == TokenKind::Word {
            self.at += 1;
            return Ok(Ident {
                name: token.span.text(self.text).to_owned(),
                span: token.span,
            });
        }
        self.ident("a field name")
    }

    /// Whether a bare or quoted name comes next.
    fn at_ident(&self) -> bool {
        match self.peek().kind {
            TokenKind::Quoted => true,
            TokenKind::Word => !is_reserved(self.word(0)),
            _ => false,
        }
    }

    /// `name.name..`, for the places where only a plain path may stand.
    fn path(&mut self, what: &str) -> Result<Vec<Ident>, QueryError> {
        let mut path = vec![self.ident(what)?];
        while self.eat_sign(".") {
            path.push(self.member()?);
            if path.len() > limits::FIELD_PATH_SEGMENTS_MAX {
                return Err(self.error(
                    self.last_span(),
                    format!(
                        "field path has more than {} segments",
                        limits::FIELD_PATH_SEGMENTS_MAX
                    ),
                ));
            }
        }
        if self.at_sign("[") {
            return Err(self
                .error(self.peek().span, "an array element cannot be named here")
                .with_hint("arrays are written as a whole"));
        }
        Ok(path)
    }

    fn comma_list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, QueryError>,
    ) -> Result<Vec<T>, QueryError> {
        let mut items = vec![item(self)?];
        while self.eat_sign(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A list whose items are compared with each other later, so that its length is bounded.
    fn clause_list<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T, QueryError>,
    ) -> Result<Vec<T>, QueryError> {
        let span = self.peek().span;
        let items = self.comma_list(item)?;
        match items.len() > limits::CLAUSE_ITEMS_MAX {
            true => Err(self.error(
                span,
                format!("this list has more than {} items", limits::CLAUSE_ITEMS_MAX),
            )),
            false => Ok(items),
        }
    }

    fn error(&self, span: Span, message: impl Into<String>) -> QueryError {
        QueryError::new(ErrorKind::Invalid, message).at(span.position(self.text))
    }

    fn found(&self) -> String {
        let token = self.peek();
        match token.kind {
            TokenKind::End => "the end of the statement".to_owned(),
            _ => {
                let shown: String = token.span.text(self.text).chars().take(40).collect();
                match token.kind {
                    TokenKind::Quoted | TokenKind::Text => shown,
                    _ => format!("`{shown}`"),
                }
            }
        }
    }

    /// "expected X, found Y" at the next token; `keywords` feed the suggestion.
    fn expected(&self, what: &str, keywords: &[&'static str]) -> QueryError {
        let message = format!("expected {what}, found {}", self.found());
        self.error(self.peek().span, message)
            .with_hint(self.suggestion(keywords))
    }

    /// What is wrong where a statement should have ended: a misspelled clause, or one in a wrong place.
    fn clause_or_end(&self, statement: &Statement) -> QueryError {
        let error = self.unexpected(&CLAUSES);
        let is_clause = CLAUSES.iter().any(|clause| {
            let first = clause.split(' ').next();
            first.is_some_and(|word| self.at_word(word))
        });
        let order = match statement {
            _ if !is_clause => return error,
            Statement::Query(_) if self.at_word("RETURNING") => {
                return error.with_hint("RETURNING is for INSERT, UPDATE, DELETE and EVICT");
            }
            Statement::Query(_) => "FROM, WHERE, GROUP BY, HAVING, ORDER BY, LIMIT, OFFSET",
            Statement::Insert(_) => "DOCUMENTS, ON ID CONFLICT, RETURNING",
            Statement::Update(_) => "APPLY, SET, UNSET, WHERE, ORDER BY, LIMIT, OFFSET, RETURNING",
            Statement::Delete(_) => "FROM, WHERE, ORDER BY, LIMIT, OFFSET, RETURNING",
            _ => return error,
        };
        error.with_hint(format!("the clauses come in the order {order}"))
    }

    fn unexpected(&self, keywords: &[&'static str]) -> QueryError {
        let message = format!("unexpected {}", self.found());
        self.error(self.peek().span, message)
            .with_hint(self.suggestion(keywords))
    }

    /// The keyword that the next word, or the one before it, is a misspelling of: a misspelled
    /// clause is often read as an alias, and the error shows one word late.
    fn suggestion(&self, keywords: &[&'static str]) -> String {
        let before = match self.at.checked_sub(1).map(|at| self.tokens[at]) {
            Some(token) if token.kind == TokenKind::Word => token.span.text(self.text),
            _ => "",
        };
        [self.word(0), before]
            .into_iter()
            .filter(|word| !word.is_empty() && !is_reserved(word))
            .find_map(|word| {
                spelling::nearest(word, keywords.iter().copied())
                    .map(|keyword| format!("did you mean {keyword} instead of `{word}`?"))
            })
            .unwrap_or_default()
    }
}

pub(crate) fn is_reserved(word: &str) -> bool {
    // Words are short; longer ones are names.
    let mut upper = [0u8; 9];
    let Some(slot) = upper.get_mut(..word.len()) else {
        return false;
    };
    slot.copy_from_slice(word.as_bytes());
    slot.make_ascii_uppercase();
    let upper = &*slot;
    RESERVED
        .binary_search_by(|keyword| keyword.as_bytes().cmp(upper))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_lists_the_reserved_words() {
        let page = include_str!("../../../docs/dql/words.md");
        let (_, list) = page.split_once("## Reserved words").unwrap();
        let listed: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
        let listed: Vec<&str> = listed
            .into_iter()
            .filter(|it| *it == it.to_uppercase())
            .collect();
        assert_eq!(listed, RESERVED);
    }

    use crate::ast::{Branch, Directive, FromKind, Statement};

    #[test]
    fn the_reserved_words_are_in_order_and_fit_the_buffer() {
        assert!(RESERVED.is_sorted());
        assert!(RESERVED.iter().all(|word| word.len() <= 9));
        assert!(is_reserved("select") && is_reserved("SATISFIES") && !is_reserved("status"));
    }

    #[test]
    fn directives_are_read_where_they_may_stand_and_noted_elsewhere() {
        let text = "/*+ {\"#a\": 1} */ SELECT --+ {\"#b\": 2}\n * FROM c /*+ {\"#c\": 3} */ x \
                    USE DIRECTIVES '{\"#d\": 4}' WHERE /*+ {\"#e\": 5} */ true --+ {\"#f\": 6}";
        let parsed = parse_statement(text).unwrap();
        let names = |directives: &[Directive]| -> Vec<String> {
            let name = |one: &Directive| format!("{} {}", one.name, one.span.text(text).len());
            directives.iter().map(name).collect()
        };
        assert_eq!(names(&parsed.directives), ["#a 11"]);
        let stray: Vec<&str> = parsed.stray.iter().map(|span| span.text(text)).collect();
        assert_eq!(stray, [" {\"#e\": 5} ", " {\"#f\": 6}"]);
        let Statement::Query(query) = parsed.statement else {
            panic!("not a query");
        };
        let [Branch::Select(select)] = query.branches.as_slice() else {
            panic!("not a select");
        };
        assert_eq!(names(&select.directives), ["#b 10"]);
        let FromKind::Collection(source) = &select.from[0].kind else {
            panic!("not a collection");
        };
        assert_eq!(names(&source.directives), ["#c 11", "#d 11"]);
    }
}
