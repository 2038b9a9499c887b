//! What this peer receives: its subscriptions on the link in use, and the batches for them.

mod scopes;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_crdt::{Delta, Document, encoded_version, visible_fields_declared};
use idem_model::{
    ActorId, CollectionName, DocumentKey, Lane, PeerId, Timestamp, VersionVector, limits,
};
use idem_query::Selector;
use idem_wire::{
    Announced, BatchDocument, BatchItem, BatchReader, Holdings, Items, Message, Resume, Subscribe,
    SubscriptionId,
};

use scopes::Scopes;

use crate::{
    event::{CloseReason, Event},
    failure::Failure,
    holdings::{Held, is_unfiltered, list},
    known::{KeyHash, Known},
    mirrors::Mirrors,
    replica::{
        ApplyOutcome, ApplyReport, Cursor, CursorUpdate, EvictReason, Incoming, IncomingState,
        Replica,
    },
    session::SessionStats,
    sketch::{Item, Salt, Sketch},
    spent::Restarts,
    testimony::{Told, answers},
    wanted::Wanted,
};

/// A statement that is not longer goes with its subscription, so that the remote need not ask for it.
const INLINE_STATEMENT_BYTES_MAX: usize = 1024;

/// What this peer receives over the link in use.
#[derive(Debug)]
pub(crate) struct Sink {
    peer: PeerId,
    /// The life of the remote store, in which its cursors count.
    actor: ActorId,
    /// Whether a subscription has caught up since that was last looked at.
    has_news: bool,
    alias_last: u32,
    aliases: BTreeMap<u32, SubscriptionId>,
    inbound: BTreeMap<SubscriptionId, Inbound>,
    /// Subscriptions that are to be asked for, or asked for again.
    due: BTreeSet<SubscriptionId>,
    /// Documents were held back, so no cursor may pass them while this link lasts.
    is_frozen: bool,
    /// How often the remote was told to start again.
    rewinds: u8,
    /// Whether that is to be said with the next requests.
    restart_due: bool,
    /// Whether the remote has yet to answer what the HELLO offered to go on with.
    awaits_resumption: bool,
    /// Under which both sides compare what they hold.
    salt: Salt,
    /// Sketches of which the remote may want more, with the number of symbols that it has.
    sketches: BTreeMap<u32, (Sketch, u32)>,
    /// Subscriptions of which the remote wants the list, and how much of the first list was sent.
    lists_due: VecDeque<u32>,
    list: Option<(Vec<Item>, usize)>,
    /// Comparisons that the remote makes of what it was told.
    pub(crate) mirrors: Mirrors,
    /// Subscriptions that are to be asked for and that the remote had compared here, with the numbers
    /// that it gave them.
    mirrored: BTreeMap<SubscriptionId, u32>,
    /// Subscriptions asked for in this way, of which the remote may want the list.
    listable: BTreeSet<u32>,
    /// Numbers that were offered for subscriptions which nobody wants any more.
    given_back: Vec<u32>,
    /// What does not sync with the remote.
    scopes: Scopes,
}

#[derive(Debug)]
struct Inbound {
    alias: u32,
    /// The cursor as stored.
    stored: u64,
    /// Whether the catch-up is done, so that cursors of the live lane count.
    is_caught_up: bool,
    /// The furthest cursor of the live lane.
    live: u64,
    /// Whether it was offered for resumption and the remote has not answered.
    is_resuming: bool,
}

/// Subscriptions that the HELLO of this side offered to go on with.
#[derive(Debug)]
pub(crate) struct Offer {
    /// In the order in which they are numbered, with the stored cursors.
    pub(crate) cursors: Vec<(SubscriptionId, u64)>,
    /// Whose commits these are.
    pub(crate) actor: ActorId,
}

impl Offer {
    /// Everything up to here is held of every subscription.
    pub(crate) fn commit(&self) -> u64 {
        self.cursors
            .iter()
            .map(|(_, commit)| *commit)
            .min()
            .unwrap_or(0)
    }
}

