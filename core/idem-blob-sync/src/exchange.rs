//! The exchange: what is wanted, who has it, who wants it.

mod asking;
mod fetching;
mod serving;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use idem_model::{BlobKey, Lane, PeerId, limits};
use idem_wire::BlobMessage;

use crate::{
    event::{Event, FailReason},
    neighbour::Neighbour,
    port::{Blobs, Purpose, Trouble},
    want::{Source, Want},
};

/// How long a neighbour may take for an answer, for each peer that the question may go over and itself.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long everybody must have said that he has nothing before that is the result: a peer that has it may
/// just be on its way here.
const SETTLE: Duration = Duration::from_secs(2);

/// How long a neighbour may keep silent about what it was asked for before others are asked.
const STALL: Duration = Duration::from_secs(15);

/// How long a part may be under way before an idle neighbour is asked for it as well.
const DOUBLE_AFTER: Duration = Duration::from_secs(1);

/// How often a neighbour is told what more is here of a blob that it wants.
const NEWS_EVERY: Duration = Duration::from_millis(50);

/// Events that wait for the owner. An owner polls after every call; who never polls loses the oldest.
const EVENTS_MAX: usize = 4096;

/// How the app wants a blob fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchTerms {
    /// How long nothing may come before the fetch ends.
    pub timeout: Duration,
    /// Over how many peers the question is passed on, at most `limits::BLOB_HOPS_MAX`. 0 asks neighbours only.
    pub hops: u8,
}

impl Default for FetchTerms {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            hops: 1,
        }
    }
}

/// A frame to hand to a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// To whom.
    pub peer: PeerId,
    /// On which lane.
    pub lane: Lane,
    /// The bytes.
    pub frame: Vec<u8>,
}

/// The blobs that a peer fetches from its neighbours and for them.
///
/// The methods come in four kinds:
///
/// - `handle_*` take in what happened: neighbours, frames, time, blobs that the app made;
/// - [`fetch`](Self::fetch) and [`cancel`](Self::cancel) are what the application wants;
/// - `poll_*` give what must leave;
/// - the rest looks only.
///
/// After any call of the first two kinds, poll in this order: [`poll_transmit`](Self::poll_transmit) until it
/// gives `None` (then again when a link takes frames again), [`poll_event`](Self::poll_event) until `None`,
/// and [`poll_timeout`](Self::poll_timeout) once. `now` is the time since any fixed moment; it must not fall.
#[derive(Debug, Default)]
pub struct Exchange {
    neighbours: BTreeMap<PeerId, Neighbour>,
    wants: BTreeMap<BlobKey, Want>,
    events: VecDeque<Event>,
    /// Who had a turn last.
    turn: Option<PeerId>,
    /// When to look for parts that are under way for long.
    tick_at: Duration,
}

impl Exchange {
    /// An exchange without neighbours.
    pub fn new() -> Self {
        Self::default()
    }

    // Input.

    /// A peer can be asked, and may ask, over a link that takes frames of `frame_bytes_max`, at least 16 KiB.
    /// If it was one already, all that was under way is void.
    pub fn handle_neighbour_up(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        frame_bytes_max: usize,
    ) {
        self.handle_neighbour_down(now, blobs, peer);
        self.neighbours
            .insert(peer, Neighbour::new(now, frame_bytes_max));
        for key in self.wants.keys().copied().collect::<Vec<_>>() {
            self.ask_everybody(now, key);
        }
    }

    /// A peer can be asked no more.
    pub fn handle_neighbour_down(&mut self, now: Duration, blobs: &mut impl Blobs, peer: PeerId) {
        let Some(mut neighbour) = self.neighbours.remove(&peer) else {
            return;
        };
        for flight in neighbour.release(|_| true) {
            self.free(flight.key, flight.part);
        }
        for key in self.wants.keys().copied().collect::<Vec<_>>() {
            let Some(want) = self.wants.get_mut(&key) else {
                continue;
            };
            want.sources.remove(&peer);
            want.askers.remove(&peer);
            self.settle(now, blobs, key);
        }
        self.stir();
    }

