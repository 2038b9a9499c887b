//! What this peer sends: the remote's subscriptions, and the feed positions they have reached.

mod catch_up;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_crdt::{Document, encoded_version, visible_fields_declared};
use idem_model::{CollectionName, Lane, VersionVector, limits};
use idem_query::Selector;
use idem_wire::{
    BatchWriter, DocumentVersion, Holdings, Message, Resume, Subscribe, SubscriptionId,
};

use catch_up::CatchUp;

use crate::{
    event::{CloseReason, Event},
    failure::Failure,
    known::{KeyHash, Known},
    outlet::Outlet,
    replica::{ChangeBatch, Changed, Replica},
    session::SessionStats,
    sketch::Salt,
};

/// A cursor that moved past rows without sending anything waits this long for data to go with.
const CURSOR_DELAY: Duration = Duration::from_millis(200);

/// A cursor that moved past this many rows or commits goes at once, so that a reconnect never scans
/// much again.
const CURSOR_ROWS_MAX: u64 = 1024;

/// A live change that brings more than this along, while the remote catches up, waits for it.
const OVERTAKE_BYTES_MAX: usize = 256 * 1024;

/// A document below this size is not worth a delta.
const DELTA_BYTES_MIN: usize = 128;

/// A version above this size is not announced but sent with its document.
const ASK_VERSION_BYTES_MAX: usize = 4096;

/// What this peer sends over the link in use.
#[derive(Debug)]
pub(crate) struct Source {
    /// Under which both sides compare what they hold.
    salt: Salt,
    /// Documents scanned since the remote had new leave.
    scanned: u64,
    requests: BTreeMap<u32, Request>,
    /// Subscriptions that start together, once the last is there and all statements are known.
    pending: Vec<(Subscribe, Option<Selector>)>,
    /// Whether more of them follow.
    is_pending_open: bool,
    alias_last: u32,
    live: BTreeMap<CollectionName, Live>,
    /// The collection whose live changes went last; the next one in order has its turn.
    live_turn: Option<CollectionName>,
    /// The durable commit up to which all live feeds were read.
    live_read_to: u64,
    /// Bulk batches that are not acknowledged, and the position that each started from.
    unsettled: VecDeque<(u64, u64)>,
    /// Live changes wait for the catch-up, because their transactions reach too far into it.
    live_waits: bool,
    /// Documents announced per lane that the remote has not answered for.
    asked: BTreeMap<Lane, BTreeSet<KeyHash>>,
    asked_at: Duration,
    /// When cursors that moved without data are to be sent.
    cursors_due: Option<Duration>,
    /// That time has come.
    are_cursors_late: bool,
}

/// A subscription of the remote.
#[derive(Debug)]
struct Request {
    subscription: SubscriptionId,
    selector: Selector,
    /// Whether everything in the collection is selected, so that no document need be decoded.
    is_unfiltered: bool,
    priority: u8,
    catch_up: Option<CatchUp>,
}

/// The live feed of one collection.
#[derive(Debug)]
struct Live {
    at: u64,
    /// The position that the remote was told.
    told: u64,
    /// Rows passed since then that were not sent.
    rows_untold: u64,
}

/// Everything that filling a lane needs beside the source.
pub(crate) struct Filling<'a, R> {
    pub(crate) now: Duration,
    pub(crate) replica: &'a R,
    pub(crate) known: &'a mut Known,
    pub(crate) outlet: &'a mut Outlet,
    pub(crate) stats: &'a mut SessionStats,
    pub(crate) events: &'a mut Vec<Event>,
}

/// What to do with one changed document.
enum Plan {
    Skip,
    Send {
        hash: KeyHash,
        version: VersionVector,
        /// What the remote holds, if that is known.
        base: Option<VersionVector>,
    },
    /// Find out first what the remote holds.
    Ask {
        hash: KeyHash,
        version: VersionVector,
    },
}

/// A batch under construction.
#[derive(Default)]
struct Draft {
    writer: BatchWriter,
    hashes: Vec<KeyHash>,
}

impl Source {
    pub(crate) fn new(salt: Salt) -> Self {
        Self {
            salt,
            scanned: 0,
            requests: BTreeMap::new(),
            pending: Vec::new(),
            is_pending_open: false,
            alias_last: 0,
            live: BTreeMap::new(),
            live_turn: None,
            live_read_to: 0,
            unsettled: VecDeque::new(),
            live_waits: false,
            asked: BTreeMap::new(),
            asked_at: Duration::ZERO,
            cursors_due: None,
            are_cursors_late: false,
        }
    }

    // Input.

