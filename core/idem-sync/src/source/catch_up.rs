//! How a subscriber gets what was there when it subscribed: from a position of the feed, or what a
//! comparison of both sides shows to be lacking.

use std::collections::BTreeSet;

use idem_model::{DocumentKey, Lane};
use idem_query::Selector;
use idem_wire::{Accept, CatchUpTier, Holdings, Message, Subscribe};

use super::{
    Changed, Comparing, Filling, Live, Offering, Request, Source,
    compare::{Scope, sorted},
    mirrored::Mirrored,
};
use crate::{
    failure::Failure,
    holdings::is_unfiltered,
    known::KeyHash,
    mirrors::Found,
    projection::travelling_name,
    replica::{ChangeBatch, Replica},
    sketch::{Decoder, Item},
    wanted::Service,
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
    /// The remote compares what this side told of the same subscription, which this side numbered `ours`.
    Mirror { ours: u32 },
    /// It is known what the remote lacks. Boxed, since it is large and soon over.
    Lacking(Box<Lacking>),
}

/// What a remote lacks of a snapshot.
#[derive(Debug)]
pub(super) struct Lacking {
    pub(super) keys: Vec<DocumentKey>,
    /// How many of them were queued.
    at: usize,
    /// Documents of which the remote holds another version, so that it gets ours though it may not
    /// match any more.
    pub(super) twins: BTreeSet<KeyHash>,
    /// Of the snapshot.
    commit: u64,
    /// The change feed is read from the snapshot to here; nothing of it if this is lower.
    until: u64,
    /// What the remote is told first, because this side wants the same.
    pub(super) mirrored: Mirrored,
    /// Whether the remote was told that this is the end.
    pub(super) is_ended: bool,
    /// The durable commit at which nothing more could be read.
    blocked_at: Option<u64>,
}

impl Lacking {
    /// Nothing, so far, of the snapshot of `commit`.
    pub(super) fn of(commit: u64) -> Self {
        Self {
            keys: Vec::new(),
            at: 0,
            twins: BTreeSet::new(),
            commit,
            until: 0,
            mirrored: Mirrored::default(),
            is_ended: false,
            blocked_at: None,
        }
    }

    /// What a remote lacks by the comparison that it made. The live feed took over at `until`.
    pub(super) fn found(found: Found, until: u64) -> Self {
        Self {
            keys: found.keys,
            twins: found.twins,
            until,
            ..Self::of(found.commit)
        }
    }

    /// Whether there may be something to send.
    fn is_ready(&self, durable: u64) -> bool {
        let is_blocked = self.blocked_at == Some(durable);
        self.mirrored.has_more() || (!self.is_ended && !is_blocked)
    }

    /// The next groups, and how many of the keys they are for.
    fn read<R: Replica>(
        &self,
        source: &Source,
        replica: &R,
    ) -> Result<(Vec<Vec<Changed>>, usize), Failure> {
        let rest = &self.keys[self.at..];
        if rest.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let read = |keys: &[DocumentKey]| source.read_documents(replica, keys, self.commit);
        let asked: BTreeSet<&DocumentKey> = self.mirrored.asked().collect();
        let (mut groups, mut consumed) = if asked.is_empty() {
            read(rest)?
        } else {
            // What may be lacking as well belongs to the groups of what is, or they would arrive by half.
            let keys: Vec<_> = rest.iter().chain(asked.iter().copied()).cloned().collect();
            read(&keys)?
        };
        consumed = consumed.min(rest.len());
        // What changed alone after the snapshot comes with the changes after it.
        let is_later = |group: &[Changed]| matches!(group, [it] if it.commit > self.commit);
        let is_asked = |it: &Changed| asked.contains(&it.key);
        groups.retain(|group| !is_later(group) && !group.iter().all(is_asked));
        Ok((groups, consumed))
    }
}

impl CatchUp {
    pub(super) fn feed(at: u64, until: u64) -> Self {
        Self::Feed {
            at,
            until,
            blocked_at: None,
        }
    }

    /// Whether it is not known yet what the remote lacks, and it was asked for more of what it holds.
    pub(super) fn is_comparing(&self) -> bool {
        matches!(self, Self::Sketch { .. } | Self::List { .. })
    }

    /// Whether the remote owes an answer.
    pub(super) fn is_asking(&self) -> bool {
        match self {
            Self::Lacking(lacking) => lacking.mirrored.is_owed() && !lacking.mirrored.has_more(),
            _ => self.is_comparing(),
        }
    }

