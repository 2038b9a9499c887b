//! The value of a document field, its order, and its compact binary form.

use std::{cmp::Ordering, collections::BTreeMap, ops::ControlFlow};

use crate::{
    codec::{DecodeError, Reader, put_bytes, put_varint, put_varint_signed},
    limits,
};

/// The fields of an object, in the order of their names.
pub type Object = BTreeMap<String, Value>;

/// A value of a document.
///
/// Integers and floats stay distinct but compare by number. A float is always finite: make it with
/// [`Value::float`], or ask [`Value::is_finite`]. A negative zero is zero: in order, key, bytes and
/// text. `PartialEq` is structural (`Int(1) != Float(1.0)`); [`Value::compare`] is the order of DQL,
/// in which they are equal.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A 64-bit signed integer.
    Int(i64),
    /// A finite 64-bit float.
    Float(f64),
    /// UTF-8 text.
    String(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// An ordered list.
    Array(Vec<Self>),
    /// Named fields.
    Object(Object),
}

// A float is never NaN, so equality is an equivalence.
impl Eq for Value {}

/// The kind of a [`Value`], in ascending DQL sort order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValueKind {
    /// `false` before `true`.
    Bool,
    /// Integers and floats together.
    Number,
    /// Bytes, compared as such.
    Binary,
    /// Text, compared by code point.
    String,
    /// Element by element, then by length.
    Array,
    /// Name and value pairs in name order, then by length.
    Object,
    /// `null`; only MISSING, which is not a value, comes after it.
    Null,
}

impl Value {
    /// A float value; `None` for NaN and the infinities, which documents cannot hold.
    pub fn float(number: f64) -> Option<Self> {
        number
            .is_finite()
            .then_some(Self::Float(unsigned_zero(number)))
    }

    /// Whether all floats inside are finite. Values from outside that were not made with
    /// [`Value::float`] are asked before anything is done with them.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Float(number) => number.is_finite(),
            Self::Array(items) => items.iter().all(Self::is_finite),
            Self::Object(fields) => fields.values().all(Self::is_finite),
            _ => true,
        }
    }

    /// The kind, which is also the first sort criterion.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Null => ValueKind::Null,
            Self::Bool(_) => ValueKind::Bool,
            Self::Int(_) | Self::Float(_) => ValueKind::Number,
            Self::String(_) => ValueKind::String,
            Self::Binary(_) => ValueKind::Binary,
            Self::Array(_) => ValueKind::Array,
            Self::Object(_) => ValueKind::Object,
        }
    }

    /// The name that DQL's `type()` gives.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Int(_) => "integer",
            Self::Float(_) => "float",
            Self::String(_) => "string",
            Self::Binary(_) => "binary",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// The total order of DQL: false < true < numbers < binary < strings < arrays < objects < null.
    ///
    /// Numbers compare by exact mathematical value, so `Int(1)` and `Float(1.0)` are `Equal`.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => unsigned_zero(*a).total_cmp(&unsigned_zero(*b)),
            (Self::Int(a), Self::Float(b)) => compare_int_float(*a, *b),
            (Self::Float(a), Self::Int(b)) => compare_int_float(*b, *a).reverse(),
            (Self::Binary(a), Self::Binary(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Array(a), Self::Array(b)) => {
                compare_sequences(a.iter(), b.iter(), Self::compare)
            }
            (Self::Object(a), Self::Object(b)) => {
                compare_sequences(a.iter(), b.iter(), |(ka, va), (kb, vb)| {
                    ka.cmp(kb).then_with(|| va.compare(vb))
                })
            }
            _ => self.kind().cmp(&other.kind()),
        }
    }

    /// How deep arrays and objects nest; a scalar is 0.
    pub fn nesting_levels(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::nesting_levels).max().unwrap_or(0),
            Self::Object(fields) => {
                1 + fields.values().map(Self::nesting_levels).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// The string inside, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer inside, if it is one. A float is not converted.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The number inside as a float, from an integer or a float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "the caller asked for a float")]
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The boolean inside, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The fields, if it is an object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// The items, if it is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Appends the compact binary form: one tag byte, then the content (docs/format/disk.md,
    /// "Values"). One value has one form.
    ///
    /// # Panics
    /// If a float is not finite: nobody could read it back.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(TAG_NULL),
            Self::Bool(false) => out.push(TAG_FALSE),
            Self::Bool(true) => out.push(TAG_TRUE),
            Self::Int(number) => {
                out.push(TAG_INT);
                put_varint_signed(out, *number);
            }
            Self::Float(number) => {
                assert!(number.is_finite(), "{number} is in a value");
                out.push(TAG_FLOAT);
                out.extend_from_slice(&unsigned_zero(*number).to_bits().to_le_bytes());
            }
            Self::String(text) => {
                out.push(TAG_STRING);
                put_bytes(out, text.as_bytes());
            }
            Self::Binary(bytes) => {
                out.push(TAG_BINARY);
                put_bytes(out, bytes);
            }
            Self::Array(items) => {
                out.push(TAG_ARRAY);
                put_varint(out, items.len() as u64);
                items.iter().for_each(|item| item.encode(out));
            }
            Self::Object(fields) => {
                out.push(TAG_OBJECT);
                encode_object(fields, out);
            }
        }
    }

    /// The compact binary form as new bytes.
    ///
    /// # Panics
    /// As [`Value::encode`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Reads one value of [`Value::encode`].
    ///
    /// # Errors
    /// [`DecodeError`] on anything that `encode` does not produce, nesting over the limit included.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        decode_value(reader, 0)
    }

    /// Reads one value that stands inside `levels` arrays and objects.
    ///
    /// # Errors
    /// As [`Value::decode`]; the levels count towards the limit of nesting.
    pub fn decode_nested(reader: &mut Reader<'_>, levels: usize) -> Result<Self, DecodeError> {
        decode_value(reader, levels)
    }

    /// The tag byte of an encoded object: after it comes what [`encode_object`] writes.
    pub const TAG_OBJECT: u8 = TAG_OBJECT;

    /// Reads bytes that hold exactly one value.
    ///
    /// # Errors
    /// As [`Value::decode`]; [`DecodeError::TrailingBytes`] if more follows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

