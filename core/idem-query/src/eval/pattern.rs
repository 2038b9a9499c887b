//! LIKE, ILIKE and SIMILAR TO.

use idem_model::{Value, limits};

use super::{Env, Row, Val, eval, logic::negate_if};
use crate::{ast::LikeKind, expr::Like};

/// The escape character of a pattern without ESCAPE.
pub(crate) const DEFAULT_ESCAPE: char = '\\';

/// One element of a LIKE pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Char(char),
    /// `_`
    One,
    /// `%`
    Any,
}

/// Splits a LIKE pattern; an escape at the end stands for itself.
pub(crate) fn parts(pattern: &str, escape: Option<char>) -> impl Iterator<Item = Part> {
    let mut chars = pattern.chars();
    std::iter::from_fn(move || {
        let c = chars.next()?;
        Some(match c {
            _ if Some(c) == escape => Part::Char(chars.next().unwrap_or(c)),
            '%' => Part::Any,
            '_' => Part::One,
            _ => Part::Char(c),
        })
    })
}

pub(super) fn like<'a>(like: &'a Like, env: &Env<'a>, row: &Row<'a>) -> Val<'a> {
    let value = eval(&like.value, env, row);
    let pattern = eval(&like.pattern, env, row);
    let escape = like.escape.as_ref().map(|escape| eval(escape, env, row));
    let (Some(found), Some(shape)) = (value.get(), pattern.get()) else {
        return Val::Missing;
    };
    if value.is_null() || pattern.is_null() {
        return Val::NULL;
    }
    let (Value::String(text), Value::String(pattern)) = (found, shape) else {
        env.warn(like.site.0, || {
            format!(
                "a comparison with a pattern gave MISSING: it takes strings, not {} and {}",
                found.type_name(),
                shape.type_name()
            )
        });
        return Val::Missing;
    };
    let escape = match &escape {
        None => Some(DEFAULT_ESCAPE),
        Some(escape) => match escape_char(escape) {
            Ok(escape) => escape,
            Err(()) => {
                env.warn(like.site.0, || "ESCAPE takes one character".to_owned());
                return Val::Missing;
            }
        },
    };
    let matched = match like.kind {
        LikeKind::Like => Some(matches(text, pattern, escape)),
        LikeKind::ILike => Some(matches(
            &text.to_lowercase(),
            &pattern.to_lowercase(),
            escape,
        )),
        LikeKind::Similar => similar(pattern, escape)
            .and_then(|pattern| env.regex(&pattern, false))
            .map(|regex| regex.is_match(text)),
    };
    match matched {
        Some(matched) => negate_if(like.negated, Val::bool(matched)),
        None => {
            env.warn(like.site.0, || {
                "SIMILAR TO gave MISSING: this is not a pattern".to_owned()
            });
            Val::Missing
        }
    }
}

/// The escape character; empty text turns escaping off.
fn escape_char(escape: &Val<'_>) -> Result<Option<char>, ()> {
    let Some(Value::String(text)) = escape.get() else {
        return Err(());
    };
    let mut chars = text.chars();
    let first = chars.next();
    match chars.next() {
        None => Ok(first),
        Some(_) => Err(()),
    }
}

/// Greedy matching that goes back to the last `%` only: time is at most the product of the lengths.
pub(crate) fn matches(text: &str, pattern: &str, escape: Option<char>) -> bool {
    let pattern: Vec<Part> = parts(pattern, escape).collect();
    let mut rest = text.chars();
    let mut at = 0;
    // Where to go on after the last `%` swallowed one character more.
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let part = pattern.get(at).copied();
        if part == Some(Part::Any) {
            at += 1;
            retry = Some((at, rest.clone()));
            continue;
        }
        let fits = match (part, rest.next()) {
            (None, None) => return true,
            (Some(Part::One), Some(_)) => true,
            (Some(Part::Char(wanted)), Some(found)) => wanted == found,
            (Some(_), None) => return false,
            _ => false,
        };
        if fits {
            at += 1;
            continue;
        }
        let Some((after, from)) = &mut retry else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        at = *after;
        rest = from.clone();
    }
}

/// A SIMILAR TO pattern as a regular expression over the whole text; `None` if it is too long.
fn similar(pattern: &str, escape: Option<char>) -> Option<String> {
    if pattern.len() > limits::PATTERN_BYTES_MAX {
        return None;
    }
    let mut out = String::with_capacity(pattern.len() + 12);
    out.push_str("(?s)^(?:");
    let mut chars = pattern.chars();
    let mut in_class = false;
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
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '|' | '(' | ')' | '*' | '+' | '?' | '{' | '}' => out.push(c),
            _ => push_literal(&mut out, c),
        }
    }
    out.push_str(")$");
    Some(out)
}

fn push_literal(out: &mut String, c: char) {
    if c.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_matches_whole_texts() {
        let check = |text, pattern, expected| {
            assert_eq!(
                matches(text, pattern, Some('\\')),
                expected,
                "{text} LIKE {pattern}"
            );
        };
        check("abc", "abc", true);
        check("abc", "a%", true);
        check("abc", "%c", true);
        check("abc", "%b%", true);
        check("abc", "a_c", true);
        check("abc", "a_", false);
        check("abc", "", false);
        check("", "%", true);
        check("", "_", false);
        check("aab", "%ab", true);
        check("aXbXc", "a%b%c", true);
        check("50%", "50\\%", true);
        check("500", "50\\%", false);
        check("mississippi", "m%iss%ppi", true);
        check("mississippi", "m%iss%ppx", false);
    }

    #[test]
    fn similar_knows_its_own_signs_only() {
        let check = |text: &str, pattern: &str, expected| {
            let regex = regex_lite::Regex::new(&similar(pattern, Some('\\')).unwrap()).unwrap();
            assert_eq!(
                regex.is_match(text),
                expected,
                "{text} SIMILAR TO {pattern}"
            );
        };
        check("abc", "a.c", false);
        check("a.c", "a.c", true);
        check("abc", "a%", true);
        check("abc", "(abc|xyz)", true);
        check("xabc", "abc", false);
        check("A-12", "[A-Z]-[0-9]{2}", true);
        check("aaa", "a+", true);
        check("a$b", "a$b", true);
        check("a\nb", "a%b", true);
    }
}
