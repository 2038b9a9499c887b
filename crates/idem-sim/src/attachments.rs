//! Runs in which peers make attachments and fetch them from each other, over links that fail and peers
//! that want none of it.
//!
//! The exchange and the store of contents are the real ones. There are no documents: what documents refer to
//! is drawn.

mod checks;
mod hostile;
mod peer;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_blob::MemoryStorage;
use idem_blob_sync::{Event, FailReason, FetchTerms};
use idem_model::{BlobId, BlobKey, Lane, PeerId, limits};

use crate::{
    canary::Canary,
    check::Violation,
    network::{Edge, Link},
    options::Options,
    random::Random,
    world::Report,
};
use peer::{Peer, Process};

/// Events in a run, for each peer.
const EVENTS_PER_PEER_MAX: u64 = 400_000;

/// Lengths of contents that something depends on; others are drawn.
const LENGTHS: [u64; 6] = [0, 1, 16 * 1024, 64 * 1024, 64 * 1024 + 1, 300_000];

/// How often what nothing refers to is collected.
const COLLECT_EVERY_US: u64 = 2_000_000;

type Checked = Result<(), Violation>;

/// Something that happens at a time.
enum Happening {
    Raise {
        edge: usize,
    },
    Cut {
        edge: usize,
    },
    Notice {
        edge: usize,
        link: u64,
        side: usize,
    },
    Arrive {
        edge: usize,
        link: u64,
        side: usize,
        frame: Vec<u8>,
    },
    Timer {
        peer: usize,
    },
    Crash {
        peer: usize,
    },
    Restart {
        peer: usize,
    },
    Split {
        for_us: u64,
    },
    Make {
        content: usize,
    },
    Fetch {
        peer: usize,
        key: BlobKey,
    },
    Cancel {
        fetch: usize,
    },
    Collect {
        peer: usize,
    },
    Cheat {
        peer: usize,
    },
}

/// What somebody made.
struct Content {
    maker: usize,
    bytes: Vec<u8>,
    key: BlobKey,
    is_made: bool,
}

/// A fetch of an app.
struct Fetch {
    peer: usize,
    key: BlobKey,
    begun_us: u64,
    ended_us: Option<u64>,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Completed,
    Failed(FailReason),
    /// The process died, or the app took it back.
    Gone,
}

/// A run.
pub(crate) struct Attachments {
    options: Options,
    canary: Option<Canary>,
    random: Random,
    pub(crate) now_us: u64,
    events: u64,
    frames: u64,
    faults: u64,
    next: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    peers: Vec<Peer>,
    edges: Vec<Edge>,
    /// Edges that carry nothing: of a hostile peer that was found out, or across a split until a time.
    closed_until_us: Vec<u64>,
    contents: Vec<Content>,
    fetches: Vec<Fetch>,
    is_healed: bool,
    hostile: Vec<hostile::Memory>,
    link_bytes_max: u64,
    relay_bytes_max: u64,
    trace: blake3::Hasher,
}

fn id_of(peer: usize) -> PeerId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(peer as u64 + 1).to_be_bytes());
    PeerId(id)
}

fn peer_of(id: PeerId) -> usize {
    let number: [u8; 8] = id.0[..8].try_into().expect("8 bytes");
    usize::try_from(u64::from_be_bytes(number) - 1).expect("made by id_of")
}

