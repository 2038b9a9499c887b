//! A peer that this one is linked with.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_model::{BlobKey, BlobPart, GroupSet, limits};
use idem_wire::BlobMessage;

use crate::window::{Asked, Window};

/// The span of time in which questions are counted.
const COUNTED: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) frame_bytes_max: usize,
    /// Messages without content that wait to be sent.
    pub(crate) messages: VecDeque<Vec<u8>>,
    /// What it asked for and did not get.
    pub(crate) gets: VecDeque<(BlobKey, BlobPart)>,
    /// A piece that was sent in part.
    pub(crate) sending: Option<Sending>,
    /// What it waits for.
    pub(crate) interests: BTreeMap<BlobKey, Told>,
    /// Of those, what it is to be told more about.
    pub(crate) news: BTreeSet<BlobKey>,
    pub(crate) news_at: Duration,
    /// What it was asked for, in order.
    pub(crate) flights: VecDeque<Flight>,
    pub(crate) window: Window,
    /// When something of a piece came from it.
    pub(crate) heard_at: Duration,
    /// Bytes that may come though nobody waits for them any more.
    pub(crate) forgiven: u64,
    /// Whether there may be something to ask it for.
    pub(crate) is_stirred: bool,
    /// The blob of which it was asked for a part last.
    pub(crate) asked_last: Option<BlobKey>,
    /// Blobs of which it sent what is no part of them.
    pub(crate) damaged: BTreeSet<BlobKey>,
    asks: u32,
    asks_since: Duration,
}

/// A part that a neighbour was asked for.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) key: BlobKey,
    pub(crate) part: BlobPart,
    pub(crate) asked: Asked,
    pub(crate) asked_at: Duration,
    pub(crate) received: Vec<u8>,
    /// Whether another neighbour was asked as well, because this one is slow.
    pub(crate) is_doubled: bool,
}

impl Flight {
    pub(crate) fn rest(&self) -> u64 {
        self.key.piece_bytes_of(self.part) - self.received.len() as u64
    }
}

/// A piece on its way out.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) key: BlobKey,
    pub(crate) part: BlobPart,
    pub(crate) piece: Vec<u8>,
    pub(crate) at: usize,
}

/// What a neighbour was told of a blob: the groups, none at first.
pub(crate) type Told = Option<GroupSet>;

impl Neighbour {
    pub(crate) fn new(now: Duration, frame_bytes_max: usize) -> Self {
        Self {
            frame_bytes_max: frame_bytes_max.min(limits::FRAME_BYTES_MAX),
            messages: VecDeque::new(),
            gets: VecDeque::new(),
            sending: None,
            interests: BTreeMap::new(),
            news: BTreeSet::new(),
            news_at: Duration::ZERO,
            flights: VecDeque::new(),
            window: Window::new(),
            heard_at: now,
            forgiven: 0,
            is_stirred: true,
            asked_last: None,
            damaged: BTreeSet::new(),
            asks: 0,
            asks_since: now,
        }
    }

    pub(crate) fn push(&mut self, message: &BlobMessage<'_>) {
        self.messages.push_back(message.to_bytes());
    }

    /// Whether more waits for it than it may leave unread.
    pub(crate) fn is_clogged(&self) -> bool {
        self.messages.len() > limits::BLOB_MESSAGES_QUEUED_MAX
    }

    /// Whether a question of it may be passed on.
    pub(crate) fn count_ask(&mut self, now: Duration) -> bool {
        if now >= self.asks_since + COUNTED {
            self.asks_since = now;
            self.asks = 0;
        }
        self.asks = self.asks.saturating_add(1);
        self.asks <= limits::BLOB_ASKS_PER_TEN_SECONDS_MAX
    }

    /// Whether it may not wait for another blob.
    pub(crate) fn is_full(&self, key: BlobKey) -> bool {
        self.interests.len() >= limits::BLOB_INTERESTS_PER_PEER_MAX
            && !self.interests.contains_key(&key)
    }

    pub(crate) fn forget(&mut self, key: BlobKey) {
        self.interests.remove(&key);
        self.news.remove(&key);
    }

    /// Nothing more is awaited of the flights that `choose` picks. Gives them.
    pub(crate) fn release(&mut self, mut choose: impl FnMut(&Flight) -> bool) -> Vec<Flight> {
        let mut released = Vec::new();
        for flight in std::mem::take(&mut self.flights) {
            if choose(&flight) {
                self.forgiven += flight.rest();
                self.window.give_up(flight.asked);
                released.push(flight);
            } else {
                self.flights.push_back(flight);
            }
        }
        released
    }

    /// Since when it owes something.
    pub(crate) fn waiting_since(&self) -> Option<Duration> {
        let first = self.flights.front()?;
        Some(first.asked_at.max(self.heard_at))
    }
}
