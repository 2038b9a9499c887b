//! Questions about windows, and the answers.

use idem_model::{
    DecodeError,
    codec::{Reader, put_bytes, put_varint},
    limits,
};

use crate::{
    decode::{invalid, small},
    message::number,
};

/// The question was not answered.
const REFUSED: u8 = 1;

/// Asks where in the order of a window the document is that is the last of so many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AskReach<'a> {
    /// Names the question: below [`limits::WINDOWS_PER_SESSION_MAX`]. The next one with the same number
    /// takes its place.
    pub number: u8,
    /// How many documents, 1 to [`limits::WINDOW_COUNT_MAX`].
    pub count: u32,
    /// The canonical text of the window, at most [`limits::WINDOW_STATEMENT_BYTES_MAX`].
    pub statement: &'a str,
}

/// Answers [`AskReach`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach<'a> {
    /// As in the question.
    pub number: u8,
    /// As in the question.
    pub count: u32,
    /// What there is to say.
    pub told: Told<'a>,
}

/// What an answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told<'a> {
    /// The place of the document, or the beginning of it, at most [`limits::WINDOW_PLACE_BYTES_MAX`];
    /// empty if there are fewer documents.
    Place(&'a [u8]),
    /// Nothing, because of this, in words for people.
    Refused(&'a str),
}

impl<'a> AskReach<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[number::ASK_REACH, self.number]);
        put_varint(out, u64::from(self.count));
        put_bytes(out, self.statement.as_bytes());
    }

    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (number, count) = numbers(reader)?;
        let statement = reader.text("statement of a window", limits::WINDOW_STATEMENT_BYTES_MAX)?;
        Ok(Self {
            number,
            count,
            statement,
        })
    }
}

impl<'a> Reach<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[number::REACH, self.number]);
        put_varint(out, u64::from(self.count));
        match self.told {
            Told::Place(place) => {
                out.push(0);
                put_bytes(out, place);
            }
            Told::Refused(detail) => {
                out.push(REFUSED);
                put_bytes(out, detail.as_bytes());
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (number, count) = numbers(reader)?;
        let told = match reader.byte()? {
            0 => Told::Place(reader.bytes("place", limits::WINDOW_PLACE_BYTES_MAX)?),
            REFUSED => Told::Refused(reader.text("detail", limits::WIRE_DETAIL_BYTES_MAX)?),
            _ => return Err(invalid(reader, "flags of a reach")),
        };
        Ok(Self {
            number,
            count,
            told,
        })
    }
}

fn numbers(reader: &mut Reader<'_>) -> Result<(u8, u32), DecodeError> {
    let number = reader.byte()?;
    if number >= limits::WINDOWS_PER_SESSION_MAX {
        return Err(invalid(reader, "number of a window"));
    }
    let count = small(reader, "documents of a window")?;
    if !(1..=limits::WINDOW_COUNT_MAX).contains(&count) {
        return Err(invalid(reader, "documents of a window"));
    }
    Ok((number, count))
}