impl Attachments {
    pub(crate) fn new(options: &Options, canary: Option<Canary>) -> Self {
        let mut random = Random::new(options.seed ^ 0xa77a);
        let honest = options.conducts.iter().filter(|it| it.is_honest()).count();
        let contents = (0..options.attachments.contents).map(|number| {
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            let most = options.attachments.bytes_max;
            let drawn = random.between(0, most);
            let len = LENGTHS.get(index).copied().unwrap_or(drawn).min(most);
            let mut source = Random::new(options.seed ^ number << 32);
            let bytes: Vec<u8> = (0..len.div_ceil(8))
                .flat_map(|_| source.next().to_be_bytes())
                .take(usize::try_from(len).expect("in memory"))
                .collect();
            let id = BlobId(*blake3::hash(&bytes).as_bytes());
            Content {
                maker: random.index(honest),
                key: BlobKey { id, len },
                bytes,
                is_made: false,
            }
        });
        let contents = contents.collect();
        let peers = (0..options.peers).map(|_| Peer {
            storage: MemoryStorage::default(),
            process: None,
            referenced: BTreeSet::new(),
            timer_us: None,
            bytes_sent: 0,
        });
        Self {
            peers: peers.collect(),
            edges: options.edges.iter().cloned().map(Edge::new).collect(),
            closed_until_us: vec![0; options.edges.len()],
            hostile: (0..options.peers)
                .map(|_| hostile::Memory::default())
                .collect(),
            options: options.clone(),
            canary,
            random,
            now_us: 0,
            events: 0,
            frames: 0,
            faults: 0,
            next: 0,
            queue: BTreeMap::new(),
            contents,
            fetches: Vec::new(),
            is_healed: false,
            link_bytes_max: 0,
            relay_bytes_max: 0,
            trace: blake3::Hasher::new(),
        }
    }

    pub(crate) fn run(&mut self) -> Result<Report, Violation> {
        for peer in 0..self.peers.len() {
            self.start(peer)?;
            let first = self.random.below(COLLECT_EVERY_US);
            self.schedule(first, Happening::Collect { peer });
            if !self.is_honest(peer) {
                self.schedule(first, Happening::Cheat { peer });
            }
        }
        for edge in 0..self.edges.len() {
            let delay = self.random.below(200_000);
            self.schedule(delay, Happening::Raise { edge });
        }
        let busy_us = self.plan();
        self.run_while(|run| run.now_us < busy_us)?;
        let healed_us = self.now_us;
        self.heal()?;
        let limit_us = self.now_us + self.options.rest_us_max;
        self.run_while(|run| run.now_us < limit_us && !run.is_at_rest())?;
        self.check_rest(healed_us)?;
        self.check_reach()?;
        self.check_collection()?;
        Ok(self.report(healed_us))
    }

