//! SQLite as its users store documents: JSON text, an expression index, prepared statements.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior, params};

use super::{Engine, Failure, Writer};
use crate::documents;

/// How long a writer waits for its turn, in milliseconds.
const BUSY_TIMEOUT_MS: u32 = 60_000;

/// A database file; each thread has its own connection.
pub(crate) struct SqliteEngine {
    path: PathBuf,
}

/// A connection.
pub(crate) struct SqliteWriter {
    connection: Connection,
}

impl SqliteEngine {
    fn connect(&self) -> Result<Connection, Failure> {
        let connection = Connection::open(&self.path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // FULL: the log is synced at every commit, as Idem's is.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "busy_timeout", BUSY_TIMEOUT_MS)?;
        Ok(connection)
    }
}

impl Engine for SqliteEngine {
    type Document = (String, String);
    type Writer<'a> = SqliteWriter;

    fn open(directory: &Path) -> Result<Self, Failure> {
        let engine = Self {
            path: directory.join("documents.sqlite"),
        };
        engine.connect()?.execute_batch(
            "CREATE TABLE docs (id TEXT PRIMARY KEY, body TEXT NOT NULL);
             CREATE INDEX docs_category ON docs (json_extract(body, '$.category'));",
        )?;
        Ok(engine)
    }

    fn prepare(number: u64) -> Self::Document {
        (documents::id(number), documents::json(number))
    }

    fn writer(&self) -> Result<SqliteWriter, Failure> {
        Ok(SqliteWriter {
            connection: self.connect()?,
        })
    }

    fn count(&self) -> Result<u64, Failure> {
        let count: i64 = self
            .connect()?
            .query_row("SELECT COUNT(*) FROM docs", [], |row| row.get(0))?;
        Ok(u64::try_from(count)?)
    }

    fn count_category(&self, category: i64) -> Result<u64, Failure> {
        let count: i64 = self.connect()?.query_row(
            "SELECT COUNT(*) FROM docs INDEXED BY docs_category
             WHERE json_extract(body, '$.category') = ?1",
            [category],
            |row| row.get(0),
        )?;
        Ok(u64::try_from(count)?)
    }
}

impl Writer<(String, String)> for SqliteWriter {
    fn insert(&mut self, documents: Vec<(String, String)>) -> Result<(), Failure> {
        const INSERT: &str = "INSERT INTO docs (id, body) VALUES (?1, ?2)";
        if let [(id, body)] = documents.as_slice() {
            self.connection
                .prepare_cached(INSERT)?
                .execute(params![id, body])?;
            return Ok(());
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for (id, body) in documents {
                insert.execute(params![id, body])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn read(&mut self, id: &str) -> Result<bool, Failure> {
        let mut select = self
            .connection
            .prepare_cached("SELECT body FROM docs WHERE id = ?1")?;
        let mut rows = select.query([id])?;
        match rows.next()? {
            None => Ok(false),
            Some(row) => {
                let body: String = row.get(0)?;
                Ok(!std::hint::black_box(body).is_empty())
            }
        }
    }
}
