//! The thread that runs replication: it owns the sessions, and is the only one that calls them.
//!
//! Frames come in through the [`Inbox`] from the tasks of links, and go out into the queues of links.
//! A session is asked for frames only while the links of its peer have room, so what is under way is
//! bounded by the queues; what must be sent later is in the store, not in memory.

mod relaying;
mod trusting;
mod wants;
mod windows;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use idem_auth::TrustFrame;
use idem_model::{DatabaseId, Lane, Object, PeerId, limits};
use idem_query::Selector;
use idem_sync::{
    CloseReason, Event, LinkId, Relay, RelayKind, Session, SessionConfig, SubscriptionId, Transmit,
    relay_kind,
};
use idem_transport::{LinkProperties, LinkSender, TrySendError};
use idem_wire::BlobMessage;

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    blobs::Blobs,
    board::Board,
    conditions::Conditions,
    desk::Desk,
    inbox::{Inbox, Input, Pending, Sighting},
    links::{Parting, connection, rank},
    meeting::Meeting,
    replica::StoreReplica,
    syncer::Syncer,
    transport::{ConditionKind, TransportCondition},
    windows::Windows,
};

use relaying::Relaying;
use wants::{Want, name_of, reconcile, subscribe_declarations};
use windows::Followed;

/// See [`declarations`].
const DECLARATIONS: &str = "SELECT * FROM __collections";

/// How long what was applied waits for its write to the disk, so that one write takes it along with
/// what follows from it: the acknowledgement is later by this, and an answer that the app gives
/// meanwhile leaves after one write and not after two. Not while there are several links, for what
/// came over one may go on over another after that write, and not behind much, for then the next part
/// of it is merged meanwhile.
const SYNC_DELAY: Duration = Duration::from_micros(500);

/// The lanes that sessions use.
const SESSION_LANES: [Lane; 3] = [Lane::Control, Lane::Interactive, Lane::Bulk];

/// More than this is much.
const SYNC_DELAY_BYTES_MAX: usize = 16 * 1024;

/// Frames that one session may hand out before the others have their turn.
const FRAMES_PER_TURN: usize = 64;

pub(crate) struct Driver {
    replica: StoreReplica,
    board: Arc<Board>,
    conditions: Arc<Conditions>,
    blobs: Arc<Blobs>,
    database: DatabaseId,
    local: PeerId,
    start: Instant,
    links: BTreeMap<LinkId, LinkState>,
    /// Boxed, since a tree makes room for up to eleven where it holds five.
    peers: BTreeMap<PeerId, Box<PeerState>>,
    meeting: Meeting,
    relaying: Relaying,
    syncer: Syncer,
    /// In a database with authorities.
    desk: Option<Arc<Desk>>,
    windows: Windows,
    /// When what was applied is written to the disk at the latest.
    sync_due: Option<Duration>,
}

struct LinkState {
    sender: LinkSender,
    /// Why it ends, and ends the task that reads from it.
    parting: Arc<Parting>,
    properties: LinkProperties,
}

struct PeerState {
    session: Session,
    links: BTreeSet<LinkId>,
    /// A frame that its link had no room for.
    unsent: Option<Transmit>,
    /// What the session was asked to want, by canonical text.
    wants: BTreeMap<String, Box<Want>>,
    /// How windows are asked for, by their canonical text.
    windows: BTreeMap<String, Followed>,
    /// Counts what the session began anew: what was asked before is void.
    epoch: u64,
    /// The subscription to the declarations of collections.
    declarations: Option<SubscriptionId>,
    /// Whether the session may have something to send.
    is_stirred: bool,
    /// What the board was told of the remote's confirmations.
    confirmed: Option<u64>,
    /// How often a link ended lately while another one stood by, and when it did last.
    lost_links: (u32, Duration),
    /// When it lost its last link.
    suspended_at: Option<Duration>,
    /// The link that blobs go over.
    blob_link: Option<LinkId>,
    /// The link that they may go over once our HELLO is out.
    blob_link_due: Option<LinkId>,
}

impl PeerState {
    /// A link ended while another one stood by: perhaps because it was only slow.
    fn note_lost_link(&mut self, now: Duration) {
        let count = self.lost_lately(now);
        self.lost_links = (count + 1, now);
    }

