//! CSV: a header line with the field names, then one document a line.

use std::{
    cell::Cell,
    collections::BTreeSet,
    io::{self, Read},
    rc::Rc,
};

use csv::{ByteRecord, ErrorKind};
use idem::{Object, Value};

use super::{BadRecord, RECORD_BYTES_MAX, Record, RecordError, RecordResult, kept};

/// How cells become values.
#[derive(Debug, Clone)]
pub(crate) struct CsvOptions {
    /// Read numbers, `true`, `false`, `null` and JSON text as such, and leave empty cells out.
    pub(crate) types: bool,
    /// The byte between cells.
    pub(crate) delimiter: u8,
    /// The column that becomes `_id`, which is never read as a float.
    pub(crate) id_field: Option<String>,
}

/// The rows of a file.
pub(super) struct Rows<R: Read> {
    reader: csv::Reader<Bounded<R>>,
    left: Rc<Cell<usize>>,
    header: Vec<String>,
    row: ByteRecord,
    options: CsvOptions,
    ended: bool,
}

impl<R: Read> Rows<R> {
    /// Reads the header line.
    pub(super) fn new(input: R, options: &CsvOptions) -> Result<Self, RecordError> {
        let left = Rc::new(Cell::new(RECORD_BYTES_MAX));
        let bounded = Bounded {
            input,
            left: Rc::clone(&left),
        };
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(options.delimiter)
            .from_reader(bounded);
        let header = reader
            .byte_headers()
            .map_err(|error| unreadable(1, error))?
            .clone();
        let header = names(&header)?;
        Ok(Self {
            reader,
            left,
            header,
            row: ByteRecord::new(),
            options: options.clone(),
            ended: false,
        })
    }

    fn document(&self) -> Result<Record, BadRecord> {
        let line = self.row.position().map_or(0, csv::Position::line);
        let mut fields = Object::new();
        for (name, cell) in self.header.iter().zip(self.row.iter()) {
            let text = std::str::from_utf8(cell)
                .map_err(|_| self.bad(format!("column {name:?} is not UTF-8 text")))?;
            let is_id = name == "_id" || self.options.id_field.as_ref() == Some(name);
            let value = if self.options.types {
                typed(text, is_id)
            } else {
                Some(text.into())
            };
            if let Some(value) = value {
                fields.insert(name.clone(), value);
            }
        }
        Ok(Record { line, fields })
    }

    fn bad(&self, reason: String) -> BadRecord {
        let cells: Vec<_> = self.row.iter().map(String::from_utf8_lossy).collect();
        let separator = char::from(self.options.delimiter).to_string();
        BadRecord {
            line: self.row.position().map_or(0, csv::Position::line),
            column: None,
            reason,
            text: kept(cells.join(&separator).as_bytes()),
        }
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = RecordResult;

    fn next(&mut self) -> Option<RecordResult> {
        if self.ended {
            return None;
        }
        self.left.set(RECORD_BYTES_MAX);
        let line = self.reader.position().line();
        match self.reader.read_byte_record(&mut self.row) {
            Ok(false) => None,
            Ok(true) => Some(Ok(self.document())),
            Err(error) => Some(match error.kind() {
                ErrorKind::UnequalLengths {
                    expected_len, len, ..
                } => {
                    let reason =
                        format!("expected {expected_len} cells as in the header, found {len}");
                    Ok(Err(self.bad(reason)))
                }
                _ => {
                    self.ended = true;
                    Err(unreadable(line, error))
                }
            }),
        }
    }
}

/// The field names of the header line.
fn names(header: &ByteRecord) -> Result<Vec<String>, RecordError> {
    let broken = |reason| RecordError::Broken { line: 1, reason };
    let mut seen = BTreeSet::new();
    let mut names = Vec::with_capacity(header.len());
    for (at, cell) in header.iter().enumerate() {
        let name = std::str::from_utf8(cell)
            .map_err(|_| broken(format!("name of column {} is not UTF-8 text", at + 1)))?
            .trim();
        if name.is_empty() {
            return Err(broken(format!("column {} has no name", at + 1)));
        }
        if !seen.insert(name.to_owned()) {
            return Err(broken(format!("two columns are named {name:?}")));
        }
        names.push(name.to_owned());
    }
    if names.is_empty() {
        return Err(broken(
            "the file is empty; expected a header line".to_owned(),
        ));
    }
    Ok(names)
}

/// The value of a cell, `None` for an empty one.
///
/// A number is what JSON calls one: `007` and `+1` stay strings, and so do integers beyond 64 bits,
/// which a float would change. An id is never a float, a boolean or null.
fn typed(text: &str, is_id: bool) -> Option<Value> {
    if text.is_empty() {
        return None;
    }
    let worth_parsing = matches!(
        text.as_bytes()[0],
        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | b'{' | b'['
    );
    let parsed = worth_parsing
        .then(|| serde_json::from_str::<Value>(text).ok())
        .flatten();
    let kept = parsed.filter(|value| match value {
        Value::Int(_) | Value::Array(_) | Value::Object(_) | Value::Binary(_) => true,
        Value::Float(_) => !is_id && text.contains(['.', 'e', 'E']),
        Value::Bool(_) | Value::Null => !is_id,
        Value::String(_) => false,
    });
    Some(kept.unwrap_or_else(|| text.into()))
}

fn unreadable(line: u64, error: csv::Error) -> RecordError {
    match error.into_kind() {
        ErrorKind::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
            RecordError::Broken {
                line,
                reason: format!(
                    "the record that starts here is longer than {RECORD_BYTES_MAX} bytes; \
                     is a quote not closed?"
                ),
            }
        }
        ErrorKind::Io(source) => RecordError::Io { line, source },
        other => RecordError::Broken {
            line,
            reason: format!("{other:?}"),
        },
    }
}

/// Stops reading when one record takes too much: a quote that is never closed would otherwise pull
/// the whole file into memory.
struct Bounded<R> {
    input: R,
    left: Rc<Cell<usize>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left.get().checked_sub(1) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        let len = buffer.len().min(left + 1);
        let count = self.input.read(&mut buffer[..len])?;
        self.left.set(self.left.get() - count);
        Ok(count)
    }
}
