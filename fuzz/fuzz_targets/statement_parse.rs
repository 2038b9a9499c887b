//! DQL: whatever text comes, there is a statement or an error that points into the text.

use idem_model::Object;
use idem_query::parse;

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "statement_parse",
    run,
    seeds: || {
        STATEMENTS
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect()
    },
};

const STATEMENTS: &[&str] = &[
    "SELECT * FROM airports",
    "SELECT DISTINCT a.name AS n, lower(city) FROM airports AS a WHERE a.at.lat > -17.5 AND NOT \
     (country IN ('PF', :c) OR name LIKE 'An%') ORDER BY n DESC, _id LIMIT 10 OFFSET 2",
    "SELECT country, COUNT(*), AVG(elevation_ft) FROM airports GROUP BY country",
    "SELECT * FROM `odd name` WHERE `a b` IS NOT MISSING AND x IS NULL AND 1 + 2 * -3 >= 4e1",
    "INSERT INTO airports DOCUMENTS ({'_id': 'AAA', 'tags': [1, 'a', null]}), (:doc) ON ID \
     CONFLICT DO UPDATE",
    "INSERT INTO airports INITIAL DOCUMENTS ({'_id': 1})",
    "UPDATE airports SET name = 'x', at.lat = 1.5 UNSET tags WHERE _id = 'AAA'",
    "UPDATE airports APPLY visits INCREMENT BY 1 WHERE _id = 'AAA'",
    "DELETE FROM airports WHERE country = 'PF' LIMIT 5",
    "EVICT FROM airports WHERE elevation_ft < 0 -- below the sea",
];

fn run(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else {
        return Verdict::Rejected;
    };
    match parse(text) {
        Ok(statement) => {
            if let Ok(selector) = statement.subscription(&Object::new()) {
                canonical_is_stable(&selector);
            }
            Verdict::Accepted
        }
        Err(error) => {
            assert!(!error.render(text).is_empty(), "an error says something");
            if let Some(position) = error.position() {
                let lines = text.split('\n').count().max(1);
                let line = usize::try_from(position.line).expect("a line number");
                assert!((1..=lines).contains(&line), "line {line} of {lines}");
            }
            Verdict::Rejected
        }
    }
}

/// The canonical text names the subscription on the wire: it parses, and to itself.
fn canonical_is_stable(selector: &idem_query::Selector) {
    let fields = samples::fields();
    let canonical = selector.canonical();
    let statement = parse(&canonical).unwrap_or_else(|error| panic!("{canonical}: {error}"));
    let again = statement.subscription(&Object::new());
    let again = again.unwrap_or_else(|error| panic!("{canonical}: {error}"));
    assert_eq!(again.canonical(), canonical);
    assert_eq!(again.matches(&fields), selector.matches(&fields));
}
