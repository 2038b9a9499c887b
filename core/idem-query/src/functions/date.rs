//! Dates and durations.
//!
//! A date is an ISO-8601 string with a zone, or Unix milliseconds. A function answers in the form it
//! was asked in. Calendar arithmetic follows the offset that the string gives, numbers are UTC.

mod format;

use idem_model::Value;
use jiff::{
    Span, SpanRelativeTo, Timestamp, Unit, Zoned, civil::Time, fmt::temporal::Pieces, tz::TimeZone,
};

use super::{Function, Problem, because, example, function, integer, shown, string};
use crate::eval::{Env, Val};

pub(super) const FUNCTIONS: &[Function] = &[
    function("clock", 0, 2, clock).varying().about(
        "clock([format [, zone]])",
        "The time at which the statement began; the same wherever it is called in a statement.",
        &[
            example("date_diff(clock(), clock(), 'ms')", "0"),
            example("char_length(clock('YYYY-MM-DD', 'Asia/Tokyo'))", "10"),
        ],
    ),
    function("date_add", 3, 5, date_add).about(
        "date_add(date, part, count [, format [, zone]])",
        "The date so many parts later. A day that the month has not becomes its last. The step is taken \
         with the offset from UTC that the date has; the zone is only that of the result.",
        &[
            example(
                "date_add('2026-01-31T00:00:00Z', 'month', 1)",
                r#""2026-02-28T00:00:00+00:00""#,
            ),
            example("date_add(0, 'day', 1)", "86400000"),
            example(
                "date_add(0, 'hour', 1, 'hh:mm', 'Asia/Tokyo')",
                r#""10:00""#,
            ),
        ],
    ),
    function("date_sub", 3, 5, date_sub).about(
        "date_sub(date, part, count [, format [, zone]])",
        "The date so many parts earlier.",
        &[example(
            "date_sub('2026-03-01T12:00:00+02:00', 'day', 1)",
            r#""2026-02-28T12:00:00+02:00""#,
        )],
    ),
    function("date_diff", 3, 3, date_diff).about(
        "date_diff(date1, date2, part)",
        "The whole parts from the second date to the first; negative if the first is earlier. A \
         day is 24 hours.",
        &[
            example(
                "date_diff('2026-03-20T00:00:00Z', '2026-03-15T10:30:45Z', 'day')",
                "4",
            ),
            example("date_diff(0, 90000, 'minute')", "-1"),
        ],
    ),
    function("date_part", 2, 2, date_part).about(
        "date_part(date, part)",
        "One part as a number. Also `weekday` (1 is Monday), `monthname`, and `timezone` or `tz`, \
         the offset.",
        &[
            example("date_part('2026-03-15T10:30:45Z', 'hour')", "10"),
            example("date_part('2026-03-15T10:30:45Z', 'weekday')", "7"),
            example(
                "date_part('2026-03-15T10:30:45Z', 'monthname')",
                r#""March""#,
            ),
            example("date_part('2026-03-15T10:30:45Z', 'week')", "MISSING"),
        ],
    ),
    function("date_trunc", 2, 2, date_trunc).about(
        "date_trunc(date, part)",
        "The beginning of the part that the date is in, at the date's own offset.",
        &[example(
            "date_trunc('2026-03-15T10:30:45Z', 'day')",
            r#""2026-03-15T00:00:00+00:00""#,
        )],
    ),
    function("date_format", 2, 3, date_format).about(
        "date_format(date, format [, zone])",
        "The date as text. A format has the elements YYYY MM DD hh mm ss sss TZD TZN, or the \
         directives of strftime such as `%d`; the empty one is ISO-8601. A zone is a name or an \
         offset.",
        &[
            example(
                "date_format(0, 'DD.MM.YYYY hh:mm', 'Asia/Tokyo')",
                r#""01.01.1970 09:00""#,
            ),
            example("date_format(0, '%Y-%m-%d')", r#""1970-01-01""#),
            example("date_format(0, '')", r#""1970-01-01T00:00:00+00:00""#),
        ],
    ),
    function("date_cast", 1, 2, date_cast).about(
        "date_cast(text [, format])",
        "The Unix milliseconds of a date in a format, ISO-8601 without one. What the format does \
         not say is midnight, and UTC.",
        &[
            example("date_cast('15/03/2026', '%d/%m/%Y')", "1773532800000"),
            example("date_cast('1970-01-01T01:00:00+01:00')", "0"),
            example("date_cast('15/13/2026', '%d/%m/%Y')", "MISSING"),
        ],
    ),
    function("date_range", 4, 6, date_range).about(
        "date_range(from, to, part, count [, format [, zone]])",
        "The dates from the first to the second, which is not in it, so many parts apart. A \
         negative count goes back. The steps are taken with the offset from UTC that the first has.",
        &[
            example("date_range(0, 3, 'ms', 1)", "[0,1,2]"),
            example(
                "date_range('2026-01-31T00:00:00Z', '2026-04-01T00:00:00Z', 'month', 1, 'MM-DD')",
                r#"["01-31","02-28","03-31"]"#,
            ),
        ],
    ),
    function("tz_offset", 1, 2, tz_offset).about(
        "tz_offset(text [, format])",
        "Minutes east of UTC of a date. With the format `TZN` the text is the name of a zone \
         alone, and the offset is that of 1970-01-01; with a date in the text and the format it \
         is that of the date.",
        &[
            example("tz_offset('2026-03-15T10:30:45+09:00')", "540"),
            example("tz_offset('Asia/Tokyo', 'TZN')", "540"),
            example(
                "tz_offset('2026-07-01 Europe/Berlin', 'YYYY-MM-DD TZN')",
                "120",
            ),
        ],
    ),
    function("duration_cast", 1, 2, duration_cast).about(
        "duration_cast(text [, unit])",
        "The milliseconds, or whole units, of a duration such as `1h30m` or `PT1H30M`. A day has \
         24 hours.",
        &[
            example("duration_cast('1h30m')", "5400000"),
            example("duration_cast('PT36H', 'day')", "1"),
            example("duration_cast('1 month')", "MISSING"),
        ],
    ),
    function("duration_format", 1, 2, duration_format).about(
        "duration_format(number [, unit])",
        "A number of milliseconds, or of units, as a duration such as `1h30m`.",
        &[
            example("duration_format(5400000)", r#""1h30m""#),
            example("duration_format(90, 'second')", r#""1m30s""#),
        ],
    ),
];

type Answer<'a> = Result<Val<'a>, Problem>;

/// A date with the form it came in.
struct Date {
    zoned: Zoned,
    text: bool,
}

/// The parts of a date that arithmetic knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
}

impl Part {
    fn find(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "year" => Self::Year,
            "mon" | "month" => Self::Month,
            "day" => Self::Day,
            "hour" => Self::Hour,
            "min" | "minute" => Self::Minute,
            "sec" | "second" => Self::Second,
            "ms" | "millis" | "millisecond" => Self::Millisecond,
            _ => return None,
        })
    }

    fn of(args: &[Val<'_>], index: usize) -> Result<Self, Problem> {
        let name = string(args, index)?;
        Self::find(name).ok_or_else(|| unknown_part(name, index, PARTS))
    }

    fn unit(self) -> Unit {
        match self {
            Self::Year => Unit::Year,
            Self::Month => Unit::Month,
            Self::Day => Unit::Day,
            Self::Hour => Unit::Hour,
            Self::Minute => Unit::Minute,
            Self::Second => Unit::Second,
            Self::Millisecond => Unit::Millisecond,
        }
    }

    fn span(self, count: i64) -> Option<Span> {
        let span = Span::new();
        match self {
            Self::Year => span.try_years(count),
            Self::Month => span.try_months(count),
            Self::Day => span.try_days(count),
            Self::Hour => span.try_hours(count),
            Self::Minute => span.try_minutes(count),
            Self::Second => span.try_seconds(count),
            Self::Millisecond => span.try_milliseconds(count),
        }
        .ok()
    }

    fn milliseconds(self) -> Option<i64> {
        Some(match self {
            Self::Year | Self::Month => return None,
            Self::Day => 86_400_000,
            Self::Hour => 3_600_000,
            Self::Minute => 60_000,
            Self::Second => 1000,
            Self::Millisecond => 1,
        })
    }
}

const PARTS: &str = "year, month, day, hour, minute, second or millisecond";

fn unknown_part(name: &str, index: usize, expected: &str) -> Problem {
    Problem::Value(
        index,
        format!("{} is not a part; expected {expected}", shown(name)),
    )
}

fn unknown_zone(name: &str, index: usize) -> Problem {
    let reason = format!(
        "{} is not a time zone; expected a name such as Europe/Berlin, or an offset such as +02:00",
        shown(name)
    );
    Problem::Value(index, reason)
}

fn out_of_range() -> Problem {
    Problem::Because("the date is out of range".to_owned())
}

fn date(args: &[Val<'_>], index: usize) -> Result<Date, Problem> {
    match args[index].get() {
        Some(Value::Int(ms)) => Ok(Date {
            zoned: from_ms(*ms)?,
            text: false,
        }),
        // JSON encoders write large integers as floats.
        Some(Value::Float(ms)) if ms.fract() == 0.0 => Ok(Date {
            zoned: from_ms(crate::eval::whole(*ms).ok_or_else(out_of_range)?)?,
            text: false,
        }),
        Some(Value::String(text)) => match parse_iso(text) {
            Some(zoned) => Ok(Date { zoned, text: true }),
            None => Err(Problem::Value(
                index,
                format!("{} is not an ISO-8601 date with a zone", shown(text)),
            )),
        },
        _ => Err(Problem::Argument(
            index,
            "an ISO-8601 date with a zone or Unix milliseconds",
        )),
    }
}

fn from_ms(ms: i64) -> Result<Zoned, Problem> {
    Timestamp::from_millisecond(ms)
        .map(|time| time.to_zoned(TimeZone::UTC))
        .map_err(|_| out_of_range())
}

/// A date, a time and an offset; the zone of the result is that offset.
fn parse_iso(text: &str) -> Option<Zoned> {
    let pieces = Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset()?;
    pieces
        .date()
        .to_datetime(pieces.time()?)
        .to_zoned(TimeZone::fixed(offset))
        .ok()
}

/// The zone of an optional argument.
fn zone(args: &[Val<'_>], index: usize) -> Result<Option<TimeZone>, Problem> {
    if args.len() <= index {
        return Ok(None);
    }
    let name = string(args, index)?;
    find_zone(name)
        .map(Some)
        .ok_or_else(|| unknown_zone(name, index))
}

fn find_zone(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("z") || name.eq_ignore_ascii_case("utc") {
        return Some(TimeZone::UTC);
    }
    if name.starts_with(['+', '-']) {
        let with_offset = format!("1970-01-01T00:00:00{name}");
        let offset = Pieces::parse(&with_offset).ok()?.to_numeric_offset();
        return offset.map(TimeZone::fixed);
    }
    TimeZone::get(name).ok()
}

/// The answer in the form that was asked for: text for text or where a format is given.
fn answer<'a>(zoned: &Zoned, text: bool, args: &[Val<'_>], first: usize) -> Answer<'a> {
    let shifted = match zone(args, first + 1)? {
        Some(zone) => zoned.with_time_zone(zone),
        None => zoned.clone(),
    };
    if args.len() > first {
        return format::print(string(args, first)?, first, &shifted).map(Val::text);
    }
    Ok(match text {
        true => Val::text(format::iso(&shifted)),
        false => Val::int(shifted.timestamp().as_millisecond()),
    })
}

fn clock<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let now = from_ms(i64::try_from(env.now_ms).unwrap_or(i64::MAX))?;
    answer(&now, true, args, 0)
}

