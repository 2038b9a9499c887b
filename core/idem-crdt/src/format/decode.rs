//! Bytes to states. The bytes may be hostile: whatever is accepted is exactly what encoding its
//! result produces, so a damaged or forged document is refused and not understood in another way.

use std::collections::BTreeMap;

use idem_model::{
    ActorId, DecodeError, Dot, Object, Stamp, Timestamp, Value, VersionVector,
    codec::Reader,
    decode_object, decode_object_fields, decode_object_fields_into, is_object_field_text,
    limits::{DOCUMENT_MERGED_BYTES_MAX, NESTING_LEVELS_MAX},
};

use super::{edited::Listed, *};
use crate::{
    delta::Delta,
    document::Document,
    state::{Base, Counter, Dotted, Life, MapPart, Sum, Version},
};

pub(crate) fn decode_visible_fields(bytes: &[u8]) -> Result<Option<Object>, DecodeError> {
    let (values, _) = split(bytes)?;
    if values.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(values);
    let fields = decode_object(&mut reader)?;
    reader.finish()?;
    Ok(Some(fields))
}

pub(crate) fn decode_visible_fields_of(
    bytes: &[u8],
    names: &[impl AsRef<str>],
) -> Result<Option<Object>, DecodeError> {
    let (values, _) = split(bytes)?;
    if values.is_empty() {
        return Ok(None);
    }
    decode_object_fields(&mut Reader::new(values), names).map(Some)
}

/// Whether the document is there; `into` is as it was if it is not.
pub(crate) fn decode_visible_fields_into(
    bytes: &[u8],
    names: &[impl AsRef<str>],
    kept: &str,
    into: &mut Object,
) -> Result<bool, DecodeError> {
    let (values, _) = split(bytes)?;
    if values.is_empty() {
        return Ok(false);
    }
    decode_object_fields_into(&mut Reader::new(values), names, kept, into)?;
    Ok(true)
}

/// Whether a visible field is this text; `None` if the document is not there.
pub(crate) fn is_visible_text(
    bytes: &[u8],
    name: &str,
    text: &str,
) -> Result<Option<bool>, DecodeError> {
    let (values, _) = split(bytes)?;
    if values.is_empty() {
        return Ok(None);
    }
    is_object_field_text(&mut Reader::new(values), name, text).map(Some)
}

pub(crate) fn is_plain(bytes: &[u8]) -> Result<bool, DecodeError> {
    let (_, metadata) = split(bytes)?;
    Ok(Reader::new(metadata).byte()? == FORM_PLAIN)
}

pub(crate) fn decode_version(bytes: &[u8]) -> Result<VersionVector, DecodeError> {
    let (_, metadata) = split(bytes)?;
    let mut reader = Reader::new(metadata);
    match reader.byte()? {
        FORM_PLAIN => Ok(VersionVector::from_iter([plain_stamp(&mut reader)?.dot])),
        FORM_GENERAL => version_vector(&mut reader),
        _ => Err(invalid("document form", 0)),
    }
}

/// The version vector in its own encoding. Both forms of the metadata hold it as it is: that of a
/// plain document is the form, which is 1, and the one entry.
pub(crate) fn version_bytes(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    const {
        assert!(
            FORM_PLAIN == 1,
            "the form of a plain document counts its actors"
        )
    };
    let (_, metadata) = split(bytes)?;
    let mut reader = Reader::new(metadata);
    let from = match reader.byte()? {
        FORM_PLAIN => {
            reader.take(16)?;
            reader.varint()?;
            0
        }
        FORM_GENERAL => {
            for _ in 0..reader.count("version vector", DOCUMENT_MERGED_BYTES_MAX, 16 + 1)? {
                reader.take(16)?;
                reader.varint()?;
            }
            1
        }
        _ => return Err(invalid("document form", 0)),
    };
    Ok(&metadata[from..reader.position()])
}

pub(crate) fn decode_document(bytes: &[u8]) -> Result<Document, DecodeError> {
    let (values, metadata) = split(bytes)?;
    let mut reader = Reader::new(metadata);
    match reader.byte()? {
        FORM_PLAIN => {
            let stamp = plain_stamp(&mut reader)?;
            reader.finish()?;
            Ok(Document {
                version: VersionVector::from_iter([stamp.dot]),
                time: stamp.time,
                lives: vec![Life {
                    stamp,
                    fields: default_fields(values, stamp)?,
                }],
            })
        }
        FORM_GENERAL => {
            let (document, is_checked) = general(values, reader)?;
            if !is_checked && document.to_bytes() != bytes {
                return Err(invalid("document", 0));
            }
            Ok(document)
        }
        _ => Err(invalid("document form", 0)),
    }
}

