//! Numbers that follow from a seed.

/// A generator of pseudo-random numbers (SplitMix64, Steele and others 2014): small, fast and the
/// same on every platform.
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

    /// A number from `low` up to and including `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A number from a range of which both ends belong to it.
    pub(crate) fn within(&mut self, (low, high): (u64, u64)) -> u64 {
        self.between(low, high.max(low))
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// An index into a list of this length.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// The time until something happens that happens once in `mean` on average and remembers nothing:
    /// exponential, to about a tenth, and in whole numbers, so that it is the same on every platform.
    pub(crate) fn exponential(&mut self, mean: u64) -> u64 {
        let drawn = self.next() | 1;
        let halvings = u128::from(drawn.leading_zeros());
        let rest = u128::from((drawn << drawn.leading_zeros()) << 1);
        // -log2 of the number as a fixed-point number with 32 bits behind the point, times ln 2.
        let log2 = (halvings << 32) + ((1_u128 << 32) - (rest >> 32));
        let scaled = u128::from(mean) * log2 * 693 / 1000;
        u64::try_from(scaled >> 32).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn exponential_times_have_their_mean_and_their_tail() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..10_000).map(|_| random.exponential(1_000_000)).collect();
        let mean = drawn.iter().sum::<u64>() / 10_000;
        assert!((900_000..1_150_000).contains(&mean), "{mean}");
        // A share of 1/e lies above the mean, 1/e^3 above three times it.
        let above = |bound: u64| drawn.iter().filter(|it| **it > bound).count();
        assert!((3_300..4_100).contains(&above(1_000_000)));
        assert!((400..650).contains(&above(3_000_000)));
    }
}
