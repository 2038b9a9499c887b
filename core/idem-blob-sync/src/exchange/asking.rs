//! Who has it?

use std::{ops::Range, time::Duration};

use idem_model::{BlobKey, GroupSet, PeerId, limits};
use idem_wire::BlobMessage;

use super::{ANSWER_TIMEOUT, Exchange, purpose_of};
use crate::{
    event::FailReason,
    port::{Blobs, Purpose},
    want::{Source, Want, Work},
};

impl Exchange {
    /// A neighbour asks for a blob.
    pub(super) fn handle_ask(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        key: BlobKey,
        hops: u8,
    ) {
        let relays_of_peer = || {
            let wants = self.wants.values();
            wants.filter(|want| want.askers.contains(&peer)).count()
        };
        let is_full = self.relays() >= limits::BLOB_RELAYS_MAX
            || relays_of_peer() >= limits::BLOB_RELAYS_PER_PEER_MAX;
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        let may_pass_on = neighbour.count_ask(now) && hops > 0;
        if neighbour.is_clogged() {
            self.misbehaved(peer, "asks and does not read the answers");
            return;
        }
        if blobs.is_whole(key) {
            neighbour.push(&BlobMessage::HaveAll { key });
            return;
        }
        neighbour.note_interest(key);
        let known = self.wants.get_mut(&key);
        if let Some(work) = known.as_ref().and_then(|want| want.work.as_ref()) {
            neighbour.push(&BlobMessage::Wait { key });
            if work.have.count() > 0 && can_be_split(key) {
                neighbour.news.insert(key);
            }
            return;
        }
        match known {
            // Asking those who were asked already comes to the same.
            Some(want) if may_pass_on && want.is_hopeful() => {
                want.askers.insert(peer);
            }
            None if may_pass_on && !is_full => {
                let want = self
                    .wants
                    .entry(key)
                    .or_insert_with(|| Want::new(now, hops - 1));
                want.askers.insert(peer);
                self.ask_everybody(now, key);
                self.settle(now, blobs, key);
            }
            _ => neighbour.push(&BlobMessage::Lack { key }),
        }
    }

    /// Asks all neighbours for a blob that were not asked yet.
    pub(super) fn ask_everybody(&mut self, now: Duration, key: BlobKey) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        for (peer, neighbour) in &mut self.neighbours {
            let is_asker = want.askers.contains(peer);
            if want.sources.contains_key(peer) || (is_asker && want.app.is_none()) {
                continue;
            }
            // Who asks itself has nobody else to ask.
            let hops = if is_asker { 0 } else { want.hops };
            let until = now + ANSWER_TIMEOUT * (u32::from(hops) + 1);
            want.sources.insert(*peer, Source::Asked { until });
            want.quiet_since = None;
            neighbour.push(&BlobMessage::Ask { key, hops });
        }
    }

    /// A neighbour has all of a blob, or `runs` of its groups beside those that it named before.
    pub(super) fn handle_have(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        key: BlobKey,
        runs: Option<Vec<Range<u64>>>,
    ) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        // Who was not asked is not believed either.
        let Some(source) = want.sources.get_mut(&peer) else {
            return;
        };
        match (&mut *source, runs) {
            (Source::Banned, _) => return,
            (Source::All, _) => {}
            (_, None) => *source = Source::All,
            (Source::Some(groups), Some(runs)) => {
                runs.into_iter().for_each(|run| groups.insert(run));
            }
            (_, Some(runs)) => {
                let mut groups = GroupSet::new(key.groups());
                runs.into_iter().for_each(|run| groups.insert(run));
                *source = Source::Some(groups);
            }
        }
        want.quiet_since = None;
        let is_there = want.sources.get(&peer).is_some_and(Source::has_some);
        if want.work.is_none() && is_there {
            let purpose = purpose_of(want);
            match blobs.begin(key, purpose) {
                Ok(have) => {
                    let busy = GroupSet::new(key.groups());
                    want.work = Some(Work { have, busy });
                    for neighbour in self.neighbours.values_mut() {
                        if neighbour.interests.contains_key(&key) {
                            neighbour.push(&BlobMessage::Wait { key });
                        }
                    }
                    self.came(now, blobs, key);
                }
                Err(trouble) => {
                    self.fail(blobs, key, trouble.into());
                    return;
                }
            }
        }
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.is_stirred = true;
        }
    }

    /// A neighbour has nothing of a blob, or nothing any more.
    pub(super) fn handle_lack(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        key: BlobKey,
    ) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        if let Some(source) = want.sources.get_mut(&peer)
            && !matches!(source, Source::Banned)
        {
            *source = Source::Nothing;
        }
        self.release_of(peer, key);
        self.settle(now, blobs, key);
    }

    /// A neighbour wants nothing of a blob any more.
    pub(super) fn handle_cancel(
        &mut self,
        now: Duration,
        blobs: &mut impl Blobs,
        peer: PeerId,
        key: BlobKey,
    ) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.gets.retain(|(wanted, _)| *wanted != key);
            if neighbour.sending.as_ref().is_some_and(|it| it.key == key) {
                neighbour.sending = None;
            }
            neighbour.forget(key);
        }
        if let Some(want) = self.wants.get_mut(&key) {
            want.askers.remove(&peer);
            self.settle(now, blobs, key);
        }
    }

    /// Draws the consequences if nobody has a blob, or nobody wants it.
    pub(super) fn settle(&mut self, now: Duration, blobs: &mut impl Blobs, key: BlobKey) {
        let Some(want) = self.wants.get_mut(&key) else {
            return;
        };
        if want.app.is_none() && want.askers.is_empty() {
            self.drop_want(blobs, key);
        } else if want.is_hopeful() {
            want.quiet_since = None;
        } else if purpose_of(want) == Purpose::Neighbour {
            self.fail(blobs, key, FailReason::NobodyHasIt);
        } else {
            want.quiet_since.get_or_insert(now);
            for asker in std::mem::take(&mut want.askers) {
                if let Some(neighbour) = self.neighbours.get_mut(&asker) {
                    neighbour.push(&BlobMessage::Lack { key });
                }
            }
        }
    }
}

/// Whether a blob can be passed on before all of it is here.
pub(super) fn can_be_split(key: BlobKey) -> bool {
    key.len > limits::BLOB_WITHOUT_TREE_BYTES_MAX
}