pub(crate) fn decode_delta(bytes: &[u8]) -> Result<Delta, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.byte()? {
        DELTA_VERSION => {}
        version => {
            return Err(DecodeError::UnknownVersion {
                what: "delta",
                version,
            });
        }
    }
    let count = reader.count("actors", DOCUMENT_MERGED_BYTES_MAX, 16 + 2)?;
    let (mut version, mut since) = (VersionVector::new(), VersionVector::new());
    for _ in 0..count {
        let at = reader.position();
        let actor = ActorId(reader.array()?);
        let n = reader.varint()?;
        let known = n.checked_sub(reader.varint()?);
        let known = known.ok_or(invalid("known commits", at))?;
        if n == 0 {
            return Err(invalid("version", at));
        }
        version.include(Dot { actor, n });
        if known > 0 {
            since.include(Dot { actor, n: known });
        }
    }
    let mut decoder = Decoder::new(reader, &version, &since)?;
    let count = decoder.count("lives", 3)?;
    let mut lives = Vec::new();
    for _ in 0..count {
        let stamp = decoder.stamp()?;
        let fields = decoder.map(None, 0)?;
        lives.push(Life { stamp, fields });
    }
    check_rising(&lives, 0, |life| life.stamp.dot)?;
    let time = decoder.time;
    decoder.reader.finish()?;
    let delta = Delta {
        since,
        version,
        time,
        lives,
    };
    if delta.to_bytes() != bytes {
        return Err(invalid("delta", 0));
    }
    Ok(delta)
}

/// The two parts of a document: values and metadata.
pub(super) fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.byte()? {
        DOCUMENT_VERSION => {}
        version => {
            return Err(DecodeError::UnknownVersion {
                what: "document",
                version,
            });
        }
    }
    let len = u32::from_le_bytes(reader.array()?);
    let values = reader.take(usize::try_from(len).map_err(|_| invalid("values length", 1))?)?;
    let metadata = reader.take(reader.remaining())?;
    Ok((values, metadata))
}

pub(super) fn plain_stamp(reader: &mut Reader<'_>) -> Result<Stamp, DecodeError> {
    let at = reader.position();
    let actor = ActorId(reader.array()?);
    let n = reader.varint()?;
    let time = Timestamp(u64::from_le_bytes(reader.array()?));
    if n == 0 {
        return Err(invalid("commit number", at));
    }
    Ok(Stamp {
        dot: Dot { actor, n },
        time,
    })
}

pub(super) fn version_vector(reader: &mut Reader<'_>) -> Result<VersionVector, DecodeError> {
    let count = reader.count("version vector", DOCUMENT_MERGED_BYTES_MAX, 16 + 1)?;
    let mut last: Option<ActorId> = None;
    let mut version = VersionVector::new();
    for _ in 0..count {
        let at = reader.position();
        let actor = ActorId(reader.array()?);
        let n = reader.varint()?;
        if n == 0 || last.is_some_and(|last| last >= actor) {
            return Err(invalid("version vector entry", at));
        }
        last = Some(actor);
        version.include(Dot { actor, n });
    }
    Ok(version)
}

/// A document in the general form, and whether it is known to be canonical already.
fn general(values: &[u8], mut reader: Reader<'_>) -> Result<(Document, bool), DecodeError> {
    let version = version_vector(&mut reader)?;
    let nothing = VersionVector::new();
    let mut decoder = Decoder::new(reader, &version, &nothing)?;
    let count = decoder.count("lives", 3)?;
    let mut lives = Vec::new();
    for _ in 0..count {
        let stamp = decoder.stamp()?;
        let fields = if count == 1 {
            decoder.default = Some(stamp);
            let shown = default_fields(values, stamp)?;
            decoder.map(Some(shown), 0)?
        } else {
            decoder.is_simple = false;
            decoder.map(None, 0)?
        };
        lives.push(Life { stamp, fields });
    }
    check_rising(&lives, 0, |life| life.stamp.dot)?;
    let (time, stamps) = (decoder.time, decoder.stamps);
    // A simple document differs from the plain form by stamps only. Its table was checked to rise
    // and its entries to differ from the default; what is left to see is that nothing is idle.
    let is_checked = decoder.is_simple
        && lives.len() == 1
        && stamps.len() > 1
        && decoder.used.iter().all(|used| *used);
    decoder.reader.finish()?;
    let document = Document {
        version,
        time,
        lives,
    };
    Ok((document, is_checked))
}