/// Everything that taking a batch in needs beside the sink.
pub(crate) struct Taking<'a, R> {
    pub(crate) now: Duration,
    /// How often the remote was told to start again, over all links.
    pub(crate) rewinds: &'a mut Restarts,
    pub(crate) replica: &'a mut R,
    pub(crate) known: &'a mut Known,
    pub(crate) wanted: &'a Wanted,
    /// Collections that do not sync with the remote.
    pub(crate) closed: BTreeSet<CollectionName>,
    /// The remote knew up to here of what is gone when it began to send.
    pub(crate) floor_told: Timestamp,
    /// How many bytes may tell what is held of documents that are left out.
    pub(crate) told_bytes_max: usize,
    pub(crate) stats: &'a mut SessionStats,
    pub(crate) events: &'a mut Vec<Event>,
}

/// A batch, read.
#[derive(Default)]
struct Batch {
    incoming: Vec<Incoming>,
    /// The place of each of these among all documents of the batch.
    places: Vec<u32>,
    versions: Vec<(KeyHash, VersionVector)>,
    /// Documents that left the subscriptions of this side, with their versions at the remote.
    left: Vec<(DocumentKey, VersionVector)>,
    /// Documents that nobody here asks for any more.
    unwanted: Vec<DocumentKey>,
    cursors: Vec<(u32, u64, bool)>,
    bytes: u64,
}

/// What a batch came to.
pub(crate) struct Taken {
    /// The commit that must be durable before the batch is acknowledged.
    pub(crate) commit: u64,
    /// The documents that told nothing, as they are at the remote.
    pub(crate) unchanged: Vec<(DocumentKey, VersionVector)>,
    /// What is held of documents that were left out, to be told before that.
    pub(crate) told: Told,
    /// Whether nothing that is under way is to be taken in.
    pub(crate) restarts: bool,
}

/// What one call of [`Replica::apply`] came to.
enum Attempt {
    Applied {
        commit: u64,
        /// The places in the batch of the documents that told nothing.
        unchanged: BTreeSet<u32>,
    },
    Refused(Vec<ApplyOutcome>),
}

impl Sink {
    /// `offer` is what the HELLO offered to go on with.
    pub(crate) fn new(
        (peer, is_big_peer): (PeerId, bool),
        actor: ActorId,
        salt: Salt,
        wanted: &Wanted,
        offer: Option<Offer>,
    ) -> Self {
        let mut sink = Self {
            peer,
            actor,
            has_news: false,
            alias_last: 0,
            aliases: BTreeMap::new(),
            inbound: BTreeMap::new(),
            due: wanted.ids().collect(),
            is_frozen: false,
            rewinds: 0,
            restart_due: false,
            awaits_resumption: offer.is_some(),
            salt,
            sketches: BTreeMap::new(),
            lists_due: VecDeque::new(),
            list: None,
            mirrors: Mirrors::default(),
            mirrored: BTreeMap::new(),
            listable: BTreeSet::new(),
            given_back: Vec::new(),
            scopes: Scopes::new(is_big_peer),
        };
        for (subscription, stored) in offer.iter().flat_map(|offer| &offer.cursors) {
            sink.alias_last += 1;
            let alias = sink.alias_last;
            if !sink.due.remove(subscription) {
                sink.given_back.push(alias);
                continue;
            }
            sink.aliases.insert(alias, *subscription);
            let is_valid = offer.as_ref().is_some_and(|offer| offer.actor == actor);
            let inbound = Inbound {
                alias,
                stored: if is_valid { *stored } else { 0 },
                is_caught_up: false,
                live: 0,
                is_resuming: true,
            };
            sink.inbound.insert(*subscription, inbound);
        }
        sink
    }

    /// The remote answered what the HELLO offered to go on with.
    pub(crate) fn resumed(
        &mut self,
        is_known: bool,
        is_caught_up: bool,
        events: &mut Vec<Event>,
    ) -> Result<(), Failure> {
        if !std::mem::take(&mut self.awaits_resumption) {
            let detail = "answer to a resumption that was not asked for";
            return Err(Failure::new(CloseReason::Malformed, detail));
        }
        let mut refused = Vec::new();
        for (subscription, inbound) in &mut self.inbound {
            if !std::mem::take(&mut inbound.is_resuming) {
                continue;
            }
            if !is_known {
                refused.push((*subscription, inbound.alias));
            } else if is_caught_up {
                inbound.is_caught_up = true;
                self.has_news = true;
                let subscription = *subscription;
                events.push(Event::CaughtUp { subscription });
            }
        }
        for (subscription, alias) in refused {
            self.inbound.remove(&subscription);
            self.aliases.remove(&alias);
            self.due.insert(subscription);
        }
        if !is_known {
            self.given_back.clear();
        }
        Ok(())
    }

