//! What functions of other languages are called here. Looked at only where a name is not known.

/// Names elsewhere, in lower case; a remark or nothing; the expressions to write.
type Known = (
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
);

const KNOWN: &[Known] = &[
    (
        &["length", "len", "size"],
        "",
        &[
            "char_length(text)",
            "array_length(tags)",
            "object_length(address)",
        ],
    ),
    (
        &["strlen", "str_len", "char_len", "string_length"],
        "",
        &["char_length(text)"],
    ),
    (
        &["octet_length", "lengthb", "datalength"],
        "",
        &["byte_length(text)"],
    ),
    (
        &[
            "array_size",
            "array_count",
            "array_len",
            "cardinality",
            "json_array_length",
        ],
        "",
        &["array_length(tags)"],
    ),
    (
        &[
            "now",
            "getdate",
            "sysdate",
            "current_timestamp",
            "localtimestamp",
            "utc_timestamp",
            "unix_timestamp",
            "clock_str",
            "now_str",
            "time",
        ],
        "",
        &["clock()"],
    ),
    (
        &["today", "curdate", "current_date"],
        "",
        &["clock('YYYY-MM-DD')"],
    ),
    (
        &["substring", "substring_index"],
        "the first character has number 0",
        &["substr(text, start, length)"],
    ),
    (
        &[
            "instr",
            "strpos",
            "charindex",
            "locate",
            "indexof",
            "index_of",
        ],
        "it counts from 0 and gives -1 where there is none",
        &["pos(text, part)"],
    ),
    (
        &["lcase", "tolower", "to_lower", "lowercase"],
        "",
        &["lower(text)"],
    ),
    (
        &["ucase", "toupper", "to_upper", "uppercase"],
        "",
        &["upper(text)"],
    ),
    (
        &["concat_ws", "array_join", "array_to_string", "join"],
        "",
        &["joinstr(separator, part)"],
    ),
    (
        &["includes", "has", "str_contains", "strcontains"],
        "",
        &["contains(text, part)"],
    ),
    (
        &[
            "array_has",
            "in_array",
            "list_contains",
            "array_position",
            "array_includes",
        ],
        "",
        &["array_contains(tags, value)", "value IN tags"],
    ),
    (
        &[
            "regexp",
            "rlike",
            "regexp_matches",
            "regexp_contains",
            "regex",
            "regex_match",
            "matches",
        ],
        "",
        &["regexp_like(text, pattern)"],
    ),
    (
        &["str_split", "string_to_array", "split_part"],
        "",
        &["split(text, separator)"],
    ),
    (&["some"], "", &["value IN tags"]),
    (&["replicate"], "", &["repeat(text, times)"]),
    (
        &["round"],
        "there is no rounding to digits",
        &["floor(number + 0.5)", "floor(number * 100 + 0.5) / 100.0"],
    ),
    (&["trunc", "truncate"], "", &["CAST(number AS integer)"]),
    (&["ceiling"], "", &["ceil(number)"]),
    (&["mod"], "", &["a % b"]),
    (&["div"], "", &["a / b"]),
    (&["greatest"], "", &["CASE WHEN a > b THEN a ELSE b END"]),
    (&["least"], "", &["CASE WHEN a < b THEN a ELSE b END"]),
    (
        &["if", "iif"],
        "",
        &["CASE WHEN condition THEN a ELSE b END"],
    ),
    (
        &["if_null", "zeroifnull", "nz", "value_or", "ifabsent"],
        "",
        &["coalesce(a, b)"],
    ),
    (&["nvl2"], "", &["nvl(value, if_there, if_absent)"]),
    (&["is_null"], "", &["value IS NULL"]),
    (&["is_missing"], "", &["value IS MISSING"]),
    (
        &["tostring", "to_string", "str", "text"],
        "",
        &["CAST(value AS string)"],
    ),
    (
        &["to_number", "tonumber", "to_num", "parse_float", "float"],
        "",
        &["CAST(value AS float)"],
    ),
    (
        &["toint", "to_int", "parse_int", "int"],
        "",
        &["CAST(value AS integer)"],
    ),
    (
        &["convert", "try_cast", "safe_cast"],
        "",
        &["CAST(value AS integer)"],
    ),
    (
        &["to_char", "strftime", "format_date", "formatdate"],
        "",
        &["date_format(date, 'YYYY-MM-DD')"],
    ),
    (
        &[
            "to_date",
            "to_timestamp",
            "parse_date",
            "str_to_date",
            "strptime",
            "date",
            "datetime",
            "timestamp",
            "str_to_millis",
        ],
        "",
        &["date_cast(text)"],
    ),
    (
        &["dateadd", "adddate", "date_add_str", "date_add_millis"],
        "",
        &["date_add(date, 'day', count)"],
    ),
    (
        &["subdate", "datesub"],
        "",
        &["date_sub(date, 'day', count)"],
    ),
    (
        &["datediff", "timestampdiff", "date_diff_str", "age"],
        "",
        &["date_diff(date1, date2, 'day')"],
    ),
    (
        &["datepart", "date_part_str", "extract", "year"],
        "",
        &["date_part(date, 'year')"],
    ),
    (&["month"], "", &["date_part(date, 'month')"]),
    (&["day", "dayofmonth"], "", &["date_part(date, 'day')"]),
    (&["hour"], "", &["date_part(date, 'hour')"]),
    (&["minute"], "", &["date_part(date, 'minute')"]),
    (&["second"], "", &["date_part(date, 'second')"]),
    (
        &["weekday", "dayofweek", "dayname"],
        "",
        &["date_part(date, 'weekday')"],
    ),
    (&["datetrunc"], "", &["date_trunc(date, 'day')"]),
    (
        &["to_json", "tojson", "json_encode", "stringify", "json"],
        "",
        &["serialize_json(value)"],
    ),
    (
        &["parse_json", "from_json", "json_decode", "json_parse"],
        "",
        &["deserialize_json(text)"],
    ),
    (
        &["typeof", "type_of", "gettype", "json_typeof"],
        "",
        &["type(value)"],
    ),
    (
        &["json_extract", "json_value", "json_query", "get_path"],
        "a path reads a part",
        &["address.city", "tags[0]"],
    ),
    (
        &["json_object", "object_construct", "json_build_object"],
        "",
        &["{'name': value}"],
    ),
    (
        &["json_array", "make_array", "json_build_array"],
        "",
        &["[a, b]"],
    ),
    (
        &["object_names", "json_keys", "map_keys", "keys"],
        "",
        &["object_keys(address)"],
    ),
    (&["map_values"], "", &["object_values(address)"]),
    (
        &[
            "json_set",
            "jsonb_set",
            "json_insert",
            "object_put",
            "object_add",
        ],
        "",
        &["object_set(address, 'city', value)"],
    ),
    (
        &["json_remove", "object_remove", "object_delete"],
        "",
        &["object_unset(address, 'city')"],
    ),
    (
        &["json_merge", "json_merge_patch", "object_merge"],
        "",
        &["object_concat(a, b)"],
    ),
    (
        &["meta", "rowid"],
        "a document is known by its id",
        &["_id"],
    ),
    (
        &["count_distinct", "approx_count_distinct", "countd"],
        "",
        &["COUNT(DISTINCT value)"],
    ),
    (&["mean", "average"], "", &["AVG(value)"]),
    (&["total"], "", &["SUM(value)"]),
    (&["countif", "count_if"], "", &["COUNT(condition)"]),
    (&["first", "first_value", "any_value"], "", &["MIN(value)"]),
    (&["last", "last_value"], "", &["MAX(value)"]),
];