const TAG_NULL: u8 = 0;
const TAG_FALSE: u8 = 1;
const TAG_TRUE: u8 = 2;
const TAG_INT: u8 = 3;
const TAG_FLOAT: u8 = 4;
const TAG_STRING: u8 = 5;
const TAG_BINARY: u8 = 6;
const TAG_ARRAY: u8 = 7;
const TAG_OBJECT: u8 = 8;

/// Items of an array that are reserved on its word alone; more grow as they are read.
const ARRAY_RESERVED_MAX: usize = 64;

/// Reads the fields of an object without its tag, as [`encode_object`] writes them.
///
/// # Errors
/// As [`Value::decode`].
pub fn decode_object(reader: &mut Reader<'_>) -> Result<Object, DecodeError> {
    decode_fields(reader, 0)
}

/// Reads those fields of an object without its tag whose names are among `names`, which rise strictly.
///
/// Gives what [`decode_object`] gives with the other fields left out, but builds nothing of them. Ends
/// behind the last name asked for: the reader stands somewhere inside the object then, and damage in
/// what was not read is not noticed.
///
/// # Errors
/// [`DecodeError`] on damage in what was read or passed.
pub fn decode_object_fields(
    reader: &mut Reader<'_>,
    names: &[impl AsRef<str>],
) -> Result<Object, DecodeError> {
    let mut fields = Object::new();
    each_wanted(reader, names, |name, reader| {
        fields.insert(name.to_owned(), decode_value(reader, 1)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(fields)
}

/// Whether a field of an object without its tag is this text. Builds nothing, and reads no further than
/// the field.
///
/// # Errors
/// [`DecodeError`] if the bytes up to there are not the fields of an object.
pub fn is_object_field_text(
    reader: &mut Reader<'_>,
    name: &str,
    text: &str,
) -> Result<bool, DecodeError> {
    let mut is_same = false;
    each_wanted(reader, &[name], |_, reader| {
        if reader.peek() == Some(TAG_STRING) {
            reader.byte()?;
            let read = reader.bytes("string", limits::DOCUMENT_MERGED_BYTES_MAX)?;
            is_same = read == text.as_bytes();
        }
        Ok(ControlFlow::Break(()))
    })?;
    Ok(is_same)
}

/// As [`decode_object_fields`], into an object that held other fields of the same names before, as the
/// rows of a scan do: where the same fields are there, their memory is used again. The field `kept` is
/// not read: that of `into` stays as it is, if it is there.
///
/// # Errors
/// As [`decode_object_fields`]; `into` then holds some of both objects.
pub fn decode_object_fields_into(
    reader: &mut Reader<'_>,
    names: &[impl AsRef<str>],
    kept: &str,
    into: &mut Object,
) -> Result<(), DecodeError> {
    let is_empty = into.keys().all(|name| name == kept);
    let start = reader.clone();
    if !is_empty && fits(reader, names, kept, into)? {
        return Ok(());
    }
    *reader = start;
    into.retain(|name, _| name == kept);
    each_wanted(reader, names, |name, reader| {
        match name == kept {
            true => skip_value(reader, 1)?,
            false => {
                into.insert(name.to_owned(), decode_value(reader, 1)?);
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Reads into the values of the same fields; whether those of `into` are the same.
fn fits(
    reader: &mut Reader<'_>,
    names: &[impl AsRef<str>],
    kept: &str,
    into: &mut Object,
) -> Result<bool, DecodeError> {
    let mut slots = into.iter_mut().filter(|(name, _)| *name != kept);
    let mut is_same_shape = true;
    each_wanted(reader, names, |name, reader| {
        if name == kept {
            skip_value(reader, 1)?;
            return Ok(ControlFlow::Continue(()));
        }
        match slots.next() {
            Some((known, slot)) if known == name => decode_value_into(reader, slot)?,
            _ => {
                is_same_shape = false;
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(is_same_shape && slots.next().is_none())
}

/// A text is read into the memory of the text before it.
fn decode_value_into(reader: &mut Reader<'_>, slot: &mut Value) -> Result<(), DecodeError> {
    if let Value::String(text) = slot
        && reader.peek() == Some(TAG_STRING)
    {
        reader.byte()?;
        let read = reader.text("string", limits::DOCUMENT_MERGED_BYTES_MAX)?;
        text.clear();
        text.push_str(read);
        return Ok(());
    }
    *slot = decode_value(reader, 1)?;
    Ok(())
}

/// Finds the fields of an object whose names are among `names`; `found` reads the value, or breaks.
fn each_wanted<'n, S: AsRef<str>>(
    reader: &mut Reader<'_>,
    names: &'n [S],
    mut found: impl FnMut(&'n str, &mut Reader<'_>) -> Result<ControlFlow<()>, DecodeError>,
) -> Result<(), DecodeError> {
    let count = reader.count("object", limits::DOCUMENT_MERGED_BYTES_MAX, 2)?;
    let mut wanted = names.iter().map(AsRef::as_ref);
    let mut next = wanted.next();
    let mut left = count;
    loop {
        let Some(candidate) = next else {
            return Ok(());
        };
        left = pass_before(reader, candidate.as_bytes(), left);
        if left == 0 {
            return Ok(());
        }
        left -= 1;
        let name = match reader.short_bytes() {
            Some(name) => name,
            None => reader.bytes("field name", limits::DOCUMENT_MERGED_BYTES_MAX)?,
        };
        // Both rise, so one walk over each is enough.
        let order = loop {
            let Some(candidate) = next else {
                return Ok(());
            };
            match compare_names(candidate.as_bytes(), name) {
                Ordering::Less => next = wanted.next(),
                order => break order,
            }
        };
        match next {
            Some(candidate) if order.is_eq() => {
                if found(candidate, reader)?.is_break() {
                    return Ok(());
                }
                next = wanted.next();
            }
            _ => skip_value(reader, 1)?,
        }
    }
}

/// Passes over fields whose names begin with a smaller byte than `name`, as long as both parts are in a
/// few bytes; returns how many of `count` fields are left. Most of a scan's time goes here.
fn pass_before(reader: &mut Reader<'_>, name: &[u8], mut count: usize) -> usize {
    let Some(&first) = name.first() else {
        return count;
    };
    let all = reader.rest();
    let mut rest = all;
    while count > 0 {
        let behind = match *rest {
            [len @ 1..0x80, start, ..] if start < first => rest
                .get(1 + usize::from(len)..)
                .and_then(|value| value.get(short_len(value)?..)),
            _ => None,
        };
        let Some(behind) = behind else {
            break;
        };
        rest = behind;
        count -= 1;
    }
    let passed = reader.take_short(all.len() - rest.len());
    debug_assert!(passed.is_some(), "a part of what was left");
    count
}

/// How many bytes a value takes, if it is in a few, as most are. It may be cut off.
#[inline]
fn short_len(value: &[u8]) -> Option<usize> {
    Some(match *value {
        [TAG_STRING | TAG_BINARY, len @ 0..0x80, ..] => 2 + usize::from(len),
        [TAG_FLOAT, ..] => 9,
        [TAG_INT, 0..0x80, ..] => 2,
        [TAG_INT, 0x80..=0xff, 1..0x80, ..] => 3,
        [TAG_INT, 0x80..=0xff, 0x80..=0xff, 1..0x80, ..] => 4,
        [TAG_NULL | TAG_FALSE | TAG_TRUE, ..] => 1,
        _ => return None,
    })
}

/// The order of bytes. Names mostly differ in their first byte, which spares the call.
fn compare_names(a: &[u8], b: &[u8]) -> Ordering {
    match (a.first(), b.first()) {
        (Some(first), Some(other)) if first != other => first.cmp(other),
        _ => a.cmp(b),
    }
}

/// Passes over a value, if it is in a few bytes; whether it was.
#[inline]
fn skip_short(reader: &mut Reader<'_>) -> bool {
    let short = short_len(reader.rest()).and_then(|len| reader.take_short(len));
    short.is_some()
}

/// Passes over a value and builds nothing.
fn skip_value(reader: &mut Reader<'_>, level: usize) -> Result<(), DecodeError> {
    if skip_short(reader) {
        return Ok(());
    }
    let at = reader.position();
    let tag = reader.byte()?;
    match tag {
        TAG_NULL | TAG_FALSE | TAG_TRUE => {}
        TAG_INT => {
            reader.varint()?;
        }
        TAG_FLOAT => {
            reader.take(8)?;
        }
        TAG_STRING | TAG_BINARY => {
            reader.bytes("text", limits::DOCUMENT_MERGED_BYTES_MAX)?;
        }
        TAG_ARRAY | TAG_OBJECT => {
            check_nesting(level)?;
            let is_object = tag == TAG_OBJECT;
            let bytes_each_min = 1 + usize::from(is_object);
            let count = reader.count("items", limits::DOCUMENT_MERGED_BYTES_MAX, bytes_each_min)?;
            for _ in 0..count {
                if is_object && reader.short_bytes().is_none() {
                    reader.bytes("field name", limits::DOCUMENT_MERGED_BYTES_MAX)?;
                }
                if !skip_short(reader) {
                    skip_value(reader, level + 1)?;
                }
            }
        }
        _ => {
            return Err(DecodeError::Invalid {
                what: "value tag",
                at,
            });
        }
    }
    Ok(())
}

/// Passes over a value with every check of [`Value::decode_nested`], and builds nothing.
///
/// # Errors
/// As [`Value::decode_nested`].
pub fn check_value(reader: &mut Reader<'_>, levels: usize) -> Result<(), DecodeError> {
    let at = reader.position();
    match reader.peek() {
        Some(TAG_STRING) => {
            reader.byte()?;
            reader.text("string", limits::DOCUMENT_MERGED_BYTES_MAX)?;
        }
        Some(tag @ (TAG_ARRAY | TAG_OBJECT)) => {
            check_nesting(levels)?;
            reader.byte()?;
            let is_object = tag == TAG_OBJECT;
            let (what, bytes_each_min) = match is_object {
                true => ("object", 2),
                false => ("array", 1),
            };
            let count = reader.count(what, limits::DOCUMENT_MERGED_BYTES_MAX, bytes_each_min)?;
            let mut last: Option<&str> = None;
            for _ in 0..count {
                if is_object {
                    let at = reader.position();
                    let name = reader.text("field name", limits::DOCUMENT_MERGED_BYTES_MAX)?;
                    if last.is_some_and(|last| last >= name) {
                        let what = "field order";
                        return Err(DecodeError::Invalid { what, at });
                    }
                    last = Some(name);
                }
                check_value(reader, levels + 1)?;
            }
        }
        Some(TAG_FLOAT) => {
            decode_value(reader, levels)?;
        }
        Some(TAG_INT) => {
            reader.byte()?;
            reader.varint()?;
        }
        Some(TAG_BINARY) => {
            reader.byte()?;
            reader.bytes("binary", limits::DOCUMENT_MERGED_BYTES_MAX)?;
        }
        Some(TAG_NULL | TAG_FALSE | TAG_TRUE) => {
            reader.byte()?;
        }
        Some(_) => {
            let what = "value tag";
            return Err(DecodeError::Invalid { what, at });
        }
        None => return Err(DecodeError::Truncated { at, needed: 1 }),
    }
    Ok(())
}

fn check_nesting(level: usize) -> Result<(), DecodeError> {
    if level < limits::NESTING_LEVELS_MAX {
        return Ok(());
    }
    Err(DecodeError::TooLarge {
        what: "nesting",
        value: level as u64 + 1,
        limit: limits::NESTING_LEVELS_MAX as u64,
    })
}

/// Appends the fields of an object without its tag: a count, then name and value in name order.
///
/// # Panics
/// As [`Value::encode`].
pub fn encode_object(fields: &Object, out: &mut Vec<u8>) {
    put_varint(out, fields.len() as u64);
    for (name, value) in fields {
        put_bytes(out, name.as_bytes());
        value.encode(out);
    }
}

fn decode_value(reader: &mut Reader<'_>, level: usize) -> Result<Value, DecodeError> {
    let at = reader.position();
    let tag = reader.byte()?;
    if matches!(tag, TAG_ARRAY | TAG_OBJECT) {
        check_nesting(level)?;
    }
    Ok(match tag {
        TAG_NULL => Value::Null,
        TAG_FALSE => Value::Bool(false),
        TAG_TRUE => Value::Bool(true),
        TAG_INT => Value::Int(reader.varint_signed()?),
        TAG_FLOAT => {
            let number = f64::from_bits(u64::from_le_bytes(reader.array()?));
            match Value::float(number) {
                Some(Value::Float(same)) if same.to_bits() == number.to_bits() => {
                    Value::Float(number)
                }
                _ => return Err(DecodeError::Invalid { what: "float", at }),
            }
        }
        TAG_STRING => Value::String(
            reader
                .text("string", limits::DOCUMENT_MERGED_BYTES_MAX)?
                .to_owned(),
        ),
        TAG_BINARY => Value::Binary(
            reader
                .bytes("binary", limits::DOCUMENT_MERGED_BYTES_MAX)?
                .to_vec(),
        ),
        TAG_ARRAY => {
            let count = reader.count("array", limits::DOCUMENT_MERGED_BYTES_MAX, 1)?;
            // A value takes more memory than its one byte, and arrays nest: 64 levels that each
            // claim the rest of a frame would reserve gigabytes before the first item fails.
            let mut items = Vec::with_capacity(count.min(ARRAY_RESERVED_MAX));
            for _ in 0..count {
                items.push(decode_value(reader, level + 1)?);
            }
            Value::Array(items)
        }
        TAG_OBJECT => Value::Object(decode_fields(reader, level)?),
        _ => {
            return Err(DecodeError::Invalid {
                what: "value tag",
                at,
            });
        }
    })
}

fn decode_fields(reader: &mut Reader<'_>, level: usize) -> Result<Object, DecodeError> {
    let count = reader.count("object", limits::DOCUMENT_MERGED_BYTES_MAX, 2)?;
    // A map built at once from rising names is a tenth faster than one that grows by insertion.
    let mut fields: Vec<(String, Value)> = Vec::with_capacity(count.min(ARRAY_RESERVED_MAX));
    for _ in 0..count {
        let at = reader.position();
        let name = reader.text("field name", limits::DOCUMENT_MERGED_BYTES_MAX)?;
        // Strictly rising names give every object exactly one form.
        if fields.last().is_some_and(|(last, _)| last.as_str() >= name) {
            return Err(DecodeError::Invalid {
                what: "field order",
                at,
            });
        }
        fields.push((name.to_owned(), decode_value(reader, level + 1)?));
    }
    Ok(fields.into_iter().collect())
}

fn compare_sequences<T>(
    mut a: impl Iterator<Item = T>,
    mut b: impl Iterator<Item = T>,
    compare: impl Fn(T, T) -> Ordering,
) -> Ordering {
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => match compare(x, y) {
                Ordering::Equal => {}
                decided => return decided,
            },
        }
    }
}

/// The number with one zero: a negative one would be a second form of an equal number.
pub(crate) fn unsigned_zero(number: f64) -> f64 {
    // The sum of two zeros of different signs is positive.
    number + 0.0
}

/// Compares by exact value: an `i64` does not always fit an `f64`.
pub(crate) fn compare_int_float(int: i64, float: f64) -> Ordering {
    const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
    if float >= TWO_POW_63 {
        return Ordering::Less;
    }
    if float < -TWO_POW_63 {
        return Ordering::Greater;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "in range by the checks above"
    )]
    let whole = float.trunc() as i64;
    int.cmp(&whole)
        .then_with(|| 0.0f64.total_cmp(&(float.fract() + 0.0)))
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<Object> for Value {
    fn from(fields: Object) -> Self {
        Self::Object(fields)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_exact_value() {
        let check = |int: i64, float: f64, expected| {
            assert_eq!(
                Value::Int(int).compare(&Value::Float(float)),
                expected,
                "{int} {float}"
            );
            assert_eq!(
                Value::Float(float).compare(&Value::Int(int)),
                expected.reverse(),
                "{float} {int}"
            );
        };
        check(1, 1.0, Ordering::Equal);
        check(1, 1.5, Ordering::Less);
        check(-1, -1.5, Ordering::Greater);
        check(i64::MAX, 9_223_372_036_854_775_808.0, Ordering::Less);
        check(i64::MIN, -9_223_372_036_854_775_808.0, Ordering::Equal);
        check((1 << 53) + 1, 9_007_199_254_740_992.0, Ordering::Greater);
        check(0, -0.5, Ordering::Greater);
        check(0, 0.0, Ordering::Equal);
    }

    #[test]
    fn floats_outside_the_documents_are_refused() {
        assert_eq!(Value::float(f64::NAN), None);
        assert_eq!(Value::float(f64::INFINITY), None);
        assert_eq!(Value::float(-0.0), Some(Value::Float(0.0)));
        let mut bytes = vec![TAG_FLOAT];
        bytes.extend_from_slice(&f64::NAN.to_bits().to_le_bytes());
        assert!(Value::from_bytes(&bytes).is_err());
    }

    #[test]
    fn a_count_beyond_the_input_is_refused_without_allocating() {
        let bytes = [TAG_ARRAY, 0xff, 0xff, 0xff, 0x01];
        assert!(matches!(
            Value::from_bytes(&bytes),
            Err(DecodeError::TooLarge { .. } | DecodeError::Truncated { .. })
        ));
    }
}
