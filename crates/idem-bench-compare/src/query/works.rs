//! The statements, in both languages.

use super::{
    Args, Goal,
    airports::{Airports, int},
};

/// One kind of statement.
pub(super) struct Work {
    /// Stable name.
    pub(super) workload: &'static str,
    /// What Idem runs.
    pub(super) dql: &'static str,
    /// What SQLite runs; `json_set` stands for the function that keeps the form of the document.
    pub(super) sql: &'static str,
    /// Statements a round.
    pub(super) calls: u64,
    /// The arguments of call `number`.
    pub(super) args: fn(&Airports, u64) -> Args,
    /// Whether the order of the rows is part of the answer.
    pub(super) is_ordered: bool,
    /// For a statement that writes: what both sides are asked afterwards, outside of the clock.
    pub(super) check: Option<Check>,
    pub(super) goal: Goal,
    pub(super) goal_text: &'static str,
}

/// The same question about all documents to both sides.
pub(super) struct Check {
    pub(super) dql: &'static str,
    pub(super) sql: &'static str,
}

/// Rows of the range.
const RANGE_ROWS: u64 = 1_000;
/// Documents that an UPDATE changes, at most a third of all.
const UPDATED_ROWS: u64 = 10_000;

fn nothing(_: &Airports, _: u64) -> Args {
    Vec::new()
}

pub(super) const WORKS: [Work; 8] = [
    Work {
        workload: "count-all",
        dql: "SELECT COUNT(*) AS n FROM airports",
        sql: "SELECT COUNT(*) AS n FROM airports",
        calls: 20,
        args: nothing,
        is_ordered: true,
        check: None,
        goal: Goal::Below(1.0),
        goal_text: "under 1 ms",
    },
    Work {
        workload: "indexed-equality",
        dql: "SELECT _id, name, elevation_ft FROM airports WHERE icao = :icao",
        sql: "SELECT id AS _id, json_extract(body, '$.name') AS name, \
              json_extract(body, '$.elevation_ft') AS elevation_ft \
              FROM airports WHERE json_extract(body, '$.icao') = :icao",
        calls: 500,
        args: |airports, number| vec![("icao", airports.icao(number))],
        is_ordered: false,
        check: None,
        goal: Goal::Ratio(1.0),
        goal_text: "1.0x",
    },
    Work {
        workload: "range-1000-projected",
        dql: "SELECT _id, name, country FROM airports WHERE icao >= :from AND icao < :to",
        sql: "SELECT id AS _id, json_extract(body, '$.name') AS name, \
              json_extract(body, '$.country') AS country FROM airports \
              WHERE json_extract(body, '$.icao') >= :from AND json_extract(body, '$.icao') < :to",
        calls: 20,
        args: |airports, number| {
            let (from, to) = airports.icao_range(number, RANGE_ROWS);
            vec![("from", from), ("to", to)]
        },
        is_ordered: false,
        check: None,
        goal: Goal::Ratio(1.0),
        goal_text: "1.0x",
    },
    Work {
        workload: "order-indexed-limit-20",
        dql: "SELECT name, elevation_ft FROM airports ORDER BY elevation_ft DESC LIMIT 20",
        sql: "SELECT json_extract(body, '$.name') AS name, \
              json_extract(body, '$.elevation_ft') AS elevation_ft FROM airports \
              ORDER BY json_extract(body, '$.elevation_ft') DESC LIMIT 20",
        calls: 50,
        args: nothing,
        is_ordered: true,
        check: None,
        goal: Goal::Below(0.2),
        goal_text: "under 0.2 ms",
    },
    Work {
        workload: "full-scan-filter",
        dql: "SELECT _id, name FROM airports WHERE region = :region",
        sql: "SELECT id AS _id, json_extract(body, '$.name') AS name FROM airports \
              WHERE json_extract(body, '$.region') = :region",
        calls: 1,
        args: |_, _| vec![("region", "Queensland".into())],
        is_ordered: false,
        check: None,
        goal: Goal::Ratio(1.0),
        goal_text: "1.0x",
    },
    Work {
        workload: "group-by-all",
        dql: "SELECT country, COUNT(*) AS n, SUM(elevation_ft) AS total, \
              MAX(elevation_ft) AS highest FROM airports GROUP BY country",
        sql: "SELECT json_extract(body, '$.country') AS country, COUNT(*) AS n, \
              SUM(json_extract(body, '$.elevation_ft')) AS total, \
              MAX(json_extract(body, '$.elevation_ft')) AS highest \
              FROM airports GROUP BY json_extract(body, '$.country')",
        calls: 1,
        args: nothing,
        is_ordered: false,
        check: None,
        goal: Goal::Ratio(0.7),
        goal_text: "0.7x",
    },
    // Neither table has an index over the field for Idem. SQLite has no hash join: without the
    // expression index that it gets it would read a hundred million pairs.
    Work {
        workload: "hash-join-1000",
        dql: "SELECT COUNT(*) AS n, SUM(a.elevation_ft + r.zone) AS total \
              FROM airports AS a JOIN regions AS r ON a.region = r.name",
        sql: "SELECT COUNT(*) AS n, SUM(json_extract(a.body, '$.elevation_ft') \
              + json_extract(r.body, '$.zone')) AS total FROM airports AS a \
              JOIN regions AS r ON json_extract(a.body, '$.region') = json_extract(r.body, '$.name')",
        calls: 1,
        args: nothing,
        is_ordered: true,
        check: None,
        goal: Goal::Ratio(0.7),
        goal_text: "0.7x",
    },
    Work {
        workload: "update-10000",
        dql: "UPDATE airports SET checked = :mark WHERE number >= :from AND number < :to",
        sql: "UPDATE airports SET body = json_set(body, '$.checked', :mark) \
              WHERE json_extract(body, '$.number') >= :from AND json_extract(body, '$.number') < :to",
        calls: 1,
        args: |airports, number| {
            let count = UPDATED_ROWS.min(airports.count / 3);
            let from = number * count % (airports.count - count);
            vec![
                ("mark", int(number + 1)),
                ("from", int(from)),
                ("to", int(from + count)),
            ]
        },
        is_ordered: true,
        check: Some(Check {
            dql: "SELECT COUNT(checked) AS n, SUM(checked) AS total FROM airports",
            sql: "SELECT COUNT(json_extract(body, '$.checked')) AS n, \
             SUM(json_extract(body, '$.checked')) AS total FROM airports",
        }),
        goal: Goal::Ratio(1.0),
        goal_text: "1.0x",
    },
];
