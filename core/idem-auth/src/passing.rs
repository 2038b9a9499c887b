//! What peers tell each other of whom their database trusts, to bytes and back (docs/format/auth.md, "Passing it on").

use idem_model::{
    DecodeError,
    codec::{Reader, put_bytes, put_varint},
    limits,
};

use crate::{
    authorities, clock,
    grants::check_rising,
    signed::{AuthorityKey, put_time, read_time},
};

mod number {
    pub(super) const SUMMARY: u8 = 0x20;
    pub(super) const CHANGE: u8 = 0x21;
    pub(super) const REVOCATIONS: u8 = 0x22;
    pub(super) const WANT_REVOCATIONS: u8 = 0x23;
    pub(super) const TIME: u8 = 0x24;
    pub(super) const CERTIFICATE: u8 = 0x25;
    pub(super) const LAST: u8 = CERTIFICATE;
}

/// The newest revocation list of an authority, in brief.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListName {
    /// Whose it is.
    pub issuer: AuthorityKey,
    /// Its epoch.
    pub epoch: u64,
    /// Names it.
    pub hash: [u8; 32],
}

/// What a neighbour says about trust. It goes the way of the mesh's gossip, under numbers of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TrustFrame {
    /// All that the sender knows, in brief.
    Summary {
        /// Whether it answers one, so that it is not answered.
        is_answer: bool,
        /// The number of the newest change of authorities.
        last_number: u64,
        /// Names that change, and all before it.
        head: [u8; 32],
        /// The newest lists, rising by issuer, at most `limits::AUTHORITIES_MAX`.
        lists: Vec<ListName>,
        /// The latest times that authorities signed as such, rising by issuer, as many.
        times: Vec<(AuthorityKey, u64)>,
    },
    /// The bytes of a change of authorities.
    Change(Vec<u8>),
    /// A part of a revocation list.
    Revocations {
        /// Whose it is.
        issuer: AuthorityKey,
        /// Its epoch.
        epoch: u64,
        /// Bytes of the whole, 1 to `limits::REVOCATION_LIST_BYTES_MAX`.
        bytes_total: usize,
        /// Where the part begins.
        offset: usize,
        /// The part, 1 to `limits::TRUST_PART_BYTES_MAX` bytes, and not beyond the whole.
        part: Vec<u8>,
    },
    /// Asks for the next part of a revocation list.
    WantRevocations {
        /// Whose it is.
        issuer: AuthorityKey,
        /// Its epoch.
        epoch: u64,
        /// Where the part begins.
        offset: usize,
    },
    /// The bytes of a signed time.
    Time(Vec<u8>),
    /// The bytes of another certificate of the sender.
    Certificate(Vec<u8>),
}

impl TrustFrame {
    /// Whether bytes of gossip are such a frame, by their number.
    pub fn is_in(gossip: &[u8]) -> bool {
        let numbers = number::SUMMARY..=number::LAST;
        gossip.first().is_some_and(|first| numbers.contains(first))
    }

