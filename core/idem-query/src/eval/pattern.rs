//! LIKE, ILIKE and SIMILAR TO.

use idem_model::Value;

use super::{Dialect, Env, Row, Val, eval, logic::negate_if};
use crate::{ast::LikeKind, expr::Like};

/// The escape character of a pattern without ESCAPE.
pub(crate) const DEFAULT_ESCAPE: char = '\\';

/// Characters compared by a LIKE that cost one byte of [`idem_model::limits::EXPRESSION_BYTES_MAX`]:
/// 40 million for one row, about half a second. Real patterns compare a character once or twice.
const STEPS_PER_BYTE: usize = 2;

/// One element of a LIKE pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Char(char),
    /// `_`
    One,
    /// `%`
    Any,
}

/// The elements of a LIKE pattern; an escape at the end stands for itself.
#[derive(Debug, Clone)]
pub(crate) struct Parts<'p> {
    chars: std::str::Chars<'p>,
    escape: Option<char>,
}

impl Iterator for Parts<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let c = self.chars.next()?;
        Some(match c {
            _ if Some(c) == self.escape => Part::Char(self.chars.next().unwrap_or(c)),
            '%' => Part::Any,
            '_' => Part::One,
            _ => Part::Char(c),
        })
    }
}

/// Splits a LIKE pattern.
pub(crate) fn parts(pattern: &str, escape: Option<char>) -> Parts<'_> {
    Parts {
        chars: pattern.chars(),
        escape,
    }
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
    let name = match like.kind {
        LikeKind::Like => "LIKE",
        LikeKind::ILike => "ILIKE",
        LikeKind::Similar => "SIMILAR TO",
    };
    let (Value::String(text), Value::String(pattern)) = (found, shape) else {
        env.warn(like.site.0, || {
            format!(
                "{name} gave MISSING: it takes strings, found {} and {}",
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
                env.warn(like.site.0, || {
                    format!(
                        "{name} gave MISSING: ESCAPE takes a string of one character, found {}",
                        escape.get().map_or("missing".to_owned(), shown)
                    )
                });
                return Val::Missing;
            }
        },
    };
    let pay = &mut |steps: usize| env.spend(steps / STEPS_PER_BYTE);
    let matched = match like.kind {
        LikeKind::Like => matches(text, pattern, escape, false, pay).ok_or(TOO_LONG.into()),
        LikeKind::ILike => matches(text, pattern, escape, true, pay).ok_or(TOO_LONG.into()),
        LikeKind::Similar => {
            env.regex(Dialect::Similar(escape), pattern)
                .and_then(|regex| match env.spend(regex.cost(text)) {
                    true => Ok(regex.is_match(text)),
                    false => Err(TOO_LONG.into()),
                })
        }
    };
    match matched {
        Ok(matched) => negate_if(like.negated, Val::bool(matched)),
        Err(reason) => {
            env.warn(like.site.0, || format!("{name} gave MISSING: {reason}"));
            Val::Missing
        }
    }
}

const TOO_LONG: &str = "text and pattern are too long";

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() <= 10 => format!("'{text}'"),
        other => other.type_name().to_owned(),
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

/// Whether the whole text is of the pattern. `pay` is told of every few thousand characters that
/// were compared; when it is false, the answer is `None`.
///
/// A pattern of `%` and plain text takes time proportional to text and pattern. Else the matching
/// goes back to the last `%` only: time is at most the product of the lengths.
pub(crate) fn matches(
    text: &str,
    pattern: &str,
    escape: Option<char>,
    ignore_case: bool,
    pay: &mut dyn FnMut(usize) -> bool,
) -> Option<bool> {
    let plain = |c: char| c != '_' && Some(c) != escape;
    if !ignore_case && pattern.chars().all(plain) {
        return Some(matches_plain(text, pattern));
    }
    const STEPS: usize = 4096;
    let fold = match ignore_case {
        true => lower,
        false => |c| c,
    };
    let mut rest = text.chars();
    let mut wanted = parts(pattern, escape);
    // Where to go on after the last `%` swallowed one character more.
    let mut retry: Option<(Parts<'_>, std::str::Chars<'_>)> = None;
    let mut steps = 0;
    loop {
        steps += 1;
        if steps % STEPS == 0 && !pay(STEPS) {
            return None;
        }
        let part = wanted.next();
        if part == Some(Part::Any) {
            retry = Some((wanted.clone(), rest.clone()));
            continue;
        }
        let fits = match (part, rest.next()) {
            (None, None) => return Some(true),
            (Some(Part::One), Some(_)) => true,
            (Some(Part::Char(wanted)), Some(found)) => fold(wanted) == fold(found),
            (Some(_), None) => return Some(false),
            _ => false,
        };
        if fits {
            continue;
        }
        let Some((after, from)) = &mut retry else {
            return Some(false);
        };
        if from.next().is_none() {
            return Some(false);
        }
        wanted = after.clone();
        rest = from.clone();
    }
}

