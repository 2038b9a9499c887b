//! The order-preserving byte form of values: comparing bytes compares values by the DQL order.
//!
//! Used for document ids and index entries (docs/format/disk.md, "Keys"). Each element starts with a
//! tag byte that follows the sort order across kinds; variable-length content escapes `00` as
//! `00 FF` and ends with `00 00`, so that no encoding is a prefix of another.
//!
//! A number is its nearest float in sortable bits, then the exact distance of an integer from that
//! float, then one byte that tells integer (0) from float (1). [`number_prefix_len`] lets a range
//! scan treat `1` and `1.0` as equal by leaving that last byte out.

use crate::{
    codec::DecodeError,
    limits,
    value::{Object, Value, unsigned_zero},
};

const TAG_END: u8 = 0x01;
const TAG_FALSE: u8 = 0x10;
const TAG_TRUE: u8 = 0x11;
const TAG_NUMBER: u8 = 0x20;
const TAG_BINARY: u8 = 0x30;
const TAG_STRING: u8 = 0x40;
const TAG_ARRAY: u8 = 0x50;
const TAG_OBJECT: u8 = 0x60;
const TAG_NULL: u8 = 0x70;
const TAG_MISSING: u8 = 0x78;

const KIND_INT: u8 = 0;
const KIND_FLOAT: u8 = 1;

/// Length of an encoded number without its last byte, which tells integer from float.
pub const fn number_prefix_len() -> usize {
    1 + 8 + 2
}

/// Appends the key form of `value`.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(false) => out.push(TAG_FALSE),
        Value::Bool(true) => out.push(TAG_TRUE),
        Value::Int(number) => encode_int(*number, out),
        Value::Float(number) => encode_number(*number, 0, KIND_FLOAT, out),
        Value::Binary(bytes) => {
            out.push(TAG_BINARY);
            encode_escaped(bytes, out);
        }
        Value::String(text) => {
            out.push(TAG_STRING);
            encode_escaped(text.as_bytes(), out);
        }
        Value::Array(items) => {
            out.push(TAG_ARRAY);
            items.iter().for_each(|item| encode(item, out));
            out.push(TAG_END);
        }
        Value::Object(fields) => {
            out.push(TAG_OBJECT);
            for (name, field) in fields {
                out.push(TAG_STRING);
                encode_escaped(name.as_bytes(), out);
                encode(field, out);
            }
            out.push(TAG_END);
        }
        Value::Null => out.push(TAG_NULL),
    }
}

/// Appends the key form of MISSING, which sorts after every value.
pub fn encode_missing(out: &mut Vec<u8>) {
    out.push(TAG_MISSING);
}

/// Appends the key form of `value`, or of MISSING for `None`.
pub fn encode_optional(value: Option<&Value>, out: &mut Vec<u8>) {
    match value {
        Some(value) => encode(value, out),
        None => encode_missing(out),
    }
}

/// Reads one element from the front of `bytes`; returns it (`None` is MISSING) and its length.
///
/// # Errors
/// [`DecodeError`] on anything that [`encode`] does not produce.
pub fn decode(bytes: &[u8]) -> Result<(Option<Value>, usize), DecodeError> {
    let mut at = 0;
    let value = decode_at(bytes, &mut at, 0)?;
    Ok((value, at))
}

/// Length of the element at the front of `bytes`, whose bytes are all inverted if `is_inverted`.
/// Faster than [`decode`], and checks less: what it accepts need not decode.
///
/// # Errors
/// [`DecodeError`] if no element begins there or it is cut off.
pub fn element_len(bytes: &[u8], is_inverted: bool) -> Result<usize, DecodeError> {
    let mask = if is_inverted { 0xff } else { 0 };
    let byte = |at: usize| peek(bytes, at).map(|byte| byte ^ mask);
    let mut at = 0;
    // Arrays and objects are elements between their tag and an end mark; depth counts the open ones.
    let mut depth = 0_usize;
    loop {
        let tag = byte(at)?;
        at += 1;
        match tag {
            TAG_FALSE | TAG_TRUE | TAG_NULL | TAG_MISSING => {}
            TAG_NUMBER => at += 11,
            TAG_BINARY | TAG_STRING => loop {
                let is_escape = byte(at)? == 0;
                at += 1;
                if is_escape {
                    let next = byte(at)?;
                    at += 1;
                    if next == 0 {
                        break;
                    }
                }
            },
            TAG_ARRAY | TAG_OBJECT => depth += 1,
            TAG_END if depth > 0 => depth -= 1,
            _ => {
                return Err(DecodeError::Invalid {
                    what: "key tag",
                    at: at - 1,
                });
            }
        }
        if depth == 0 {
            break;
        }
    }
    match bytes.len().checked_sub(at) {
        Some(_) => Ok(at),
        None => Err(DecodeError::Truncated {
            at: bytes.len(),
            needed: at - bytes.len(),
        }),
    }
}

