//! What a session needs of a store.

use std::{ops::ControlFlow, sync::Arc};

use idem_model::{
    ActorId, CollectionName, DecodeError, DeletedDay, DocId, DocumentKey, FieldKind, FieldPath,
    PeerId, SyncScope, Timestamp, VersionVector,
};
use idem_query::Selector;
use idem_wire::SubscriptionId;

use crate::gathering::Gathering;

/// A document that changed, in its current state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// Which document.
    pub key: DocumentKey,
    /// The local commit that last changed it.
    pub commit: u64,
    /// The encoded `idem_crdt::Document`; a tombstone is a document that is not present.
    pub document: Vec<u8>,
}

/// A stretch of the change feed of one collection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChangeBatch {
    /// Atomic groups in rising order of the commit that put them here.
    pub groups: Vec<Vec<Changed>>,
    /// Every change of the collection up to this commit is in `groups` or was moved to a later commit.
    pub up_to: u64,
    /// Whether changes after `up_to` are already durable.
    pub more: bool,
}

/// Which live documents [`Replica::scan_scope`] visits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScopeFilter {
    /// Those that the selector selects: what a subscription holds.
    Selected,
    /// All of the selector's collection, to find the documents that items of the other side are about.
    All,
}

/// What is held of a document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ScopeState {
    /// The document.
    Live,
    /// That it was deleted.
    Tombstone,
    /// That it was evicted, and which version it had then.
    Evicted,
    /// As before, and a peer that was asked knew nothing of it, so that it may have been deleted. Only
    /// [`Replica::scan_known`] visits such a one; in a scope it is [`ScopeState::Evicted`].
    Doubtful,
    /// The document, which does not travel. Only [`Replica::scan_known`] visits such a one.
    Quarantined,
}

/// A document as [`Replica::scan_scope`] visits it. Decoding nothing makes the scan fast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScopeItem<'a> {
    /// The document's id as [`DocId::to_key`] writes it.
    pub id: &'a [u8],
    /// Its version as [`VersionVector::encode`] writes it: equal versions have equal bytes.
    pub version: &'a [u8],
    /// What is held of it.
    pub state: ScopeState,
}

impl ScopeItem<'_> {
    /// The document's key.
    ///
    /// # Errors
    /// [`DecodeError`] if the id is damaged.
    pub fn key(&self, collection: &CollectionName) -> Result<DocumentKey, DecodeError> {
        Ok(DocumentKey {
            collection: collection.clone(),
            id: DocId::from_key(self.id)?,
        })
    }
}

/// A position in the change feed of a remote store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// Which life of the store; the commits of another life mean nothing here.
    pub actor: ActorId,
    /// Everything up to this commit is held.
    pub commit: u64,
}

/// A cursor to store beside the data that it stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CursorUpdate {
    /// Whose feed.
    pub peer: PeerId,
    /// For which subscription.
    pub subscription: SubscriptionId,
    /// How far.
    pub cursor: Cursor,
}

/// That everything was taken in that a peer had of a collection at some time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synced {
    /// The peer.
    pub peer: PeerId,
    /// Of which documents.
    pub collection: CollectionName,
    /// A reading of the peer's hybrid clock. All that was visible there by then must have been durable
    /// when it said that the catch-up was done, so one of some minutes before is better than a close one.
    pub time: Timestamp,
}

/// What is known of the documents of a collection of which nothing is kept.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Gone {
    /// Covers every tombstone that is gone.
    pub deleted: VersionVector,
    /// Covers every document that went without a trace and was not deleted.
    pub evicted: VersionVector,
}

/// A document as it came from a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Incoming {
    /// Which document.
    pub key: DocumentKey,
    /// Documents of one call with the same number form one atomic group, and stay one group in the
    /// store's own feed. Different groups share the local transaction for speed only. Numbers rise.
    pub group: u32,
    /// What to merge.
    pub state: IncomingState,
}

/// The merge input of one document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IncomingState {
    /// An encoded `idem_crdt::Document`.
    Whole(Vec<u8>),
    /// An encoded `idem_crdt::Delta`.
    Delta(Vec<u8>),
}

