//! Scenarios: what a run is made of, as a file that people write.

mod settings;

use std::fmt;

use idem_mesh::MediumLimits;

use crate::{
    carrier,
    conduct::Conduct,
    field::FieldOptions,
    network::{EdgeOptions, LinkModel},
    options::{Absences, Attachments, Faults, Options, Relays, Scopes, Windows},
    random::Random,
};

pub use settings::TopologyKind;
use settings::{Hostile, RelaySettings, Settings, StoreKind};

/// The scenarios that come with the simulator, by name.
const READY: &[(&str, &str)] = &[
    ("lan", include_str!("../scenarios/lan.toml")),
    ("ble", include_str!("../scenarios/ble.toml")),
    ("partition", include_str!("../scenarios/partition.toml")),
    ("churn", include_str!("../scenarios/churn.toml")),
    ("backup", include_str!("../scenarios/backup.toml")),
    ("hostile", include_str!("../scenarios/hostile.toml")),
    ("skew", include_str!("../scenarios/skew.toml")),
    ("absence", include_str!("../scenarios/absence.toml")),
    ("relays", include_str!("../scenarios/relays.toml")),
    ("gateway", include_str!("../scenarios/gateway.toml")),
    ("scopes", include_str!("../scenarios/scopes.toml")),
    ("windows", include_str!("../scenarios/windows.toml")),
    ("attachments", include_str!("../scenarios/attachments.toml")),
    ("links", include_str!("../scenarios/links.toml")),
    ("field", include_str!("../scenarios/field.toml")),
    ("motion", include_str!("../scenarios/motion.toml")),
    ("split", include_str!("../scenarios/split.toml")),
    ("mesh", include_str!("../scenarios/mesh.toml")),
    ("swarm", include_str!("../scenarios/swarm.toml")),
];

/// The scenario in which the seed decides everything, the number of peers included.
const MIXED: &str = "mixed";

/// The same in a field.
const FIELDS: &str = "fields";

/// What runs are made of. A seed makes a run of it.
///
/// ```
/// use idem_sim::{Scenario, run_with};
///
/// let scenario = Scenario::parse("peers = 3\n[writes]\ncount = 20\n[faults]\npartitions = 1\n")?;
/// let report = run_with(&scenario.options(None, 7), None)?;
/// assert_eq!(report.pairs.0, report.pairs.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scenario {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Mixed,
    Fields,
    File(Box<Settings>),
}

/// A file that is no scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioError {
    text: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_end())
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// Reads a scenario file (docs/simulator.md lists the keys).
    ///
    /// # Errors
    /// [`ScenarioError`] with the line, the key and what is allowed there.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let error = |text: String| ScenarioError { text };
        let settings: Settings = toml::from_str(text).map_err(|it| error(it.to_string()))?;
        settings.check().map_err(error)?;
        Ok(Self {
            kind: Kind::File(Box::new(settings)),
        })
    }

    /// A scenario that comes with the simulator.
    pub fn ready(name: &str) -> Option<Self> {
        let drawn = match name {
            MIXED => Some(Kind::Mixed),
            FIELDS => Some(Kind::Fields),
            _ => None,
        };
        if let Some(kind) = drawn {
            return Some(Self { kind });
        }
        let text = Self::ready_text(name)?;
        Some(Self::parse(text).expect("a test reads all of them"))
    }

    /// The file of a scenario that comes with the simulator; `mixed` and `fields` have none.
    pub fn ready_text(name: &str) -> Option<&'static str> {
        let (_, text) = READY.iter().find(|(it, _)| *it == name)?;
        Some(text)
    }

    /// The names of all scenarios that come with the simulator.
    pub fn ready_names() -> impl Iterator<Item = &'static str> {
        let drawn = [MIXED, FIELDS].into_iter();
        drawn.chain(READY.iter().map(|(name, _)| *name))
    }

    /// What the scenario is about, in a sentence.
    pub fn about(&self) -> &str {
        match &self.kind {
            Kind::Mixed => {
                "a few peers, and a bit of everything that can go wrong, as the seed decides"
            }
            Kind::Fields => {
                "peers in a field, and a bit of everything that can go wrong with a mesh, as the seed decides"
            }
            Kind::File(settings) => &settings.about,
        }
    }

    /// The run of a seed, with another number of honest peers if that is given. `mixed` and
    /// `fields` have as many peers as the seed says.
    pub fn options(&self, peers: Option<usize>, seed: u64) -> Options {
        match &self.kind {
            Kind::Mixed => Options::from_seed(seed),
            Kind::Fields => Options::field_from_seed(seed),
            Kind::File(settings) => expand(settings, peers, seed),
        }
    }
}

