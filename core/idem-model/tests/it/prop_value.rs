//! The compact form of values, their order, and JSON.

use std::cmp::Ordering;

use idem_model::{Value, check_value, codec::Reader, decode_object, encode_object, json, limits};
use proptest::prelude::*;

use crate::strategy::{floats, numbers, values};

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

    /// Applications make values of their own, also with a negative zero.
    #[test]
    fn a_zero_has_one_form(number in floats()) {
        let (raw, clean) = (Value::Float(number), Value::float(number).unwrap());
        prop_assert_eq!(raw.to_bytes(), clean.to_bytes());
        prop_assert_eq!(raw.compare(&clean), Ordering::Equal);
        prop_assert_eq!(json::to_string(&raw), json::to_string(&clean));
    }

    #[test]
    fn what_is_checked_is_what_is_read(
        value in values(),
        (wrapped, levels) in (0..=limits::NESTING_LEVELS_MAX, 0..=limits::NESTING_LEVELS_MAX + 1),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![0u8..12, any::<u8>()],
    ) {
        let whole = nested(wrapped, value).to_bytes();
        let mut damaged = whole.clone();
        damaged[at.index(whole.len())] = byte;
        for bytes in [&whole, &damaged] {
            let (mut read, mut checked) = (Reader::new(bytes), Reader::new(bytes));
            let value = Value::decode_nested(&mut read, levels);
            let check = check_value(&mut checked, levels);
            prop_assert_eq!(check.is_ok(), value.is_ok(), "{:?} {:?}", check, value);
            if value.is_ok() {
                prop_assert_eq!(checked.position(), read.position());
            }
        }
    }

    #[test]
    fn json_reads_back(value in values().prop_filter("binary", |v| !looks_like_binary(v))) {
        prop_assert_eq!(json::parse(&json::to_string(&value)).unwrap(), value.clone());
        prop_assert_eq!(json::parse(&json::to_string_pretty(&value)).unwrap(), value);
    }
}

/// A value inside arrays and objects by turns.
fn nested(levels: usize, inner: Value) -> Value {
    (0..levels).fold(inner, |inner, level| match level % 2 {
        0 => Value::Array(vec![inner]),
        _ => Value::Object([("k".to_owned(), inner)].into()),
    })
}

#[test]
fn nesting_is_bounded_on_both_sides() {
    let max = limits::NESTING_LEVELS_MAX;
    for levels in [0, 1, max - 1, max] {
        let value = nested(levels, Value::Null);
        assert_eq!(value.nesting_levels(), levels);
        assert_eq!(Value::from_bytes(&value.to_bytes()), Ok(value));
    }
    assert!(Value::from_bytes(&nested(max + 1, Value::Null).to_bytes()).is_err());
    // What is inside others has that much less.
    for (levels, outside, is_fine) in [
        (max, 0, true),
        (max + 1, 0, false),
        (max - 1, 1, true),
        (max, 1, false),
        (1, max - 1, true),
        (1, max, false),
        (0, max, true),
    ] {
        let bytes = nested(levels, Value::Null).to_bytes();
        let read = Value::decode_nested(&mut Reader::new(&bytes), outside);
        let checked = check_value(&mut Reader::new(&bytes), outside);
        assert_eq!(read.is_ok(), is_fine, "{levels} in {outside}");
        assert_eq!(checked.is_ok(), is_fine, "{levels} in {outside}");
    }
}

#[test]
fn what_is_no_number_is_found_at_any_depth() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for levels in 0..4 {
            assert!(!nested(levels, Value::Float(number)).is_finite());
            assert!(nested(levels, Value::Float(-0.0)).is_finite());
        }
    }
}
