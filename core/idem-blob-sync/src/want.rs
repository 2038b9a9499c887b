//! A blob that is being looked for or fetched.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_model::{BlobKey, BlobPart, GroupSet, PeerId};

use crate::exchange::{FetchTerms, RELAY_STALL};

/// Over how many peers the first questions of a fetch go. Most of what is wanted is near, and a question that
/// goes further costs everybody.
pub(crate) const RINGS: [u8; 2] = [1, 4];

/// Refusals and unanswered questions after which a neighbour is not asked for a blob again. A question that is not
/// answered counts as many.
pub(crate) const STRIKES_MAX: u8 = 2;

/// A blob that is being looked for or fetched.
#[derive(Debug)]
pub(crate) struct Want {
    /// What the app asked for, if it did.
    pub(crate) app: Option<App>,
    /// Neighbours that take what comes, and whether they were told that it comes.
    pub(crate) followers: BTreeMap<PeerId, bool>,
    /// Questions that were passed on and are not answered by all, by their numbers.
    pub(crate) searches: BTreeMap<u64, Search>,
    /// Neighbours that have some of it, will have, or sent what is no part of it.
    pub(crate) sources: BTreeMap<PeerId, Source>,
    /// Neighbours that did not do what they should, and how often.
    pub(crate) strikes: BTreeMap<PeerId, u8>,
    /// There once somebody has some of it.
    pub(crate) work: Option<Work>,
    /// When something came last, or it was begun.
    pub(crate) progress_at: Duration,
}

/// How far a fetch of the app is.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) terms: FetchTerms,
    /// Which of its rings is asked.
    pub(crate) ring: usize,
    /// When that was begun.
    pub(crate) asked_at: Duration,
    /// Since when everybody has said that he has nothing.
    pub(crate) quiet_since: Option<Duration>,
    /// Not everybody was asked, since somebody had too many questions.
    pub(crate) is_busy: bool,
    /// How long to wait before those are asked again.
    pub(crate) pause: Duration,
    /// The neighbours were asked a second time.
    pub(crate) is_rechecked: bool,
    /// Somebody had it when this was looked at last.
    pub(crate) was_hopeful: bool,
    /// Who had it has gone since the last round.
    pub(crate) is_lost: bool,
}

/// A question that was passed on.
#[derive(Debug)]
pub(crate) struct Search {
    /// Who asked, and with which hops; nobody if the question is this peer's own.
    pub(crate) asker: Option<(PeerId, u8)>,
    /// The asker has an answer.
    pub(crate) is_answered: bool,
    /// The hops with which others were asked.
    pub(crate) hops: u8,
    /// Who has not answered.
    pub(crate) waiting: BTreeSet<PeerId>,
    /// When no answer counts as no.
    pub(crate) until: Duration,
    /// Somebody has too many questions.
    pub(crate) is_busy: bool,
}

/// What a neighbour has of a blob.
#[derive(Debug)]
pub(crate) enum Source {
    /// Some groups.
    Some {
        groups: GroupSet,
        /// It said that more will come.
        is_waiting: bool,
        /// It fetches it for others.
        is_relay: bool,
    },
    /// All.
    All,
    /// It sent what is no part of the blob.
    Banned,
}

/// How far a fetch is.
#[derive(Debug)]
pub(crate) struct Work {
    /// What is here.
    pub(crate) have: GroupSet,
    /// What somebody was asked for.
    pub(crate) busy: GroupSet,
}

impl App {
    pub(crate) fn new(now: Duration, terms: FetchTerms) -> Self {
        Self {
            terms,
            ring: 0,
            asked_at: now,
            quiet_since: None,
            is_busy: false,
            pause: Duration::from_secs(1),
            is_rechecked: false,
            was_hopeful: false,
            is_lost: false,
        }
    }

    /// Over how many peers the ring that is asked goes.
    pub(crate) fn ring_hops(&self) -> u8 {
        let most = self.terms.hops;
        RINGS.get(self.ring).map_or(most, |ring| most.min(*ring))
    }

    pub(crate) fn is_last_ring(&self) -> bool {
        self.ring_hops() == self.terms.hops
    }
}

impl Source {
    pub(crate) fn has_any(&self) -> bool {
        !matches!(self, Self::Banned)
    }

    /// Whether there is something that could be asked for.
    pub(crate) fn has_some(&self) -> bool {
        match self {
            Self::Some { groups, .. } => groups.count() > 0,
            source => source.has_any(),
        }
    }

    fn has(&self, group: u64) -> bool {
        match self {
            Self::All => true,
            Self::Some { groups, .. } => groups.contains(group),
            Self::Banned => false,
        }
    }

    pub(crate) fn has_all_of(&self, key: BlobKey, part: BlobPart) -> bool {
        match self {
            Self::All => true,
            Self::Some { groups, .. } => {
                groups.contains_all(part.first()..part.first() + key.groups_of(part))
            }
            Self::Banned => false,
        }
    }

    /// Whether something that is not here may come of it.
    fn is_hopeful(&self, work: Option<&Work>) -> bool {
        match self {
            Self::All => true,
            Self::Banned => false,
            Self::Some {
                is_waiting: true, ..
            } => true,
            Self::Some { groups, .. } => match work {
                None => groups.count() > 0,
                Some(work) => first_beyond(groups, &work.have, 0).is_some(),
            },
        }
    }
}

/// The first group from `at` on that is in `groups` and not in `known`.
pub(crate) fn first_beyond(groups: &GroupSet, known: &GroupSet, mut at: u64) -> Option<u64> {
    loop {
        let here = groups.next_present(at)?;
        let beyond = known.next_missing(here)?;
        if beyond == here {
            return Some(here);
        }
        at = beyond;
    }
}

