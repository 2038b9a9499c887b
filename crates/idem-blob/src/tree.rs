//! Hashes of the nodes of a blob.

use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use idem_model::{
    BlobId, BlobKey, BlobPart,
    blob::{GROUP_BYTES, PART_HASH_BYTES},
    limits,
};

/// The hash of a node that is not the root.
pub(crate) type PartHash = [u8; PART_HASH_BYTES];

/// Level of the largest node whose hashes are made and written at once: 1 MiB of content.
pub(crate) const BATCH_LEVEL: u8 = 6;

/// The groups of a batch.
pub(crate) const BATCH_GROUPS: u64 = 1 << BATCH_LEVEL;

/// The bytes of a batch.
pub(crate) const BATCH_BYTES: u64 = BATCH_GROUPS * GROUP_BYTES;

/// The level of the nodes that are hashed one after the other to find the root of a blob that has a tree.
pub(crate) fn part_level(key: BlobKey) -> u8 {
    BATCH_LEVEL.min(key.root().level().saturating_sub(1))
}

/// The nodes of [`part_level`], in order.
pub(crate) fn parts(key: BlobKey) -> impl Iterator<Item = BlobPart> {
    let level = part_level(key);
    let mut first = 0;
    std::iter::from_fn(move || {
        let node = key.part(first, level)?;
        first += 1 << level;
        Some(node)
    })
}

/// Where a tree file has the hash of a node.
pub(crate) fn place(node: BlobPart) -> u64 {
    node.place() * PART_HASH_BYTES as u64
}

/// Whether a blob is stored with a tree.
pub(crate) fn has_tree(key: BlobKey) -> bool {
    key.len > limits::BLOB_WITHOUT_TREE_BYTES_MAX
}

/// The hashes of the nodes at and below one node, in the order of their places.
#[derive(Debug)]
pub(crate) struct Hashes {
    top: BlobPart,
    bytes: Vec<u8>,
}

impl Hashes {
    /// Hashes `content`, which is that of `node`, as a part of something larger.
    pub(crate) fn of(key: BlobKey, node: BlobPart, content: &[u8]) -> (PartHash, Self) {
        assert_eq!(content.len() as u64, key.bytes_of(node), "all of a node");
        let mut hashes = Self {
            top: node,
            bytes: vec![0; Self::bytes_below(key, node)],
        };
        let hash = hashes.fill(key, node, content);
        (hash, hashes)
    }

    /// Takes the hashes of the groups of `node` for true, from what a tree file has of it, and makes those
    /// above them.
    pub(crate) fn of_groups(key: BlobKey, node: BlobPart, bytes: Vec<u8>) -> (PartHash, Self) {
        let mut hashes = Self { top: node, bytes };
        let hash = hashes.merge_all(key, node);
        (hash, hashes)
    }

    /// How many bytes a tree file has of `node` and what is below it.
    pub(crate) fn bytes_below(key: BlobKey, node: BlobPart) -> usize {
        let places = usize::try_from(2 * key.groups_of(node) - 1).expect("a batch at most");
        places * PART_HASH_BYTES
    }

    fn merge_all(&mut self, key: BlobKey, node: BlobPart) -> PartHash {
        let Some((left, right)) = key.children_of(node) else {
            return self.hash(node);
        };
        let left = self.merge_all(key, left);
        let right = self.merge_all(key, right);
        merge_subtrees_non_root(&left, &right, Mode::Hash)
    }

