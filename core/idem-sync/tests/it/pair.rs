//! Two peers and the links between them, under the test's hand.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use idem_model::{
    ActorId, CollectionName, DatabaseId, DocId, DocumentKey, DocumentOp, FieldOp, FieldPath,
    InsertConflict, Object, PeerId, Value,
};
use idem_query::Selector;
use idem_sync::{
    Event, Lane, LinkId, LinkProperties, MemoryReplica, Priority, Session, SessionConfig,
    SubscriptionId,
};
use idem_wire::{CAPABILITY_BIG_PEER, Message};

pub(crate) const DATABASE: DatabaseId = DatabaseId([9; 16]);

/// One peer of a pair.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) session: Session,
    pub(crate) replica: MemoryReplica,
    pub(crate) events: Vec<Event>,
    /// Whether commits become durable at once.
    pub(crate) is_durable: bool,
}

/// A link, the place of the receiver, and a lane.
pub(crate) type Wire = (LinkId, usize, Lane);

/// Two peers, and the frames between them by link, receiver and lane.
pub(crate) struct Pair {
    pub(crate) now: Duration,
    pub(crate) peers: [Peer; 2],
    pub(crate) wires: BTreeMap<Wire, VecDeque<Vec<u8>>>,
    pub(crate) links: Vec<LinkId>,
    /// The largest frame that links carry.
    pub(crate) frame_bytes_max: u32,
    /// Which peers say that they are Big Peers.
    pub(crate) are_big: [bool; 2],
    link_last: u64,
    /// How often a process was started anew: each has a session of its own.
    lives: u64,
}

impl Peer {
    fn new(number: u8) -> Self {
        let id = PeerId([number; 32]);
        Self {
            id,
            session: session(number, 3 - number, u64::from(number)),
            replica: MemoryReplica::new(ActorId([number; 16]), 1_000_000),
            events: Vec::new(),
            is_durable: true,
        }
    }

    pub(crate) fn subscribe(&mut self, statement: &str) -> SubscriptionId {
        let selector = selector(statement);
        self.session
            .subscribe(&selector, Priority::Normal)
            .expect("a subscription within the limits")
    }

    pub(crate) fn commit(&mut self, operations: &[(DocumentKey, DocumentOp)]) {
        self.replica
            .commit(operations)
            .expect("a valid transaction");
        if self.is_durable {
            self.replica.make_durable();
        }
    }

    /// Inserts `count` documents of about `bytes` bytes, each in its own transaction.
    pub(crate) fn insert_many(&mut self, prefix: &str, count: usize, bytes: usize) {
        for number in 0..count {
            let text = format!("{number:07}-").repeat(bytes / 8 + 1);
            self.commit(&[(
                key(&format!("{prefix}{number}")),
                insert(&[("text", text.into())]),
            )]);
        }
    }

    /// The visible fields of every document.
    pub(crate) fn documents(&self) -> BTreeMap<DocumentKey, Vec<u8>> {
        let documents = self.replica.documents();
        documents
            .map(|(key, it)| (key.clone(), it.to_bytes()))
            .collect()
    }

    pub(crate) fn field(&self, id: &str, name: &str) -> Option<Value> {
        let wanted = key(id);
        let (_, document) = self.replica.documents().find(|(it, _)| **it == wanted)?;
        document.fields()?.get(name).cloned()
    }
}

pub(crate) fn session(local: u8, remote: u8, seed: u64) -> Session {
    Session::new(SessionConfig {
        database: DATABASE,
        local: PeerId([local; 32]),
        remote: PeerId([remote; 32]),
        seed,
    })
}

pub(crate) fn selector(statement: &str) -> Selector {
    let statement = idem_query::parse(statement).expect("a valid statement");
    statement
        .subscription(&Object::new())
        .expect("a subscription")
}

pub(crate) fn key(id: &str) -> DocumentKey {
    key_in("things", id)
}

pub(crate) fn key_in(collection: &str, id: &str) -> DocumentKey {
    DocumentKey {
        collection: CollectionName::new(collection).expect("a valid name"),
        id: DocId::from(id),
    }
}

pub(crate) fn insert(fields: &[(&str, Value)]) -> DocumentOp {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    DocumentOp::Insert {
        fields: fields.collect(),
        kinds: Vec::new(),
        conflict: InsertConflict::Fail,
    }
}

pub(crate) fn set(path: &str, value: impl Into<Value>) -> DocumentOp {
    DocumentOp::Update(vec![FieldOp::Set {
        path: FieldPath::field(path),
        value: value.into(),
        kind: None,
    }])
}

/// A frame as a Big Peer, or a small one, sends it.
fn as_said(frame: Vec<u8>, is_big: bool) -> Vec<u8> {
    match Message::decode(&frame) {
        Ok(Message::Hello(mut hello)) if is_big => {
            hello.capabilities |= CAPABILITY_BIG_PEER;
            Message::Hello(hello).to_bytes()
        }
        _ => frame,
    }
}

impl Pair {
    /// Two peers without a link.
    pub(crate) fn apart() -> Self {
        Self {
            now: Duration::from_secs(1),
            peers: [Peer::new(1), Peer::new(2)],
            wires: BTreeMap::new(),
            links: Vec::new(),
            frame_bytes_max: LinkProperties::default().frame_bytes_max,
            are_big: [false; 2],
            link_last: 0,
            lives: 0,
        }
    }

    /// Two peers with a link that want everything of `things` from each other.
    pub(crate) fn linked() -> Self {
        let mut pair = Self::apart();
        for peer in &mut pair.peers {
            peer.subscribe("SELECT * FROM things");
        }
        pair.link();
        pair
    }

    pub(crate) fn link(&mut self) -> LinkId {
        self.link_ranked([0, 0])
    }

