//! Requests: from a line of JSON to a checked value.

use std::{path::PathBuf, time::Duration};

use idem::{FieldPath, Object, Value};

use super::{answer::Failure, spelling::nearest};
use crate::peer::Reach;

/// How long a `wait` waits if it does not say.
const WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest wait that may be asked for: a day.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A statement with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    pub(super) text: String,
    pub(super) args: Object,
}

/// What a line asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    Execute(Statement),
    Begin {
        read_only: bool,
        hint: Option<String>,
    },
    Commit,
    Rollback,
    Observe(Statement),
    Unobserve(i64),
    Subscribe(Statement),
    Unsubscribe(i64),
    SyncStart(Reach),
    SyncStop,
    Presence,
    PeerMetadata(Value),
    /// What an authority signed, in lines.
    Trust(String),
    Wait {
        statement: Statement,
        items: Vec<Value>,
        timeout: Duration,
    },
    Digest,
    Conflicts {
        collection: String,
        id: Value,
        path: FieldPath,
    },
}

/// What `{"sync": "start"}` takes, as the options of `idem peer`.
const SYNC_FIELDS: &[&str] = &[
    "listen",
    "listen_http",
    "tls_certificate",
    "tls_key",
    "ca_certificate",
    "listen_internet",
    "relay_urls",
    "connect",
    "mdns",
    "bluetooth",
    "gateway",
    "links_max",
];

/// The requests by the field that names them, each with the other fields that it takes.
const REQUESTS: [(&str, &[&str]); 15] = [
    ("statement", &["args"]),
    ("begin", &[]),
    ("commit", &[]),
    ("rollback", &[]),
    ("observe", &["args"]),
    ("unobserve", &[]),
    ("subscribe", &["args"]),
    ("unsubscribe", &[]),
    ("sync", SYNC_FIELDS),
    ("presence", &[]),
    ("peer_metadata", &[]),
    ("trust", &[]),
    ("wait", &[]),
    ("digest", &[]),
    ("conflicts", &[]),
];

/// Reads a line: the `id` to echo, if the line is an object that has one, and the request.
pub(super) fn read(line: &[u8]) -> (Option<Value>, Result<Request, Failure>) {
    let mut fields = match serde_json::from_slice(line) {
        Ok(Value::Object(fields)) => fields,
        Ok(other) => {
            let message = format!("a request is a JSON object, not {}", other.type_name());
            return (None, Err(Failure::invalid(message).with_example()));
        }
        Err(error) => return (None, Err(Failure::not_json(&error))),
    };
    let id = fields.remove("id");
    (id, request(fields))
}

fn request(mut fields: Object) -> Result<Request, Failure> {
    let named: Vec<_> = REQUESTS
        .iter()
        .filter(|(name, _)| fields.contains_key(*name))
        .collect();
    let &[&(name, others)] = named.as_slice() else {
        let names: Vec<_> = REQUESTS.iter().map(|(name, _)| *name).collect();
        let problem = if named.is_empty() {
            "no known request"
        } else {
            "more than one request"
        };
        return Err(Failure::new(
            "request/unknown",
            format!("{problem}; exactly one of {} is needed", names.join(", ")),
        )
        .with_example());
    };
    let value = fields.remove(name).expect("its presence was checked");
    if let Some(extra) = fields.keys().find(|key| !others.contains(&key.as_str())) {
        return Err(no_field(name, extra, others));
    }
    build(name, value, fields)
}

fn build(name: &str, value: Value, mut fields: Object) -> Result<Request, Failure> {
    Ok(match name {
        "statement" => Request::Execute(statement(name, value, fields.remove("args"))?),
        "observe" => Request::Observe(statement(name, value, fields.remove("args"))?),
        "subscribe" => Request::Subscribe(statement(name, value, fields.remove("args"))?),
        "begin" => begin(value)?,
        "commit" => only_true(name, &value, Request::Commit)?,
        "rollback" => only_true(name, &value, Request::Rollback)?,
        "presence" => only_true(name, &value, Request::Presence)?,
        "peer_metadata" => Request::PeerMetadata(value),
        "trust" => Request::Trust(string(name, value)?),
        "digest" => only_true(name, &value, Request::Digest)?,
        "unobserve" => Request::Unobserve(integer(name, &value)?),
        "unsubscribe" => Request::Unsubscribe(integer(name, &value)?),
        "sync" => sync(value, fields)?,
        "wait" => wait(value)?,
        "conflicts" => conflicts(value)?,
        _ => unreachable!("REQUESTS lists every name"),
    })
}

fn statement(name: &str, text: Value, args: Option<Value>) -> Result<Statement, Failure> {
    let text = string(name, text)?;
    let args = match args {
        None | Some(Value::Null) => Object::new(),
        Some(Value::Object(args)) => args,
        Some(other) => {
            return Err(Failure::new(
                "query/arguments-invalid",
                format!("args must be an object, not {}", other.type_name()),
            ));
        }
    };
    Ok(Statement { text, args })
}

fn begin(value: Value) -> Result<Request, Failure> {
    let mut fields = match value {
        Value::Object(fields) => fields,
        Value::Bool(true) => Object::new(),
        other => return Err(wrong_type("begin", "an object or true", &other)),
    };
    let read_only = match fields.remove("read_only") {
        None => false,
        Some(Value::Bool(flag)) => flag,
        Some(other) => return Err(wrong_type("begin.read_only", "a boolean", &other)),
    };
    let hint = fields
        .remove("hint")
        .map(|hint| string("begin.hint", hint))
        .transpose()?;
    no_more("begin", &fields, &["read_only", "hint"])?;
    Ok(Request::Begin { read_only, hint })
}

