//! Peers, links and blobs.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_blob_sync::{Blobs, Event, Exchange, FailReason, FetchTerms, Purpose, Trouble, Written};
use idem_model::{BlobId, BlobKey, BlobPart, GroupSet, Lane, PeerId};

/// What a link holds of one lane before it is full, as a real one does.
const LANE_BYTES: usize = 1024 * 1024;

pub(crate) fn peer(at: usize) -> PeerId {
    PeerId([u8::try_from(at).unwrap() + 1; 32])
}

pub(crate) fn key(number: u8, len: u64) -> BlobKey {
    BlobKey {
        id: BlobId([number; 32]),
        len,
    }
}

/// The piece of a blob that is what its key says.
pub(crate) fn true_piece(key: BlobKey, part: BlobPart) -> Vec<u8> {
    let len = usize::try_from(key.piece_bytes_of(part)).unwrap();
    let mark = key.id.0[0] ^ u8::try_from(part.first() % 251).unwrap();
    vec![mark; len]
}

/// Blobs without content: a piece is right if it is the one that [`true_piece`] makes.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) whole: BTreeSet<BlobKey>,
    pub(crate) parts: BTreeMap<BlobKey, GroupSet>,
    open: BTreeSet<BlobKey>,
    /// Blobs whose pieces it garbles.
    pub(crate) garbles: bool,
    /// Purposes of what was begun.
    pub(crate) begun: Vec<(BlobKey, Purpose)>,
    pub(crate) trouble: Option<Trouble>,
    pub(crate) written: u64,
}

impl Blobs for Shelf {
    fn is_whole(&mut self, key: BlobKey) -> bool {
        self.whole.contains(&key)
    }

    fn piece(&mut self, key: BlobKey, part: BlobPart) -> Option<Vec<u8>> {
        let range = part.first()..part.first() + key.groups_of(part);
        let is_open = self.open.contains(&key) && self.parts[&key].contains_all(range);
        let mut piece = (is_open || self.whole.contains(&key)).then(|| true_piece(key, part))?;
        if self.garbles {
            piece[0] ^= 1;
        }
        Some(piece)
    }

    fn begin(&mut self, key: BlobKey, purpose: Purpose) -> Result<GroupSet, Trouble> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        assert!(!self.whole.contains(&key), "what is here is not fetched");
        assert!(self.open.insert(key), "begun once");
        self.begun.push((key, purpose));
        let new = || GroupSet::new(key.groups());
        Ok(self.parts.entry(key).or_insert_with(new).clone())
    }

    fn adopt(&mut self, key: BlobKey) -> Result<(), Trouble> {
        assert!(self.open.contains(&key) || self.whole.contains(&key));
        self.begun.push((key, Purpose::App));
        Ok(())
    }

    fn write(&mut self, key: BlobKey, part: BlobPart, piece: &[u8]) -> Written {
        assert!(self.open.contains(&key), "only what is being fetched");
        if let Some(trouble) = self.trouble {
            return Written::Failed(trouble);
        }
        if piece != true_piece(key, part) {
            return Written::Foreign;
        }
        self.written += piece.len() as u64;
        let range = part.first()..part.first() + key.groups_of(part);
        self.parts.get_mut(&key).unwrap().insert(range);
        Written::Kept
    }

    fn finish(&mut self, key: BlobKey) -> Result<(), Trouble> {
        assert!(self.open.remove(&key) && self.parts[&key].is_full());
        self.parts.remove(&key);
        self.whole.insert(key);
        Ok(())
    }

    fn end(&mut self, key: BlobKey) {
        assert!(self.open.remove(&key));
    }
}