fn shift<'a>(args: &[Val<'a>], negative: bool) -> Answer<'a> {
    let date = date(args, 0)?;
    let part = Part::of(args, 1)?;
    let count = integer(args, 2)?;
    let count = match negative {
        true => count.checked_neg().ok_or_else(out_of_range)?,
        false => count,
    };
    let moved = part
        .span(count)
        .and_then(|span| date.zoned.checked_add(span).ok())
        .ok_or_else(out_of_range)?;
    answer(&moved, date.text, args, 3)
}

fn date_add<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    shift(args, false)
}

fn date_sub<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    shift(args, true)
}

/// The whole parts from the second date to the first.
fn date_diff<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let (later, earlier) = (date(args, 0)?.zoned, date(args, 1)?.zoned);
    let part = Part::of(args, 2)?;
    if let Some(unit) = part.milliseconds() {
        let later = later.timestamp().as_millisecond();
        return Ok(Val::int(
            (later - earlier.timestamp().as_millisecond()) / unit,
        ));
    }
    // Months are counted on one calendar, that of the second date.
    let later = later.with_time_zone(earlier.time_zone().clone());
    let span = earlier
        .datetime()
        .until((part.unit(), later.datetime()))
        .map_err(|_| out_of_range())?;
    Ok(Val::int(match part {
        Part::Year => span.get_years().into(),
        _ => span.get_months().into(),
    }))
}