    /// A frame about a blob came from a neighbour. It may hold anything.
    pub fn handle_frame(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        frame: &[u8],
    ) {
        if !self.neighbours.contains_key(&peer) {
            return;
        }
        let Ok(message) = BlobMessage::decode(frame) else {
            self.misbehaved(peer, "bytes that are no message about a blob");
            return;
        };
        match message {
            BlobMessage::Ask { key, hops } => self.handle_ask(now, blobs, peer, key, hops),
            BlobMessage::HaveAll { key } => {
                self.handle_have(now, blobs, peer, key, None);
            }
            BlobMessage::HaveSome { key, runs } => {
                self.handle_have(now, blobs, peer, key, Some(runs));
            }
            BlobMessage::Wait { key } => {
                self.handle_have(now, blobs, peer, key, Some(Vec::new()));
            }
            BlobMessage::Lack { key } => self.handle_lack(now, blobs, peer, key),
            BlobMessage::Get { key, part } => self.handle_get(peer, key, part),
            BlobMessage::Piece {
                key,
                part,
                offset,
                bytes,
            } => self.handle_piece(now, blobs, peer, key, (part, offset, bytes)),
            BlobMessage::Refuse { key, part } => self.handle_refuse(now, blobs, peer, key, part),
            BlobMessage::Cancel { key } => self.handle_cancel(now, blobs, peer, key),
        }
    }

    /// The app made a blob, so that whoever asked for it can be told.
    pub fn handle_made(&mut self, now: Duration, blobs: &mut impl Blobs, key: BlobKey) {
        self.arrived(now, blobs, key);
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Duration, blobs: &mut impl Blobs) {
        self.tick_at = now + DOUBLE_AFTER;
        let stalled = |neighbour: &Neighbour| {
            let since = neighbour.waiting_since();
            since.is_some_and(|since| now >= since + STALL)
        };
        let peers: Vec<PeerId> = self.neighbours.keys().copied().collect();
        for peer in peers {
            let neighbour = self.neighbours.get_mut(&peer).expect("listed above");
            if stalled(neighbour) {
                self.handle_stall(now, peer);
            }
        }
        for key in self.wants.keys().copied().collect::<Vec<_>>() {
            let Some(want) = self.wants.get_mut(&key) else {
                continue;
            };
            for source in want.sources.values_mut() {
                if matches!(source, Source::Asked { until } if *until <= now) {
                    *source = Source::Nothing;
                }
            }
            self.settle(now, blobs, key);
            self.check_overdue(now, blobs, key);
        }
        self.stir();
    }

    // What the application wants.

    /// Fetches a blob. [`Event`] tells how it goes on. A blob that is being fetched goes on under the new
    /// terms.
    pub fn fetch(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        key: BlobKey,
        terms: FetchTerms,
    ) {
        if blobs.is_whole(key) {
            self.push_event(match blobs.adopt(key) {
                Ok(()) => Event::Completed { key },
                Err(trouble) => Event::Failed {
                    key,
                    reason: trouble.into(),
                },
            });
            return;
        }
        let hops = terms.hops.min(limits::BLOB_HOPS_MAX);
        let is_known = self.wants.contains_key(&key);
        if !is_known && self.fetches() >= limits::BLOB_FETCHES_MAX {
            let reason = FailReason::Quota;
            self.push_event(Event::Failed { key, reason });
            return;
        }
        let want = self
            .wants
            .entry(key)
            .or_insert_with(|| Want::new(now, hops));
        want.progress_at = now;
        want.quiet_since = None;
        let is_new = want.app.replace(terms).is_none();
        let is_known = want.work.is_some();
        if is_new
            && is_known
            && let Err(trouble) = blobs.adopt(key)
        {
            self.fail(blobs, key, trouble.into());
            return;
        }
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        if want.hops < hops {
            want.hops = hops;
            // Nobody passed the question on that far.
            want.sources
                .retain(|_, source| source.has_any() || matches!(source, Source::Banned));
        }
        self.ask_everybody(now, key);
        self.settle(now, blobs, key);
    }

    /// The app does not want a blob any more. What is here of it stays for the next time.
    pub fn cancel(&mut self, blobs: &mut impl Blobs, key: BlobKey) {
        if let Some(want) = self.wants.get_mut(&key) {
            want.app = None;
            if want.askers.is_empty() {
                self.drop_want(blobs, key);
            }
        }
    }

    // What must leave.

