//! Goal: follow a query while its result changes, and say what changed each time.
//!
//! Command: `cargo run -p idem --example observe_query`
//!
//! Expected output:
//! ```text
//! 0 tasks open
//! 1 tasks open, new: [0], gone: []
//! 2 tasks open, new: [1], gone: []
//! 1 tasks open, new: [], gone: [0]
//! ```

use std::sync::mpsc;

use idem::{ConnectMode, DatabaseId, Differ, Idem, IdemConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Without a directory the store is in memory.
    let idem = Idem::open_sync(IdemConfig::new(DatabaseId([1; 16]), ConnectMode::Offline))?;
    let (send, results) = mpsc::channel();
    // The observer lives as long as this handle.
    let _observer = idem.store().register_observer(
        "SELECT * FROM tasks WHERE NOT done ORDER BY _id",
        move |result| {
            // Failing means that nobody listens any more.
            let _ = send.send(result);
        },
    )?;
    println!("{} tasks open", results.recv()?.item_count());

    let mut differ = Differ::new();
    for statement in [
        "INSERT INTO tasks DOCUMENTS ({'_id': 1, 'title': 'Buy milk', 'done': false})",
        "INSERT INTO tasks DOCUMENTS ({'_id': 2, 'title': 'Call Ada', 'done': false})",
        "UPDATE tasks SET done = true WHERE _id = 1",
    ] {
        idem.store().execute_blocking(statement)?;
        let result = results.recv()?;
        let diff = differ.diff(result.items());
        println!(
            "{} tasks open, new: {:?}, gone: {:?}",
            result.item_count(),
            diff.insertions,
            diff.deletions
        );
    }
    Ok(())
}
