//! Bytes to messages. The bytes may be hostile.

use idem_model::{
    ActorId, CollectionName, DecodeError, DocId, DocumentKey, Lane, Timestamp, VersionVector,
    codec::Reader, limits,
};

use crate::{
    check::{Check, Checked},
    compared::{Compared, Lacks},
    encode::{
        ANSWER_MORE, HELD_ANNOUNCED, HELD_NOTHING, HELD_OTHER, ITEMS_MORE, ITEMS_VOID, MAGIC,
        MOVE_ANEW, REFUSE_CLOSED, RESUMED_CAUGHT_UP, RESUMED_KNOWN, STATEMENT_MORE,
        SUBSCRIBE_EVICTED, SUBSCRIBE_EVICTS, SUBSCRIBE_HOLDINGS, SUBSCRIBE_ITEMS,
        SUBSCRIBE_MIRRORED, SUBSCRIBE_MORE, SUBSCRIBE_RESUME, SUBSCRIBE_SKETCH,
        SUBSCRIBE_STATEMENT, TRANSFER_COMPRESSED, TRANSFER_MORE, TRANSFER_ROUND_SHIFT,
    },
    message::{
        Accept, Announced, CatchUpTier, DocumentVersion, HeldVersion, Hello, Holdings, Items,
        Message, Move, Resume, Resumption, SketchItem, Subscribe, Transfer, WireError, number,
    },
    sketch::{SketchBlock, SketchSummary},
    subscription::SubscriptionId,
    window::{AskReach, Reach},
};

impl<'a> Message<'a> {
    /// Reads one frame.
    ///
    /// # Errors
    /// [`WireError`] if it is too large, not a message, or broken.
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        if frame.len() > limits::FRAME_BYTES_MAX {
            return Err(WireError::FrameTooLarge {
                bytes: frame.len(),
                limit: limits::FRAME_BYTES_MAX,
            });
        }
        let (&number, body) = frame.split_first().ok_or(WireError::Empty)?;
        let reader = &mut Reader::new(body);
        let (name, result) = match number {
            number::HELLO => ("HELLO", hello(reader)),
            number::BYE => ("BYE", bye(reader)),
            number::SUBSCRIBE => ("SUBSCRIBE", subscribe(reader)),
            number::ASK_STATEMENT => ("ASK_STATEMENT", ask_statement(reader)),
            number::STATEMENT => ("STATEMENT", statement(reader)),
            number::UNSUBSCRIBE => ("UNSUBSCRIBE", unsubscribe(reader)),
            number::ACCEPT => ("ACCEPT", accept(reader)),
            number::REFUSE => ("REFUSE", refuse(reader)),
            number::INVITE => ("INVITE", invite(reader)),
            number::ACK => ("ACK", ack(reader)),
            number::TRANSFER => ("TRANSFER", transfer(reader)),
            number::HAVE => ("HAVE", have(reader)),
            number::WANT => ("WANT", want(reader)),
            number::ANSWER => ("ANSWER", answer(reader)),
            number::RESUMED => ("RESUMED", resumed(reader)),
            number::ASK_HOLDINGS => ("ASK_HOLDINGS", ask_holdings(reader)),
            number::SYMBOLS => ("SYMBOLS", symbols(reader)),
            number::ITEMS => ("ITEMS", items(reader)),
            number::COMPARED => ("COMPARED", Compared::decode(reader).map(Message::Compared)),
            number::LACKS => ("LACKS", Lacks::decode(reader).map(Message::Lacks)),
            number::CHECK => ("CHECK", Check::decode(reader).map(Message::Check)),
            number::CHECKED => ("CHECKED", Checked::decode(reader).map(Message::Checked)),
            number::FLOOR => ("FLOOR", floor(reader)),
            number::GOSSIP => ("GOSSIP", gossip(reader)),
            number::ASK_REACH => ("ASK_REACH", AskReach::decode(reader).map(Message::AskReach)),
            number::REACH => ("REACH", Reach::decode(reader).map(Message::Reach)),
            number::MOVE => ("MOVE", moving(reader)),
            number::LOST => ("LOST", lost(reader)),
            number::RESTART => ("RESTART", Ok(Message::Restart)),
            number::UNHELD => ("UNHELD", unheld(reader)),
            number::FEED => ("FEED", feed(reader)),
            number::PULL => ("PULL", pull(reader)),
            number::EXTENSIONS.. => return Ok(Message::Extension { number }),
            _ => return Err(WireError::UnknownMessage { number }),
        };
        let body = |source| WireError::Body {
            message: name,
            source,
        };
        let message = result.map_err(body)?;
        // A later version may append fields to HELLO, and only there.
        if number != number::HELLO {
            reader.clone().finish().map_err(body)?;
        }
        Ok(message)
    }
}

