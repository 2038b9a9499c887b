//! What a comparison showed, for the side that told what it holds and wants to be wanted from as well.

use std::collections::BTreeMap;

use idem_model::{
    ActorId, DecodeError, Dot, Lane, VersionVector,
    codec::{Reader, put_varint},
    limits,
};

use crate::{
    decode::{invalid, lane, small},
    message::number,
};

/// A part of what a source found in a subscriber's sketch or list, told to that subscriber because the
/// source wants the same of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compared {
    /// The lane that this frame is accounted to.
    pub lane: Lane,
    /// The number given in [`Subscribe`](crate::Subscribe) by the receiver.
    pub alias: u32,
    /// Whether more parts follow.
    pub more: bool,
    /// Tags of documents that the receiver has and the sender lacks, at most
    /// `limits::COMPARED_PER_FRAME_MAX`.
    pub tags: Vec<[u8; 4]>,
    /// Documents that both have, and their versions at the sender, at most
    /// `limits::COMPARED_PER_FRAME_MAX`.
    pub versions: Vec<KeyedVersion>,
}

/// Answers [`Compared`]: which of the versions told there the sender lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lacks {
    /// The number given in [`Subscribe`](crate::Subscribe) by the sender.
    pub alias: u32,
    /// Whether more parts follow.
    pub more: bool,
    /// The documents, with the versions held in their place; an empty one holds nothing. At most
    /// `limits::COMPARED_PER_FRAME_MAX`.
    pub versions: Vec<KeyedVersion>,
}

/// A version of a document that is named by a hash of its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyedVersion {
    /// The key hash (docs/format/wire.md, "Sketches"), which begins with the tag.
    pub key: [u8; 8],
    /// The version, of at most `limits::COMPARED_ACTORS_MAX` actors.
    pub version: VersionVector,
}

const MORE: u8 = 1;

impl Compared {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let more = if self.more { MORE } else { 0 };
        out.extend_from_slice(&[number::COMPARED, self.lane.number(), more]);
        put_varint(out, u64::from(self.alias));
        put_varint(out, self.tags.len() as u64);
        self.tags.iter().for_each(|tag| out.extend_from_slice(tag));
        encode_versions(&self.versions, out);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let lane = lane(reader)?;
        let more = more(reader)?;
        let alias = small(reader, "subscription number")?;
        let count = reader.count("tags", limits::COMPARED_PER_FRAME_MAX, 4)?;
        let tags = (0..count).map(|_| reader.array());
        Ok(Self {
            lane,
            alias,
            more,
            tags: tags.collect::<Result<_, _>>()?,
            versions: decode_versions(reader)?,
        })
    }
}

impl Lacks {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[number::LACKS, if self.more { MORE } else { 0 }]);
        put_varint(out, u64::from(self.alias));
        encode_versions(&self.versions, out);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            more: more(reader)?,
            alias: small(reader, "subscription number")?,
            versions: decode_versions(reader)?,
        })
    }
}

fn more(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.byte()? {
        0 => Ok(false),
        MORE => Ok(true),
        _ => Err(invalid(reader, "flags of a comparison")),
    }
}

fn encode_versions(versions: &[KeyedVersion], out: &mut Vec<u8>) {
    // Few actors write most of a collection, so each is named once.
    let mut actors: BTreeMap<ActorId, u64> = BTreeMap::new();
    for dot in versions.iter().flat_map(|it| it.version.iter()) {
        actors.insert(dot.actor, 0);
    }
    put_varint(out, actors.len() as u64);
    for (number, (actor, place)) in (0..).zip(&mut actors) {
        *place = number;
        out.extend_from_slice(&actor.0);
    }
    put_varint(out, versions.len() as u64);
    for held in versions {
        out.extend_from_slice(&held.key);
        put_varint(out, held.version.len() as u64);
        for dot in held.version.iter() {
            put_varint(out, actors[&dot.actor]);
            put_varint(out, dot.n);
        }
    }
}

fn decode_versions(reader: &mut Reader<'_>) -> Result<Vec<KeyedVersion>, DecodeError> {
    let actors_max = limits::COMPARED_PER_FRAME_MAX * limits::COMPARED_ACTORS_MAX;
    let count = reader.count("actors", actors_max, 16)?;
    let actors = (0..count).map(|_| reader.array().map(ActorId));
    let actors: Vec<ActorId> = actors.collect::<Result<_, _>>()?;
    let mut is_named = vec![false; actors.len()];
    let count = reader.count("versions", limits::COMPARED_PER_FRAME_MAX, 9)?;
    let mut versions = Vec::with_capacity(count);
    for _ in 0..count {
        versions.push(KeyedVersion {
            key: reader.array()?,
            version: decode_version(reader, &actors, &mut is_named)?,
        });
    }
    // A message has one form only.
    if !actors.is_sorted_by(|a, b| a < b) || is_named.contains(&false) {
        return Err(invalid(reader, "list of actors"));
    }
    Ok(versions)
}

fn decode_version(
    reader: &mut Reader<'_>,
    actors: &[ActorId],
    is_named: &mut [bool],
) -> Result<VersionVector, DecodeError> {
    let count = reader.count("version vector", limits::COMPARED_ACTORS_MAX, 2)?;
    let mut version = VersionVector::new();
    let mut place_min = 0;
    for _ in 0..count {
        let place: usize = small(reader, "place of an actor")?;
        let n = reader.varint()?;
        let actor = actors.get(place).filter(|_| n > 0 && place >= place_min);
        let Some(&actor) = actor else {
            return Err(invalid(reader, "version vector entry"));
        };
        version.include(Dot { actor, n });
        is_named[place] = true;
        place_min = place + 1;
    }
    Ok(version)
}
