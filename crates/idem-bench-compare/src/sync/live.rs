//! The latency of single commits between two linked peers, there and back.

use crate::{
    engines::Failure,
    report::{Row, percentile},
    sync::{
        Class, DURABLE, Effort, RELAXED,
        pair::{Pair, numbers},
    },
};

/// What the names of its rows begin with.
pub(super) const WORKLOAD: &str = "live";

const DURABLE_MS_MAX: f64 = 2.0;
const RELAXED_MS_MAX: f64 = 0.5;
/// Commits before the ones that count.
const WARM_UP: u64 = 20;
/// Before a commit that stands alone: nothing that still goes on carries it along, and all threads
/// sleep.
const PAUSE_MS: u64 = 20;

/// Latencies in milliseconds.
#[derive(Default)]
struct Figures {
    /// From the start of a commit to the observer of the other peer, in both directions.
    one_way_ms: Vec<f64>,
    /// From the start of a commit to the own observer seeing the other peer's answer to it.
    round_trip_ms: Vec<f64>,
    /// As the first, of commits that stand alone.
    alone_ms: Vec<f64>,
    is_wrong: bool,
}

/// Runs both classes in turn, as often as there are rounds.
pub(super) fn run(effort: Effort, tell: &impl Fn(&str)) -> Result<Vec<Row>, Failure> {
    let (mut durable, mut relaxed) = (Figures::default(), Figures::default());
    for round in 1..=effort.rounds {
        for (class, figures) in [
            (Class::Durable, &mut durable),
            (Class::Relaxed, &mut relaxed),
        ] {
            play(class, effort.commits, figures)?;
            tell(&format!(
                "live {} round {round}/{}: p50 {:.2} ms, p99 {:.2} ms so far",
                class.name(),
                effort.rounds,
                percentile(&figures.one_way_ms, 50),
                percentile(&figures.one_way_ms, 99),
            ));
        }
    }
    Ok(vec![
        row(
            "live-durable-p50",
            &durable,
            Part::OneWay(50),
            Class::Durable,
        ),
        row(
            "live-durable-p99",
            &durable,
            Part::OneWay(99),
            Class::Durable,
        ),
        row(
            "live-durable-round-trip-p50",
            &durable,
            Part::RoundTrip,
            Class::Durable,
        ),
        row(
            "live-durable-alone-p50",
            &durable,
            Part::Alone,
            Class::Durable,
        ),
        row(
            "live-relaxed-p50",
            &relaxed,
            Part::OneWay(50),
            Class::Relaxed,
        ),
        row(
            "live-relaxed-p99",
            &relaxed,
            Part::OneWay(99),
            Class::Relaxed,
        ),
        row(
            "live-relaxed-round-trip-p50",
            &relaxed,
            Part::RoundTrip,
            Class::Relaxed,
        ),
        row(
            "live-relaxed-alone-p50",
            &relaxed,
            Part::Alone,
            Class::Relaxed,
        ),
    ])
}

fn play(class: Class, commits: u64, figures: &mut Figures) -> Result<(), Failure> {
    let mut pair = Pair::start(class)?;
    pair.sender.ask("fill 2")?;
    let address = pair.sender.ask("listen")?;
    pair.receiver.ask(&format!("first {address}"))?;
    let few = commits / 5;
    pair.receiver.ask("watch 0")?;
    pair.sender.ask("watch 1")?;
    let first = WARM_UP + commits + 1;
    let (one_way, round_trip, in_order) = ping(&mut pair, 1, commits, 0)?;
    let (alone, _, alone_in_order) = ping(&mut pair, first, few, PAUSE_MS)?;
    figures.one_way_ms.extend(one_way);
    figures.round_trip_ms.extend(round_trip);
    figures.alone_ms.extend(alone);
    figures.is_wrong |= !in_order || !alone_in_order;
    let last = first + few + WARM_UP - 1;
    pair.receiver.ask(&format!("agree {last}"))?;
    pair.sender.ask(&format!("agree {last}"))?;
    figures.is_wrong |= !pair.is_equal(2)?;
    pair.end()
}

/// Commits on either side in turn, of values from `first` on. Gives what they took one way and both ways, and whether all was seen
/// in order.
fn ping(
    pair: &mut Pair,
    first: u64,
    commits: u64,
    pause_ms: u64,
) -> Result<(Vec<f64>, Vec<f64>, bool), Failure> {
    let all = commits + WARM_UP;
    pair.receiver.begin(&format!("echo {first} {all}"))?;
    let line = pair.sender.ask(&format!("ping {first} {all} {pause_ms}"))?;
    let mut in_order = pair.receiver.answer()? == "in order";
    let nanos = numbers(&line)?;
    in_order &= nanos.len() as u64 == 3 * all;
    let (mut one_way, mut round_trip) = (Vec::new(), Vec::new());
    for sample in nanos.chunks_exact(3).skip(usize::try_from(WARM_UP)?) {
        let ms: Vec<f64> = sample.iter().map(|nanos| *nanos as f64 / 1e6).collect();
        one_way.extend(&ms[..2]);
        round_trip.push(ms[2]);
    }
    Ok((one_way, round_trip, in_order))
}

enum Part {
    OneWay(u32),
    RoundTrip,
    Alone,
}

fn row(workload: &'static str, figures: &Figures, part: Part, class: Class) -> Row {
    let (most, goal) = match class {
        Class::Durable => (DURABLE_MS_MAX, "under 2 ms"),
        Class::Relaxed => (RELAXED_MS_MAX, "under 0.5 ms"),
    };
    let (ms, unit) = match part {
        Part::OneWay(of_100) => (
            percentile(&figures.one_way_ms, of_100),
            "ms from the start of a commit to the observer of the other peer",
        ),
        Part::RoundTrip => (
            percentile(&figures.round_trip_ms, 50),
            "ms until the other peer's answer is observed",
        ),
        Part::Alone => (
            percentile(&figures.alone_ms, 50),
            "ms as above, with pauses in which everything sleeps",
        ),
    };
    let has_goal = matches!(part, Part::OneWay(50));
    Row {
        workload,
        unit,
        idem: Some(ms),
        other: None,
        other_name: "",
        ratio: 0.0,
        durability: match class {
            Class::Durable => DURABLE,
            Class::Relaxed => RELAXED,
        },
        errors: 0,
        verified: !figures.is_wrong,
        goal: if has_goal { goal } else { "" },
        reached: !has_goal || ms < most,
    }
}