/// Why [`Replica::evict`] removes documents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EvictReason {
    /// They left the scope of the subscriptions that brought them. Those that some subscription of
    /// this peer, in this session or another, still selects stay. The cursors of subscriptions that
    /// are not there any more, and may come back, are forgotten in the same transaction.
    Left,
    /// They were deleted at the remote, which has forgotten their tombstones by now. From then on they
    /// are here what they are there: [`Replica::gone`] covers them, and [`Replica::gc_floor`] rises to
    /// now, so that peers which hold them ask.
    Deleted,
}

/// What became of one incoming document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ApplyOutcome {
    /// It told something that was not known here.
    Changed,
    /// All of it was known.
    Unchanged,
    /// The delta starts after what is held here, which is this version (empty if nothing is held).
    Gap(VersionVector),
    /// A stamp lies too far in the future to be merged (`limits::CLOCK_SKEW_HOLD_MS`).
    TooFarAhead,
    /// The bytes are not a document or delta, or exceed a limit: the sender is at fault.
    Refused,
}

/// What became of one call of [`Replica::apply`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApplyReport {
    /// One outcome per document, in the order given.
    pub outcomes: Vec<ApplyOutcome>,
    /// The documents and the cursors are safe once [`Replica::durable_commit`] reaches this. If
    /// nothing but cursors was written it is the commit before them, or one that is durable when
    /// they are.
    pub commit: u64,
}

impl ApplyReport {
    /// Whether the call was carried out: every document is [`ApplyOutcome::Changed`] or
    /// [`ApplyOutcome::Unchanged`].
    pub fn is_applied(&self) -> bool {
        self.outcomes
            .iter()
            .all(|outcome| matches!(outcome, ApplyOutcome::Changed | ApplyOutcome::Unchanged))
    }
}

/// The store, as replication sees it. All calls are synchronous and local.
///
/// The session never holds it: the owner hands it to every call that needs it, so that it may be a
/// `BTreeMap` in a test, the store of a Small Peer or a partition of a Big Peer.
pub trait Replica {
    /// What the store fails with.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The life of this store; commits are counted within it.
    fn actor(&self) -> ActorId;

    /// The last time given by the store's hybrid clock.
    fn timestamp(&self) -> Timestamp;

    /// What the sessions of this peer share. Default: none, so that the changes of others are sent to this
    /// peer by all who have them.
    fn gathering(&mut self) -> Option<&mut Gathering> {
        None
    }

    /// [`Replica::timestamp`], if all that was visible by then is durable now. `None` if it is not, or
    /// cannot be told. Default: `None`.
    fn durable_timestamp(&self) -> Option<Timestamp> {
        None
    }

    /// The last commit that a power loss cannot take back. Nothing after it is ever sent. It is visible:
    /// what reads later than this, such as [`Replica::changed_since`], finds what it changed.
    fn durable_commit(&self) -> u64;

    /// Up to which commit the sender is told that what it sent is held, at most [`Replica::durable_commit`]. A
    /// store that has no room stays behind, and so the sender stops when its credit is used up, and gives up
    /// after a minute. Default: the durable commit.
    fn acknowledged_commit(&self) -> u64 {
        self.durable_commit()
    }

    /// The changes of `collection` after commit `after`, about `bytes_max` bytes of them: at least
    /// one group if there is one, and never part of a group.
    ///
    /// A group holds, at their current state, all documents that shared a transaction after
    /// `held_to`, also those of other collections, and so on from each of them: if commit 9 changed
    /// `b`, and commit 5 changed `a` and `b`, then `a` comes with `b` where `held_to` is below 5. So
    /// whoever holds everything up to `held_to` and takes in a group sees no transaction by half.
    /// `held_to` is at most `after`; it is lower where live changes overtake a catch-up.
    ///
    /// `up_to` never exceeds [`Replica::durable_commit`]. Where the current state of a member is not
    /// durable yet, its whole group waits and `up_to` stays before it.
    ///
    /// # Errors
    /// What the store fails with.
    fn changed_since(
        &self,
        collection: &CollectionName,
        after: u64,
        held_to: u64,
        bytes_max: usize,
    ) -> Result<ChangeBatch, Self::Error>;

