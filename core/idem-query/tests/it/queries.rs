//! Joins, subqueries, UNNEST, UNION, streaming and PROFILE by example, and the bounds of all of them.

use std::{cell::Cell, ops::ControlFlow};

use idem_model::{Object, Value, json};
use idem_query::{
    Context, ErrorKind, ExecuteError, Interrupt, QueryError, StatementLimits, execute,
    execute_each, execute_mut, parse,
};

use crate::memory::{Memory, NOW_MS};

/// Customers `c0..`, every third of them in Bonn, and orders `o0..` of them.
fn shop(customers: usize, orders: usize) -> Memory {
    let mut memory = Memory::default();
    let insert = |memory: &mut Memory, name: &str, documents: Vec<String>| {
        let list = json::parse(&format!("[{}]", documents.join(","))).unwrap();
        let args = Object::from([("d".to_owned(), list)]);
        let text = format!("INSERT INTO {name} DOCUMENTS (:d)");
        memory.run(&text, &args).unwrap();
    };
    let city = |number: usize| {
        if number.is_multiple_of(3) {
            "Bonn"
        } else {
            "Ulm"
        }
    };
    let of_customers = (0..customers).map(|number| {
        format!(
            r#"{{"_id":"c{number}","city":"{}","n":{number}}}"#,
            city(number)
        )
    });
    insert(&mut memory, "customers", of_customers.collect());
    let of_orders = (0..orders).map(|number| {
        let customer = number % customers.max(1);
        format!(
            r#"{{"_id":"o{number}","customer":"c{customer}","total":{number},"items":[{{"sku":"s{}","pieces":{}}},{{"sku":"t"}}]}}"#,
            number % 4,
            number % 5
        )
    });
    insert(&mut memory, "orders", of_orders.collect());
    memory
}

fn check(memory: &mut Memory, text: &str, expected: &str) {
    let found = Value::Array(memory.rows(text).into_iter().map(Value::Object).collect());
    let expected = json::parse(expected).unwrap();
    assert_eq!(
        json::to_string(&found),
        json::to_string(&expected),
        "{text}"
    );
}

fn fails(memory: &Memory, text: &str, limits: StatementLimits) -> QueryError {
    let args = Object::new();
    let statement = parse(text).unwrap_or_else(|error| panic!("{}", error.render(text)));
    let context = Context::new(&args, NOW_MS).with_limits(limits);
    match execute(&statement, &context, memory) {
        Err(ExecuteError::Query(error)) => error,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn joins_nest_under_their_aliases() {
    let mut shop = shop(2, 2);
    check(
        &mut shop,
        "SELECT * FROM orders o JOIN customers c ON c._id = o.customer WHERE o._id = 'o1'",
        r#"[{"_id":{"c":"c1","o":"o1"},"c":{"_id":"c1","city":"Ulm","n":1},
            "o":{"_id":"o1","customer":"c1","items":[{"pieces":1,"sku":"s1"},{"sku":"t"}],"total":1}}]"#,
    );
    check(
        &mut shop,
        "SELECT c._id AS c, o.total AS t FROM customers c LEFT JOIN orders o ON o.customer = c._id AND o.total > 0",
        r#"[{"c":"c0"},{"c":"c1","t":1}]"#,
    );
    check(
        &mut shop,
        "SELECT c._id AS c, o.total AS t FROM orders o RIGHT JOIN customers c ON o.customer = c._id AND o.total > 0",
        r#"[{"c":"c1","t":1},{"c":"c0"}]"#,
    );
}

#[test]
fn elements_join_their_documents() {
    let mut shop = shop(1, 2);
    check(
        &mut shop,
        "SELECT o._id, i.sku FROM orders o UNNEST o.items AS i WHERE i.sku != 't'",
        r#"[{"_id":"o0","sku":"s0"},{"_id":"o1","sku":"s1"}]"#,
    );
    check(
        &mut shop,
        "SELECT i.sku, COUNT(*) AS n FROM orders o UNNEST o.items AS i GROUP BY i.sku",
        r#"[{"sku":"s0","n":1},{"sku":"s1","n":1},{"sku":"t","n":2}]"#,
    );
    check(
        &mut shop,
        "SELECT c._id, i FROM customers c LEFT UNNEST c.items AS i",
        r#"[{"_id":"c0"}]"#,
    );
}

