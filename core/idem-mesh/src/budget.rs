//! What may be spent at once, and what comes back with time.

use std::time::Duration;

/// A bucket that fills evenly.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    max: u64,
    /// So much comes back in this time.
    refill: (u64, Duration),
    left: u64,
    at: Duration,
}

impl Budget {
    /// A full one.
    pub(crate) fn new(now: Duration, max: u64, refill: u64, per: Duration) -> Self {
        Self {
            max,
            refill: (refill, per),
            left: max,
            at: now,
        }
    }

    /// From now on the refill takes `per`.
    pub(crate) fn set_pace(&mut self, now: Duration, per: Duration) {
        self.fill(now);
        self.refill.1 = per;
    }

    /// What is left now.
    pub(crate) fn left(&mut self, now: Duration) -> u64 {
        self.fill(now);
        self.left
    }

    /// Spends `amount`, or nothing at all and gives false.
    pub(crate) fn spend(&mut self, now: Duration, amount: u64) -> bool {
        self.fill(now);
        let enough = self.left >= amount;
        if enough {
            self.left -= amount;
        }
        enough
    }

    /// When `amount` can be spent, if nothing else is before: at once or later. More than fits counts as
    /// all of it.
    pub(crate) fn ready_at(&self, now: Duration, amount: u64) -> Duration {
        let mut filled = self.clone();
        filled.fill(now);
        let missing = amount.min(self.max).saturating_sub(filled.left);
        if missing == 0 {
            return now;
        }
        filled.at + filled.time_for(missing)
    }

    fn time_for(&self, amount: u64) -> Duration {
        let (refill, per) = self.refill;
        let nanos = per.as_nanos() * u128::from(amount);
        Duration::from_nanos(u64::try_from(nanos.div_ceil(u128::from(refill))).unwrap_or(u64::MAX))
    }

    fn fill(&mut self, now: Duration) {
        let (refill, per) = self.refill;
        let passed = now.saturating_sub(self.at).as_nanos();
        let amount = passed * u128::from(refill) / per.as_nanos().max(1);
        let amount = u64::try_from(amount).unwrap_or(u64::MAX);
        if amount == 0 {
            return;
        }
        if amount >= self.max - self.left {
            self.left = self.max;
            self.at = now;
        } else {
            self.left += amount;
            // Only what was counted has passed; rounded up it might never be enough.
            self.at += Duration::from_nanos(
                u64::try_from(per.as_nanos() * u128::from(amount) / u128::from(refill))
                    .unwrap_or(u64::MAX),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_in_time() {
        let second = Duration::from_secs(1);
        let mut budget = Budget::new(Duration::ZERO, 10, 3, second);
        assert!(budget.spend(Duration::ZERO, 10));
        assert!(!budget.spend(Duration::ZERO, 1));
        for amount in 1..=12 {
            let at = budget.ready_at(second, amount);
            assert!(
                budget.clone().spend(at, amount.min(10)),
                "{amount} at {at:?}"
            );
            let before = at.saturating_sub(Duration::from_millis(1));
            let is_late = amount > 3 && budget.clone().spend(before, amount.min(10));
            assert!(!is_late, "{amount} before {at:?}");
        }
        assert!(!budget.spend(second * 1000, 11), "never more than fits");
        assert!(budget.spend(second * 1000, 10));
    }
}
