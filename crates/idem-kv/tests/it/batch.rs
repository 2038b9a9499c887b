//! Batches and their encoding.

use idem_kv::{Batch, BatchError, Table};
use proptest::prelude::*;

#[test]
fn the_encoding_is_as_documented() {
    let mut batch = Batch::new();
    batch.put(Table(3), b"key", b"value");
    batch.delete(Table(7), b"");
    batch.put(Table(0), &[9; 200], b"");
    let mut expected = vec![1];
    expected.extend_from_slice(&[3, 3, b'k', b'e', b'y', 5, b'v', b'a', b'l', b'u', b'e']);
    expected.extend_from_slice(&[0x87, 0]);
    expected.extend_from_slice(&[0, 0xc8, 0x01]);
    expected.extend_from_slice(&[9; 200]);
    expected.push(0);
    assert_eq!(batch.as_bytes(), expected);
    assert_eq!(batch.len(), 3);
    assert_eq!(Batch::decode(&expected).unwrap(), batch);
}

#[test]
fn what_is_not_canonical_or_too_large_is_refused() {
    let check = |bytes: &[u8], expected: BatchError| {
        assert_eq!(Batch::decode(bytes).unwrap_err(), expected, "{bytes:?}");
    };
    check(&[], BatchError::Malformed { offset: 0 });
    check(&[2], BatchError::UnknownVersion { version: 2 });
    // A table that does not exist, for a put and for a delete.
    check(&[1, 8, 0, 0], BatchError::Malformed { offset: 1 });
    check(&[1, 0x88, 0], BatchError::Malformed { offset: 1 });
    // Bits between table and delete flag.
    check(&[1, 0x10, 0, 0], BatchError::Malformed { offset: 1 });
    // A length that is not in its shortest form.
    check(&[1, 0, 0x80, 0, 0], BatchError::Malformed { offset: 1 });
    // A length of nearly 4 GiB, and one that does not end.
    check(
        &[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
        BatchError::Malformed { offset: 1 },
    );
    check(
        &[1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        BatchError::Malformed { offset: 1 },
    );
    // The second operation ends too early.
    check(
        &[1, 0x80, 0, 0, 1, b'k', 9],
        BatchError::Malformed { offset: 3 },
    );
    // A key beyond the limit.
    let mut long = vec![1, 0x80, 0x81, 0x80, 0x01];
    long.extend(vec![0; 16 * 1024 + 1]);
    check(&long, BatchError::Malformed { offset: 1 });
}

#[test]
#[should_panic(expected = "no table 8")]
fn a_table_that_does_not_exist_is_a_bug() {
    Batch::new().put(Table(8), b"", b"");
}

proptest! {
    #[test]
    fn whatever_was_put_comes_back(
        operations in prop::collection::vec(
            (0..8_u8, prop::collection::vec(any::<u8>(), 0..300),
             prop::option::of(prop::collection::vec(any::<u8>(), 0..300))), 0..20)
    ) {
        let mut batch = Batch::new();
        for (table, key, value) in &operations {
            match value {
                Some(value) => batch.put(Table(*table), key, value),
                None => batch.delete(Table(*table), key),
            }
        }
        let decoded = Batch::decode(&batch.encode()).unwrap();
        prop_assert_eq!(&decoded, &batch);
        let found: Vec<_> = decoded.iter()
            .map(|o| (o.table.0, o.key.to_vec(), o.value.map(<[u8]>::to_vec))).collect();
        prop_assert_eq!(found, operations);
    }

    #[test]
    fn arbitrary_bytes_decode_to_the_same_bytes_or_not_at_all(
        mut bytes in prop::collection::vec(prop_oneof![0..12_u8, any::<u8>()], 0..60)
    ) {
        bytes.insert(0, 1);
        if let Ok(batch) = Batch::decode(&bytes) {
            prop_assert_eq!(batch.encode(), bytes);
            prop_assert_eq!(batch.iter().count(), batch.len());
        }
    }
}
