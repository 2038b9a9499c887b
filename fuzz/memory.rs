//! How much memory a piece of code holds at its peak.

#![expect(
    unsafe_code,
    reason = "an allocator is an unsafe trait; it only counts and passes on"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Passes every request on to the system and counts the bytes of the calling thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    // Constant initialisers and no destructor: reading them allocates nothing, at any time.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Runs `body` and tells how many bytes its thread held at most, above what it held before.
pub fn peak_of<T>(body: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = body();
    let peak = PEAK.get() - before;
    (result, usize::try_from(peak).unwrap_or(0))
}

/// Runs `body` and tells how many bytes less its thread holds than before; none if it is more.
pub fn freed_by(body: impl FnOnce()) -> usize {
    let before = HELD.get();
    body();
    usize::try_from(before - HELD.get()).unwrap_or(0)
}

fn count(change: isize) {
    // Fails only while the thread is being torn down, when nobody measures.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).expect("no layout is larger than isize::MAX")
}

// SAFETY: every method passes its arguments to `System` unchanged and returns what it returned;
// counting touches only the thread's own cells and does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_is_counted() {
        let bytes = std::hint::black_box(vec![0u8; 1000]);
        assert_eq!(freed_by(|| drop(bytes)), 1000);
    }

    #[test]
    fn the_peak_counts_what_was_freed_again() {
        let ((), peak) = peak_of(|| {
            drop(std::hint::black_box(vec![0u8; 1000]));
            drop(std::hint::black_box(vec![0u8; 3000]));
        });
        assert_eq!(peak, 3000);
        let (kept, peak) = peak_of(|| {
            let mut bytes = Vec::with_capacity(10);
            bytes.resize(500, 0u8);
            bytes
        });
        assert!((500..2000).contains(&peak), "{peak}");
        drop(kept);
    }
}
