//! The body of a transfer: reading ends, and never inside a group.

use idem_crdt::Document;
use idem_wire::{BatchItem, BatchReader, BatchWriter};

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "transfer_read",
    run,
    seeds,
};

fn seeds() -> Vec<Vec<u8>> {
    let states: Vec<_> = samples::documents()
        .iter()
        .map(Document::to_bytes)
        .collect();
    let mut writer = BatchWriter::new();
    for (key, state) in samples::keys().iter().zip(&states) {
        writer.document(key, state.len() % 2 == 0, state);
    }
    writer.end_group();
    writer.document(&samples::keys()[0], false, &states[1]);
    writer.mark_left();
    writer.end_group();
    writer.answered(true);
    writer.announced(&[[7; 8], [9; 8]]);
    writer.cursor(1, 500, false);
    writer.cursor(2, 501, true);
    vec![writer.into_bytes()]
}

fn run(data: &[u8]) -> Verdict {
    let mut reader = BatchReader::new(data);
    let mut in_group = false;
    loop {
        match reader.next_item() {
            Ok(Some(BatchItem::Document(document))) => in_group = !document.ends_group,
            Ok(Some(_)) => assert!(!in_group, "another record inside a group"),
            Ok(None) => break,
            Err(_) => return Verdict::Rejected,
        }
    }
    assert!(!in_group, "an end inside a group");
    Verdict::Accepted
}
