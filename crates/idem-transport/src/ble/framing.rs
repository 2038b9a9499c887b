//! A stream of bytes over datagrams that arrive in order.
//!
//! Both carriers are reliable, so a datagram that is missing, doubled or cut is no reason to send again but
//! the end of the link: a new one goes on from the cursors. What a receiver has to keep is bounded by the
//! credits that it gives.

use std::collections::VecDeque;

use crate::error::LinkError;

/// The smallest datagram that a carrier may have: an ATT MTU of 23 less its header.
pub const DATAGRAM_BYTES_MIN: usize = 20;

/// The largest datagram that is sent or taken.
pub const DATAGRAM_BYTES_MAX: usize = 2048;

/// Number, credits and length before the content of a datagram.
const HEADER_BYTES: usize = 3;

/// The content of the first datagram begins with it.
const OPENING: [u8; 3] = *b"ID\x01";

/// What a receiver lets the other side send before it has read anything of it: what a fast radio carries
/// in a tenth of a second.
const WINDOW_BYTES: usize = 16 * 1024;

/// Credits that one side may have, so that small datagrams are bounded too.
const CREDITS_MAX: usize = 255;

/// Bytes that wait to be cut into datagrams. A record goes in as a whole.
const OUTGOING_BYTES_MAX: usize = 3 * 1024;

/// Makes datagrams of bytes and bytes of datagrams, for one end of a connection.
///
/// Feed what arrives to [`handle_datagram`](Self::handle_datagram), and send what
/// [`poll_datagram`](Self::poll_datagram) gives until there is none, after each other call.
#[derive(Debug)]
pub struct BleFraming {
    /// What this side's carrier takes at most; later, the smaller one of both.
    datagram_bytes_max: usize,
    /// What was announced as the largest that is taken.
    announced_bytes: usize,
    is_opening_sent: bool,
    is_opened: bool,
    next_sent: u8,
    next_received: u8,
    /// Datagrams with a content that may be sent.
    credits: usize,
    /// Those that the other side may send.
    granted: usize,
    /// Those it may have at most, and has at first.
    window: usize,
    outgoing: VecDeque<u8>,
    incoming: VecDeque<u8>,
}

impl BleFraming {
    /// An end of a connection whose carrier takes datagrams of up to `datagram_bytes_max`, or what is above
    /// [`DATAGRAM_BYTES_MAX`], which is not used.
    ///
    /// # Errors
    /// [`LinkError::Malformed`] if that is below [`DATAGRAM_BYTES_MIN`].
    pub fn new(datagram_bytes_max: usize) -> Result<Self, LinkError> {
        if datagram_bytes_max < DATAGRAM_BYTES_MIN {
            return Err(malformed("the carrier takes datagrams that are too small"));
        }
        let datagram_bytes_max = datagram_bytes_max.min(DATAGRAM_BYTES_MAX);
        let window = (WINDOW_BYTES / datagram_bytes_max).min(CREDITS_MAX);
        Ok(Self {
            datagram_bytes_max,
            announced_bytes: datagram_bytes_max,
            is_opening_sent: false,
            is_opened: false,
            next_sent: 0,
            next_received: 0,
            credits: 0,
            granted: 0,
            window,
            outgoing: VecDeque::new(),
            incoming: VecDeque::new(),
        })
    }

    /// Takes a datagram that arrived.
    ///
    /// # Errors
    /// [`LinkError::Malformed`]; nothing more may be handed over then.
    pub fn handle_datagram(&mut self, datagram: &[u8]) -> Result<(), LinkError> {
        let Some(([number, credits, length], content)) = datagram.split_first_chunk() else {
            return Err(malformed("a datagram without a header"));
        };
        if datagram.len() > self.announced_bytes {
            return Err(malformed("a datagram over the size that was announced"));
        }
        if content.len() % 256 != usize::from(*length) {
            return Err(malformed("a datagram was cut on the way"));
        }
        if *number != self.next_received {
            return Err(malformed("a datagram was lost on the way"));
        }
        self.next_received = self.next_received.wrapping_add(1);
        self.credits += usize::from(*credits);
        if self.credits > CREDITS_MAX {
            return Err(malformed("too many credits"));
        }
        if !self.is_opened {
            return self.open(content);
        }
        if content.is_empty() {
            // Or somebody could keep this side busy with nothing for ever.
            return if *credits == 0 {
                Err(malformed("a datagram that says nothing"))
            } else {
                Ok(())
            };
        }
        self.granted = self
            .granted
            .checked_sub(1)
            .ok_or_else(|| malformed("a datagram without a credit for it"))?;
        self.incoming.extend(content);
        Ok(())
    }

