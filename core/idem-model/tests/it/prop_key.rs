//! The order-preserving form of values.

use std::cmp::Ordering;

use idem_model::{DocId, Value, key};
use proptest::prelude::*;

use crate::strategy::{numbers, values};

fn key(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    key::encode(value, &mut out);
    out
}

/// The order of keys in words: that of values, but an integer and a float that are equal are told
/// apart where they stand, before anything behind them is looked at.
fn compare_as_keys(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Int(_), Value::Float(_)) => a.compare(b).then(Ordering::Less),
        (Value::Float(_), Value::Int(_)) => a.compare(b).then(Ordering::Greater),
        (Value::Array(a), Value::Array(b)) => {
            let pairs = a.iter().zip(b).map(|(a, b)| compare_as_keys(a, b));
            first_difference(pairs).then(a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let pairs = a.iter().zip(b);
            let pairs = pairs.map(|((k, a), (l, b))| k.cmp(l).then_with(|| compare_as_keys(a, b)));
            first_difference(pairs).then(a.len().cmp(&b.len()))
        }
        _ => a.compare(b),
    }
}

fn first_difference(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    let decided = orders.find(|order| order.is_ne());
    decided.unwrap_or(Ordering::Equal)
}

/// Whether all numbers are integers, so that keys and values have one order.
fn has_one_number_kind(value: &Value) -> bool {
    match value {
        Value::Float(_) => false,
        Value::Array(items) => items.iter().all(has_one_number_kind),
        Value::Object(fields) => fields.values().all(has_one_number_kind),
        _ => true,
    }
}

/// Pairs of values that often share a beginning.
fn pairs() -> impl Strategy<Value = (Value, Value)> {
    let independent = (values(), values());
    let shared = (values(), values(), values())
        .prop_map(|(shared, a, b)| (vec![shared.clone(), a].into(), vec![shared, b].into()));
    prop_oneof![independent, shared]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_length_of_an_element_is_told_without_decoding_it(
        value in values(),
        behind in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = key(&value);
        let len = bytes.len();
        for cut in 0..len {
            prop_assert!(key::element_len(&bytes[..cut], false).is_err());
        }
        bytes.extend(behind);
        prop_assert_eq!(key::element_len(&bytes, false).unwrap(), len);
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        prop_assert_eq!(key::element_len(&bytes, true).unwrap(), len);
    }

    #[test]
    fn keys_sort_as_values((a, b) in pairs()) {
        let (key_a, key_b) = (key(&a), key(&b));
        prop_assert_eq!(key_a.cmp(&key_b), compare_as_keys(&a, &b));
        if has_one_number_kind(&a) && has_one_number_kind(&b) {
            prop_assert_eq!(key_a.cmp(&key_b), a.compare(&b));
        }
        prop_assert!(key_a == key_b || !key_b.starts_with(&key_a), "no key begins another");
        let mut missing = Vec::new();
        key::encode_missing(&mut missing);
        prop_assert!(key_a < missing);
    }

    #[test]
    fn number_keys_sort_by_exact_value(a in numbers(), b in numbers()) {
        let (key_a, key_b) = (key(&a), key(&b));
        let prefix = key::number_prefix_len();
        prop_assert_eq!(key_a[..prefix].cmp(&key_b[..prefix]), a.compare(&b));
    }

    #[test]
    fn keys_read_back(value in values(), rest in prop::collection::vec(any::<u8>(), 0..3)) {
        let mut bytes = key(&value);
        let len = bytes.len();
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(key::decode(&bytes).unwrap(), (Some(value), len));
        for end in 0..len {
            prop_assert!(key::decode(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn what_is_read_is_canonical(
        value in values(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = key(&value);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok((Some(read), len)) = key::decode(&bytes) {
            prop_assert_eq!(key(&read), &bytes[..len]);
        }
    }

    #[test]
    fn keys_are_read_into_what_was_there(before in values(), value in values(), more in any::<u8>()) {
        let mut bytes = key(&value);
        let mut slot = before;
        key::decode_into(&bytes, &mut slot).unwrap();
        prop_assert_eq!(&slot, &value);
        bytes.push(more);
        prop_assert!(key::decode_into(&bytes, &mut slot).is_err());
    }

    #[test]
    fn the_end_of_a_prefix_is_above_all_that_starts_with_it(
        prefix in prop::collection::vec(prop_oneof![Just(0xffu8), any::<u8>()], 0..4),
        rest in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        match key::prefix_end(&prefix) {
            Some(end) => {
                prop_assert!([&prefix[..], &rest].concat() < end);
                prop_assert!(!end.starts_with(&prefix));
            }
            None => prop_assert!(prefix.iter().all(|byte| *byte == 0xff)),
        }
    }

    #[test]
    fn every_document_id_reads_back(value in values()) {
        if let Ok(id) = DocId::new(value.clone()) {
            prop_assert_eq!(DocId::from_key(&id.to_key()).unwrap(), id.clone());
            prop_assert_eq!(id.into_value(), value);
        }
    }
}

#[test]
fn an_id_that_could_not_be_read_back_is_refused() {
    let nested = |levels| (0..levels).fold(Value::Int(1), |inner, _| Value::Array(vec![inner]));
    for levels in [1, 62, 63, 64, 65, 66, 100, 120] {
        if let Ok(id) = DocId::new(nested(levels)) {
            assert_eq!(DocId::from_key(&id.to_key()), Ok(id), "{levels} levels");
        }
    }
    // A document holds its id as a field, one level down.
    assert!(DocId::new(nested(64)).is_err());
    assert!(DocId::new(nested(63)).is_ok());
}

/// Numbers have several ways to be written as a float and a distance, of which one is a key.
#[test]
fn other_ways_to_write_a_number_are_refused() {
    let mut zero = key(&Value::Float(0.0));
    // The bits of the negative zero, all inverted.
    zero[1..9].copy_from_slice(&(!(1u64 << 63)).to_be_bytes());
    assert!(key::decode(&zero).is_err());
    zero[11] = 0;
    assert!(key::decode(&zero).is_err());
    let mut one = key(&Value::Int(1));
    one[10] += 1;
    assert!(key::decode(&one).is_err());
    let mut one = key(&Value::Float(1.0));
    one[10] += 1;
    assert!(key::decode(&one).is_err());
}

#[test]
fn negative_zero_has_the_key_of_zero() {
    let key_of = |number: f64| {
        let mut out = Vec::new();
        key::encode(&Value::Float(number), &mut out);
        out
    };
    assert_eq!(key_of(-0.0), key_of(0.0));
}
