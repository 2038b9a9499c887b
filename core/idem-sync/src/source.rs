//! What this peer sends: the remote's subscriptions, and the feed positions they have reached.

mod announce;
mod catch_up;
mod compare;
mod mirrored;
mod offer;
mod reading;
mod scopes;
mod stale;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_model::{CollectionName, Lane, limits};
use idem_query::Selector;
use idem_wire::{Holdings, Message, Resume, Subscribe, SubscriptionId};

use announce::Announcing;
use catch_up::CatchUp;
use offer::{Draft, Offering, Question};
use scopes::Scopes;

use crate::{
    event::{CloseReason, Event},
    failure::Failure,
    few::Few,
    known::{KeyHash, Known},
    outlet::Outlet,
    projection::Projections,
    replica::{Changed, Replica},
    session::SessionStats,
    sketch::Salt,
    spent::Scans,
    stale::Stale,
    wanted::{Service, Wanted},
};

/// A cursor that moved past rows without sending anything waits this long for data to go with.
const CURSOR_DELAY: Duration = Duration::from_millis(200);

/// A cursor that moved past this many rows or commits goes at once, so that a reconnect never scans
/// much again.
const CURSOR_ROWS_MAX: u64 = 1024;

/// A live change that brings more than this along, while the remote catches up, waits for it.
const OVERTAKE_BYTES_MAX: usize = 256 * 1024;

/// What this peer sends over the link in use.
#[derive(Debug)]
pub(crate) struct Source {
    /// Under which both sides compare what they hold.
    salt: Salt,
    /// Whether the remote is a Big Peer.
    is_big_peer: bool,
    /// What comparing has cost since the remote had new leave.
    pub(crate) scans: Scans,
    /// Comparisons of the remote that serve this side too and that it does not know of yet.
    mirrored: Vec<(SubscriptionId, u32)>,
    requests: Few<u32, Request>,
    /// Subscriptions that start together, once the last is there and all statements are known.
    pending: Vec<(Subscribe, Option<Selector>)>,
    /// Whether more of them follow.
    is_pending_open: bool,
    /// What is not served because it cannot be read, by the numbers that the remote gave.
    refused: Few<u32, SubscriptionId>,
    /// What is not served because of a sync scope.
    scopes: Scopes,
    /// A sync scope changed since they were looked at, so that nothing is read before they are again.
    is_outdated: bool,
    /// Whether a subscription ended on this link.
    pub(crate) has_ended: bool,
    alias_last: u32,
    /// By the names under which documents travel.
    live: Few<CollectionName, Live>,
    /// What is not wanted whole.
    projections: Projections,
    /// The collection whose live changes went last; the next one in order has its turn.
    live_turn: Option<CollectionName>,
    /// The durable commit up to which all live feeds were read.
    live_read_to: u64,
    /// Bulk batches that are not acknowledged, and the position that each started from.
    unsettled: VecDeque<(u64, u64)>,
    /// Live changes wait for the catch-up, because their transactions reach too far into it.
    live_waits: bool,
    /// Lanes on which a document comes next that left, and that is under way on the other lane, behind
    /// which it must arrive.
    following: BTreeSet<Lane>,
    /// Announcements by number that the remote has not answered.
    asked: BTreeMap<u64, Question>,
    asked_last: u64,
    /// Documents of the batch at hand of each lane that the remote has answered for.
    answers: BTreeSet<(Lane, KeyHash)>,
    asked_at: Duration,
    /// What is announced, once either side announced something or may.
    announcing: Option<Box<Announcing>>,
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
    /// The name under which its documents travel.
    name: CollectionName,
    /// Whether everything in the collection is selected, so that no document need be decoded.
    is_unfiltered: bool,
    service: Service,
    /// The remote held everything that it wants up to this commit when it subscribed.
    held_to: u64,
    /// Whether the remote held nothing of it when it started.
    was_blank: bool,
    /// Whether the remote may have evicted what it says to hold.
    has_evicted: bool,
    catch_up: Option<CatchUp>,
    /// When the remote was last asked what it holds.
    asked_at: Duration,
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

impl Live {
    /// From a commit on.
    fn at(commit: u64) -> Self {
        Self {
            at: commit,
            told: commit,
            rows_untold: 0,
        }
    }
}

/// Everything that filling a lane needs beside the source.
pub(crate) struct Filling<'a, R> {
    pub(crate) now: Duration,
    pub(crate) replica: &'a R,
    pub(crate) known: &'a mut Known,
    /// What this side asks for.
    pub(crate) wanted: &'a Wanted,
    pub(crate) stale: &'a mut Stale,
    pub(crate) outlet: &'a mut Outlet,
    pub(crate) stats: &'a mut SessionStats,
    pub(crate) events: &'a mut Vec<Event>,
}

