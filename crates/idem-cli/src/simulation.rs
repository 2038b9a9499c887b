//! `idem sim`: many peers and their faults in one process, and what came of it.

use std::{
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use idem::{Object, Value};
use idem_sim::{Failure, MeshReport, Report, Scenario, draw_run, run_with};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    args::{Format, SimArgs},
    exit::{CliError, ExitStatus},
    output::{format_or_default, plain_table, print_rows, write_json_line},
    program::Talk,
    query::stdout_error,
};

/// Failures after which no more seeds are tried: more of them rarely tell more.
const FAILURES_MAX: usize = 10;

type Outcome = Result<Report, Box<Failure>>;

/// Runs the command.
pub(crate) fn run(args: &SimArgs, talk: Talk) -> Result<(), CliError> {
    if let Some(name) = &args.show {
        return show(name);
    }
    let scenario = load(&args.scenario)?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let first = args.seed.unwrap_or(clock.map_or(0, |time| time.as_secs()));
    let format = format_or_default(args.format);
    talk.note(&format!("{}: {}", args.scenario, scenario.about()));
    let outcomes = run_seeds(args, &scenario, first, (format, talk))?;
    print(&outcomes, format).map_err(stdout_error)?;
    if let (Some(path), Some(Ok(report))) = (&args.svg, outcomes.first()) {
        draw(path, args, report)?;
    }
    let failed: Vec<u64> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err().map(|failure| failure.seed))
        .collect();
    let Some(seed) = failed.first() else {
        return Ok(());
    };
    let peers = args.peers.map(|peers| format!(" --peers {peers}"));
    let peers = peers.unwrap_or_default();
    let message = format!(
        "{} of {} seeds broke a promise",
        failed.len(),
        outcomes.len()
    );
    Err(CliError::failed(message).hint(format!(
        "see it again with: idem sim --scenario {}{peers} --seed {seed}",
        args.scenario
    )))
}

