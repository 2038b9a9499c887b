//! How opening and using a store fails.

use std::{path::PathBuf, time::Duration};

use idem_crdt::ApplyError;
use idem_model::{ClockError, CollectionName, DecodeError, DocumentKey};
use idem_query::{ExecuteError, QueryError};
use idem_vault::VaultError;

use crate::tables;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another handle of this one, has it open.
    #[error("the store in {} is open elsewhere{}", path.display(), holder(*pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that has it open, if it left its number.
        pid: Option<u32>,
    },
    /// There is something else at the path.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory cannot be made, read or written.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A later version of Idem wrote it.
    #[error("the store has format {found}, and this version reads up to {supported}")]
    NewerFormat {
        /// The format on disk.
        found: u32,
        /// The newest format that this build reads.
        supported: u32,
    },
    /// The log and the engine file are not of one store at one time, such as after restoring only one
    /// of them from a backup.
    #[error("the log and the database file do not belong together: {reason}")]
    Mismatched {
        /// What does not fit.
        reason: String,
    },
    /// The operating system gives no thread.
    #[error("cannot start the threads of the store")]
    Thread {
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The store's key is missing, wrong or not wanted, or what it opens is damaged.
    #[error(transparent)]
    Encryption(#[from] VaultError),
    /// Reading what is stored failed, damage included.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

/// Why an operation on an open store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The statement or its arguments are at fault.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A transaction, or `execute`, was begun by a thread inside its own open transaction.
    #[error(
        "this thread has a transaction open; run the statement on that transaction, or end it first"
    )]
    NestedTransaction,
    /// Another transaction stayed open without a statement running in it for longer than the
    /// parameter `transaction_idle_ms` lets others wait. Perhaps it waits for the caller.
    #[error(
        "another transaction has been open for {} ms without doing anything (hint: {hint})",
        idle.as_millis()
    )]
    TransactionBusy {
        /// The hint of the other transaction, `none` if it has none.
        hint: String,
        /// Since when nothing runs in it.
        idle: Duration,
    },
    /// A mutation in a read-only transaction.
    #[error("the transaction is read-only")]
    ReadOnly,
    /// A local write would make a document too large.
    #[error("document {key} would have {bytes} bytes, over the limit of {limit}")]
    DocumentTooLarge {
        /// Which document.
        key: Box<DocumentKey>,
        /// Its encoded size.
        bytes: usize,
        /// The configured limit.
        limit: usize,
    },
    /// A transaction changes more than one commit can hold.
    #[error("the transaction has {amount} {unit}, over the limit of {limit}")]
    TransactionTooLarge {
        /// How much there is.
        amount: usize,
        /// Of what: `documents` or `bytes`.
        unit: &'static str,
        /// The limit.
        limit: usize,
    },
    /// An operation that the document does not allow, such as incrementing a text.
    #[error("document {key} cannot be changed so")]
    Operation {
        /// Which document.
        key: Box<DocumentKey>,
        /// Why.
        source: ApplyError,
    },
    /// Names that start with two underscores belong to the system.
    #[error("collection `{name}` is reserved for the system")]
    ReservedCollection {
        /// The name.
        name: CollectionName,
    },
    /// The collection holds what a subscription to some fields brings, which nobody writes to here.
    #[error(
        "collection `{name}` holds fields of `{source_collection}` that a subscription brings: write to \
         `{source_collection}`; here documents can be evicted"
    )]
    Projected {
        /// The collection.
        name: CollectionName,
        /// The one that has the whole documents.
        source_collection: CollectionName,
    },
    /// A subscription to some fields was to bring them into a collection that holds something else.
    #[error("collection `{name}` is in use; name another one for what the subscription brings")]
    CollectionInUse {
        /// The collection.
        name: CollectionName,
    },
    /// A subscription to some fields was to bring them into another collection than before.
    #[error(
        "what the subscription brings is in `{collection}` already, and cannot go into `{name}`"
    )]
    ProjectionElsewhere {
        /// The collection that was named.
        name: CollectionName,
        /// The one that it is in.
        collection: CollectionName,
    },
    /// The disk has no room for a commit. Nothing of it happened; earlier data is intact.
    #[error("the disk is full: the commit needs {needed_bytes} bytes")]
    DiskFull {
        /// Size of the commit in the log.
        needed_bytes: u64,
    },
    /// A stored value is damaged.
    #[error("stored data is damaged: {what}")]
    Corrupt {
        /// Which value.
        what: String,
    },
    /// The engine failed.
    #[error("the engine failed")]
    Engine(#[source] idem_kv::KvError),
    /// The log failed.
    #[error("the log failed")]
    Log(#[source] idem_log::LogError),
    /// The hybrid clock is at its end.
    #[error("no time can be given to the commit")]
    Clock(#[from] ClockError),
    /// An earlier failure left the outcome of a commit unknown. Only opening the store again helps.
    #[error("the store failed earlier and must be opened again: {reason}")]
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl From<ExecuteError<Self>> for StoreError {
    fn from(error: ExecuteError<Self>) -> Self {
        match error {
            ExecuteError::Query(error) => Self::Query(error),
            ExecuteError::Source(error) => error,
            _ => Self::Corrupt {
                what: "an unknown kind of statement failure".to_owned(),
            },
        }
    }
}

impl StoreError {
    /// The stable string of the class of the failure, the same in every binding.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Query(error) => error.code(),
            Self::NestedTransaction => "store/transaction-nested",
            Self::TransactionBusy { .. } => "store/transaction-busy",
            Self::ReadOnly => "store/transaction-read-only",
            Self::DocumentTooLarge { .. } => "store/document-too-large",
            Self::TransactionTooLarge { .. } => "store/transaction-too-large",
            Self::Operation { .. } => "validation/value",
            Self::ReservedCollection { .. }
            | Self::CollectionInUse { .. }
            | Self::ProjectionElsewhere { .. } => "store/collection-invalid",
            Self::Projected { .. } => "store/collection-read-only",
            Self::DiskFull { .. } => "store/disk-full",
            Self::Corrupt { .. } => "store/corrupt",
            Self::Poisoned { .. } => "store/poisoned",
            Self::Engine(_) | Self::Log(_) | Self::Clock(_) => "store/backend",
            Self::Closed => "peer/closed",
        }
    }

    pub(crate) fn corrupt(what: &str, error: &DecodeError) -> Self {
        Self::Corrupt {
            what: format!("{what}: {error}"),
        }
    }
}

impl From<idem_kv::KvError> for StoreError {
    fn from(error: idem_kv::KvError) -> Self {
        use idem_kv::KvError;
        match error {
            KvError::Corrupt { table, key } => Self::Corrupt {
                what: format!("{} fails its checksum", tables::name(table, &key)),
            },
            KvError::CorruptFile { .. } => Self::Corrupt {
                what: error.to_string(),
            },
            KvError::Full { needed, .. } => Self::DiskFull {
                needed_bytes: needed,
            },
            error => Self::Engine(error),
        }
    }
}

impl From<idem_log::LogError> for StoreError {
    fn from(error: idem_log::LogError) -> Self {
        use idem_log::LogError;
        match error {
            LogError::Corrupt { .. } => Self::Corrupt {
                what: error.to_string(),
            },
            LogError::Full { needed, .. } => Self::DiskFull {
                needed_bytes: needed,
            },
            error => Self::Log(error),
        }
    }
}
