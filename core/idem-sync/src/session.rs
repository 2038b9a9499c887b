//! The state of replication with one peer.

mod links;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use idem_auth::Permit;
use idem_model::{ActorId, CollectionName, DatabaseId, LinkId, PeerId, Timestamp, limits};
use idem_query::{Reach, Selector, Window};
use idem_wire::{
    CAPABILITY_BIG_PEER, CAPABILITY_DURABLE, CAPABILITY_SUBSCRIBES, CAPABILITY_WHOLE, Hello, Lane,
    Message, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, Resumption, SubscriptionId,
};

use crate::{
    attachment::{Attachment, Lasting, Terms},
    carriage::{counted_lane, place},
    event::{CloseReason, Event},
    failure::Failure,
    few::Few,
    known::Known,
    replica::Replica,
    sight::Sight,
    sink::Offer,
    sketch::Salt,
    spent::Spent,
    stale::Stale,
    statements::Statements,
    untaken::Untaken,
    wanted::{Ends, Service, Wanted, subscription_set_hash},
};

/// What a session needs to know of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LinkProperties {
    /// The largest frame that the link carries, at most `limits::FRAME_BYTES_MAX`.
    pub frame_bytes_max: u32,
    /// The place of the link among those to the same peer: the lowest one is used, and changes when a
    /// better one comes up. The default is 0. The owner ranks by cost, then by speed, and should not
    /// change its mind for little: what is under way is sent again. Of the two peers, the ranks of the
    /// one with the smaller id count.
    pub rank: u32,
}

impl Default for LinkProperties {
    fn default() -> Self {
        Self {
            frame_bytes_max: u32::try_from(limits::FRAME_BYTES_MAX)
                .expect("the frame limit is far below 4 GiB"),
            rank: 0,
        }
    }
}

/// How urgent a subscription's catch-up is beside others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Priority {
    /// Before the rest.
    High,
    /// In the order of subscribing.
    #[default]
    Normal,
    /// After the rest.
    Low,
}

/// What becomes of a document that none of the subscriptions of a peer selects any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum OnLeave {
    /// It stays as it was when it left, and a peer that goes on from a cursor keeps it up to date. One
    /// that has to compare first does not tell of it before it changes again.
    #[default]
    Keep,
    /// It is evicted once a peer that keeps it has said that it left, unless something is here that
    /// this peer does not have.
    Evict,
}

/// How a subscription is to be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubscriptionTerms {
    /// How urgent its catch-up is.
    pub priority: Priority,
    /// What becomes of documents that leave it.
    pub on_leave: OnLeave,
}

impl From<Priority> for SubscriptionTerms {
    fn from(priority: Priority) -> Self {
        Self {
            priority,
            ..Self::default()
        }
    }
}

/// What a session is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    /// What both peers must belong to.
    pub database: DatabaseId,
    /// This peer.
    pub local: PeerId,
    /// The other peer, as the link authenticated it.
    pub remote: PeerId,
    /// Feeds every choice that is not determined otherwise; draw it at random per session.
    pub seed: u64,
}

/// A frame to hand to a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Over which link.
    pub link: LinkId,
    /// On which lane.
    pub lane: Lane,
    /// The bytes.
    pub frame: Vec<u8>,
}

/// Counters since the session began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct SessionStats {
    /// Frames handed to links.
    pub frames_sent: u64,
    /// Bytes of those frames.
    pub bytes_sent: u64,
    /// Frames taken in.
    pub frames_received: u64,
    /// Bytes of those frames.
    pub bytes_received: u64,
    /// Documents sent, whole or as deltas.
    pub documents_sent: u64,
    /// Of those, as deltas.
    pub deltas_sent: u64,
    /// Bytes of what was sent of them, before it was compressed.
    pub document_bytes_sent: u64,
    /// Documents merged that told something that was not known here.
    pub documents_changed: u64,
    /// Documents received that told nothing that was not known here.
    pub documents_unchanged: u64,
    /// Documents that were announced in place of being sent.
    pub documents_announced: u64,
    /// Of those, the ones that the remote asked for.
    pub documents_pulled: u64,
    /// Documents sent with the notice that they match none of the remote's subscriptions.
    pub leaves_sent: u64,
    /// Documents evicted here because they left.
    pub documents_evicted: u64,
    /// Documents whose version at the remote is remembered now.
    pub known_versions: u64,
    /// How often another link went on with what was under way.
    pub moves: u64,
    /// Bytes that wait now: to be sent, to be confirmed while there are several links, or for the rest of
    /// their batch to come in.
    pub queued_bytes: u64,
}

