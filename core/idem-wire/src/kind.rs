//! The kinds of messages, so that tests can go through all of them.

use crate::message::{Message, number};

/// Which message one is.
///
/// Deliberately not `#[non_exhaustive]`: who makes messages of every kind, as the fuzzer and the golden
/// vectors do, shall not compile until a kind that is added is made there too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum MessageKind {
    /// [`Message::Hello`].
    Hello = number::HELLO,
    /// [`Message::Bye`].
    Bye = number::BYE,
    /// [`Message::Subscribe`].
    Subscribe = number::SUBSCRIBE,
    /// [`Message::AskStatement`].
    AskStatement = number::ASK_STATEMENT,
    /// [`Message::Statement`].
    Statement = number::STATEMENT,
    /// [`Message::Unsubscribe`].
    Unsubscribe = number::UNSUBSCRIBE,
    /// [`Message::Accept`].
    Accept = number::ACCEPT,
    /// [`Message::Refuse`].
    Refuse = number::REFUSE,
    /// [`Message::Ack`].
    Ack = number::ACK,
    /// [`Message::Transfer`].
    Transfer = number::TRANSFER,
    /// [`Message::Have`].
    Have = number::HAVE,
    /// [`Message::Want`].
    Want = number::WANT,
    /// [`Message::Resumed`].
    Resumed = number::RESUMED,
    /// [`Message::AskHoldings`].
    AskHoldings = number::ASK_HOLDINGS,
    /// [`Message::Symbols`].
    Symbols = number::SYMBOLS,
    /// [`Message::Items`].
    Items = number::ITEMS,
    /// [`Message::Compared`].
    Compared = number::COMPARED,
    /// [`Message::Lacks`].
    Lacks = number::LACKS,
    /// [`Message::Answer`].
    Answer = number::ANSWER,
    /// [`Message::Check`].
    Check = number::CHECK,
    /// [`Message::Checked`].
    Checked = number::CHECKED,
    /// [`Message::Floor`].
    Floor = number::FLOOR,
    /// [`Message::Invite`].
    Invite = number::INVITE,
    /// [`Message::Gossip`].
    Gossip = number::GOSSIP,
    /// [`Message::AskReach`].
    AskReach = number::ASK_REACH,
    /// [`Message::Reach`].
    Reach = number::REACH,
    /// [`Message::Move`].
    Move = number::MOVE,
    /// [`Message::Lost`].
    Lost = number::LOST,
    /// [`Message::Unheld`].
    Unheld = number::UNHELD,
    /// [`Message::Restart`].
    Restart = number::RESTART,
    /// [`Message::Feed`].
    Feed = number::FEED,
    /// [`Message::Pull`].
    Pull = number::PULL,
    /// [`Message::Extension`], whatever its number.
    Extension = number::EXTENSIONS,
}

impl MessageKind {
    /// All kinds, by number.
    pub const ALL: [Self; 33] = [
        Self::Hello,
        Self::Bye,
        Self::Subscribe,
        Self::AskStatement,
        Self::Statement,
        Self::Unsubscribe,
        Self::Accept,
        Self::Refuse,
        Self::Ack,
        Self::Transfer,
        Self::Have,
        Self::Want,
        Self::Resumed,
        Self::AskHoldings,
        Self::Symbols,
        Self::Items,
        Self::Compared,
        Self::Lacks,
        Self::Gossip,
        Self::Answer,
        Self::Check,
        Self::Checked,
        Self::Floor,
        Self::Invite,
        Self::Move,
        Self::Lost,
        Self::Unheld,
        Self::Restart,
        Self::AskReach,
        Self::Reach,
        Self::Feed,
        Self::Pull,
        Self::Extension,
    ];
}

impl Message<'_> {
    /// Which message it is.
    pub fn kind(&self) -> MessageKind {
        match self {
            Self::Hello(_) => MessageKind::Hello,
            Self::Bye { .. } => MessageKind::Bye,
            Self::Subscribe(_) => MessageKind::Subscribe,
            Self::AskStatement { .. } => MessageKind::AskStatement,
            Self::Statement { .. } => MessageKind::Statement,
            Self::Unsubscribe { .. } => MessageKind::Unsubscribe,
            Self::Accept(_) => MessageKind::Accept,
            Self::Refuse { .. } => MessageKind::Refuse,
            Self::Ack { .. } => MessageKind::Ack,
            Self::Transfer(_) => MessageKind::Transfer,
            Self::Have { .. } => MessageKind::Have,
            Self::Want { .. } => MessageKind::Want,
            Self::Resumed { .. } => MessageKind::Resumed,
            Self::AskHoldings { .. } => MessageKind::AskHoldings,
            Self::Symbols { .. } => MessageKind::Symbols,
            Self::Items(_) => MessageKind::Items,
            Self::Compared(_) => MessageKind::Compared,
            Self::Lacks(_) => MessageKind::Lacks,
            Self::Answer { .. } => MessageKind::Answer,
            Self::Check(_) => MessageKind::Check,
            Self::Checked(_) => MessageKind::Checked,
            Self::Floor { .. } => MessageKind::Floor,
            Self::Invite { .. } => MessageKind::Invite,
            Self::Gossip { .. } => MessageKind::Gossip,
            Self::AskReach(_) => MessageKind::AskReach,
            Self::Reach(_) => MessageKind::Reach,
            Self::Move(_) => MessageKind::Move,
            Self::Lost { .. } => MessageKind::Lost,
            Self::Unheld { .. } => MessageKind::Unheld,
            Self::Restart => MessageKind::Restart,
            Self::Feed { .. } => MessageKind::Feed,
            Self::Pull { .. } => MessageKind::Pull,
            Self::Extension { .. } => MessageKind::Extension,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WireError;

    #[test]
    fn every_number_that_can_be_read_has_a_kind() {
        for number in 0..=number::EXTENSIONS {
            let is_unknown =
                Message::decode(&[number]) == Err(WireError::UnknownMessage { number });
            let has_kind = MessageKind::ALL.iter().any(|kind| *kind as u8 == number);
            assert_eq!(has_kind, !is_unknown, "{number:#04x}");
        }
    }
}