/// One direction of a link.
#[derive(Debug)]
struct Pipe {
    lanes: BTreeMap<Lane, VecDeque<Vec<u8>>>,
    free_at: Duration,
    /// Frames on their way, with the time at which they are there.
    under_way: VecDeque<(Duration, Vec<u8>)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkKind {
    pub(crate) latency: Duration,
    /// Bytes a second.
    pub(crate) rate: u64,
}

pub(crate) const LAN: LinkKind = LinkKind {
    latency: Duration::from_micros(500),
    rate: 10_000_000,
};

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) shelves: Vec<Shelf>,
    links: BTreeMap<(usize, usize), (LinkKind, Pipe)>,
    pub(crate) events: Vec<Vec<Event>>,
    /// Bytes of frames that arrived at each peer.
    pub(crate) received: Vec<u64>,
}

impl World {
    pub(crate) fn new(peers: usize) -> Self {
        let mut world = Self::default();
        for at in 0..peers {
            world.exchanges.push(Exchange::new(at as u64));
            world.shelves.push(Shelf::default());
            world.events.push(Vec::new());
            world.received.push(0);
        }
        world
    }

    /// A row of peers.
    pub(crate) fn chain(peers: usize, kind: LinkKind) -> Self {
        let mut world = Self::new(peers);
        (1..peers).for_each(|at| world.link(at - 1, at, kind));
        world
    }

    pub(crate) fn link(&mut self, a: usize, b: usize, kind: LinkKind) {
        for (from, to) in [(a, b), (b, a)] {
            let pipe = Pipe {
                lanes: BTreeMap::new(),
                free_at: self.now,
                under_way: VecDeque::new(),
            };
            self.links.insert((from, to), (kind, pipe));
        }
        for (at, other) in [(a, b), (b, a)] {
            let shelf = &mut self.shelves[at];
            self.exchanges[at].handle_neighbour_up(self.now, shelf, peer(other), 64 * 1024);
        }
    }

    pub(crate) fn unlink(&mut self, a: usize, b: usize) {
        for (at, other) in [(a, b), (b, a)] {
            if self.links.remove(&(at, other)).is_some() {
                let shelf = &mut self.shelves[at];
                self.exchanges[at].handle_neighbour_down(self.now, shelf, peer(other));
            }
        }
    }

    pub(crate) fn is_linked(&self, a: usize, b: usize) -> bool {
        self.links.contains_key(&(a, b))
    }

    pub(crate) fn fetch(&mut self, at: usize, key: BlobKey, terms: FetchTerms) {
        self.exchanges[at].fetch(self.now, &mut self.shelves[at], key, terms);
    }

    pub(crate) fn cancel(&mut self, at: usize, key: BlobKey) {
        self.exchanges[at].cancel(self.now, &mut self.shelves[at], key);
    }

    pub(crate) fn make(&mut self, at: usize, key: BlobKey) {
        self.shelves[at].parts.remove(&key);
        self.shelves[at].whole.insert(key);
        self.exchanges[at].handle_made(self.now, &mut self.shelves[at], key);
    }

    /// Hands a frame in as if it came from a neighbour.
    pub(crate) fn inject(&mut self, from: usize, to: usize, frame: &[u8]) {
        let shelf = &mut self.shelves[to];
        self.exchanges[to].handle_frame(self.now, shelf, peer(from), frame);
    }

    /// Lets everything be sent that can be, and notes what is told.
    pub(crate) fn pump(&mut self) {
        for at in 0..self.exchanges.len() {
            let links = &mut self.links;
            loop {
                let has_room = |to: PeerId, lane: Lane| {
                    let to = usize::from(to.0[0] - 1);
                    let Some((_, pipe)) = links.get(&(at, to)) else {
                        return false;
                    };
                    let queued = pipe.lanes.get(&lane);
                    queued.is_none_or(|it| it.iter().map(Vec::len).sum::<usize>() < LANE_BYTES)
                };
                let shelf = &mut self.shelves[at];
                let Some(sent) = self.exchanges[at].poll_transmit(self.now, shelf, has_room) else {
                    break;
                };
                assert!(sent.frame.len() <= 64 * 1024);
                let to = usize::from(sent.peer.0[0] - 1);
                let (_, pipe) = links.get_mut(&(at, to)).unwrap();
                pipe.lanes
                    .entry(sent.lane)
                    .or_default()
                    .push_back(sent.frame);
            }
            while let Some(event) = self.exchanges[at].poll_event() {
                self.events[at].push(event);
            }
        }
        for (kind, pipe) in self.links.values_mut() {
            // A frame enters the link when the last one has left; lower lanes go first.
            while pipe.free_at <= self.now {
                let lane = pipe.lanes.values_mut().find(|lane| !lane.is_empty());
                let Some(frame) = lane.and_then(VecDeque::pop_front) else {
                    break;
                };
                let takes = Duration::from_nanos(frame.len() as u64 * 1_000_000_000 / kind.rate);
                pipe.free_at = self.now + takes;
                pipe.under_way
                    .push_back((pipe.free_at + kind.latency, frame));
            }
        }
    }

