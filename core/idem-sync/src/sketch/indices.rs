//! Which symbols an item is part of.

/// Walks the indices of an item's symbols, in rising order, for ever.
///
/// An item is part of symbol `i` with a probability of about `1 / (1 + i/2)`: of the first, of two in
/// three of the next, and so on. Such a density needs the fewest symbols per difference, however many
/// differences there are (arXiv 2402.02668, section 4). Rather than ask for each index in turn, the
/// walk draws how far the next one is. All indices from `i + 1` to `m` are skipped with a probability
/// of `(i+1)(i+2) / ((m+1)(m+2))`, which is close to `((i + 3/2) / (m + 3/2))^2`; so for `u` drawn
/// evenly from 0 to 1 the next index is `(i + 3/2) / sqrt(u) - 3/2`, rounded up.
///
/// The exact rule is one of integers, as docs/format/wire.md gives it: two peers that walk
/// differently find nothing.
#[derive(Clone, Debug)]
pub(super) struct Indices {
    state: u64,
    at: u64,
}

impl Indices {
    /// Stands on index 0, which every item has.
    pub(super) fn new(hash: u64) -> Self {
        Self { state: hash, at: 0 }
    }

    /// The index that the walk stands on.
    #[inline]
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Goes to the next index. It may be anything up to 2^49, so that the walk is not to be continued
    /// once it left the sketch.
    #[inline]
    pub(super) fn advance(&mut self) {
        // SplitMix64, whose outputs depend on each other by one addition only: the processor works on
        // the roots of several steps at a time.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let stretch = inverse_root((z >> 32) | 1);
        // Sixteen binary places from the root, and one because the halves are doubled.
        let next = ((2 * self.at + 3) * stretch - (3 << 16) + (1 << 17) - 1) >> 17;
        self.at = next.max(self.at + 1);
    }
}

/// `2^16 / sqrt(u)` for `u = r / 2^32`: the largest `s` with `s * s * r < 2^64`, for `r` from 1 to
/// 2^32 - 1.
#[inline]
fn inverse_root(r: u64) -> u64 {
    const WHOLE: f64 = 18_446_744_073_709_551_616.0;
    // Floating point only makes a guess, which is off by one at most (its relative error is about
    // 2^-52 and the result below 2^32); integers decide. So every platform gets the same.
    #[expect(clippy::cast_precision_loss, reason = "below 2^32")]
    #[expect(clippy::cast_possible_truncation, reason = "the guess is rounded down")]
    #[expect(clippy::cast_sign_loss, reason = "roots are positive")]
    let mut s = ((WHOLE / r as f64).sqrt() as u64).min(u64::from(u32::MAX));
    let fits = |s: u64| (s * s).checked_mul(r).is_some();
    if !fits(s) {
        s -= 1;
    } else if s < u64::from(u32::MAX) && fits(s + 1) {
        s += 1;
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, by bisection.
    fn largest(r: u64) -> u64 {
        let (mut low, mut high) = (0, 1 << 32);
        while high - low > 1 {
            let s = u128::midpoint(low, high);
            match s * s * u128::from(r) < 1 << 64 {
                true => low = s,
                false => high = s,
            }
        }
        u64::try_from(low).unwrap()
    }

    #[test]
    fn the_root_is_the_largest_integer_that_fits() {
        let mut numbers: Vec<u64> = (1..5_000).collect();
        numbers.extend((1..5_000).map(|less| (1 << 32) - less));
        // Numbers whose root is nearly an integer, where the guess may fall on the wrong side.
        for s in (1u64 << 16..1 << 32).step_by(1_000_003) {
            let r = u64::try_from((1u128 << 64) / (u128::from(s) * u128::from(s))).unwrap();
            numbers.extend([r.saturating_sub(1), r, r + 1]);
        }
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            numbers.push(state >> 32);
        }
        for r in numbers {
            if (1..1 << 32).contains(&r) {
                assert_eq!(inverse_root(r), largest(r), "for {r}");
            }
        }
    }

    #[test]
    fn items_are_as_dense_as_they_should() {
        const ITEMS: u32 = 100_000;
        let mut hits = [0u32; 300];
        for number in 0..u64::from(ITEMS) {
            let mut indices =
                Indices::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).reverse_bits());
            while let Some(hit) = usize::try_from(indices.at())
                .ok()
                .and_then(|at| hits.get_mut(at))
            {
                *hit += 1;
                indices.advance();
            }
        }
        assert_eq!(hits[0], ITEMS, "every item is in symbol 0");
        for (index, hits) in (1u32..).zip(&hits[1..]) {
            let expected = f64::from(ITEMS) * 2.0 / f64::from(index + 2);
            // The rule rounds, most of all at the first indices; beyond that it is chance.
            let allowed = expected * 0.05 + 5.0 * expected.sqrt();
            let off = (f64::from(*hits) - expected).abs();
            assert!(
                off < allowed,
                "index {index} has {hits}, expected {expected}"
            );
        }
    }
}
