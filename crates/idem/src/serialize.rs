//! From anything that serialises to a document value.

use std::fmt;

use idem_model::{Object, Value, json, limits};
use serde::{Serialize, Serializer, ser};

use crate::error::{Error, ErrorKind};

/// Turns the arguments of a query into an object.
pub(crate) fn to_arguments(args: &impl Serialize) -> Result<Object, Error> {
    to_object(args, "arguments", ErrorKind::QueryArgumentsInvalid)
}

/// Turns what an app says of its peer into an object.
pub(crate) fn to_metadata(metadata: &impl Serialize) -> Result<Object, Error> {
    to_object(metadata, "metadata", ErrorKind::ValidationValue)
}

fn to_object(value: &impl Serialize, what: &str, kind: ErrorKind) -> Result<Object, Error> {
    let invalid = |message: String| Error::new(kind, message);
    let value = value
        .serialize(ToValue)
        .map_err(|e| invalid(format!("{what} cannot be document values: {e}")))?;
    if value.nesting_levels() > limits::NESTING_LEVELS_MAX {
        return Err(invalid(format!(
            "{what} nest deeper than {} levels",
            limits::NESTING_LEVELS_MAX
        )));
    }
    match value {
        Value::Object(fields) => Ok(fields),
        // `()` and `None` are natural ways to say that there are none.
        Value::Null => Ok(Object::new()),
        other => Err(invalid(format!(
            "{what} must be an object of names and values, not {}",
            other.type_name()
        ))),
    }
}