    fn lost_lately(&self, now: Duration) -> u32 {
        let (count, at) = self.lost_links;
        let is_lately = now < at + Duration::from_millis(limits::LINK_DOUBT_MS);
        if is_lately { count } else { 0 }
    }

    /// How long a link may be silent while another one stands by.
    fn silence_max(&self, now: Duration) -> Duration {
        let doublings = self.lost_lately(now).min(8);
        let silence = Duration::from_millis(limits::LINK_SILENCE_MS << doublings);
        silence.min(Duration::from_millis(limits::LINK_IDLE_TIMEOUT_MS))
    }
}

impl Driver {
    pub(crate) fn new(
        replica: StoreReplica,
        board: Arc<Board>,
        conditions: Arc<Conditions>,
        blobs: Arc<Blobs>,
        database: DatabaseId,
        local: PeerId,
        (meeting, relay): (Meeting, impl Fn(RelayKind) -> Relay),
    ) -> std::io::Result<Self> {
        Ok(Self {
            windows: Windows::start(replica.store().clone(), Arc::clone(meeting.inbox()))?,
            syncer: Syncer::start(replica.store().clone())?,
            replica,
            board,
            conditions,
            blobs,
            database,
            local,
            start: Instant::now(),
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            meeting,
            relaying: Relaying::new(relay),
            sync_due: None,
            desk: None,
        })
    }

    /// Has certificates judged, in a database with authorities.
    pub(crate) fn with_desk(mut self, desk: Option<Arc<Desk>>) -> Self {
        self.desk = desk;
        self
    }