    /// Takes a subscription in. Without a selector its statement must be asked for.
    pub(crate) fn subscribe(
        &mut self,
        subscribe: Subscribe,
        selector: Option<Selector>,
    ) -> Result<(), Failure> {
        if subscribe.alias <= self.alias_last {
            return Err(Failure::new(
                CloseReason::Malformed,
                "subscription number does not rise",
            ));
        }
        if self.requests.len() + self.pending.len() >= limits::SUBSCRIPTIONS_PER_SESSION_MAX {
            return Err(Failure::new(CloseReason::Limit, "too many subscriptions"));
        }
        self.alias_last = subscribe.alias;
        self.is_pending_open = subscribe.more;
        self.pending.push((subscribe, selector));
        Ok(())
    }

    /// Ends everything that the remote subscribed to so far.
    pub(crate) fn restart(&mut self) {
        *self = Self {
            alias_last: self.alias_last,
            scanned: self.scanned,
            ..Self::new(self.salt)
        };
    }

    /// A statement that was asked for is known now.
    pub(crate) fn statement(&mut self, subscription: SubscriptionId, selector: &Selector) {
        for (waiting, known) in &mut self.pending {
            if waiting.subscription == subscription {
                *known = Some(selector.clone());
            }
        }
    }

    /// Refuses what waits for this statement; returns the numbers.
    pub(crate) fn refuse(&mut self, subscription: SubscriptionId) -> Vec<u32> {
        let mut refused = Vec::new();
        self.pending.retain(|(waiting, _)| {
            let is_it = waiting.subscription == subscription;
            if is_it {
                refused.push(waiting.alias);
            }
            !is_it
        });
        refused
    }

