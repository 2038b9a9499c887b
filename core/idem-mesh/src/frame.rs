//! What neighbours say to each other about presence and interest, to bytes and back (docs/format/presence.md).

use idem_model::{
    DecodeError,
    codec::{Reader, put_varint},
    limits,
};
use idem_wire::SubscriptionId;

use crate::{
    names::PeerHash,
    record::{SignedRecord, check_rising},
};

mod number {
    pub(super) const SUMMARY: u8 = 0x01;
    pub(super) const HAVE: u8 = 0x02;
    pub(super) const WANT: u8 = 0x03;
    pub(super) const RECORDS: u8 = 0x04;
    pub(super) const INTEREST: u8 = 0x05;
    pub(super) const NO_INTEREST: u8 = 0x06;
    pub(super) const GATEWAYS: u8 = 0x07;
    pub(super) const DEMAND: u8 = 0x08;
    /// From here on a frame is skipped by who does not know it.
    pub(super) const EXTENSIONS: u8 = 0x80;
}

/// Parts into which a table of records is summed up, by the first six bits of the peer hash.
pub(crate) const BUCKETS: usize = 64;

/// How far an interest may go at most.
pub(crate) const HOPS_MAX: u8 = 2;

/// How far towards a gateway an interest may go at most, and the greatest distance from one that counts.
pub(crate) const GATEWAY_HOPS_MAX: u8 = 15;

/// The distance of a peer that has no way to a gateway.
pub(crate) const GATEWAY_OUT_OF_REACH: u8 = GATEWAY_HOPS_MAX + 1;

/// A subscription of a neighbour, or of somebody beyond it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interest {
    /// How many relays in a row may carry it from the receiver on, at most 2; with 0 it is only told that it is
    /// carried.
    pub hops: u8,
    /// How many may carry it towards a gateway, at most 15.
    pub up: u8,
    /// Whether the relay of the sender wants it, for others.
    pub is_carried: bool,
    /// Its canonical statement, 1 to `limits::INTEREST_STATEMENT_BYTES_MAX` bytes.
    pub statement: String,
}

/// How a neighbour reaches a gateway by way of others than the receiver, and what it carries for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// Which gateway.
    pub gateway: PeerHash,
    /// How many links it is away: 0 for the gateway itself, at most 15; 16 if there is no way.
    pub distance: u8,
    /// Whether the receiver is one of those by which it does, to which it wants to pass on what it carries.
    pub is_by_receiver: bool,
    /// A digest of what its relay for gateways carries for it, 0 for nothing.
    pub carried: u64,
}

/// What a neighbour says.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Gossip {
    /// All records in brief: for each of 64 parts the exclusive or of their items, zero for none.
    Summary(Box<[u64; BUCKETS]>),
    /// Records that are here: whose, and their sequence numbers. Rising, 1 to
    /// `limits::GOSSIP_ENTRIES_MAX`.
    Have(Vec<(PeerHash, u64)>),
    /// Records that are asked for, rising, 1 to `limits::GOSSIP_ENTRIES_MAX`.
    Want(Vec<PeerHash>),
    /// Records, each with its age in seconds.
    Records(Vec<(u16, SignedRecord)>),
    /// What the sender subscribes to and carries, beside what it said before.
    Interest {
        /// Whether all that it said before of interests is void.
        is_first: bool,
        /// At most `limits::INTERESTS_PER_NEIGHBOUR_MAX`.
        entries: Vec<Interest>,
    },
    /// What it subscribes to and carries no more, rising, 1 to `limits::INTERESTS_PER_NEIGHBOUR_MAX`.
    NoInterest(Vec<SubscriptionId>),
    /// All ways to gateways that it knows of, rising by gateway, at most `limits::GATEWAYS_MAX`.
    Gateways(Vec<Way>),
    /// What a gateway wants that the sender named as one before.
    Demand {
        /// Which one.
        gateway: PeerHash,
        /// Canonical statements, rising, at most `limits::INTERESTS_OWN_MAX` of
        /// `limits::GATEWAY_DEMAND_BYTES_MAX` together.
        statements: Vec<String>,
    },
    /// Something of a later version.
    Extension(u8),
}

