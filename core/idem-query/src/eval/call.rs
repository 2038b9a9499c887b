//! Calling a function, and saying why it gave MISSING.

use super::{Env, Row, Val, eval};
use crate::{
    expr::Expr,
    functions::{Function, Problem},
    lexer::{TokenKind, tokens},
    span::{Site, Span},
};

pub(super) fn call<'a>(
    function: &'static Function,
    args: &'a [Expr],
    site: Site,
    env: &Env<'a>,
    row: &Row<'a>,
) -> Val<'a> {
    // Most calls have few arguments; those need no vector.
    match args {
        [] => run(function, &mut [], site, env),
        [a] => run(function, &mut [eval(a, env, row)], site, env),
        [a, b] => {
            let values = &mut [eval(a, env, row), eval(b, env, row)];
            run(function, values, site, env)
        }
        [a, b, c] => {
            let values = &mut [eval(a, env, row), eval(b, env, row), eval(c, env, row)];
            run(function, values, site, env)
        }
        _ => {
            let mut values: Vec<Val<'a>> = args.iter().map(|arg| eval(arg, env, row)).collect();
            run(function, &mut values, site, env)
        }
    }
}

fn run<'a>(
    function: &'static Function,
    values: &mut [Val<'a>],
    site: Site,
    env: &Env<'a>,
) -> Val<'a> {
    (function.body)(env, values).unwrap_or_else(|problem| {
        report(function.name, &problem, values, site.0, env);
        Val::Missing
    })
}

#[cold]
fn report(name: &str, problem: &Problem, values: &[Val<'_>], call: Span, env: &Env<'_>) {
    let place = |index| argument(env.text, call, index).unwrap_or(call);
    match problem {
        Problem::Argument(index, expected) => {
            let found = values.get(*index).map_or("missing", Val::type_name);
            // Absent data is no mistake.
            if !matches!(found, "missing" | "null") && env.has_room_for_warnings() {
                env.warn(place(*index), || {
                    format!(
                        "`{name}` gave MISSING: argument {} takes {expected}, found {found}",
                        index + 1
                    )
                });
            }
        }
        Problem::Value(index, reason) if env.has_room_for_warnings() => {
            env.warn(place(*index), || format!("`{name}` gave MISSING: {reason}"));
        }
        Problem::Because(reason) => {
            env.warn(call, || format!("`{name}` gave MISSING: {reason}"));
        }
        Problem::Value(..) | Problem::Absent => {}
    }
}

/// The place of an argument, found in the text again: only warnings need it, and there are few.
/// `None` for the forms of SQL that have words between their arguments.
fn argument(text: &str, call: Span, index: usize) -> Option<Span> {
    let inside = call.text(text);
    let (tokens, _) = tokens(inside).ok()?;
    let span = |from: usize, to: usize| {
        let start = call.start as usize;
        let (first, last) = (tokens.get(from)?.span, tokens.get(to)?.span);
        Some(Span::new(
            start + first.start as usize,
            start + last.end as usize,
        ))
    };
    if tokens.get(1)?.kind != TokenKind::Sign("(") {
        return None;
    }
    let name = tokens.first()?.span.text(inside).to_ascii_lowercase();
    let of_sql = name == "position" || name == "trim";
    let (mut levels, mut nth, mut from) = (0, 0, 2);
    for (at, token) in tokens.iter().enumerate().skip(1) {
        match token.kind {
            TokenKind::Sign("(" | "[" | "{") => levels += 1,
            TokenKind::Sign(")" | "]" | "}") => levels -= 1,
            TokenKind::Word if of_sql && levels == 1 => {
                let word = token.span.text(inside);
                if word.eq_ignore_ascii_case("from") || word.eq_ignore_ascii_case("in") {
                    return None;
                }
            }
            _ => {}
        }
        let ends = levels == 0 || (levels == 1 && token.kind == TokenKind::Sign(","));
        if ends && nth == index {
            return span(from, at.checked_sub(1).filter(|last| *last >= from)?);
        }
        if levels == 0 {
            return None;
        }
        if ends {
            nth += 1;
            from = at + 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_text_of_arguments() {
        let text = "SELECT f( a + 1,[b, (c)] , 'x,)') FROM d";
        let call = Span::new(7, 33);
        let found = |index| argument(text, call, index).map(|span| span.text(text));
        assert_eq!(call.text(text), "f( a + 1,[b, (c)] , 'x,)')");
        assert_eq!(found(0), Some("a + 1"));
        assert_eq!(found(1), Some("[b, (c)]"));
        assert_eq!(found(2), Some("'x,)'"));
        assert_eq!(found(3), None);
        let none = |text: &str| argument(text, Span::new(0, text.len()), 0);
        assert_eq!(none("f()"), None);
        assert_eq!(none("TRIM(BOTH x FROM s)"), None);
        assert_eq!(none("POSITION(x IN s)"), None);
        assert_eq!(none("a + 1"), None);
    }
}
