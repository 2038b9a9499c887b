//! Messages to bytes.

use std::collections::BTreeMap;

use idem_model::{CollectionName, DocumentKey, codec::put_bytes, codec::put_varint};

use crate::message::{
    Announced, DocumentVersion, HeldVersion, Hello, Holdings, Items, Message, Move, ROUNDS_MAX,
    SketchItem, Subscribe, Transfer, number,
};

/// The first bytes of a HELLO, whatever its version.
pub(crate) const MAGIC: [u8; 4] = *b"idem";

impl Message<'_> {
    /// The frame that [`Message::decode`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.encode(&mut out);
        out
    }

    /// Appends the frame.
    #[expect(clippy::too_many_lines, reason = "one entry for each message")]
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Hello(hello) => hello.encode(out),
            Message::Bye { code, detail } => {
                out.extend_from_slice(&[number::BYE, *code]);
                put_bytes(out, detail.as_bytes());
            }
            Message::Subscribe(subscribe) => subscribe.encode(out),
            Message::AskStatement { subscription } => {
                out.push(number::ASK_STATEMENT);
                out.extend_from_slice(&subscription.0);
            }
            Message::Statement {
                subscription,
                more,
                text,
            } => {
                out.push(number::STATEMENT);
                out.extend_from_slice(&subscription.0);
                out.push(u8::from(*more) * STATEMENT_MORE);
                put_bytes(out, text.as_bytes());
            }
            Message::Unsubscribe { alias } => {
                out.push(number::UNSUBSCRIBE);
                put_varint(out, u64::from(*alias));
            }
            Message::Accept(accept) => {
                out.push(number::ACCEPT);
                put_varint(out, u64::from(accept.alias));
                out.push(accept.tier as u8);
                put_varint(out, accept.from);
            }
            Message::Refuse {
                alias,
                is_closed,
                detail,
            } => {
                out.push(number::REFUSE);
                put_varint(out, u64::from(*alias));
                out.push(u8::from(*is_closed) * REFUSE_CLOSED);
                put_bytes(out, detail.as_bytes());
            }
            Message::Invite { alias } => {
                out.push(number::INVITE);
                put_varint(out, u64::from(*alias));
            }
            Message::Ack {
                lane,
                consumed_bytes,
                batches,
            } => {
                out.extend_from_slice(&[number::ACK, lane.number()]);
                put_varint(out, *consumed_bytes);
                put_varint(out, *batches);
            }
            Message::Transfer(transfer) => transfer.encode(out),
            Message::Have { .. } | Message::Answer { .. } | Message::Want { .. } => {
                self.encode_versions(out);
            }
            Message::AskHoldings { alias, symbols } => {
                out.push(number::ASK_HOLDINGS);
                put_varint(out, u64::from(*alias));
                put_varint(out, u64::from(*symbols));
            }
            Message::Symbols { alias, block } => {
                out.push(number::SYMBOLS);
                put_varint(out, u64::from(*alias));
                block.encode(out);
            }
            Message::Items(items) => items.encode(out),
            Message::Resumed {
                is_known,
                is_caught_up,
            } => {
                let known = if *is_known { RESUMED_KNOWN } else { 0 };
                let caught_up = if *is_caught_up { RESUMED_CAUGHT_UP } else { 0 };
                out.extend_from_slice(&[number::RESUMED, known | caught_up]);
            }
            Message::Compared(compared) => compared.encode(out),
            Message::Lacks(lacks) => lacks.encode(out),
            Message::Check(check) => check.encode(out),
            Message::Checked(checked) => checked.encode(out),
            Message::Floor { lane, floor } => {
                out.extend_from_slice(&[number::FLOOR, lane.number()]);
                put_varint(out, floor.0);
            }
            Message::Gossip { bytes } => {
                out.push(number::GOSSIP);
                put_bytes(out, bytes);
            }
            Message::AskReach(it) => it.encode(out),
            Message::Reach(it) => it.encode(out),
            Message::Move(it) => it.encode(out),
            Message::Lost { instance, number } => {
                out.push(number::LOST);
                out.extend_from_slice(&instance.to_be_bytes());
                put_varint(out, *number);
            }
            Message::Restart => out.push(number::RESTART),
            Message::Unheld { lane, batch } => {
                out.extend_from_slice(&[number::UNHELD, lane.number()]);
                put_varint(out, *batch);
            }
            Message::Feed { is_fed_by_others } => {
                out.extend_from_slice(&[number::FEED, u8::from(*is_fed_by_others)]);
            }
            Message::Pull { batch, places } => {
                out.push(number::PULL);
                put_varint(out, *batch);
                put_varint(out, places.len() as u64);
                for place in places {
                    put_varint(out, u64::from(*place));
                }
            }
            Message::Extension { number } => out.push(*number),
        }
    }

    /// Appends a frame that is about versions of documents.
    fn encode_versions(&self, out: &mut Vec<u8>) {
        match self {
            Message::Have {
                lane,
                number,
                documents,
            } => {
                out.extend_from_slice(&[number::HAVE, lane.number()]);
                put_varint(out, *number);
                encode_announced(documents, out);
            }
            Message::Answer {
                number,
                more,
                holdings,
            } => {
                out.push(number::ANSWER);
                put_varint(out, *number);
                out.push(if *more { ANSWER_MORE } else { 0 });
                encode_holdings(holdings, out);
            }
            Message::Want { documents } => {
                out.push(number::WANT);
                encode_versions(documents, out);
            }
            _ => unreachable!("the caller looked at it"),
        }
    }
}

