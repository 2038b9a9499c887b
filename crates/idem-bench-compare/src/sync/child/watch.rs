//! What a peer sees of itself: changes of a document, time, processor and memory.

use std::{
    fs,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use idem::{Object, StoreObserver};
use rustix::time::{ClockId, clock_gettime};

use super::super::WAIT_MAX;
use crate::{documents, engines::Failure};

/// How often memory is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// An observer of one document.
pub(super) struct Watch {
    seen: Receiver<Seen>,
    _observer: StoreObserver,
}

/// What the observer was called with.
pub(super) struct Seen {
    pub(super) value: i64,
    /// When the observer was called.
    pub(super) at_nanos: u64,
    /// When the other peer saw what this answers.
    pub(super) seen: u64,
    /// When the commit began.
    pub(super) started: u64,
}

impl Watch {
    pub(super) fn start(store: &idem::Store, number: u64) -> Result<Self, Failure> {
        let (send, seen) = mpsc::channel();
        let query = "SELECT * FROM docs WHERE _id = :id";
        let args = Object::from([("id".to_owned(), documents::id(number).into())]);
        let observer = store.register_observer((query, args), move |result| {
            let at_nanos = now_nanos();
            let item = result.get_item(0);
            let number = |name| item.as_ref()?.field(name)?.as_int();
            let nanos = |name| number(name).and_then(|it| u64::try_from(it).ok());
            // Before the first change the document has none of these.
            if let (Some(value), Some(seen), Some(started)) =
                (number("price"), nanos("seen"), nanos("started"))
            {
                // The peer may be closing.
                let _ = send.send(Seen {
                    value,
                    at_nanos,
                    seen,
                    started,
                });
            }
        })?;
        Ok(Self {
            seen,
            _observer: observer,
        })
    }

    /// The next change, after waiting for it.
    pub(super) fn next(&self) -> Result<Seen, Failure> {
        let seen = self.seen.recv_timeout(WAIT_MAX);
        Ok(seen.map_err(|_| "nothing was observed in time")?)
    }
}

/// Looks at the memory of this process while something else goes on.
pub(super) struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Vec<u64>>,
}

impl Sampler {
    pub(super) fn start() -> Result<Self, Failure> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("bench-sampler".to_owned())
            .spawn(move || {
                let mut samples = Vec::new();
                loop {
                    samples.extend(resident_kib());
                    match stopped.recv_timeout(SAMPLE_INTERVAL) {
                        Err(RecvTimeoutError::Timeout) => {}
                        _ => return samples,
                    }
                }
            })?;
        Ok(Self { stop, thread })
    }

    /// Resident memory in KiB, in the order of time.
    pub(super) fn stop(self) -> Result<Vec<u64>, Failure> {
        drop(self.stop);
        Ok(self.thread.join().map_err(|_| "the sampler panicked")?)
    }
}

/// The memory of this process in KiB, where the system tells it.
fn resident_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Nanoseconds since the start of the machine: the clock that two processes share.
pub(super) fn now_nanos() -> u64 {
    nanos_of(ClockId::Monotonic)
}

/// CPU that all threads of this process have used.
pub(super) fn cpu_nanos() -> u64 {
    nanos_of(ClockId::ProcessCPUTime)
}

fn nanos_of(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
