//! Two peers on a perfect link, to count what they say to each other.

use std::time::Duration;

use idem_crdt::ApplyError;
use idem_model::{ActorId, DatabaseId, DocumentKey, DocumentOp, Object, PeerId};
use idem_query::Selector;
use idem_sync::{
    CloseReason, Cursor, CursorUpdate, Event, LinkId, LinkProperties, MemoryReplica, Priority,
    Replica, Session, SessionConfig, SessionStats, SubscribeError, SubscriptionId,
};

use crate::random::Random;

/// What both peers belong to.
const DATABASE: DatabaseId = DatabaseId([0x1d; 16]);

/// Timers that are due within this time are waited for before a pair is at rest. It is longer than
/// the delays of a session and shorter than its time limits.
const PATIENCE: Duration = Duration::from_secs(1);

/// A pair that exchanges this many frames without an end in sight has a bug.
const FRAMES_MAX: u64 = 10_000_000;

/// Two peers with a replica in memory each, and a link between them that loses nothing and takes
/// half a step for a frame of any size.
///
/// It counts bytes, frames and steps exactly, so that a test can hold a scenario to a ceiling. What
/// is committed is durable at once.
///
/// ```
/// use idem_model::{ActorId, CollectionName, DocId, DocumentKey, DocumentOp, InsertConflict, Object};
/// use idem_sim::Pair;
/// use idem_sync::MemoryReplica;
///
/// let mut pair = Pair::new(MemoryReplica::new(ActorId([1; 16]), 0), MemoryReplica::new(ActorId([2; 16]), 0));
/// let key = DocumentKey { collection: CollectionName::new("cars")?, id: DocId::from("a") };
/// let insert = DocumentOp::Insert {
///     fields: Object::from([("color".to_owned(), "red".into())]),
///     kinds: Vec::new(),
///     conflict: InsertConflict::Fail,
/// };
/// pair.commit(0, &[(key, insert)])?;
/// pair.subscribe(1, "SELECT * FROM cars")?;
/// pair.connect();
/// let traffic = pair.run_to_rest();
/// assert_eq!(traffic.documents(), 1);
/// assert!(traffic.bytes() < 500);
/// assert!(pair.holds_the_same());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pair {
    now: Duration,
    sides: [Side; 2],
    link: Option<LinkId>,
    link_last: u64,
    lives: u64,
}

#[derive(Debug)]
struct Side {
    replica: MemoryReplica,
    session: Session,
    wanted: Vec<(SubscriptionId, Selector)>,
    /// How many of them have caught up since the link came up.
    caught_up: usize,
    /// Frames stay in the session while it is set.
    is_held: bool,
    /// Frames on their way to this side.
    arriving: Vec<Vec<u8>>,
    closed: Option<(CloseReason, String)>,
}

/// What two peers said from one moment of rest to the next. Pairs of figures are by the side that
/// sent or knew.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes of frames.
    pub bytes_by: [u64; 2],
    /// Frames.
    pub frames_by: [u64; 2],
    /// Documents, whole or as deltas.
    pub documents_by: [u64; 2],
    /// Of those, deltas.
    pub deltas_by: [u64; 2],
    /// Bytes of what was sent of documents, before it was compressed.
    pub document_bytes_by: [u64; 2],
    /// The step in which a side knew that it has caught up with all it wants; a frame takes one step.
    /// `None` if that did not happen.
    pub known_by: [Option<u64>; 2],
    /// The step in which a side sent its first frame.
    pub begun_by: [Option<u64>; 2],
    /// The step in which a side had the handshake behind it.
    pub established_by: [Option<u64>; 2],
    /// The step of the last frame that arrived.
    pub steps: u64,
}

impl Traffic {
    /// Bytes of frames in both directions.
    pub fn bytes(&self) -> u64 {
        self.bytes_by.iter().sum()
    }

    /// Frames in both directions.
    pub fn frames(&self) -> u64 {
        self.frames_by.iter().sum()
    }

    /// Documents in both directions.
    pub fn documents(&self) -> u64 {
        self.documents_by.iter().sum()
    }

    /// Deltas in both directions.
    pub fn deltas(&self) -> u64 {
        self.deltas_by.iter().sum()
    }

    /// Bytes of what was sent of documents in both directions, before it was compressed.
    pub fn document_bytes(&self) -> u64 {
        self.document_bytes_by.iter().sum()
    }

    /// Round trips from a side's first frame to the moment when it knew that it has caught up: the
    /// larger figure of both sides. `None` unless both know.
    pub fn round_trips(&self) -> Option<u64> {
        self.round_trips_since(self.begun_by)
    }

    /// The same, counted from the end of the handshake on.
    pub fn round_trips_established(&self) -> Option<u64> {
        self.round_trips_since(self.established_by)
    }

    fn round_trips_since(&self, since: [Option<u64>; 2]) -> Option<u64> {
        let of = |side: usize| {
            Some(
                self.known_by[side]?
                    .saturating_sub(since[side]?)
                    .div_ceil(2),
            )
        };
        Some(of(0)?.max(of(1)?))
    }
}

