//! What is said to be on disk can be read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use idem_store::Store;

use crate::fixture::{collection, memory, run};

const COMMITS: u64 = 500;

/// Makes commits durable as soon as they are in the log, before they are visible if it can, until
/// `is_done`.
fn sync_early(store: &Store, is_done: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (store, is_done) = (store.clone(), Arc::clone(is_done));
    thread::spawn(move || {
        while !is_done.load(Ordering::Acquire) {
            store.wait_durable(store.last_commit() + 1).unwrap();
        }
    })
}

/// The commit up to which the feed shows everything.
fn shown(store: &Store, after: u64) -> u64 {
    let feed = store.changed_since(&collection("t"), after, after, usize::MAX);
    feed.unwrap().up_to
}

#[test]
fn a_durable_commit_is_visible() {
    let store = memory();
    let is_done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (store, is_done) = (store.clone(), Arc::clone(&is_done));
        thread::spawn(move || {
            for number in 0..COMMITS {
                run(
                    &store,
                    &format!("INSERT INTO t DOCUMENTS ({{'_id': {number}}})"),
                );
            }
            is_done.store(true, Ordering::Release);
        })
    };
    let syncing = sync_early(&store, &is_done);
    let mut reached = 0;
    while !is_done.load(Ordering::Acquire) {
        let durable = store.durable_commit();
        let up_to = shown(&store, reached);
        assert!(up_to >= durable, "{durable} is durable, {up_to} is shown");
        assert!(
            up_to <= store.durable_commit(),
            "{up_to} is shown and not durable"
        );
        reached = durable;
    }
    writer.join().unwrap();
    syncing.join().unwrap();
    assert_eq!(store.durable_commit(), COMMITS);
}

#[test]
fn who_is_told_of_a_durable_commit_can_read_it() {
    let store = memory();
    let is_done = Arc::new(AtomicBool::new(false));
    let syncing = sync_early(&store, &is_done);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let _telling = {
        let (reader, told) = (store.clone(), Arc::clone(&told));
        store.subscribe_commits(move |commit| {
            let up_to = shown(&reader, commit - 1);
            told.lock().unwrap().push((commit, up_to));
        })
    };
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let store = store.clone();
            thread::spawn(move || {
                for number in 0..COMMITS / 2 {
                    let id = 2 * number + writer;
                    run(
                        &store,
                        &format!("INSERT INTO t DOCUMENTS ({{'_id': {id}}})"),
                    );
                }
            })
        })
        .collect();
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    is_done.store(true, Ordering::Release);
    syncing.join().unwrap();
    let told = told.lock().unwrap();
    assert!(told.iter().all(|(commit, up_to)| up_to >= commit));
    assert_eq!(
        told.iter().map(|(commit, _)| *commit).max(),
        Some(COMMITS),
        "the last one is told of"
    );
}
