//! What a host holds for each of many peers that are linked with it over TCP and say nothing.
//!
//! The host and its guests are processes of their own: this test binary, told by the environment what to be.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use idem::{Idem, TransportConfig};

use crate::{
    fixture::{config, count, dial, memory, open, rows, run, wait_until},
    heap,
};

/// Says which process this is.
const PART: &str = "IDEM_TEST_IDLE_PART";
/// Guests of the host.
const GUESTS: &str = "IDEM_TEST_IDLE_GUESTS";
/// The line in front of which what a child says stands.
const MARK: &str = "idle: ";

/// Bytes on the heap of the host, for each guest: of 200 guests each took 26,500, of 40, 25,400.
const BYTES_MAX: usize = 28_000;

/// All that was carried has come to rest after half a minute without documents, and a sign of life later.
const REST_MAX: Duration = Duration::from_secs(90);

fn guests() -> usize {
    env::var(GUESTS).map_or(40, |count| count.parse().unwrap())
}

#[test]
fn an_idle_link_costs_a_host_less_than_28_kilobytes() {
    match env::var(PART).as_deref() {
        Ok("host") => host(),
        Ok("guests") => visit(),
        _ => {
            let mut host = Part::start("host");
            let address = host.hear();
            let mut guests = Part::start("guests");
            guests.say(&address);
            assert_eq!(guests.hear(), "all is there");
            host.say("count");
            let account = host.hear();
            println!("{account}");
            assert!(account.starts_with("at rest"), "{account}");
            for part in [&mut guests, &mut host] {
                part.say("end");
                assert!(part.child.wait().unwrap().success());
            }
        }
    }
}

/// A process with a part in this.
struct Part {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Part {
    fn start(part: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--nocapture", "--exact"])
            .arg("idle::an_idle_link_costs_a_host_less_than_28_kilobytes")
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
    }

    fn hear(&mut self) -> String {
        let said = self.lines.by_ref().map(Result::unwrap);
        let mut said = said.filter_map(|line| Some(line.split_once(MARK)?.1.to_owned()));
        said.next().expect("the other process ended early")
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn told() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn linked(idem: &Idem) -> usize {
    rows(
        idem,
        "SELECT link FROM system:transports_info AS way UNNEST way.links AS link",
    )
    .len()
}

fn host() {
    // On disk, or the memory that stands for the log would be counted.
    let directory = tempfile::tempdir().unwrap();
    let idem = open(directory.path());
    let mut transport = TransportConfig::new()
        .with_tcp_listener("127.0.0.1:0")
        .with_links_max(guests() + 1);
    // A relay has sessions of its own with those that want what it carries: 48 kB in all with relays on
    // both sides, 36 kB where only the guests have them.
    transport.peer_to_peer.relay.cache_bytes = 0;
    idem.set_transport_config(transport).unwrap();
    let _subscription = idem
        .sync()
        .register_subscription("SELECT * FROM t")
        .unwrap();
    idem.sync().start().unwrap();
    let address = idem.sync().tcp_addresses()[0].to_string();
    // What is made at the first link, and stays, is not the cost of one more.
    let first = memory();
    let _news = first
        .sync()
        .register_subscription("SELECT * FROM news")
        .unwrap();
    for number in 0..guests() {
        run(
            &first,
            &format!("INSERT INTO t DOCUMENTS ({{'_id': {number}}})"),
        );
    }
    dial(&first, &address);
    run(&idem, "INSERT INTO news DOCUMENTS ({'_id': 1})");
    wait_until("all of the first guest is there", || {
        count(&idem, "t") == guests()
    });
    first.close_blocking().unwrap();
    drop(first);
    wait_until("the first guest is gone", || linked(&idem) == 0);
    let before = heap::held();
    println!("{MARK}{address}");
    assert_eq!(told(), "count");
    assert_eq!(linked(&idem), guests());
    wait_until("what they bring is there", || {
        count(&idem, "t") == 2 * guests()
    });
    wait_until("all are known", || {
        let graph = idem.presence().graph();
        graph
            .remote_peers
            .iter()
            .filter(|it| it.device_name == "guest")
            .count()
            == guests()
    });
    let start = Instant::now();
    let mut least = usize::MAX;
    while start.elapsed() < REST_MAX && least > BYTES_MAX {
        std::thread::park_timeout(Duration::from_millis(100));
        let each = heap::held().saturating_sub(before) / guests();
        if each < least {
            least = each;
            eprintln!("{each} bytes each after {:?}", start.elapsed());
        }
    }
    assert_eq!(linked(&idem), guests(), "all are still there");
    let verdict = if least <= BYTES_MAX {
        "at rest"
    } else {
        "not at rest"
    };
    println!(
        "{MARK}{verdict}, {least} bytes for each of {} guests",
        guests()
    );
    assert_eq!(told(), "end");
    idem.close_blocking().unwrap();
}

/// Each brings a document and gets one.
fn visit() {
    let address = told();
    let all: Vec<Idem> = (0..guests())
        .map(|number| {
            let config = config(1)
                .with_device_name("guest")
                .with_cache_bytes(64 * 1024);
            let idem = Idem::open_sync(config).unwrap();
            idem.sync()
                .register_subscription("SELECT * FROM news")
                .unwrap()
                .keep();
            run(
                &idem,
                &format!("INSERT INTO t DOCUMENTS ({{'_id': 'of {number}'}})"),
            );
            let mut transport = TransportConfig::new().with_tcp_server(&address);
            transport.peer_to_peer.relay.cache_bytes = 0;
            idem.set_transport_config(transport).unwrap();
            idem.sync().start().unwrap();
            idem
        })
        .collect();
    for idem in &all {
        wait_until("the news is there", || count(idem, "news") == 1);
    }
    println!("{MARK}all is there");
    assert_eq!(told(), "end");
    for idem in all {
        idem.close_blocking().unwrap();
    }
}