    /// Where the bytes belong in a tree file.
    pub(crate) fn offset(&self) -> u64 {
        self.start() * PART_HASH_BYTES as u64
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn hash(&self, node: BlobPart) -> PartHash {
        let at = self.at(node);
        *self.bytes[at..]
            .first_chunk()
            .expect("a node below the top")
    }

    /// The place of the first group.
    fn start(&self) -> u64 {
        2 * self.top.first()
    }

    fn at(&self, node: BlobPart) -> usize {
        let place = usize::try_from(node.place() - self.start()).expect("a node below the top");
        place * PART_HASH_BYTES
    }

    fn fill(&mut self, key: BlobKey, node: BlobPart, content: &[u8]) -> PartHash {
        let hash = match key.children_of(node) {
            None => blake3::Hasher::new()
                .set_input_offset(key.offset_of(node))
                .update(content)
                .finalize_non_root(),
            Some((left, right)) => {
                let (first, rest) = split(key, left, content);
                let first = self.fill(key, left, first);
                let rest = self.fill(key, right, rest);
                merge_subtrees_non_root(&first, &rest, Mode::Hash)
            }
        };
        let at = self.at(node);
        self.bytes[at..at + PART_HASH_BYTES].copy_from_slice(&hash);
        hash
    }
}

/// What was found out by checking a piece.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    /// The content of the node.
    pub(crate) content: &'a [u8],
    /// The hashes at and below the node; `None` if it is the root and a group.
    pub(crate) below: Vec<Hashes>,
    /// The hashes of nodes beside and on the way to the root.
    pub(crate) above: Vec<(BlobPart, PartHash)>,
}

/// Checks a piece: the hashes of the node's proof, then its content. `None` if it is not part of the blob.
pub(crate) fn check(key: BlobKey, node: BlobPart, piece: &[u8]) -> Option<Checked<'_>> {
    if piece.len() as u64 != key.piece_bytes_of(node) {
        return None;
    }
    let beside = key.proof_of(node);
    let (proof, content) = piece.split_at(beside.len() * PART_HASH_BYTES);
    if node == key.root() {
        let (id, below) = root_of_content(key, content);
        let above = Vec::new();
        return (id == key.id).then_some(Checked {
            content,
            below,
            above,
        });
    }
    let (mut hash, below) = Hashes::of(key, node, content);
    let mut above = Vec::with_capacity(2 * beside.len());
    let mut at = node;
    for (beside, given) in beside.iter().zip(proof.chunks_exact(PART_HASH_BYTES)).rev() {
        let given: PartHash = *given.first_chunk().expect("chunks of a hash");
        above.push((*beside, given));
        let (left, right) = if at.first() < beside.first() {
            (hash, given)
        } else {
            (given, hash)
        };
        let parent = parent_of(key, at, *beside);
        if parent == key.root() {
            let root = merge_subtrees_root(&left, &right, Mode::Hash);
            return (root.as_bytes() == &key.id.0).then_some(Checked {
                content,
                below: vec![below],
                above,
            });
        }
        hash = merge_subtrees_non_root(&left, &right, Mode::Hash);
        above.push((parent, hash));
        at = parent;
    }
    unreachable!("the last node of a proof is below the root")
}

/// The id of the content of a whole blob, and the hashes below the root.
pub(crate) fn root_of_content(key: BlobKey, content: &[u8]) -> (BlobId, Vec<Hashes>) {
    match key.children_of(key.root()) {
        None => (BlobId(*blake3::hash(content).as_bytes()), Vec::new()),
        Some((left, right)) => {
            let (first, rest) = split(key, left, content);
            let (first, below_left) = Hashes::of(key, left, first);
            let (rest, below_right) = Hashes::of(key, right, rest);
            let root = merge_subtrees_root(&first, &rest, Mode::Hash);
            (BlobId(*root.as_bytes()), vec![below_left, below_right])
        }
    }
}

/// Puts the hashes of nodes of one level together, as they come.
#[derive(Debug, Default)]
pub(crate) struct Trunk {
    /// Nodes that wait for what is to the right of them.
    open: Vec<(BlobPart, PartHash)>,
    parts: u64,
}

impl Trunk {
    /// Takes the hash of the next node in. Gives the nodes that became whole by it; the root is not
    /// among them, since nothing is merged before it is known that more follows.
    pub(crate) fn push(
        &mut self,
        key: BlobKey,
        node: BlobPart,
        hash: PartHash,
    ) -> Vec<(BlobPart, PartHash)> {
        let mut whole = Vec::new();
        while self.open.len() > self.parts.count_ones() as usize {
            whole.push(self.merge(key));
        }
        self.open.push((node, hash));
        self.parts += 1;
        whole
    }

