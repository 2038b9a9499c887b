//! What must hold of attachments.

use idem_model::{BlobId, BlobKey, limits};

use super::{
    Attachments, Checked, Fetch, Outcome, now_ms,
    peer::{GRACE_MS, Process, RELAY_BYTES_MAX},
};
use crate::{check::Violation, delivery::CurvePoint, world::Report};

/// Fetches that are made in the end, one after the other.
const LAST_FETCHES: usize = 12;

/// Points of a curve.
const CURVE_POINTS: u64 = 240;

impl Attachments {
    /// What is complete is what was put in, byte for byte.
    pub(super) fn check_content(&self, peer: usize, key: BlobKey) -> Checked {
        let content = self.contents.iter().find(|content| content.key == key);
        let process = self.peers[peer].process.as_ref();
        let read = process.map(|it| it.shelf.store.read(key, now_ms(self.now_us)));
        let is_right = match (content, read) {
            (Some(content), Some(Ok(read))) => read == content.bytes,
            _ => false,
        };
        let what = format!("{key:?} is complete and not what was put in");
        is_right
            .then_some(())
            .ok_or(Violation::Attachment { peer, what })
    }

    /// What a peer does and keeps for others is bounded.
    pub(super) fn check_bounds(&mut self, peer: usize) -> Checked {
        let Some(process) = &self.peers[peer].process else {
            return Ok(());
        };
        let relays = process.exchange.relays() as u64;
        let kept = process.shelf.store.usage().relay_bytes;
        self.relay_bytes_max = self.relay_bytes_max.max(kept);
        for (what, count, limit) in [
            (
                "attachments under way for others",
                relays,
                limits::BLOB_RELAYS_MAX as u64,
            ),
            ("bytes of attachments for others", kept, RELAY_BYTES_MAX),
        ] {
            if count > limit {
                return Err(Violation::Unbounded {
                    peer,
                    what,
                    count,
                    limit,
                });
            }
        }
        Ok(())
    }

    fn honest(&self) -> Vec<usize> {
        (0..self.peers.len())
            .filter(|peer| self.is_honest(*peer))
            .collect()
    }

    /// Whether nothing is under way any more.
    pub(super) fn is_at_rest(&self) -> bool {
        let is_quiet = |peer: &usize| {
            let process = self.peers[*peer].process.as_ref();
            process.is_some_and(|it| it.exchange.fetches() + it.exchange.relays() == 0)
        };
        self.contents.iter().all(|content| content.is_made)
            && self.fetches.iter().all(|fetch| fetch.outcome.is_some())
            && self.honest().iter().all(is_quiet)
            && self.are_links_up()
    }

    /// Whether all links between honest peers are there.
    fn are_links_up(&self) -> bool {
        self.edges.iter().all(|edge| {
            let is_honest = edge.options.peers.iter().all(|peer| self.is_honest(*peer));
            !is_honest || edge.carrying() > 0
        })
    }

    /// Every fetch has ended, and so has all that peers did because of it.
    pub(super) fn check_rest(&self, healed_us: u64) -> Checked {
        if self.is_at_rest() {
            return Ok(());
        }
        let open = self.fetches.iter().find(|fetch| fetch.outcome.is_none());
        if let Some(Fetch { peer, key, .. }) = open {
            let what = format!("the fetch of {key:?} does not end");
            return Err(Violation::Attachment { peer: *peer, what });
        }
        Err(Violation::Unrest {
            events: self.events,
            seconds: (self.now_us - healed_us) / 1_000_000,
        })
    }

    /// Now that nothing is broken, what somebody in reach has is fetched, and nothing else is.
    pub(super) fn check_reach(&mut self) -> Checked {
        let honest = self.honest();
        for _ in 0..LAST_FETCHES {
            let peer = honest[self.random.index(honest.len())];
            let is_absent = self.contents.is_empty() || self.random.chance(20);
            let key = match is_absent {
                true => self.absent_key(),
                false => self.contents[self.random.index(self.contents.len())].key,
            };
            let Some(fetch) = self.fetch(peer, key)? else {
                continue;
            };
            let limit_us = self.now_us + self.options.rest_us_max;
            self.run_while(|run| run.now_us < limit_us && !run.is_at_rest())?;
            let outcome = self.fetches[fetch].outcome;
            let is_right = match outcome {
                Some(Outcome::Completed) => !is_absent,
                Some(Outcome::Failed(idem_blob_sync::FailReason::NobodyHasIt)) => is_absent,
                _ => false,
            };
            if !is_right {
                let what =
                    format!("the fetch of {key:?} (absent: {is_absent}) ends as {outcome:?}");
                return Err(Violation::Attachment { peer, what });
            }
            self.check_rest(limit_us.min(self.now_us))?;
        }
        Ok(())
    }

