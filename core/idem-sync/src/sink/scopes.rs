//! Subscriptions of collections that do not sync with the remote, because a sync scope on one of both sides
//! leaves the other one out. They are not asked for: what is refused after it was asked for is behind
//! the cursor.

use std::collections::{BTreeMap, BTreeSet};

use idem_model::{CollectionName, DocumentKey, limits};
use idem_wire::{Message, SubscriptionId};

use super::{Sink, Taking};
use crate::{
    event::{CloseReason, Event},
    failure::Failure,
    replica::Replica,
    testimony::{self, Told},
    wanted::Wanted,
};

/// What does not sync with the remote.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    /// Whether the remote is a Big Peer.
    pub(super) is_big_peer: bool,
    /// Collections that this side wants and that its own scopes close.
    pub(super) here: BTreeSet<CollectionName>,
    /// Subscriptions that the scopes of the remote close, by the numbers that they were asked for with.
    pub(super) there: BTreeMap<u32, SubscriptionId>,
    /// How often the remote said that one of them can be asked for again.
    invitations: usize,
}

impl Scopes {
    pub(super) fn new(is_big_peer: bool) -> Self {
        Self {
            is_big_peer,
            ..Self::default()
        }
    }
}

impl Sink {
    /// Takes the sync scopes as they are now. Returns what the remote is to be told.
    pub(crate) fn follow_scopes<R: Replica>(
        &mut self,
        replica: &R,
        wanted: &Wanted,
    ) -> Vec<Message<'static>> {
        let is_big_peer = self.scopes.is_big_peer;
        let closed: BTreeSet<_> = wanted
            .names()
            .filter(|(_, collection)| !replica.sync_scope(collection).includes(is_big_peer))
            .map(|(name, _)| name.clone())
            .collect();
        if closed.is_empty() && self.scopes.here.is_empty() {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.scopes.here, closed);
        let mut messages = Vec::new();
        for subscription in wanted.ids() {
            let Some(selector) = wanted.selector(subscription) else {
                continue;
            };
            if self.scopes.here.contains(selector.collection()) {
                messages.extend(self.unwant(subscription));
            } else if before.contains(selector.collection()) {
                self.due.insert(subscription, ());
            }
        }
        messages
    }

    /// The remote does not serve a subscription as long as its sync scope leaves this side out.
    pub(crate) fn closed_there(&mut self, alias: u32) -> Option<SubscriptionId> {
        let subscription = self.subscription(alias)?;
        // It ended there.
        let _ = self.unwant(subscription);
        self.scopes.there.insert(alias, subscription);
        Some(subscription)
    }

    /// The remote may be asked again for what it did not serve. Gives which one, if it is still wanted.
    pub(crate) fn invited(&mut self, alias: u32) -> Result<Option<SubscriptionId>, Failure> {
        let Some(subscription) = self.scopes.there.remove(&alias) else {
            return Ok(None);
        };
        // Each may make this side look through all that it holds.
        self.scopes.invitations += 1;
        if self.scopes.invitations > limits::INVITATIONS_PER_LINK_MAX {
            let detail = "sync scopes that open too often";
            return Err(Failure::new(CloseReason::Limit, detail));
        }
        self.due.insert(subscription, ());
        Ok(Some(subscription))
    }

    /// Tells the owner which of the documents that came and that nobody here asks for do not sync with the
    /// remote. Some may have been under way when that began; more than those nobody sends who means well.
    pub(super) fn report_out_of_scope<R>(
        &self,
        unwanted: &[DocumentKey],
        taking: &mut Taking<'_, R>,
    ) {
        let is_closed = |key: &&DocumentKey| self.scopes.here.contains(&key.collection);
        let mut documents = unwanted.iter().filter(is_closed);
        let named = documents.by_ref().take(limits::EVENT_DOCUMENTS_MAX);
        let named: Vec<_> = named.cloned().collect();
        if !named.is_empty() {
            taking.untaken.insert(&named);
            taking.events.push(Event::OutOfScope {
                count: (named.len() + documents.count()) as u64,
                documents: named,
            });
        }
    }

    /// Tells what is held of `keys`, in at most about `bytes_max` bytes.
    pub(super) fn held_versions<R: Replica>(
        &self,
        keys: Vec<DocumentKey>,
        bytes_max: usize,
        replica: &R,
    ) -> Result<Told, Failure> {
        testimony::held_versions(keys, bytes_max, (self.scopes.is_big_peer, replica))
    }

    /// Collections of which nothing is taken in, because the sync scope here leaves the remote out.
    pub(crate) fn closed_collections(&self) -> &BTreeSet<CollectionName> {
        &self.scopes.here
    }

    /// Subscriptions that the remote does not serve because of its sync scopes.
    pub(crate) fn subscriptions_closed_there(&self) -> impl Iterator<Item = SubscriptionId> {
        self.scopes.there.values().copied()
    }
}
