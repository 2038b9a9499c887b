//! Messages about blobs, the content of attachments. They belong to no session: a peer answers for what it
//! has, whatever is subscribed to (docs/format/wire.md, "Blobs").

use std::ops::Range;

use idem_model::{
    BlobKey, BlobPart, DecodeError,
    codec::{Reader, put_varint},
    limits,
};

use crate::message::WireError;

/// Message numbers. They are among those that a peer skips that does not know them.
mod number {
    pub(super) const ASK: u8 = 0x90;
    pub(super) const HAVE: u8 = 0x91;
    pub(super) const LACK: u8 = 0x92;
    pub(super) const GET: u8 = 0x93;
    pub(super) const PIECE: u8 = 0x94;
    pub(super) const REFUSE: u8 = 0x95;
    pub(super) const CANCEL: u8 = 0x96;
    pub(super) const WAIT: u8 = 0x97;
    pub(super) const WITHDRAW: u8 = 0x98;
}

/// A message about a blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlobMessage<'a> {
    /// Asks whether the receiver has any of a blob.
    Ask {
        /// Which one.
        key: BlobKey,
        /// Over how many peers the receiver may pass the question on; more than
        /// [`limits::BLOB_HOPS_MAX`] is as many as that.
        hops: u8,
        /// Which question: the same wherever it is passed on. Not 0.
        question: u64,
    },
    /// The sender has all of a blob.
    HaveAll {
        /// Which one.
        key: BlobKey,
    },
    /// The sender has these groups of a blob, beside those that it named before.
    HaveSome {
        /// Which one.
        key: BlobKey,
        /// Ranges of groups, rising, none touching the next one.
        runs: Vec<Range<u64>>,
    },
    /// The sender has nothing of a blob, and found nobody else who has.
    Lack {
        /// Which one.
        key: BlobKey,
        /// Which question that answers, and with which hops it was asked.
        question: u64,
        /// The hops of that question.
        hops: u8,
        /// Not everybody was asked, since there were too many questions. Asking later may give another answer.
        is_busy: bool,
    },
    /// Nothing more of a blob will come from the sender than what it has named.
    Withdraw {
        /// Which one.
        key: BlobKey,
        /// What it has named can be had; otherwise nothing any more.
        keeps: bool,
    },
    /// The sender is fetching a blob and will say what it has of it.
    Wait {
        /// Which one.
        key: BlobKey,
        /// It fetches all of it whether the receiver takes it or not.
        is_own: bool,
    },
    /// Asks for a part of a blob.
    Get {
        /// Which one.
        key: BlobKey,
        /// Which part.
        part: BlobPart,
    },
    /// Bytes of a piece, which is what [`BlobKey::piece_bytes_of`] counts.
    Piece {
        /// Of which blob.
        key: BlobKey,
        /// Which part the piece carries.
        part: BlobPart,
        /// Where in the piece the bytes begin.
        offset: u64,
        /// At least one, unless the piece is empty.
        bytes: &'a [u8],
    },
    /// The sender will not send a piece that it was asked for.
    Refuse {
        /// Of which blob.
        key: BlobKey,
        /// Which part.
        part: BlobPart,
    },
    /// The sender wants nothing of a blob any more.
    Cancel {
        /// Which one.
        key: BlobKey,
    },
}

impl<'a> BlobMessage<'a> {
    /// The most bytes of a PIECE frame that are not content.
    pub const PIECE_HEADER_BYTES_MAX: usize = 1 + 32 + 6 + 4 + 1 + 4;

    /// Whether a frame is one of these messages, and not one of a session.
    pub fn is_in(frame: &[u8]) -> bool {
        matches!(frame.first(), Some(number::ASK..=number::WITHDRAW))
    }

