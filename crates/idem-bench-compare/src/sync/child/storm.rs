//! The writers of the storm.

use std::{
    thread,
    time::{Duration, Instant},
};

use idem::{Object, Store, Value};

use super::watch::{self, Sampler};
use crate::{
    documents,
    engines::Failure,
    sync::storm::{DOCUMENTS, PER_COMMIT, WRITERS},
};

const UPDATE: &str = "UPDATE docs SET price = :value WHERE _id IN :ids";
/// Values begin here, above all prices of documents, and end with [`LAST`].
const FIRST: i64 = 1_000_000;
const LAST: i64 = 1_000_000_000_000;

/// Gives the updates, the nanoseconds that they took, the time of their end, the value that all
/// documents have then, and what a sampler saw meanwhile.
pub(super) fn run(store: &Store, limit: Duration, per_second: u64) -> Result<Vec<u64>, Failure> {
    let sampler = Sampler::start()?;
    let start = Instant::now();
    let pause = Duration::from_secs(PER_COMMIT * WRITERS) / u32::try_from(per_second)?;
    let updates = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let writer = Writer {
                    store,
                    groups: groups_of(number),
                    pause,
                };
                scope.spawn(move || writer.run(start, limit))
            })
            .collect();
        let updates = writers.into_iter().map(|writer| match writer.join() {
            Ok(updates) => updates,
            Err(_) => Err("a writer panicked".into()),
        });
        updates.sum::<Result<u64, Failure>>()
    })?;
    let took = u64::try_from(start.elapsed().as_nanos())?;
    let mut numbers = vec![updates, took, watch::now_nanos(), u64::try_from(LAST)?];
    numbers.extend(sampler.stop()?);
    Ok(numbers)
}

/// The documents of a writer, by commit.
fn groups_of(writer: u64) -> Vec<Value> {
    let share = DOCUMENTS / WRITERS;
    let own: Vec<u64> = (writer * share..(writer + 1) * share).collect();
    let groups = own.chunks(usize::try_from(PER_COMMIT).unwrap_or(usize::MAX));
    let ids = |group: &[u64]| group.iter().map(|n| documents::id(*n).into()).collect();
    groups.map(|group| Value::Array(ids(group))).collect()
}

/// One thread, with documents of its own.
struct Writer<'a> {
    store: &'a Store,
    groups: Vec<Value>,
    /// Between the beginnings of two commits.
    pause: Duration,
}

impl Writer<'_> {
    /// Changes its documents in turn until time is up, and once more at the end. Gives the number of
    /// updates.
    fn run(&self, start: Instant, limit: Duration) -> Result<u64, Failure> {
        let mut updates = 0;
        let mut due = Duration::ZERO;
        for (group, value) in self.groups.iter().cycle().zip(FIRST..) {
            if start.elapsed() >= limit {
                break;
            }
            // Whoever is late hurries, so that the rate is held over the whole.
            thread::sleep(due.saturating_sub(start.elapsed()));
            due += self.pause;
            updates += self.commit(group, value)?;
        }
        for group in &self.groups {
            updates += self.commit(group, LAST)?;
        }
        Ok(updates)
    }

    fn commit(&self, group: &Value, value: i64) -> Result<u64, Failure> {
        let args = Object::from([
            ("ids".to_owned(), group.clone()),
            ("value".to_owned(), value.into()),
        ]);
        self.store.execute_blocking((UPDATE, args))?;
        Ok(PER_COMMIT)
    }
}