impl Pair {
    /// Two peers without a link.
    pub fn new(a: MemoryReplica, b: MemoryReplica) -> Self {
        Self {
            now: Duration::from_secs(1),
            sides: [Side::new(a, 0), Side::new(b, 1)],
            link: None,
            link_last: 0,
            lives: 2,
        }
    }

    /// Two peers that hold the same documents and have never met: the second one has a copy, and an
    /// actor of its own.
    pub fn copied(replica: MemoryReplica) -> Self {
        let mut copy = replica.clone();
        let mut random = Random::new(u64::MAX);
        let actor = (u128::from(random.next()) << 64) | u128::from(random.next());
        copy.renew_actor(ActorId(actor.to_be_bytes()));
        Self::new(replica, copy)
    }

    /// Has one side ask for what a statement selects, on this link and all later ones.
    ///
    /// # Errors
    /// [`SubscribeError`].
    ///
    /// # Panics
    /// If `statement` is no subscription.
    pub fn subscribe(
        &mut self,
        side: usize,
        statement: &str,
    ) -> Result<SubscriptionId, SubscribeError> {
        let statement = idem_query::parse(statement).expect("a valid statement");
        let selector = statement.subscription(&Object::new());
        let selector = selector.expect("a subscription without arguments");
        let side = &mut self.sides[side];
        let subscription = side.session.subscribe(&selector, Priority::Normal)?;
        side.wanted.push((subscription, selector));
        Ok(subscription)
    }

    /// Stores the cursors that two peers have which synced before: each side holds all that the other
    /// has now.
    pub fn mark_in_step(&mut self) {
        for side in 0..2 {
            let other = &self.sides[1 - side];
            let cursor = Cursor {
                actor: other.replica.actor(),
                commit: other.replica.durable_commit(),
            };
            let peer = peer_id(1 - side);
            let updates = self.sides[side].wanted.iter();
            let updates: Vec<CursorUpdate> = updates
                .map(|&(subscription, _)| CursorUpdate {
                    peer,
                    subscription,
                    cursor,
                })
                .collect();
            let replica = &mut self.sides[side].replica;
            let Ok(report) = replica.apply(Vec::new(), &updates);
            assert!(report.is_applied(), "there is nothing to refuse");
            replica.make_durable();
        }
    }

    /// Runs a transaction on one side. `None` if it changed nothing.
    ///
    /// # Errors
    /// [`ApplyError`] of the first operation that cannot be done; then nothing is done.
    pub fn commit(
        &mut self,
        side: usize,
        operations: &[(DocumentKey, DocumentOp)],
    ) -> Result<Option<u64>, ApplyError> {
        let now = self.now;
        let it = &mut self.sides[side];
        let commit = it.replica.commit(operations)?;
        it.replica.make_durable();
        it.session.handle_commit(now, &mut it.replica);
        Ok(commit)
    }

    /// Gives the pair a link in place of the one before.
    pub fn connect(&mut self) {
        self.disconnect();
        self.link_last += 1;
        let link = LinkId(self.link_last);
        self.link = Some(link);
        for side in &mut self.sides {
            side.caught_up = 0;
            side.session
                .handle_link_up(self.now, link, LinkProperties::default());
        }
    }

    /// Cuts the link; what is on its way is lost.
    pub fn disconnect(&mut self) {
        let Some(link) = self.link.take() else {
            return;
        };
        for side in &mut self.sides {
            side.arriving.clear();
            side.session.handle_link_down(self.now, link);
        }
    }

    /// The process of one side ends and starts again: the link is gone, and so is all that was not
    /// stored.
    pub fn restart(&mut self, side: usize) {
        self.disconnect();
        self.lives += 1;
        let it = &mut self.sides[side];
        it.replica.crash();
        it.session = session(side, self.lives);
        for (_, selector) in &it.wanted {
            let subscribed = it.session.subscribe(selector, Priority::Normal);
            subscribed.expect("it was taken before");
        }
    }

    /// While it is set, no frame leaves this side: its link is busy.
    pub fn hold(&mut self, side: usize, is_held: bool) {
        self.sides[side].is_held = is_held;
    }

    /// Moves frames until nothing moves, and the clock as far as the sessions ask for soon.
    ///
    /// # Panics
    /// If a session gives the link up, or if there is no end.
    pub fn run_to_rest(&mut self) -> Traffic {
        let before = self.stats();
        let mut traffic = Traffic::default();
        let mut step = 0;
        let mut is_waited = false;
        loop {
            let is_sent = self.collect(step, &mut traffic);
            self.note_caught_up(step, &mut traffic);
            if is_sent {
                is_waited = false;
                step += 1;
                self.deliver();
                self.note_caught_up(step, &mut traffic);
                traffic.steps = step;
                let frames = self.stats().map(|it| it.frames_sent).iter().sum::<u64>();
                assert!(frames < FRAMES_MAX, "no end in sight");
            } else if is_waited {
                break;
            } else {
                is_waited = !self.wait();
            }
        }
        let after = self.stats();
        for side in 0..2 {
            let (before, after) = (before[side], after[side]);
            traffic.bytes_by[side] = after.bytes_sent - before.bytes_sent;
            traffic.frames_by[side] = after.frames_sent - before.frames_sent;
            traffic.documents_by[side] = after.documents_sent - before.documents_sent;
            traffic.deltas_by[side] = after.deltas_sent - before.deltas_sent;
            traffic.document_bytes_by[side] =
                after.document_bytes_sent - before.document_bytes_sent;
        }
        traffic
    }