fn date_part<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let date = date(args, 0)?.zoned;
    let name = string(args, 1)?.to_ascii_lowercase();
    if let Some(part) = Part::find(&name) {
        return Ok(Val::int(match part {
            Part::Year => date.year().into(),
            Part::Month => date.month().into(),
            Part::Day => date.day().into(),
            Part::Hour => date.hour().into(),
            Part::Minute => date.minute().into(),
            Part::Second => date.second().into(),
            Part::Millisecond => date.millisecond().into(),
        }));
    }
    match name.as_str() {
        "weekday" => Ok(Val::int(date.weekday().to_monday_one_offset().into())),
        "monthname" => format::print("%B", 1, &date).map(Val::text),
        "tz" | "timezone" => format::print("%:z", 1, &date).map(Val::text),
        _ => Err(unknown_part(
            &name,
            1,
            "year, month, day, hour, minute, second, millisecond, weekday, monthname or timezone",
        )),
    }
}

fn date_trunc<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let date = date(args, 0)?;
    let part = Part::of(args, 1)?;
    let at = date.zoned.datetime();
    let keep = |kept: bool, value: i8| if kept { value } else { 0 };
    let finer = |than: Part| part.unit() < than.unit();
    let day = match part {
        Part::Year => at.date().first_of_year(),
        Part::Month => at.date().first_of_month(),
        _ => at.date(),
    };
    let time = Time::new(
        keep(finer(Part::Day), at.hour()),
        keep(finer(Part::Hour), at.minute()),
        keep(finer(Part::Minute), at.second()),
        match part {
            Part::Millisecond => i32::from(at.millisecond()) * 1_000_000,
            _ => 0,
        },
    );
    let cut = time
        .and_then(|time| {
            day.to_datetime(time)
                .to_zoned(date.zoned.time_zone().clone())
        })
        .map_err(|_| out_of_range())?;
    answer(&cut, date.text, args, 2)
}

