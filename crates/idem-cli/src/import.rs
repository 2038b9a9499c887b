//! `idem import`: documents out of a file, one durable transaction a batch.
//!
//! Reading, storing and reporting are one loop: a record joins the batch, a full batch is stored with
//! one commit, and only then does the count on stdout's summary grow. So an interrupted import has
//! stored whole batches in the order of the file, and nothing else.

mod batch;
mod source;

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use idem::{CollectionName, Idem, InsertConflict, Object, TransactionOptions, Value};

use crate::{
    args::{FileFormat, ImportArgs, OnConflict},
    exit::{CliError, chain},
    opening::{open_offline, peer_error},
    program::Talk,
    records::{self, BadRecord, CsvOptions, Record},
};

use batch::{Batch, Pending};
use source::Source;

/// Runs the command.
pub(crate) fn run(args: &ImportArgs, talk: Talk) -> Result<(), CliError> {
    let plan = Plan::new(args)?;
    let source = Source::open(&args.file, talk)?;
    let bad = args.skip_bad.as_deref().map(BadFile::create).transpose()?;
    let idem = open_offline(&args.store, args.durability)?;
    let mut import = Import {
        idem: &idem,
        plan: &plan,
        batch: Batch::default(),
        bad,
        totals: Totals::default(),
    };
    let outcome = import.read_all(&source);
    source.finish();
    let closed = idem.close_blocking();
    import.totals.report(talk, &plan);
    if let Some(bad) = import.bad {
        bad.finish()?;
    }
    outcome?;
    closed.map_err(|error| peer_error("cannot close the store", error))
}

/// What the arguments ask for, checked.
struct Plan {
    collection: String,
    format: FileFormat,
    on_conflict: OnConflict,
    conflict: InsertConflict,
    id_field: Option<String>,
    batch_documents: usize,
    csv: CsvOptions,
}

impl Plan {
    fn new(args: &ImportArgs) -> Result<Self, CliError> {
        CollectionName::new(&args.collection)
            .map_err(|error| CliError::usage("--collection is not a name").because(error))?;
        let format = args
            .format
            .or_else(|| format_of(&args.file))
            .ok_or_else(|| {
                CliError::usage(format!(
                    "the extension of {} does not tell its format",
                    args.file.display()
                ))
                .hint("give --format ndjson, json or csv")
            })?;
        let delimiter = u8::try_from(args.csv_delimiter)
            .ok()
            .filter(|b| b.is_ascii() && !matches!(b, b'"' | b'\n' | b'\r'))
            .ok_or_else(|| CliError::usage("--csv-delimiter must be one ASCII character"))?;
        Ok(Self {
            collection: args.collection.clone(),
            format,
            on_conflict: args.on_conflict,
            conflict: match args.on_conflict {
                OnConflict::Fail => InsertConflict::Fail,
                OnConflict::Nothing => InsertConflict::DoNothing,
                OnConflict::Update => InsertConflict::DoUpdate,
                OnConflict::UpdateLocalDiff => InsertConflict::DoUpdateLocalDiff,
            },
            id_field: args.id_field.clone(),
            batch_documents: args.batch as usize,
            csv: CsvOptions {
                types: args.csv_types,
                delimiter,
                id_field: args.id_field.clone(),
            },
        })
    }

    /// The document of a record, its `_id` taken from `--id-field`.
    fn document(&self, record: Record) -> Result<Pending, BadRecord> {
        let Record { line, mut fields } = record;
        if let Some(name) = &self.id_field {
            let Some(id) = fields.get(name).cloned() else {
                return Err(BadRecord {
                    line,
                    column: None,
                    reason: format!("the field {name:?} is missing, which is to be the _id"),
                    text: text_of(fields),
                });
            };
            fields.insert("_id".to_owned(), id);
        }
        Ok(Pending { line, fields })
    }
}

/// The format that the extension of a file tells; stdin is NDJSON.
pub(crate) fn format_of(file: &Path) -> Option<FileFormat> {
    if file.as_os_str() == "-" {
        return Some(FileFormat::Ndjson);
    }
    match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "ndjson" | "jsonl" => Some(FileFormat::Ndjson),
        "json" => Some(FileFormat::Json),
        "csv" => Some(FileFormat::Csv),
        _ => None,
    }
}

fn text_of(fields: Object) -> String {
    crate::output::json_text(&Value::Object(fields))
}

#[derive(Debug, Default)]
struct Totals {
    changed: u64,
    unchanged: u64,
    bad: u64,
}

impl Totals {
    fn report(&self, talk: Talk, plan: &Plan) {
        let mut text = format!("{} documents stored in {}", self.changed, plan.collection);
        if self.unchanged > 0 {
            text.push_str(&format!(", {} were there already", self.unchanged));
        }
        if self.bad > 0 {
            text.push_str(&format!(", {} bad ones passed over", self.bad));
        }
        talk.note(&text);
    }
}

struct Import<'a> {
    idem: &'a Idem,
    plan: &'a Plan,
    batch: Batch,
    bad: Option<BadFile>,
    totals: Totals,
}