    /// Ends. Gives the nodes that became whole by it, and the id.
    ///
    /// # Panics
    /// If fewer than two nodes were pushed.
    pub(crate) fn finish(mut self, key: BlobKey) -> (Vec<(BlobPart, PartHash)>, BlobId) {
        let mut whole = Vec::new();
        while self.open.len() > 2 {
            whole.push(self.merge(key));
        }
        let [(_, left), (_, right)] = self.open[..] else {
            panic!("two nodes make the root");
        };
        let root = merge_subtrees_root(&left, &right, Mode::Hash);
        (whole, BlobId(*root.as_bytes()))
    }

    fn merge(&mut self, key: BlobKey) -> (BlobPart, PartHash) {
        let (right_node, right) = self.open.pop().expect("two nodes wait");
        let (left_node, left) = self.open.pop().expect("two nodes wait");
        let hash = merge_subtrees_non_root(&left, &right, Mode::Hash);
        let parent = parent_of(key, left_node, right_node);
        self.open.push((parent, hash));
        (parent, hash)
    }
}

fn parent_of(key: BlobKey, one: BlobPart, other: BlobPart) -> BlobPart {
    let left = if one.first() < other.first() {
        one
    } else {
        other
    };
    key.part(left.first(), left.level() + 1)
        .expect("the parent of two nodes is one")
}

fn split(key: BlobKey, left: BlobPart, content: &[u8]) -> (&[u8], &[u8]) {
    let at = usize::try_from(key.bytes_of(left)).expect("it is in memory");
    content.split_at(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(len: usize) -> Vec<u8> {
        (0..len)
            .map(|at| u8::try_from(at * at % 251).unwrap())
            .collect()
    }

    fn key_of(content: &[u8]) -> BlobKey {
        BlobKey {
            id: BlobId(*blake3::hash(content).as_bytes()),
            len: content.len() as u64,
        }
    }

    #[test]
    fn the_root_is_the_hash_of_the_whole() {
        for len in [0, 1, 16 * 1024, 16 * 1024 + 1, 100_000, 1 << 20] {
            let content = content(len);
            let key = key_of(&content);
            assert_eq!(root_of_content(key, &content).0, key.id, "{len}");
        }
    }

    #[test]
    fn batches_come_to_the_same_root() {
        let batch = usize::try_from(BATCH_BYTES).unwrap();
        for len in [
            batch + 1,
            2 * batch,
            3 * batch + 70_000,
            5 * batch,
            8 * batch,
        ] {
            let content = content(len);
            let key = key_of(&content);
            let mut trunk = Trunk::default();
            let mut nodes = 0;
            for (at, bytes) in content.chunks(batch).enumerate() {
                let node = key.part(at as u64 * BATCH_GROUPS, BATCH_LEVEL).unwrap();
                let (hash, _) = Hashes::of(key, node, bytes);
                nodes += trunk.push(key, node, hash).len();
            }
            let batches = content.chunks(batch).count();
            let (whole, id) = trunk.finish(key);
            assert_eq!(id, key.id, "{len}");
            assert_eq!(nodes + whole.len(), batches - 2, "all but the root");
        }
    }

    #[test]
    fn a_piece_fits_only_where_it_was_and_as_it_was() {
        let content = content(200_000);
        let key = key_of(&content);
        let (_, hashes) = root_of_content(key, &content);
        let hash = |node: BlobPart| {
            let half = usize::from(node.first() >= hashes[1].top.first());
            hashes[half].hash(node)
        };
        for (first, level) in [(0, 0), (12, 0), (4, 2), (8, 3), (0, 2)] {
            let node = key.part(first, level).unwrap();
            let mut piece: Vec<u8> = key.proof_of(node).into_iter().flat_map(hash).collect();
            let start = usize::try_from(key.offset_of(node)).unwrap();
            let len = usize::try_from(key.bytes_of(node)).unwrap();
            piece.extend_from_slice(&content[start..start + len]);
            assert!(check(key, node, &piece).is_some(), "{first} {level}");
            for at in (0..piece.len()).step_by(977).chain([piece.len() - 1]) {
                piece[at] ^= 4;
                assert!(check(key, node, &piece).is_none(), "{first} {level} {at}");
                piece[at] ^= 4;
            }
            assert!(check(key, node, &piece[1..]).is_none());
            if let Some(other) = key.part(first ^ 4, level) {
                assert!(check(key, other, &piece).is_none());
            }
        }
    }
}
