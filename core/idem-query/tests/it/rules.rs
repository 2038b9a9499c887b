//! The rules of operators, absent data and types, one line for each.

use crate::functions::check;

#[test]
fn operators_bind_by_their_precedence() {
    check([
        ("2 + 3 * 4", "14"),
        ("10 - 4 - 3", "3"),
        ("1 + 2 << 3", "24"),
        ("1 << 2 = 4", "true"),
        ("1 = 1 AND NOT 1 = 2", "true"),
        ("NOT false AND false", "false"),
        ("true OR true AND false", "true"),
        ("true OR true XOR true", "true"),
        ("true XOR true AND false", "true"),
        ("'a' || 'b' = 'ab'", "true"),
        ("'ab' LIKE 'a' || '%'", "true"),
        ("nofield IS MISSING AND true", "true"),
        ("5 NOT BETWEEN 1 AND 3 AND true", "true"),
        ("-2 * 3", "-6"),
    ]);
}

#[test]
fn numbers_keep_their_type() {
    check([
        ("5 / 2", "2"),
        ("-5 / 2", "-2"),
        ("5 / 2.0", "2.5"),
        ("-5 % 3", "-2"),
        ("5.5 % 2", "1.5"),
        ("1e3", "1000.0"),
        ("0xFF", "255"),
        ("1 / 0", "MISSING"),
        ("1 % 0", "MISSING"),
        ("1.0 / 0", "MISSING"),
        ("1e308 * 10", "MISSING"),
        ("9223372036854775807 + 1", "MISSING"),
        ("-9223372036854775808 / -1", "MISSING"),
        ("-9223372036854775808 % -1", "MISSING"),
        ("abs(-9223372036854775808)", "MISSING"),
        ("1 << 64", "0"),
        ("-1 >> 64", "-1"),
        ("1 << -1", "MISSING"),
        ("'a' || 1", "MISSING"),
        ("'a' + 'b'", "MISSING"),
    ]);
}