impl Gossip {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Summary(buckets) => {
                out.push(number::SUMMARY);
                let occupied = buckets.iter().enumerate().filter(|(_, sum)| **sum != 0);
                let map = occupied.fold(0u64, |map, (at, _)| map | 1 << at);
                out.extend(map.to_be_bytes());
                let sums = buckets.iter().filter(|sum| **sum != 0);
                sums.for_each(|sum| out.extend(sum.to_be_bytes()));
            }
            Self::Have(entries) => {
                out.push(number::HAVE);
                put_varint(&mut out, entries.len() as u64);
                for (peer, seq) in entries {
                    out.extend(peer.to_bytes());
                    out.extend(seq.to_be_bytes());
                }
            }
            Self::Want(peers) => {
                out.push(number::WANT);
                put_varint(&mut out, peers.len() as u64);
                peers.iter().for_each(|peer| out.extend(peer.to_bytes()));
            }
            Self::Records(records) => {
                out.push(number::RECORDS);
                put_varint(&mut out, records.len() as u64);
                for (age_s, record) in records {
                    put_varint(&mut out, u64::from(*age_s));
                    record.encode(&mut out);
                }
            }
            Self::Interest { is_first, entries } => {
                out.push(number::INTEREST);
                out.push(u8::from(*is_first));
                put_varint(&mut out, entries.len() as u64);
                for entry in entries {
                    out.push(entry.up << 3 | entry.hops << 1 | u8::from(entry.is_carried));
                    put_varint(&mut out, entry.statement.len() as u64);
                    out.extend(entry.statement.as_bytes());
                }
            }
            Self::NoInterest(ids) => {
                out.push(number::NO_INTEREST);
                put_varint(&mut out, ids.len() as u64);
                ids.iter().for_each(|id| out.extend(id.0));
            }
            Self::Gateways(ways) => {
                out.push(number::GATEWAYS);
                put_varint(&mut out, ways.len() as u64);
                for way in ways {
                    out.extend(way.gateway.to_bytes());
                    out.push(way.distance << 1 | u8::from(way.is_by_receiver));
                    out.extend(way.carried.to_be_bytes());
                }
            }
            Self::Demand {
                gateway,
                statements,
            } => {
                out.push(number::DEMAND);
                out.extend(gateway.to_bytes());
                put_varint(&mut out, statements.len() as u64);
                for statement in statements {
                    put_varint(&mut out, statement.len() as u64);
                    out.extend(statement.as_bytes());
                }
            }
            Self::Extension(number) => out.push(*number),
        }
        out
    }

    /// Reads a frame, which may hold anything.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        if frame.len() > limits::GOSSIP_BYTES_MAX {
            return Err(DecodeError::TooLarge {
                what: "gossip",
                value: frame.len() as u64,
                limit: limits::GOSSIP_BYTES_MAX as u64,
            });
        }
        let mut reader = Reader::new(frame);
        let gossip = match reader.byte()? {
            number::SUMMARY => Self::Summary(summary(&mut reader)?),
            number::HAVE => Self::Have(have(&mut reader)?),
            number::WANT => Self::Want(want(&mut reader)?),
            number::RECORDS => Self::Records(records(&mut reader)?),
            number::INTEREST => interest(&mut reader)?,
            number::NO_INTEREST => Self::NoInterest(no_interest(&mut reader)?),
            number::GATEWAYS => Self::Gateways(gateways(&mut reader)?),
            number::DEMAND => demand(&mut reader)?,
            number if number >= number::EXTENSIONS => return Ok(Self::Extension(number)),
            _ => {
                return Err(DecodeError::Invalid {
                    what: "kind of gossip",
                    at: 0,
                });
            }
        };
        reader.finish()?;
        Ok(gossip)
    }
}

fn summary(reader: &mut Reader<'_>) -> Result<Box<[u64; BUCKETS]>, DecodeError> {
    let map = u64::from_be_bytes(reader.array()?);
    let mut buckets = Box::new([0; BUCKETS]);
    for (at, bucket) in buckets.iter_mut().enumerate() {
        if map >> at & 1 == 1 {
            let place = reader.position();
            *bucket = u64::from_be_bytes(reader.array()?);
            if *bucket == 0 {
                let what = "sum of records";
                return Err(DecodeError::Invalid { what, at: place });
            }
        }
    }
    Ok(buckets)
}

/// A count from 1 on: an empty frame would say nothing.
fn count(reader: &mut Reader<'_>, bytes_each_min: usize) -> Result<usize, DecodeError> {
    let at = reader.position();
    let what = "entries of gossip";
    match reader.count(what, limits::GOSSIP_ENTRIES_MAX, bytes_each_min)? {
        0 => Err(DecodeError::Invalid { what, at }),
        count => Ok(count),
    }
}

fn have(reader: &mut Reader<'_>) -> Result<Vec<(PeerHash, u64)>, DecodeError> {
    let count = count(reader, 16)?;
    let at = reader.position();
    let entries = (0..count).map(|_| {
        let peer = PeerHash::from_bytes(reader.array()?);
        Ok((peer, u64::from_be_bytes(reader.array()?)))
    });
    let entries = entries.collect::<Result<Vec<_>, DecodeError>>()?;
    if !entries.is_sorted_by(|a, b| a.0 < b.0) {
        let what = "order of entries";
        return Err(DecodeError::Invalid { what, at });
    }
    Ok(entries)
}

fn want(reader: &mut Reader<'_>) -> Result<Vec<PeerHash>, DecodeError> {
    let count = count(reader, 8)?;
    let at = reader.position();
    let peers = (0..count).map(|_| reader.array().map(PeerHash::from_bytes));
    let peers = peers.collect::<Result<Vec<_>, _>>()?;
    check_rising("order of entries", at, &peers)?;
    Ok(peers)
}

