//! Which tables there are and how their keys are made (docs/format/disk.md, "Store tables").
//!
//! Every integer in a key is big-endian, so that byte order is numeric order.

use idem_kv::Table;
use idem_model::{CollectionName, DecodeError, DocId, PeerId};

/// `collection u32 | id key` -> row header and encoded document.
pub(crate) const DOCUMENTS: Table = Table(0);
/// `collection u32 | commit u64 | id key` -> the group number inside that commit, varint.
pub(crate) const BY_SEQ: Table = Table(1);
/// `index u32 | field keys | id key` -> length of the id key, varint.
pub(crate) const INDEX: Table = Table(2);
/// `commit u64 | group u32 | part u8` -> who shares a transaction with whom.
pub(crate) const GROUPS: Table = Table(3);
/// One tag byte, then what the tag says.
pub(crate) const SYSTEM: Table = Table(4);
/// `expiry ms u64 | collection u32 | id key` -> when it came here, varint.
pub(crate) const TOMBSTONES: Table = Table(5);

/// The format version, `u32`.
pub(crate) const SYSTEM_FORMAT: &[u8] = b"v";
/// The head: actor, counters and clock.
pub(crate) const SYSTEM_HEAD: &[u8] = b"h";
/// The opening: the nonce of this opening and where the store lies.
pub(crate) const SYSTEM_OPENING: &[u8] = b"o";

/// How many evicted documents have a marker, and the last number of a subscription.
pub(crate) const SYSTEM_MARKS: &[u8] = b"m";
/// There while markers may name subscriptions that are gone: the key behind which they are.
pub(crate) const SYSTEM_SWEEP: &[u8] = b"x";

/// When the latest of the tombstones that are gone came here, and how many they are.
pub(crate) const SYSTEM_REMOVED: &[u8] = b"g";

/// When the last round began that removed tombstones: Unix ms, varint.
pub(crate) const SYSTEM_ROUND: &[u8] = b"r";

const TAG_COLLECTION: u8 = b'c';
const TAG_COUNT: u8 = b'n';
const TAG_INDEX: u8 = b'i';
const TAG_BUILD: u8 = b'b';
const TAG_PURGE: u8 = b'd';
const TAG_TALLY: u8 = b't';
const TAG_PARAMETER: u8 = b'p';
const TAG_CURSOR: u8 = b's';
const TAG_EVICTED: u8 = b'e';
const TAG_SUBSCRIPTION: u8 = b'q';
const TAG_QUARANTINED: u8 = b'k';
const TAG_SYNCED: u8 = b'y';
const TAG_OVERSIZED: u8 = b'z';
const TAG_GONE: u8 = b'f';
const TAG_PROJECTION: u8 = b'w';

pub(crate) fn document(collection: u32, id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + id.len());
    key.extend_from_slice(&collection.to_be_bytes());
    key.extend_from_slice(id);
    key
}

/// The key of a document in [`DOCUMENTS`].
pub(crate) fn document_of(collection: u32, id: &DocId) -> Vec<u8> {
    let mut key = Vec::with_capacity(44);
    key.extend_from_slice(&collection.to_be_bytes());
    idem_model::key::encode(id.as_value(), &mut key);
    key
}

/// Splits a key of [`DOCUMENTS`].
pub(crate) fn split_document(key: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    let (collection, id) = key.split_first_chunk().ok_or(truncated(key, 4))?;
    Ok((u32::from_be_bytes(*collection), id))
}

pub(crate) fn by_seq(collection: u32, commit: u64, id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(12 + id.len());
    by_seq_into(collection, commit, id, &mut key);
    key
}

/// As [`by_seq`], in place of what `key` holds.
pub(crate) fn by_seq_into(collection: u32, commit: u64, id: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(&collection.to_be_bytes());
    key.extend_from_slice(&commit.to_be_bytes());
    key.extend_from_slice(id);
}

/// Splits a key of [`BY_SEQ`] into commit and id; the collection is the caller's.
pub(crate) fn split_by_seq(key: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    let rest = key.get(4..).ok_or(truncated(key, 4))?;
    let (commit, id) = rest.split_first_chunk().ok_or(truncated(key, 12))?;
    Ok((u64::from_be_bytes(*commit), id))
}