fn expand(settings: &Settings, peers: Option<usize>, seed: u64) -> Options {
    let mut random = Random::new(seed ^ 0x5ce0);
    let given = usize::try_from(settings.peers).expect("checked against its range");
    let honest = peers.unwrap_or(given).clamp(2, settings::PEERS_MAX);
    let hostile = hostile_of(&settings.hostile);
    let full = honest;
    let readers = usize::try_from(settings.windows.readers).expect("checked against its range");
    let honest = full + readers;
    let peers = honest + hostile.len();
    let there = link(settings, settings.links.bandwidth_kbit_s);
    let back = settings.links.bandwidth_back_kbit_s;
    let back = link(settings, back.unwrap_or(settings.links.bandwidth_kbit_s));
    let pairs = neighbours(&mut random, settings, (full, readers), hostile.len());
    let edges = pairs.into_iter().map(|(a, b)| {
        let mut edge = EdgeOptions::new(a, b, there);
        edge.towards[0] = back;
        edge.links = usize::try_from(settings.links.per_pair).expect("checked against its range");
        edge
    });
    let edges: Vec<EdgeOptions> = edges.collect();
    let skew_max = settings.faults.clock_skew_ms_max;
    let mut skew = |_| random.between(0, 2 * skew_max).cast_signed() - skew_max.cast_signed();
    let skews_ms = (0..peers).map(&mut skew).collect();
    let writes = &settings.writes;
    let faults = &settings.faults;
    Options {
        relays: relays(settings, seed, honest, &edges),
        edges,
        skews_ms,
        conducts: conducts(settings, honest, hostile),
        hostile_relays: random.chance(50),
        writes: writes.count,
        // Pauses are drawn up to the longest one, so they are half of it on average.
        write_pause_us_max: (2_000_000 / writes.per_second).max(1),
        fsync_us_max: faults.fsync_us_max,
        documents: writes.documents,
        pairs: writes.pairs,
        has_engine: settings.store == StoreKind::Engine,
        large_percent: writes.large_percent,
        text_bytes: usize::try_from(writes.text_bytes).expect("checked against its range"),
        field: (settings.topology.kind == TopologyKind::Field).then(|| field(settings)),
        write_after_us: writes.after_ms * 1000,
        faults_us: faults.last_ms * 1000,
        faults: Faults {
            cuts: faults.cuts_per_second,
            link_life_us: faults.link_life_ms * 1000,
            crashes: faults.crashes_per_second,
            partitions: faults.partitions,
            partition_us: (faults.partition_ms[0] * 1000, faults.partition_ms[1] * 1000),
            clock_jumps: faults.clock_jumps_per_second,
            clock_jump_ms_max: faults.clock_jump_ms_max,
            restores: faults.restores,
            copies: faults.copies,
        },
        absences: Absences {
            rounds: settings.absences.rounds,
            days: (settings.absences.days[0], settings.absences.days[1]),
            skew_ms_max: skew_max,
        },
        scopes: Scopes {
            changes: settings.scopes.changes_per_second,
            are_big: big_peers(seed, honest, settings.scopes.big_peers),
        },
        windows: windows(settings, full, readers),
        attachments: Attachments {
            contents: settings.attachments.contents,
            fetches: settings.attachments.fetches,
            bytes_max: settings.attachments.kib_max * 1024,
        },
        rest_us_max: settings.rest_s_max * 1_000_000,
        ..Options::quiet(seed, peers)
    }
}

