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

/// Latencies in milliseconds.
#[derive(Default)]
struct Figures {
    /// From the start of a commit to the observer of the other peer, in both directions.
    one_way_ms: Vec<f64>,
    /// From the start of a commit to the own observer seeing the other peer's answer to it.
    round_trip_ms: Vec<f64>,
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
    ])
}

fn play(class: Class, commits: u64, figures: &mut Figures) -> Result<(), Failure> {
    let mut pair = Pair::start(class)?;
    pair.sender.ask("fill 2")?;
    let address = pair.sender.ask("listen")?;
    pair.receiver.ask(&format!("first {address}"))?;
    let all = commits + WARM_UP;
    pair.receiver.ask("watch 0")?;
    pair.sender.ask("watch 1")?;
    pair.receiver.begin(&format!("echo {all}"))?;
    let line = pair.sender.ask(&format!("ping {all}"))?;
    figures.is_wrong |= pair.receiver.answer()? != "in order";
    let nanos = numbers(&line)?;
    figures.is_wrong |= nanos.len() as u64 != 3 * all;
    for sample in nanos.chunks_exact(3).skip(usize::try_from(WARM_UP)?) {
        let ms: Vec<f64> = sample.iter().map(|nanos| *nanos as f64 / 1e6).collect();
        figures.one_way_ms.extend(&ms[..2]);
        figures.round_trip_ms.push(ms[2]);
    }
    pair.receiver.ask(&format!("agree {all}"))?;
    pair.sender.ask(&format!("agree {all}"))?;
    figures.is_wrong |= !pair.is_equal(2)?;
    pair.end()
}

enum Part {
    OneWay(u32),
    RoundTrip,
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