/// Why a subscription is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// Over `limits::SUBSCRIPTIONS_PER_SESSION_MAX`.
    #[error("{limit} subscriptions per peer are the limit")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Over `limits::SUBSCRIPTION_STATEMENT_BYTES_MAX`.
    #[error("subscription of {bytes} bytes is over the limit of {limit}")]
    StatementTooLong {
        /// Length of its canonical statement.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// The smallest frame limit and lane credit that a remote may announce: less carries no document of
/// ordinary size.
pub(crate) const FRAME_BYTES_MIN: u32 = 16 * 1024;

/// The state of replication with one peer.
///
/// The methods come in four kinds:
///
/// - `handle_*` take in what happened: links, frames, commits, time;
/// - `subscribe`, `unsubscribe` and `close` are what the application wants;
/// - `poll_*` give what must leave;
/// - the rest looks only.
///
/// After any call of the first two kinds, poll in this order: [`Session::poll_transmit`] until it
/// gives `None` or the link takes no more (then again when it does), [`Session::poll_event`] until
/// `None`, and [`Session::poll_timeout`] once, which replaces the timer set before. `now` is the time
/// since any fixed moment of the owner's choice; it must not fall.
///
/// State is read when it is sent: documents are fetched from the [`Replica`] inside `poll_transmit`,
/// as the credit of the remote and the owner's polling allow, so a busy link costs no memory, and a
/// document that changes ten times meanwhile is sent once. Nothing is sent that is not durable here,
/// and nothing is acknowledged that is not durable here.
///
/// A session uses one of its links at a time, which the peer with the smaller id chooses, and the
/// others stand by. When the link in use dies, or a better one comes up, both sides go on over another
/// one where they were: what was under way is sent again, and taken in once. Without another link, and
/// where a side has nothing left to go on with, the next one is greeted, and both go on from the cursors
/// that the receiver stored: every message may arrive twice without harm.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    links: Few<LinkId, links::LinkState>,
    /// The last choice of a link that was made, or followed.
    choice: u64,
    /// The last choice of which a MOVE was followed, and of which life of the leader: before its greeting nothing
    /// else says so.
    followed: Option<(u64, u64)>,
    attachment: Option<Attachment>,
    /// What is said about links, and does not count on them.
    notices: VecDeque<Transmit>,
    wanted: Wanted,
    /// Whether the store here may lose documents.
    is_forgetful: bool,
    statements: Statements,
    /// What the remote subscribed to when it was last heard of.
    standing: Few<SubscriptionId, Service>,
    /// What the remote has asked for on links that are gone.
    spent: Spent,
    known: Known,
    stale: Stale,
    /// Documents of the remote that were not taken in.
    untaken: Untaken,
    /// Which life of the remote session, and of its store, `known` is about.
    remote_instance: Option<(u64, ActorId)>,
    /// Whether the remote is a Big Peer, once it has said so.
    is_remote_big: Option<bool>,
    /// Subscriptions that the remote did not serve on the last link because of its sync scopes.
    closed_there: BTreeSet<SubscriptionId>,
    /// Whether the others were told that all that is wanted comes from this remote.
    is_source: bool,
    /// What the remote may be told of.
    sight: Sight,
    events: VecDeque<Event>,
    stats: SessionStats,
}

impl Session {
    /// A session without links and subscriptions.
    pub fn new(config: SessionConfig) -> Self {
        Self::between(config, Ends::default())
    }

    /// A session of which one end or both are relays.
    pub fn between(config: SessionConfig, ends: Ends) -> Self {
        Self {
            config,
            is_forgetful: false,
            links: Few::default(),
            choice: 0,
            followed: None,
            attachment: None,
            notices: VecDeque::new(),
            wanted: Wanted::between(ends),
            statements: Statements::default(),
            standing: Few::default(),
            spent: Spent::default(),
            known: Known::default(),
            stale: Stale::default(),
            untaken: Untaken::default(),
            remote_instance: None,
            is_remote_big: None,
            closed_there: BTreeSet::new(),
            is_source: false,
            sight: Sight::default(),
            events: VecDeque::new(),
            stats: SessionStats::default(),
        }
    }

