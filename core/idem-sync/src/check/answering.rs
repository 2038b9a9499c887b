//! The side that has forgotten tombstones.

use std::{collections::VecDeque, time::Duration};

use idem_model::{CollectionName, DeletedDay, Dot, Lane, VersionVector, limits};
use idem_wire::{Check, Checked, Holdings, Items, Message, SketchBlock};

use super::{scan_known, vouches};
use crate::{
    event::CloseReason,
    failure::Failure,
    replica::{Gone, Replica, ScopeState},
    sketch::{Decoder, Item, Salt, Sketch, Verdict},
    spent::Scans,
};

/// Items in one part of an answer, of 12 bytes each, actors of each version, of 26 bytes at most, and days,
/// of 21 bytes at most: together below the smallest frame limit of 16 KiB.
const PART_ITEMS: usize = 600;
const PART_ACTORS: usize = 100;
const PART_DAYS: usize = 160;

/// What is known here of a document of the remote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Knowledge {
    Nothing,
    /// It is in doubt here as well.
    Doubt,
    /// It is here or counts as held, and who deletes it tells this side.
    Known,
}

/// What the remote asks about.
#[derive(Debug)]
pub(crate) struct Answering {
    salt: Salt,
    /// What comparing has cost since the remote had new leave.
    pub(crate) scans: Scans,
    alias_last: u32,
    open: Option<Open>,
    /// Parts of an answer that are to be sent.
    parts: VecDeque<Checked>,
}

#[derive(Debug)]
struct Open {
    alias: u32,
    collection: CollectionName,
    compared: Compared,
    /// When the remote was last asked for more.
    asked_at: Duration,
}

#[derive(Debug)]
enum Compared {
    /// The remote is asked for symbols until the difference is known.
    Sketch(Box<Decoder>),
    /// The remote is asked for the list of all it holds.
    List(Vec<Item>),
}

impl Answering {
    pub(crate) fn new(salt: Salt, scans: Scans) -> Self {
        Self {
            salt,
            scans,
            alias_last: 0,
            open: None,
            parts: VecDeque::new(),
        }
    }

    // Input.

