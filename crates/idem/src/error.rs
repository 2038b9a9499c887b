//! The one error type that an app sees.

use std::fmt;

use idem_blob::BlobError;
use idem_store::{OpenError, StoreError};
use idem_vault::VaultError;

/// What went wrong, as a class that a program can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The statement does not parse or does not bind.
    QueryInvalid,
    /// The arguments are not named values, or one that the statement names is missing.
    QueryArgumentsInvalid,
    /// An expression could not be evaluated where an error, not MISSING, is the rule.
    QueryEvaluation,
    /// The statement failed while it ran.
    QueryExecution,
    /// The statement is DQL, but this place does not take it (a mutation as an observer, ..).
    QueryUnsupported,
    /// A system parameter has no such name or cannot take the value.
    QueryParameter,
    /// The statement was stopped because somebody asked for it. It changed nothing.
    QueryCancelled,
    /// The statement was stopped because its time was over. It changed nothing.
    QueryTimedOut,
    /// An INSERT met an existing document and the statement says FAIL.
    StoreDocumentExists,
    /// A value cannot be a document id.
    StoreDocumentId,
    /// The document would exceed a limit (size, nesting).
    StoreDocumentTooLarge,
    /// The transaction changes more than one commit can hold.
    StoreTransactionTooLarge,
    /// A collection name is not allowed.
    StoreCollectionInvalid,
    /// The collection holds what a subscription to some fields brings, and is not written to.
    StoreCollectionReadOnly,
    /// A mutation inside a read-only transaction.
    StoreTransactionReadOnly,
    /// A transaction, or an `execute` of the store, inside a transaction.
    StoreTransactionNested,
    /// Another transaction is open and nothing runs in it; perhaps it waits for the caller. Or a scan
    /// of this one runs.
    StoreTransactionBusy,
    /// The transaction already ended.
    StoreTransactionEnded,
    /// Another process, or another handle of this one, has the directory open.
    StorePersistenceDirectoryLocked,
    /// The directory cannot be created, read or written.
    StorePersistenceDirectoryDenied,
    /// The directory belongs to another database id.
    StoreDatabaseMismatch,
    /// Bytes on disk are not what was written.
    StoreCorrupt,
    /// The disk is full. What was committed before is intact.
    StoreDiskFull,
    /// The store refuses work after a failed write to disk until it is opened again.
    StorePoisoned,
    /// Any other failure of the storage.
    StoreBackend,
    /// The store is encrypted and no key was given.
    EncryptionKeyRequired,
    /// A key was given for a store that is not encrypted.
    EncryptionKeyUnexpected,
    /// The key is not that of the store, or is no key.
    EncryptionKeyInvalid,
    /// The store is encrypted in a way that this version does not know.
    EncryptionUnsupportedScheme,
    /// The file with the store's wrapped keys is damaged or missing.
    EncryptionMetadataCorrupt,
    /// A certificate is none, is about another peer or database, or does not hold; or there is none to sync with.
    AuthCertificateInvalid,
    /// The file of an authority is none, or what it is to sign no peer would take.
    AuthAuthorityInvalid,
    /// What an authority is said to have signed is not taken.
    AuthTrustRefused,
    /// The content of an attachment is neither here nor with any peer in reach.
    AttachmentNotFound,
    /// The content of an attachment is not as it was put on disk, or peers sent something else.
    AttachmentDamaged,
    /// An attachment is larger than this peer may keep.
    AttachmentQuota,
    /// Nothing of an attachment came in time.
    AttachmentTimedOut,
    /// The fetch of an attachment was cancelled.
    AttachmentCancelled,
    /// Documents referred to the attachment when it was fetched, and none does any more.
    AttachmentDeleted,
    /// A value is no token of an attachment.
    AttachmentTokenInvalid,
    /// A setting is out of range or contradicts another.
    ValidationConfiguration,
    /// A value from outside cannot be a document or an argument (not finite, too deep, ..).
    ValidationValue,
    /// Sync needs a connect mode with an identity; this peer was opened offline.
    SyncUnavailable,
    /// A listener could not be opened.
    SyncListen,
    /// The query cannot be a subscription.
    SyncSubscriptionInvalid,
    /// There is no such commit in the store of this peer.
    SyncCommitUnknown,
    /// A peer has not confirmed a commit in time.
    SyncTimedOut,
    /// Reading or writing a file failed.
    Io,
    /// The peer was closed.
    Closed,
    /// A broken invariant of Idem: a bug.
    Internal,
}