    /// The frame that [`decode`](Self::decode) reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (number, key) = match self {
            Self::Ask { key, .. } => (number::ASK, key),
            Self::HaveAll { key } | Self::HaveSome { key, .. } => (number::HAVE, key),
            Self::Lack { key, .. } => (number::LACK, key),
            Self::Withdraw { key, .. } => (number::WITHDRAW, key),
            Self::Get { key, .. } => (number::GET, key),
            Self::Piece { key, .. } => (number::PIECE, key),
            Self::Refuse { key, .. } => (number::REFUSE, key),
            Self::Cancel { key } => (number::CANCEL, key),
            Self::Wait { key, .. } => (number::WAIT, key),
        };
        let mut out = vec![number];
        key.encode(&mut out);
        match self {
            Self::Ask { hops, question, .. } => {
                out.push(*hops);
                out.extend_from_slice(&question.to_be_bytes());
            }
            Self::Lack {
                hops,
                question,
                is_busy,
                ..
            } => {
                out.push(*hops);
                out.extend_from_slice(&question.to_be_bytes());
                out.push(u8::from(*is_busy));
            }
            Self::Withdraw { keeps, .. } => out.push(u8::from(*keeps)),
            Self::HaveSome { runs, .. } => {
                put_varint(&mut out, runs.len() as u64);
                for run in runs {
                    put_varint(&mut out, run.start);
                    put_varint(&mut out, run.end - run.start);
                }
            }
            Self::HaveAll { .. } => out.push(0),
            Self::Get { part, .. } | Self::Refuse { part, .. } => put_part(&mut out, *part),
            Self::Piece {
                part,
                offset,
                bytes,
                ..
            } => {
                put_part(&mut out, *part);
                put_varint(&mut out, *offset);
                out.extend_from_slice(bytes);
            }
            Self::Wait { is_own, .. } => out.push(u8::from(*is_own)),
            Self::Cancel { .. } => {}
        }
        out
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// [`WireError`] if it is too large, none of these messages, or broken.
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
            number::ASK => ("BLOB_ASK", ask(reader)),
            number::HAVE => ("BLOB_HAVE", have(reader)),
            number::LACK => ("BLOB_LACK", lack(reader)),
            number::WITHDRAW => ("BLOB_WITHDRAW", withdraw(reader)),
            number::GET => ("BLOB_GET", get(reader)),
            number::PIECE => ("BLOB_PIECE", piece(reader)),
            number::REFUSE => ("BLOB_REFUSE", refuse(reader)),
            number::WAIT => ("BLOB_WAIT", wait(reader)),
            number::CANCEL => ("BLOB_CANCEL", key(reader).map(|key| Self::Cancel { key })),
            _ => return Err(WireError::UnknownMessage { number }),
        };
        let body = |source| WireError::Body {
            message: name,
            source,
        };
        let message = result.map_err(body)?;
        reader.clone().finish().map_err(body)?;
        Ok(message)
    }
}

type Decoded<'a> = Result<BlobMessage<'a>, DecodeError>;

fn key(reader: &mut Reader<'_>) -> Result<BlobKey, DecodeError> {
    BlobKey::decode(reader)
}

fn question(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let at = reader.position();
    let question = u64::from_be_bytes(reader.array()?);
    if question == 0 {
        return Err(DecodeError::Invalid {
            what: "question",
            at,
        });
    }
    Ok(question)
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let at = reader.position();
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid { what: "flags", at }),
    }
}

fn ask<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(BlobMessage::Ask {
        key: key(reader)?,
        hops: reader.byte()?,
        question: question(reader)?,
    })
}

fn lack<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(BlobMessage::Lack {
        key: key(reader)?,
        hops: reader.byte()?,
        question: question(reader)?,
        is_busy: flag(reader)?,
    })
}

fn wait<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(BlobMessage::Wait {
        key: key(reader)?,
        is_own: flag(reader)?,
    })
}

fn withdraw<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    Ok(BlobMessage::Withdraw {
        key: key(reader)?,
        keeps: flag(reader)?,
    })
}

fn have<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let key = key(reader)?;
    let count = reader.varint()?;
    if count == 0 {
        return Ok(BlobMessage::HaveAll { key });
    }
    if count > limits::BLOB_RUNS_PER_FRAME_MAX as u64 {
        return Err(DecodeError::TooLarge {
            what: "ranges of groups",
            value: count,
            limit: limits::BLOB_RUNS_PER_FRAME_MAX as u64,
        });
    }
    let mut runs: Vec<Range<u64>> = Vec::new();
    for _ in 0..count {
        let at = reader.position();
        let start = reader.varint()?;
        let end = start.checked_add(reader.varint()?);
        let after = runs.last().map_or(0, |last| last.end + 1);
        let fits = end.filter(|end| *end > start && *end <= key.groups() && start >= after);
        let end = fits.ok_or(DecodeError::Invalid {
            what: "range of groups",
            at,
        })?;
        runs.push(start..end);
    }
    Ok(BlobMessage::HaveSome { key, runs })
}

fn put_part(out: &mut Vec<u8>, part: BlobPart) {
    put_varint(out, part.first());
    out.push(part.level());
}

fn part(reader: &mut Reader<'_>, key: BlobKey) -> Result<BlobPart, DecodeError> {
    let at = reader.position();
    let first = reader.varint()?;
    let level = reader.byte()?;
    let part = key.part(first, level.min(limits::BLOB_PIECE_LEVEL_MAX));
    // A part has one form: its level is the lowest that spans it.
    part.filter(|part| part.level() == level)
        .ok_or(DecodeError::Invalid {
            what: "part of a blob",
            at,
        })
}

fn get<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let key = key(reader)?;
    let part = part(reader, key)?;
    Ok(BlobMessage::Get { key, part })
}

fn refuse<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let key = key(reader)?;
    let part = part(reader, key)?;
    Ok(BlobMessage::Refuse { key, part })
}

fn piece<'a>(reader: &mut Reader<'a>) -> Decoded<'a> {
    let key = key(reader)?;
    let part = part(reader, key)?;
    let at = reader.position();
    let offset = reader.varint()?;
    let bytes = reader.take(reader.remaining())?;
    let all = key.piece_bytes_of(part);
    let end = offset.checked_add(bytes.len() as u64);
    if end.is_none_or(|end| end > all) || (bytes.is_empty() && all > 0) {
        return Err(DecodeError::Invalid {
            what: "place in a piece",
            at,
        });
    }
    Ok(BlobMessage::Piece {
        key,
        part,
        offset,
        bytes,
    })
}
