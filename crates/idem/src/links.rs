//! The tasks that keep links: listening, dialling, reading.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use idem_mesh::{AddressId, DialFailure, Redial};
use idem_model::limits;
use idem_sync::LinkId;
use idem_transport::{
    Discovery, DiscoveryEvent, Link, LinkCredentials, LinkError, LinkProperties, LinkReceiver,
    Refusal,
};
use tokio::sync::{Notify, Semaphore, watch};

use crate::{
    blobs::Blobs,
    conditions::Conditions,
    inbox::{Inbox, Input, Sighting},
    media::{Dialled, Port, Spot},
    transport::{ConditionKind, TransportCondition},
    ways::{Use, Way, Ways},
};

/// Bytes that one link may have waiting at the driver: what a lane's credit lets a remote send.
const INBOUND_BYTES_MAX: u32 = limits::LANE_CREDIT_BYTES;

/// What a frame costs beside its content, so that many empty frames are bounded too.
const FRAME_COST_BYTES: usize = 64;

/// Bytes of frames that are handed to the driver at once.
const HAND_OVER_BYTES: usize = 512 * 1024;

/// How often a dialer that waits for long looks whether the networks of this machine have changed.
const NETWORK_LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// A pause after the system could not accept a connection (usually: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How far stopping has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Running,
    /// Nobody is dialled or accepted; links end when their other side has heard goodbye.
    Draining,
    /// Links end at once.
    Killed,
}

/// What the tasks of one run of sync share.
pub(crate) struct Ground {
    pub(crate) credentials: LinkCredentials,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) conditions: Arc<Conditions>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) stage: watch::Receiver<Stage>,
    pub(crate) room: Arc<LinkRoom>,
    pub(crate) next_link: AtomicU64,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) ways: Arc<Ways>,
    /// Changes when the app configures something: what was refused may be taken now.
    pub(crate) configured: watch::Receiver<u64>,
}

/// How a link came about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    /// What was dialled, if a discovery had found it.
    pub(crate) found: Option<AddressId>,
    /// When the other side connected, if it did.
    pub(crate) accepted_at: Option<Instant>,
}

/// How a link is ended from this side.
#[derive(Debug, Default)]
pub(crate) struct Parting {
    /// Ends the task that reads from it.
    given_up: Notify,
    because: Mutex<Option<String>>,
}

impl Parting {
    /// Says why it ends. The first reason counts.
    pub(crate) fn say(&self, because: &str) {
        let mut said = self.because.lock().unwrap_or_else(PoisonError::into_inner);
        said.get_or_insert_with(|| because.to_owned());
    }

    /// Waits for nothing from the other side any more.
    pub(crate) fn now(&self) {
        self.given_up.notify_one();
    }

    fn reason(&self) -> Option<String> {
        let mut said = self.because.lock().unwrap_or_else(PoisonError::into_inner);
        said.take()
    }
}

/// Counts links, because there may only be so many.
#[derive(Debug)]
pub(crate) struct LinkRoom {
    links: AtomicUsize,
    max: AtomicUsize,
}

impl Default for LinkRoom {
    fn default() -> Self {
        Self {
            links: AtomicUsize::new(0),
            max: AtomicUsize::new(limits::LINKS_MAX),
        }
    }
}

impl LinkRoom {
    /// Whether one more link may be made now.
    pub(crate) fn admit(&self) -> Result<(), Refusal> {
        let (links, max) = (&self.links, &self.max);
        if links.load(Ordering::Relaxed) >= max.load(Ordering::Relaxed) {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// There may be so many from now on. Those that there are stay.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }
}

/// Counts the tasks that still run, for the one who waits for their end.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: Mutex<usize>,
    ended: Condvar,
}

impl Tasks {
    pub(crate) fn begin(self: &Arc<Self>) -> TaskGuard {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        TaskGuard(Arc::clone(self))
    }

    /// Waits until no task runs, at most `limit`. Gives whether that is so.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (running, _) = self
            .ended
            .wait_timeout_while(running, limit, |running| *running > 0)
            .unwrap_or_else(PoisonError::into_inner);
        *running == 0
    }
}

pub(crate) struct TaskGuard(Arc<Tasks>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let mut running = self
            .0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *running -= 1;
        self.0.ended.notify_all();
    }
}