    /// Starts what waits, if all of it is there.
    pub(crate) fn start_pending(
        &mut self,
        replica: &impl Replica,
        known: &mut Known,
    ) -> Result<Vec<Message<'static>>, Failure> {
        let is_known = |(_, selector): &(Subscribe, Option<Selector>)| selector.is_some();
        if self.is_pending_open || !self.pending.iter().all(is_known) {
            return Ok(Vec::new());
        }
        let mut messages = Vec::new();
        for (subscribe, selector) in std::mem::take(&mut self.pending) {
            if let Some(selector) = selector {
                messages.extend(self.start(&subscribe, selector, replica, known)?);
            }
        }
        Ok(messages)
    }

    /// Goes on with all subscriptions of an earlier link, none of which is named. They are numbered
    /// from 1. Returns whether there is nothing to catch up with.
    pub(crate) fn resume(
        &mut self,
        subscriptions: Vec<(SubscriptionId, u8, Selector)>,
        resume: Resume,
        replica: &impl Replica,
        known: &mut Known,
    ) -> Result<bool, Failure> {
        assert!(self.alias_last == 0, "a link resumes before anything else");
        let mut is_caught_up = true;
        for (subscription, priority, selector) in subscriptions {
            self.alias_last += 1;
            let subscribe = Subscribe {
                alias: self.alias_last,
                subscription,
                priority,
                holdings: Holdings::Resume(resume),
                statement: None,
                more: false,
                restart: false,
            };
            self.start(&subscribe, selector, replica, known)?;
            let request = self.requests.get_mut(&self.alias_last);
            let catch_up = request.and_then(|it| it.catch_up.as_ref());
            is_caught_up &=
                matches!(catch_up, Some(CatchUp::Feed { at, until, .. }) if at >= until);
        }
        if is_caught_up {
            let requests = self.requests.values_mut();
            requests.for_each(|request| request.catch_up = None);
        }
        Ok(is_caught_up)
    }

    /// What the remote subscribes to, with the priorities.
    pub(crate) fn set(&self) -> BTreeMap<SubscriptionId, u8> {
        let requests = self.requests.values();
        requests.map(|it| (it.subscription, it.priority)).collect()
    }

    /// Ends a subscription.
    pub(crate) fn unsubscribe(&mut self, alias: u32) {
        self.pending.retain(|(waiting, _)| waiting.alias != alias);
        if let Some(request) = self.requests.remove(&alias) {
            let name = request.selector.collection();
            let is_used = |other: &Request| other.selector.collection() == name;
            if !self.requests.values().any(is_used) {
                self.live.remove(name);
            }
        }
        // Its catch-up may have been what they waited for, and no acknowledgement may follow.
        self.live_waits &= self.held_to().is_some();
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        if self.cursors_due.take_if(|due| *due <= now).is_some() {
            self.are_cursors_late = true;
        }
    }

    /// The remote told what it holds of a document.
    pub(crate) fn answered(&mut self, hash: KeyHash) {
        for asked in self.asked.values_mut() {
            asked.remove(&hash);
        }
    }

    /// The remote has applied bulk batches up to this one.
    pub(crate) fn settled(&mut self, batches: u64) {
        self.unsettled.retain(|(batch, _)| *batch > batches);
        self.live_waits &= self.held_to().is_some();
    }

    // Output.

    /// Queues live changes, if there are any.
    pub(crate) fn fill_live<R: Replica>(
        &mut self,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        let durable = filling.replica.durable_commit();
        if self.is_asking(Lane::Interactive) {
            return Ok(());
        }
        if durable > self.live_read_to && !self.live_waits {
            for name in self.live_names_in_turn() {
                self.fill_live_of(&name, durable, filling)?;
                if !filling.outlet.is_empty() {
                    self.live_turn = Some(name);
                    return Ok(());
                }
                if self.is_asking(Lane::Interactive) || self.live_waits {
                    return Ok(());
                }
            }
            self.live_read_to = durable;
        }
        if self.are_cursors_late {
            self.finish_live(Draft::default(), filling);
        }
        Ok(())
    }

    // Getters.

    /// The durable commit up to which everything that the remote wants was queued, unless it is still
    /// catching up.
    pub(crate) fn read_to(&self) -> Option<u64> {
        let is_behind = self.held_to().is_some()
            || self.live_waits
            || self.is_asking(Lane::Interactive)
            || !self.pending.is_empty();
        (!is_behind).then_some(self.live_read_to)
    }

    /// When something must be done though nothing comes in.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.cursors_due
    }

    /// Since when the remote owes an answer to an announcement.
    pub(crate) fn asking_since(&self) -> Option<Duration> {
        let is_asking = self.asked.values().any(|asked| !asked.is_empty());
        is_asking.then_some(self.asked_at)
    }

    /// Whether a subscription waits for this statement.
    pub(crate) fn is_waiting_for(&self, subscription: SubscriptionId) -> bool {
        let is_it = |(waiting, known): &(Subscribe, Option<Selector>)| {
            waiting.subscription == subscription && known.is_none()
        };
        self.pending.iter().any(is_it)
    }

    /// The commit up to which the remote certainly holds everything, if it is catching up.
    fn held_to(&self) -> Option<u64> {
        let unsettled = self.unsettled.iter().map(|(_, from)| *from);
        unsettled.chain(self.caught_up_to()).min()
    }

    /// The commit up to which every catch-up that is under way has been sent.
    fn caught_up_to(&self) -> Option<u64> {
        let requests = self.requests.values().filter_map(|it| it.catch_up.as_ref());
        requests.map(CatchUp::held_to).min()
    }

    fn is_asking(&self, lane: Lane) -> bool {
        self.asked.get(&lane).is_some_and(|asked| !asked.is_empty())
    }

    fn live_names_in_turn(&self) -> Vec<CollectionName> {
        let is_later = |name: &&CollectionName| Some(*name) > self.live_turn.as_ref();
        let (later, earlier): (Vec<_>, Vec<_>) = self.live.keys().partition(is_later);
        later.into_iter().chain(earlier).cloned().collect()
    }

    /// Reads the live feed of one collection until something is queued or nothing is left.
    fn fill_live_of<R: Replica>(
        &mut self,
        name: &CollectionName,
        durable: u64,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        loop {
            let Some(at) = self.live.get(name).map(|live| live.at) else {
                return Ok(());
            };
            if at >= durable {
                return Ok(());
            }
            let held_to = self.held_to();
            let batch = read(filling.replica, name, at, held_to.unwrap_or(at))?;
            let is_large = |group: &Vec<Changed>| {
                let bytes = group.iter().map(|changed| changed.document.len());
                bytes.sum::<usize>() > OVERTAKE_BYTES_MAX
            };
            if held_to.is_some() && batch.groups.iter().any(is_large) {
                self.live_waits = true;
                return Ok(());
            }
            let no_twins = BTreeSet::new();
            let Some(draft) = self.offer(Lane::Interactive, &batch.groups, &no_twins, filling)?
            else {
                return Ok(());
            };
            let live = self.live.get_mut(name).expect("looked up above");
            live.at = batch.up_to.max(at);
            let rows: usize = batch.groups.iter().map(Vec::len).sum();
            live.rows_untold += rows as u64;
            let is_far = live.rows_untold.max(live.at - live.told) >= CURSOR_ROWS_MAX;
            if !draft.writer.is_empty() || !filling.outlet.is_empty() || is_far {
                self.finish_live(draft, filling);
                return Ok(());
            }
            let is_set = self.cursors_due.is_some() || self.are_cursors_late;
            if live.rows_untold > 0 && !is_set {
                self.cursors_due = Some(filling.now + CURSOR_DELAY);
            }
            if live.at <= at {
                return Ok(());
            }
        }
    }

    /// Queues a live batch with every cursor that moved.
    fn finish_live<R>(&mut self, mut draft: Draft, filling: &mut Filling<'_, R>) {
        self.cursors_due = None;
        self.are_cursors_late = false;
        for (alias, request) in &self.requests {
            let Some(live) = self.live.get(request.selector.collection()) else {
                continue;
            };
            if live.told < live.at {
                draft.writer.cursor(*alias, live.at, false);
            }
        }
        for live in self.live.values_mut() {
            live.told = live.at;
            live.rows_untold = 0;
        }
        draft.finish(filling.outlet);
    }

    /// Turns groups into a draft, with full batches queued on the way. `twins` are documents of which
    /// the remote holds another version. `None` if the remote has to be asked first; then nothing was
    /// queued but the question.
    fn offer<R: Replica>(
        &mut self,
        lane: Lane,
        groups: &[Vec<Changed>],
        twins: &BTreeSet<KeyHash>,
        filling: &mut Filling<'_, R>,
    ) -> Result<Option<Draft>, Failure> {
        let documents: usize = groups.iter().map(Vec::len).sum();
        // The answers must fit into the memory of known versions with room to spare.
        let may_ask = documents <= limits::KNOWN_VERSIONS_MAX / 8;
        let mut plans = Vec::with_capacity(documents);
        for changed in groups.iter().flatten() {
            plans.push(self.plan(lane, changed, may_ask, twins, filling)?);
        }
        let questions = plans.iter().zip(groups.iter().flatten());
        let questions = questions.filter_map(|(plan, changed)| match plan {
            Plan::Ask { hash, version } => Some((*hash, changed.key.clone(), version.clone())),
            _ => None,
        });
        let questions: Vec<_> = questions.collect();
        if !questions.is_empty() {
            self.ask(lane, questions, filling);
            return Ok(None);
        }
        let mut draft = Draft::default();
        let mut plans = plans.into_iter();
        for group in groups {
            let bytes: usize = group.iter().map(|changed| changed.document.len()).sum();
            if draft.writer.len() + bytes > limits::TX_GROUP_BYTES_MAX {
                std::mem::take(&mut draft).finish(filling.outlet);
            }
            for (changed, plan) in group.iter().zip(plans.by_ref()) {
                if let Plan::Send {
                    hash,
                    version,
                    base,
                } = plan
                {
                    draft.add(lane, changed, hash, version, base, filling)?;
                }
            }
            draft.end_group(filling.outlet);
        }
        Ok(Some(draft))
    }

    fn plan<R: Replica>(
        &self,
        lane: Lane,
        changed: &Changed,
        may_ask: bool,
        twins: &BTreeSet<KeyHash>,
        filling: &mut Filling<'_, R>,
    ) -> Result<Plan, Failure> {
        let known = &mut *filling.known;
        if !self.live.contains_key(&changed.key.collection) {
            return Ok(Plan::Skip);
        }
        // Every peer is a small one so far.
        let scope = filling.replica.sync_scope(&changed.key.collection);
        if !scope.includes(false) {
            return Ok(Plan::Skip);
        }
        let bytes = &changed.document;
        let version = encoded_version(bytes).map_err(|error| Failure::stored_bytes(&error))?;
        let hash = KeyHash::of(&changed.key);
        let base = known.version(hash, lane);
        let is_held = base.as_ref().is_some_and(|base| !base.is_empty());
        if is_held && base.as_ref().is_some_and(|base| base.covers_all(&version)) {
            if lane == Lane::Interactive {
                known.passed(hash);
            }
            return Ok(Plan::Skip);
        }
        // What the remote holds goes on being sent when it stops matching, so that no frozen copy
        // stays there. The leave notice will say so in so many words.
        let is_twin = twins.contains(&hash);
        if !is_held && !is_twin && !self.is_selected(changed, filling.replica)? {
            return Ok(Plan::Skip);
        }
        // Of a twin the remote holds some version, so that a delta may be enough.
        let is_doubtful = bytes.len() >= limits::ASK_FIRST_BYTES_MIN || known.forgot_received();
        let is_askable = may_ask && version.len() * 26 < ASK_VERSION_BYTES_MAX;
        if base.is_none() && is_doubtful && is_askable {
            return Ok(Plan::Ask { hash, version });
        }
        Ok(Plan::Send {
            hash,
            version,
            base,
        })
    }

    /// Whether a subscription wants the document, or it is deleted, which every subscriber of the
    /// collection learns.
    fn is_selected(&self, changed: &Changed, replica: &impl Replica) -> Result<bool, Failure> {
        let name = &changed.key.collection;
        let here = || {
            let requests = self.requests.values();
            requests.filter(|request| request.selector.collection() == name)
        };
        if here().any(|request| request.is_unfiltered) {
            return Ok(true);
        }
        let kinds = (replica.declared(name)).map_err(|error| Failure::store(&error))?;
        let fields = visible_fields_declared(&changed.document, &kinds)
            .map_err(|error| Failure::stored_bytes(&error))?;
        let Some(mut fields) = fields else {
            return Ok(true);
        };
        fields.insert("_id".to_owned(), changed.key.id.as_value().clone());
        Ok(here().any(|request| request.selector.matches(&fields)))
    }

    fn ask<R>(
        &mut self,
        lane: Lane,
        questions: Vec<(KeyHash, idem_model::DocumentKey, VersionVector)>,
        filling: &mut Filling<'_, R>,
    ) {
        self.asked_at = filling.now;
        let asked = self.asked.entry(lane).or_default();
        let mut documents = Vec::new();
        let mut bytes = 0;
        let announce = |documents: &mut Vec<DocumentVersion>, outlet: &mut Outlet| {
            let documents = std::mem::take(documents);
            outlet.push_announcement(Message::Have { lane, documents }.to_bytes());
        };
        for (hash, key, version) in questions {
            asked.insert(hash);
            bytes += version_bytes(&key, &version);
            documents.push(DocumentVersion { key, version });
            // Half of the smallest frame limit, so that one more never exceeds it.
            if documents.len() == limits::VERSIONS_PER_FRAME_MAX || bytes > VERSIONS_FRAME_BYTES {
                announce(&mut documents, filling.outlet);
                bytes = 0;
            }
        }
        if !documents.is_empty() {
            announce(&mut documents, filling.outlet);
        }
    }
}

