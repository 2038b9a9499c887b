//! What is shown at one moment, and how it is found out.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use idem::{Idem, Object, PeerId, Value};

use super::mesh::{Mesh, MeshPeer};
use crate::{exit::CliError, opening::peer_error};

/// Events that are kept; no terminal shows more.
const EVENTS_MAX: usize = 200;

/// Everything on the screen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(super) peer: String,
    pub(super) database: String,
    pub(super) store: String,
    pub(super) up: Duration,
    pub(super) links: Vec<LinkRow>,
    /// Ways to others without a link, with why.
    pub(super) waiting: Vec<WaitingRow>,
    pub(super) mesh: Mesh,
    /// The newest last.
    pub(super) events: Journal,
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LinkRow {
    /// A name, or the beginning of the key.
    pub(super) peer: String,
    pub(super) medium: String,
    pub(super) address: String,
    pub(super) is_inbound: bool,
    pub(super) round_trip_ms: Option<f64>,
    /// Bytes a second since the last look.
    pub(super) received: f64,
    pub(super) sent: f64,
    /// Documents that the other peer lacks, as far as that is known.
    pub(super) behind: Option<u64>,
    pub(super) up: Duration,
}

/// A way that leads to nobody now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct WaitingRow {
    pub(super) medium: String,
    pub(super) address: String,
    pub(super) state: String,
    pub(super) because: String,
}

/// The last events, as lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Journal(VecDeque<String>);

impl Journal {
    /// Adds a line for an event at `at_ms` (Unix milliseconds).
    pub(crate) fn write(&mut self, event: &str, fields: &Object, at_ms: u64) {
        let of = |name: &str| fields.get(name).and_then(Value::as_str);
        let seconds = at_ms / 1000;
        let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
        let mut line = format!("{hours:02}:{minutes:02}:{:02} ", seconds % 60);
        match event {
            "presence" => {
                let names = |field: &str| names(fields.get(field));
                line.push_str("mesh");
                for (word, names) in [("came", names("came")), ("went", names("went"))] {
                    if !names.is_empty() {
                        line.push_str(&format!(" {word}: {names}"));
                    }
                }
            }
            _ => {
                line.push_str(of("code").unwrap_or(event));
                for field in ["address", "message"] {
                    if let Some(text) = of(field) {
                        line.push(' ');
                        line.push_str(text);
                    }
                }
            }
        }
        if self.0.len() == EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    /// The last `count` lines, the newest last.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = &str> {
        let skipped = self.0.len().saturating_sub(count);
        self.0.iter().skip(skipped).map(String::as_str)
    }
}

/// The names of peers in an event.
fn names(peers: Option<&Value>) -> String {
    let Some(Value::Array(peers)) = peers else {
        return String::new();
    };
    let names = peers.iter().filter_map(Value::as_object).map(|peer| {
        let of = |name: &str| peer.get(name).and_then(Value::as_str).unwrap_or_default();
        name(of("name"), of("peer"))
    });
    names.collect::<Vec<_>>().join(", ")
}

/// What a peer is called: names need not be different.
fn name(device: &str, key: &str) -> String {
    let key = key.get(..6).unwrap_or(key);
    match device {
        "" | "idem" => key.to_owned(),
        _ => format!("{device} {key}"),
    }
}

/// Looks at a peer again and again.
pub(super) struct Observer {
    start: Instant,
    seen: Snapshot,
    /// Bytes of links at the last look: received, and sent.
    bytes: BTreeMap<(String, i64), (i64, i64)>,
    looked_at: Instant,
}

impl Observer {
    pub(super) fn new(idem: &Idem) -> Self {
        let directory = idem.persistence_directory();
        let seen = Snapshot {
            peer: idem.peer_key().to_string(),
            database: idem.database_id().to_string(),
            store: directory.map_or_else(|| "memory".to_owned(), |it| it.display().to_string()),
            ..Snapshot::default()
        };
        Self {
            start: Instant::now(),
            seen,
            bytes: BTreeMap::new(),
            looked_at: Instant::now(),
        }
    }

