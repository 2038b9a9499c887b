//! Text to tokens. Comments are left out; those with directives are listed apart.

use idem_model::limits;

use crate::{
    error::{ErrorKind, QueryError},
    span::Span,
};

/// What a token is. Words are not yet told apart: which are keywords depends on the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A bare name or keyword.
    Word,
    /// A name in backticks.
    Quoted,
    /// Text in single or double quotes.
    Text,
    /// Digits, or `0x` and hex digits.
    Int,
    /// A number with fraction or exponent.
    Float,
    /// One of the operators and brackets.
    Sign(&'static str),
    /// Behind the last token.
    End,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// Longer signs come before their prefixes.
const SIGNS: [&str; 28] = [
    "<<", ">>", "<=", ">=", "<>", "!=", "==", "||", "->", "(", ")", "[", "]", "{", "}", ",", ".",
    ":", ";", "*", "/", "%", "+", "-", "=", "<", ">", "?",
];

/// A comment that holds directives: `/*+ {..} */` or `--+ {..}`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comment {
    /// The index of the token behind it.
    pub(crate) before: usize,
    /// What is between the marks.
    pub(crate) span: Span,
}

/// Splits a statement into tokens, the last one of which is [`TokenKind::End`], and comments with
/// directives.
pub(crate) fn tokens(text: &str) -> Result<(Vec<Token>, Vec<Comment>), QueryError> {
    if text.len() > limits::STATEMENT_BYTES_MAX {
        return Err(QueryError::new(
            ErrorKind::Invalid,
            format!(
                "statement of {} bytes is over the limit of {}",
                text.len(),
                limits::STATEMENT_BYTES_MAX
            ),
        )
        .with_hint("pass the data as arguments, as in `:documents`"));
    }
    let mut lexer = Lexer {
        text,
        at: 0,
        count: 0,
        comments: Vec::new(),
    };
    let mut tokens = Vec::with_capacity(text.len() / 4 + 2);
    loop {
        let token = lexer.next()?;
        tokens.push(token);
        lexer.count += 1;
        if token.kind == TokenKind::End {
            return Ok((tokens, lexer.comments));
        }
        if tokens.len() > limits::STATEMENT_TOKENS_MAX {
            return Err(lexer.error(
                token.span,
                format!(
                    "statement has more than {} tokens",
                    limits::STATEMENT_TOKENS_MAX
                ),
            ));
        }
    }
}

/// A statement with `?` in the place of its literals and without its comments, so that it tells nothing
/// of the data. `None` if the text cannot be split into tokens, as where it was cut.
///
/// ```
/// let text = "SELECT * FROM people WHERE name = 'Ada' -- the first";
/// let shown = idem_query::without_literals(text);
/// assert_eq!(shown.as_deref(), Some("SELECT * FROM people WHERE name = ?"));
/// ```
pub fn without_literals(text: &str) -> Option<String> {
    let (tokens, _comments) = tokens(text).ok()?;
    let mut shown = String::with_capacity(text.len());
    let mut last = 0;
    for token in tokens {
        if token.span.start > last && !shown.is_empty() && token.kind != TokenKind::End {
            shown.push(' ');
        }
        last = token.span.end;
        match token.kind {
            TokenKind::Text | TokenKind::Int | TokenKind::Float => shown.push('?'),
            _ => shown.push_str(token.span.text(text)),
        }
    }
    Some(shown)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Tokens so far.
    count: usize,
    comments: Vec<Comment>,
}