    /// The remote asks. Returns what it is to be asked in turn. `is_open` says whether the collection
    /// syncs with it.
    pub(crate) fn begin<R: Replica>(
        &mut self,
        now: Duration,
        (check, is_open): (Check, bool),
        replica: &R,
    ) -> Result<Option<Message<'static>>, Failure> {
        if check.alias <= self.alias_last || self.open.is_some() || !self.parts.is_empty() {
            let detail = "check before the one before was answered";
            return Err(Failure::new(CloseReason::Malformed, detail));
        }
        if !self.scans.may_go_on() {
            return Err(Failure::new(CloseReason::Limit, "too many checks"));
        }
        self.alias_last = check.alias;
        if !is_open {
            // Nothing is told of a collection that does not sync with the remote.
            self.answer(check.alias, [&[], &[]], (None, &[]));
            return Ok(None);
        }
        let gone = gone_of(replica, &check.collection)?;
        if gone.as_ref().is_some_and(|gone| gone.deleted.is_empty()) {
            self.answer(check.alias, [&[], &[]], (gone, &[]));
            return Ok(None);
        }
        match &check.holdings {
            Holdings::Items(items) => {
                let items = items.iter().map(|item| Item::from_bytes(*item)).collect();
                self.compare_list(check.alias, &check.collection, items, replica)?;
                Ok(None)
            }
            Holdings::Sketch { summary, block } => {
                let mut local = Sketch::new(self.salt, limits::SKETCH_SYMBOLS_MAX);
                self.scan_vouched(replica, &check.collection, |item| local.insert(item))?;
                let decoder = Box::new(Decoder::new(local, summary));
                self.open = Some(Open {
                    alias: check.alias,
                    collection: check.collection,
                    compared: Compared::Sketch(decoder),
                    asked_at: now,
                });
                self.take_symbols(now, check.alias, block, replica)
            }
            _ => Err(Failure::new(CloseReason::Malformed, "check of nothing")),
        }
    }

    /// More symbols of the remote's sketch. Returns what it is to be asked next.
    pub(crate) fn take_symbols<R: Replica>(
        &mut self,
        now: Duration,
        alias: u32,
        block: &SketchBlock,
        replica: &R,
    ) -> Result<Option<Message<'static>>, Failure> {
        let Some(Open {
            alias: open,
            collection,
            compared: Compared::Sketch(mut decoder),
            ..
        }) = self.open.take()
        else {
            return Err(unasked());
        };
        if open != alias {
            return Err(unasked());
        }
        self.scans.symbols += block.symbols.len() as u64;
        decoder
            .push(block)
            .map_err(|error| Failure::new(CloseReason::Malformed, &error.to_string()))?;
        let (compared, symbols) = match decoder.verdict() {
            Verdict::NeedMore(symbols) => {
                let symbols = *symbols;
                (Compared::Sketch(decoder), symbols)
            }
            Verdict::Hopeless(_) => (Compared::List(Vec::new()), 0),
            Verdict::Complete(difference) => {
                let items = difference.remote_only.clone();
                self.find(alias, &collection, items, replica)?;
                return Ok(None);
            }
        };
        self.open = Some(Open {
            alias,
            collection,
            compared,
            asked_at: now,
        });
        Ok(Some(Message::AskHoldings { alias, symbols }))
    }

    /// More of the list of what the remote holds.
    pub(crate) fn take_items<R: Replica>(
        &mut self,
        now: Duration,
        list: &Items,
        replica: &R,
    ) -> Result<(), Failure> {
        let Some(Open {
            alias,
            collection,
            compared: Compared::List(mut items),
            ..
        }) = self.open.take()
        else {
            return Err(unasked());
        };
        if alias != list.alias || list.is_void {
            return Err(unasked());
        }
        items.extend(list.items.iter().map(|item| Item::from_bytes(*item)));
        if items.len() > limits::LISTED_ITEMS_MAX {
            return Err(Failure::new(CloseReason::Limit, "list of too many items"));
        }
        if list.more {
            self.open = Some(Open {
                alias,
                collection,
                compared: Compared::List(items),
                asked_at: now,
            });
            return Ok(());
        }
        self.compare_list(alias, &collection, items, replica)
    }

    /// Since when the remote owes more of what it holds.
    pub(crate) fn asking_since(&self) -> Option<Duration> {
        self.open.as_ref().map(|open| open.asked_at)
    }

    // Output.

    /// The next part of an answer.
    pub(crate) fn poll_checked(&mut self, lane: Lane) -> Option<Message<'static>> {
        let mut part = self.parts.pop_front()?;
        part.lane = lane;
        Some(Message::Checked(part))
    }

    // Comparing.

    fn compare_list<R: Replica>(
        &mut self,
        alias: u32,
        collection: &CollectionName,
        mut items: Vec<Item>,
        replica: &R,
    ) -> Result<(), Failure> {
        if items.is_empty() {
            // It wants to know what is gone, for others to ask there.
            return self.find(alias, collection, items, replica);
        }
        items.sort_unstable();
        let mut is_common = vec![false; items.len()];
        self.scan_vouched(replica, collection, |item| {
            if let Ok(place) = items.binary_search(&item) {
                is_common[place] = true;
            }
        })?;
        let mut is_common = is_common.into_iter();
        items.retain(|_| !is_common.next().unwrap_or(false));
        self.find(alias, collection, items, replica)
    }

    /// Leaves out the items of documents that are here or count as held, and answers. A tombstone tells
    /// nothing: it may be of another life than one that was deleted before, which is forgotten.
    fn find<R: Replica>(
        &mut self,
        alias: u32,
        collection: &CollectionName,
        mut items: Vec<Item>,
        replica: &R,
    ) -> Result<(), Failure> {
        let mut found = [Vec::new(), Vec::new()];
        if !items.is_empty() {
            items.sort_unstable();
            let mut known = vec![Knowledge::Nothing; items.len()];
            let scanned = &mut self.scans.documents;
            scan_known(replica, self.salt, collection, &mut |item, held| {
                *scanned += 1;
                let knowledge = match held.state {
                    ScopeState::Tombstone => return Ok(()),
                    ScopeState::Quarantined | ScopeState::Doubtful => Knowledge::Doubt,
                    ScopeState::Live | ScopeState::Evicted => Knowledge::Known,
                };
                let place = items.partition_point(|it| it.tag < item.tag);
                let same = items[place..].iter().take_while(|it| it.tag == item.tag);
                for known in known[place..].iter_mut().take(same.count()) {
                    *known = (*known).max(knowledge);
                }
                Ok(())
            })?;
            for (item, knowledge) in items.into_iter().zip(known) {
                match knowledge {
                    Knowledge::Nothing => found[0].push(item),
                    Knowledge::Doubt => found[1].push(item),
                    Knowledge::Known => {}
                }
            }
        }
        // Read last: it covers whatever went before it was looked for.
        let gone = gone_of(replica, collection)?;
        let days = replica.deleted_days(collection);
        let days = days.map_err(|error| Failure::store(&error))?;
        self.answer(alias, [&found[0], &found[1]], (gone, &days));
        Ok(())
    }

    /// Answers with what nothing is known of, and with what is in doubt here.
    fn answer(
        &mut self,
        alias: u32,
        [unknown, doubtful]: [&[Item]; 2],
        (gone, days): (Option<Gone>, &[DeletedDay]),
    ) {
        let is_void = gone.is_none();
        let gone = gone.unwrap_or_default();
        let [deleted, evicted] =
            [&gone.deleted, &gone.evicted].map(|version| version.iter().collect::<Vec<Dot>>());
        let chunks = [(unknown, false), (doubtful, true)];
        let chunks = chunks.into_iter().flat_map(|(items, is_doubtful)| {
            let chunks = items.chunks(PART_ITEMS);
            chunks.map(move |items| (items, is_doubtful))
        });
        let chunks: Vec<(&[Item], bool)> = chunks.collect();
        let parts = deleted.len().max(evicted.len()).div_ceil(PART_ACTORS);
        let days: Vec<&[DeletedDay]> = days.chunks(PART_DAYS).collect();
        let parts = parts.max(chunks.len()).max(days.len()).max(1);
        for number in 0..parts {
            let (items, is_doubtful) = chunks.get(number).copied().unwrap_or_default();
            self.parts.push_back(Checked {
                lane: Lane::Bulk,
                alias,
                more: number + 1 < parts,
                is_void,
                is_doubtful,
                items: items.iter().map(|item| item.to_bytes()).collect(),
                deleted: version_of(part(&deleted, number)),
                evicted: version_of(part(&evicted, number)),
                days: days.get(number).copied().unwrap_or_default().to_vec(),
            });
        }
    }

    /// Visits what this side vouches for, in the version that is here.
    fn scan_vouched<R: Replica>(
        &mut self,
        replica: &R,
        collection: &CollectionName,
        mut visit: impl FnMut(Item),
    ) -> Result<(), Failure> {
        let scanned = &mut self.scans.documents;
        scan_known(replica, self.salt, collection, &mut |item, held| {
            *scanned += 1;
            if vouches(held.state) {
                visit(item);
            }
            Ok(())
        })
    }
}

fn gone_of<R: Replica>(replica: &R, collection: &CollectionName) -> Result<Option<Gone>, Failure> {
    let gone = replica.gone(collection);
    gone.map_err(|error| Failure::store(&error))
}

/// The actors of one part.
fn part(all: &[Dot], number: usize) -> &[Dot] {
    all.chunks(PART_ACTORS).nth(number).unwrap_or_default()
}

fn version_of(dots: &[Dot]) -> VersionVector {
    dots.iter().copied().collect()
}

fn unasked() -> Failure {
    let detail = "part of a check that was not asked for";
    Failure::new(CloseReason::Malformed, detail)
}