    /// What was seen last, with these events.
    pub(super) fn snapshot(&self, events: Journal) -> Snapshot {
        Snapshot {
            up: self.start.elapsed(),
            events,
            ..self.seen.clone()
        }
    }

    pub(super) fn look(&mut self, idem: &Idem) -> Result<(), CliError> {
        let behind = rows(idem, "SELECT * FROM system:data_sync_info")?;
        let behind: BTreeMap<String, u64> = behind
            .iter()
            .filter_map(|row| {
                let documents = row.get("documents")?.as_object()?;
                let behind = u64::try_from(int(documents, "documents_behind")?).ok()?;
                Some((text(row, "_id"), behind))
            })
            .collect();
        let ways = rows(idem, "SELECT * FROM system:transports_info")?;
        let elapsed = self.looked_at.elapsed().as_secs_f64().max(0.001);
        self.looked_at = Instant::now();
        let before = std::mem::take(&mut self.bytes);
        let (mut links, mut waiting) = (Vec::new(), Vec::new());
        for way in &ways {
            let medium = text(way, "transport");
            let Some(Value::Array(up)) = way.get("links") else {
                continue;
            };
            for link in up.iter().filter_map(Value::as_object) {
                let key = (text(link, "address"), int(link, "since").unwrap_or(0));
                let bytes = |name| int(link, name).unwrap_or(0);
                let now = (bytes("received_bytes"), bytes("sent_bytes"));
                // What went before the first look has no rate.
                let then = before.get(&key).copied().unwrap_or(now);
                let rate = |now: i64, then: i64| (now - then).max(0) as f64 / elapsed;
                let peer = text(link, "peer");
                links.push(LinkRow {
                    medium: medium.clone(),
                    address: key.0.clone(),
                    is_inbound: link.get("is_inbound") == Some(&Value::Bool(true)),
                    round_trip_ms: link.get("round_trip_ms").and_then(Value::as_f64),
                    received: rate(now.0, then.0),
                    sent: rate(now.1, then.1),
                    behind: behind.get(&peer).copied(),
                    up: since(key.1),
                    peer: name(&text(link, "device_name"), &peer),
                });
                self.bytes.insert(key, now);
            }
            if up.is_empty() && ["dial", "found", "discover"].contains(&&*text(way, "role")) {
                let last = way.get("last_failure").and_then(Value::as_object);
                waiting.push(WaitingRow {
                    medium,
                    address: text(way, "address"),
                    state: text(way, "state"),
                    because: last.map(|last| text(last, "message")).unwrap_or_default(),
                });
            }
        }
        (self.seen.links, self.seen.waiting) = (links, waiting);
        self.seen.mesh = mesh(idem);
        Ok(())
    }
}

fn mesh(idem: &Idem) -> Mesh {
    let graph = idem.presence().graph();
    let all = || std::iter::once(&graph.local_peer).chain(&graph.remote_peers);
    let at: BTreeMap<PeerId, usize> = all()
        .enumerate()
        .map(|(at, peer)| (peer.peer_key, at))
        .collect();
    let links = graph.links.iter().filter_map(|link| {
        let [a, b] = link.peers;
        Some([*at.get(&a)?, *at.get(&b)?])
    });
    Mesh {
        links: links.collect(),
        peers: all()
            .map(|peer| MeshPeer {
                label: name(&peer.device_name, &peer.peer_key.to_string()),
                distance: peer.distance,
            })
            .collect(),
    }
}

fn rows(idem: &Idem, query: &str) -> Result<Vec<Object>, CliError> {
    let result = idem.store().execute_blocking(query);
    let result = result.map_err(|error| peer_error("cannot look at the peer", error))?;
    Ok(result.iter().map(|item| item.value().clone()).collect())
}

fn text(row: &Object, name: &str) -> String {
    let text = row.get(name).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn int(row: &Object, name: &str) -> Option<i64> {
    row.get(name).and_then(Value::as_int)
}

/// How long ago that was, by this machine's clock.
fn since(unix_ms: i64) -> Duration {
    let then = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().saturating_sub(then)
}
