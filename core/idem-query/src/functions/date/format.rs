//! Formats of dates: `YYYY-MM-DD hh:mm:ss.sss TZD`, or `%` directives as in strftime. The empty
//! format is ISO-8601.

use jiff::{
    Zoned,
    civil::Date,
    fmt::strtime::{self, BrokenDownTime},
    tz::TimeZone,
};

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

/// Reads text, argument 0, in a format, argument 1. What the format does not say is the first month,
/// the first day, midnight, and UTC.
pub(super) fn read(format: &str, text: &str) -> Result<Zoned, Problem> {
    if format.is_empty() {
        return super::parse_iso(text).ok_or_else(|| unreadable(format, text));
    }
    let directives = directives(format, 1)?;
    let parsed = strtime::parse(&directives, text).or_else(|error| {
        // `Z` is the usual way to write the offset that the directive wants in digits.
        match text.strip_suffix(['Z', 'z']) {
            Some(text) => strtime::parse(&directives, format!("{text}+00:00")),
            None => Err(error),
        }
    });
    parsed
        .ok()
        .and_then(|parts| zoned(&parts))
        .ok_or_else(|| unreadable(format, text))
}

fn zoned(parts: &BrokenDownTime) -> Option<Zoned> {
    if let Some(time) = parts.timestamp() {
        return Some(time.to_zoned(TimeZone::UTC));
    }
    let date = match (parts.month(), parts.day()) {
        (Some(month), None) => Date::new(parts.year()?, month, 1).ok()?,
        (None, None) if parts.day_of_year().is_none() => parts
            .to_date()
            .or_else(|error| match parts.year() {
                Some(year) => Date::new(year, 1, 1),
                None => Err(error),
            })
            .ok()?,
        _ => parts.to_date().ok()?,
    };
    let at = date.to_datetime(parts.to_time().unwrap_or_default());
    let zone = match (parts.offset(), parts.iana_time_zone()) {
        (Some(offset), _) => TimeZone::fixed(offset),
        (None, Some(name)) => TimeZone::get(name).ok()?,
        (None, None) => TimeZone::UTC,
    };
    at.to_zoned(zone).ok()
}

fn unreadable(format: &str, text: &str) -> Problem {
    let reason = match format {
        "" => format!("{} is not an ISO-8601 date with a zone", shown(text)),
        _ => format!(
            "{} is not a date in the format {}",
            shown(text),
            shown(format)
        ),
    };
    Problem::Value(0, reason)
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
        let behind = &rest[c.len_utf8()..];
        // Two of such letters are meant as an element, as `yyyy` or `HH` of other languages.
        let doubled = behind
            .chars()
            .next()
            .is_some_and(|d| d.eq_ignore_ascii_case(&c));
        if doubled && "ymdhs".contains(c.to_ascii_lowercase()) {
            let letters = |d: &char| d.eq_ignore_ascii_case(&c);
            let element: String = rest.chars().take_while(letters).collect();
            let reason = format!(
                "{} is not an element of a format; expected YYYY, MM, DD, hh, mm, ss, sss, TZD or \
                 TZN",
                shown(&element)
            );
            return Err(Problem::Value(index, reason));
        }
        out.push(c);
        rest = behind;
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