pub(crate) fn tombstone(expiry_ms: u64, collection: u32, id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(12 + id.len());
    key.extend_from_slice(&expiry_ms.to_be_bytes());
    key.extend_from_slice(&collection.to_be_bytes());
    key.extend_from_slice(id);
    key
}

/// Splits a key of [`TOMBSTONES`] into expiry, collection and id.
pub(crate) fn split_tombstone(key: &[u8]) -> Result<(u64, u32, &[u8]), DecodeError> {
    let (expiry_ms, rest) = key.split_first_chunk().ok_or(truncated(key, 8))?;
    let (collection, id) = rest.split_first_chunk().ok_or(truncated(key, 12))?;
    let collection = u32::from_be_bytes(*collection);
    Ok((u64::from_be_bytes(*expiry_ms), collection, id))
}

pub(crate) fn index_prefix(index: u32) -> [u8; 4] {
    index.to_be_bytes()
}

/// The number of the index that a key of [`INDEX`] belongs to.
pub(crate) fn index_of(key: &[u8]) -> Result<u32, DecodeError> {
    let (index, _) = key.split_first_chunk().ok_or(truncated(key, 4))?;
    Ok(u32::from_be_bytes(*index))
}

/// The parts of one group in [`GROUPS`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupPart {
    Head = 0,
    Members = 1,
}

pub(crate) fn group(commit: u64, number: u32, part: GroupPart) -> [u8; 13] {
    let mut key = [0; 13];
    key[..8].copy_from_slice(&commit.to_be_bytes());
    key[8..12].copy_from_slice(&number.to_be_bytes());
    key[12] = part as u8;
    key
}

pub(crate) fn collection(ordinal: u32) -> Vec<u8> {
    tagged(TAG_COLLECTION, &ordinal.to_be_bytes())
}

/// Which projection a collection belongs to.
pub(crate) fn projection(collection: u32) -> Vec<u8> {
    tagged(TAG_PROJECTION, &collection.to_be_bytes())
}

pub(crate) fn count(collection: u32) -> Vec<u8> {
    tagged(TAG_COUNT, &collection.to_be_bytes())
}

pub(crate) fn index_definition(index: u32) -> Vec<u8> {
    tagged(TAG_INDEX, &index.to_be_bytes())
}

/// How far the build of an index has come; there is no row once it is complete.
pub(crate) fn index_build(index: u32) -> Vec<u8> {
    tagged(TAG_BUILD, &index.to_be_bytes())
}

/// An index that was dropped and whose entries are not all deleted.
pub(crate) fn index_purge(index: u32) -> Vec<u8> {
    tagged(TAG_PURGE, &index.to_be_bytes())
}

/// What was counted in an index.
pub(crate) fn index_tally(index: u32) -> Vec<u8> {
    tagged(TAG_TALLY, &index.to_be_bytes())
}

pub(crate) fn parameter(name: &str) -> Vec<u8> {
    tagged(TAG_PARAMETER, name.as_bytes())
}

pub(crate) fn cursor(peer: PeerId, subscription: &[u8]) -> Vec<u8> {
    let mut key = tagged(TAG_CURSOR, &peer.0);
    key.extend_from_slice(subscription);
    key
}

/// The range of [`cursor`] rows.
pub(crate) const CURSOR_RANGE: [u8; 2] = [TAG_CURSOR, TAG_CURSOR + 1];

/// The number of a subscription from which something was evicted.
pub(crate) fn subscription(id: &[u8; 32]) -> Vec<u8> {
    tagged(TAG_SUBSCRIPTION, id)
}

/// The range of [`subscription`] rows; the rest of a key is the name of the subscription.
pub(crate) const SUBSCRIPTION_RANGE: [u8; 2] = [TAG_SUBSCRIPTION, TAG_SUBSCRIPTION + 1];

/// What is kept of a document that was evicted (see [`crate::evictions`]).
pub(crate) fn evicted(document: &[u8]) -> Vec<u8> {
    tagged(TAG_EVICTED, document)
}

/// The range of [`evicted`] rows; the rest of a key is that of the documents table.
pub(crate) const EVICTED_RANGE: [u8; 2] = [TAG_EVICTED, TAG_EVICTED + 1];

/// Up to when everything was taken in that a peer had of a collection.
pub(crate) fn synced(peer: PeerId, collection: &CollectionName) -> Vec<u8> {
    let mut key = tagged(TAG_SYNCED, &peer.0);
    key.extend_from_slice(collection.as_str().as_bytes());
    key
}

