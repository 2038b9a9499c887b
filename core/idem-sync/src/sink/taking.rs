//! How a batch is taken in.

use std::collections::BTreeSet;

use idem_model::{DocumentKey, Lane, VersionVector, limits};
use idem_wire::SubscriptionId;

use super::{
    Inbound, Sink, Taken, Taking,
    batch::{Batch, documents_at, leaving, read_batch, suspects},
};
use crate::{
    event::{CloseReason, Event},
    failure::Failure,
    replica::{ApplyOutcome, ApplyReport, Cursor, CursorUpdate, EvictReason, Incoming, Replica},
};

/// What one call of [`Replica::apply`] came to.
pub(super) enum Attempt {
    Applied {
        commit: u64,
        /// The places in the batch of the documents that told nothing.
        unchanged: BTreeSet<u32>,
    },
    Refused(Vec<ApplyOutcome>),
}

impl Sink {
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
            let untaken = taking.untaken.among(&batch.incoming);
            let announced = batch.announced.clone();
            let is_hearsay = batch.versions.is_empty() && !batch.announced.is_empty();
            let outcomes = match self.apply(lane, batch, taking)? {
                Attempt::Applied { commit, unchanged } => {
                    taking.events.extend(taking.untaken.take(untaken));
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
                        is_hearsay,
                        announced,
                    });
                }
                Attempt::Refused(outcomes) => outcomes,
            };
            let batch = read_batch(body, &left_out, taking)?;
            if outcomes.contains(&ApplyOutcome::Refused) {
                let all = batch.incoming.into_iter().zip(&outcomes);
                let refused = all.filter(|(_, outcome)| **outcome == ApplyOutcome::Refused);
                let keys = refused.map(|(incoming, _)| incoming.key);
                let documents: Vec<_> = keys.take(limits::EVENT_DOCUMENTS_MAX).collect();
                taking.untaken.insert(&documents);
                taking.events.push(Event::Refused { documents });
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
        mut batch: Batch,
        taking: &mut Taking<'_, R>,
    ) -> Result<Attempt, Failure> {
        let hearsay = self.hold_back(lane, &mut batch)?;
        let updates = self.cursor_updates(lane, &batch.cursors);
        let leaving = leaving(&batch.left, taking)?;
        if !leaving.is_empty() {
            let attempt = self.apply_and_evict(lane, batch, &updates, &leaving, taking)?;
            return self.hear(hearsay, attempt, taking);
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
        let attempt = Attempt::Applied { commit, unchanged };
        self.hear(hearsay, attempt, taking)
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
        self.heard = None;
        self.due = taking.wanted.ids().map(|id| (id, ())).collect();
        Ok(Taken {
            commit: 0,
            unchanged: Vec::new(),
            told: self.held_versions(keys, limits::TOLD_VERSIONS_BYTES_MAX, taking.replica)?,
            restarts: true,
            is_hearsay: false,
            announced: Vec::new(),
        })
    }

    /// The cursors of a batch that count now.
    pub(super) fn cursor_updates(
        &self,
        lane: Lane,
        cursors: &[(u32, u64, bool)],
    ) -> Vec<CursorUpdate> {
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

    pub(super) fn finish_cursors(
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
