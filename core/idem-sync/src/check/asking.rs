//! The side that was away.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_model::{CollectionName, DeletedDay, Lane, PeerId, Timestamp, limits};
use idem_wire::{Check, Checked, Holdings, Items, Message};

use super::{scan_known, vouches};
use crate::{
    event::CloseReason,
    failure::Failure,
    replica::{Gone, Replica, ScopeState},
    sketch::{Item, Salt, Sketch},
    spent::Scans,
};

/// What this side knows of what the remote has forgotten.
#[derive(Debug)]
pub(crate) struct Asking {
    remote: PeerId,
    is_big_peer: bool,
    salt: Salt,
    /// The remote has forgotten tombstones that came there up to then.
    floor: Timestamp,
    /// Collections in which nothing was missed, with the floor of which that is known.
    clear: BTreeMap<CollectionName, Timestamp>,
    due: BTreeSet<CollectionName>,
    /// They are asked about one by one.
    open: Option<Box<Question>>,
    alias_last: u32,
    asked_at: Duration,
    /// What a floor that rises has cost since the remote had new leave.
    pub(crate) scans: Scans,
}

#[derive(Debug)]
struct Question {
    alias: u32,
    collection: CollectionName,
    /// As it was when the remote was asked.
    floor: Timestamp,
    /// Of which the remote may want more, with the number of symbols that it has.
    sketch: Option<(Sketch, u32)>,
    list: List,
    items: Vec<Item>,
    /// What is in doubt there as well.
    doubtful: Vec<Item>,
    gone: Gone,
    /// Which deletions were heard of there.
    days: Vec<DeletedDay>,
    /// Whether the list had no room for what was evicted.
    leaves_out_evicted: bool,
    /// Whether it is to be asked once more.
    is_outdated: bool,
}

/// The list of all items, which the remote may want.
#[derive(Debug)]
enum List {
    Unwanted,
    Due,
    Sent { items: Vec<Item>, sent: usize },
}

/// What the remote answered.
pub(crate) struct Finding {
    pub(crate) collection: CollectionName,
    floor: Timestamp,
    is_outdated: bool,
    /// What the remote knows nothing of, in order.
    pub(crate) items: Vec<Item>,
    /// What is in doubt there as well, in order.
    pub(crate) doubtful: Vec<Item>,
    /// What was evicted and counts as held was not asked about, because it was too much.
    pub(crate) leaves_out_evicted: bool,
    /// `None` if the remote cannot tell.
    pub(crate) gone: Option<Gone>,
    /// Which deletions were heard of there.
    pub(crate) days: Vec<DeletedDay>,
}

impl Asking {
    pub(crate) fn new(
        remote: PeerId,
        is_big_peer: bool,
        salt: Salt,
        floor: Timestamp,
        scans: Scans,
    ) -> Self {
        Self {
            remote,
            is_big_peer,
            salt,
            floor,
            clear: BTreeMap::new(),
            due: BTreeSet::new(),
            open: None,
            alias_last: Check::ALIAS_MIN,
            asked_at: Duration::ZERO,
            scans,
        }
    }

    // Input.

    /// Tombstones are gone at the remote since it said how many were. `settled` are collections in which
    /// all of them were told before; with `is_new` there may be some in any that were never told.
    pub(crate) fn raise_floor(
        &mut self,
        floor: Timestamp,
        is_new: bool,
        settled: impl IntoIterator<Item = CollectionName>,
    ) {
        let settled = settled.into_iter();
        let settled: Vec<_> = settled.filter(|name| self.is_clear(name)).collect();
        self.floor = self.floor.max(floor);
        for collection in settled {
            self.clear.insert(collection, self.floor);
        }
        if is_new {
            self.clear.retain(|_, known| *known > floor);
        }
    }

