//! Comparisons that serve both sides. This side told what it holds of a subscription; the other side
//! wants the same, found the difference, and tells what it lacks and which versions it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use idem_model::{DocumentKey, VersionVector, limits};
use idem_query::Selector;
use idem_wire::{Compared, KeyedVersion, Lacks, SubscriptionId};

use crate::{
    event::CloseReason,
    failure::Failure,
    few::Few,
    holdings::{Visited, scan_documents},
    known::{KeyHash, Known},
    replica::{Replica, ScopeFilter},
    sketch::{KeyedHash, Salt, tag_of},
    wanted::Wanted,
};

/// Where frames with versions are cut. With one version more, and the tags of one frame, they stay
/// below 16 KiB, the smallest limit that a link may have.
const VERSIONS_BYTES: usize = 8 * 1024;

/// What this side told of its subscriptions, and what the other side found in it.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    /// By the number that this side gave.
    told: Few<u32, Told>,
}

#[derive(Debug)]
struct Told {
    subscription: SubscriptionId,
    /// Of the snapshot that was told of.
    commit: u64,
    stage: Stage,
    /// The remote was told that something is still lacking here, so that what it says to be the end is
    /// none until it has said that it knows.
    is_doubtful: bool,
}

#[derive(Debug)]
enum Stage {
    Hearing {
        tags: Vec<[u8; 4]>,
        versions: Vec<KeyedVersion>,
    },
    /// What the remote lacks, until it asks for it; `None` if that is not known.
    Heard(Option<Found>),
}

/// What a remote lacks of a snapshot of this side.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) keys: Vec<DocumentKey>,
    /// Documents among them of which the remote has another version.
    pub(crate) twins: BTreeSet<KeyHash>,
    /// Of the snapshot.
    pub(crate) commit: u64,
}

/// What became of a comparison.
pub(crate) enum Outcome {
    /// The remote has not told all yet.
    Waiting,
    Found(Found),
    /// There is none, or none any more.
    Unknown,
}

/// Everything that hearing of a comparison needs beside the mirrors.
pub(crate) struct Hearing<'a, R> {
    pub(crate) salt: Salt,
    pub(crate) replica: &'a R,
    pub(crate) wanted: &'a Wanted,
    pub(crate) known: &'a mut Known,
}

impl Mirrors {
    // Input.

    /// The remote was told what is held of a subscription.
    pub(crate) fn tell(&mut self, alias: u32, subscription: SubscriptionId, commit: u64) {
        let stage = Stage::Hearing {
            tags: Vec::new(),
            versions: Vec::new(),
        };
        self.insert(alias, subscription, commit, stage);
    }

    /// The remote was told that nothing is held of a subscription, so it lacks nothing of it.
    pub(crate) fn tell_nothing(&mut self, alias: u32, subscription: SubscriptionId, commit: u64) {
        let found = Found {
            commit,
            ..Found::default()
        };
        self.insert(alias, subscription, commit, Stage::Heard(Some(found)));
    }

    /// The subscription ended.
    pub(crate) fn forget(&mut self, alias: u32) {
        self.told.remove(&alias);
    }

    /// All subscriptions ended.
    pub(crate) fn clear(&mut self) {
        self.told.clear();
    }

    /// The subscription has caught up: who has not begun to tell will not.
    pub(crate) fn finish(&mut self, alias: u32) {
        let is_heard = |told: &&Told| matches!(told.stage, Stage::Heard(_));
        if !self.told.get(&alias).is_some_and(|told| is_heard(&told)) {
            self.told.remove(&alias);
        }
    }