/// Waits for `stage` to be reached.
pub(crate) async fn until(mut receiver: watch::Receiver<Stage>, stage: Stage) {
    let reached = |now: &Stage| *now == stage || *now == Stage::Killed;
    // The sender is gone only when everything is over.
    let _ = receiver.wait_for(reached).await;
}

/// Accepts peers until the run ends.
pub(crate) async fn listen(ground: Arc<Ground>, listener: Port) {
    let _task = ground.tasks.begin();
    let address = listener.address().to_string();
    let way = Closing(ground.ways.open(listener.transport(), Use::Listen, address));
    let stop = until(ground.stage.clone(), Stage::Draining);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => return,
        };
        let incoming = match accepted {
            Ok(incoming) => incoming,
            Err(error) => {
                let mut condition = TransportCondition::from_failure(&error);
                condition.kind = ConditionKind::NotAccepted;
                ground.tell_failure(&way.0, condition);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (ground, way) = (Arc::clone(&ground), Arc::clone(&way.0));
        way.attempt();
        tokio::spawn(async move {
            let _task = ground.tasks.begin();
            let address = incoming.address();
            let origin = Origin {
                accepted_at: Some(Instant::now()),
                ..Origin::default()
            };
            let shaken = tokio::select! {
                shaken = incoming.handshake(&ground.credentials) => shaken,
                () = until(ground.stage.clone(), Stage::Draining) => return,
            };
            match shaken {
                Ok(Some(link)) => ground.keep(link, &address.to_string(), origin, &way).await,
                Ok(None) => {}
                Err(error) => ground.report(&error, &address.to_string(), &way),
            }
        });
    }
}

/// Keeps a link with `target` until the run ends.
pub(crate) async fn dial(ground: Arc<Ground>, dialled: Dialled, pause_min: Duration) {
    let _task = ground.tasks.begin();
    let target = &dialled.target;
    let address = target.to_string();
    let way = ground.ways.open(target.transport(), Use::Dial, &address);
    let mut seed = [0; 8];
    // Without randomness the pauses are those of every peer that has none.
    let _ = getrandom::fill(&mut seed);
    let mut redial = Redial::new(pause_min, u64::from_le_bytes(seed));
    let mut configured = ground.configured.clone();
    loop {
        way.attempt();
        configured.mark_unchanged();
        let connected = tokio::select! {
            connected = dialled.connect(&ground.credentials) => connected,
            () = until(ground.stage.clone(), Stage::Draining) => return,
        };
        let pause = match connected {
            Ok(link) => {
                let up_at = Instant::now();
                let origin = Origin::default();
                ground.keep(link, &address, origin, &way).await;
                redial.after_link(up_at.elapsed())
            }
            Err(error) => {
                // Not one event per attempt.
                let condition = TransportCondition::from_failure(&error);
                ground.tell_failure(&way, condition.at(&address));
                redial.after_failure(failure(&error))
            }
        };
        way.wait(pause);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // The sender is gone only when everything is over.
            Ok(()) = configured.changed() => redial.begin_anew(),
            () = network_change(target.ip()), if pause >= NETWORK_LOOK_INTERVAL => redial.begin_anew(),
            () = until(ground.stage.clone(), Stage::Draining) => return,
        }
    }
}

/// Waits until this machine reaches `target`, or most others, by another network than now.
async fn network_change(target: Option<IpAddr>) {
    let now = routes(target);
    loop {
        tokio::time::sleep(NETWORK_LOOK_INTERVAL).await;
        if routes(target) != now {
            return;
        }
    }
}

