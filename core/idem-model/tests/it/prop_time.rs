//! Hybrid time.

use idem_model::{HybridClock, Skew, Timestamp, limits};
use proptest::prelude::*;

/// What can happen to a clock: it is asked for a time, or sees one. Times in milliseconds.
#[derive(Clone, Debug)]
enum Event {
    Tick { now: u64 },
    Observe { remote: Timestamp, now: u64 },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let now = prop_oneof![0u64..200_000, Just(limits::CLOCK_SKEW_HOLD_MS)];
    let tick = now.clone().prop_map(|now| Event::Tick { now });
    let observe = (now.clone(), now, any::<u16>()).prop_map(|(ms, now, counter)| Event::Observe {
        remote: Timestamp::new(ms, counter),
        now,
    });
    prop::collection::vec(prop_oneof![tick, observe], 1..40)
}

proptest! {
    #[test]
    fn time_rises_and_is_never_before_the_wall_clock(events in events()) {
        let mut clock = HybridClock::default();
        let mut followed = Timestamp::ZERO;
        let mut wall = 0;
        for event in events {
            let last = clock.last();
            match event {
                Event::Tick { now } => {
                    wall = wall.max(now);
                    let time = clock.tick(now).unwrap();
                    prop_assert!(time > last && time > followed && time > Timestamp::ZERO);
                    prop_assert!(time.unix_ms() >= now);
                }
                Event::Observe { remote, now } => {
                    wall = wall.max(now);
                    let ahead = remote.unix_ms().saturating_sub(now);
                    match clock.observe(remote, now) {
                        Skew::Followed => {
                            prop_assert!(ahead < limits::CLOCK_SKEW_FOLLOW_MS);
                            followed = followed.max(remote);
                            prop_assert_eq!(clock.last(), last.max(remote));
                        }
                        Skew::Ahead { ms } => {
                            prop_assert!(ms == ahead && ms < limits::CLOCK_SKEW_HOLD_MS);
                            prop_assert_eq!(clock.last(), last);
                        }
                        Skew::FarAhead { ms } => {
                            prop_assert!(ms == ahead && ms >= limits::CLOCK_SKEW_HOLD_MS);
                            prop_assert_eq!(clock.last(), last);
                        }
                    }
                }
            }
            // One bad clock cannot drag this one further than it follows.
            prop_assert!(clock.last().unix_ms() <= wall + limits::CLOCK_SKEW_FOLLOW_MS);
        }
    }

    #[test]
    fn timestamps_sort_by_time_then_counter(a in 0u64..1 << 48, b in 0u64..1 << 48, c: u16, d: u16) {
        let (x, y) = (Timestamp::new(a, c), Timestamp::new(b, d));
        prop_assert_eq!(x.cmp(&y), (a, c).cmp(&(b, d)));
        prop_assert_eq!((x.unix_ms(), x.counter()), (a, c));
    }
}

#[test]
fn a_clock_at_its_end_says_so() {
    let mut clock = HybridClock::new(Timestamp(u64::MAX));
    assert_eq!(clock.tick(1).unwrap_err().last, Timestamp(u64::MAX));
    assert_eq!(clock.last(), Timestamp(u64::MAX));
}
