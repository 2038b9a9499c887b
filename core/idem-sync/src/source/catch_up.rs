//! How a subscriber gets what was there when it subscribed: from a position of the feed, or what a
//! comparison of both sides shows to be lacking.

use std::{collections::BTreeSet, ops::ControlFlow};

use idem_model::{DocumentKey, Lane, VersionVector, limits};
use idem_query::Selector;
use idem_wire::{
    Accept, CatchUpTier, Holdings, Items, Message, SketchBlock, SketchSummary, Subscribe,
    SubscriptionId,
};

use super::{ChangeBatch, Changed, Comparing, Filling, Live, Request, Source, read};
use crate::{
    event::CloseReason,
    failure::Failure,
    holdings::{is_there, scan_items},
    known::{KeyHash, Known},
    replica::{Replica, ScopeFilter},
    sketch::{Decoder, Difference, Item, Sketch, Verdict},
};

/// How a subscription gets what was there when it started.
#[derive(Debug)]
pub(super) enum CatchUp {
    /// The change feed from `at` to `until`, where the live feed took over.
    Feed {
        at: u64,
        until: u64,
        /// The durable commit at which nothing more could be read.
        blocked_at: Option<u64>,
    },
    /// The remote is asked for symbols until the difference is known.
    Sketch {
        decoder: Box<Decoder>,
        /// Of the snapshot that is compared.
        commit: u64,
    },
    /// The remote is asked for the list of all it holds.
    List { items: Vec<Item> },
    /// It is known what the remote lacks.
    Lacking(Lacking),
}

/// What a remote lacks of a snapshot.
#[derive(Debug)]
pub(super) struct Lacking {
    keys: Vec<DocumentKey>,
    /// How many of them were queued.
    at: usize,
    /// Documents of which the remote holds another version, so that it gets ours though it may not
    /// match any more.
    twins: BTreeSet<KeyHash>,
    /// Of the snapshot.
    commit: u64,
    /// The durable commit at which nothing more could be read.
    blocked_at: Option<u64>,
}

/// What a comparison needs of a subscription.
struct Scope<'a, R> {
    subscription: SubscriptionId,
    selector: &'a Selector,
    replica: &'a R,
    /// Where the live feed took over.
    until: u64,
}

impl CatchUp {
    fn feed(at: u64, until: u64) -> Self {
        Self::Feed {
            at,
            until,
            blocked_at: None,
        }
    }

    /// Whether the remote was asked for more of what it holds.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self, Self::Sketch { .. } | Self::List { .. })
    }

    /// Whether there may be something to send.
    fn is_ready(&self, durable: u64) -> bool {
        match self {
            Self::Feed { blocked_at, .. } => *blocked_at != Some(durable),
            Self::Lacking(lacking) => lacking.blocked_at != Some(durable),
            Self::Sketch { .. } | Self::List { .. } => false,
        }
    }

    /// The remote certainly holds everything up to this commit.
    pub(super) fn held_to(&self) -> u64 {
        match self {
            Self::Feed { at, .. } => *at,
            _ => 0,
        }
    }
}