impl Hello {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(number::HELLO);
        out.extend_from_slice(&MAGIC);
        put_varint(out, u64::from(self.version_min));
        put_varint(out, u64::from(self.version_max));
        out.extend_from_slice(&self.database);
        out.extend_from_slice(&self.actor.0);
        out.extend_from_slice(&self.instance.to_be_bytes());
        put_varint(out, self.timestamp.0);
        put_varint(out, u64::from(self.frame_bytes_max));
        put_varint(out, u64::from(self.lane_credit_bytes));
        put_varint(out, self.capabilities);
        put_varint(out, self.gc_floor.0);
        put_varint(out, self.choice);
        out.push(u8::from(self.resumption.is_some()));
        if let Some(resumption) = &self.resumption {
            out.extend_from_slice(&resumption.subscriptions);
            out.extend_from_slice(&resumption.actor);
            put_varint(out, resumption.commit);
        }
    }
}

impl Move {
    fn encode(&self, out: &mut Vec<u8>) {
        let flags = if self.received.is_none() {
            MOVE_ANEW
        } else {
            0
        };
        out.extend_from_slice(&[number::MOVE, self.lane.number(), flags]);
        out.extend_from_slice(&self.instance.to_be_bytes());
        put_varint(out, self.number);
        for bytes in self.received.iter().flatten() {
            put_varint(out, *bytes);
        }
    }
}

impl Subscribe {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(number::SUBSCRIBE);
        put_varint(out, u64::from(self.alias));
        out.extend_from_slice(&self.subscription.0);
        out.push(self.priority);
        let mut flags = 0;
        for (is_set, bit) in [
            (
                matches!(self.holdings, Holdings::Resume(_)),
                SUBSCRIBE_RESUME,
            ),
            (matches!(self.holdings, Holdings::Items(_)), SUBSCRIBE_ITEMS),
            (
                matches!(self.holdings, Holdings::Sketch { .. }),
                SUBSCRIBE_SKETCH,
            ),
            (
                matches!(self.holdings, Holdings::Mirrored { .. }),
                SUBSCRIBE_MIRRORED,
            ),
            (self.has_evicted, SUBSCRIBE_EVICTED),
            (self.statement.is_some(), SUBSCRIBE_STATEMENT),
            (self.more, SUBSCRIBE_MORE),
            (self.evicts, SUBSCRIBE_EVICTS),
        ] {
            flags |= if is_set { bit } else { 0 };
        }
        put_varint(out, u64::from(flags));
        match &self.holdings {
            Holdings::Nothing => {}
            Holdings::Resume(resume) => {
                out.extend_from_slice(&resume.actor.0);
                put_varint(out, resume.commit);
            }
            Holdings::Items(items) => encode_items(items, out),
            Holdings::Sketch { summary, block } => {
                summary.encode(out);
                block.encode(out);
            }
            Holdings::Mirrored { alias } => put_varint(out, u64::from(*alias)),
        }
        if let Some(statement) = &self.statement {
            put_bytes(out, statement.as_bytes());
        }
    }
}

/// The flag of a MOVE: nothing goes on, HELLOs follow.
pub(crate) const MOVE_ANEW: u8 = 1;

/// Bits of the flags byte of a RESUMED.
pub(crate) const RESUMED_KNOWN: u8 = 1;
pub(crate) const RESUMED_CAUGHT_UP: u8 = 2;

impl Items {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        if self.more {
            flags |= ITEMS_MORE;
        }
        if self.is_void {
            flags |= ITEMS_VOID;
        }
        out.extend_from_slice(&[number::ITEMS, self.lane.number(), flags]);
        put_varint(out, u64::from(self.alias));
        encode_items(&self.items, out);
    }
}

pub(crate) fn encode_items(items: &[SketchItem], out: &mut Vec<u8>) {
    put_varint(out, items.len() as u64);
    items.iter().for_each(|item| out.extend_from_slice(item));
}

