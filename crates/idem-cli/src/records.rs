//! Documents out of a file, as a stream: NDJSON, one JSON array, or CSV.
//!
//! Every record knows the line on which it starts. A record that is broken in itself is handed out
//! as [`BadRecord`], so that the caller may pass over it; an error that makes the rest of the file
//! unreadable ends the stream ([`RecordError`]). Memory is bounded by one record.

mod array;
mod cells;
mod lines;

use std::io::{self, BufRead};

use idem::Object;

use crate::args::FileFormat;

pub(crate) use cells::CsvOptions;

/// The longest record that is read, in bytes of text. The hard limit of a document is 5 MiB encoded;
/// JSON text with every character escaped takes six times that.
pub(crate) const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of a bad record that are kept to be written out.
const BAD_TEXT_BYTES_MAX: usize = 64 * 1024;

/// One document as the file gives it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Line on which it starts, from 1.
    pub(crate) line: u64,
    /// The fields, `_id` included if the file has it.
    pub(crate) fields: Object,
}

/// A record that is not a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BadRecord {
    /// Line of the error, from 1.
    pub(crate) line: u64,
    /// Column in bytes, from 1, where it is known.
    pub(crate) column: Option<u64>,
    /// What is wrong.
    pub(crate) reason: String,
    /// The text of the record, cut at 64 KiB.
    pub(crate) text: String,
}

impl std::fmt::Display for BadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for BadRecord {}

/// Why the rest of a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Reading failed.
    #[error("cannot read after line {line}")]
    Io {
        line: u64,
        #[source]
        source: io::Error,
    },
    /// The file is not of its format from here on.
    #[error("line {line}: {reason}")]
    Broken { line: u64, reason: String },
}

/// What a file gives next.
pub(crate) type RecordResult = Result<Result<Record, BadRecord>, RecordError>;

/// The documents of `input`, read as a stream.
///
/// # Errors
/// Items are [`RecordError`] if the rest cannot be read; nothing follows it.
pub(crate) fn read<'a>(
    mut input: Box<dyn BufRead + 'a>,
    format: FileFormat,
    csv: &CsvOptions,
) -> Result<Box<dyn Iterator<Item = RecordResult> + 'a>, RecordError> {
    skip_byte_order_mark(&mut input).map_err(|source| RecordError::Io { line: 1, source })?;
    Ok(match format {
        FileFormat::Ndjson => Box::new(lines::Lines::new(input)),
        FileFormat::Json => Box::new(array::Elements::new(input)),
        FileFormat::Csv => Box::new(cells::Rows::new(input, csv)?),
    })
}

/// Some programs put U+FEFF in front of a file; it is not part of the first record.
fn skip_byte_order_mark(input: &mut Box<dyn BufRead + '_>) -> io::Result<()> {
    if input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
    }
    Ok(())
}

/// Reads the JSON text of one document that starts on `line`, behind `indent` bytes if that is known.
fn document(text: &[u8], line: u64, indent: Option<u64>) -> Result<Record, BadRecord> {
    let bad = |line, column, reason| BadRecord {
        line,
        column,
        reason,
        text: kept(text),
    };
    match serde_json::from_slice::<idem::Value>(text) {
        Ok(idem::Value::Object(fields)) => Ok(Record { line, fields }),
        Ok(other) => Err(bad(
            line,
            None,
            format!("expected an object, found {}", article(other.type_name())),
        )),
        Err(error) => {
            // serde_json appends the position inside the record to its text; ours is in fields.
            let message = error.to_string();
            let reason = message.split(" at line ").next().unwrap_or(&message);
            let column = Some(error.column() as u64).filter(|&column| column > 0);
            let column = if error.line() <= 1 {
                column.zip(indent).map(|(column, indent)| column + indent)
            } else {
                column
            };
            Err(bad(
                line + (error.line() as u64).saturating_sub(1),
                column,
                reason.to_owned(),
            ))
        }
    }
}

fn article(name: &str) -> String {
    let an = name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {name}", if an { "an" } else { "a" })
}

/// The text of a bad record, cut so that a broken file cannot fill the disk with copies.
fn kept(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(BAD_TEXT_BYTES_MAX)]).into_owned()
}

#[cfg(test)]
mod tests;
