//! What a session tells its owner.

use idem_model::{CollectionName, DocumentKey, LinkId, PeerId};
use idem_query::{Reach, Window};
use idem_wire::SubscriptionId;

/// Something that the owner of a session may want to show or act on.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The handshake is done and replication runs over this link.
    Established {
        /// The link in use.
        link: LinkId,
        /// The remote peer.
        peer: PeerId,
        /// The protocol version that both speak.
        version: u16,
    },
    /// No link is left. The session keeps its state and goes on when a link comes up.
    Suspended,
    /// This side holds everything that the remote had when the subscription started on this link.
    CaughtUp {
        /// Which subscription.
        subscription: SubscriptionId,
    },
    /// What the mesh of the remote says: see [`Session::gossip`](crate::Session::gossip).
    Gossip(Vec<u8>),
    /// The remote asks how far the first `count` documents of a window go here:
    /// [`Session::tell_reach`](crate::Session::tell_reach). A later one with the same number takes its place.
    ReachAsked {
        /// Names the question, below `limits::WINDOWS_PER_SESSION_MAX`.
        number: u8,
        /// How many documents, 1 to `limits::WINDOW_COUNT_MAX`.
        count: u32,
        /// Of which window.
        window: Window,
    },
    /// The remote answers [`Session::ask_reach`](crate::Session::ask_reach).
    ReachTold {
        /// As it was asked.
        number: u8,
        /// As it was asked.
        count: u32,
        /// How far they go there; the error is for people.
        reach: Result<Reach, String>,
    },
    /// This side holds everything of some collections that it asks for and that the remote had when the
    /// link came up, or when it began to ask: no document of them was held back or refused since.
    CollectionsCaughtUp {
        /// Which, as many as there are now.
        collections: Vec<CollectionName>,
        /// Whether these are all of which this side asks for something.
        are_all: bool,
    },
    /// Documents that were not taken in before ([`Event::Refused`], [`Event::OutOfScope`]) have come again,
    /// and were.
    TakenIn {
        /// Which.
        documents: Vec<DocumentKey>,
    },
    /// Changes of the remote were merged.
    Applied {
        /// How many documents told something that was not known here.
        documents: u64,
        /// Bytes of document states, as sent before compression.
        bytes: u64,
    },
    /// The remote refuses a subscription.
    SubscriptionRefused {
        /// Which subscription.
        subscription: SubscriptionId,
        /// Why, in the remote's words.
        detail: String,
    },
    /// The remote does not serve a subscription: the sync scope of the collection there leaves this side
    /// out. It is asked for again when that changes.
    ScopeClosed {
        /// Which subscription.
        subscription: SubscriptionId,
    },
    /// The remote serves a subscription that it did not ([`Event::ScopeClosed`]).
    ScopeOpened {
        /// Which subscription.
        subscription: SubscriptionId,
    },
    /// The remote sent documents of collections whose sync scope here leaves it out. They were not taken
    /// in. Some may have been under way when the scope was closed.
    OutOfScope {
        /// Which, or the first `limits::EVENT_DOCUMENTS_MAX` of them.
        documents: Vec<DocumentKey>,
        /// How many in all.
        count: u64,
    },
    /// A subscription of the remote is refused here.
    RemoteRefused {
        /// Which subscription.
        subscription: SubscriptionId,
        /// Why.
        detail: String,
    },
    /// The remote asks no more for a subscription that is refused here.
    RemoteRefusalEnded {
        /// Which subscription.
        subscription: SubscriptionId,
    },
    /// The remote asks for a subscription.
    RemoteSubscribed {
        /// Which subscription.
        subscription: SubscriptionId,
        /// Its canonical statement.
        statement: String,
    },
    /// Documents were held back because their stamps lie too far in the future. They are asked for
    /// again when the next link comes up.
    HeldBack {
        /// Which, or the first `limits::EVENT_DOCUMENTS_MAX` of them.
        documents: Vec<DocumentKey>,
        /// How many in all.
        count: u64,
    },
    /// The remote does not hold documents that were sent to it and that it asks for: it held them back
    /// for their stamps, or could not use what came. They are sent again on the next link, or after
    /// [`Event::RemoteRestarted`].
    NotHeld {
        /// Which, at most those of one message.
        documents: Vec<DocumentKey>,
    },
    /// The remote does not hold all of what was sent to it at once, and named not all that it does not; see
    /// [`Event::NotHeld`].
    NotAllHeld {
        /// How many documents were sent: so many are not held at most.
        count: u64,
    },
    /// Documents of the remote are no documents, or exceed a limit. The link is given up.
    Refused {
        /// Which, or the first `limits::EVENT_DOCUMENTS_MAX` of them.
        documents: Vec<DocumentKey>,
    },
    /// The session goes on over another link, with all that was under way.
    Moved {
        /// Which link.
        link: LinkId,
    },
    /// The remote could not use what it was sent, and gets everything again from its cursors on.
    RemoteRestarted,
    /// The remote has forgotten what was deleted while this side was away, and was asked.
    DeletedMeanwhile {
        /// In which collection.
        collection: CollectionName,
        /// Documents that were deleted there, and are gone here now as well.
        deleted: u64,
        /// Documents that may have been deleted, and are in quarantine.
        quarantined: u64,
    },
    /// A transaction is too large for one atomic group and was sent in parts.
    TransactionSplit {
        /// Its size in bytes.
        bytes: u64,
    },
    /// The remote clock differs from ours by more than what is followed.
    ClockSkew {
        /// Positive if the remote is ahead, in milliseconds.
        ahead_ms: i64,
    },
    /// The session gave a link up. The owner closes it once everything for it was transmitted.
    Closed {
        /// Which link.
        link: LinkId,
        /// Why.
        reason: CloseReason,
        /// More words for people; never secrets.
        detail: String,
        /// Whether the remote said so.
        by_remote: bool,
    },
}

