//! The versions that a document had before.

use idem_model::InsertConflict;

use crate::history::{Peer, Random, Step, insert, random_history, set};

#[test]
fn versions_that_left_a_trace_are_found_from_the_latest_on() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut peers = ['A', 'B', 'C'].map(Peer::new);
        peers[0].commit(&insert("{}", InsertConflict::Fail), 1);
        let mut versions = vec![peers[0].document.version().clone()];
        for number in 0..8 {
            let peer = random.below(3);
            let latest = peers.iter().max_by_key(|it| it.clock).unwrap().clone();
            peers[peer].receive(&latest);
            // Commits elsewhere leave holes in the numbers.
            peers[peer].n += random.next() % 5;
            let now = latest.clock + 1;
            peers[peer].commit(&set(&format!("f{number}"), "1"), now);
            versions.push(peers[peer].document.version().clone());
        }
        let latest = peers.iter().max_by_key(|it| it.clock).unwrap();
        versions.pop();
        versions.reverse();
        assert_eq!(latest.document.earlier_versions(99), versions, "{seed}");
        assert_eq!(latest.document.earlier_versions(3), versions[..3], "{seed}");
    }
}

#[test]
fn no_version_is_later_than_the_document() {
    for seed in 0..2000 {
        let (peers, steps) = random_history(seed);
        let mut peers: Vec<Peer> = (0u8..)
            .take(peers)
            .map(|it| Peer::new((b'A' + it).into()))
            .collect();
        for step in steps {
            match step {
                Step::Commit { peer, op, now, .. } => {
                    peers[peer].commit(&op, now);
                }
                Step::Receive { peer, from, .. } => {
                    let other = peers[from].clone();
                    peers[peer].receive(&other);
                }
            }
        }
        for Peer { document, .. } in &peers {
            let versions = document.earlier_versions(5);
            assert!(versions.len() <= 5, "{seed}");
            let mut before = document.version();
            for version in &versions {
                assert!(before.covers_all(version), "{seed}");
                assert!(before != version && !version.is_empty(), "{seed}");
                before = version;
            }
        }
    }
}