/// The addresses of this machine from which it would send to `target`, and to addresses that are no
/// neighbours: those reserved for documentation stand for all of them. Nothing is sent.
fn routes(target: Option<IpAddr>) -> [Option<IpAddr>; 3] {
    let (v4, v6) = (
        Ipv4Addr::new(203, 0, 113, 1),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    );
    [target, Some(v4.into()), Some(v6.into())].map(|to| {
        let to = to?;
        let any: IpAddr = match to {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

/// When to dial again after `error`, as the mesh tells it apart.
pub(crate) fn failure(error: &LinkError) -> DialFailure {
    match error {
        LinkError::Refused { refusal, .. } => match refusal {
            Refusal::Full => DialFailure::Full,
            Refusal::Denied | Refusal::Unanswered | Refusal::Undecided => DialFailure::Denied,
            Refusal::SelfLink => DialFailure::SelfLink,
            _ => DialFailure::Mismatch,
        },
        LinkError::NotAPeer
        | LinkError::CertificateInvalid { .. }
        | LinkError::TlsFailed { .. }
        | LinkError::VersionMismatch { .. }
        | LinkError::DatabaseMismatch
        | LinkError::ModeMismatch { .. }
        | LinkError::NotCertified { .. }
        | LinkError::Malformed { .. } => DialFailure::Mismatch,
        _ => DialFailure::Unreachable,
    }
}

/// Makes a link with a peer that was found, and keeps it until it ends.
pub(crate) async fn dial_found(ground: Arc<Ground>, found: AddressId, spot: Spot, way: Arc<Way>) {
    let _task = ground.tasks.begin();
    way.attempt();
    let connected = tokio::select! {
        connected = Box::pin(spot.connect(&ground.credentials)) => connected,
        () = until(ground.stage.clone(), Stage::Draining) => return,
    };
    match connected {
        Ok(link) => {
            let address = link.properties().address;
            let address = address.map_or_else(|| spot.to_string(), |address| address.to_string());
            let origin = Origin {
                found: Some(found),
                ..Origin::default()
            };
            ground.keep(link, &address, origin, &way).await;
            way.rest("found");
        }
        Err(error) => ground.inbox.push(Input::DialFailed { found, error }),
    }
}

/// Passes on what a discovery finds, until the run ends.
pub(crate) async fn discover(ground: Arc<Ground>, discovery: Discovery, advertised: String) {
    let _task = ground.tasks.begin();
    let is_advertising = !advertised.is_empty();
    let way = ground.ways.open("mdns", Use::Discover, advertised);
    way.rest(if is_advertising {
        "advertising"
    } else {
        "looking"
    });
    let stop = until(ground.stage.clone(), Stage::Draining);
    let mut stop = std::pin::pin!(stop);
    loop {
        let event = tokio::select! {
            event = discovery.next() => event,
            () = &mut stop => break,
        };
        let sighting = match event {
            DiscoveryEvent::Found {
                instance,
                peer,
                addresses,
            } => Sighting::Found {
                name: instance,
                peer,
                spot: Spot::Lan(addresses),
                signal_dbm: None,
            },
            DiscoveryEvent::Vanished { instance } => Sighting::Vanished { name: instance },
            DiscoveryEvent::Troubled { message } => {
                let kind = ConditionKind::DiscoveryTroubled;
                let condition = TransportCondition::new(kind, message);
                ground.conditions.push(way.fail(condition).0);
                continue;
            }
            _ => continue,
        };
        // As many wait as there are peers, not more however often they come and go.
        ground.inbox.discover(sighting).await;
    }
    // Saying goodbye to the network waits for the thread that does it.
    let _ = tokio::task::spawn_blocking(move || drop(discovery)).await;
}

/// Between half of `pause` and all of it, so that peers that lost the same hub do not return as one.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness the pause is just not shortened.
    let _ = getrandom::fill(&mut random);
    let share = u32::from(u16::from_le_bytes(random));
    pause - pause / 2 * share / u32::from(u16::MAX)
}

impl Ground {
    /// Tells of a failure on a way where strangers connect: of each of them.
    pub(crate) fn report(&self, error: &LinkError, address: &str, way: &Way) {
        let condition = TransportCondition::from_failure(error).at(address);
        let (condition, _) = way.fail(condition);
        self.conditions.push(condition);
    }

    /// Tells of a failure on a way, unless it was told of already.
    pub(crate) fn tell_failure(&self, way: &Way, condition: TransportCondition) {
        let (condition, is_told) = way.fail(condition);
        if is_told {
            self.conditions.push(condition);
        }
    }

    /// Reads from a link until it ends.
    pub(crate) async fn keep(&self, link: Link, address: &str, origin: Origin, way: &Way) {
        let id = LinkId(self.next_link.fetch_add(1, Ordering::Relaxed));
        let (properties, sender, receiver) = link.split();
        let peer = properties.remote_peer;
        let mut message = format!("linked with peer {peer}");
        match way.link_up(id, address, &properties, &sender) {
            0 => {}
            // On a listener those were others.
            _ if origin.accepted_at.is_some() => {}
            failed => message.push_str(&format!(" after {failed} failed attempts")),
        }
        self.conditions.push(
            TransportCondition::new(ConditionKind::Linked, message)
                .at(address)
                .with(peer),
        );
        let (inbox, blobs) = (Arc::clone(&self.inbox), Arc::clone(&self.blobs));
        sender.set_room_hook(move || {
            inbox.room();
            blobs.room();
        });
        self.room.links.fetch_add(1, Ordering::Relaxed);
        let parting = Arc::new(Parting::default());
        let ended = {
            let _up = LinkGuard { ground: self, id };
            self.inbox.push(Input::LinkUp {
                link: id,
                sender,
                parting: Arc::clone(&parting),
                properties: Box::new(properties),
                origin,
            });
            tokio::select! {
                ended = self.read(id, receiver) => ended,
                () = parting.given_up.notified() => Err(LinkError::Lost { source: None }),
                () = until(self.stage.clone(), Stage::Killed) => Ok(()),
            }
        };
        let mut condition = match &ended {
            Ok(()) => TransportCondition::new(ConditionKind::Unlinked, "the link was closed"),
            Err(error) => TransportCondition::from_failure(error),
        };
        if let Some(because) = parting.reason() {
            condition.message.push_str(": ");
            condition.message.push_str(&because);
        }
        let account = way.link_down(id);
        condition.message.push_str(&format!(", {account}"));
        self.conditions.push(condition.at(address).with(peer));
    }

    async fn read(&self, link: LinkId, mut receiver: LinkReceiver) -> Result<(), LinkError> {
        let budget = Arc::new(Semaphore::new(INBOUND_BYTES_MAX as usize));
        while let Some((_, frame)) = receiver.recv().await? {
            let mut bytes = frame.len() + FRAME_COST_BYTES;
            let mut frames = vec![frame];
            while bytes < HAND_OVER_BYTES
                && let Some((_, frame)) = receiver.recv_ready()
            {
                bytes += frame.len() + FRAME_COST_BYTES;
                frames.push(frame);
            }
            let permits = u32::try_from(bytes)
                .unwrap_or(u32::MAX)
                .min(INBOUND_BYTES_MAX);
            let Ok(permit) = Arc::clone(&budget).acquire_many_owned(permits).await else {
                return Ok(());
            };
            self.inbox.push(Input::Frames {
                link,
                frames,
                permit,
            });
        }
        Ok(())
    }
}

/// A listener, whose links may outlive it.
struct Closing(Arc<Way>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.rest("closed");
    }
}

/// Tells the driver that a link is gone, also when the task is cancelled.
struct LinkGuard<'a> {
    ground: &'a Ground,
    id: LinkId,
}

impl Drop for LinkGuard<'_> {
    fn drop(&mut self) {
        self.ground.room.links.fetch_sub(1, Ordering::Relaxed);
        self.ground.inbox.push(Input::LinkDown { link: self.id });
    }
}

