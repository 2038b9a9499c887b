//! The thread that fetches and serves blobs: it owns the exchange, and is the only one that calls it.
//!
//! It is apart from the thread of replication, because it hashes and waits for the disk, and a small change
//! must not wait for that.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use idem_blob::BlobStore;
use idem_blob_sync::{Event, Exchange, FetchTerms, Transmit};
use idem_model::{BlobKey, Lane, PeerId};
use idem_transport::{LinkSender, TrySendError};

use super::{
    Input, Shared,
    hearing::{FetchEnd, Hearing, Outcome, Ticket},
    marking,
    shelf::Shelf,
    unix_ms,
    watching::Watch,
};
use crate::transport::{ConditionKind, TransportCondition};

/// How often what no document refers to is looked for.
const COLLECT_EVERY: Duration = Duration::from_secs(10 * 60);

/// Frames that are sent before what came in meanwhile is looked at.
const FRAMES_PER_TURN: usize = 64;

pub(super) struct Desk {
    shared: Arc<Shared>,
    store: BlobStore,
    shelf: Shelf,
    exchange: Exchange,
    start: Instant,
    links: BTreeMap<PeerId, LinkSender>,
    /// Frames that their links had no room for.
    unsent: Vec<Transmit>,
    fetches: BTreeMap<BlobKey, Vec<Fetch>>,
    hearing: Arc<Hearing>,
    collect_at: Duration,
    watch: Watch,
}

