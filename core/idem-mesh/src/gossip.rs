//! Passing records on: announced to each neighbour, and sent to those that ask.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_model::{DatabaseId, DecodeError, PeerId, limits};

use crate::{
    budget::Budget,
    frame::{BUCKETS, Gossip},
    names::PeerHash,
    record::{PresenceRecord, SignedRecord, Signer},
    table::{Entry, Table, bucket},
};

/// What is to be announced waits for so long, to share a frame.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(200);

/// The same over Bluetooth, where a frame costs as much as 100 bytes.
const ANNOUNCE_AFTER_BLE: Duration = Duration::from_secs(1);

/// Who does not bring what was asked for within this time may not have it any more.
const WANT_MAX: Duration = Duration::from_secs(10);

/// How often overdue questions and records are looked for.
const SWEEP: Duration = Duration::from_secs(2);

/// Neighbours that a wanted record may be had from; more add little.
const SOURCES_MAX: usize = 4;

/// What a frame of records is filled up to: a larger record is a frame alone.
const RECORDS_FRAME_BYTES: usize = 12 * 1024;

/// Why gossip of a neighbour is not taken. Every one of them is a breach of the rules.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GossipError {
    /// It cannot be read.
    #[error("the gossip cannot be read")]
    Decode(#[from] DecodeError),
    /// A record that nobody asked for.
    #[error("a record came that nobody had asked for")]
    Unasked,
    /// A record whose signature does not hold.
    #[error("a record in the name of {peer} is not signed by it")]
    Forged {
        /// In whose name.
        peer: PeerId,
    },
    /// More than a neighbour may say.
    #[error("more gossip than a neighbour may send")]
    Flood,
}

/// What gossip brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Heard {
    /// Whether a record is new or gone.
    pub(crate) has_changed: bool,
    /// A record in the name of this peer, signed with its key, that is newer than its own: its number.
    pub(crate) double: Option<u64>,
    /// Something of interests.
    pub(crate) interest: Option<Gossip>,
}

#[derive(Clone, Debug)]
struct Neighbour {
    hash: PeerHash,
    pause: Duration,
    flush_at: Option<Duration>,
    /// Records that it may not have.
    announce: BTreeSet<PeerHash>,
    /// Records that it asked for.
    owed: BTreeSet<PeerHash>,
    /// Questions that count as open, because their time is not over.
    asked: usize,
    /// Questions that it may still answer.
    answers: u64,
    /// Records that are wanted and of which it was the first to tell.
    told: usize,
    introduced: Budget,
    inbound: Budget,
    announced: Budget,
    records: Budget,
}

impl Neighbour {
    fn new(now: Duration, hash: PeerHash, is_slow: bool) -> Self {
        let second = Duration::from_secs(1);
        let introduced = limits::GOSSIP_INTRODUCED_PER_MINUTE_MAX;
        let announced = limits::GOSSIP_ANNOUNCED_BYTES_MAX;
        let inbound = limits::GOSSIP_INBOUND_BYTES_PER_SECOND;
        let records = if is_slow {
            limits::GOSSIP_RECORD_BYTES_PER_SECOND_BLE
        } else {
            limits::GOSSIP_RECORD_BYTES_PER_SECOND
        };
        Self {
            hash,
            pause: if is_slow {
                ANNOUNCE_AFTER_BLE
            } else {
                ANNOUNCE_AFTER
            },
            flush_at: None,
            announce: BTreeSet::new(),
            owed: BTreeSet::new(),
            asked: 0,
            answers: 0,
            told: 0,
            introduced: Budget::new(now, introduced, introduced, second * 60),
            inbound: Budget::new(now, limits::GOSSIP_INBOUND_BYTES_MAX, inbound, second),
            announced: Budget::new(now, announced, inbound / 4 * 3, second),
            records: Budget::new(now, limits::GOSSIP_RECORD_BYTES_MAX, records, second),
        }
    }

    fn flush_by(&mut self, at: Duration) {
        self.flush_at = Some(self.flush_at.map_or(at, |other| other.min(at)));
    }

    fn announce(&mut self, now: Duration, hash: PeerHash) {
        self.announce.insert(hash);
        self.flush_by(now + self.pause);
    }
}

/// A record that some neighbour has and that is newer than the one here.
#[derive(Clone, Debug)]
struct Want {
    seq: u64,
    /// Who was asked, and until when it may take.
    asked: Option<(PeerId, Duration)>,
    sources: Vec<PeerId>,
    /// Who told first; it counts there.
    told_by: PeerId,
}

