//! From a row of a result to a type of the app.

use std::fmt;

use idem_model::{Object, Value};
use serde::{
    Deserializer,
    de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor},
    forward_to_deserialize_any,
};

/// Where a value does not fit the type, and why.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// Field names and indexes, the innermost first.
    path: Vec<String>,
    message: String,
}

impl Misfit {
    fn inside(mut self, place: impl fmt::Display) -> Self {
        self.path.push(place.to_string());
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.path.is_empty() {
            return Ok(());
        }
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        write!(f, " at {}", path.join("."))
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: Vec::new(),
            message: message.to_string(),
        }
    }
}

/// Reads a row.
pub(crate) fn from_object<T: de::DeserializeOwned>(object: &Object) -> Result<T, Misfit> {
    T::deserialize(ObjectReader(object))
}

struct ObjectReader<'a>(&'a Object);

struct ValueReader<'a>(&'a Value);

impl<'de> Deserializer<'de> for ObjectReader<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_map(Fields {
            rest: self.0.iter(),
            current: None,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> Deserializer<'de> for ValueReader<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Int(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::String(text) => visitor.visit_str(text),
            Value::Binary(bytes) => visitor.visit_bytes(bytes),
            Value::Array(items) => visitor.visit_seq(Items {
                rest: items.iter().enumerate(),
            }),
            Value::Object(fields) => ObjectReader(fields).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(Variant { name, value: None }),
            Value::Object(fields) if fields.len() == 1 => {
                let (name, value) = fields.iter().next().expect("it has one field");
                visitor.visit_enum(Variant {
                    name,
                    value: Some(value),
                })
            }
            _ => Err(de::Error::custom(
                "a variant must be a string or an object of one field",
            )),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Fields<'a> {
    rest: std::collections::btree_map::Iter<'a, String, Value>,
    current: Option<(&'a String, &'a Value)>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        self.current = self.rest.next();
        self.current
            .map(|(name, _)| seed.deserialize(NameReader(name)))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let (name, value) = self
            .current
            .ok_or_else(|| de::Error::custom("a value without its key"))?;
        seed.deserialize(ValueReader(value))
            .map_err(|e| e.inside(name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A field name; a map may want it as a number.
struct NameReader<'a>(&'a str);

macro_rules! parse_name {
    ($($method:ident => $visit:ident),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            match self.0.parse() {
                Ok(number) => visitor.$visit(number),
                Err(_) => visitor.visit_str(self.0),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for NameReader<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_str(self.0)
    }

    parse_name! {
        deserialize_i8 => visit_i8, deserialize_i16 => visit_i16, deserialize_i32 => visit_i32,
        deserialize_i64 => visit_i64, deserialize_u8 => visit_u8, deserialize_u16 => visit_u16,
        deserialize_u32 => visit_u32, deserialize_u64 => visit_u64
    }

    forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

struct Items<'a> {
    rest: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        self.rest
            .next()
            .map(|(index, value)| {
                seed.deserialize(ValueReader(value))
                    .map_err(|e| e.inside(index))
            })
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Variant<'a> {
    name: &'a str,
    value: Option<&'a Value>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Misfit;
    type Variant = VariantContent<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, VariantContent<'a>), Misfit> {
        let name = seed.deserialize(NameReader(self.name))?;
        Ok((name, VariantContent(self.value)))
    }
}

struct VariantContent<'a>(Option<&'a Value>);

impl<'a> VariantContent<'a> {
    fn reader(self) -> Result<ValueReader<'a>, Misfit> {
        self.0
            .map(ValueReader)
            .ok_or_else(|| de::Error::custom("the variant needs a value"))
    }
}

impl<'de> VariantAccess<'de> for VariantContent<'_> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        match self.0 {
            None => Ok(()),
            Some(_) => Err(de::Error::custom("the variant has no value")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        seed.deserialize(self.reader()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.reader()?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.reader()?.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::serialize::to_arguments;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Point,
        Circle(f64),
        Line { from: i8, to: i8 },
        Pair(u8, u8),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        text: String,
        none: Option<u8>,
        some: Option<u8>,
        shapes: Vec<Shape>,
        map: BTreeMap<u8, bool>,
        pair: (i32, char),
        wide: f64,
        any: Value,
    }

    fn row() -> Row {
        Row {
            text: "x".to_owned(),
            none: None,
            some: Some(3),
            shapes: vec![
                Shape::Point,
                Shape::Circle(1.5),
                Shape::Line { from: 1, to: 2 },
                Shape::Pair(1, 2),
            ],
            map: BTreeMap::from([(7, true)]),
            pair: (-1, 'c'),
            wide: 2.0,
            any: Value::Binary(vec![1]),
        }
    }

    #[test]
    fn what_was_an_argument_reads_back() {
        let object = to_arguments(&row()).unwrap();
        assert_eq!(from_object::<Row>(&object).unwrap(), row());
        assert_eq!(
            from_object::<Value>(&object).unwrap(),
            Value::Object(object)
        );
    }

    #[test]
    fn a_misfit_names_its_place() {
        let mut object = to_arguments(&row()).unwrap();
        let Some(Value::Array(shapes)) = object.get_mut("shapes") else {
            panic!("shapes are an array");
        };
        shapes[1] = Value::Int(5);
        let error = from_object::<Row>(&object).unwrap_err().to_string();
        assert!(error.ends_with("at shapes.1"), "{error}");
    }
}
