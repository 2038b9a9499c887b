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
    hint: Option<String>,
}

impl CliError {
    /// An error without a cause.
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            source: None,
            hint: None,
        }
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

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// How the process exits.
    pub fn status(&self) -> ExitStatus {
        self.status
    }

    /// The text for stderr: the message, each cause on its own line, then the hint.
    pub fn render(&self) -> String {
        let mut out = format!("error: {}", self.message);
        let mut cause: Option<&(dyn Error + 'static)> = self.source.as_deref().map(|e| e as _);
        while let Some(error) = cause {
            let text = error.to_string();
            out.push_str("\n  because: ");
            // A query error is several lines: the place in the statement under its message.
            out.push_str(&text.replace('\n', "\n  "));
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
