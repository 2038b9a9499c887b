//! Numbers that follow from a seed.

use std::time::Duration;

/// A generator of pseudo-random numbers (SplitMix64, Steele and others 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0. The bias of the remainder does not matter here.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of them, if there is any.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        let at = self.below(items.len().max(1) as u64);
        items.get(usize::try_from(at).ok()?).copied()
    }

    /// From nothing up to `end`, in steps of a millisecond.
    pub(crate) fn up_to(&mut self, end: Duration) -> Duration {
        let ms = u64::try_from(end.as_millis()).unwrap_or(u64::MAX - 1);
        Duration::from_millis(self.below(ms + 1))
    }

    /// From half of `mean` to one and a half of it.
    pub(crate) fn around(&mut self, mean: Duration) -> Duration {
        mean / 2 + self.up_to(mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_a_time_is_half_of_it_off_at_most() {
        let mut random = Random::new(1);
        let minute = Duration::from_secs(60);
        let drawn: Vec<_> = (0..1000).map(|_| random.around(minute)).collect();
        assert!(
            drawn
                .iter()
                .all(|it| *it >= minute / 2 && *it <= minute * 3 / 2)
        );
        assert!(drawn.iter().any(|it| *it < minute * 2 / 3));
        assert!(drawn.iter().any(|it| *it > minute * 4 / 3));
    }
}
