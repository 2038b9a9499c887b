//! Taking in documents from other peers.

use std::sync::Arc;

use idem_crdt::{Delta, Document};
use idem_model::{
    ActorId, CollectionName, DocumentKey, PeerId, Skew, Timestamp, VersionVector, codec, limits,
};

use crate::{
    core::Core,
    declared,
    edit::{Change, Prior, decode},
    error::StoreError,
    patience::{Cancellation, Patience},
    tables, tombstones,
    work::Work,
};

/// Length of a subscription's name. The names in use are hashes of 8 to 32 bytes.
const SUBSCRIPTION_BYTES_MAX: usize = 64;

/// One document from another peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Which document.
    pub key: DocumentKey,
    /// Documents of one call with the same number form one group, and stay one group in this store's
    /// own feed.
    pub group: u32,
    /// What is known of it there.
    pub state: IncomingState,
}

/// The content of an [`Incoming`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncomingState {
    /// An encoded `idem_crdt::Document`.
    Whole(Vec<u8>),
    /// An encoded `idem_crdt::Delta`.
    Delta(Vec<u8>),
}

impl IncomingState {
    /// Whether its sender does not have the document any more.
    fn is_tombstone(&self) -> bool {
        match self {
            Self::Whole(bytes) => {
                Document::decode(bytes).is_ok_and(|document| !document.is_present())
            }
            Self::Delta(bytes) => Delta::decode(bytes).is_ok_and(|delta| !delta.is_present()),
        }
    }
}

/// How far a feed was read: the sender's store life and its local commit number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The actor of the sender's store. Another actor there means that the number says nothing.
    pub actor: ActorId,
    /// Everything up to and including this commit of the sender was taken in.
    pub commit: u64,
}

/// A cursor to store together with the documents that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorUpdate {
    /// The sender.
    pub peer: PeerId,
    /// The name of the subscription, at most 64 bytes.
    pub subscription: Vec<u8>,
    /// The position; `None` forgets it.
    pub cursor: Option<Cursor>,
}

/// That everything was taken in that a peer had of a collection at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// The sender.
    pub peer: PeerId,
    /// Of which documents.
    pub collection: CollectionName,
    /// A reading of the sender's hybrid clock.
    pub time: Timestamp,
}

/// What [`Store::apply`](crate::Store::apply) did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplyReport {
    /// One per incoming document, in their order.
    pub outcomes: Vec<ApplyOutcome>,
    /// The last local commit; the documents and cursors are on disk once
    /// [`Store::durable_commit`](crate::Store::durable_commit) has reached it.
    pub commit: u64,
}

impl ApplyReport {
    /// Whether the call was carried out. If not, nothing of it was.
    pub fn is_applied(&self) -> bool {
        self.outcomes
            .iter()
            .all(|outcome| matches!(outcome, ApplyOutcome::Changed | ApplyOutcome::Unchanged))
    }
}

/// What became of one incoming document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplyOutcome {
    /// It is different now.
    Changed,
    /// Everything in it was known.
    Unchanged,
    /// A delta onto more than is here. Send what this version vector lacks.
    Gap(VersionVector),
    /// Stamped 24 hours or more ahead of our clock.
    TooFarAhead {
        /// By how many milliseconds.
        ms: u64,
    },
    /// Not a valid document.
    Refused {
        /// Why, for a person.
        reason: String,
    },
}

/// What an [`apply`] returns after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The commit is as durable as the store is configured.
    AsConfigured,
    /// The commit is visible. In a store without threads as above.
    Never,
}

pub(crate) fn apply(
    core: &Arc<Core>,
    incoming: Vec<Incoming>,
    cursors: &[CursorUpdate],
    synced: &[Synced],
    wait: Wait,
    cancellation: Option<&Cancellation>,
) -> Result<ApplyReport, StoreError> {
    core.open_transactions.check()?;
    let patience = match cancellation {
        Some(cancellation) => for_as_long_as(cancellation),
        None => core.patience(),
    };
    let mut work = Work::write(Arc::clone(core), &patience)?;
    let mut outcomes = Vec::with_capacity(incoming.len());
    for document in incoming {
        // What comes behind a declaration is seen under it.
        if document.key.collection.as_str() != declared::COLLECTION {
            work.settle_declarations()?;
        }
        outcomes.push(work.merge(document)?);
    }
    work.settle_declarations()?;
    let mut report = ApplyReport {
        outcomes,
        commit: core.progress.last_commit(),
    };
    if !report.is_applied() {
        return Ok(report);
    }
    for update in cursors {
        assert!(
            update.subscription.len() <= SUBSCRIPTION_BYTES_MAX,
            "a subscription has a short name"
        );
        work.pending.small.system.insert(
            tables::cursor(update.peer, &update.subscription),
            update.cursor.as_ref().map(Cursor::encode),
        );
    }
    for synced in synced {
        let row = tables::synced(synced.peer, &synced.collection);
        let time = tombstones::encode_arrival(synced.time);
        work.pending.small.system.insert(row, Some(time));
    }
    // What came from a peer can be had from it again until it is acknowledged, so it waits for nobody,
    // whatever the class of durability. Without threads nobody would write it later.
    let commit = if wait == Wait::Never && core.settings.has_threads {
        let committed = work.commit_visible()?;
        core.flush_if_due()?;
        committed.and_then(|committed| committed.commit)
    } else {
        work.commit()?
    };
    if let Some(commit) = commit {
        report.commit = commit;
    }
    Ok(report)
}

