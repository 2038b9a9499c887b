//! The records of all peers that are known.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_model::{PeerId, limits};

use crate::{
    frame::BUCKETS,
    names::PeerHash,
    record::{PeerKind, PresenceRecord, RecordLink, SignedRecord},
};

/// One record, and what is often asked of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) signed: SignedRecord,
    pub(crate) seq: u64,
    pub(crate) links: Box<[RecordLink]>,
    pub(crate) interests: Box<[[u8; 4]]>,
    /// Whether it says that it is a gateway.
    pub(crate) is_gateway: bool,
    /// When it counts no more; `None` for one's own.
    pub(crate) expires_at: Option<Duration>,
    lifetime_s: u16,
    /// The neighbour that brought the first record of this peer.
    pub(crate) introducer: PeerHash,
    item: u64,
}

impl Entry {
    pub(crate) fn new(
        now: Duration,
        hash: PeerHash,
        signed: SignedRecord,
        record: PresenceRecord,
        age_s: u16,
        introducer: PeerHash,
    ) -> Self {
        let left = record.lifetime_s.saturating_sub(age_s);
        Self {
            signed,
            seq: record.seq,
            links: record.links.into(),
            interests: record.interests.into(),
            is_gateway: record.kind == PeerKind::BigPeer,
            expires_at: Some(now + Duration::from_secs(left.into())),
            lifetime_s: record.lifetime_s,
            introducer,
            item: item(hash, record.seq),
        }
    }

    /// How old it is to be called when it is passed on: rounded up, so that no circle keeps it for ever.
    pub(crate) fn age_s(&self, now: Duration) -> u16 {
        let Some(expires_at) = self.expires_at else {
            return 0;
        };
        let left = expires_at.saturating_sub(now).as_secs();
        let left = u16::try_from(left).unwrap_or(u16::MAX);
        self.lifetime_s.saturating_sub(left)
    }

    pub(crate) fn is_linked(&self, peer: PeerHash) -> bool {
        let at = self.links.partition_point(|link| link.peer < peer);
        self.links.get(at).is_some_and(|link| link.peer == peer)
    }
}

/// A record in eight bytes, for comparing tables.
fn item(hash: PeerHash, seq: u64) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("idem mesh presence item, version 1");
    hasher.update(&hash.to_bytes());
    hasher.update(&seq.to_be_bytes());
    let bytes = hasher.finalize();
    u64::from_be_bytes(*bytes.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

pub(crate) fn bucket(hash: PeerHash) -> usize {
    usize::from(hash.to_bytes()[0] >> 2)
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    entries: BTreeMap<PeerHash, Entry>,
    sums: Box<[u64; BUCKETS]>,
    gateways: BTreeSet<PeerHash>,
    have_gateways_changed: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            sums: Box::new([0; BUCKETS]),
            gateways: BTreeSet::new(),
            have_gateways_changed: false,
        }
    }
}

impl Table {
    pub(crate) fn get(&self, hash: PeerHash) -> Option<&Entry> {
        self.entries.get(&hash)
    }

    pub(crate) fn seq(&self, hash: PeerHash) -> Option<u64> {
        self.entries.get(&hash).map(|entry| entry.seq)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerHash, &Entry)> {
        self.entries.iter().map(|(hash, entry)| (*hash, entry))
    }

    pub(crate) fn sums(&self) -> &[u64; BUCKETS] {
        &self.sums
    }

    /// The peers whose records are summed up in one bucket.
    pub(crate) fn in_bucket(&self, at: usize) -> impl Iterator<Item = PeerHash> {
        let first = u8::try_from(at << 2).expect("64 buckets of 4 first bytes");
        let range = PeerHash::from_bytes([first, 0, 0, 0, 0, 0, 0, 0])
            ..=PeerHash::from_bytes([first | 3, 255, 255, 255, 255, 255, 255, 255]);
        self.entries.range(range).map(|(hash, _)| *hash)
    }

    /// Replaces the record of a peer, whose introducer stays.
    pub(crate) fn insert(&mut self, hash: PeerHash, mut entry: Entry) {
        if let Some(old) = self.take_out(hash) {
            entry.introducer = old.introducer;
        }
        self.have_gateways_changed |= match entry.is_gateway {
            true => self.gateways.insert(hash),
            false => self.gateways.remove(&hash),
        };
        self.sums[bucket(hash)] ^= entry.item;
        self.entries.insert(hash, entry);
    }

    pub(crate) fn remove(&mut self, hash: PeerHash) -> Option<Entry> {
        self.have_gateways_changed |= self.gateways.remove(&hash);
        self.take_out(hash)
    }

    fn take_out(&mut self, hash: PeerHash) -> Option<Entry> {
        let old = self.entries.remove(&hash)?;
        self.sums[bucket(hash)] ^= old.item;
        Some(old)
    }

    /// Those that say that they are gateways.
    pub(crate) fn gateways(&self) -> &BTreeSet<PeerHash> {
        &self.gateways
    }

    /// Whether [`Self::gateways`] are others than when this was asked last.
    pub(crate) fn take_gateways_changed(&mut self) -> bool {
        std::mem::take(&mut self.have_gateways_changed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= limits::PRESENCE_RECORDS_MAX
    }

    /// Makes room for a peer that `introducer` brings: first goes who cannot be reached, then who came
    /// from the neighbour that introduced the most, the furthest away first. Gives false if the newcomer
    /// is from there itself, for then it is as good as those that it would replace.
    pub(crate) fn make_room(
        &mut self,
        introducer: PeerHash,
        distance: impl Fn(PeerHash) -> Option<u16>,
    ) -> bool {
        let mut introduced: BTreeMap<PeerHash, usize> = BTreeMap::new();
        for entry in self.entries.values() {
            *introduced.entry(entry.introducer).or_default() += 1;
        }
        let strangers = self
            .entries
            .iter()
            .filter(|(_, it)| it.expires_at.is_some());
        let ranked = strangers.map(|(hash, entry)| {
            let away = distance(*hash);
            let is_away = away.is_none();
            let rank = (
                is_away,
                introduced[&entry.introducer],
                away,
                entry.introducer,
            );
            (rank, *hash)
        });
        let Some(((is_away, .., from), victim)) = ranked.max() else {
            return false;
        };
        if !is_away && from == introducer {
            return false;
        }
        self.remove(victim);
        true
    }

    /// Removes what counts no more.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<PeerHash> {
        let is_over = |entry: &Entry| entry.expires_at.is_some_and(|at| at <= now);
        let over = self.entries.iter().filter(|(_, entry)| is_over(entry));
        let over: Vec<_> = over.map(|(hash, _)| *hash).collect();
        for hash in &over {
            self.remove(*hash);
        }
        over
    }

    pub(crate) fn peer(&self, hash: PeerHash) -> Option<PeerId> {
        self.entries.get(&hash).map(|entry| entry.signed.peer)
    }
}
