//! What the remote is asked for, and what it is told of what is held here.

use std::collections::BTreeSet;

use idem_model::{Lane, limits};
use idem_query::Selector;
use idem_wire::{Holdings, Items, Message, Resume, Subscribe, SubscriptionId};

use super::{Inbound, Sink};
use crate::{
    event::CloseReason,
    failure::Failure,
    holdings::{Held, is_mirrored, list},
    replica::{Cursor, Replica},
    wanted::Wanted,
};

/// A statement that is not longer goes with its subscription, so that the remote need not ask for it.
const INLINE_STATEMENT_BYTES_MAX: usize = 1024;

impl Sink {
    /// The next requests that are due. They start together at the remote.
    pub(crate) fn poll_requests<R: Replica>(
        &mut self,
        replica: &R,
        wanted: &Wanted,
    ) -> Result<Vec<Message<'static>>, Failure> {
        let mut requests = Vec::new();
        while let Some((subscription, ())) = self.due.pop_first() {
            let (Some(service), Some(selector)) =
                (wanted.service(subscription), wanted.selector(subscription))
            else {
                continue;
            };
            let cursor = self.cursor(subscription, replica)?;
            self.alias_last += 1;
            let theirs = self.mirrored.remove(&subscription);
            let (holdings, has_evicted) = match (cursor, theirs) {
                (Some(cursor), _) => {
                    let Cursor { actor, commit } = cursor;
                    (Holdings::Resume(Resume { actor, commit }), false)
                }
                (None, Some(alias)) => {
                    self.listable.insert(self.alias_last);
                    // It was not looked at.
                    (Holdings::Mirrored { alias }, true)
                }
                (None, None) => self.tell_holdings(subscription, selector, replica)?,
            };
            // Who has no cursor may be a stranger to the remote, unless it asked for the same.
            let is_known = cursor.is_some() || theirs.is_some();
            let text = wanted.statement(subscription).filter(|_| !is_known);
            let text = text.filter(|text| text.len() <= INLINE_STATEMENT_BYTES_MAX);
            self.aliases.insert(self.alias_last, subscription);
            self.inbound.insert(
                subscription,
                Inbound {
                    alias: self.alias_last,
                    stored: cursor.map_or(0, |cursor| cursor.commit),
                    is_caught_up: false,
                    live: 0,
                    is_resuming: false,
                },
            );
            requests.push(Subscribe {
                alias: self.alias_last,
                subscription,
                priority: service.priority,
                holdings,
                has_evicted,
                statement: text.map(str::to_owned),
                more: true,
                evicts: service.evicts,
            });
        }
        if let Some(last) = requests.last_mut() {
            last.more = false;
        }
        let given_back = std::mem::take(&mut self.given_back).into_iter();
        let given_back = given_back.map(|alias| Message::Unsubscribe { alias });
        Ok(given_back
            .chain(requests.into_iter().map(Message::Subscribe))
            .collect())
    }

    /// Whole collections that are to be asked for and of which there is no such position.
    pub(crate) fn comparable<R: Replica>(
        &self,
        replica: &R,
        wanted: &Wanted,
    ) -> Result<BTreeSet<SubscriptionId>, Failure> {
        let mut comparable = BTreeSet::new();
        for subscription in self.due.keys() {
            let selector = wanted.selector(*subscription);
            if selector.is_some_and(is_mirrored) && self.cursor(*subscription, replica)?.is_none() {
                comparable.insert(*subscription);
            }
        }
        Ok(comparable)
    }

    /// The remote had `subscription` compared here under the number `theirs`, and is told what is
    /// lacking here.
    pub(crate) fn mirror(&mut self, subscription: SubscriptionId, theirs: u32) {
        if self.due.contains_key(&subscription) {
            self.mirrored.insert(subscription, theirs);
        }
    }

    /// What the next SUBSCRIBE says of what is held, and whether some of that was evicted.
    fn tell_holdings<R: Replica>(
        &mut self,
        subscription: SubscriptionId,
        selector: &Selector,
        replica: &R,
    ) -> Result<(Holdings, bool), Failure> {
        let alias = self.alias_last;
        let held = Held::scan(replica, self.salt, subscription, selector)?;
        let (holdings, may_be_asked) = held.to_wire();
        let has_evicted = held.has_evicted;
        if is_mirrored(selector) {
            match holdings {
                Holdings::Nothing => self.mirrors.tell_nothing(alias, subscription, held.commit),
                _ => self.mirrors.tell(alias, subscription, held.commit),
            }
        }
        if may_be_asked {
            let sent = 1 + limits::SUBSCRIBE_SYMBOLS;
            self.sketches.insert(alias, (held.sketch, sent));
        }
        Ok((holdings, has_evicted))
    }

    /// The remote wants to know more of what is held here: so many symbols, of which it gets no more than
    /// fit into a frame.
    pub(crate) fn ask_holdings(
        &mut self,
        alias: u32,
        (symbols, symbols_max): (u32, u32),
    ) -> Result<Option<Message<'static>>, Failure> {
        if !self.aliases.contains_key(&alias) {
            return Ok(None);
        }
        if symbols == 0 && self.listable.remove(&alias) {
            self.lists_due.push_back(alias);
            return Ok(None);
        }
        let Some((sketch, sent)) = self.sketches.get_mut(&alias) else {
            let detail = "question for a sketch that was not offered";
            return Err(Failure::new(CloseReason::Malformed, detail));
        };
        if symbols == 0 {
            self.sketches.remove(&alias);
            self.lists_due.push_back(alias);
            return Ok(None);
        }
        if symbols > sketch.symbols() - *sent {
            let detail = "question for more symbols than a sketch has";
            return Err(Failure::new(CloseReason::Limit, detail));
        }
        let symbols = symbols.min(symbols_max);
        let block = sketch.block(*sent, symbols);
        *sent += symbols;
        Ok(Some(Message::Symbols { alias, block }))
    }

    /// The next part of a list that the remote wants.
    pub(crate) fn poll_items<R: Replica>(
        &mut self,
        lane: Lane,
        replica: &R,
        wanted: &Wanted,
    ) -> Result<Option<Message<'static>>, Failure> {
        let Some(&alias) = self.lists_due.front() else {
            return Ok(None);
        };
        let subscription = self.aliases.get(&alias).copied();
        let selector = subscription.and_then(|it| Some((it, wanted.selector(it)?)));
        let Some((subscription, selector)) = selector else {
            self.lists_due.pop_front();
            self.list = None;
            return self.poll_items(lane, replica, wanted);
        };
        if self.list.is_none() {
            let listed = list(replica, self.salt, subscription, selector)?;
            if let Some((_, commit)) = listed
                && is_mirrored(selector)
            {
                self.mirrors.tell(alias, subscription, commit);
            }
            self.list = listed.map(|(items, _)| (items, 0));
        }
        let mut message = Items {
            lane,
            alias,
            more: false,
            is_void: self.list.is_none(),
            items: Vec::new(),
        };
        if let Some((items, sent)) = &mut self.list {
            let part = items[*sent..].iter().take(limits::ITEMS_PER_FRAME_MAX);
            message.items = part.map(|item| item.to_bytes()).collect();
            *sent += message.items.len();
            message.more = *sent < items.len();
        }
        if !message.more {
            self.lists_due.pop_front();
            self.list = None;
        }
        Ok(Some(Message::Items(message)))
    }
}