impl Import<'_> {
    fn read_all(&mut self, source: &Source) -> Result<(), CliError> {
        let unreadable =
            |error| CliError::failed(format!("cannot read {}", source.name())).because(error);
        let records =
            records::read(source.reader(), self.plan.format, &self.plan.csv).map_err(unreadable)?;
        for item in records {
            match item
                .map_err(unreadable)?
                .and_then(|record| self.plan.document(record))
            {
                Ok(document) => self.batch.push(document),
                Err(bad) => self.pass_over(bad)?,
            }
            if self.batch.is_full(self.plan.batch_documents) {
                self.store()?;
                source.report(self.totals.changed + self.totals.unchanged);
            }
        }
        self.store()
    }

    /// Writes a bad record out, or ends the import with it.
    fn pass_over(&mut self, bad: BadRecord) -> Result<(), CliError> {
        let Some(file) = &mut self.bad else {
            // The batch that the bad record belongs to fails whole: what is stored is a number of
            // full batches, whether a record or its storing failed.
            drop(self.batch.take());
            return Err(CliError::failed("the import stopped at a bad record")
                .because(bad)
                .hint(
                    "nothing of its batch is kept; mend the line and import again with \
                     --on-conflict nothing, or keep going with --skip-bad FILE",
                ));
        };
        self.totals.bad += 1;
        file.write(&bad)
    }

    fn store(&mut self) -> Result<(), CliError> {
        let documents = self.batch.take();
        self.store_all(documents)
    }

    /// Stores the documents as one commit. If one of them cannot be stored, none is; with
    /// `--skip-bad` the halves are then tried by themselves, down to the bad document.
    fn store_all(&mut self, mut documents: Vec<Pending>) -> Result<(), CliError> {
        if documents.is_empty() {
            return Ok(());
        }
        let fields = documents.iter().map(|d| d.fields.clone()).collect();
        let error = match self.idem.store().insert_many_blocking(
            &self.plan.collection,
            fields,
            self.plan.conflict,
        ) {
            Ok(report) => {
                self.totals.changed += report.changed;
                self.totals.unchanged += report.unchanged;
                return Ok(());
            }
            Err(error) => error,
        };
        if self.bad.is_none() || !batch::blames_document(error.kind()) {
            return Err(self.batch_error(&documents, error));
        }
        if documents.len() == 1 {
            let document = documents.remove(0);
            return self.pass_over(BadRecord {
                line: document.line,
                column: None,
                reason: chain(&error),
                text: text_of(document.fields),
            });
        }
        let rest = documents.split_off(documents.len() / 2);
        self.store_all(documents)?;
        self.store_all(rest)
    }

    /// The error of a batch, with the line of the document that is to blame.
    fn batch_error(&self, documents: &[Pending], error: idem::Error) -> CliError {
        let first = documents.first().map_or(0, |d| d.line);
        let last = documents.last().map_or(0, |d| d.line);
        let culprit = batch::blames_document(error.kind())
            .then(|| self.culprit(documents))
            .flatten();
        let what = match culprit {
            Some(line) => format!("line {line}: the document cannot be stored"),
            None => format!("the documents of lines {first} to {last} cannot be stored"),
        };
        let resume = if self.plan.on_conflict != OnConflict::Fail {
            "nothing of its batch is kept; import again to resume, or keep going with --skip-bad FILE"
        } else {
            "nothing of its batch is kept; resume with --on-conflict nothing, \
             or keep going with --skip-bad FILE"
        };
        peer_error(what, error).hint(resume)
    }

    /// The line of the first document of a failed batch that fails after those before it, tried in
    /// a transaction that is rolled back.
    fn culprit(&self, documents: &[Pending]) -> Option<u64> {
        let transaction = self
            .idem
            .store()
            .begin_blocking(TransactionOptions::new().hint("find the document that fails"))
            .ok()?;
        let statement = batch::insert_statement(&self.plan.collection, self.plan.on_conflict);
        documents
            .iter()
            .find(|document| {
                let args = Object::from([(
                    "document".to_owned(),
                    Value::Object(document.fields.clone()),
                )]);
                transaction
                    .execute_blocking((statement.as_str(), args))
                    .is_err()
            })
            .map(|document| document.line)
    }
}

/// Where bad records go: one JSON object a line with the line, the reason and the text.
struct BadFile {
    out: BufWriter<File>,
    name: String,
}

impl BadFile {
    fn create(path: &Path) -> Result<Self, CliError> {
        let name = path.display().to_string();
        let file = File::create(path)
            .map_err(|source| CliError::failed(format!("cannot create {name}")).because(source))?;
        Ok(Self {
            out: BufWriter::new(file),
            name,
        })
    }

    fn write(&mut self, bad: &BadRecord) -> Result<(), CliError> {
        let row = Object::from([
            (
                "line".to_owned(),
                Value::Int(i64::try_from(bad.line).unwrap_or(i64::MAX)),
            ),
            ("reason".to_owned(), bad.reason.as_str().into()),
            ("text".to_owned(), bad.text.as_str().into()),
        ]);
        crate::output::write_json_line(&mut self.out, &row).map_err(|source| self.failed(source))
    }

    fn finish(mut self) -> Result<(), CliError> {
        self.out.flush().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> CliError {
        CliError::failed(format!("cannot write to {}", self.name)).because(source)
    }
}