/// Bits of the flags byte of an ITEMS.
pub(crate) const ITEMS_MORE: u8 = 1;
pub(crate) const ITEMS_VOID: u8 = 2;

/// Bits of the flags of a SUBSCRIBE.
pub(crate) const SUBSCRIBE_RESUME: u16 = 1;
pub(crate) const SUBSCRIBE_MORE: u16 = 2;
pub(crate) const REFUSE_CLOSED: u8 = 1;
pub(crate) const STATEMENT_MORE: u8 = 1;
pub(crate) const SUBSCRIBE_STATEMENT: u16 = 8;
pub(crate) const SUBSCRIBE_ITEMS: u16 = 16;
pub(crate) const SUBSCRIBE_SKETCH: u16 = 32;
pub(crate) const SUBSCRIBE_EVICTS: u16 = 64;
pub(crate) const SUBSCRIBE_MIRRORED: u16 = 128;
pub(crate) const SUBSCRIBE_EVICTED: u16 = 256;
/// At most one of these bits is set.
pub(crate) const SUBSCRIBE_HOLDINGS: u16 =
    SUBSCRIBE_RESUME | SUBSCRIBE_ITEMS | SUBSCRIBE_SKETCH | SUBSCRIBE_MIRRORED;

/// Bits of the flags byte of a TRANSFER.
pub(crate) const TRANSFER_MORE: u8 = 1;
pub(crate) const TRANSFER_COMPRESSED: u8 = 2;
/// The round is in the bits above.
pub(crate) const TRANSFER_ROUND_SHIFT: u32 = 2;

impl Transfer<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.payload.len() + 16);
        assert!(
            self.round <= ROUNDS_MAX,
            "the round shares a byte with flags"
        );
        let mut flags = self.round << TRANSFER_ROUND_SHIFT;
        if self.more {
            flags |= TRANSFER_MORE;
        }
        if self.raw_bytes.is_some() {
            flags |= TRANSFER_COMPRESSED;
        }
        out.extend_from_slice(&[number::TRANSFER, self.lane.number(), flags]);
        if let Some(raw_bytes) = self.raw_bytes {
            put_varint(out, u64::from(raw_bytes));
        }
        out.extend_from_slice(self.payload);
    }
}

/// Bits of the flags byte of an ANSWER.
pub(crate) const ANSWER_MORE: u8 = 1;

/// What an ANSWER says of a document, in two bits.
pub(crate) const HELD_NOTHING: u8 = 0;
pub(crate) const HELD_ANNOUNCED: u8 = 1;
pub(crate) const HELD_OTHER: u8 = 2;
pub(crate) const HELD_UNNAMED: u8 = 3;

fn encode_holdings(holdings: &[HeldVersion], out: &mut Vec<u8>) {
    put_varint(out, holdings.len() as u64);
    for four in holdings.chunks(4) {
        let codes = four.iter().zip([0, 2, 4, 6]);
        out.push(codes.fold(0, |byte, (held, shift)| byte | held.code() << shift));
    }
    for held in holdings {
        if let HeldVersion::Other(version) = held {
            version.encode(out);
        }
    }
}

impl HeldVersion {
    fn code(&self) -> u8 {
        match self {
            Self::Nothing => HELD_NOTHING,
            Self::Announced => HELD_ANNOUNCED,
            Self::Other(_) => HELD_OTHER,
            Self::Unnamed => HELD_UNNAMED,
        }
    }
}

fn encode_announced(documents: &[Announced], out: &mut Vec<u8>) {
    let places = encode_names(documents.iter().map(|it| &it.key), out);
    for document in documents {
        encode_key(&document.key, &places, out);
        out.extend_from_slice(&document.version);
    }
}

fn encode_versions(documents: &[DocumentVersion], out: &mut Vec<u8>) {
    let places = encode_names(documents.iter().map(|it| &it.key), out);
    for document in documents {
        encode_key(&document.key, &places, out);
        document.version.encode(out);
    }
}

/// Writes the names of collections and the number of documents, and gives the places of the names.
fn encode_names<'a>(
    keys: impl ExactSizeIterator<Item = &'a DocumentKey>,
    out: &mut Vec<u8>,
) -> BTreeMap<&'a CollectionName, u64> {
    let documents = keys.len() as u64;
    let mut places: BTreeMap<&CollectionName, u64> = keys.map(|it| (&it.collection, 0)).collect();
    put_varint(out, places.len() as u64);
    for (number, (name, place)) in (0u64..).zip(places.iter_mut()) {
        *place = number;
        put_bytes(out, name.as_str().as_bytes());
    }
    put_varint(out, documents);
    places
}

fn encode_key(key: &DocumentKey, places: &BTreeMap<&CollectionName, u64>, out: &mut Vec<u8>) {
    put_varint(out, places[&key.collection]);
    put_bytes(out, &key.id.to_key());
}