/// The exchange with all neighbours.
#[derive(Debug)]
pub(crate) struct Exchange {
    database: DatabaseId,
    own: PeerHash,
    pub(crate) table: Table,
    neighbours: BTreeMap<PeerId, Neighbour>,
    wants: BTreeMap<PeerHash, Want>,
    /// Those of `wants` that nobody was asked for.
    unasked: BTreeSet<PeerHash>,
    ask_at: Option<Duration>,
    sweep_at: Option<Duration>,
    outgoing: VecDeque<(PeerId, Vec<u8>)>,
}

impl Exchange {
    pub(crate) fn new(database: DatabaseId, local: PeerId) -> Self {
        Self {
            database,
            own: PeerHash::of(database, local),
            table: Table::default(),
            neighbours: BTreeMap::new(),
            wants: BTreeMap::new(),
            unasked: BTreeSet::new(),
            ask_at: None,
            sweep_at: None,
            outgoing: VecDeque::new(),
        }
    }

    /// Starts with a neighbour, or starts anew because something may have been lost.
    pub(crate) fn greet(&mut self, now: Duration, peer: PeerId, is_slow: bool) {
        let hash = PeerHash::of(self.database, peer);
        match self.neighbours.get_mut(&peer) {
            Some(neighbour) => neighbour.owed.clear(),
            None => {
                let neighbour = Neighbour::new(now, hash, is_slow);
                self.neighbours.insert(peer, neighbour);
            }
        }
        let summary = Gossip::Summary(Box::new(*self.table.sums()));
        self.send(peer, &summary);
        self.sweep_at.get_or_insert(now + SWEEP);
    }

    /// Forgets a neighbour.
    pub(crate) fn leave(&mut self, now: Duration, peer: PeerId) {
        self.neighbours.remove(&peer);
        self.outgoing.retain(|(to, _)| *to != peer);
        let wanted: Vec<_> = self.wants.keys().copied().collect();
        for hash in wanted {
            self.drop_source(hash, peer);
        }
        self.ask(now);
    }

    /// The record of this peer is another one now.
    pub(crate) fn publish(&mut self, now: Duration, signed: SignedRecord, record: PresenceRecord) {
        let mut entry = Entry::new(now, self.own, signed, record, 0, self.own);
        entry.expires_at = None;
        self.table.insert(self.own, entry);
        self.announce(now, self.own, None);
    }

    pub(crate) fn has(&self, peer: PeerId) -> bool {
        self.neighbours.contains_key(&peer)
    }

    pub(crate) fn poll(&mut self) -> Option<(PeerId, Vec<u8>)> {
        self.outgoing.pop_front()
    }

    pub(crate) fn next_at(&self) -> Option<Duration> {
        let flushes = self.neighbours.values().filter_map(|it| it.flush_at);
        flushes.chain(self.ask_at).chain(self.sweep_at).min()
    }

