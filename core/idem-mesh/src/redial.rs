//! When an address that an app named is dialled again.

use std::time::Duration;

use crate::{candidates::LINK_LIFE_MIN, event::DialFailure, random::Random};

/// The pauses after nobody answered double up to this many times the first one: with the default of
/// 250 ms that is 8 s, since whoever is away may be back at any moment.
const UNREACHABLE_FACTOR_MAX: u32 = 32;

/// What pauses double up to when the other side has no room: links come and go.
const FULL_MAX: Duration = Duration::from_secs(60);

/// What pauses double up to when the other side refuses for a reason that lasts until somebody does
/// something about it. It bounds how long a peer stays away after somebody did.
const REFUSED_MAX: Duration = Duration::from_secs(5 * 60);

/// How long to wait between two dials of one address.
///
/// An address that is named is dialled for ever, so the pauses are all that keeps a peer that is refused
/// from being a nuisance. They double with each failure, up to what the failure calls for, and each one is
/// shortened at random by up to a half, so that peers that lost the same hub do not return as one.
///
/// ```
/// use std::time::Duration;
/// use idem_mesh::{DialFailure, Redial};
///
/// let mut redial = Redial::new(Duration::from_secs(1), 7);
/// let first = redial.after_failure(DialFailure::Denied);
/// assert!(first >= Duration::from_millis(500) && first <= Duration::from_secs(1));
/// ```
#[derive(Clone, Debug)]
pub struct Redial {
    pause_min: Duration,
    /// The next pause, before it is bounded and shortened.
    pause: Duration,
    random: Random,
}

impl Redial {
    /// `pause_min` is the first pause. Peers with other seeds wait for other times.
    pub fn new(pause_min: Duration, seed: u64) -> Self {
        Self {
            pause_min,
            pause: pause_min,
            random: Random::new(seed),
        }
    }

    /// No link came of a dial. Gives how long to wait before the next one.
    pub fn after_failure(&mut self, failure: DialFailure) -> Duration {
        let unreachable_max = self.pause_min * UNREACHABLE_FACTOR_MAX;
        let bound = match failure {
            DialFailure::Unreachable => unreachable_max,
            DialFailure::Full => FULL_MAX.max(unreachable_max),
            DialFailure::Denied | DialFailure::Mismatch => REFUSED_MAX.max(unreachable_max),
            DialFailure::SelfLink => {
                // An address of this peer remains one.
                self.pause = REFUSED_MAX;
                REFUSED_MAX.max(unreachable_max)
            }
        };
        self.next(bound)
    }

    /// There was a link, for so long. Whoever is turned away at once would be so again, and waits longer
    /// each time.
    pub fn after_link(&mut self, lived: Duration) -> Duration {
        if lived >= LINK_LIFE_MIN {
            self.pause = self.pause_min;
        }
        self.next(self.pause_min * UNREACHABLE_FACTOR_MAX)
    }

    /// What failed may go well now: pauses are short again.
    pub fn begin_anew(&mut self) {
        self.pause = self.pause_min;
    }

    fn next(&mut self, bound: Duration) -> Duration {
        let pause = self.pause.min(bound);
        self.pause = (pause * 2).max(self.pause_min);
        pause - self.random.up_to(pause / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// The times of the dials of the first `span`, each of which fails like that.
    fn dials(failure: DialFailure, span: Duration, seed: u64) -> Vec<Duration> {
        let mut redial = Redial::new(Duration::from_millis(250), seed);
        let mut dials = vec![Duration::ZERO];
        loop {
            let last = dials[dials.len() - 1];
            let next = last + redial.after_failure(failure);
            if next > span {
                return dials;
            }
            dials.push(next);
        }
    }

    fn pauses(dials: &[Duration]) -> impl Iterator<Item = Duration> {
        dials.windows(2).map(|pair| pair[1] - pair[0])
    }

    #[test]
    fn who_is_refused_asks_less_and_less() {
        for seed in 0..100 {
            for (failure, most) in [
                (DialFailure::Mismatch, 36),
                (DialFailure::Denied, 36),
                (DialFailure::Full, 130),
                (DialFailure::SelfLink, 25),
            ] {
                let dials = dials(failure, HOUR, seed);
                assert!(dials.len() <= most, "{failure:?} {}", dials.len());
                assert!(pauses(&dials).all(|pause| pause <= REFUSED_MAX));
            }
            // The one who waits for a peer that is away hears of it soon.
            let dials = dials(DialFailure::Unreachable, HOUR, seed);
            assert!(pauses(&dials).all(|pause| pause <= Duration::from_secs(8)));
        }
    }

    #[test]
    fn a_refusal_that_mends_at_once_costs_little() {
        let dials = dials(DialFailure::Denied, HOUR, 1);
        assert!(dials[4] < Duration::from_secs(4), "{dials:?}");
    }

    #[test]
    fn pauses_differ_from_peer_to_peer() {
        let ends: std::collections::BTreeSet<Duration> = (0..100)
            .map(|seed| dials(DialFailure::Full, HOUR, seed)[20])
            .collect();
        assert!(ends.len() > 90, "{}", ends.len());
    }

    #[test]
    fn a_refusal_is_forgotten_when_something_else_happens() {
        let second = Duration::from_secs(1);
        let mut redial = Redial::new(second, 1);
        let refuse = |redial: &mut Redial| {
            let pauses = (0..12).map(|_| redial.after_failure(DialFailure::Mismatch));
            assert!(pauses.max() > Some(REFUSED_MAX / 2));
        };
        refuse(&mut redial);
        // The peer is off: it may come back as one that does not refuse.
        let pause = redial.after_failure(DialFailure::Unreachable);
        assert!(pause <= second * UNREACHABLE_FACTOR_MAX);
        refuse(&mut redial);
        redial.begin_anew();
        assert!(redial.after_failure(DialFailure::Mismatch) <= second);
        refuse(&mut redial);
        assert!(redial.after_link(HOUR) <= second, "it was wanted");
    }

    #[test]
    fn who_is_turned_away_again_and_again_waits_longer() {
        let second = Duration::from_secs(1);
        let mut redial = Redial::new(second, 1);
        let moment = Duration::from_millis(20);
        assert!(redial.after_link(moment) <= second);
        for _ in 0..10 {
            redial.after_link(moment);
        }
        let pause = redial.after_link(moment);
        assert!(pause >= second * UNREACHABLE_FACTOR_MAX / 2);
        assert!(redial.after_link(HOUR) <= second, "it was wanted");
    }

    #[test]
    fn a_long_first_pause_is_kept() {
        let mut redial = Redial::new(HOUR, 1);
        for failure in [
            DialFailure::Full,
            DialFailure::Denied,
            DialFailure::SelfLink,
        ] {
            redial.begin_anew();
            let pause = redial.after_failure(failure);
            assert!(
                pause >= REFUSED_MAX / 2 && pause <= HOUR,
                "{failure:?} {pause:?}"
            );
        }
    }
}
