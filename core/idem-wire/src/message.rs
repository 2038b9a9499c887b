//! The messages of the protocol, version 1.

use idem_model::{ActorId, DecodeError, DocumentKey, Lane, Timestamp, VersionVector};

use crate::{
    check::{Check, Checked},
    compared::{Compared, Lacks},
    sketch::{SketchBlock, SketchSummary},
    subscription::SubscriptionId,
    window::{AskReach, Reach},
};

/// The oldest protocol version that this build speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 1;

/// The newest protocol version that this build speaks.
pub const PROTOCOL_VERSION_MAX: u16 = 1;

/// The last round of transfers on a link: it shares a byte with two flags.
pub const ROUNDS_MAX: u8 = 63;

/// The peer is a Big Peer; without it a small one.
pub const CAPABILITY_BIG_PEER: u64 = 1;

/// All that was visible at the time of the HELLO was durable.
pub const CAPABILITY_DURABLE: u64 = 2;

/// SUBSCRIBEs follow the HELLO at once. The other side may wait for them, because one comparison serves
/// both sides where they want the same.
pub const CAPABILITY_SUBSCRIBES: u64 = 4;

/// What was held before may be gone without notice, so that documents come whole and not as deltas.
pub const CAPABILITY_WHOLE: u64 = 8;

