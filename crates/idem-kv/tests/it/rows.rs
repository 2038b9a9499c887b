//! What the row cache spares the engine. That it never changes an answer is in `conformance`.

use idem_kv::{Batch, EngineFault, FaultEngine, KvError, MemoryEngine, Overlay, Snapshot, Table};

const CACHED: Table = Table(0);
const OTHER: Table = Table(1);
const BYTES: usize = 1024 * 1024;

fn read(snapshot: &dyn Snapshot, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
    let mut found = None;
    snapshot.read(table, key, &mut |value| found = Some(value.to_vec()))?;
    Ok(found)
}

fn put(overlay: &Overlay, position: u64) {
    let mut batch = Batch::new();
    for table in [CACHED, OTHER] {
        batch.put(table, b"key", &position.to_be_bytes());
    }
    overlay.apply(&batch, position);
    overlay.flush(|_| Ok(())).unwrap();
}

/// An engine in which every value is damaged: only what is not read there can be read.
fn damage(engine: &FaultEngine) {
    for read in 1..1000 {
        engine.inject(EngineFault::Read(read));
    }
}

#[test]
fn what_was_flushed_is_read_from_memory() {
    let engine = FaultEngine::wrap(MemoryEngine::new());
    let overlay = Overlay::open(Box::new(engine.clone())).unwrap();
    let overlay = overlay.with_row_cache(CACHED, BYTES);
    for position in 1..4 {
        put(&overlay, position);
    }
    damage(&engine);
    let snapshot = overlay.snapshot().unwrap();
    let expected = Some(3_u64.to_be_bytes().to_vec());
    assert_eq!(read(&snapshot, CACHED, b"key").unwrap(), expected);
    assert_eq!(snapshot.get(CACHED, b"key").unwrap(), expected);
    // Another table has no cache, and a scan goes to the engine.
    read(&snapshot, OTHER, b"key").unwrap_err();
    let mut visit = |_: &[u8], _: &[u8]| std::ops::ControlFlow::Continue(());
    snapshot
        .scan(CACHED, b"", None, false, &mut visit)
        .unwrap_err();
}

#[test]
fn what_was_read_once_is_read_from_memory_also_after_other_flushes() {
    let tables = MemoryEngine::new();
    put(&Overlay::open(Box::new(tables.clone())).unwrap(), 1);
    let engine = FaultEngine::wrap(tables);
    let overlay = Overlay::open(Box::new(engine.clone())).unwrap();
    let overlay = overlay.with_row_cache(CACHED, BYTES);
    let expected = Some(1_u64.to_be_bytes().to_vec());
    // A copy is for somebody who is about to change it, and is not kept.
    overlay.snapshot().unwrap().get(CACHED, b"key").unwrap();
    damage(&engine);
    read(&overlay.snapshot().unwrap(), CACHED, b"key").unwrap_err();
    engine.heal();
    assert_eq!(
        read(&overlay.snapshot().unwrap(), CACHED, b"key").unwrap(),
        expected
    );
    let mut batch = Batch::new();
    batch.put(CACHED, b"another", b"value");
    overlay.apply(&batch, 2);
    overlay.flush(|_| Ok(())).unwrap();
    damage(&engine);
    assert_eq!(
        read(&overlay.snapshot().unwrap(), CACHED, b"key").unwrap(),
        expected
    );
}
