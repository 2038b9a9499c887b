//! Statements that are stopped: by a call from outside, or because they hold too much.

use std::{cell::Cell, time::Duration};

use idem_model::{Object, Value};
use idem_query::{
    Context, ErrorKind, ExecuteError, Interrupt, QueryError, StatementLimits, execute_mut, parse,
};

use crate::memory::{Memory, NOW_MS};

/// What the double says a statement was given; nothing here looks at a clock.
const TIME_MAX: Duration = Duration::from_millis(250);

const ROWS: usize = 4000;

fn filled() -> Memory {
    let mut memory = Memory::default();
    let documents = (0..ROWS)
        .map(|n| {
            let n = i64::try_from(n).unwrap();
            Value::Object(Object::from([
                ("_id".to_owned(), Value::Int(n)),
                ("n".to_owned(), Value::Int(n)),
            ]))
        })
        .collect();
    let args = Object::from([("docs".to_owned(), Value::Array(documents))]);
    memory
        .run("INSERT INTO t DOCUMENTS (:docs)", &args)
        .unwrap();
    memory.run("CREATE INDEX by_n ON t (n)", &args).unwrap();
    memory
}

fn error_of(memory: &mut Memory, text: &str, context: &Context<'_>) -> QueryError {
    match execute_mut(&parse(text).unwrap(), context, memory) {
        Err(ExecuteError::Query(error)) => error,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn every_kind_of_statement_stops_soon_when_asked() {
    let args = Object::new();
    for text in [
        "SELECT * FROM t",
        "SELECT * FROM t WHERE n >= 0",
        "SELECT n FROM t ORDER BY n DESC",
        "SELECT COUNT(*), SUM(n) FROM t GROUP BY n % 7",
        "SELECT DISTINCT n FROM t",
        "UPDATE t SET m = n",
        "DELETE FROM t",
        "EVICT FROM t RETURNING *",
        "INSERT INTO u SELECT * FROM t",
    ] {
        for (interrupt, kind) in [
            (Interrupt::Cancelled, ErrorKind::Cancelled),
            (Interrupt::TimedOut(TIME_MAX), ErrorKind::TimedOut),
        ] {
            let mut memory = filled();
            memory.rows_read.set(0);
            let looks = Cell::new(0);
            let check = || {
                looks.set(looks.get() + 1);
                (looks.get() == 2).then_some(interrupt)
            };
            let context = Context::new(&args, NOW_MS).with_interrupt(&check);
            let error = error_of(&mut memory, text, &context);
            assert_eq!(error.kind(), kind, "{text}");
            assert_eq!(looks.get(), 2, "{text}: it was asked again");
            let read = memory.rows_read.get();
            assert!(read <= 1024, "{text}: read {read} rows");
        }
    }
}

#[test]
fn one_expensive_row_stops_too() {
    let mut memory = Memory::default();
    let args = Object::from([(
        "list".to_owned(),
        Value::Array((0..2000).map(Value::Int).collect()),
    )]);
    let looks = Cell::new(0_u32);
    let check = || {
        looks.set(looks.get() + 1);
        (looks.get() >= 3).then_some(Interrupt::TimedOut(TIME_MAX))
    };
    let context = Context::new(&args, NOW_MS).with_interrupt(&check);
    let text = "SELECT ANY a IN :list SATISFIES ANY b IN :list SATISFIES a + b < 0 END END \
                FROM system:dual";
    let error = error_of(&mut memory, text, &context);
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(looks.get(), 3);
}

#[test]
fn what_a_statement_holds_has_a_bound_that_the_error_names() {
    let args = Object::new();
    let mut memory = filled();
    let limits = StatementLimits::default().memory_bytes(100_000);
    let context = Context::new(&args, NOW_MS).with_limits(limits);
    for (text, clause) in [
        ("SELECT DISTINCT n FROM t", "DISTINCT"),
        ("SELECT COUNT(*) FROM t GROUP BY n", "GROUP BY"),
    ] {
        let error = error_of(&mut memory, text, &context);
        assert_eq!(error.kind(), ErrorKind::Execution, "{text}");
        assert!(error.message().starts_with(clause), "{error}");
        assert!(error.message().contains("100000 bytes"), "{error}");
        assert!(error.hint().unwrap().contains("statement_memory_bytes"));
        memory.rows(text);
    }
    execute_mut(
        &parse("SELECT COUNT(*) FROM t GROUP BY n % 7").unwrap(),
        &context,
        &mut memory,
    )
    .unwrap();
}

/// The run of a statement that is to stop at the second look.
fn stops_at_the_second_look(memory: &mut Memory, text: &str, args: &Object) {
    let looks = Cell::new(0);
    let check = || {
        looks.set(looks.get() + 1);
        (looks.get() == 2).then_some(Interrupt::TimedOut(TIME_MAX))
    };
    let context = Context::new(args, NOW_MS).with_interrupt(&check);
    let error = error_of(memory, text, &context);
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{text}");
    assert_eq!(looks.get(), 2, "{text}");
}

#[test]
fn work_that_gives_no_row_stops_too() {
    let mut memory = filled();
    let absent = (100_000..105_000).map(Value::Int).collect();
    let text = "x".repeat(1024 * 1024);
    let args = Object::from([
        ("absent".to_owned(), Value::Array(absent)),
        ("text".to_owned(), Value::from(text)),
        (
            "tags".to_owned(),
            Value::Array((0..5000).map(Value::Int).collect()),
        ),
    ]);
    stops_at_the_second_look(&mut memory, "SELECT * FROM t WHERE _id IN :absent", &args);
    // One document has all entries of the index.
    memory.rows("CREATE INDEX by_tag ON u (DISTINCT ARRAY t FOR t IN tags END)");
    memory
        .run("INSERT INTO u DOCUMENTS ({'tags': :tags})", &args)
        .unwrap();
    let elements = "SELECT _id FROM u WHERE ANY t IN tags SATISFIES t >= 0 END";
    let plan = memory.rows(&format!("EXPLAIN {elements}"));
    assert!(format!("{plan:?}").contains("by_tag"), "{plan:?}");
    stops_at_the_second_look(&mut memory, elements, &args);
    // Few evaluations, each over a long text.
    stops_at_the_second_look(
        &mut memory,
        "SELECT _id FROM t WHERE n < 9 AND regexp_like(:text, 'x*y')",
        &args,
    );
}

#[test]
fn answers_of_subqueries_are_held_until_the_end() {
    let args = Object::from([("text".to_owned(), Value::from("x".repeat(60_000)))]);
    let mut memory = filled();
    memory
        .run(
            "INSERT INTO u DOCUMENTS ({'_id': 1, 'a': :text, 'b': :text})",
            &args,
        )
        .unwrap();
    let limits = StatementLimits::default().memory_bytes(100_000);
    let context = Context::new(&args, NOW_MS).with_limits(limits);
    let one = "SELECT _id FROM t WHERE n < 3 AND (SELECT a FROM u) != 'a'";
    execute_mut(&parse(one).unwrap(), &context, &mut memory).unwrap();
    let two = format!("{one} AND (SELECT b FROM u) != 'b'");
    let error = error_of(&mut memory, &two, &context);
    assert!(error.message().starts_with("a subquery holds"), "{error}");
}
