//! Group commit, counted in syncs instead of measured in time.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use idem_log::{Log, LogStorage, MemoryStorage, Segment};

use crate::support::{open, options};

/// A storage whose syncs wait at a gate.
#[derive(Debug, Clone, Default)]
struct GatedStorage {
    inner: MemoryStorage,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    closed: bool,
    waiting: usize,
    syncs: usize,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.syncs += 1;
        state.waiting += 1;
        self.changed.notify_all();
        while state.closed {
            state = self.changed.wait(state).unwrap();
        }
        state.waiting -= 1;
    }

    fn set_closed(&self, closed: bool) {
        self.state.lock().unwrap().closed = closed;
        self.changed.notify_all();
    }

    fn wait_for_one(&self) {
        let mut state = self.state.lock().unwrap();
        while state.waiting == 0 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn syncs(&self) -> usize {
        self.state.lock().unwrap().syncs
    }
}

impl LogStorage for GatedStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        let inner = self.inner.create(name)?;
        Ok(Arc::new(GatedSegment {
            inner,
            gate: Arc::clone(&self.gate),
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        let inner = self.inner.open(name)?;
        Ok(Arc::new(GatedSegment {
            inner,
            gate: Arc::clone(&self.gate),
        }))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.inner.delete(name)
    }
}

#[derive(Debug)]
struct GatedSegment {
    inner: Arc<dyn Segment>,
    gate: Arc<Gate>,
}

impl Segment for GatedSegment {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.inner.sync_data()
    }
}

#[test]
fn a_sync_and_all_that_arrive_while_it_runs_cost_two_fsyncs() {
    let storage = GatedStorage::default();
    let gate = Arc::clone(&storage.gate);
    let (log, _) = Log::open(Box::new(storage), options().segment_bytes(1 << 20)).unwrap();
    for _ in 0..20 {
        let before = gate.syncs();
        gate.set_closed(true);
        thread::scope(|scope| {
            let sync = || {
                let position = log.append(b"payload").unwrap();
                log.sync_to(position).unwrap();
                assert!(log.durable() >= position);
            };
            scope.spawn(sync);
            gate.wait_for_one();
            // The first is inside its sync. The others append now, so that it cannot cover them.
            let positions: Vec<_> = (0..31).map(|_| log.append(b"payload").unwrap()).collect();
            for &position in &positions {
                let log = &log;
                scope.spawn(move || log.sync_to(position).unwrap());
            }
            gate.set_closed(false);
        });
        assert_eq!(gate.syncs() - before, 2);
        assert_eq!(log.durable(), log.end());
    }
}

#[test]
fn one_writer_costs_one_fsync_for_each_commit_and_none_when_nothing_is_pending() {
    let (log, _) = open(MemoryStorage::default()).unwrap();
    for count in 1..=10 {
        let position = log.append(&[1; 100]).unwrap();
        log.sync_to(position).unwrap();
        log.sync_to(position).unwrap();
        assert_eq!(log.stats().syncs, count);
    }
    let position = log.append(&[1; 100]).unwrap();
    log.flush_to_os(position).unwrap();
    assert_eq!(log.stats().syncs, 10);
    assert!(log.durable() < position);
}

#[test]
fn many_threads_all_get_what_they_waited_for() {
    let storage = MemoryStorage::default();
    let (log, _) = open(storage.clone()).unwrap();
    thread::scope(|scope| {
        for thread in 0..8_u8 {
            let log = &log;
            scope.spawn(move || {
                for round in 0..200_u8 {
                    let position = log.append(&[thread, round]).unwrap();
                    if round % 3 == 0 {
                        log.flush_to_os(position).unwrap();
                    } else {
                        log.sync_to(position).unwrap();
                        assert!(log.durable() >= position);
                    }
                }
            });
        }
    });
    let frames = crate::support::replay(&log, 0).unwrap();
    for thread in 0..8_u8 {
        let rounds: Vec<u8> = frames
            .iter()
            .filter(|(_, p)| p[0] == thread)
            .map(|(_, p)| p[1])
            .collect();
        assert_eq!(rounds, (0..200).collect::<Vec<u8>>());
    }
}
