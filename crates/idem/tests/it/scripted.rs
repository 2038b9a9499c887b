//! A peer on a real link that says what the test wants: where two honest peers cannot provoke something.

use std::time::{Duration, Instant};

use idem::PeerId;
use idem_model::ActorId;
use idem_sync::{LinkId, LinkProperties, MemoryReplica, Session, SessionConfig, SubscriptionId};
use idem_transport::{
    Lane, LinkCredentials, LinkIdentity, LinkReceiver, LinkSender, SharedSecret, tcp_connect,
};
use idem_wire::Message;

use crate::fixture::{DATABASE, wait_until};

/// A replica in memory and its session with one peer.
pub(crate) struct Scripted {
    runtime: tokio::runtime::Runtime,
    credentials: LinkCredentials,
    pub(crate) session: Session,
    pub(crate) replica: MemoryReplica,
    /// The frames that came.
    heard: Vec<Vec<u8>>,
    link: Option<(LinkSender, LinkReceiver)>,
    links: u64,
    start: Instant,
}

impl Scripted {
    /// A peer that is to replicate with `remote`, which is opened with the key `[1; 32]`.
    pub(crate) fn new(remote: PeerId) -> Self {
        let identity = LinkIdentity::from_secret(&[42; 32]);
        let secret = SharedSecret::new([1; 32]);
        let credentials = LinkCredentials::new(identity, DATABASE, &secret, "scripted");
        Self::showing(credentials, remote)
    }

    /// The same with what it shows.
    pub(crate) fn showing(credentials: LinkCredentials, remote: PeerId) -> Self {
        let local = credentials.identity().peer_id();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Self {
            runtime: runtime.unwrap(),
            credentials,
            session: Session::new(SessionConfig {
                database: DATABASE,
                local,
                remote,
                seed: 7,
            }),
            replica: MemoryReplica::new(ActorId([42; 16]), 1_700_000_000_000),
            heard: Vec::new(),
            link: None,
            links: 0,
            start: Instant::now(),
        }
    }

    /// Links with the peer at `address`, in place of the link before.
    pub(crate) fn dial(&mut self, address: &str) {
        let now = self.start.elapsed();
        self.session.handle_link_down(now, LinkId(self.links));
        let link = self
            .runtime
            .block_on(tcp_connect(address, &self.credentials));
        let (_, sender, receiver) = link.unwrap().split();
        self.link = Some((sender, receiver));
        self.links += 1;
        let link = LinkId(self.links);
        self.session
            .handle_link_up(now, link, LinkProperties::default());
    }

    /// Whether there is a link.
    pub(crate) fn is_linked(&self) -> bool {
        self.link.is_some()
    }

    /// Sends a frame that the session knows nothing of.
    pub(crate) fn say(&self, lane: Lane, frame: Vec<u8>) {
        let (sender, _) = self.link.as_ref().unwrap();
        sender.try_send(lane, frame).unwrap();
    }

    /// Speaks and hears until `is_done`. `alter` has each frame before it leaves.
    #[track_caller]
    pub(crate) fn run(
        &mut self,
        what: &str,
        mut alter: impl FnMut(Vec<u8>) -> Vec<u8>,
        mut is_done: impl FnMut() -> bool,
    ) {
        wait_until(what, || {
            self.step(&mut alter);
            is_done()
        });
    }

    /// Speaks and hears until the other peer has asked for a subscription, and gives the number of that.
    #[track_caller]
    pub(crate) fn asked_for(&mut self, subscription: SubscriptionId) -> u32 {
        let mut asked = None;
        wait_until("it is asked for", || {
            self.step(&mut |frame| frame);
            asked = self
                .heard
                .iter()
                .find_map(|frame| match Message::decode(frame) {
                    Ok(Message::Subscribe(it)) if it.subscription == subscription => Some(it.alias),
                    _ => None,
                });
            asked.is_some()
        });
        asked.unwrap()
    }

    fn step(&mut self, alter: &mut impl FnMut(Vec<u8>) -> Vec<u8>) {
        let now = self.start.elapsed();
        let Some((sender, receiver)) = &mut self.link else {
            return;
        };
        let link = LinkId(self.links);
        let mut is_lost = false;
        let wait = Duration::from_millis(2);
        let mut receive = async || tokio::time::timeout(wait, receiver.recv()).await;
        while let Ok(received) = self.runtime.block_on(receive()) {
            let Ok(Some((_, frame))) = received else {
                is_lost = true;
                break;
            };
            self.session
                .handle_frame(now, &mut self.replica, link, &frame);
            self.heard.push(frame);
        }
        self.replica.make_durable();
        self.session.handle_commit(now, &mut self.replica);
        while let Some(sent) = self.session.poll_transmit(now, &self.replica) {
            is_lost |= sender.try_send(sent.lane, alter(sent.frame)).is_err();
        }
        while self.session.poll_event().is_some() {}
        if self.session.poll_timeout().is_some_and(|due| due <= now) {
            self.session.handle_timeout(now, &mut self.replica);
        }
        if is_lost {
            self.link = None;
        }
    }
}
