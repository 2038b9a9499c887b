//! Sums of floats without error, so that the order of adding makes no difference.

use idem_model::Value;

use crate::bound::AggregateKind;

/// Bits of a limb; the rest of its 64 holds carries until they are moved on.
const LIMB_BITS: usize = 32;
/// Finite floats are integers times 2^-1074 below 2^2098; 64 bits more hold 2^64 of them.
const LIMBS: usize = (2098 + 64usize).div_ceil(LIMB_BITS) + 1;
/// Each adding puts less than 2^32 into a limb of 63 bits, which must not overflow.
const ADDINGS_MAX: u32 = 1 << 30;
const MASK: i64 = (1 << LIMB_BITS) - 1;
/// Bits of the fraction of a float as it is stored.
const FRACTION_BITS: u32 = 52;

/// The exact sum of finite floats, as a fixed-point number that is wide enough for all of them
/// (the "superaccumulator" of Kulisch). What was added can be subtracted again without a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExactSum {
    /// Least significant first. Signed, each of its own weight.
    limbs: Box<[i64; LIMBS]>,
    addings: u32,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self {
            limbs: Box::new([0; LIMBS]),
            addings: 0,
        }
    }
}

impl ExactSum {
    /// Adds a finite number.
    pub(crate) fn add(&mut self, number: f64) {
        self.add_signed(number, false);
    }

    /// Takes a number away that was added before.
    pub(crate) fn subtract(&mut self, number: f64) {
        self.add_signed(number, true);
    }

    /// Adds an integer.
    pub(crate) fn add_whole(&mut self, number: i128) {
        // Pieces of 32 bits are floats without rounding.
        let mut rest = number.unsigned_abs();
        let mut weight = 1.0;
        while rest > 0 {
            let piece = u32::try_from(rest & u128::from(u32::MAX)).unwrap_or(u32::MAX);
            self.add_signed(f64::from(piece) * weight, number < 0);
            rest >>= LIMB_BITS;
            weight *= 4_294_967_296.0;
        }
    }

    fn add_signed(&mut self, number: f64, negated: bool) {
        debug_assert!(number.is_finite(), "values hold finite floats only");
        let bits = number.to_bits();
        let exponent = usize::try_from((bits >> FRACTION_BITS) & 0x7ff).unwrap_or(0);
        let fraction = bits & ((1 << FRACTION_BITS) - 1);
        let (mantissa, position) = match exponent {
            0 => (fraction, 0),
            _ => (fraction | (1 << FRACTION_BITS), exponent - 1),
        };
        if mantissa == 0 {
            return;
        }
        if self.addings == ADDINGS_MAX {
            self.carry();
        }
        self.addings += 1;
        let is_negative = number.is_sign_negative() != negated;
        let mut rest = u128::from(mantissa) << (position % LIMB_BITS);
        for limb in &mut self.limbs[position / LIMB_BITS..][..3] {
            let part = i64::try_from(rest & u128::from(u32::MAX)).unwrap_or(0);
            *limb += if is_negative { -part } else { part };
            rest >>= LIMB_BITS;
        }
    }

    /// Moves what a limb has over its bits into the next; all but the last are then within them.
    fn carry(&mut self) {
        let mut carried = 0;
        let last = LIMBS - 1;
        for limb in &mut self.limbs[..last] {
            *limb += carried;
            carried = *limb >> LIMB_BITS;
            *limb &= MASK;
        }
        self.limbs[last] += carried;
        self.addings = 0;
    }

    /// The float next to the sum, the even one of two that are equally near; infinite beyond range.
    pub(crate) fn value(&self) -> f64 {
        let mut sum = self.clone();
        sum.carry();
        let is_negative = sum.limbs[LIMBS - 1] < 0;
        if is_negative {
            sum.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            sum.carry();
        }
        let magnitude = sum.magnitude();
        if is_negative { -magnitude } else { magnitude }
    }