    /// The remote tells what the comparison showed. Returns what it is told in turn.
    pub(crate) fn hear<R: Replica>(
        &mut self,
        part: Compared,
        hearing: &mut Hearing<'_, R>,
    ) -> Result<Vec<Lacks>, Failure> {
        let alias = part.alias;
        let keys: usize = self.told.values().map(Told::keys).sum();
        // It may have been given back meanwhile.
        let Some(told) = self.told.get_mut(&alias) else {
            return Ok(Vec::new());
        };
        let is_empty = part.tags.is_empty() && part.versions.is_empty();
        let Stage::Hearing { tags, versions } = &mut told.stage else {
            if !std::mem::take(&mut told.is_doubtful) || !is_empty || part.more {
                let detail = "comparison of what was compared before";
                return Err(Failure::new(CloseReason::Malformed, detail));
            }
            return Ok(Vec::new());
        };
        tags.extend(part.tags);
        versions.extend(part.versions);
        let is_too_large = tags.len() > limits::LACKING_DOCUMENTS_MAX
            || versions.len() > limits::COMPARED_VERSIONS_MAX;
        if is_too_large {
            let detail = "comparison of too many documents";
            return Err(Failure::new(CloseReason::Limit, detail));
        }
        if part.more {
            return Ok(Vec::new());
        }
        let (tags, versions) = (std::mem::take(tags), std::mem::take(versions));
        let Some(selector) = hearing.wanted.selector(told.subscription) else {
            self.told.remove(&alias);
            return Ok(Vec::new());
        };
        let is_asked = !versions.is_empty();
        let search = Search::new(tags, versions, keys);
        let (found, lacks) = search.run(told, selector, hearing)?;
        told.stage = Stage::Heard(found);
        told.is_doubtful = !lacks.is_empty();
        Ok(match is_asked {
            true => lacks_of(alias, lacks),
            false => Vec::new(),
        })
    }

    // Output.

    /// What is known of the comparison of `subscription`, which this side numbered `alias`. What was
    /// found is given once.
    pub(crate) fn outcome(&mut self, alias: u32, subscription: SubscriptionId) -> Outcome {
        let told = self.told.get_mut(&alias);
        match told.filter(|told| told.subscription == subscription) {
            Some(Told {
                stage: Stage::Hearing { .. },
                ..
            }) => Outcome::Waiting,
            Some(Told {
                stage: Stage::Heard(found),
                ..
            }) => found.take().map_or(Outcome::Unknown, Outcome::Found),
            None => Outcome::Unknown,
        }
    }

    /// Whether what the remote says to be the end of a catch-up is none.
    pub(crate) fn is_doubtful(&self, alias: u32) -> bool {
        self.told.get(&alias).is_some_and(|told| told.is_doubtful)
    }

    fn insert(&mut self, alias: u32, subscription: SubscriptionId, commit: u64, stage: Stage) {
        let told = Told {
            subscription,
            commit,
            stage,
            is_doubtful: false,
        };
        self.told.insert(alias, told);
    }
}

impl Told {
    fn keys(&self) -> usize {
        match &self.stage {
            Stage::Heard(Some(found)) => found.keys.len(),
            _ => 0,
        }
    }
}

/// Looks for what a remote told of.
struct Search {
    tags: BTreeSet<[u8; 4]>,
    versions: BTreeMap<KeyedHash, VersionVector>,
    version_tags: BTreeSet<[u8; 4]>,
    /// How many keys are kept for other comparisons.
    kept: usize,
    found: Found,
    /// Documents whose hashes begin like that of one in `versions`.
    strays: Vec<([u8; 4], DocumentKey)>,
    lacks: Vec<KeyedVersion>,
}

impl Search {
    fn new(tags: Vec<[u8; 4]>, versions: Vec<KeyedVersion>, kept: usize) -> Self {
        let versions = versions.into_iter().map(|held| (held.key, held.version));
        let versions: BTreeMap<_, _> = versions.collect();
        Self {
            tags: tags.into_iter().collect(),
            version_tags: versions.keys().map(|key| tag_of(*key)).collect(),
            versions,
            kept,
            found: Found::default(),
            strays: Vec::new(),
            lacks: Vec::new(),
        }
    }

