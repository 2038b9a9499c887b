//! What a run is made of. A seed expands to it, so that a failure can be read.

use idem_mesh::MediumLimits;

use crate::{
    conduct::Conduct,
    field::FieldOptions,
    network::{EdgeOptions, LinkModel},
    random::Random,
};

/// What a run is made of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where it comes from, and what decides everything else.
    pub seed: u64,
    /// How many peers there are.
    pub peers: usize,
    /// Which of them may have a link, and what it is like. All that are honest are connected over
    /// some way of honest peers.
    pub edges: Vec<EdgeOptions>,
    /// Whether the peers are in a plane instead, and link with whom their meshes choose.
    pub field: Option<FieldOptions>,
    /// How far each peer's wall clock is off at the start, in milliseconds.
    pub skews_ms: Vec<i64>,
    /// How each peer behaves.
    pub conducts: Vec<Conduct>,
    /// Whether hostile peers pass documents on. What they hold may be torn, and nobody can tell, so
    /// the atomicity of transactions (P4) is looked at only if they do not.
    pub hostile_relays: bool,
    /// How many transactions are written.
    pub writes: u64,
    /// The longest pause between two of them, in microseconds.
    pub write_pause_us_max: u64,
    /// The longest time from a commit to its being on disk, in microseconds.
    pub fsync_us_max: u64,
    /// How many plain documents are written to; few make many conflicts.
    pub documents: u64,
    /// How many pairs of documents are always written together.
    pub pairs: u64,
    /// Whether peers have the real store, on a simulated disk, or the double in memory, which is ten
    /// times as fast.
    pub has_engine: bool,
    /// Of 100 plain writes, how many are large enough to be asked for first.
    pub large_percent: u64,
    /// Every transaction writes one document with a text of so many bytes, and nothing else; 0 is a mixture.
    pub text_bytes: usize,
    /// When the first write is made, in microseconds: links need a moment to come up.
    pub write_after_us: u64,
    /// How long after the last write the faults go on, in microseconds.
    pub faults_us: u64,
    /// What goes wrong until everything heals.
    pub faults: Faults,
    /// Whether peers are away for weeks instead of all that.
    pub absences: Absences,
    /// Sync scopes that open and close meanwhile.
    pub scopes: Scopes,
    /// Peers that want nothing, and relay.
    pub relays: Relays,
    /// Peers that want the first documents of an order.
    pub windows: Windows,
    /// Attachments in place of documents.
    pub attachments: Attachments,
    /// How long after that the peers may take to come to rest, in microseconds.
    pub rest_us_max: u64,
}

/// What goes wrong in a run. Rates are per simulated second and for all peers and links together.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Faults {
    /// How often the links of a pair of peers are cut.
    pub cuts: u64,
    /// How long a link lives on average, in microseconds, however old it is; 0 for ever.
    pub link_life_us: u64,
    /// How often a process dies.
    pub crashes: u64,
    /// How often the peers fall into two parts that do not see each other, in all.
    pub partitions: u64,
    /// How long they stay so, in microseconds.
    pub partition_us: (u64, u64),
    /// How often a wall clock jumps.
    pub clock_jumps: u64,
    /// How far at most, forward or backward, in milliseconds.
    pub clock_jump_ms_max: u64,
    /// How often a peer's disk is replaced by an earlier copy of it, in all.
    pub restores: u64,
    /// How often a peer's disk is replaced by a copy of another peer's, in all.
    pub copies: u64,
}

/// Times in which the peers are in parts that do not see each other, and forget what was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Absences {
    /// How often. 0, the default, makes it another run, of seconds and with [`Faults`].
    pub rounds: u64,
    /// How long, in days, least and most.
    pub days: (u64, u64),
    /// How far a wall clock is off when it is set, in milliseconds.
    pub skew_ms_max: u64,
}

/// Peers that want nothing themselves, and what they do for others.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Relays {
    /// Which of the honest peers want something. Empty, the default: all, and nobody relays.
    pub interested: Vec<bool>,
    /// Which of them write.
    pub writes: Vec<bool>,
    /// What each peer may hold for others, in bytes.
    pub cache_bytes: usize,
    /// How many relays in a row carry what a peer wants: 1 or 2.
    pub hops: u8,
    /// Which of the peers are gateways; hostile ones say only that they are. Empty, the default: nobody.
    pub gateways: Vec<bool>,
}