    /// Whether a subscription has caught up since the last call.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// The collections of which all subscriptions have caught up, and nothing was held back.
    pub(crate) fn caught_up(&self, wanted: &Wanted) -> BTreeSet<CollectionName> {
        if self.is_frozen {
            return BTreeSet::new();
        }
        let mut collections: BTreeSet<CollectionName> = wanted.collections().cloned().collect();
        for subscription in wanted.ids() {
            let inbound = self.inbound.get(&subscription);
            if !inbound.is_some_and(|inbound| inbound.is_caught_up)
                && let Some(selector) = wanted.selector(subscription)
            {
                collections.remove(selector.collection());
            }
        }
        collections
    }

    /// Asks for a subscription at the next opportunity.
    pub(crate) fn want(&mut self, subscription: SubscriptionId) {
        self.due.insert(subscription);
    }

    /// Whether the remote has yet to be told to start again. What it hears before that tells it that
    /// what is left out meanwhile is held here.
    pub(crate) fn is_restart_due(&self) -> bool {
        self.restart_due
    }

    /// Ends a subscription; returns the message that says so, if the remote knows it.
    pub(crate) fn unwant(&mut self, subscription: SubscriptionId) -> Option<Message<'static>> {
        self.due.remove(&subscription);
        self.mirrored.remove(&subscription);
        let mut closed = self.scopes.there.iter();
        if let Some((&alias, _)) = closed.find(|(_, it)| **it == subscription) {
            self.scopes.there.remove(&alias);
            return Some(Message::Unsubscribe { alias });
        }
        let inbound = self.inbound.remove(&subscription)?;
        self.aliases.remove(&inbound.alias);
        self.sketches.remove(&inbound.alias);
        self.mirrors.forget(inbound.alias);
        self.listable.remove(&inbound.alias);
        Some(Message::Unsubscribe {
            alias: inbound.alias,
        })
    }

    /// The subscription of a number, if it is still meant.
    pub(crate) fn subscription(&self, alias: u32) -> Option<SubscriptionId> {
        self.aliases.get(&alias).copied()
    }

    /// The next requests that are due. They start together at the remote.
    pub(crate) fn poll_requests<R: Replica>(
        &mut self,
        replica: &R,
        wanted: &Wanted,
    ) -> Result<Vec<Message<'static>>, Failure> {
        let mut requests = Vec::new();
        while let Some(subscription) = self.due.pop_first() {
            let (Some(service), Some(selector)) =
                (wanted.service(subscription), wanted.selector(subscription))
            else {
                continue;
            };
            let cursor = self.cursor(subscription, replica)?;
            self.alias_last += 1;
            let theirs = self.mirrored.remove(&subscription);
            let (holdings, has_evicted) = match (cursor, theirs) {
                (Some(cursor), _) => {
                    let Cursor { actor, commit } = cursor;
                    (Holdings::Resume(Resume { actor, commit }), false)
                }
                (None, Some(alias)) => {
                    self.listable.insert(self.alias_last);
                    // It was not looked at.
                    (Holdings::Mirrored { alias }, true)
                }
                (None, None) => self.tell_holdings(subscription, selector, replica)?,
            };
            // Who has no cursor may be a stranger to the remote, unless it asked for the same.
            let is_known = cursor.is_some() || theirs.is_some();
            let text = wanted.statement(subscription).filter(|_| !is_known);
            let text = text.filter(|text| text.len() <= INLINE_STATEMENT_BYTES_MAX);
            self.aliases.insert(self.alias_last, subscription);
            self.inbound.insert(
                subscription,
                Inbound {
                    alias: self.alias_last,
                    stored: cursor.map_or(0, |cursor| cursor.commit),
                    is_caught_up: false,
                    live: 0,
                    is_resuming: false,
                },
            );
            requests.push(Subscribe {
                alias: self.alias_last,
                subscription,
                priority: service.priority,
                holdings,
                has_evicted,
                statement: text.map(str::to_owned),
                more: true,
                evicts: service.evicts,
                restart: false,
            });
        }
        if let Some(first) = requests.first_mut() {
            first.restart = std::mem::take(&mut self.restart_due);
        }
        if let Some(last) = requests.last_mut() {
            last.more = false;
        }
        let given_back = std::mem::take(&mut self.given_back).into_iter();
        let given_back = given_back.map(|alias| Message::Unsubscribe { alias });
        Ok(given_back
            .chain(requests.into_iter().map(Message::Subscribe))
            .collect())
    }

    /// The position up to which all of a subscription is held, if there is one.
    fn cursor<R: Replica>(
        &self,
        subscription: SubscriptionId,
        replica: &R,
    ) -> Result<Option<Cursor>, Failure> {
        let cursor = replica.cursor(self.peer, subscription);
        let cursor = cursor.map_err(|error| Failure::store(&error))?;
        Ok(cursor.filter(|cursor| cursor.actor == self.actor))
    }

    /// Whole collections that are to be asked for and of which there is no such position.
    pub(crate) fn comparable<R: Replica>(
        &self,
        replica: &R,
        wanted: &Wanted,
    ) -> Result<BTreeSet<SubscriptionId>, Failure> {
        let mut comparable = BTreeSet::new();
        for subscription in &self.due {
            let selector = wanted.selector(*subscription);
            if selector.is_some_and(is_unfiltered) && self.cursor(*subscription, replica)?.is_none()
            {
                comparable.insert(*subscription);
            }
        }
        Ok(comparable)
    }

    /// The remote had `subscription` compared here under the number `theirs`, and is told what is
    /// lacking here.
    pub(crate) fn mirror(&mut self, subscription: SubscriptionId, theirs: u32) {
        if self.due.contains(&subscription) {
            self.mirrored.insert(subscription, theirs);
        }
    }

    /// What the next SUBSCRIBE says of what is held, and whether some of that was evicted.
    fn tell_holdings<R: Replica>(
        &mut self,
        subscription: SubscriptionId,
        selector: &Selector,
        replica: &R,
    ) -> Result<(Holdings, bool), Failure> {
        let alias = self.alias_last;
        let held = Held::scan(replica, self.salt, subscription, selector)?;
        let (holdings, may_be_asked) = held.to_wire();
        let has_evicted = held.has_evicted;
        if is_unfiltered(selector) {
            match holdings {
                Holdings::Nothing => self.mirrors.tell_nothing(alias, subscription, held.commit),
                _ => self.mirrors.tell(alias, subscription, held.commit),
            }
        }
        if may_be_asked {
            let sent = 1 + limits::SUBSCRIBE_SYMBOLS;
            self.sketches.insert(alias, (held.sketch, sent));
        }
        Ok((holdings, has_evicted))
    }

    /// The remote wants to know more of what is held here: so many symbols, of which it gets no more than
    /// fit into a frame.
    pub(crate) fn ask_holdings(
        &mut self,
        alias: u32,
        (symbols, symbols_max): (u32, u32),
    ) -> Result<Option<Message<'static>>, Failure> {
        if !self.aliases.contains_key(&alias) {
            return Ok(None);
        }
        if symbols == 0 && self.listable.remove(&alias) {
            self.lists_due.push_back(alias);
            return Ok(None);
        }
        let Some((sketch, sent)) = self.sketches.get_mut(&alias) else {
            let detail = "question for a sketch that was not offered";
            return Err(Failure::new(CloseReason::Malformed, detail));
        };
        if symbols == 0 {
            self.sketches.remove(&alias);
            self.lists_due.push_back(alias);
            return Ok(None);
        }
        if symbols > sketch.symbols() - *sent {
            let detail = "question for more symbols than a sketch has";
            return Err(Failure::new(CloseReason::Limit, detail));
        }
        let symbols = symbols.min(symbols_max);
        let block = sketch.block(*sent, symbols);
        *sent += symbols;
        Ok(Some(Message::Symbols { alias, block }))
    }

    /// The next part of a list that the remote wants.
    pub(crate) fn poll_items<R: Replica>(
        &mut self,
        lane: Lane,
        replica: &R,
        wanted: &Wanted,
    ) -> Result<Option<Message<'static>>, Failure> {
        let Some(&alias) = self.lists_due.front() else {
            return Ok(None);
        };
        let subscription = self.aliases.get(&alias).copied();
        let selector = subscription.and_then(|it| Some((it, wanted.selector(it)?)));
        let Some((subscription, selector)) = selector else {
            self.lists_due.pop_front();
            self.list = None;
            return self.poll_items(lane, replica, wanted);
        };
        if self.list.is_none() {
            let listed = list(replica, self.salt, subscription, selector)?;
            if let Some((_, commit)) = listed
                && is_unfiltered(selector)
            {
                self.mirrors.tell(alias, subscription, commit);
            }
            self.list = listed.map(|(items, _)| (items, 0));
        }
        let mut message = Items {
            lane,
            alias,
            more: false,
            is_void: self.list.is_none(),
            items: Vec::new(),
        };
        if let Some((items, sent)) = &mut self.list {
            let part = items[*sent..].iter().take(limits::ITEMS_PER_FRAME_MAX);
            message.items = part.map(|item| item.to_bytes()).collect();
            *sent += message.items.len();
            message.more = *sent < items.len();
        }
        if !message.more {
            self.lists_due.pop_front();
            self.list = None;
        }
        Ok(Some(Message::Items(message)))
    }

    /// The frames that answer an announcement.
    pub(crate) fn answer<R: Replica>(
        &self,
        number: u64,
        documents: &[Announced],
        replica: &R,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        answers(
            number,
            documents,
            (self.salt, self.scopes.is_big_peer),
            replica,
        )
    }

    /// Merges a batch, with the cursors that it brings forward, in one local transaction.
    pub(crate) fn take<R: Replica>(
        &mut self,
        lane: Lane,
        body: &[u8],
        taking: &mut Taking<'_, R>,
    ) -> Result<Taken, Failure> {
        let suspects = suspects(body, taking)?;
        self.is_frozen |= !suspects.is_empty();
        let mut left_out = suspects.clone();
        loop {
            let mut batch = read_batch(body, &left_out, taking)?;
            let unwanted = std::mem::take(&mut batch.unwanted);
            let outcomes = match self.apply(lane, batch, taking)? {
                Attempt::Applied { commit, unchanged } => {
                    let mut keys = self.report_held_back(body, &left_out, &suspects, taking)?;
                    // The acknowledgement alone would tell the remote that they are held here, and it
                    // would leave them out should they be asked for again.
                    self.report_out_of_scope(&unwanted, taking);
                    keys.extend(unwanted);
                    let told = self.held_versions(keys, taking.told_bytes_max, taking.replica)?;
                    return Ok(Taken {
                        commit,
                        unchanged: documents_at(body, &unchanged)?,
                        told,
                        restarts: false,
                    });
                }
                Attempt::Refused(outcomes) => outcomes,
            };
            let batch = read_batch(body, &left_out, taking)?;
            if outcomes.contains(&ApplyOutcome::Refused) {
                let all = batch.incoming.into_iter().zip(&outcomes);
                let refused = all.filter(|(_, outcome)| **outcome == ApplyOutcome::Refused);
                let keys = refused.map(|(incoming, _)| incoming.key);
                taking.events.push(Event::Refused {
                    documents: keys.take(limits::EVENT_DOCUMENTS_MAX).collect(),
                });
                let detail = "document that cannot be read";
                return Err(Failure::new(CloseReason::Malformed, detail));
            }
            if outcomes.iter().any(|it| matches!(it, ApplyOutcome::Gap(_))) {
                // Those that it failed for come first, so that the remote certainly learns of them.
                let all = batch.incoming.into_iter().zip(&outcomes);
                let (gaps, others): (Vec<_>, Vec<_>) =
                    all.partition(|(_, outcome)| matches!(outcome, ApplyOutcome::Gap(_)));
                let all = gaps.into_iter().chain(others);
                return self.rewind(all.map(|(incoming, _)| incoming.key).collect(), taking);
            }
            // Every round leaves out at least one group more, and none of them is tried twice.
            self.is_frozen = true;
            let groups_before = left_out.len();
            for (incoming, outcome) in batch.incoming.iter().zip(&outcomes) {
                if *outcome == ApplyOutcome::TooFarAhead {
                    left_out.insert(incoming.group);
                }
            }
            if left_out.len() == groups_before {
                let detail = "the store refuses a batch without saying why";
                return Err(Failure::new(CloseReason::Store, detail));
            }
        }
    }

    /// Merges a batch of which some documents are to be evicted afterwards, and stores its cursors
    /// last: if the process dies before, the remote says once more what left.
    fn apply_and_evict<R: Replica>(
        &mut self,
        lane: Lane,
        batch: Batch,
        updates: &[CursorUpdate],
        leaving: &[(DocumentKey, VersionVector)],
        taking: &mut Taking<'_, R>,
    ) -> Result<Attempt, Failure> {
        let store = |error| Failure::store(&error);
        let report = taking.replica.apply(batch.incoming, &[]).map_err(store)?;
        if !report.is_applied() {
            return Ok(Attempt::Refused(report.outcomes));
        }
        for (hash, version) in &batch.versions {
            taking.known.received(*hash, version);
        }
        count(&report, batch.bytes, taking);
        let evicted = taking.replica.evict(leaving, EvictReason::Left);
        taking.stats.documents_evicted += evicted.map_err(store)?;
        let mut commit = report.commit;
        if !updates.is_empty() {
            let report = taking.replica.apply(Vec::new(), updates).map_err(store)?;
            commit = commit.max(report.commit);
        }
        self.finish_cursors(lane, &batch.cursors, updates, taking.events);
        Ok(Attempt::Applied {
            commit,
            unchanged: BTreeSet::new(),
        })
    }

    fn apply<R: Replica>(
        &mut self,
        lane: Lane,
        batch: Batch,
        taking: &mut Taking<'_, R>,
    ) -> Result<Attempt, Failure> {
        let updates = self.cursor_updates(lane, &batch.cursors);
        let leaving = leaving(&batch.left, taking)?;
        if !leaving.is_empty() {
            return self.apply_and_evict(lane, batch, &updates, &leaving, taking);
        }
        let mut commit = 0;
        let mut unchanged = BTreeSet::new();
        if !batch.incoming.is_empty() || !updates.is_empty() {
            let report = taking
                .replica
                .apply(batch.incoming, &updates)
                .map_err(|error| Failure::store(&error))?;
            if !report.is_applied() {
                return Ok(Attempt::Refused(report.outcomes));
            }
            for (hash, version) in &batch.versions {
                taking.known.received(*hash, version);
            }
            count(&report, batch.bytes, taking);
            commit = report.commit;
            let outcomes = batch.places.iter().zip(&report.outcomes);
            let told_nothing = outcomes.filter(|(_, it)| **it == ApplyOutcome::Unchanged);
            unchanged = told_nothing.map(|(place, _)| *place).collect();
        }
        self.finish_cursors(lane, &batch.cursors, &updates, taking.events);
        Ok(Attempt::Applied { commit, unchanged })
    }

    /// Tells the owner. Gives the documents of which the remote must be told, which would otherwise believe
    /// that they arrived.
    fn report_held_back<R: Replica>(
        &self,
        body: &[u8],
        groups: &BTreeSet<u32>,
        suspects: &BTreeSet<u32>,
        taking: &mut Taking<'_, R>,
    ) -> Result<Vec<DocumentKey>, Failure> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let batch = read_batch(body, &BTreeSet::new(), taking)?;
        let held_back = batch.incoming.into_iter();
        let held_back = held_back.filter(|incoming| groups.contains(&incoming.group));
        let (suspected, held_back): (Vec<_>, Vec<_>) =
            held_back.partition(|incoming| suspects.contains(&incoming.group));
        let keys = |all: Vec<Incoming>| all.into_iter().map(|it| it.key).collect::<Vec<_>>();
        let (suspected, keys) = (keys(suspected), keys(held_back));
        if !keys.is_empty() {
            let named = keys.iter().take(limits::EVENT_DOCUMENTS_MAX);
            taking.events.push(Event::HeldBack {
                documents: named.cloned().collect(),
                count: keys.len() as u64,
            });
        }
        Ok(suspected.into_iter().chain(keys).collect())
    }

    /// A delta did not fit: tells the remote what is really held of all documents of the batch, and
    /// has it start again where the cursors stand. What is under way builds on what was just
    /// refused, so it is refused as well.
    fn rewind<R: Replica>(
        &mut self,
        keys: Vec<DocumentKey>,
        taking: &mut Taking<'_, R>,
    ) -> Result<Taken, Failure> {
        if !taking.rewinds.count(taking.now) || self.rewinds >= limits::REWINDS_MAX {
            return Err(Failure::new(CloseReason::Limit, "deltas never fit"));
        }
        self.rewinds += 1;
        self.restart_due = true;
        self.aliases.clear();
        self.inbound.clear();
        self.sketches.clear();
        self.lists_due.clear();
        self.list = None;
        self.mirrors.clear();
        self.mirrored.clear();
        self.listable.clear();
        self.scopes.there.clear();
        self.due = taking.wanted.ids().collect();
        Ok(Taken {
            commit: 0,
            unchanged: Vec::new(),
            told: self.held_versions(keys, limits::TOLD_VERSIONS_BYTES_MAX, taking.replica)?,
            restarts: true,
        })
    }

    /// The cursors of a batch that count now.
    fn cursor_updates(&self, lane: Lane, cursors: &[(u32, u64, bool)]) -> Vec<CursorUpdate> {
        if self.is_frozen {
            return Vec::new();
        }
        let mut updates = Vec::new();
        for &(alias, commit, caught_up) in cursors {
            let Some((subscription, inbound)) = self.inbound_of(alias) else {
                continue;
            };
            if lane == Lane::Bulk && self.mirrors.is_doubtful(alias) {
                continue;
            }
            let commit = match lane {
                // Before the catch-up is done, the live lane is ahead of what is missing.
                Lane::Interactive if !inbound.is_caught_up => continue,
                Lane::Bulk if caught_up => commit.max(inbound.live),
                _ => commit,
            };
            if commit > inbound.stored {
                updates.push(CursorUpdate {
                    peer: self.peer,
                    subscription,
                    cursor: Cursor {
                        actor: self.actor,
                        commit,
                    },
                });
            }
        }
        updates
    }

    fn finish_cursors(
        &mut self,
        lane: Lane,
        cursors: &[(u32, u64, bool)],
        updates: &[CursorUpdate],
        events: &mut Vec<Event>,
    ) {
        for update in updates {
            if let Some(inbound) = self.inbound.get_mut(&update.subscription) {
                inbound.stored = inbound.stored.max(update.cursor.commit);
            }
        }
        for &(alias, commit, caught_up) in cursors {
            let Some(subscription) = self.aliases.get(&alias).copied() else {
                continue;
            };
            let Some(inbound) = self.inbound.get_mut(&subscription) else {
                continue;
            };
            if lane == Lane::Interactive {
                inbound.live = inbound.live.max(commit);
            } else if caught_up && !inbound.is_caught_up && !self.mirrors.is_doubtful(alias) {
                inbound.is_caught_up = true;
                self.mirrors.finish(alias);
                self.has_news = true;
                self.sketches.remove(&alias);
                events.push(Event::CaughtUp { subscription });
            }
        }
    }

    fn inbound_of(&self, alias: u32) -> Option<(SubscriptionId, &Inbound)> {
        let subscription = *self.aliases.get(&alias)?;
        Some((subscription, self.inbound.get(&subscription)?))
    }
}