    // Input.

    /// A frame came in. It may hold anything: what breaks a rule ends the link with
    /// [`Event::Closed`].
    pub fn handle_frame<R: Replica>(
        &mut self,
        now: Duration,
        replica: &mut R,
        link: LinkId,
        frame: &[u8],
    ) {
        if !self.links.contains_key(&link) {
            return;
        }
        self.stats.frames_received += 1;
        self.stats.bytes_received += frame.len() as u64;
        let result = match Message::decode(frame) {
            Ok(Message::Hello(hello)) => self
                .handle_hello(now, replica, link, &hello)
                .map(|()| self.handle_early_frames(now, replica, link)),
            Ok(Message::Bye { code, detail }) => {
                self.handle_bye(now, link, code, detail);
                Ok(())
            }
            Ok(Message::Move(it)) => self.handle_move(now, link, it),
            Ok(Message::Lost { instance, number }) => {
                self.handle_lost(now, link, (instance, number))
            }
            Ok(message) if !self.takes(link, &message) => Ok(()),
            Err(_) if self.active_link() != Some(link) => Ok(()),
            // Lanes may overtake each other, and who resumes sends at once behind its HELLO.
            Ok(Message::Transfer(_) | Message::Have { .. } | Message::Floor { .. })
                if !self.is_established() =>
            {
                self.with_attachment(|attachment, _| attachment.keep_early(frame))
            }
            Ok(message) => self.with_attachment(|attachment, lasting| {
                if let Some(lane) = counted_lane(&message).and_then(place) {
                    attachment.carriage.receive(now, lane, frame.len());
                }
                attachment.handle(now, replica, lasting, frame.len(), message)
            }),
            Err(error) => Err(error.into()),
        };
        if let Err(failure) = result {
            self.fail(now, link, failure);
        }
        self.gather(now, replica);
    }

    /// The store's [`Replica::durable_commit`] rose, so there may be something to send or to
    /// acknowledge. All of it happens in [`Session::poll_transmit`].
    pub fn handle_commit<R: Replica>(&mut self, now: Duration, replica: &mut R) {
        self.check_actor(now, replica);
        self.gather(now, replica);
    }

    /// The time of [`Session::poll_timeout`] has come.
    pub fn handle_timeout<R: Replica>(&mut self, now: Duration, replica: &mut R) {
        if let Some(attachment) = &mut self.attachment {
            attachment.handle_timeout(now);
            self.handle_overdue(now);
        }
        self.gather(now, replica);
    }

    // Commands.