/// Where HAVE and WANT frames are cut; with one more version they stay below 16 KiB.
pub(crate) const VERSIONS_FRAME_BYTES: usize = 8 * 1024;

/// At most this many bytes in a HAVE or WANT frame.
pub(crate) fn version_bytes(key: &idem_model::DocumentKey, version: &VersionVector) -> usize {
    key.collection.as_str().len() + key.id.to_key().len() + 8 + version.len() * 26
}

fn read<R: Replica>(
    replica: &R,
    name: &CollectionName,
    after: u64,
    held_to: u64,
) -> Result<ChangeBatch, Failure> {
    replica
        .changed_since(
            name,
            after,
            held_to.min(after),
            limits::TRANSFER_BATCH_BYTES,
        )
        .map_err(|error| Failure::store(&error))
}

impl Draft {
    fn add<R>(
        &mut self,
        lane: Lane,
        changed: &Changed,
        hash: KeyHash,
        version: VersionVector,
        base: Option<VersionVector>,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        let bytes = &changed.document;
        let base = base.filter(|base| !base.is_empty());
        let delta = match &base {
            Some(base) if bytes.len() >= DELTA_BYTES_MIN => {
                let document =
                    Document::decode(bytes).map_err(|error| Failure::stored_bytes(&error))?;
                let delta = document.delta(base).to_bytes();
                (delta.len() < bytes.len()).then_some(delta)
            }
            _ => None,
        };
        let state = delta.as_deref().unwrap_or(bytes);
        if !self.hashes.is_empty() && self.writer.len() + state.len() > limits::TX_GROUP_BYTES_MAX {
            // Too large for any receiver to hold: the parts are applied one by one.
            let bytes = self.writer.len() as u64;
            filling.events.push(Event::TransactionSplit { bytes });
            self.writer.end_group();
            std::mem::take(self).finish(filling.outlet);
        }
        self.writer.document(&changed.key, delta.is_some(), state);
        filling.stats.documents_sent += 1;
        filling.stats.deltas_sent += u64::from(delta.is_some());
        let mut held = version;
        if let Some(base) = &base {
            held.join(base);
        }
        let batch = filling.outlet.next_batch();
        filling.known.sending(hash, lane, batch, &held);
        self.hashes.push(hash);
        Ok(())
    }

    fn end_group(&mut self, outlet: &mut Outlet) {
        if self.hashes.is_empty() {
            return;
        }
        self.writer.end_group();
        if self.writer.len() >= limits::TRANSFER_BATCH_BYTES {
            std::mem::take(self).finish(outlet);
        }
    }

    fn finish(self, outlet: &mut Outlet) {
        if !self.writer.is_empty() {
            outlet.push_batch(self.writer.into_bytes(), self.hashes);
        }
    }
}