/// Those of the documents that left which are to be evicted.
fn leaving<R: Replica>(
    left: &[(DocumentKey, VersionVector)],
    taking: &Taking<'_, R>,
) -> Result<Vec<(DocumentKey, VersionVector)>, Failure> {
    let mut leaving = Vec::new();
    for (key, version) in left {
        if !taking.wanted.evicts(&key.collection) {
            continue;
        }
        let store = |error| Failure::store(&error);
        let Some(held) = taking.replica.document(key).map_err(store)? else {
            continue;
        };
        let kinds = taking.replica.declared(&key.collection).map_err(store)?;
        let fields = visible_fields_declared(&held, &kinds);
        let Some(mut fields) = fields.map_err(|error| Failure::stored_bytes(&error))? else {
            continue;
        };
        fields.insert("_id".to_owned(), key.id.as_value().clone());
        if taking.wanted.evicts_what_was(&key.collection, &fields) {
            leaving.push((key.clone(), version.clone()));
        }
    }
    Ok(leaving)
}

/// The groups with documents that may have been deleted, as their sender could not know when the link
/// came up: nothing is known of them here, and it was learned since what is gone elsewhere. They wait for
/// the next link, on which the sender asks first.
fn suspects<R: Replica>(body: &[u8], taking: &mut Taking<'_, R>) -> Result<BTreeSet<u32>, Failure> {
    let mut suspects = BTreeSet::new();
    if taking.replica.learned_floor() <= taking.floor_told {
        return Ok(suspects);
    }
    let batch = read_batch(body, &BTreeSet::new(), taking)?;
    for incoming in &batch.incoming {
        // A delta onto nothing is asked for again.
        let IncomingState::Whole(bytes) = &incoming.state else {
            continue;
        };
        let held = taking.replica.document(&incoming.key);
        if held.map_err(|error| Failure::store(&error))?.is_some() {
            continue;
        }
        let gone = taking.replica.gone(&incoming.key.collection);
        let gone = gone.map_err(|error| Failure::store(&error))?;
        if gone.is_some_and(|gone| may_be_deleted(bytes, &gone.deleted)) {
            suspects.insert(incoming.group);
        }
    }
    Ok(suspects)
}

