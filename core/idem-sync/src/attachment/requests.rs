//! What the remote asks for.

use std::time::Duration;

use idem_model::limits;
use idem_wire::{Check, Message, Subscribe};

use super::{Attachment, Lasting, data_lane};
use crate::{
    event::{CloseReason, Event},
    failure::Failure,
    outlet::Outlet,
    replica::Replica,
    spent::Scans,
};

/// Bytes of a symbol on the wire.
const SYMBOL_BYTES: usize = 17;

impl Attachment {
    pub(super) fn handle_request<R: Replica>(
        &mut self,
        now: Duration,
        replica: &mut R,
        lasting: &mut Lasting<'_>,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        let symbols_max = symbols_in(self.frame_bytes_max());
        let peer = self.peer.as_mut().expect("checked by the caller");
        match message {
            Message::Subscribe(subscribe) => self.subscribe(now, replica, lasting, subscribe),
            Message::Restart => self.restart_source(now, lasting),
            Message::Statement {
                subscription,
                more,
                text,
            } => self.statement(now, replica, lasting, subscription, (text, more)),
            Message::Check(check) => self.check(now, replica, check),
            Message::AskHoldings { alias, symbols } if alias >= Check::ALIAS_MIN => {
                let asking = &mut peer.checks.asking;
                match asking.ask_holdings(now, alias, (symbols, symbols_max))? {
                    Some(answer) => self.queue(answer.to_bytes()),
                    None => Ok(()),
                }
            }
            Message::Symbols { alias, block } if alias >= Check::ALIAS_MIN => {
                let answering = &mut peer.checks.answering;
                match answering.take_symbols(now, alias, &block, replica)? {
                    Some(question) => self.queue(question.to_bytes()),
                    None => Ok(()),
                }
            }
            Message::AskHoldings { alias, symbols } => {
                match peer.sink.ask_holdings(alias, (symbols, symbols_max))? {
                    Some(answer) => self.queue(answer.to_bytes()),
                    None => Ok(()),
                }
            }
            Message::Symbols { alias, block } => {
                let ours = peer.sink.comparable(replica, lasting.wanted)?;
                let mut comparing = lasting.comparing(now, replica, ours);
                match peer.source.take_symbols(alias, &block, &mut comparing)? {
                    Some(question) => self.queue(question.to_bytes()),
                    None => Ok(()),
                }
            }
            Message::Lacks(lacks) => peer.source.take_lacks(lacks, lasting.known),
            Message::AskStatement { subscription } => self.tell_statement(subscription, lasting),
            Message::Unsubscribe { alias } => {
                if let Some(subscription) = peer.source.unsubscribe(alias) {
                    let event = Event::RemoteRefusalEnded { subscription };
                    lasting.events.push(event);
                }
                self.start_pending(now, replica, lasting)
            }
            Message::Want { documents } => {
                peer.want(documents, lasting);
                Ok(())
            }
            Message::Feed { is_fed_by_others } => {
                peer.source.set_fed_by_others(is_fed_by_others);
                Ok(())
            }
            Message::Pull { batch, places } => peer.source.pull(batch, &places),
            Message::Unheld { lane, batch } => peer.unheld(data_lane(lane)?, batch, lasting),
            _ => {
                let detail = "message that is not allowed now";
                Err(Failure::new(CloseReason::Malformed, detail))
            }
        }
    }

    fn subscribe<R: Replica>(
        &mut self,
        now: Duration,
        replica: &R,
        lasting: &mut Lasting<'_>,
        mut subscribe: Subscribe,
    ) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("checked by the caller");
        let subscription = subscribe.subscription;
        let selector = lasting.statements.selector(subscription);
        // Who asks for the same knows what it says.
        let ours = || lasting.wanted.statement(subscription).map(str::to_owned);
        let statement = subscribe.statement.take().or_else(ours);
        let is_unknown = selector.is_none();
        peer.source.subscribe(subscribe, selector)?;
        if let Some(text) = statement.filter(|_| is_unknown) {
            return self.statement(now, replica, lasting, subscription, (&text, false));
        }
        if is_unknown {
            let question = Message::AskStatement { subscription };
            return self.queue(question.to_bytes());
        }
        self.start_pending(now, replica, lasting)
    }

    pub(super) fn start_pending<R: Replica>(
        &mut self,
        now: Duration,
        replica: &R,
        lasting: &mut Lasting<'_>,
    ) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("checked by the caller");
        let ours = peer.sink.comparable(replica, lasting.wanted)?;
        let mut comparing = lasting.comparing(now, replica, ours);
        let answers = peer.source.start_pending(&mut comparing)?;
        *lasting.standing = peer.source.set();
        let mut answers = answers.into_iter();
        answers.try_for_each(|answer| self.queue(answer.to_bytes()))
    }

    /// The remote could not use what was sent, and wants it again from its cursors on.
    fn restart_source(&mut self, now: Duration, lasting: &mut Lasting<'_>) -> Result<(), Failure> {
        let peer = self.peer.as_mut().expect("checked by the caller");
        self.restarts += 1;
        // Who comes back on another link has no more leave.
        let is_allowed = self.spent.restarts.count(now);
        if !is_allowed || self.restarts > limits::REWINDS_MAX {
            return Err(Failure::new(CloseReason::Limit, "too many restarts"));
        }
        peer.source.restart();
        peer.confirmed.restart();
        *lasting.standing = peer.source.set();
        lasting.events.push(Event::RemoteRestarted);
        peer.outlets.iter_mut().for_each(Outlet::restart);
        lasting.known.forget_sent();
        Ok(())
    }

    /// Counts a frame that nothing else bounds.
    pub(crate) fn count_request(&mut self, now: Duration) -> Result<(), Failure> {
        let is_new_window = self.spent.count_request(now)?;
        if let Some(peer) = self.peer.as_mut().filter(|_| is_new_window) {
            peer.source.scans = Scans::default();
            peer.checks.answering.scans = Scans::default();
            peer.checks.asking.scans = Scans::default();
        }
        Ok(())
    }
}

/// How many symbols of a sketch fit into a frame beside its number, its alias and two counts.
fn symbols_in(frame_bytes_max: usize) -> u32 {
    let symbols = frame_bytes_max.saturating_sub(16) / SYMBOL_BYTES;
    u32::try_from(symbols).unwrap_or(u32::MAX)
}
