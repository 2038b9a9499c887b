//! Random histories: a few peers that edit one document, and receive each other's states.
//!
//! The same history runs through the documents here and, as JSON lines, through the twin
//! (`tests/merge_model.py`). Both compare actors where times are equal: the twin by name, the
//! documents by bytes; so a peer's bytes are its name, repeated.

use idem_crdt::{Applied, Delta, Document};
use idem_model::{
    ActorId, DocumentOp, Dot, FieldKind, FieldOp, FieldPath, InsertConflict, Object, Stamp,
    Timestamp, Value, json,
};

/// splitmix64 (Vigna): a seed names a history on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

pub(crate) fn path(dotted: &str) -> FieldPath {
    FieldPath::new(dotted.split('.').map(str::to_owned).collect()).unwrap()
}

pub(crate) fn object(text: &str) -> Object {
    match json::parse(text).unwrap() {
        Value::Object(fields) => fields,
        other => panic!("{other:?} is not an object"),
    }
}

pub(crate) fn value(text: &str) -> Value {
    json::parse(text).unwrap()
}

pub(crate) fn insert(fields: &str, conflict: InsertConflict) -> DocumentOp {
    DocumentOp::Insert {
        fields: object(fields),
        kinds: Vec::new(),
        conflict,
    }
}

pub(crate) fn initial(fields: &str) -> DocumentOp {
    DocumentOp::InsertInitial {
        fields: object(fields),
        kinds: Vec::new(),
    }
}

pub(crate) fn set(at: &str, to: &str) -> DocumentOp {
    set_kind(at, to, None)
}

pub(crate) fn set_kind(at: &str, to: &str, kind: Option<FieldKind>) -> DocumentOp {
    DocumentOp::Update(vec![FieldOp::Set {
        path: path(at),
        value: value(to),
        kind,
    }])
}

pub(crate) fn unset(at: &str) -> DocumentOp {
    DocumentOp::Update(vec![FieldOp::Unset { path: path(at) }])
}

pub(crate) fn increment(at: &str, by: i64) -> DocumentOp {
    DocumentOp::Update(vec![FieldOp::Increment { path: path(at), by }])
}

pub(crate) fn restart(at: &str, to: i64) -> DocumentOp {
    DocumentOp::Update(vec![FieldOp::Restart { path: path(at), to }])
}

/// A peer with one document and a clock that any rising number may be.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: char,
    pub(crate) n: u64,
    pub(crate) clock: u64,
    pub(crate) document: Document,
}

impl Peer {
    pub(crate) fn new(name: char) -> Self {
        Self {
            name,
            n: 0,
            clock: 0,
            document: Document::new(),
        }
    }

    /// One commit of one operation. As in the twin, a commit that changes nothing still takes a
    /// number and a tick of the clock; one on a document that is not there takes none.
    pub(crate) fn commit(&mut self, op: &DocumentOp, now: u64) -> Applied {
        self.commit_all(std::slice::from_ref(op), now)
    }

    /// One transaction: several operations under one stamp.
    pub(crate) fn commit_all(&mut self, ops: &[DocumentOp], now: u64) -> Applied {
        let is_insert = |op: &DocumentOp| matches!(op, DocumentOp::Insert { .. });
        let is_initial = |op: &DocumentOp| matches!(op, DocumentOp::InsertInitial { .. });
        let takes_stamp = self.document.is_present() || ops.iter().any(is_insert);
        let stamp = Stamp {
            dot: Dot {
                actor: ActorId([u8::try_from(self.name).unwrap(); 16]),
                n: self.n + 1,
            },
            time: Timestamp((self.clock + 1).max(now)),
        };
        let mut applied = Applied::Unchanged;
        for op in ops {
            if self.document.apply(op, stamp).unwrap() == Applied::Changed {
                applied = Applied::Changed;
            }
        }
        let is_used = self.document.version().covers(stamp.dot);
        if is_used || (takes_stamp && !ops.iter().all(is_initial)) {
            self.n = stamp.dot.n;
            self.clock = stamp.time.0;
        }
        applied
    }

