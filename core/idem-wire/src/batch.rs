//! The body of a transfer: atomic groups of documents, and the cursors that they bring forward.

use std::collections::BTreeMap;

use idem_model::{
    CollectionName, DecodeError, DocId, DocumentKey,
    codec::{Reader, put_bytes, put_varint},
    limits,
};

use crate::decode::{collection, small};

// Bits of the byte that starts a record (docs/format/wire.md, "Batches").
const CURSOR: u8 = 0x80;
const CURSOR_CAUGHT_UP: u8 = 0x01;
const ANNOUNCED: u8 = 0xc0;
const ANSWERED: u8 = 0xa0;
const ANSWERED_LACKING: u8 = 0x01;
const DOCUMENT_DELTA: u8 = 0x01;
const DOCUMENT_ENDS_GROUP: u8 = 0x02;
const DOCUMENT_NAMES_COLLECTION: u8 = 0x04;
const DOCUMENT_LEFT: u8 = 0x08;

/// A change that is announced: 8 bytes that whoever has it makes of the document and its version alike
/// (docs/format/wire.md, "Announcements").
pub type AnnouncedItem = [u8; 8];

/// Writes a batch. Groups come first, then the answer to a PULL, announcements, and cursors.
#[derive(Debug, Default)]
pub struct BatchWriter {
    out: Vec<u8>,
    names: BTreeMap<CollectionName, u64>,
    /// Where the tag of the last document stands, to mark the end of its group.
    last_tag: Option<usize>,
    documents: u64,
}

impl BatchWriter {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a document to the group under way. `state` is a delta or a whole document.
    ///
    /// # Panics
    /// If a cursor was written already.
    pub fn document(&mut self, key: &DocumentKey, delta: bool, state: &[u8]) {
        assert!(
            self.last_tag.is_some() || self.out.is_empty(),
            "documents come before cursors"
        );
        self.last_tag = Some(self.out.len());
        self.documents += 1;
        let tag = if delta { DOCUMENT_DELTA } else { 0 };
        if let Some(&number) = self.names.get(&key.collection) {
            self.out.push(tag);
            put_varint(&mut self.out, number);
        } else {
            self.out.push(tag | DOCUMENT_NAMES_COLLECTION);
            put_bytes(&mut self.out, key.collection.as_str().as_bytes());
            if self.names.len() < limits::BATCH_COLLECTIONS_MAX {
                let number = self.names.len() as u64;
                self.names.insert(key.collection.clone(), number);
            }
        }
        put_bytes(&mut self.out, &key.id.to_key());
        put_bytes(&mut self.out, state);
    }

    /// Says of the document that was added last that it matches none of the receiver's subscriptions.
    ///
    /// # Panics
    /// If no document was added.
    pub fn mark_left(&mut self) {
        let tag = self.last_tag.expect("a document was added");
        self.out[tag] |= DOCUMENT_LEFT;
    }

    /// Ends the group under way.
    ///
    /// # Panics
    /// If no document was added.
    pub fn end_group(&mut self) {
        let tag = self.last_tag.expect("a group holds at least one document");
        self.out[tag] |= DOCUMENT_ENDS_GROUP;
    }

    /// Says that the oldest PULL that was not answered is, by all that was sent up to here. `is_lacking` says
    /// that some of it is not here any more.
    pub fn answered(&mut self, is_lacking: bool) {
        self.last_tag = None;
        self.out.push(ANSWERED | u8::from(is_lacking));
    }

    /// Announces changes instead of sending them.
    ///
    /// # Panics
    /// If they are none, or more than `limits::ANNOUNCED_PER_BATCH_MAX`.
    pub fn announced(&mut self, items: &[AnnouncedItem]) {
        assert!((1..=limits::ANNOUNCED_PER_BATCH_MAX).contains(&items.len()));
        self.last_tag = None;
        self.out.push(ANNOUNCED);
        put_varint(&mut self.out, items.len() as u64);
        self.out.extend_from_slice(items.as_flattened());
    }

    /// Adds a cursor. `caught_up` says that all that was there at the start was sent.
    pub fn cursor(&mut self, alias: u32, commit: u64, caught_up: bool) {
        self.last_tag = None;
        self.out
            .push(CURSOR | if caught_up { CURSOR_CAUGHT_UP } else { 0 });
        put_varint(&mut self.out, u64::from(alias));
        put_varint(&mut self.out, commit);
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The body.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }
}

/// One record of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BatchItem<'a> {
    /// A document.
    Document(BatchDocument<'a>),
    /// The oldest PULL that was not answered is.
    Answered {
        /// Whether some of what it asked for is not there any more.
        is_lacking: bool,
    },
    /// Changes that may be asked for with a PULL.
    Announced(&'a [AnnouncedItem]),
    /// A cursor moves.
    Cursor {
        /// The number of the subscription on this link.
        alias: u32,
        /// Everything up to here was sent.
        commit: u64,
        /// Whether all that was there when the subscription started was sent.
        caught_up: bool,
    },
}

/// A document of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchDocument<'a> {
    /// Which document.
    pub key: DocumentKey,
    /// Whether `state` is a delta, not a whole document.
    pub delta: bool,
    /// Its encoded state, opaque here.
    pub state: &'a [u8],
    /// Whether it matches none of the receiver's subscriptions, and the sender keeps it.
    pub has_left: bool,
    /// Whether it is the last of its atomic group.
    pub ends_group: bool,
}