/// Whether tombstones that went, which `deleted` covers, may have been of all that is left in a document.
fn may_be_deleted(bytes: &[u8], deleted: &VersionVector) -> bool {
    // The store refuses what is no document.
    let Ok(document) = Document::decode(bytes) else {
        return false;
    };
    match document.is_present() {
        true => document.traces().iter().all(|dot| deleted.covers(*dot)),
        false => deleted.covers_all(document.version()),
    }
}

/// Reads a batch, without the groups in `left_out`, without what nobody here asked for, and without
/// what left and is not here.
fn read_batch<R: Replica>(
    body: &[u8],
    left_out: &BTreeSet<u32>,
    taking: &Taking<'_, R>,
) -> Result<Batch, Failure> {
    let mut batch = Batch::default();
    let mut reader = BatchReader::new(body);
    let mut group = 0;
    let mut place = 0..;
    while let Some(item) = reader.next_item()? {
        match item {
            BatchItem::Document(document) => {
                let place = place.next().expect("a batch has fewer documents");
                let number = group;
                group += u32::from(document.ends_group);
                // Documents may still come for a subscription that just ended.
                if left_out.contains(&number) {
                    continue;
                }
                let name = &document.key.collection;
                if !taking.wanted.has(name) || taking.closed.contains(name) {
                    batch.unwanted.push(document.key);
                    continue;
                }
                let version = version_of(&document)?;
                let state = document.state.to_vec();
                let state = match document.delta {
                    true => IncomingState::Delta(state),
                    false => IncomingState::Whole(state),
                };
                batch.bytes += document.state.len() as u64;
                let hash = KeyHash::of(&document.key);
                batch.versions.push((hash, version.clone()));
                if document.has_left {
                    let held = taking.replica.document(&document.key);
                    if held.map_err(|error| Failure::store(&error))?.is_none() {
                        continue;
                    }
                    batch.left.push((document.key.clone(), version));
                }
                batch.places.push(place);
                batch.incoming.push(Incoming {
                    key: document.key,
                    group: number,
                    state,
                });
            }
            BatchItem::Cursor {
                alias,
                commit,
                caught_up,
            } => batch.cursors.push((alias, commit, caught_up)),
        }
    }
    Ok(batch)
}