/// Names elsewhere of what the language does not have, with what to do then.
const ABSENT: &[(&[&str], &str)] = &[
    (
        &["top"],
        "LIMIT stands at the end: SELECT * FROM orders LIMIT 5",
    ),
    (
        &[
            "array_append",
            "array_prepend",
            "array_push",
            "array_add",
            "array_put",
            "array_insert",
            "array_remove",
            "array_concat",
            "array_cat",
            "list_append",
        ],
        "an array is written as a whole, as in SET tags = :tags; a MAP with a field for each element merges",
    ),
    (
        &[
            "unnest",
            "explode",
            "flatten",
            "json_each",
            "array_sort",
            "array_distinct",
            "array_sum",
            "array_flatten",
        ],
        "UNNEST makes a row of each element: FROM orders AS o UNNEST o.items AS i",
    ),
    (
        &[
            "array_agg",
            "json_agg",
            "group_concat",
            "string_agg",
            "listagg",
            "collect",
        ],
        "no aggregate collects values; sort with ORDER BY and join the rows in the app",
    ),
    (
        &["row_number", "rank", "dense_rank", "ntile", "lag", "lead"],
        "there are no window functions; ORDER BY and LIMIT take the first rows",
    ),
    (
        &[
            "uuid",
            "newid",
            "gen_random_uuid",
            "uuid_generate_v4",
            "generate_uuid",
            "rand",
            "random",
        ],
        "no function is random; pass the value as a parameter, or leave _id out: INSERT makes one",
    ),
    (
        &["last_insert_id", "last_insert_rowid", "scope_identity"],
        "INSERT .. RETURNING _id gives the ids",
    ),
    (
        &[
            "replace",
            "regexp_replace",
            "regexp_substr",
            "regexp_extract",
            "translate",
            "reverse",
            "initcap",
        ],
        "no function changes the inside of a text; do it in the app and pass the text as a parameter",
    ),
    (
        &[
            "power", "pow", "sqrt", "exp", "ln", "log", "log10", "sin", "cos", "tan", "sign",
            "stddev", "variance",
        ],
        "the functions of numbers are abs, ceil and floor; compute it in the app",
    ),
];

/// What to write in place of a function of another language. `name` is in lower case.
pub(crate) fn instead(name: &str) -> Option<String> {
    if let Some((_, what)) = ABSENT.iter().find(|(names, _)| names.contains(&name)) {
        return Some((*what).to_owned());
    }
    let (_, remark, write) = KNOWN.iter().find(|(names, ..)| names.contains(&name))?;
    let gap = if remark.is_empty() { "" } else { "; " };
    Some(format!("{remark}{gap}write {}", write.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{functions::functions, parse};

    #[test]
    fn what_is_suggested_can_be_written() {
        for code in KNOWN.iter().flat_map(|(_, _, write)| *write) {
            let text = format!("SELECT {code} AS v FROM orders");
            if let Err(error) = parse(&text) {
                panic!("{}", error.render(&text));
            }
        }
    }

    #[test]
    fn a_foreign_name_is_in_the_table_once_and_is_no_function() {
        let known = KNOWN.iter().map(|(names, ..)| *names);
        let absent = ABSENT.iter().map(|(names, _)| *names);
        let mut names: Vec<&str> = known.chain(absent).flatten().copied().collect();
        for function in functions() {
            assert!(!names.contains(&function.name), "{}", function.name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