fn default_fields(values: &[u8], stamp: Stamp) -> Result<Map, DecodeError> {
    let mut reader = Reader::new(values);
    let map = default_map(&mut reader, stamp, 0)?;
    reader.finish()?;
    Ok(map)
}

/// Values read as nodes that were all written with `stamp`.
fn default_map(reader: &mut Reader<'_>, stamp: Stamp, level: usize) -> Result<Map, DecodeError> {
    check_level(level)?;
    let count = reader.count("object", DOCUMENT_MERGED_BYTES_MAX, 2)?;
    let mut map = Map::default();
    map.entries.reserve(count.min(RESERVE_MAX));
    for _ in 0..count {
        let at = reader.position();
        let name = reader.text("field name", DOCUMENT_MERGED_BYTES_MAX)?;
        if map
            .entries
            .last()
            .is_some_and(|(last, _)| last.as_str() >= name)
        {
            return Err(invalid("field order", at));
        }
        let node = if reader.peek() == Some(Value::TAG_OBJECT) {
            reader.byte()?;
            Node::map(stamp, default_map(reader, stamp, level + 1)?)
        } else {
            Node::register(stamp, Value::decode_nested(reader, level + 1)?)
        };
        map.entries.push((name.to_owned(), node));
    }
    Ok(map)
}

/// Entries that are reserved on the word of a count. More grow as they are read: an entry takes 64
/// bytes of memory and may claim to have taken 2 of the input.
const RESERVE_MAX: usize = 256;

fn check_level(level: usize) -> Result<(), DecodeError> {
    if level < NESTING_LEVELS_MAX {
        return Ok(());
    }
    Err(DecodeError::TooLarge {
        what: "nesting",
        value: level as u64 + 1,
        limit: NESTING_LEVELS_MAX as u64,
    })
}

fn invalid(what: &'static str, at: usize) -> DecodeError {
    DecodeError::Invalid { what, at }
}

fn check_rising<T>(items: &[T], at: usize, dot: impl Fn(&T) -> Dot) -> Result<(), DecodeError> {
    if items.windows(2).all(|pair| dot(&pair[0]) < dot(&pair[1])) {
        Ok(())
    } else {
        Err(invalid("order of dots", at))
    }
}

/// The value that a default node stands for.
fn into_value(mut node: Node) -> Result<Value, DecodeError> {
    match (node.register.pop(), node.map) {
        (Some(version), None) => Ok(version.value),
        (None, Some(part)) => {
            let fields = part.map.entries.into_iter();
            let fields = fields.map(|(name, node)| Ok((name, into_value(node)?)));
            fields.collect::<Result<Object, _>>().map(Value::Object)
        }
        // A hostile record used the value twice.
        _ => Err(invalid("visible value", 0)),
    }
}

/// Reads what `Encoder` writes.
pub(super) struct Decoder<'a, 'v> {
    reader: Reader<'a>,
    version: &'v VersionVector,
    since: &'v VersionVector,
    actors: Vec<ActorId>,
    time: Timestamp,
    stamps: Vec<Stamp>,
    used: Vec<bool>,
    default: Option<Stamp>,
    /// Whether nothing but registers with one value and other stamps was met.
    is_simple: bool,
}

impl<'a, 'v> Decoder<'a, 'v> {
    pub(super) fn new(
        reader: Reader<'a>,
        version: &'v VersionVector,
        since: &'v VersionVector,
    ) -> Result<Self, DecodeError> {
        let mut decoder = Self {
            reader,
            version,
            since,
            actors: version.iter().map(|dot| dot.actor).collect(),
            time: Timestamp::ZERO,
            stamps: Vec::new(),
            used: Vec::new(),
            default: None,
            is_simple: true,
        };
        let at = decoder.reader.position();
        decoder.time = Timestamp(u64::from_le_bytes(decoder.reader.array()?));
        // A delta since nothing would have no commit to carry it with.
        if version.is_empty() && decoder.time != Timestamp::ZERO {
            return Err(invalid("time without a commit", at));
        }
        let count = decoder.count("stamps", 3)?;
        for _ in 0..count {
            let at = decoder.reader.position();
            let actor = decoder.actor()?;
            let n = decoder.n(actor)?;
            let time = decoder.time_before()?;
            let stamp = Stamp {
                dot: Dot { actor, n },
                time,
            };
            let last = decoder.stamps.last();
            if last.is_some_and(|last| (last.dot, last.time) >= (stamp.dot, stamp.time)) {
                return Err(invalid("order of stamps", at));
            }
            decoder.stamps.push(stamp);
        }
        decoder.used = vec![false; decoder.stamps.len()];
        Ok(decoder)
    }

    /// That of the latest commit of the document.
    pub(super) fn time(&self) -> Timestamp {
        self.time
    }