/// Everything that comparing what both sides hold needs beside the source.
pub(crate) struct Comparing<'a, R> {
    pub(crate) now: Duration,
    pub(crate) replica: &'a R,
    pub(crate) known: &'a mut Known,
    /// Whole collections that this side is about to ask the remote for, without a position.
    pub(crate) ours: BTreeSet<SubscriptionId>,
}

impl Source {
    pub(crate) fn new(salt: Salt, is_big_peer: bool, scans: Scans) -> Self {
        Self {
            is_big_peer,
            salt,
            scans,
            mirrored: Vec::new(),
            requests: Few::default(),
            pending: Vec::new(),
            is_pending_open: false,
            refused: Few::default(),
            scopes: Scopes::default(),
            is_outdated: false,
            has_ended: false,
            alias_last: 0,
            live: Few::default(),
            projections: Projections::default(),
            live_turn: None,
            live_read_to: 0,
            unsettled: VecDeque::new(),
            live_waits: false,
            following: BTreeSet::new(),
            asked: BTreeMap::new(),
            asked_last: 0,
            answers: BTreeSet::new(),
            asked_at: Duration::ZERO,
            announcing: None,
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
        self.scopes.subscribe(subscribe.subscription);
        let unserved = self.refused.len() + self.scopes.len();
        let count = self.requests.len() + self.pending.len() + unserved;
        if count >= limits::SUBSCRIPTIONS_PER_SESSION_MAX {
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
            asked_last: self.asked_last,
            has_ended: self.has_ended,
            announcing: (self.announcing.as_ref()).map(|it| Box::new(it.restarted())),
            ..Self::new(self.salt, self.is_big_peer, self.scans)
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
        for alias in &refused {
            self.refused.insert(*alias, subscription);
        }
        refused
    }

    /// Starts what waits, if all of it is there.
    pub(crate) fn start_pending(
        &mut self,
        comparing: &mut Comparing<'_, impl Replica>,
    ) -> Result<Vec<Message<'static>>, Failure> {
        let is_known = |(_, selector): &(Subscribe, Option<Selector>)| selector.is_some();
        if self.is_pending_open || !self.pending.iter().all(is_known) {
            return Ok(Vec::new());
        }
        let mut messages = Vec::new();
        for (subscribe, selector) in std::mem::take(&mut self.pending) {
            let Some(selector) = selector else {
                continue;
            };
            let name = selector.collection();
            match self.close_at_once(&subscribe, name, comparing.replica) {
                Some(refusal) => messages.push(refusal),
                None => messages.extend(self.start(&subscribe, selector, comparing)?),
            }
        }
        Ok(messages)
    }

    /// Goes on with all subscriptions of an earlier link, none of which is named. They are numbered
    /// from 1. Returns whether there is nothing to catch up with.
    pub(crate) fn resume(
        &mut self,
        subscriptions: Vec<(SubscriptionId, Service, Selector)>,
        resume: Resume,
        comparing: &mut Comparing<'_, impl Replica>,
    ) -> Result<bool, Failure> {
        assert!(self.alias_last == 0, "a link resumes before anything else");
        let mut is_caught_up = true;
        for (subscription, service, selector) in subscriptions {
            self.alias_last += 1;
            let subscribe = Subscribe {
                alias: self.alias_last,
                subscription,
                priority: service.priority,
                holdings: Holdings::Resume(resume),
                has_evicted: false,
                statement: None,
                more: false,
                evicts: service.evicts,
            };
            self.start(&subscribe, selector, comparing)?;
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

    /// What the remote subscribes to.
    pub(crate) fn set(&self) -> Few<SubscriptionId, Service> {
        let requests = self.requests.values();
        requests.map(|it| (it.subscription, it.service)).collect()
    }

    /// What the remote is served.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = SubscriptionId> + '_ {
        self.requests.values().map(|it| it.subscription)
    }

    /// The remote does not want a subscription any more. Gives which one, if it was refused until now.
    pub(crate) fn unsubscribe(&mut self, alias: u32) -> Option<SubscriptionId> {
        self.pending.retain(|(waiting, _)| waiting.alias != alias);
        self.scopes.unsubscribe(alias);
        self.end(alias);
        let refused = self.refused.remove(&alias)?;
        let is_still = self.refused.values().any(|it| *it == refused);
        (!is_still).then_some(refused)
    }

    fn end(&mut self, alias: u32) {
        self.has_ended = true;
        if let Some(request) = self.requests.remove(&alias) {
            let name = request.name;
            if !self.requests.values().any(|other| other.name == name) {
                self.live.remove(&name);
                self.projections.remove(&name);
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
        if let Some(announcing) = &mut self.announcing {
            announcing.handle_timeout(now);
        }
    }

    /// Cursors that moved without data wait no longer for data to go with.
    pub(crate) fn hasten_cursors(&mut self) {
        self.cursors_due = None;
        self.are_cursors_late = true;
    }

    /// The remote has applied the batches of a lane up to this one.
    pub(crate) fn settled(&mut self, lane: Lane, batches: u64) {
        if lane == Lane::Bulk {
            self.unsettled.retain(|(batch, _)| *batch > batches);
            self.live_waits &= self.held_to().is_some();
        } else if let Some(announcing) = &mut self.announcing {
            announcing.settled(batches);
        }
        self.following.retain(|following| *following == lane);
    }

    // Output.

    /// Queues live changes, if there are any.
    pub(crate) fn fill_live<R: Replica>(
        &mut self,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        let durable = filling.replica.durable_commit();
        if self.must_wait(Lane::Interactive) {
            return Ok(());
        }
        self.fill_pull(filling)?;
        if !filling.outlet.is_empty() || self.must_wait(Lane::Interactive) {
            return Ok(());
        }
        if durable > self.live_read_to && !self.live_waits {
            for name in self.live_names_in_turn() {
                self.fill_live_of(&name, durable, filling)?;
                if !filling.outlet.is_empty() {
                    self.live_turn = Some(name);
                    return Ok(());
                }
                if self.must_wait(Lane::Interactive) || self.live_waits {
                    return Ok(());
                }
            }
            self.live_read_to = durable;
        }
        if let Some(announcing) = self.announcing.as_mut().filter(|it| it.is_due()) {
            let mut draft = Draft::default();
            announcing.flush(&mut draft, filling);
            draft.finish(filling.outlet);
            if !filling.outlet.is_empty() {
                return Ok(());
            }
        }
        self.fill_stale(filling)?;
        if !filling.outlet.is_empty() || self.must_wait(Lane::Interactive) {
            return Ok(());
        }
        if std::mem::take(&mut self.are_cursors_late)
            && self.live.values().any(|live| live.rows_untold > 0)
        {
            self.finish_live(Draft::default(), filling);
        }
        Ok(())
    }

    // Getters.

    /// Whether the remote certainly held a document as it is here: a subscription whose cursor is behind
    /// it selects it.
    pub(crate) fn was_held(
        &self,
        changed: &Changed,
        replica: &impl Replica,
    ) -> Result<bool, Failure> {
        let name = &changed.key.collection;
        let here = || {
            let requests = self.requests.values();
            requests.filter(|it| it.name == *name && it.held_to >= changed.commit)
        };
        if here().any(|request| request.is_unfiltered) {
            return Ok(true);
        }
        let kinds = (replica.declared(name)).map_err(|error| Failure::store(&error))?;
        let fields = idem_crdt::visible_fields_declared(&changed.document, &kinds)
            .map_err(|error| Failure::stored_bytes(&error))?;
        let Some(mut fields) = fields else {
            return Ok(false);
        };
        fields.insert("_id".to_owned(), changed.key.id.as_value().clone());
        Ok(here().any(|request| request.selector.matches(&fields)))
    }

    /// The durable commit up to which everything that the remote wants was queued, unless it is still
    /// catching up.
    pub(crate) fn read_to(&self) -> Option<u64> {
        let is_behind = self.held_to().is_some()
            || self.live_waits
            || self.announcing.as_ref().is_some_and(|it| it.is_behind())
            || self.must_wait(Lane::Interactive)
            || !self.is_subscribed();
        let live = self.live.values().map(|live| live.at).min();
        (!is_behind).then_some(self.live_read_to.max(live.unwrap_or(0)))
    }

    /// Whether it is known all that the remote wants, and that is something.
    pub(crate) fn is_subscribed(&self) -> bool {
        let wants = !self.requests.is_empty() || self.scopes.len() > 0;
        wants && self.pending.is_empty()
    }

    /// If the remote is catching up, or about to ask for more, the commit up to which it certainly holds
    /// everything.
    pub(crate) fn behind_from(&self) -> Option<u64> {
        let invited = self.scopes.invited_from();
        self.held_to().into_iter().chain(invited).min()
    }

    /// The collections of which the remote wants documents, whole or in part.
    pub(crate) fn collections(&self) -> BTreeSet<&CollectionName> {
        let names = self.live.keys();
        names.map(|name| self.projections.stored(name)).collect()
    }

    /// The collections of which the remote wants whole documents.
    pub(crate) fn whole_collections(&self) -> impl Iterator<Item = &CollectionName> {
        let names = self.live.keys();
        names.filter(|name| self.projections.paths(name).is_none())
    }

    /// Whether the remote wants documents of this name.
    pub(crate) fn is_wanted(&self, collection: &CollectionName) -> bool {
        self.live.contains_key(collection)
    }

    /// When something must be done though nothing comes in.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let announcing = self.announcing.as_ref().and_then(|it| it.timeout());
        self.cursors_due.into_iter().chain(announcing).min()
    }

    /// Whether the remote has asked for something, and all that it asked for so far has started.
    pub(crate) fn has_begun(&self) -> bool {
        self.alias_last > 0 && !self.is_pending_open && self.pending.is_empty()
    }

    /// Since when the remote owes an answer: to an announcement, or to what it holds.
    pub(crate) fn asking_since(&self) -> Option<Duration> {
        let announced = (!self.asked.is_empty()).then_some(self.asked_at);
        let requests = self.requests.values();
        let compared = requests.filter(|it| it.catch_up.as_ref().is_some_and(CatchUp::is_asking));
        compared.map(|it| it.asked_at).chain(announced).min()
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
            let batch = self.read(filling.replica, name, at, held_to.unwrap_or(at))?;
            let is_large = |group: &Vec<Changed>| {
                let bytes = group.iter().map(|changed| changed.document.len());
                bytes.sum::<usize>() > OVERTAKE_BYTES_MAX
            };
            if held_to.is_some() && batch.groups.iter().any(is_large) {
                self.live_waits = true;
                return Ok(());
            }
            let offering = Offering {
                may_announce: self.may_announce(),
                ..Offering::live(&batch.groups)
            };
            let Some(draft) = self.offer(&offering, filling)? else {
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
        // No cursor goes before what it covers.
        if let Some(announcing) = &mut self.announcing {
            announcing.flush(&mut draft, filling);
        }
        for (alias, request) in self.requests.iter() {
            let Some(live) = self.live.get(&request.name) else {
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
}
