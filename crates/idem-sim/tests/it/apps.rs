//! Applications on the simulated network.

use std::time::Duration;

use idem_model::{DocumentKey, Object, Value};
use idem_sim::{App, BuildError, LinkModel, PeerHandle, Simulation, TopologyKind};

/// Answers every question that another peer writes, once, and writes down when it started.
#[derive(Debug)]
struct Answers;

impl App for Answers {
    fn on_start(&mut self, peer: &mut PeerHandle<'_>) {
        let id = format!("{}-{}", peer.number(), peer.now().as_micros());
        let args = Object::from([("id".to_owned(), Value::from(id))]);
        let insert = "INSERT INTO starts DOCUMENTS ({'_id': :id})";
        peer.execute(insert, args).expect("a valid statement");
    }

    fn on_change(&mut self, peer: &mut PeerHandle<'_>, changed: &[DocumentKey]) {
        for key in changed {
            if key.collection.as_str() == "questions" {
                let id = key.id.as_value().clone();
                let args = Object::from([
                    ("id".to_owned(), id),
                    ("by".to_owned(), Value::from(peer.number().to_string())),
                ]);
                let answer =
                    "UPDATE questions SET answer = :by WHERE _id = :id AND answer IS MISSING";
                peer.execute(answer, args).expect("a valid statement");
            }
        }
    }
}

fn simulation(seed: u64, peers: usize) -> Simulation {
    let builder = Simulation::builder(seed).peers(peers);
    let builder = builder.link(LinkModel::bluetooth());
    let builder = builder.topology(TopologyKind::Chain);
    let builder = builder.subscribe("SELECT * FROM questions");
    let builder = builder.subscribe("SELECT * FROM starts");
    builder.app(|_| Answers).build().expect("it can be built")
}

fn rows(simulation: &mut Simulation, peer: usize, statement: &str) -> Vec<Object> {
    let rows = simulation.execute(peer, statement, Object::new());
    rows.expect("a valid statement")
}

const ASK: &str = "INSERT INTO questions DOCUMENTS ({'_id': 'q'})";
const ANSWERED: &str = "SELECT * FROM questions WHERE answer IS NOT MISSING";

#[test]
fn an_application_hears_of_changes_along_a_chain() {
    let mut simulation = simulation(1, 4);
    simulation.run_for(Duration::from_secs(1)).expect("calm");
    rows(&mut simulation, 0, ASK);
    simulation.run_to_rest().expect("calm");
    simulation.check_convergence().expect("they agree");
    let answered = rows(&mut simulation, 3, ANSWERED);
    assert_eq!(answered[0]["answer"], Value::from("1"));
    assert_eq!(rows(&mut simulation, 2, "SELECT * FROM starts").len(), 4);
}

#[test]
fn a_partition_a_crash_and_a_wrong_clock_do_what_they_say() {
    let mut simulation = simulation(2, 3);
    simulation.set_clock_offset(2, 3_600_000);
    simulation.run_for(Duration::from_secs(1)).expect("calm");
    simulation.partition(&[0]);
    rows(&mut simulation, 0, ASK);
    simulation.run_for(Duration::from_secs(5)).expect("calm");
    assert!(rows(&mut simulation, 1, "SELECT * FROM questions").is_empty());
    assert!(simulation.check_convergence().is_err());
    simulation.crash(1);
    assert!(!simulation.is_running(1));
    simulation.run_for(Duration::from_secs(2)).expect("calm");
    assert!(simulation.is_running(1));
    simulation.heal();
    simulation.run_to_rest().expect("calm");
    simulation.check_convergence().expect("they agree");
    assert_eq!(rows(&mut simulation, 2, ANSWERED).len(), 1);
    // The application of the second peer had two lives.
    assert_eq!(rows(&mut simulation, 0, "SELECT * FROM starts").len(), 4);
}

#[test]
fn the_same_seed_is_the_same_simulation() {
    let run = |seed| {
        let mut simulation = simulation(seed, 3);
        simulation.run_for(Duration::from_secs(1)).expect("calm");
        rows(&mut simulation, 0, ASK);
        simulation.run_to_rest().expect("calm");
        (
            simulation.now(),
            rows(&mut simulation, 1, "SELECT * FROM starts"),
        )
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn what_cannot_be_built_is_said() {
    let build = |builder: idem_sim::SimulationBuilder| builder.build().expect_err("it is wrong");
    let few = build(Simulation::builder(1).peers(1));
    assert_eq!(few, BuildError::TooFewPeers);
    let many = build(Simulation::builder(1).peers(1000));
    assert!(matches!(many, BuildError::TooManyPeers { limit: 256, .. }));
    let statement = build(Simulation::builder(1).subscribe("SELECT * FROM a LIMIT 1 OFFSET"));
    assert!(matches!(statement, BuildError::Subscription { .. }));
}