    fn open(&mut self, content: &[u8]) -> Result<(), LinkError> {
        let size = content
            .strip_prefix(&OPENING)
            .and_then(|size| size.try_into().ok());
        let Some(size) = size.map(u16::from_le_bytes) else {
            return Err(LinkError::NotAPeer);
        };
        let size = usize::from(size);
        if size < DATAGRAM_BYTES_MIN {
            return Err(malformed(
                "the other side takes datagrams that are too small",
            ));
        }
        self.datagram_bytes_max = self.datagram_bytes_max.min(size);
        self.is_opened = true;
        Ok(())
    }

    /// The next datagram to send, if there is one.
    pub fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        if !self.has_datagram() {
            return None;
        }
        if !self.is_opening_sent {
            self.is_opening_sent = true;
            let size = u16::try_from(self.announced_bytes).expect("2,048 fits");
            let content = [&OPENING[..], &size.to_le_bytes()].concat();
            return Some(self.datagram(&content));
        }
        let len = if self.credits == 0 {
            0
        } else {
            self.outgoing
                .len()
                .min(self.datagram_bytes_max - HEADER_BYTES)
        };
        let content: Vec<u8> = self.outgoing.drain(..len).collect();
        if len > 0 {
            self.credits -= 1;
        }
        Some(self.datagram(&content))
    }

    /// Whether [`poll_datagram`](Self::poll_datagram) gives one.
    pub fn has_datagram(&self) -> bool {
        let is_sending = self.is_opened && self.credits > 0 && !self.outgoing.is_empty();
        // Credits of their own when half of them are used up, or the other side would wait for long.
        let is_granting = self.grant() > 0 && self.granted <= self.window / 2;
        !self.is_opening_sent || is_sending || is_granting
    }

    fn datagram(&mut self, content: &[u8]) -> Vec<u8> {
        let grant = self.grant();
        self.granted += grant;
        let number = self.next_sent;
        self.next_sent = number.wrapping_add(1);
        let grant = u8::try_from(grant).expect("a window is 255 at most");
        let length = u8::try_from(content.len() % 256).expect("less than 256");
        [&[number, grant, length], content].concat()
    }

    /// How many more datagrams the other side may be let send.
    fn grant(&self) -> usize {
        let waiting = self
            .incoming
            .len()
            .div_ceil(self.announced_bytes - HEADER_BYTES);
        self.window.saturating_sub(self.granted + waiting)
    }

    /// Takes bytes to be sent, as many as there is room for, and gives how many.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(OUTGOING_BYTES_MAX - self.outgoing.len());
        self.outgoing.extend(&bytes[..len]);
        len
    }

    /// Bytes that were written and are in no datagram yet.
    pub fn outgoing_bytes(&self) -> usize {
        self.outgoing.len()
    }

    /// Bytes that arrived and were not read yet.
    pub fn incoming_bytes(&self) -> usize {
        self.incoming.len()
    }

    /// Moves what arrived into `into`, as much as there is room for, and gives how much.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let len = into.len().min(self.incoming.len());
        for (byte, read) in into.iter_mut().zip(self.incoming.drain(..len)) {
            *byte = read;
        }
        len
    }
}

fn malformed(what: &'static str) -> LinkError {
    LinkError::Malformed { what }
}

#[cfg(test)]
mod tests;