type Decoded<'a> = Result<Message<'a>, DecodeError>;

fn hello<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    if reader.array()? != MAGIC {
        return Err(DecodeError::Invalid {
            what: "magic",
            at: 0,
        });
    }
    let version_min = small(reader, "protocol version")?;
    let version_max = small(reader, "protocol version")?;
    if version_min > version_max {
        return Err(invalid(reader, "range of protocol versions"));
    }
    Ok(Message::Hello(Hello {
        version_min,
        version_max,
        database: reader.array()?,
        actor: ActorId(reader.array()?),
        instance: u64::from_be_bytes(reader.array()?),
        timestamp: Timestamp(reader.varint()?),
        frame_bytes_max: small(reader, "frame limit")?,
        lane_credit_bytes: small(reader, "lane credit")?,
        capabilities: reader.varint()?,
        gc_floor: Timestamp(reader.varint()?),
        choice: reader.varint()?,
        resumption: resumption(reader)?,
    }))
}

fn resumption(reader: &mut Reader<'_>) -> Result<Option<Resumption>, DecodeError> {
    match reader.byte()? {
        0 => Ok(None),
        1 => Ok(Some(Resumption {
            subscriptions: reader.array()?,
            actor: reader.array()?,
            commit: reader.varint()?,
        })),
        _ => Err(invalid(reader, "resumption")),
    }
}

fn resumed<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let flags = reader.byte()?;
    let is_known = flags & RESUMED_KNOWN != 0;
    let is_caught_up = flags & RESUMED_CAUGHT_UP != 0;
    if flags & !(RESUMED_KNOWN | RESUMED_CAUGHT_UP) != 0 || (is_caught_up && !is_known) {
        return Err(invalid(reader, "flags of a resumption"));
    }
    Ok(Message::Resumed {
        is_known,
        is_caught_up,
    })
}

fn ask_holdings<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::AskHoldings {
        alias: small(reader, "subscription number")?,
        symbols: small(reader, "number of symbols")?,
    })
}

fn symbols<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Symbols {
        alias: small(reader, "subscription number")?,
        block: SketchBlock::decode(reader)?,
    })
}

fn items<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let lane = lane(reader)?;
    let flags = reader.byte()?;
    if flags & !(ITEMS_MORE | ITEMS_VOID) != 0 {
        return Err(invalid(reader, "flags of a list"));
    }
    Ok(Message::Items(Items {
        lane,
        alias: small(reader, "subscription number")?,
        more: flags & ITEMS_MORE != 0,
        is_void: flags & ITEMS_VOID != 0,
        items: item_list(reader, limits::ITEMS_PER_FRAME_MAX)?,
    }))
}

pub(crate) fn item_list(
    reader: &mut Reader<'_>,
    limit: usize,
) -> Result<Vec<SketchItem>, DecodeError> {
    let count = reader.count("items", limit, 12)?;
    (0..count).map(|_| reader.array()).collect()
}

fn floor<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Floor {
        lane: lane(reader)?,
        floor: Timestamp(reader.varint()?),
    })
}

fn gossip<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let bytes = reader.bytes("gossip", limits::GOSSIP_BYTES_MAX)?;
    if bytes.is_empty() {
        return Err(invalid(reader, "gossip"));
    }
    Ok(Message::Gossip { bytes })
}

fn moving<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let lane = lane(reader)?;
    let flags = reader.byte()?;
    if flags & !MOVE_ANEW != 0 {
        return Err(invalid(reader, "flags of a move"));
    }
    Ok(Message::Move(Move {
        lane,
        instance: u64::from_be_bytes(reader.array()?),
        number: reader.varint()?,
        received: match flags & MOVE_ANEW {
            0 => Some([reader.varint()?, reader.varint()?, reader.varint()?]),
            _ => None,
        },
    }))
}

fn lost<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Lost {
        instance: u64::from_be_bytes(reader.array()?),
        number: reader.varint()?,
    })
}

fn unheld<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Unheld {
        lane: lane(reader)?,
        batch: reader.varint()?,
    })
}

fn feed<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    match reader.byte()? {
        flags @ (0 | 1) => Ok(Message::Feed {
            is_fed_by_others: flags == 1,
        }),
        _ => Err(invalid(reader, "flags of a feed")),
    }
}