    /// Whether there may be something to send.
    fn is_ready(&self, durable: u64) -> bool {
        match self {
            Self::Feed { blocked_at, .. } => *blocked_at != Some(durable),
            Self::Lacking(lacking) => lacking.is_ready(durable),
            Self::Sketch { .. } | Self::List { .. } | Self::Mirror { .. } => false,
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
        let (now, replica) = (comparing.now, comparing.replica);
        let durable = replica.durable_commit();
        let name = travelling_name(&selector);
        self.projections.insert(&name, &selector);
        let live = || Live::at(durable);
        let live = self.live.get_or_insert_with(name.clone(), live);
        let is_unfiltered = is_unfiltered(&selector);
        let scope = Scope {
            alias: subscribe.alias,
            subscription: subscribe.subscription,
            selector: &selector,
            name: &name,
            replica,
            until: live.at,
            is_unfiltered,
            has_evicted: subscribe.has_evicted,
            is_ours: is_unfiltered && comparing.ours.contains(&subscribe.subscription),
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
                let catch_up = self.compare_list(&items, &scope, comparing.known)?;
                (CatchUpTier::Difference, catch_up)
            }
            Holdings::Sketch { summary, block } if self.may_compare() => {
                let catch_up = self.compare_sketch(summary, block, &scope, comparing.known)?;
                question = catch_up.question(subscribe.alias);
                (CatchUpTier::Difference, catch_up)
            }
            Holdings::Nothing if scope.is_ours => {
                // Who holds nothing knows what is lacking here.
                self.mirrored.push((scope.subscription, scope.alias));
                (CatchUpTier::Stream, CatchUp::feed(0, scope.until))
            }
            Holdings::Mirrored { alias } => {
                (CatchUpTier::Difference, CatchUp::Mirror { ours: *alias })
            }
            _ => (CatchUpTier::Stream, CatchUp::feed(0, scope.until)),
        };
        self.requests.insert(
            subscribe.alias,
            Request {
                subscription: subscribe.subscription,
                is_unfiltered,
                selector,
                name,
                service: Service {
                    priority: subscribe.priority,
                    evicts: subscribe.evicts,
                },
                held_to: from,
                was_blank: matches!(subscribe.holdings, Holdings::Nothing),
                has_evicted: subscribe.has_evicted,
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

    // Output.

    /// Queues the next part of a catch-up, if one is under way.
    pub(crate) fn fill_bulk<R: Replica>(
        &mut self,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        let durable = filling.replica.durable_commit();
        if self.must_wait(Lane::Bulk) || self.fill_telling(filling) {
            return Ok(());
        }
        let held_to = self.caught_up_to();
        let next = self.requests.iter_mut().filter(|(_, request)| {
            let catch_up = request.catch_up.as_ref();
            catch_up.is_some_and(|it| it.is_ready(durable))
        });
        let Some((&alias, request)) = next.min_by_key(|(alias, it)| (it.service.priority, **alias))
        else {
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
        let name = self.request_of(alias).name.clone();
        let batch = if at < until {
            // What is under way on this lane arrives before what follows, so only positions count.
            self.read(filling.replica, &name, at, held_to)?
        } else {
            ChangeBatch {
                up_to: at,
                ..ChangeBatch::default()
            }
        };
        let batch_first = filling.outlet.next_batch();
        let offering = Offering {
            is_blank: self.request_of(alias).was_blank,
            ..Offering::bulk(&batch.groups)
        };
        let Some(mut draft) = self.offer(&offering, filling)? else {
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
        mut lacking: Box<Lacking>,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        let durable = filling.replica.durable_commit();
        let (groups, consumed) = lacking.read(self, filling.replica)?;
        let batch_first = filling.outlet.next_batch();
        let offering = Offering {
            twins: Some(&lacking.twins),
            ..Offering::bulk(&groups)
        };
        let Some(mut draft) = self.offer(&offering, filling)? else {
            self.request_of(alias).catch_up = Some(CatchUp::Lacking(lacking));
            return Ok(());
        };
        lacking.at += consumed;
        let Lacking { commit, until, .. } = *lacking;
        let is_all = lacking.at == lacking.keys.len();
        if is_all {
            draft.writer.cursor(alias, commit, until <= commit);
        }
        self.request_of(alias).catch_up = if is_all && until > commit {
            Some(CatchUp::feed(commit, until))
        } else if is_all && !lacking.mirrored.is_owed() {
            None
        } else {
            lacking.is_ended = is_all;
            lacking.blocked_at = (!is_all && consumed == 0).then_some(durable);
            Some(CatchUp::Lacking(lacking))
        };
        draft.finish(filling.outlet);
        let batches = batch_first..filling.outlet.next_batch();
        self.unsettled.extend(batches.map(|batch| (batch, 0)));
        Ok(())
    }

    pub(super) fn request_of(&mut self, alias: u32) -> &mut Request {
        self.requests
            .get_mut(&alias)
            .expect("the subscription was looked up before")
    }
}