/// Message numbers (docs/format/wire.md, "Messages").
pub(crate) mod number {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const BYE: u8 = 0x02;
    pub(crate) const SUBSCRIBE: u8 = 0x03;
    pub(crate) const ASK_STATEMENT: u8 = 0x04;
    pub(crate) const STATEMENT: u8 = 0x05;
    pub(crate) const UNSUBSCRIBE: u8 = 0x06;
    pub(crate) const ACCEPT: u8 = 0x07;
    pub(crate) const REFUSE: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x09;
    pub(crate) const TRANSFER: u8 = 0x0a;
    pub(crate) const HAVE: u8 = 0x0b;
    pub(crate) const WANT: u8 = 0x0c;
    pub(crate) const RESUMED: u8 = 0x0d;
    pub(crate) const ASK_HOLDINGS: u8 = 0x0e;
    pub(crate) const SYMBOLS: u8 = 0x0f;
    pub(crate) const ITEMS: u8 = 0x10;
    pub(crate) const COMPARED: u8 = 0x11;
    pub(crate) const LACKS: u8 = 0x12;
    pub(crate) const ANSWER: u8 = 0x17;
    pub(crate) const CHECK: u8 = 0x14;
    pub(crate) const CHECKED: u8 = 0x15;
    pub(crate) const FLOOR: u8 = 0x16;
    pub(crate) const INVITE: u8 = 0x18;
    pub(crate) const GOSSIP: u8 = 0x13;
    pub(crate) const MOVE: u8 = 0x1e;
    pub(crate) const LOST: u8 = 0x1f;
    pub(crate) const UNHELD: u8 = 0x20;
    pub(crate) const RESTART: u8 = 0x23;
    pub(crate) const ASK_REACH: u8 = 0x28;
    pub(crate) const REACH: u8 = 0x29;
    pub(crate) const FEED: u8 = 0x21;
    pub(crate) const PULL: u8 = 0x22;
    /// Numbers from here on are skipped by who does not know them.
    pub(crate) const EXTENSIONS: u8 = 0x80;
}

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Message<'a> {
    /// Opens a session on a link.
    Hello(Hello),
    /// Ends it.
    Bye {
        /// A number that stands for the reason.
        code: u8,
        /// Words for people.
        detail: &'a str,
    },
    /// Asks for a subscription.
    Subscribe(Subscribe),
    /// Asks for the statement of a subscription that is not known here.
    AskStatement {
        /// Which one.
        subscription: SubscriptionId,
    },
    /// Answers [`Message::AskStatement`], in one or more frames.
    Statement {
        /// Which one.
        subscription: SubscriptionId,
        /// Whether the text goes on in another frame.
        more: bool,
        /// Its canonical text, or the next part of it.
        text: &'a str,
    },
    /// What was sent so far could not be used: all subscriptions end, and transfers count in the next
    /// round.
    Restart,
    /// Ends a subscription.
    Unsubscribe {
        /// The number given in [`Subscribe`].
        alias: u32,
    },
    /// Answers [`Message::Subscribe`].
    Accept(Accept),
    /// Answers [`Message::Subscribe`].
    Refuse {
        /// The number given in [`Subscribe`].
        alias: u32,
        /// Whether the sync scope of the collection leaves the subscriber out. Then [`Message::Invite`]
        /// tells when it does not any more.
        is_closed: bool,
        /// Words for people.
        detail: &'a str,
    },
    /// What was refused because of a sync scope can be asked for again.
    Invite {
        /// The number given in [`Subscribe`].
        alias: u32,
    },
    /// Says what of a lane was processed; gives credit for as many bytes again.
    Ack {
        /// Which lane.
        lane: Lane,
        /// Bytes of frames processed on this lane since the link came up.
        consumed_bytes: u64,
        /// Batches applied durably on this lane since the link came up.
        batches: u64,
    },
    /// A piece of a batch.
    Transfer(Transfer<'a>),
    /// Announces documents that may be held by the receiver already.
    Have {
        /// The lane that this frame is accounted to.
        lane: Lane,
        /// Counts the announcements of the sender on this link, from 1.
        number: u64,
        /// The documents and their versions at the sender.
        documents: Vec<Announced>,
    },
    /// Answers [`Message::Have`], in one or more frames.
    Answer {
        /// The number of the announcement.
        number: u64,
        /// Whether more frames follow, about the documents behind these.
        more: bool,
        /// What is held of the documents, in the order in which they were announced.
        holdings: Vec<HeldVersion>,
    },
    /// Corrects what the other side believes to be held here.
    Want {
        /// The documents and the versions held; an empty version holds nothing.
        documents: Vec<DocumentVersion>,
    },
    /// Asks for more of what a subscriber holds, to find out what it lacks.
    AskHoldings {
        /// The number given in [`Subscribe`].
        alias: u32,
        /// So many symbols more of its sketch; 0 asks for the list of all its items.
        symbols: u32,
    },
    /// Answers [`Message::AskHoldings`] with symbols.
    Symbols {
        /// The number given in [`Subscribe`].
        alias: u32,
        /// The next ones.
        block: SketchBlock,
    },
    /// Answers [`Message::AskHoldings`] with a list, in one or more frames.
    Items(Items),
    /// Tells a subscriber what the comparison showed that it asked for, in one or more frames.
    Compared(Compared),
    /// Answers [`Message::Compared`], in one or more frames.
    Lacks(Lacks),
    /// Answers the resumption that a HELLO asked for.
    Resumed {
        /// Whether everything goes on from where it was. If not, the subscriptions must be asked for
        /// one by one.
        is_known: bool,
        /// Whether there is nothing to catch up with.
        is_caught_up: bool,
    },
    /// Asks which documents the other side knows nothing of, because they may have been deleted there.
    Check(Check),
    /// Answers [`Message::Check`], in one or more frames.
    Checked(Checked),
    /// Tombstones were removed that the receiver may not have heard of.
    Floor {
        /// The lane that this frame is accounted to.
        lane: Lane,
        /// As in [`Hello::gc_floor`].
        floor: Timestamp,
    },
    /// What the meshes of the two sides say to each other (docs/format/presence.md).
    Gossip {
        /// From 1 to `limits::GOSSIP_BYTES_MAX` of them.
        bytes: &'a [u8],
    },
    /// Asks how far the first documents of a window go.
    AskReach(AskReach<'a>),
    /// Answers [`Message::AskReach`].
    Reach(Reach<'a>),
    /// Goes on over another link with what is under way.
    Move(Move),
    /// Asks the other side, which chooses, for another link.
    Lost {
        /// The instance of the side that asks, as in [`Hello::instance`].
        instance: u64,
        /// The last choice that is known here, 0 if none is.
        number: u64,
    },
    /// Not all of a batch that was sent is held, and [`Message::Want`] did not name all that is not.
    Unheld {
        /// Of the batch.
        lane: Lane,
        /// Which one: it was the first, the second and so on that ended on this lane.
        batch: u64,
    },
    /// Says whether the sender has other sources of the same, so that changes which came from others are
    /// to be announced to it rather than sent. At the beginning it has none.
    Feed {
        /// Whether it has.
        is_fed_by_others: bool,
    },
    /// Asks for documents that were announced in a batch ([`BatchItem::Announced`](crate::BatchItem)).
    Pull {
        /// Of the interactive lane, counted as in [`Message::Unheld`].
        batch: u64,
        /// Their places in the announcement, strictly rising, at least one and below
        /// `limits::ANNOUNCED_PER_BATCH_MAX`.
        places: Vec<u32>,
    },
    /// A message that this build does not know and may skip.
    Extension {
        /// Its number.
        number: u8,
    },
}

/// How a peer introduces itself on a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The oldest protocol version that it speaks.
    pub version_min: u16,
    /// The newest one.
    pub version_max: u16,
    /// The start of a hash of the database id. The link has authenticated both sides; this tells
    /// apart databases that share a key.
    pub database: [u8; 8],
    /// The life of its store.
    pub actor: ActorId,
    /// Drawn anew whenever the peer forgets what it knew of a session.
    pub instance: u64,
    /// The last time of its hybrid clock.
    pub timestamp: Timestamp,
    /// The largest frame that it takes.
    pub frame_bytes_max: u32,
    /// How many bytes it takes on one lane beyond what it acknowledged.
    pub lane_credit_bytes: u32,
    /// What the peer is and can: [`CAPABILITY_BIG_PEER`], [`CAPABILITY_DURABLE`],
    /// [`CAPABILITY_SUBSCRIBES`], [`CAPABILITY_WHOLE`]. Others mean nothing.
    pub capabilities: u64,
    /// Tombstones that came there up to this time may be gone; zero if none is gone.
    pub gc_floor: Timestamp,
    /// Counts the choices of a link by the side that makes them; the other side repeats it.
    pub choice: u64,
    /// Asks to go on with all subscriptions of the last link at once.
    pub resumption: Option<Resumption>,
}

/// What begins every lane of a link over which a session goes on, both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// The lane that it is sent on.
    pub lane: Lane,
    /// The instance of the side that chose the link, as in [`Hello::instance`].
    pub instance: u64,
    /// Which choice of it.
    pub number: u64,
    /// Bytes of frames that the sender has received on the lanes 0 to 2 since the HELLOs. `None` if
    /// it does not go on with them, so that HELLOs follow.
    pub received: Option<[u64; 3]>,
}

