//! Several peers in memory, each with sessions to its neighbours, under the test's hand.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_model::{ActorId, DocumentKey, DocumentOp, PeerId};
use idem_sync::{
    Event, Lane, LinkId, LinkProperties, MemoryReplica, Priority, Session, SessionStats,
};
use idem_wire::Message;

use crate::pair::{selector, session};

/// A peer with its sessions, by neighbour.
pub(crate) struct Peer {
    pub(crate) replica: MemoryReplica,
    pub(crate) sessions: BTreeMap<usize, Session>,
}

/// Peers, the links between them, and frames on their way.
pub(crate) struct Mesh {
    pub(crate) now: Duration,
    pub(crate) peers: Vec<Peer>,
    links: BTreeMap<(usize, usize), LinkId>,
    wires: BTreeMap<(usize, usize, Lane), VecDeque<Vec<u8>>>,
    /// Ways, from and to, on which frames stay under way.
    pub(crate) stuck: BTreeSet<(usize, usize)>,
    pub(crate) closed: Vec<(usize, Event)>,
    /// Messages that were handed out, with who got them from whom.
    pub(crate) heard: Vec<(usize, usize, String)>,
    link_last: u64,
    lives: u64,
}

impl Mesh {
    /// Peers with these links, all at rest and each wanting all that the others have.
    pub(crate) fn linked(peers: usize, links: &[(usize, usize)]) -> Self {
        let actor = |number: usize| ActorId([u8::try_from(number + 1).expect("few"); 16]);
        let peer = |number| Peer {
            replica: MemoryReplica::new(actor(number), 1_000_000),
            sessions: BTreeMap::new(),
        };
        let mut mesh = Self {
            now: Duration::from_secs(1),
            peers: (0..peers).map(peer).collect(),
            links: BTreeMap::new(),
            wires: BTreeMap::new(),
            stuck: BTreeSet::new(),
            closed: Vec::new(),
            heard: Vec::new(),
            link_last: 0,
            lives: 0,
        };
        for &(a, b) in links {
            mesh.link(a, b);
        }
        mesh.settle();
        mesh.heard.clear();
        mesh
    }

    fn meet(&mut self, of: usize, with: usize) {
        self.lives += 1;
        let [local, remote] = [of, with].map(|it| u8::try_from(it + 1).expect("few"));
        let mut session = session(local, remote, self.lives);
        let everything = selector("SELECT * FROM things");
        session
            .subscribe(&everything, Priority::Normal)
            .expect("one subscription");
        self.peers[of].sessions.insert(with, session);
    }

    /// Gives two peers a link, if they have none.
    pub(crate) fn link(&mut self, a: usize, b: usize) {
        let pair = (a.min(b), a.max(b));
        if self.links.contains_key(&pair) {
            return;
        }
        self.link_last += 1;
        let link = LinkId(self.link_last);
        self.links.insert(pair, link);
        for (of, with) in [(a, b), (b, a)] {
            if !self.peers[of].sessions.contains_key(&with) {
                self.meet(of, with);
            }
            let session = self.peers[of].sessions.get_mut(&with).expect("just made");
            session.handle_link_up(self.now, link, LinkProperties::default());
        }
    }

