//! `idem export`: documents to a file or stdout.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use idem::{CollectionName, Object};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    args::{DurabilityChoice, ExportArgs, FileFormat},
    exit::CliError,
    import::format_of,
    opening::{open_offline, peer_error},
    output::{CsvRows, order_columns, write_json_line},
    program::Talk,
    query::{arguments, rows, stdout_error},
    scan::CollectionScan,
};

/// Columns of a CSV file; beyond it a spreadsheet could not open it anyway.
const COLUMNS_MAX: usize = 16_384;

const STDOUT: &str = "stdout";
/// Documents after which the progress is shown again.
const PROGRESS_DOCUMENTS: u64 = 256;

/// Runs the command.
pub(crate) fn run(args: &ExportArgs, talk: Talk) -> Result<(), CliError> {
    let format = args
        .format
        .or_else(|| args.output.as_deref().and_then(format_of))
        .unwrap_or(FileFormat::Ndjson);
    if let Some(name) = &args.collection {
        CollectionName::new(name)
            .map_err(|error| CliError::usage("--collection is not a name").because(error))?;
    }
    let arguments = arguments(args.args.as_deref())?;
    let idem = open_offline(&args.store, DurabilityChoice::Durable)?;
    let mut output = Output::create(args.output.as_deref())?;
    let progress = progress(talk);
    let count = match (&args.query, &args.collection) {
        (Some(query), _) => {
            let result = idem
                .store()
                .execute_blocking((query.as_str(), arguments))
                .map_err(|error| peer_error("the query failed", error))?;
            for warning in result.warnings() {
                talk.warn(&warning.message);
            }
            write_result(&mut output, format, &rows(result))
        }
        (None, Some(collection)) => {
            write_collection(&mut output, format, &idem, collection, &progress)
        }
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    progress.finish_and_clear();
    let count = count?;
    output.finish()?;
    talk.note(&format!("{count} documents exported"));
    idem.close_blocking()
        .map_err(|error| peer_error("cannot close the store", error))
}

fn write_result(output: &mut Output, format: FileFormat, rows: &[Object]) -> Result<u64, CliError> {
    let columns = crate::output::columns(rows.iter());
    let written = Rows::start(&mut output.out, format, columns).and_then(|mut out| {
        rows.iter().try_for_each(|row| out.write(row))?;
        out.finish()
    });
    written.map_err(|source| output.failed(source))
}

/// Writes every document of the collection, as it was at one moment, one by one.
fn write_collection(
    output: &mut Output,
    format: FileFormat,
    idem: &idem::Idem,
    collection: &str,
    progress: &ProgressBar,
) -> Result<u64, CliError> {
    let scan = CollectionScan::open(idem, collection)?;
    let columns = if format == FileFormat::Csv {
        all_columns(&scan)?
    } else {
        Vec::new()
    };
    let name = output.name.clone();
    let failed = |source| write_failed(&name, source);
    let mut out = Rows::start(&mut output.out, format, columns).map_err(failed)?;
    scan.for_each(|row| {
        out.write(row).map_err(failed)?;
        if out.count.is_multiple_of(PROGRESS_DOCUMENTS) {
            progress.set_position(out.count);
        }
        Ok(())
    })?;
    out.finish().map_err(failed)
}

/// The header of a CSV file takes a pass of its own: documents need not have the same fields.
fn all_columns(scan: &CollectionScan) -> Result<Vec<String>, CliError> {
    let mut names = BTreeSet::new();
    scan.for_each(|row| {
        for name in row.keys() {
            if !names.contains(name) {
                names.insert(name.clone());
            }
        }
        if names.len() > COLUMNS_MAX {
            return Err(CliError::failed(format!(
                "the documents have more than {COLUMNS_MAX} different fields, too many for CSV"
            ))
            .hint("use --format ndjson"));
        }
        Ok(())
    })?;
    Ok(order_columns(names))
}

/// Rows in one of the file formats.
enum RowsFormat<W: Write> {
    Ndjson(W),
    Json(W),
    Csv(Box<CsvRows<W>>),
}

struct Rows<W: Write> {
    format: RowsFormat<W>,
    count: u64,
}

impl<W: Write> Rows<W> {
    fn start(mut out: W, format: FileFormat, columns: Vec<String>) -> io::Result<Self> {
        let format = match format {
            FileFormat::Ndjson => RowsFormat::Ndjson(out),
            FileFormat::Json => {
                out.write_all(b"[")?;
                RowsFormat::Json(out)
            }
            FileFormat::Csv => RowsFormat::Csv(Box::new(CsvRows::new(out, columns)?)),
        };
        Ok(Self { format, count: 0 })
    }

    fn write(&mut self, row: &Object) -> io::Result<()> {
        match &mut self.format {
            RowsFormat::Ndjson(out) => write_json_line(out, row)?,
            RowsFormat::Json(out) => {
                out.write_all(if self.count == 0 { b"\n" } else { b",\n" })?;
                serde_json::to_writer(&mut *out, row)?;
            }
            RowsFormat::Csv(out) => out.write(row)?,
        }
        self.count += 1;
        Ok(())
    }

    fn finish(self) -> io::Result<u64> {
        match self.format {
            RowsFormat::Ndjson(mut out) => out.flush()?,
            RowsFormat::Json(mut out) => {
                out.write_all(b"\n]\n")?;
                out.flush()?;
            }
            RowsFormat::Csv(out) => out.finish()?,
        }
        Ok(self.count)
    }
}

/// Stdout, or a file that gets its name when it is complete.
struct Output {
    out: Box<dyn Write>,
    name: String,
    partial: Option<(PathBuf, PathBuf)>,
}

impl Output {
    fn create(path: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            return Ok(Self {
                out: Box::new(BufWriter::new(io::stdout().lock())),
                name: STDOUT.to_owned(),
                partial: None,
            });
        };
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let name = path.display().to_string();
        let file = File::create(&partial)
            .map_err(|source| CliError::failed(format!("cannot create {name}")).because(source))?;
        Ok(Self {
            out: Box::new(BufWriter::new(file)),
            name,
            partial: Some((partial, path.to_owned())),
        })
    }

    fn finish(mut self) -> Result<(), CliError> {
        let flushed = self.out.flush();
        flushed.map_err(|source| self.failed(source))?;
        if let Some((partial, path)) = self.partial.take() {
            fs::rename(partial, path).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> CliError {
        write_failed(&self.name, source)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((partial, _)) = &self.partial {
            // The export failed, and what is there is not the file that was asked for.
            let _ = fs::remove_file(partial);
        }
    }
}

fn write_failed(name: &str, source: io::Error) -> CliError {
    if name == STDOUT {
        return stdout_error(source);
    }
    CliError::failed(format!("cannot write to {name}")).because(source)
}

fn progress(talk: Talk) -> ProgressBar {
    if talk.shows_progress() {
        ProgressBar::new_spinner().with_style(
            ProgressStyle::with_template("{spinner} {pos} documents  {per_sec}")
                .expect("a valid template"),
        )
    } else {
        ProgressBar::hidden()
    }
}