/// Notes that a document does not travel (see [`crate::quarantine`]).
pub(crate) fn quarantined(document: &[u8]) -> Vec<u8> {
    tagged(TAG_QUARANTINED, document)
}

/// The range of [`quarantined`] rows; the rest of a key is that of the documents table.
pub(crate) const QUARANTINE_RANGE: [u8; 2] = [TAG_QUARANTINED, TAG_QUARANTINED + 1];

/// What is known of the documents of a collection of which nothing is kept (see [`crate::gone`]).
pub(crate) fn gone(collection: u32) -> Vec<u8> {
    tagged(TAG_GONE, &collection.to_be_bytes())
}

/// Notes that a document is too large to be written here.
pub(crate) fn oversized(document: &[u8]) -> Vec<u8> {
    tagged(TAG_OVERSIZED, document)
}

/// The range of [`oversized`] rows; the rest of a key is that of the documents table.
pub(crate) const OVERSIZED_RANGE: [u8; 2] = [TAG_OVERSIZED, TAG_OVERSIZED + 1];

/// The rows of [`SYSTEM`] that make the catalog: one range per tag, what is referred to first.
pub(crate) const CATALOG_TAGS: [u8; 7] = [
    TAG_COLLECTION,
    TAG_PROJECTION,
    TAG_INDEX,
    TAG_BUILD,
    TAG_PURGE,
    TAG_TALLY,
    TAG_PARAMETER,
];

/// What a catalog row is about.
pub(crate) enum CatalogKey<'a> {
    Collection(u32),
    Projection(u32),
    Index(u32),
    Build(u32),
    Purge(u32),
    Tally(u32),
    Parameter(&'a str),
}

pub(crate) fn split_catalog(key: &[u8]) -> Result<CatalogKey<'_>, DecodeError> {
    let invalid = DecodeError::Invalid {
        what: "catalog key",
        at: 0,
    };
    let ordinal = |rest: &[u8]| <[u8; 4]>::try_from(rest).map(u32::from_be_bytes);
    match key.split_first() {
        Some((&TAG_COLLECTION, rest)) => ordinal(rest).map(CatalogKey::Collection),
        Some((&TAG_PROJECTION, rest)) => ordinal(rest).map(CatalogKey::Projection),
        Some((&TAG_INDEX, rest)) => ordinal(rest).map(CatalogKey::Index),
        Some((&TAG_BUILD, rest)) => ordinal(rest).map(CatalogKey::Build),
        Some((&TAG_PURGE, rest)) => ordinal(rest).map(CatalogKey::Purge),
        Some((&TAG_TALLY, rest)) => ordinal(rest).map(CatalogKey::Tally),
        Some((&TAG_PARAMETER, rest)) => {
            let name = str::from_utf8(rest).map_err(|_| invalid)?;
            return Ok(CatalogKey::Parameter(name));
        }
        _ => return Err(invalid),
    }
    .map_err(|_| invalid)
}

/// The group of a head row; `None` for a row of another part.
pub(crate) fn split_group_head(key: &[u8]) -> Result<Option<(u64, u32)>, DecodeError> {
    let (commit, rest) = key.split_first_chunk().ok_or(truncated(key, 8))?;
    let (number, part) = rest.split_first_chunk().ok_or(truncated(key, 12))?;
    let id = (u64::from_be_bytes(*commit), u32::from_be_bytes(*number));
    Ok((part == [GroupPart::Head as u8]).then_some(id))
}

/// Names a row for a person, as far as its key can be read.
pub(crate) fn name(table: Table, key: &[u8]) -> String {
    let name = match table {
        DOCUMENTS => {
            if let Ok((collection, id)) = split_document(key)
                && let Ok(id) = DocId::from_key(id)
            {
                return format!("document {id} of collection {collection}");
            }
            "documents"
        }
        BY_SEQ => "order of arrival",
        INDEX => "indexes",
        GROUPS => "groups",
        SYSTEM => "system",
        TOMBSTONES => "tombstones",
        _ => "unknown",
    };
    let hex: String = key
        .iter()
        .take(32)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("row {hex} of the table {name}")
}

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(tag);
    key.extend_from_slice(rest);
    key
}

fn truncated(key: &[u8], needed: usize) -> DecodeError {
    DecodeError::Truncated {
        at: key.len(),
        needed,
    }
}
