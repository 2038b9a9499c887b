//! What the driver of replication waits for.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use idem_mesh::{AddressId, Medium};
use idem_sync::LinkId;
use idem_transport::{LinkError, LinkProperties, LinkSender};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    links::{Origin, Parting},
    media::Spot,
};

/// Something about a link or a peer. Frames are bounded by the budget that their permit is from, what was
/// found by one, the others by the number of links and dials.
pub(crate) enum Input {
    LinkUp {
        link: LinkId,
        sender: LinkSender,
        parting: Arc<Parting>,
        properties: Box<LinkProperties>,
        origin: Origin,
    },
    Frames {
        link: LinkId,
        frames: Vec<Vec<u8>>,
        /// Given back when the frames are handled, which lets the link read on.
        permit: OwnedSemaphorePermit,
    },
    LinkDown {
        link: LinkId,
    },
    /// A peer was found, or is not there any more.
    Discovered {
        event: Sighting,
        /// Dropped when it is handled, which lets the next one come.
        _taken: oneshot::Sender<()>,
    },
    /// A peer that was found could not be linked with.
    DialFailed {
        found: AddressId,
        error: LinkError,
    },
    /// Looking for peers over a medium begins or ends.
    Discovering {
        medium: Medium,
        is_on: bool,
    },
    /// This peer is to be shown to others in another way.
    OwnChanged,
    /// The app gave a certificate, or something that an authority signed.
    TrustChanged,
}

/// What a discovery tells.
#[derive(Debug)]
pub(crate) enum Sighting {
    /// A peer is there, under a name that no other discovery gives.
    Found {
        name: String,
        peer: [u8; 8],
        spot: Spot,
        signal_dbm: Option<i8>,
    },
    Vanished {
        name: String,
    },
}

/// The driver's queue, and flags for what needs no queue.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<Pending>,
    changed: Condvar,
}

/// What came in since the last look.
#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) inputs: VecDeque<Input>,
    /// More of the local store is on disk.
    pub(crate) has_commit: bool,
    /// More of it was acknowledged, and is not on disk yet.
    pub(crate) has_relaxed_commit: bool,
    pub(crate) has_subscription_change: bool,
    /// Documents of this peer moved in a window, or a question about one was answered.
    pub(crate) has_window_change: bool,
    /// A link has room for frames again.
    pub(crate) has_room: bool,
    pub(crate) is_stopped: bool,
}

impl Pending {
    /// Bytes of all frames.
    pub(crate) fn frame_bytes(&self) -> usize {
        let bytes = self.inputs.iter().map(|input| match input {
            Input::Frames { frames, .. } => frames.iter().map(Vec::len).sum(),
            _ => 0,
        });
        bytes.sum()
    }

    fn is_empty(&self) -> bool {
        self.inputs.is_empty()
            && !self.has_commit
            && !self.has_relaxed_commit
            && !self.has_subscription_change
            && !self.has_window_change
            && !self.has_room
            && !self.is_stopped
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Pending)) {
        let mut state = self.lock();
        let was_empty = state.is_empty();
        change(&mut state);
        drop(state);
        // A driver that has not taken the earlier input yet is awake already.
        if was_empty {
            self.changed.notify_one();
        }
    }

    pub(crate) fn push(&self, input: Input) {
        self.change(|pending| pending.inputs.push_back(input));
    }

    /// Hands over what a discovery found, and waits until it is handled: one waits at most, however many
    /// come and go.
    pub(crate) async fn discover(&self, event: Sighting) {
        let (taken, handled) = oneshot::channel();
        self.push(Input::Discovered {
            event,
            _taken: taken,
        });
        // It is an error that is waited for: nothing is ever sent.
        let _ = handled.await;
    }

    pub(crate) fn commit(&self) {
        self.change(|pending| pending.has_commit = true);
    }

    pub(crate) fn relaxed_commit(&self) {
        self.change(|pending| pending.has_relaxed_commit = true);
    }

    pub(crate) fn subscriptions_changed(&self) {
        self.change(|pending| pending.has_subscription_change = true);
    }

    pub(crate) fn windows_changed(&self) {
        self.change(|pending| pending.has_window_change = true);
    }

    pub(crate) fn room(&self) {
        self.change(|pending| pending.has_room = true);
    }

    pub(crate) fn stop(&self) {
        self.change(|pending| pending.is_stopped = true);
    }

    /// Takes everything, after waiting for the first of it for at most `limit`.
    pub(crate) fn take(&self, limit: Option<Duration>) -> Pending {
        let mut state = self.lock();
        if state.is_empty() {
            state = match limit {
                None => self
                    .changed
                    .wait_while(state, |pending| pending.is_empty())
                    .unwrap_or_else(PoisonError::into_inner),
                Some(limit) => {
                    self.changed
                        .wait_timeout_while(state, limit, |pending| pending.is_empty())
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        std::mem::take(&mut *state)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}
