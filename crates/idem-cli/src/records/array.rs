//! One JSON array of objects, split into its elements without holding the array.
//!
//! The splitter follows strings, escapes and brackets only; each element's text then goes through
//! the JSON parser, which finds everything else. So a broken element is reported by itself as long as
//! its brackets balance.

use std::io::BufRead;

use super::{RECORD_BYTES_MAX, RecordError, RecordResult, document};

/// The elements of the array.
pub(super) struct Elements<R> {
    input: R,
    line: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the opening bracket.
    Start,
    /// Behind the opening bracket: an element or the end.
    First,
    /// Behind a comma: an element.
    Element,
    /// Behind the closing bracket, or after an error.
    Ended,
}

impl<R: BufRead> Elements<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            line: 1,
            state: State::Start,
        }
    }

    fn peek(&mut self) -> Result<Option<u8>, RecordError> {
        let line = self.line;
        match self.input.fill_buf() {
            Ok(chunk) => Ok(chunk.first().copied()),
            Err(source) => Err(RecordError::Io { line, source }),
        }
    }

    fn advance(&mut self, byte: u8) {
        self.input.consume(1);
        if byte == b'\n' {
            self.line += 1;
        }
    }

    fn skip_space(&mut self) -> Result<Option<u8>, RecordError> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.advance(byte);
        }
        Ok(None)
    }

    fn broken(&self, reason: impl Into<String>) -> RecordError {
        RecordError::Broken {
            line: self.line,
            reason: reason.into(),
        }
    }

    fn step(&mut self) -> Result<Option<RecordResult>, RecordError> {
        if self.state == State::Start {
            match self.skip_space()? {
                Some(b'[') => self.advance(b'['),
                Some(b'{') => {
                    return Err(self.broken(
                        "expected an array of objects, found an object; \
                         for one object a line use --format ndjson",
                    ));
                }
                Some(_) => return Err(self.broken("expected an array of objects")),
                None => return Err(self.broken("the file is empty; expected an array of objects")),
            }
            self.state = State::First;
        }
        match self.skip_space()? {
            Some(b']') if self.state == State::First => return self.end(),
            None => return Err(self.broken("the array is not closed")),
            Some(_) => {}
        }
        let line = self.line;
        let text = self.element()?;
        Ok(Some(Ok(document(text.trim_ascii(), line, None))))
    }

    /// Behind the closing bracket only space may follow.
    fn end(&mut self) -> Result<Option<RecordResult>, RecordError> {
        self.advance(b']');
        self.state = State::Ended;
        match self.skip_space()? {
            None => Ok(None),
            Some(_) => Err(self.broken("text follows the end of the array")),
        }
    }

    /// Reads up to the comma or bracket that ends the element.
    fn element(&mut self) -> Result<Vec<u8>, RecordError> {
        let start = self.line;
        let mut text = Vec::new();
        let mut depth = 0usize;
        let (mut in_string, mut escaped) = (false, false);
        loop {
            let Some(byte) = self.peek()? else {
                return Err(RecordError::Broken {
                    line: start,
                    reason: "the element that starts here is not closed".to_owned(),
                });
            };
            if in_string {
                in_string = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
            } else {
                match byte {
                    b'"' => in_string = true,
                    b'{' | b'[' => depth += 1,
                    b',' if depth == 0 => {
                        self.advance(byte);
                        self.state = State::Element;
                        return Ok(text);
                    }
                    b']' if depth == 0 => {
                        // The next step sees the bracket where an element might start.
                        self.state = State::First;
                        return Ok(text);
                    }
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            if text.len() >= RECORD_BYTES_MAX {
                return Err(RecordError::Broken {
                    line: start,
                    reason: format!(
                        "the element that starts here is longer than {RECORD_BYTES_MAX} bytes"
                    ),
                });
            }
            text.push(byte);
            self.advance(byte);
        }
    }
}

impl<R: BufRead> Iterator for Elements<R> {
    type Item = RecordResult;

    fn next(&mut self) -> Option<RecordResult> {
        if self.state == State::Ended {
            return None;
        }
        match self.step() {
            Ok(item) => item,
            Err(error) => {
                self.state = State::Ended;
                Some(Err(error))
            }
        }
    }
}
