//! Attachments: content beside documents, which travels only when it is asked for.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use idem_blob::{BlobReader, Pin};
use idem_blob_sync::FailReason;
use idem_model::{BlobId, BlobKey, Object, Value};
use serde::{Deserialize, Serialize};

use crate::{
    blobs::{FetchEnd, Heard, Outcome, Ticket, unix_ms},
    core::Core,
    error::{Error, ErrorKind},
    lanes::Lane,
};

/// What an app says about an attachment, such as its file name and media type.
pub type AttachmentMetadata = BTreeMap<String, String>;

/// Bytes of the metadata of one attachment: names and values. It is part of the document.
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// Bytes that are copied at one time.
const COPY_BYTES: usize = 256 * 1024;

/// Stands for an attachment in a document: its name, which is the hash of its content, its length and what
/// the app says about it. A statement takes it as an argument, and a row gives it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Told", into = "Told")]
pub struct AttachmentToken {
    key: BlobKey,
    metadata: AttachmentMetadata,
}

/// A token as it stands in a document.
#[derive(Serialize, Deserialize)]
struct Told {
    id: String,
    len: u64,
    #[serde(default)]
    metadata: AttachmentMetadata,
}

impl TryFrom<Told> for AttachmentToken {
    type Error = String;

    fn try_from(told: Told) -> Result<Self, String> {
        let id: BlobId = told.id.parse().map_err(|e| format!("{e}"))?;
        if told.len > idem_model::limits::BLOB_BYTES_MAX {
            return Err(format!("an attachment of {} bytes cannot be", told.len));
        }
        Ok(Self {
            key: BlobKey { id, len: told.len },
            metadata: told.metadata,
        })
    }
}

impl From<AttachmentToken> for Told {
    fn from(token: AttachmentToken) -> Self {
        Self {
            id: token.id(),
            len: token.len(),
            metadata: token.metadata,
        }
    }
}

impl AttachmentToken {
    /// Reads a token from a value of a document.
    ///
    /// # Errors
    /// [`ErrorKind::AttachmentTokenInvalid`].
    pub fn from_value(value: &Value) -> Result<Self, Error> {
        let wrong = || {
            let message = "the value is no token of an attachment: an object with id and len";
            Error::new(ErrorKind::AttachmentTokenInvalid, message)
        };
        let Value::Object(fields) = value else {
            return Err(wrong());
        };
        let (Some(Value::String(id)), Some(Value::Int(len))) =
            (fields.get("id"), fields.get("len"))
        else {
            return Err(wrong());
        };
        let mut metadata = AttachmentMetadata::new();
        if let Some(Value::Object(entries)) = fields.get("metadata") {
            for (name, value) in entries {
                if let Value::String(value) = value {
                    metadata.insert(name.clone(), value.clone());
                }
            }
        }
        let id = id.clone();
        let len = u64::try_from(*len).map_err(|_| wrong())?;
        Self::try_from(Told { id, len, metadata }).map_err(|_| wrong())
    }

    /// The value that stands for the attachment in a document.
    pub fn to_value(&self) -> Value {
        let metadata: Object = self
            .metadata
            .iter()
            .map(|(name, value)| (name.clone(), Value::String(value.clone())))
            .collect();
        let len = i64::try_from(self.key.len).expect("blobs are shorter");
        Value::Object(Object::from([
            ("id".to_owned(), Value::String(self.id())),
            ("len".to_owned(), Value::Int(len)),
            ("metadata".to_owned(), Value::Object(metadata)),
        ]))
    }

    /// The name of the content: its BLAKE3 hash in URL-safe base64, 43 characters.
    pub fn id(&self) -> String {
        self.key.id.to_string()
    }

    /// Bytes of the content.
    pub fn len(&self) -> u64 {
        self.key.len
    }

    /// Whether the content is empty.
    pub fn is_empty(&self) -> bool {
        self.key.len == 0
    }

    /// What the app says about it.
    pub fn metadata(&self) -> &AttachmentMetadata {
        &self.metadata
    }
}

/// Bounds of the attachments of a peer.
#[derive(Debug, Clone, Copy)]
pub struct AttachmentConfig {
    pub(crate) options: idem_blob::BlobOptions,
}