impl Want {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            app: None,
            followers: BTreeMap::new(),
            searches: BTreeMap::new(),
            sources: BTreeMap::new(),
            strikes: BTreeMap::new(),
            work: None,
            progress_at: now,
        }
    }

    /// Whether something more may come from somebody else than `peer`.
    pub(crate) fn is_hopeful_without(&self, peer: Option<PeerId>) -> bool {
        let work = self.work.as_ref();
        let mut sources = self.sources.iter();
        sources.any(|(it, source)| Some(*it) != peer && source.is_hopeful(work))
    }

    /// Whether something more may come from `peer`.
    pub(crate) fn is_hopeful_from(&self, peer: PeerId) -> bool {
        let source = self.sources.get(&peer);
        source.is_some_and(|source| source.is_hopeful(self.work.as_ref()))
    }

    /// Whether a question of this peer's own is not answered by all.
    pub(crate) fn is_asking(&self) -> bool {
        let mut searches = self.searches.values();
        searches.any(|search| search.asker.is_none())
    }

    /// Whether a neighbour waits for an answer.
    pub(crate) fn has_asker(&self) -> bool {
        let mut searches = self.searches.values();
        searches.any(|search| search.asker.is_some() && !search.is_answered)
    }

    /// Whether a neighbour waits for it in any way.
    pub(crate) fn is_wanted_by(&self, peer: PeerId) -> bool {
        let asks = |search: &Search| search.asker.is_some_and(|(asker, _)| asker == peer);
        self.followers.contains_key(&peer) || self.searches.values().any(asks)
    }

    /// Whether an answer of a neighbour is awaited.
    pub(crate) fn is_awaiting(&self, peer: PeerId) -> bool {
        let mut searches = self.searches.values();
        searches.any(|search| search.waiting.contains(&peer))
    }

    /// Whether it is to be asked.
    pub(crate) fn may_ask(&self, peer: PeerId) -> bool {
        let is_banned = matches!(self.sources.get(&peer), Some(Source::Banned));
        let strikes = self.strikes.get(&peer).copied().unwrap_or(0);
        !is_banned && strikes < STRIKES_MAX
    }

    pub(crate) fn strike(&mut self, peer: PeerId, count: u8) {
        let strikes = self.strikes.entry(peer).or_default();
        *strikes = strikes.saturating_add(count);
    }

    /// Whether what is here can be had of it already.
    pub(crate) fn can_offer(&self, key: BlobKey) -> bool {
        let here = self.work.as_ref().is_some_and(|it| it.have.count() > 0);
        here && key.len > idem_model::limits::BLOB_WITHOUT_TREE_BYTES_MAX
    }

    /// When it ends if nothing comes.
    pub(crate) fn overdue_at(&self) -> Duration {
        let limit = self.app.as_ref().map_or(RELAY_STALL, |it| it.terms.timeout);
        self.progress_at.saturating_add(limit)
    }

    /// Whether somebody sent what is no part of it.
    pub(crate) fn was_damaged(&self) -> bool {
        let mut sources = self.sources.values();
        sources.any(|source| matches!(source, Source::Banned))
    }

    /// The next part that `peer` could send and nobody was asked for, of at most `2^level` groups.
    pub(crate) fn next_part(&self, key: BlobKey, peer: PeerId, level: u8) -> Option<BlobPart> {
        let work = self.work.as_ref()?;
        let source = self.sources.get(&peer).filter(|it| it.has_any())?;
        let is_free = |group: u64| {
            !work.have.contains(group) && !work.busy.contains(group) && source.has(group)
        };
        let mut at = 0;
        let group = loop {
            let missing = work.have.next_missing(at)?;
            let free = work.busy.next_missing(missing)?;
            let there = match source {
                Source::Some { groups, .. } => groups.next_present(free)?,
                _ => free,
            };
            if there == missing {
                break there;
            }
            at = there;
        };
        let is_whole = |part: &BlobPart| {
            let mut range = part.first()..part.first() + key.groups_of(*part);
            range.all(is_free)
        };
        let parts = (0..=level).rev();
        let mut parts = parts.map(|level| key.part_around(group, level));
        parts.find(is_whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use idem_model::BlobId;

    #[test]
    fn parts_are_what_is_missing_free_and_there() {
        let key = BlobKey {
            id: BlobId([1; 32]),
            len: 21 * 16 * 1024,
        };
        let peer = PeerId([2; 32]);
        let mut want = Want::new(Duration::ZERO);
        let mut there = GroupSet::new(key.groups());
        [0..3, 5..6, 8..17, 20..21]
            .into_iter()
            .for_each(|run| there.insert(run));
        let source = Source::Some {
            groups: there.clone(),
            is_waiting: false,
            is_relay: false,
        };
        want.sources.insert(peer, source);
        let mut work = Work {
            have: GroupSet::new(key.groups()),
            busy: GroupSet::new(key.groups()),
        };
        work.have.insert(1..2);
        work.busy.insert(12..13);
        want.work = Some(work);
        let mut found = GroupSet::new(key.groups());
        while let Some(part) = want.next_part(key, peer, 2) {
            let range = part.first()..part.first() + key.groups_of(part);
            let work = want.work.as_mut().unwrap();
            for group in range.clone() {
                assert!(there.contains(group) && !work.have.contains(group));
                assert!(!work.busy.contains(group), "once");
            }
            found.insert(range.clone());
            work.busy.insert(range);
        }
        let runs: Vec<_> = found.runs().collect();
        assert_eq!(runs, [0..1, 2..3, 5..6, 8..12, 13..17, 20..21]);
    }
}