    /// Asks the remote for what `selector` selects, on this link and all later ones. Asking again
    /// for the same gives the same name, and the terms of the first time; it ends when it was given
    /// back as often.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn subscribe(
        &mut self,
        selector: &Selector,
        terms: impl Into<SubscriptionTerms>,
    ) -> Result<SubscriptionId, SubscribeError> {
        let (subscription, is_added) = self.wanted.add(selector, terms.into())?;
        if is_added && let Some(attachment) = &mut self.attachment {
            attachment.want(subscription);
        }
        Ok(subscription)
    }

    /// From the next HELLO on the remote is told that documents may have gone from here without notice, so that
    /// it sends them whole and not as what is new in them.
    pub(crate) fn set_forgetful(&mut self) {
        self.is_forgetful = true;
    }

    /// Asks for it no longer. What is held stays.
    pub fn unsubscribe(&mut self, subscription: SubscriptionId) {
        if self.wanted.remove(subscription)
            && let Some(attachment) = &mut self.attachment
        {
            attachment.unwant(subscription);
        }
    }

    /// What the remote may read, from now on (not enforced yet): documents beyond it are neither sent nor mentioned, and the
    /// remote is asked to let go of those that it was given. `None`, as at the beginning, is everything, and
    /// costs nothing. To be called before the first link is up, and again when another certificate of the
    /// remote counts; one that reads alike changes nothing.
    pub fn set_permit(&mut self, _now: Duration, permit: Option<Arc<Permit>>) {
        self.sight = Sight::of(permit);
    }

    /// Hands bytes of this side's mesh to that of the remote, which gets them as [`Event::Gossip`], before
    /// any documents. Gives false, and sends nothing, while the session is not established, and when the
    /// remote reads too slowly. What was sent before [`Event::Established`] may be lost: start anew then.
    ///
    /// # Panics
    /// If there are none, or more than `limits::GOSSIP_BYTES_MAX`: a mesh makes no such gossip.
    pub fn gossip(&mut self, bytes: &[u8]) -> bool {
        assert!((1..=limits::GOSSIP_BYTES_MAX).contains(&bytes.len()));
        if !self.is_established() {
            return false;
        }
        let attachment = self.attachment.as_mut();
        attachment.is_some_and(|it| it.queue(Message::Gossip { bytes }.to_bytes()).is_ok())
    }

    /// Asks the remote how far the first `count` documents of a window go there. The answer comes as
    /// [`Event::ReachTold`]; none comes if the link ends before, or a later question has the same number.
    /// Gives false, and asks nothing, while the session is not established, while a sync scope of this side
    /// leaves the remote out, and when the remote reads too slowly.
    ///
    /// # Panics
    /// If `number` or `count` is over its limit: [`limits::WINDOWS_PER_SESSION_MAX`],
    /// [`limits::WINDOW_COUNT_MAX`].
    pub fn ask_reach<R: Replica>(
        &mut self,
        replica: &R,
        number: u8,
        count: u32,
        window: &Window,
    ) -> bool {
        assert!(number < limits::WINDOWS_PER_SESSION_MAX);
        assert!((1..=limits::WINDOW_COUNT_MAX).contains(&count));
        self.is_established()
            && (self.attachment.as_mut())
                .is_some_and(|it| it.ask_reach(replica, number, count, window))
    }

    /// Answers [`Event::ReachAsked`], with its `number` and `count`. What is told of a collection that a
    /// sync scope closes is only that. Gives false, and says nothing, when the remote reads too slowly.
    pub fn tell_reach<R: Replica>(
        &mut self,
        replica: &R,
        window: &Window,
        (number, count): (u8, u32),
        reach: &Result<Reach, String>,
    ) -> bool {
        let collection = window.selector().collection();
        self.is_established()
            && (self.attachment.as_mut())
                .is_some_and(|it| it.tell_reach(replica, collection, (number, count), reach))
    }

    // Output.

    /// The next frame to send; call until `None`, as long as the link takes frames.
    pub fn poll_transmit<R: Replica>(&mut self, now: Duration, replica: &R) -> Option<Transmit> {
        self.check_actor(now, replica);
        self.move_to_better(now);
        let transmit = match self.notices.pop_front() {
            Some(notice) => notice,
            None => self.poll_attachment(now, replica)?,
        };
        self.stats.frames_sent += 1;
        self.stats.bytes_sent += transmit.frame.len() as u64;
        Some(transmit)
    }

    /// When to call [`Session::handle_timeout`] and then poll again, whatever happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let timeout = self.attachment.as_ref().and_then(Attachment::timeout);
        // The other sessions are to hear soon that this one ended.
        let is_gone = self.is_source && self.attachment.is_none();
        is_gone.then_some(Duration::ZERO).or(timeout)
    }

    /// What happened; call until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // A session at rest has none.
            self.events.shrink_to_fit();
        }
        event
    }

    // Getters.

    /// The peer that this session is with.
    pub fn remote(&self) -> PeerId {
        self.config.remote
    }

    /// Whether the handshake is done on a link that is up.
    pub fn is_established(&self) -> bool {
        self.attachment
            .as_ref()
            .is_some_and(|attachment| attachment.version().is_some())
    }

    /// Whether the remote may not read everything ([`Session::set_permit`]).
    pub fn is_restricted(&self) -> bool {
        !self.sight.is_whole()
    }

    /// The link in use, or the one over which the session is to go on.
    pub fn active_link(&self) -> Option<LinkId> {
        self.attachment.as_ref().map(|attachment| attachment.link)
    }

    /// The local commit up to which the remote has confirmed to hold, durably, all that it subscribes
    /// to. `None` without a link, and while the remote has not said what it subscribes to.
    ///
    /// It falls when the remote asks for more, and rises again as that arrives. It does not pass what
    /// the remote was sent and does not hold ([`Event::NotHeld`]) until it is sent again.
    pub fn confirmed_commit(&self) -> Option<u64> {
        self.attachment.as_ref().and_then(Attachment::confirmed)
    }

    /// The collections of which the remote wants documents, as far as it has said on the link in use.
    pub fn remote_collections(&self) -> impl Iterator<Item = &CollectionName> {
        let attachment = self.attachment.iter();
        attachment.flat_map(Attachment::remote_collections)
    }

    /// What the remote wants, as far as it has said on the link in use and is served.
    pub(crate) fn remote_subscriptions(&self) -> impl Iterator<Item = SubscriptionId> + '_ {
        let attachment = self.attachment.iter();
        attachment.flat_map(Attachment::remote_subscriptions)
    }

    /// Counters since the session began.
    pub fn stats(&self) -> SessionStats {
        SessionStats {
            known_versions: self.known.len() as u64,
            queued_bytes: self.attachment.as_ref().map_or(0, Attachment::queued_bytes),
            ..self.stats
        }
    }

    /// Shares what this session knows with the others of this peer, and takes from them.
    fn gather<R: Replica>(&mut self, now: Duration, replica: &mut R) {
        let Some(gathering) = replica.gathering() else {
            return;
        };
        let attachment = self.attachment.as_ref();
        let is_source = attachment.is_some_and(|it| it.is_live(&self.wanted));
        if std::mem::replace(&mut self.is_source, is_source) != is_source {
            gathering.set_source(self.config.remote, is_source);
        }
        let Some(link) = self.active_link() else {
            return;
        };
        let gathered =
            self.with_attachment(|attachment, lasting| attachment.gather(now, replica, lasting));
        if let Err(failure) = gathered {
            self.fail(now, link, failure);
        }
    }

    fn handle_hello<R: Replica>(
        &mut self,
        now: Duration,
        replica: &R,
        link: LinkId,
        hello: &Hello,
    ) -> Result<(), Failure> {
        let version = self.check_hello(hello)?;
        if self.is_outdated(link, hello) {
            return self.with_attachment(|attachment, _| attachment.count_request(now));
        }
        let is_first = match &self.attachment {
            Some(attachment) if attachment.link == link => attachment.version().is_none(),
            _ => false,
        };
        if self.is_leader() {
            if !is_first {
                let detail = "second HELLO on a link";
                return Err(Failure::new(CloseReason::Malformed, detail));
            }
        } else {
            // The leader's HELLO chooses the link, and starts anew.
            self.choice = hello.choice;
            self.attach(now, link, true);
        }
        self.with_attachment(|attachment, _| attachment.count_request(now))?;
        if self.remote_instance != Some((hello.instance, hello.actor)) {
            self.remote_instance = Some((hello.instance, hello.actor));
            self.known.clear();
            self.stale.clear();
        }
        self.wanted.is_remote_forgetful = hello.capabilities & CAPABILITY_WHOLE != 0;
        self.is_remote_big = Some(hello.capabilities & CAPABILITY_BIG_PEER != 0);
        self.compare_clocks(replica.timestamp(), hello.timestamp);
        // The follower offers in its HELLO, which is made before anything is subscribed to.
        self.prepare_offer(replica)?;
        self.push_event(Event::Established {
            link,
            peer: self.config.remote,
            version,
        });
        let terms = Terms {
            remote: self.config.remote,
            version,
            salt: self.salt(hello.instance),
            is_leader: self.is_leader(),
        };
        self.with_attachment(|attachment, lasting| {
            attachment.establish(now, replica, lasting, hello, terms)
        })
    }

    /// Takes in what came before the HELLO of the remote.
    fn handle_early_frames<R: Replica>(&mut self, now: Duration, replica: &mut R, link: LinkId) {
        let early = match &mut self.attachment {
            Some(attachment) => attachment.take_early(),
            None => return,
        };
        for frame in early {
            self.stats.frames_received -= 1;
            self.stats.bytes_received -= frame.len() as u64;
            self.handle_frame(now, replica, link, &frame);
        }
    }

    fn check_hello(&self, hello: &Hello) -> Result<u16, Failure> {
        let failure = |reason, detail| Err(Failure::new(reason, detail));
        if hello.database != database_hash(self.config.database) {
            return failure(CloseReason::Database, "another database");
        }
        if hello.frame_bytes_max < FRAME_BYTES_MIN || hello.lane_credit_bytes < 2 * FRAME_BYTES_MIN
        {
            return failure(CloseReason::Limit, "frame limit or credit too small");
        }
        let version = self.hello(Default::default()).common_version(hello);
        version.ok_or_else(|| {
            let detail = format!(
                "speaks versions {} to {}, this peer {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION_MAX}",
                hello.version_min, hello.version_max
            );
            Failure::new(CloseReason::Version, &detail)
        })
    }

    fn compare_clocks(&mut self, ours: Timestamp, theirs: Timestamp) {
        let ahead_ms = theirs.unix_ms().cast_signed() - ours.unix_ms().cast_signed();
        // A store that holds nothing has no time to compare.
        let both_know = ours != Timestamp::ZERO && theirs != Timestamp::ZERO;
        if both_know && ahead_ms.unsigned_abs() >= limits::CLOCK_SKEW_FOLLOW_MS {
            self.push_event(Event::ClockSkew { ahead_ms });
        }
    }

    /// Everything that counts in lives of the store must start again when the store takes a new one.
    fn check_actor<R: Replica>(&mut self, now: Duration, replica: &R) {
        let Some(attachment) = &self.attachment else {
            return;
        };
        if attachment
            .actor
            .is_some_and(|actor| actor != replica.actor())
        {
            let link = attachment.link;
            let failure = Failure::new(CloseReason::ActorRenewed, "the store took a new actor");
            self.fail(now, link, failure);
        }
    }

    fn poll_attachment<R: Replica>(&mut self, now: Duration, replica: &R) -> Option<Transmit> {
        let attachment = self.attachment.as_mut()?;
        let link = attachment.link;
        if std::mem::take(&mut attachment.hello_due) {
            attachment.actor = Some(replica.actor());
            if let Err(failure) = self.prepare_offer(replica) {
                self.fail(now, link, failure);
                return self.notices.pop_front();
            }
            let durable = replica.durable_timestamp();
            let mut hello = self.hello(durable.unwrap_or_else(|| replica.timestamp()));
            hello.gc_floor = replica.gc_floor();
            if durable.is_some() {
                hello.capabilities |= CAPABILITY_DURABLE;
            }
            if let Some(attachment) = &mut self.attachment {
                attachment.floor_told = hello.gc_floor;
            }
            if self.is_forgetful {
                hello.capabilities |= CAPABILITY_WHOLE;
            }
            hello.actor = replica.actor();
            hello.resumption = self.attachment.as_ref().and_then(|it| it.resumption);
            let asks = self.wanted.ids().any(|it| self.is_open(it, replica));
            if hello.resumption.is_none() && asks {
                hello.capabilities |= CAPABILITY_SUBSCRIBES;
            }
            return Some(Transmit {
                link,
                lane: Lane::Control,
                frame: Message::Hello(hello).to_bytes(),
            });
        }
        let polled = self
            .with_attachment(|attachment, lasting| attachment.poll_frame(now, replica, lasting));
        match polled {
            Ok(frame) => frame.map(|(lane, frame)| Transmit { link, lane, frame }),
            Err(failure) => {
                self.fail(now, link, failure);
                self.notices.pop_front()
            }
        }
    }

    fn hello(&self, timestamp: Timestamp) -> Hello {
        let frame_bytes_max = u32::try_from(limits::FRAME_BYTES_MAX).expect("far below 4 GiB");
        Hello {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION_MAX,
            database: database_hash(self.config.database),
            actor: ActorId([0; 16]),
            instance: self.config.seed,
            timestamp,
            frame_bytes_max,
            lane_credit_bytes: limits::LANE_CREDIT_BYTES,
            capabilities: 0,
            gc_floor: Timestamp::ZERO,
            choice: self.choice,
            resumption: None,
        }
    }

    /// Drawn by both sides anew for each pair of sessions, so that nobody can prepare documents that
    /// look alike, and two that do so by chance do not for ever.
    fn salt(&self, remote_instance: u64) -> Salt {
        let ours = self.config.seed;
        let (leader, follower) = if self.is_leader() {
            (ours, remote_instance)
        } else {
            (remote_instance, ours)
        };
        let mut hasher = blake3::Hasher::new_derive_key("idem sync salt of sketches, version 1");
        hasher.update(&self.config.database.0);
        hasher.update(&leader.to_be_bytes());
        hasher.update(&follower.to_be_bytes());
        let mut salt = [0; 16];
        hasher.finalize_xof().fill(&mut salt);
        Salt(salt)
    }

    /// Whether a subscription is to a collection that syncs with the remote. While it is not known which
    /// kind of peer that is, only what syncs with both kinds does.
    fn is_open<R: Replica>(&self, subscription: SubscriptionId, replica: &R) -> bool {
        let Some(selector) = self.wanted.stored(subscription) else {
            return false;
        };
        let scope = replica.sync_scope(selector);
        match self.is_remote_big {
            Some(is_big) => scope.includes(is_big),
            None => scope.includes(true) && scope.includes(false),
        }
    }

    /// Decides whether this side offers to go on with all its subscriptions, once per link.
    fn prepare_offer<R: Replica>(&mut self, replica: &R) -> Result<(), Failure> {
        let is_due = |it: &mut Attachment| !std::mem::replace(&mut it.is_offer_made, true);
        if !self.attachment.as_mut().is_some_and(is_due) {
            return Ok(());
        }
        let mut set = self.wanted.set();
        set.retain(|it, _| self.is_open(*it, replica) && !self.closed_there.contains(it));
        let mut cursors = Vec::with_capacity(set.len());
        let mut actor = None;
        for subscription in set.keys() {
            let cursor = replica.cursor(self.config.remote, *subscription);
            let Some(cursor) = cursor.map_err(|error| Failure::store(&error))? else {
                return Ok(());
            };
            if actor.is_some_and(|actor| actor != cursor.actor) {
                return Ok(());
            }
            actor = Some(cursor.actor);
            cursors.push((*subscription, cursor.commit));
        }
        let Some(actor) = actor else {
            return Ok(());
        };
        let Some(attachment) = &mut self.attachment else {
            return Ok(());
        };
        let offer = Offer { cursors, actor };
        attachment.resumption = Some(Resumption {
            subscriptions: subscription_set_hash(&set),
            actor: *actor.0.first_chunk().expect("an actor has 16 bytes"),
            commit: offer.commit(),
        });
        attachment.offer = Some(offer);
        Ok(())
    }

    /// Runs `action` on the attachment together with what outlives it.
    fn with_attachment<T: Default>(
        &mut self,
        action: impl FnOnce(&mut Attachment, &mut Lasting<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(attachment) = &mut self.attachment else {
            return Ok(T::default());
        };
        let mut events = Vec::new();
        let mut lasting = Lasting {
            known: &mut self.known,
            stale: &mut self.stale,
            untaken: &mut self.untaken,
            wanted: &self.wanted,
            statements: &mut self.statements,
            standing: &mut self.standing,
            stats: &mut self.stats,
            events: &mut events,
        };
        let result = action(attachment, &mut lasting);
        events.into_iter().for_each(|event| self.push_event(event));
        result
    }

    fn push_event(&mut self, event: Event) {
        // Progress adds up while nobody looks.
        if let Event::Applied { documents, bytes } = &event
            && let Some(Event::Applied {
                documents: waiting,
                bytes: waiting_bytes,
            }) = self.events.back_mut()
        {
            *waiting += documents;
            *waiting_bytes += bytes;
            return;
        }
        if self.events.len() >= limits::SESSION_EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Both peers prove that they mean the same database without naming it to others.
fn database_hash(database: DatabaseId) -> [u8; 8] {
    let hash = blake3::derive_key("idem sync database id, version 1", &database.0);
    *hash.first_chunk().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHES: &str = include_str!("../../../vectors/wire/hashes.txt");

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn what_two_peers_share_is_hashed_as_it_was() {
        let database = DatabaseId(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let hash = hex(&database_hash(database));
        let known = hex(&database.0);
        let line = format!("hash of the database | database {known} | {hash}\n");
        assert!(HASHES.contains(&line), "{line}");

        let instances = [0x0102_0304_0506_0708, 0xf1f2_f3f4_f5f6_f7f8];
        let session = |local, remote, seed| {
            Session::new(SessionConfig {
                database,
                local: PeerId([local; 32]),
                remote: PeerId([remote; 32]),
                seed,
            })
        };
        let [smaller, larger] = instances;
        let salt = session(1, 2, smaller).salt(larger);
        assert_eq!(session(2, 1, larger).salt(smaller), salt);
        let salt = hex(&salt.0);
        let line = format!(
            "salt | database {known} smaller {smaller:016x} larger {larger:016x} | {salt}\n"
        );
        assert!(HASHES.contains(&line), "{line}");
    }
}