impl Source {
    /// Starts a subscription. Returns what the remote is to be told.
    pub(super) fn start<R: Replica>(
        &mut self,
        subscribe: &Subscribe,
        selector: Selector,
        comparing: &mut Comparing<'_, R>,
    ) -> Result<Vec<Message<'static>>, Failure> {
        let Comparing {
            now,
            replica,
            known,
        } = comparing;
        let (now, replica) = (*now, *replica);
        let durable = replica.durable_commit();
        let live = self.live.entry(selector.collection().clone());
        let live = live.or_insert(Live {
            at: durable,
            told: durable,
            rows_untold: 0,
        });
        let scope = Scope {
            subscription: subscribe.subscription,
            selector: &selector,
            replica,
            until: live.at,
        };
        let mut from = 0;
        let mut question = None;
        let (tier, catch_up) = match &subscribe.holdings {
            // A position of another life, or of a future that this store lost, means nothing.
            Holdings::Resume(resume)
                if resume.actor == replica.actor() && resume.commit <= durable =>
            {
                from = resume.commit;
                (CatchUpTier::Resume, CatchUp::feed(from, scope.until))
            }
            Holdings::Items(items) if self.may_compare() => {
                let items = sorted(items.iter().map(|item| Item::from_bytes(*item)).collect());
                let catch_up = self.compare_list(&items, &scope, known)?;
                (CatchUpTier::Difference, catch_up)
            }
            Holdings::Sketch { summary, block } if self.may_compare() => {
                let catch_up = self.compare_sketch(summary, block, &scope, known)?;
                question = catch_up.question(subscribe.alias);
                (CatchUpTier::Difference, catch_up)
            }
            _ => (CatchUpTier::Stream, CatchUp::feed(0, scope.until)),
        };
        self.requests.insert(
            subscribe.alias,
            Request {
                subscription: subscribe.subscription,
                is_unfiltered: !selector.canonical().contains("WHERE"),
                selector,
                priority: subscribe.priority,
                held_to: from,
                catch_up: Some(catch_up),
                asked_at: now,
            },
        );
        let accept = Message::Accept(Accept {
            alias: subscribe.alias,
            tier,
            from,
        });
        Ok([accept].into_iter().chain(question).collect())
    }

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

    /// The remote has new leave to have documents scanned and sketches solved.
    pub(crate) fn allow_scans(&mut self) {
        self.scanned = 0;
        self.symbols = 0;
    }

    /// Queues the next part of a catch-up, if one is under way.
    pub(crate) fn fill_bulk<R: Replica>(
        &mut self,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        let durable = filling.replica.durable_commit();
        if self.is_asking(Lane::Bulk) {
            return Ok(());
        }
        let ready = |(_, request): &(&u32, &mut Request)| {
            let catch_up = request.catch_up.as_ref();
            catch_up.is_some_and(|it| it.is_ready(durable))
        };
        let held_to = self.caught_up_to();
        let next = self.requests.iter_mut().filter(ready);
        let Some((&alias, request)) = next.min_by_key(|(alias, it)| (it.priority, **alias)) else {
            return Ok(());
        };
        match request.catch_up.take() {
            Some(CatchUp::Feed { at, until, .. }) => {
                let read_from = (at, held_to.unwrap_or(at));
                self.fill_from_feed(alias, read_from, until, filling)
            }
            Some(CatchUp::Lacking(lacking)) => self.fill_lacking(alias, lacking, filling),
            other => {
                request.catch_up = other;
                Ok(())
            }
        }
    }

    fn fill_from_feed<R: Replica>(
        &mut self,
        alias: u32,
        (at, held_to): (u64, u64),
        until: u64,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        let durable = filling.replica.durable_commit();
        let name = self.request_of(alias).selector.collection().clone();
        let batch = if at < until {
            // What is under way on this lane arrives before what follows, so only positions count.
            read(filling.replica, &name, at, held_to)?
        } else {
            ChangeBatch {
                up_to: at,
                ..ChangeBatch::default()
            }
        };
        let batch_first = filling.outlet.next_batch();
        let no_twins = BTreeSet::new();
        let Some(mut draft) = self.offer(Lane::Bulk, &batch.groups, &no_twins, filling)? else {
            self.request_of(alias).catch_up = Some(CatchUp::feed(at, until));
            return Ok(());
        };
        let is_done = batch.up_to >= until;
        let is_blocked = !is_done && batch.up_to <= at;
        self.request_of(alias).catch_up = (!is_done).then_some(CatchUp::Feed {
            at: batch.up_to.max(at),
            until,
            blocked_at: is_blocked.then_some(durable),
        });
        if !is_blocked {
            draft.writer.cursor(alias, batch.up_to, is_done);
        }
        draft.finish(filling.outlet);
        let batches = batch_first..filling.outlet.next_batch();
        self.unsettled.extend(batches.map(|batch| (batch, at)));
        Ok(())
    }

    fn fill_lacking<R: Replica>(
        &mut self,
        alias: u32,
        mut lacking: Lacking,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        let durable = filling.replica.durable_commit();
        let rest = &lacking.keys[lacking.at..];
        let bytes = limits::TRANSFER_BATCH_BYTES;
        let (groups, consumed): (Vec<Vec<Changed>>, usize) = if rest.is_empty() {
            (Vec::new(), 0)
        } else {
            let read = filling
                .replica
                .changed_documents(rest, lacking.commit, bytes);
            read.map_err(|error| Failure::store(&error))?
        };
        let batch_first = filling.outlet.next_batch();
        let Some(mut draft) = self.offer(Lane::Bulk, &groups, &lacking.twins, filling)? else {
            self.request_of(alias).catch_up = Some(CatchUp::Lacking(lacking));
            return Ok(());
        };
        lacking.at += consumed;
        if lacking.at == lacking.keys.len() {
            draft.writer.cursor(alias, lacking.commit, true);
        } else {
            lacking.blocked_at = (consumed == 0).then_some(durable);
            self.request_of(alias).catch_up = Some(CatchUp::Lacking(lacking));
        }
        draft.finish(filling.outlet);
        let batches = batch_first..filling.outlet.next_batch();
        self.unsettled.extend(batches.map(|batch| (batch, 0)));
        Ok(())
    }

    // Comparing.

    /// Whether the remote may have documents scanned and sketches solved, or has had enough for now.
    fn may_compare(&self) -> bool {
        self.scanned < limits::SCANNED_DOCUMENTS_PER_TEN_SECONDS_MAX
            && self.symbols < limits::SYMBOLS_PER_TEN_SECONDS_MAX
    }

    /// Takes symbols of the remote in.
    fn push(&mut self, decoder: &mut Decoder, block: &SketchBlock) -> Result<(), Failure> {
        self.symbols += block.symbols.len() as u64;
        let pushed = decoder.push(block);
        pushed.map_err(|error| Failure::new(CloseReason::Malformed, &error.to_string()))?;
        Ok(())
    }

    /// Runs `step` on the catch-up of a subscription, if there is such a one. Returns what the remote
    /// is to be asked after it.
    fn go_on<R: Replica>(
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
        let live = self.live.get(selector.collection());
        let scope = Scope {
            subscription,
            selector: &selector,
            replica: comparing.replica,
            until: live.map_or(0, |live| live.at),
        };
        let next = step(self, catch_up, &scope, comparing.known)?;
        let question = next.question(alias);
        let request = self.request_of(alias);
        request.asked_at = comparing.now;
        request.catch_up = Some(next);
        Ok(question)
    }

    fn compare_sketch<R: Replica>(
        &mut self,
        summary: &SketchSummary,
        block: &SketchBlock,
        scope: &Scope<'_, R>,
        known: &mut Known,
    ) -> Result<CatchUp, Failure> {
        let mut local = Sketch::new(self.salt, limits::SKETCH_SYMBOLS_MAX);
        let commit = self.scan(scope, ScopeFilter::Selected, |item, _| {
            local.insert(item);
            Ok(ControlFlow::Continue(()))
        })?;
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
    fn compare_list<R: Replica>(
        &mut self,
        items: &[Item],
        scope: &Scope<'_, R>,
        known: &mut Known,
    ) -> Result<CatchUp, Failure> {
        let mut is_common = vec![false; items.len()];
        let mut local_only = Vec::new();
        let commit = self.scan(scope, ScopeFilter::Selected, |item, _| {
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
        let mut lacking = Lacking {
            keys: Vec::new(),
            at: 0,
            twins: BTreeSet::new(),
            commit,
            blocked_at: None,
        };
        let both = difference.local_only.iter().chain(&difference.remote_only);
        let tags = sorted(both.map(|item| item.tag).collect());
        if tags.is_empty() {
            return Ok(CatchUp::Lacking(lacking));
        }
        let theirs = sorted(difference.remote_only.clone());
        let their_tags = sorted(theirs.iter().map(|item| item.tag).collect());
        let may_remember = tags.len() <= limits::KNOWN_VERSIONS_MAX / 8;
        if !may_remember {
            // What was believed to be held there may be among it, and would be left out.
            known.clear();
        }
        self.scan(scope, ScopeFilter::All, |item, key| {
            if tags.binary_search(&item.tag).is_err() || theirs.binary_search(&item).is_ok() {
                return Ok(ControlFlow::Continue(()));
            }
            let key = key()?;
            let hash = KeyHash::of(&key);
            if their_tags.binary_search(&item.tag).is_ok() {
                lacking.twins.insert(hash);
            } else if may_remember {
                known.told(hash, &VersionVector::new());
            }
            lacking.keys.push(key);
            Ok(if lacking.keys.len() > limits::LACKING_DOCUMENTS_MAX {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        if lacking.keys.len() > limits::LACKING_DOCUMENTS_MAX {
            return Ok(CatchUp::feed(0, scope.until));
        }
        Ok(CatchUp::Lacking(lacking))
    }

    /// Visits what is known here, or with [`ScopeFilter::All`] what can be sent; the second argument of `visit` gives the document.
    fn scan<R: Replica>(
        &mut self,
        scope: &Scope<'_, R>,
        filter: ScopeFilter,
        mut visit: impl FnMut(
            Item,
            &dyn Fn() -> Result<DocumentKey, Failure>,
        ) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<u64, Failure> {
        let scanned = &mut self.scanned;
        let collection = scope.selector.collection();
        scan_items(
            scope.replica,
            self.salt,
            scope.subscription,
            scope.selector,
            filter,
            &mut |item, held| {
                *scanned += 1;
                // What was evicted here can be compared, but not sent.
                if filter == ScopeFilter::All && !is_there(held) {
                    return Ok(ControlFlow::Continue(()));
                }
                visit(item, &|| {
                    held.key(collection)
                        .map_err(|error| Failure::stored_bytes(&error))
                })
            },
        )
    }

    fn request_of(&mut self, alias: u32) -> &mut Request {
        self.requests
            .get_mut(&alias)
            .expect("the subscription was looked up before")
    }
}

impl CatchUp {
    /// What the remote is to be asked so that this goes on.
    fn question(&self, alias: u32) -> Option<Message<'static>> {
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

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items
}