    /// Works until the inbox is stopped.
    pub(crate) fn run(mut self, inbox: &Inbox) {
        self.windows.follow(&self.board.windows());
        loop {
            let pending = inbox.take(self.pause());
            let is_stopped = pending.is_stopped;
            let has_local_commit = pending.has_relaxed_commit;
            if has_local_commit && pending.inputs.is_empty() {
                self.hurry();
            }
            let is_much = pending.frame_bytes() > SYNC_DELAY_BYTES_MAX;
            self.take_in(pending);
            self.sync_soon(has_local_commit || is_much || is_stopped);
            if is_stopped {
                self.close();
                return;
            }
            // Before anything goes out to whom it may not go any more.
            self.trust();
            self.send_all();
            self.relay_all();
            self.meet();
            self.trust();
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// How long nothing needs to be done unless something comes in; `None` is for ever.
    fn pause(&self) -> Option<Duration> {
        let now = self.now();
        let may_send = |peer: &PeerState| peer.is_stirred && self.has_room(peer);
        if self.peers.values().map(Box::as_ref).any(may_send) || self.may_relay() {
            return Some(Duration::ZERO);
        }
        self.peers
            .values()
            .filter_map(|peer| peer.session.poll_timeout())
            .chain(self.windows_timeout())
            .chain(self.sync_due)
            .chain(self.meeting.poll_timeout())
            .chain(self.relaying.poll_timeout())
            .min()
            .map(|at| at.saturating_sub(now))
            .into_iter()
            .chain(self.desk.as_ref().and_then(|desk| desk.pause(now)))
            .min()
    }

    /// Writes what was committed without waiting to disk, before which it may not leave. With nothing
    /// else to do this thread does it itself: waking another one takes as long as a fast disk. The
    /// store tells of the success as of any other commit.
    fn hurry(&self) {
        if self.links.is_empty() {
            return;
        }
        let store = self.replica.store();
        if let Err(error) = store.wait_durable(store.last_commit()) {
            tracing::error!(%error, "commits could not be made durable");
        }
    }

    /// Sees to it that what was applied comes to disk, after which it is acknowledged; the next part
    /// need not wait for it.
    fn sync_soon(&mut self, is_urgent: bool) {
        let store = self.replica.store();
        let commit = store.last_commit();
        if commit <= store.durable_commit() || self.syncer.is_requested(commit) {
            self.sync_due = None;
            return;
        }
        let now = self.now();
        let due = self.sync_due.unwrap_or(now + SYNC_DELAY);
        if is_urgent || due <= now || self.links.len() > 1 {
            self.syncer.request(commit);
            self.sync_due = None;
        } else {
            self.sync_due = Some(due);
        }
    }

    fn take_in(&mut self, pending: Pending) {
        let now = self.now();
        let mut is_one_gone = false;
        for input in pending.inputs {
            match input {
                Input::LinkUp {
                    link,
                    sender,
                    parting,
                    properties,
                    origin,
                } => {
                    if self.admits(&properties, &sender, &parting) {
                        self.meeting.link_up(now, link, &properties, origin);
                        self.link_up(now, link, sender, parting, *properties);
                    }
                }
                Input::Frames {
                    link,
                    frames,
                    permit,
                } => {
                    self.frames(link, frames, permit);
                }
                Input::LinkDown { link } => {
                    is_one_gone = true;
                    self.link_down(now, link);
                }
                Input::Discovered { event, _taken } => match event {
                    Sighting::Found {
                        name,
                        peer,
                        spot,
                        signal_dbm,
                    } => self.meeting.found(now, name, peer, (spot, signal_dbm)),
                    Sighting::Vanished { name } => self.meeting.vanished(now, &name),
                },
                Input::DialFailed { found, error } => self.meeting.dial_failed(now, found, &error),
                Input::Discovering { medium, is_on } => {
                    self.meeting.set_discovering(now, medium, is_on);
                }
                Input::OwnChanged => self.meeting.show_own(now),
                // It is looked at before anything goes out.
                Input::TrustChanged => {}
            }
        }
        self.wake_sessions(now, pending.has_commit);
        if pending.has_subscription_change {
            self.windows.follow(&self.board.windows());
            let selectors = self.board.selectors();
            let statements = selectors.keys().map(String::as_str);
            self.meeting.set_interests(now, statements);
            for (id, peer) in &mut self.peers {
                reconcile(*id, peer, &selectors, &self.board, &self.conditions);
            }
            self.relay_own(now);
        }
        self.relay_time(now, pending.has_commit);
        if !self.peers.is_empty() {
            self.report_events();
        }
        self.follow_windows(now);
        if is_one_gone {
            self.offer_links(now);
        }
    }

    /// Has the sessions see what was committed, and what is due.
    fn wake_sessions(&mut self, now: Duration, has_commit: bool) {
        for peer in self.peers.values_mut() {
            if has_commit {
                peer.session.handle_commit(now, &mut self.replica);
                peer.is_stirred = true;
            }
            if peer.session.poll_timeout().is_some_and(|at| at <= now) {
                peer.session.handle_timeout(now, &mut self.replica);
                peer.is_stirred = true;
            }
        }
    }

    /// Offers the sessions the links for which they had no room.
    fn offer_links(&mut self, now: Duration) {
        for peer in self.peers.values_mut() {
            for link in &peer.links {
                if let Some(state) = self.links.get(link) {
                    let properties = offered(&state.properties);
                    peer.session.handle_link_up(now, *link, properties);
                }
            }
        }
    }

    /// Dials whom the mesh wants, tells neighbours what it says, and ends what it does not want.
    fn meet(&mut self) {
        let now = self.now();
        let endings = self.meeting.act(now);
        self.relay_wanted(now);
        for (peer, bytes) in self.meeting.take_gossip() {
            // Where it cannot be sent now, the meshes begin anew once the session is established.
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.is_stirred |= peer.session.gossip(&bytes);
            }
        }
        for ending in endings {
            let Some(state) = self.links.get(&ending.link) else {
                continue;
            };
            state.parting.say(&ending.because);
            match ending.is_lost {
                false => {
                    let peer = state.properties.remote_peer;
                    let because = ending.because;
                    tracing::debug!(%peer, because, "the mesh ends a link");
                    let peer = self.peers.get_mut(&peer);
                    if let Some(peer) =
                        peer.filter(|it| it.session.active_link() == Some(ending.link))
                    {
                        say_last(now, &self.replica, &self.links, peer);
                    }
                    state.sender.close();
                }
                true => {
                    state.sender.abort();
                    // The task that reads from it would wait for long.
                    state.parting.now();
                }
            }
        }
    }

    fn link_up(
        &mut self,
        now: Duration,
        link: LinkId,
        sender: LinkSender,
        parting: Arc<Parting>,
        properties: LinkProperties,
    ) {
        let remote = properties.remote_peer;
        let (database, local) = (self.database, self.local);
        let peer = self.peers.entry(remote).or_insert_with(|| {
            let mut seed = [0; 8];
            // The seed spreads choices; without randomness the sessions choose alike.
            let _ = getrandom::fill(&mut seed);
            Box::new(PeerState {
                session: Session::new(SessionConfig {
                    database,
                    local,
                    remote,
                    seed: u64::from_le_bytes(seed),
                }),
                links: BTreeSet::new(),
                unsent: None,
                wants: BTreeMap::new(),
                windows: BTreeMap::new(),
                epoch: 0,
                declarations: None,
                is_stirred: true,
                confirmed: None,
                lost_links: (0, Duration::ZERO),
                suspended_at: None,
                blob_link: None,
                blob_link_due: None,
            })
        });
        if let Some(desk) = &self.desk {
            let permit = desk.permit(&remote);
            peer.session.set_permit(now, permit.clone());
            self.relaying.set_permit(now, remote, permit.as_ref());
        }
        peer.session.handle_link_up(now, link, offered(&properties));
        peer.links.insert(link);
        peer.suspended_at = None;
        peer.is_stirred = true;
        subscribe_declarations(remote, peer, &self.conditions);
        self.windows.follow(&self.board.windows());
        let selectors = self.board.selectors();
        reconcile(remote, peer, &selectors, &self.board, &self.conditions);
        let statements = selectors.keys().map(String::as_str);
        self.meeting.set_interests(now, statements);
        self.relay_own(now);
        self.relay_link_up(now, remote, link, offered(&properties));
        let shown = connection(&properties);
        self.board.see(remote, |seen| {
            seen.peer
                .device_name
                .clone_from(&properties.remote_device_name);
            seen.peer.connections.push(shown);
        });
        self.links.insert(
            link,
            LinkState {
                sender,
                parting,
                properties,
            },
        );
        self.watch(now, remote);
    }

    /// Has the links of a peer watched, if there are several: where another one stands by, one that is
    /// silent is not worth waiting for.
    fn watch(&self, now: Duration, remote: PeerId) {
        let Some(peer) = self.peers.get(&remote) else {
            return;
        };
        let limit = (peer.links.len() > 1).then(|| peer.silence_max(now));
        for link in &peer.links {
            if let Some(state) = self.links.get(link) {
                state.sender.watch(limit);
            }
        }
    }

    fn link_down(&mut self, now: Duration, link: LinkId) {
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        self.meeting.link_down(now, link);
        self.relay_link_down(now, link);
        let remote = state.properties.remote_peer;
        let Some(peer) = self.peers.get_mut(&remote) else {
            return;
        };
        peer.links.remove(&link);
        if peer
            .unsent
            .as_ref()
            .is_some_and(|unsent| unsent.link == link)
        {
            peer.unsent = None;
        }
        close_to_blobs(&self.blobs, remote, peer, link);
        if !peer.links.is_empty() {
            peer.note_lost_link(now);
        }
        peer.session.handle_link_down(now, link);
        peer.is_stirred = true;
        if peer.links.is_empty() {
            peer.suspended_at = Some(now);
            if let Some(desk) = &self.desk {
                desk.peer_down(remote);
            }
            self.forget_sessions();
        }
        let shown = connection(&state.properties);
        self.board.see(remote, |seen| {
            let at = seen.peer.connections.iter().position(|c| *c == shown);
            at.map(|at| seen.peer.connections.swap_remove(at));
        });
        self.watch(now, remote);
    }

    /// Drops the sessions that have been without a link the longest, beyond the limit. Cursors are in
    /// the store, so a session that was dropped goes on from there and needs a few bytes more.
    fn forget_sessions(&mut self) {
        let suspended = self.peers.iter();
        let mut suspended: Vec<_> = suspended
            .filter_map(|(id, peer)| Some((peer.suspended_at?, *id)))
            .collect();
        suspended.sort_unstable();
        let count = suspended
            .len()
            .saturating_sub(limits::SESSIONS_SUSPENDED_MAX);
        for (_, id) in &suspended[..count] {
            self.peers.remove(id);
        }
    }

    fn frames(&mut self, link: LinkId, frames: Vec<Vec<u8>>, permit: OwnedSemaphorePermit) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&state.properties.remote_peer) else {
            return;
        };
        let permit = Arc::new(permit);
        let remote = state.properties.remote_peer;
        let mut relayed = Vec::new();
        for frame in frames {
            if BlobMessage::is_in(&frame) {
                // Before both have said HELLO the other side may belong to another database. Who sends
                // this has heard ours, so it is out.
                if peer.session.is_established() {
                    if peer.blob_link.is_none() {
                        open_to_blobs(&self.blobs, remote, peer, link, state);
                    }
                    self.blobs.frame(remote, frame, Arc::clone(&permit));
                }
                continue;
            }
            let now = self.start.elapsed();
            if relay_kind(&frame).is_some() {
                relayed.push(frame);
                continue;
            }
            peer.session
                .handle_frame(now, &mut self.replica, link, &frame);
        }
        peer.is_stirred = true;
        for frame in relayed {
            self.relay_frame(link, &frame);
        }
    }

    /// Hands out what the sessions have to send, as far as their links have room.
    fn send_all(&mut self) {
        let now = self.now();
        for peer in self.peers.values_mut() {
            // What is under way on a link that the session has left is sent again.
            let active = peer.session.active_link();
            peer.unsent.take_if(|it| Some(it.link) != active);
            let mut used = None;
            for _ in 0..FRAMES_PER_TURN {
                if !peer.is_stirred || !room(&self.links, peer) {
                    break;
                }
                let next = peer.unsent.take();
                let next = next.or_else(|| peer.session.poll_transmit(now, &self.replica));
                match next {
                    Some(transmit) => {
                        if used.is_some_and(|link| link != transmit.link) {
                            flush(&self.links, used);
                        }
                        used = Some(transmit.link);
                        hand_over(&self.links, peer, transmit);
                    }
                    None => peer.is_stirred = false,
                }
            }
            flush(&self.links, used);
        }
        // What is left to be sent waits for room.
        let is_busy = self.peers.values().any(|peer| peer.is_stirred);
        self.meeting.set_busy(is_busy);
        self.open_all_to_blobs();
        self.report_confirmations();
        self.report_events();
    }

    /// Lets blobs go over the links whose HELLO was answered and is out.
    fn open_all_to_blobs(&mut self) {
        for (remote, peer) in &mut self.peers {
            let Some(link) = peer.blob_link_due else {
                continue;
            };
            if peer.unsent.is_some() || !room(&self.links, peer) {
                continue;
            }
            peer.blob_link_due = None;
            if let Some(state) = self.links.get(&link) {
                open_to_blobs(&self.blobs, *remote, peer, link, state);
            }
        }
    }

    fn has_room(&self, peer: &PeerState) -> bool {
        room(&self.links, peer)
    }

    /// Tells the board how far the remotes are. What it was told of a remote without a link stays.
    fn report_confirmations(&mut self) {
        for (remote, peer) in &mut self.peers {
            let confirmed = peer.session.confirmed_commit();
            let Some(commit) = confirmed.filter(|_| confirmed != peer.confirmed) else {
                continue;
            };
            peer.confirmed = confirmed;
            let collections = || peer.session.remote_collections();
            self.board.see(*remote, |seen| {
                if !collections().eq(&seen.collections) {
                    seen.collections = collections().cloned().collect();
                }
            });
            self.board.confirm(*remote, commit);
            self.board.degradations().works(*remote);
        }
    }

    fn report_events(&mut self) {
        let now = self.now();
        let (mut gone, mut heard) = (Vec::new(), Vec::new());
        for (remote, peer) in &mut self.peers {
            while let Some(event) = peer.session.poll_event() {
                if let Event::Closed { link, .. } = &event {
                    close_to_blobs(&self.blobs, *remote, peer, *link);
                    peer.links.remove(link);
                    gone.push(*link);
                }
                if let Event::Gossip(bytes) = &event {
                    if TrustFrame::is_in(bytes) {
                        heard.push((*remote, bytes.clone()));
                        continue;
                    }
                    self.meeting.hear(now, *remote, bytes);
                    continue;
                }
                if peer.follow_window(now, *remote, &event, &self.windows) {
                    continue;
                }
                if let Event::Established { link, .. } | Event::Moved { link } = &event {
                    self.meeting.speak_anew(now, *remote);
                    if let Some(desk) = &self.desk {
                        desk.speak_anew(now, *remote);
                    }
                    peer.blob_link_due = Some(*link);
                }
                let now_ms = unix_ms();
                if let Event::Applied { .. } = &event {
                    self.board
                        .see(*remote, |seen| seen.last_update_ms = Some(now_ms));
                }
                let name = |subscription| name_of(peer, subscription);
                self.board
                    .degradations()
                    .follow(*remote, &event, now_ms, name);
                // The app did not ask for it.
                let is_own = matches!(
                    &event,
                    Event::CaughtUp { subscription } if Some(*subscription) == peer.declarations
                );
                if let Some(condition) = condition(&event).filter(|_| !is_own) {
                    self.conditions.push(condition.with(*remote));
                }
            }
        }
        for (remote, frame) in heard {
            self.hear_trust(now, remote, &frame);
        }
        for link in gone {
            self.relay_link_down(now, link);
            self.give_up(link);
        }
    }

    /// Closes a link that its session gave up, after what the session has to say on it.
    fn give_up(&mut self, link: LinkId) {
        let now = self.now();
        let Some(state) = self.links.get(&link) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&state.properties.remote_peer) {
            for _ in 0..FRAMES_PER_TURN {
                let next = peer.unsent.take();
                let next = next.or_else(|| peer.session.poll_transmit(now, &self.replica));
                match next {
                    Some(transmit) => {
                        // What goes on elsewhere may be all that there is to say.
                        let used = Some(transmit.link);
                        hand_over(&self.links, peer, transmit);
                        flush(&self.links, used);
                    }
                    None => break,
                }
                if peer.unsent.is_some() {
                    break;
                }
            }
        }
        state.sender.close();
    }

    /// Says goodbye on every link, after what is left to say.
    fn close(&mut self) {
        // What is not on the disk can neither be acknowledged nor sent.
        self.hurry();
        let now = self.now();
        self.relay_goodbye(now);
        for (remote, peer) in &mut self.peers {
            if peer.blob_link.take().is_some() {
                self.blobs.neighbour_down(*remote);
            }
            say_last(now, &self.replica, &self.links, peer);
            peer.session.close(now);
            for _ in 0..FRAMES_PER_TURN {
                let next = peer.unsent.take();
                let next = next.or_else(|| peer.session.poll_transmit(now, &self.replica));
                match next {
                    Some(transmit) => hand_over(&self.links, peer, transmit),
                    None => break,
                }
                if peer.unsent.is_some() {
                    break;
                }
            }
        }
        for state in self.links.values() {
            state.sender.close();
        }
    }
}