impl Lexer<'_> {
    fn error(&self, span: Span, message: impl Into<String>) -> QueryError {
        QueryError::new(ErrorKind::Invalid, message).at(span.position(self.text))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn next(&mut self) -> Result<Token, QueryError> {
        self.skip_blanks()?;
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok(Token {
                kind: TokenKind::End,
                span: Span::new(start, start),
            });
        };
        let kind = match first {
            'a'..='z' | 'A'..='Z' | '_' => {
                self.take_while(is_word);
                TokenKind::Word
            }
            '0'..='9' => self.number()?,
            '\'' | '"' => {
                self.quoted(first, "string")?;
                if self.rest().starts_with(first) {
                    let span = Span::new(self.at - 1, self.at + 1);
                    return Err(self
                        .error(span, "a doubled quote is not an escape")
                        .with_hint(format!(
                            "write \\{first} for a quote inside a string, or use the other kind of quotes"
                        )));
                }
                TokenKind::Text
            }
            '`' => {
                self.quoted('`', "quoted name")?;
                TokenKind::Quoted
            }
            _ => {
                let Some(sign) = SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) else {
                    return Err(self.unknown_character(first));
                };
                self.at += sign.len();
                TokenKind::Sign(sign)
            }
        };
        Ok(Token {
            kind,
            span: Span::new(start, self.at),
        })
    }

    fn unknown_character(&self, found: char) -> QueryError {
        let span = Span::new(self.at, self.at + found.len_utf8());
        let hint = match found {
            '\u{2018}'..='\u{201f}' | '\u{2032}'..='\u{2037}' | '\u{ab}' | '\u{bb}' | '\u{b4}' => {
                "use straight quotes, ' or \", around strings"
            }
            '\u{2010}'..='\u{2015}' | '\u{2212}' => "write a plain -",
            '\u{2260}' => "write !=",
            '\u{2264}' => "write <=",
            '\u{2265}' => "write >=",
            '\u{200b}' => "there is a character here that cannot be seen: take it out",
            '!' => "write NOT, or != for `not equal`",
            '&' => "write AND",
            '~' => "write regexp_like(text, pattern) or LIKE",
            '#' => "write -- before a comment",
            '^' => "there is no power; XOR is the exclusive `or` of conditions",
            '|' => "write OR, or || to join strings",
            '$' | '@' => "a parameter is written :name",
            c if c.is_alphabetic() => "a name with other than a-z, 0-9 and _ goes into backticks",
            _ => "",
        };
        self.error(
            span,
            format!("unexpected character `{}`", found.escape_debug()),
        )
        .with_hint(hint)
    }

    fn skip_blanks(&mut self) -> Result<(), QueryError> {
        loop {
            self.take_while(|c| c.is_whitespace() || c == '\u{feff}');
            let start = self.at;
            if self.rest().starts_with("--") {
                self.take_while(|c| c != '\n');
                self.comment(start, self.at);
            } else if self.rest().starts_with("/*") {
                match self.rest()[2..].find("*/") {
                    Some(len) => {
                        self.at += 2 + len + 2;
                        self.comment(start, self.at - 2);
                    }
                    None => {
                        return Err(self.error(
                            Span::new(start, start + 2),
                            "the comment that starts here has no end",
                        ));
                    }
                }
            } else {
                return Ok(());
            }
        }
    }

    /// Notes a comment if it holds directives. `end` is where its content ends.
    fn comment(&mut self, start: usize, end: usize) {
        if self.text[start + 2..end].starts_with('+') {
            self.comments.push(Comment {
                before: self.count,
                span: Span::new(start + 3, end),
            });
        }
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !belongs(c)).unwrap_or(rest.len());
    }

    fn number(&mut self) -> Result<TokenKind, QueryError> {
        let start = self.at;
        let hex = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        let mut kind = TokenKind::Int;
        if hex {
            self.at += 2;
            self.take_while(|c| c.is_ascii_hexdigit());
        } else {
            self.take_while(|c| c.is_ascii_digit());
            let mut after = self.rest().chars();
            if after.next() == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit()) {
                self.at += 1;
                self.take_while(|c| c.is_ascii_digit());
                kind = TokenKind::Float;
            }
            let rest = self.rest();
            if rest.starts_with(['e', 'E']) {
                let digits = rest[1..].strip_prefix(['+', '-']).unwrap_or(&rest[1..]);
                if digits.starts_with(|c: char| c.is_ascii_digit()) {
                    self.at += rest.len() - digits.len();
                    self.take_while(|c| c.is_ascii_digit());
                    kind = TokenKind::Float;
                }
            }
        }
        let empty_hex = hex && self.at == start + 2;
        if empty_hex || self.rest().starts_with(is_word) {
            self.take_while(is_word);
            let span = Span::new(start, self.at);
            return Err(self
                .error(span, format!("`{}` is not a number", span.text(self.text)))
                .with_hint("a name that starts with a digit goes into backticks"));
        }
        Ok(kind)
    }

    /// Moves behind the closing quote. A backslash hides the next character in strings only.
    fn quoted(&mut self, quote: char, what: &str) -> Result<(), QueryError> {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices() {
            if escaped {
                escaped = false;
            } else if c == '\\' && quote != '`' {
                escaped = true;
            } else if c == quote {
                self.at += offset + 1;
                return Ok(());
            }
        }
        let hint = match quote {
            '`' => "another ` ends it".to_owned(),
            _ => format!("another {quote} ends it; a {quote} inside is written \\{quote}"),
        };
        Err(self
            .error(
                Span::new(start, start + 1),
                format!("the {what} that starts here has no end"),
            )
            .with_hint(hint))
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The content of a string token with its quotes: JSON escapes; an unknown escape is the character
/// itself. `Err` holds the byte range of a bad `\u` inside `raw`.
pub(crate) fn unescape(raw: &str) -> Result<String, (usize, usize)> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    let Some(first) = inner.find('\\') else {
        return Ok(inner.to_owned());
    };
    let mut out = String::with_capacity(inner.len());
    out.push_str(&inner[..first]);
    let mut at = first;
    while let Some(c) = inner[at..].chars().next() {
        at += c.len_utf8();
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(escape) = inner[at..].chars().next() else {
            break;
        };
        at += escape.len_utf8();
        match escape {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'u' => {
                let start = at - 2;
                let (c, len) = unescape_unicode(&inner[at..])
                    .ok_or((start + 1, (start + 7).min(raw.len() - 1)))?;
                out.push(c);
                at += len;
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

/// Reads `XXXX`, or `XXXX\uXXXX` for a surrogate pair; returns the character and the length.
fn unescape_unicode(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 4)?;
        let all_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| all_hex)
    };
    let high = unit(0)?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high).map(|c| (c, 4));
    }
    if text.get(4..6)? != "\\u" {
        return None;
    }
    let low = unit(6).filter(|low| (0xdc00..0xe000).contains(low))?;
    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).map(|c| (c, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_take_json_escapes() {
        let check =
            |raw: &str, expected: &str| assert_eq!(unescape(raw).unwrap(), expected, "{raw}");
        check(r"'it\'s'", "it's");
        check(r#""a\"b""#, "a\"b");
        check(r"'\q\\'", "q\\");
        check(r"'\n\t'", "\n\t");
        check(r"'caf\u00e9'", "caf\u{e9}");
        check(r"'\ud83d\ude00'", "\u{1f600}");
        assert!(unescape(r"'\ud83d'").is_err());
        assert!(unescape(r"'\u12'").is_err());
    }

    #[test]
    fn numbers_end_where_they_should() {
        let kinds = |text: &str| -> Vec<TokenKind> {
            tokens(text).unwrap().0.iter().map(|t| t.kind).collect()
        };
        use TokenKind::{End, Float, Int, Sign, Word};
        assert_eq!(kinds("1e3 1.5 0xFF 7"), [Float, Float, Int, Int, End]);
        assert_eq!(
            kinds("a[0].b"),
            [Word, Sign("["), Int, Sign("]"), Sign("."), Word, End]
        );
        assert!(tokens("12ab").is_err());
        assert!(tokens("0x").is_err());
    }

    #[test]
    fn foreign_quotes_are_explained() {
        let text = "SELECT \u{2018}t\u{2019} FROM o";
        let error = tokens(text).unwrap_err();
        assert_eq!(error.position().unwrap().column, 8);
        assert!(error.hint().unwrap().contains("straight quotes"));
        assert!(error.render(text).ends_with("around strings"));
        for (found, hint) in [
            ('\u{201c}', "straight quotes"),
            ('\u{2013}', "a plain -"),
            ('\u{2265}', "write >="),
            ('\u{200b}', "cannot be seen"),
        ] {
            let error = tokens(&format!("1 {found} 2")).unwrap_err();
            assert!(error.hint().unwrap().contains(hint), "{found:?}");
        }
    }

    #[test]
    fn comments_are_left_out_and_directives_kept_apart() {
        let text = "a -- b\n c /* d */ /*+ {} */ e --+x";
        let (tokens_found, comments) = tokens(text).unwrap();
        assert_eq!(tokens_found.len(), 4);
        let directives: Vec<(usize, &str)> = comments
            .iter()
            .map(|comment| (comment.before, comment.span.text(text)))
            .collect();
        assert_eq!(directives, [(2, " {} "), (3, "x")]);
        assert!(tokens("a /* b").is_err());
    }
}