/// As [`decode`] for bytes that hold exactly one element, into a value that held another one before: a
/// text is read into the memory of a text.
///
/// # Errors
/// As [`decode`]; also if the element is MISSING or more follows.
pub fn decode_into(bytes: &[u8], value: &mut Value) -> Result<(), DecodeError> {
    if let Value::String(text) = value
        && let [TAG_STRING, content @ .., 0, 0] = bytes
        && zero_at(content).is_none()
        && let Ok(read) = str::from_utf8(content)
    {
        text.clear();
        text.push_str(read);
        return Ok(());
    }
    let (read, len) = decode(bytes)?;
    match bytes.len() - len {
        0 => {}
        count => return Err(DecodeError::TrailingBytes { count }),
    }
    *value = read.ok_or(DecodeError::Invalid { what: "key", at: 0 })?;
    Ok(())
}

/// Calls `visit` with the place of the last byte of every number in the element at the front of
/// `bytes`, the byte that tells integer from float, and returns the length of the element. All bytes
/// are inverted if `is_inverted`.
///
/// # Errors
/// [`DecodeError`] if no element begins there or it is cut off.
pub fn number_ends(
    bytes: &[u8],
    is_inverted: bool,
    visit: &mut dyn FnMut(usize),
) -> Result<usize, DecodeError> {
    let mask = if is_inverted { 0xff } else { 0 };
    let mut at = 0;
    let mut open = 0_usize;
    loop {
        let tag = next(bytes, &mut at)? ^ mask;
        match tag {
            TAG_FALSE | TAG_TRUE | TAG_NULL | TAG_MISSING => {}
            TAG_NUMBER => {
                at += number_prefix_len() - 1;
                next(bytes, &mut at)?;
                visit(at - 1);
            }
            TAG_BINARY | TAG_STRING => {
                while next(bytes, &mut at)? ^ mask != 0 || next(bytes, &mut at)? ^ mask != 0 {}
            }
            TAG_ARRAY | TAG_OBJECT => open += 1,
            TAG_END if open > 0 => open -= 1,
            _ => {
                return Err(DecodeError::Invalid {
                    what: "key tag",
                    at: at - 1,
                });
            }
        }
        if open == 0 {
            return Ok(at);
        }
    }
}

/// The smallest byte string above every string that starts with `prefix`; `None` if there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

fn encode_int(number: i64, out: &mut Vec<u8>) {
    let (float, distance) = nearest(number);
    encode_number(float, distance, KIND_INT, out);
}

/// The float nearest to an integer, and how far the integer is from it.
fn nearest(number: i64) -> (f64, i16) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "the distance below restores the exact value"
    )]
    let nearest = number as f64;
    // Floats near 2^63 are 1024 apart, so the distance to the nearest one is at most 512.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "integers of this size are exact in i128"
    )]
    let distance = i128::from(number) - nearest as i128;
    let distance = i16::try_from(distance).expect("an i64 is within 512 of its nearest float");
    (nearest, distance)
}

fn encode_number(float: f64, distance: i16, kind: u8, out: &mut Vec<u8>) {
    out.push(TAG_NUMBER);
    let bits = unsigned_zero(float).to_bits();
    let sortable = if bits >> 63 == 0 {
        bits ^ (1 << 63)
    } else {
        !bits
    };
    out.extend_from_slice(&sortable.to_be_bytes());
    out.extend_from_slice(&(distance.cast_unsigned() ^ 0x8000).to_be_bytes());
    out.push(kind);
}

fn encode_escaped(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = zero_at(bytes) {
        out.extend_from_slice(&bytes[..=at]);
        out.push(0xff);
        bytes = &bytes[at + 1..];
    }
    out.extend_from_slice(bytes);
    out.extend_from_slice(&[0, 0]);
}

fn zero_at(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == 0)
}

