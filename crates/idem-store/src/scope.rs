//! What is held of a scope: what replication compares with another peer.
//!
//! A scope of 100,000 documents is compared whenever two peers have no common position, so the scan
//! reads headers and version vectors where they stand and decodes no document, unless a condition
//! looks into it; then it reads the fields that the condition looks at.

use std::{ops::ControlFlow, sync::Arc};

use idem_crdt::{encoded_version_bytes, visible_fields_declared, visible_fields_into};
use idem_kv::Snapshot;
use idem_model::{CollectionName, FieldKind, FieldPath, Object};
use idem_query::Selector;

use crate::{
    core::Core,
    error::StoreError,
    evictions::Eviction,
    feed,
    row::Header,
    subscriptions::{self, SubscriptionHash},
    tables::{self, DOCUMENTS, SYSTEM},
    work::{ID, View, put_id},
};

/// Which live documents [`Store::scan_scope`](crate::Store::scan_scope) visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeFilter {
    /// Those that the selector selects.
    Selected,
    /// All of the selector's collection.
    All,
}

/// What is held of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeState {
    /// The document.
    Live,
    /// That it was deleted.
    Tombstone,
    /// That it was evicted, and which version it had then.
    Evicted,
    /// As before, and a peer that was asked knew nothing of it ([`Store::doubt_evicted`](crate::Store::doubt_evicted)).
    /// Only [`Store::scan_known`](crate::Store::scan_known) visits such a one.
    Doubtful,
    /// The document, which does not travel. Only [`Store::scan_known`](crate::Store::scan_known) visits
    /// such a one.
    Quarantined,
}

/// A document as [`Store::scan_scope`](crate::Store::scan_scope) visits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScopeItem<'a> {
    /// Its id as `DocId::to_key` writes it.
    pub id: &'a [u8],
    /// Its version as `VersionVector::encode` writes it.
    pub version: &'a [u8],
    /// What is held of it.
    pub state: ScopeState,
}

/// What [`Store::scan_scope`](crate::Store::scan_scope) calls for each document.
pub(crate) type VisitItem<'a> = dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()> + 'a;

pub(crate) fn scan(
    core: &Arc<Core>,
    subscription: &SubscriptionHash,
    selector: &Selector,
    filter: ScopeFilter,
    visit: &mut VisitItem<'_>,
) -> Result<u64, StoreError> {
    let view = core.view()?;
    let commit = feed::durable_head(core, &view)?.commit;
    let Some(collection) = view.catalog.ordinal(selector.collection()) else {
        return Ok(commit);
    };
    let mut condition = Condition {
        selector: (filter == ScopeFilter::Selected && !selector.is_unfiltered())
            .then_some(selector),
        kinds: view.catalog.kinds(collection),
        probe: Object::new(),
    };
    let (from, to) = (collection.to_be_bytes(), (collection + 1).to_be_bytes());
    let mut failure = None;
    let mut is_broken = false;
    let mut each = |key: &[u8], row: &[u8]| {
        let (_, id) = tables::split_document(key)?;
        let (header, body) = Header::decode(row)?;
        if header.is_quarantined {
            return Ok(ControlFlow::Continue(()));
        }
        let state = match header.expiry_ms {
            Some(_) => ScopeState::Tombstone,
            None if condition.holds(key, id, body)? => ScopeState::Live,
            None => return Ok(ControlFlow::Continue(())),
        };
        let version = encoded_version_bytes(body)?;
        let step = visit(&ScopeItem { id, version, state });
        is_broken = step.is_break();
        Ok(step)
    };
    view.snapshot
        .scan(DOCUMENTS, &from, Some(&to), false, &mut |key, row| {
            each(key, row).unwrap_or_else(|error| {
                failure = Some(StoreError::corrupt("document row", &error));
                ControlFlow::Break(())
            })
        })?;
    failure.map_or(Ok(()), Err)?;
    if !is_broken {
        scan_markers(&view, subscription, collection, visit)?;
    }
    Ok(commit)
}

