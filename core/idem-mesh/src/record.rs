//! What a peer says of itself, signed (docs/format/presence.md, "Records").

use std::{fmt, time::Duration};

use idem_model::{
    DatabaseId, DecodeError, PeerId,
    codec::{Reader, put_bytes, put_varint},
    limits,
};

use crate::names::{Medium, PeerHash};

/// What is signed begins with this, so that no signature over anything else is one over a record.
const DOMAIN: &[u8] = b"idem mesh presence, version 1\0";

const VERSION: u8 = 1;

/// Signs for this peer, and judges the signatures of others.
pub trait Signer: fmt::Debug + Send {
    /// The ed25519 signature of this peer over `message`.
    fn sign(&self, message: &[u8]) -> [u8; 64];

    /// Whether `signature` over `message` is the ed25519 signature of `peer`. A key of small order signs
    /// nothing.
    fn holds(&self, peer: &PeerId, message: &[u8], signature: &[u8; 64]) -> bool;
}

/// What a peer is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum PeerKind {
    /// An app, or a command.
    #[default]
    SmallPeer,
    /// A server.
    BigPeer,
    /// Something of a later version, with this number.
    Other(u8),
}

impl PeerKind {
    fn code(self) -> u8 {
        match self {
            Self::SmallPeer => 0,
            Self::BigPeer => 1,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::SmallPeer,
            1 => Self::BigPeer,
            code => Self::Other(code),
        }
    }
}

/// One link of a peer, as it says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordLink {
    /// The other end.
    pub peer: PeerHash,
    /// The number of the medium: [`Medium::code`], or that of a later version.
    pub medium: u8,
}

impl RecordLink {
    /// What it runs over, if this build knows it.
    pub fn medium(&self) -> Option<Medium> {
        Medium::from_code(self.medium)
    }
}

/// What a peer says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PresenceRecord {
    /// Rises with every record of the peer: the milliseconds since 1970 of its start, times 65,536, and a
    /// counter.
    pub seq: u64,
    /// For how long it counts, in seconds, unless a newer one comes.
    pub lifetime_s: u16,
    /// What the peer is.
    pub kind: PeerKind,
    /// Its name, at most `limits::DEVICE_NAME_BYTES_MAX`.
    pub name: String,
    /// Its operating system, at most as long.
    pub os: String,
    /// Its links, rising, at most `limits::PRESENCE_LINKS_MAX`.
    pub links: Vec<RecordLink>,
    /// The first bytes of the names of some of its subscriptions, rising, at most
    /// `limits::PRESENCE_INTERESTS_MAX`.
    pub interests: Vec<[u8; 4]>,
    /// What the app adds, at most `limits::PRESENCE_METADATA_BYTES_MAX`.
    pub metadata: Vec<u8>,
}

impl PresenceRecord {
    fn to_body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.links.len() * 9 + self.metadata.len());
        out.push(VERSION);
        out.extend(self.seq.to_be_bytes());
        put_varint(&mut out, self.lifetime_s.into());
        out.push(self.kind.code());
        put_bytes(&mut out, self.name.as_bytes());
        put_bytes(&mut out, self.os.as_bytes());
        put_varint(&mut out, self.links.len() as u64);
        for link in &self.links {
            out.extend(link.peer.to_bytes());
            out.push(link.medium);
        }
        put_varint(&mut out, self.interests.len() as u64);
        out.extend(self.interests.iter().flatten());
        put_bytes(&mut out, &self.metadata);
        out
    }

    fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let version = reader.byte()?;
        if version != VERSION {
            let what = "presence record";
            return Err(DecodeError::UnknownVersion { what, version });
        }
        let seq = u64::from_be_bytes(reader.array()?);
        let at = reader.position();
        let invalid = |what| DecodeError::Invalid { what, at };
        let lifetime_s = u16::try_from(reader.varint()?).map_err(|_| invalid("lifetime"))?;
        if lifetime_s == 0 || lifetime_s > limits::PRESENCE_LIFETIME_S_MAX {
            return Err(invalid("lifetime"));
        }
        let kind = PeerKind::from_code(reader.byte()?);
        let name = reader
            .text("name", limits::DEVICE_NAME_BYTES_MAX)?
            .to_owned();
        let os = reader.text("operating system", limits::DEVICE_NAME_BYTES_MAX)?;
        let os = os.to_owned();
        let links = links(&mut reader)?;
        let at = reader.position();
        let count = reader.count("interests", limits::PRESENCE_INTERESTS_MAX, 4)?;
        let interests = (0..count).map(|_| reader.array());
        let interests = interests.collect::<Result<Vec<[u8; 4]>, _>>()?;
        check_rising("interests", at, &interests)?;
        let metadata = reader.bytes("metadata", limits::PRESENCE_METADATA_BYTES_MAX)?;
        // What follows is for later versions.
        Ok(Self {
            seq,
            lifetime_s,
            kind,
            name,
            os,
            links,
            interests,
            metadata: metadata.to_vec(),
        })
    }
}

