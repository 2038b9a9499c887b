//! The Merkle tree over the operations of a commit.

use std::fmt;

use idem_model::{
    CollectionName, DecodeError, DocId, FieldPath, Value,
    codec::{Reader, put_bytes, put_varint},
    limits,
};
use zeroize::Zeroizing;

// Keys of BLAKE3, public, so that no hash of one kind is one of another.
const LEAF_KEY: &[u8; 32] = b"idem auth commit leaf, version 1";
const NODE_KEY: &[u8; 32] = b"idem auth commit node, version 1";
const ROOT_KEY: &[u8; 32] = b"idem auth commit root, version 1";
const VALUE_KEY: &[u8; 32] = b"idem auth commit value version 1";

/// The hash of a value that an operation writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueHash(pub [u8; 32]);

impl ValueHash {
    /// Of what has no value: UNSET, DELETE.
    pub const NONE: Self = Self([0; 32]);

    /// Of a value.
    pub fn of(value: &Value) -> Self {
        Self(*blake3::keyed_hash(VALUE_KEY, &value.to_bytes()).as_bytes())
    }
}

impl fmt::Debug for ValueHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "ValueHash({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// What a signature over a commit covers: the root of the tree over its operations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitRoot(pub [u8; 32]);

impl fmt::Debug for CommitRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "CommitRoot({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// What an operation does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum OperationKind {
    /// Gives the document a life.
    Insert,
    /// Gives it defaults that are the same on every peer.
    InsertInitial,
    /// Ends the lives that the author sees.
    Delete,
    /// Writes a register, or a field without a declared kind.
    Set,
    /// Writes a map.
    SetMap,
    /// Writes a declared register whole.
    SetRegister,
    /// Writes the token of an attachment.
    SetAttachment,
    /// Removes what is there.
    Unset,
    /// Adds to a counter.
    Increment,
    /// Starts a counter again.
    Restart,
}

impl OperationKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Insert,
        Self::InsertInitial,
        Self::Delete,
        Self::Set,
        Self::SetMap,
        Self::SetRegister,
        Self::SetAttachment,
        Self::Unset,
        Self::Increment,
        Self::Restart,
    ];

    /// Its number in bytes.
    pub fn code(self) -> u8 {
        match self {
            Self::Insert => 1,
            Self::InsertInitial => 2,
            Self::Delete => 3,
            Self::Set => 4,
            Self::SetMap => 5,
            Self::SetRegister => 6,
            Self::SetAttachment => 7,
            Self::Unset => 8,
            Self::Increment => 9,
            Self::Restart => 10,
        }
    }

    /// The kind of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// One operation of a commit, as it is signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitOperation {
    /// The collection.
    pub collection: CollectionName,
    /// The document.
    pub id: DocId,
    /// The field; `None` for what concerns the whole document.
    pub path: Option<FieldPath>,
    /// What it does.
    pub kind: OperationKind,
    /// With which value.
    pub value: ValueHash,
}

impl CommitOperation {
    fn hash(&self, salt: &[u8; 16]) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(salt);
        self.encode(&mut bytes);
        *blake3::keyed_hash(LEAF_KEY, &bytes).as_bytes()
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.collection.as_str().as_bytes());
        put_bytes(out, &self.id.to_key());
        match &self.path {
            None => out.push(0),
            Some(path) => path.encode(out),
        }
        out.push(self.kind.code());
        out.extend(self.value.0);
    }

    /// Reads [`CommitOperation::encode`].
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.position();
        let what = "collection name";
        let name = reader.text(what, limits::COLLECTION_NAME_BYTES_MAX)?;
        let collection =
            CollectionName::new(name).map_err(|_| DecodeError::Invalid { what, at })?;
        let id = DocId::from_key(reader.bytes("document id", limits::DOC_ID_BYTES_MAX)?)?;
        let path = match reader.peek() {
            Some(0) => {
                reader.byte()?;
                None
            }
            _ => Some(FieldPath::decode(reader)?),
        };
        let at = reader.position();
        let what = "kind of an operation";
        let kind = OperationKind::from_code(reader.byte()?);
        Ok(Self {
            collection,
            id,
            path,
            kind: kind.ok_or(DecodeError::Invalid { what, at })?,
            value: ValueHash(reader.array()?),
        })
    }
}

/// What hides the operations of a commit from those who are shown others of it: a value that few could be would
/// otherwise be guessed from its hash. The author draws it for each commit; who has the whole commit has it too.
#[derive(Clone)]
pub struct Blinding(Zeroizing<[u8; 32]>);

impl Blinding {
    /// Takes 32 random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(Zeroizing::new(random))
    }

    /// The bytes, for those who get the whole commit.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn salt(&self, index: u32) -> [u8; 16] {
        let hash = blake3::keyed_hash(&self.0, &index.to_be_bytes());
        let mut salt = [0; 16];
        salt.copy_from_slice(&hash.as_bytes()[..16]);
        salt
    }
}

impl fmt::Debug for Blinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blinding(..)")
    }
}

/// Why there is no tree over some operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// There is none.
    #[error("a commit has at least one operation")]
    Empty,
    /// There are too many.
    #[error("{count} operations are over the limit of {limit}")]
    TooMany {
        /// How many.
        count: usize,
        /// [`limits::COMMIT_OPERATIONS_MAX`].
        limit: usize,
    },
}