    /// Its bytes, at most `limits::GOSSIP_BYTES_MAX`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Summary {
                is_answer,
                last_number,
                head,
                lists,
                times,
            } => {
                out.push(number::SUMMARY);
                out.push(u8::from(*is_answer));
                put_varint(&mut out, *last_number);
                out.extend(head);
                put_varint(&mut out, lists.len() as u64);
                for list in lists {
                    out.extend(list.issuer.0);
                    put_varint(&mut out, list.epoch);
                    out.extend(list.hash);
                }
                put_varint(&mut out, times.len() as u64);
                for (issuer, time_ms) in times {
                    out.extend(issuer.0);
                    put_time(&mut out, *time_ms);
                }
            }
            Self::Change(bytes) => {
                out.push(number::CHANGE);
                put_bytes(&mut out, bytes);
            }
            Self::Revocations {
                issuer,
                epoch,
                bytes_total,
                offset,
                part,
            } => {
                out.push(number::REVOCATIONS);
                out.extend(issuer.0);
                put_varint(&mut out, *epoch);
                put_varint(&mut out, *bytes_total as u64);
                put_varint(&mut out, *offset as u64);
                put_bytes(&mut out, part);
            }
            Self::WantRevocations {
                issuer,
                epoch,
                offset,
            } => {
                out.push(number::WANT_REVOCATIONS);
                out.extend(issuer.0);
                put_varint(&mut out, *epoch);
                put_varint(&mut out, *offset as u64);
            }
            Self::Time(bytes) => {
                out.push(number::TIME);
                put_bytes(&mut out, bytes);
            }
            Self::Certificate(bytes) => {
                out.push(number::CERTIFICATE);
                put_bytes(&mut out, bytes);
            }
        }
        out
    }

    /// Reads a frame, which may hold anything.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let decoded = match reader.byte()? {
            number::SUMMARY => summary(&mut reader)?,
            number::CHANGE => {
                Self::Change(signed(&mut reader, "a change", authorities::BYTES_MAX)?)
            }
            number::REVOCATIONS => revocations(&mut reader)?,
            number::WANT_REVOCATIONS => Self::WantRevocations {
                issuer: AuthorityKey(reader.array()?),
                epoch: reader.varint()?,
                offset: offset(&mut reader)?,
            },
            number::TIME => Self::Time(signed(&mut reader, "a time", clock::BYTES_MAX)?),
            number::CERTIFICATE => {
                let limit = limits::CERTIFICATE_BYTES_MAX;
                Self::Certificate(signed(&mut reader, "a certificate", limit)?)
            }
            _ => {
                let what = "kind of frame about trust";
                return Err(DecodeError::Invalid { what, at: 0 });
            }
        };
        reader.finish()?;
        Ok(decoded)
    }
}

fn signed(
    reader: &mut Reader<'_>,
    what: &'static str,
    bytes_max: usize,
) -> Result<Vec<u8>, DecodeError> {
    Ok(reader.bytes(what, bytes_max)?.to_vec())
}

/// A place in a revocation list.
fn offset(reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
    let what = "place in a revocation list";
    let at = reader.position();
    let value = usize::try_from(reader.varint()?).ok();
    let value = value.filter(|value| *value < limits::REVOCATION_LIST_BYTES_MAX);
    value.ok_or(DecodeError::Invalid { what, at })
}

fn summary(reader: &mut Reader<'_>) -> Result<TrustFrame, DecodeError> {
    let at = reader.position();
    let is_answer = match reader.byte()? {
        0 => false,
        1 => true,
        _ => {
            let what = "flags of a summary";
            return Err(DecodeError::Invalid { what, at });
        }
    };
    let last_number = reader.varint()?;
    let head = reader.array()?;
    let at = reader.position();
    let count = reader.count("lists", limits::AUTHORITIES_MAX, 65)?;
    let lists = (0..count).map(|_| {
        Ok(ListName {
            issuer: AuthorityKey(reader.array()?),
            epoch: reader.varint()?,
            hash: reader.array()?,
        })
    });
    let lists = lists.collect::<Result<Vec<_>, DecodeError>>()?;
    check_rising("lists", at, &lists, |list| &list.issuer)?;
    let at = reader.position();
    let count = reader.count("times", limits::AUTHORITIES_MAX, 33)?;
    let times = (0..count).map(|_| Ok((AuthorityKey(reader.array()?), read_time(reader)?)));
    let times = times.collect::<Result<Vec<_>, DecodeError>>()?;
    check_rising("times", at, &times, |(issuer, _)| issuer)?;
    Ok(TrustFrame::Summary {
        is_answer,
        last_number,
        head,
        lists,
        times,
    })
}

fn revocations(reader: &mut Reader<'_>) -> Result<TrustFrame, DecodeError> {
    let what = "part of a revocation list";
    let issuer = AuthorityKey(reader.array()?);
    let epoch = reader.varint()?;
    let at = reader.position();
    let bytes_total = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    let offset = offset(reader)?;
    let part = reader.bytes(what, limits::TRUST_PART_BYTES_MAX)?.to_vec();
    let fits = (1..=limits::REVOCATION_LIST_BYTES_MAX).contains(&bytes_total)
        && !part.is_empty()
        && offset + part.len() <= bytes_total;
    match fits {
        true => Ok(TrustFrame::Revocations {
            issuer,
            epoch,
            bytes_total,
            offset,
            part,
        }),
        false => Err(DecodeError::Invalid { what, at }),
    }
}
