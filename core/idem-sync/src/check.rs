//! Finding out what was deleted while a peer was away (docs/format/wire.md, "Deleted meanwhile").
//!
//! A store forgets tombstones. A peer that has not synced since may hold documents which were deleted, so
//! it asks before it sends anything, one collection after the other: which of my documents do you know
//! nothing of, and which are in doubt there as well? It asks about what it evicted and counts as held too,
//! for whoever asks it in turn believes what it says of that. The answer comes with two versions, which
//! cover all tombstones that are gone and all documents that went without a trace in another way. What is
//! known nothing of is then
//!
//! - work that is not known there, if the tombstones do not cover it;
//! - deleted, if they do, and the other side certainly held it, and cannot have evicted any of it;
//! - in doubt otherwise, and waits in quarantine.
//!
//! Nothing is concluded from a document's absence alone: a peer may never have wanted it.

mod answering;
mod asking;

use std::ops::ControlFlow;

use idem_crdt::Document;
use idem_model::{CollectionName, DocumentKey, PeerId, VersionVector};

use crate::{
    event::Event,
    failure::Failure,
    holdings::item_of,
    replica::{Changed, EvictReason, Gone, Replica, ScopeItem, ScopeState},
    sketch::{Item, Salt},
};

pub(crate) use answering::Answering;
pub(crate) use asking::{Asking, Finding};

/// Documents that are looked at again at once to decide about them, so that memory stays small.
const DECIDED_AT_ONCE: usize = 256;

/// Decides about the documents that a remote knows nothing of.
pub(crate) struct Deciding<'a, R> {
    pub(crate) replica: &'a mut R,
    pub(crate) remote: PeerId,
    pub(crate) is_big_peer: bool,
    pub(crate) salt: Salt,
    /// Whether the remote certainly held a document as it is here.
    pub(crate) was_held: &'a dyn Fn(&R, &Changed) -> Result<bool, Failure>,
}

/// What an answer is about.
#[derive(Default)]
struct Sorted {
    /// Documents that the remote knows nothing of or is in doubt about, and whether it knows nothing of
    /// exactly what is here.
    unknown: Vec<(DocumentKey, bool)>,
    /// What it knows and is in quarantine here.
    known: Vec<DocumentKey>,
    /// What counts as held here, and it does not vouch for.
    evicted: Vec<DocumentKey>,
}

/// What is to become of a document.
enum Verdict {
    /// It is not known there, and travels.
    Travels,
    Deleted(VersionVector),
    InDoubt,
}

