//! DQL: whatever text comes, there is a statement or an error that points into the text.

use idem_model::Object;
use idem_query::{parse, printed_again};

use super::{samples, statement_compare};
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "statement_parse",
    run,
    seeds: || {
        let written = STATEMENTS.iter().map(|text| text.as_bytes().to_vec());
        let random = statement_compare::scripts();
        let lines = random
            .iter()
            .flat_map(|script| script.split(|byte| *byte == b'\n'));
        let is_valid =
            |line: &&[u8]| std::str::from_utf8(line).is_ok_and(|line| parse(line).is_ok());
        let queries = lines.filter(|line| !line.starts_with(b"INSERT") && is_valid(line));
        written.chain(queries.map(<[u8]>::to_vec)).collect()
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
    "SELECT o.n, x.*, MISSING x.y FROM (SELECT * FROM c) AS o LEFT JOIN d AS x USE INDEX 'i' ON \
     x.a = o.a RIGHT JOIN e ON true UNNEST o.items AS i UNION ALL (SELECT a FROM f UNION SELECT b FROM g)",
    "SELECT ANY AND EVERY k:v WITHIN a SATISFIES v SIMILAR TO '%' ESCAPE '!' END, OBJECT k : v FOR \
     k:v IN o WHEN v XOR true END, CASE a WHEN 1 THEN 2 ELSE CAST(b AS string) END, a[-1].b FROM c",
    "CREATE INDEX IF NOT EXISTS i ON c ((lower(s)) DESC, a.b, DISTINCT ARRAY t FOR t IN tags END)",
    "CREATE COLLECTION IF NOT EXISTS c (n COUNTER, o.m MAP)",
    "EXPLAIN UPDATE COLLECTION c (n COUNTER) USE IDS LIST :q APPLY n RESTART WITH 3 SET f -> (g = 1) \
     WHERE EXISTS (SELECT 1 FROM d) RETURNING COUNT(DISTINCT n)",
    "ALTER SYSTEM SET a = DEFAULT",
    "SHOW ALL LIKE 'a%'",
    "PROFILE SELECT TRIM(BOTH 'x' FROM s), POSITION('a' IN s), date_add(d, 'day', 1) FROM system:dual",
    "ADVISE AND PROVISION SELECT conflicts(a), document_version() FROM c ORDER BY a LIMIT 1",
];

fn run(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else {
        return Verdict::Rejected;
    };
    match parse(text) {
        Ok(statement) => {
            printed_is_stable(text);
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

/// The printed statement parses, and prints as itself.
fn printed_is_stable(text: &str) {
    let printed = printed_again(text).expect("it was parsed before");
    match printed_again(&printed) {
        Ok(again) => assert_eq!(again, printed, "of {text}"),
        Err(error) => panic!("{printed}: {error}, of {text}"),
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
