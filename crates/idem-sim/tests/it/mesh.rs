//! What a mesh costs in which everybody wants everything: exact counts, held under ceilings.

use idem_sim::{Report, Scenario, run_with};

/// What the gate computes, in release. A debug build takes ten times as long.
const PEERS: usize = if cfg!(debug_assertions) { 40 } else { 200 };

fn run(peers: usize) -> Report {
    let scenario = Scenario::ready("mesh").expect("it comes along");
    match run_with(&scenario.options(Some(peers), 1), None) {
        Ok(report) => report,
        Err(failure) => panic!("{failure}: {}", failure.violation),
    }
}

#[test]
fn mesh_ceilings() {
    check(PEERS);
}

#[test]
#[ignore = "45 s in release"]
fn mesh_of_a_thousand() {
    check(1_000);
}

fn check(peers: usize) {
    let report = run(peers);
    let bytes: u64 = report.bytes_sent_by.iter().sum();
    let bytes = bytes / (peers as u64 * report.acknowledged);
    let useful = report.documents_sent - report.documents_unchanged;
    let per_mille = report.documents_unchanged * 1000 / useful;
    let p99_ms = report.latency_p99_us / 1000;
    println!(
        "{peers} peers: {bytes} bytes for each peer and write, {per_mille} of 1,000 documents came again, \
         p50 {} ms, p99 {p99_ms} ms",
        report.latency_p50_us / 1000
    );
    assert_eq!(report.pairs.0, report.pairs.1);
    assert!(bytes <= 500, "{bytes} bytes for each peer and write");
    assert!(per_mille <= 50, "{per_mille} of 1,000 came again");
    assert!(p99_ms < 150, "{p99_ms} ms");
}