/// Why a session gives a link up. [`CloseReason::code`] is stable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The owner asked for it.
    Goodbye,
    /// No protocol version that both speak.
    Version,
    /// The remote belongs to another database.
    Database,
    /// The remote is not the peer that this session is for, or is this peer itself.
    Identity,
    /// Bytes that are no message, or a message that is not allowed now.
    Malformed,
    /// A limit was exceeded.
    Limit,
    /// A subscription that cannot be read.
    Subscription,
    /// The remote did not answer in time.
    Timeout,
    /// The local store failed.
    Store,
    /// The local store took a new actor; the link must be set up again.
    ActorRenewed,
    /// The other side has lost the link.
    Lost,
}

impl CloseReason {
    /// The stable name of the reason.
    pub fn code(self) -> &'static str {
        match self {
            Self::Goodbye => "sync/goodbye",
            Self::Version => "sync/version",
            Self::Database => "sync/database",
            Self::Identity => "sync/identity",
            Self::Malformed => "sync/malformed",
            Self::Limit => "sync/limit",
            Self::Subscription => "sync/subscription",
            Self::Timeout => "sync/timeout",
            Self::Store => "sync/store",
            Self::ActorRenewed => "sync/actor-renewed",
            Self::Lost => "sync/lost",
        }
    }

    /// The number that stands for the reason on the wire.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Goodbye => 0,
            Self::Version => 1,
            Self::Database => 2,
            Self::Identity => 3,
            Self::Malformed => 4,
            Self::Limit => 5,
            Self::Subscription => 6,
            Self::Timeout => 7,
            Self::Store => 8,
            Self::ActorRenewed => 9,
            Self::Lost => 10,
        }
    }

    /// The reason of a number; an unknown one is a goodbye.
    pub(crate) fn from_number(number: u8) -> Self {
        const ALL: [CloseReason; 11] = [
            CloseReason::Goodbye,
            CloseReason::Version,
            CloseReason::Database,
            CloseReason::Identity,
            CloseReason::Malformed,
            CloseReason::Limit,
            CloseReason::Subscription,
            CloseReason::Timeout,
            CloseReason::Store,
            CloseReason::ActorRenewed,
            CloseReason::Lost,
        ];
        let known = ALL.into_iter().find(|reason| reason.number() == number);
        known.unwrap_or(Self::Goodbye)
    }
}
