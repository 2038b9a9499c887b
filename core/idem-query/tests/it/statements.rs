//! What expressions and statements give, by tables.

use idem_model::{Object, Value, json};
use idem_query::{Context, StatementKind, execute, parse};

use crate::memory::{Memory, NOW_MS};

/// The value of an expression as JSON; `MISSING` if there is none.
fn value_of(memory: &mut Memory, expr: &str) -> String {
    let rows = memory.rows(&format!("SELECT {expr} AS v FROM system:dual"));
    rows[0]
        .get("v")
        .map_or("MISSING".to_owned(), json::to_string)
}

fn check_values(table: &[(&str, &str)]) {
    let mut memory = Memory::default();
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(expr, expected)| {
            let found = value_of(&mut memory, expr);
            (found != *expected).then(|| format!("{expr} = {found}, expected {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn operators_bind_by_the_table() {
    check_values(&[
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("10 - 4 - 3", "3"),
        ("2 * 3 % 4", "2"),
        ("-2 + 3", "1"),
        ("- 2 * 3", "-6"),
        ("1 - -1", "2"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9.223372036854776e+18"),
        ("0x7fffffffffffffff", "9223372036854775807"),
        ("1 << 3 + 1", "16"),
        ("1 << 2 = 4", "true"),
        ("-1 >> 70", "-1"),
        ("1 << 70", "0"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("7 / 2.0", "3.5"),
        ("7.5 % 2", "1.5"),
        ("1 / 0", "MISSING"),
        ("1.0 / 0", "MISSING"),
        ("9223372036854775807 + 1", "MISSING"),
        ("'a' || 'b' || 'c'", "\"abc\""),
        ("'a' || 1", "MISSING"),
        ("'a' + 1", "MISSING"),
        ("1 + null", "null"),
        ("1 + nofield", "MISSING"),
        ("NOT 1 = 2", "true"),
        ("NOT true OR true", "true"),
        ("1 = 1 IS NOT NULL", "true"),
        ("false AND true OR true", "true"),
        ("true XOR true XOR true", "true"),
        ("true OR true XOR true", "true"),
        ("(true OR true) XOR true", "false"),
        ("1 == 1 AND 1 <> 2", "true"),
        ("3 BETWEEN 1 AND 2 + 1", "true"),
        ("3 BETWEEN 3 AND 1", "false"),
        ("NOT 3 BETWEEN 1 AND 2 AND true", "true"),
        ("'abc' LIKE 'a%' = true", "MISSING"),
        ("'abc' LIKE 'a' || '%'", "true"),
    ]);
}

#[test]
fn null_and_missing_follow_the_rules() {
    check_values(&[
        ("null = null", "null"),
        ("null != 1", "null"),
        ("nofield = 1", "MISSING"),
        ("nofield = null", "MISSING"),
        ("1 = 1.0", "true"),
        ("1 = '1'", "MISSING"),
        ("[1, 'a'] = [1.0, 'a']", "true"),
        ("{'a': 1} = {'a': 1.0}", "true"),
        ("[1] < [1, 0]", "true"),
        ("false < true", "true"),
        ("'a' < 'b'", "true"),
        ("true AND null", "null"),
        ("false AND null", "false"),
        ("nofield AND null", "MISSING"),
        ("false AND nofield", "false"),
        ("true OR nofield", "true"),
        ("false OR null", "null"),
        ("nofield OR null", "null"),
        ("nofield OR false", "MISSING"),
        ("true XOR null", "null"),
        ("NOT null", "null"),
        ("NOT nofield", "MISSING"),
        ("1 AND true", "MISSING"),
        ("nofield IS NOT NULL", "true"),
        ("nofield IS NULL", "false"),
        ("null IS NULL", "true"),
        ("nofield IS MISSING", "true"),
        ("null IS MISSING", "false"),
        ("null IS NOT MISSING", "true"),
        ("true IS TRUE", "true"),
        ("nofield IS NOT TRUE", "true"),
        ("MISSING IS MISSING", "true"),
        ("1 IN [2, null]", "null"),
        ("1 IN [1, null]", "true"),
        ("1 NOT IN [2, 3]", "true"),
        ("1 NOT IN ['a', 2]", "true"),
        ("1 NOT IN [2, null]", "null"),
        ("1 IN (1.0, 2)", "true"),
        ("1 IN ()", "false"),
        ("1 IN 5", "MISSING"),
        ("nofield IN [1]", "MISSING"),
        ("null IN [1]", "null"),
        ("[1, nofield, 3]", "[1,null,3]"),
        ("{'a': nofield, 'b': null}", "{\"b\":null}"),
        ("CASE 1 WHEN 1.0 THEN 'y' END", "\"y\""),
        ("CASE null WHEN null THEN 'y' ELSE 'n' END", "\"n\""),
        ("CASE WHEN nofield THEN 1 ELSE 2 END", "2"),
    ]);
}

#[test]
fn paths_reach_into_values() {
    check_values(&[
        ("{'a': {'b': 7}}.a.b", "7"),
        ("[10, 20, 30][1]", "20"),
        ("[10, 20, 30][-1]", "30"),
        ("[10, 20, 30][3]", "MISSING"),
        ("[10, 20, 30][-4]", "MISSING"),
        ("{'a': 1}['a']", "1"),
        ("{'a': [1, {'b': 2}]}.a[1].b", "2"),
        ("{'select': 1}.select", "1"),
        ("[1][0.5]", "MISSING"),
        ("'text'.a", "MISSING"),
    ]);
}

#[test]
fn collection_expressions_go_through_elements() {
    check_values(&[
        ("ANY x IN [1, 2] SATISFIES x > 1 END", "true"),
        ("ANY x IN [] SATISFIES true END", "false"),
        ("EVERY x IN [] SATISFIES false END", "true"),
        ("EVERY x IN [1, 2] SATISFIES x > 1 END", "false"),
        ("ANY AND EVERY x IN [1, 2] SATISFIES x > 0 END", "true"),
        (
            "ANY i:x IN ['a', 'b'] SATISFIES i = 1 AND x = 'b' END",
            "true",
        ),
        ("ANY n:x IN {'k': 1} SATISFIES n = 'k' END", "true"),
        ("ANY x IN nofield SATISFIES true END", "MISSING"),
        ("ANY x IN 5 SATISFIES true END", "null"),
        ("ANY x WITHIN [[[3]]] SATISFIES x = 3 END", "true"),
        ("ARRAY x * 2 FOR x IN [1, 2, 3] WHEN x != 2 END", "[2,6]"),
        ("ARRAY i FOR i:x IN ['a', 'b'] END", "[0,1]"),
        ("ARRAY x FOR x IN [1, null] END", "[1,null]"),
        ("ARRAY x.a FOR x IN [{'a': 1}, {}] END", "[1]"),
        ("ARRAY x FOR x IN nofield END", "MISSING"),
        ("ARRAY x FOR x IN 'text' END", "null"),
        (
            "OBJECT n : x + 1 FOR n:x IN {'a': 1, 'b': 2} END",
            "{\"a\":2,\"b\":3}",
        ),
        ("OBJECT x : 1 FOR x IN ['a', 'a', 5] END", "{\"a\":1}"),
        (
            "ARRAY (ARRAY x + y FOR y IN [10, 20] END) FOR x IN [1, 2] END",
            "[[11,21],[12,22]]",
        ),
        (
            "ANY x IN [1] SATISFIES ANY y IN [2] SATISFIES x < y END END",
            "true",
        ),
    ]);
}

#[test]
fn functions_give_what_they_should() {
    check_values(&[
        ("COALESCE(null, nofield, 3)", "3"),
        ("ifmissingornull(null, nofield)", "null"),
        ("nvl(null, 'a', 'b')", "\"b\""),
        ("ifnull(null, 2)", "2"),
        ("nullif(1, 1.0)", "null"),
        ("nullif(1, 2)", "1"),
        ("missingif(1, 1)", "MISSING"),
        ("decode(null, null, 'n', 'x')", "\"n\""),
        ("decode(2, 2.0, 'two')", "\"two\""),
        ("type(1.0)", "\"float\""),
        ("type(nofield)", "\"missing\""),
        ("type(CAST('a' AS binary))", "\"binary\""),
        ("json_type(nofield)", "\"null\""),
        ("is_number(nofield)", "MISSING"),
        ("is_boolean('a')", "false"),
        ("CAST(1.9 AS integer)", "1"),
        ("CAST('1.5' AS float)", "1.5"),
        ("CAST(12 AS string)", "\"12\""),
        ("CAST('true' AS boolean)", "true"),
        ("CAST([1] AS string)", "MISSING"),
        ("cast(null AS string)", "null"),
        ("abs(-2.5)", "2.5"),
        ("floor(-1.5)", "-2.0"),
        ("abs('a')", "MISSING"),
        ("upper(null)", "MISSING"),
    ]);
}

#[test]
fn functions_of_strings_and_objects_give_what_they_should() {
    check_values(&[
        ("concat('a', 'b')", "\"ab\""),
        ("contains('abc', 'bc')", "true"),
        ("ends_with('abc', 'bc')", "true"),
        ("byte_length('\\u00e9')", "2"),
        ("char_length('\\u00e9')", "1"),
        ("upper('a\\u00e9')", "\"A\u{c9}\""),
        ("substr('hello', 1, 3)", "\"ell\""),
        ("substr('hello', -3)", "\"llo\""),
        ("substr('hello', 9)", "MISSING"),
        ("pos('hello', 'l')", "2"),
        ("pos('hello', 'z')", "-1"),
        ("POSITION('l' IN 'hello')", "2"),
        ("split('a,b', ',')", "[\"a\",\"b\"]"),
        ("joinstr('-', 'a', ['b', null, 'c'], nofield)", "\"a-b-c\""),
        ("ltrim('  a ')", "\"a \""),
        ("rtrim('axx', 'x')", "\"a\""),
        ("`trim`(' a ')", "\"a\""),
        ("trim(' a ')", "\"a\""),
        ("TRIM(BOTH 'x' FROM 'xxaxx')", "\"a\""),
        ("TRIM(LEADING 'x' FROM 'xxaxx')", "\"axx\""),
        ("TRIM(BOTH FROM ' a ')", "\"a\""),
        ("lpad('7', 3, '0')", "\"007\""),
        ("rpad('abcd', 2)", "\"ab\""),
        ("repeat('ab', 3)", "\"ababab\""),
        ("repeat('ab', 1000000000)", "MISSING"),
        ("repeat('ab', -1)", "MISSING"),
        ("regexp_like('abc', 'b')", "true"),
        ("regexp_like('abc', '(')", "MISSING"),
        ("regexp_like('abc', 'b', 'z')", "MISSING"),
        ("'Abc' ILIKE 'a_C'", "true"),
        ("'a%c' LIKE 'a\\\\%c'", "true"),
        ("'abc' LIKE 'a\\\\%c'", "false"),
        ("'ab' NOT LIKE 'a%'", "false"),
        ("5 LIKE 'a'", "MISSING"),
        ("'a' SIMILAR TO '[a-c]+'", "true"),
        ("'a' SIMILAR TO '('", "MISSING"),
        ("object_set({'a': 1}, 'a', 2)", "MISSING"),
        ("object_set({'a': 1}, 'b', 2)", "{\"a\":1,\"b\":2}"),
        ("object_unset({'a': 1}, 'b')", "MISSING"),
        ("object_unset({'a': 1}, 'b', true)", "{\"a\":1}"),
        ("object_rename({'a': 1}, 'x', 'y')", "MISSING"),
        ("object_size({})", "2"),
        ("array_contains([1, 2], 2.0)", "true"),
        ("array_contains_null([1, null])", "true"),
        ("array_length('a')", "MISSING"),
        ("deserialize_json('{')", "MISSING"),
    ]);
}

#[test]
fn dates_follow_the_calendar() {
    check_values(&[
        ("clock()", "\"2026-03-15T10:30:45+00:00\""),
        ("clock('YYYY-MM-DD', 'Asia/Tokyo')", "\"2026-03-15\""),
        ("clock('%H:%M', 'Asia/Tokyo')", "\"19:30\""),
        (
            "date_add('2026-01-31T00:00:00+02:00', 'month', 1)",
            "\"2026-02-28T00:00:00+02:00\"",
        ),
        ("date_add(0, 'day', 1)", "86400000"),
        ("date_add(0, 'week', 1)", "MISSING"),
        (
            "date_sub('2026-03-15T10:30:45.250Z', 'ms', 250)",
            "\"2026-03-15T10:30:45+00:00\"",
        ),
        (
            "date_add('2026-03-15T10:30:45Z', 'hour', 1, 'hh:mm TZD')",
            "\"11:30 +00:00\"",
        ),
        ("date_add('2026-03-15', 'day', 1)", "MISSING"),
        (
            "date_diff('2026-03-15T00:00:00Z', '2026-03-20T12:00:00Z', 'day')",
            "-5",
        ),
        (
            "date_diff('2026-03-15T00:00:00Z', '2024-03-16T00:00:00Z', 'year')",
            "1",
        ),
        (
            "date_diff('2026-03-15T00:00:00Z', '2025-12-20T00:00:00Z', 'month')",
            "2",
        ),
        ("date_part('2026-03-15T10:30:45+09:00', 'hour')", "10"),
        ("date_part('2026-03-15T10:30:45Z', 'weekday')", "7"),
        (
            "date_part('2026-03-15T10:30:45Z', 'monthname')",
            "\"March\"",
        ),
        ("date_part('2026-03-15T10:30:45Z', 'doy')", "MISSING"),
        (
            "date_trunc('2026-03-15T10:30:45.123Z', 'hour')",
            "\"2026-03-15T10:00:00+00:00\"",
        ),
        (
            "date_trunc('2026-03-15T10:30:45.123Z', 'month')",
            "\"2026-03-01T00:00:00+00:00\"",
        ),
    ]);
}

#[test]
fn dates_have_formats_and_durations_units() {
    check_values(&[
        ("date_trunc(1773570645123, 'sec')", "1773570645000"),
        (
            "date_format('2026-03-15T10:30:45Z', 'DD.MM.YYYY hh:mm:ss.sss')",
            "\"15.03.2026 10:30:45.000\"",
        ),
        (
            "date_format('2026-07-01T00:00:00Z', '', 'Europe/Berlin')",
            "\"2026-07-01T02:00:00+02:00\"",
        ),
        ("date_format(0, '%Y')", "\"1970\""),
        ("date_format(0, '%!')", "MISSING"),
        ("date_cast('2026-03-15T10:30:45Z')", "1773570645000"),
        (
            "date_cast('2026-03-15 10:30', 'YYYY-MM-DD hh:mm')",
            "1773570600000",
        ),
        ("date_cast('x', '%Y')", "MISSING"),
        ("date_range(0, 3, 'ms', 2)", "[0,2]"),
        (
            "date_range('2026-01-31T00:00:00Z', '2026-04-01T00:00:00Z', 'month', 1, 'MM-DD')",
            "[\"01-31\",\"02-28\",\"03-31\"]",
        ),
        ("tz_offset('2026-03-15T10:30:45Z')", "0"),
        ("tz_offset('Nowhere/City', 'TZN')", "MISSING"),
        ("duration_cast('1h30m', 'minute')", "90"),
        ("duration_cast('1d')", "86400000"),
        ("duration_cast('1 month')", "MISSING"),
        ("duration_format(5400000)", "\"1h30m\""),
        ("duration_format(90, 'minute')", "\"1h30m\""),
    ]);
}

const ORDERS: &str = "INSERT INTO o DOCUMENTS
    ({'_id': '1', 'c': 'a', 't': 10, 'addr': {'city': 'Rome', 'zip': '1'}}),
    ({'_id': '2', 'c': 'a', 't': 5}),
    ({'_id': '3', 'c': 'b', 't': 7, 'tags': ['x', 'y']}),
    ({'_id': '4', 'c': null, 't': 7.0}),
    ({'_id': '5'})";

fn orders() -> Memory {
    let mut memory = Memory::default();
    memory.rows(ORDERS);
    memory
}

/// Statements over [`ORDERS`] and their rows as JSON.
fn check_rows(table: &[(&str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(text, expected)| {
            let found = match orders().run(text, &Object::new()) {
                Ok(output) => output
                    .items
                    .into_iter()
                    .map(|row| json::to_string(&Value::Object(row)))
                    .collect::<Vec<_>>()
                    .join(" "),
                Err(error) => error.render(text),
            };
            (found != *expected)
                .then(|| format!("{text}\n  found    {found}\n  expected {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn projections_name_their_columns() {
    check_rows(&[
        (
            "SELECT addr.city, t * 2, 1 FROM o WHERE _id = '1'",
            r#"{"($2)":20,"($3)":1,"city":"Rome"}"#,
        ),
        (
            "SELECT o.t, o.addr.zip z FROM o WHERE _id = '1'",
            r#"{"t":10,"z":"1"}"#,
        ),
        ("SELECT x.t FROM o x WHERE x._id = '2'", r#"{"t":5}"#),
        (
            "SELECT x FROM o x WHERE x._id = '2'",
            r#"{"x":{"_id":"2","c":"a","t":5}}"#,
        ),
        (
            "SELECT o.*, t + 1 AS u, MISSING addr.zip FROM o WHERE _id = '1'",
            r#"{"_id":"1","addr":{"city":"Rome"},"c":"a","t":10,"u":11}"#,
        ),
        (
            "SELECT addr.* FROM o WHERE _id = '1'",
            r#"{"city":"Rome","zip":"1"}"#,
        ),
        ("SELECT MISSING AS m, 1 AS n FROM o LIMIT 1", r#"{"n":1}"#),
        (
            "SELECT tags[0] AS first, tags[1] FROM o WHERE _id = '3'",
            r#"{"($2)":"y","first":"x"}"#,
        ),
        ("SELECT `c` FROM `o` WHERE `_id` = '3'", r#"{"c":"b"}"#),
        (
            "SELECT _id FROM default:o WHERE _id = '3'",
            r#"{"_id":"3"}"#,
        ),
        (
            "select distinct c from o order by c",
            r#"{"c":"a"} {"c":"b"} {"c":null} {}"#,
        ),
        (
            "SELECT DISTINCT t FROM o ORDER BY t DESC LIMIT 2 OFFSET 1",
            r#"{"t":10} {"t":7}"#,
        ),
    ]);
}

#[test]
fn windows_cut_sorted_rows() {
    check_rows(&[
        (
            "SELECT _id FROM o ORDER BY t, _id DESC",
            r#"{"_id":"2"} {"_id":"4"} {"_id":"3"} {"_id":"1"} {"_id":"5"}"#,
        ),
        (
            "SELECT _id FROM o ORDER BY t DESC, _id LIMIT 2",
            r#"{"_id":"5"} {"_id":"1"}"#,
        ),
        (
            "SELECT t AS c FROM o WHERE t IS NOT MISSING ORDER BY c LIMIT 1",
            r#"{"c":5}"#,
        ),
        (
            "SELECT _id FROM o LIMIT 2 OFFSET 1",
            r#"{"_id":"2"} {"_id":"3"}"#,
        ),
        ("SELECT _id FROM o OFFSET 4", r#"{"_id":"5"}"#),
        ("SELECT _id FROM o LIMIT 0", ""),
        (
            "SELECT _id FROM o LIMIT 1 + 1.0",
            r#"{"_id":"1"} {"_id":"2"}"#,
        ),
        (
            "SELECT _id FROM o USE IDS '3', '1', 'none', 1",
            r#"{"_id":"1"} {"_id":"3"}"#,
        ),
        (
            "SELECT _id FROM o USE IDS LIST ['3', '1'] WHERE t > 8",
            r#"{"_id":"1"}"#,
        ),
        (
            "SELECT _id FROM o WHERE _id IN ['2', '2', null] AND t = 5",
            r#"{"_id":"2"}"#,
        ),
        ("SELECT _id FROM o WHERE '2' = _id", r#"{"_id":"2"}"#),
        ("SELECT _id FROM o WHERE _id = null", ""),
    ]);
}

#[test]
fn groups_have_one_row_each() {
    check_rows(&[
        (
            "SELECT c, COUNT(*) AS n, SUM(t) AS s FROM o GROUP BY c",
            r#"{"c":"a","n":2,"s":15} {"c":"b","n":1,"s":7} {"c":null,"n":1,"s":7.0} {"n":1}"#,
        ),
        ("SELECT COUNT(*) FROM o", r#"{"($1)":5}"#),
        (
            "SELECT COUNT(t) AS a, COUNT(DISTINCT t) AS b, COUNT(c) AS c FROM o",
            r#"{"a":4,"b":3,"c":3}"#,
        ),
        (
            "SELECT AVG(t) AS a, MIN(t) AS b, MAX(t) AS c, MEDIAN(t) AS d, MID(t) AS e FROM o",
            r#"{"a":7.25,"b":5,"c":10,"d":7,"e":7.5}"#,
        ),
        (
            "SELECT SUM(t) AS s, COUNT(*) AS n FROM o WHERE false",
            r#"{"n":0}"#,
        ),
        (
            "SELECT c FROM o GROUP BY c HAVING COUNT(*) > 1",
            r#"{"c":"a"}"#,
        ),
        (
            "SELECT c AS k, COUNT(*) AS n FROM o GROUP BY c HAVING n = 1 ORDER BY k DESC LIMIT 2",
            r#"{"n":1} {"k":null,"n":1}"#,
        ),
        (
            "SELECT upper(c) AS k, SUM(t) / COUNT(*) AS avg FROM o WHERE c IS NOT NULL GROUP BY upper(c) ORDER BY avg",
            r#"{"avg":7,"k":"A"} {"avg":7,"k":"B"} {}"#,
        ),
        (
            "SELECT t FROM o GROUP BY t ORDER BY t",
            r#"{"t":5} {"t":7} {"t":10} {}"#,
        ),
        (
            "SELECT COUNT(*) AS n FROM o GROUP BY c LIMIT 1",
            r#"{"n":2}"#,
        ),
        ("SELECT COUNT(*) AS n FROM nowhere GROUP BY c", ""),
        ("SELECT COUNT(*) AS n FROM o HAVING COUNT(*) > 9", ""),
        ("SELECT MAX(c) AS m FROM o", r#"{"m":"b"}"#),
        ("SELECT COUNT(*) AS n FROM o LIMIT 1 OFFSET 1", ""),
    ]);
}

#[test]
fn changes_return_what_they_are_asked_for() {
    check_rows(&[
        (
            "INSERT INTO o DOCUMENTS ({'_id': '9', 't': 1}) RETURNING *",
            r#"{"_id":"9","t":1}"#,
        ),
        (
            "INSERT INTO o VALUES ({'_id': '1', 't': 1}) ON ID CONFLICT DO NOTHING RETURNING _id",
            "",
        ),
        (
            "INSERT INTO o VALUES ({'_id': '1', 't': 1}) ON ID CONFLICT DO UPDATE RETURNING t",
            r#"{"t":1}"#,
        ),
        (
            "UPDATE o SET t = t + 1 WHERE c = 'a' RETURNING SUM(t) AS s, COUNT(*) AS n",
            r#"{"n":2,"s":17}"#,
        ),
        (
            "UPDATE o SET n = 1 ORDER BY t DESC LIMIT 1 OFFSET 1 RETURNING _id",
            r#"{"_id":"1"}"#,
        ),
        (
            "UPDATE o x SET x.addr.zip = '2', y = x.t UNSET x.c WHERE x._id = '1' RETURNING *",
            r#"{"_id":"1","addr":{"city":"Rome","zip":"2"},"t":10,"y":10}"#,
        ),
        (
            "UPDATE o SET addr -> (zip = '9', note = 'n'), c -> tombstone() WHERE _id = '1' RETURNING addr, c",
            r#"{"addr":{"city":"Rome","note":"n","zip":"9"}}"#,
        ),
        (
            "UPDATE o APPLY hits PN_INCREMENT BY 2 WHERE _id = '1' RETURNING hits",
            r#"{"hits":2}"#,
        ),
        (
            "UPDATE o APPLY hits RESTART WITH 4 WHERE _id = '1' RETURNING hits",
            r#"{"hits":4}"#,
        ),
        (
            "DELETE FROM o WHERE t = 7 RETURNING _id",
            r#"{"_id":"3"} {"_id":"4"}"#,
        ),
        (
            "EVICT FROM o ORDER BY _id DESC LIMIT 1 RETURNING _id",
            r#"{"_id":"5"}"#,
        ),
        (
            "INSERT INTO z SELECT c, t FROM o WHERE c = 'b' RETURNING c, t",
            r#"{"c":"b","t":7}"#,
        ),
    ]);
}

#[test]
fn the_mutated_ids_are_those_written() {
    let check = |text: &str, expected: &str| {
        let output = orders().run(text, &Object::new()).unwrap();
        let ids: Vec<String> = output.mutated_ids.iter().map(ToString::to_string).collect();
        assert_eq!(ids.join(" "), expected, "{text}");
    };
    check("DELETE FROM o WHERE t > 100", "");
    check("DELETE FROM o LIMIT 2", r#""1" "2""#);
    check("UPDATE o SET t = 5 WHERE _id = '2'", r#""2""#);
    check("UPDATE o SET t = nofield WHERE _id = '2'", "");
    check(
        "INSERT INTO o DOCUMENTS ({'_id': '2', 't': 5}) ON ID CONFLICT DO UPDATE",
        r#""2""#,
    );
    check(
        "INSERT INTO o DOCUMENTS ({'_id': '2', 't': 5}) ON ID CONFLICT DO UPDATE_LOCAL_DIFF",
        "",
    );
    check(
        "INSERT INTO o INITIAL DOCUMENTS ({'_id': '2'}), ({'_id': 7})",
        "7",
    );
    check(
        "INSERT INTO o DOCUMENTS ([{'_id': 8}, {'_id': true}])",
        "8 true",
    );
}

#[test]
fn a_failed_statement_changes_nothing() {
    let mut memory = orders();
    let text = "INSERT INTO o DOCUMENTS ({'_id': 'new'}), ({'_id': '1'})";
    let error = memory.run(text, &Object::new()).unwrap_err();
    assert_eq!(error.code(), "query/execution");
    assert!(error.message().contains("already exists"), "{error}");
    assert_eq!(
        memory.rows("SELECT COUNT(*) AS n FROM o")[0]["n"],
        Value::Int(5)
    );
}

#[test]
fn wrong_types_are_reported_once_with_their_place() {
    let mut memory = orders();
    let text = "SELECT\n  upper(t) AS u, abs(nofield) AS v FROM o";
    let output = memory.run(text, &Object::new()).unwrap();
    let messages: Vec<String> = output.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        ["`upper` gave MISSING: argument 1 takes a string, found integer (line 2, column 9)",]
    );
    let many: Vec<String> = (0..20).map(|n| format!("upper({n})")).collect();
    let text = format!("SELECT {} FROM system:dual", many.join(", "));
    let output = memory.run(&text, &Object::new()).unwrap();
    assert_eq!(
        output.warnings.len(),
        idem_model::limits::QUERY_WARNINGS_MAX
    );
}

#[test]
fn an_increment_that_hides_a_value_is_warned_of() {
    let mut memory = Memory::default();
    memory.rows("INSERT INTO c DOCUMENTS ({'_id': 1, 'n': 5, 'm': {'s': 'x'}})");
    for (edits, place) in [
        ("APPLY absent INCREMENT BY 1", None),
        ("APPLY n INCREMENT BY 2", Some("`n` held integer")),
        ("APPLY n INCREMENT BY 2", None),
        (
            "APPLY m.s INCREMENT BY 2 SET x = 1",
            Some("`m.s` held string"),
        ),
        ("APPLY n RESTART WITH 7", None),
        ("APPLY n INCREMENT BY -7", None),
    ] {
        let text = format!("UPDATE c {edits}");
        let output = memory.run(&text, &Object::new()).unwrap();
        let found: Vec<String> = output.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            found.len(),
            usize::from(place.is_some()),
            "{text}: {found:?}"
        );
        if let Some(place) = place {
            assert!(found[0].starts_with(place), "{found:?}");
            assert!(found[0].ends_with("(line 1, column 16)"), "{found:?}");
        }
    }
    assert_eq!(memory.rows("SELECT n FROM c")[0]["n"], Value::Int(0));
}

#[test]
fn only_what_is_needed_is_read() {
    let mut memory = Memory::default();
    let documents: Vec<String> = (0..100)
        .map(|n| format!("({{'_id': {n}, 'n': {n}, 'g': {}}})", n % 10))
        .collect();
    memory.rows(&format!("INSERT INTO c DOCUMENTS {}", documents.join(", ")));
    memory.rows("CREATE INDEX by_n ON c (n)");
    memory.rows("CREATE INDEX by_g_n ON c (g, n DESC)");
    let mut check = |text: &str, read: usize| {
        memory.rows_read.set(0);
        memory.rows(text);
        assert_eq!(memory.rows_read.get(), read, "{text}");
    };
    check("SELECT * FROM c WHERE _id = 5", 1);
    check("SELECT * FROM c WHERE _id IN [1, 2, 3] AND n = 2", 3);
    check("SELECT * FROM c USE IDS 1, 2", 2);
    check("SELECT COUNT(*) FROM c", 0);
    check("SELECT * FROM c LIMIT 3", 3);
    check("SELECT * FROM c LIMIT 3 OFFSET 2", 5);
    check("SELECT * FROM c WHERE n = 5", 1);
    check("SELECT * FROM c WHERE n >= 5 AND n < 8", 3);
    check("SELECT * FROM c WHERE n BETWEEN 5 AND 8", 4);
    check("SELECT * FROM c WHERE n IN [5, 6.0, 'x']", 2);
    check("SELECT * FROM c WHERE g = 3 AND n > 50", 5);
    check(
        "SELECT * FROM c WHERE g IN [3, 4] AND n BETWEEN 10 AND 20",
        2,
    );
    check("SELECT * FROM c WHERE n IS MISSING", 0);
    check("SELECT * FROM c WHERE n + 1 = 5", 100);
    check("SELECT * FROM c USE INDEX '' WHERE n = 5", 100);
    check("SELECT * FROM c USE INDEX 'by_n' WHERE g = 3", 100);
    check("SELECT * FROM c LIMIT 0", 0);
}

#[test]
fn a_long_run_of_equal_keys_is_read_once() {
    let mut memory = Memory::default();
    let document = |n: i64| {
        let fields = [("_id", n), ("g", n % 2)].map(|(name, n)| (name.to_owned(), Value::Int(n)));
        Value::Object(Object::from(fields))
    };
    let documents = Value::Array((0..2000).map(document).collect());
    let args = Object::from([("documents".to_owned(), documents)]);
    memory
        .run("INSERT INTO c DOCUMENTS (:documents)", &args)
        .unwrap();
    for direction in ["ASC", "DESC"] {
        memory.rows(&format!("CREATE INDEX by_g ON c (g {direction})"));
        memory.rows_read.set(0);
        let rows = memory.rows("SELECT * FROM c WHERE g = 1");
        let ids: Vec<i64> = rows.iter().filter_map(|row| row["_id"].as_int()).collect();
        assert_eq!(ids, (0..1000).map(|n| 2 * n + 1).collect::<Vec<_>>());
        assert_eq!(memory.rows_read.get(), 1000);
        // A short window reads one batch of entries and fetches what it shows.
        memory.rows_read.set(0);
        memory.rows("SELECT * FROM c WHERE g = 1 LIMIT 5");
        assert_eq!(memory.rows_read.get(), 5);
        memory.rows("DROP INDEX by_g ON c");
    }
}

#[test]
fn statements_tell_what_they_are() {
    let check = |text: &str, kind: StatementKind, mutating: bool, collections: &[&str]| {
        let statement = parse(text).unwrap();
        let found: Vec<&str> = statement.collections().iter().map(|c| c.as_str()).collect();
        assert_eq!(
            (statement.kind(), statement.is_mutating(), found.as_slice()),
            (kind, mutating, collections),
            "{text}"
        );
    };
    check("SELECT * FROM a", StatementKind::Select, false, &["a"]);
    check(
        "SELECT * FROM system:dual",
        StatementKind::Select,
        false,
        &[],
    );
    check(
        "INSERT INTO a SELECT * FROM b",
        StatementKind::Insert,
        true,
        &["a", "b"],
    );
    check("EVICT FROM a", StatementKind::Evict, true, &["a"]);
    check(
        "EXPLAIN DELETE FROM a;",
        StatementKind::Explain,
        false,
        &["a"],
    );
    check("DROP INDEX i ON a", StatementKind::DropIndex, true, &["a"]);
    check("SHOW ALL", StatementKind::Show, false, &[]);
    check(
        "ALTER SYSTEM RESET ALL",
        StatementKind::AlterSystem,
        true,
        &[],
    );

    let memory = Memory::default();
    let statement = parse("DELETE FROM a").unwrap();
    let args = Object::new();
    assert!(execute(&statement, &Context::new(&args, NOW_MS), &memory).is_err());
}

#[test]
fn parameters_are_shown_and_checked() {
    let mut memory = Memory::default();
    memory.rows("ALTER SYSTEM SET tombstone_ttl_hours = 24");
    assert_eq!(
        memory.rows("SHOW Tombstone_TTL_hours")[0]["tombstone_ttl_hours"],
        Value::Int(24)
    );
    assert_eq!(memory.rows("SHOW ALL LIKE 'tomb%'").len(), 1);
    assert!(memory.rows("SHOW ALL").len() > 3);
    memory.rows("ALTER SYSTEM SET tombstone_ttl_hours TO DEFAULT");
    assert_eq!(
        memory.rows("SHOW tombstone_ttl_hours")[0]["tombstone_ttl_hours"],
        Value::Int(168)
    );
    for (text, code) in [
        (
            "ALTER SYSTEM SET tombstone_ttl_hours = 'x'",
            "query/parameter",
        ),
        ("ALTER SYSTEM SET no_such_thing = 1", "query/parameter"),
        ("ALTER SYSTEM SET dql_strict_mode = 1", "query/parameter"),
        ("SHOW tombstone_ttl_hour", "query/parameter"),
        ("SHOW dql_restrict_subscriptions", "query/parameter"),
    ] {
        let error = memory.run(text, &Object::new()).unwrap_err();
        assert_eq!(error.code(), code, "{text}");
    }
}

#[test]
fn sync_scopes_are_checked_when_they_are_set() {
    let mut memory = Memory::default();
    let set = "ALTER SYSTEM SET user_collection_sync_scopes = ";
    memory.rows(&format!(
        "{set}{{'a': 'LocalPeerOnly', 'b c': 'bigpeeronly'}}"
    ));
    let shown = &memory.rows("SHOW user_collection_sync_scopes")[0]["user_collection_sync_scopes"];
    let scopes = idem_query::sync_scopes(shown).unwrap();
    let name = |name: &str| idem_model::CollectionName::new(name).unwrap();
    assert_eq!(scopes[&name("a")], idem_model::SyncScope::LocalPeerOnly);
    assert_eq!(scopes[&name("b c")], idem_model::SyncScope::BigPeerOnly);
    for (value, message, hint) in [
        (
            "{'a': 'LocalPeersOnly'}",
            "\"LocalPeersOnly\" is not a sync scope, for `a`",
            "did you mean `LocalPeerOnly`?",
        ),
        (
            "{'a': 3}",
            "3 is not a sync scope, for `a`",
            "there are AllPeers, BigPeerOnly, SmallPeersOnly, LocalPeerOnly",
        ),
        (
            "{'__collections': 'AllPeers'}",
            "`__collections` is the system's and syncs with all peers",
            "",
        ),
        (
            "'AllPeers'",
            "`user_collection_sync_scopes` is an object, not \"AllPeers\"",
            "",
        ),
    ] {
        let text = format!("{set}{value}");
        let error = memory.run(&text, &Object::new()).unwrap_err();
        assert_eq!(error.code(), "query/parameter", "{text}");
        let shown = error.to_string();
        assert!(shown.contains(message), "{shown}");
        assert_eq!(error.hint().unwrap_or_default(), hint, "{text}");
    }
}