/// The first place of each piece between two `%` is as good as any later one.
fn matches_plain(text: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('%');
    let Some(mut rest) = pieces.next().and_then(|start| text.strip_prefix(start)) else {
        return false;
    };
    let Some(mut piece) = pieces.next() else {
        return rest.is_empty();
    };
    for next in pieces {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
        piece = next;
    }
    rest.ends_with(piece)
}

/// The character in lower case, itself where that is not one character.
fn lower(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(text: &str, pattern: &str, ignore_case: bool) -> bool {
        matches(text, pattern, Some('\\'), ignore_case, &mut |_| true).unwrap()
    }

    #[test]
    fn like_matches_whole_texts() {
        let check = |text, pattern, expected| {
            assert_eq!(run(text, pattern, false), expected, "{text} LIKE {pattern}");
        };
        check("abc", "abc", true);
        check("abc", "a%", true);
        check("abc", "%c", true);
        check("abc", "%b%", true);
        check("abc", "a_c", true);
        check("abc", "a_", false);
        check("abc", "", false);
        check("", "", true);
        check("", "%", true);
        check("", "_", false);
        check("aab", "%ab", true);
        check("aa", "a%a", true);
        check("a", "a%a", false);
        check("aXbXc", "a%b%c", true);
        check("50%", "50\\%", true);
        check("500", "50\\%", false);
        check("mississippi", "m%iss%ppi", true);
        check("mississippi", "m%iss%ppx", false);
        check("caf\u{e9}", "caf_", true);
    }

    #[test]
    fn ilike_folds_characters_and_not_the_escape() {
        assert!(run("ABC", "a_c", true));
        assert!(run("\u{c9}t\u{c9}", "%\u{e9}", true));
        let escaped = matches("50%", "50E%", Some('E'), true, &mut |_| true);
        assert_eq!(escaped, Some(true));
        let escaped = matches("500", "50E%", Some('E'), true, &mut |_| true);
        assert_eq!(escaped, Some(false));
    }

    #[test]
    fn a_long_match_is_paid_for_and_can_end() {
        let text = "a".repeat(100_000);
        let pattern = format!("%{}_b", "a".repeat(50_000));
        let mut paid = 0;
        let outcome = matches(&text, &pattern, None, false, &mut |steps| {
            paid += steps;
            paid < 10_000_000
        });
        assert_eq!(outcome, None);
        // Without `_` the same takes as many steps as the text has characters, and is not counted.
        let pattern = format!("%{}%{}b", "a%".repeat(1000), "a".repeat(50_000));
        assert_eq!(
            matches(&text, &pattern, None, false, &mut |_| false),
            Some(false)
        );
    }

    /// What LIKE means, in exponential time.
    fn naive(text: &[char], pattern: &[Part], fold: fn(char) -> char) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((Part::Any, rest)) => {
                (0..=text.len()).any(|skip| naive(&text[skip..], rest, fold))
            }
            Some((Part::One, rest)) => !text.is_empty() && naive(&text[1..], rest, fold),
            Some((Part::Char(c), rest)) => {
                text.first().is_some_and(|found| fold(*found) == fold(*c))
                    && naive(&text[1..], rest, fold)
            }
        }
    }

    proptest! {
        #[test]
        fn like_agrees_with_its_definition(
            text in "[abA%_!]{0,9}",
            pattern in "[abA%_!]{0,7}",
            escaped: bool,
            ignore_case: bool,
        ) {
            let escape = escaped.then_some('!');
            let shape: Vec<Part> = parts(&pattern, escape).collect();
            let chars: Vec<char> = text.chars().collect();
            let fold: fn(char) -> char = if ignore_case { lower } else { |c| c };
            let found = matches(&text, &pattern, escape, ignore_case, &mut |_| true);
            prop_assert_eq!(found, Some(naive(&chars, &shape, fold)));
        }

        #[test]
        fn plain_pieces_agree_with_the_definition(text in "[ab]{0,10}", pattern in "[ab%]{0,8}") {
            let shape: Vec<Part> = parts(&pattern, None).collect();
            let chars: Vec<char> = text.chars().collect();
            prop_assert_eq!(matches_plain(&text, &pattern), naive(&chars, &shape, |c| c));
        }
    }
}
