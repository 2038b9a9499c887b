//! Peers that find each other on networks, each test in namespaces of its own.

mod world;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    driven::Driven,
    harness::{finished, text},
};
use world::{Machine, World, in_a_world};

const ALL: &str = "SELECT * FROM c";

/// Two machines in one network.
fn two_machines(world: &World) -> (Machine, Machine) {
    let (a, b) = (world.machine("a"), world.machine("b"));
    world.network("lan");
    world.plug(a, "eth0", "lan", &["10.9.0.1/24"]);
    world.plug(b, "eth0", "lan", &["10.9.0.2/24"]);
    (a, b)
}

/// Has a peer subscribe and look for others.
fn look(peer: &mut Driven) {
    peer.ask_ok(json!({"subscribe": ALL}));
    peer.ask_ok(json!({"sync": "start", "mdns": true}));
}

fn insert(peer: &mut Driven, id: u32) {
    peer.rows(&format!("INSERT INTO c DOCUMENTS ({{'_id': {id}}})"));
}

/// Waits until the peer holds documents with these ids and no others.
#[track_caller]
fn hold(peer: &mut Driven, ids: &[u32]) {
    let items: Vec<Value> = ids.iter().map(|id| json!({"_id": id})).collect();
    let ordered = "SELECT * FROM c ORDER BY _id";
    let wait = json!({"statement": ordered, "items": items, "timeout_ms": 19000});
    peer.ask_ok(json!({ "wait": wait }));
}

/// How a user begins: the same key on two machines, and no address.
#[test]
fn two_machines_with_the_same_key_find_each_other() {
    in_a_world(
        "lan::two_machines_with_the_same_key_find_each_other",
        |world| {
            let (a, b) = two_machines(world);
            for (machine, id) in [(a, 1), (b, 2)] {
                let store = machine.store();
                let insert = format!("INSERT INTO c DOCUMENTS ({{'_id': {id}}})");
                let args = ["query", "--store", text(&store), &insert];
                finished(machine.idem().args(args).output().unwrap()).ok();
            }
            let (mut at_a, mut at_b) = (Headless::start(a), Headless::start(b));
            let began = Instant::now();
            at_a.until(|event| event["code"] == "sync/caught-up");
            at_b.until(|event| event["code"] == "sync/caught-up");
            println!("caught up after {:?}", began.elapsed());
            for (peer, machine) in [(at_a, a), (at_b, b)] {
                peer.stop();
                let store = machine.store();
                let select = "SELECT * FROM c ORDER BY _id";
                let args = [
                    "query",
                    "--store",
                    text(&store),
                    "--format",
                    "jsonl",
                    select,
                ];
                let rows = finished(machine.idem().args(args).output().unwrap()).json_lines();
                assert_eq!(rows, [json!({"_id": 1}), json!({"_id": 2})]);
            }
        },
    );
}

/// A running `idem peer`.
struct Headless {
    child: Child,
    events: mpsc::Receiver<Value>,
}

impl Headless {
    fn start(machine: Machine) -> Self {
        let store = machine.store();
        let mut child = machine
            .idem()
            .args(["peer", "--store", text(&store), "--subscribe", ALL])
            .env("IDEM_DATABASE", "shop")
            .env("IDEM_SHARED_KEY", "correct horse battery staple")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, events }
    }

    #[track_caller]
    fn until(&mut self, holds: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).expect("the event in time");
            println!("{event}");
            if holds(&event) {
                return;
            }
        }
    }

    fn stop(mut self) {
        let pid = self.child.id().to_string();
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}