fn run_seeds(
    args: &SimArgs,
    scenario: &Scenario,
    first: u64,
    (format, talk): (Format, Talk),
) -> Result<Vec<Outcome>, CliError> {
    let bar = progress(args.seeds, talk);
    let peers = args
        .peers
        .map(|peers| usize::try_from(peers).unwrap_or(usize::MAX));
    let mut outcomes = Vec::new();
    let mut failures = 0;
    for seed in first..first.saturating_add(args.seeds) {
        let outcome = run_with(&scenario.options(peers, seed), None);
        bar.inc(1);
        failures += usize::from(outcome.is_err());
        if format == Format::Jsonl {
            // Each seed at once, for those who watch.
            write_json_line(&mut io::stdout().lock(), &row(&outcome)).map_err(stdout_error)?;
        }
        outcomes.push(outcome);
        if failures >= FAILURES_MAX {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(outcomes)
}

fn show(name: &str) -> Result<(), CliError> {
    let Some(text) = Scenario::ready_text(name) else {
        let names: Vec<&str> = Scenario::ready_names()
            .filter(|it| Scenario::ready_text(it).is_some())
            .collect();
        let message = format!("no scenario file named {name} comes along");
        return Err(CliError::usage(message).hint(format!("there are: {}", names.join(", "))));
    };
    io::Write::write_all(&mut io::stdout().lock(), text.as_bytes()).map_err(stdout_error)
}

/// A scenario that comes along, or a file.
fn load(name: &str) -> Result<Scenario, CliError> {
    if let Some(scenario) = Scenario::ready(name) {
        return Ok(scenario);
    }
    let names = Scenario::ready_names().collect::<Vec<_>>().join(", ");
    let text = fs::read_to_string(name).map_err(|source| {
        CliError::new(
            ExitStatus::Usage,
            format!("cannot read the scenario {name}"),
        )
        .because(source)
        .hint(format!("a file, or one of: {names}"))
    })?;
    Scenario::parse(&text).map_err(|source| {
        CliError::new(ExitStatus::Environment, format!("{name} is no scenario"))
            .because(source)
            .hint("docs/simulator.md lists the keys; idem sim --show lan prints an example")
    })
}

fn progress(seeds: u64, talk: Talk) -> ProgressBar {
    if !talk.shows_progress() {
        return ProgressBar::hidden();
    }
    let template = if seeds > 1 {
        "{pos} of {len} seeds [{wide_bar}] {eta}"
    } else {
        "simulating {elapsed} {spinner}"
    };
    let style = ProgressStyle::with_template(template).expect("a valid template");
    let bar = ProgressBar::new(seeds).with_style(style);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

fn draw(path: &Path, args: &SimArgs, report: &Report) -> Result<(), CliError> {
    let title = format!(
        "{}: {} peers, {} writes, seed {}",
        args.scenario, report.peers, report.acknowledged, report.seed
    );
    let picture = draw_run(&title, report);
    fs::write(path, picture).map_err(|source| {
        CliError::failed(format!("cannot write {}", path.display())).because(source)
    })
}

// The report.

fn print(outcomes: &[Outcome], format: Format) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        // They are printed already.
        Format::Jsonl => Ok(()),
        Format::Table => {
            let mut table = plain_table();
            if let [Ok(report)] = outcomes {
                table.add_rows(lines(report));
            } else {
                table.set_header(HEADER);
                table.add_rows(outcomes.iter().map(cells));
            }
            io::Write::write_fmt(&mut out, format_args!("{table}\n"))
        }
        _ => {
            let rows: Vec<Object> = outcomes.iter().map(row).collect();
            print_rows(&mut out, format, &rows)
        }
    }
}

const HEADER: [&str; 8] = [
    "seed",
    "peers",
    "writes",
    "faults",
    "p50",
    "p99",
    "bytes a peer",
    "verdict",
];

fn cells(outcome: &Outcome) -> [String; 8] {
    match outcome {
        Ok(report) => [
            report.seed.to_string(),
            report.peers.to_string(),
            report.acknowledged.to_string(),
            report.faults.to_string(),
            milliseconds(report.latency_p50_us),
            milliseconds(report.latency_p99_us),
            mean(&report.bytes_sent_by).to_string(),
            "ok".to_owned(),
        ],
        Err(failure) => {
            let mut cells = [(); 8].map(|()| String::new());
            cells[0] = failure.seed.to_string();
            cells[1] = failure.options.peers.to_string();
            cells[7] = failure.violation.to_string();
            cells
        }
    }
}

/// A single run in words.
fn lines(report: &Report) -> Vec<[String; 2]> {
    let bytes = &report.bytes_sent_by;
    let most = bytes.iter().max().copied().unwrap_or(0);
    let (pairs, delivered) = report.pairs;
    let after_us = report.converged_us.saturating_sub(report.healed_us);
    let lines = [
        ("verdict", "every promise was kept".to_owned()),
        ("seed", report.seed.to_string()),
        ("peers", report.peers.to_string()),
        ("writes acknowledged", report.acknowledged.to_string()),
        ("faults", report.faults.to_string()),
        ("simulated time", milliseconds(report.simulated_us)),
        ("faults ended after", milliseconds(report.healed_us)),
        ("converged after that", milliseconds(after_us)),
        (
            "a write to all peers, p50",
            milliseconds(report.latency_p50_us),
        ),
        (
            "a write to all peers, p99",
            milliseconds(report.latency_p99_us),
        ),
        (
            "deliveries",
            format!("{delivered} of {pairs}, {} lost", report.pairs_lost),
        ),
        (
            "bytes sent by a peer",
            format!("{} on average, {most} at most", mean(bytes)),
        ),
        ("documents sent", report.documents_sent.to_string()),
        (
            "of them told nothing",
            report.documents_unchanged.to_string(),
        ),
        ("moves to another link", report.moves.to_string()),
        ("most bytes on one link", report.link_bytes_max.to_string()),
        (
            "most bytes in a session",
            report.queued_bytes_max.to_string(),
        ),
        (
            "frames, events",
            format!("{}, {}", report.frames, report.events),
        ),
        ("trace", trace(report)),
    ];
    let mesh = report.mesh.iter().flat_map(mesh_lines);
    let lines = lines.into_iter().chain(mesh);
    lines
        .map(|(name, value)| [name.to_owned(), value])
        .collect()
}

/// What a run in a field tells of its mesh.
fn mesh_lines(mesh: &MeshReport) -> [(&'static str, String); 6] {
    [
        ("islands joined after", milliseconds(mesh.joined_us)),
        ("who is there known after", milliseconds(mesh.known_us)),
        (
            "links made, dials",
            format!("{}, {}", mesh.links_made, mesh.dials),
        ),
        ("a link lived, on average", milliseconds(mesh.link_life_us)),
        ("most links of a peer", mesh.links_max.to_string()),
        ("bytes of presence", mesh.gossip_bytes.to_string()),
    ]
}

/// A run for machines. Times are in milliseconds.
fn row(outcome: &Outcome) -> Object {
    let int = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
    let time = |us: u64| int(us / 1000);
    let pairs: Vec<(&str, Value)> = match outcome {
        Ok(report) => {
            let bytes = &report.bytes_sent_by;
            let after_us = report.converged_us.saturating_sub(report.healed_us);
            vec![
                ("verdict", "ok".into()),
                ("seed", int(report.seed)),
                ("peers", int(report.peers as u64)),
                ("writes", int(report.acknowledged)),
                ("faults", int(report.faults)),
                ("simulated_ms", time(report.simulated_us)),
                ("healed_ms", time(report.healed_us)),
                ("converged_after_ms", time(after_us)),
                ("latency_p50_ms", time(report.latency_p50_us)),
                ("latency_p99_ms", time(report.latency_p99_us)),
                ("deliveries", int(report.pairs.1)),
                ("deliveries_expected", int(report.pairs.0)),
                ("deliveries_lost", int(report.pairs_lost)),
                ("bytes_per_peer", int(mean(bytes))),
                (
                    "bytes_per_peer_max",
                    int(bytes.iter().max().copied().unwrap_or(0)),
                ),
                ("documents_sent", int(report.documents_sent)),
                ("documents_duplicate", int(report.documents_unchanged)),
                ("moves", int(report.moves)),
                ("link_bytes_max", int(report.link_bytes_max)),
                ("queued_bytes_max", int(report.queued_bytes_max)),
                ("frames", int(report.frames)),
                ("events", int(report.events)),
                ("trace", trace(report).into()),
            ]
        }
        Err(failure) => vec![
            ("verdict", "broken".into()),
            ("seed", int(failure.seed)),
            ("peers", int(failure.options.peers as u64)),
            ("simulated_ms", time(failure.simulated_us)),
            ("violation", failure.violation.to_string().into()),
        ],
    };
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn mean(numbers: &[u64]) -> u64 {
    let sum: u64 = numbers.iter().sum();
    sum.checked_div(numbers.len() as u64).unwrap_or(0)
}

fn milliseconds(us: u64) -> String {
    if us >= 10_000_000 {
        return format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000);
    }
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

/// The start of the hash over everything that happened: two runs with the same one are the same run.
fn trace(report: &Report) -> String {
    let start = report.trace.iter().take(8);
    start.map(|byte| format!("{byte:02x}")).collect()
}
