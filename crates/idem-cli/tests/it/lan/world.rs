//! Machines and networks of their own for one test.
//!
//! A test runs itself once more, in namespaces of users, networks, mounts and processes that `unshare`
//! makes for it. There it is root and may make machines and plug them into networks, and nothing of
//! that can be seen outside. It is the first process of its namespace, so when it ends, for whatever
//! reason, everything that it made ends with it.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{driven::Driven, harness::without_environment};

/// Set inside of a world.
const INSIDE: &str = "IDEM_TEST_WORLD";

/// What makes one.
const UNSHARE: [&str; 4] = ["--map-root-user", "--net", "--mount", "--pid"];

/// Runs `body` in a world of its own. `name` is that of the test, with its modules.
///
/// Where the machine makes no namespaces the test passes without having run, and says so; the gate says
/// so too.
pub(crate) fn in_a_world(name: &str, body: impl FnOnce(&World)) {
    if std::env::var_os(INSIDE).is_some() {
        body(&World::make());
        return;
    }
    if !can_make_worlds() {
        eprintln!("SKIPPED {name}: `unshare`, `ip` or `tc` is lacking or not allowed here");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let ran = Command::new("unshare")
        .args(UNSHARE)
        .args(["--fork", "--kill-child"])
        .arg(this)
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    println!("{output}{errors}");
    assert!(ran.status.success(), "the test failed in its world");
    assert!(output.contains("1 passed"), "no test is called {name}");
}

fn can_make_worlds() -> bool {
    let tried = Command::new("unshare")
        .args(UNSHARE)
        .args(["--fork", "--kill-child", "sh", "-c"])
        .arg("mount -t tmpfs tmpfs /run && mount -t proc proc /run && ip link add x type veth peer name y && tc -V")
        .stdin(Stdio::null())
        .output();
    tried.is_ok_and(|tried| tried.status.success())
}

/// Networks, and what is plugged into them.
pub(crate) struct World(());

/// A machine with its own interfaces and addresses.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) name: &'static str,
}

impl World {
    fn make() -> Self {
        run("mount -t tmpfs tmpfs /run");
        run("mkdir -p /run/netns /run/stores /run/proc");
        run("mount -t proc proc /run/proc");
        Self(())
    }

    /// A network, to plug machines into.
    pub(crate) fn network(&self, name: &str) {
        run(&format!("ip link add {name} type bridge mcast_snooping 0"));
        run(&format!("ip link set {name} up"));
    }

    /// Gives the test itself an address in `network`.
    pub(crate) fn join(&self, network: &str, address: &str) {
        run(&format!("ip addr add {address} dev {network}"));
        run(&format!("ip route add 224.0.0.0/4 dev {network}"));
    }

    /// A machine that is plugged into nothing.
    pub(crate) fn machine(&self, name: &'static str) -> Machine {
        run(&format!("ip netns add {name}"));
        let machine = Machine { name };
        machine.run("ip link set lo up");
        machine
    }

    /// Plugs `machine` into `network`, with the interface `port` and its addresses there.
    pub(crate) fn plug(&self, machine: Machine, port: &str, network: &str, addresses: &[&str]) {
        let name = machine.name;
        let outer = format!("{name}.{port}");
        run(&format!(
            "ip link add {outer} type veth peer name {port} netns {name}"
        ));
        run(&format!("ip link set {outer} master {network} up"));
        for address in addresses {
            let options = if address.contains(':') { "nodad" } else { "" };
            machine.run(&format!("ip addr add {address} dev {port} {options}"));
        }
        machine.run(&format!("ip link set {port} up"));
    }

    /// Pulls the plug, and the whole interface is gone.
    pub(crate) fn unplug(&self, machine: Machine, port: &str) {
        run(&format!("ip link del {}.{port}", machine.name));
    }

    /// Lets nothing through to or from `machine`, or lets it through again. It cannot see that.
    pub(crate) fn cut(&self, machine: Machine, port: &str, network: Option<&str>) {
        let outer = format!("{}.{port}", machine.name);
        match network {
            None => run(&format!("ip link set {outer} nomaster")),
            Some(network) => run(&format!("ip link set {outer} master {network}")),
        }
    }

    /// Lets `machine` send and receive no more than so many kbit/s.
    pub(crate) fn shape(&self, machine: Machine, port: &str, kbit: u32) {
        let shape = |device: &str, run: &dyn Fn(&str)| {
            run(&format!(
                "tc qdisc add dev {device} root handle 1: htb default 1"
            ));
            run(&format!(
                "tc class add dev {device} parent 1: classid 1:1 htb rate {kbit}kbit"
            ));
        };
        shape(port, &|line| machine.run(line));
        shape(&format!("{}.{port}", machine.name), &run);
    }
}

impl Machine {
    /// Runs a line of the shell there, which must succeed.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) {
        run(&format!("{} sh -c '{line}'", self.enter()));
    }

    /// A command that runs `program` there.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name));
        command.arg(program);
        without_environment(command)
    }

    /// A command that runs the binary there.
    pub(crate) fn idem(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_idem"))
    }

    /// A peer there that the test drives, of a database that all machines share. It is in memory.
    pub(crate) fn peer(&self) -> Driven {
        let args = ["--memory", "--database", "shop", "--shared-key", "horse"];
        Driven::start_as(self.idem(), &args)
    }

    /// Where a store of this machine can be. It is gone with the world.
    pub(crate) fn store(&self) -> PathBuf {
        PathBuf::from(format!("/run/stores/{}", self.name))
    }

    fn enter(&self) -> String {
        format!("nsenter --net=/run/netns/{}", self.name)
    }
}

/// Runs a line of the shell, which must succeed.
#[track_caller]
fn run(line: &str) {
    let ran = Command::new("sh").args(["-c", line]).output().unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{line}: {errors}");
}
