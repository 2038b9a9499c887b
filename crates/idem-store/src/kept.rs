//! Rows that a statement read and is about to change, so that they need not be read again.
//!
//! An UPDATE chooses all its rows before it changes the first one. When it says so of the row that a
//! scan is at, the scan keeps a copy, and the change takes it instead of searching the layers of the
//! snapshot. The snapshot of a transaction is one for its whole life: what is kept is what a search
//! would find. It is superfluous at worst, never wrong, as long as what the transaction itself has
//! changed is looked at first.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::row::Row;

/// Bytes of rows that are kept. An UPDATE of 10,000 documents of 600 bytes keeps 6 MB of rows, 20 bytes
/// of key and some 100 bytes around each: it fits. What does not fit is read again.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a row takes beside its key and its bytes: itself in the queue and two allocations.
const ROW_BYTES: usize = size_of::<KeptRow>() + 32;

type KeptRow = (Vec<u8>, Row);

/// Stored rows of the documents table, in the order of their keys.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    is_wanted: AtomicBool,
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    queue: VecDeque<KeptRow>,
    bytes: usize,
}

impl Kept {
    /// Asks for the row that a scan is at.
    pub(crate) fn want(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    /// Says that a scan comes to its next stored row: what was asked for before was another.
    pub(crate) fn next(&self) {
        self.is_wanted.store(false, Ordering::Relaxed);
    }

    /// Keeps a copy of the row that a scan has just shown, if that was asked for. Costs next to nothing
    /// if not.
    pub(crate) fn offer(&self, key: &[u8], row: &[u8]) {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        self.is_wanted.store(false, Ordering::Relaxed);
        // Damage is told by whoever reads the row again.
        if let Ok(decoded) = Row::decode(row.to_vec()) {
            self.rows().push(key, decoded);
        }
    }

    /// Takes out the row under a key. Those below it go: changes come in the order of the scan.
    pub(crate) fn take(&self, key: &[u8]) -> Option<Row> {
        self.rows().take(key)
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Rows are pushed and taken in single steps.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn push(&mut self, key: &[u8], row: Row) {
        // Another scan began, and the rest of the one before is of no use.
        if (self.queue.back()).is_some_and(|(last, _)| last.as_slice() >= key) {
            *self = Self::default();
        }
        let bytes = weight(key, &row);
        if self.bytes + bytes <= KEPT_BYTES_MAX {
            self.bytes += bytes;
            self.queue.push_back((key.to_vec(), row));
        }
    }

    fn take(&mut self, key: &[u8]) -> Option<Row> {
        while let Some((front, _)) = self.queue.front() {
            if front.as_slice() > key {
                return None;
            }
            let (front, row) = self.queue.pop_front()?;
            self.bytes -= weight(&front, &row);
            if self.queue.is_empty() {
                drop(mem::take(&mut self.queue));
            }
            if front == key {
                return Some(row);
            }
        }
        None
    }
}

fn weight(key: &[u8], row: &Row) -> usize {
    ROW_BYTES + key.len() + row.len()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use idem_model::{
        CollectionName, DocId, DocumentOp, FieldOp, FieldPath, Object, Value, limits,
    };
    use idem_query::{Fields, Source as _, Target as _};

    use super::*;
    use crate::{
        Store, StoreConfig, TransactionOptions, patience::Patience, row::Header, work::Work,
    };

    #[test]
    fn changes_take_the_rows_that_a_scan_kept_for_them() {
        let store = Store::open(StoreConfig::memory()).unwrap();
        let run = |text: &str| store.execute(text, Object::new()).unwrap();
        run(
            "INSERT INTO c DOCUMENTS ({'_id': 1, 'n': 1}), ({'_id': 2, 'n': 2}), ({'_id': 3, 'n': 3})",
        );
        let collection = CollectionName::new("c").unwrap();
        let mut work = Work::write(store.core().unwrap(), &Patience::default()).unwrap();
        // Twice: what a transaction has changed itself is not kept again.
        for (round, expected) in [(1, 2), (2, 0)] {
            let mut ids = Vec::new();
            let mut visit = |row: &mut Object| {
                if row["n"] != Value::Int(2) {
                    ids.push(DocId::new(row["_id"].clone()).unwrap());
                    work.will_change();
                }
                ControlFlow::Continue(())
            };
            work.scan_in_place(&collection, &Fields::All, &mut visit)
                .unwrap();
            assert_eq!(work.kept.rows().queue.len(), expected, "round {round}");
            for id in &ids {
                let op = DocumentOp::Update(vec![FieldOp::Increment {
                    path: FieldPath::field("times"),
                    by: 1,
                }]);
                work.apply(&collection, id, op).unwrap();
            }
            assert_eq!(work.kept.rows().queue.len(), 0, "round {round}");
        }
        work.commit().unwrap();
        let rows = run("SELECT _id, times FROM c ORDER BY _id").items;
        let times: Vec<_> = rows.iter().map(|row| row.get("times").cloned()).collect();
        assert_eq!(times, [Some(Value::Int(2)), None, Some(Value::Int(2))]);
    }

    #[test]
    fn statements_of_a_transaction_see_each_others_changes() {
        let store = Store::open(StoreConfig::memory()).unwrap();
        let run = |text: &str| store.execute(text, Object::new()).unwrap();
        run(
            "INSERT INTO c DOCUMENTS ({'_id': 1, 'n': 1}), ({'_id': 2, 'n': 2}), ({'_id': 3, 'n': 3})",
        );
        let mut transaction = store.begin(TransactionOptions::default()).unwrap();
        let large = Value::String("x".repeat(limits::DOCUMENT_BYTES_MAX));
        let args = || Object::from([("large".to_owned(), large.clone())]);
        let mut change = |text: &str| transaction.execute(text, args());
        // It fails at the second document, when the third is still kept.
        let failing = "UPDATE c SET n = n + 100, m = CASE WHEN n = 2 THEN :large ELSE 1 END";
        change(failing).unwrap_err();
        for text in [
            "UPDATE c SET n = n + 10 WHERE n > 1",
            "UPDATE c SET n = n + 1000 WHERE n < 13",
            "DELETE FROM c WHERE n > 1005",
            "UPDATE c SET n = n + 5",
        ] {
            change(text).unwrap();
        }
        transaction.commit().unwrap();
        let left = run("SELECT _id, n FROM c ORDER BY _id").items;
        let left = left.iter().map(|row| (&row["_id"], &row["n"]));
        let left: Vec<_> = left.collect();
        let expected = [(1, 1006), (3, 18)].map(|(id, n)| (Value::Int(id), Value::Int(n)));
        assert_eq!(
            left,
            expected.iter().map(|(id, n)| (id, n)).collect::<Vec<_>>()
        );
    }

    fn row(body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Header::default().encode_into(&mut bytes);
        bytes.extend_from_slice(body);
        bytes
    }

    fn keep(kept: &Kept, key: &[u8], body: &[u8]) {
        kept.want();
        kept.offer(key, &row(body));
    }

    fn body(kept: &Kept, key: &[u8]) -> Option<Vec<u8>> {
        kept.take(key).map(Row::into_body)
    }

    #[test]
    fn a_row_is_kept_once_and_only_when_it_was_asked_for() {
        let kept = Kept::default();
        kept.offer(b"a", &row(b"1"));
        assert_eq!(body(&kept, b"a"), None);
        keep(&kept, b"b", b"2");
        kept.offer(b"c", &row(b"3"));
        keep(&kept, b"d", b"4");
        keep(&kept, b"e", b"5");
        assert_eq!(body(&kept, b"a"), None);
        assert_eq!(body(&kept, b"b"), Some(b"2".to_vec()));
        assert_eq!(body(&kept, b"b"), None);
        assert_eq!(body(&kept, b"c"), None);
        assert_eq!(body(&kept, b"e"), Some(b"5".to_vec()));
        assert_eq!(body(&kept, b"d"), None);
        assert_eq!(kept.rows().bytes, 0);
    }

    #[test]
    fn another_scan_begins_anew() {
        let kept = Kept::default();
        keep(&kept, b"m", b"1");
        keep(&kept, b"n", b"2");
        keep(&kept, b"a", b"3");
        assert_eq!(body(&kept, b"a"), Some(b"3".to_vec()));
        assert_eq!(body(&kept, b"m"), None);
        assert_eq!(kept.rows().bytes, 0);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let kept = Kept::default();
        let large = vec![0; KEPT_BYTES_MAX / 2];
        keep(&kept, b"a", &large);
        keep(&kept, b"b", &large);
        keep(&kept, b"c", b"3");
        assert_eq!(body(&kept, b"a"), Some(large));
        assert_eq!(body(&kept, b"b"), None);
        assert_eq!(body(&kept, b"c"), Some(b"3".to_vec()));
        assert_eq!(kept.rows().bytes, 0);
    }
}