fn decode_at(bytes: &[u8], at: &mut usize, level: usize) -> Result<Option<Value>, DecodeError> {
    let start = *at;
    let invalid = |what| DecodeError::Invalid { what, at: start };
    if level > limits::NESTING_LEVELS_MAX {
        return Err(DecodeError::TooLarge {
            what: "nesting",
            value: level as u64,
            limit: limits::NESTING_LEVELS_MAX as u64,
        });
    }
    Ok(Some(match next(bytes, at)? {
        TAG_FALSE => Value::Bool(false),
        TAG_TRUE => Value::Bool(true),
        TAG_NUMBER => decode_number(bytes, at)?,
        TAG_BINARY => Value::Binary(decode_escaped(bytes, at)?),
        TAG_STRING => Value::String(decode_text(bytes, at, start)?),
        TAG_ARRAY => {
            let mut items = Vec::new();
            while peek(bytes, *at)? != TAG_END {
                items.push(decode_at(bytes, at, level + 1)?.ok_or(invalid("array item"))?);
            }
            *at += 1;
            Value::Array(items)
        }
        TAG_OBJECT => {
            let mut fields = Object::new();
            loop {
                match next(bytes, at)? {
                    TAG_END => break,
                    TAG_STRING => {}
                    _ => return Err(invalid("tag of a key field")),
                }
                let name = decode_text(bytes, at, start)?;
                // Strictly rising names give every object exactly one key.
                if fields
                    .last_key_value()
                    .is_some_and(|(last, _)| *last >= name)
                {
                    return Err(invalid("order of key fields"));
                }
                let value = decode_at(bytes, at, level + 1)?.ok_or(invalid("object field"))?;
                fields.insert(name, value);
            }
            Value::Object(fields)
        }
        TAG_NULL => Value::Null,
        TAG_MISSING => return Ok(None),
        _ => return Err(invalid("key tag")),
    }))
}

fn decode_number(bytes: &[u8], at: &mut usize) -> Result<Value, DecodeError> {
    let start = *at;
    let content = bytes.get(start..start + 11).ok_or(DecodeError::Truncated {
        at: start,
        needed: 11,
    })?;
    *at += 11;
    let mut sortable = [0; 8];
    sortable.copy_from_slice(&content[..8]);
    let sortable = u64::from_be_bytes(sortable);
    let bits = if sortable >> 63 == 1 {
        sortable ^ (1 << 63)
    } else {
        !sortable
    };
    let float = f64::from_bits(bits);
    let distance = (u16::from_be_bytes([content[8], content[9]]) ^ 0x8000).cast_signed();
    let invalid = DecodeError::Invalid {
        what: "number key",
        at: start,
    };
    let value = match content[10] {
        KIND_FLOAT => Value::float(float).ok_or(invalid.clone())?,
        KIND_INT if float.is_finite() => {
            #[expect(clippy::cast_possible_truncation, reason = "saturates; checked below")]
            let whole = (float as i128).saturating_add(i128::from(distance));
            let whole = i64::try_from(whole).map_err(|_| invalid.clone())?;
            Value::Int(whole)
        }
        _ => return Err(invalid),
    };
    // Another float and distance can add up to the same number: only the nearest float is a key.
    let (nearest, nearest_distance) = match value {
        Value::Int(number) => nearest(number),
        // Not as it was read: the negative zero has the key of zero.
        Value::Float(number) => (number, 0),
        _ => return Err(invalid),
    };
    if nearest.to_bits() == bits && nearest_distance == distance {
        Ok(value)
    } else {
        Err(invalid)
    }
}

fn decode_text(bytes: &[u8], at: &mut usize, start: usize) -> Result<String, DecodeError> {
    String::from_utf8(decode_escaped(bytes, at)?).map_err(|_| DecodeError::Invalid {
        what: "key text",
        at: start,
    })
}

fn decode_escaped(bytes: &[u8], at: &mut usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    loop {
        let rest = bytes.get(*at..).unwrap_or_default();
        let Some(zero) = zero_at(rest) else {
            *at = bytes.len();
            return Err(DecodeError::Truncated { at: *at, needed: 1 });
        };
        // Mostly there is no other part: then this is all the memory that the text takes.
        out.reserve_exact(zero);
        out.extend_from_slice(&rest[..zero]);
        *at += zero + 1;
        match next(bytes, at)? {
            0 => return Ok(out),
            0xff => out.push(0),
            _ => {
                return Err(DecodeError::Invalid {
                    what: "key escape",
                    at: *at,
                });
            }
        }
    }
}

fn peek(bytes: &[u8], at: usize) -> Result<u8, DecodeError> {
    bytes
        .get(at)
        .copied()
        .ok_or(DecodeError::Truncated { at, needed: 1 })
}

fn next(bytes: &[u8], at: &mut usize) -> Result<u8, DecodeError> {
    let byte = peek(bytes, *at)?;
    *at += 1;
    Ok(byte)
}
