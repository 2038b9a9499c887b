//! What this side holds of a subscription, in items that the other side can compare.

use std::ops::ControlFlow;

use idem_model::{
    ActorId, CollectionName, DecodeError, DocumentKey, Dot, VersionVector, codec::Reader, limits,
};
use idem_query::Selector;
use idem_wire::{Holdings, SubscriptionId};

use crate::{
    failure::Failure,
    projection::is_projection,
    replica::{Replica, ScopeFilter, ScopeItem, ScopeState},
    sketch::{Item, KeyedHash, Salt, Sketch, key_hash, tag_of},
};

/// What a subscriber holds of one subscription.
pub(crate) struct Held {
    /// As many symbols as may ever be asked for: 68 KiB.
    pub(crate) sketch: Sketch,
    /// All items in order, if they are few enough for a SUBSCRIBE.
    few: Option<Vec<Item>>,
    /// Of the snapshot that was looked at.
    pub(crate) commit: u64,
    /// Whether some of it was evicted.
    pub(crate) has_evicted: bool,
}

impl Held {
    /// Looks at all documents of the subscription.
    pub(crate) fn scan<R: Replica>(
        replica: &R,
        salt: Salt,
        subscription: SubscriptionId,
        selector: &Selector,
    ) -> Result<Self, Failure> {
        let mut sketch = Sketch::new(salt, limits::SKETCH_SYMBOLS_MAX);
        let mut few = Some(Vec::new());
        let mut has_evicted = false;
        let commit = scan_documents(
            replica,
            salt,
            subscription,
            (selector, selector.collection()),
            ScopeFilter::Selected,
            &mut |document| {
                let item = document.item()?;
                has_evicted |= !document.is_there();
                sketch.insert(item);
                if let Some(items) = &mut few {
                    items.push(item);
                }
                few.take_if(|few| few.len() > limits::SUBSCRIBE_ITEMS_MAX);
                Ok(ControlFlow::Continue(()))
            },
        )?;
        if let Some(items) = &mut few {
            items.sort_unstable();
        }
        Ok(Self {
            sketch,
            few,
            commit,
            has_evicted,
        })
    }

    /// What a SUBSCRIBE says of it, and whether the sketch may be asked for more.
    pub(crate) fn to_wire(&self) -> (Holdings, bool) {
        match &self.few {
            Some(few) if few.is_empty() => (Holdings::Nothing, false),
            Some(few) => {
                let items = few.iter().map(|item| item.to_bytes()).collect();
                (Holdings::Items(items), false)
            }
            None => {
                let holdings = Holdings::Sketch {
                    summary: self.sketch.summary(),
                    block: self.sketch.block(1, limits::SUBSCRIBE_SYMBOLS),
                };
                (holdings, true)
            }
        }
    }
}

/// All items of a subscription and the commit of their snapshot, unless they are more than a list may
/// have.
pub(crate) fn list<R: Replica>(
    replica: &R,
    salt: Salt,
    subscription: SubscriptionId,
    selector: &Selector,
) -> Result<Option<(Vec<Item>, u64)>, Failure> {
    let mut items = Vec::new();
    let mut is_too_long = false;
    let commit = scan_documents(
        replica,
        salt,
        subscription,
        (selector, selector.collection()),
        ScopeFilter::Selected,
        &mut |document| {
            items.push(document.item()?);
            is_too_long = items.len() > limits::LISTED_ITEMS_MAX;
            Ok(if is_too_long {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        },
    )?;
    Ok((!is_too_long).then_some((items, commit)))
}

/// A document of a scope, with what a comparison needs of it.
pub(crate) struct Visited<'a> {
    salt: Salt,
    collection: &'a CollectionName,
    pub(crate) held: &'a ScopeItem<'a>,
    /// What names the document.
    pub(crate) key_hash: KeyedHash,
}

impl Visited<'_> {
    /// What its item begins with, at half the cost of the item.
    pub(crate) fn tag(&self) -> [u8; 4] {
        tag_of(self.key_hash)
    }

    /// The document at its version.
    pub(crate) fn item(&self) -> Result<Item, Failure> {
        let item = Item::at_encoded(&self.salt, self.key_hash, self.held.version);
        item.map_err(|error| Failure::stored_bytes(&error))
    }

    pub(crate) fn key(&self) -> Result<DocumentKey, Failure> {
        let key = self.held.key(self.collection);
        key.map_err(|error| Failure::stored_bytes(&error))
    }

    /// Its version, without the limit on actors: documents merge beyond what a message may name.
    pub(crate) fn version(&self) -> Result<VersionVector, Failure> {
        let read = || {
            let mut reader = Reader::new(self.held.version);
            let count = reader.varint()?;
            let dots = (0..count).map(|_| {
                let actor = ActorId(reader.array()?);
                let n = reader.varint()?;
                Ok(Dot { actor, n })
            });
            dots.collect::<Result<VersionVector, DecodeError>>()
        };
        read().map_err(|error| Failure::stored_bytes(&error))
    }

    /// Whether it can be sent, which one that was evicted cannot.
    pub(crate) fn is_there(&self) -> bool {
        self.held.state != ScopeState::Evicted
    }
}

/// What is done with each document of a scope.
pub(crate) type Visit<'a> = dyn FnMut(&Visited<'_>) -> Result<ControlFlow<()>, Failure> + 'a;

/// Visits the documents of a scope, under the name `collection`. Returns the commit of the snapshot that was scanned.
pub(crate) fn scan_documents<R: Replica>(
    replica: &R,
    salt: Salt,
    subscription: SubscriptionId,
    (selector, collection): (&Selector, &CollectionName),
    filter: ScopeFilter,
    visit: &mut Visit<'_>,
) -> Result<u64, Failure> {
    let mut failure = None;
    let commit = replica
        .scan_scope(subscription, selector, filter, &mut |held| {
            let visited = Visited {
                salt,
                collection,
                held,
                key_hash: key_hash(&salt, collection, held.id),
            };
            visit(&visited).unwrap_or_else(|error| {
                failure = Some(error);
                ControlFlow::Break(())
            })
        })
        .map_err(|error| Failure::store(&error))?;
    failure.map_or(Ok(commit), Err)
}

/// Whether what is held of a subscription is what its source has: all of a collection, in whole documents.
/// Then one comparison serves both directions.
pub(crate) fn is_mirrored(selector: &Selector) -> bool {
    is_unfiltered(selector) && !is_projection(selector.collection())
}

/// Whether a subscription is to a whole collection.
pub(crate) fn is_unfiltered(selector: &Selector) -> bool {
    selector.is_unfiltered()
}

/// The item of what is held.
pub(crate) fn item_of(
    salt: Salt,
    collection: &CollectionName,
    held: &ScopeItem<'_>,
) -> Result<Item, DecodeError> {
    Item::at_encoded(&salt, key_hash(&salt, collection, held.id), held.version)
}
