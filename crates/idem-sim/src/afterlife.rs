//! What becomes of documents that were deleted, and of those that were not, though nobody remembers.

use std::collections::{BTreeMap, BTreeSet};

use idem_crdt::Document;
use idem_model::{DocumentKey, VersionVector};

use crate::check::Violation;

/// What was done to a document, as nobody forgets it.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The merge of all states that somebody committed.
    pub(crate) merged: Document,
    /// What each of those who deleted it had seen of it, and whether that may be lost.
    pub(crate) deletions: Vec<(VersionVector, bool)>,
    /// What each of those who wrote it had seen of it, with what they wrote.
    pub(crate) written: Vec<VersionVector>,
    /// A disk that held some of it went back in time, so some may be lost.
    pub(crate) is_open: bool,
}

impl History {
    /// Whether somebody wrote it after its deletion, or without knowing of it. That is so for good if
    /// the deletion was forgotten before: who deletes it again does not know of all that was deleted.
    fn may_live(&self, (written, deletions): (usize, usize)) -> bool {
        let written = &self.written[written..];
        let mut deletions = self.deletions[deletions..].iter();
        let has_seen_all =
            |version: &VersionVector| written.iter().all(|it| version.covers_all(it));
        !written.is_empty()
            && !deletions.any(|(version, is_lost)| !is_lost && has_seen_all(version))
    }

    /// The fields that nobody deleted.
    fn fields(&self) -> BTreeSet<String> {
        let fields = self.merged.fields().filter(|_| !self.is_open);
        fields.map_or_else(BTreeSet::new, |fields| fields.into_keys().collect())
    }
}

/// What a peer holds of a document.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    /// The names of its fields; `None` if it is a tombstone.
    pub(crate) fields: Option<BTreeSet<String>>,
    pub(crate) is_quarantined: bool,
}

impl Holding {
    fn is_shown(&self) -> bool {
        self.fields.is_some() && !self.is_quarantined
    }
}

type Holdings = [BTreeMap<DocumentKey, Holding>];

/// Looks at what peers hold from time to time.
#[derive(Debug, Default)]
pub(crate) struct Afterlife {
    /// Peers that knew that a document was deleted.
    knew: BTreeSet<(usize, DocumentKey)>,
    /// What was there at the last look.
    before: BTreeMap<(usize, DocumentKey), BTreeSet<String>>,
    /// How much of the history of a document is over: nobody has anything of that.
    over: BTreeMap<DocumentKey, (usize, usize)>,
    /// Documents that somebody evicted at some time.
    evicted: BTreeSet<DocumentKey>,
}

impl Afterlife {
    /// A peer evicted these.
    pub(crate) fn evicted(&mut self, peer: usize, keys: Vec<DocumentKey>) {
        for key in keys {
            self.before.remove(&(peer, key.clone()));
            self.evicted.insert(key);
        }
    }

    /// The disk of a peer is one from before.
    pub(crate) fn went_back(&mut self, peer: usize) {
        self.knew.retain(|(it, _)| *it != peer);
        self.before.retain(|(it, _), _| *it != peer);
    }

    /// Nothing is back on a peer that knew of its deletion, and nothing is gone that was there and was
    /// not deleted.
    pub(crate) fn look(
        &mut self,
        histories: &BTreeMap<DocumentKey, History>,
        holdings: &Holdings,
        has_backups: bool,
    ) -> Result<(), Violation> {
        for (key, history) in histories {
            if !has_backups && holdings.iter().all(|held| !held.contains_key(key)) {
                let over = (history.written.len(), history.deletions.len());
                self.over.insert(key.clone(), over);
            }
            let may_live = history.may_live(self.over(key));
            let fields = history.fields();
            for (peer, held) in holdings.iter().enumerate() {
                let at = (peer, key.clone());
                let holding = held.get(key);
                let before = self.before.remove(&at);
                let shown = holding.and_then(|it| it.fields.clone());
                let lost = before.iter().flatten().filter(|it| fields.contains(*it));
                let mut lost =
                    lost.filter(|it| !shown.as_ref().is_some_and(|now| now.contains(*it)));
                if let Some(field) = lost.next() {
                    return Err(Violation::Vanished {
                        peer,
                        key: key.clone(),
                        field: field.clone(),
                    });
                }
                let is_shown = holding.is_some_and(Holding::is_shown);
                if may_live {
                    self.knew.remove(&at);
                } else if is_shown && self.knew.contains(&at) {
                    let key = key.clone();
                    return Err(Violation::Revived { peer, key });
                } else if shown.is_none() && (holding.is_some() || before.is_some()) {
                    self.knew.insert(at.clone());
                }
                if let Some(shown) = shown {
                    self.before.insert(at, shown);
                }
            }
        }
        Ok(())
    }

    fn over(&self, key: &DocumentKey) -> (usize, usize) {
        self.over.get(key).copied().unwrap_or_default()
    }

    /// When everybody has met: what was deleted is nowhere but in quarantine, and what was not is everywhere,
    /// unless it is in doubt, which somebody's quarantine tells.
    pub(crate) fn check_end(
        &self,
        histories: &BTreeMap<DocumentKey, History>,
        holdings: &Holdings,
    ) -> Result<(), Violation> {
        for (key, history) in histories {
            let held = || holdings.iter().map(|held| held.get(key)).enumerate();
            let is_in_doubt = held().any(|(_, it)| it.is_some_and(|it| it.is_quarantined));
            let wanted = history.fields();
            for (peer, holding) in held() {
                let key = key.clone();
                let shown = holding.and_then(|it| it.fields.as_ref());
                let may_live = history.may_live(self.over(&key));
                if holding.is_some_and(Holding::is_shown) && !may_live {
                    return Err(Violation::Revived { peer, key });
                }
                if is_in_doubt {
                    continue;
                }
                let is_held = |field: &&String| shown.is_some_and(|shown| shown.contains(*field));
                let lacking = wanted.iter().find(|field| !is_held(field));
                if let Some(field) = lacking.filter(|_| !self.evicted.contains(&key)) {
                    return Err(Violation::Vanished {
                        peer,
                        key,
                        field: field.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}
