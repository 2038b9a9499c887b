//! The system parameters that ALTER SYSTEM sets and SHOW reads.

use std::collections::BTreeMap;

use idem_model::{CollectionName, Object, SyncScope, Value, limits};

use crate::{
    bind::Directives,
    error::{ErrorKind, QueryError},
    spelling,
};

/// A system parameter.
pub(crate) struct Parameter {
    /// In lower case; statements may write it in any case.
    pub(crate) name: &'static str,
    kind: Kind,
}

enum Kind {
    /// Default, least and greatest value.
    Integer(i64, i64, i64),
    /// Default.
    Boolean(bool),
    /// Names of scopes by names of collections; empty by default.
    SyncScopes,
    /// Directives to the planner; none by default.
    Directives,
}

const HOURS_PER_YEAR: i64 = 365 * 24;
const MS_PER_SECOND: i64 = 1000;
const MS_PER_DAY: i64 = 24 * 60 * 60 * MS_PER_SECOND;
const MIB: i64 = 1024 * 1024;

/// Every parameter, by name.
pub(crate) const ALL: &[Parameter] = &[
    // What holds for every statement that says nothing else.
    parameter("dql_default_directives", Kind::Directives),
    // Whether objects are registers where no kind is declared.
    parameter("dql_strict_mode", Kind::Boolean(false)),
    // Rows of `system:request_history`, at up to 2 KiB each.
    parameter("request_history_max", Kind::Integer(4096, 0, 65_536)),
    // A statement that takes longer is noted in the log.
    parameter(
        "slow_statement_ms",
        Kind::Integer(60 * MS_PER_SECOND, 1, MS_PER_DAY),
    ),
    // A transaction that is open for longer is noted in the log.
    parameter(
        "slow_transaction_ms",
        Kind::Integer(MS_PER_SECOND, 1, MS_PER_DAY),
    ),
    // Bytes that sorting, grouping, DISTINCT and joins of one statement may hold.
    parameter(
        "statement_memory_bytes",
        Kind::Integer(
            limits::STATEMENT_MEMORY_BYTES_DEFAULT as i64,
            MIB,
            MIB * MIB,
        ),
    ),
    // A statement that takes longer is stopped; 0 lets it run.
    parameter("statement_timeout_ms", Kind::Integer(0, 0, MS_PER_DAY)),
    // How long a deleted document is remembered; a peer that was away longer pulls first.
    parameter(
        "tombstone_ttl_hours",
        Kind::Integer(168, 1, 10 * HOURS_PER_YEAR),
    ),
    // How long others wait for an open transaction in which no statement runs.
    parameter(
        "transaction_idle_ms",
        Kind::Integer(30 * MS_PER_SECOND, 1, MS_PER_DAY),
    ),
    // With which peers a collection syncs, if not with all.
    parameter("user_collection_sync_scopes", Kind::SyncScopes),
];

/// The value of a system parameter that was not set; `None` if there is no such parameter. The name
/// is in lower case.
pub fn parameter_default(name: &str) -> Option<Value> {
    let parameter = ALL.iter().find(|parameter| parameter.name == name)?;
    Some(parameter.default_value())
}

/// What the value of `user_collection_sync_scopes` says.
///
/// # Errors
/// [`QueryError`] naming what is not a scope or not a collection.
pub fn sync_scopes(value: &Value) -> Result<BTreeMap<CollectionName, SyncScope>, QueryError> {
    let error = |message: String| QueryError::new(ErrorKind::Parameter, message);
    let Value::Object(fields) = value else {
        return Err(error("sync scopes are an object".to_owned()));
    };
    if fields.len() > limits::SYNC_SCOPES_MAX {
        let limit = limits::SYNC_SCOPES_MAX;
        return Err(error(format!(
            "at most {limit} collections have a scope of their own"
        )));
    }
    let mut scopes = BTreeMap::new();
    for (name, scope) in fields {
        let collection = CollectionName::new(name.as_str()).map_err(|reason| {
            error(format!(
                "`{name}` is not the name of a collection: {reason}"
            ))
        })?;
        if collection.is_system() {
            return Err(error(format!(
                "`{name}` is the system's and syncs with all peers"
            )));
        }
        let found = scope.as_str().and_then(SyncScope::parse);
        let Some(found) = found else {
            let names = SyncScope::ALL.map(SyncScope::name);
            let hint = scope
                .as_str()
                .and_then(|text| spelling::nearest(text, names.into_iter()))
                .map_or_else(
                    || format!("there are {}", names.join(", ")),
                    |name| format!("did you mean `{name}`?"),
                );
            let shown: String = idem_model::json::to_string(scope)
                .chars()
                .take(40)
                .collect();
            return Err(error(format!("{shown} is not a sync scope, for `{name}`")).with_hint(hint));
        };
        scopes.insert(collection, found);
    }
    Ok(scopes)
}

const fn parameter(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind }
}

/// The parameter of a name in lower case.
pub(crate) fn find(name: &str) -> Result<&'static Parameter, QueryError> {
    ALL.iter()
        .find(|parameter| parameter.name == name)
        .ok_or_else(|| {
            let known = ALL.iter().map(|parameter| parameter.name);
            let hint = match (name, spelling::nearest(name, known)) {
                // Ditto's switch for LIMIT and ORDER BY in subscriptions.
                ("dql_restrict_subscriptions", _) => {
                    "what a subscription may say is not a matter of settings".to_owned()
                }
                (_, Some(name)) => format!("did you mean `{name}`?"),
                (_, None) => "SHOW ALL lists the parameters".to_owned(),
            };
            QueryError::new(
                ErrorKind::Parameter,
                format!("there is no system parameter `{name}`"),
            )
            .with_hint(hint)
        })
}

impl Parameter {
    pub(crate) fn default_value(&self) -> Value {
        match self.kind {
            Kind::Integer(default, ..) => Value::Int(default),
            Kind::Boolean(default) => Value::Bool(default),
            Kind::SyncScopes | Kind::Directives => Value::Object(Object::new()),
        }
    }

    /// Whether the parameter may have a value.
    pub(crate) fn check(&self, value: &Value) -> Result<(), QueryError> {
        let expected = match (&self.kind, value) {
            (Kind::Integer(_, least, greatest), Value::Int(number))
                if (least..=greatest).contains(&number) =>
            {
                return Ok(());
            }
            (Kind::Boolean(_), Value::Bool(_)) => return Ok(()),
            (Kind::SyncScopes, Value::Object(_)) => return sync_scopes(value).map(|_scopes| ()),
            (Kind::Directives, Value::Object(_)) => {
                return Directives::new(value).map(|_directives| ());
            }
            (Kind::Integer(_, least, greatest), _) => {
                format!("an integer from {least} to {greatest}")
            }
            (Kind::Boolean(_), _) => "true or false".to_owned(),
            (Kind::SyncScopes | Kind::Directives, _) => "an object".to_owned(),
        };
        let found: String = idem_model::json::to_string(value)
            .chars()
            .take(40)
            .collect();
        Err(QueryError::new(
            ErrorKind::Parameter,
            format!("`{}` is {expected}, not {found}", self.name),
        ))
    }
}