fn date_format<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let date = date(args, 0)?;
    answer(&date.zoned, date.text, args, 1)
}

/// Text in a format to milliseconds. Without a zone in the text it is UTC.
fn date_cast<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let zoned = match args.len() {
        1 => date(args, 0)?.zoned,
        _ => format::read(string(args, 1)?, string(args, 0)?)?,
    };
    Ok(Val::int(zoned.timestamp().as_millisecond()))
}

/// `date_range(from, to, part, count [, format [, zone]])`; `to` is not in it.
fn date_range<'a>(env: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let (from, to) = (date(args, 0)?, date(args, 1)?);
    let part = Part::of(args, 2)?;
    let step = integer(args, 3)?;
    if step == 0 {
        return Err(Problem::Value(3, "the step is 0".to_owned()));
    }
    let mut items = Vec::new();
    for index in 0i64.. {
        // Counted from the start, so that months keep their day where they have it.
        let at = index
            .checked_mul(step)
            .and_then(|count| part.span(count))
            .and_then(|span| from.zoned.checked_add(span).ok());
        let Some(at) = at else {
            break;
        };
        let inside = match step > 0 {
            true => at.timestamp() < to.zoned.timestamp(),
            false => at.timestamp() > to.zoned.timestamp(),
        };
        if !inside {
            break;
        }
        // An item is a short string, but finding it walks the calendar: 80,000 are the most.
        if !env.spend(256) {
            return because("the range is too long");
        }
        if let Some(item) = env.own(answer(&at, from.text, args, 4)?) {
            items.push(item);
        }
    }
    Ok(Val::Own(Value::Array(items)))
}

