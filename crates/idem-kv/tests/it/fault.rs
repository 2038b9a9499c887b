//! Failing engines and disks, and what the overlay makes of them.

use idem_kv::{
    Batch, DiskFault, Durability, Engine, EngineFault, FaultDisk, FaultEngine, KvError,
    MemoryEngine, Overlay, RedbEngine, Snapshot, Table,
};

use crate::support::options;

const TABLE: Table = Table(0);

fn put(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(TABLE, key, value);
    batch
}

#[test]
pub(crate) fn a_failed_barrier_keeps_everything_and_the_engine_untouched() {
    let engine = MemoryEngine::new();
    let overlay = Overlay::open(Box::new(engine.clone())).unwrap();
    overlay.apply(&put(b"a", b"1"), 10);
    let refuse = |_| {
        Err(KvError::barrier(std::io::Error::other(
            "the log is poisoned",
        )))
    };
    let error = overlay.flush(refuse).unwrap_err();
    assert!(matches!(error, KvError::Barrier { .. }), "{error}");
    assert_eq!(engine.stats().commits, 0);
    assert_eq!(overlay.flushed_position(), 0);
    assert_eq!(
        overlay
            .snapshot()
            .unwrap()
            .get(TABLE, b"a")
            .unwrap()
            .unwrap(),
        b"1"
    );
    overlay.apply(&put(b"a", b"2"), 20);
    assert_eq!(
        overlay
            .snapshot()
            .unwrap()
            .get(TABLE, b"a")
            .unwrap()
            .unwrap(),
        b"2"
    );

    let mut barriers = Vec::new();
    let flushed = overlay.flush(|position| {
        barriers.push(position);
        Ok(())
    });
    assert_eq!((flushed.unwrap(), barriers), (20, vec![10, 20]));
    assert_eq!(
        overlay.flush(|_| unreachable!("nothing to flush")).unwrap(),
        20
    );
}

#[test]
pub(crate) fn a_snapshot_from_before_a_flush_does_not_see_what_the_flush_brought() {
    let overlay = Overlay::open(Box::new(MemoryEngine::new())).unwrap();
    overlay.apply(&put(b"a", b"1"), 1);
    let early = overlay.snapshot().unwrap();
    overlay.apply(&put(b"a", b"2"), 2);
    overlay.apply(&put(b"b", b"2"), 3);
    overlay.flush(|_| Ok(())).unwrap();
    assert_eq!(early.get(TABLE, b"a").unwrap().unwrap(), b"1");
    assert_eq!(early.get(TABLE, b"b").unwrap(), None);
    assert_eq!(
        overlay
            .snapshot()
            .unwrap()
            .get(TABLE, b"b")
            .unwrap()
            .unwrap(),
        b"2"
    );
}

#[test]
pub(crate) fn one_engine_snapshot_serves_all_readers_between_flushes() {
    let overlay = Overlay::open(Box::new(MemoryEngine::new())).unwrap();
    let before = overlay.snapshot().unwrap();
    for position in 1..100 {
        overlay.apply(&put(b"a", b"1"), position);
        drop(overlay.snapshot().unwrap());
    }
    assert_eq!(before.get(TABLE, b"a").unwrap(), None);
}

#[test]
#[should_panic(expected = "position 5 is not after 5")]
fn positions_must_grow() {
    let overlay = Overlay::open(Box::new(MemoryEngine::new())).unwrap();
    overlay.apply(&put(b"a", b"1"), 5);
    overlay.apply(&put(b"a", b"1"), 5);
}

#[test]
pub(crate) fn a_full_disk_says_how_much_and_keeps_earlier_data() {
    let disk = FaultDisk::default();
    let options = options();
    let engine = RedbEngine::open_disk(&disk, &options).unwrap();
    engine
        .commit(&put(b"early", b"kept"), Durability::Durable)
        .unwrap();
    disk.inject(DiskFault::DiskBytes(disk.bytes()));
    let large = put(b"large", &vec![1; 8 << 20]);
    let error = engine.commit(&large, Durability::Durable).unwrap_err();
    assert!(error.is_full(), "{error}");
    let KvError::Full { needed, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(needed, large.as_bytes().len() as u64);
    drop(engine);
    disk.crash(3);

    disk.heal();
    let engine = RedbEngine::open_disk(&disk, &options).unwrap();
    let snapshot = engine.snapshot().unwrap();
    assert_eq!(snapshot.get(TABLE, b"early").unwrap().unwrap(), b"kept");
    assert_eq!(snapshot.get(TABLE, b"large").unwrap(), None);
    engine.commit(&large, Durability::Durable).unwrap();
}

#[test]
pub(crate) fn a_failed_sync_closes_the_engine_until_it_is_reopened() {
    let disk = FaultDisk::default();
    let engine = RedbEngine::open_disk(&disk, &options()).unwrap();
    engine
        .commit(&put(b"a", b"1"), Durability::Durable)
        .unwrap();
    disk.inject(DiskFault::Sync(disk.syncs() + 1));
    let error = engine
        .commit(&put(b"a", b"2"), Durability::Durable)
        .unwrap_err();
    assert!(matches!(error, KvError::Io { .. }), "{error}");
    disk.heal();
    let error = engine
        .commit(&put(b"a", b"3"), Durability::Durable)
        .unwrap_err();
    assert!(matches!(error, KvError::Poisoned), "{error}");
    assert!(matches!(engine.snapshot(), Err(KvError::Poisoned)));
}

#[test]
pub(crate) fn a_damaged_value_is_named_with_table_and_key() {
    let engine = FaultEngine::wrap(MemoryEngine::new());
    let overlay = Overlay::open(Box::new(engine.clone())).unwrap();
    overlay.apply(&put(b"a", b"1"), 1);
    overlay.apply(&put(b"b", b"1"), 2);
    overlay.flush(|_| Ok(())).unwrap();
    let snapshot = overlay.snapshot().unwrap();
    engine.inject(EngineFault::Read(1));
    engine.inject(EngineFault::Read(3));
    let error = snapshot.get(TABLE, b"a").unwrap_err();
    assert_eq!(
        error.to_string(),
        "stored value is damaged (table 0, key 61)"
    );
    let error = crate::support::scan(&snapshot, 0, &[], None, false, usize::MAX).unwrap_err();
    assert_eq!(
        error.to_string(),
        "stored value is damaged (table 0, key 62)"
    );
}

#[test]
pub(crate) fn relaxed_commits_are_lost_with_the_process_until_a_sync() {
    let disk = FaultDisk::default();
    let options = options();
    for (sync, kept) in [(false, false), (true, true)] {
        let engine = RedbEngine::open_disk(&disk, &options).unwrap();
        engine
            .commit(&put(b"a", b"1"), Durability::Relaxed)
            .unwrap();
        assert!(
            engine
                .snapshot()
                .unwrap()
                .get(TABLE, b"a")
                .unwrap()
                .is_some()
        );
        if sync {
            engine.sync().unwrap();
        }
        // What a killed process leaves: everything it wrote, but nothing that closing would write.
        let left = disk.copy();
        let reopened = RedbEngine::open_disk(&left, &options).unwrap();
        assert_eq!(
            reopened
                .snapshot()
                .unwrap()
                .get(TABLE, b"a")
                .unwrap()
                .is_some(),
            kept
        );
    }
}
