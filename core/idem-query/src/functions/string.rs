//! String functions. Positions and lengths count characters, from 0.

use idem_model::{Value, limits};

use super::{Function, MANY, Problem, because, function, integer, string};
use crate::eval::{Env, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    function("concat", 1, MANY, concat),
    function("contains", 2, 2, contains),
    function("starts_with", 2, 2, starts_with),
    function("ends_with", 2, 2, ends_with),
    function("byte_length", 1, 1, byte_length),
    function("char_length", 1, 1, char_length),
    function("character_length", 1, 1, char_length),
    function("lower", 1, 1, lower),
    function("upper", 1, 1, upper),
    function("substr", 2, 3, substr),
    function("pos", 2, 2, pos),
    function("split", 1, 2, split),
    function("joinstr", 1, MANY, joinstr),
    function("ltrim", 1, 2, ltrim),
    function("rtrim", 1, 2, rtrim),
    function("trim", 1, 2, trim),
    function("lpad", 2, 3, lpad),
    function("rpad", 2, 3, rpad),
    function("repeat", 2, 2, repeat),
    function("regexp_like", 2, 3, regexp_like),
];

type Answer<'a> = Result<Val<'a>, Problem>;

fn concat<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let mut out = String::new();
    for index in 0..args.len() {
        let part = string(args, index)?;
        if !env.spend(part.len()) {
            return because("the result is too long");
        }
        out.push_str(part);
    }
    Ok(Val::text(out))
}

fn contains<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::bool(string(args, 0)?.contains(string(args, 1)?)))
}

fn starts_with<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::bool(string(args, 0)?.starts_with(string(args, 1)?)))
}

fn ends_with<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::bool(string(args, 0)?.ends_with(string(args, 1)?)))
}

fn byte_length<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    match args[0].get() {
        Some(Value::Binary(bytes)) => Ok(Val::size(bytes.len())),
        _ => Ok(Val::size(string(args, 0)?.len())),
    }
}

fn char_length<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::size(string(args, 0)?.chars().count()))
}

fn lower<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::text(string(args, 0)?.to_lowercase()))
}

fn upper<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::text(string(args, 0)?.to_uppercase()))
}

/// `substr(text, start [, length])`; a negative start counts from the end, a start outside of the
/// text is MISSING.
fn substr<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    let count = text.chars().count();
    let start = integer(args, 1)?;
    let start = match usize::try_from(start) {
        Ok(start) => start,
        Err(_) => usize::try_from(start.unsigned_abs())
            .ok()
            .and_then(|back| count.checked_sub(back))
            .unwrap_or(usize::MAX),
    };
    let length = match args.len() {
        2 => usize::MAX,
        _ => match usize::try_from(integer(args, 2)?) {
            Ok(length) => length,
            Err(_) => return because("the length is negative"),
        },
    };
    if start > count {
        return because("the start is outside of the string");
    }
    let part: String = text.chars().skip(start).take(length).collect();
    Ok(Val::text(part))
}

fn pos<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    Ok(match text.find(string(args, 1)?) {
        Some(at) => Val::size(text[..at].chars().count()),
        None => Val::int(-1),
    })
}

/// Without a separator, at white space.
fn split<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    let parts: Vec<&str> = match args.len() {
        1 => text.split_whitespace().collect(),
        _ => match string(args, 1)? {
            "" => return because("the separator is empty"),
            separator => text.split(separator).collect(),
        },
    };
    if !env.spend(text.len() + 64 * parts.len()) {
        return because("the result is too long");
    }
    Ok(Val::Own(parts.into()))
}

/// `joinstr(separator, part, ..)`; an array counts as its elements. Null and MISSING are left out.
fn joinstr<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let separator = string(args, 0)?;
    let mut out = String::new();
    let mut first = true;
    for (index, arg) in args.iter().enumerate().skip(1) {
        let parts = match arg.get() {
            None => continue,
            Some(Value::Array(items)) => items.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        for part in parts {
            let part = match part {
                Value::Null => continue,
                Value::String(part) => part,
                _ => return Err(Problem::Argument(index)),
            };
            if !env.spend(part.len() + separator.len()) {
                return because("the result is too long");
            }
            if !std::mem::take(&mut first) {
                out.push_str(separator);
            }
            out.push_str(part);
        }
    }
    Ok(Val::text(out))
}

fn trimmed<'a>(args: &[Val<'a>], left: bool, right: bool) -> Answer<'a> {
    let mut text = string(args, 0)?;
    let chars = match args.len() {
        1 => None,
        _ => Some(string(args, 1)?),
    };
    let strip = |c: char| chars.map_or(c.is_whitespace(), |chars| chars.contains(c));
    if left {
        text = text.trim_start_matches(strip);
    }
    if right {
        text = text.trim_end_matches(strip);
    }
    Ok(Val::text(text))
}

fn ltrim<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    trimmed(args, true, false)
}

fn rtrim<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    trimmed(args, false, true)
}

fn trim<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    trimmed(args, true, true)
}

/// A length that a string may have.
fn length(env: &Env<'_>, args: &[Val<'_>], index: usize) -> Result<usize, Problem> {
    let length = integer(args, index)?;
    match usize::try_from(length) {
        Ok(length) if length <= limits::DOCUMENT_BYTES_MAX && env.spend(length) => Ok(length),
        Ok(_) => because("the result is too long"),
        Err(_) => because("the length is negative"),
    }
}

/// Text of exactly the wanted length: padding in front or behind, or cut at the end.
fn padded<'a>(env: &Env<'a>, args: &[Val<'a>], left: bool) -> Answer<'a> {
    let text = string(args, 0)?;
    let wanted = length(env, args, 1)?;
    let fill = match args.len() {
        2 => " ",
        _ => string(args, 2)?,
    };
    let count = text.chars().count();
    if count >= wanted || fill.is_empty() {
        return Ok(Val::text(text.chars().take(wanted).collect::<String>()));
    }
    let padding: String = fill.chars().cycle().take(wanted - count).collect();
    Ok(Val::text(match left {
        true => padding + text,
        false => text.to_owned() + &padding,
    }))
}

fn lpad<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    padded(env, args, true)
}

fn rpad<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    padded(env, args, false)
}

fn repeat<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    let times = length(env, args, 1)?;
    match times.checked_mul(text.len()) {
        Some(bytes) if bytes <= limits::DOCUMENT_BYTES_MAX && env.spend(bytes) => {
            Ok(Val::text(text.repeat(times)))
        }
        _ => because("the result is too long"),
    }
}

/// `regexp_like(text, pattern [, flags])`; the only flag is `i`, ignore case.
fn regexp_like<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    let pattern = string(args, 1)?;
    let flags = match args.len() {
        2 => "",
        _ => string(args, 2)?,
    };
    if flags.chars().any(|flag| !matches!(flag, 'i' | 'I' | 'c')) {
        return because(format!("the flags `{flags}` are not known, only `i` is"));
    }
    if pattern.len() > limits::PATTERN_BYTES_MAX {
        return because("the pattern is too long");
    }
    match env.regex(pattern, flags.contains(['i', 'I'])) {
        Some(regex) => Ok(Val::bool(regex.is_match(text))),
        None => because("this is not a regular expression"),
    }
}