fn sync(value: Value, mut fields: Object) -> Result<Request, Failure> {
    match string("sync", value)?.as_str() {
        "start" => {}
        "stop" if fields.is_empty() => return Ok(Request::SyncStop),
        "stop" => return Err(Failure::invalid("sync stop takes no other field")),
        other => {
            return Err(Failure::invalid(format!(
                "sync must be \"start\" or \"stop\", not {other:?}"
            )));
        }
    }
    let mut text = |name| match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(text) => string(name, text).map(Some),
    };
    let (listen, listen_http) = (text("listen")?, text("listen_http")?);
    let listen_internet = text("listen_internet")?;
    let tls_certificate = text("tls_certificate")?.map(PathBuf::from);
    let tls_key = text("tls_key")?.map(PathBuf::from);
    let ca_certificate = text("ca_certificate")?.map(PathBuf::from);
    let mut is_on = |name| match fields.remove(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(is_on)) => Ok(is_on),
        Some(other) => Err(wrong_type(name, "a boolean", &other)),
    };
    let (mdns, bluetooth) = (is_on("mdns")?, is_on("bluetooth")?);
    let gateway = is_on("gateway")?;
    let links_max = match fields.remove("links_max") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let links = value.as_int().and_then(|links| u16::try_from(links).ok());
            let links = links.filter(|links| (1..=1000).contains(links));
            Some(links.ok_or_else(|| wrong_type("links_max", "a number from 1 to 1000", &value))?)
        }
    };
    let mut texts = |name| match fields.remove(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items.into_iter().map(|item| string(name, item)).collect(),
        Some(other) => Err(wrong_type(name, "an array of strings", &other)),
    };
    let (connect, relay_urls) = (texts("connect")?, texts("relay_urls")?);
    Ok(Request::SyncStart(Reach {
        listen,
        listen_http,
        tls_certificate,
        tls_key,
        ca_certificate,
        listen_internet,
        relay_urls,
        connect,
        mdns,
        bluetooth,
        gateway,
        links_max,
    }))
}

fn conflicts(value: Value) -> Result<Request, Failure> {
    let Value::Object(mut fields) = value else {
        return Err(wrong_type("conflicts", "an object", &value));
    };
    let missing = |name| Failure::invalid(format!("conflicts needs {name}"));
    let collection = fields.remove("collection").ok_or(missing("a collection"))?;
    let id = fields.remove("_id").ok_or(missing("an _id"))?;
    let segments = match fields.remove("path").ok_or(missing("a path"))? {
        Value::Array(items) => items
            .into_iter()
            .map(|item| string("conflicts.path", item))
            .collect::<Result<_, _>>()?,
        other => return Err(wrong_type("conflicts.path", "an array of names", &other)),
    };
    no_more("conflicts", &fields, &["collection", "_id", "path"])?;
    Ok(Request::Conflicts {
        collection: string("conflicts.collection", collection)?,
        id,
        path: FieldPath::new(segments).map_err(|e| Failure::invalid(e.to_string()))?,
    })
}

fn wait(value: Value) -> Result<Request, Failure> {
    let Value::Object(mut fields) = value else {
        return Err(wrong_type("wait", "an object", &value));
    };
    let Some(text) = fields.remove("statement") else {
        return Err(Failure::invalid("wait needs a statement"));
    };
    let statement = statement("wait.statement", text, fields.remove("args"))?;
    let items = match fields.remove("items") {
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong_type("wait.items", "an array", &other)),
        None => return Err(Failure::invalid("wait needs the items to wait for")),
    };
    let timeout = match fields.remove("timeout_ms") {
        None => WAIT_DEFAULT,
        Some(value) => {
            let ms = value.as_f64().filter(|ms| *ms >= 0.0);
            let ms = ms.ok_or_else(|| wrong_type("wait.timeout_ms", "milliseconds", &value))?;
            Duration::from_secs_f64((ms / 1000.0).min(WAIT_MAX.as_secs_f64()))
        }
    };
    no_more(
        "wait",
        &fields,
        &["statement", "args", "items", "timeout_ms"],
    )?;
    Ok(Request::Wait {
        statement,
        items,
        timeout,
    })
}

fn only_true(name: &str, value: &Value, request: Request) -> Result<Request, Failure> {
    if *value == Value::Bool(true) {
        Ok(request)
    } else {
        Err(wrong_type(name, "true", value))
    }
}

fn string(name: &str, value: Value) -> Result<String, Failure> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(name, "a string", &other)),
    }
}

fn integer(name: &str, value: &Value) -> Result<i64, Failure> {
    value
        .as_int()
        .ok_or_else(|| wrong_type(name, "an integer", value))
}

fn wrong_type(name: &str, expected: &str, found: &Value) -> Failure {
    let shown = match found {
        Value::Bool(flag) => flag.to_string(),
        other => other.type_name().to_owned(),
    };
    Failure::invalid(format!("{name} must be {expected}, not {shown}"))
}

fn no_more(name: &str, fields: &Object, known: &[&str]) -> Result<(), Failure> {
    match fields.keys().next() {
        None => Ok(()),
        Some(extra) => Err(no_field(name, extra, known)),
    }
}

/// The request `name` has no field `extra`, but perhaps one that was meant.
fn no_field(name: &str, extra: &str, known: &[&str]) -> Failure {
    let failure = Failure::invalid(format!("{name} takes no field {extra:?}"));
    match nearest(extra, known.iter().copied()) {
        Some(meant) => failure.with_hint(format!("did you mean {meant:?}?")),
        None if known.is_empty() => failure,
        None => failure.with_hint(format!("it takes {}", known.join(", "))),
    }
}