/// Blobs go over a link from now on, unless they do.
fn open_to_blobs(
    blobs: &Blobs,
    remote: PeerId,
    peer: &mut PeerState,
    link: LinkId,
    state: &LinkState,
) {
    if peer.blob_link.replace(link) != Some(link) {
        let bytes = state.properties.frame_bytes_max;
        blobs.neighbour_up(remote, state.sender.clone(), bytes);
    }
}

/// Blobs go over a link no more.
fn close_to_blobs(blobs: &Blobs, remote: PeerId, peer: &mut PeerState, link: LinkId) {
    if peer.blob_link_due == Some(link) {
        peer.blob_link_due = None;
    }
    if peer.blob_link == Some(link) {
        peer.blob_link = None;
        blobs.neighbour_down(remote);
    }
}

/// What a session is told of a link.
fn offered(properties: &LinkProperties) -> idem_sync::LinkProperties {
    let mut offered = idem_sync::LinkProperties::default();
    offered.frame_bytes_max = properties.frame_bytes_max;
    offered.rank = rank(properties.kind);
    offered
}

/// Whether the link in use takes frames. One that stands by may be dead without anybody knowing.
fn room(links: &BTreeMap<LinkId, LinkState>, peer: &PeerState) -> bool {
    let active = peer.session.active_link();
    active
        .and_then(|link| links.get(&link))
        .is_none_or(|link| SESSION_LANES.iter().all(|lane| link.sender.has_room(*lane)))
}

