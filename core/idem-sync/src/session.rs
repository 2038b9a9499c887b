//! The state of replication with one peer.

use std::time::Duration;

use idem_model::{DatabaseId, PeerId};
use idem_query::Selector;
use idem_wire::{Lane, SubscriptionId};

use crate::{event::Event, replica::Replica};

/// Names a link of a session; the owner chooses it and never reuses it within a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// What a session needs to know of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LinkProperties {
    /// The largest frame that the link carries, at most `limits::FRAME_BYTES_MAX`.
    pub frame_bytes_max: u32,
}

impl Default for LinkProperties {
    fn default() -> Self {
        Self {
            frame_bytes_max: u32::try_from(idem_model::limits::FRAME_BYTES_MAX)
                .expect("the frame limit is far below 4 GiB"),
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
    /// Documents merged that told something that was not known here.
    pub documents_changed: u64,
    /// Documents received that told nothing that was not known here.
    pub documents_unchanged: u64,
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
}

/// The state of replication with one peer.
#[derive(Debug)]
pub struct Session {
    _config: SessionConfig,
}

impl Session {
    /// A session without links and subscriptions.
    pub fn new(config: SessionConfig) -> Self {
        Self { _config: config }
    }

    /// A link to the remote is up.
    pub fn handle_link_up(&mut self, _now: Duration, _link: LinkId, _properties: LinkProperties) {
        unimplemented!()
    }

    /// A link is gone. Frames on their way over it may or may not have arrived.
    pub fn handle_link_down(&mut self, _now: Duration, _link: LinkId) {
        unimplemented!()
    }

    /// A frame came in.
    pub fn handle_frame<R: Replica>(
        &mut self,
        _now: Duration,
        _replica: &mut R,
        _link: LinkId,
        _frame: &[u8],
    ) {
        unimplemented!()
    }

    /// The store's [`Replica::durable_commit`] rose.
    pub fn handle_commit<R: Replica>(&mut self, _now: Duration, _replica: &mut R) {
        unimplemented!()
    }

    /// The time of [`Session::poll_timeout`] has come.
    pub fn handle_timeout<R: Replica>(&mut self, _now: Duration, _replica: &mut R) {
        unimplemented!()
    }

    /// Asks the remote for what `selector` selects.
    ///
    /// # Errors
    /// [`SubscribeError::TooMany`].
    pub fn subscribe(
        &mut self,
        _selector: Selector,
        _priority: Priority,
    ) -> Result<SubscriptionId, SubscribeError> {
        unimplemented!()
    }

    /// Asks for it no longer. What is held stays.
    pub fn unsubscribe(&mut self, _subscription: SubscriptionId) {
        unimplemented!()
    }

    /// Says goodbye on the link in use, if there is one.
    pub fn close(&mut self) {
        unimplemented!()
    }

    /// The next frame to send; call until `None`, as long as the link takes frames.
    pub fn poll_transmit<R: Replica>(
        &mut self,
        _now: Duration,
        _replica: &mut R,
    ) -> Option<Transmit> {
        unimplemented!()
    }

    /// When to call [`Session::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        unimplemented!()
    }

    /// What happened; call until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        unimplemented!()
    }

    /// The peer that this session is with.
    pub fn remote(&self) -> PeerId {
        self._config.remote
    }

    /// Whether the handshake is done on a link that is up.
    pub fn is_established(&self) -> bool {
        unimplemented!()
    }

    /// Counters since the session began.
    pub fn stats(&self) -> SessionStats {
        unimplemented!()
    }
}