struct Fetch {
    number: u64,
    ticket: Arc<Ticket>,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, store: BlobStore, hearing: Arc<Hearing>) -> Self {
        let mut seed = [0; 8];
        // Without randomness the questions of two peers may be taken for each other's.
        let _ = getrandom::fill(&mut seed);
        Self {
            shared,
            shelf: Shelf::new(store.clone()),
            store,
            exchange: Exchange::new(u64::from_le_bytes(seed)),
            start: Instant::now(),
            links: BTreeMap::new(),
            unsent: Vec::new(),
            fetches: BTreeMap::new(),
            hearing,
            collect_at: COLLECT_EVERY,
            watch: Watch::default(),
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let mut is_busy = false;
        loop {
            let limit = if is_busy {
                Some(Duration::ZERO)
            } else {
                self.pause()
            };
            let Some(inputs) = self.shared.take(limit) else {
                break;
            };
            inputs.into_iter().for_each(|input| self.take_in(input));
            let now = self.start.elapsed();
            if self.exchange.poll_timeout().is_some_and(|at| at <= now) {
                self.exchange.handle_timeout(now, &mut self.shelf);
            }
            if now >= self.collect_at {
                self.collect_at = now + COLLECT_EVERY;
                self.collect();
            }
            self.watch.look(now, &self.shared);
            is_busy = self.send();
            self.report();
        }
        for (_, fetches) in std::mem::take(&mut self.fetches) {
            for fetch in fetches {
                self.end(&fetch, Err(FetchEnd::Closed));
            }
        }
        self.hearing.close();
    }

    fn pause(&self) -> Option<Duration> {
        let now = self.start.elapsed();
        let next = self.exchange.poll_timeout();
        let times = [next, self.watch.next(), Some(self.collect_at)];
        let next = times.into_iter().flatten().min()?;
        Some(next.saturating_sub(now))
    }

    fn take_in(&mut self, input: Input) {
        let now = self.start.elapsed();
        let shelf = &mut self.shelf;
        match input {
            Input::NeighbourUp {
                peer,
                sender,
                frame_bytes_max,
            } => {
                self.unsent.retain(|unsent| unsent.peer != peer);
                self.links.insert(peer, sender);
                let bytes = usize::try_from(frame_bytes_max).unwrap_or(usize::MAX);
                self.exchange.handle_neighbour_up(now, shelf, peer, bytes);
            }
            Input::NeighbourDown { peer } => {
                self.unsent.retain(|unsent| unsent.peer != peer);
                self.links.remove(&peer);
                self.exchange.handle_neighbour_down(now, shelf, peer);
            }
            Input::Frame {
                peer,
                frame,
                permit,
            } => {
                self.exchange.handle_frame(now, shelf, peer, &frame);
                drop(permit);
            }
            Input::Fetch {
                key,
                terms,
                number,
                ticket,
            } => {
                let fetches = self.fetches.entry(key).or_default();
                fetches.push(Fetch { number, ticket });
                self.watch.begin(key);
                self.exchange.fetch(now, shelf, key, terms);
            }
            Input::Cancel { key, number } => self.cancel(key, number),
            Input::Made { key } => self.exchange.handle_made(now, shelf, key),
            Input::Looked { looked } => {
                for key in self.watch.looked(now, looked) {
                    self.end_all(key, Err(FetchEnd::Deleted));
                    self.exchange.cancel(now, &mut self.shelf, key);
                }
            }
        }
    }

    fn cancel(&mut self, key: BlobKey, number: u64) {
        let Some(fetches) = self.fetches.get_mut(&key) else {
            return;
        };
        let at = fetches.iter().position(|fetch| fetch.number == number);
        let Some(fetch) = at.map(|at| fetches.swap_remove(at)) else {
            return;
        };
        let is_last = fetches.is_empty();
        fetch.ticket.end(Err(FetchEnd::Cancelled));
        if is_last {
            self.fetches.remove(&key);
            self.watch.end(key);
            let now = self.start.elapsed();
            self.exchange.cancel(now, &mut self.shelf, key);
        }
    }

    /// Hands frames to links as far as they have room. Gives whether there may be more.
    fn send(&mut self) -> bool {
        let now = self.start.elapsed();
        let links = &self.links;
        self.unsent.retain_mut(|unsent| {
            let Some(sender) = links.get(&unsent.peer) else {
                return false;
            };
            let frame = std::mem::take(&mut unsent.frame);
            match sender.try_send(unsent.lane, frame) {
                Err(TrySendError::Full(frame)) => {
                    unsent.frame = frame;
                    true
                }
                _ => false,
            }
        });
        let unsent = &mut self.unsent;
        for _ in 0..FRAMES_PER_TURN {
            let blocked: Vec<(PeerId, Lane)> = unsent.iter().map(|it| (it.peer, it.lane)).collect();
            let has_room = |peer: PeerId, lane: Lane| {
                !blocked.contains(&(peer, lane))
                    && links.get(&peer).is_some_and(|link| link.has_room(lane))
            };
            let next = self.exchange.poll_transmit(now, &mut self.shelf, has_room);
            let Some(transmit) = next else {
                return false;
            };
            let Transmit { peer, lane, frame } = transmit;
            let Some(sender) = links.get(&peer) else {
                continue;
            };
            if let Err(TrySendError::Full(frame)) = sender.try_send(lane, frame) {
                unsent.push(Transmit { peer, lane, frame });
            }
        }
        true
    }

    fn report(&mut self) {
        while let Some(event) = self.exchange.poll_event() {
            match event {
                Event::Progress { key, bytes } => {
                    for fetch in self.fetches.get(&key).into_iter().flatten() {
                        self.hearing.progress(fetch.number, bytes);
                    }
                }
                Event::Completed { key } => self.end_all(key, Ok(())),
                Event::Failed { key, reason } => {
                    self.end_all(key, Err(FetchEnd::Failed(reason)));
                }
                Event::Damaged { key, peer } => {
                    let message = format!("the peer sent damaged parts of attachment {}", key.id);
                    self.tell(peer, message);
                }
                Event::Misbehaved { peer, detail } => {
                    self.tell(peer, format!("the peer {detail}"));
                    if let Some(sender) = self.links.remove(&peer) {
                        sender.close();
                    }
                    let now = self.start.elapsed();
                    self.exchange
                        .handle_neighbour_down(now, &mut self.shelf, peer);
                }
                _ => {}
            }
        }
    }

    fn tell(&self, peer: PeerId, message: String) {
        let condition = TransportCondition::new(ConditionKind::ProtocolViolated, message);
        self.shared.conditions.push(condition.with(peer));
    }

    fn end_all(&mut self, key: BlobKey, outcome: Outcome) {
        self.watch.end(key);
        for fetch in self.fetches.remove(&key).into_iter().flatten() {
            self.end(&fetch, outcome);
        }
    }

    fn end(&self, fetch: &Fetch, outcome: Outcome) {
        fetch.ticket.end(outcome);
        self.hearing.end(fetch.number, outcome);
    }

    /// Looks for what no document refers to, on a thread of its own: it reads all documents.
    fn collect(&self) {
        if self.store.usage().blobs == 0 || self.shared.is_collecting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (blobs, shared) = (self.store.clone(), Arc::clone(&self.shared));
        let spawned = thread::Builder::new()
            .name("idem-collect".to_owned())
            .spawn(move || {
                if let Err(error) = collect(&blobs, &shared.documents) {
                    tracing::warn!(%error, "attachments that nothing refers to were not collected");
                }
                shared.is_collecting.store(false, Ordering::Release);
            });
        if spawned.is_err() {
            self.shared.is_collecting.store(false, Ordering::Release);
        }
    }
}

/// Deletes the blobs that no document refers to, and that have had their time.
pub(super) fn collect(
    blobs: &BlobStore,
    documents: &idem_store::Store,
) -> Result<idem_blob::Collected, crate::error::Error> {
    let referenced = marking::referenced(documents);
    let referenced = referenced.map_err(|error| crate::error::Error::store(error, ""))?;
    let collected = blobs.collect(&referenced, unix_ms());
    collected.map_err(crate::error::Error::blob)
}

/// The terms of a fetch, from what the app may say.
pub(super) fn terms(timeout: Duration, hops: u8) -> FetchTerms {
    FetchTerms { timeout, hops }
}
