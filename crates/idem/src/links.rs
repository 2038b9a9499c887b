//! The tasks that keep links: listening, dialling, reading.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use idem_mesh::AddressId;
use idem_model::limits;
use idem_sync::LinkId;
use idem_transport::{
    Discovery, DiscoveryEvent, Link, LinkCredentials, LinkError, LinkProperties, LinkReceiver,
    Refusal, tcp_connect_any,
};
use tokio::sync::{Notify, Semaphore, watch};

use crate::{
    blobs::Blobs,
    conditions::Conditions,
    inbox::{Inbox, Input},
    media::{Port, Target},
    transport::{ConditionKind, TransportCondition},
};

/// Bytes that one link may have waiting at the driver: what a lane's credit lets a remote send.
const INBOUND_BYTES_MAX: u32 = limits::LANE_CREDIT_BYTES;

/// What a frame costs beside its content, so that many empty frames are bounded too.
const FRAME_COST_BYTES: usize = 64;

/// Bytes of frames that are handed to the driver at once.
const HAND_OVER_BYTES: usize = 512 * 1024;

/// A pause grows up to this many times the first one.
const RETRY_FACTOR_MAX: u32 = 32;

/// A link that ends sooner was not wanted by the other side.
const LINK_LIFE_MIN: Duration = Duration::from_secs(5);

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
}

/// How a link came about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    /// What was dialled, if a discovery had found it.
    pub(crate) found: Option<AddressId>,
    /// When the other side connected, if it did.
    pub(crate) accepted_at: Option<Instant>,
}

/// Counts links, because there may only be so many.
#[derive(Debug, Default)]
pub(crate) struct LinkRoom(AtomicUsize);

impl LinkRoom {
    /// Whether one more link may be made now.
    pub(crate) fn admit(&self) -> Result<(), Refusal> {
        if self.0.load(Ordering::Relaxed) >= limits::LINKS_MAX {
            return Err(Refusal::Full);
        }
        Ok(())
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
async fn until(mut receiver: watch::Receiver<Stage>, stage: Stage) {
    let reached = |now: &Stage| *now == stage || *now == Stage::Killed;
    // The sender is gone only when everything is over.
    let _ = receiver.wait_for(reached).await;
}

/// Accepts peers until the run ends.
pub(crate) async fn listen(ground: Arc<Ground>, listener: Port) {
    let _task = ground.tasks.begin();
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
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let ground = Arc::clone(&ground);
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
                Ok(Some(link)) => ground.keep(link, &address.to_string(), origin).await,
                Ok(None) => {}
                Err(error) => ground.report(&error, &address.to_string()),
            }
        });
    }
}

/// Keeps a link with `target` until the run ends.
pub(crate) async fn dial(ground: Arc<Ground>, target: Target, pause_min: Duration) {
    let _task = ground.tasks.begin();
    let address = target.to_string();
    let mut reported = None;
    let mut retry = Retry::new(pause_min);
    loop {
        let connected = tokio::select! {
            connected = target.connect(&ground.credentials) => connected,
            () = until(ground.stage.clone(), Stage::Draining) => return,
        };
        match connected {
            Ok(link) => {
                reported = None;
                let up_at = Instant::now();
                ground.keep(link, &address, Origin::default()).await;
                retry.had_link(up_at.elapsed());
            }
            Err(error) => {
                // One event per reason, not one per attempt.
                if reported != Some(error.reason()) {
                    ground.report(&error, &address);
                    reported = Some(error.reason());
                }
                if let LinkError::Refused {
                    refusal: Refusal::SelfLink,
                    ..
                } = error
                {
                    retry.factor = RETRY_FACTOR_MAX;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(retry.next_pause())) => {}
            () = until(ground.stage.clone(), Stage::Draining) => return,
        }
    }
}

/// How long to wait before the next dial.
struct Retry {
    pause_min: Duration,
    factor: u32,
}

impl Retry {
    fn new(pause_min: Duration) -> Self {
        let factor = 1;
        Self { pause_min, factor }
    }

    /// There was a link, for so long. Whoever is turned away at once would be so again, and waits longer
    /// each time.
    fn had_link(&mut self, lived: Duration) {
        if lived >= LINK_LIFE_MIN {
            self.factor = 1;
        }
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause_min * self.factor;
        self.factor = (self.factor * 2).min(RETRY_FACTOR_MAX);
        pause
    }
}

/// Makes a link with a peer that was found, and keeps it until it ends.
pub(crate) async fn dial_found(ground: Arc<Ground>, found: AddressId, addresses: Vec<SocketAddr>) {
    let _task = ground.tasks.begin();
    let connected = tokio::select! {
        connected = tcp_connect_any(&addresses, &ground.credentials) => connected,
        () = until(ground.stage.clone(), Stage::Draining) => return,
    };
    match connected {
        Ok(link) => {
            let address = link.properties().address.or(addresses.first().copied());
            let address = address.map_or_else(String::new, |address| address.to_string());
            let origin = Origin {
                found: Some(found),
                ..Origin::default()
            };
            ground.keep(link, &address, origin).await;
        }
        Err(error) => ground.inbox.push(Input::DialFailed { found, error }),
    }
}

/// Passes on what a discovery finds, until the run ends.
pub(crate) async fn discover(ground: Arc<Ground>, discovery: Discovery) {
    let _task = ground.tasks.begin();
    let stop = until(ground.stage.clone(), Stage::Draining);
    let mut stop = std::pin::pin!(stop);
    loop {
        let event = tokio::select! {
            event = discovery.next() => event,
            () = &mut stop => break,
        };
        if let DiscoveryEvent::Troubled { message } = event {
            let kind = ConditionKind::DiscoveryTroubled;
            ground
                .conditions
                .push(TransportCondition::new(kind, message));
            continue;
        }
        // As many wait as there are peers, not more however often they come and go.
        ground.inbox.discover(event).await;
    }
    // Saying goodbye to the network waits for the thread that does it.
    let _ = tokio::task::spawn_blocking(move || drop(discovery)).await;
}

/// Between half of `pause` and all of it, so that peers that lost the same hub do not return as one.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness the pause is just not shortened.
    let _ = getrandom::fill(&mut random);
    let share = u32::from(u16::from_le_bytes(random));
    pause - pause / 2 * share / u32::from(u16::MAX)
}