    /// What nothing refers to is gone after a collection, with all its files, and what is referred to stays.
    pub(super) fn check_collection(&mut self) -> Checked {
        let later_ms = now_ms(self.now_us) + 2 * GRACE_MS;
        for peer in self.honest() {
            let wrong = |what: String| Violation::Attachment { peer, what };
            let referenced = self.peers[peer].referenced.clone();
            let Some(process) = self.peers[peer].process.take() else {
                continue;
            };
            let store = &process.shelf.store;
            let held: Vec<BlobKey> = store.whole_blobs();
            let collected = store.collect(&referenced, later_ms);
            collected.map_err(|error| wrong(format!("collecting fails: {error}")))?;
            let is_held = |id: &BlobId| held.iter().any(|key| key.id == *id);
            let kept = store.whole_blobs();
            for id in referenced.iter().filter(|id| is_held(id)) {
                if !kept.iter().any(|key| key.id == *id) {
                    return Err(wrong(format!("{id:?} is collected and referred to")));
                }
            }
            let usage = store.usage();
            let own: Vec<&BlobKey> = kept
                .iter()
                .filter(|key| referenced.contains(&key.id))
                .collect();
            let own_bytes = own.iter().map(|key| key.len).sum::<u64>();
            let strangers = usage.bytes - usage.relay_bytes;
            // What is referred to and not all here may stay as well.
            let parts = referenced.iter().filter(|id| !is_held(id)).count();
            if strangers > own_bytes && parts == 0 {
                return Err(wrong(format!(
                    "{strangers} bytes stay, {own_bytes} are referred to"
                )));
            }
            drop(process);
            // A store that opens finds no file that belongs to nothing.
            let seed = self.random.next();
            let opened = Process::start(&self.peers[peer].storage, seed);
            let (process, opened) = opened.map_err(|error| wrong(format!("{error}")))?;
            if opened.discarded > 0 || process.shelf.store.usage() != usage {
                return Err(wrong(format!("files are left over: {opened:?}")));
            }
            self.peers[peer].process = Some(process);
        }
        Ok(())
    }

    pub(super) fn report(&self, healed_us: u64) -> Report {
        let done = |fetch: &&Fetch| fetch.outcome.is_some_and(|it| it != Outcome::Gone);
        let ended: Vec<&Fetch> = self.fetches.iter().filter(done).collect();
        let completed = ended
            .iter()
            .filter(|it| it.outcome == Some(Outcome::Completed));
        let times = completed.map(|it| it.ended_us.unwrap_or(0) - it.begun_us);
        let mut times: Vec<u64> = times.collect();
        times.sort_unstable();
        let share = |percent: usize| {
            let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times.get(at).copied().unwrap_or(0)
        };
        let mut ends: Vec<u64> = ended.iter().filter_map(|it| it.ended_us).collect();
        ends.sort_unstable();
        let count = ended.len() as u64;
        let last_us = ends.last().copied().unwrap_or(0);
        let point = |step: u64| {
            let at_us = last_us * step / CURVE_POINTS;
            let thousandths = |number: usize| {
                let share = number as u64 * 1000 / count.max(1);
                u16::try_from(share).expect("at most 1000")
            };
            CurvePoint {
                at_us,
                written: thousandths(ended.iter().filter(|it| it.begun_us <= at_us).count()),
                delivered: thousandths(ends.partition_point(|it| *it <= at_us)),
            }
        };
        Report {
            seed: self.options.seed,
            trace: *self.trace.finalize().as_bytes(),
            peers: self.peers.len(),
            events: self.events,
            frames: self.frames,
            acknowledged: self.contents.len() as u64,
            faults: self.faults,
            simulated_us: self.now_us,
            healed_us,
            converged_us: last_us,
            half_us: ends.get(ends.len() / 2).copied().unwrap_or(0),
            latency_p50_us: share(50),
            latency_p99_us: share(99),
            latency_max_us: share(100),
            pairs: (count, count),
            pairs_lost: self.fetches.len() as u64 - count,
            bytes_sent_by: self.peers.iter().map(|peer| peer.bytes_sent).collect(),
            documents_sent: 0,
            documents_unchanged: 0,
            moves: 0,
            link_bytes_max: self.link_bytes_max,
            queued_bytes_max: 0,
            mesh: None,
            relay_bytes_max: self.relay_bytes_max,
            relayed_bytes: 0,
            curve: (0..=CURVE_POINTS).map(point).collect(),
        }
    }
}
