//! Making, fetching and collecting attachments.

use std::{io::Read, path::Path, sync::Arc};

use super::Store;
use crate::{
    attachment::{
        self, Attachment, AttachmentFetchEvent, AttachmentFetcher, AttachmentMetadata,
        AttachmentToken, AttachmentsCollected, Content, FetchOptions,
    },
    error::Error,
    lanes::Lane,
};

impl Store {
    /// Stores a copy of the file at `path` as an attachment, durably. Put its token into a document within
    /// an hour, or keep the [`Attachment`] until then: what no document refers to is deleted.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let scratch = tempfile::tempdir()?;
    /// # let path = scratch.path().join("front.jpg");
    /// # std::fs::write(&path, b"a photo")?;
    /// use idem::{AttachmentToken, Idem, IdemConfig};
    ///
    /// let idem = Idem::open(IdemConfig::local()).await?;
    /// let metadata = [("name".to_owned(), "front.jpg".to_owned())];
    /// let photo = idem.store().new_attachment(&path, metadata.into()).await?;
    /// let insert = "INSERT INTO COLLECTION cars (photo ATTACHMENT) DOCUMENTS ({'_id': 1, 'photo': :photo})";
    /// let args = serde_json::json!({ "photo": photo.token() });
    /// idem.store().execute((insert, args)).await?;
    ///
    /// let cars = idem.store().execute("SELECT photo FROM cars").await?;
    /// let row = cars.iter().next().expect("one car");
    /// let token = AttachmentToken::from_value(&row.value()["photo"])?;
    /// let fetch = idem.store().fetch_attachment(&token, |_event| {})?;
    /// assert_eq!(fetch.wait().await?.data().await?, b"a photo");
    /// # idem.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be read,
    /// [`ErrorKind::StoreDiskFull`](crate::ErrorKind::StoreDiskFull),
    /// [`ErrorKind::AttachmentQuota`](crate::ErrorKind::AttachmentQuota),
    /// [`ErrorKind::ValidationValue`](crate::ErrorKind::ValidationValue) for metadata of more than 16 KiB.
    pub async fn new_attachment(
        &self,
        path: impl AsRef<Path>,
        metadata: AttachmentMetadata,
    ) -> Result<Attachment, Error> {
        self.make(Content::File(path.as_ref().to_owned()), metadata)
            .await
    }

    /// [`new_attachment`](Self::new_attachment) on the calling thread.
    ///
    /// # Errors
    /// As [`new_attachment`](Self::new_attachment).
    pub fn new_attachment_blocking(
        &self,
        path: impl AsRef<Path>,
        metadata: AttachmentMetadata,
    ) -> Result<Attachment, Error> {
        let content = Content::File(path.as_ref().to_owned());
        attachment::make(&self.core, content, metadata)
    }

    /// [`new_attachment`](Self::new_attachment) of bytes in memory.
    ///
    /// # Errors
    /// As [`new_attachment`](Self::new_attachment).
    pub async fn new_attachment_from_bytes(
        &self,
        bytes: impl Into<Vec<u8>>,
        metadata: AttachmentMetadata,
    ) -> Result<Attachment, Error> {
        self.make(Content::Bytes(bytes.into()), metadata).await
    }

    /// [`new_attachment_from_bytes`](Self::new_attachment_from_bytes) on the calling thread.
    ///
    /// # Errors
    /// As [`new_attachment`](Self::new_attachment).
    pub fn new_attachment_from_bytes_blocking(
        &self,
        bytes: impl Into<Vec<u8>>,
        metadata: AttachmentMetadata,
    ) -> Result<Attachment, Error> {
        attachment::make(&self.core, Content::Bytes(bytes.into()), metadata)
    }

    /// [`new_attachment`](Self::new_attachment) of all that a reader gives, in memory of about 2 MiB. The
    /// reader may block; it is read on a thread of this crate.
    ///
    /// # Errors
    /// As [`new_attachment`](Self::new_attachment).
    pub async fn new_attachment_from_reader(
        &self,
        reader: impl Read + Send + 'static,
        metadata: AttachmentMetadata,
    ) -> Result<Attachment, Error> {
        self.make(Content::Reader(Box::new(reader)), metadata).await
    }

    /// [`new_attachment_from_reader`](Self::new_attachment_from_reader) on the calling thread.
    ///
    /// # Errors
    /// As [`new_attachment`](Self::new_attachment).
    pub fn new_attachment_from_reader_blocking(
        &self,
        reader: impl Read + Send + 'static,
        metadata: AttachmentMetadata,
    ) -> Result<Attachment, Error> {
        attachment::make(&self.core, Content::Reader(Box::new(reader)), metadata)
    }

    async fn make(
        &self,
        content: Content,
        metadata: AttachmentMetadata,
    ) -> Result<Attachment, Error> {
        let core = Arc::clone(&self.core);
        let work = move || attachment::make(&core, content, metadata);
        self.core.lanes.run(Lane::Reading, work).await
    }

    /// Brings the content of an attachment here, from any peers that have it, several at once, unless it is
    /// here. `handler` hears how it goes on, on a thread of this crate. What came is kept across restarts, and
    /// a later fetch goes on there.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), or if the files of attachments cannot be opened.
    pub fn fetch_attachment(
        &self,
        token: &AttachmentToken,
        handler: impl FnMut(AttachmentFetchEvent) + Send + 'static,
    ) -> Result<AttachmentFetcher, Error> {
        self.fetch_attachment_with(token, FetchOptions::new(), handler)
    }

    /// [`fetch_attachment`](Self::fetch_attachment) with options.
    ///
    /// # Errors
    /// As [`fetch_attachment`](Self::fetch_attachment).
    pub fn fetch_attachment_with(
        &self,
        token: &AttachmentToken,
        options: FetchOptions,
        handler: impl FnMut(AttachmentFetchEvent) + Send + 'static,
    ) -> Result<AttachmentFetcher, Error> {
        attachment::fetch(&self.core, token, options, handler)
    }

    /// Deletes now, and not within ten minutes, the attachments that no document refers to and that have
    /// been here for longer than the grace period. Reads all documents.
    ///
    /// # Errors
    /// If documents or files cannot be read.
    pub fn collect_attachments_blocking(&self) -> Result<AttachmentsCollected, Error> {
        attachment::collect(&self.core)
    }
}
