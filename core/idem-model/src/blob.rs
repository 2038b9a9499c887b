//! Names and shape of blobs, the content of attachments.
//!
//! A blob is named by its BLAKE3 hash, which is the root of a tree over its bytes. The leaves used here are
//! *groups* of 16 KiB; a *node* is a group or what a node above groups spans. Whoever knows the hash and the
//! length can check any node alone, given the hashes of the nodes beside the way from it to the root.
//!
//! Nothing here hashes: these are the numbers that who asks, who answers and who stores agree on.

mod groups;

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{DecodeError, IdParseError, codec::Reader, codec::put_varint, limits};

pub use groups::GroupSet;

/// Bytes of a group.
pub const GROUP_BYTES: u64 = 16 * 1024;

/// Bytes of the hash of a node.
pub const PART_HASH_BYTES: usize = 32;

/// A blob by its content: its BLAKE3 hash. As text it is URL-safe base64 without padding, 43 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub [u8; 32]);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({}..)", &self.to_string()[..6])
    }
}

impl std::str::FromStr for BlobId {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, IdParseError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let id = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        id.map(Self)
            .ok_or_else(|| IdParseError::of("blob id (43 characters of base64)", text))
    }
}

/// A blob as tokens and requests name it. The length is part of the name since the shape of the tree
/// follows from it; a wrong one fits no content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlobKey {
    /// The hash.
    pub id: BlobId,
    /// Bytes, at most [`limits::BLOB_BYTES_MAX`].
    pub len: u64,
}

impl BlobKey {
    /// How many groups there are; an empty blob has one.
    pub fn groups(self) -> u64 {
        self.len.div_ceil(GROUP_BYTES).max(1)
    }

    /// The node that spans everything.
    pub fn root(self) -> BlobPart {
        BlobPart {
            first: 0,
            level: level_of(self.groups()),
        }
    }

    /// The node of up to `2^level` groups that begins with `first`, or `None` if that is not one.
    pub fn part(self, first: u64, level: u8) -> Option<BlobPart> {
        let groups = self.groups();
        if first >= groups || level > 63 || first & ((1 << level) - 1) != 0 {
            return None;
        }
        // At the right edge fewer groups are left, and the node is lower than it could be.
        let spanned = (groups - first).min(1 << level);
        Some(BlobPart {
            first,
            level: level_of(spanned),
        })
    }

    /// The node of at most `2^level` groups that has `group` in it.
    ///
    /// # Panics
    /// If there is no such group.
    pub fn part_around(self, group: u64, level: u8) -> BlobPart {
        let first = group >> level << level;
        self.part(first, level)
            .expect("an aligned node of a group that exists")
    }

    /// How many groups `node` spans.
    pub fn groups_of(self, node: BlobPart) -> u64 {
        (self.groups() - node.first).min(1 << node.level)
    }

    /// Where the bytes of `node` begin.
    pub fn offset_of(self, node: BlobPart) -> u64 {
        node.first * GROUP_BYTES
    }

    /// How many bytes `node` has.
    pub fn bytes_of(self, node: BlobPart) -> u64 {
        let end = (node.first + (1 << node.level)) * GROUP_BYTES;
        end.min(self.len) - self.offset_of(node)
    }

    /// How many bytes the groups of a set have.
    pub fn bytes_in(self, groups: &GroupSet) -> u64 {
        let last = self.groups() - 1;
        let short = if groups.contains(last) {
            self.groups() * GROUP_BYTES - self.len
        } else {
            0
        };
        groups.count() * GROUP_BYTES - short
    }

    /// The two nodes that `node` consists of; `None` for a group.
    pub fn children_of(self, node: BlobPart) -> Option<(BlobPart, BlobPart)> {
        let below = node.level.checked_sub(1)?;
        let left = BlobPart {
            first: node.first,
            level: below,
        };
        let right = self.part(node.first + (1 << below), below)?;
        Some((left, right))
    }

    /// The nodes beside the way from the root down to `node`, the largest first. With their hashes the
    /// bytes of `node` can be checked.
    pub fn proof_of(self, node: BlobPart) -> Vec<BlobPart> {
        let mut beside = Vec::new();
        let mut at = self.root();
        while at != node
            && let Some((left, right)) = self.children_of(at)
        {
            if node.first < right.first {
                beside.push(right);
                at = left;
            } else {
                beside.push(left);
                at = right;
            }
        }
        beside
    }

