//! One simulated process and what it holds.

use std::collections::BTreeMap;

use idem_model::{ActorId, DatabaseId, Object, PeerId};
use idem_sync::{MemoryReplica, Priority, Session, SessionConfig};

use crate::{
    canary::Canary, check::Written, disk::Disk, engine::Engine, options::Options, random::Random,
    workload::COLLECTIONS,
};

/// What all simulated peers belong to.
const DATABASE: DatabaseId = DatabaseId([0x1d; 16]);

/// Wall clocks start at this Unix time, in milliseconds.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// One simulated process.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) disk: Disk,
    /// The sessions by edge; empty while the process is dead.
    pub(crate) sessions: BTreeMap<usize, Session>,
    /// When the timer of each session goes off.
    pub(crate) timers_us: BTreeMap<usize, u64>,
    pub(crate) is_alive: bool,
    /// Whether an fsync is under way.
    pub(crate) is_syncing: bool,
    /// Transactions that are not acknowledged.
    pub(crate) written: Vec<Written>,
    /// Rises with each crash, so that what was meant for an earlier life is recognised.
    pub(crate) life: u64,
    skew_ms: i64,
    id: PeerId,
}

impl Peer {
    pub(crate) fn new(number: usize, options: &Options, canary: Option<Canary>) -> Self {
        let byte = u8::try_from(number + 1).expect("few peers");
        let skew_ms = options.skews_ms[number];
        let disk = if options.has_engine {
            Disk::engine(Engine::new(options.seed << 8 | u64::from(byte)), canary)
        } else {
            let replica = MemoryReplica::new(ActorId([byte; 16]), EPOCH_MS);
            Disk::memory(replica, canary)
        };
        Self {
            disk,
            sessions: BTreeMap::new(),
            timers_us: BTreeMap::new(),
            is_alive: true,
            is_syncing: false,
            written: Vec::new(),
            life: 0,
            skew_ms,
            id: PeerId([byte; 32]),
        }
    }

    pub(crate) fn set_now_us(&mut self, now_us: u64) {
        let now_ms = EPOCH_MS + now_us / 1000;
        self.disk
            .set_now_ms(now_ms.saturating_add_signed(self.skew_ms));
    }

    /// Starts a session with the peer at the other end of an edge.
    pub(crate) fn start_session(&mut self, edge: usize, remote: PeerId, random: &mut Random) {
        let mut session = Session::new(SessionConfig {
            database: DATABASE,
            local: self.id,
            remote,
            seed: random.next(),
        });
        for collection in COLLECTIONS {
            let statement = idem_query::parse(&format!("SELECT * FROM {collection}"))
                .expect("a valid statement");
            let selector = statement
                .subscription(&Object::new())
                .expect("a statement without arguments");
            session
                .subscribe(&selector, Priority::Normal)
                .expect("few subscriptions");
        }
        self.sessions.insert(edge, session);
    }

    pub(crate) fn id(&self) -> PeerId {
        self.id
    }
}
