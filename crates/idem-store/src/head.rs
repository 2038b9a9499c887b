//! The counters of a store and the record of where it was opened.

use idem_model::{
    ActorId, DecodeError, Timestamp,
    codec::{Reader, put_varint},
};

/// The format that this build writes, and the newest that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Who writes, and how far it has counted. Written with every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The actor of this life of the store.
    pub(crate) actor: ActorId,
    /// The number of the actor's last commit; 0 before the first.
    pub(crate) n: u64,
    /// The last local commit; 0 before the first.
    pub(crate) commit: u64,
    /// The last time of the hybrid clock.
    pub(crate) time: Timestamp,
    /// How many groups are kept (see [`crate::groups`]).
    pub(crate) groups: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        out.extend_from_slice(&self.actor.0);
        put_varint(&mut out, self.n);
        put_varint(&mut out, self.commit);
        put_varint(&mut out, self.time.0);
        put_varint(&mut out, self.groups);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let head = Self {
            actor: ActorId(reader.array()?),
            n: reader.varint()?,
            commit: reader.varint()?,
            time: Timestamp(reader.varint()?),
            groups: reader.varint()?,
        };
        reader.finish()?;
        Ok(head)
    }
}

/// Written when a store is opened at a place where it has not been opened before. Every frame of the
/// log names the nonce of its opening, and every opening names the one before, so that a log and an
/// engine of different histories are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Opening {
    /// Random; 0 before the first opening.
    pub(crate) nonce: u64,
    /// The nonce of the opening before.
    pub(crate) previous: u64,
    /// Where the store lies.
    pub(crate) identity: Identity,
}

/// What tells a store from its copy: device, inode and change time of its lock file, which is never
/// written again after its creation, and the inode of the engine's file. All zero in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Identity(pub(crate) [u64; 4]);

impl Opening {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        for word in [self.nonce, self.previous].iter().chain(&self.identity.0) {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut words = [0; 6];
        for word in &mut words {
            *word = u64::from_be_bytes(reader.array()?);
        }
        reader.finish()?;
        let [nonce, previous, identity @ ..] = words;
        Ok(Self {
            nonce,
            previous,
            identity: Identity(identity),
        })
    }
}
