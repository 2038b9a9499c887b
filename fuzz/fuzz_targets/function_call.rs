//! Every function on arguments of every kind: no panic, no hang, no large value.

use idem_model::{Object, Value, json};
use idem_query::functions;

use crate::{
    double::Memory,
    mutator::Random,
    statements::{Choices, Numbers},
    target::{Target, Verdict},
};

pub(super) const TARGET: Target = Target {
    name: "function_call",
    run,
    seeds: || {
        let mut random = Random::new(1);
        (0..200)
            .map(|_| {
                let bytes = (0..60).map(|_| random.bits().to_le_bytes()[0]);
                bytes.collect::<Vec<u8>>()
            })
            .filter(|seed| run(seed) == Verdict::Accepted)
            .collect()
    },
};

/// Texts that some function reads as a date, a format, a zone, a part, a duration or a pattern.
const TEXTS: &[&str] = &[
    "2026-03-15T10:30:45Z",
    "2026-03-29T01:30:00+01:00",
    "0000-01-01T00:00:00Z",
    "-9999-12-31T23:59:59-23:59",
    "YYYY-MM-DD hh:mm:ss.sss TZD",
    "%Y-%m-%d %H:%M:%S.%f %z %Z %j %Q %",
    "Europe/Berlin",
    "+99:99",
    "-00:30",
    "millisecond",
    "year",
    "month",
    "weekday",
    "1h30m",
    "-9999999999999999999999d",
    "(a|b)*c{2,5}[^x-z]+$",
    "((((((x{100}){100}){100}){100}){100}){100})",
    "%_\\%",
    "imsx",
    "{\"a\": [1, 2.5, null, \"\\ud800\"]}",
    "\u{1f600}e\u{301}",
    " ,;",
];

const NUMBERS: &[i64] = &[
    i64::MIN,
    i64::MIN + 1,
    i64::MAX,
    1_773_570_645_000,
    253_402_300_800_000,
    -62_167_219_200_001,
    1 << 31,
    1000,
];

fn run(data: &[u8]) -> Verdict {
    let mut choices = Choices::new(data);
    let text = format!("SELECT {} AS v FROM system:dual", call(&mut choices, 2));
    match Memory::default().run(&text, &Object::new()) {
        Ok(output) => {
            let row = output.items.into_iter().next();
            let value = row.and_then(|mut row| row.remove("v"));
            assert!(
                value.is_none_or(|value| value.is_finite()),
                "{text} gives a number that is none"
            );
            Verdict::Accepted
        }
        Err(error) => {
            assert!(!error.render(&text).is_empty(), "an error says something");
            Verdict::Rejected
        }
    }
}

fn call(choices: &mut Choices<'_>, depth: usize) -> String {
    let all: Vec<_> = functions().collect();
    let function = &all[choices.below(all.len().min(256))];
    if choices.percent(15) && !function.examples.is_empty() {
        let example = &function.examples[choices.below(function.examples.len())];
        return format!("( {} )", example.expression);
    }
    // As many as the signature names, or a few fewer or more.
    let named = function.signature.matches(',').count() + 1;
    let len = match choices.weighted(&[8, 1, 1]) {
        0 => named,
        1 => named.saturating_sub(1),
        _ => named + 1,
    };
    let args: Vec<String> = (0..len).map(|_| argument(choices, depth)).collect();
    format!("{} ( {} )", function.name, args.join(" , "))
}

fn argument(choices: &mut Choices<'_>, depth: usize) -> String {
    let numbers = Numbers {
        has_whole_floats: true,
    };
    let value = match choices.weighted(&[4, 4, 2, 2, 1]) {
        0 => numbers.value(choices),
        1 => Value::from(choices.of(TEXTS)),
        2 => Value::Int(choices.of(NUMBERS)),
        3 if depth > 0 => return call(choices, depth - 1),
        _ => return "MISSING".to_owned(),
    };
    json::to_string(&value)
}