/// Sync scopes of the collections of each peer.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Scopes {
    /// How many of them change in a simulated second, over all peers. 0, the default, leaves all open, which
    /// they are in the end in any case.
    pub changes: u64,
    /// Which peers are Big Peers: none beyond the end of the list.
    pub are_big: Vec<bool>,
}

/// Peers that want the first documents of an order, and nothing else.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Windows {
    /// How many documents each of them wants; `None` for all, without an order. Those beyond the end of the
    /// list, which is empty by default, want all.
    pub counts: Vec<Option<u32>>,
}

/// Attachments that peers make and fetch. Such a run has no documents.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Attachments {
    /// How many contents there are. 0, the default, makes it another run.
    pub contents: u64,
    /// How often somebody fetches one of them, or one that nobody has.
    pub fetches: u64,
    /// Bytes of the longest.
    pub bytes_max: u64,
}

impl Options {
    /// Peers without links, faults and writes.
    pub(crate) fn quiet(seed: u64, peers: usize) -> Self {
        Self {
            seed,
            peers,
            edges: Vec::new(),
            field: None,
            skews_ms: vec![0; peers],
            conducts: vec![Conduct::Honest; peers],
            hostile_relays: false,
            writes: 0,
            write_pause_us_max: 1,
            fsync_us_max: 500,
            documents: 1,
            pairs: 1,
            has_engine: false,
            large_percent: 0,
            text_bytes: 0,
            write_after_us: 0,
            faults_us: 0,
            faults: Faults::default(),
            absences: Absences::default(),
            scopes: Scopes::default(),
            relays: Relays::default(),
            windows: Windows::default(),
            attachments: Attachments::default(),
            rest_us_max: 300_000_000,
        }
    }

    /// Whether a peer is a Big Peer.
    pub(crate) fn is_big(&self, peer: usize) -> bool {
        self.scopes.are_big.get(peer).copied().unwrap_or(false)
    }

    /// How many documents a peer wants of those that come first; `None` for all there are.
    pub(crate) fn window_of(&self, peer: usize) -> Option<u32> {
        self.windows.counts.get(peer).copied().flatten()
    }

    /// Whether the atomicity of transactions can be looked at: a sync scope may keep a part of one back, and
    /// who wants the first documents of a collection hands on a part.
    pub(crate) fn keeps_groups(&self) -> bool {
        if self.scopes.changes > 0 || !self.windows.counts.is_empty() {
            return false;
        }
        !self.hostile_relays || self.conducts.iter().all(|it| it.is_honest())
    }

    /// Expands a seed into a few peers with a bit of everything.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let honest = usize::try_from(random.between(2, 5)).expect("a small number");
        let honest = if random.chance(10) {
            honest * 2
        } else {
            honest
        };
        let hostile = usize::from(random.chance(20)) + usize::from(random.chance(5));
        let peers = honest + hostile;
        let link = link(&mut random);
        let mut edges = Vec::new();
        for (a, b) in pairs_of(&mut random, honest, hostile) {
            let mut edge = EdgeOptions::new(a, b, link);
            if random.chance(20) {
                edge.towards[0] = self::link(&mut random);
            }
            edge.links = if random.chance(15) { 2 } else { 1 };
            edges.push(edge);
        }
        let mut conducts = vec![Conduct::Honest; honest];
        if random.chance(15) {
            conducts[0] = Conduct::LaterVersion;
        }
        conducts
            .extend((0..hostile).map(|_| Conduct::HOSTILE[random.index(Conduct::HOSTILE.len())]));
        Self {
            edges,
            conducts,
            hostile_relays: random.chance(50),
            skews_ms: (0..peers).map(|_| skew(&mut random)).collect(),
            writes: random.between(20, 120),
            write_pause_us_max: [1_000, 20_000, 100_000][random.index(3)],
            fsync_us_max: [0, 500, 20_000][random.index(3)],
            documents: random.between(1, 12),
            pairs: random.between(1, 4),
            has_engine: random.chance(20),
            large_percent: if random.chance(40) { 25 } else { 0 },
            faults_us: 1_000_000,
            faults: Faults {
                cuts: random.below(8),
                link_life_us: if random.chance(15) {
                    random.between(50_000, 1_000_000)
                } else {
                    0
                },
                crashes: random.below(4),
                partitions: if random.chance(20) {
                    random.between(1, 3)
                } else {
                    0
                },
                partition_us: (10_000, 1_000_000),
                clock_jumps: if random.chance(20) {
                    random.between(1, 4)
                } else {
                    0
                },
                clock_jump_ms_max: [1_000, 120_000, 3_600_000][random.index(3)],
                restores: if random.chance(20) {
                    random.between(1, 3)
                } else {
                    0
                },
                copies: u64::from(random.chance(10)),
            },
            ..Self::quiet(seed, peers)
        }
    }
}

