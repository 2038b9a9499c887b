//! The compact form of values, their order, and JSON.

use std::cmp::Ordering;

use idem_model::{Value, codec::Reader, decode_object, encode_object, json, limits};
use proptest::prelude::*;

use crate::strategy::{numbers, values};

/// An object that JSON reads as binary, which it has no other way to write.
fn looks_like_binary(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            let only = (fields.len() == 1).then(|| fields.get("$binary")).flatten();
            matches!(only, Some(Value::String(_))) || fields.values().any(looks_like_binary)
        }
        Value::Array(items) => items.iter().any(looks_like_binary),
        _ => false,
    }
}

proptest! {
    #[test]
    fn bytes_read_back(value in values()) {
        let bytes = value.to_bytes();
        prop_assert_eq!(Value::from_bytes(&bytes).unwrap(), value.clone());
        if let Value::Object(fields) = &value {
            let mut out = Vec::new();
            encode_object(fields, &mut out);
            prop_assert_eq!(&out, &bytes[1..]);
            prop_assert_eq!(&decode_object(&mut Reader::new(&out)).unwrap(), fields);
        }
    }

    #[test]
    fn every_prefix_is_refused(value in values()) {
        let bytes = value.to_bytes();
        for end in 0..bytes.len() {
            prop_assert!(Value::from_bytes(&bytes[..end]).is_err());
        }
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(Value::from_bytes(&longer).is_err());
    }

    #[test]
    fn what_is_read_is_canonical(
        value in values(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = value.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Value::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(0u8..12, 0..40)) {
        if let Ok(read) = Value::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }

    #[test]
    fn the_order_is_total(a in values(), b in values(), c in values()) {
        prop_assert_eq!(a.compare(&a), Ordering::Equal);
        prop_assert_eq!(a.compare(&b), b.compare(&a).reverse());
        let mut sorted = [&a, &b, &c];
        sorted.sort_by(|x, y| x.compare(y));
        prop_assert_ne!(sorted[0].compare(sorted[2]), Ordering::Greater);
    }

    #[test]
    fn the_order_of_numbers_is_total(a in numbers(), b in numbers(), c in numbers()) {
        let mut sorted = [&a, &b, &c];
        sorted.sort_by(|x, y| x.compare(y));
        prop_assert_ne!(sorted[0].compare(sorted[2]), Ordering::Greater);
        prop_assert_eq!(a.compare(&b), b.compare(&a).reverse());
    }

    #[test]
    fn json_reads_back(value in values().prop_filter("binary", |v| !looks_like_binary(v))) {
        prop_assert_eq!(json::parse(&json::to_string(&value)).unwrap(), value.clone());
        prop_assert_eq!(json::parse(&json::to_string_pretty(&value)).unwrap(), value);
    }
}

#[test]
fn nesting_is_bounded_on_both_sides() {
    let nested = |levels: usize| {
        (0..levels).fold(Value::Null, |inner, level| {
            if level % 2 == 0 {
                Value::Array(vec![inner])
            } else {
                Value::Object([("k".to_owned(), inner)].into())
            }
        })
    };
    for levels in [0, 1, limits::NESTING_LEVELS_MAX] {
        let value = nested(levels);
        assert_eq!(value.nesting_levels(), levels);
        assert_eq!(Value::from_bytes(&value.to_bytes()), Ok(value));
    }
    assert!(Value::from_bytes(&nested(limits::NESTING_LEVELS_MAX + 1).to_bytes()).is_err());
}