    /// The only life of a document that holds nothing but registers and maps as INSERT made them: its
    /// stamp, and the fields that have another or are an object in a register. `None` for any other
    /// document, and for one that may not be canonical; the places are not held against the values.
    pub(super) fn simple_life(mut self) -> Result<Option<(Stamp, Vec<Listed>)>, DecodeError> {
        if self.count("lives", 3)? != 1 {
            return Ok(None);
        }
        let life = self.stamp()?;
        if !self.stamps()?.is_empty() {
            return Ok(None);
        }
        let count = self.count("listed fields", 2)?;
        // Room for one more: the list is read to be edited.
        let mut listed = Vec::with_capacity(1 + count.min(RESERVE_MAX));
        let mut next = 0usize;
        for _ in 0..count {
            let at = self.reader.position();
            let place = usize::try_from(self.reader.varint()?).ok();
            let place = place.and_then(|gap| next.checked_add(gap));
            let place = place.filter(|place| *place < DOCUMENT_MERGED_BYTES_MAX);
            let place = place.ok_or(invalid("listed field", at))?;
            next = place + 1;
            match self.reader.varint()?.checked_sub(1) {
                None => return Ok(None),
                Some(code) => listed.push((place, self.stamp_at(code)?)),
            }
        }
        let is_simple = self.count("hidden fields", 2)? == 0
            && self.stamps.len() > 1
            && self.used.iter().all(|used| *used);
        self.reader.finish()?;
        Ok(is_simple.then_some((life, listed)))
    }

    fn count(&mut self, what: &'static str, bytes_each_min: usize) -> Result<usize, DecodeError> {
        self.reader
            .count(what, DOCUMENT_MERGED_BYTES_MAX, bytes_each_min)
    }

    fn actor(&mut self) -> Result<ActorId, DecodeError> {
        let at = self.reader.position();
        let place = usize::try_from(self.reader.varint()?).ok();
        let actor = place.and_then(|place| self.actors.get(place));
        actor.copied().ok_or(invalid("actor", at))
    }

    /// A commit number, as how far it is behind the version.
    fn n(&mut self, actor: ActorId) -> Result<u64, DecodeError> {
        let at = self.reader.position();
        let behind = self.reader.varint()?;
        match self.version.get(actor).checked_sub(behind) {
            Some(n) if n > 0 => Ok(n),
            _ => Err(invalid("commit number", at)),
        }
    }

    fn time_before(&mut self) -> Result<Timestamp, DecodeError> {
        let at = self.reader.position();
        let Some(code) = self.reader.varint()?.checked_sub(1) else {
            return Ok(Timestamp::ZERO);
        };
        let ms = self.time.unix_ms().checked_sub(code >> 1);
        let ms = ms.ok_or(invalid("time", at))?;
        let counter = match code & 1 {
            0 => Some(0),
            _ => u16::try_from(self.reader.varint()?)
                .ok()
                .filter(|counter| *counter > 0),
        };
        let time = Timestamp::new(ms, counter.ok_or(invalid("time", at))?);
        if time == Timestamp::ZERO || time > self.time {
            return Err(invalid("time", at));
        }
        Ok(time)
    }

    fn stamp(&mut self) -> Result<Stamp, DecodeError> {
        let place = self.reader.varint()?;
        self.stamp_at(place)
    }

    fn stamp_at(&mut self, place: u64) -> Result<Stamp, DecodeError> {
        let at = self.reader.position();
        let place = usize::try_from(place).map_err(|_| invalid("stamp", at))?;
        let stamp = self.stamps.get(place).ok_or(invalid("stamp", at))?;
        self.used[place] = true;
        Ok(*stamp)
    }

    fn stamps(&mut self) -> Result<Vec<Stamp>, DecodeError> {
        let at = self.reader.position();
        let count = self.count("stamps", 1)?;
        let mut stamps = Vec::with_capacity(count.min(RESERVE_MAX));
        for _ in 0..count {
            stamps.push(self.stamp()?);
        }
        check_rising(&stamps, at, Dotted::dot)?;
        Ok(stamps)
    }

