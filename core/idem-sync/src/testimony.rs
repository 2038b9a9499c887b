//! What this side tells the other one of single documents that it holds.

use idem_crdt::encoded_version;
use idem_model::{DocumentKey, VersionVector, limits};
use idem_wire::{Announced, DocumentVersion, HeldVersion, Message};

use crate::{
    failure::Failure,
    replica::Replica,
    sketch::{Item, Salt},
};

/// Where WANT and ANSWER frames are cut. With one more document they stay below 16 KiB, the smallest
/// limit that a link may have.
const FRAME_BYTES: usize = 8 * 1024;

/// A version of more bytes is not named: some 230 actors. Its document is larger still, and is sent
/// whole.
const NAMED_VERSION_BYTES_MAX: usize = 6 * 1024;

/// The ANSWER frames to an announcement.
pub(crate) fn answers<R: Replica>(
    number: u64,
    documents: &[Announced],
    (salt, is_big_peer): (Salt, bool),
    replica: &R,
) -> Result<Vec<Vec<u8>>, Failure> {
    let mut frames = Vec::new();
    let mut holdings = Vec::new();
    let mut bytes = 0;
    for announced in documents {
        // The last frame is made below, so that it is the one that nothing follows.
        if bytes > FRAME_BYTES {
            let holdings = std::mem::take(&mut holdings);
            frames.push(answer(number, true, holdings));
            bytes = 0;
        }
        if !replica
            .sync_scope(&announced.key.collection)
            .includes(is_big_peer)
        {
            // It is not told what is held, and must not believe that it is nothing.
            holdings.push(HeldVersion::Unnamed);
            continue;
        }
        let held = held_version(&announced.key, replica)?;
        holdings.push(match held {
            None => HeldVersion::Nothing,
            Some(version) if is_announced(&version, announced, salt) => HeldVersion::Announced,
            Some(version) if is_nameable(&version) => {
                bytes += version_bytes(&version);
                HeldVersion::Other(version)
            }
            Some(_) => HeldVersion::Unnamed,
        });
    }
    frames.push(answer(number, false, holdings));
    Ok(frames)
}

fn answer(number: u64, more: bool, holdings: Vec<HeldVersion>) -> Vec<u8> {
    let answer = Message::Answer {
        number,
        more,
        holdings,
    };
    answer.to_bytes()
}

/// The WANT frames that tell what is held of documents.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) frames: Vec<Vec<u8>>,
    /// Whether documents were left out.
    pub(crate) is_cut: bool,
}

/// Tells what is held of `keys`, in their order, until that takes `bytes_max` bytes or, by less than a
/// frame, more. Of a collection that does not sync with the remote it is told that nothing is held.
pub(crate) fn held_versions<R: Replica>(
    keys: Vec<DocumentKey>,
    bytes_max: usize,
    (is_big_peer, replica): (bool, &R),
) -> Result<Told, Failure> {
    let mut frames = Vec::new();
    let mut is_cut = false;
    let mut documents = Vec::new();
    let (mut bytes, mut bytes_told) = (0, 0);
    let mut finish = |documents: &mut Vec<DocumentVersion>| {
        let documents = std::mem::take(documents);
        let frame = Message::Want { documents }.to_bytes();
        let len = frame.len();
        frames.push(frame);
        len
    };
    for key in keys {
        if bytes_told >= bytes_max {
            is_cut = true;
            break;
        }
        let is_open = replica.sync_scope(&key.collection).includes(is_big_peer);
        let held = if is_open {
            held_version(&key, replica)?
        } else {
            None
        };
        // What cannot be named is sent whole by the remote.
        let version = held.filter(is_nameable).unwrap_or_default();
        let key_bytes = key.collection.as_str().len() + key.id.to_key().len() + 8;
        bytes += key_bytes + version_bytes(&version);
        documents.push(DocumentVersion { key, version });
        if documents.len() == limits::VERSIONS_PER_FRAME_MAX || bytes > FRAME_BYTES {
            bytes_told += finish(&mut documents);
            bytes = 0;
        }
    }
    if !documents.is_empty() {
        finish(&mut documents);
    }
    Ok(Told { frames, is_cut })
}

fn held_version<R: Replica>(
    key: &DocumentKey,
    replica: &R,
) -> Result<Option<VersionVector>, Failure> {
    let held = replica
        .document(key)
        .map_err(|error| Failure::store(&error))?;
    let version = held.map(|held| encoded_version(&held)).transpose();
    version.map_err(|error| Failure::stored_bytes(&error))
}

fn is_announced(version: &VersionVector, announced: &Announced, salt: Salt) -> bool {
    let key = &announced.key;
    let item = Item::of(&salt, &key.collection, &key.id, version);
    item.version == announced.version
}

fn is_nameable(version: &VersionVector) -> bool {
    version_bytes(version) <= NAMED_VERSION_BYTES_MAX
}

/// At most this many bytes on the wire.
fn version_bytes(version: &VersionVector) -> usize {
    version.len() * 26 + 3
}
