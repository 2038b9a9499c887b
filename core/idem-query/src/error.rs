//! What can be wrong with a statement, where, and what to do about it.

use std::fmt;

/// A place in a statement's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Length in characters, at least 1; what a caret line underlines.
    pub len: u32,
}

/// The class of a [`QueryError`]. Its [`code`](Self::code) is stable and part of every binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text is not a statement: syntax, names, clauses that do not go together.
    Invalid,
    /// An argument is missing or has a type or value that its place does not allow.
    ArgumentsInvalid,
    /// An expression could not be evaluated within its bounds.
    Evaluation,
    /// The statement is right but the data do not allow it.
    Execution,
    /// The language has it, this build or this place does not.
    Unsupported,
    /// A system parameter is unknown or its value is out of bounds.
    Parameter,
    /// The statement was stopped because somebody asked for it.
    Cancelled,
    /// The statement was stopped because its time was over.
    TimedOut,
}

impl ErrorKind {
    /// The stable code, such as `query/invalid`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Invalid => "query/invalid",
            Self::ArgumentsInvalid => "query/arguments-invalid",
            Self::Evaluation => "query/evaluation",
            Self::Execution => "query/execution",
            Self::Unsupported => "query/unsupported",
            Self::Parameter => "query/parameter",
            Self::Cancelled => "query/cancelled",
            Self::TimedOut => "query/timed-out",
        }
    }
}

/// A statement that cannot be parsed, bound or run.
///
/// `Display` prints the message alone; [`render`](Self::render) prints it with the line it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    inner: Box<Inner>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    message: String,
    position: Option<Position>,
    hint: Option<String>,
}

impl QueryError {
    /// An error without a place in the text.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                position: None,
                hint: None,
            }),
        }
    }

    /// The same error at a place.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        self.inner.position = Some(position);
        self
    }

    /// The same error with advice; empty advice is none.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        self.inner.hint = (!hint.is_empty()).then_some(hint);
        self
    }

    /// The class.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The stable code of the class.
    pub fn code(&self) -> &'static str {
        self.inner.kind.code()
    }

    /// What is wrong, without position and advice.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Where in the statement, if it is about one place.
    pub fn position(&self) -> Option<Position> {
        self.inner.position
    }

    /// What the writer may have meant.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The message, the line of `text` with a caret under the place, and the advice. `text` is the
    /// statement that the error came from.
    pub fn render(&self, text: &str) -> String {
        let mut out = format!("error: {}", self.message());
        if let Some(position) = self.position() {
            let line = text
                .lines()
                .nth(position.line as usize - 1)
                .unwrap_or_default();
            let number = position.line.to_string();
            let margin = " ".repeat(number.len());
            // Tabs would shift the caret, so they are shown as one space.
            let shown: String = line
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            let indent = " ".repeat(position.column as usize - 1);
            let room = (shown.chars().count() + 1).saturating_sub(position.column as usize);
            let carets = "^".repeat((position.len as usize).min(room).max(1));
            out.push_str(&format!(
                "\n{margin}--> line {}, column {}\n{margin} |\n{number} | {shown}\n{margin} | {indent}{carets}",
                position.line, position.column
            ));
        }
        if let Some(hint) = self.hint() {
            out.push_str(&format!("\nhint: {hint}"));
        }
        out
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for QueryError {}

/// Why a statement did not run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError<E: std::error::Error + 'static> {
    /// The statement or its arguments are at fault.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The source or target failed.
    #[error("the store could not run the statement")]
    Source(#[source] E),
}

/// Something in a statement that ran but probably did not do what its writer meant, such as a
/// function that got an argument of a wrong type and so gave MISSING.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What happened.
    pub message: String,
    /// The expression it happened in.
    pub position: Option<Position>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.position {
            Some(at) => write!(f, " (line {}, column {})", at.line, at.column),
            None => Ok(()),
        }
    }
}