    /// `shown` is the map as its visible values alone make it; without it all is written by name.
    fn map(&mut self, shown: Option<Map>, level: usize) -> Result<Map, DecodeError> {
        check_level(level)?;
        let removals = self.stamps()?;
        let has_shown = shown.is_some();
        let mut map = shown.unwrap_or_default();
        if has_shown {
            self.listed(&mut map, level)?;
        }
        map.removals = removals;
        let count = self.count("hidden fields", 2)?;
        self.is_simple &= count == 0 && map.removals.is_empty();
        let mut last: Option<&str> = None;
        for _ in 0..count {
            let at = self.reader.position();
            let name = self.reader.text("field name", DOCUMENT_MERGED_BYTES_MAX)?;
            let node = self.node(None, level + 1)?;
            if last.is_some_and(|last| last >= name) {
                return Err(invalid("field order", at));
            }
            last = Some(name);
            match map.position(name) {
                Ok(_) => return Err(invalid("hidden field", at)),
                // Hidden fields are rare among visible ones, and otherwise the place is the end.
                Err(place) => map.entries.insert(place, (name.to_owned(), node)),
            }
        }
        Ok(map)
    }

    fn listed(&mut self, map: &mut Map, level: usize) -> Result<(), DecodeError> {
        let count = self.count("listed fields", 2)?;
        let mut next = 0usize;
        for _ in 0..count {
            let at = self.reader.position();
            let place = usize::try_from(self.reader.varint()?).ok();
            let place = place.and_then(|gap| next.checked_add(gap));
            let place = place.filter(|place| *place < map.entries.len());
            let place = place.ok_or(invalid("listed field", at))?;
            next = place + 1;
            let node = &mut map.entries[place].1;
            match self.reader.varint()?.checked_sub(1) {
                None => {
                    self.is_simple = false;
                    let shown = std::mem::take(node);
                    *node = self.node(Some(shown), level + 1)?;
                }
                Some(code) => {
                    let stamp = self.stamp_at(code)?;
                    match node.register.first_mut() {
                        Some(_) if Some(stamp) == self.default => {
                            return Err(invalid("listed field", at));
                        }
                        Some(version) => version.stamp = stamp,
                        None => {
                            let value = into_value(std::mem::take(node))?;
                            *node = Node::register(stamp, value);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, mut shown: Option<Node>, level: usize) -> Result<Node, DecodeError> {
        let at = self.reader.position();
        let shape = self.reader.byte()?;
        let mut node = Node::default();
        if shape & HAS_REGISTER != 0 {
            let count = self.count("versions", 1)?;
            for _ in 0..count {
                let (stamp, carried) = self.carried()?;
                let value = if carried {
                    Value::decode_nested(&mut self.reader, level)?
                } else if self.since.covers(stamp.dot) {
                    Value::Null
                } else {
                    into_value(shown.take().ok_or(invalid("visible value", at))?)?
                };
                node.register.push(Version { stamp, value });
            }
            check_rising(&node.register, at, Dotted::dot)?;
        }
        if shape & HAS_MAP != 0 {
            let stamps = self.stamps()?;
            let shown = (shape >> SHOWN_SHIFT == SHOWN_MAP)
                .then(|| shown.take().and_then(|shown| shown.map))
                .flatten()
                .map(|part| part.map);
            let map = self.map(shown, level)?;
            node.map = Some(Box::new(MapPart { stamps, map }));
        }
        if shape & HAS_COUNTER != 0 {
            node.counter = Some(Box::new(self.counter()?));
        }
        // Parts of a delta may have nothing new in them; a state does not keep such parts.
        let (map, counter) = (node.map.as_deref(), node.counter.as_deref());
        if self.since.is_empty()
            && (node.is_void()
                || map.is_some_and(MapPart::is_void)
                || counter.is_some_and(Counter::is_void))
        {
            return Err(invalid("empty field", at));
        }
        Ok(node)
    }

    fn carried(&mut self) -> Result<(Stamp, bool), DecodeError> {
        let code = self.reader.varint()?;
        Ok((self.stamp_at(code >> 1)?, code & 1 == 1))
    }

    fn counter(&mut self) -> Result<Counter, DecodeError> {
        let at = self.reader.position();
        let mut counter = Counter {
            stamps: self.stamps()?,
            ..Counter::default()
        };
        for _ in 0..self.count("restarts", 1)? {
            let (stamp, carried) = self.carried()?;
            let mut base = Base {
                stamp,
                value: 0,
                seen: BTreeMap::new(),
            };
            if carried {
                base.value = self.reader.varint_signed()?;
                for _ in 0..self.count("sums", 2)? {
                    let actor = self.actor()?;
                    base.seen.insert(actor, self.reader.varint_signed()?);
                }
            }
            counter.bases.push(base);
        }
        check_rising(&counter.bases, at, Dotted::dot)?;
        for _ in 0..self.count("sums", 3)? {
            let actor = self.actor()?;
            let n = self.n(actor)?;
            let total = self.reader.varint_signed()?;
            counter.sums.insert(actor, Sum { n, total });
        }
        Ok(counter)
    }
}
