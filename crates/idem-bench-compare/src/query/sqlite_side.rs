//! SQLite's side: one JSON document a row, expression indexes, prepared statements.

use std::path::Path;

use idem::{Object, Value};
use rusqlite::{Connection, ToSql, types::ValueRef};

use super::{
    Args, CACHE_BYTES, IntoRows, Side,
    airports::{Airports, int},
    works::{Check, Work},
};
use crate::engines::Failure;

/// How the documents are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Jsonb,
}

pub(super) struct SqliteSide {
    connection: Connection,
    form: Form,
}

impl SqliteSide {
    pub(super) fn open(path: &Path, form: Form, airports: &Airports) -> Result<Self, Failure> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // FULL: the log is synced at every commit, as Idem's is.
        connection.pragma_update(None, "synchronous", "FULL")?;
        // A negative size is in KiB.
        let cache_kib = -i64::try_from(CACHE_BYTES / 1024)?;
        connection.pragma_update(None, "cache_size", cache_kib)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.execute_batch(
            "CREATE TABLE airports (id TEXT PRIMARY KEY, body NOT NULL);
             CREATE TABLE regions (id TEXT PRIMARY KEY, body NOT NULL);
             CREATE INDEX airports_icao ON airports (json_extract(body, '$.icao'));
             CREATE INDEX airports_elevation ON airports (json_extract(body, '$.elevation_ft'));
             CREATE INDEX regions_name ON regions (json_extract(body, '$.name'));",
        )?;
        let body = match form {
            Form::Text => "?2",
            Form::Jsonb => "jsonb(?2)",
        };
        let transaction = connection.transaction()?;
        let documents = (0..airports.count).map(|number| airports.document(number));
        insert(&transaction, "airports", body, documents)?;
        insert(&transaction, "regions", body, airports.regions())?;
        transaction.commit()?;
        // What an app would run now and then, so that the planner knows the tables.
        connection.execute_batch("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE);")?;
        Ok(Self { connection, form })
    }

    fn values(&self, sql: &str, args: &[(&str, &dyn ToSql)]) -> Result<Values, Failure> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let columns = statement.column_names().into_iter();
        let names: Vec<String> = columns.map(str::to_owned).collect();
        let mut rows = statement.query(args)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let mut values = Vec::with_capacity(names.len());
            for column in 0..names.len() {
                values.push(value(row.get_ref(column)?)?);
            }
            all.push(values);
        }
        drop(rows);
        Ok(Values { names, rows: all })
    }
}

/// A result as an app takes it from SQLite: its values, without a map of names for each row.
pub(super) struct Values {
    names: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl IntoRows for Values {
    fn into_rows(self) -> Vec<Object> {
        let named = |values: Vec<Value>| self.names.iter().cloned().zip(values).collect();
        self.rows.into_iter().map(named).collect()
    }
}

impl Side for SqliteSide {
    type Result = Values;

    fn call(&self, work: &Work, args: &Args) -> Result<Values, Failure> {
        let args: Vec<(String, Box<dyn ToSql>)> = args
            .iter()
            .map(|(name, value)| (format!(":{name}"), parameter(value)))
            .collect();
        let args: Vec<(&str, &dyn ToSql)> = args
            .iter()
            .map(|(name, value)| (name.as_str(), &**value))
            .collect();
        if work.check.is_none() {
            return self.values(work.sql, &args);
        }
        let sql = match self.form {
            Form::Text => work.sql.to_owned(),
            Form::Jsonb => work.sql.replace("json_set", "jsonb_set"),
        };
        let changed = self.connection.prepare_cached(&sql)?.execute(&*args)?;
        Ok(Values {
            names: vec!["changed".to_owned()],
            rows: vec![vec![int(changed as u64)]],
        })
    }

    fn check(&self, check: &Check) -> Result<Vec<Object>, Failure> {
        Ok(self.values(check.sql, &[])?.into_rows())
    }
}

fn insert(
    connection: &Connection,
    table: &str,
    body: &str,
    documents: impl Iterator<Item = Object>,
) -> Result<(), Failure> {
    let sql = format!("INSERT INTO {table} (id, body) VALUES (?1, {body})");
    let mut statement = connection.prepare(&sql)?;
    for document in documents {
        let id = document["_id"].as_str().ok_or("an id that is no text")?;
        let json = serde_json::to_string(&document)?;
        statement.execute((id, json))?;
    }
    Ok(())
}

fn parameter(value: &Value) -> Box<dyn ToSql> {
    match value {
        Value::Int(number) => Box::new(*number),
        Value::String(text) => Box::new(text.clone()),
        other => unreachable!("no statement has the argument {other:?}"),
    }
}

fn value(found: ValueRef<'_>) -> Result<Value, Failure> {
    Ok(match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::float(number).ok_or("a number that is not finite")?,
        ValueRef::Text(text) => Value::String(std::str::from_utf8(text)?.to_owned()),
        ValueRef::Blob(bytes) => Value::Binary(bytes.to_vec()),
    })
}
