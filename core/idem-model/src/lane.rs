//! The lanes of a link.

/// A stream of frames within a link, with its own credit. Frames of one lane arrive in the order
/// sent; frames of different lanes may overtake each other. Ordered by urgency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Lane {
    /// Handshakes, subscriptions, acknowledgements.
    Control = 0,
    /// Live changes, which somebody may be waiting for.
    Interactive = 1,
    /// Catching up with what happened before.
    Bulk = 2,
    /// Attachment content.
    Blobs = 3,
}

impl Lane {
    /// Every lane, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Control, Self::Interactive, Self::Bulk, Self::Blobs];

    /// The number that stands for the lane on the wire.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The lane of a number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}
