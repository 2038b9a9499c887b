//! Any batch there and back, and any bytes.

use idem_model::{CollectionName, DocId, DocumentKey};
use idem_wire::{BatchDocument, BatchItem, BatchReader, BatchWriter};
use proptest::prelude::*;

type Documents = Vec<(DocumentKey, bool, Vec<u8>)>;

fn group() -> impl Strategy<Value = Documents> {
    let key = ("[a-d]{1,2}", any::<i64>()).prop_map(|(collection, id)| DocumentKey {
        collection: CollectionName::new(&collection).expect("a valid name"),
        id: DocId::new(id.into()).expect("an integer is an id"),
    });
    let state = prop::collection::vec(any::<u8>(), 0..50);
    prop::collection::vec((key, any::<bool>(), state), 1..6)
}

fn write(groups: &[Documents], cursors: &[(u32, u64, bool)]) -> Vec<u8> {
    let mut writer = BatchWriter::new();
    for group in groups {
        for (key, delta, state) in group {
            writer.document(key, *delta, state);
            if has_left(state) {
                writer.mark_left();
            }
        }
        writer.end_group();
    }
    for (alias, commit, caught_up) in cursors {
        writer.cursor(*alias, *commit, *caught_up);
    }
    writer.into_bytes()
}

/// Any rule will do.
fn has_left(state: &[u8]) -> bool {
    state.len() % 2 == 1
}

fn read_all(bytes: &[u8]) -> Result<Vec<BatchItem<'_>>, idem_model::DecodeError> {
    let mut reader = BatchReader::new(bytes);
    std::iter::from_fn(|| reader.next_item().transpose()).collect()
}

proptest! {
    #[test]
    fn reading_undoes_writing(
        groups in prop::collection::vec(group(), 0..8),
        cursors in prop::collection::vec(any::<(u32, u64, bool)>(), 0..8),
    ) {
        let bytes = write(&groups, &cursors);
        let mut expected = Vec::new();
        for group in &groups {
            for (index, (key, delta, state)) in group.iter().enumerate() {
                expected.push(BatchItem::Document(BatchDocument {
                    key: key.clone(),
                    delta: *delta,
                    state,
                    has_left: has_left(state),
                    ends_group: index + 1 == group.len(),
                }));
            }
        }
        for (alias, commit, caught_up) in cursors {
            expected.push(BatchItem::Cursor { alias, commit, caught_up });
        }
        prop_assert_eq!(read_all(&bytes), Ok(expected));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_all(&bytes);
    }

    #[test]
    fn a_batch_never_ends_inside_a_group(
        groups in prop::collection::vec(group(), 1..4),
        at in any::<prop::sample::Index>(),
    ) {
        let bytes = write(&groups, &[]);
        let cut = at.index(bytes.len());
        if let Ok(items) = read_all(&bytes[..cut]) {
            let is_whole = items.last().is_none_or(
                |item| matches!(item, BatchItem::Document(document) if document.ends_group),
            );
            prop_assert!(is_whole);
        }
    }
}

#[test]
fn documents_after_cursors_are_refused() {
    let mut bytes = write(&[], &[(1, 1, false)]);
    assert!(read_all(&bytes).is_ok());
    bytes.extend_from_slice(&[0x06, 1, b'a', 1, 0x11, 0]);
    assert!(read_all(&bytes).is_err());
}