/// Hands out what a session has to say on a link that is about to be closed: acknowledgements, answers and
/// how far the remote is. It waits for nothing, and gives up where the link takes no more.
fn say_last(
    now: Duration,
    replica: &StoreReplica,
    links: &BTreeMap<LinkId, LinkState>,
    peer: &mut PeerState,
) {
    let active = peer.session.active_link();
    // On the bulk lane goes what would take long.
    let is_short = |it: &Transmit| it.lane != Lane::Bulk;
    let is_in_use = |it: &Transmit| Some(it.link) == active;
    let mut next = peer.unsent.take();
    next = next.filter(|it| is_short(it) && is_in_use(it));
    peer.session.prepare_close();
    for _ in 0..FRAMES_PER_TURN {
        next = next.or_else(|| peer.session.poll_transmit(now, replica));
        let Some(transmit) = next.take().filter(is_short) else {
            break;
        };
        hand_over(links, peer, transmit);
        if peer.unsent.take().is_some() {
            break;
        }
    }
    flush(links, active);
}

/// Sends what was handed over to `link`.
fn flush(links: &BTreeMap<LinkId, LinkState>, link: Option<LinkId>) {
    if let Some(state) = link.and_then(|link| links.get(&link)) {
        state.sender.flush();
    }
}

/// Queues a frame for its link; what follows at once shares a record with it.
fn hand_over(links: &BTreeMap<LinkId, LinkState>, peer: &mut PeerState, transmit: Transmit) {
    let Transmit { link, lane, frame } = transmit;
    let Some(state) = links.get(&link) else {
        return;
    };
    // A link that closed meanwhile says so by itself.
    let queued = state.sender.try_queue(lane, frame);
    // Elsewhere only goodbyes are said, and a link that takes none is not missed.
    let is_in_use = peer.session.active_link() == Some(link);
    if let Err(TrySendError::Full(frame)) = queued
        && is_in_use
    {
        peer.unsent = Some(Transmit { link, lane, frame });
    }
}