    /// Cuts their link; what is on its way is lost.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        let Some(link) = self.links.remove(&(a.min(b), a.max(b))) else {
            return;
        };
        for (of, with) in [(a, b), (b, a)] {
            for lane in [Lane::Control, Lane::Interactive, Lane::Bulk] {
                self.wires.remove(&(of, with, lane));
            }
            let session = self.peers[of].sessions.get_mut(&with).expect("linked");
            session.handle_link_down(self.now, link);
        }
    }

    /// The process of a peer dies, with what was not durable, and starts again.
    pub(crate) fn crash(&mut self, of: usize) {
        let neighbours: Vec<usize> = self.peers[of].sessions.keys().copied().collect();
        for &with in &neighbours {
            self.cut(of, with);
        }
        self.peers[of].replica.crash();
        for with in neighbours {
            self.meet(of, with);
        }
    }

    /// Runs a transaction on a peer, and makes it durable.
    pub(crate) fn commit(&mut self, of: usize, operations: &[(DocumentKey, DocumentOp)]) {
        let replica = &mut self.peers[of].replica;
        replica.commit(operations).expect("a valid transaction");
        replica.make_durable();
        self.tell_commit(of);
    }

    fn tell_commit(&mut self, of: usize) {
        let peer = &mut self.peers[of];
        for session in peer.sessions.values_mut() {
            session.handle_commit(self.now, &mut peer.replica);
        }
    }

    /// Moves every frame that is ready and not stuck, once. Gives how many.
    pub(crate) fn step(&mut self) -> usize {
        for of in 0..self.peers.len() {
            let peer = &mut self.peers[of];
            for (with, session) in &mut peer.sessions {
                while let Some(transmit) = session.poll_transmit(self.now, &peer.replica) {
                    let pair = (of.min(*with), of.max(*with));
                    if self.links.get(&pair) == Some(&transmit.link) {
                        let wire = self.wires.entry((of, *with, transmit.lane)).or_default();
                        wire.push_back(transmit.frame);
                    }
                }
                while let Some(event) = session.poll_event() {
                    if matches!(event, Event::Closed { .. }) {
                        self.closed.push((of, event));
                    }
                }
            }
        }
        let stuck = &self.stuck;
        let moving = self
            .wires
            .extract_if(.., |(of, to, _), _| !stuck.contains(&(*of, *to)));
        let moving: Vec<_> = moving.collect();
        let mut count = 0;
        for ((from, to, _), frames) in moving {
            let Some(&link) = self.links.get(&(from.min(to), from.max(to))) else {
                continue;
            };
            for frame in frames {
                count += 1;
                if let Ok(message) = Message::decode(&frame) {
                    let kind = format!("{:?}", message.kind());
                    self.heard.push((from, to, kind));
                }
                let peer = &mut self.peers[to];
                let session = peer.sessions.get_mut(&from).expect("linked");
                session.handle_frame(self.now, &mut peer.replica, link, &frame);
            }
        }
        count
    }

    /// What every peer holds is durable.
    pub(crate) fn sync(&mut self) {
        (0..self.peers.len()).for_each(|of| self.make_durable(of));
    }

    /// What a peer holds is durable.
    pub(crate) fn make_durable(&mut self, of: usize) {
        self.peers[of].replica.make_durable();
        self.tell_commit(of);
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        for peer in &mut self.peers {
            for session in peer.sessions.values_mut() {
                if session.poll_timeout().is_some_and(|at| at <= self.now) {
                    session.handle_timeout(self.now, &mut peer.replica);
                }
            }
        }
    }

    /// Moves frames until nothing moves, and time as far as the sessions ask for soon.
    pub(crate) fn settle(&mut self) {
        let mut moved = 0;
        loop {
            self.sync();
            let count = self.step();
            moved += count;
            assert!(moved < 1_000_000, "no end in sight");
            if count > 0 {
                continue;
            }
            let sessions = self.peers.iter().flat_map(|peer| peer.sessions.values());
            let timeouts = sessions.filter_map(Session::poll_timeout);
            let soon = self.now + Duration::from_secs(4);
            match timeouts.filter(|at| *at <= soon).min() {
                Some(at) => self.pass(at.saturating_sub(self.now)),
                None => return,
            }
        }
    }

    /// Counters of all sessions of a peer.
    pub(crate) fn stats(&self, of: usize) -> Vec<SessionStats> {
        let sessions = self.peers[of].sessions.values();
        sessions.map(Session::stats).collect()
    }

    /// Counters of a session.
    pub(crate) fn stats_of(&self, of: usize, with: usize) -> SessionStats {
        self.peers[of].sessions[&with].stats()
    }

    /// A counter, over all sessions of all peers.
    pub(crate) fn sum(&self, counter: impl Fn(&SessionStats) -> u64) -> u64 {
        let all = (0..self.peers.len()).flat_map(|of| self.stats(of));
        all.map(|stats| counter(&stats)).sum()
    }

    /// How many messages of a kind were handed out from one peer to another.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.heard.iter().filter(|(.., it)| it == kind).count()
    }

    pub(crate) fn peer_id(of: usize) -> PeerId {
        PeerId([u8::try_from(of + 1).expect("few"); 32])
    }

    pub(crate) fn holds(&self, of: usize, key: &DocumentKey) -> bool {
        self.peers[of].replica.state(key).is_some()
    }

    /// All peers hold the same bytes, and no session gave a link up.
    pub(crate) fn assert_same(&self) {
        let states = |of: usize| {
            let documents = self.peers[of].replica.documents();
            let states = documents.map(|(key, it)| (key.clone(), it.to_bytes()));
            states.collect::<BTreeMap<_, _>>()
        };
        for of in 1..self.peers.len() {
            assert!(states(0) == states(of), "peers 0 and {of} hold the same");
        }
        assert!(self.closed.is_empty(), "{:?}", self.closed);
    }
}
