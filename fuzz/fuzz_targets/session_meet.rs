//! Two replication sessions through any schedule, one of them hostile: nothing panics or hoards, the
//! honest side keeps only what it asked for, and with an honest remote it converges afterwards.

use crate::{
    mutator::Random,
    sessions::World,
    target::{Target, Verdict},
};

pub(super) const TARGET: Target = Target {
    name: "session_meet",
    run,
    seeds,
};

/// Schedules of several lengths, for both sides as the liar, and without one.
fn seeds() -> Vec<Vec<u8>> {
    let seeds = (0..24).map(|number| {
        let mut random = Random::new(number);
        let len = 300 + random.below(2_500);
        let mut bytes: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
        bytes[0] = number as u8 % 2;
        bytes[1] = number as u8 / 2 % 3;
        bytes
    });
    seeds.collect()
}

fn run(data: &[u8]) -> Verdict {
    match World::run(data) {
        true => Verdict::Accepted,
        false => Verdict::Rejected,
    }
}
