//! NDJSON: one JSON object a line.

use std::io::{BufRead, Read};

use super::{BadRecord, RECORD_BYTES_MAX, RecordError, RecordResult, document, kept};

/// The lines of a file. Empty lines are passed over.
pub(super) struct Lines<R> {
    input: R,
    line: u64,
    buffer: Vec<u8>,
    ended: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            line: 0,
            buffer: Vec::new(),
            ended: false,
        }
    }

    /// Reads a line into the buffer, at most one byte over the limit; false at the end of the file.
    fn fill(&mut self) -> std::io::Result<bool> {
        self.buffer.clear();
        let limit = RECORD_BYTES_MAX as u64 + 1;
        let count = (&mut self.input)
            .take(limit)
            .read_until(b'\n', &mut self.buffer)?;
        self.line += 1;
        Ok(count > 0)
    }

    fn skip_rest_of_line(&mut self) -> std::io::Result<()> {
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return Ok(());
            }
            let newline = chunk.iter().position(|&b| b == b'\n');
            let count = newline.map_or(chunk.len(), |at| at + 1);
            self.input.consume(count);
            if newline.is_some() {
                return Ok(());
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = RecordResult;

    fn next(&mut self) -> Option<RecordResult> {
        while !self.ended {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(source) => return Some(self.fail(source)),
            }
            let whole = self.buffer.ends_with(b"\n");
            if !whole && self.buffer.len() > RECORD_BYTES_MAX {
                if let Err(source) = self.skip_rest_of_line() {
                    return Some(self.fail(source));
                }
                return Some(Ok(Err(BadRecord {
                    line: self.line,
                    column: None,
                    reason: format!("longer than {RECORD_BYTES_MAX} bytes"),
                    text: kept(&self.buffer),
                })));
            }
            let text = self.buffer.trim_ascii_start();
            if !text.is_empty() {
                let indent = (self.buffer.len() - text.len()) as u64;
                return Some(Ok(document(text.trim_ascii_end(), self.line, Some(indent))));
            }
        }
        None
    }
}

impl<R: BufRead> Lines<R> {
    fn fail(&mut self, source: std::io::Error) -> RecordResult {
        self.ended = true;
        Err(RecordError::Io {
            line: self.line.max(1),
            source,
        })
    }
}