/// Who wants something, and who relays.
fn relays(settings: &Settings, seed: u64, honest: usize, edges: &[EdgeOptions]) -> Relays {
    let RelaySettings {
        interested_percent,
        cache_kib,
        hops,
        gateways,
    } = settings.relays;
    if interested_percent == 100 {
        return Relays::default();
    }
    let relays = Relays {
        cache_bytes: usize::try_from(cache_kib * 1024).expect("checked against its range"),
        hops: u8::try_from(hops).expect("checked against its range"),
        ..Relays::default()
    };
    let mut random = Random::new(seed ^ 0xca44);
    if gateways > 0 {
        let gateways = usize::try_from(gateways).expect("checked against its range");
        let hostile = hostile_of(&settings.hostile);
        let are_liars = hostile.iter().map(|it| *it == Conduct::Liar);
        return carrier::draw_gateways(
            &mut random,
            honest,
            (gateways, are_liars),
            interested_percent,
            relays,
        );
    }
    carrier::draw(&mut random, honest, edges, interested_percent, relays)
}

/// Honest peers, some of them of a later version, and then the others.
fn conducts(settings: &Settings, honest: usize, hostile: Vec<Conduct>) -> Vec<Conduct> {
    let mut conducts = vec![Conduct::Honest; honest];
    let later = usize::try_from(settings.faults.later_versions).unwrap_or(usize::MAX);
    for conduct in conducts.iter_mut().take(later) {
        *conduct = Conduct::LaterVersion;
    }
    conducts.extend(hostile);
    conducts
}

/// Those after the ones that want all want the first documents.
fn windows(settings: &Settings, full: usize, readers: usize) -> Windows {
    let count = u32::try_from(settings.windows.documents).expect("checked against its range");
    let counts = match readers {
        0 => Vec::new(),
        _ => [vec![None; full], vec![Some(count); readers]].concat(),
    };
    Windows { counts }
}

/// So many of the honest peers are Big Peers, at any place of the row.
fn big_peers(seed: u64, honest: usize, count: u64) -> Vec<bool> {
    let mut random = Random::new(seed ^ 0xb16);
    let mut are_big = vec![false; honest];
    for _ in 0..count {
        are_big[random.index(honest)] = true;
    }
    are_big
}

fn field(settings: &Settings) -> FieldOptions {
    let field = &settings.field;
    let count = |number: u64| usize::try_from(number).expect("checked against its range");
    FieldOptions {
        lans: count(field.lans),
        lan_sight: count(field.lan_sight),
        radio: field
            .radios
            .then(|| link(settings, settings.links.bandwidth_kbit_s)),
        range_mm: field.range_m * 1000,
        neighbours: field.neighbours,
        speed_mm_s: (field.speed_mm_s[0], field.speed_mm_s[1]),
        links: (field.links_max > 0).then(|| MediumLimits {
            target: count(field.links_target),
            max: count(field.links_max),
        }),
        settle_us: field.settle_s * 1_000_000,
        is_split: field.split,
        vanishings: settings.faults.vanishings_per_second,
        ..FieldOptions::default()
    }
}

fn link(settings: &Settings, kbit_s: u64) -> LinkModel {
    let links = &settings.links;
    LinkModel {
        latency_us: (links.latency_us[0], links.latency_us[1]),
        bytes_per_second: kbit_s * 125,
        loss_percent: links.loss_percent,
        retransmit_us: links.retransmit_ms * 1000,
        packet_bytes: links.packet_bytes,
        frame_bytes_max: u32::try_from(links.frame_kib_max * 1024).expect("checked"),
        frames_max: usize::try_from(links.frames_max).expect("checked"),
    }
}

fn hostile_of(hostile: &Hostile) -> Vec<Conduct> {
    let counts = [
        (Conduct::Garbage, hostile.garbage),
        (Conduct::Truncate, hostile.truncate),
        (Conduct::FlipBits, hostile.flip_bits),
        (Conduct::Replay, hostile.replay),
        (Conduct::Flood, hostile.flood),
        (Conduct::Mute, hostile.mute),
        (Conduct::Equivocate, hostile.equivocate),
        (Conduct::Liar, hostile.liar),
    ];
    let counts = counts.into_iter();
    counts
        .flat_map(|(conduct, count)| (0..count).map(move |_| conduct))
        .collect()
}

