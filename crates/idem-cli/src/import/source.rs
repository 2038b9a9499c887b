//! The file that is imported, and the progress bar over its bytes.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::Mutex,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{exit::CliError, program::Talk};

const BUFFER_BYTES: usize = 256 * 1024;

/// A file or stdin, with a bar that follows what was read.
pub(super) struct Source {
    name: String,
    input: Mutex<Option<Box<dyn Read>>>,
    bar: ProgressBar,
}

impl Source {
    /// Opens `file`; `-` is stdin.
    pub(super) fn open(file: &Path, talk: Talk) -> Result<Self, CliError> {
        let (name, input, bytes): (String, Box<dyn Read>, Option<u64>) = if file.as_os_str() == "-"
        {
            ("stdin".to_owned(), Box::new(io::stdin().lock()), None)
        } else {
            let name = file.display().to_string();
            let input = File::open(file).map_err(|source| {
                CliError::failed(format!("cannot open {name}")).because(source)
            })?;
            let metadata = input.metadata().map_err(|source| {
                CliError::failed(format!("cannot open {name}")).because(source)
            })?;
            if metadata.is_dir() {
                return Err(CliError::failed(format!("{name} is a directory")));
            }
            (
                name,
                Box::new(input),
                metadata.is_file().then_some(metadata.len()),
            )
        };
        let bar = if talk.shows_progress() {
            bar(bytes)
        } else {
            ProgressBar::hidden()
        };
        Ok(Self {
            name,
            input: Mutex::new(Some(input)),
            bar,
        })
    }

    /// The name for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The content; can be taken once.
    pub(super) fn reader(&self) -> Box<dyn BufRead> {
        let input = self
            .input
            .lock()
            .expect("no holder of the lock panics")
            .take()
            .expect("the content is read once");
        Box::new(BufReader::with_capacity(
            BUFFER_BYTES,
            self.bar.wrap_read(input),
        ))
    }

    /// Shows how many documents are stored.
    pub(super) fn report(&self, documents: u64) {
        self.bar.set_message(format!("{documents} documents"));
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{bar:40} {percent:>3}%  {bytes}/{total_bytes}  {bytes_per_sec}  {msg}  eta {eta}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {bytes}  {bytes_per_sec}  {msg}",
        ),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("a valid template"))
}
