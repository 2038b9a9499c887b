//! Up to which local commit the remote has confirmed to hold all that it wants.

use std::collections::VecDeque;

/// Positions that wait to be confirmed at the same time. A lane's credit is 4 MiB, and a position is
/// taken when a batch was queued; if small batches make more, the last one gives way to a later one.
const POSITIONS_MAX: usize = 64;

/// How many batches of each lane were made, or acknowledged.
pub(crate) type Batches = [u64; 2];

/// What the remote has confirmed over the link in use.
///
/// All that it wants of the commits up to some number is in the batches that were made by then. When
/// it has acknowledged those of both lanes, it holds that durably, whatever was queued since.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    commit: u64,
    /// Commits, with the batches that hold everything up to them; both rise.
    positions: VecDeque<(u64, Batches)>,
    /// The remote has said that it does not hold something that was sent. No position counts from
    /// then on, while this link lasts.
    is_stuck: bool,
}

impl Confirmed {
    /// The last commit that is confirmed.
    pub(crate) fn commit(&self) -> u64 {
        self.commit
    }

    /// Everything up to `commit` is in the batches `made`.
    pub(crate) fn queued(&mut self, commit: u64, made: Batches, acknowledged: Batches) {
        let last = self
            .positions
            .back()
            .map_or(self.commit, |(commit, _)| *commit);
        if commit <= last || self.is_stuck {
            return;
        }
        if self.positions.len() == POSITIONS_MAX {
            self.positions.pop_back();
        }
        self.positions.push_back((commit, made));
        self.acknowledged(acknowledged);
    }

    /// The remote has applied, durably, the batches up to `acknowledged`.
    pub(crate) fn acknowledged(&mut self, acknowledged: Batches) {
        while let Some((commit, made)) = self.positions.front()
            && made.iter().zip(&acknowledged).all(|(made, it)| made <= it)
        {
            self.commit = *commit;
            self.positions.pop_front();
        }
    }

    /// The remote does not hold something that was sent.
    pub(crate) fn stick(&mut self) {
        self.is_stuck = true;
        self.positions.clear();
    }

    /// Everything is sent again, from what the remote asks for next.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_when_both_lanes_are_acknowledged_so_far() {
        let mut confirmed = Confirmed::default();
        confirmed.queued(5, [1, 2], [0, 0]);
        confirmed.acknowledged([1, 1]);
        assert_eq!(confirmed.commit(), 0);
        // What was queued since does not matter.
        confirmed.queued(9, [2, 2], [1, 1]);
        confirmed.acknowledged([1, 2]);
        assert_eq!(confirmed.commit(), 5);
        confirmed.acknowledged([2, 2]);
        assert_eq!(confirmed.commit(), 9);
        // Nothing was sent for it.
        confirmed.queued(12, [2, 2], [2, 2]);
        assert_eq!(confirmed.commit(), 12);
    }

    #[test]
    fn positions_are_bounded_and_still_rise() {
        let mut confirmed = Confirmed::default();
        for commit in 1..=1_000 {
            confirmed.queued(commit, [commit, 0], [0, 0]);
        }
        assert_eq!(confirmed.positions.len(), POSITIONS_MAX);
        confirmed.acknowledged([10, 0]);
        assert_eq!(confirmed.commit(), 10);
        confirmed.acknowledged([1_000, 0]);
        assert_eq!(confirmed.commit(), 1_000);
    }

    #[test]
    fn nothing_counts_once_something_is_not_held() {
        let mut confirmed = Confirmed::default();
        confirmed.queued(1, [1, 0], [1, 0]);
        confirmed.queued(2, [2, 0], [1, 0]);
        confirmed.stick();
        confirmed.acknowledged([2, 0]);
        confirmed.queued(3, [2, 0], [2, 0]);
        assert_eq!(confirmed.commit(), 1);
        confirmed.restart();
        confirmed.queued(3, [2, 0], [2, 0]);
        assert_eq!(confirmed.commit(), 3);
    }
}
