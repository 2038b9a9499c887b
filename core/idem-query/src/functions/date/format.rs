//! Formats of dates: `YYYY-MM-DD hh:mm:ss.sss TZD`, or `%` directives as in strftime. The empty
//! format is ISO-8601.

use jiff::{Zoned, fmt::strtime, tz::TimeZone};

use super::super::{Problem, shown};

/// Formats are a line of text. A directive may ask for 255 characters, so this bounds the result.
const FORMAT_BYTES_MAX: usize = 256;

/// The elements of the first style, longer ones before their prefixes.
const ELEMENTS: [(&str, &str); 9] = [
    ("YYYY", "%Y"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("hh", "%H"),
    ("mm", "%M"),
    ("sss", "%3f"),
    ("ss", "%S"),
    ("TZD", "%:z"),
    ("TZN", "%Q"),
];

/// ISO-8601 with the offset, and milliseconds where they are not 0.
pub(super) fn iso(zoned: &Zoned) -> String {
    let format = match zoned.millisecond() {
        0 => "%Y-%m-%dT%H:%M:%S%:z",
        _ => "%Y-%m-%dT%H:%M:%S.%3f%:z",
    };
    // A directive that cannot be printed does not occur in these two.
    strtime::format(format, zoned).unwrap_or_default()
}

/// The date in a format, which is the argument `index`.
pub(super) fn print(format: &str, index: usize, zoned: &Zoned) -> Result<String, Problem> {
    if format.is_empty() {
        return Ok(iso(zoned));
    }
    strtime::format(directives(format, index)?, zoned).map_err(|_| unknown(format, index))
}

/// Reads text, argument 0, in a format, argument 1. What the format does not say is midnight, and UTC.
pub(super) fn read(format: &str, text: &str) -> Result<Zoned, Problem> {
    let parsed = match format.is_empty() {
        true => super::parse_iso(text),
        false => strtime::parse(directives(format, 1)?, text)
            .ok()
            .and_then(|parts| match parts.offset() {
                Some(offset) => parts
                    .to_datetime()
                    .ok()?
                    .to_zoned(TimeZone::fixed(offset))
                    .ok(),
                None if parts.iana_time_zone().is_some() => parts.to_zoned().ok(),
                None => {
                    let time = parts.to_time().unwrap_or_default();
                    let date = parts.to_date().ok()?;
                    date.to_datetime(time).to_zoned(TimeZone::UTC).ok()
                }
            }),
    };
    match parsed {
        Some(zoned) => Ok(zoned),
        None => Err(Problem::Value(
            0,
            format!(
                "{} is not a date in the format {}",
                shown(text),
                shown(format)
            ),
        )),
    }
}

fn directives(format: &str, index: usize) -> Result<String, Problem> {
    if format.len() > FORMAT_BYTES_MAX {
        return Err(Problem::Value(index, "the format is too long".to_owned()));
    }
    if format.contains('%') {
        return Ok(format.to_owned());
    }
    let mut out = String::with_capacity(2 * format.len());
    let mut rest = format;
    'rest: while let Some(c) = rest.chars().next() {
        for (element, directive) in ELEMENTS {
            if let Some(behind) = rest.strip_prefix(element) {
                out.push_str(directive);
                rest = behind;
                continue 'rest;
            }
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Ok(out)
}

fn unknown(format: &str, index: usize) -> Problem {
    let reason = format!(
        "{} is not a format; expected one such as `YYYY-MM-DD hh:mm:ss.sss TZD` or `%Y-%m-%d`",
        shown(format)
    );
    Problem::Value(index, reason)
}