/// The tree over the operations of a commit. Two neighbours make a node; one without a neighbour goes up as it is,
/// and the root has the count in it, so that no other operations have the same root.
#[derive(Clone, Debug)]
pub struct CommitTree {
    blinding: Blinding,
    /// From the leaves up to the only hash on top.
    levels: Vec<Vec<[u8; 32]>>,
}

impl CommitTree {
    /// The tree over `operations`, in their order.
    ///
    /// # Errors
    /// [`CommitError`] for none or too many.
    pub fn new(operations: &[CommitOperation], blinding: Blinding) -> Result<Self, CommitError> {
        let (count, limit) = (operations.len(), limits::COMMIT_OPERATIONS_MAX);
        if count == 0 {
            return Err(CommitError::Empty);
        }
        if count > limit {
            return Err(CommitError::TooMany { count, limit });
        }
        let leaves = (0..).zip(operations);
        let leaves = leaves.map(|(index, operation)| operation.hash(&blinding.salt(index)));
        let mut levels = vec![leaves.collect::<Vec<_>>()];
        while levels[levels.len() - 1].len() > 1 {
            let below = &levels[levels.len() - 1];
            let above = below.chunks(2).map(|pair| match pair {
                [left, right] => node(left, right),
                alone => alone[0],
            });
            let above = above.collect();
            levels.push(above);
        }
        Ok(Self { blinding, levels })
    }

    /// How many operations there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.levels[0].len()).expect("within the limit of operations")
    }

    /// The root.
    pub fn root(&self) -> CommitRoot {
        root(self.count(), &self.levels[self.levels.len() - 1][0])
    }

    /// The proof that the operation at `index` is one of the commit; `None` if there is no such.
    pub fn proof(&self, index: u32) -> Option<InclusionProof> {
        if index >= self.count() {
            return None;
        }
        let mut at = usize::try_from(index).ok()?;
        let mut siblings = Vec::with_capacity(self.levels.len());
        for level in &self.levels[..self.levels.len() - 1] {
            siblings.extend(level.get(at ^ 1).copied());
            at /= 2;
        }
        Some(InclusionProof {
            index,
            count: self.count(),
            salt: self.blinding.salt(index),
            siblings,
        })
    }
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(left);
    bytes[32..].copy_from_slice(right);
    *blake3::keyed_hash(NODE_KEY, &bytes).as_bytes()
}

fn root(count: u32, top: &[u8; 32]) -> CommitRoot {
    let mut bytes = [0; 36];
    bytes[..4].copy_from_slice(&count.to_be_bytes());
    bytes[4..].copy_from_slice(top);
    CommitRoot(*blake3::keyed_hash(ROOT_KEY, &bytes).as_bytes())
}

/// Shows that an operation is part of a commit, and nothing of the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InclusionProof {
    index: u32,
    count: u32,
    salt: [u8; 16],
    siblings: Vec<[u8; 32]>,
}

impl InclusionProof {
    /// Whether `operation` is part of the commit with this root.
    pub fn holds(&self, operation: &CommitOperation, root_of_commit: &CommitRoot) -> bool {
        let mut hash = operation.hash(&self.salt);
        let mut siblings = self.siblings.iter();
        let (mut at, mut count) = (self.index, self.count);
        if at >= count {
            return false;
        }
        while count > 1 {
            if at ^ 1 < count {
                let Some(sibling) = siblings.next() else {
                    return false;
                };
                hash = match at % 2 {
                    0 => node(&hash, sibling),
                    _ => node(sibling, &hash),
                };
            }
            at /= 2;
            count = count.div_ceil(2);
        }
        siblings.next().is_none() && root(self.count, &hash) == *root_of_commit
    }

    /// Where the operation stands in the commit.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + 32 * self.siblings.len());
        put_varint(&mut out, self.index.into());
        put_varint(&mut out, self.count.into());
        out.extend(self.salt);
        // How many there are follows from place and count.
        out.extend(self.siblings.iter().flatten());
        out
    }

    /// Reads [`InclusionProof::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let what = "proof of an operation";
        let invalid = DecodeError::Invalid { what, at: 0 };
        let index = u32::try_from(reader.varint()?).map_err(|_| invalid.clone())?;
        let count = u32::try_from(reader.varint()?).map_err(|_| invalid.clone())?;
        let limit = limits::COMMIT_OPERATIONS_MAX as u64;
        if index >= count || u64::from(count) > limit {
            return Err(invalid);
        }
        let salt = reader.array()?;
        let siblings = (0..siblings_of(index, count)).map(|_| reader.array());
        let siblings = siblings.collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self {
            index,
            count,
            salt,
            siblings,
        })
    }
}

/// How many hashes a proof has, at most [`limits::COMMIT_PROOF_HASHES_MAX`].
fn siblings_of(mut at: u32, mut count: u32) -> usize {
    let mut siblings = 0;
    while count > 1 {
        siblings += usize::from(at ^ 1 < count);
        at /= 2;
        count = count.div_ceil(2);
    }
    siblings
}
