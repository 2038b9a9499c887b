//! The checks of the machine: disk, clock, network.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::Finding;

/// Writes that the latency is the median of.
const FSYNC_ROUNDS: usize = 20;
/// A median above it makes every durable commit slow for a person.
const FSYNC_SLOW: Duration = Duration::from_millis(20);
/// Below it nothing can have reached a disk.
const FSYNC_UNREAL: Duration = Duration::from_micros(5);
/// Free space below which a store should not start to grow.
const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// 1 January 2026 in Unix seconds: no clock that works shows less.
const CLOCK_SECONDS_MIN: u64 = 1_767_225_600;
/// How far the clock and the file system may be apart; the bound within which peers follow clocks.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);
/// The port of the examples.
const EXAMPLE_PORT: u16 = 4040;
/// A group in the range that networks keep to themselves (RFC 2365).
const TEST_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 73, 68);
const MULTICAST_WAIT: Duration = Duration::from_millis(500);

pub(super) fn version() -> Finding {
    Finding::ok(
        "version",
        format!(
            "idem {} on {} {}",
            idem::Idem::version(),
            std::env::consts::OS,
            std::env::consts::ARCH
        ),
    )
}

pub(super) fn disk_space(directory: &Path) -> Finding {
    const CHECK: &str = "disk space";
    match fs4::available_space(directory) {
        Ok(bytes) => {
            let found = format!(
                "{:.1} GiB free at {}",
                bytes as f64 / f64::from(1 << 30),
                directory.display()
            );
            if bytes < FREE_BYTES_MIN {
                Finding::warn(
                    CHECK,
                    found,
                    "free some space: a full disk stops writes, never reads",
                )
            } else {
                Finding::ok(CHECK, found)
            }
        }
        Err(error) => Finding::warn(CHECK, format!("unknown: {error}"), "look with `df`"),
    }
}

pub(super) fn fsync_latency(directory: &Path) -> Finding {
    const CHECK: &str = "fsync";
    match measure_fsync(directory) {
        Ok(median) => {
            let found = format!(
                "{} us for 4 KiB at {}",
                median.as_micros(),
                directory.display()
            );
            if median > FSYNC_SLOW {
                Finding::warn(
                    CHECK,
                    found,
                    "every durable commit waits that long: group writes into transactions, \
                     or use --durability relaxed",
                )
            } else if median < FSYNC_UNREAL {
                Finding::warn(
                    CHECK,
                    found,
                    "too fast for a disk (a file system in memory?): data may not survive power loss",
                )
            } else {
                Finding::ok(CHECK, found)
            }
        }
        Err(error) => Finding::fail(
            CHECK,
            format!("cannot write at {}: {error}", directory.display()),
            "give a --store directory that this user may write, on a disk with free space",
        ),
    }
}

fn measure_fsync(directory: &Path) -> io::Result<Duration> {
    let path = directory.join(format!(".idem-doctor-{}", std::process::id()));
    let measured = File::create(&path).and_then(|mut file| {
        let mut times = Vec::with_capacity(FSYNC_ROUNDS);
        for _ in 0..FSYNC_ROUNDS {
            let start = Instant::now();
            file.write_all(&[0x5a; 4096])?;
            file.sync_data()?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times[FSYNC_ROUNDS / 2])
    });
    let removed = fs::remove_file(&path);
    let median = measured?;
    removed.map(|()| median)
}

pub(super) fn clock(directory: &Path) -> Finding {
    const CHECK: &str = "clock";
    let now = SystemTime::now();
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if since_epoch.as_secs() < CLOCK_SECONDS_MIN {
        return Finding::fail(
            CHECK,
            "the clock shows a time before 2026",
            "set it (NTP): edits are ordered by it where peers disagree",
        );
    }
    // A store that was written in the future means that the clock went back.
    let newest = newest_change(directory).unwrap_or(UNIX_EPOCH);
    match newest.duration_since(now) {
        Ok(ahead) if ahead > CLOCK_SKEW_MAX => Finding::warn(
            CHECK,
            format!(
                "files of the store are {} s from the future",
                ahead.as_secs()
            ),
            "the clock went back: set it (NTP), or edits from here lose against earlier ones",
        ),
        _ => Finding::ok(CHECK, "plausible, and not behind the files of the store"),
    }
}

fn newest_change(directory: &Path) -> Option<SystemTime> {
    fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| entry.ok()?.metadata().ok()?.modified().ok())
        .max()
}

pub(super) fn loopback() -> Finding {
    const CHECK: &str = "tcp";
    let attempt = || -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        Ok(address)
    };
    match attempt() {
        Ok(_) => Finding::ok(CHECK, "listens and connects on this machine"),
        Err(error) => Finding::fail(
            CHECK,
            format!("cannot connect to a port of this machine: {error}"),
            "a firewall or sandbox forbids it; peers cannot link without",
        ),
    }
}

pub(super) fn ports() -> Finding {
    const CHECK: &str = "port";
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, EXAMPLE_PORT)) {
        Ok(_) => Finding::ok(CHECK, format!("{EXAMPLE_PORT} is free on all addresses")),
        Err(error) => Finding::warn(
            CHECK,
            format!("{EXAMPLE_PORT} cannot be listened on: {error}"),
            "listen on another port, or on port 0 for a free one",
        ),
    }
}

pub(super) fn multicast() -> Finding {
    const CHECK: &str = "multicast";
    let attempt = || -> io::Result<()> {
        let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        receiver.join_multicast_v4(&TEST_GROUP, &Ipv4Addr::UNSPECIFIED)?;
        receiver.set_read_timeout(Some(MULTICAST_WAIT))?;
        let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        sender.set_multicast_loop_v4(true)?;
        sender.send_to(b"idem doctor", (TEST_GROUP, receiver.local_addr()?.port()))?;
        let mut buffer = [0; 32];
        receiver.recv_from(&mut buffer).map(|_| ())
    };
    match attempt() {
        Ok(()) => Finding::ok(CHECK, "datagrams to a group come back"),
        Err(error) => Finding::warn(
            CHECK,
            format!("no route for groups: {error}"),
            "peers on this network cannot be found by multicast from here; \
             name them with --connect HOST:PORT",
        ),
    }
}
