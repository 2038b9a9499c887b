//! What a fuzz target is, and when an input counts as a failure.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crate::memory::peak_of;

/// Memory that every target may take: tables of the regular expressions, the time zones and such.
const MEMORY_BYTES_BASE: usize = 16 << 20;

/// Memory per byte of input. The dearest honest input is an object with one field: about 4 bytes
/// become a B-tree leaf of about 640.
const MEMORY_BYTES_PER_INPUT_BYTE: usize = 256;

/// Time for one input. A thousand times what any takes, so that a busy machine raises no alarm.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(10);

/// Whether a target took an input for what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was valid, so pieces of it make good inputs.
    Accepted,
    /// It was refused with an error.
    Rejected,
}

/// A decoder or parser with the properties that must hold for any input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// `<type>_<verb>`, the name of its file.
    pub name: &'static str,
    /// Panics if something does not hold.
    pub run: fn(&[u8]) -> Verdict,
    /// Valid inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

impl Target {
    /// Runs the target on `data` and watches panics, memory and time.
    ///
    /// # Errors
    ///
    /// A sentence on what failed.
    pub fn check(&self, data: &[u8]) -> Result<Verdict, String> {
        let started = Instant::now();
        let run = AssertUnwindSafe(|| peak_of(|| (self.run)(data)));
        let (verdict, peak) = catch_unwind(run).map_err(|panic| said(&*panic))?;
        let allowed = MEMORY_BYTES_BASE + data.len() * MEMORY_BYTES_PER_INPUT_BYTE;
        if peak > allowed {
            let len = data.len();
            return Err(format!("took {peak} bytes of memory for {len} of input"));
        }
        let duration = started.elapsed();
        if duration > DURATION_MAX {
            return Err(format!("took {} s", duration.as_secs()));
        }
        Ok(verdict)
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.as_deref().unwrap_or("without a text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(run: fn(&[u8]) -> Verdict) -> Result<Verdict, String> {
        let target = Target {
            name: "planted",
            run,
            seeds: Vec::new,
        };
        target.check(b"abc")
    }

    #[test]
    fn a_panic_and_a_hoard_are_failures() {
        assert_eq!(check(|_| Verdict::Rejected), Ok(Verdict::Rejected));
        let error = check(|data| panic!("at {}", data.len())).unwrap_err();
        assert_eq!(error, "panicked: at 3");
        let error = check(|_| {
            std::hint::black_box(Vec::<u8>::with_capacity(MEMORY_BYTES_BASE * 2));
            Verdict::Accepted
        })
        .unwrap_err();
        assert!(error.contains("bytes of memory"), "{error}");
    }
}