    pub(crate) fn receive(&mut self, other: &Self) {
        self.document.merge(&other.document);
        self.clock = self.clock.max(other.clock);
    }
}

/// What happens in one step, as both sides can run it.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Commit {
        peer: usize,
        op: DocumentOp,
        now: u64,
        line: String,
    },
    Receive {
        peer: usize,
        from: usize,
        way: usize,
    },
}

/// Where random edits happen. No counter is ever at the first four.
pub(crate) const PATHS: [&str; 7] = ["a", "b", "m.x", "m.y", "m.n.z", "c", "m.c"];

const NAMES: [char; 4] = ['A', 'B', 'C', 'D'];

/// A history of two to four peers.
pub(crate) fn random_history(seed: u64) -> (usize, Vec<Step>) {
    let mut random = Random::new(seed);
    let peers = 2 + random.below(3);
    let steps = 5 + random.below(40);
    let steps = (0..steps).map(|at| random_step(&mut random, peers, at as u64));
    (peers, steps.collect())
}

fn random_step(random: &mut Random, peers: usize, at: u64) -> Step {
    let peer = random.below(peers);
    // Times collide and run backwards between peers.
    let now = random.next() % 60 + at;
    let chance = random.below(100);
    if chance < 27 {
        let from = random.below(peers);
        let way = random.below(4);
        return Step::Receive { peer, from, way };
    }
    let any = *random.pick(&PATHS);
    let counter = *random.pick(&["c", "m.c"]);
    let (op, kind, place, operand) = if chance < 42 {
        let fields = random_fields(random);
        let op = insert(&fields, InsertConflict::DoUpdate);
        (op, "insert", any, fields)
    } else if chance < 47 {
        // Unequal nested defaults would tie by their text in the twin and by their value here.
        let fields = format!(
            r#"{{"a":{},"m":{{"x":0,"n":{{}}}}}}"#,
            random.pick(&["1", "2", r#"{"q":7}"#])
        );
        (initial(&fields), "initial", any, fields)
    } else if chance < 65 {
        let to = random_value(random);
        (set(any, &to), "set", any, to)
    } else if chance < 78 {
        let by = i64::try_from(random.below(9)).unwrap() - 3;
        (increment(counter, by), "increment", counter, by.to_string())
    } else if chance < 82 {
        let to = i64::try_from(random.below(100)).unwrap();
        (restart(counter, to), "restart", counter, to.to_string())
    } else if chance < 93 {
        let place = if random.below(3) == 0 {
            *random.pick(&["m", "m.n"])
        } else {
            any
        };
        (unset(place), "unset", place, "null".to_owned())
    } else {
        (DocumentOp::Delete, "delete", any, "null".to_owned())
    };
    let names: Vec<_> = place.split('.').map(|name| format!("{name:?}")).collect();
    let line = format!(
        r#"{{"peer":"{}","op":"{kind}","path":[{}],"value":{operand},"now":{now}}}"#,
        NAMES[peer],
        names.join(",")
    );
    Step::Commit {
        peer,
        op,
        now,
        line,
    }
}

fn random_value(random: &mut Random) -> String {
    let values = [
        "1",
        "2",
        "null",
        r#""s""#,
        "[1]",
        "{}",
        r#"{"q":1}"#,
        r#"{"q":{"r":2},"x":3}"#,
        "true",
    ];
    (*random.pick(&values)).to_owned()
}

fn random_fields(random: &mut Random) -> String {
    let number = random.below(10);
    let fields = [
        format!(r#"{{"a":{number},"m":{{"x":{number}}}}}"#),
        format!(r#"{{"b":{number},"m":{{"y":{number}}}}}"#),
        format!(r#"{{"a":[{number}],"m":{{"n":{{"z":{number}}},"x":1}}}}"#),
        format!(r#"{{"b":{number},"m":{number}}}"#),
        "{}".to_owned(),
    ];
    random.pick(&fields).clone()
}

impl Step {
    /// The line that makes the twin do the same.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Commit { line, .. } => line.clone(),
            Self::Receive { peer, from, .. } => format!(
                r#"{{"peer":"{}","op":"receive","from":"{}"}}"#,
                NAMES[*peer], NAMES[*from]
            ),
        }
    }

    pub(crate) fn run(&self, peers: &mut [Peer]) {
        match self {
            Self::Commit { peer, op, now, .. } => {
                peers[*peer].commit(op, *now);
            }
            Self::Receive { peer, from, way } => {
                let sender = peers[*from].clone();
                receive(&mut peers[*peer], &sender, *way);
            }
        }
    }
}

/// Four ways for a state to arrive, which must not differ.
fn receive(peer: &mut Peer, sender: &Peer, way: usize) {
    let delta = || sender.document.delta(peer.document.version());
    match way {
        0 => peer.receive(sender),
        1 => {
            let bytes = sender.document.to_bytes();
            let sender = Peer {
                document: Document::decode(&bytes).unwrap(),
                ..sender.clone()
            };
            peer.receive(&sender);
        }
        2 => {
            let delta = delta();
            peer.document.merge_delta(&delta).unwrap();
        }
        _ => {
            let delta = Delta::decode(&delta().to_bytes()).unwrap();
            peer.document.merge_delta(&delta).unwrap();
        }
    }
    peer.clock = peer.clock.max(sender.clock);
}

pub(crate) fn new_peers(count: usize) -> Vec<Peer> {
    NAMES[..count].iter().map(|name| Peer::new(*name)).collect()
}

/// A transaction of one to four operations, with declared kinds among them; the twin has neither.
pub(crate) fn random_transaction(random: &mut Random) -> Vec<DocumentOp> {
    let ops = 1 + random.below(4);
    (0..ops).map(|_| random_op(random)).collect()
}

fn random_op(random: &mut Random) -> DocumentOp {
    let any = *random.pick(&PATHS);
    match random.below(8) {
        0 => set_kind(any, r#"{"q":1}"#, Some(FieldKind::Register)),
        1 => set_kind(any, "7", Some(FieldKind::Counter)),
        2 => DocumentOp::Insert {
            fields: object(r#"{"a":{"q":2},"c":5,"m":{"c":6,"x":1}}"#),
            kinds: declared_kinds(),
            conflict: *random.pick(&[
                InsertConflict::DoUpdate,
                InsertConflict::DoUpdateLocalDiff,
                InsertConflict::DoNothing,
            ]),
        },
        3 => DocumentOp::InsertInitial {
            fields: object(r#"{"a":{"q":2},"c":5,"m":{"c":6}}"#),
            kinds: if random.below(2) == 0 {
                declared_kinds()
            } else {
                Vec::new()
            },
        },
        _ => loop {
            if let Step::Commit { op, .. } = random_step(random, 1, 0) {
                return op;
            }
        },
    }
}

fn declared_kinds() -> Vec<(FieldPath, FieldKind)> {
    vec![
        (path("a"), FieldKind::Register),
        (path("c"), FieldKind::Counter),
        (path("m.c"), FieldKind::Counter),
    ]
}

/// Runs a history and returns the peers and every state that a peer held, each once. Every other
/// seed runs transactions of several operations, of which the twin knows nothing.
pub(crate) fn run(seed: u64) -> (Vec<Peer>, Vec<Document>) {
    let (count, steps) = random_history(seed);
    let mut random = Random::new(seed ^ 0x7a);
    let mut peers = new_peers(count);
    let mut states = vec![Document::new()];
    for step in steps {
        match step {
            Step::Commit { peer, now, .. } if seed % 2 == 1 => {
                peers[peer].commit_all(&random_transaction(&mut random), now);
            }
            step => step.run(&mut peers),
        }
        for peer in &peers {
            if !states.contains(&peer.document) {
                states.push(peer.document.clone());
            }
        }
    }
    (peers, states)
}
