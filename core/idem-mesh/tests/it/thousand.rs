//! A thousand meshes form one, stay within their limits, part and heal, and all of them know it.

use std::time::Duration;

use idem_mesh::{Action, CloseCause};
use idem_model::limits;

use crate::toy::{Toy, peer_id};

const SECOND: Duration = Duration::from_secs(1);

fn check_degrees(toy: &Toy) {
    let (min, mean, max) = toy.degrees();
    let target = limits::MESH_LAN_LINKS_TARGET;
    assert!(min >= 3, "somebody has {min} links");
    assert!(
        (target..=target + 2).contains(&mean),
        "{mean} links on average"
    );
    assert!(
        max <= limits::MESH_LAN_LINKS_MAX,
        "somebody has {max} links"
    );
}

#[test]
fn a_thousand_meshes_form_one() {
    let mut toy = Toy::new(1000, 40, 1);
    let formed = toy.run_while(SECOND * 10, |toy| toy.largest_island() == 1000);
    formed.expect("all are linked within seconds");
    let (_, mean, max) = toy.degrees();
    assert!(
        mean <= limits::MESH_LAN_LINKS_TARGET + 2,
        "{mean} links on average"
    );
    assert!(
        max <= limits::MESH_LAN_LINKS_MAX,
        "somebody has {max} links"
    );
}

#[test]
fn all_know_all_within_seconds() {
    let mut toy = Toy::new(250, 40, 1);
    let known = toy.run_while(SECOND * 10, |toy| toy.some_see(250));
    known.expect("all know of each other");
    check_degrees(&toy);
    let graph = toy.peers[0].mesh.graph();
    let far = graph.peers.iter().map(|it| it.distance).max();
    assert!(far <= Some(6), "{far:?} hops");
    let other = graph.peer(peer_id(249)).expect("it is known");
    assert_eq!(other.name, "toy 249");
    assert_eq!(toy.events, [], "nothing to complain about");
}

#[test]
fn a_mesh_parts_heals_and_stays_cheap() {
    const COUNT: usize = 80;
    let mut toy = Toy::new(COUNT, 30, 2);
    let known = toy.run_while(SECOND * 15, |toy| toy.some_see(COUNT));
    known.expect("all know of each other");
    // What each peer may say at once is said by then.
    toy.run_for(SECOND * 240);
    let before = toy.gossip_bytes;
    toy.run_for(SECOND * 120);
    let rate = (toy.gossip_bytes - before) / 120 / COUNT as u64;
    assert!(rate < 1000, "{rate} bytes a second and peer for presence");
    check_degrees(&toy);
    let churned = toy.closed.get(&CloseCause::Replaced).copied().unwrap_or(0);
    assert!(churned > COUNT / 4, "only {churned} links were exchanged");

    toy.part(|at| at % 2);
    let parted = toy.run_while(SECOND * 30, |toy| toy.some_see(COUNT / 2));
    parted.expect("both islands see that the other one is gone");
    toy.run_for(SECOND * 30);
    check_degrees(&toy);

    toy.part(|_| 0);
    let dials = toy.dials;
    let healed = toy.run_while(SECOND * 20, |toy| toy.largest_island() == COUNT);
    healed.expect("the islands join within seconds");
    let known = toy.run_while(SECOND * 20, |toy| toy.some_see(COUNT));
    known.expect("and all know of it");
    let dials = toy.dials - dials;
    assert!(dials < COUNT, "{dials} dials to heal");
}

/// Who sees many at once does not wait for a sign of them, as it does for a newcomer.
#[test]
fn islands_join_at_once() {
    for seed in 1..=12 {
        let mut toy = Toy::new(20, 19, seed);
        toy.run_for(SECOND * 60);
        toy.part(|at| at % 2);
        toy.run_for(SECOND * 120);
        toy.part(|_| 0);
        let healed = toy.run_while(SECOND * 3 / 2, |toy| toy.largest_island() == 20);
        healed.unwrap_or_else(|| panic!("seed {seed}, of which one second is discovery"));
    }
}

#[test]
fn who_leaves_is_gone_from_every_picture() {
    let mut toy = Toy::new(40, 20, 3);
    let known = toy.run_while(SECOND * 15, |toy| toy.some_see(40));
    known.expect("all know of each other");
    toy.part(|at| usize::from(at == 39));
    let seen = toy.run_while(SECOND * 30, |toy| {
        toy.peers[0].mesh.graph().peers.len() == 39
    });
    seen.expect("the others say that they are not linked with it");
    assert_eq!(toy.peers[39].mesh.graph().peers.len(), 1);
    // Its record goes when nobody refreshes it: it counts for 90 s, and nobody calls it younger than it is.
    assert_eq!(toy.peers[0].mesh.record_count(), 40);
    toy.run_for(SECOND * 95);
    assert!(
        toy.peers[..39]
            .iter()
            .all(|it| it.mesh.record_count() == 39)
    );
}

#[test]
fn one_seed_gives_one_course() {
    let course = |seed| {
        let mut toy = Toy::new(30, 12, seed);
        toy.run_for(SECOND * 90);
        let links = toy.peers.iter().map(|it| it.links.clone());
        (links.collect::<Vec<_>>(), toy.gossip_bytes, toy.dials)
    };
    assert_eq!(course(5), course(5));
    assert_ne!(course(5), course(6));
}

#[test]
fn what_was_lost_is_told_again() {
    let mut toy = Toy::new(12, 11, 4);
    let known = toy.run_while(SECOND * 15, |toy| toy.some_see(12));
    known.expect("all know of each other");
    toy.run_for(SECOND * 10);
    // All that everybody has to say for ten minutes is lost; then each starts anew with its neighbours.
    toy.run_deaf(SECOND * 600);
    assert!(
        toy.peers.iter().all(|it| it.mesh.record_count() == 1),
        "all are forgotten"
    );
    let now = toy.now;
    for at in 0..12 {
        for other in toy.peers[at].links.clone().into_values() {
            toy.peers[at].mesh.handle_gossip_lost(now, peer_id(other));
        }
    }
    let known = toy.run_while(SECOND * 30, |toy| toy.some_see(12));
    known.expect("all know of each other again");
    while let Some(action) = toy.peers[0].mesh.poll_action() {
        assert!(!matches!(action, Action::Close { .. }), "nobody did wrong");
    }
}
