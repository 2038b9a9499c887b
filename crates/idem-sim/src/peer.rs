//! One simulated process and what it holds.

use std::collections::BTreeMap;

use idem_model::{ActorId, CollectionName, DatabaseId, Object, PeerId};
use idem_query::Selector;
use idem_sync::{MemoryReplica, Priority, Session, SessionConfig, SessionStats};

use crate::{
    canary::Canary,
    carrier::Carrier,
    check::Written,
    conduct::{Conduct, Mouth},
    disk::{Disk, DiskCopy},
    engine::Engine,
    options::Options,
    random::Random,
    reader::Reader,
};

/// What all simulated peers belong to.
pub(crate) const DATABASE: DatabaseId = DatabaseId([0x1d; 16]);

/// Wall clocks start at this Unix time, in milliseconds.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// One simulated process.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) disk: Disk,
    /// The other face of a peer that equivocates.
    pub(crate) twin: Option<Disk>,
    pub(crate) conduct: Conduct,
    pub(crate) mouth: Mouth,
    /// The sessions by edge; empty while the process is dead.
    pub(crate) sessions: BTreeMap<usize, Box<Session>>,
    /// When the timer of each session goes off.
    pub(crate) timers_us: BTreeMap<usize, u64>,
    pub(crate) is_alive: bool,
    /// Whether an fsync is under way.
    pub(crate) is_syncing: bool,
    /// Transactions that are not acknowledged.
    pub(crate) written: Vec<Written>,
    /// Rises with each crash, so that what was meant for an earlier life is recognised.
    pub(crate) life: u64,
    pub(crate) skew_ms: i64,
    pub(crate) backup: Option<DiskCopy>,
    /// The disk before anything was written to it.
    pub(crate) empty: Option<DiskCopy>,
    /// Frames kept by [`Canary::HoardFrames`], in bytes.
    pub(crate) hoard_bytes: u64,
    /// What it does for others, where there are relays.
    pub(crate) carrier: Option<Box<Carrier>>,
    /// How it asks for the first documents of an order, if it wants no others.
    pub(crate) reader: Option<Reader>,
    /// Bytes of frames of sessions of relays that it sent.
    pub(crate) relayed_bytes: u64,
    /// What its sessions ask for.
    wanted: Vec<Selector>,
    past: SessionStats,
    number: usize,
    id: PeerId,
}

impl Peer {
    pub(crate) fn new(
        number: usize,
        options: &Options,
        statements: &[String],
        canary: Option<Canary>,
    ) -> Self {
        let conduct = options.conducts[number];
        let mut wanted: Vec<Selector> = statements.iter().map(|text| selector(text)).collect();
        let collections = wanted.iter().map(|it| it.collection().clone());
        let collections: Vec<CollectionName> = collections.collect();
        let is_interested = options.relays.interested.get(number);
        let reader = options.window_of(number).map(Reader::new);
        if is_interested == Some(&false) || reader.is_some() {
            wanted.clear();
        }
        let disk = || {
            if options.has_engine {
                let seed = (options.seed << 16) | (number as u64 + 1);
                Disk::engine(Engine::new(seed, collections.clone()), canary)
            } else {
                Disk::memory(MemoryReplica::new(actor(number, 0), EPOCH_MS), canary)
            }
        };
        Self {
            disk: disk(),
            twin: (conduct == Conduct::Equivocate).then(disk),
            conduct,
            mouth: Mouth::new(conduct, options.hostile_relays, options.is_big(number)),
            sessions: BTreeMap::new(),
            timers_us: BTreeMap::new(),
            is_alive: true,
            is_syncing: false,
            written: Vec::new(),
            life: 0,
            skew_ms: options.skews_ms[number],
            backup: None,
            empty: None,
            hoard_bytes: 0,
            carrier: None,
            reader,
            relayed_bytes: 0,
            wanted,
            past: SessionStats::default(),
            number,
            id: peer_id(number),
        }
    }

    /// What its sessions ask for.
    pub(crate) fn wanted(&self) -> &[Selector] {
        &self.wanted
    }

    pub(crate) fn is_honest(&self) -> bool {
        self.conduct.is_honest()
    }

    /// Whether it is to hold in the end what all the others hold.
    pub(crate) fn is_interested(&self) -> bool {
        self.is_honest() && !self.wanted.is_empty()
    }

    /// The wall clock of the peer, in milliseconds.
    pub(crate) fn wall_ms(&self, now_us: u64) -> u64 {
        (EPOCH_MS + now_us / 1000).saturating_add_signed(self.skew_ms)
    }

