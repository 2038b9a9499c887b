//! A progress bar while CREATE INDEX waits for its index.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use idem::{Idem, Value};
use indicatif::{ProgressBar, ProgressStyle};

use crate::program::Talk;

/// How often the bar is drawn. A build that is faster shows none.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Parts of the whole that the bar tells apart.
const STEPS: u64 = 1000;

/// Runs `work`, which executes `statement`, and draws how far the index has come if the statement
/// creates one and stderr is a terminal.
pub(crate) fn during<R>(idem: &Idem, statement: &str, talk: Talk, work: impl FnOnce() -> R) -> R {
    if !talk.shows_progress() || !creates_index(statement) {
        return work();
    }
    let (running, is_over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // Without the thread there is no bar, and nothing else is lost.
        let _ = thread::Builder::new()
            .name("idem-progress".to_owned())
            .spawn_scoped(scope, move || draw(idem, &is_over));
        let result = work();
        drop(running);
        result
    })
}

/// Draws until the other end of the channel is gone.
fn draw(idem: &Idem, is_over: &mpsc::Receiver<()>) {
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {percent}% {eta}")
        .expect("a valid template");
    let bar = ProgressBar::new(STEPS).with_style(style);
    while is_over.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        if let Some((name, steps)) = look(idem) {
            bar.set_message(format!("building {name}"));
            bar.set_position(steps);
        }
    }
    bar.finish_and_clear();
}

/// The index that is being built, and how much of it is.
fn look(idem: &Idem) -> Option<(String, u64)> {
    let text = "SELECT name, progress FROM system:indexes WHERE state = 'building'";
    let result = idem.store().execute_blocking(text).ok()?;
    let row = result.into_items().into_iter().next()?.into_value();
    match (row.get("name")?, row.get("progress")?) {
        (Value::String(name), Value::Float(progress)) => {
            let part = (0..STEPS).rev().find(|&part| part_of(part) <= *progress);
            Some((name.clone(), part.unwrap_or(0)))
        }
        _ => None,
    }
}

fn part_of(part: u64) -> f64 {
    u32::try_from(part).map_or(1.0, f64::from) / 1000.0
}

/// Whether a statement waits for an index to be built.
pub(crate) fn creates_index(statement: &str) -> bool {
    let mut words = statement.split_ascii_whitespace();
    ["CREATE", "INDEX"].iter().all(|expected| {
        words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case(expected))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_create_index_is_waited_for() {
        assert!(creates_index("create  Index by_a ON t (a)"));
        for text in ["CREATE COLLECTION t", "DROP INDEX by_a ON t", "CREATE", ""] {
            assert!(!creates_index(text), "{text}");
        }
    }
}
