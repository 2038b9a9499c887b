//! Cost of a statement outside of the store: parsing, and running over a source that costs nothing.
//!
//! `cargo bench -p idem-query` prints nanoseconds per operation, the best of several rounds.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark reads the clock and prints"
)]

use std::{convert::Infallible, hint::black_box, ops::ControlFlow, time::Instant};

use idem_model::{CollectionName, DocId, Object, Value};
use idem_query::{Context, Fields, IndexInfo, KeySpan, Source, execute, parse};

/// Gives the same small document for every id, and many of them to a scan.
struct Fixed {
    rows: usize,
    document: Object,
}

impl Source for Fixed {
    type Error = Infallible;

    fn get(&self, _: &CollectionName, _: &DocId, _: &Fields) -> Result<Option<Object>, Infallible> {
        Ok(Some(Object::new()))
    }

    fn scan(
        &self,
        _: &CollectionName,
        _: &Fields,
        visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        for _ in 0..self.rows {
            if visit(self.document.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_index(
        &self,
        _: &IndexInfo,
        _: &KeySpan,
        _: bool,
        _: &mut dyn FnMut(&[u8], DocId) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        Ok(())
    }

    fn count(&self, _: &CollectionName) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn indexes(&self, _: &CollectionName) -> Result<Vec<IndexInfo>, Infallible> {
        Ok(Vec::new())
    }

    fn system(&self, _: &str) -> Result<Option<Vec<Object>>, Infallible> {
        Ok(None)
    }
}

fn measure(name: &str, per_round: u32, mut work: impl FnMut()) {
    let best = (0..20)
        .map(|_| {
            let start = Instant::now();
            (0..per_round).for_each(|_| work());
            start.elapsed().as_nanos() / u128::from(per_round)
        })
        .min()
        .unwrap_or_default();
    println!("{name:<48} {best:>9} ns");
}

fn main() {
    let texts = [
        "SELECT * FROM orders WHERE _id = :id",
        "SELECT status, SUM(total) AS s FROM orders WHERE total > :least GROUP BY status ORDER BY s DESC LIMIT 10",
        "INSERT INTO orders DOCUMENTS (:document) ON ID CONFLICT DO UPDATE",
    ];
    for text in texts {
        let shown: String = text.chars().take(40).collect();
        measure(&format!("parse {shown}"), 2_000, || {
            black_box(parse(black_box(text)).unwrap());
        });
    }
    let args = Object::from([
        (
            "id".to_owned(),
            Value::from("0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b"),
        ),
        ("least".to_owned(), Value::Int(10)),
    ]);
    let context = Context::new(&args, 0);
    let source = Fixed {
        rows: 1000,
        document: Object::from([
            ("_id".to_owned(), Value::Int(1)),
            ("status".to_owned(), "open".into()),
            ("total".to_owned(), Value::Int(20)),
        ]),
    };
    let run = |name: &str, per_round: u32, text: &str| {
        let statement = parse(text).unwrap();
        measure(name, per_round, || {
            black_box(execute(&statement, &context, &source).unwrap());
        });
    };
    run("run by _id, cached", 10_000, texts[0]);
    run(
        "run 1000 rows, no filter, projected column",
        50,
        "SELECT total FROM orders",
    );
    run(
        "run 1000 rows, filter drops all",
        50,
        "SELECT * FROM orders WHERE total > 50 AND status = 'x'",
    );
    run(
        "run 1000 rows, all dropped by nothing",
        50,
        "SELECT * FROM orders WHERE false",
    );
    run("run 1000 rows, grouped and sorted", 50, texts[1]);
    run(
        "run 1000 rows, top 10",
        50,
        "SELECT * FROM orders ORDER BY total DESC LIMIT 10",
    );
}