#[test]
fn derived_tables_are_sources() {
    let mut shop = shop(3, 9);
    check(
        &mut shop,
        "SELECT c.city, t.n FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) t \
         JOIN customers c ON c._id = t.customer WHERE t.customer != 'c1' ORDER BY c.city",
        r#"[{"city":"Bonn","n":3},{"city":"Ulm","n":3}]"#,
    );
    check(
        &mut shop,
        "SELECT * FROM (SELECT n FROM customers ORDER BY n DESC LIMIT 2) t WHERE t.n < 2",
        r#"[{"n":1}]"#,
    );
}

#[test]
fn subqueries_stand_for_values() {
    let mut shop = shop(3, 6);
    check(
        &mut shop,
        "SELECT _id, (SELECT COUNT(*) AS n FROM orders o WHERE o.customer = c._id) AS n \
         FROM customers c WHERE c.city = 'Bonn'",
        r#"[{"_id":"c0","n":2}]"#,
    );
    check(
        &mut shop,
        "SELECT _id FROM customers c WHERE c._id IN (SELECT o.customer FROM orders o WHERE o.total = 5)",
        r#"[{"_id":"c2"}]"#,
    );
    // Nothing is the same as MISSING.
    check(
        &mut shop,
        "SELECT (SELECT o.total FROM orders o WHERE o.total > 99) AS t FROM system:dual",
        "[{}]",
    );
    let text = "SELECT _id, (SELECT o.total FROM orders o) AS t FROM customers c";
    let error = fails(&shop, text, StatementLimits::default());
    assert!(error.message().contains("more than one row"), "{error}");
    assert_eq!(error.position().unwrap().column, 13);
}

#[test]
fn changes_see_what_was_there_before() {
    let mut shop = shop(3, 6);
    shop.rows(
        "UPDATE customers c SET n = (SELECT MAX(x.n) AS m FROM customers x) + 1 WHERE EXISTS \
         (SELECT 1 AS one FROM orders o WHERE o.customer = c._id AND o.total > 3)",
    );
    check(
        &mut shop,
        "SELECT _id, n FROM customers",
        r#"[{"_id":"c0","n":0},{"_id":"c1","n":3},{"_id":"c2","n":3}]"#,
    );
    shop.rows(
        "INSERT INTO totals SELECT c._id, SUM(o.total) AS total FROM customers c \
         JOIN orders o ON o.customer = c._id GROUP BY c._id",
    );
    check(
        &mut shop,
        "SELECT * FROM totals",
        r#"[{"_id":"c0","total":3},{"_id":"c1","total":5},{"_id":"c2","total":7}]"#,
    );
    let deleted = shop.rows(
        "DELETE FROM orders o WHERE o.customer IN (SELECT c._id FROM customers c WHERE c.city = 'Bonn') \
         RETURNING COUNT(*) AS n",
    );
    assert_eq!(deleted[0]["n"], Value::Int(2));
    shop.rows(
        "INSERT INTO notes DOCUMENTS ({'_id': 'n', 'orders': (SELECT COUNT(*) AS n FROM orders)})",
    );
    check(
        &mut shop,
        "SELECT * FROM notes",
        r#"[{"_id":"n","orders":4}]"#,
    );
}

#[test]
fn only_what_is_needed_is_read() {
    let mut shop = shop(10, 100);
    let reads = |shop: &mut Memory, text: &str| {
        shop.rows_read.set(0);
        shop.rows(text);
        shop.rows_read.get()
    };
    // Ten customers, and the orders up to the first of each: `o10` to `o19` come before `o2`.
    let exists = reads(
        &mut shop,
        "SELECT _id FROM customers c WHERE EXISTS (SELECT 1 AS one FROM orders o WHERE o.customer = c._id)",
    );
    assert_eq!(exists, 10 + 1 + 2 + (5..=12).sum::<usize>());
    // The subquery runs once.
    let once = reads(
        &mut shop,
        "SELECT _id FROM orders o WHERE o.customer IN (SELECT c._id FROM customers c WHERE c.city = 'Bonn')",
    );
    assert_eq!(once, 110);
    // Both sides once.
    let hashed = reads(
        &mut shop,
        "SELECT COUNT(*) AS n FROM orders o JOIN customers c ON c._id = o.customer",
    );
    assert_eq!(hashed, 110);
    // One row, and the one that it names.
    let looked_up = reads(
        &mut shop,
        "SELECT o._id AS id FROM orders o JOIN customers c ON c._id = o.customer WHERE o._id = 'o7'",
    );
    assert_eq!(looked_up, 2);
    let stopped = reads(
        &mut shop,
        "SELECT i.sku FROM orders o UNNEST o.items AS i LIMIT 5",
    );
    assert_eq!(stopped, 3);
}