/// Visits every document of a collection that is here, was deleted, or counts as held somewhere though it
/// was evicted.
pub(crate) fn scan_known(
    core: &Arc<Core>,
    collection: &CollectionName,
    visit: &mut VisitItem<'_>,
) -> Result<(), StoreError> {
    let view = core.view()?;
    let Some(collection) = view.catalog.ordinal(collection) else {
        return Ok(());
    };
    let (from, to) = (collection.to_be_bytes(), (collection + 1).to_be_bytes());
    let mut failure = None;
    let mut is_broken = false;
    let mut each = |key: &[u8], row: &[u8]| {
        let (_, id) = tables::split_document(key)?;
        let (header, body) = Header::decode(row)?;
        let state = match header.expiry_ms {
            Some(_) => ScopeState::Tombstone,
            None if header.is_quarantined => ScopeState::Quarantined,
            None => ScopeState::Live,
        };
        let version = encoded_version_bytes(body)?;
        let step = visit(&ScopeItem { id, version, state });
        is_broken = step.is_break();
        Ok(step)
    };
    view.snapshot
        .scan(DOCUMENTS, &from, Some(&to), false, &mut |key, row| {
            each(key, row).unwrap_or_else(|error| {
                failure = Some(StoreError::corrupt("document row", &error));
                ControlFlow::Break(())
            })
        })?;
    failure.map_or(Ok(()), Err)?;
    match is_broken {
        true => Ok(()),
        false => {
            let state = |it: &Eviction| match (it.is_marker(), it.is_doubtful) {
                (false, _) => None,
                (true, false) => Some(ScopeState::Evicted),
                (true, true) => Some(ScopeState::Doubtful),
            };
            scan_evictions(&view, collection, &state, visit)
        }
    }
}

/// Visits what was evicted from a subscription.
fn scan_markers(
    view: &View,
    subscription: &SubscriptionHash,
    collection: u32,
    visit: &mut VisitItem<'_>,
) -> Result<(), StoreError> {
    let Some(number) = subscriptions::number_of(&view.snapshot, subscription)? else {
        return Ok(());
    };
    let state = |it: &Eviction| {
        let place = it.subscriptions.binary_search(&number);
        place.is_ok().then_some(ScopeState::Evicted)
    };
    scan_evictions(view, collection, &state, visit)
}

/// Visits the markers of a collection to which `state_of` gives a state.
fn scan_evictions(
    view: &View,
    collection: u32,
    state_of: &dyn Fn(&Eviction) -> Option<ScopeState>,
    visit: &mut VisitItem<'_>,
) -> Result<(), StoreError> {
    let from = tables::evicted(&collection.to_be_bytes());
    let to = tables::evicted(&(collection + 1).to_be_bytes());
    let mut failure = None;
    let mut each = |key: &[u8], row: &[u8]| {
        let (_, id) = tables::split_document(&key[1..])?;
        let eviction = Eviction::decode(row)?;
        let Some(state) = state_of(&eviction) else {
            return Ok(ControlFlow::Continue(()));
        };
        Ok(visit(&ScopeItem {
            id,
            version: &eviction.version,
            state,
        }))
    };
    view.snapshot
        .scan(SYSTEM, &from, Some(&to), false, &mut |key, row| {
            each(key, row).unwrap_or_else(|error| {
                failure = Some(StoreError::corrupt("note of an eviction", &error));
                ControlFlow::Break(())
            })
        })?;
    failure.map_or(Ok(()), Err)
}

/// What a live document is tested by.
struct Condition<'a> {
    /// `None` lets everything through.
    selector: Option<&'a Selector>,
    kinds: &'a [(FieldPath, FieldKind)],
    /// The fields of the document before.
    probe: Object,
}

impl Condition<'_> {
    fn holds(
        &mut self,
        key: &[u8],
        id: &[u8],
        body: &[u8],
    ) -> Result<bool, idem_model::DecodeError> {
        let Some(selector) = self.selector else {
            return Ok(true);
        };
        if !selector.may_match_id(id) {
            return Ok(false);
        }
        match selector.fields() {
            Some(names) => {
                visible_fields_into(body, names, self.kinds, ID, &mut self.probe)?;
            }
            None => {
                self.probe = visible_fields_declared(body, self.kinds)?.unwrap_or_default();
            }
        }
        put_id(key, &mut self.probe)?;
        Ok(selector.matches(&self.probe))
    }
}