    /// The next frame. `has_room` says whether the link of a neighbour takes a frame on a lane.
    pub fn poll_transmit(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        mut has_room: impl FnMut(PeerId, Lane) -> bool,
    ) -> Option<Transmit> {
        let after = self
            .turn
            .map_or(0, |turn| self.neighbours.range(..=turn).count());
        let mut peers: Vec<PeerId> = self.neighbours.keys().copied().collect();
        peers.rotate_left(after.min(self.neighbours.len()));
        // What is short goes first, to all.
        for peer in &peers {
            self.prepare(now, *peer);
            let neighbour = self.neighbours.get_mut(peer).expect("listed above");
            if !neighbour.messages.is_empty() && has_room(*peer, Lane::Control) {
                let frame = neighbour.messages.pop_front().expect("looked at");
                self.turn = Some(*peer);
                return Some(Transmit {
                    peer: *peer,
                    lane: Lane::Control,
                    frame,
                });
            }
        }
        for peer in peers {
            let neighbour = self.neighbours.get(&peer).expect("listed above");
            let has_work = neighbour.sending.is_some() || !neighbour.gets.is_empty();
            if has_work
                && has_room(peer, Lane::Blobs)
                && let Some((lane, frame)) = self.next_piece(blobs, peer)
            {
                self.turn = Some(peer);
                return Some(Transmit { peer, lane, frame });
            }
        }
        None
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let mut times = Vec::new();
        for neighbour in self.neighbours.values() {
            times.extend(neighbour.waiting_since().map(|since| since + STALL));
            if !neighbour.news.is_empty() && !neighbour.is_clogged() {
                times.push(neighbour.news_at);
            }
            if !neighbour.flights.is_empty() {
                times.push(self.tick_at);
            }
        }
        for want in self.wants.values() {
            for source in want.sources.values() {
                if let Source::Asked { until } = source {
                    times.push(*until);
                }
            }
            if let Some(terms) = want.app {
                times.push(want.progress_at + terms.timeout);
                let is_alone = self.neighbours.is_empty();
                times.extend(want.quiet_since.filter(|_| !is_alone).map(|it| it + SETTLE));
            }
        }
        times.into_iter().min()
    }

    // Looking.

    /// How many blobs are being fetched, or looked for, for the app.
    pub fn fetches(&self) -> usize {
        self.wants
            .values()
            .filter(|want| want.app.is_some())
            .count()
    }

    /// How many blobs are being fetched, or looked for, for neighbours alone.
    pub fn relays(&self) -> usize {
        self.wants.len() - self.fetches()
    }

    // Endings.

    /// Ends an app's fetch for which nothing came for too long, or that nobody can serve.
    fn check_overdue(&mut self, now: Duration, blobs: &mut impl Blobs, key: BlobKey) {
        let Some((want, terms)) = self
            .wants
            .get(&key)
            .and_then(|want| Some((want, want.app?)))
        else {
            return;
        };
        let is_settled = want.quiet_since.is_some_and(|since| now >= since + SETTLE);
        let is_over = now >= want.progress_at + terms.timeout;
        if !is_over && (!is_settled || self.neighbours.is_empty()) {
            return;
        }
        let reason = match (want.quiet_since, want.was_damaged()) {
            (Some(_), true) => FailReason::Damaged,
            (Some(_), false) => FailReason::NobodyHasIt,
            (None, _) => FailReason::TimedOut,
        };
        self.fail(blobs, key, reason);
    }

    /// Ends a fetch, for the app and for neighbours.
    fn fail(&mut self, blobs: &mut impl Blobs, key: BlobKey, reason: FailReason) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        if want.app.take().is_some() {
            self.push_event(Event::Failed { key, reason });
        }
        self.drop_want(blobs, key);
    }

    /// Nobody wants a blob any more.
    fn drop_want(&mut self, blobs: &mut impl Blobs, key: BlobKey) {
        let Some(want) = self.wants.remove(&key) else {
            return;
        };
        for peer in want.sources.keys() {
            if let Some(neighbour) = self.neighbours.get_mut(peer) {
                neighbour.release(|flight| flight.key == key);
                neighbour.push(&BlobMessage::Cancel { key });
            }
        }
        for (peer, neighbour) in &mut self.neighbours {
            // What it was told is not offered any more.
            if want.askers.contains(peer) || neighbour.interests.contains_key(&key) {
                neighbour.push(&BlobMessage::Lack { key });
            }
            neighbour.forget(key);
        }
        if want.work.is_some() {
            blobs.end(key);
        }
    }

    fn misbehaved(&mut self, peer: PeerId, detail: &'static str) {
        self.push_event(Event::Misbehaved { peer, detail });
    }

    fn push_event(&mut self, event: Event) {
        if let (
            Event::Progress { key, bytes },
            Some(Event::Progress {
                key: last,
                bytes: known,
            }),
        ) = (&event, self.events.back_mut())
            && key == last
        {
            *known = *bytes;
            return;
        }
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Every neighbour may have something to be asked for.
    fn stir(&mut self) {
        for neighbour in self.neighbours.values_mut() {
            neighbour.is_stirred = true;
        }
    }
}

impl From<Trouble> for FailReason {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Quota => Self::Quota,
            Trouble::DiskFull => Self::DiskFull,
            Trouble::Storage => Self::Storage,
        }
    }
}

/// For whom a want is.
fn purpose_of(want: &Want) -> Purpose {
    if want.app.is_some() {
        Purpose::App
    } else {
        Purpose::Neighbour
    }
}