    fn is_honest(&self, peer: usize) -> bool {
        self.options.conducts[peer].is_honest()
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.now_us)
    }

    fn schedule(&mut self, delay_us: u64, happening: Happening) {
        self.next += 1;
        self.queue
            .insert((self.now_us + delay_us, self.next), happening);
    }

    /// Decides on what is made, fetched and broken. Gives how long that lasts.
    fn plan(&mut self) -> u64 {
        let busy_us = self.options.faults_us.max(1_000_000);
        for content in 0..self.contents.len() {
            let at = self.random.below(busy_us / 2);
            self.schedule(at, Happening::Make { content });
        }
        let honest: Vec<usize> = (0..self.peers.len())
            .filter(|peer| self.is_honest(*peer))
            .collect();
        for _ in 0..self.options.attachments.fetches {
            let peer = honest[self.random.index(honest.len())];
            let at = self.random.below(busy_us);
            let key = if self.contents.is_empty() || self.random.chance(10) {
                self.absent_key()
            } else {
                self.contents[self.random.index(self.contents.len())].key
            };
            self.schedule(at, Happening::Fetch { peer, key });
        }
        let seconds = busy_us.div_ceil(1_000_000);
        let faults = self.options.faults;
        for _ in 0..faults.cuts * seconds {
            let edge = self.random.index(self.edges.len());
            let at = self.random.below(busy_us);
            self.schedule(at, Happening::Cut { edge });
        }
        for _ in 0..faults.crashes * seconds {
            let peer = self.random.index(self.peers.len());
            let at = self.random.below(busy_us);
            self.schedule(at, Happening::Crash { peer });
        }
        for _ in 0..faults.partitions {
            let for_us = self.random.within(faults.partition_us);
            let at = self.random.below(busy_us);
            self.schedule(at, Happening::Split { for_us });
        }
        busy_us
    }

    /// What nobody has.
    fn absent_key(&mut self) -> BlobKey {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.random.next().to_be_bytes());
        let len = self.random.between(0, 1_000_000);
        let id = BlobId(id);
        BlobKey { id, len }
    }

    fn run_while(&mut self, go_on: impl Fn(&Self) -> bool) -> Checked {
        let limit = EVENTS_PER_PEER_MAX * self.peers.len() as u64;
        while go_on(self)
            && let Some(((at_us, _), happening)) = self.queue.pop_first()
        {
            self.now_us = self.now_us.max(at_us);
            self.events += 1;
            if self.events > limit {
                let seconds = self.now_us / 1_000_000;
                let events = self.events;
                return Err(Violation::Unrest { events, seconds });
            }
            self.happen(happening)?;
        }
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Raise { edge } => self.raise(edge),
            Happening::Cut { edge } => {
                self.faults += 1;
                self.cut(edge);
                Ok(())
            }
            Happening::Notice { edge, link, side } => self.notice(edge, link, side),
            Happening::Arrive {
                edge,
                link,
                side,
                frame,
            } => self.arrive(edge, (link, side), &frame),
            Happening::Timer { peer } => self.tick(peer),
            Happening::Crash { peer } => self.crash(peer),
            Happening::Restart { peer } => self.start(peer),
            Happening::Split { for_us } => {
                self.split(for_us);
                Ok(())
            }
            Happening::Make { content } => self.make(content),
            Happening::Fetch { peer, key } => self.fetch(peer, key).map(|_| ()),
            Happening::Cancel { fetch } => self.cancel(fetch),
            Happening::Collect { peer } => self.collect(peer),
            Happening::Cheat { peer } => {
                self.cheat(peer);
                Ok(())
            }
        }
    }

    // Links.

    fn raise(&mut self, edge: usize) -> Checked {
        if self.closed_until_us[edge] > self.now_us {
            let wait = (self.closed_until_us[edge] - self.now_us).min(1_000_000);
            self.schedule(wait, Happening::Raise { edge });
            return Ok(());
        }
        let [a, b] = self.edges[edge].options.peers;
        let is_up = |peer: usize| self.peers[peer].process.is_some();
        if !self.edges[edge].links.is_empty() || !is_up(a) || !is_up(b) {
            return Ok(());
        }
        self.next += 1;
        let link = self.next;
        self.edges[edge].links.insert(link, Link::up());
        let now = self.now();
        for (peer, other, side) in [(a, b, 1), (b, a, 0)] {
            let frame = self.edges[edge].options.towards[side].frame_bytes_max;
            let bytes = usize::try_from(frame).expect("a frame fits in memory");
            if let Some(process) = &mut self.peers[peer].process {
                let shelf = &mut process.shelf;
                process
                    .exchange
                    .handle_neighbour_up(now, shelf, id_of(other), bytes);
            }
        }
        self.pump(a)?;
        self.pump(b)
    }

    /// Nothing comes through any more; the sides find out when they do.
    fn cut(&mut self, edge: usize) {
        let links: Vec<u64> = self.edges[edge].links.keys().copied().collect();
        for link in links {
            let known = self.edges[edge].links.get_mut(&link).expect("listed");
            if std::mem::replace(&mut known.is_cut, true) {
                continue;
            }
            for side in 0..2 {
                let delay = self.random.below(500_000);
                self.schedule(delay, Happening::Notice { edge, link, side });
            }
        }
    }

    fn notice(&mut self, edge: usize, link: u64, side: usize) -> Checked {
        let [a, b] = self.edges[edge].options.peers;
        let (peer, other) = if side == 0 { (a, b) } else { (b, a) };
        let Some(known) = self.edges[edge].links.get_mut(&link) else {
            return Ok(());
        };
        if !std::mem::replace(&mut known.is_up[side], false) {
            return Ok(());
        }
        if !known.is_up[1 - side] {
            self.edges[edge].links.remove(&link);
            let delay = self.random.between(50_000, 500_000);
            self.schedule(delay, Happening::Raise { edge });
        }
        let now = self.now();
        if let Some(process) = &mut self.peers[peer].process {
            let shelf = &mut process.shelf;
            process
                .exchange
                .handle_neighbour_down(now, shelf, id_of(other));
        }
        self.pump(peer)
    }

    fn split(&mut self, for_us: u64) {
        self.faults += 1;
        let sides: Vec<bool> = self.peers.iter().map(|_| self.random.chance(50)).collect();
        for edge in 0..self.edges.len() {
            let [a, b] = self.edges[edge].options.peers;
            if sides[a] != sides[b] {
                let until = self.now_us + for_us;
                let closed = &mut self.closed_until_us[edge];
                *closed = (*closed).max(until);
                self.cut(edge);
            }
        }
    }

    fn arrive(&mut self, edge: usize, (link, side): (u64, usize), frame: &[u8]) -> Checked {
        let [a, b] = self.edges[edge].options.peers;
        let (from, to) = if side == 0 { (b, a) } else { (a, b) };
        let is_taken = self.edges[edge].arrive(link, side, frame.len() as u64);
        if is_taken {
            self.frames += 1;
            self.trace.update(&self.now_us.to_be_bytes());
            self.trace.update(frame);
            self.listen(to, from, frame);
            let now = self.now();
            if let Some(process) = &mut self.peers[to].process {
                let shelf = &mut process.shelf;
                shelf.now_ms = now_ms(self.now_us);
                process
                    .exchange
                    .handle_frame(now, shelf, id_of(from), frame);
            }
            self.pump(to)?;
        }
        self.pump(from)
    }

    /// Hands a frame to a link.
    fn send(&mut self, from: usize, to: usize, lane: Lane, frame: Vec<u8>) {
        let Some((edge, link)) = self.link_between(from, to) else {
            return;
        };
        let Some(side) = self.edges[edge].side_of(to) else {
            return;
        };
        let bytes = frame.len() as u64;
        self.peers[from].bytes_sent += bytes;
        let (now_us, is_lossless) = (self.now_us, self.is_healed);
        let random = &mut self.random;
        let sent = self.edges[edge].send(now_us, (link, side), (lane, bytes), is_lossless, random);
        let under_way = self.edges[edge].under_way((link, side));
        self.link_bytes_max = self.link_bytes_max.max(under_way);
        if let Some(at_us) = sent {
            let happening = Happening::Arrive {
                edge,
                link,
                side,
                frame,
            };
            self.schedule(at_us - now_us, happening);
        }
    }

    fn link_between(&self, a: usize, b: usize) -> Option<(usize, u64)> {
        let mut edges = self.edges.iter().enumerate();
        let (at, edge) = edges
            .find(|(_, edge)| edge.side_of(a).is_some() && edge.side_of(b).is_some() && a != b)?;
        Some((at, *edge.links.keys().next()?))
    }

    // Peers.

    fn start(&mut self, peer: usize) -> Checked {
        if self.peers[peer].process.is_some() {
            return Ok(());
        }
        let seed = self.random.next();
        let started = Process::start(&self.peers[peer].storage, seed);
        let (mut process, _) = started.map_err(|error| Violation::Attachment {
            peer,
            what: format!("the store does not open: {error}"),
        })?;
        process.shelf.now_ms = now_ms(self.now_us);
        process.shelf.spoils = self.canary == Some(Canary::SpoilPieces) && peer == 0;
        self.peers[peer].process = Some(process);
        self.peers[peer].timer_us = None;
        for edge in 0..self.edges.len() {
            if self.edges[edge].side_of(peer).is_some() {
                let delay = self.random.below(200_000);
                self.schedule(delay, Happening::Raise { edge });
            }
        }
        Ok(())
    }

    /// A process dies with what was not on disk.
    fn crash(&mut self, peer: usize) -> Checked {
        let Some(process) = self.peers[peer].process.take() else {
            return Ok(());
        };
        self.faults += 1;
        process.die();
        let seed = self.random.next();
        self.peers[peer].storage.crash(seed);
        let now_us = self.now_us;
        let open = self.fetches.iter_mut();
        for fetch in open.filter(|it| it.peer == peer && it.outcome.is_none()) {
            fetch.outcome = Some(Outcome::Gone);
            fetch.ended_us = Some(now_us);
        }
        for edge in 0..self.edges.len() {
            let Some(side) = self.edges[edge].side_of(peer) else {
                continue;
            };
            self.cut(edge);
            let links: Vec<u64> = self.edges[edge].links.keys().copied().collect();
            for link in links {
                self.notice(edge, link, side)?;
            }
        }
        let delay = self.random.between(10_000, 1_000_000);
        self.schedule(delay, Happening::Restart { peer });
        Ok(())
    }

    fn tick(&mut self, peer: usize) -> Checked {
        if self.peers[peer].timer_us.is_none_or(|at| at > self.now_us) {
            return Ok(());
        }
        self.peers[peer].timer_us = None;
        let now = self.now();
        let is_deaf = self.canary == Some(Canary::IgnoreTime) && peer == 0;
        if let Some(process) = &mut self.peers[peer].process {
            process.shelf.now_ms = now_ms(self.now_us);
            if process.exchange.poll_timeout().is_some_and(|at| at <= now) && !is_deaf {
                process.exchange.handle_timeout(now, &mut process.shelf);
            }
        }
        if is_deaf {
            return Ok(());
        }
        self.pump(peer)
    }

    /// Lets a peer say what it has to say.
    fn pump(&mut self, peer: usize) -> Checked {
        loop {
            let now = self.now();
            let Some(mut process) = self.peers[peer].process.take() else {
                return Ok(());
            };
            process.shelf.now_ms = now_ms(self.now_us);
            let has_room = |to: PeerId, _: Lane| {
                let to = peer_of(to);
                self.link_between(peer, to).is_some_and(|(edge, link)| {
                    let edge = &self.edges[edge];
                    edge.side_of(to)
                        .is_some_and(|side| edge.has_room(link, side))
                })
            };
            let shelf = &mut process.shelf;
            let next = process.exchange.poll_transmit(now, shelf, has_room);
            self.peers[peer].process = Some(process);
            let Some(transmit) = next else {
                break;
            };
            let to = peer_of(transmit.peer);
            if let Some(frame) = self.twist(peer, to, transmit.frame) {
                self.send(peer, to, transmit.lane, frame);
            }
        }
        while let Some(process) = &mut self.peers[peer].process
            && let Some(event) = process.exchange.poll_event()
        {
            self.told(peer, &event)?;
        }
        self.check_bounds(peer)?;
        let next = self.peers[peer].process.as_ref();
        let next = next.and_then(|process| process.exchange.poll_timeout());
        if let Some(at) = next {
            let at_us = u64::try_from(at.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
            let at_us = at_us.max(self.now_us);
            let known = self.peers[peer].timer_us;
            if known.is_none_or(|known| at_us < known || known < self.now_us) {
                self.peers[peer].timer_us = Some(at_us);
                self.schedule(at_us - self.now_us, Happening::Timer { peer });
            }
        }
        Ok(())
    }

    fn told(&mut self, peer: usize, event: &Event) -> Checked {
        let name = format!("{peer} {event:?}");
        self.trace.update(name.as_bytes());
        match event {
            Event::Completed { key } => {
                self.check_content(peer, *key)?;
                self.end(peer, *key, Outcome::Completed);
            }
            Event::Failed { key, reason } => {
                let is_known = matches!(
                    reason,
                    FailReason::NobodyHasIt | FailReason::TimedOut | FailReason::Damaged
                );
                if !is_known && self.is_honest(peer) {
                    let what = format!("a fetch ends with {reason:?}");
                    return Err(Violation::Attachment { peer, what });
                }
                self.end(peer, *key, Outcome::Failed(*reason));
            }
            Event::Damaged { peer: by, .. } | Event::Misbehaved { peer: by, .. } => {
                let by = peer_of(*by);
                if self.is_honest(by) && self.is_honest(peer) {
                    let what = format!("it takes peer {by} for hostile: {event:?}");
                    return Err(Violation::Attachment { peer, what });
                }
                if matches!(event, Event::Misbehaved { .. })
                    && let Some((edge, _)) = self.link_between(peer, by)
                {
                    self.closed_until_us[edge] = u64::MAX;
                    self.cut(edge);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, peer: usize, key: BlobKey, outcome: Outcome) {
        let now_us = self.now_us;
        let fetch = self
            .fetches
            .iter_mut()
            .find(|it| it.peer == peer && it.key == key && it.outcome.is_none());
        if let Some(fetch) = fetch {
            fetch.outcome = Some(outcome);
            fetch.ended_us = Some(now_us);
        }
    }

    // What apps do.

    fn make(&mut self, content: usize) -> Checked {
        let (maker, key) = (self.contents[content].maker, self.contents[content].key);
        let now = self.now();
        let time_ms = now_ms(self.now_us);
        let Some(process) = &mut self.peers[maker].process else {
            self.schedule(100_000, Happening::Make { content });
            return Ok(());
        };
        let made = process
            .shelf
            .store
            .insert(&self.contents[content].bytes, time_ms);
        if made.as_ref().ok() != Some(&key) {
            let what = format!("content cannot be put in: {made:?}");
            return Err(Violation::Attachment { peer: maker, what });
        }
        process.exchange.handle_made(now, &mut process.shelf, key);
        self.contents[content].is_made = true;
        self.peers[maker].referenced.insert(key.id);
        self.pump(maker)
    }

    /// Begins a fetch. Gives its number.
    fn fetch(&mut self, peer: usize, key: BlobKey) -> Result<Option<usize>, Violation> {
        let is_open = |it: &Fetch| it.peer == peer && it.key == key && it.outcome.is_none();
        if self.fetches.iter().any(is_open) {
            return Ok(None);
        }
        let now = self.now();
        let hops = match self.is_healed {
            true => limits::BLOB_HOPS_MAX,
            false => u8::try_from(self.random.between(0, 12)).expect("small"),
        };
        let timeout = match self.is_healed {
            true => Duration::from_secs(60),
            false => Duration::from_secs(self.random.between(5, 60)),
        };
        let Some(process) = &mut self.peers[peer].process else {
            return Ok(None);
        };
        process.shelf.now_ms = now_ms(self.now_us);
        let terms = FetchTerms { timeout, hops };
        process.exchange.fetch(now, &mut process.shelf, key, terms);
        let number = self.fetches.len();
        self.fetches.push(Fetch {
            peer,
            key,
            begun_us: self.now_us,
            ended_us: None,
            outcome: None,
        });
        if !self.is_healed && self.random.chance(50) {
            self.peers[peer].referenced.insert(key.id);
        }
        if !self.is_healed && self.random.chance(15) {
            let delay = self.random.below(3_000_000);
            self.schedule(delay, Happening::Cancel { fetch: number });
        }
        self.pump(peer)?;
        Ok(Some(number))
    }

    fn cancel(&mut self, fetch: usize) -> Checked {
        let Fetch {
            peer, key, outcome, ..
        } = self.fetches[fetch];
        if outcome.is_some() {
            return Ok(());
        }
        self.end(peer, key, Outcome::Gone);
        let now = self.now();
        if let Some(process) = &mut self.peers[peer].process {
            process.exchange.cancel(now, &mut process.shelf, key);
        }
        self.pump(peer)
    }

    fn collect(&mut self, peer: usize) -> Checked {
        if let Some(process) = &self.peers[peer].process {
            let referenced = &self.peers[peer].referenced;
            let collected = process.shelf.store.collect(referenced, now_ms(self.now_us));
            if let Err(error) = collected {
                let what = format!("collecting fails: {error}");
                return Err(Violation::Attachment { peer, what });
            }
        }
        self.schedule(COLLECT_EVERY_US, Happening::Collect { peer });
        Ok(())
    }

    /// All faults end, and hostile peers are gone.
    fn heal(&mut self) -> Checked {
        self.is_healed = true;
        for edge in 0..self.edges.len() {
            let peers = self.edges[edge].options.peers;
            if peers.iter().all(|peer| self.is_honest(*peer)) {
                self.closed_until_us[edge] = 0;
                self.schedule(0, Happening::Raise { edge });
            } else {
                self.closed_until_us[edge] = u64::MAX;
                self.cut(edge);
            }
        }
        for peer in 0..self.peers.len() {
            if self.is_honest(peer) {
                self.start(peer)?;
            }
        }
        Ok(())
    }
}

/// The wall clock: it begins at some time.
fn now_ms(now_us: u64) -> u64 {
    1_000_000_000 + now_us / 1000
}
