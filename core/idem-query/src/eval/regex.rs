//! Regular expressions and SIMILAR TO patterns, compiled once and kept for the next rows.
//!
//! Matching takes time proportional to the product of text and compiled pattern, and no more: the
//! engine does not backtrack. [`Regex::cost`] is what that work counts as in the budget of a row.

use std::rc::Rc;

use idem_model::limits;

/// Compiled patterns kept per run. A statement has a few; only patterns read from rows make more.
const PATTERNS_KEPT_MAX: usize = 32;

/// Sizes of compiled patterns that are told apart, in bytes: most real patterns are of the first two.
const SIZES: [usize; 6] = [
    512,
    1024,
    4 * 1024,
    16 * 1024,
    64 * 1024,
    limits::PATTERN_BYTES_MAX,
];

/// How `regexp_like` reads a pattern.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) ignore_case: bool,
    /// `^` and `$` match at each line.
    pub(crate) lines: bool,
    /// A dot matches the end of a line too.
    pub(crate) dot_is_any: bool,
    /// Blanks and comments in the pattern do not count.
    pub(crate) blanks: bool,
}

/// The language of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Regular(Flags),
    /// SIMILAR TO with an escape character.
    Similar(Option<char>),
}

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Regex {
    inner: regex_lite::Regex,
    /// The smallest of [`SIZES`] that it fits.
    size: usize,
}

impl Regex {
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.inner.is_match(text)
    }

    /// What a match is counted as in [`limits::EXPRESSION_BYTES_MAX`]: each character may visit the
    /// whole compiled pattern, at about a nanosecond for a byte of it. So 5 MiB of text pass a
    /// pattern of 1 KiB and 20 KiB pass the largest, in 5 s at worst and nearly always in far less.
    pub(crate) fn cost(&self, text: &str) -> usize {
        text.len().saturating_mul(self.size / 256)
    }
}

type Compiled = Result<Rc<Regex>, Rc<str>>;

#[derive(Debug)]
struct Known {
    dialect: Dialect,
    pattern: String,
    compiled: Compiled,
}

/// The patterns of one run.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    known: Vec<Known>,
}

impl Patterns {
    /// The compiled pattern, or why it is none.
    pub(super) fn get(&mut self, dialect: Dialect, pattern: &str) -> Compiled {
        let known = self
            .known
            .iter()
            .find(|known| known.dialect == dialect && known.pattern == pattern);
        if let Some(known) = known {
            return known.compiled.clone();
        }
        if pattern.len() > limits::PATTERN_BYTES_MAX {
            return Err(Rc::from("the pattern is too long"));
        }
        let compiled = compile(dialect, pattern);
        if self.known.len() >= PATTERNS_KEPT_MAX {
            self.known.clear();
        }
        self.known.push(Known {
            dialect,
            pattern: pattern.to_owned(),
            compiled: compiled.clone(),
        });
        compiled
    }
}

fn compile(dialect: Dialect, pattern: &str) -> Compiled {
    let (flags, text) = match dialect {
        Dialect::Regular(flags) => (flags, pattern.to_owned()),
        Dialect::Similar(escape) => {
            let flags = Flags {
                dot_is_any: true,
                ..Flags::default()
            };
            (flags, similar(pattern, escape))
        }
    };
    let mut reason = String::new();
    for size in SIZES {
        let built = regex_lite::RegexBuilder::new(&text)
            .case_insensitive(flags.ignore_case)
            .multi_line(flags.lines)
            .dot_matches_new_line(flags.dot_is_any)
            .ignore_whitespace(flags.blanks)
            .size_limit(size)
            .build();
        match built {
            Ok(inner) => return Ok(Rc::new(Regex { inner, size })),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(Rc::from(reason))
}

/// A SIMILAR TO pattern as a regular expression over the whole text.
fn similar(pattern: &str, escape: Option<char>) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    out.push_str("^(?:");
    let mut chars = pattern.chars();
    let mut in_class = false;
    let mut in_count = false;
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            push_literal(&mut out, chars.next().unwrap_or(c));
            continue;
        }
        match c {
            '[' if !in_class => {
                in_class = true;
                out.push('[');
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '-' | '^' if in_class => out.push(c),
            _ if in_class => push_literal(&mut out, c),
            '{' => {
                in_count = true;
                out.push(c);
            }
            '}' if in_count => {
                in_count = false;
                out.push(c);
            }
            ',' if in_count => out.push(c),
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            // A plain bracket would also open what only regular expressions have, such as flags.
            '(' => out.push_str("(?:"),
            '|' | ')' | '*' | '+' | '?' => out.push(c),
            _ => push_literal(&mut out, c),
        }
    }
    out.push_str(")$");
    out
}

fn push_literal(out: &mut String, c: char) {
    // Only these: `\<` and some others have a meaning of their own.
    if r"\.+*?()|[]{}^$#&-~".contains(c) {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, pattern: &str, expected: Option<bool>) {
        let found = Patterns::default()
            .get(Dialect::Similar(Some('\\')), pattern)
            .map(|regex| regex.is_match(text));
        assert_eq!(found.ok(), expected, "{text} SIMILAR TO {pattern}");
    }

    #[test]
    fn similar_knows_its_own_signs_only() {
        check("abc", "a.c", Some(false));
        check("a.c", "a.c", Some(true));
        check("abc", "a%", Some(true));
        check("abc", "(abc|xyz)", Some(true));
        check("xyz", "abc|xyz", Some(true));
        check("xabc", "abc", Some(false));
        check("abcx", "abc|xyz", Some(false));
        check("A-12", "[A-Z]-[0-9]{2}", Some(true));
        check("123", "[0-9]{2,3}", Some(true));
        check("1234", "[0-9]{2,3}", Some(false));
        check("x", "[^a-c]", Some(true));
        check("aaa", "a+", Some(true));
        check("a$b", "a$b", Some(true));
        check("a<b>c", "a<b>c", Some(true));
        check("a\nb", "a%b", Some(true));
        check("50%", "50\\%", Some(true));
        check("500", "50\\%", Some(false));
        check("a,b", "a,b", Some(true));
        for sign in "!\"#$&',-./:;<=>@^`~".chars() {
            check(&format!("a{sign}b"), &format!("a{sign}b"), Some(true));
            check(&sign.to_string(), &format!("[x{sign}]"), Some(true));
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        check("a", "(a", None);
        check("a", "a)", None);
        check("a", "[a", None);
        check("a", "(?i)A", None);
        check("a", "*a", None);
        check("a", "((a{1000}){1000}){1000}", None);
        check("a", &"a".repeat(limits::PATTERN_BYTES_MAX + 1), None);
    }

    #[test]
    fn a_larger_pattern_costs_more() {
        let cost = |pattern: &str| {
            let dialect = Dialect::Regular(Flags::default());
            let regex = Patterns::default().get(dialect, pattern).unwrap();
            regex.cost("0123456789")
        };
        assert_eq!(cost("^ab$"), 20);
        assert!(cost("^[a-z]+@[a-z]+[.]com$") <= 40);
        assert!(cost("(abc){500}") > 100);
    }

    #[test]
    fn patterns_from_rows_do_not_pile_up() {
        let mut patterns = Patterns::default();
        for number in 0..10 * PATTERNS_KEPT_MAX {
            let regex = patterns.get(Dialect::Similar(None), &number.to_string());
            assert!(regex.unwrap().is_match(&number.to_string()));
            assert!(patterns.known.len() <= PATTERNS_KEPT_MAX);
        }
    }
}