    /// Finds out which of these collections must be asked about. Those that do not sync with the remote
    /// are left out.
    pub(crate) fn examine<'a, R: Replica>(
        &mut self,
        replica: &R,
        collections: impl Iterator<Item = &'a CollectionName>,
    ) -> Result<(), Failure> {
        if self.floor == Timestamp::ZERO {
            return Ok(());
        }
        for collection in collections {
            if self.is_clear(collection) || self.due.contains(collection) {
                continue;
            }
            let is_open = |it: &Question| it.collection == *collection;
            let scope = replica.sync_scope(collection);
            if self.open.as_deref().is_some_and(is_open) || !scope.includes(self.is_big_peer) {
                continue;
            }
            let synced = replica.last_synced(self.remote, collection);
            let synced = synced.map_err(|error| Failure::store(&error))?;
            if synced.is_some_and(|synced| synced >= self.floor) {
                self.clear.insert(collection.clone(), self.floor);
            } else {
                self.due.insert(collection.clone());
            }
        }
        Ok(())
    }

    /// The remote wants to know more of what is held here: so many symbols, of which it gets no more than
    /// fit into a frame.
    pub(crate) fn ask_holdings(
        &mut self,
        now: Duration,
        alias: u32,
        (symbols, symbols_max): (u32, u32),
    ) -> Result<Option<Message<'static>>, Failure> {
        let question = self.question(alias)?;
        let Some((sketch, sent)) = &mut question.sketch else {
            return Err(unasked());
        };
        let mut answer = None;
        if symbols == 0 {
            question.sketch = None;
            question.list = List::Due;
        } else {
            if symbols > sketch.symbols() - *sent {
                let detail = "question for more symbols than a sketch has";
                return Err(Failure::new(CloseReason::Limit, detail));
            }
            let symbols = symbols.min(symbols_max);
            let block = sketch.block(*sent, symbols);
            *sent += symbols;
            answer = Some(Message::Symbols { alias, block });
        }
        self.asked_at = now;
        Ok(answer)
    }

    /// A part of the answer. Gives all of it with the last part; the collection stays unclear until
    /// [`Asking::settle`].
    pub(crate) fn take(
        &mut self,
        now: Duration,
        checked: Checked,
    ) -> Result<Option<Finding>, Failure> {
        let question = self.question(checked.alias)?;
        let items = match checked.is_doubtful {
            true => &mut question.doubtful,
            false => &mut question.items,
        };
        items.extend(checked.items.iter().map(|item| Item::from_bytes(*item)));
        question.gone.deleted.join(&checked.deleted);
        question.gone.evicted.join(&checked.evicted);
        if question.items.len() + question.doubtful.len() > limits::LISTED_ITEMS_MAX {
            let detail = "answer about too many documents";
            return Err(Failure::new(CloseReason::Limit, detail));
        }
        question.days.extend(checked.days);
        if question.days.len() > limits::DELETED_DAYS_MAX {
            let detail = "answer about too many days";
            return Err(Failure::new(CloseReason::Limit, detail));
        }
        self.asked_at = now;
        if checked.more {
            return Ok(None);
        }
        let mut question = self.open.take().expect("looked up above");
        if matches!(&question.list, List::Due)
            || matches!(&question.list, List::Sent { items, sent } if *sent < items.len())
        {
            return Err(unasked());
        }
        question.items.sort_unstable();
        question.doubtful.sort_unstable();
        Ok(Some(Finding {
            collection: question.collection,
            floor: question.floor,
            is_outdated: question.is_outdated,
            items: question.items,
            doubtful: question.doubtful,
            leaves_out_evicted: question.leaves_out_evicted,
            gone: (!checked.is_void).then_some(question.gone),
            days: question.days,
        }))
    }

    /// It is not known any more whether something was missed in a collection.
    pub(crate) fn forget_clear(&mut self, collection: &CollectionName) {
        self.clear.remove(collection);
        if let Some(open) = self.open.as_mut().filter(|it| it.collection == *collection) {
            // What is answered now may be of before.
            open.is_outdated = true;
        }
    }

    /// What was found has its consequences.
    pub(crate) fn settle(&mut self, finding: Finding) {
        if !finding.is_outdated {
            self.clear.insert(finding.collection, finding.floor);
        }
    }

    /// What was found has its consequences, and more has to be asked about.
    pub(crate) fn ask_again(&mut self, finding: Finding) {
        self.due.insert(finding.collection);
    }

    // Output.

    /// The next question, if there is one and none is open.
    pub(crate) fn poll_question<R: Replica>(
        &mut self,
        now: Duration,
        replica: &R,
    ) -> Result<Option<Message<'static>>, Failure> {
        if self.open.is_some() {
            return Ok(None);
        }
        let Some(collection) = self.due.pop_first() else {
            return Ok(None);
        };
        if !self.scans.may_go_on() {
            return Err(Failure::new(
                CloseReason::Limit,
                "the floor rises too often",
            ));
        }
        let mut sketch = Sketch::new(self.salt, limits::SKETCH_SYMBOLS_MAX);
        let mut few = Vec::new();
        self.scan(replica, &collection, &mut |item, _| {
            sketch.insert(item);
            if few.len() <= limits::SUBSCRIBE_ITEMS_MAX {
                few.push(item);
            }
        })?;
        self.scans.documents += 1 + sketch.items();
        self.alias_last += 1;
        let alias = self.alias_last;
        let (holdings, sketch) = if few.len() <= limits::SUBSCRIBE_ITEMS_MAX {
            few.sort_unstable();
            let items = few.iter().map(|item| item.to_bytes()).collect();
            (Holdings::Items(items), None)
        } else {
            let holdings = Holdings::Sketch {
                summary: sketch.summary(),
                block: sketch.block(1, limits::SUBSCRIBE_SYMBOLS),
            };
            (holdings, Some((sketch, 1 + limits::SUBSCRIBE_SYMBOLS)))
        };
        self.asked_at = now;
        self.open = Some(Box::new(Question {
            alias,
            collection: collection.clone(),
            floor: self.floor,
            sketch,
            list: List::Unwanted,
            items: Vec::new(),
            doubtful: Vec::new(),
            gone: Gone::default(),
            days: Vec::new(),
            leaves_out_evicted: false,
            is_outdated: false,
        }));
        Ok(Some(Message::Check(Check {
            alias,
            collection,
            holdings,
        })))
    }

    /// The next part of a list that the remote wants.
    pub(crate) fn poll_items<R: Replica>(
        &mut self,
        lane: Lane,
        replica: &R,
    ) -> Result<Option<Message<'static>>, Failure> {
        let Some(question) = &self.open else {
            return Ok(None);
        };
        if let List::Due = question.list {
            let (items, leaves_out_evicted) =
                self.list(replica, &question.collection, limits::LISTED_ITEMS_MAX)?;
            let question = self.open.as_mut().expect("looked up above");
            question.list = List::Sent { items, sent: 0 };
            question.leaves_out_evicted = leaves_out_evicted;
        }
        let question = self.open.as_mut().expect("looked up above");
        let List::Sent { items, sent } = &mut question.list else {
            return Ok(None);
        };
        if *sent == items.len() && *sent > 0 {
            return Ok(None);
        }
        let part = items[*sent..].iter().take(limits::ITEMS_PER_FRAME_MAX);
        let part: Vec<_> = part.map(|item| item.to_bytes()).collect();
        *sent += part.len();
        let more = *sent < items.len();
        if items.is_empty() {
            // All of them went since the sketch was made: the list is empty, and said once.
            question.list = List::Unwanted;
        }
        Ok(Some(Message::Items(Items {
            lane,
            alias: question.alias,
            more,
            is_void: false,
            items: part,
        })))
    }

    // Getters.

    /// Whether nothing may be sent yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.open.is_some() || !self.due.is_empty()
    }

    /// Whether nothing that the remote has forgotten was missed in a collection.
    pub(crate) fn is_clear(&self, collection: &CollectionName) -> bool {
        let is_known = |floor: &Timestamp| *floor >= self.floor;
        self.floor == Timestamp::ZERO || self.clear.get(collection).is_some_and(is_known)
    }

    /// The remote has forgotten tombstones that came there up to then.
    pub(crate) fn floor(&self) -> Timestamp {
        self.floor
    }

    /// Since when the remote owes an answer.
    pub(crate) fn asking_since(&self) -> Option<Duration> {
        self.open.as_ref().map(|_| self.asked_at)
    }

    /// All that is asked about, or without what was evicted if that is more than `items_max`, and whether
    /// it is without that.
    fn list<R: Replica>(
        &self,
        replica: &R,
        collection: &CollectionName,
        items_max: usize,
    ) -> Result<(Vec<Item>, bool), Failure> {
        for with_evicted in [true, false] {
            let mut items = Vec::new();
            self.scan(replica, collection, &mut |item, state| {
                // One more tells that it is too much.
                let is_meant = with_evicted || state != ScopeState::Evicted;
                if is_meant && items.len() <= items_max {
                    items.push(item);
                }
            })?;
            if items.len() <= items_max {
                return Ok((items, !with_evicted));
            }
        }
        let detail = "collection that is too large to be compared after so long";
        Err(Failure::new(CloseReason::Limit, detail))
    }

    /// Visits what is asked about: the documents of a collection, and those that were evicted and count
    /// as held. What is in quarantine is decided by a Big Peer only.
    fn scan<R: Replica>(
        &self,
        replica: &R,
        collection: &CollectionName,
        visit: &mut dyn FnMut(Item, ScopeState),
    ) -> Result<(), Failure> {
        scan_known(replica, self.salt, collection, &mut |item, held| {
            let is_decided = held.state == ScopeState::Quarantined && self.is_big_peer;
            if vouches(held.state) || is_decided {
                visit(item, held.state);
            }
            Ok(())
        })
    }

    fn question(&mut self, alias: u32) -> Result<&mut Question, Failure> {
        let question = self.open.as_deref_mut().filter(|it| it.alias == alias);
        question.ok_or_else(unasked)
    }
}

