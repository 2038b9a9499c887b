//! What goes out: answers, failures and events, one line each.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use idem::{Object, Position, QueryResult, Value};

use crate::exit::chain;

/// Where answers and events go. Lines of different threads never mix.
#[derive(Clone)]
pub(super) struct Answers {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    unread: Arc<AtomicBool>,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answers(..)")
    }
}

impl Answers {
    /// Answers on stdout.
    pub(super) fn stdout() -> Self {
        Self::to(Box::new(io::stdout()))
    }

    /// Answers to `out`.
    pub(super) fn to(out: Box<dyn Write + Send>) -> Self {
        Self {
            out: Arc::new(Mutex::new(out)),
            unread: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Whether the other end is gone.
    pub(super) fn are_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Writes one line.
    pub(super) fn line(&self, fields: &Object) {
        let mut text =
            serde_json::to_vec(fields).expect("values have string keys and finite floats");
        text.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if out.write_all(&text).and_then(|()| out.flush()).is_err() {
            self.unread.store(true, Ordering::Relaxed);
        }
    }

    /// Answers a request.
    pub(super) fn answer(&self, id: Option<Value>, mut fields: Object) {
        if let Some(id) = id {
            fields.insert("id".to_owned(), id);
        }
        self.line(&fields);
    }

    /// Answers a request that failed.
    pub(super) fn fail(&self, id: Option<Value>, failure: &Failure) {
        let fields = Object::from([("error".to_owned(), Value::Object(failure.fields()))]);
        self.answer(id, fields);
    }
}

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    code: String,
    message: String,
    position: Option<(u64, u64)>,
    hint: Option<String>,
}

impl Failure {
    /// A failure with a stable code.
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            position: None,
            hint: None,
        }
    }

    /// The line is JSON but not a request.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("request/invalid", message)
    }

    /// The same failure with what a request looks like.
    pub(super) fn with_example(self) -> Self {
        let example = r#"{"statement": "SELECT * FROM orders WHERE _id = :id", "args": {"id": 1}}"#;
        Self {
            hint: Some(format!("a request is a line of JSON such as {example}")),
            ..self
        }
    }

    /// The same failure with what may be done about it.
    pub(super) fn with_hint(self, hint: String) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    pub(super) fn request_too_long(limit: u64) -> Self {
        Self::new(
            "request/too-long",
            format!("a request may have {limit} bytes"),
        )
    }

    /// The line is not JSON.
    pub(super) fn not_json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let message = text.split(" at line ").next().unwrap_or(&text);
        Self {
            position: Some((error.line() as u64, error.column() as u64)),
            ..Self::new("request/invalid-json", message).with_example()
        }
    }

    fn fields(&self) -> Object {
        let mut fields = Object::from([
            ("code".to_owned(), self.code.as_str().into()),
            ("message".to_owned(), self.message.as_str().into()),
        ]);
        if let Some((line, column)) = self.position {
            fields.insert("position".to_owned(), place(line, column));
        }
        if let Some(hint) = &self.hint {
            fields.insert("hint".to_owned(), hint.as_str().into());
        }
        fields
    }
}

impl From<idem::Error> for Failure {
    fn from(error: idem::Error) -> Self {
        let position = |place: Position| (place.line.into(), place.column.into());
        Self {
            code: error.kind().code().to_owned(),
            message: chain(&error),
            position: error.position().map(position),
            hint: error.hint().map(str::to_owned),
        }
    }
}

/// The answer to a statement.
pub(super) fn result_fields(result: QueryResult) -> Object {
    let ids = result
        .mutated_document_ids()
        .iter()
        .map(|id| id.as_value().clone())
        .collect();
    let warnings = result
        .warnings()
        .iter()
        .map(|warning| {
            let mut fields =
                Object::from([("message".to_owned(), warning.message.as_str().into())]);
            if let Some(place) = warning.position {
                fields.insert("position".to_owned(), position(place));
            }
            Value::Object(fields)
        })
        .collect();
    Object::from([
        ("mutated_document_ids".to_owned(), Value::Array(ids)),
        ("commit_id".to_owned(), commit_value(result.commit_id())),
        ("warnings".to_owned(), Value::Array(warnings)),
        ("items".to_owned(), Value::Array(items(result))),
    ])
}

fn position(position: Position) -> Value {
    place(position.line.into(), position.column.into())
}

fn place(line: u64, column: u64) -> Value {
    Value::Object(Object::from([
        ("line".to_owned(), int(line)),
        ("column".to_owned(), int(column)),
    ]))
}

/// The rows of a result as values.
pub(super) fn items(result: QueryResult) -> Vec<Value> {
    result
        .into_items()
        .into_iter()
        .map(|item| Value::Object(item.into_value()))
        .collect()
}

/// A commit number, null where there is none.
pub(super) fn commit_value(commit: Option<u64>) -> Value {
    commit.map_or(Value::Null, int)
}

/// A count as a value; none comes near the end of 63 bits.
pub(super) fn int(count: u64) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}