/// A wish to go on with the subscriptions of an earlier link without naming them. They are numbered
/// from 1 in the order of their ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resumption {
    /// Names the set of subscriptions (docs/format/wire.md, "Resumption").
    pub subscriptions: [u8; 8],
    /// The start of the actor of the store that counted `commit`.
    pub actor: [u8; 4],
    /// Everything up to here is held of every subscription.
    pub commit: u64,
}

/// A request for a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribe {
    /// A number for it on this link, rising.
    pub alias: u32,
    /// Which one.
    pub subscription: SubscriptionId,
    /// How urgent its catch-up is; lower goes first.
    pub priority: u8,
    /// What is held of it.
    pub holdings: Holdings,
    /// Whether some of that was evicted, so that what is said to be held may not be there.
    pub has_evicted: bool,
    /// Its canonical text, where the receiver may not know it.
    pub statement: Option<String>,
    /// Whether more subscriptions follow that are to start together with this one, so that no
    /// transaction over them is sent by half.
    pub more: bool,
    /// Whether documents that match none of the subscriber's subscriptions any more are evicted
    /// there.
    pub evicts: bool,
}

/// What a subscriber holds when it subscribes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Holdings {
    /// Nothing at all.
    Nothing,
    /// Everything up to a position of the other side's feed.
    Resume(Resume),
    /// These items, at most `limits::SUBSCRIBE_ITEMS_MAX`, in rising order.
    Items(Vec<SketchItem>),
    /// What this is a sketch of.
    Sketch {
        /// All of it in brief.
        summary: SketchSummary,
        /// The first symbols.
        block: SketchBlock,
    },
    /// What a comparison shows that the receiver asked for: it told what it holds of the same
    /// subscription in its own SUBSCRIBE, and is told what is lacking here by [`Compared`].
    Mirrored {
        /// The number that it gave there.
        alias: u32,
    },
}