impl Default for AttachmentConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl AttachmentConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            options: idem_blob::BlobOptions::default(),
        }
    }

    /// Bytes of all attachments together. Default: as many as the disk has.
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.options.bytes_max = bytes;
        self
    }

    /// Bytes of the attachments that are here only because a neighbour asked for them. Those used the longest
    /// ago go first. 0 passes none on. Default: 256 MiB.
    #[must_use]
    pub fn relay_bytes_max(mut self, bytes: u64) -> Self {
        self.options.relay_bytes_max = bytes;
        self
    }

    /// How long an attachment is kept that no document refers to, counted from when it was made or fetched. A
    /// new one must be in a document by then. Default: an hour.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self
    }
}

/// An attachment whose content is here. It stays while this lives.
#[derive(Clone)]
pub struct Attachment {
    core: Arc<Core>,
    token: AttachmentToken,
    _pin: Arc<Pin>,
}

impl Attachment {
    fn new(core: Arc<Core>, token: AttachmentToken) -> Result<Self, Error> {
        let pin = Arc::new(core.blobs.store()?.pin(token.key.id));
        Ok(Self {
            core,
            token,
            _pin: pin,
        })
    }

    /// What stands for it in a document.
    pub fn token(&self) -> &AttachmentToken {
        &self.token
    }

    /// All of the content, in memory.
    ///
    /// # Errors
    /// [`ErrorKind::AttachmentDamaged`] if it is not on disk as it was put there: fetch it again.
    pub async fn data(&self) -> Result<Vec<u8>, Error> {
        let attachment = self.clone();
        let work = move || attachment.data_blocking();
        self.core.lanes.run(Lane::Reading, work).await
    }

    /// [`data`](Self::data) on the calling thread.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub fn data_blocking(&self) -> Result<Vec<u8>, Error> {
        let store = self.core.blobs.store()?;
        let content = store.read(self.token.key, unix_ms());
        content.map_err(Error::blob)
    }

    /// Writes the content to a new file at `path`, or over the one there.
    ///
    /// # Errors
    /// As [`data`](Self::data), and [`ErrorKind::Io`].
    pub async fn copy_to(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let (attachment, path) = (self.clone(), path.as_ref().to_owned());
        let work = move || attachment.copy_to_blocking(path);
        self.core.lanes.run(Lane::Reading, work).await
    }

    /// [`copy_to`](Self::copy_to) on the calling thread.
    ///
    /// # Errors
    /// As [`copy_to`](Self::copy_to).
    pub fn copy_to_blocking(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let failed = |e| io_error("writing", path.as_ref(), e);
        let mut file = fs::File::create(path.as_ref()).map_err(failed)?;
        let store = self.core.blobs.store()?;
        let mut reader = store
            .reader(self.token.key, unix_ms())
            .map_err(Error::blob)?;
        let mut at = 0;
        loop {
            let chunk = reader.chunk(at).map_err(Error::blob)?;
            if chunk.is_empty() {
                return file.sync_all().map_err(failed);
            }
            file.write_all(chunk).map_err(failed)?;
            at += chunk.len() as u64;
        }
    }

    /// Reads the content piece by piece, from anywhere.
    ///
    /// # Errors
    /// [`ErrorKind::AttachmentNotFound`] if it was found damaged meanwhile.
    pub fn reader(&self) -> Result<AttachmentReader, Error> {
        let store = self.core.blobs.store()?;
        let reader = store.reader(self.token.key, unix_ms());
        Ok(AttachmentReader(reader.map_err(Error::blob)?))
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attachment").field(&self.token).finish()
    }
}

/// Reads the content of an attachment. Every byte was checked against its name.
#[derive(Debug)]
pub struct AttachmentReader(BlobReader);

