//! Tests of reading documents from files.

use std::io::{BufReader, Read, repeat};

use idem::Value;

use super::*;

fn options() -> CsvOptions {
    CsvOptions {
        types: false,
        delimiter: b',',
        id_field: None,
    }
}

fn typed() -> CsvOptions {
    CsvOptions {
        types: true,
        ..options()
    }
}

/// What a file gives, one line of text an item.
fn shown(format: FileFormat, csv: &CsvOptions, text: &[u8]) -> Vec<String> {
    // A buffer of seven bytes puts every token across a boundary somewhere.
    let input = Box::new(BufReader::with_capacity(7, text));
    match read(input, format, csv) {
        Err(error) => vec![format!("fatal {error}")],
        Ok(records) => records
            .map(|item| match item {
                Ok(Ok(record)) => format!(
                    "{} {}",
                    record.line,
                    serde_json::to_string(&record.fields).unwrap()
                ),
                Ok(Err(bad)) => format!("bad {bad}"),
                Err(error) => format!("fatal {error}"),
            })
            .collect(),
    }
}

#[test]
fn ndjson_names_the_broken_line_and_goes_on() {
    let text = b"\xef\xbb\xbf{\"a\":1}\r\n\n{\"a\":\n[1]\n  {\"b\":\"\\n\"}";
    assert_eq!(
        shown(FileFormat::Ndjson, &options(), text),
        [
            "1 {\"a\":1}",
            "bad line 3, column 5: EOF while parsing a value",
            "bad line 4: expected an object, found an array",
            "5 {\"b\":\"\\n\"}",
        ]
    );
    assert!(shown(FileFormat::Ndjson, &options(), b"").is_empty());
    assert!(shown(FileFormat::Ndjson, &options(), b"\n\n").is_empty());
}

#[test]
fn an_endless_line_is_refused_within_bounded_memory() {
    let endless = repeat(b'[')
        .take(RECORD_BYTES_MAX as u64 * 2)
        .chain(&b"\n{\"a\":1}\n"[..]);
    let mut lines = lines::Lines::new(BufReader::new(endless));
    let bad = lines.next().unwrap().unwrap().unwrap_err();
    assert_eq!(bad.line, 1);
    assert!(bad.text.len() <= BAD_TEXT_BYTES_MAX);
    assert_eq!(lines.next().unwrap().unwrap().unwrap().line, 2);
    assert!(lines.next().is_none());
}

#[test]
fn arrays_are_split_at_their_elements() {
    let text = br#"
[ {"a": "],\"{" , "b": [1, {"c": 2}]},
  {"a": 2,,},
  7,
  {
    "a": tru
  }
]
"#;
    assert_eq!(
        shown(FileFormat::Json, &options(), text),
        [
            "2 {\"a\":\"],\\\"{\",\"b\":[1,{\"c\":2}]}",
            "bad line 3: key must be a string",
            "bad line 4: expected an object, found an integer",
            "bad line 7: expected ident",
        ]
    );
    assert!(shown(FileFormat::Json, &options(), b" [ ] ").is_empty());
}

#[test]
fn a_broken_array_says_where() {
    let check = |text: &str, expected: &str| {
        let all = shown(FileFormat::Json, &options(), text.as_bytes());
        assert_eq!(all.last().unwrap(), expected, "{text}");
    };
    check(
        "",
        "fatal line 1: the file is empty; expected an array of objects",
    );
    check(
        "{\"a\":1}",
        "fatal line 1: expected an array of objects, found an object; for one object a line use \
         --format ndjson",
    );
    check(
        "[{\"a\":1}",
        "fatal line 1: the element that starts here is not closed",
    );
    check("[{\"a\":1},\n", "fatal line 2: the array is not closed");
    check(
        "[{\"a\":1}]\n\nx",
        "fatal line 3: text follows the end of the array",
    );
    check("[{\"a\":1},]", "bad line 1: EOF while parsing a value");
    check("[,{\"a\":1}]", "1 {\"a\":1}");
    check("[{\"a\":1} {\"b\":2}]", "bad line 1: trailing characters");
}

#[test]
fn csv_cells_are_strings_unless_asked() {
    let text = b"_id,n,t,j,e\n1,007,true,\"[1,\n2]\",\n1.5,-2.50,null,x y,0\n9,9223372036854775808,1e3,{},+1\n";
    assert_eq!(
        shown(FileFormat::Csv, &options(), text),
        [
            r#"2 {"_id":"1","e":"","j":"[1,\n2]","n":"007","t":"true"}"#,
            r#"4 {"_id":"1.5","e":"0","j":"x y","n":"-2.50","t":"null"}"#,
            r#"5 {"_id":"9","e":"+1","j":"{}","n":"9223372036854775808","t":"1e3"}"#,
        ]
    );
    assert_eq!(
        shown(FileFormat::Csv, &typed(), text),
        [
            r#"2 {"_id":1,"j":[1,2],"n":"007","t":true}"#,
            r#"4 {"_id":"1.5","e":0,"j":"x y","n":-2.5,"t":null}"#,
            r#"5 {"_id":9,"e":"+1","j":{},"n":"9223372036854775808","t":1000.0}"#,
        ]
    );
}

#[test]
fn broken_csv_names_the_line_and_goes_on() {
    assert_eq!(
        shown(FileFormat::Csv, &options(), b"a,b\n1,2\n3\n4,\xff\n5,6\n"),
        [
            r#"2 {"a":"1","b":"2"}"#,
            "bad line 3: expected 2 cells as in the header, found 1",
            "bad line 4: column \"b\" is not UTF-8 text",
            r#"5 {"a":"5","b":"6"}"#,
        ]
    );
    let check = |text: &[u8], expected: &str| {
        assert_eq!(shown(FileFormat::Csv, &options(), text), [expected]);
    };
    check(
        b"",
        "fatal line 1: the file is empty; expected a header line",
    );
    check(b"a,a\n1,2\n", "fatal line 1: two columns are named \"a\"");
    check(b"a,\n1,2\n", "fatal line 1: column 2 has no name");
}

#[test]
fn an_open_quote_does_not_swallow_the_file() {
    let input = (&b"a\n1\n\""[..]).chain(repeat(b'x').take(RECORD_BYTES_MAX as u64 * 2));
    let mut rows = cells::Rows::new(input, &options()).unwrap();
    assert!(matches!(rows.next(), Some(Ok(Ok(_)))));
    let error = rows.next().unwrap().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("line 3: the record that starts here is longer"),
        "{error}"
    );
    assert!(rows.next().is_none());
}

#[test]
fn the_demo_data_reads_whole() {
    let text = include_bytes!("../../data/airports.ndjson");
    let count = read(Box::new(&text[..]), FileFormat::Ndjson, &options())
        .unwrap()
        .map(|item| item.unwrap().unwrap())
        .inspect(|record| assert!(matches!(record.fields["_id"], Value::String(_))))
        .count();
    assert_eq!(count, 7884);
}