/// Which peers may have a link. Those that want the first documents only come after those that want all, and
/// are beside one of them and beside one more that comes before them: nothing that others write has to go by
/// way of them. Hostile ones come last and are beside three honest ones at most.
fn neighbours(
    random: &mut Random,
    settings: &Settings,
    (full, readers): (usize, usize),
    hostile: usize,
) -> Vec<(usize, usize)> {
    let degree = usize::try_from(settings.topology.degree).expect("checked against its range");
    let mut pairs: Vec<(usize, usize)> = match settings.topology.kind {
        TopologyKind::Chain => (1..full).map(|peer| (peer - 1, peer)).collect(),
        TopologyKind::Star => (1..full).map(|peer| (0, peer)).collect(),
        TopologyKind::Full => {
            let pairs = (0..full).flat_map(|a| (a + 1..full).map(move |b| (a, b)));
            pairs.collect()
        }
        TopologyKind::Mesh => mesh(random, full, degree),
        TopologyKind::Field => return Vec::new(),
    };
    let honest = full + readers;
    for peer in full..honest {
        let first = random.index(full);
        let second = (first + 1 + random.index(peer - 1)) % peer;
        pairs.extend([(first, peer), (second, peer)]);
    }
    for peer in honest..honest + hostile {
        let first = random.index(honest);
        let some = (0..honest.min(3)).map(|step| ((first + step) % honest, peer));
        pairs.extend(some);
    }
    pairs
}

/// A random tree, in which everybody is connected, and links at random until every peer has so many on
/// average.
pub(crate) fn mesh(random: &mut Random, peers: usize, degree: usize) -> Vec<(usize, usize)> {
    let tree = (1..peers).map(|peer| (random.index(peer), peer));
    let mut pairs: std::collections::BTreeSet<(usize, usize)> = tree.collect();
    let all = peers * (peers - 1) / 2;
    let wanted = (peers * degree / 2).min(all);
    while pairs.len() < wanted {
        let (a, b) = (random.index(peers), random.index(peers));
        if a != b {
            pairs.insert((a.min(b), a.max(b)));
        }
    }
    pairs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_that_comes_along_can_be_read_and_says_what_it_is() {
        for name in Scenario::ready_names() {
            let scenario = Scenario::ready(name).expect("it comes along");
            assert!(!scenario.about().is_empty(), "{name}");
            let options = scenario.options(None, 1);
            assert!(options.writes > 0 && options.peers > 1, "{name}");
        }
        assert!(Scenario::ready("nonsense").is_none());
    }

    fn refused(text: &str) -> String {
        Scenario::parse(text).expect_err("it is wrong").to_string()
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line_and_what_is_allowed() {
        let unknown = refused("peers = 3\n[links]\nlatency = 5\n");
        assert!(unknown.contains("line 3"), "{unknown}");
        assert!(unknown.contains("latency_us"), "{unknown}");
        let range = refused("[links]\nloss_percent = 95\n");
        assert!(range.contains("line 2"), "{range}");
        assert!(range.contains("0 to 90"), "{range}");
        let kind = refused("[topology]\nkind = \"ring\"\n");
        assert!(kind.contains("mesh") && kind.contains("chain"), "{kind}");
        let order = refused("[links]\nlatency_us = [9, 3]\n");
        assert!(order.contains("least first"), "{order}");
        let full = refused("peers = 500\n[topology]\nkind = \"full\"\n");
        assert!(full.contains("64"), "{full}");
    }

    #[test]
    fn a_mesh_connects_everybody_and_has_its_degree() {
        let mut random = Random::new(5);
        let pairs = mesh(&mut random, 100, 6);
        assert_eq!(pairs.len(), 300);
        let mut reached = [false; 100];
        reached[0] = true;
        for _ in 0..100 {
            for &(a, b) in &pairs {
                let either = reached[a] || reached[b];
                (reached[a], reached[b]) = (either, either);
            }
        }
        assert!(reached.iter().all(|it| *it));
    }
}