/// The patience of somebody whom `cancellation` ends, and who so may wait for as long as it takes.
pub(crate) fn for_as_long_as(cancellation: &Cancellation) -> Patience {
    Patience {
        cancellations: vec![cancellation.clone()],
        ..Patience::default()
    }
}

impl Work {
    fn merge(&mut self, incoming: Incoming) -> Result<ApplyOutcome, StoreError> {
        let Incoming { key, group, state } = incoming;
        let collection = match self.catalog().ordinal(&key.collection) {
            Some(ordinal) => ordinal,
            None => self.intern(&key.collection),
        };
        let row_key = tables::document(collection, &key.id.to_key());
        let prior = self.prior(&row_key)?;
        let merged = match &state {
            IncomingState::Whole(bytes) => merge_whole(bytes, &prior)?,
            IncomingState::Delta(bytes) => merge_delta(bytes, &prior)?,
        };
        let (merged, prior_time) = match merged {
            Merge::Done(outcome) => return Ok(outcome),
            Merge::State { merged, prior_time } => (merged, prior_time),
        };
        // What shows no more of the document than what may have been deleted leaves it in doubt.
        let stays = prior.is_quarantined
            && merged.is_present()
            && (state.is_tombstone() || self.may_be_deleted(collection, &merged)?);
        // What was here before says nothing of the sender's clock: it may be from a time when ours was
        // wrong, and must not keep others' changes out.
        if merged.time() > prior_time {
            let now_ms = self.now_ms;
            let clock = &mut self.writing()?.clock;
            match clock.observe(merged.time(), now_ms) {
                Skew::FarAhead { ms } => return Ok(ApplyOutcome::TooFarAhead { ms }),
                Skew::Ahead { ms } => {
                    tracing::warn!(
                        document = %key, ms, "merged a document from a clock that is ahead"
                    );
                }
                Skew::Followed => {}
            }
        }
        self.claim(&row_key, &prior, &merged)?;
        // What is not here yet is stored as it came: decoding accepts the canonical form only.
        let body = match (state, &prior.body) {
            (IncomingState::Whole(bytes), None) => bytes,
            _ => merged.to_bytes(),
        };
        if body.len() > limits::DOCUMENT_MERGED_BYTES_MAX {
            return Ok(ApplyOutcome::Refused {
                reason: format!(
                    "the merged document has {} bytes, over the limit of {}",
                    body.len(),
                    limits::DOCUMENT_MERGED_BYTES_MAX
                ),
            });
        }
        let change = Change {
            collection,
            id: key.id,
            is_present: merged.is_present(),
            is_oversized: body.len() > self.core.settings.document_bytes_max,
            is_quarantined: stays,
            body: Some(body),
            // Group 0 would be no group in the feed.
            group: group.saturating_add(1),
            keeps_keys: false,
        };
        self.put(row_key, change, prior)?;
        Ok(ApplyOutcome::Changed)
    }
}

enum Merge {
    Done(ApplyOutcome),
    State {
        merged: Document,
        /// The time of the document that was here.
        prior_time: Timestamp,
    },
}

fn merge_whole(bytes: &[u8], prior: &Prior) -> Result<Merge, StoreError> {
    if bytes.len() > limits::DOCUMENT_MERGED_BYTES_MAX {
        return Ok(refused(&"the document is too large"));
    }
    if prior.body.as_deref() == Some(bytes) {
        return Ok(Merge::Done(ApplyOutcome::Unchanged));
    }
    let other = match Document::decode(bytes) {
        Ok(other) => other,
        Err(error) => return Ok(refused(&error)),
    };
    if other.is_empty() {
        return Ok(Merge::Done(ApplyOutcome::Unchanged));
    }
    let Some(body) = &prior.body else {
        return Ok(Merge::State {
            merged: other,
            prior_time: Timestamp::ZERO,
        });
    };
    let mut document = decode(Some(body))?;
    let prior_time = document.time();
    Ok(if document.merge(&other) {
        Merge::State {
            merged: document,
            prior_time,
        }
    } else {
        Merge::Done(ApplyOutcome::Unchanged)
    })
}

fn merge_delta(bytes: &[u8], prior: &Prior) -> Result<Merge, StoreError> {
    let delta = match Delta::decode(bytes) {
        Ok(delta) => delta,
        Err(error) => return Ok(refused(&error)),
    };
    let mut document = decode(prior.body.as_deref())?;
    let prior_time = document.time();
    Ok(match document.merge_delta(&delta) {
        Ok(true) => Merge::State {
            merged: document,
            prior_time,
        },
        Ok(false) => Merge::Done(ApplyOutcome::Unchanged),
        Err(_) => Merge::Done(ApplyOutcome::Gap(document.version().clone())),
    })
}

fn refused(reason: &dyn std::fmt::Display) -> Merge {
    Merge::Done(ApplyOutcome::Refused {
        reason: reason.to_string(),
    })
}

impl Cursor {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.actor.0.to_vec();
        codec::put_varint(&mut out, self.commit);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, idem_model::DecodeError> {
        let mut reader = codec::Reader::new(bytes);
        let cursor = Self {
            actor: ActorId(reader.array()?),
            commit: reader.varint()?,
        };
        reader.finish()?;
        Ok(cursor)
    }
}
