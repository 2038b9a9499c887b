//! Actors, dots and version vectors: which commits a state contains.

use std::{collections::BTreeMap, fmt};

use crate::{
    codec::{DecodeError, Reader, put_varint},
    ids::{parse_hex, write_hex},
    limits,
    time::Timestamp,
};

/// One life of a store: 16 random bytes. A store that was copied or restored takes a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub [u8; 16]);

/// The name of a commit: the `n`-th of `actor`, counting 1, 2, 3 without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dot {
    /// Who committed.
    pub actor: ActorId,
    /// Which of its commits; never 0.
    pub n: u64,
}

/// A commit's name and its time. Ordered by time, then actor, then number: the order of "later".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The commit.
    pub dot: Dot,
    /// Its hybrid logical time.
    pub time: Timestamp,
}

impl Ord for Stamp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.dot).cmp(&(other.time, other.dot))
    }
}

impl PartialOrd for Stamp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// For each actor the highest commit that is contained; all lower ones are contained too.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct VersionVector {
    entries: BTreeMap<ActorId, u64>,
}

impl VersionVector {
    /// The vector that covers nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest commit of `actor`, 0 if none.
    pub fn get(&self, actor: ActorId) -> u64 {
        self.entries.get(&actor).copied().unwrap_or(0)
    }

    /// Whether `dot` is contained.
    pub fn covers(&self, dot: Dot) -> bool {
        self.get(dot.actor) >= dot.n
    }

    /// Whether everything in `other` is contained.
    pub fn covers_all(&self, other: &Self) -> bool {
        other
            .entries
            .iter()
            .all(|(actor, n)| self.get(*actor) >= *n)
    }

    /// Adds `dot` and all before it of the same actor.
    pub fn include(&mut self, dot: Dot) {
        let n = self.entries.entry(dot.actor).or_insert(0);
        *n = (*n).max(dot.n);
    }

    /// The least vector that covers both.
    pub fn join(&mut self, other: &Self) {
        for (&actor, &n) in &other.entries {
            self.include(Dot { actor, n });
        }
    }

    /// Actor and highest commit, in actor order.
    pub fn iter(&self) -> impl Iterator<Item = Dot> + '_ {
        self.entries.iter().map(|(&actor, &n)| Dot { actor, n })
    }

    /// How many actors are named.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is covered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends a count, then actor and number in actor order.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.entries.len() as u64);
        for (actor, n) in &self.entries {
            out.extend_from_slice(&actor.0);
            put_varint(out, *n);
        }
    }

    /// Reads [`VersionVector::encode`].
    ///
    /// # Errors
    /// [`DecodeError`] if actors are not strictly rising, a number is 0, or there are too many.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count("version vector", limits::VERSION_VECTOR_ENTRIES_MAX, 16 + 1)?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let at = reader.position();
            let actor = ActorId(reader.array()?);
            let n = reader.varint()?;
            let rising = entries
                .last_key_value()
                .is_none_or(|(last, _)| *last < actor);
            if !rising || n == 0 {
                return Err(DecodeError::Invalid {
                    what: "version vector entry",
                    at,
                });
            }
            entries.insert(actor, n);
        }
        Ok(Self { entries })
    }
}

impl FromIterator<Dot> for VersionVector {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut vector = Self::new();
        dots.into_iter().for_each(|dot| vector.include(dot));
        vector
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActorId(")?;
        write_hex(&self.0[..4], f)?;
        f.write_str("..)")
    }
}

impl std::str::FromStr for ActorId {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        parse_hex(text).map(Self).ok_or(DecodeError::Invalid {
            what: "actor id",
            at: 0,
        })
    }
}