    /// The value of carried limbs that are not negative.
    fn magnitude(&self) -> f64 {
        let Some(top) = self.limbs.iter().rposition(|limb| *limb != 0) else {
            return 0.0;
        };
        let top_bits = 64 - self.limbs[top].leading_zeros() as usize;
        let highest = top * LIMB_BITS + top_bits - 1;
        // The lowest bit that a float of this size can hold; subnormal ones hold the first.
        let lowest = highest.saturating_sub(FRACTION_BITS as usize);
        let mut mantissa = 0u64;
        for bit in (lowest..=highest).rev() {
            mantissa = mantissa << 1 | u64::from(self.bit(bit));
        }
        if lowest > 0 && self.bit(lowest - 1) {
            let is_above_half = (0..lowest - 1).any(|bit| self.bit(bit));
            if is_above_half || mantissa & 1 == 1 {
                mantissa += 1;
            }
        }
        // The exponent lies above the fraction: the leading bit, and a carry, count it up by one.
        let bits = u128::from(mantissa) + ((lowest as u128) << FRACTION_BITS);
        u64::try_from(bits)
            .ok()
            .filter(|bits| *bits < f64::INFINITY.to_bits())
            .map_or(f64::INFINITY, f64::from_bits)
    }

    fn bit(&self, bit: usize) -> bool {
        self.limbs[bit / LIMB_BITS] >> (bit % LIMB_BITS) & 1 == 1
    }
}

/// What SUM or AVG gives over `count` numbers: `whole` is the sum of the integers among them, and
/// `floats` that of the floats if there are any. `None` is MISSING.
pub(crate) fn sum_or_average(
    kind: AggregateKind,
    whole: i128,
    floats: Option<ExactSum>,
    count: u64,
) -> Option<Value> {
    if count == 0 {
        return None;
    }
    if let (AggregateKind::Sum, None, Ok(whole)) = (kind, &floats, i64::try_from(whole)) {
        return Some(Value::Int(whole));
    }
    let mut sum = floats.unwrap_or_default();
    sum.add_whole(whole);
    #[expect(clippy::cast_precision_loss, reason = "a float result is asked for")]
    let count = count as f64;
    match kind {
        AggregateKind::Avg => Value::float(sum.value() / count),
        _ => Value::float(sum.value()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ExactSum;

    fn sum(numbers: impl IntoIterator<Item = f64>) -> f64 {
        let mut sum = ExactSum::default();
        numbers.into_iter().for_each(|number| sum.add(number));
        sum.value()
    }

    fn finite() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>().prop_filter("finite", |number| number.is_finite()),
            -1e6..1e6,
            any::<i32>().prop_map(f64::from),
            Just(f64::MIN_POSITIVE),
            Just(5e-324),
            Just(f64::MAX / 4.0),
        ]
    }

    #[test]
    fn known_sums() {
        assert_eq!(sum([]), 0.0);
        assert_eq!(sum([0.1, 0.2, 0.3]), 0.6);
        assert_eq!(sum([1e308, 1.0, -1e308]), 1.0);
        assert_eq!(sum([1e16, 1.0, 1.0]), 1e16 + 2.0);
        assert_eq!(sum([9_007_199_254_740_992.0, 1.0]), 9_007_199_254_740_992.0);
        assert_eq!(
            sum([9_007_199_254_740_993.0f64, 2.0, 1.0]),
            9_007_199_254_740_996.0
        );
        assert_eq!(sum([5e-324, 5e-324]), 1e-323);
        assert_eq!(sum([f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum([f64::MIN, f64::MIN]), f64::NEG_INFINITY);
        assert_eq!(sum([f64::MAX, f64::MAX, f64::MIN]), f64::MAX);
    }

    #[test]
    fn integers_are_added_whole() {
        let mut sum = ExactSum::default();
        sum.add_whole(i128::from(i64::MAX) * 3);
        sum.add_whole(-i128::from(i64::MAX) * 3 + 7);
        assert_eq!(sum.value(), 7.0);
    }

    proptest! {
        #[test]
        fn two_numbers_add_as_the_processor_adds_them(a in finite(), b in finite()) {
            prop_assert_eq!(sum([a, b]), a + b);
        }

        #[test]
        fn the_order_makes_no_difference(numbers in proptest::collection::vec(finite(), 0..40)) {
            let forwards = sum(numbers.iter().copied());
            let backwards = sum(numbers.iter().rev().copied());
            prop_assert_eq!(forwards.to_bits(), backwards.to_bits());
        }

        #[test]
        fn what_is_subtracted_leaves_no_trace(
            kept in proptest::collection::vec(finite(), 0..20),
            gone in proptest::collection::vec(finite(), 0..20),
        ) {
            let mut both = ExactSum::default();
            kept.iter().chain(&gone).for_each(|number| both.add(*number));
            gone.iter().for_each(|number| both.subtract(*number));
            prop_assert_eq!(both.value().to_bits(), sum(kept).to_bits());
        }
    }
}
