//! Peers in a plane: their meshes form one, keep to their limits, and the bugs that runs must find.

use idem_sim::{Canary, Failure, Options, Report, Scenario, Violation, draw_run, run_with};

/// Fewer than the gate's seeds have, in release.
const PEERS: usize = 12;

fn options(name: &str, seed: u64) -> Options {
    let scenario = Scenario::ready(name).expect("it comes along");
    scenario.options(Some(PEERS), seed)
}

fn passed(outcome: Result<Report, Box<Failure>>) -> Report {
    outcome.unwrap_or_else(|it| panic!("{it}: {}", it.violation))
}

#[test]
fn strangers_in_a_field_become_one_mesh() {
    let report = passed(run_with(&options("field", 3), None));
    let mesh = report.mesh.as_ref().expect("there is one");
    let picture = &mesh.at_rest;
    assert_eq!(picture.islands, vec![Some(0); report.peers]);
    assert!(picture.links.len() >= report.peers - 1, "it holds together");
    assert!(picture.links.iter().all(|(_, _, is_radio)| *is_radio));
    let drawn = draw_run("a field", &report);
    assert_eq!(drawn.matches("<circle").count(), 2 * report.peers);
    let links = mesh.at_worst.links.len() + picture.links.len();
    assert_eq!(drawn.matches("<path").count(), links);
    assert_eq!(
        drawn.matches("<svg").count(),
        drawn.matches("</svg>").count()
    );
    assert!((3..=7).contains(&mesh.links_max), "{}", mesh.links_max);
    assert_eq!(report.pairs.0, report.pairs.1, "everybody has everything");
    assert!(mesh.link_life_us > 0 && mesh.gossip_bytes > 0);
}

/// Runs a planted bug over seeds until it is found, and gives what was found.
fn found(canary: Canary, is_expected: fn(&Violation) -> bool) {
    let mut others = Vec::new();
    for seed in 0..20 {
        let mut options = options("field", seed);
        options.rest_us_max = 200_000_000;
        match run_with(&options, Some(canary)) {
            Err(failure) if is_expected(&failure.violation) => return,
            Err(failure) => others.push(failure.violation.to_string()),
            Ok(_) => {}
        }
    }
    panic!("{canary:?} was not found; found instead: {others:?}");
}

#[test]
fn a_mesh_without_limits_is_found() {
    found(Canary::IgnoreLimits, |it| {
        matches!(it, Violation::TooManyLinks { .. })
    });
}

#[test]
fn an_island_is_found() {
    found(Canary::HideStrangers, |it| {
        matches!(it, Violation::Islands { .. })
    });
}

#[test]
fn a_hidden_presence_is_found() {
    found(Canary::HidePresence, |it| {
        matches!(it, Violation::WrongPicture { .. })
    });
}

#[test]
fn an_honest_peer_that_is_shunned_is_found() {
    found(Canary::SpoilGossip, |it| {
        matches!(it, Violation::Slandered { .. })
    });
}
