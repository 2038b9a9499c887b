//! An attachment on a link, alone and beside small changes.

use crate::{
    engines::Failure,
    report::{Row, percentile},
    sync::{
        Class, DURABLE, Effort,
        pair::{Pair, numbers},
    },
};

/// What the names of its rows begin with.
pub(super) const WORKLOAD: &str = "blob";

const MB_PER_SECOND_MIN: f64 = 200.0;
const LIVE_MS_MAX: f64 = 60.0;
const MB: u64 = 1_000_000;
/// Attachments that are fetched one after the other beside the small changes.
const BESIDE: u64 = 4;
/// The first value of document 0, and how many times it is changed beside the attachments.
const FIRST: u64 = 1;

#[derive(Default)]
struct Figures {
    mb_per_second: Vec<f64>,
    one_way_ms: Vec<f64>,
    /// Rounds in which the attachments were there before the last small change.
    ended_early: u64,
    is_wrong: bool,
}

pub(super) fn run(effort: Effort, tell: &impl Fn(&str)) -> Result<Vec<Row>, Failure> {
    let mut figures = Figures::default();
    for round in 1..=effort.rounds {
        play(effort, &mut figures)?;
        tell(&format!(
            "blob round {round}/{}: {:.0} MB/s, beside it p99 {:.1} ms so far",
            effort.rounds,
            percentile(&figures.mb_per_second, 50),
            percentile(&figures.one_way_ms, 99),
        ));
    }
    let rate = percentile(&figures.mb_per_second, 50);
    let live = percentile(&figures.one_way_ms, 99);
    let row = |workload, unit, value, goal, reached| Row {
        workload,
        unit,
        idem: Some(value),
        other: None,
        other_name: "",
        ratio: 0.0,
        durability: DURABLE,
        errors: 0,
        verified: !figures.is_wrong,
        goal,
        reached,
    };
    Ok(vec![
        row(
            "blob-rate",
            "MB/s of an attachment of 100 MB until it is on disk",
            rate,
            "200 MB/s or more",
            rate >= MB_PER_SECOND_MIN,
        ),
        row(
            "blob-live-p50",
            "ms of a small change beside attachments",
            percentile(&figures.one_way_ms, 50),
            "",
            true,
        ),
        row(
            "blob-live-p99",
            "ms of a small change beside attachments",
            live,
            "under 60 ms",
            live < LIVE_MS_MAX && figures.ended_early == 0,
        ),
    ])
}

fn play(effort: Effort, figures: &mut Figures) -> Result<(), Failure> {
    let mut pair = Pair::start(Class::Durable)?;
    pair.sender.ask("fill 2")?;
    let address = pair.sender.ask("listen")?;
    pair.receiver.ask(&format!("first {address}"))?;
    let bytes = effort.attachment_mb * MB;
    let alone = pair.sender.ask(&format!("attach 1 {bytes}"))?;
    pair.receiver.ask(&format!("fetch {alone}"))?;
    let nanos = pair.receiver.ask_numbers("fetched")?;
    let took = *nanos.first().ok_or("no figure")?;
    figures
        .mb_per_second
        .push(bytes as f64 / 1e6 / (took as f64 / 1e9));

    let mut beside = Vec::new();
    for seed in 2..2 + BESIDE {
        beside.push(pair.sender.ask(&format!("attach {seed} {bytes}"))?);
    }
    pair.receiver.ask("watch 0")?;
    pair.sender.ask("watch 1")?;
    pair.receiver.ask(&format!("fetch {}", beside.join(" ")))?;
    let commits = effort.commits / 5;
    pair.receiver.begin(&format!("echo {FIRST} {commits}"))?;
    let line = pair.sender.ask(&format!("ping {FIRST} {commits} 0"))?;
    figures.is_wrong |= pair.receiver.answer()? != "in order";
    figures.ended_early += u64::from(pair.receiver.ask("fetching")? != "1");
    for sample in numbers(&line)?.chunks_exact(3) {
        let ms = sample.iter().map(|nanos| *nanos as f64 / 1e6);
        figures.one_way_ms.extend(ms.take(2));
    }
    pair.receiver.ask_numbers("fetched")?;
    let last = FIRST + commits - 1;
    pair.receiver.ask(&format!("agree {last}"))?;
    pair.sender.ask(&format!("agree {last}"))?;
    figures.is_wrong |= !pair.is_equal(2)?;
    pair.end()
}
