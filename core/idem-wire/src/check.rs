//! How a peer that was away asks what was deleted meanwhile (docs/format/wire.md, "Deleted meanwhile").

use idem_model::{
    CollectionName, DecodeError, DeletedDay, Lane, VersionVector, codec::Reader, codec::put_bytes,
    codec::put_varint, limits,
};

use crate::{
    decode::{collection, invalid, item_list, lane, small},
    encode::encode_items,
    message::{Holdings, SketchItem, number},
    sketch::{SketchBlock, SketchSummary},
};

/// Bits of the flags byte of a CHECK.
const CHECK_ITEMS: u8 = 1;
const CHECK_SKETCH: u8 = 2;

/// Bits of the flags byte of a CHECKED.
const CHECKED_MORE: u8 = 1;
const CHECKED_VOID: u8 = 2;
const CHECKED_DOUBTFUL: u8 = 4;

/// The documents of a collection that a peer holds, with the question which of them the other side knows
/// nothing of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// A number for it on this link, at least [`Check::ALIAS_MIN`], rising.
    pub alias: u32,
    /// Of which collection.
    pub collection: CollectionName,
    /// What is held: [`Holdings::Items`] or [`Holdings::Sketch`].
    pub holdings: Holdings,
}

/// A part of the answer to a [`Check`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// The lane that this frame is accounted to.
    pub lane: Lane,
    /// The number given in [`Check`].
    pub alias: u32,
    /// Whether more parts follow.
    pub more: bool,
    /// Whether the answer is none: the sender cannot tell what it once knew.
    pub is_void: bool,
    /// Whether `items` are not of documents that nothing is known of, but of those that are in doubt here
    /// as well.
    pub is_doubtful: bool,
    /// Items of the other side that nothing is known of here, at most `limits::ITEMS_PER_FRAME_MAX`.
    pub items: Vec<SketchItem>,
    /// Covers every tombstone of the collection that is gone, together with the other parts.
    pub deleted: VersionVector,
    /// Covers every document of the collection that went without a trace and was not deleted, together
    /// with the other parts.
    pub evicted: VersionVector,
    /// Which deletions of the collection were heard of, together with the other parts, strictly rising and
    /// at most `limits::DELETED_DAYS_PER_FRAME_MAX`.
    pub days: Vec<DeletedDay>,
}

impl Check {
    /// The numbers from here on are those of checks, so that they never meet those of subscriptions.
    pub const ALIAS_MIN: u32 = 1 << 31;

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(number::CHECK);
        put_varint(out, u64::from(self.alias));
        put_bytes(out, self.collection.as_str().as_bytes());
        match &self.holdings {
            Holdings::Items(items) => {
                out.push(CHECK_ITEMS);
                encode_items(items, out);
            }
            Holdings::Sketch { summary, block } => {
                out.push(CHECK_SKETCH);
                summary.encode(out);
                block.encode(out);
            }
            Holdings::Nothing | Holdings::Resume(_) | Holdings::Mirrored { .. } => {
                unreachable!("who holds nothing has nothing to ask")
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let alias = small(reader, "number of a check")?;
        if alias < Self::ALIAS_MIN {
            return Err(invalid(reader, "number of a check"));
        }
        Ok(Self {
            alias,
            collection: collection(reader)?,
            holdings: match reader.byte()? {
                CHECK_ITEMS => Holdings::Items(item_list(reader, limits::SUBSCRIBE_ITEMS_MAX)?),
                CHECK_SKETCH => Holdings::Sketch {
                    summary: SketchSummary::decode(reader)?,
                    block: SketchBlock::decode(reader)?,
                },
                _ => return Err(invalid(reader, "flags of a check")),
            },
        })
    }
}

impl Checked {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let more = if self.more { CHECKED_MORE } else { 0 };
        let void = if self.is_void { CHECKED_VOID } else { 0 };
        let doubtful = if self.is_doubtful {
            CHECKED_DOUBTFUL
        } else {
            0
        };
        let flags = more | void | doubtful;
        out.extend_from_slice(&[number::CHECKED, self.lane.number(), flags]);
        put_varint(out, u64::from(self.alias));
        encode_items(&self.items, out);
        self.deleted.encode(out);
        self.evicted.encode(out);
        put_varint(out, self.days.len() as u64);
        for day in &self.days {
            let has_kept = day.kept != 0;
            put_varint(out, u64::from(day.day) << 1 | u64::from(has_kept));
            out.extend_from_slice(&day.heard.to_be_bytes());
            if has_kept {
                out.extend_from_slice(&day.kept.to_be_bytes());
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let lane = lane(reader)?;
        let flags = reader.byte()?;
        if flags & !(CHECKED_MORE | CHECKED_VOID | CHECKED_DOUBTFUL) != 0 {
            return Err(invalid(reader, "flags of an answer"));
        }
        Ok(Self {
            lane,
            alias: small(reader, "number of a check")?,
            more: flags & CHECKED_MORE != 0,
            is_void: flags & CHECKED_VOID != 0,
            is_doubtful: flags & CHECKED_DOUBTFUL != 0,
            items: item_list(reader, limits::ITEMS_PER_FRAME_MAX)?,
            deleted: VersionVector::decode(reader)?,
            evicted: VersionVector::decode(reader)?,
            days: days(reader)?,
        })
    }
}

fn days(reader: &mut Reader<'_>) -> Result<Vec<DeletedDay>, DecodeError> {
    let count = reader.varint()?;
    if count > limits::DELETED_DAYS_PER_FRAME_MAX as u64 {
        return Err(invalid(reader, "number of days"));
    }
    let mut days: Vec<DeletedDay> = Vec::new();
    for _ in 0..count {
        let number = reader.varint()?;
        let Ok(day) = u32::try_from(number >> 1) else {
            return Err(invalid(reader, "number of a day"));
        };
        let heard = u64::from_be_bytes(reader.array()?);
        let has_kept = number & 1 != 0;
        let kept = match has_kept {
            true => u64::from_be_bytes(reader.array()?),
            false => 0,
        };
        let it = DeletedDay { day, heard, kept };
        let is_rising = days.last().is_none_or(|last| *last < it);
        if !is_rising || (has_kept && kept == 0) {
            return Err(invalid(reader, "sum of a day"));
        }
        days.push(it);
    }
    Ok(days)
}
