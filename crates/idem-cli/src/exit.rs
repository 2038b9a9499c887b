//! How a command ends: exit codes, and errors with their causes and a hint.

use std::{error::Error, fmt, process::ExitCode};

/// The exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// 0: done.
    Ok,
    /// 1: the command ran and failed.
    Failed,
    /// 2: the command line or an argument is wrong.
    Usage,
    /// 3: configuration, authentication or connection.
    Environment,
    /// 4: the store is open in another process.
    Locked,
}

impl ExitStatus {
    /// The number given to the operating system.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::Locked => 4,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// A failed command: what to say, how to exit, and what the user can do.
#[derive(Debug)]
pub struct CliError {
    status: ExitStatus,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    shown: Option<String>,
    hint: Option<String>,
}

impl CliError {
    /// An error without a cause.
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            source: None,
            shown: None,
            hint: None,
        }
    }

    /// A failure that nobody is told about.
    pub(crate) fn silent(status: ExitStatus) -> Self {
        Self::new(status, "")
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// The command ran and failed (exit code 1).
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Failed, message)
    }

    /// An argument is wrong (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Usage, message)
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Shows these lines in place of the causes: what is wrong with a statement, the place with a
    /// caret under it, and the hint.
    #[must_use]
    pub fn show(mut self, lines: impl Into<String>) -> Self {
        self.shown = Some(lines.into());
        self
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts the place in front of the message.
    #[must_use]
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Says where it is in a script of which the statement is a part, from the line `first`: the place
    /// in the statement becomes that in the script, and without one the line stands in front.
    #[must_use]
    pub(crate) fn in_script(mut self, first: usize) -> Self {
        match self.shown.as_deref().and_then(|shown| moved(shown, first)) {
            Some(shown) => {
                self.shown = Some(shown);
                self
            }
            None => self.at(format_args!("line {first}")),
        }
    }

    /// How the process exits.
    pub fn status(&self) -> ExitStatus {
        self.status
    }

    /// What the user can do, if there is anything to say.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The text for stderr: the message, each cause on its own line, the place in the statement,
    /// then the hint.
    pub fn render(&self) -> String {
        if let Some(shown) = &self.shown {
            // It says the cause and the hint itself.
            let shown = shown.strip_prefix("error: ").unwrap_or(shown);
            return format!("error: {}: {}", self.message, shown.trim_end());
        }
        let mut out = format!("error: {}", self.message);
        let mut cause: Option<&(dyn Error + 'static)> = self.source.as_deref().map(|e| e as _);
        while let Some(error) = cause {
            out.push_str("\n  because: ");
            out.push_str(&error.to_string().replace('\n', "\n  "));
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            out.push_str("\nhint: ");
            out.push_str(hint);
        }
        out
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CliError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// The place that is shown in a statement, as the one in a text in which the statement begins at the
/// line `first`. `None` if none is shown.
fn moved(shown: &str, first: usize) -> Option<String> {
    let (before, place) = shown.split_once("\n --> line ")?;
    let mut lines = place.lines();
    let (line, column) = lines.next()?.split_once(", ")?;
    let line = (line.parse::<usize>().ok()? + first - 1).to_string();
    let margin = " ".repeat(line.len());
    let mut out = format!("{before}\n{margin}--> line {line}, {column}");
    for start in [&margin, &line, &margin] {
        let (_, text) = lines.next()?.split_once(" |")?;
        out.push_str(&format!("\n{start} |{text}"));
    }
    for more in lines {
        out.push('\n');
        out.push_str(more);
    }
    Some(out)
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_statement_becomes_one_in_the_script() {
        let shown = "error: no\n --> line 2, column 3\n  |\n2 | a | b\n  |   ^\nhint: yes";
        let expected = "error: no\n  --> line 11, column 3\n   |\n11 | a | b\n   |   ^\nhint: yes";
        assert_eq!(moved(shown, 10).as_deref(), Some(expected));
        assert_eq!(moved(shown, 1).as_deref(), Some(shown));
        assert_eq!(moved("error: no", 3), None);
    }
}