fn unasked() -> Failure {
    let detail = "answer to a check that was not asked for";
    Failure::new(CloseReason::Malformed, detail)
}

#[cfg(test)]
mod tests {
    use idem_model::{ActorId, DocId, DocumentKey, DocumentOp, InsertConflict, Object};

    use super::*;
    use crate::memory::MemoryReplica;

    #[test]
    fn a_list_that_is_too_long_is_without_what_was_evicted() {
        let collection = CollectionName::new("c").unwrap();
        let mut replica = MemoryReplica::new(ActorId([1; 16]), 1);
        let keys: Vec<DocumentKey> = (0..10)
            .map(|number| DocumentKey {
                collection: collection.clone(),
                id: DocId::from(format!("d{number}").as_str()),
            })
            .collect();
        for key in &keys {
            let insert = DocumentOp::Insert {
                fields: Object::new(),
                kinds: Vec::new(),
                conflict: InsertConflict::Fail,
            };
            replica.commit(&[(key.clone(), insert)]).unwrap();
        }
        let all = idem_query::parse("SELECT * FROM c").unwrap();
        replica.set_subscriptions([all.subscription(&Object::new()).unwrap()]);
        replica.evict_documents(&keys[..4]).unwrap();
        let (remote, salt) = (PeerId([2; 32]), Salt([0; 16]));
        let asking = Asking::new(remote, false, salt, Timestamp::ZERO, Scans::default());
        let len = |items_max| {
            let list = asking.list(&replica, &collection, items_max);
            list.ok()
                .map(|(items, is_without)| (items.len(), is_without))
        };
        assert_eq!(len(10), Some((10, false)));
        assert_eq!(len(9), Some((6, true)));
        assert_eq!(len(6), Some((6, true)));
        assert_eq!(len(5), None);
    }
}
