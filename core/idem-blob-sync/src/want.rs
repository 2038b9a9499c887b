//! A blob that is being looked for or fetched.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_model::{BlobKey, BlobPart, GroupSet, PeerId};

use crate::exchange::FetchTerms;

/// A blob that is being looked for or fetched.
#[derive(Debug)]
pub(crate) struct Want {
    /// What the app asked for, if it did.
    pub(crate) app: Option<FetchTerms>,
    /// Neighbours that wait for an answer.
    pub(crate) askers: BTreeSet<PeerId>,
    /// Over how many peers others may pass the question on.
    pub(crate) hops: u8,
    pub(crate) sources: BTreeMap<PeerId, Source>,
    /// There once somebody has some of it.
    pub(crate) work: Option<Work>,
    /// When something came last, or it was begun.
    pub(crate) progress_at: Duration,
    /// Since when nobody has it.
    pub(crate) quiet_since: Option<Duration>,
}

/// What a neighbour has of a blob.
#[derive(Debug)]
pub(crate) enum Source {
    /// It was asked, and its answer counts as no after a time.
    Asked { until: Duration },
    /// Nothing.
    Nothing,
    /// Some groups.
    Some(GroupSet),
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

impl Source {
    pub(crate) fn has_any(&self) -> bool {
        matches!(self, Self::All | Self::Some(_))
    }

    /// Whether there is something that could be asked for.
    pub(crate) fn has_some(&self) -> bool {
        match self {
            Self::Some(groups) => groups.count() > 0,
            source => source.has_any(),
        }
    }

    fn has(&self, group: u64) -> bool {
        match self {
            Self::All => true,
            Self::Some(groups) => groups.contains(group),
            _ => false,
        }
    }

    pub(crate) fn has_all_of(&self, key: BlobKey, part: BlobPart) -> bool {
        match self {
            Self::All => true,
            Self::Some(groups) => {
                groups.contains_all(part.first()..part.first() + key.groups_of(part))
            }
            _ => false,
        }
    }
}

impl Want {
    pub(crate) fn new(now: Duration, hops: u8) -> Self {
        Self {
            app: None,
            askers: BTreeSet::new(),
            hops,
            sources: BTreeMap::new(),
            work: None,
            progress_at: now,
            quiet_since: None,
        }
    }

    /// Whether somebody has some of it, or may have.
    pub(crate) fn is_hopeful(&self) -> bool {
        let asked = |source: &Source| source.has_any() || matches!(source, Source::Asked { .. });
        self.sources.values().any(asked)
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
                Source::Some(groups) => groups.next_present(free)?,
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
        let mut want = Want::new(Duration::ZERO, 0);
        let mut there = GroupSet::new(key.groups());
        [0..3, 5..6, 8..17, 20..21]
            .into_iter()
            .for_each(|run| there.insert(run));
        want.sources.insert(peer, Source::Some(there.clone()));
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
