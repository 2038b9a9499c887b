//! JSON text to values and back (RFC 8259), the form that the shell, import, export and HTTP share.
//!
//! A number without fraction and exponent that fits 64 bits is an integer, any other is a float.
//! Binary has no JSON form and is written `{"$binary": "base64"}`; reading that object gives binary.
//! Of repeated names the last one counts.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};

use crate::value::{Object, Value, unsigned_zero};

const BINARY_KEY: &str = "$binary";

/// Text that is not one JSON value.
#[derive(Debug, thiserror::Error)]
#[error("{message} at line {line}, column {column}")]
pub struct JsonError {
    message: String,
    line: usize,
    column: usize,
}

impl JsonError {
    /// Line of the error, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Column of the error in bytes, from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is wrong, without the position.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        // serde_json appends the position to its text; ours is in fields.
        let text = error.to_string();
        let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
        Self {
            message,
            line: error.line(),
            column: error.column(),
        }
    }
}

/// Reads one JSON value. Nesting is bounded by serde_json's 128 levels; documents check theirs.
///
/// # Errors
/// [`JsonError`] with line and column.
pub fn parse(text: &str) -> Result<Value, JsonError> {
    Ok(serde_json::from_str(text)?)
}

/// Compact JSON text.
pub fn to_string(value: &Value) -> String {
    serde_json::to_string(value).expect("values have string keys and finite floats")
}

/// Indented JSON text.
pub fn to_string_pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("values have string keys and finite floats")
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Int(number) => serializer.serialize_i64(*number),
            Self::Float(number) => serializer.serialize_f64(unsigned_zero(*number)),
            Self::String(text) => serializer.serialize_str(text),
            Self::Binary(bytes) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(BINARY_KEY, &STANDARD.encode(bytes))?;
                map.end()
            }
            Self::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                items
                    .iter()
                    .try_for_each(|item| seq.serialize_element(item))?;
                seq.end()
            }
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields
                    .iter()
                    .try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        match i64::try_from(number) {
            Ok(number) => Ok(Value::Int(number)),
            #[expect(clippy::cast_precision_loss, reason = "beyond i64 a number is a float")]
            Err(_) => self.visit_f64(number as f64),
        }
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Value::float(number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Binary(bytes.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Object::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            fields.insert(name, value);
        }
        if let (1, Some(Value::String(text))) = (fields.len(), fields.get(BINARY_KEY)) {
            let bytes = STANDARD
                .decode(text)
                .map_err(|e| de::Error::custom(format!("$binary is not base64: {e}")))?;
            return Ok(Value::Binary(bytes));
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_kind() {
        let check = |text, expected| assert_eq!(parse(text).unwrap(), expected, "{text}");
        check("1", Value::Int(1));
        check("1.0", Value::Float(1.0));
        check("1e3", Value::Float(1000.0));
        check("9223372036854775807", Value::Int(i64::MAX));
        check(
            "9223372036854775808",
            Value::Float(9_223_372_036_854_775_808.0),
        );
        assert_eq!(to_string(&Value::Float(1.0)), "1.0");
    }

    #[test]
    fn errors_name_the_place() {
        let error = parse("{\"a\":\n 1,,}").unwrap_err();
        assert_eq!((error.line(), error.column()), (2, 4));
        assert!(!error.message().contains("line"), "{}", error.message());
    }

    #[test]
    fn binary_survives() {
        let value = Value::Binary(vec![0, 1, 255]);
        assert_eq!(to_string(&value), r#"{"$binary":"AAH/"}"#);
        assert_eq!(parse(&to_string(&value)).unwrap(), value);
        assert!(parse(r#"{"$binary":"*"}"#).is_err());
    }
}