/// The documents at some places of a batch, with their versions.
///
/// Their keys went to the store, so the batch is read again, which is rare but where peers come
/// together that hold the same.
fn documents_at(
    body: &[u8],
    places: &BTreeSet<u32>,
) -> Result<Vec<(DocumentKey, VersionVector)>, Failure> {
    let mut documents = Vec::with_capacity(places.len());
    let mut reader = BatchReader::new(body);
    let mut place = 0;
    while documents.len() < places.len()
        && let Some(item) = reader.next_item()?
    {
        let BatchItem::Document(document) = item else {
            continue;
        };
        if places.contains(&place) {
            let version = version_of(&document)?;
            documents.push((document.key, version));
        }
        place += 1;
    }
    Ok(documents)
}

/// The version that a document of a batch brings.
fn version_of(document: &BatchDocument<'_>) -> Result<VersionVector, Failure> {
    Ok(match document.delta {
        true => Delta::decode(document.state)?.version().clone(),
        false => encoded_version(document.state)?,
    })
}

fn count<R>(report: &ApplyReport, bytes: u64, taking: &mut Taking<'_, R>) {
    let is_changed = |outcome: &&ApplyOutcome| **outcome == ApplyOutcome::Changed;
    let changed = report.outcomes.iter().filter(is_changed).count() as u64;
    taking.stats.documents_changed += changed;
    taking.stats.documents_unchanged += report.outcomes.len() as u64 - changed;
    if changed > 0 {
        taking.events.push(Event::Applied {
            documents: changed,
            bytes,
        });
    }
}
