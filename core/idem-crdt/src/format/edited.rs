//! Edits from bytes to bytes, which build nothing of what they leave alone.
//!
//! Most writes insert a document of which nothing is known, or set fields at the top of one that holds
//! registers and maps as INSERT made them. What they make is known without the tree of nodes between
//! the bytes. Everything else, and everything that is not as it should be, is left to the general way,
//! which decodes, edits and encodes, and finds the words for an error.

use idem_model::{
    Object, Stamp, Timestamp, Value, VersionVector, check_value,
    codec::{Reader, put_bytes},
    encode_object, limits,
};

use super::{
    decode::{Decoder, plain_stamp, split, version_vector},
    encode::{Encoder, put_plain, put_values_len, put_version},
    *,
};
use crate::document::check_stamp;

/// The document that INSERT of these fields makes where nothing is known and no kinds are declared.
pub(crate) fn encode_inserted(fields: &Object, stamp: Stamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(&[DOCUMENT_VERSION, 0, 0, 0, 0]);
    encode_object(fields, &mut out);
    put_values_len(&mut out);
    put_plain(&mut out, stamp);
    out
}

/// The document with other values in registers at its top. `sets` rise strictly by name, and no value
/// is an object. `None` leaves it to the general way.
pub(crate) fn encode_with(bytes: &[u8], sets: &[(&str, &Value)], stamp: Stamp) -> Option<Vec<u8>> {
    let (values, metadata) = split(bytes).ok()?;
    if values.is_empty() {
        return None;
    }
    let mut before = Simple::read(metadata)?;
    check_stamp(stamp, &before.version);
    if before.version.covers(stamp.dot) {
        // What the same transaction wrote is taken back, and not only replaced.
        return None;
    }
    let mut out = Vec::with_capacity(bytes.len() + 64 * (1 + sets.len()));
    out.extend_from_slice(&[DOCUMENT_VERSION, 0, 0, 0, 0]);
    before.put_values(values, sets, stamp, &mut out)?;
    put_values_len(&mut out);
    before.version.include(stamp.dot);
    before.time = before.time.max(stamp.time);
    before.put_metadata(&mut out);
    Some(out)
}

/// The place of a field among the values, and the stamp of its register.
pub(super) type Listed = (usize, Stamp);

/// The metadata of a document with one life in which every field is a register, or is as INSERT made
/// it.
struct Simple {
    version: VersionVector,
    time: Timestamp,
    /// That of the life, and of every field that is not listed.
    life: Stamp,
    listed: Vec<Listed>,
}

impl Simple {
    fn read(metadata: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(metadata);
        match reader.byte().ok()? {
            FORM_PLAIN => {
                let life = plain_stamp(&mut reader).ok()?;
                reader.finish().ok()?;
                Some(Self {
                    version: VersionVector::from_iter([life.dot]),
                    time: life.time,
                    life,
                    listed: Vec::new(),
                })
            }
            FORM_GENERAL => {
                let version = version_vector(&mut reader).ok()?;
                let nothing = VersionVector::new();
                let decoder = Decoder::new(reader, &version, &nothing).ok()?;
                let time = decoder.time();
                let (life, listed) = decoder.simple_life().ok()??;
                Some(Self {
                    version,
                    time,
                    life,
                    listed,
                })
            }
            _ => None,
        }
    }

    /// Writes the values as they will be, and lists the fields anew.
    fn put_values(
        &mut self,
        values: &[u8],
        sets: &[(&str, &Value)],
        stamp: Stamp,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let mut reader = Reader::new(values);
        let limit = limits::DOCUMENT_MERGED_BYTES_MAX;
        let count = reader.count("object", limit, 2).ok()?;
        let count_at = out.len();
        out.push(0);
        let mut after = After {
            out,
            listed: Vec::with_capacity(self.listed.len() + sets.len()),
            place: 0,
        };
        let mut sets = sets.iter().peekable();
        let mut known = self.listed.iter().peekable();
        let mut last: Option<&str> = None;
        for place in 0..count {
            let start = reader.position();
            let name = reader.text("field name", limit).ok()?;
            if last.is_some_and(|last| last >= name) {
                return None;
            }
            last = Some(name);
            let is_object = reader.peek() == Some(Value::TAG_OBJECT);
            check_value(&mut reader, 1).ok()?;
            let own = known.next_if(|(listed, _)| *listed == place);
            let own = own.map(|(_, stamp)| *stamp);
            // Only of an object does this say anything: that it is one value and no map.
            if own == Some(self.life) && !is_object {
                return None;
            }
            while let Some((set, value)) = sets.next_if(|(set, _)| *set < name) {
                after.put(set, value, stamp);
            }
            match sets.next_if(|(set, _)| *set == name) {
                // The map stays, beside the register that takes its place.
                Some(_) if is_object && own.is_none() => return None,
                Some((set, value)) => after.put(set, value, stamp),
                None => after.keep(&values[start..reader.position()], own),
            }
        }
        for (set, value) in sets {
            after.put(set, value, stamp);
        }
        let is_whole = reader.is_empty() && known.next().is_none();
        let (count, listed) = (after.place, after.listed);
        // A longer count takes more than the byte that was left for it.
        out[count_at] = u8::try_from(count).ok().filter(|count| *count < 0x80)?;
        self.listed = listed;
        is_whole.then_some(())
    }

    fn put_metadata(&self, out: &mut Vec<u8>) {
        out.push(FORM_GENERAL);
        put_version(out, &self.version);
        let nothing = VersionVector::new();
        let stamps = self.listed.iter().map(|(_, stamp)| *stamp);
        let stamps = stamps.chain([self.life]).collect();
        let mut encoder = Encoder::new(out, &self.version, &nothing);
        encoder.put_table(self.time, stamps);
        encoder.put_simple_life(self.life, &self.listed);
    }
}

/// The values of the edited document, as far as they are written.
struct After<'o> {
    out: &'o mut Vec<u8>,
    listed: Vec<Listed>,
    /// That of the next field.
    place: usize,
}

impl After<'_> {
    fn put(&mut self, name: &str, value: &Value, stamp: Stamp) {
        put_bytes(self.out, name.as_bytes());
        value.encode(self.out);
        self.listed.push((self.place, stamp));
        self.place += 1;
    }

    fn keep(&mut self, encoded: &[u8], own: Option<Stamp>) {
        self.out.extend_from_slice(encoded);
        self.listed.extend(own.map(|stamp| (self.place, stamp)));
        self.place += 1;
    }
}
