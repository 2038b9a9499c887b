//! The subscriptions of this peer, whatever the link.

use idem_model::{CollectionName, Object, limits};
use idem_query::Selector;
use idem_wire::SubscriptionId;

use crate::{
    few::Few,
    projection::{held_selector, travelling_name},
    session::{OnLeave, SubscribeError, SubscriptionTerms},
};

/// Which of the two ends of a session are relays: those hold documents for others, in memory.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ends {
    /// This side is one: it never tells the remote that it may evict a document.
    pub is_local_relay: bool,
    /// The remote is one: nobody can say whether it knows of deletions that are forgotten here, so that what
    /// may have been deleted is not taken from it.
    pub is_remote_relay: bool,
}

/// The subscriptions of this peer.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) ends: Ends,
    /// Whether the remote may have lost what it held, so that no delta is of use.
    pub(crate) is_remote_forgetful: bool,
    by_id: Few<SubscriptionId, Entry>,
    /// By the names under which documents travel.
    names: Few<CollectionName, Uses>,
}

/// The subscriptions of which documents travel under one name.
#[derive(Debug)]
struct Uses {
    collection: CollectionName,
    all: usize,
    /// Of those, the ones that evict what they do not select any more.
    evicting: usize,
}

/// How a subscription is served, as both sides know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Service {
    /// Lower goes first.
    pub(crate) priority: u8,
    /// Whether the subscriber evicts what leaves it.
    pub(crate) evicts: bool,
}

#[derive(Debug)]
struct Entry {
    /// Under which its documents travel, and are held here.
    name: CollectionName,
    /// As it was asked for.
    selector: Selector,
    /// What is held of it here. Of a projection that is everything of its name: what it selects does not
    /// follow from the fields that are held.
    held: Selector,
    terms: SubscriptionTerms,
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

/// Names a set of subscriptions and how they are served (docs/format/wire.md, "Resumption").
pub(crate) fn subscription_set_hash(set: &Few<SubscriptionId, Service>) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_derive_key("idem sync set of subscriptions, version 1");
    for (subscription, service) in set.iter() {
        hasher.update(&subscription.0);
        hasher.update(&[service.priority, u8::from(service.evicts)]);
    }
    let mut hash = [0; 8];
    hasher.finalize_xof().fill(&mut hash);
    hash
}

impl Wanted {
    /// Nothing, in a session of which these are the ends.
    pub(crate) fn between(ends: Ends) -> Self {
        Self {
            ends,
            ..Self::default()
        }
    }

    /// Adds a subscription. `true` if it was not there.
    pub(crate) fn add(
        &mut self,
        selector: &Selector,
        terms: SubscriptionTerms,
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
        let name = travelling_name(selector);
        let collection = selector.collection().clone();
        let uses = self.names.get_or_insert_with(name.clone(), || Uses {
            collection: collection.clone(),
            all: 0,
            evicting: 0,
        });
        uses.all += 1;
        uses.evicting += usize::from(terms.on_leave == OnLeave::Evict);
        self.by_id.insert(
            id,
            Entry {
                held: held_selector(selector),
                name,
                selector: selector.clone(),
                terms,
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
        if let Some(uses) = self.names.get_mut(&entry.name) {
            uses.all -= 1;
            uses.evicting -= usize::from(entry.terms.on_leave == OnLeave::Evict);
            if uses.all == 0 {
                self.names.remove(&entry.name);
            }
        }
        true
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SubscriptionId> + '_ {
        self.by_id.keys().copied()
    }

    /// All of them, as the remote knows them.
    pub(crate) fn set(&self) -> Few<SubscriptionId, Service> {
        let entries = self.by_id.iter();
        entries.map(|(id, it)| (*id, it.service())).collect()
    }

    pub(crate) fn service(&self, id: SubscriptionId) -> Option<Service> {
        self.by_id.get(&id).map(Entry::service)
    }

    pub(crate) fn statement(&self, id: SubscriptionId) -> Option<&str> {
        self.by_id
            .get(&id)
            .map(|entry| entry.selector.canonical_text())
    }

    /// What is held here of a subscription, under the name under which it travels.
    pub(crate) fn selector(&self, id: SubscriptionId) -> Option<&Selector> {
        self.by_id.get(&id).map(|entry| &entry.held)
    }

    /// The collection that a subscription is about.
    pub(crate) fn stored(&self, id: SubscriptionId) -> Option<&CollectionName> {
        self.by_id.get(&id).map(|entry| entry.selector.collection())
    }

    /// The names under which documents of all subscriptions travel.
    pub(crate) fn collections(&self) -> impl Iterator<Item = &CollectionName> {
        self.names.keys()
    }

    /// These names, and the collections that they are of.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&CollectionName, &CollectionName)> {
        self.names
            .iter()
            .map(|(name, uses)| (name, &uses.collection))
    }

    pub(crate) fn has(&self, name: &CollectionName) -> bool {
        self.names.contains_key(name)
    }

    /// Whether some subscription of the collection evicts what leaves it.
    pub(crate) fn evicts(&self, collection: &CollectionName) -> bool {
        let uses = self.names.get(collection);
        uses.is_some_and(|uses| uses.evicting > 0)
    }

    /// Whether a document of the collection may go from here at any time.
    pub(crate) fn may_let_go(&self, collection: &CollectionName) -> bool {
        self.ends.is_local_relay || self.evicts(collection)
    }

    /// Whether a document that left is to be evicted here, by its fields before it was told so. The
    /// subscriptions that selected it decide; where none did, because the change was made here, all
    /// of the collection.
    pub(crate) fn evicts_what_was(&self, collection: &CollectionName, fields: &Object) -> bool {
        let entries = self.by_id.values();
        let here = || entries.clone().filter(|it| it.name == *collection);
        let is_keeping = |it: &&Entry| it.terms.on_leave == OnLeave::Keep;
        let mut selecting = here().filter(|it| it.held.matches(fields)).peekable();
        match selecting.peek() {
            Some(_) => !selecting.any(|it| is_keeping(&it)),
            None => !here().any(|it| is_keeping(&it)),
        }
    }
}

impl Entry {
    fn service(&self) -> Service {
        Service {
            priority: self.terms.priority as u8,
            evicts: self.terms.on_leave == OnLeave::Evict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHES: &str = include_str!("../../../vectors/wire/hashes.txt");

    #[test]
    fn a_set_of_subscriptions_is_hashed_as_it_was() {
        let service = |priority, evicts| Service { priority, evicts };
        let set = [
            (SubscriptionId([0x22; 32]), service(0, true)),
            (SubscriptionId([0x11; 32]), service(1, false)),
        ];
        let set = set.into_iter().collect();
        let hash: String = subscription_set_hash(&set)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let (first, second) = ("11".repeat(32), "22".repeat(32));
        let line = format!("set | {first}0100 {second}0001 | {hash}\n");
        assert!(HASHES.contains(&line), "{line}");
    }
}