impl ErrorKind {
    /// The stable string of the kind, the same in every binding.
    pub fn code(self) -> &'static str {
        match self {
            Self::QueryInvalid => "query/invalid",
            Self::QueryArgumentsInvalid => "query/arguments-invalid",
            Self::QueryEvaluation => "query/evaluation",
            Self::QueryExecution => "query/execution",
            Self::QueryUnsupported => "query/unsupported",
            Self::QueryParameter => "query/parameter",
            Self::QueryCancelled => "query/cancelled",
            Self::QueryTimedOut => "query/timed-out",
            Self::StoreDocumentExists => "store/document-exists",
            Self::StoreDocumentId => "store/document-id",
            Self::StoreDocumentTooLarge => "store/document-too-large",
            Self::StoreTransactionTooLarge => "store/transaction-too-large",
            Self::StoreCollectionInvalid => "store/collection-invalid",
            Self::StoreCollectionReadOnly => "store/collection-read-only",
            Self::StoreTransactionReadOnly => "store/transaction-read-only",
            Self::StoreTransactionNested => "store/transaction-nested",
            Self::StoreTransactionBusy => "store/transaction-busy",
            Self::StoreTransactionEnded => "store/transaction-ended",
            Self::StorePersistenceDirectoryLocked => "store/persistence-directory-locked",
            Self::StorePersistenceDirectoryDenied => "store/persistence-directory-denied",
            Self::StoreDatabaseMismatch => "store/database-mismatch",
            Self::StoreCorrupt => "store/corrupt",
            Self::StoreDiskFull => "store/disk-full",
            Self::StorePoisoned => "store/poisoned",
            Self::StoreBackend => "store/backend",
            Self::EncryptionKeyRequired => "encryption/key-required",
            Self::EncryptionKeyUnexpected => "encryption/key-unexpected",
            Self::EncryptionKeyInvalid => "encryption/key-invalid",
            Self::EncryptionUnsupportedScheme => "encryption/unsupported-scheme",
            Self::EncryptionMetadataCorrupt => "encryption/metadata-corrupt",
            Self::AuthCertificateInvalid => "auth/certificate-invalid",
            Self::AuthAuthorityInvalid => "auth/authority-invalid",
            Self::AuthTrustRefused => "auth/trust-refused",
            Self::AttachmentNotFound => "attachment/not-found",
            Self::AttachmentDamaged => "attachment/damaged",
            Self::AttachmentQuota => "attachment/quota",
            Self::AttachmentTimedOut => "attachment/timed-out",
            Self::AttachmentCancelled => "attachment/cancelled",
            Self::AttachmentDeleted => "attachment/deleted",
            Self::AttachmentTokenInvalid => "attachment/token-invalid",
            Self::ValidationConfiguration => "validation/configuration",
            Self::ValidationValue => "validation/value",
            Self::SyncUnavailable => "sync/unavailable",
            Self::SyncListen => "sync/listen",
            Self::SyncSubscriptionInvalid => "sync/subscription-invalid",
            Self::SyncCommitUnknown => "sync/commit-unknown",
            Self::SyncTimedOut => "sync/timed-out",
            Self::Io => "io/failed",
            Self::Closed => "peer/closed",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A place in the text of a statement. Line and column count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column in characters.
    pub column: u32,
    /// Length in characters.
    pub len: u32,
}

impl From<idem_query::Position> for Position {
    fn from(position: idem_query::Position) -> Self {
        Self {
            line: position.line,
            column: position.column,
            len: position.len,
        }
    }
}

/// Any failure of this crate. `Display` tells this layer's part; walk
/// [`source`](std::error::Error::source) for the causes below it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    query: Option<Box<QueryPlace>>,
    source: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

#[derive(Debug)]
struct QueryPlace {
    position: Option<Position>,
    hint: Option<String>,
    rendered: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            query: None,
            source: None,
        }
    }

    pub(crate) fn with_source(
        mut self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn sync_unavailable() -> Self {
        let message =
            "the peer was opened offline; open it with a shared key or a certificate to sync";
        Self::new(ErrorKind::SyncUnavailable, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the peer is closed")
    }

    /// A failure of the query layer; `text` is the statement.
    pub(crate) fn query(error: idem_query::QueryError, text: &str) -> Self {
        let kind = match error.kind() {
            idem_query::ErrorKind::Invalid => ErrorKind::QueryInvalid,
            idem_query::ErrorKind::ArgumentsInvalid => ErrorKind::QueryArgumentsInvalid,
            idem_query::ErrorKind::Evaluation => ErrorKind::QueryEvaluation,
            idem_query::ErrorKind::Unsupported => ErrorKind::QueryUnsupported,
            idem_query::ErrorKind::Parameter => ErrorKind::QueryParameter,
            idem_query::ErrorKind::Cancelled => ErrorKind::QueryCancelled,
            idem_query::ErrorKind::TimedOut => ErrorKind::QueryTimedOut,
            _ => ErrorKind::QueryExecution,
        };
        Self {
            kind,
            message: error.message().to_owned(),
            query: Some(Box::new(QueryPlace {
                position: error.position().map(Position::from),
                hint: error.hint().map(str::to_owned),
                rendered: error.render(text),
            })),
            source: None,
        }
    }

    /// A failure of the store; `text` is the statement that ran, if one did.
    pub(crate) fn store(error: StoreError, text: &str) -> Self {
        let kind = match error {
            StoreError::Query(error) => return Self::query(error, text),
            StoreError::NestedTransaction => ErrorKind::StoreTransactionNested,
            StoreError::TransactionBusy { .. } => ErrorKind::StoreTransactionBusy,
            StoreError::ReadOnly => ErrorKind::StoreTransactionReadOnly,
            StoreError::DocumentTooLarge { .. } => ErrorKind::StoreDocumentTooLarge,
            StoreError::TransactionTooLarge { .. } => ErrorKind::StoreTransactionTooLarge,
            StoreError::ReservedCollection { .. }
            | StoreError::CollectionInUse { .. }
            | StoreError::ProjectionElsewhere { .. } => ErrorKind::StoreCollectionInvalid,
            StoreError::Projected { .. } => ErrorKind::StoreCollectionReadOnly,
            StoreError::Operation { .. } => ErrorKind::ValidationValue,
            StoreError::DiskFull { .. } => ErrorKind::StoreDiskFull,
            StoreError::Corrupt { .. } => ErrorKind::StoreCorrupt,
            StoreError::Poisoned { .. } => ErrorKind::StorePoisoned,
            StoreError::Closed => return Self::closed(),
            _ => ErrorKind::StoreBackend,
        };
        Self::from_cause(kind, error)
    }

    /// A failure of the store's keys.
    pub(crate) fn vault(error: VaultError) -> Self {
        let kind = match error {
            VaultError::KeyRequired => ErrorKind::EncryptionKeyRequired,
            VaultError::KeyUnexpected => ErrorKind::EncryptionKeyUnexpected,
            VaultError::KeyInvalid { .. } => ErrorKind::EncryptionKeyInvalid,
            VaultError::UnsupportedScheme { .. } => ErrorKind::EncryptionUnsupportedScheme,
            VaultError::MetadataCorrupt { .. } => ErrorKind::EncryptionMetadataCorrupt,
            VaultError::Unsealed(_) => ErrorKind::StoreCorrupt,
            _ => ErrorKind::Io,
        };
        Self::from_cause(kind, error)
    }

    /// A failure of the files of attachments.
    pub(crate) fn blob(error: BlobError) -> Self {
        let kind = match error {
            BlobError::Quota { .. } => ErrorKind::AttachmentQuota,
            BlobError::Full { .. } => ErrorKind::StoreDiskFull,
            BlobError::Missing { .. } => ErrorKind::AttachmentNotFound,
            BlobError::Damaged { .. } => ErrorKind::AttachmentDamaged,
            _ => ErrorKind::Io,
        };
        Self::from_cause(kind, error)
    }

    pub(crate) fn open(error: OpenError) -> Self {
        let kind = match error {
            OpenError::Locked { .. } => ErrorKind::StorePersistenceDirectoryLocked,
            OpenError::NotADirectory { .. } | OpenError::Directory { .. } => {
                ErrorKind::StorePersistenceDirectoryDenied
            }
            OpenError::Mismatched { .. } => ErrorKind::StoreCorrupt,
            OpenError::Store(error) => return Self::store(error, ""),
            OpenError::Encryption(error) => return Self::vault(error),
            _ => ErrorKind::StoreBackend,
        };
        Self::from_cause(kind, error)
    }

    /// Takes the cause's own words, and what is below it as the source.
    fn from_cause(kind: ErrorKind, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        let message = cause.to_string();
        // The cause's text is ours now; keeping the cause itself would print it twice.
        let error = Self::new(kind, message);
        match std::error::Error::source(&cause) {
            Some(below) => error.with_source(Below(chain(below))),
            None => error,
        }
    }

    /// The class of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where in the statement, if the statement is to blame.
    pub fn position(&self) -> Option<Position> {
        self.query.as_ref()?.position
    }

    /// What might be meant instead, if there is a guess.
    pub fn hint(&self) -> Option<&str> {
        self.query.as_ref()?.hint.as_deref()
    }

    /// The statement's line with a caret under the place, ready for a terminal.
    pub fn rendered(&self) -> Option<&str> {
        Some(self.query.as_ref()?.rendered.as_str())
    }
}

impl From<VaultError> for Error {
    fn from(error: VaultError) -> Self {
        Self::vault(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Causes below an error that cannot be moved out of it, as text.
#[derive(Debug)]
struct Below(Vec<String>);

fn chain(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect()
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(": "))
    }
}

impl std::error::Error for Below {}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_deref()?)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_describes_every_code() {
        let page = include_str!("../../../docs/dql/errors.md");
        let codes = include_str!("error.rs").lines().filter_map(|line| {
            let (_, code) = line.trim().strip_prefix("Self::")?.split_once(" => \"")?;
            code.strip_suffix("\",")
        });
        let codes: Vec<&str> = codes.collect();
        assert!(codes.contains(&"query/invalid") && codes.contains(&"internal"));
        let missing = codes
            .iter()
            .filter(|code| !page.contains(&format!("\n| `{code}` |")));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&&str>::new());
    }
}