    /// One step in time. Gives false when nothing is left to happen before `until`.
    pub(crate) fn step(&mut self, until: Duration) -> bool {
        self.pump();
        let mut next: Option<Duration> = None;
        let mut consider = |at: Duration| next = Some(next.map_or(at, |it| it.min(at)));
        for (_, pipe) in self.links.values() {
            if let Some((at, _)) = pipe.under_way.front() {
                consider(*at);
            }
            if pipe.lanes.values().any(|lane| !lane.is_empty()) {
                consider(pipe.free_at);
            }
        }
        for exchange in &self.exchanges {
            exchange.poll_timeout().into_iter().for_each(&mut consider);
        }
        let Some(at) = next.filter(|at| *at <= until) else {
            self.now = until.max(self.now);
            return false;
        };
        self.now = self.now.max(at);
        let mut arrived = Vec::new();
        for ((from, to), (_, pipe)) in &mut self.links {
            while pipe
                .under_way
                .front()
                .is_some_and(|(at, _)| *at <= self.now)
            {
                let (_, frame) = pipe.under_way.pop_front().unwrap();
                arrived.push((*from, *to, frame));
            }
        }
        for (from, to, frame) in arrived {
            self.received[to] += frame.len() as u64;
            self.inject(from, to, &frame);
        }
        for at in 0..self.exchanges.len() {
            if self.exchanges[at]
                .poll_timeout()
                .is_some_and(|it| it <= self.now)
            {
                self.exchanges[at].handle_timeout(self.now, &mut self.shelves[at]);
            }
        }
        true
    }

    /// Runs for a time. A step must not happen for nothing: so many are enough for anything.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0;
        while self.step(until) {
            steps += 1;
            assert!(steps < 2_000_000, "time does not pass");
        }
    }

    pub(crate) fn is_completed(&self, at: usize, key: BlobKey) -> bool {
        self.events[at].contains(&Event::Completed { key })
    }

    pub(crate) fn failure(&self, at: usize, key: BlobKey) -> Option<FailReason> {
        self.events[at].iter().find_map(|event| match event {
            Event::Failed {
                key: failed,
                reason,
            } if *failed == key => Some(*reason),
            _ => None,
        })
    }

    pub(crate) fn misbehaviour(&self) -> Vec<&Event> {
        let all = self.events.iter().flatten();
        all.filter(|event| matches!(event, Event::Misbehaved { .. } | Event::Damaged { .. }))
            .collect()
    }
}

impl World {
    /// From now on nothing comes through from `from` to `to`.
    pub(crate) fn freeze(&mut self, from: usize, to: usize) {
        let (_, pipe) = self.links.get_mut(&(from, to)).unwrap();
        pipe.free_at = Duration::MAX;
        pipe.under_way.clear();
    }

    /// How long what is queued and under way from `from` to `to` takes the link.
    pub(crate) fn queued(&self, from: usize, to: usize) -> Duration {
        let (kind, pipe) = &self.links[&(from, to)];
        let queued = pipe.lanes.values().flatten().map(Vec::len).sum::<usize>();
        let queued = Duration::from_nanos(queued as u64 * 1_000_000_000 / kind.rate);
        queued + pipe.free_at.saturating_sub(self.now)
    }
}