/// What presence shows of a link.
pub(crate) fn connection(properties: &LinkProperties) -> crate::presence::Connection {
    crate::presence::Connection {
        kind: crate::presence::ConnectionKind::of(properties.kind),
        address: properties.address,
        is_inbound: properties.role == idem_transport::Role::Responder,
    }
}

/// Which of several links to the same peer is used: the lowest. What stays inside of a machine goes first;
/// a WebSocket costs more bytes than TCP, and often goes the longer way, as what goes over the internet does;
/// a radio is slow.
pub(crate) fn rank(kind: idem_transport::LinkKind) -> u32 {
    match kind {
        idem_transport::LinkKind::Memory => 0,
        idem_transport::LinkKind::Tcp => 1,
        idem_transport::LinkKind::WebSocket => 2,
        idem_transport::LinkKind::Internet => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_stays_is_no_change() {
        let loopback = Some(Ipv4Addr::LOCALHOST.into());
        let here = routes(loopback);
        assert_eq!(here[0], loopback);
        assert_eq!(routes(loopback), here);
        assert_eq!(routes(None)[0], None);
    }

    #[test]
    fn pauses_are_shortened_by_at_most_a_half() {
        for _ in 0..1000 {
            let pause = jittered(Duration::from_secs(1));
            assert!(pause >= Duration::from_millis(499) && pause <= Duration::from_secs(1));
        }
    }
}
