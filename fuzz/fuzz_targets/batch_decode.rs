//! Batches, the payload of log frames: what decodes holds what it says.

use idem_kv::{Batch, Table};

use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "batch_decode",
    run,
    seeds,
};

fn seeds() -> Vec<Vec<u8>> {
    let mut batch = Batch::new();
    let empty = batch.encode();
    batch.put(Table(0), b"key", b"value");
    batch.delete(Table(1), b"key");
    batch.put(Table(2), b"", &[7; 200]);
    vec![empty, batch.encode()]
}

fn run(data: &[u8]) -> Verdict {
    let Ok(batch) = Batch::decode(data) else {
        return Verdict::Rejected;
    };
    assert_eq!(batch.encode(), data, "one batch has one form");
    let mut again = Batch::new();
    for operation in batch.iter() {
        match operation.value {
            Some(value) => again.put(operation.table, operation.key, value),
            None => again.delete(operation.table, operation.key),
        }
    }
    assert_eq!(again, batch, "a batch is its operations");
    assert_eq!(batch.iter().count(), batch.len());
    Verdict::Accepted
}
