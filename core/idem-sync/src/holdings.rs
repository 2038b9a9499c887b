//! What this side holds of a subscription, in items that the other side can compare.

use std::ops::ControlFlow;

use idem_model::{ActorId, CollectionName, DecodeError, Dot, VersionVector, codec::Reader, limits};
use idem_query::Selector;
use idem_wire::{Holdings, SubscriptionId};

use crate::{
    failure::Failure,
    replica::{Replica, ScopeFilter, ScopeItem, ScopeState},
    sketch::{Item, Salt, Sketch},
};

/// What a subscriber holds of one subscription.
pub(crate) struct Held {
    /// As many symbols as may ever be asked for: 68 KiB.
    pub(crate) sketch: Sketch,
    /// All items in order, if they are few enough for a SUBSCRIBE.
    few: Option<Vec<Item>>,
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
        scan_items(
            replica,
            salt,
            subscription,
            selector,
            ScopeFilter::Selected,
            &mut |item, _| {
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
        Ok(Self { sketch, few })
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

/// All items of a subscription, unless they are more than a list may have.
pub(crate) fn list<R: Replica>(
    replica: &R,
    salt: Salt,
    subscription: SubscriptionId,
    selector: &Selector,
) -> Result<Option<Vec<Item>>, Failure> {
    let mut items = Vec::new();
    let mut is_too_long = false;
    scan_items(
        replica,
        salt,
        subscription,
        selector,
        ScopeFilter::Selected,
        &mut |item, _| {
            items.push(item);
            is_too_long = items.len() > limits::LISTED_ITEMS_MAX;
            Ok(if is_too_long {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        },
    )?;
    Ok((!is_too_long).then_some(items))
}

/// What is done with each item of a scope and the document that it is of.
pub(crate) type Visit<'a> =
    dyn FnMut(Item, &ScopeItem<'_>) -> Result<ControlFlow<()>, Failure> + 'a;

/// Visits the items of a scope with the documents that they are of. Returns the commit of the
/// snapshot that was scanned.
pub(crate) fn scan_items<R: Replica>(
    replica: &R,
    salt: Salt,
    subscription: SubscriptionId,
    selector: &Selector,
    filter: ScopeFilter,
    visit: &mut Visit<'_>,
) -> Result<u64, Failure> {
    let mut failure = None;
    let commit = replica
        .scan_scope(subscription, selector, filter, &mut |held| {
            let visited = item_of(salt, selector.collection(), held)
                .map_err(|error| Failure::stored_bytes(&error))
                .and_then(|item| visit(item, held));
            visited.unwrap_or_else(|error| {
                failure = Some(error);
                ControlFlow::Break(())
            })
        })
        .map_err(|error| Failure::store(&error))?;
    failure.map_or(Ok(commit), Err)
}

/// Whether a document can be sent, which one that was evicted cannot.
pub(crate) fn is_there(held: &ScopeItem<'_>) -> bool {
    held.state != ScopeState::Evicted
}

/// The item of what is held.
pub(crate) fn item_of(
    salt: Salt,
    collection: &CollectionName,
    held: &ScopeItem<'_>,
) -> Result<Item, DecodeError> {
    // Without the limit on actors: documents merge beyond what a message may name.
    let mut reader = Reader::new(held.version);
    let count = reader.varint()?;
    let dots = (0..count).map(|_| {
        let actor = ActorId(reader.array()?);
        let n = reader.varint()?;
        Ok(Dot { actor, n })
    });
    let version: VersionVector = dots.collect::<Result<_, DecodeError>>()?;
    Ok(Item::of_key(&salt, collection, held.id, &version))
}
