//! Joins, subqueries, UNION, UNNEST: which name means what, and what is refused or warned of.

use idem_model::{Object, Value, json};

use crate::memory::Memory;

fn shop() -> Memory {
    let mut memory = Memory::default();
    memory.rows(
        "INSERT INTO customers DOCUMENTS ({'_id': 'c1', 'name': 'Ann'}), ({'_id': 'c2', 'name': 'Bo'})",
    );
    memory.rows(
        "INSERT INTO orders DOCUMENTS
           ({'_id': 'o1', 'customer': 'c1', 'total': 5, 'items': [{'sku': 'a', 'n': 1}, {'sku': 'b', 'n': 2}]}),
           ({'_id': 'o2', 'customer': 'c1', 'total': 9, 'items': [{'sku': 'a', 'n': 3}]}),
           ({'_id': 'o3', 'total': 1})",
    );
    memory
}

fn check(text: &str, expected: &[&str]) {
    let found: Vec<String> = shop()
        .rows(text)
        .into_iter()
        .map(|row| json::to_string(&row.into()))
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn names_are_those_of_the_innermost_query_first() {
    // A field of the inner source, though the outer one has it too.
    check(
        "SELECT o._id FROM orders o WHERE EXISTS (SELECT * FROM customers WHERE _id = o.customer) ORDER BY o._id",
        &[r#"{"_id":"o1"}"#, r#"{"_id":"o2"}"#],
    );
    // The inner alias hides the outer one.
    check(
        "SELECT name, (SELECT COUNT(*) FROM orders c WHERE c.total > 4) AS n FROM customers c",
        &[r#"{"n":2,"name":"Ann"}"#, r#"{"n":2,"name":"Bo"}"#],
    );
    // An alias hides a variable around the query, and a variable a field.
    check(
        "SELECT ARRAY (SELECT MAX(x.total) FROM orders x) FOR x IN [1] END AS a,
           ARRAY (SELECT COUNT(*) FROM orders WHERE total > x) FOR x IN [1, 5] END AS b FROM system:dual",
        &[r#"{"a":[9],"b":[2,1]}"#],
    );
    // Two levels up.
    check(
        "SELECT c.name FROM customers c WHERE EXISTS (
           SELECT * FROM orders o WHERE EXISTS (SELECT * FROM system:dual WHERE o.customer = c._id))",
        &[r#"{"name":"Ann"}"#],
    );
    // A source in FROM does not see those beside it.
    let error = shop()
        .run(
            "SELECT * FROM customers c JOIN (SELECT * FROM orders o JOIN system:dual d ON true WHERE c = o.x) s ON true",
            &Object::new(),
        )
        .unwrap_err();
    assert!(error.message().contains("Ambiguous"), "{error}");
}

#[test]
fn rows_of_several_sources_nest_under_their_aliases() {
    check(
        "SELECT * FROM customers c LEFT JOIN orders o ON o.customer = c._id AND o.total > 5",
        &[
            r#"{"_id":{"c":"c1","o":"o2"},"c":{"_id":"c1","name":"Ann"},"o":{"_id":"o2","customer":"c1","items":[{"n":3,"sku":"a"}],"total":9}}"#,
            r#"{"_id":{"c":"c2"},"c":{"_id":"c2","name":"Bo"}}"#,
        ],
    );
    check(
        "SELECT _id, _id.o AS o FROM customers c JOIN orders o ON o.customer = c._id ORDER BY _id.o DESC LIMIT 1",
        &[r#"{"_id":{"c":"c1","o":"o2"},"o":"o2"}"#],
    );
    check(
        "SELECT o.*, c.name FROM orders o RIGHT JOIN customers c ON o.customer = c._id WHERE o.total = 9 OR o IS MISSING",
        &[
            r#"{"_id":"o2","customer":"c1","items":[{"n":3,"sku":"a"}],"name":"Ann","total":9}"#,
            r#"{"name":"Bo"}"#,
        ],
    );
}

#[test]
fn elements_are_rows() {
    check(
        "SELECT i.sku, SUM(i.n) AS n FROM orders o UNNEST o.items AS i GROUP BY i.sku",
        &[r#"{"n":4,"sku":"a"}"#, r#"{"n":2,"sku":"b"}"#],
    );
    check(
        "SELECT o._id, items.sku FROM orders o LEFT UNNEST items WHERE o.total < 9 ORDER BY o._id, items.sku",
        &[
            r#"{"_id":"o1","sku":"a"}"#,
            r#"{"_id":"o1","sku":"b"}"#,
            r#"{"_id":"o3"}"#,
        ],
    );
}

#[test]
fn unions_are_ordered_by_their_columns() {
    check(
        "SELECT name AS n FROM customers UNION ALL SELECT total AS n FROM orders ORDER BY n DESC LIMIT 3",
        &[r#"{"n":"Bo"}"#, r#"{"n":"Ann"}"#, r#"{"n":9}"#],
    );
    check(
        "SELECT 'x' AS n FROM orders UNION SELECT 'x' AS n FROM customers",
        &[r#"{"n":"x"}"#],
    );
    check(
        "SELECT 1 AS n FROM customers UNION SELECT 1 AS n FROM orders UNION ALL SELECT 1 AS n FROM customers",
        &[r#"{"n":1}"#, r#"{"n":1}"#, r#"{"n":1}"#],
    );
    check(
        "(SELECT total FROM orders ORDER BY total DESC LIMIT 1) UNION ALL (SELECT total FROM orders ORDER BY total LIMIT 1) ORDER BY total",
        &[r#"{"total":1}"#, r#"{"total":9}"#],
    );
    check(
        "SELECT s.n FROM ((SELECT total AS n FROM orders) UNION ALL SELECT 100 AS n FROM system:dual) s WHERE s.n > 8 ORDER BY s.n",
        &[r#"{"n":9}"#, r#"{"n":100}"#],
    );
    check(
        "SELECT name FROM customers c WHERE 9 IN ((SELECT total FROM orders o WHERE o.customer = c._id) UNION ALL SELECT 0 FROM system:dual)",
        &[r#"{"name":"Ann"}"#],
    );
}

#[test]
fn groups_know_subqueries_that_do_not_look_at_their_rows() {
    check(
        "SELECT customer, COUNT(*) AS n, (SELECT COUNT(*) FROM customers) AS all_of FROM orders
           GROUP BY customer HAVING COUNT(*) < (SELECT MAX(total) FROM orders) ORDER BY n",
        &[
            r#"{"all_of":2,"n":1}"#,
            r#"{"all_of":2,"customer":"c1","n":2}"#,
        ],
    );
    // A field of the query around it is the same for all groups.
    check(
        "SELECT c.name, (SELECT concat(c.name, CAST(SUM(o.total) AS string)) AS sum FROM orders o WHERE o.customer = c._id) AS sum FROM customers c",
        &[r#"{"name":"Ann","sum":"Ann14"}"#, r#"{"name":"Bo"}"#],
    );
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let check = |text: &str, expected: &str| {
        let output = shop().run(text, &Object::new()).unwrap();
        let found: Vec<String> = output.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), usize::from(!expected.is_empty()), "{found:?}");
        assert!(found.iter().all(|one| one.contains(expected)), "{found:?}");
    };
    check("SELECT {name: 1} FROM customers", "not in quotes");
    check("SELECT {nothing: 1} FROM customers", "not in quotes");
    check(
        "SELECT {'a': 1, lower(nothing): 2} FROM customers",
        "left out",
    );
    check("SELECT {'name': 1} FROM customers", "");
    check("SELECT ARRAY {v: 1} FOR v IN ['a'] END FROM customers", "");
    check("SELECT name FROM customers ORDER BY 1", "positions");
    check(
        "SELECT /*+ {\"#indx\": 1} */ name FROM customers",
        "`#index`",
    );
    check(
        "SELECT name FROM customers WHERE --+ {}\n true",
        "read over",
    );
    check("--+ {\"#max_joins\": 1}\nSELECT name FROM customers", "");
}

#[test]
fn a_condition_that_is_no_boolean_is_warned_of() {
    for (text, place) in [
        ("SELECT * FROM customers WHERE name", 31),
        ("SELECT * FROM customers WHERE _id != 'x' AND name", 46),
        ("SELECT * FROM customers WHERE lower(name)", 31),
        ("SELECT * FROM customers c JOIN orders o ON c.name", 44),
        (
            "SELECT * FROM customers c JOIN orders o ON c._id = o.customer AND o.total",
            67,
        ),
        ("SELECT name FROM customers GROUP BY name HAVING name", 49),
        (
            "SELECT name FROM customers GROUP BY name HAVING COUNT(*)",
            49,
        ),
        ("SELECT CASE WHEN name THEN 1 END AS v FROM customers", 18),
        (
            "SELECT ARRAY 1 FOR v IN [1] WHEN v END AS v FROM customers",
            34,
        ),
        (
            "SELECT ANY v IN [1] SATISFIES v END AS v FROM customers",
            31,
        ),
        ("UPDATE customers SET x = 1 WHERE name", 34),
        (
            "DELETE FROM customers WHERE (SELECT COUNT(*) FROM orders)",
            29,
        ),
    ] {
        let output = shop().run(text, &Object::new()).unwrap();
        let found: Vec<String> = output.warnings.iter().map(ToString::to_string).collect();
        let [only] = found.as_slice() else {
            panic!("{text}: {found:?}");
        };
        assert!(only.contains("takes true or false"), "{text}: {only}");
        let place = format!("column {place})");
        assert!(only.contains(&place), "{text}: {only}");
    }
    for text in [
        "SELECT * FROM customers WHERE MISSING",
        "SELECT * FROM customers WHERE null OR nothing",
        "SELECT * FROM customers WHERE nothing",
        "SELECT * FROM customers WHERE starts_with(name, 'A')",
        "SELECT CASE name WHEN 'Ann' THEN 1 END AS v FROM customers",
    ] {
        let output = shop().run(text, &Object::new()).unwrap();
        assert_eq!(output.warnings, [], "{text}");
    }
}

#[test]
fn a_copied_column_keeps_its_variables() {
    // `y` is `v`, also below a variable of its own place.
    check(
        "SELECT ARRAY (SELECT v AS y FROM system:dual ORDER BY ARRAY y FOR w IN [1] END) FOR v IN [2] END AS a
           FROM system:dual",
        &[r#"{"a":[2]}"#],
    );
    // The order shows what `y` is: `x * w` would have another.
    check(
        "SELECT ARRAY (
             SELECT x * v AS y FROM system:dual d UNNEST [1, 2, 3] AS x ORDER BY ARRAY y FOR w IN [1] END LIMIT 1
           ) FOR v IN [1, -1] END AS a FROM system:dual",
        &[r#"{"a":[1,-3]}"#],
    );
    // So it does if a subquery in the column looks at the variable.
    check(
        "SELECT ARRAY (
             SELECT (SELECT x * v AS z FROM system:dual) AS y FROM system:dual d UNNEST [1, 2, 3] AS x
               ORDER BY ARRAY y FOR w IN [1] END LIMIT 1
           ) FOR v IN [1, -1] END AS a FROM system:dual",
        &[r#"{"a":[1,-3]}"#],
    );
    // A key of GROUP BY is no variable of an expression behind it.
    check(
        "SELECT ARRAY (SELECT ARRAY w FOR w IN [8, 9] END AS y FROM orders GROUP BY v) FOR v IN [2] END AS a
           FROM system:dual",
        &[r#"{"a":[[8,9]]}"#],
    );
    check(
        "SELECT ARRAY (SELECT v AS y, COUNT(*) AS n FROM orders GROUP BY v HAVING ANY w IN [2] SATISFIES w = y END)
           FOR v IN [2, 3] END AS a FROM system:dual",
        &[r#"{"a":[{"n":3,"y":2}]}"#],
    );
}

#[test]
fn an_unknown_alias_is_called_so() {
    for (text, hint) in [
        (
            "SELECT p.name FROM customers c JOIN orders o ON true",
            "the aliases in reach are c, o; a field stands behind one, as in c.p",
        ),
        (
            "SELECT c.name FROM customers c JOIN orders ord ON c._id = odr.customer",
            "did you mean `ord`? the aliases in reach are c, ord; a field stands behind one, as in c.odr",
        ),
        (
            "SELECT (SELECT p.x AS x FROM system:dual d JOIN system:dual e ON true) AS x FROM orders o",
            "the aliases in reach are d, e, o; a field stands behind one, as in d.p",
        ),
    ] {
        let error = shop().run(text, &Object::new()).unwrap_err();
        assert!(
            error.message().starts_with("there is no source `"),
            "{error}"
        );
        assert_eq!(error.hint(), Some(hint), "{text}");
    }
}

#[test]
fn default_directives_reach_changes() {
    let mut memory = shop();
    memory.rows("CREATE INDEX by_total ON orders (total)");
    memory.rows("CREATE INDEX by_customer ON orders (customer)");
    let wished = Value::Object(Object::from([("max_scans".to_owned(), Value::Int(1))]));
    let wished = idem_query::Directives::new(&wished).unwrap();
    for change in [
        "UPDATE orders SET a = 1",
        "DELETE FROM orders",
        "EVICT FROM orders",
    ] {
        let text = format!("EXPLAIN {change} WHERE total = 1 OR customer = 'c1'");
        for (directives, operator) in [(Default::default(), "unionScan"), (wished.clone(), "scan")]
        {
            let statement = idem_query::parse_with(&text, &directives).unwrap();
            let none = Object::new();
            let context = idem_query::Context::new(&none, crate::memory::NOW_MS);
            let output = idem_query::execute(&statement, &context, &memory).unwrap();
            let plan = idem_query::plan_to_text(&output.items[0]["plan"]);
            assert!(plan.contains(operator), "{plan}");
            assert_eq!(
                plan.contains("unionScan"),
                operator == "unionScan",
                "{plan}"
            );
        }
    }
}

#[test]
fn directives_reach_what_they_are_about() {
    let joins = |count: usize| {
        let more: String = (0..count)
            .map(|n| format!(" JOIN system:dual d{n} ON true"))
            .collect();
        format!("SELECT COUNT(*) AS n FROM customers c{more}")
    };
    let refused = |text: &str| idem_query::parse(text).is_err();
    assert!(!refused(&joins(10)));
    assert!(refused(&joins(11)));
    assert!(!refused(
        &joins(11).replace("SELECT", "SELECT /*+ {\"#max_joins\": 11} */")
    ));
    assert!(!refused(&format!(
        "/*+ {{\"#max_joins\": 11}} */ {}",
        joins(11)
    )));
    assert!(refused(
        &joins(1).replace("SELECT", "SELECT /*+ {\"#max_joins\": 0} */")
    ));
    // An index that is not there shows where the directive went.
    for text in [
        "SELECT /*+ {\"#index\": \"ix\"} */ * FROM customers",
        "SELECT * FROM customers USE DIRECTIVES '{\"#index\": \"ix\"}'",
        "SELECT * FROM customers --+ {\"#index\": \"ix\"}",
        "/*+ {\"#index\": \"ix\"} */ SELECT * FROM customers",
    ] {
        let error = shop().run(text, &Object::new()).unwrap_err();
        assert_eq!(error.message(), "there is no index `ix`", "{text}");
    }
}

#[test]
fn subscriptions_have_none_of_it() {
    for (text, clause) in [
        ("SELECT * FROM a JOIN b ON b.x = a.x", "JOIN"),
        ("SELECT * FROM a UNNEST a.x AS x", "UNNEST"),
        ("SELECT * FROM a UNION ALL SELECT * FROM b", "UNION"),
        ("SELECT * FROM (SELECT * FROM a) b", "a subquery"),
        (
            "SELECT * FROM a WHERE EXISTS (SELECT * FROM b)",
            "a subquery",
        ),
        ("SELECT * FROM a WHERE x IN (SELECT y FROM b)", "a subquery"),
        ("SELECT * FROM a WHERE conflicts(x) IS NULL", "conflicts"),
        (
            "SELECT * FROM a USE DIRECTIVES '{\"#index\": \"i\"}'",
            "a directive",
        ),
    ] {
        let statement = idem_query::parse(text).unwrap();
        let error = statement.subscription(&Object::new()).unwrap_err();
        let expected = format!("{clause} is not supported in sync subscription");
        assert_eq!(error.message(), expected, "{text}");
        assert!(error.position().is_some(), "{text}");
    }
}

#[test]
fn strict_mode_takes_what_is_not_declared_as_a_register() {
    let mut memory = Memory::default();
    memory.rows("ALTER SYSTEM SET dql_strict_mode = true");
    memory.rows("INSERT INTO c DOCUMENTS ({'_id': '1', 'o': {'a': 1, 'b': {'c': 1}}, 'n': 1})");
    let mut error = |text: &str| memory.run(text, &Object::new()).unwrap_err().to_string();
    let register = "Unsupported DML operation on REGISTER field";
    assert!(error("UPDATE c SET o.a = 2").contains(register));
    assert!(error("UPDATE COLLECTION c (o MAP) UNSET o.b.c").contains("`o.b`"));
    assert!(error("UPDATE c APPLY n INCREMENT BY 1").contains("COUNTER"));
    memory.rows("UPDATE COLLECTION c (o MAP, n COUNTER) APPLY n INCREMENT BY 1 SET o.a = 2");
    memory.rows("UPDATE c SET o = {'z': 1}");
    let rows = memory.rows("SELECT o FROM c");
    assert_eq!(json::to_string(&rows[0].clone().into()), r#"{"o":{"z":1}}"#);
    memory.rows("ALTER SYSTEM RESET dql_strict_mode");
    memory.rows("UPDATE c SET o.a = 2");
}

#[test]
fn index_expressions_have_one_text() {
    let mut memory = shop();
    memory.rows(
        "CREATE INDEX ix ON orders (lower( customer ) DESC, total, DISTINCT ARRAY t.sku FOR t IN items WHEN t.n>1 END)",
    );
    let text = |key: &str| {
        idem_query::IndexExpression::parse(key)
            .unwrap()
            .text()
            .to_owned()
    };
    let check = |key: &str, expected: &str| {
        assert_eq!(text(key), expected);
        assert_eq!(text(expected), expected);
    };
    check("LOWER(a.b)", "lower(a.b)");
    check(
        "ARRAY t.sku FOR t IN items WHEN t.n>1 END",
        "ARRAY v0.sku FOR v0 IN items WHEN (v0.n > 1) END",
    );
    // Names that look like an alias or a printed variable are fields.
    check("d.x + orders.y", "d.x + orders.y");
    check(
        "ARRAY t + v0 FOR t IN items END",
        "ARRAY (v0 + `$`.v0) FOR v0 IN `$`.items END",
    );
    for wrong in [
        "1",
        "a +",
        "COUNT(a)",
        ":p",
        "(SELECT a FROM c)",
        "a, b",
        "clock()",
    ] {
        assert!(
            idem_query::IndexExpression::parse(wrong).is_err(),
            "{wrong}"
        );
    }
}