    /// What the remote lacks, unless that is too much, and what is lacking here.
    fn run<R: Replica>(
        mut self,
        told: &Told,
        selector: &Selector,
        hearing: &mut Hearing<'_, R>,
    ) -> Result<(Option<Found>, Vec<KeyedVersion>), Failure> {
        self.found.commit = told.commit;
        if self.tags.is_empty() && self.versions.is_empty() {
            return Ok((Some(self.found), self.lacks));
        }
        if self.tags.len() > limits::KNOWN_VERSIONS_MAX / 8 {
            // What was believed to be held there may be among it, and would be left out.
            hearing.known.clear();
        }
        scan_documents(
            hearing.replica,
            hearing.salt,
            told.subscription,
            (selector, selector.collection()),
            ScopeFilter::All,
            &mut |document| {
                self.look_at(document, hearing.known)?;
                Ok(ControlFlow::Continue(()))
            },
        )?;
        // What the remote took for another version of its document is another document.
        let mut lost = BTreeSet::new();
        for key in std::mem::take(&mut self.versions).into_keys() {
            lost.insert(tag_of(key));
            let version = VersionVector::new();
            self.lacks.push(KeyedVersion { key, version });
        }
        let strays = std::mem::take(&mut self.strays).into_iter();
        let strays = strays.filter(|(tag, _)| lost.contains(tag));
        self.found.keys.extend(strays.map(|(_, key)| key));
        let is_too_much = self.is_full();
        Ok(((!is_too_much).then_some(self.found), self.lacks))
    }

    fn look_at(&mut self, document: &Visited<'_>, known: &mut Known) -> Result<(), Failure> {
        let tag = document.tag();
        if let Some(theirs) = self.versions.remove(&document.key_hash) {
            return self.look_at_twin(document, &theirs, known);
        }
        // What was evicted here cannot be sent. Too much is sent in another way.
        if !document.is_there() || self.is_full() {
            return Ok(());
        }
        if self.tags.contains(&tag) {
            let key = document.key()?;
            if self.tags.len() <= limits::KNOWN_VERSIONS_MAX / 8 {
                known.compared(KeyHash::of(&key), None);
            }
            self.found.keys.push(key);
        } else if self.version_tags.contains(&tag) {
            self.strays.push((tag, document.key()?));
        }
        Ok(())
    }

    /// Both have the document, in versions of which either may tell more.
    fn look_at_twin(
        &mut self,
        document: &Visited<'_>,
        theirs: &VersionVector,
        known: &mut Known,
    ) -> Result<(), Failure> {
        let ours = document.version()?;
        if !ours.covers_all(theirs) {
            let is_named = document.is_there() && ours.len() <= limits::COMPARED_ACTORS_MAX;
            self.lacks.push(KeyedVersion {
                key: document.key_hash,
                version: if is_named {
                    ours.clone()
                } else {
                    VersionVector::new()
                },
            });
        }
        if !theirs.covers_all(&ours) && document.is_there() {
            let key = document.key()?;
            let hash = KeyHash::of(&key);
            known.compared(hash, Some(theirs));
            self.found.twins.insert(hash);
            self.found.keys.push(key);
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let keys = self.found.keys.len() + self.strays.len();
        self.kept + keys > limits::LACKING_DOCUMENTS_MAX
    }
}

fn lacks_of(alias: u32, versions: Vec<KeyedVersion>) -> Vec<Lacks> {
    let parts = version_parts(versions);
    let last = parts.len() - 1;
    let parts = parts.into_iter().enumerate();
    let lacks = parts.map(|(number, versions)| Lacks {
        alias,
        more: number < last,
        versions,
    });
    lacks.collect()
}

/// Cuts versions into parts for one frame each; at least one, which may be empty.
pub(crate) fn version_parts(versions: Vec<KeyedVersion>) -> Vec<Vec<KeyedVersion>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for held in versions {
        // For each actor its name, its place and its number at their longest.
        bytes += held.key.len() + 1 + held.version.len() * (16 + 2 + 10);
        let part = parts.last_mut().expect("there is one from the start");
        part.push(held);
        if bytes > VERSIONS_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
    }
    if parts.len() > 1 && parts.last().is_some_and(Vec::is_empty) {
        parts.pop();
    }
    parts
}
