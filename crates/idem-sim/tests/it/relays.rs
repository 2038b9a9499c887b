//! Peers of which few want something, and the others relay.

use idem_model::limits;
use idem_sim::{Scenario, run_with};

/// Of the 1,000 of the scenario, as many as a run of the tests affords.
const PEERS: usize = if cfg!(debug_assertions) { 50 } else { 100 };

/// One peer in ten is interested, on a LAN where each has six neighbours.
#[test]
fn all_who_are_interested_converge_over_strangers() {
    let text = include_str!("../../scenarios/large/relays.toml");
    let scenario = Scenario::parse(text).expect("a scenario");
    let options = scenario.options(Some(PEERS), 7);
    let interested = options.relays.interested.iter().filter(|it| **it).count();
    assert!((2..PEERS / 2).contains(&interested), "few are interested");
    let report = run_with(&options, None);
    let report = report.unwrap_or_else(|it| panic!("{it}: {}", it.violation));
    let (peers, writes) = (PEERS as u64, report.acknowledged);
    println!(
        "{PEERS} peers, {interested} interested: {} of {} deliveries, p50 {} ms, p99 {} ms, \
         {} bytes of relays for each peer and write, at most {} bytes held",
        report.pairs.1,
        report.pairs.0,
        report.latency_p50_us / 1000,
        report.latency_p99_us / 1000,
        report.relayed_bytes / peers / writes,
        report.relay_bytes_max
    );
    assert!(report.pairs.0 > 0);
    assert_eq!(report.pairs.0, report.pairs.1);
    assert!(report.relay_bytes_max > 0);
    assert!(report.relay_bytes_max <= limits::RELAY_CACHE_BYTES as u64);
}