impl Read for AttachmentReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Seek for AttachmentReader {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// How to fetch an attachment.
#[derive(Debug, Clone, Copy)]
pub struct FetchOptions {
    timeout: Duration,
    hops: u8,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl FetchOptions {
    /// The defaults.
    pub fn new() -> Self {
        let terms = idem_blob_sync::FetchTerms::default();
        Self {
            timeout: terms.timeout,
            hops: terms.hops,
        }
    }

    /// How long nothing may come before the fetch fails. A peer without any link waits for one as long.
    /// Default: 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Over how many peers between the attachment may be fetched, 12 at most. They fetch it for this one, and
    /// may keep it for a while; those near are asked first. 0 asks linked peers only. Default: 12.
    #[must_use]
    pub fn hops(mut self, hops: u8) -> Self {
        self.hops = hops.min(idem_model::limits::BLOB_HOPS_MAX);
        self
    }
}

/// What happens to a fetch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AttachmentFetchEvent {
    /// More is here. Who is slow hears the newest state only.
    Progress {
        /// Bytes that are here, those of earlier fetches included.
        downloaded: u64,
        /// Bytes of the whole.
        total: u64,
    },
    /// All is here. Nothing follows.
    Completed(Attachment),
    /// Documents referred to it, and none does any more: the field was changed, or the document deleted, here or
    /// by another peer. Nothing follows.
    Deleted,
    /// It does not come. What is here is kept for the next fetch, for an hour or as long as a document refers
    /// to it. Nothing follows.
    Failed {
        /// Why.
        reason: FetchFailure,
    },
}

/// Why an attachment does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchFailure {
    /// No linked peer has it, nor those that they asked.
    NobodyHasIt,
    /// Somebody has it or did not answer, and nothing came for too long.
    TimedOut,
    /// What peers sent was no part of it.
    Damaged,
    /// It is more than this peer may keep.
    Quota,
    /// The disk is full.
    DiskFull,
    /// The disk failed.
    Storage,
    /// The fetch was cancelled.
    Cancelled,
    /// No document refers to it any more. A handler hears [`AttachmentFetchEvent::Deleted`] instead.
    Deleted,
    /// The peer was closed.
    Closed,
}

impl FetchFailure {
    fn error(self) -> Error {
        let (kind, message) = match self {
            Self::NobodyHasIt => (
                ErrorKind::AttachmentNotFound,
                "no peer in reach has the attachment",
            ),
            Self::TimedOut => (
                ErrorKind::AttachmentTimedOut,
                "nothing of the attachment came in time",
            ),
            Self::Damaged => (
                ErrorKind::AttachmentDamaged,
                "peers sent what is no part of the attachment",
            ),
            Self::Quota => (
                ErrorKind::AttachmentQuota,
                "the attachment is more than may be kept",
            ),
            Self::DiskFull => (ErrorKind::StoreDiskFull, "no room for the attachment"),
            Self::Storage => (ErrorKind::Io, "the attachment cannot be written"),
            Self::Cancelled => (ErrorKind::AttachmentCancelled, "the fetch was cancelled"),
            Self::Deleted => (
                ErrorKind::AttachmentDeleted,
                "no document refers to the attachment any more",
            ),
            Self::Closed => return Error::closed(),
        };
        Error::new(kind, message)
    }
}

impl From<FetchEnd> for FetchFailure {
    fn from(end: FetchEnd) -> Self {
        match end {
            FetchEnd::Cancelled => Self::Cancelled,
            FetchEnd::Deleted => Self::Deleted,
            FetchEnd::Closed => Self::Closed,
            FetchEnd::Failed(reason) => match reason {
                FailReason::NobodyHasIt => Self::NobodyHasIt,
                FailReason::TimedOut => Self::TimedOut,
                FailReason::Damaged => Self::Damaged,
                FailReason::Quota => Self::Quota,
                FailReason::DiskFull => Self::DiskFull,
                _ => Self::Storage,
            },
        }
    }
}

/// A fetch. It is cancelled when the handle is dropped; what came is kept for the next one.
#[must_use = "the fetch is cancelled when its handle is dropped"]
pub struct AttachmentFetcher {
    core: Arc<Core>,
    token: AttachmentToken,
    number: u64,
    ticket: Arc<Ticket>,
}

impl AttachmentFetcher {
    /// What is fetched.
    pub fn token(&self) -> &AttachmentToken {
        &self.token
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// [`ErrorKind::AttachmentNotFound`] if nobody in reach has it, [`ErrorKind::AttachmentTimedOut`],
    /// [`ErrorKind::AttachmentDamaged`], [`ErrorKind::AttachmentQuota`],
    /// [`ErrorKind::AttachmentCancelled`], [`ErrorKind::AttachmentDeleted`], [`ErrorKind::StoreDiskFull`], [`ErrorKind::Io`] or
    /// [`ErrorKind::Closed`].
    pub async fn wait(&self) -> Result<Attachment, Error> {
        let outcome = self.ticket.wait().await;
        self.attachment(outcome)
    }

    /// [`wait`](Self::wait) on the calling thread, at most `limit`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and [`ErrorKind::AttachmentTimedOut`] after `limit`; the fetch goes on then.
    pub fn wait_blocking(&self, limit: Duration) -> Result<Attachment, Error> {
        let timed_out = Err(FetchEnd::Failed(FailReason::TimedOut));
        self.attachment(self.ticket.wait_blocking(limit).unwrap_or(timed_out))
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.ticket.outcome().is_some()
    }

    /// Ends the fetch. Nothing is heard of it any more.
    pub fn cancel(&self) {
        self.core.blobs.cancel(self.token.key, self.number);
    }

    fn attachment(&self, outcome: Outcome) -> Result<Attachment, Error> {
        match outcome {
            Ok(()) => Attachment::new(Arc::clone(&self.core), self.token.clone()),
            Err(end) => Err(FetchFailure::from(end).error()),
        }
    }
}

impl fmt::Debug for AttachmentFetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AttachmentFetcher")
            .field(&self.token)
            .finish()
    }
}

