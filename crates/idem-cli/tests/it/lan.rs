//! Peers that find each other on networks, each test in namespaces of its own.

mod forger;
mod world;

use std::{
    collections::BTreeSet,
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
use forger::Forger;
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

#[test]
fn who_comes_later_is_found_at_once() {
    in_a_world("lan::who_comes_later_is_found_at_once", |world| {
        let (a, b) = two_machines(world);
        let (mut at_a, mut at_b) = (a.peer(), b.peer());
        insert(&mut at_a, 1);
        look(&mut at_a);
        let began = Instant::now();
        look(&mut at_b);
        hold(&mut at_b, &[1]);
        println!("the first document came after {:?}", began.elapsed());
        let digest = at_a.ask_ok(json!({"digest": true}));
        at_b.ask_until(json!({"digest": true}), |answer| *answer == digest);
    });
}

/// Nothing but link-local addresses of IPv6, which mean nothing without their interface.
#[test]
fn peers_find_each_other_without_ipv4() {
    in_a_world("lan::peers_find_each_other_without_ipv4", |world| {
        let (a, b) = (world.machine("a"), world.machine("b"));
        world.network("lan");
        for machine in [a, b] {
            machine.run("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
            world.plug(machine, "eth0", "lan", &[]);
        }
        let (mut at_a, mut at_b) = (a.peer(), b.peer());
        insert(&mut at_a, 1);
        look(&mut at_a);
        look(&mut at_b);
        hold(&mut at_b, &[1]);
    });
}

#[test]
fn peers_find_each_other_without_ipv6() {
    in_a_world("lan::peers_find_each_other_without_ipv6", |world| {
        let (a, b) = (world.machine("a"), world.machine("b"));
        world.network("lan");
        for (machine, address) in [(a, "10.9.0.1/24"), (b, "10.9.0.2/24")] {
            for which in ["all", "default"] {
                let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
                machine.run(&format!("echo 1 > {path}"));
            }
            world.plug(machine, "eth0", "lan", &[address]);
        }
        let (mut at_a, mut at_b) = (a.peer(), b.peer());
        insert(&mut at_a, 1);
        look(&mut at_a);
        look(&mut at_b);
        hold(&mut at_b, &[1]);
    });
}

/// All begin at the same moment, so that all dial all.
#[test]
fn six_machines_come_to_hold_the_same() {
    in_a_world("lan::six_machines_come_to_hold_the_same", |world| {
        world.network("lan");
        let mut peers: Vec<Driven> = Vec::new();
        for (id, name) in (1..).zip(["a", "b", "c", "d", "e", "f"]) {
            let machine = world.machine(name);
            world.plug(machine, "eth0", "lan", &[&format!("10.9.0.{id}/24")]);
            let mut peer = machine.peer();
            insert(&mut peer, id);
            peers.push(peer);
        }
        let began = Instant::now();
        peers.iter_mut().for_each(look);
        for peer in &mut peers {
            hold(peer, &[1, 2, 3, 4, 5, 6]);
        }
        println!("all hold all after {:?}", began.elapsed());
        // One link for each pair, however many dialled at the same time.
        for peer in &mut peers {
            let one_each = |answer: &Value| {
                let peers = answer["presence"]["remote_peers"].as_array().unwrap();
                let links = peers
                    .iter()
                    .map(|peer| peer["connections"].as_array().unwrap());
                peers.len() == 5 && links.into_iter().all(|links| links.len() == 1)
            };
            peer.ask_until(json!({"presence": true}), one_each);
        }
    });
}

/// More than a peer links with by itself: some know of each other only what others say.
#[test]
fn ten_machines_know_of_each_other() {
    in_a_world("lan::ten_machines_know_of_each_other", |world| {
        world.network("lan");
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let mut peers: Vec<Driven> = Vec::new();
        for (id, name) in (1..).zip(names) {
            let machine = world.machine(name);
            world.plug(machine, "eth0", "lan", &[&format!("10.9.0.{id}/24")]);
            let mut peer = machine.peer();
            insert(&mut peer, id);
            peer.ask_ok(json!({"peer_metadata": {"machine": name}}));
            peers.push(peer);
        }
        peers.iter_mut().for_each(look);
        let began = Instant::now();
        for peer in &mut peers {
            hold(peer, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        }
        println!("all hold all after {:?}", began.elapsed());
        for peer in &mut peers {
            let knows_all = |answer: &Value| {
                let peers = answer["presence"]["remote_peers"].as_array().unwrap();
                let machines = peers.iter().map(|it| it["metadata"]["machine"].as_str());
                machines.flatten().collect::<BTreeSet<_>>().len() == 9
            };
            let seen = peer.ask_until(json!({"presence": true}), knows_all);
            let remote = seen["presence"]["remote_peers"].as_array().unwrap();
            let near = remote.iter().filter(|it| it["distance"] == 1).count();
            println!("{near} links");
        }
        println!("all know all after {:?}", began.elapsed());
    });
}

/// Two links between the same peers, of which one loses its interface.
#[test]
fn one_link_of_two_is_enough() {
    in_a_world("lan::one_link_of_two_is_enough", |world| {
        one_link_of_two(world, |b| world.unplug(b, "eth0"));
    });
}

/// Two links between the same peers, of which one dies in silence.
#[test]
fn a_link_that_dies_in_silence_is_left_soon() {
    in_a_world("lan::a_link_that_dies_in_silence_is_left_soon", |world| {
        let lasted = one_link_of_two(world, |b| world.cut(b, "eth0", None));
        // So long it takes where there is no other one (`limits::LINK_IDLE_TIMEOUT_MS`).
        let idle = Duration::from_secs(30);
        assert!(lasted < idle, "as if there were no other one: {lasted:?}");
    });
}

/// Changes pass after the first of two links has come to its end; gives after how long.
fn one_link_of_two(world: &World, end: impl FnOnce(Machine)) -> Duration {
    let (a, b) = (world.machine("a"), world.machine("b"));
    world.network("left");
    world.network("right");
    for (port, network, subnet) in [("eth0", "left", 1), ("eth1", "right", 2)] {
        world.plug(a, port, network, &[&format!("10.{subnet}.0.1/24")]);
        world.plug(b, port, network, &[&format!("10.{subnet}.0.2/24")]);
    }
    let (mut at_a, mut at_b) = (a.peer(), b.peer());
    at_a.ask_ok(json!({"subscribe": ALL}));
    at_a.ask_ok(json!({"sync": "start", "listen": "0.0.0.0:4040"}));
    at_b.ask_ok(json!({"subscribe": ALL}));
    for peer in [&mut at_a, &mut at_b] {
        peer.ask_ok(json!({"observe": "SELECT _id FROM c ORDER BY _id"}));
    }
    // The first one is in use, and is the one that goes.
    let addresses = ["10.1.0.1:4040", "10.2.0.1:4040"];
    for count in 1..=2 {
        at_b.ask_ok(json!({"sync": "start", "connect": addresses[..count]}));
        let has_all = |answer: &Value| {
            let peers = &answer["presence"]["remote_peers"];
            let links = peers[0]["connections"].as_array();
            links.is_some_and(|links| links.len() == count)
        };
        at_b.ask_until(json!({"presence": true}), has_all);
    }
    insert(&mut at_a, 1);
    hold(&mut at_b, &[1]);
    let began = Instant::now();
    end(b);
    insert(&mut at_a, 2);
    insert(&mut at_b, 3);
    hold(&mut at_b, &[1, 2, 3]);
    hold(&mut at_a, &[1, 2, 3]);
    let lasted = began.elapsed();
    println!("one is gone: {lasted:?}");
    // No callback twice, and none for nothing: the result only grows.
    for peer in [at_a, at_b] {
        let (lines, _) = peer.end();
        let seen = lines.iter().filter(|line| line["event"] == "observed");
        let sizes: Vec<_> = seen
            .map(|line| line["items"].as_array().unwrap().len())
            .collect();
        assert!(sizes.is_sorted_by(|one, next| one < next), "{sizes:?}");
        assert_eq!(sizes.last(), Some(&3));
    }
    lasted
}

#[test]
fn another_key_or_database_is_left_alone() {
    in_a_world("lan::another_key_or_database_is_left_alone", |world| {
        let (a, b) = two_machines(world);
        let stranger = ["--memory", "--database", "shop", "--shared-key", "cow"];
        let other = ["--memory", "--database", "pub", "--shared-key", "horse"];
        let (mut at_a, mut at_b) = (a.peer(), b.peer());
        let mut stranger = Driven::start_as(b.idem(), &stranger);
        let mut other = Driven::start_as(b.idem(), &other);
        for peer in [&mut stranger, &mut other, &mut at_a] {
            look(peer);
        }
        // It is found, because it knows the database, and dialled once.
        let refused = |answer: &Value| answer.to_string().contains("link/key-mismatch");
        at_a.ask_until(json!({"presence": true}), refused);
        insert(&mut at_b, 1);
        look(&mut at_b);
        hold(&mut at_a, &[1]);
        let seen = other.ask_ok(json!({"presence": true}));
        let conditions = seen["presence"]["conditions"].as_array().unwrap();
        let codes = conditions.iter().map(|condition| &condition["code"]);
        assert!(
            codes.into_iter().all(|code| code == "link/listening"),
            "{seen}"
        );
    });
}

#[test]
fn changes_travel_over_a_peer_in_the_middle() {
    in_a_world("lan::changes_travel_over_a_peer_in_the_middle", |world| {
        let (a, b, c) = (world.machine("a"), world.machine("b"), world.machine("c"));
        world.network("left");
        world.network("right");
        world.plug(a, "eth0", "left", &["10.1.0.1/24"]);
        world.plug(b, "eth0", "left", &["10.1.0.2/24"]);
        world.plug(b, "eth1", "right", &["10.2.0.2/24"]);
        world.plug(c, "eth0", "right", &["10.2.0.3/24"]);
        let (mut at_a, mut at_b, mut at_c) = (a.peer(), b.peer(), c.peer());
        insert(&mut at_a, 1);
        for peer in [&mut at_a, &mut at_b, &mut at_c] {
            look(peer);
        }
        hold(&mut at_c, &[1]);
        insert(&mut at_c, 2);
        hold(&mut at_a, &[1, 2]);
    });
}

/// Two machines that want something, and two strangers in a row between them.
#[test]
fn changes_travel_over_strangers() {
    in_a_world("lan::changes_travel_over_strangers", |world| {
        let machines = ["a", "b", "c", "d"].map(|name| world.machine(name));
        for (number, pair) in (1..).zip(machines.windows(2)) {
            let network = ["", "left", "middle", "right"][number];
            world.network(network);
            for (end, (port, machine)) in (1..).zip([("eth1", pair[0]), ("eth0", pair[1])]) {
                let address = format!("10.{number}.0.{end}/24");
                world.plug(machine, port, network, &[&address]);
            }
        }
        let mut peers = machines.map(|it| it.peer());
        let [at_a, at_b, at_c, at_d] = &mut peers;
        insert(at_a, 1);
        look(at_a);
        look(at_d);
        for stranger in [&mut *at_b, &mut *at_c] {
            stranger.ask_ok(json!({"sync": "start", "mdns": true}));
        }
        hold(at_d, &[1]);
        insert(at_d, 2);
        hold(at_a, &[1, 2]);
        at_a.rows("DELETE FROM c WHERE _id = 1");
        hold(at_d, &[2]);
        // And who writes what it does not want has it brought to those that do.
        insert(at_b, 3);
        hold(at_d, &[2, 3]);
        hold(at_a, &[2, 3]);
        hold(at_c, &[]);
    });
}

/// A peer that writes far from a gateway, three strangers in a row, and a gateway at the other end.
#[test]
fn strangers_bring_to_a_gateway_what_is_written_far_from_it() {
    let test = "lan::strangers_bring_to_a_gateway_what_is_written_far_from_it";
    in_a_world(test, |world| {
        let machines = ["a", "b", "c", "d", "e"].map(|name| world.machine(name));
        let networks = ["first", "second", "third", "fourth"];
        for (number, (network, pair)) in (1..).zip(networks.into_iter().zip(machines.windows(2))) {
            world.network(network);
            for (end, (port, machine)) in (1..).zip([("eth1", pair[0]), ("eth0", pair[1])]) {
                let address = format!("10.{number}.0.{end}/24");
                world.plug(machine, port, network, &[&address]);
            }
        }
        let mut peers = machines.map(|it| it.peer());
        let [writer, first, second, third, gateway] = &mut peers;
        // The writer subscribes to none of what it writes, and to something that the gateway writes.
        insert(writer, 1);
        writer.ask_ok(json!({"subscribe": "SELECT * FROM menu"}));
        for stranger in [&mut *writer, &mut *first, &mut *second, &mut *third] {
            stranger.ask_ok(json!({"sync": "start", "mdns": true}));
        }
        for query in ["SELECT * FROM c", "SELECT * FROM menu"] {
            gateway.ask_ok(json!({ "subscribe": query }));
        }
        gateway.rows("INSERT INTO menu DOCUMENTS ({'_id': 'soup'})");
        gateway.ask_ok(json!({"sync": "start", "mdns": true, "gateway": true}));
        hold(gateway, &[1]);
        let soup = [json!({"_id": "soup"})];
        let wait = json!({"statement": "SELECT * FROM menu", "items": soup, "timeout_ms": 19000});
        writer.ask_ok(json!({ "wait": wait }));
        insert(writer, 2);
        hold(gateway, &[1, 2]);
        writer.rows("DELETE FROM c WHERE _id = 1");
        hold(gateway, &[2]);
        for stranger in [first, second, third] {
            hold(stranger, &[]);
        }
    });
}

/// A network that comes while the peers run already.
#[test]
fn a_network_that_comes_later_is_used() {
    in_a_world("lan::a_network_that_comes_later_is_used", |world| {
        let (a, b) = (world.machine("a"), world.machine("b"));
        let (mut at_a, mut at_b) = (a.peer(), b.peer());
        insert(&mut at_a, 1);
        look(&mut at_a);
        look(&mut at_b);
        world.network("lan");
        world.plug(a, "eth0", "lan", &["10.9.0.1/24"]);
        world.plug(b, "eth0", "lan", &["10.9.0.2/24"]);
        hold(&mut at_b, &[1]);
    });
}

#[test]
fn a_partition_heals() {
    in_a_world("lan::a_partition_heals", |world| {
        let (a, b) = two_machines(world);
        let (mut at_a, mut at_b) = (a.peer(), b.peer());
        look(&mut at_a);
        look(&mut at_b);
        insert(&mut at_a, 1);
        hold(&mut at_b, &[1]);
        world.cut(b, "eth0", None);
        insert(&mut at_a, 2);
        insert(&mut at_b, 3);
        hold(&mut at_a, &[1, 2]);
        hold(&mut at_b, &[1, 3]);
        world.cut(b, "eth0", Some("lan"));
        hold(&mut at_a, &[1, 2, 3]);
        hold(&mut at_b, &[1, 2, 3]);
    });
}

/// The system tells nobody that a link has lost its address.
#[test]
fn an_address_that_changes_is_followed() {
    in_a_world("lan::an_address_that_changes_is_followed", |world| {
        let (a, b) = two_machines(world);
        let (mut at_a, mut at_b) = (a.peer(), b.peer());
        look(&mut at_a);
        look(&mut at_b);
        insert(&mut at_a, 1);
        hold(&mut at_b, &[1]);
        b.run("ip addr del 10.9.0.2/24 dev eth0");
        b.run("ip addr add 10.9.0.7/24 dev eth0");
        let began = Instant::now();
        insert(&mut at_a, 2);
        insert(&mut at_b, 3);
        hold(&mut at_a, &[1, 2, 3]);
        hold(&mut at_b, &[1, 2, 3]);
        println!("followed after {:?}", began.elapsed());
    });
}

/// Documents of one KiB that no compression makes much smaller.
fn insert_noise(peer: &mut Driven, count: u32) {
    let mut state = 1u64;
    for id in 0..count {
        let mut noise = String::new();
        while noise.len() < 1024 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            noise.push_str(&format!("{:x}", state >> 16));
        }
        let document = json!({"_id": format!("noise {id}"), "noise": noise});
        let statement = "INSERT INTO c DOCUMENTS (:document)";
        peer.ask_ok(json!({"statement": statement, "args": {"document": document}}));
    }
}

fn count(peer: &mut Driven, holds: impl Fn(u64) -> bool) {
    let count = json!({"statement": "SELECT COUNT(*) AS n FROM c"});
    peer.ask_until(count, |answer| {
        answer["items"][0]["n"].as_u64().is_some_and(&holds)
    });
}

#[test]
fn a_narrow_link_carries_all() {
    in_a_world("lan::a_narrow_link_carries_all", |world| {
        let (a, b) = two_machines(world);
        world.shape(b, "eth0", 100);
        let (mut at_a, mut at_b) = (a.peer(), b.peer());
        insert_noise(&mut at_a, 40);
        let began = Instant::now();
        look(&mut at_a);
        look(&mut at_b);
        count(&mut at_b, |count| count == 40);
        println!("40 KiB at 100 kbit/s took {:?}", began.elapsed());
    });
}

#[test]
fn an_interface_that_vanishes_in_mid_frame_loses_nothing() {
    in_a_world(
        "lan::an_interface_that_vanishes_in_mid_frame_loses_nothing",
        |world| {
            let (a, b) = two_machines(world);
            world.shape(b, "eth0", 400);
            let (mut at_a, mut at_b) = (a.peer(), b.peer());
            insert_noise(&mut at_a, 300);
            look(&mut at_a);
            look(&mut at_b);
            count(&mut at_b, |count| count > 0);
            world.unplug(b, "eth0");
            let held = at_b.rows("SELECT COUNT(*) AS n FROM c");
            assert_ne!(held, json!([{"n": 300}]), "it was over too soon to tell");
            world.plug(b, "eth0", "lan", &["10.9.0.3/24"]);
            count(&mut at_b, |count| count == 300);
            let digest = at_a.ask_ok(json!({"digest": true}));
            at_b.ask_until(json!({"digest": true}), |answer| *answer == digest);
        },
    );
}

const DATABASE: &str = "8f2ad2c4-5b1e-4c55-9d3e-0f6d1c7a9b10";

const DATABASE_BYTES: [u8; 16] = 0x8f2a_d2c4_5b1e_4c55_9d3e_0f6d_1c7a_9b10_u128.to_be_bytes();

/// Two machines, a peer on each, and somebody in their network who answers what is not true.
fn with_a_forger(world: &World) -> (Driven, Driven, Forger) {
    let (a, b) = two_machines(world);
    let own = "10.9.0.66";
    world.join("lan", &format!("{own}/24"));
    let args = ["--memory", "--database", DATABASE, "--shared-key", "horse"];
    let peer = |machine: Machine| Driven::start_as(machine.idem(), &args);
    (peer(a), peer(b), Forger::at(own.parse().unwrap()))
}

/// Peers that are not there, more than are kept in mind, from one who knows the database.
#[test]
fn invented_peers_cost_dials_and_no_more() {
    in_a_world("lan::invented_peers_cost_dials_and_no_more", |world| {
        let (mut at_a, mut at_b, mut forger) = with_a_forger(world);
        look(&mut at_a);
        for _ in 0..3000 {
            forger.invent_peer(DATABASE_BYTES, "10.9.0.66".parse().unwrap(), 9);
        }
        let dialled = |answer: &Value| answer.to_string().contains("10.9.0.66:9");
        at_a.ask_until(json!({"presence": true}), dialled);
        insert(&mut at_a, 1);
        look(&mut at_b);
        hold(&mut at_b, &[1]);
        let memory = at_a.memory_bytes("/run/proc");
        assert!(memory < 150 << 20, "{memory} bytes");
        println!("{} MiB", memory >> 20);
    });
}

#[test]
fn a_flood_of_answers_is_bounded_and_reported() {
    in_a_world("lan::a_flood_of_answers_is_bounded_and_reported", |world| {
        let (mut at_a, mut at_b, mut forger) = with_a_forger(world);
        look(&mut at_a);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            for _ in 0..50 {
                forger.name_peers(15);
            }
            let seen = at_a.ask_ok(json!({"presence": true}));
            if seen.to_string().contains("discovery/troubled") {
                break;
            }
            assert!(Instant::now() < deadline, "nothing is said of it: {seen}");
        }
        let memory = at_a.memory_bytes("/run/proc");
        assert!(memory < 150 << 20, "{memory} bytes");
        println!("{} MiB", memory >> 20);
        // Once it ends, peers find each other as ever.
        insert(&mut at_a, 1);
        look(&mut at_b);
        hold(&mut at_b, &[1]);
    });
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
