//! Finding what a subscriber lacks in what it tells of what it holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use idem_crdt::Document;
use idem_model::{CollectionName, DocumentKey, Lane, VersionVector, limits};
use idem_query::Selector;
use idem_wire::{Items, KeyedVersion, Message, SketchBlock, SketchSummary, SubscriptionId};

use super::{
    Comparing, Source,
    catch_up::{CatchUp, Lacking},
    mirrored::Mirrored,
};
use crate::{
    event::CloseReason,
    failure::Failure,
    holdings::{Visited, scan_documents},
    known::{KeyHash, Known},
    replica::{Replica, ScopeFilter},
    sketch::{Decoder, Difference, Item, KeyedHash, Sketch, Verdict, tag_of},
};

/// So many commits of a document are undone to find the version that the remote has.
const EARLIER_VERSIONS_MAX: usize = 16;

/// Of so many documents that is tried: each is read and decoded.
const EARLIER_LOOKUPS_MAX: usize = limits::KNOWN_VERSIONS_MAX / 8;

/// What a comparison needs of a subscription.
pub(super) struct Scope<'a, R> {
    /// The number that the remote gave.
    pub(super) alias: u32,
    pub(super) subscription: SubscriptionId,
    pub(super) selector: &'a Selector,
    /// The name under which its documents travel.
    pub(super) name: &'a CollectionName,
    pub(super) replica: &'a R,
    /// Where the live feed took over.
    pub(super) until: u64,
    /// Whether it is to the whole collection.
    pub(super) is_unfiltered: bool,
    /// Whether the remote may have evicted what it says to hold, so that no delta fits there.
    pub(super) has_evicted: bool,
    /// Whether this side is about to ask for the same, so that the comparison is to serve it too.
    pub(super) is_ours: bool,
}

/// A document of which the remote has another version.
struct Twin {
    key_hash: KeyedHash,
    key: DocumentKey,
    version: VersionVector,
}

/// What the items of a remote tell of a scope.
struct Theirs {
    /// Those that this side does not have, in order.
    items: Vec<Item>,
    /// Those among them that this side has after all.
    held: BTreeSet<Item>,
}

impl CatchUp {
    /// What the remote is to be asked so that this goes on.
    pub(super) fn question(&self, alias: u32) -> Option<Message<'static>> {
        let symbols = match self {
            Self::Sketch { decoder, .. } => match decoder.verdict() {
                Verdict::NeedMore(symbols) => *symbols,
                _ => return None,
            },
            Self::List { items } if items.is_empty() => 0,
            _ => return None,
        };
        Some(Message::AskHoldings { alias, symbols })
    }
}