    /// Lets time pass in which nothing is committed, and moves what comes of it.
    ///
    /// # Panics
    /// As [`run_to_rest`](Self::run_to_rest).
    pub fn pass(&mut self, time: Duration) -> Traffic {
        self.now += time;
        for side in &mut self.sides {
            side.session.handle_timeout(self.now, &mut side.replica);
        }
        self.run_to_rest()
    }

    /// Whether both sides hold the same documents, byte for byte.
    pub fn holds_the_same(&self) -> bool {
        let [a, b] = &self.sides;
        let of = |side: &Side, key: &DocumentKey| side.replica.state(key);
        let keys = a.replica.documents().chain(b.replica.documents());
        keys.into_iter().all(|(key, _)| of(a, key) == of(b, key))
    }

    /// The replica of one side.
    pub fn replica(&self, side: usize) -> &MemoryReplica {
        &self.sides[side].replica
    }

    /// The replica of one side, to change it behind its session's back.
    pub fn replica_mut(&mut self, side: usize) -> &mut MemoryReplica {
        &mut self.sides[side].replica
    }

    /// The session of one side.
    pub fn session(&self, side: usize) -> &Session {
        &self.sides[side].session
    }

    fn stats(&self) -> [SessionStats; 2] {
        [0, 1].map(|side| self.sides[side].session.stats())
    }

    /// Takes what the sessions want to send; returns whether that was anything.
    fn collect(&mut self, step: u64, traffic: &mut Traffic) -> bool {
        let now = self.now;
        for side in 0..2 {
            while !self.sides[side].is_held {
                let it = &mut self.sides[side];
                let Some(transmit) = it.session.poll_transmit(now, &it.replica) else {
                    break;
                };
                traffic.begun_by[side].get_or_insert(step);
                if Some(transmit.link) == self.link {
                    self.sides[1 - side].arriving.push(transmit.frame);
                }
            }
        }
        self.sides.iter().any(|side| !side.arriving.is_empty())
    }

    fn deliver(&mut self) {
        let Some(link) = self.link else {
            return;
        };
        for side in &mut self.sides {
            for frame in std::mem::take(&mut side.arriving) {
                side.session
                    .handle_frame(self.now, &mut side.replica, link, &frame);
            }
            side.replica.make_durable();
            side.session.handle_commit(self.now, &mut side.replica);
        }
    }

    fn note_caught_up(&mut self, step: u64, traffic: &mut Traffic) {
        for (number, side) in self.sides.iter_mut().enumerate() {
            while let Some(event) = side.session.poll_event() {
                match event {
                    Event::Established { .. } => traffic.established_by[number] = Some(step),
                    Event::CaughtUp { .. } => side.caught_up += 1,
                    Event::Closed { reason, detail, .. } => side.closed = Some((reason, detail)),
                    _ => {}
                }
            }
            assert_eq!(side.closed, None, "side {number} keeps the link");
            if side.caught_up >= side.wanted.len() {
                traffic.known_by[number].get_or_insert(step);
            }
        }
    }

    /// Waits for the next timer; returns whether there was one to wait for.
    fn wait(&mut self) -> bool {
        let soon = self.now + PATIENCE;
        let timeouts = self.sides.iter().filter_map(|it| it.session.poll_timeout());
        let Some(at) = timeouts.filter(|timeout| *timeout <= soon).min() else {
            return false;
        };
        self.now = self.now.max(at);
        for side in &mut self.sides {
            side.session.handle_timeout(self.now, &mut side.replica);
        }
        true
    }
}

impl Side {
    fn new(replica: MemoryReplica, number: usize) -> Self {
        Self {
            replica,
            session: session(number, number as u64),
            wanted: Vec::new(),
            caught_up: 0,
            is_held: false,
            arriving: Vec::new(),
            closed: None,
        }
    }
}

/// Ids of real peers are random numbers, which no compression makes smaller. The first one is the
/// smaller one, so it greets.
fn peer_id(side: usize) -> PeerId {
    let mut random = Random::new(side as u64);
    let mut bytes = [0; 32];
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&random.next().to_be_bytes());
    }
    bytes[0] = u8::try_from(side).expect("one of two");
    PeerId(bytes)
}

fn session(side: usize, life: u64) -> Session {
    Session::new(SessionConfig {
        database: DATABASE,
        local: peer_id(side),
        remote: peer_id(1 - side),
        seed: Random::new(life).next(),
    })
}