    /// A link that the two peers rank as is given.
    pub(crate) fn link_ranked(&mut self, ranks: [u32; 2]) -> LinkId {
        self.link_last += 1;
        let link = LinkId(self.link_last);
        self.links.push(link);
        for (peer, rank) in self.peers.iter_mut().zip(ranks) {
            let mut properties = LinkProperties::default();
            properties.frame_bytes_max = self.frame_bytes_max;
            properties.rank = rank;
            peer.session.handle_link_up(self.now, link, properties);
        }
        link
    }

    /// One peer finds a link dead: what is on its way there is lost, and what it says is not heard.
    pub(crate) fn lose(&mut self, link: LinkId, index: usize) {
        self.wires
            .retain(|(it, to, _), _| (*it, *to) != (link, index));
        let peer = &mut self.peers[index];
        peer.session.handle_link_down(self.now, link);
    }

    /// The seed of a session that no session had before.
    pub(crate) fn fresh_seed(&mut self) -> u64 {
        self.lives += 1;
        1000 + self.lives
    }

    /// Cuts a link; what is on its way is lost.
    pub(crate) fn cut(&mut self, link: LinkId) {
        self.links.retain(|it| *it != link);
        self.wires.retain(|(it, ..), _| *it != link);
        for peer in &mut self.peers {
            peer.session.handle_link_down(self.now, link);
        }
    }

    /// The process of a peer dies: its session is gone, its replica keeps what was durable.
    pub(crate) fn restart(&mut self, index: usize) {
        for link in self.links.clone() {
            self.cut(link);
        }
        let number = self.peers[index].id.0[0];
        let seed = self.fresh_seed();
        let peer = &mut self.peers[index];
        peer.replica.crash();
        peer.session = session(number, 3 - number, seed);
        peer.subscribe("SELECT * FROM things");
    }

    /// Moves frames until nothing moves, and time as far as the sessions ask. Returns the number of
    /// frames moved.
    pub(crate) fn settle(&mut self) -> usize {
        let mut moved = 0;
        let mut idle_rounds = 0;
        while idle_rounds < 3 {
            let count = self.step();
            moved += count;
            assert!(moved < 1_000_000, "no end in sight");
            if count > 0 {
                idle_rounds = 0;
                continue;
            }
            idle_rounds += 1;
            let soon = self.now + Duration::from_secs(1);
            let timeouts = self.peers.iter().filter_map(|it| it.session.poll_timeout());
            let timeouts: Vec<_> = timeouts.filter(|timeout| *timeout <= soon).collect();
            if let Some(timeout) = timeouts.into_iter().min() {
                self.now = self.now.max(timeout);
            }
            for peer in &mut self.peers {
                peer.session.handle_timeout(self.now, &mut peer.replica);
            }
        }
        moved
    }

    /// Moves every frame that is ready, once.
    pub(crate) fn step(&mut self) -> usize {
        self.collect(usize::MAX);
        self.deliver()
    }

    /// Takes up to `frames` frames out of each session and puts them on the wire.
    pub(crate) fn collect(&mut self, frames: usize) {
        for (index, peer) in self.peers.iter_mut().enumerate() {
            for _ in 0..frames {
                let Some(transmit) = peer.session.poll_transmit(self.now, &peer.replica) else {
                    break;
                };
                assert!(transmit.frame.len() <= self.frame_bytes_max as usize);
                if self.links.contains(&transmit.link) {
                    let wire = (transmit.link, 1 - index, transmit.lane);
                    let wire = self.wires.entry(wire).or_default();
                    wire.push_back(as_said(transmit.frame, self.are_big[index]));
                }
            }
            while let Some(event) = peer.session.poll_event() {
                peer.events.push(event);
            }
        }
    }

    /// Hands out everything on the wire, the bulk lane first: nothing may depend on the order of
    /// lanes.
    pub(crate) fn deliver(&mut self) -> usize {
        let mut wires: Vec<_> = std::mem::take(&mut self.wires).into_iter().collect();
        wires.sort_by_key(|((_, _, lane), _)| std::cmp::Reverse(*lane));
        self.hand_out(wires)
    }

    /// Hands out what is on the wire on some lanes; the rest stays on its way.
    pub(crate) fn deliver_on(&mut self, lanes: &[Lane]) -> usize {
        let wires = std::mem::take(&mut self.wires).into_iter();
        let (chosen, rest): (Vec<_>, Vec<_>) =
            wires.partition(|((_, _, lane), _)| lanes.contains(lane));
        self.wires = rest.into_iter().collect();
        self.hand_out(chosen)
    }

    pub(crate) fn hand_out(&mut self, wires: Vec<(Wire, VecDeque<Vec<u8>>)>) -> usize {
        let mut count = 0;
        for ((link, index, _), frames) in wires {
            let peer = &mut self.peers[index];
            for frame in frames {
                count += 1;
                peer.session
                    .handle_frame(self.now, &mut peer.replica, link, &frame);
                if peer.is_durable {
                    peer.replica.make_durable();
                }
            }
            peer.session.handle_commit(self.now, &mut peer.replica);
        }
        count
    }

    /// Both peers hold the same bytes.
    pub(crate) fn assert_same(&self) {
        let [a, b] = &self.peers;
        let (a, b) = (a.documents(), b.documents());
        assert_eq!(a.len(), b.len(), "as many documents on both sides");
        assert!(a == b, "the documents are the same");
    }

    /// No session gave a link up.
    pub(crate) fn assert_calm(&self) {
        for peer in &self.peers {
            let is_closed = |event: &&Event| matches!(event, Event::Closed { .. });
            assert_eq!(peer.events.iter().find(is_closed), None);
        }
    }
}
