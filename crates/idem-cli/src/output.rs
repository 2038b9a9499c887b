//! Results on stdout: a table for people, JSON, JSON lines and CSV for machines.

mod plan;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use comfy_table::{ContentArrangement, Table, presets};
use idem::{Object, Value};

use crate::args::Format;

/// Characters of one table cell. A longer value is cut with `...`; plans and the other formats are never
/// cut.
const CELL_CHARS_MAX: usize = 60;

/// Tables are fitted to terminals of at least this width.
const WIDTH_CHARS_MIN: u16 = 40;

/// The format to use: the one asked for, a table on a terminal, JSON lines elsewhere.
pub(crate) fn format_or_default(asked: Option<Format>) -> Format {
    asked.unwrap_or(if io::stdout().is_terminal() {
        Format::Table
    } else {
        Format::Jsonl
    })
}

/// Prints `rows` to `out` in `format`.
///
/// # Errors
/// Those of writing.
pub(crate) fn print_rows(out: &mut dyn Write, format: Format, rows: &[Object]) -> io::Result<()> {
    match format {
        Format::Table => {
            // EXPLAIN gives a plan alone, PROFILE one behind its rows.
            let (rows, plan) = match rows.split_last() {
                None => return Ok(()),
                Some((last, before)) => match plan::text(last) {
                    Some(plan) => (before, Some(plan)),
                    None => (rows, None),
                },
            };
            if !rows.is_empty() {
                writeln!(out, "{}", table(rows))?;
            }
            write!(out, "{}", plan.unwrap_or_default())
        }
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, rows)?;
            writeln!(out)
        }
        Format::Jsonl => rows.iter().try_for_each(|row| write_json_line(out, row)),
        Format::Csv => {
            let columns = columns(rows.iter());
            let mut writer = CsvRows::new(out, columns)?;
            rows.iter().try_for_each(|row| writer.write(row))?;
            writer.finish()
        }
    }
}

/// Writes one object as one line of JSON.
pub(crate) fn write_json_line(out: &mut dyn Write, row: &Object) -> io::Result<()> {
    serde_json::to_writer(&mut *out, row)?;
    out.write_all(b"\n")
}

/// The names of all fields, `_id` first, then in alphabetical order.
pub(crate) fn columns<'a>(rows: impl Iterator<Item = &'a Object>) -> Vec<String> {
    let mut names = BTreeSet::new();
    for row in rows {
        for name in row.keys() {
            if !names.contains(name.as_str()) {
                names.insert(name.clone());
            }
        }
    }
    order_columns(names)
}

/// `_id` first, then in alphabetical order.
pub(crate) fn order_columns(mut names: BTreeSet<String>) -> Vec<String> {
    let id = names.take("_id");
    id.into_iter().chain(names).collect()
}

/// Rows of CSV under a header line. An absent field is an empty cell; null is `null`; arrays,
/// objects and binary are JSON text.
pub(crate) struct CsvRows<W: Write> {
    writer: csv::Writer<W>,
    columns: Vec<String>,
}

impl<W: Write> CsvRows<W> {
    /// Writes the header line.
    pub(crate) fn new(out: W, columns: Vec<String>) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        if !columns.is_empty() {
            writer.write_record(&columns)?;
        }
        Ok(Self { writer, columns })
    }

    /// Writes one row.
    pub(crate) fn write(&mut self, row: &Object) -> io::Result<()> {
        for name in &self.columns {
            match row.get(name) {
                None => self.writer.write_field("")?,
                Some(Value::String(text)) => self.writer.write_field(text)?,
                Some(value) => self.writer.write_field(json_text(value))?,
            }
        }
        self.writer.write_record(None::<&[u8]>)?;
        Ok(())
    }

    /// Writes what is buffered.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Compact JSON text of a value.
pub(crate) fn json_text(value: &Value) -> String {
    serde_json::to_string(value).expect("values have string keys and finite floats")
}

/// An aligned table of `rows`, fitted to the terminal if there is one.
pub(crate) fn table(rows: &[Object]) -> Table {
    let columns = columns(rows.iter());
    let mut table = plain_table();
    table.set_header(columns.iter().map(|name| printable(name)));
    for row in rows {
        table.add_row(
            columns
                .iter()
                .map(|name| row.get(name).map_or_else(String::new, cell)),
        );
    }
    table
}