fn links(reader: &mut Reader<'_>) -> Result<Vec<RecordLink>, DecodeError> {
    let at = reader.position();
    let count = reader.count("links", limits::PRESENCE_LINKS_MAX, 9)?;
    let links = (0..count).map(|_| {
        Ok(RecordLink {
            peer: PeerHash::from_bytes(reader.array()?),
            medium: reader.byte()?,
        })
    });
    let links = links.collect::<Result<Vec<_>, DecodeError>>()?;
    check_rising("links", at, &links)?;
    Ok(links)
}

pub(crate) fn check_rising<T: Ord>(
    what: &'static str,
    at: usize,
    items: &[T],
) -> Result<(), DecodeError> {
    if items.is_sorted_by(|a, b| a < b) {
        Ok(())
    } else {
        Err(DecodeError::Invalid { what, at })
    }
}

/// A record as it travels. Who passes it on passes on these bytes, also if it does not know all that is in
/// them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedRecord {
    /// Whose it is.
    pub peer: PeerId,
    signature: [u8; 64],
    body: Box<[u8]>,
}

impl SignedRecord {
    /// Signs `record` for `peer`.
    pub fn new(
        database: DatabaseId,
        peer: PeerId,
        record: &PresenceRecord,
        signer: &dyn Signer,
    ) -> Self {
        let body = record.to_body();
        let signature = signer.sign(&signed_bytes(database, peer, &body));
        Self {
            peer,
            signature,
            body: body.into(),
        }
    }

    /// Whether the peer signed it, for this database.
    pub fn holds(&self, database: DatabaseId, signer: &dyn Signer) -> bool {
        let message = signed_bytes(database, self.peer, &self.body);
        signer.holds(&self.peer, &message, &self.signature)
    }

    /// What it says.
    ///
    /// # Errors
    /// [`DecodeError`] if that is no record.
    pub fn read(&self) -> Result<PresenceRecord, DecodeError> {
        PresenceRecord::from_body(&self.body)
    }

    /// How many bytes it takes.
    pub fn encoded_len(&self) -> usize {
        32 + 64 + self.body.len() + if self.body.len() < 0x80 { 1 } else { 2 }
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.peer.0);
        out.extend(self.signature);
        put_bytes(out, &self.body);
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            peer: PeerId(reader.array()?),
            signature: reader.array()?,
            body: reader
                .bytes("presence record", limits::PRESENCE_BODY_BYTES_MAX)?
                .into(),
        })
    }
}

fn signed_bytes(database: DatabaseId, peer: PeerId, body: &[u8]) -> Vec<u8> {
    [DOMAIN, &database.0, &peer.0, body].concat()
}

/// What the app lets others see of this peer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnRecord {
    /// Its name; cut to `limits::DEVICE_NAME_BYTES_MAX`.
    pub name: String,
    /// Its operating system; cut as well.
    pub os: String,
    /// What it is.
    pub kind: PeerKind,
    /// What the app adds; cut to `limits::PRESENCE_METADATA_BYTES_MAX`.
    pub metadata: Vec<u8>,
}

impl OwnRecord {
    /// Cuts what is too long.
    pub(crate) fn cut(mut self) -> Self {
        for text in [&mut self.name, &mut self.os] {
            let mut end = text.len().min(limits::DEVICE_NAME_BYTES_MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        self.metadata.truncate(limits::PRESENCE_METADATA_BYTES_MAX);
        self
    }
}

/// How often a peer of a mesh of so many refreshes its record: every 30 seconds, and less often from 75
/// peers on, so that all records together take each peer about 900 bytes a second.
pub(crate) fn refresh_interval(peers: usize) -> Duration {
    let peers = peers.min(limits::PRESENCE_RECORDS_MAX);
    let peers = u32::try_from(peers).expect("far below 4 billion");
    Duration::from_secs(30).max(Duration::from_millis(400) * peers)
}