impl Ground {
    fn report(&self, error: &LinkError, address: &str) {
        self.conditions
            .push(TransportCondition::from_failure(error).at(address));
    }

    /// Reads from a link until it ends.
    async fn keep(&self, link: Link, address: &str, origin: Origin) {
        let id = LinkId(self.next_link.fetch_add(1, Ordering::Relaxed));
        let (properties, sender, receiver) = link.split();
        let peer = properties.remote_peer;
        self.conditions.push(
            TransportCondition::new(ConditionKind::Linked, format!("linked with peer {peer}"))
                .at(address)
                .with(peer),
        );
        let (inbox, blobs) = (Arc::clone(&self.inbox), Arc::clone(&self.blobs));
        sender.set_room_hook(move || {
            inbox.room();
            blobs.room();
        });
        self.room.0.fetch_add(1, Ordering::Relaxed);
        let ended = {
            let _up = LinkGuard { ground: self, id };
            let given_up = Arc::new(Notify::new());
            self.inbox.push(Input::LinkUp {
                link: id,
                sender,
                given_up: Arc::clone(&given_up),
                properties: Box::new(properties),
                origin,
            });
            tokio::select! {
                ended = self.read(id, receiver) => ended,
                () = given_up.notified() => Err(LinkError::Lost { source: None }),
                () = until(self.stage.clone(), Stage::Killed) => Ok(()),
            }
        };
        let condition = match &ended {
            Ok(()) => TransportCondition::new(ConditionKind::Unlinked, "the link was closed"),
            Err(error) => TransportCondition::from_failure(error),
        };
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

/// Tells the driver that a link is gone, also when the task is cancelled.
struct LinkGuard<'a> {
    ground: &'a Ground,
    id: LinkId,
}

impl Drop for LinkGuard<'_> {
    fn drop(&mut self) {
        self.ground.room.0.fetch_sub(1, Ordering::Relaxed);
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
/// a WebSocket costs more bytes than TCP, and often goes the longer way.
pub(crate) fn rank(kind: idem_transport::LinkKind) -> u32 {
    match kind {
        idem_transport::LinkKind::Memory => 0,
        idem_transport::LinkKind::Tcp => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_turned_away_again_and_again_waits_longer() {
        let second = Duration::from_secs(1);
        let mut retry = Retry::new(second);
        let mut after = |lived| {
            retry.had_link(lived);
            retry.next_pause()
        };
        assert_eq!(after(Duration::from_millis(20)), second);
        assert_eq!(after(Duration::from_millis(20)), second * 2);
        for _ in 0..10 {
            after(Duration::from_millis(20));
        }
        assert_eq!(after(Duration::from_millis(20)), second * RETRY_FACTOR_MAX);
        assert_eq!(after(second * 60), second, "a link that lasted was wanted");
        assert_eq!(after(second * 60), second);
    }

    #[test]
    fn pauses_are_shortened_by_at_most_a_half() {
        for _ in 0..1000 {
            let pause = jittered(Duration::from_secs(1));
            assert!(pause >= Duration::from_millis(499) && pause <= Duration::from_secs(1));
        }
    }
}
