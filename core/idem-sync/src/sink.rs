//! What this peer receives: its subscriptions on the link in use, and the batches for them.

mod asking;
mod batch;
mod heard;
mod hearsay;
mod scopes;
mod taking;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_model::{ActorId, CollectionName, DocumentKey, Lane, PeerId, Timestamp, VersionVector};
use idem_wire::{Announced, AnnouncedItem, Message, SubscriptionId};

pub(crate) use heard::Heard;
use scopes::Scopes;

use crate::{
    event::{CloseReason, Event},
    failure::Failure,
    few::Few,
    known::Known,
    mirrors::Mirrors,
    replica::{Cursor, Replica},
    session::SessionStats,
    sketch::{Item, Salt, Sketch},
    spent::Restarts,
    testimony::{Told, answers},
    untaken::Untaken,
    wanted::Wanted,
};

/// What this peer receives over the link in use.
#[derive(Debug)]
pub(crate) struct Sink {
    peer: PeerId,
    /// The life of the remote store, in which its cursors count.
    actor: ActorId,
    /// Whether a subscription has caught up since that was last looked at.
    has_news: bool,
    alias_last: u32,
    aliases: Few<u32, SubscriptionId>,
    inbound: Few<SubscriptionId, Inbound>,
    /// Subscriptions that are to be asked for, or asked for again.
    due: Few<SubscriptionId, ()>,
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
    mirrored: Few<SubscriptionId, u32>,
    /// Subscriptions asked for in this way, of which the remote may want the list.
    listable: BTreeSet<u32>,
    /// Numbers that were offered for subscriptions which nobody wants any more.
    given_back: Vec<u32>,
    /// What does not sync with the remote.
    scopes: Scopes,
    /// What the remote announced, once it did.
    pub(crate) heard: Option<Box<Heard>>,
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
    /// The lane of the batch, and its number there.
    pub(crate) lane: Lane,
    pub(crate) batch: u64,
    /// How often the remote was told to start again, over all links.
    pub(crate) rewinds: &'a mut Restarts,
    pub(crate) replica: &'a mut R,
    pub(crate) known: &'a mut Known,
    pub(crate) untaken: &'a mut Untaken,
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
    /// Whether it did nothing but announce, so that nobody waits for its acknowledgement.
    pub(crate) is_hearsay: bool,
    /// What it announced.
    pub(crate) announced: Vec<AnnouncedItem>,
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
            aliases: Few::default(),
            inbound: Few::default(),
            due: wanted.ids().map(|id| (id, ())).collect(),
            is_frozen: false,
            rewinds: 0,
            restart_due: false,
            awaits_resumption: offer.is_some(),
            salt,
            sketches: BTreeMap::new(),
            lists_due: VecDeque::new(),
            list: None,
            mirrors: Mirrors::default(),
            mirrored: Few::default(),
            listable: BTreeSet::new(),
            given_back: Vec::new(),
            scopes: Scopes::new(is_big_peer),
            heard: None,
        };
        for (subscription, stored) in offer.iter().flat_map(|offer| &offer.cursors) {
            sink.alias_last += 1;
            let alias = sink.alias_last;
            if sink.due.remove(subscription).is_none() {
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
        for (subscription, inbound) in self.inbound.iter_mut() {
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
            self.due.insert(subscription, ());
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
        self.due.insert(subscription, ());
    }

    /// Whether the remote is to be told to start again, before it hears anything else: an acknowledgement
    /// would tell it that what is left out meanwhile is held here.
    pub(crate) fn take_restart(&mut self) -> bool {
        std::mem::take(&mut self.restart_due)
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
}
