//! The subscriptions of this peer, whatever the link.

use std::collections::BTreeMap;

use idem_model::{CollectionName, limits};
use idem_query::Selector;
use idem_wire::SubscriptionId;

use crate::session::{Priority, SubscribeError};

/// The subscriptions of this peer.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    by_id: BTreeMap<SubscriptionId, Entry>,
    /// How many subscriptions each collection has.
    collections: BTreeMap<CollectionName, usize>,
}

#[derive(Debug)]
struct Entry {
    collection: CollectionName,
    statement: String,
    selector: Selector,
    priority: Priority,
    /// How often it was asked for and not given back.
    uses: u32,
}

/// The name of a subscription to what `selector` selects, the same on every peer.
pub fn subscription_id_of(selector: &Selector) -> SubscriptionId {
    subscription_id(&selector.canonical())
}

/// The name of a canonical statement.
pub(crate) fn subscription_id(statement: &str) -> SubscriptionId {
    SubscriptionId(*blake3::hash(statement.as_bytes()).as_bytes())
}

/// Names a set of subscriptions with their priorities (docs/format/wire.md, "Resumption").
pub(crate) fn subscription_set_hash(set: &BTreeMap<SubscriptionId, u8>) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_derive_key("idem sync set of subscriptions, version 1");
    for (subscription, priority) in set {
        hasher.update(&subscription.0).update(&[*priority]);
    }
    let mut hash = [0; 8];
    hasher.finalize_xof().fill(&mut hash);
    hash
}

impl Wanted {
    /// Adds a subscription. `true` if it was not there.
    pub(crate) fn add(
        &mut self,
        selector: &Selector,
        priority: Priority,
    ) -> Result<(SubscriptionId, bool), SubscribeError> {
        let statement = selector.canonical();
        if statement.len() > limits::SUBSCRIPTION_STATEMENT_BYTES_MAX {
            return Err(SubscribeError::StatementTooLong {
                bytes: statement.len(),
                limit: limits::SUBSCRIPTION_STATEMENT_BYTES_MAX,
            });
        }
        let id = subscription_id(&statement);
        if let Some(entry) = self.by_id.get_mut(&id) {
            entry.uses += 1;
            return Ok((id, false));
        }
        if self.by_id.len() >= limits::SUBSCRIPTIONS_PER_SESSION_MAX {
            return Err(SubscribeError::TooMany {
                limit: limits::SUBSCRIPTIONS_PER_SESSION_MAX,
            });
        }
        let collection = selector.collection().clone();
        *self.collections.entry(collection.clone()).or_insert(0) += 1;
        self.by_id.insert(
            id,
            Entry {
                collection,
                statement,
                selector: selector.clone(),
                priority,
                uses: 1,
            },
        );
        Ok((id, true))
    }

    /// Takes one use back. `true` if it was the last one.
    pub(crate) fn remove(&mut self, id: SubscriptionId) -> bool {
        let Some(entry) = self.by_id.get_mut(&id) else {
            return false;
        };
        entry.uses -= 1;
        if entry.uses > 0 {
            return false;
        }
        let entry = self.by_id.remove(&id).expect("looked up above");
        if let Some(count) = self.collections.get_mut(&entry.collection) {
            *count -= 1;
            if *count == 0 {
                self.collections.remove(&entry.collection);
            }
        }
        true
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SubscriptionId> + '_ {
        self.by_id.keys().copied()
    }

    /// All of them with their priorities, as the remote knows them.
    pub(crate) fn set(&self) -> BTreeMap<SubscriptionId, u8> {
        let entries = self.by_id.iter();
        entries.map(|(id, it)| (*id, it.priority as u8)).collect()
    }

    pub(crate) fn priority(&self, id: SubscriptionId) -> Option<Priority> {
        self.by_id.get(&id).map(|entry| entry.priority)
    }

    pub(crate) fn statement(&self, id: SubscriptionId) -> Option<&str> {
        self.by_id.get(&id).map(|entry| entry.statement.as_str())
    }

    pub(crate) fn selector(&self, id: SubscriptionId) -> Option<&Selector> {
        self.by_id.get(&id).map(|entry| &entry.selector)
    }

    /// The collections of all subscriptions.
    pub(crate) fn collections(&self) -> impl Iterator<Item = &CollectionName> {
        self.collections.keys()
    }

    pub(crate) fn has(&self, collection: &CollectionName) -> bool {
        self.collections.contains_key(collection)
    }
}