/// What every peer subscribes to besides what its app asks for.
pub(crate) fn declarations() -> Selector {
    idem_query::parse(DECLARATIONS)
        .and_then(|statement| statement.subscription(&Object::new()))
        .expect("the statement is a subscription")
}

/// What the app hears of an event of a session.
fn condition(event: &Event) -> Option<TransportCondition> {
    let (kind, message) = match event {
        Event::CaughtUp { subscription } => (
            ConditionKind::CaughtUp,
            format!("subscription {subscription} has caught up"),
        ),
        Event::SubscriptionRefused {
            subscription,
            detail,
        } => (
            ConditionKind::SubscriptionRefused,
            format!("the peer refuses subscription {subscription}: {detail}"),
        ),
        Event::HeldBack { documents, count } => (
            ConditionKind::DocumentsHeldBack,
            match documents.first() {
                Some(key) => {
                    format!("{count} documents come from too far in the future, {key} first")
                }
                None => format!("{count} documents come from too far in the future"),
            },
        ),
        Event::ClockSkew { ahead_ms } => (
            ConditionKind::ClockSkewed,
            format!("the peer's clock is {ahead_ms} ms ahead"),
        ),
        Event::Closed {
            reason,
            detail,
            by_remote,
            ..
        } if !matches!(reason, CloseReason::Goodbye | CloseReason::Lost) => {
            let kind = match reason {
                CloseReason::Version => ConditionKind::VersionMismatch,
                CloseReason::Database => ConditionKind::DatabaseMismatch,
                CloseReason::Identity => ConditionKind::IdentityInvalid,
                CloseReason::Malformed | CloseReason::Limit => ConditionKind::ProtocolViolated,
                CloseReason::Timeout => ConditionKind::TimedOut,
                _ => ConditionKind::SyncFailed,
            };
            let who = if *by_remote { "the peer" } else { "this side" };
            (
                kind,
                format!("{who} ended replication ({}): {detail}", reason.code()),
            )
        }
        _ => return None,
    };
    Some(TransportCondition::new(kind, message))
}

pub(crate) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        })
}