/// Reads a batch record by record.
#[derive(Debug)]
pub struct BatchReader<'a> {
    reader: Reader<'a>,
    names: Vec<CollectionName>,
    /// The numbers of the names, in the order of the names.
    sorted: Vec<u16>,
    in_group: bool,
    /// Which kind of record came last: they come in the order of these numbers.
    stage: u8,
    cursors: usize,
}

// The order of records.
const STAGE_ANSWERED: u8 = 1;
const STAGE_ANNOUNCED: u8 = 2;
const STAGE_CURSOR: u8 = 3;

impl<'a> BatchReader<'a> {
    /// Reads from the start of `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(body),
            names: Vec::new(),
            sorted: Vec::new(),
            in_group: false,
            stage: 0,
            cursors: 0,
        }
    }

    /// The next record, `None` at the end.
    ///
    /// # Errors
    /// [`DecodeError`] if the body is broken, or ends inside a group.
    pub fn next_item(&mut self) -> Result<Option<BatchItem<'a>>, DecodeError> {
        if self.reader.is_empty() {
            return if self.in_group {
                Err(self.invalid("end inside a group"))
            } else {
                Ok(None)
            };
        }
        let tag = self.reader.byte()?;
        match tag {
            0..CURSOR => self.document(tag).map(|it| Some(BatchItem::Document(it))),
            ANNOUNCED => self.announced().map(Some),
            _ if tag & !ANSWERED_LACKING == ANSWERED => self.answered(tag).map(Some),
            _ => self.cursor(tag).map(Some),
        }
    }

    fn document(&mut self, tag: u8) -> Result<BatchDocument<'a>, DecodeError> {
        let kind = DOCUMENT_DELTA | DOCUMENT_LEFT;
        let known = kind | DOCUMENT_ENDS_GROUP | DOCUMENT_NAMES_COLLECTION;
        if tag & !known != 0 || self.stage > 0 {
            return Err(self.invalid("document record"));
        }
        let collection = if tag & DOCUMENT_NAMES_COLLECTION == 0 {
            let number: usize = small(&mut self.reader, "collection number")?;
            let name = self.names.get(number).cloned();
            name.ok_or_else(|| self.invalid("collection number"))?
        } else {
            let name = collection(&mut self.reader)?;
            self.number(&name)?;
            name
        };
        let id = self
            .reader
            .bytes("document id", limits::DOC_ID_BYTES_MAX)
            .and_then(DocId::from_key)?;
        let state = self
            .reader
            .bytes("document state", limits::DOCUMENT_MERGED_BYTES_MAX)?;
        let ends_group = tag & DOCUMENT_ENDS_GROUP != 0;
        self.in_group = !ends_group;
        Ok(BatchDocument {
            key: DocumentKey { collection, id },
            delta: tag & DOCUMENT_DELTA != 0,
            state,
            has_left: tag & DOCUMENT_LEFT != 0,
            ends_group,
        })
    }

    /// Gives a name the next number, if there is one.
    fn number(&mut self, name: &CollectionName) -> Result<(), DecodeError> {
        let place = (self.sorted).binary_search_by(|it| self.names[usize::from(*it)].cmp(name));
        let Err(place) = place else {
            return Err(self.invalid("collection that has a number"));
        };
        if self.names.len() < limits::BATCH_COLLECTIONS_MAX {
            let number = u16::try_from(self.names.len()).expect("below the limit");
            self.sorted.insert(place, number);
            self.names.push(name.clone());
        }
        Ok(())
    }

    /// Goes on to a kind of record that comes once.
    fn enter(&mut self, stage: u8) -> Result<(), DecodeError> {
        if self.in_group || self.stage >= stage {
            return Err(self.invalid("order of records"));
        }
        self.stage = stage;
        Ok(())
    }

    fn answered(&mut self, tag: u8) -> Result<BatchItem<'a>, DecodeError> {
        self.enter(STAGE_ANSWERED)?;
        let is_lacking = tag & ANSWERED_LACKING != 0;
        Ok(BatchItem::Answered { is_lacking })
    }

    fn announced(&mut self) -> Result<BatchItem<'a>, DecodeError> {
        self.enter(STAGE_ANNOUNCED)?;
        let count = (self.reader).count("announcements", limits::ANNOUNCED_PER_BATCH_MAX, 8)?;
        let (items, _) = self.reader.take(8 * count)?.as_chunks();
        if items.is_empty() {
            return Err(self.invalid("number of announcements"));
        }
        Ok(BatchItem::Announced(items))
    }

    fn cursor(&mut self, tag: u8) -> Result<BatchItem<'a>, DecodeError> {
        self.cursors += 1;
        self.stage = STAGE_CURSOR;
        let misplaced = self.in_group || self.cursors > limits::BATCH_CURSORS_MAX;
        if tag & !(CURSOR | CURSOR_CAUGHT_UP) != 0 || misplaced {
            return Err(self.invalid("cursor record"));
        }
        Ok(BatchItem::Cursor {
            alias: small(&mut self.reader, "subscription number")?,
            commit: self.reader.varint()?,
            caught_up: tag & CURSOR_CAUGHT_UP != 0,
        })
    }

    fn invalid(&self, what: &'static str) -> DecodeError {
        DecodeError::Invalid {
            what,
            at: self.reader.position(),
        }
    }
}