/// A document at a version, in twelve bytes (docs/format/wire.md, "Sketches").
pub type SketchItem = [u8; 12];

/// A part of the list of what a subscriber holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Items {
    /// The lane that this frame is accounted to.
    pub lane: Lane,
    /// The number given in [`Subscribe`].
    pub alias: u32,
    /// Whether more follow.
    pub more: bool,
    /// Whether there is no list, because it is too long: everything is to be sent.
    pub is_void: bool,
    /// At most `limits::ITEMS_PER_FRAME_MAX`.
    pub items: Vec<SketchItem>,
}

/// A position in the feed of the peer that it is sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The life of the store that counted the commit.
    pub actor: ActorId,
    /// Everything up to here is held.
    pub commit: u64,
}

/// A subscription is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accept {
    /// The number given in [`Subscribe`].
    pub alias: u32,
    /// How the sender finds what the subscriber lacks.
    pub tier: CatchUpTier,
    /// Catch-up starts after this commit.
    pub from: u64,
}

/// How a subscription catches up. Later versions add tiers; an unknown one is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum CatchUpTier {
    /// From the position that the subscriber named.
    Resume = 0,
    /// Everything that matches, in the order of the sender's feed.
    Stream = 1,
    /// What a comparison of both sides' sketches or lists shows.
    Difference = 2,
}

/// A piece of a batch. The pieces of one batch follow each other on one lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transfer<'a> {
    /// The lane that this frame is accounted to.
    pub lane: Lane,
    /// Whether more pieces of the same batch follow.
    pub more: bool,
    /// How often the receiver had the sender start again on this link, at most
    /// [`ROUNDS_MAX`].
    pub round: u8,
    /// If the payload is an LZ4 block, the number of bytes that it stands for.
    pub raw_bytes: Option<u32>,
    /// The piece.
    pub payload: &'a [u8],
}

/// A document that is announced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announced {
    /// Which document.
    pub key: DocumentKey,
    /// The version part of its item (docs/format/wire.md, "Sketches").
    pub version: [u8; 8],
}

/// What is held of a document that was announced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeldVersion {
    /// Nothing at all.
    Nothing,
    /// The version that was announced.
    Announced,
    /// Another one.
    Other(VersionVector),
    /// Another one, of more actors than a message may name.
    Unnamed,
}

/// A document and a version of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DocumentVersion {
    /// Which document.
    pub key: DocumentKey,
    /// Which version.
    pub version: VersionVector,
}

/// Why bytes are no message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The body cannot be read.
    #[error("broken {message}")]
    Body {
        /// Which message.
        message: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A number that no message has, below those that may be skipped.
    #[error("unknown message number {number:#04x}")]
    UnknownMessage {
        /// The number.
        number: u8,
    },
    /// Over `limits::FRAME_BYTES_MAX`.
    #[error("frame of {bytes} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No bytes at all.
    #[error("empty frame")]
    Empty,
}

impl Hello {
    /// The newest version that both speak, if there is one.
    pub fn common_version(&self, other: &Self) -> Option<u16> {
        let newest = self.version_max.min(other.version_max);
        (newest >= self.version_min.max(other.version_min)).then_some(newest)
    }
}