impl Options {
    /// Expands a seed into a field with a bit of everything that can go wrong with a mesh.
    pub(crate) fn field_from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xf1e1d5);
        let honest = usize::try_from(random.between(4, 16)).expect("a small number");
        let hostile = usize::from(random.chance(40)) + usize::from(random.chance(15));
        let peers = honest + hostile;
        let mut conducts = vec![Conduct::Honest; honest];
        let cheats: Vec<Conduct> = Conduct::HOSTILE.into_iter().collect();
        conducts.extend(
            (0..hostile).map(|_| match cheats[random.index(cheats.len())] {
                // Which of two faces a neighbour sees would change with its links.
                Conduct::Equivocate => Conduct::Liar,
                _ if random.chance(40) => Conduct::Liar,
                other => other,
            }),
        );
        Self {
            field: Some(field(&mut random)),
            conducts,
            hostile_relays: random.chance(50),
            skews_ms: (0..peers).map(|_| skew(&mut random)).collect(),
            writes: random.between(15, 60),
            write_pause_us_max: [200_000, 500_000, 1_000_000][random.index(3)],
            fsync_us_max: [500, 20_000][random.index(2)],
            documents: random.between(1, 12),
            pairs: random.between(1, 4),
            has_engine: random.chance(10),
            large_percent: if random.chance(30) { 10 } else { 0 },
            faults_us: 2_000_000,
            faults: Faults {
                cuts: random.below(2),
                link_life_us: if random.chance(15) { 8_000_000 } else { 0 },
                crashes: random.below(2),
                partitions: random.below(3),
                partition_us: (1_000_000, 20_000_000),
                clock_jumps: random.below(2),
                clock_jump_ms_max: [1_000, 120_000, 3_600_000][random.index(3)],
                ..Faults::default()
            },
            rest_us_max: 900_000_000,
            ..Self::quiet(seed, peers)
        }
    }
}

/// Radios, local networks or both, in which peers stand or walk.
fn field(random: &mut Random) -> FieldOptions {
    let has_radios = random.chance(80);
    let mut radio = FieldOptions::bluetooth();
    radio.loss_percent = [0, 3, 10, 30][random.index(4)];
    let lans = match has_radios {
        true => [0, 0, 1, 2][random.index(4)],
        false => 1,
    };
    FieldOptions {
        lans,
        radio: has_radios.then_some(radio),
        neighbours: random.between(8, 16),
        speed_mm_s: if random.chance(40) {
            (500, 3_000)
        } else {
            (0, 0)
        },
        links: random
            .chance(20)
            .then_some(MediumLimits { target: 2, max: 3 }),
        settle_us: random.between(0, 20_000_000),
        is_split: random.chance(20),
        vanishings: random.below(2),
        ..FieldOptions::default()
    }
}

/// Links of every quality.
fn link(random: &mut Random) -> LinkModel {
    let fastest = random.between(50, 5_000);
    LinkModel {
        latency_us: (fastest, fastest * random.between(1, 20)),
        bytes_per_second: [0, 0, 12_500_000, 1_250_000, 87_500][random.index(5)],
        loss_percent: random.below(20),
        frame_bytes_max: [256, 64, 16][random.index(3)] * 1024,
        frames_max: [1, 2, 8, 64][random.index(4)],
        ..LinkModel::default()
    }
}

/// Which peers are neighbours: a tree and some more among the honest ones, and each hostile one beside
/// one to three honest ones.
pub(crate) fn pairs_of(random: &mut Random, honest: usize, hostile: usize) -> Vec<(usize, usize)> {
    let mut pairs: Vec<_> = (1..honest).map(|peer| (random.index(peer), peer)).collect();
    for a in 0..honest {
        for b in a + 1..honest {
            if random.chance(25) && !pairs.contains(&(a, b)) {
                pairs.push((a, b));
            }
        }
    }
    for peer in honest..honest + hostile {
        for _ in 0..random.between(1, 3) {
            let pair = (random.index(honest), peer);
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
    }
    pairs
}

/// Most clocks are right to the second, some are wrong by minutes.
fn skew(random: &mut Random) -> i64 {
    let bound = if random.chance(80) { 1_000 } else { 600_000 };
    let off = random.between(0, 2 * bound).cast_signed();
    off - bound.cast_signed()
}