impl Source {
    /// More symbols of a subscriber's sketch. Returns what it is to be asked next.
    pub(crate) fn take_symbols<R: Replica>(
        &mut self,
        alias: u32,
        block: &SketchBlock,
        comparing: &mut Comparing<'_, R>,
    ) -> Result<Option<Message<'static>>, Failure> {
        self.go_on(alias, comparing, |source, catch_up, scope, known| {
            let CatchUp::Sketch {
                mut decoder,
                commit,
            } = catch_up
            else {
                return Ok(catch_up);
            };
            if !source.may_compare() {
                return Ok(CatchUp::feed(0, scope.until));
            }
            source.push(&mut decoder, block)?;
            source.judged(decoder, commit, scope, known)
        })
    }

    /// More of the list of what a subscriber holds.
    pub(crate) fn take_items<R: Replica>(
        &mut self,
        list: &Items,
        comparing: &mut Comparing<'_, R>,
    ) -> Result<(), Failure> {
        self.go_on(list.alias, comparing, |source, catch_up, scope, known| {
            let CatchUp::List { mut items } = catch_up else {
                return Ok(catch_up);
            };
            items.extend(list.items.iter().map(|item| Item::from_bytes(*item)));
            if items.len() > limits::LISTED_ITEMS_MAX {
                return Err(Failure::new(CloseReason::Limit, "list of too many items"));
            }
            if list.is_void || !source.may_compare() {
                return Ok(CatchUp::feed(0, scope.until));
            }
            if list.more {
                return Ok(CatchUp::List { items });
            }
            source.compare_list(&sorted(items), scope, known)
        })?;
        Ok(())
    }

    /// Whether the remote may have documents scanned and sketches solved, or has had enough for now.
    pub(super) fn may_compare(&self) -> bool {
        self.scans.may_go_on()
    }

    /// Takes symbols of the remote in.
    fn push(&mut self, decoder: &mut Decoder, block: &SketchBlock) -> Result<(), Failure> {
        self.scans.symbols += block.symbols.len() as u64;
        let pushed = decoder.push(block);
        pushed.map_err(|error| Failure::new(CloseReason::Malformed, &error.to_string()))?;
        Ok(())
    }

    /// Runs `step` on the catch-up of a subscription, if there is such a one. Returns what the remote
    /// is to be asked after it.
    pub(super) fn go_on<R: Replica>(
        &mut self,
        alias: u32,
        comparing: &mut Comparing<'_, R>,
        step: impl FnOnce(&mut Self, CatchUp, &Scope<'_, R>, &mut Known) -> Result<CatchUp, Failure>,
    ) -> Result<Option<Message<'static>>, Failure> {
        // It may have been given back meanwhile.
        let Some(request) = self.requests.get_mut(&alias) else {
            return Ok(None);
        };
        let Some(catch_up) = request.catch_up.take() else {
            return Ok(None);
        };
        let selector = request.selector.clone();
        let subscription = request.subscription;
        let name = request.name.clone();
        let live = self.live.get(&name);
        let scope = Scope {
            alias,
            subscription,
            selector: &selector,
            name: &name,
            replica: comparing.replica,
            until: live.map_or(0, |live| live.at),
            is_unfiltered: request.is_unfiltered,
            has_evicted: request.has_evicted,
            is_ours: request.is_unfiltered && comparing.ours.contains(&subscription),
        };
        let next = step(self, catch_up, &scope, comparing.known)?;
        let question = next.question(alias);
        let request = self.request_of(alias);
        request.asked_at = comparing.now;
        request.catch_up = Some(next);
        Ok(question)
    }

    pub(super) fn compare_sketch<R: Replica>(
        &mut self,
        summary: &SketchSummary,
        block: &SketchBlock,
        scope: &Scope<'_, R>,
        known: &mut Known,
    ) -> Result<CatchUp, Failure> {
        let mut local = Sketch::new(self.salt, limits::SKETCH_SYMBOLS_MAX);
        let commit = self.scan(scope, ScopeFilter::Selected, |document| {
            local.insert(document.item()?);
            Ok(ControlFlow::Continue(()))
        })?;
        if scope.is_unfiltered && local.items() == 0 {
            // There is nothing to send, and what is lacking here is asked for in fewer bytes.
            return Ok(CatchUp::Lacking(Box::new(Lacking::of(commit))));
        }
        let mut decoder = Decoder::new(local, summary);
        self.push(&mut decoder, block)?;
        self.judged(Box::new(decoder), commit, scope, known)
    }

    fn judged<R: Replica>(
        &mut self,
        decoder: Box<Decoder>,
        commit: u64,
        scope: &Scope<'_, R>,
        known: &mut Known,
    ) -> Result<CatchUp, Failure> {
        match decoder.verdict() {
            Verdict::NeedMore(_) => Ok(CatchUp::Sketch { decoder, commit }),
            Verdict::Hopeless(_) => Ok(CatchUp::List { items: Vec::new() }),
            Verdict::Complete(difference) => self.lacking(difference, commit, scope, known),
        }
    }

    /// Compares the sorted list of a subscriber's items with what is here.
    pub(super) fn compare_list<R: Replica>(
        &mut self,
        items: &[Item],
        scope: &Scope<'_, R>,
        known: &mut Known,
    ) -> Result<CatchUp, Failure> {
        let mut is_common = vec![false; items.len()];
        let mut local_only = Vec::new();
        let commit = self.scan(scope, ScopeFilter::Selected, |document| {
            let item = document.item()?;
            match items.binary_search(&item) {
                Ok(index) => is_common[index] = true,
                Err(_) => local_only.push(item),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let remote_only = items.iter().zip(is_common).filter(|(_, it)| !it);
        let difference = Difference {
            local_only,
            remote_only: remote_only.map(|(item, _)| *item).collect(),
        };
        self.lacking(&difference, commit, scope, known)
    }

    /// Finds the documents of a difference. Items are only what the remote claims: what is sent is
    /// looked up here, and only what it may have.
    fn lacking<R: Replica>(
        &mut self,
        difference: &Difference,
        commit: u64,
        scope: &Scope<'_, R>,
        known: &mut Known,
    ) -> Result<CatchUp, Failure> {
        let mut lacking = Lacking::of(commit);
        let both = difference.local_only.iter().chain(&difference.remote_only);
        let tags = sorted(both.map(|item| item.tag).collect());
        let mut theirs = Theirs {
            items: sorted(difference.remote_only.clone()),
            held: BTreeSet::new(),
        };
        let mut twins: Vec<Twin> = Vec::new();
        let may_remember = tags.len() <= limits::KNOWN_VERSIONS_MAX / 8;
        if !may_remember {
            // What was believed to be held there may be among it, and would be left out.
            known.clear();
        }
        let mut visit = |document: &Visited<'_>| {
            let tag = document.tag();
            if tags.binary_search(&tag).is_err() {
                return Ok(ControlFlow::Continue(()));
            }
            let item = document.item()?;
            if theirs.items.binary_search(&item).is_ok() {
                theirs.held.insert(item);
                return Ok(ControlFlow::Continue(()));
            }
            let key = document.key()?;
            if !with_tag(&theirs.items, tag).is_empty() {
                twins.push(Twin {
                    key_hash: document.key_hash,
                    key,
                    version: document.version()?,
                });
            } else {
                if may_remember {
                    known.compared(KeyHash::of(&key), None);
                }
                lacking.keys.push(key);
            }
            let found = lacking.keys.len() + twins.len();
            Ok(if found > limits::LACKING_DOCUMENTS_MAX {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        };
        if !tags.is_empty() {
            self.scan(scope, ScopeFilter::All, &mut visit)?;
        }
        if lacking.keys.len() + twins.len() > limits::LACKING_DOCUMENTS_MAX {
            return Ok(CatchUp::feed(0, scope.until));
        }
        let lookups = if may_remember { EARLIER_LOOKUPS_MAX } else { 0 };
        self.add_twins(twins, &theirs, &mut lacking, scope, (known, lookups))?;
        Ok(CatchUp::Lacking(Box::new(lacking)))
    }

    /// Adds documents of which the remote holds another version. Where that is an earlier one, this
    /// side has the later one; otherwise the remote is told which version is here, if it is told anything.
    fn add_twins<R: Replica>(
        &mut self,
        twins: Vec<Twin>,
        theirs: &Theirs,
        lacking: &mut Lacking,
        scope: &Scope<'_, R>,
        (known, lookups): (&mut Known, usize),
    ) -> Result<(), Failure> {
        let is_ours = scope.is_ours && theirs.items.len() <= limits::LACKING_DOCUMENTS_MAX;
        let lacked = theirs.items.iter().filter(|it| !theirs.held.contains(it));
        let mut lacked: BTreeSet<[u8; 4]> = lacked.map(|item| item.tag).collect();
        let mut sharing: BTreeMap<[u8; 4], u32> = BTreeMap::new();
        for twin in &twins {
            *sharing.entry(tag_of(twin.key_hash)).or_insert(0) += 1;
        }
        let mut versions = Vec::new();
        let mut asked = BTreeMap::new();
        for (number, twin) in twins.into_iter().enumerate() {
            let tag = tag_of(twin.key_hash);
            let hash = KeyHash::of(&twin.key);
            // An item may be of what was evicted: who was sent a delta to that has said so since.
            let held = known.version(hash, Lane::Bulk);
            let is_evicted = held.is_some_and(|held| held.is_empty());
            // Tags are short: where two documents share one, nothing is concluded.
            let item = match with_tag(&theirs.items, tag) {
                [item] if sharing[&tag] == 1 => Some(*item),
                _ => None,
            };
            let before = match item.filter(|_| number < lookups) {
                Some(item) => self.earlier_version(&twin, item, scope.replica)?,
                None => None,
            };
            let is_tellable = is_ours
                && twin.version.len() <= limits::COMPARED_ACTORS_MAX
                && versions.len() < limits::COMPARED_VERSIONS_MAX;
            if let Some(before) = before {
                if !scope.has_evicted && !is_evicted {
                    known.compared(hash, Some(&before));
                }
                lacked.remove(&tag);
            } else if item.is_some() && is_tellable {
                lacked.remove(&tag);
                versions.push(KeyedVersion {
                    key: twin.key_hash,
                    version: twin.version,
                });
                asked.insert(twin.key_hash, twin.key);
                continue;
            }
            lacking.twins.insert(hash);
            lacking.keys.push(twin.key);
        }
        if is_ours {
            let lacked: Vec<[u8; 4]> = lacked.into_iter().collect();
            lacking.mirrored = Mirrored::of(scope.alias, &lacked, versions, asked);
            self.mirrored.push((scope.subscription, scope.alias));
        }
        Ok(())
    }

    /// The version that the remote has of a document, if it is one that this side had before.
    fn earlier_version<R: Replica>(
        &self,
        twin: &Twin,
        theirs: Item,
        replica: &R,
    ) -> Result<Option<VersionVector>, Failure> {
        let held = replica.document(&self.projections.stored_key(&twin.key));
        let Some(held) = held.map_err(|error| Failure::store(&error))? else {
            return Ok(None);
        };
        let document = Document::decode(&held).map_err(|error| Failure::stored_bytes(&error))?;
        let mut versions = document.earlier_versions(EARLIER_VERSIONS_MAX).into_iter();
        Ok(versions.find(|it| Item::at(&self.salt, twin.key_hash, it) == theirs))
    }

    /// Visits what is known here, or with [`ScopeFilter::All`] what can be sent.
    pub(super) fn scan<R: Replica>(
        &mut self,
        scope: &Scope<'_, R>,
        filter: ScopeFilter,
        mut visit: impl FnMut(&Visited<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<u64, Failure> {
        let scanned = &mut self.scans.documents;
        scan_documents(
            scope.replica,
            self.salt,
            scope.subscription,
            (scope.selector, scope.name),
            filter,
            &mut |document| {
                *scanned += 1;
                // What was evicted here can be compared, but not sent.
                if filter == ScopeFilter::All && !document.is_there() {
                    return Ok(ControlFlow::Continue(()));
                }
                visit(document)
            },
        )
    }
}

/// The items of one document, or of several whose hashes begin alike.
fn with_tag(sorted: &[Item], tag: [u8; 4]) -> &[Item] {
    let rest = &sorted[sorted.partition_point(|item| item.tag < tag)..];
    &rest[..rest.partition_point(|item| item.tag == tag)]
}

pub(super) fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items
}
