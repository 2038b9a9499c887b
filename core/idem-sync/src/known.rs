//! What the remote is known to hold.

use std::collections::{BTreeMap, btree_map::Entry};

use idem_model::{
    ActorId, DecodeError, DocumentKey, Dot, Lane, VersionVector, codec::Reader, limits,
};

/// A document key in 16 bytes. It is a cryptographic hash, so nobody can make two keys meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct KeyHash([u8; 16]);

impl KeyHash {
    pub(crate) fn of(key: &DocumentKey) -> Self {
        let mut hasher = blake3::Hasher::new();
        let name = key.collection.as_str().as_bytes();
        // Names hold no control characters, so the zero byte separates.
        hasher.update(name).update(&[0]).update(&key.id.to_key());
        let mut hash = [0; 16];
        hasher.finalize_xof().fill(&mut hash);
        Self(hash)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Versions of documents at the remote, as far as they matter: a bounded memory that may forget.
///
/// Forgetting costs bytes, never correctness: a document that is not known is sent whole, or asked
/// for first. Entries live in two generations; when the young one is full, the old one goes.
#[derive(Debug, Default)]
pub(crate) struct Known {
    young: BTreeMap<KeyHash, Version>,
    old: BTreeMap<KeyHash, Version>,
    forgot_received: bool,
}

#[derive(Debug, Default)]
struct Version {
    /// What the remote holds durably; empty if it holds nothing; `None` if that is not known.
    held: Option<Encoded>,
    /// What it will hold once it has applied a batch that is under way.
    /// Boxed, since little is under way at a time.
    sent: Option<Box<Sent>>,
    /// Whether the remote sent it, so that sending it back would be an echo.
    received: bool,
    /// Whether that was after the remote was last asked what it holds of it.
    received_since_asked: bool,
}

impl Version {
    /// The remote holds at least this.
    fn hold(&mut self, held: &VersionVector) {
        self.held = Some(match &self.held {
            None => Encoded::of(held),
            Some(known) => {
                let mut known = known.to_version();
                known.join(held);
                Encoded::of(&known)
            }
        });
    }
}

#[derive(Debug)]
struct Sent {
    lane: Lane,
    batch: u64,
    version: Encoded,
    /// Whether it was only announced: the remote will hold it, from wherever, when it acknowledges the batch.
    /// Nothing builds on it before.
    is_announced: bool,
}

/// A version vector in its encoded form, which takes a tenth of the memory.
#[derive(Debug, PartialEq, Eq)]
struct Encoded(Box<[u8]>);

impl Encoded {
    fn of(version: &VersionVector) -> Self {
        let mut out = Vec::with_capacity(1 + version.len() * 19);
        version.encode(&mut out);
        Self(out.into_boxed_slice())
    }

    fn is_empty(&self) -> bool {
        *self.0 == [0]
    }

    fn to_version(&self) -> VersionVector {
        self.read().expect("encoded by ourselves")
    }

    /// Reads it without the limit on actors: documents merge beyond what a message may name.
    fn read(&self) -> Result<VersionVector, DecodeError> {
        let mut reader = Reader::new(&self.0);
        let count = reader.varint()?;
        let dots = (0..count).map(|_| {
            let actor = ActorId(reader.array()?);
            let n = reader.varint()?;
            Ok(Dot { actor, n })
        });
        dots.collect()
    }
}

impl Known {
    /// What the remote will hold of the document when it reads the next batch of `lane`; `None` if
    /// that is not known. What is under way on another lane does not count: it may arrive later.
    pub(crate) fn version(&self, key: KeyHash, lane: Lane) -> Option<VersionVector> {
        let version = self.young.get(&key).or_else(|| self.old.get(&key))?;
        match &version.sent {
            Some(sent) if sent.lane == lane && !sent.is_announced => {
                Some(sent.version.to_version())
            }
            _ => version.held.as_ref().map(Encoded::to_version),
        }
    }

    /// Whether something that the remote sent was forgotten, so that what is not known may be an
    /// echo.
    pub(crate) fn forgot_received(&self) -> bool {
        self.forgot_received
    }

    /// A document goes out in the `batch`-th batch of `lane`.
    pub(crate) fn sending(&mut self, key: KeyHash, lane: Lane, batch: u64, to: &VersionVector) {
        let version = Encoded::of(to);
        self.entry(key).sent = Some(Box::new(Sent {
            lane,
            batch,
            version,
            is_announced: false,
        }));
    }

    /// A change is announced in the `batch`-th batch of `lane`.
    pub(crate) fn announcing(&mut self, key: KeyHash, lane: Lane, batch: u64, to: &VersionVector) {
        let entry = self.entry(key);
        if entry.sent.as_ref().is_some_and(|sent| sent.lane != lane) {
            // What may still arrive on another lane matters more.
            return;
        }
        entry.sent = Some(Box::new(Sent {
            lane,
            batch,
            version: Encoded::of(to),
            is_announced: true,
        }));
    }

    /// The remote holds everything of the `batch`-th batch of `lane`, and so this document.
    pub(crate) fn delivered(&mut self, key: KeyHash, lane: Lane, batch: u64) {
        let version = match self.young.get_mut(&key) {
            Some(version) => version,
            None => match self.old.get_mut(&key) {
                Some(version) => version,
                None => return,
            },
        };
        if let Some(sent) = version
            .sent
            .take_if(|sent| sent.lane == lane && sent.batch == batch)
        {
            match sent.is_announced {
                true => version.hold(&sent.version.to_version()),
                false => version.held = Some(sent.version),
            }
        }
    }

    /// The remote may not hold what was in the `batch`-th batch of `lane`, and so not this document.
    pub(crate) fn undelivered(&mut self, key: KeyHash, lane: Lane, batch: u64) {
        for generation in [&mut self.young, &mut self.old] {
            let sent = generation
                .get(&key)
                .and_then(|version| version.sent.as_ref());
            if sent.is_some_and(|sent| (sent.lane, sent.batch) == (lane, batch)) {
                generation.remove(&key);
            }
        }
    }

    /// The remote sent this version, so it holds it.
    pub(crate) fn received(&mut self, key: KeyHash, held: &VersionVector) {
        let version = self.entry(key);
        version.received = true;
        version.received_since_asked = true;
        version.hold(held);
    }

    /// Our live feed has passed what the remote sent, so that it cannot become an echo any more.
    pub(crate) fn passed(&mut self, key: KeyHash) {
        for generation in [&mut self.young, &mut self.old] {
            if let Some(version) = generation.get_mut(&key) {
                version.received = false;
                return;
            }
        }
    }

    /// The remote says that it holds exactly this, whatever was believed.
    pub(crate) fn told(&mut self, key: KeyHash, held: &VersionVector) {
        let version = self.entry(key);
        version.held = Some(Encoded::of(held));
        version.sent = None;
    }

    /// The remote is asked what it holds of a document.
    pub(crate) fn asking(&mut self, key: KeyHash) {
        for generation in [&mut self.young, &mut self.old] {
            if let Some(version) = generation.get_mut(&key) {
                version.received_since_asked = false;
            }
        }
    }

    /// The remote says that it holds exactly this, behind everything that was sent on `lane` so far.
    /// What is under way on another lane may arrive later, and what it sent meanwhile may have overtaken
    /// this answer.
    pub(crate) fn answered(&mut self, key: KeyHash, held: &VersionVector, lane: Lane) {
        let version = self.entry(key);
        let mut held = held.clone();
        if let Some(received) = version
            .held
            .as_ref()
            .filter(|_| version.received_since_asked)
        {
            held.join(&received.to_version());
        }
        version.held = Some(Encoded::of(&held));
        version.sent.take_if(|sent| sent.lane == lane);
    }

    /// Whether the document is under way on another lane, so that it may arrive after what is sent on
    /// `lane` now.
    pub(crate) fn is_elsewhere(&self, key: KeyHash, lane: Lane) -> bool {
        let version = self.young.get(&key).or_else(|| self.old.get(&key));
        let sent = version.and_then(|version| version.sent.as_ref());
        sent.is_some_and(|sent| sent.lane != lane)
    }

    /// A comparison showed what the remote held, or that it held nothing or another version that is not
    /// known. It may have got more since, so that nothing but a version that it held is concluded, and
    /// what is under way may still arrive.
    pub(crate) fn compared(&mut self, key: KeyHash, held: Option<&VersionVector>) {
        if let Some(held) = held {
            let version = self.entry(key);
            // What was evicted there is compared as if it were held. Once the remote has said that it
            // holds nothing, a delta would not fit the next time either.
            if version.held.as_ref().is_none_or(|it| !it.is_empty()) {
                version.held = Some(Encoded::of(held));
            }
            return;
        }
        for generation in [&mut self.young, &mut self.old] {
            if let Some(version) = generation.get_mut(&key) {
                version.held = None;
                if version.sent.is_none() {
                    generation.remove(&key);
                }
            }
        }
    }

    /// It is not known any more what the remote holds or will hold.
    pub(crate) fn forget(&mut self, key: KeyHash) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    /// The link is gone: what was under way may or may not have arrived.
    pub(crate) fn forget_sent(&mut self) {
        for generation in [&mut self.young, &mut self.old] {
            generation.retain(|_, version| {
                let may_have_arrived = version.sent.take().is_some();
                let held = version.held.as_ref();
                // That it held nothing before says nothing then. Of what it held it has that or more.
                held.is_some_and(|held| !may_have_arrived || !held.is_empty())
            });
        }
    }

    /// The remote is not the one that all this was known of.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many documents are remembered.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn entry(&mut self, key: KeyHash) -> &mut Version {
        if self.young.len() >= limits::KNOWN_VERSIONS_MAX / 2 && !self.young.contains_key(&key) {
            let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.forgot_received |= forgotten.values().any(|version| version.received);
        }
        match self.young.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.old.remove(&key).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyHash = KeyHash([1; 16]);

    fn version(n: u64) -> VersionVector {
        let actor = ActorId([1; 16]);
        std::iter::once(Dot { actor, n }).collect()
    }

    #[test]
    fn a_late_answer_takes_nothing_back_that_came_since_it_was_asked_for() {
        for (before, since, expected) in [(1, Some(3), 3), (3, None, 2), (3, Some(1), 3)] {
            let mut known = Known::default();
            known.received(KEY, &version(before));
            known.asking(KEY);
            if let Some(since) = since {
                known.received(KEY, &version(since));
            }
            known.answered(KEY, &version(2), Lane::Bulk);
            let held = known.version(KEY, Lane::Bulk);
            assert_eq!(held, Some(version(expected)), "{before}, {since:?}");
        }
    }

    #[test]
    fn an_answer_is_behind_what_was_sent_on_its_lane_alone() {
        for lane in [Lane::Interactive, Lane::Bulk] {
            let mut known = Known::default();
            known.asking(KEY);
            known.sending(KEY, lane, 1, &version(3));
            known.answered(KEY, &version(2), Lane::Bulk);
            let expected = if lane == Lane::Bulk { 2 } else { 3 };
            assert_eq!(known.version(KEY, lane), Some(version(expected)));
            assert_eq!(known.version(KEY, Lane::Bulk), Some(version(2)));
        }
    }

    #[test]
    fn a_version_of_more_actors_than_a_message_may_name_is_remembered() {
        let actors = 0..=limits::VERSION_VECTOR_ENTRIES_MAX as u128;
        let version: VersionVector = actors
            .map(|actor| Dot {
                actor: ActorId(actor.to_be_bytes()),
                n: 1,
            })
            .collect();
        assert_eq!(Encoded::of(&version).to_version(), version);
    }
}