    /// Bytes of a piece that carries `node`: the hashes of its proof, then its content.
    pub fn piece_bytes_of(self, node: BlobPart) -> u64 {
        (self.proof_of(node).len() * PART_HASH_BYTES) as u64 + self.bytes_of(node)
    }

    /// Appends the key: 33 to 38 bytes.
    pub fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        put_varint(out, self.len);
    }

    /// Reads [`encode`](Self::encode).
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes end or the length is over the limit.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = BlobId(reader.array()?);
        let len = reader.varint()?;
        if len > limits::BLOB_BYTES_MAX {
            return Err(DecodeError::TooLarge {
                what: "length of a blob",
                value: len,
                limit: limits::BLOB_BYTES_MAX,
            });
        }
        Ok(Self { id, len })
    }
}

/// A part of a blob that has a hash: the groups from `first` on, `2^level` of them or fewer at the end of
/// the blob. Made by [`BlobKey`], which sees to it that it is one, in its only form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlobPart {
    first: u64,
    level: u8,
}

impl BlobPart {
    /// The number of its first group.
    pub fn first(self) -> u64 {
        self.first
    }

    /// The smallest level at which `2^level` groups are enough for it.
    pub fn level(self) -> u8 {
        self.level
    }

    /// Its place among the nodes of its blob, from left to right: groups have the even places. It does
    /// not depend on the length of the blob.
    pub fn place(self) -> u64 {
        2 * self.first + (1 << self.level) - 1
    }
}

/// The smallest level whose nodes have room for `groups`.
fn level_of(groups: u64) -> u8 {
    u8::try_from(groups.next_power_of_two().trailing_zeros()).expect("at most 64")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(groups: u64) -> BlobKey {
        BlobKey {
            id: BlobId([0; 32]),
            len: groups * GROUP_BYTES - 1,
        }
    }

    #[test]
    fn text_and_id_are_the_same() {
        let id = BlobId(std::array::from_fn(|at| u8::try_from(at * 7).unwrap()));
        assert_eq!(id.to_string().len(), 43);
        assert_eq!(id.to_string().parse::<BlobId>().unwrap(), id);
        assert!("short".parse::<BlobId>().is_err());
        assert!(format!("{id}=").parse::<BlobId>().is_err());
    }

    #[test]
    fn nodes_split_into_what_they_span_and_have_places_of_their_own() {
        for groups in 1..70 {
            let key = key(groups);
            let mut places = std::collections::BTreeSet::new();
            let mut open = vec![key.root()];
            let mut leaves = 0;
            while let Some(node) = open.pop() {
                assert!(places.insert(node.place()), "{groups} {node:?}");
                assert!(node.place() < 2 * groups - 1);
                assert_eq!(key.part(node.first, node.level), Some(node));
                match key.children_of(node) {
                    None => {
                        assert_eq!(key.groups_of(node), 1);
                        leaves += 1;
                    }
                    Some((left, right)) => {
                        let both = key.bytes_of(left) + key.bytes_of(right);
                        assert_eq!(both, key.bytes_of(node));
                        assert_eq!(
                            key.offset_of(right),
                            key.offset_of(left) + key.bytes_of(left)
                        );
                        assert_eq!(
                            key.bytes_of(left),
                            blake3_left_len(key.bytes_of(node)),
                            "the left side is the largest power of two"
                        );
                        open.extend([left, right]);
                    }
                }
            }
            assert_eq!(leaves, groups);
        }
    }

    /// What the hash function defines as the length of the left subtree.
    fn blake3_left_len(len: u64) -> u64 {
        1 << (63 - (len - 1).leading_zeros())
    }

    #[test]
    fn a_proof_and_its_node_make_the_whole() {
        for groups in 1..70 {
            let key = key(groups);
            for group in 0..groups {
                for level in 0..7 {
                    let node = key.part_around(group, level);
                    let proof = key.proof_of(node);
                    let rest: u64 = proof.iter().map(|beside| key.bytes_of(*beside)).sum();
                    assert_eq!(rest + key.bytes_of(node), key.len);
                }
            }
        }
    }

    #[test]
    fn what_is_no_node_is_refused() {
        let key = key(5);
        assert_eq!(key.part(5, 0), None);
        assert_eq!(key.part(1, 1), None);
        assert_eq!(key.part(0, 64), None);
        assert_eq!(key.part(4, 2), key.part(4, 0));
    }
}