impl Drop for AttachmentFetcher {
    fn drop(&mut self) {
        if !self.is_ended() {
            self.cancel();
        }
    }
}

/// What a collection of attachments did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AttachmentsCollected {
    /// Attachments deleted.
    pub attachments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Where the content of a new attachment is.
pub(crate) enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
    Reader(Box<dyn Read + Send>),
}

/// Stores content.
pub(crate) fn make(
    core: &Arc<Core>,
    content: Content,
    metadata: AttachmentMetadata,
) -> Result<Attachment, Error> {
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > METADATA_BYTES_MAX {
        let message = format!("the metadata has {bytes} bytes, {METADATA_BYTES_MAX} are the limit");
        return Err(Error::new(ErrorKind::ValidationValue, message));
    }
    let mut writer = core.blobs.store()?.writer();
    match content {
        Content::Bytes(bytes) => writer.write(&bytes).map_err(Error::blob)?,
        Content::File(path) => {
            let file = fs::File::open(&path).map_err(|e| io_error("reading", &path, e))?;
            copy(file, &mut writer, &path)?;
        }
        Content::Reader(reader) => copy(reader, &mut writer, Path::new("the source"))?,
    }
    let key = writer.finish(unix_ms()).map_err(Error::blob)?;
    let attachment = Attachment::new(Arc::clone(core), AttachmentToken { key, metadata })?;
    core.blobs.made(key);
    Ok(attachment)
}

fn copy(mut from: impl Read, to: &mut idem_blob::BlobWriter, name: &Path) -> Result<(), Error> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write(&buffer[..count]).map_err(Error::blob)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io_error("reading", name, error)),
        }
    }
}

/// Begins to fetch content.
pub(crate) fn fetch(
    core: &Arc<Core>,
    token: &AttachmentToken,
    options: FetchOptions,
    mut handler: impl FnMut(AttachmentFetchEvent) + Send + 'static,
) -> Result<AttachmentFetcher, Error> {
    // Not the peer itself: it would keep itself open.
    let peer: Weak<Core> = Arc::downgrade(core);
    let told = token.clone();
    let total = token.len();
    let callback = move |heard| {
        let event = match heard {
            Heard::Progress(downloaded) => AttachmentFetchEvent::Progress { downloaded, total },
            Heard::Ended(Err(FetchEnd::Deleted)) => AttachmentFetchEvent::Deleted,
            Heard::Ended(Err(end)) => AttachmentFetchEvent::Failed { reason: end.into() },
            Heard::Ended(Ok(())) => {
                let attachment = peer
                    .upgrade()
                    .map(|core| Attachment::new(core, told.clone()));
                match attachment {
                    Some(Ok(attachment)) => AttachmentFetchEvent::Completed(attachment),
                    _ => AttachmentFetchEvent::Failed {
                        reason: FetchFailure::Closed,
                    },
                }
            }
        };
        handler(event);
    };
    let (number, ticket) = core.blobs.fetch(
        token.key,
        options.timeout,
        options.hops,
        Some(Box::new(callback)),
    )?;
    Ok(AttachmentFetcher {
        core: Arc::clone(core),
        token: token.clone(),
        number,
        ticket,
    })
}

/// Deletes what no document refers to and has had its time.
pub(crate) fn collect(core: &Core) -> Result<AttachmentsCollected, Error> {
    let collected = core.blobs.collect()?;
    Ok(AttachmentsCollected {
        attachments: collected.blobs,
        bytes: collected.bytes,
    })
}

fn io_error(action: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("{action} {} failed", path.display());
    Error::new(ErrorKind::Io, message).with_source(error)
}