#[test]
fn rows_are_given_one_by_one() {
    let shop = shop(1, 1000);
    let args = Object::new();
    let context = Context::new(&args, NOW_MS);
    let statement = parse("SELECT total FROM orders WHERE total >= 10").unwrap();
    let mut seen = 0;
    let visit = &mut |_row| {
        seen += 1;
        match seen < 5 {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    execute_each(&statement, &context, &shop, visit).unwrap();
    assert_eq!(seen, 5);
    assert!(shop.rows_read.get() < 40, "{}", shop.rows_read.get());
    // A scan, a join that looks up and an UNNEST hold next to nothing.
    let small = StatementLimits::default().memory_bytes(2000);
    for text in [
        "SELECT * FROM orders",
        "SELECT * FROM orders LIMIT 1000 OFFSET 900",
        "SELECT o._id, i.sku FROM orders o UNNEST o.items AS i",
        "SELECT COUNT(*) AS n, SUM(total) AS s FROM orders WHERE total > 3",
        "SELECT _id FROM orders UNION ALL SELECT _id FROM customers",
        "SELECT _id FROM orders ORDER BY _id",
    ] {
        let context = context.with_limits(small);
        let statement = parse(text).unwrap();
        let output = execute(&statement, &context, &shop);
        if !text.contains("ORDER BY") {
            output.unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
}

#[test]
fn what_is_held_is_bounded() {
    let shop = shop(200, 400);
    let small = StatementLimits::default().memory_bytes(4000);
    for (clause, text) in [
        ("ORDER BY", "SELECT * FROM orders ORDER BY total + 1"),
        (
            "GROUP BY",
            "SELECT total, COUNT(*) AS n FROM orders GROUP BY total",
        ),
        ("GROUP BY", "SELECT COUNT(DISTINCT total) AS n FROM orders"),
        ("GROUP BY", "SELECT MEDIAN(total) AS n FROM orders"),
        (
            "GROUP BY",
            "SELECT MAX([o, o, o, o, o, o, o, o, o, o, o, o]) AS m FROM orders o",
        ),
        ("DISTINCT", "SELECT DISTINCT total FROM orders"),
        (
            "UNION",
            "SELECT total FROM orders UNION SELECT n FROM customers",
        ),
        (
            "JOIN",
            "SELECT o._id AS id FROM orders o JOIN customers c ON c.city = o.city",
        ),
        (
            "JOIN",
            "SELECT o._id AS id FROM orders o JOIN customers c ON c.n < o.total",
        ),
        (
            "a subquery",
            "SELECT _id FROM customers c WHERE c._id IN (SELECT o.customer FROM orders o)",
        ),
    ] {
        let error = fails(&shop, text, small);
        let expected = format!("{clause} holds more than the 4000 bytes of memory");
        assert!(error.message().starts_with(&expected), "{text}: {error}");
        assert!(
            error.hint().unwrap().contains("statement_memory_bytes"),
            "{text}"
        );
    }
    // What one subquery held is given back before the next.
    let text = "SELECT _id, (SELECT COUNT(DISTINCT o.total) AS n FROM orders o WHERE o.customer = c._id) AS n FROM customers c";
    let statement = parse(text).unwrap();
    let args = Object::new();
    let context = Context::new(&args, NOW_MS).with_limits(small);
    assert_eq!(
        execute(&statement, &context, &shop).unwrap().items.len(),
        200
    );
}

#[test]
fn every_operator_can_be_interrupted() {
    let shop = shop(300, 600);
    for text in [
        "SELECT COUNT(*) AS n FROM orders a JOIN orders b ON a.total < b.total + 1000",
        "SELECT COUNT(*) AS n FROM orders a JOIN orders b ON b.total >= 0 JOIN orders c ON c.total >= 0",
        "SELECT _id FROM orders o WHERE EXISTS (SELECT 1 AS x FROM orders p WHERE p.total < o.total - 9999)",
        "SELECT COUNT(*) AS n FROM orders a UNNEST a.items AS i UNNEST a.items AS j",
    ] {
        let looks = Cell::new(0);
        let check = || {
            looks.set(looks.get() + 1);
            (looks.get() > 1).then_some(Interrupt::Cancelled)
        };
        let args = Object::new();
        let context = Context::new(&args, NOW_MS).with_interrupt(&check);
        let statement = parse(text).unwrap();
        match execute(&statement, &context, &shop) {
            Err(ExecuteError::Query(error)) => {
                assert_eq!(error.kind(), ErrorKind::Cancelled, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
        assert!(looks.get() < 20, "{text}: {} looks", looks.get());
    }
}

#[test]
fn profiles_count_rows_and_time() {
    let mut shop = shop(3, 9);
    let text = "PROFILE SELECT o._id AS id FROM orders o JOIN customers c ON c._id = o.customer WHERE c.city = 'Bonn'";
    let now = Cell::new(0);
    let clock = || {
        now.set(now.get() + 10);
        now.get()
    };
    let args = Object::new();
    let context = Context::new(&args, NOW_MS).with_clock(&clock, 77);
    let output = execute(&parse(text).unwrap(), &context, &shop).unwrap();
    assert_eq!(output.items.len(), 4);
    let profile = output.items[3]["~request_profile"].as_object().unwrap();
    assert_eq!(profile["queryType"], Value::from("select"));
    assert_eq!(profile["state"], Value::from("completed"));
    assert_eq!(profile["resultCount"], Value::Int(3));
    let times = profile["times"].as_object().unwrap();
    assert_eq!(times["parse"], Value::Int(77));
    assert!(times["elapsed"].as_int().unwrap() > times["plan"].as_int().unwrap());
    assert!(times["plan"].as_int().unwrap() > 0);
    let plan = json::to_string(&profile["plan"]);
    assert!(
        plan.contains(r##""#stats":{"documentsIn":9,"documentsOut":9"##),
        "{plan}"
    );
    assert!(
        plan.contains(r##""#stats":{"documentsIn":3,"documentsOut":1"##),
        "{plan}"
    );

    let text = "PROFILE UPDATE orders SET total = 1 WHERE total > 6 RETURNING _id";
    let output = execute_mut(&parse(text).unwrap(), &context, &mut shop).unwrap();
    assert_eq!(output.mutated_ids.len(), 2);
    let profile = output.items[2]["~request_profile"].as_object().unwrap();
    assert_eq!(profile["queryType"], Value::from("update"));
    assert_eq!(profile["resultCount"], Value::Int(2));
    let plan = json::to_string(&profile["plan"]);
    assert!(
        plan.contains(r##""#stats":{"documentsIn":9,"documentsOut":2"##),
        "{plan}"
    );
}

#[test]
fn groups_and_sorts_are_measured() {
    let mut shop = shop(3, 9);
    let now = Cell::new(0);
    let clock = || {
        now.set(now.get() + 10);
        now.get()
    };
    let args = Object::new();
    let context = Context::new(&args, NOW_MS).with_clock(&clock, 77);
    for (text, counts) in [
        (
            "PROFILE SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer ORDER BY n DESC LIMIT 2",
            [("group", 9, 3), ("sort", 3, 2)],
        ),
        (
            "PROFILE SELECT total FROM orders ORDER BY total LIMIT 4 OFFSET 1",
            [("sort", 9, 4), ("projection", 9, 4)],
        ),
        (
            "PROFILE SELECT total AS t FROM orders UNION ALL SELECT 1 AS t FROM system:dual ORDER BY t",
            [("sort", 10, 10), ("projection", 9, 9)],
        ),
        (
            "PROFILE UPDATE orders SET x = 1 ORDER BY total DESC LIMIT 3",
            [("sort", 9, 3), ("scan", 9, 3)],
        ),
    ] {
        let output = execute_mut(&parse(text).unwrap(), &context, &mut shop).unwrap();
        let profile = output.items.last().unwrap()["~request_profile"]
            .as_object()
            .unwrap();
        let plan = idem_query::plan_to_text(&profile["plan"]);
        for (operator, documents_in, documents_out) in counts {
            let line = plan
                .lines()
                .find(|line| line.trim_start().starts_with(operator));
            let line = line.unwrap_or_else(|| panic!("{plan}"));
            let stats = format!(
                r##"#stats={{"documentsIn":{documents_in},"documentsOut":{documents_out},"phaseTimes":{{"run":"##
            );
            let run = line
                .split_once(&stats)
                .unwrap_or_else(|| panic!("{operator}: {plan}"))
                .1;
            assert!(!run.starts_with('0'), "{plan}");
        }
    }
}

#[test]
fn deep_nesting_is_bounded_and_needs_little_stack() {
    let nested = |levels: usize| {
        let mut text = "SELECT a.n FROM customers a".to_owned();
        for level in 0..levels {
            text = format!(
                "SELECT x{level}.n FROM customers x{level} JOIN customers y{level} ON y{level}._id = x{level}._id \
                 WHERE x{level}.n IN ({text})"
            );
        }
        text
    };
    let run = move || {
        let mut shop = shop(2, 0);
        let mut deepest = 0;
        for levels in 1..40 {
            match shop.run(&nested(levels), &Object::new()) {
                Ok(output) => {
                    assert_eq!(output.items.len(), 2);
                    deepest = levels;
                }
                Err(error) => assert!(levels > deepest, "{error}"),
            }
        }
        deepest
    };
    // Threads of an app may have as little as this.
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    let deepest = thread.spawn(run).unwrap().join().unwrap();
    assert!((8..=16).contains(&deepest), "{deepest} levels");
}

#[test]
fn rows_of_a_derived_table_are_sorted_by_their_field_id() {
    let mut shop = shop(3, 0);
    let derived = "FROM (SELECT _id, n FROM customers ORDER BY n DESC) AS d ORDER BY d._id";
    check(
        &mut shop,
        &format!("SELECT d.n {derived}"),
        r#"[{"n":0},{"n":1},{"n":2}]"#,
    );
    check(
        &mut shop,
        &format!("SELECT d.n {derived} LIMIT 1"),
        r#"[{"n":0}]"#,
    );
}

/// Each joined row has a budget of its own, however many there are of one row.
#[test]
fn one_row_may_have_more_partners_than_one_row_may_make_bytes() {
    let mut memory = shop(8000, 0);
    let text = "x".repeat(10_000);
    for part in 0..3 {
        let orders = (0..1000).map(|number| {
            format!(r#"{{"_id":"o{part}-{number}","customer":"c0","text":"{text}"}}"#)
        });
        let orders = format!("[{}]", orders.collect::<Vec<_>>().join(","));
        let args = Object::from([("d".to_owned(), json::parse(&orders).unwrap())]);
        memory
            .run("INSERT INTO orders DOCUMENTS (:d)", &args)
            .unwrap();
    }
    let select = "SELECT o.text, o.text AS again";
    for from in [
        "FROM customers c JOIN orders o ON o.customer = c._id",
        "FROM orders o JOIN customers c ON c._id = o.customer",
        "FROM orders o RIGHT JOIN customers c ON c._id || '' = o.customer WHERE c._id = 'c0'",
    ] {
        assert_eq!(
            memory.rows(&format!("{select} {from}")).len(),
            3000,
            "{from}"
        );
    }
}

/// What one look-up remembers is given back before the next one.
#[test]
fn look_ups_of_elements_hold_no_more_than_one_of_them() {
    let mut memory = shop(500, 200);
    memory.rows("CREATE INDEX sku ON orders (DISTINCT ARRAY i.sku FOR i IN items END)");
    let text = "SELECT COUNT(*) AS n FROM customers c JOIN orders o USE INDEX 'sku'
        ON ANY i IN o.items SATISFIES i.sku = concat('s', cast(c.n % 4 AS string)) END";
    let args = Object::new();
    let context =
        Context::new(&args, NOW_MS).with_limits(StatementLimits::default().memory_bytes(50 * 200));
    let output = execute(&parse(text).unwrap(), &context, &memory).unwrap();
    assert_eq!(output.items[0]["n"], Value::Int(500 * 50));
}
