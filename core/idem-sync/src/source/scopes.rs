//! Subscriptions of the remote that are not served, because the sync scope of their collection leaves it
//! out. They end, so that no cursor passes what is not sent, and are asked for again when it opens.

use std::collections::BTreeMap;

use idem_model::CollectionName;
use idem_wire::{Holdings, Message, Subscribe, SubscriptionId};

use super::Source;
use crate::replica::Replica;

/// What is not served.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    /// By the numbers that the remote gave.
    closed: BTreeMap<u32, Closed>,
    /// Those that the remote was told that it can ask for again, and has not.
    invited: BTreeMap<u32, Closed>,
}

#[derive(Debug)]
struct Closed {
    subscription: SubscriptionId,
    collection: CollectionName,
    /// The remote held everything up to this commit.
    held_to: u64,
}

impl Scopes {
    /// Whether something is not served.
    pub(super) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// The commit up to which the remote holds what it is about to ask for again, if it is.
    pub(super) fn invited_from(&self) -> Option<u64> {
        self.invited.values().map(|invited| invited.held_to).min()
    }

    pub(super) fn len(&self) -> usize {
        self.closed.len() + self.invited.len()
    }

    /// The remote does not want it any more.
    pub(super) fn unsubscribe(&mut self, alias: u32) {
        self.closed.remove(&alias);
        self.invited.remove(&alias);
    }

    /// The remote asked for it again.
    pub(super) fn subscribe(&mut self, subscription: SubscriptionId) {
        self.invited
            .retain(|_, invited| invited.subscription != subscription);
    }
}

impl Source {
    /// Whether the collection is open towards the remote.
    pub(crate) fn is_open<R: Replica>(&self, replica: &R, name: &CollectionName) -> bool {
        replica.sync_scope(name).includes(self.is_big_peer)
    }

    /// Takes the sync scopes as they are now. Returns what the remote is to be told. It holds everything
    /// that it asked for up to the commit `confirmed`.
    pub(crate) fn follow_scopes<R: Replica>(
        &mut self,
        replica: &R,
        confirmed: u64,
    ) -> Vec<Message<'static>> {
        self.is_outdated = false;
        let mut messages = Vec::new();
        let is_big_peer = self.is_big_peer;
        let is_open = |name: &CollectionName| replica.sync_scope(name).includes(is_big_peer);
        if !self.collections().into_iter().all(is_open) {
            let requests = self.requests.iter();
            let closing = requests.filter(|(_, it)| !is_open(it.selector.collection()));
            let closing: Vec<_> = closing
                .map(|(alias, it)| (*alias, it.subscription))
                .collect();
            for (alias, subscription) in closing {
                let closed = Closed {
                    subscription,
                    collection: self.request_of(alias).selector.collection().clone(),
                    held_to: confirmed,
                };
                self.end(alias);
                messages.push(self.close(alias, closed));
            }
        }
        if self.scopes.has_closed() {
            let closed = self.scopes.closed.iter();
            let opening = closed.filter(|(_, it)| is_open(&it.collection));
            let opening: Vec<_> = opening.map(|(alias, _)| *alias).collect();
            for alias in opening {
                if let Some(closed) = self.scopes.closed.remove(&alias) {
                    self.scopes.invited.insert(alias, closed);
                    messages.push(Message::Invite { alias });
                }
            }
        }
        messages
    }

    /// Does not serve a subscription that the remote asks for, if a scope leaves it out. Returns what it
    /// is told.
    pub(super) fn close_at_once<R: Replica>(
        &mut self,
        subscribe: &Subscribe,
        name: &CollectionName,
        replica: &R,
    ) -> Option<Message<'static>> {
        let is_open = self.is_open(replica, name);
        let held_to = match &subscribe.holdings {
            Holdings::Resume(resume) if resume.actor == replica.actor() => resume.commit,
            _ => 0,
        };
        let closed = Closed {
            subscription: subscribe.subscription,
            collection: name.clone(),
            held_to,
        };
        (!is_open).then(|| self.close(subscribe.alias, closed))
    }

    fn close(&mut self, alias: u32, closed: Closed) -> Message<'static> {
        self.scopes.closed.insert(alias, closed);
        Message::Refuse {
            alias,
            is_closed: true,
            detail: "the sync scope of the collection leaves that peer out",
        }
    }
}
