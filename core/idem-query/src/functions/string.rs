//! String functions. Positions and lengths count characters, from 0.

use std::collections::BTreeSet;

use idem_model::{Value, limits};

use super::{
    Function, MANY, Problem, because, example, function, integer, made, shown, string, take,
};
use crate::eval::{Dialect, Env, Flags, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    function("concat", 1, MANY, concat).about(
        "concat(text, ..)",
        "The texts one after the other, as `||` joins them.",
        &[example("concat('a', 'b', 'c')", r#""abc""#)],
    ),
    function("contains", 2, 2, contains).about(
        "contains(text, part)",
        "Whether the part is anywhere in the text.",
        &[example("contains('hello', 'ell')", "true")],
    ),
    function("starts_with", 2, 2, starts_with).about(
        "starts_with(text, start)",
        "Whether the text begins so. `LIKE 'start%'` finds the same and uses an index.",
        &[example("starts_with('hello', 'he')", "true")],
    ),
    function("ends_with", 2, 2, ends_with).about(
        "ends_with(text, end)",
        "Whether the text ends so.",
        &[example("ends_with('hello', 'he')", "false")],
    ),
    function("byte_length", 1, 1, byte_length).about(
        "byte_length(text)",
        "Length in bytes of UTF-8, or of binary data.",
        &[example(r"byte_length('caf\u00e9')", "5")],
    ),
    function("char_length", 1, 1, char_length).about(
        "char_length(text)",
        "Length in characters (Unicode scalar values). `character_length` is the same.",
        &[example(r"char_length('caf\u00e9')", "4")],
    ),
    function("character_length", 1, 1, char_length).about(
        "character_length(text)",
        "Length in characters (Unicode scalar values). `char_length` is the same.",
        &[example("character_length('abc')", "3")],
    ),
    function("lower", 1, 1, lower).about(
        "lower(text)",
        "The text in lower case.",
        &[example("lower('ABC')", r#""abc""#)],
    ),
    function("upper", 1, 1, upper).about(
        "upper(text)",
        "The text in upper case.",
        &[
            example("upper('abc')", r#""ABC""#),
            example("upper(1)", "MISSING"),
        ],
    ),
    function("substr", 2, 3, substr).about(
        "substr(text, start [, length])",
        "The part from a position, counted from 0, or from the end if it is negative. MISSING if \
         the position is outside of the text or the length is negative.",
        &[
            example("substr('hello', 1, 3)", r#""ell""#),
            example("substr('hello', -3)", r#""llo""#),
            example("substr('hello', 9)", "MISSING"),
        ],
    ),
    function("pos", 2, 2, pos).about(
        "pos(text, part)",
        "Where the part begins in the text, in characters from 0; -1 if it is not in it.",
        &[
            example("pos('hello', 'l')", "2"),
            example("pos('hello', 'x')", "-1"),
        ],
    ),
    function("split", 1, 2, split).about(
        "split(text [, separator])",
        "The parts of the text between separators; at white space without one.",
        &[
            example("split('a,b,,c', ',')", r#"["a","b","","c"]"#),
            example("split(' a  b ')", r#"["a","b"]"#),
        ],
    ),
    function("joinstr", 1, MANY, joinstr).about(
        "joinstr(separator, part, ..)",
        "The parts with the separator between them. An array counts as its elements; null and \
         MISSING are left out.",
        &[
            example("joinstr(', ', ['a', 'b'])", r#""a, b""#),
            example("joinstr('-', 'a', null, 'b')", r#""a-b""#),
        ],
    ),
    function("ltrim", 1, 2, ltrim).about(
        "ltrim(text [, characters])",
        "The text without these characters at its start; white space by default.",
        &[
            example("ltrim('  a ')", r#""a ""#),
            example("ltrim('0012', '0')", r#""12""#),
        ],
    ),
    function("rtrim", 1, 2, rtrim).about(
        "rtrim(text [, characters])",
        "The text without these characters at its end; white space by default.",
        &[example("rtrim(' a  ')", r#"" a""#)],
    ),
    function("trim", 1, 2, trim).about(
        "trim(text [, characters])",
        "The text without these characters at its ends; white space by default. \
         `TRIM([BOTH | LEADING | TRAILING] characters FROM text)` is the form of SQL.",
        &[
            example("trim('  a ')", r#""a""#),
            example("TRIM(BOTH 'x' FROM 'xxaxx')", r#""a""#),
            example("TRIM(LEADING FROM ' a ')", r#""a ""#),
        ],
    ),
    function("lpad", 2, 3, lpad).about(
        "lpad(text, length [, fill])",
        "The text made that many characters long: the fill, a space by default, is put in front, \
         or the end is cut off.",
        &[
            example("lpad('7', 3, '0')", r#""007""#),
            example("lpad('abcd', 2)", r#""ab""#),
        ],
    ),
    function("rpad", 2, 3, rpad).about(
        "rpad(text, length [, fill])",
        "The text made that many characters long: the fill, a space by default, is put behind, \
         or the end is cut off.",
        &[example("rpad('a', 4, '-=')", r#""a-=-""#)],
    ),
    function("repeat", 2, 2, repeat).about(
        "repeat(text, times)",
        "The text that many times. MISSING if the number is negative.",
        &[
            example("repeat('ab', 3)", r#""ababab""#),
            example("repeat('ab', 0)", r#""""#),
        ],
    ),
    function("regexp_like", 2, 3, regexp_like).about(
        "regexp_like(text, pattern [, flags])",
        "Whether a regular expression matches anywhere in the text; `^` and `$` hold it to the \
         ends. Flags: `i` ignores case, `c` does not, `m` lets `^` and `$` match at each line, \
         `s` or `n` lets a dot match the end of a line, `x` ignores blanks in the pattern. \
         In a text a backslash is written twice: `'\\\\d+'`.",
        &[
            example("regexp_like('A-123', '^[a-z]-[0-9]{3}$', 'i')", "true"),
            example("regexp_like('A-123', '^[a-z]')", "false"),
            example("regexp_like('a', '(')", "MISSING"),
        ],
    ),
];

type Answer<'a> = Result<Val<'a>, Problem>;

fn concat<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let mut bytes = 0;
    for index in 0..args.len() {
        bytes += string(args, index)?.len();
    }
    if !env.spend(bytes) {
        return because("the result is too long");
    }
    let mut out = String::with_capacity(bytes);
    for index in 0..args.len() {
        out.push_str(string(args, index)?);
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
        Some(Value::String(text)) => Ok(Val::size(text.len())),
        _ => Err(Problem::Argument(0, "a string or binary data")),
    }
}

fn char_length<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    Ok(Val::size(string(args, 0)?.chars().count()))
}

fn lower<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    // Most text is in lower case already, and then nothing is copied.
    if text
        .bytes()
        .all(|b| b.is_ascii() && !b.is_ascii_uppercase())
    {
        return Ok(take(args, 0));
    }
    made(env, text.to_lowercase())
}

fn upper<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    if text
        .bytes()
        .all(|b| b.is_ascii() && !b.is_ascii_lowercase())
    {
        return Ok(take(args, 0));
    }
    made(env, text.to_uppercase())
}

/// The byte at which a character begins; the length of the text for the one behind the last.
fn byte_of(text: &str, chars: usize) -> Option<usize> {
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.nth(chars)
}

fn substr<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    let start = integer(args, 1)?;
    let from = match usize::try_from(start) {
        Ok(start) => byte_of(text, start),
        Err(_) => usize::try_from(start.unsigned_abs())
            .ok()
            .and_then(|back| text.char_indices().rev().nth(back - 1))
            .map(|(at, _)| at),
    };
    let length = match args.len() {
        2 => None,
        _ => match usize::try_from(integer(args, 2)?) {
            Ok(length) => Some(length),
            Err(_) => {
                return Err(Problem::Value(2, "the length is negative".to_owned()));
            }
        },
    };
    let Some(from) = from else {
        return Err(Problem::Value(
            1,
            "the start is outside of the string".to_owned(),
        ));
    };
    let rest = &text[from..];
    let end = length.and_then(|length| byte_of(rest, length));
    made(env, rest[..end.unwrap_or(rest.len())].to_owned())
}

fn pos<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    Ok(match text.find(string(args, 1)?) {
        Some(at) => Val::size(text[..at].chars().count()),
        None => Val::int(-1),
    })
}

fn split<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    let parts: Vec<&str> = match args.len() {
        1 => text.split_whitespace().collect(),
        _ => match string(args, 1)? {
            "" => return Err(Problem::Value(1, "the separator is empty".to_owned())),
            separator => text.split(separator).collect(),
        },
    };
    if !env.spend(text.len() + 64 * parts.len()) {
        return because("the result is too long");
    }
    Ok(Val::Own(parts.into()))
}

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
                _ => return Err(Problem::Argument(index, "strings or an array of strings")),
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

fn trimmed<'a>(env: &Env<'a>, args: &mut [Val<'a>], left: bool, right: bool) -> Answer<'a> {
    let whole = string(args, 0)?;
    let mut text = whole;
    let chars = match args.len() {
        1 => None,
        // In order, or long characters would be searched for each of long text.
        _ => Some(string(args, 1)?.chars().collect::<BTreeSet<char>>()),
    };
    let strip = |c: char| match &chars {
        None => c.is_whitespace(),
        Some(chars) => chars.contains(&c),
    };
    if left {
        text = text.trim_start_matches(strip);
    }
    if right {
        text = text.trim_end_matches(strip);
    }
    if text.len() == whole.len() {
        return Ok(take(args, 0));
    }
    made(env, text.to_owned())
}

fn ltrim<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    trimmed(env, args, true, false)
}

fn rtrim<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    trimmed(env, args, false, true)
}

fn trim<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    trimmed(env, args, true, true)
}

/// A length that a string may have.
fn length(args: &[Val<'_>], index: usize) -> Result<usize, Problem> {
    let number = integer(args, index)?;
    match usize::try_from(number) {
        Ok(length) if length <= limits::DOCUMENT_BYTES_MAX => Ok(length),
        Ok(_) => Err(Problem::Value(index, "the result is too long".to_owned())),
        Err(_) => Err(Problem::Value(index, format!("{number} is negative"))),
    }
}

/// Text of exactly the wanted length: padding in front or behind, or cut at the end.
fn padded<'a>(env: &Env<'a>, args: &mut [Val<'a>], left: bool) -> Answer<'a> {
    let text = string(args, 0)?;
    let wanted = length(args, 1)?;
    let fill = match args.len() {
        2 => " ",
        _ => string(args, 2)?,
    };
    if let Some(end) = byte_of(text, wanted) {
        return made(env, text[..end].to_owned());
    }
    if fill.is_empty() {
        return Ok(take(args, 0));
    }
    let missing = wanted - text.chars().count();
    // A character of the fill has four bytes at most.
    if !env.spend(text.len() + missing.saturating_mul(fill.len().min(4))) {
        return because("the result is too long");
    }
    let padding: String = fill.chars().cycle().take(missing).collect();
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
    let number = integer(args, 1)?;
    let Ok(times) = usize::try_from(number) else {
        return Err(Problem::Value(1, format!("{number} is negative")));
    };
    match times.checked_mul(text.len()) {
        Some(bytes) if bytes <= limits::DOCUMENT_BYTES_MAX && env.spend(bytes) => {
            Ok(Val::text(text.repeat(times)))
        }
        _ => Err(Problem::Value(1, "the result is too long".to_owned())),
    }
}

fn regexp_like<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    let pattern = string(args, 1)?;
    let mut flags = Flags::default();
    let letters = match args.len() {
        2 => "",
        _ => string(args, 2)?,
    };
    for letter in letters.chars() {
        match letter {
            'i' | 'I' => flags.ignore_case = true,
            'c' => flags.ignore_case = false,
            'm' => flags.lines = true,
            's' | 'n' => flags.dot_is_any = true,
            'x' => flags.blanks = true,
            _ => {
                let reason = format!("{} are not flags; expected i, c, m, s or x", shown(letters));
                return Err(Problem::Value(2, reason));
            }
        }
    }
    match env.regex(Dialect::Regular(flags), pattern) {
        Ok(regex) => match env.spend(regex.cost(text)) {
            true => Ok(Val::bool(regex.is_match(text))),
            false => because("the pattern is too large for so long a text"),
        },
        Err(reason) => Err(Problem::Value(
            1,
            format!("{} is not a pattern: {reason}", shown(pattern)),
        )),
    }
}