fn tz_offset<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    let offset = match args.len() {
        1 => date(args, 0)?.zoned.offset(),
        _ => match string(args, 1)? {
            // Without a date the same at any time, so that the same statement gives the same.
            format if format.eq_ignore_ascii_case("tzn") || format.eq_ignore_ascii_case("tzd") => {
                let zone = find_zone(text).ok_or_else(|| unknown_zone(text, 0))?;
                zone.to_offset(Timestamp::UNIX_EPOCH)
            }
            format => format::read(format, text)?.offset(),
        },
    };
    Ok(Val::int((offset.seconds() / 60).into()))
}

/// Milliseconds of one unit of a duration.
fn duration_unit(args: &[Val<'_>]) -> Result<i64, Problem> {
    if args.len() < 2 {
        return Ok(1);
    }
    match Part::of(args, 1)?.milliseconds() {
        Some(ms) => Ok(ms),
        None => Err(Problem::Value(
            1,
            "years and months have no fixed length; expected day, hour, minute, second or \
             millisecond"
                .to_owned(),
        )),
    }
}

/// A duration such as `1h30m` or `PT1H30M` in milliseconds, or in whole units.
fn duration_cast<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let text = string(args, 0)?;
    let unit = duration_unit(args)?;
    let ms = text.parse::<Span>().ok().and_then(|span| {
        // A day is 24 hours; months and years have no fixed length and fail.
        span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
    });
    match ms.and_then(|duration| i64::try_from(duration.as_millis()).ok()) {
        Some(ms) => Ok(Val::int(ms / unit)),
        None => Err(Problem::Value(
            0,
            format!("{} is not a duration such as `1h30m`", shown(text)),
        )),
    }
}

/// A number of milliseconds, or of units, as a duration such as `1h30m`.
fn duration_format<'a>(_: &Env<'a>, args: &mut [Val<'a>]) -> Answer<'a> {
    let unit = duration_unit(args)?;
    let Some(ms) = integer(args, 0)?.checked_mul(unit) else {
        return because("the duration is out of range");
    };
    let mut rest = ms.unsigned_abs();
    let mut out = String::new();
    for (ms, sign) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
        (1, "ms"),
    ] {
        if rest / ms > 0 {
            out.push_str(&format!("{}{sign}", rest / ms));
            rest %= ms;
        }
    }
    Ok(Val::text(match (out.is_empty(), ms < 0) {
        (true, _) => "0ms".to_owned(),
        (false, true) => format!("-{out}"),
        (false, false) => out,
    }))
}
