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

use asking::Offer;

use crate::{
    event::{Event, FailReason},
    neighbour::Neighbour,
    port::{Blobs, Trouble},
    questions::Questions,
    want::{App, Want},
};

/// How long a neighbour may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How much longer for each peer that the question may go over: so who waits for somebody that does not answer
/// gives up before he is given up.
const HOP_TIMEOUT: Duration = Duration::from_secs(1);

/// For how long nothing may come before a blob is looked for elsewhere, for neighbours.
const IDLE: Duration = Duration::from_secs(5);

/// And for the app.
const SEARCH_AGAIN: Duration = Duration::from_secs(10);

/// How often everybody is asked by a fetch, at most.
const ROUND_EVERY: Duration = Duration::from_secs(2);

/// For how long nothing may come for neighbours before that ends. Peers that wait for each other come to an
/// end so.
pub(crate) const RELAY_STALL: Duration = Duration::from_secs(60);

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
    /// Over how many peers the question is passed on, at most `limits::BLOB_HOPS_MAX`, the default. 0 asks
    /// neighbours only. Those near are asked first.
    pub hops: u8,
}

impl Default for FetchTerms {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            hops: limits::BLOB_HOPS_MAX,
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
#[derive(Debug)]
pub struct Exchange {
    neighbours: BTreeMap<PeerId, Neighbour>,
    wants: BTreeMap<BlobKey, Want>,
    events: VecDeque<Event>,
    /// Who had a turn last.
    turn: Option<PeerId>,
    /// When to look for parts that are under way for long.
    tick_at: Duration,
    questions: Questions,
}

impl Exchange {
    /// An exchange without neighbours. The numbers of its questions follow from `seed`: another one for
    /// each exchange.
    pub fn new(seed: u64) -> Self {
        Self {
            neighbours: BTreeMap::new(),
            wants: BTreeMap::new(),
            events: VecDeque::new(),
            turn: None,
            tick_at: Duration::ZERO,
            questions: Questions::new(seed),
        }
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
            self.ask_one(now, key, peer);
            self.settle(now, blobs, key);
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
            want.strikes.remove(&peer);
            for search in want.searches.values_mut() {
                search.waiting.remove(&peer);
            }
            self.forget_asker(peer, key);
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
            BlobMessage::Ask {
                key,
                hops,
                question,
            } => self.handle_ask(now, blobs, peer, key, (hops, question)),
            BlobMessage::HaveAll { key } => {
                self.handle_have(now, blobs, peer, key, Offer::All);
            }
            BlobMessage::HaveSome { key, runs } => {
                self.handle_have(now, blobs, peer, key, Offer::Groups(runs));
            }
            BlobMessage::Wait { key, is_own } => {
                self.handle_have(now, blobs, peer, key, Offer::Later { is_own });
            }
            BlobMessage::Lack {
                key,
                question,
                hops,
                is_busy,
            } => self.handle_lack(now, blobs, peer, (key, question, hops, is_busy)),
            BlobMessage::Withdraw { key, keeps } => {
                self.handle_withdraw(now, blobs, peer, key, keeps);
            }
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
            self.expire_searches(now, key);
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
        let terms = FetchTerms {
            hops: terms.hops.min(limits::BLOB_HOPS_MAX),
            ..terms
        };
        let is_known = self.wants.contains_key(&key);
        if !is_known && self.fetches() >= limits::BLOB_FETCHES_MAX {
            let reason = FailReason::Quota;
            self.push_event(Event::Failed { key, reason });
            return;
        }
        let want = self.wants.entry(key).or_insert_with(|| Want::new(now));
        want.progress_at = now;
        let is_new = want.app.replace(App::new(now, terms)).is_none();
        if is_new
            && want.work.is_some()
            && let Err(trouble) = blobs.adopt(key)
        {
            self.fail(blobs, key, trouble.into());
            return;
        }
        if !want.is_hopeful_without(None) {
            self.start_round(now, key, 0);
        }
        self.settle(now, blobs, key);
    }

    /// The app does not want a blob any more. What is here of it stays for the next time.
    pub fn cancel(&mut self, now: Duration, blobs: &mut impl Blobs, key: BlobKey) {
        if let Some(want) = self.wants.get_mut(&key) {
            want.app = None;
            self.settle(now, blobs, key);
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
            times.extend(want.searches.values().map(|search| search.until));
            times.push(want.overdue_at());
            times.extend(self.renew_at(want));
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

    /// When everybody is asked again for a blob that the app fetches, or the fetch ends.
    fn renew_at(&self, want: &Want) -> Option<Duration> {
        let app = want.app.as_ref()?;
        if let Some(since) = app.quiet_since {
            let pause = if app.is_busy { app.pause } else { SETTLE };
            return Some(since + pause).filter(|_| !self.neighbours.is_empty());
        }
        let is_asking = want.is_asking();
        let last = want.progress_at.max(app.asked_at);
        Some(last + SEARCH_AGAIN).filter(|_| !is_asking)
    }

    /// Ends a fetch for which nothing came for too long or that nobody can serve, and looks for other ways.
    fn check_overdue(&mut self, now: Duration, blobs: &mut impl Blobs, key: BlobKey) {
        let Some(want) = self.wants.get(&key) else {
            return;
        };
        if now >= want.overdue_at() {
            let app = want.app.as_ref();
            let is_quiet = app.is_some_and(|app| app.quiet_since.is_some() && !app.is_busy);
            let reason = match (is_quiet, want.was_damaged()) {
                (true, true) => FailReason::Damaged,
                (true, false) => FailReason::NobodyHasIt,
                (false, _) => FailReason::TimedOut,
            };
            self.fail(blobs, key, reason);
            return;
        }
        let is_due = self.renew_at(want).is_some_and(|at| now >= at);
        if is_due
            && want
                .app
                .as_ref()
                .is_some_and(|app| app.quiet_since.is_some())
        {
            self.reconsider(now, blobs, key);
        } else if is_due {
            // Somebody has it and gives nothing.
            self.start_round(now, key, usize::MAX);
        }
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

    /// Nobody wants a blob any more, or nobody gets it.
    fn drop_want(&mut self, blobs: &mut impl Blobs, key: BlobKey) {
        let Some(want) = self.wants.remove(&key) else {
            return;
        };
        for (peer, neighbour) in &mut self.neighbours {
            if want.sources.contains_key(peer) || want.is_awaiting(*peer) {
                neighbour.release(|flight| flight.key == key);
                neighbour.push(&BlobMessage::Cancel { key });
            }
            if want.followers.contains_key(peer) {
                let keeps = false;
                neighbour.push(&BlobMessage::Withdraw { key, keeps });
            }
            neighbour.forget(key);
        }
        for (question, search) in &want.searches {
            self.answer_lack(key, *question, search);
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