fn records(reader: &mut Reader<'_>) -> Result<Vec<(u16, SignedRecord)>, DecodeError> {
    let count = count(reader, 98)?;
    let records = (0..count).map(|_| {
        let at = reader.position();
        let what = "age";
        let age = u16::try_from(reader.varint()?);
        let age = age.map_err(|_| DecodeError::Invalid { what, at })?;
        Ok((age, SignedRecord::decode(reader)?))
    });
    records.collect()
}

fn interest(reader: &mut Reader<'_>) -> Result<Gossip, DecodeError> {
    let at = reader.position();
    let what = "flags of interest";
    let is_first = match reader.byte()? {
        0 => false,
        1 => true,
        _ => return Err(DecodeError::Invalid { what, at }),
    };
    let at = reader.position();
    let what = "entries of interest";
    let count = reader.count(what, limits::INTERESTS_PER_NEIGHBOUR_MAX, 3)?;
    if count == 0 && !is_first {
        return Err(DecodeError::Invalid { what, at });
    }
    let entries = (0..count).map(|_| {
        let at = reader.position();
        let terms = reader.byte()?;
        let (up, hops, is_carried) = (terms >> 3, terms >> 1 & 3, terms & 1 == 1);
        // Who subscribes wants it relayed; a relay has one hop of two left at most.
        let is_valid = match is_carried {
            true => hops < HOPS_MAX && up < GATEWAY_HOPS_MAX,
            false => (1..=HOPS_MAX).contains(&hops) && up <= GATEWAY_HOPS_MAX,
        };
        if !is_valid {
            let what = "hops of an interest";
            return Err(DecodeError::Invalid { what, at });
        }
        let at = reader.position();
        let what = "statement of an interest";
        let statement = reader.text(what, limits::INTEREST_STATEMENT_BYTES_MAX)?;
        if statement.is_empty() {
            return Err(DecodeError::Invalid { what, at });
        }
        Ok(Interest {
            hops,
            up,
            is_carried,
            statement: statement.to_owned(),
        })
    });
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    Ok(Gossip::Interest { is_first, entries })
}

fn no_interest(reader: &mut Reader<'_>) -> Result<Vec<SubscriptionId>, DecodeError> {
    let at = reader.position();
    let what = "entries of interest";
    let count = reader.count(what, limits::INTERESTS_PER_NEIGHBOUR_MAX, 32)?;
    if count == 0 {
        return Err(DecodeError::Invalid { what, at });
    }
    let at = reader.position();
    let ids = (0..count).map(|_| Ok(SubscriptionId(reader.array()?)));
    let ids = ids.collect::<Result<Vec<_>, DecodeError>>()?;
    check_rising("order of entries", at, &ids)?;
    Ok(ids)
}

fn gateways(reader: &mut Reader<'_>) -> Result<Vec<Way>, DecodeError> {
    let count = reader.count("gateways", limits::GATEWAYS_MAX, 17)?;
    let first = reader.position();
    let ways = (0..count).map(|_| {
        let gateway = PeerHash::from_bytes(reader.array()?);
        let at = reader.position();
        let terms = reader.byte()?;
        let (distance, is_by_receiver) = (terms >> 1, terms & 1 == 1);
        if distance > GATEWAY_OUT_OF_REACH {
            let what = "distance of a gateway";
            return Err(DecodeError::Invalid { what, at });
        }
        let carried = u64::from_be_bytes(reader.array()?);
        Ok(Way {
            gateway,
            distance,
            is_by_receiver,
            carried,
        })
    });
    let ways = ways.collect::<Result<Vec<_>, DecodeError>>()?;
    if !ways.is_sorted_by(|a, b| a.gateway < b.gateway) {
        let what = "order of gateways";
        return Err(DecodeError::Invalid { what, at: first });
    }
    Ok(ways)
}

fn demand(reader: &mut Reader<'_>) -> Result<Gossip, DecodeError> {
    let gateway = PeerHash::from_bytes(reader.array()?);
    let what = "statements of a gateway";
    let count = reader.count(what, limits::INTERESTS_OWN_MAX, 2)?;
    let at = reader.position();
    let (mut statements, mut bytes) = (Vec::with_capacity(count), 0);
    for _ in 0..count {
        let statement = reader.text(what, limits::INTEREST_STATEMENT_BYTES_MAX)?;
        bytes += statement.len();
        if statement.is_empty() || bytes > limits::GATEWAY_DEMAND_BYTES_MAX {
            return Err(DecodeError::Invalid { what, at });
        }
        statements.push(statement.to_owned());
    }
    check_rising("order of statements", at, &statements)?;
    Ok(Gossip::Demand {
        gateway,
        statements,
    })
}