/// A value that documents cannot hold, in words.
#[derive(Debug)]
struct Unfit(String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

impl ser::Error for Unfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

struct ToValue;

impl ToValue {
    fn object(variant: &str, value: Value) -> Value {
        Value::Object(Object::from([(variant.to_owned(), value)]))
    }
}

impl Serializer for ToValue {
    type Ok = Value;
    type Error = Unfit;
    type SerializeSeq = ToArray;
    type SerializeTuple = ToArray;
    type SerializeTupleStruct = ToArray;
    type SerializeTupleVariant = ToArray;
    type SerializeMap = ToObject;
    type SerializeStruct = ToObject;
    type SerializeStructVariant = ToObject;

    fn serialize_bool(self, v: bool) -> Result<Value, Unfit> {
        Ok(Value::Bool(v))
    }

    fn serialize_i8(self, v: i8) -> Result<Value, Unfit> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_i16(self, v: i16) -> Result<Value, Unfit> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_i32(self, v: i32) -> Result<Value, Unfit> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_i64(self, v: i64) -> Result<Value, Unfit> {
        Ok(Value::Int(v))
    }

    fn serialize_u8(self, v: u8) -> Result<Value, Unfit> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_u16(self, v: u16) -> Result<Value, Unfit> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_u32(self, v: u32) -> Result<Value, Unfit> {
        Ok(Value::Int(v.into()))
    }

    fn serialize_u64(self, v: u64) -> Result<Value, Unfit> {
        // A float would silently be another number.
        i64::try_from(v)
            .map(Value::Int)
            .map_err(|_| Unfit(format!("{v} is over the largest integer")))
    }

    fn serialize_f32(self, v: f32) -> Result<Value, Unfit> {
        self.serialize_f64(v.into())
    }

    fn serialize_f64(self, v: f64) -> Result<Value, Unfit> {
        Value::float(v).ok_or_else(|| Unfit(format!("{v} is not a finite number")))
    }

    fn serialize_char(self, v: char) -> Result<Value, Unfit> {
        Ok(Value::String(v.to_string()))
    }

    fn serialize_str(self, v: &str) -> Result<Value, Unfit> {
        Ok(Value::String(v.to_owned()))
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<Value, Unfit> {
        Ok(Value::Binary(v.to_vec()))
    }

    fn serialize_none(self) -> Result<Value, Unfit> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Unfit> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Unfit> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, Unfit> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Value, Unfit> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Value, Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Unfit> {
        Ok(Self::object(variant, value.serialize(Self)?))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<ToArray, Unfit> {
        Ok(ToArray::default())
    }

    fn serialize_tuple(self, _len: usize) -> Result<ToArray, Unfit> {
        Ok(ToArray::default())
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<ToArray, Unfit> {
        Ok(ToArray::default())
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<ToArray, Unfit> {
        Ok(ToArray {
            variant: Some(variant),
            ..ToArray::default()
        })
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<ToObject, Unfit> {
        Ok(ToObject::default())
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<ToObject, Unfit> {
        Ok(ToObject::default())
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<ToObject, Unfit> {
        Ok(ToObject {
            variant: Some(variant),
            ..ToObject::default()
        })
    }
}

#[derive(Default)]
struct ToArray {
    variant: Option<&'static str>,
    items: Vec<Value>,
}

impl ToArray {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        self.items.push(value.serialize(ToValue)?);
        Ok(())
    }

    fn into_value(self) -> Value {
        let array = Value::Array(self.items);
        match self.variant {
            Some(variant) => ToValue::object(variant, array),
            None => array,
        }
    }
}

impl ser::SerializeSeq for ToArray {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        self.push(value)
    }

    fn end(self) -> Result<Value, Unfit> {
        Ok(self.into_value())
    }
}

impl ser::SerializeTuple for ToArray {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        self.push(value)
    }

    fn end(self) -> Result<Value, Unfit> {
        Ok(self.into_value())
    }
}

impl ser::SerializeTupleStruct for ToArray {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        self.push(value)
    }

    fn end(self) -> Result<Value, Unfit> {
        Ok(self.into_value())
    }
}

impl ser::SerializeTupleVariant for ToArray {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        self.push(value)
    }

    fn end(self) -> Result<Value, Unfit> {
        Ok(self.into_value())
    }
}

#[derive(Default)]
struct ToObject {
    variant: Option<&'static str>,
    fields: Object,
    name: Option<String>,
}

impl ToObject {
    fn into_value(self) -> Result<Value, Unfit> {
        let mut value = Value::Object(self.fields);
        // A value of ours serialises its binary as `{"$binary": ..}`, as any JSON source does.
        if value.as_object().is_some_and(|fields| {
            fields.len() == 1 && fields.get("$binary").is_some_and(|v| v.as_str().is_some())
        }) {
            value = json::parse(&json::to_string(&value)).map_err(|e| Unfit(e.to_string()))?;
        }
        Ok(match self.variant {
            Some(variant) => ToValue::object(variant, value),
            None => value,
        })
    }
}

impl ser::SerializeMap for ToObject {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unfit> {
        self.name = Some(match key.serialize(ToValue)? {
            Value::String(name) => name,
            Value::Int(number) => number.to_string(),
            other => {
                return Err(Unfit(format!(
                    "a field name must be a string, not {}",
                    other.type_name()
                )));
            }
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        let name = self
            .name
            .take()
            .ok_or_else(|| Unfit("a map gave a value without its key".to_owned()))?;
        self.fields.insert(name, value.serialize(ToValue)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Unfit> {
        self.into_value()
    }
}

impl ser::SerializeStruct for ToObject {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unfit> {
        self.fields
            .insert(name.to_owned(), value.serialize(ToValue)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Unfit> {
        self.into_value()
    }
}

impl ser::SerializeStructVariant for ToObject {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unfit> {
        ser::SerializeStruct::serialize_field(self, name, value)
    }

    fn end(self) -> Result<Value, Unfit> {
        self.into_value()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Shape {
        Point,
        Circle(f64),
        Line { from: i8, to: i8 },
    }

    #[test]
    fn every_shape_of_serde_has_a_value() {
        #[derive(Serialize)]
        struct Args<'a> {
            text: &'a str,
            none: Option<u8>,
            shapes: Vec<Shape>,
            map: BTreeMap<u8, bool>,
            pair: (i32, char),
        }
        let args = to_arguments(&Args {
            text: "x",
            none: None,
            shapes: vec![
                Shape::Point,
                Shape::Circle(1.0),
                Shape::Line { from: 1, to: 2 },
            ],
            map: BTreeMap::from([(7, true)]),
            pair: (-1, 'c'),
        })
        .unwrap();
        let expected = r#"{"map":{"7":true},"none":null,"pair":[-1,"c"],"shapes":["point",{"circle":1.0},{"line":{"from":1,"to":2}}],"text":"x"}"#;
        assert_eq!(json::to_string(&Value::Object(args)), expected);
    }

    #[test]
    fn values_of_ours_pass_unchanged() {
        let fields = Object::from([
            ("b".to_owned(), Value::Binary(vec![0, 255])),
            ("f".to_owned(), Value::Float(1.0)),
            ("i".to_owned(), Value::Int(1)),
        ]);
        assert_eq!(to_arguments(&fields).unwrap(), fields);
    }

    #[test]
    fn what_documents_cannot_hold_is_refused() {
        let check = |error: Result<Object, Error>, words: &str| {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::QueryArgumentsInvalid);
            assert!(error.to_string().contains(words), "{error}");
        };
        check(to_arguments(&json!([1])), "not array");
        check(to_arguments(&json!({"a": u64::MAX})), "largest integer");
        check(to_arguments(&BTreeMap::from([("a", f64::NAN)])), "finite");
        assert_eq!(to_arguments(&()).unwrap(), Object::new());
    }
}
