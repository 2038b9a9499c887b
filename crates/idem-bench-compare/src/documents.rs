//! The documents that every workload uses.

use idem::{Object, Value};

/// Values of the indexed field, evenly spread.
pub(crate) const CATEGORIES: i64 = 100;

/// Bytes of text that bring a document to about 300 bytes of JSON.
const NOTE_BYTES: usize = 172;

/// Document `number`, the same in every run. Ids rise with the number, as generated ids do.
pub(crate) fn document(number: u64) -> Object {
    let mixed = mix(number);
    let at = |shift: u32| i64::try_from((mixed >> shift) & 0xffff).expect("16 bits fit");
    let note: String = (0..NOTE_BYTES)
        .map(|i| char::from(b'a' + (mix(mixed.wrapping_add(i as u64)) % 26) as u8))
        .collect();
    Object::from([
        ("_id".to_owned(), id(number).into()),
        (
            "category".to_owned(),
            Value::Int(i64::try_from(number).expect("few documents") % CATEGORIES),
        ),
        ("name".to_owned(), format!("article {mixed:016x}").into()),
        ("price".to_owned(), Value::Int(at(0))),
        ("stock".to_owned(), Value::Int(at(16))),
        ("active".to_owned(), Value::Bool(mixed & 1 == 0)),
        ("note".to_owned(), note.into()),
    ])
}

/// The id of document `number`.
pub(crate) fn id(number: u64) -> String {
    format!("doc-{number:012}")
}

/// The document as the JSON text that SQLite stores.
pub(crate) fn json(number: u64) -> String {
    serde_json::to_string(&document(number)).expect("values have string keys and finite floats")
}

/// A fixed shuffle of the numbers (the finaliser of SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_about_300_bytes() {
        for number in [0, 1, 99, 12_345] {
            let bytes = json(number).len();
            assert!((280..=320).contains(&bytes), "{number}: {bytes}");
        }
    }
}