fn pull<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let batch = reader.varint()?;
    let count = reader.count("places", limits::ANNOUNCED_PER_BATCH_MAX, 1)?;
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        let place: u32 = small(reader, "place")?;
        let is_rising = places.last().is_none_or(|last| *last < place);
        if !is_rising || place as usize >= limits::ANNOUNCED_PER_BATCH_MAX {
            return Err(invalid(reader, "place"));
        }
        places.push(place);
    }
    if places.is_empty() {
        return Err(invalid(reader, "number of places"));
    }
    Ok(Message::Pull { batch, places })
}

fn bye<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Bye {
        code: reader.byte()?,
        detail: reader.text("detail", limits::WIRE_DETAIL_BYTES_MAX)?,
    })
}

fn subscribe<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let alias = small(reader, "subscription number")?;
    let subscription = SubscriptionId(reader.array()?);
    let priority = reader.byte()?;
    let flags: u16 = small(reader, "subscription flags")?;
    let holdings = match flags & SUBSCRIBE_HOLDINGS {
        0 => Holdings::Nothing,
        SUBSCRIBE_RESUME => Holdings::Resume(Resume {
            actor: ActorId(reader.array()?),
            commit: reader.varint()?,
        }),
        SUBSCRIBE_ITEMS => Holdings::Items(item_list(reader, limits::SUBSCRIBE_ITEMS_MAX)?),
        SUBSCRIBE_SKETCH => Holdings::Sketch {
            summary: SketchSummary::decode(reader)?,
            block: SketchBlock::decode(reader)?,
        },
        SUBSCRIBE_MIRRORED => Holdings::Mirrored {
            alias: small(reader, "subscription number")?,
        },
        _ => return Err(invalid(reader, "subscription flags")),
    };
    let others = SUBSCRIBE_MORE | SUBSCRIBE_STATEMENT | SUBSCRIBE_EVICTS | SUBSCRIBE_EVICTED;
    if flags & !(SUBSCRIBE_HOLDINGS | others) != 0 {
        return Err(invalid(reader, "subscription flags"));
    }
    let statement = if flags & SUBSCRIBE_STATEMENT == 0 {
        None
    } else {
        let text = reader.text("statement", limits::SUBSCRIPTION_STATEMENT_BYTES_MAX)?;
        Some(text.to_owned())
    };
    Ok(Message::Subscribe(Subscribe {
        alias,
        subscription,
        priority,
        holdings,
        statement,
        has_evicted: flags & SUBSCRIBE_EVICTED != 0,
        more: flags & SUBSCRIBE_MORE != 0,
        evicts: flags & SUBSCRIBE_EVICTS != 0,
    }))
}

fn ask_statement<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::AskStatement {
        subscription: SubscriptionId(reader.array()?),
    })
}

fn statement<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Statement {
        subscription: SubscriptionId(reader.array()?),
        more: match reader.byte()? {
            0 => false,
            STATEMENT_MORE => true,
            _ => return Err(invalid(reader, "flags of a statement")),
        },
        text: reader.text("statement", limits::SUBSCRIPTION_STATEMENT_BYTES_MAX)?,
    })
}

fn unsubscribe<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Unsubscribe {
        alias: small(reader, "subscription number")?,
    })
}

fn accept<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Accept(Accept {
        alias: small(reader, "subscription number")?,
        tier: match reader.byte()? {
            0 => CatchUpTier::Resume,
            1 => CatchUpTier::Stream,
            2 => CatchUpTier::Difference,
            _ => return Err(invalid(reader, "catch-up tier")),
        },
        from: reader.varint()?,
    }))
}

fn refuse<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Refuse {
        alias: small(reader, "subscription number")?,
        is_closed: match reader.byte()? {
            0 => false,
            REFUSE_CLOSED => true,
            _ => return Err(invalid(reader, "flags of a refusal")),
        },
        detail: reader.text("detail", limits::WIRE_DETAIL_BYTES_MAX)?,
    })
}

fn invite<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Invite {
        alias: small(reader, "subscription number")?,
    })
}

fn ack<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Ack {
        lane: lane(reader)?,
        consumed_bytes: reader.varint()?,
        batches: reader.varint()?,
    })
}

fn transfer<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let lane = lane(reader)?;
    let flags = reader.byte()?;
    let raw_bytes = if flags & TRANSFER_COMPRESSED == 0 {
        None
    } else {
        // Checked here so that nobody reserves memory for a false claim.
        let raw_bytes = reader.varint()?;
        if raw_bytes > limits::FRAME_BYTES_MAX as u64 {
            return Err(DecodeError::TooLarge {
                what: "decompressed frame",
                value: raw_bytes,
                limit: limits::FRAME_BYTES_MAX as u64,
            });
        }
        u32::try_from(raw_bytes).ok()
    };
    // Nobody sends nothing. A piece that lost its bytes on the way would shift the dictionary of all that follow.
    if reader.remaining() == 0 || raw_bytes == Some(0) {
        return Err(invalid(reader, "payload of a transfer"));
    }
    Ok(Message::Transfer(Transfer {
        lane,
        more: flags & TRANSFER_MORE != 0,
        round: flags >> TRANSFER_ROUND_SHIFT,
        raw_bytes,
        payload: reader.take(reader.remaining())?,
    }))
}