    /// Takes in what a neighbour says.
    pub(crate) fn handle(
        &mut self,
        now: Duration,
        from: PeerId,
        frame: &[u8],
        signer: &dyn Signer,
        distance: &dyn Fn(PeerHash) -> Option<u16>,
    ) -> Result<Heard, GossipError> {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return Ok(Heard::default());
        };
        let gossip = Gossip::decode(frame)?;
        // Records were asked for; everything else is bounded.
        let is_free = matches!(gossip, Gossip::Records(_));
        if !is_free && !neighbour.inbound.spend(now, frame.len() as u64) {
            return Err(GossipError::Flood);
        }
        match gossip {
            Gossip::Summary(sums) => self.handle_summary(now, from, &sums),
            Gossip::Have(entries) => {
                for (hash, seq) in entries {
                    self.handle_have(now, from, hash, seq);
                }
                self.ask(now);
            }
            Gossip::Want(hashes) => {
                for hash in hashes {
                    // What is gone meanwhile the other side will ask somebody else for.
                    if self.table.get(hash).is_some() {
                        neighbour.announce.remove(&hash);
                        neighbour.owed.insert(hash);
                    }
                }
                self.serve(now, from);
            }
            Gossip::Records(records) => {
                let mut heard = Heard::default();
                for (age_s, signed) in records {
                    self.handle_record(now, from, age_s, signed, signer, distance, &mut heard)?;
                }
                self.ask(now);
                return Ok(heard);
            }
            Gossip::Interest { .. }
            | Gossip::NoInterest(_)
            | Gossip::Gateways(_)
            | Gossip::Demand { .. } => {
                return Ok(Heard {
                    interest: Some(gossip),
                    ..Heard::default()
                });
            }
            Gossip::Extension(_) => {}
        }
        Ok(Heard::default())
    }

    fn handle_summary(&mut self, now: Duration, from: PeerId, sums: &[u64; BUCKETS]) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        let ours = self.table.sums();
        let differ = |at: &usize| ours[*at] != sums[*at];
        for at in (0..BUCKETS).filter(differ) {
            self.table
                .in_bucket(at)
                .for_each(|hash| neighbour.announce(now, hash));
        }
        // What was to be announced is known to be there where the sums agree.
        neighbour.announce.retain(|hash| differ(&bucket(*hash)));
    }

    fn handle_have(&mut self, now: Duration, from: PeerId, hash: PeerHash, seq: u64) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        match self.table.seq(hash) {
            Some(ours) if ours > seq => {
                neighbour.announce(now, hash);
                return;
            }
            ours => {
                neighbour.announce.remove(&hash);
                if ours == Some(seq) {
                    return;
                }
            }
        }
        if let Some(want) = self.wants.get_mut(&hash)
            && want.seq >= seq
        {
            let is_added = want.sources.len() < SOURCES_MAX && !want.sources.contains(&from);
            if want.seq == seq && is_added {
                want.sources.push(from);
            }
            return;
        }
        if neighbour.told >= limits::GOSSIP_WANTS_PER_NEIGHBOUR_MAX {
            return;
        }
        neighbour.told += 1;
        self.forget_want(hash);
        let want = Want {
            seq,
            asked: None,
            sources: vec![from],
            told_by: from,
        };
        self.wants.insert(hash, want);
        self.unasked.insert(hash);
    }

    #[expect(clippy::too_many_arguments, reason = "one step of a loop in `handle`")]
    fn handle_record(
        &mut self,
        now: Duration,
        from: PeerId,
        age_s: u16,
        signed: SignedRecord,
        signer: &dyn Signer,
        distance: &dyn Fn(PeerHash) -> Option<u16>,
        heard: &mut Heard,
    ) -> Result<(), GossipError> {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return Ok(());
        };
        neighbour.answers = neighbour
            .answers
            .checked_sub(1)
            .ok_or(GossipError::Unasked)?;
        let introducer = neighbour.hash;
        let record = signed.read()?;
        let hash = PeerHash::of(self.database, signed.peer);
        if self
            .wants
            .get(&hash)
            .is_some_and(|want| want.seq <= record.seq)
        {
            self.forget_want(hash);
        } else {
            // It has something older than it was thought to have.
            self.drop_source(hash, from);
        }
        let is_known = self.table.seq(hash).is_some_and(|seq| seq >= record.seq);
        let is_other = self
            .table
            .peer(hash)
            .is_some_and(|peer| peer != signed.peer);
        if is_known || is_other || age_s >= record.lifetime_s {
            return Ok(());
        }
        if !signed.holds(self.database, signer) {
            return Err(GossipError::Forged { peer: signed.peer });
        }
        if hash == self.own {
            heard.double = heard.double.max(Some(record.seq));
            return Ok(());
        }
        if self.table.get(hash).is_none()
            && self.table.is_full()
            && !self.table.make_room(introducer, distance)
        {
            return Ok(());
        }
        let entry = Entry::new(now, hash, signed, record, age_s, introducer);
        self.table.insert(hash, entry);
        heard.has_changed = true;
        self.announce(now, hash, Some(from));
        Ok(())
    }

    /// Tells all neighbours but one of a record.
    fn announce(&mut self, now: Duration, hash: PeerHash, except: Option<PeerId>) {
        for (peer, neighbour) in &mut self.neighbours {
            if Some(*peer) == except {
                neighbour.announce.remove(&hash);
            } else {
                neighbour.announce(now, hash);
            }
        }
    }

    fn forget_want(&mut self, hash: PeerHash) {
        let Some(want) = self.wants.remove(&hash) else {
            return;
        };
        self.unasked.remove(&hash);
        if let Some(neighbour) = self.neighbours.get_mut(&want.told_by) {
            neighbour.told -= 1;
        }
        if let Some((asked, _)) = want.asked
            && let Some(neighbour) = self.neighbours.get_mut(&asked)
        {
            neighbour.asked -= 1;
        }
    }

    /// A wanted record is not to be had from `peer`.
    fn drop_source(&mut self, hash: PeerHash, peer: PeerId) {
        let Some(want) = self.wants.get_mut(&hash) else {
            return;
        };
        want.sources.retain(|source| *source != peer);
        if want.asked.is_some_and(|(asked, _)| asked == peer) {
            want.asked = None;
            self.unasked.insert(hash);
            if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                neighbour.asked -= 1;
            }
        }
        let is_over = want.sources.is_empty();
        if is_over {
            self.forget_want(hash);
        } else if want.told_by == peer {
            let heir = want.sources[0];
            want.told_by = heir;
            if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                neighbour.told -= 1;
            }
            if let Some(neighbour) = self.neighbours.get_mut(&heir) {
                neighbour.told += 1;
            }
        }
    }

    /// Asks for what is wanted, as far as neighbours may be asked for more.
    fn ask(&mut self, now: Duration) {
        self.ask_at = None;
        if self.unasked.is_empty() {
            return;
        }
        let most = limits::GOSSIP_WANTS_OPEN_MAX;
        let mut room: usize = self.neighbours.values().map(|it| most - it.asked).sum();
        let mut questions: BTreeMap<PeerId, Vec<PeerHash>> = BTreeMap::new();
        for hash in &self.unasked {
            if room == 0 {
                break;
            }
            let want = self
                .wants
                .get_mut(hash)
                .expect("what nobody was asked for is wanted");
            let is_new = self.table.get(*hash).is_none();
            for source in &want.sources {
                let Some(neighbour) = self.neighbours.get_mut(source) else {
                    continue;
                };
                if neighbour.asked >= most || is_new && !neighbour.introduced.spend(now, 1) {
                    continue;
                }
                room -= 1;
                neighbour.asked += 1;
                neighbour.answers += 1;
                want.asked = Some((*source, now + WANT_MAX));
                questions.entry(*source).or_default().push(*hash);
                break;
            }
        }
        for (peer, hashes) in questions {
            hashes.iter().for_each(|hash| {
                self.unasked.remove(hash);
            });
            self.send(peer, &Gossip::Want(hashes));
        }
        if !self.unasked.is_empty() {
            self.ask_at = Some(now + Duration::from_secs(1));
        }
    }

    /// Sends a neighbour what it asked for, as far as its budget goes.
    fn serve(&mut self, now: Duration, peer: PeerId) {
        loop {
            let Some(neighbour) = self.neighbours.get_mut(&peer) else {
                return;
            };
            let mut records = Vec::new();
            let mut bytes = 0;
            while let Some(hash) = neighbour.owed.first().copied() {
                if let Some(entry) = self.table.get(hash) {
                    let length = entry.signed.encoded_len() + 3;
                    if bytes + length > RECORDS_FRAME_BYTES && bytes > 0 {
                        break;
                    }
                    if !neighbour.records.spend(now, length as u64) {
                        let at = neighbour.records.ready_at(now, length as u64);
                        neighbour.flush_by(at);
                        break;
                    }
                    bytes += length;
                    records.push((entry.age_s(now), entry.signed.clone()));
                }
                neighbour.owed.pop_first();
            }
            if records.is_empty() {
                return;
            }
            self.send(peer, &Gossip::Records(records));
        }
    }

    fn send(&mut self, to: PeerId, gossip: &Gossip) {
        self.outgoing.push_back((to, gossip.to_bytes()));
    }

    /// What is due by now. Gives whether a record is gone.
    pub(crate) fn handle_timeout(&mut self, now: Duration) -> bool {
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let due = self.neighbours.iter().filter(|(_, it)| is_due(it.flush_at));
        for peer in due.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.flush(now, peer);
        }
        if is_due(self.ask_at) {
            self.ask(now);
        }
        is_due(self.sweep_at) && self.sweep(now)
    }

    fn flush(&mut self, now: Duration, peer: PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        neighbour.flush_at = None;
        let mut frames = Vec::new();
        while !neighbour.announce.is_empty() {
            let hashes = neighbour.announce.iter().take(limits::GOSSIP_ENTRIES_MAX);
            let seq = |hash: &PeerHash| Some((*hash, self.table.seq(*hash)?));
            let entries: Vec<_> = hashes.copied().collect();
            let have: Vec<_> = entries.iter().filter_map(seq).collect();
            let bytes = 3 + 16 * have.len() as u64;
            if !neighbour.announced.spend(now, bytes) {
                let at = neighbour.announced.ready_at(now, bytes);
                neighbour.flush_by(at);
                break;
            }
            entries.iter().for_each(|hash| {
                neighbour.announce.remove(hash);
            });
            if !have.is_empty() {
                frames.push(Gossip::Have(have));
            }
        }
        frames.iter().for_each(|frame| self.send(peer, frame));
        self.serve(now, peer);
    }

    fn sweep(&mut self, now: Duration) -> bool {
        self.sweep_at = Some(now + SWEEP);
        let late = self.wants.iter().filter_map(|(hash, want)| {
            let (peer, until) = want.asked?;
            (until <= now).then_some((*hash, peer))
        });
        for (hash, peer) in late.collect::<Vec<_>>() {
            self.drop_source(hash, peer);
        }
        self.ask(now);
        let gone = self.table.expire(now);
        for neighbour in self.neighbours.values_mut() {
            for hash in &gone {
                neighbour.announce.remove(hash);
                neighbour.owed.remove(hash);
            }
        }
        !gone.is_empty()
    }
}