impl<R: Replica> Deciding<'_, R> {
    /// Evicts what was deleted, puts into quarantine what may have been, doubts what was evicted and may
    /// have been, and tells how much that was.
    pub(crate) fn decide(&mut self, finding: &Finding) -> Result<Option<Event>, Failure> {
        let tells_nothing =
            finding.items.is_empty() && finding.doubtful.is_empty() && !finding.leaves_out_evicted;
        if tells_nothing && !self.is_big_peer {
            return Ok(None);
        }
        let sorted = self.sort(finding)?;
        let mut deleted = Vec::new();
        let mut doubtful = Vec::new();
        for part in sorted.unknown.chunks(DECIDED_AT_ONCE) {
            let keys: Vec<DocumentKey> = part.iter().map(|(key, _)| key.clone()).collect();
            let rows = self.rows(&keys)?;
            for (key, is_exact) in part {
                let row = rows.iter().find(|row| row.key == *key);
                match self.judge(key, row.filter(|_| *is_exact), finding.gone.as_ref())? {
                    Verdict::Travels => {}
                    Verdict::Deleted(version) => deleted.push((key.clone(), version)),
                    Verdict::InDoubt => doubtful.push(key.clone()),
                }
            }
        }
        let store = |error: &R::Error| Failure::store(error);
        if self.is_big_peer && !sorted.known.is_empty() {
            // It has all there is, so they live.
            (self.replica.leave_quarantine(&sorted.known)).map_err(|error| store(&error))?;
        }
        if !sorted.evicted.is_empty() {
            let doubted = self.replica.doubt_evicted(&sorted.evicted);
            doubted.map_err(|error| store(&error))?;
        }
        let mut counts = [0, 0];
        if !deleted.is_empty() {
            let evicted = self.replica.evict(&deleted, EvictReason::Deleted);
            counts[0] = evicted.map_err(|error| store(&error))?;
        }
        if !doubtful.is_empty() {
            let quarantined = self.replica.quarantine(&doubtful, self.remote);
            counts[1] = quarantined.map_err(|error| store(&error))?;
        }
        let [deleted, quarantined] = counts;
        Ok(
            (deleted + quarantined > 0).then(|| Event::DeletedMeanwhile {
                collection: finding.collection.clone(),
                deleted,
                quarantined,
            }),
        )
    }

    /// Finds what the answer is about.
    fn sort(&self, finding: &Finding) -> Result<Sorted, Failure> {
        let mut sorted = Sorted::default();
        let (salt, name) = (self.salt, &finding.collection);
        scan_known(self.replica, salt, name, &mut |item, held| {
            let is_named = |items: &[Item]| {
                let place = items.partition_point(|it| it.tag < item.tag);
                items.get(place).is_some_and(|it| it.tag == item.tag)
            };
            let is_unknown = is_named(&finding.items);
            let is_lacking = is_unknown || is_named(&finding.doubtful);
            let key = || {
                let key = held.key(name);
                key.map_err(|error| Failure::stored_bytes(&error))
            };
            match held.state {
                ScopeState::Live | ScopeState::Quarantined if is_lacking => {
                    // Another version of it, or another document with the same tag, was not asked for;
                    // and what is in doubt there may be elsewhere.
                    let is_exact = is_unknown && finding.items.binary_search(&item).is_ok();
                    sorted.unknown.push((key()?, is_exact));
                }
                ScopeState::Quarantined => sorted.known.push(key()?),
                ScopeState::Evicted if is_lacking || finding.leaves_out_evicted => {
                    sorted.evicted.push(key()?);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(sorted)
    }

    /// What of `keys` is durable, as the feed gives it.
    fn rows(&self, keys: &[DocumentKey]) -> Result<Vec<Changed>, Failure> {
        let mut rows = Vec::new();
        let mut rest = keys;
        while !rest.is_empty() {
            let (groups, consumed) = (self.replica)
                .changed_documents(rest, u64::MAX, idem_model::limits::TRANSFER_BATCH_BYTES)
                .map_err(|error| Failure::store(&error))?;
            let given = groups.into_iter().flatten();
            rows.extend(given.filter(|row| keys.contains(&row.key)));
            if consumed == 0 {
                // What follows waits for the disk, and counts as not held.
                break;
            }
            rest = &rest[consumed..];
        }
        Ok(rows)
    }

    fn judge(
        &self,
        key: &DocumentKey,
        row: Option<&Changed>,
        gone: Option<&Gone>,
    ) -> Result<Verdict, Failure> {
        let held = self.replica.document(key);
        let Some(held) = held.map_err(|error| Failure::store(&error))? else {
            return Ok(Verdict::Travels);
        };
        let version = idem_crdt::encoded_version(&held);
        let version = version.map_err(|error| Failure::stored_bytes(&error))?;
        let Some(gone) = gone else {
            return Ok(Verdict::InDoubt);
        };
        // What is left in it is looked at, and not its version. That has also what deleted another life of
        // it, which whoever deleted this one need not have seen. And who forgot that it was deleted once,
        // and got it anew, held and evicted it in a version without that.
        let document = Document::decode(&held);
        let document = document.map_err(|error| Failure::stored_bytes(&error))?;
        let traces = document.traces();
        if !traces.iter().all(|dot| gone.deleted.covers(*dot)) {
            return Ok(Verdict::Travels);
        }
        let Some(row) = row.filter(|row| row.document == held) else {
            return Ok(Verdict::InDoubt);
        };
        let may_be_evicted = traces.iter().any(|dot| gone.evicted.covers(*dot));
        let is_deleted = !may_be_evicted && (self.was_held)(self.replica, row)?;
        Ok(match is_deleted {
            true => Verdict::Deleted(version),
            false => Verdict::InDoubt,
        })
    }
}

/// Whether who knows that much of a document vouches for it: who deletes it tells them, so a peer that
/// forgot its deletion is not one that they asked. What is in quarantine is in doubt itself.
fn vouches(state: ScopeState) -> bool {
    matches!(state, ScopeState::Live | ScopeState::Evicted)
}

/// Visits everything of a collection of which anything is known, as items.
fn scan_known<R: Replica>(
    replica: &R,
    salt: Salt,
    collection: &CollectionName,
    visit: &mut dyn FnMut(Item, &ScopeItem<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut failure = None;
    replica
        .scan_known(collection, &mut |held| {
            let visited = item_of(salt, collection, held)
                .map_err(|error| Failure::stored_bytes(&error))
                .and_then(|item| visit(item, held));
            match visited {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })
        .map_err(|error| Failure::store(&error))?;
    failure.map_or(Ok(()), Err)
}