fn have<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Have {
        lane: lane(reader)?,
        number: reader.varint()?,
        documents: keyed(reader, |key, reader| {
            let version = reader.array()?;
            Ok(Announced { key, version })
        })?,
    })
}

fn answer<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let number = reader.varint()?;
    let flags = reader.byte()?;
    if flags & !ANSWER_MORE != 0 {
        return Err(invalid(reader, "flags of an answer"));
    }
    let at = reader.position();
    let count = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    if count > limits::VERSIONS_PER_FRAME_MAX {
        return Err(DecodeError::TooLarge {
            what: "answers",
            value: count as u64,
            limit: limits::VERSIONS_PER_FRAME_MAX as u64,
        });
    }
    let codes = reader.take(count.div_ceil(4))?;
    let code = |index: usize| codes[index / 4] >> (index % 4 * 2) & 3;
    if (count..codes.len() * 4).any(|index| code(index) != 0) {
        return Err(DecodeError::Invalid {
            what: "answers",
            at,
        });
    }
    let mut holdings = Vec::with_capacity(count);
    for index in 0..count {
        holdings.push(match code(index) {
            HELD_NOTHING => HeldVersion::Nothing,
            HELD_ANNOUNCED => HeldVersion::Announced,
            HELD_OTHER => HeldVersion::Other(VersionVector::decode(reader)?),
            _ => HeldVersion::Unnamed,
        });
    }
    Ok(Message::Answer {
        number,
        more: flags & ANSWER_MORE != 0,
        holdings,
    })
}

fn want<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(Message::Want {
        documents: keyed(reader, |key, reader| {
            let version = VersionVector::decode(reader)?;
            Ok(DocumentVersion { key, version })
        })?,
    })
}

/// Documents with something about each.
fn keyed<'a, T>(
    reader: &mut Reader<'a>,
    mut rest: impl FnMut(DocumentKey, &mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count("collection names", limits::VERSIONS_PER_FRAME_MAX, 2)?;
    let mut names = Vec::with_capacity(count);
    for _ in 0..count {
        let name = collection(reader)?;
        if names.last().is_some_and(|last| *last >= name) {
            return Err(invalid(reader, "order of collection names"));
        }
        names.push(name);
    }
    let count = reader.count("document versions", limits::VERSIONS_PER_FRAME_MAX, 4)?;
    let mut documents = Vec::with_capacity(count);
    let mut is_used = vec![false; names.len()];
    for _ in 0..count {
        let name: usize = small(reader, "collection number")?;
        let Some(collection) = names.get(name).cloned() else {
            return Err(invalid(reader, "collection number"));
        };
        is_used[name] = true;
        let id = DocId::from_key(reader.bytes("document id", limits::DOC_ID_BYTES_MAX)?)?;
        documents.push(rest(DocumentKey { collection, id }, reader)?);
    }
    if is_used.contains(&false) {
        return Err(invalid(reader, "unused collection name"));
    }
    Ok(documents)
}

pub(crate) fn collection(reader: &mut Reader<'_>) -> Result<CollectionName, DecodeError> {
    let at = reader.position();
    let name = reader.text("collection name", limits::COLLECTION_NAME_BYTES_MAX)?;
    CollectionName::new(name).map_err(|_| DecodeError::Invalid {
        what: "collection name",
        at,
    })
}

pub(crate) fn lane(reader: &mut Reader<'_>) -> Result<Lane, DecodeError> {
    let number = reader.byte()?;
    Lane::from_number(number).ok_or_else(|| invalid(reader, "lane"))
}

/// A varint that must fit the narrower type wanted.
pub(crate) fn small<T: TryFrom<u64>>(
    reader: &mut Reader<'_>,
    what: &'static str,
) -> Result<T, DecodeError> {
    let at = reader.position();
    T::try_from(reader.varint()?).map_err(|_| DecodeError::Invalid { what, at })
}

pub(crate) fn invalid(reader: &Reader<'_>, what: &'static str) -> DecodeError {
    DecodeError::Invalid {
        what,
        at: reader.position(),
    }
}