    /// Visits what is held of a scope: the live documents of the selector's collection that `filter`
    /// lets through, every tombstone of the collection, and every evict marker that `subscription` has
    /// there. Documents in quarantine are left out. No document is visited twice; the order says
    /// nothing.
    ///
    /// All is of one snapshot, whose commit is the result: that of the last commit in it, and never
    /// above [`Replica::durable_commit`]. It is a commit too if `visit` broke off.
    ///
    /// # Errors
    /// What the store fails with; items may have been visited before.
    fn scan_scope(
        &self,
        subscription: SubscriptionId,
        selector: &Selector,
        filter: ScopeFilter,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<u64, Self::Error>;

    /// The current state of these documents, in groups as [`Replica::changed_since`] gives them, about
    /// `bytes_max` bytes: at least one group if there is one, and never part of a group. With them the
    /// number of `keys` that were consumed; the caller goes on with the rest. Keys of which nothing is
    /// held are consumed without a group.
    ///
    /// `keys` are what the receiver lacks of their collections: what is not among them, and last changed
    /// up to the commit `held_to`, it holds, and that is left out of the groups. Documents of other
    /// collections that shared a transaction with one of `keys` come along.
    ///
    /// As in [`Replica::changed_since`], nothing is given that is not durable: a group that waits ends
    /// the call before its first key.
    ///
    /// # Errors
    /// What the store fails with.
    fn changed_documents(
        &self,
        keys: &[DocumentKey],
        held_to: u64,
        bytes_max: usize,
    ) -> Result<(Vec<Vec<Changed>>, usize), Self::Error>;

    /// With which peers the documents of a collection sync. Called for every document that is to leave,
    /// so it must be cheap. Default: all.
    fn sync_scope(&self, _collection: &CollectionName) -> SyncScope {
        SyncScope::AllPeers
    }

    /// The encoded document, `None` if nothing at all is known of it. The session tells the remote that
    /// it is held, so it must be durable when this returns; changes that are not may be left out.
    ///
    /// # Errors
    /// What the store fails with.
    fn document(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, Self::Error>;

    /// The kinds that a collection declares, strictly rising by path. Where a field holds several
    /// kinds, the condition of a subscription is about the declared one, as in a query. Called for
    /// every document that a condition is checked for, so it must be cheap. Default: none.
    ///
    /// # Errors
    /// What the store fails with.
    fn declared(
        &self,
        _collection: &CollectionName,
    ) -> Result<Arc<[(FieldPath, FieldKind)]>, Self::Error> {
        Ok(Arc::default())
    }

    /// Merges `incoming` and stores `cursors`, all in one local transaction, or nothing: if any
    /// outcome is not `Changed` or `Unchanged`, neither documents nor cursors are written.
    ///
    /// A call that changes no document must not move the change feed: cursors have no commit.
    ///
    /// # Errors
    /// What the store fails with; then nothing was written.
    fn apply(
        &mut self,
        incoming: Vec<Incoming>,
        cursors: &[CursorUpdate],
    ) -> Result<ApplyReport, Self::Error> {
        self.apply_synced(incoming, cursors, &[])
    }

    /// As [`Replica::apply`], and stores in the same transaction what was taken in whole.
    ///
    /// # Errors
    /// As [`Replica::apply`].
    fn apply_synced(
        &mut self,
        incoming: Vec<Incoming>,
        cursors: &[CursorUpdate],
        synced: &[Synced],
    ) -> Result<ApplyReport, Self::Error>;

    /// The latest [`Synced::time`] of a peer and a collection, if there is one.
    ///
    /// # Errors
    /// What the store fails with.
    fn last_synced(
        &self,
        peer: PeerId,
        collection: &CollectionName,
    ) -> Result<Option<Timestamp>, Self::Error>;

    /// When the latest of the tombstones that are gone here came here, by [`Replica::timestamp`]; zero
    /// if none is gone. Later, if it was learned since what is gone elsewhere. A remote that has [`Synced`]
    /// a collection up to then, or later, knows all of them; another one may hold documents that were
    /// deleted. It may rise at any time.
    fn gc_floor(&self) -> Timestamp;

    /// Visits every document of a collection of which anything is known here, in no order and none
    /// twice: live ones, those in quarantine, tombstones, and what was evicted and counts as held in
    /// a subscription, in doubt or not. What was evicted otherwise is not among them: nobody here would
    /// hear that it was deleted.
    ///
    /// # Errors
    /// What the store fails with; some may have been visited before.
    fn scan_known(
        &self,
        collection: &CollectionName,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// What is known of the documents of a collection that [`Replica::scan_known`] does not visit any
    /// more. `None` if nothing can be told.
    ///
    /// # Errors
    /// What the store fails with.
    fn gone(&self, collection: &CollectionName) -> Result<Option<Gone>, Self::Error>;

    /// Which deletions in this collection were heard of, here or by being told: all of which there is no
    /// tombstone here are in one of these sums. In rising order, and at most `limits::DELETED_DAYS_MAX`.
    /// Costs a look at every tombstone.
    ///
    /// # Errors
    /// What the store fails with.
    fn deleted_days(&self, collection: &CollectionName) -> Result<Vec<DeletedDay>, Self::Error>;

    /// A peer that was asked knows what was deleted in this collection and forgotten: joins it to what
    /// [`Replica::gone`] covers, for whoever asks here, and who asks a peer is asked about all of it. With it
    /// come its [`Replica::deleted_days`]. If some of these deletions were not heard of here, or more is
    /// covered than before, [`Replica::gc_floor`] and [`Replica::learned_floor`] rise to now.
    ///
    /// # Errors
    /// What the store fails with; then nothing was learned.
    fn learn_gone(
        &mut self,
        collection: &CollectionName,
        deleted: &VersionVector,
        days: &[DeletedDay],
    ) -> Result<(), Self::Error>;

    /// Up to where [`Replica::gc_floor`] has risen since the process began because of what no feed told:
    /// [`Replica::learn_gone`], [`Replica::doubt_evicted`] and [`EvictReason::Deleted`]. Zero if it has not.
    fn learned_floor(&self) -> Timestamp;

    /// Keeps documents from travelling, because `from` lacks them or is in doubt, and may have forgotten that they were
    /// deleted. They are in no feed and no scope until a local write changes them, a merge brings something
    /// that no tombstone which went can have been of ([`Gone::deleted`] does not cover it), or
    /// [`Replica::leave_quarantine`]. Gives how many there were that were not in quarantine before.
    ///
    /// # Errors
    /// What the store fails with; then none of them is in quarantine.
    fn quarantine(&mut self, keys: &[DocumentKey], from: PeerId) -> Result<u64, Self::Error>;

    /// Notes of documents that were evicted and count as held in a subscription that a peer knew nothing of
    /// them, and may have forgotten that they were deleted: they are [`ScopeState::Doubtful`] until they come
    /// back. They stay held, so that nothing but a change brings them back. If there are any that were not
    /// in doubt before, [`Replica::gc_floor`] and [`Replica::learned_floor`] rise to now, so that peers which
    /// were told that they are known ask again. Gives how many there were.
    ///
    /// # Errors
    /// What the store fails with; then none of them is in doubt.
    fn doubt_evicted(&mut self, keys: &[DocumentKey]) -> Result<u64, Self::Error>;

    /// Ends the quarantine of documents that live after all: they are in the feed as if they were
    /// written now. Those that were deleted go by [`Replica::evict`]. Gives how many they were.
    ///
    /// # Errors
    /// What the store fails with; then all of them stay in it.
    fn leave_quarantine(&mut self, keys: &[DocumentKey]) -> Result<u64, Self::Error>;

    /// Removes documents here and only here, without a marker, and gives how many. Beside each stands
    /// the version that the remote has of it: where more than that is held here, the document stays.
    /// Nothing need be durable when this returns; what is lost is evicted again.
    ///
    /// # Errors
    /// What the store fails with; then all of them stay.
    fn evict(
        &mut self,
        documents: &[(DocumentKey, VersionVector)],
        reason: EvictReason,
    ) -> Result<u64, Self::Error>;

    /// The stored cursor, once it is durable: the remote believes that everything up to it is held. An
    /// earlier one may be given instead.
    ///
    /// # Errors
    /// What the store fails with.
    fn cursor(
        &self,
        peer: PeerId,
        subscription: SubscriptionId,
    ) -> Result<Option<Cursor>, Self::Error>;
}