    pub(crate) fn set_now_us(&mut self, now_us: u64) {
        let now_ms = self.wall_ms(now_us);
        for disk in std::iter::once(&mut self.disk).chain(&mut self.twin) {
            disk.set_now_ms(now_ms);
        }
    }

    /// The session of an edge and the disk that it shows.
    pub(crate) fn face(&mut self, edge: usize) -> Option<(&mut Session, &mut Disk)> {
        let session = &mut **self.sessions.get_mut(&edge)?;
        let disk = match &mut self.twin {
            Some(twin) if edge % 2 == 1 => twin,
            _ => &mut self.disk,
        };
        Some((session, disk))
    }

    /// Starts a session with the peer at the other end of an edge.
    pub(crate) fn start_session(&mut self, edge: usize, remote: PeerId, random: &mut Random) {
        // In a box: a tree has room for eleven where most peers have a few.
        let mut session = Box::new(Session::new(SessionConfig {
            database: DATABASE,
            local: self.id,
            remote,
            seed: random.next(),
        }));
        for selector in &self.wanted {
            session
                .subscribe(selector, Priority::Normal)
                .expect("few subscriptions");
        }
        self.sessions.insert(edge, session);
        if let Some(reader) = &mut self.reader {
            reader.start_session(edge);
        }
    }

    /// Forgets a session that has been without a link for long.
    pub(crate) fn drop_session(&mut self, edge: usize) {
        if let Some(session) = self.sessions.remove(&edge) {
            add(&mut self.past, &session.stats());
            self.timers_us.remove(&edge);
            if let Some(reader) = &mut self.reader {
                reader.drop_session(edge);
            }
        }
    }

    /// Tells the store what is subscribed to, so that it remembers what it evicts.
    pub(crate) fn note_subscriptions(&mut self) {
        let asked = self.reader.iter().flat_map(Reader::asked);
        let all = self.wanted.iter().chain(asked).cloned();
        self.disk.set_subscriptions(all);
    }

    /// Forgets what a process forgets.
    pub(crate) fn stop(&mut self) {
        self.past = self.stats();
        self.sessions.clear();
        self.carrier = None;
        self.reader.iter_mut().for_each(Reader::stop);
        self.timers_us.clear();
        self.is_alive = false;
        self.is_syncing = false;
        self.hoard_bytes = 0;
        self.life += 1;
    }

    /// Counters over all sessions of all lives.
    pub(crate) fn stats(&self) -> SessionStats {
        let mut sum = self.past;
        let sessions = self.sessions.values();
        sessions.for_each(|it| add(&mut sum, &it.stats()));
        sum
    }

    /// A writer's name that this peer did not have before.
    pub(crate) fn renewed_actor(&self) -> ActorId {
        actor(self.number, self.life)
    }

    pub(crate) fn id(&self) -> PeerId {
        self.id
    }
}

fn add(sum: &mut SessionStats, stats: &SessionStats) {
    sum.frames_sent += stats.frames_sent;
    sum.bytes_sent += stats.bytes_sent;
    sum.frames_received += stats.frames_received;
    sum.bytes_received += stats.bytes_received;
    sum.documents_sent += stats.documents_sent;
    sum.deltas_sent += stats.deltas_sent;
    sum.documents_changed += stats.documents_changed;
    sum.documents_unchanged += stats.documents_unchanged;
    sum.moves += stats.moves;
}

/// What a statement selects that was checked when it was given.
fn selector(text: &str) -> Selector {
    let statement = idem_query::parse(text).expect("checked when it was given");
    let selector = statement.subscription(&Object::new());
    selector.expect("checked when it was given")
}

/// Peers with a smaller number have smaller ids; apart from that they look random, as keys do.
fn peer_id(number: usize) -> PeerId {
    let mut random = Random::new(number as u64);
    let mut bytes = [0; 32];
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&random.next().to_be_bytes());
    }
    let number = u32::try_from(number).expect("fewer peers than that");
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PeerId(bytes)
}

/// Which peer has an id that [`peer_id`] gave.
pub(crate) fn number_of(id: PeerId) -> usize {
    let number = id.0.first_chunk().expect("an id has 32 bytes");
    usize::try_from(u32::from_be_bytes(*number)).expect("a number of a peer")
}

fn actor(number: usize, life: u64) -> ActorId {
    let mut random = Random::new(((number as u64 + 1) << 32) ^ life);
    let drawn = (u128::from(random.next()) << 64) | u128::from(random.next());
    ActorId(drawn.to_be_bytes())
}