#[test]
fn absent_data_is_neither_true_nor_false() {
    check([
        ("null = null", "null"),
        ("1 != null", "null"),
        ("nofield = nofield", "MISSING"),
        ("nofield = null", "MISSING"),
        ("1 = '1'", "MISSING"),
        ("1 != '1'", "MISSING"),
        ("1 = 1.0", "true"),
        ("NOT null", "null"),
        ("NOT nofield", "MISSING"),
        ("null AND false", "false"),
        ("null AND true", "null"),
        ("nofield AND null", "MISSING"),
        ("nofield OR true", "true"),
        ("nofield OR null", "null"),
        ("true XOR null", "null"),
        ("nofield IS NOT NULL", "true"),
        ("nofield IS NULL", "false"),
        ("null IS MISSING", "false"),
        ("null + 1", "null"),
        ("nofield + null", "MISSING"),
        ("null BETWEEN 1 AND 2", "null"),
        ("5 BETWEEN 10 AND 1", "false"),
        ("[nofield]", "[null]"),
        ("{'a': nofield}", "{}"),
        ("{'a': null}", r#"{"a":null}"#),
    ]);
}

#[test]
fn lists_hold_what_they_say() {
    check([
        ("1 IN (1, 2)", "true"),
        ("3 NOT IN [1, 2]", "true"),
        ("1 IN (2, null)", "null"),
        ("1 IN ([1, 2])", "false"),
        ("null IN [1]", "null"),
        ("nofield IN [1]", "MISSING"),
        ("1 IN 'a'", "MISSING"),
        ("1 IN []", "false"),
        ("1 IN [1.0]", "true"),
    ]);
}

#[test]
fn patterns_match_the_whole_text() {
    check([
        ("'abc' LIKE 'a%'", "true"),
        ("'abc' LIKE 'A%'", "false"),
        ("'ABC' ILIKE 'a%'", "true"),
        ("'abc' NOT LIKE 'b%'", "true"),
        ("'50%' LIKE '50!%' ESCAPE '!'", "true"),
        ("'50%' LIKE '50\\\\%'", "true"),
        ("1 LIKE 'a'", "MISSING"),
        ("null LIKE 'a'", "null"),
        ("'abc' SIMILAR TO 'a.c'", "false"),
        ("'abc' SIMILAR TO '(x|a)%'", "true"),
        ("'abc' SIMILAR TO '[a-c]{3}'", "true"),
        ("'abc' SIMILAR TO 'b'", "false"),
        ("'a<b' SIMILAR TO 'a<b'", "true"),
    ]);
}

#[test]
fn collection_expressions_go_through_arrays_and_objects() {
    check([
        ("ANY x IN [] SATISFIES true END", "false"),
        ("EVERY x IN [] SATISFIES false END", "true"),
        ("ANY AND EVERY x IN [] SATISFIES true END", "false"),
        ("ANY AND EVERY x IN [1] SATISFIES x = 1 END", "true"),
        ("ANY x IN nofield SATISFIES true END", "MISSING"),
        (
            "ANY i:x IN ['a', 'b'] SATISFIES i = 1 AND x = 'b' END",
            "true",
        ),
        ("ANY x WITHIN {'a': [{'b': 5}]} SATISFIES x = 5 END", "true"),
        ("ANY x IN {'a': [{'b': 5}]} SATISFIES x = 5 END", "false"),
        ("ARRAY x FOR x IN [1, 2, 3] WHEN x > 1 END", "[2,3]"),
        ("ARRAY x.y FOR x IN [{'y': 1}, {}] END", "[1]"),
        ("ARRAY k FOR k:v IN {'a': 1, 'b': 2} END", r#"["a","b"]"#),
        ("ARRAY x FOR x IN nofield END", "MISSING"),
        ("ARRAY x FOR x IN 5 END", "null"),
        ("OBJECT k : v FOR k:v IN {'a': 1} END", r#"{"a":1}"#),
        ("OBJECT 'k' : x FOR x IN [1, 2] END", r#"{"k":2}"#),
        ("OBJECT x : 1 FOR x IN ['a', 5] END", r#"{"a":1}"#),
        ("OBJECT 'k' : x.y FOR x IN [{}] END", "{}"),
        ("OBJECT k : v FOR k:v IN nofield END", "MISSING"),
        ("OBJECT k : v FOR k:v IN 5 END", "null"),
        ("CASE WHEN false THEN 1 END", "null"),
        (
            "CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' ELSE 'c' END",
            r#""b""#,
        ),
        ("CASE null WHEN null THEN 1 ELSE 2 END", "2"),
    ]);
}

#[test]
fn absent_arguments_have_their_rules() {
    check([
        ("ifnull(null, nofield, 1)", "MISSING"),
        ("ifmissing(nofield, null, 1)", "null"),
        ("nvl(nofield, 'a', 'b')", r#""b""#),
        ("nullif(1, '1')", "1"),
        ("nullif(nofield, 1)", "MISSING"),
        ("missingif(nofield, 1)", "MISSING"),
        ("decode(null, null, 'n')", r#""n""#),
        ("decode(1.0, 1, 'one')", r#""one""#),
        ("is_string(nofield)", "MISSING"),
        ("is_string(null)", "null"),
        ("upper(null)", "MISSING"),
        ("cast(null AS string)", "null"),
        ("cast(nofield AS string)", "MISSING"),
        ("serialize_json(null)", r#""null""#),
    ]);
}

#[test]
fn dates_need_a_zone_and_answer_in_their_form() {
    check([
        ("date_add('2026-03-15T10:30:45', 'day', 1)", "MISSING"),
        ("date_add('2026-03-15', 'day', 1)", "MISSING"),
        ("date_add('2026-03-15T10:30:45Z', 7, 'day')", "MISSING"),
        (
            "date_add('2026-03-15T10:30:45Z', 'mon', 1)",
            r#""2026-04-15T10:30:45+00:00""#,
        ),
        (
            "date_add('2026-03-15T10:30:45.123Z', 'millis', 1)",
            r#""2026-03-15T10:30:45.124+00:00""#,
        ),
        ("date_sub(1773570645000, 'sec', 1)", "1773570644000"),
        ("date_part('2026-03-15T10:30:45Z', 'quarter')", "MISSING"),
        ("date_part('2026-03-15T10:30:45Z', 'dow')", "MISSING"),
        ("date_part('2026-03-15T10:30:45Z', 'doy')", "MISSING"),
        (
            "date_part('2026-03-15T10:30:45+09:00', 'tz')",
            r#""+09:00""#,
        ),
        ("date_trunc(1773570645000, 'day')", "1773532800000"),
        ("date_range(0, 10, 'ms', 0)", "MISSING"),
        ("date_range(10, 0, 'ms', -5)", "[10,5]"),
        (
            "date_cast('2026-03-15T10:30:45Z', 'YYYY-MM-DDThh:mm:ssTZD')",
            "1773570645000",
        ),
        ("date_cast('2026-03', '%Y-%m')", "1772323200000"),
        ("date_cast('1773570645', '%s')", "1773570645000"),
        ("date_cast('30/02/2026', 'DD/MM/YYYY')", "MISSING"),
        ("tz_offset('Europe/London', 'TZN')", "60"),
        (
            "tz_offset('2026-01-01 Europe/London', 'YYYY-MM-DD TZN')",
            "0",
        ),
        ("clock('YYYY-MM-DD')", r#""2026-03-15""#),
        ("clock('', 'Asia/Tokyo')", r#""2026-03-15T19:30:45+09:00""#),
        ("duration_cast('90 minutes', 'hour')", "1"),
        ("duration_format(86400000)", r#""1d""#),
        ("duration_format(1, 'month')", "MISSING"),
    ]);
}