/// An empty table in the style of all tables here.
pub(crate) fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    // A terminal that does not know its width says 0.
    if io::stdout().is_terminal() && table.width().is_some_and(|width| width >= WIDTH_CHARS_MIN) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::String(text) => printable(text),
        // JSON text escapes control characters by itself.
        other => json_text(other),
    };
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

/// Text with control characters made visible: a document must not be able to steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            write!(out, "{}", c.escape_default()).expect("writing to a string does not fail");
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Object> {
        serde_json::from_str::<Vec<Value>>(text)
            .unwrap()
            .into_iter()
            .map(|v| v.as_object().unwrap().clone())
            .collect()
    }

    fn printed(format: Format, json: &str) -> String {
        let mut out = Vec::new();
        print_rows(&mut out, format, &rows(json)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_quotes_and_keeps_absent_apart_from_null() {
        let text = printed(
            Format::Csv,
            r#"[{"b": "x,\"y\"", "_id": 1}, {"_id": "2", "b": null, "c": {"d": [1]}}]"#,
        );
        assert_eq!(
            text,
            "_id,b,c\n1,\"x,\"\"y\"\"\",\n2,null,\"{\"\"d\"\":[1]}\"\n"
        );
    }

    #[test]
    fn json_lines_are_one_object_each() {
        assert_eq!(
            printed(Format::Jsonl, r#"[{"a": 1}, {"a": "\n"}]"#),
            "{\"a\":1}\n{\"a\":\"\\n\"}\n"
        );
        assert_eq!(printed(Format::Jsonl, "[]"), "");
        assert_eq!(printed(Format::Json, "[]"), "[]\n");
        assert_eq!(printed(Format::Table, "[]"), "");
    }

    #[test]
    fn plans_are_shown_whole() {
        let condition = "x".repeat(CELL_CHARS_MAX * 3);
        let plan = format!(
            r##"{{"#operator": "sequence", "children": [
                {{"#operator": "indexScan", "collection": "c", "desc": {{"index": "by_x", "spans": ["x > 1"]}}}},
                {{"#operator": "filter", "condition": "{condition}",
                  "#stats": {{"documentsIn": 9, "documentsOut": 2, "phaseTimes": {{"run": 1234567}}}}}}]}}"##
        );
        let steps = format!(
            "sequence\n  indexScan collection=\"c\" index=\"by_x\" spans=[\"x > 1\"]\n  filter condition=\"{condition}\""
        );
        assert_eq!(
            printed(Format::Table, &format!(r#"[{{"plan": {plan}}}]"#)),
            format!("{steps}  (2 of 9 documents, 1.234 ms)\n")
        );
        let profile = format!(
            r#"[{{"_id": 1}}, {{"~request_profile": {{"plan": {plan}, "resultCount": 1,
                "times": {{"elapsed": 2000000, "parse": 7000}}}}}}]"#
        );
        let text = printed(Format::Table, &profile);
        let (table, rest) = text.split_once("sequence").unwrap();
        assert!(table.contains("_id") && !table.contains('~'), "{table}");
        assert!(
            rest.ends_with("1 rows, elapsed 2.000 ms, parse 0.007 ms\n"),
            "{rest}"
        );
        // A document of such a form is none.
        let text = printed(
            Format::Table,
            r#"[{"plan": {"a": 1}}, {"~request_profile": 1}]"#,
        );
        assert!(text.contains(r#"{"a":1}"#), "{text}");
        let text = printed(
            Format::Table,
            "[{\"plan\": {\"#operator\": \"\\u001b[2J\"}}]",
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn a_document_cannot_steer_the_terminal() {
        let text = printed(Format::Table, r#"[{"a": "\u001b[2Jx\r\n"}]"#);
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    }

    #[test]
    fn long_cells_are_cut_at_a_character() {
        let long = "\u{e9}".repeat(CELL_CHARS_MAX + 1);
        assert_eq!(
            cell(&Value::String(long)),
            format!("{}...", "\u{e9}".repeat(CELL_CHARS_MAX))
        );
    }
}
