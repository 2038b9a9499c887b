//! Any batch there and back, and any bytes.

use idem_model::{CollectionName, DocId, DocumentKey, limits};
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

/// What may stand between documents and cursors: an answer to a PULL, and announcements.
type Between = (Option<bool>, Vec<[u8; 8]>);

fn between() -> impl Strategy<Value = Between> {
    (
        any::<Option<bool>>(),
        prop::collection::vec(any::<[u8; 8]>(), 0..5),
    )
}

fn write(
    groups: &[Documents],
    (answered, announced): &Between,
    cursors: &[(u32, u64, bool)],
) -> Vec<u8> {
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
    if let Some(is_lacking) = answered {
        writer.answered(*is_lacking);
    }
    if !announced.is_empty() {
        writer.announced(announced);
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

/// Writes what was read.
fn write_again(items: &[BatchItem<'_>]) -> Vec<u8> {
    let mut writer = BatchWriter::new();
    for item in items {
        match item {
            BatchItem::Document(document) => {
                writer.document(&document.key, document.delta, document.state);
                if document.has_left {
                    writer.mark_left();
                }
                if document.ends_group {
                    writer.end_group();
                }
            }
            BatchItem::Answered { is_lacking } => writer.answered(*is_lacking),
            BatchItem::Announced(items) => writer.announced(items),
            BatchItem::Cursor {
                alias,
                commit,
                caught_up,
            } => writer.cursor(*alias, *commit, *caught_up),
        }
    }
    writer.into_bytes()
}

proptest! {
    /// What is read from changed bytes is written as those bytes: every batch has one form.
    #[test]
    fn changed_bytes_are_another_batch_or_none(
        groups in prop::collection::vec(group(), 0..8),
        between in between(),
        cursors in prop::collection::vec(any::<(u32, u64, bool)>(), 0..8),
        at in any::<prop::sample::Index>(),
        xor in 1..=255u8,
    ) {
        let mut bytes = write(&groups, &between, &cursors);
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] ^= xor;
        if let Ok(items) = read_all(&bytes) {
            prop_assert_eq!(write_again(&items), bytes);
        }
    }

    #[test]
    fn reading_undoes_writing(
        groups in prop::collection::vec(group(), 0..8),
        between in between(),
        cursors in prop::collection::vec(any::<(u32, u64, bool)>(), 0..8),
    ) {
        let bytes = write(&groups, &between, &cursors);
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
        let (answered, announced) = &between;
        expected.extend(answered.map(|is_lacking| BatchItem::Answered { is_lacking }));
        if !announced.is_empty() {
            expected.push(BatchItem::Announced(announced));
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
        let bytes = write(&groups, &(None, Vec::new()), &[]);
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
    let mut bytes = write(&[], &(None, Vec::new()), &[(1, 1, false)]);
    assert!(read_all(&bytes).is_ok());
    bytes.extend_from_slice(&[0x06, 1, b'a', 1, 0x11, 0]);
    assert!(read_all(&bytes).is_err());
}

#[test]
fn collections_beyond_the_limit_are_written_out() {
    let documents: Documents = (0..=limits::BATCH_COLLECTIONS_MAX)
        .chain([0, limits::BATCH_COLLECTIONS_MAX])
        .map(|number| {
            let collection = CollectionName::new(&format!("c{number}")).expect("a valid name");
            let id = DocId::from("a");
            (DocumentKey { collection, id }, false, Vec::new())
        })
        .collect();
    let bytes = write(std::slice::from_ref(&documents), &(None, Vec::new()), &[]);
    let items = read_all(&bytes).expect("it was just written");
    let keys = items.iter().map(|item| match item {
        BatchItem::Document(document) => &document.key,
        other => panic!("{other:?} is no document"),
    });
    assert!(keys.eq(documents.iter().map(|(key, ..)| key)));
    // The last one has no number, so its name is there twice.
    let last = format!("c{}", limits::BATCH_COLLECTIONS_MAX);
    let names = bytes
        .windows(last.len())
        .filter(|it| *it == last.as_bytes());
    assert_eq!(names.count(), 2);
    // One of those that have a number is not written out again.
    let mut named_again = bytes.clone();
    named_again.extend_from_slice(b"\x06\x02c7\x04\x40a\0\0\0");
    assert!(read_all(&named_again).is_err());
    named_again.truncate(bytes.len());
    named_again.extend_from_slice(b"\x06\x02cx\x04\x40a\0\0\0");
    assert!(read_all(&named_again).is_ok());
}
