//! A replication session whose remote lies: frames in any order never panic, and it always falls
//! silent again.

use std::{collections::VecDeque, time::Duration};

use idem_model::{
    ActorId, CollectionName, DatabaseId, DocId, DocumentKey, DocumentOp, FieldOp, FieldPath,
    InsertConflict, Object, PeerId, Value,
};
use idem_sync::{
    LinkId, LinkProperties, MemoryReplica, Priority, Session, SessionConfig, Transmit,
};

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "session_handle",
    run,
    seeds: || vec![conversation(1), conversation(3)],
};

const LINK: LinkId = LinkId(1);

/// Frames that one frame may cause: a catch-up of a handful of documents needs far fewer.
const ANSWERS_MAX: usize = 1000;

/// What the peer under test holds. The other side confirms what it got of it, so that a recorded
/// conversation fits only a peer that sends the same again.
const DOCUMENTS: u8 = 2;

struct Peer {
    session: Session,
    replica: MemoryReplica,
}

impl Peer {
    /// A peer that wants and holds something, on a link to the other.
    fn new(number: u8, documents: u8) -> Self {
        let mut session = Session::new(SessionConfig {
            database: DatabaseId([9; 16]),
            local: PeerId([number; 32]),
            remote: PeerId([3 - number; 32]),
            seed: number.into(),
        });
        let mut replica = MemoryReplica::new(ActorId([number; 16]), 1_000_000);
        for document in 0..documents {
            let id = format!("{number}-{document}");
            replica
                .commit(&[(key(&id), insert()), (key("shared"), edit(number))])
                .expect("a legal transaction");
        }
        replica.make_durable();
        let statement = idem_query::parse("SELECT * FROM things").expect("a statement");
        let selector = statement.subscription(&Object::new());
        session
            .subscribe(&selector.expect("a subscription"), Priority::Normal)
            .expect("the first subscription");
        session.handle_link_up(now(0), LINK, LinkProperties::default());
        Self { session, replica }
    }

    fn handle(&mut self, step: u64, frame: &[u8]) {
        self.session
            .handle_frame(now(step), &mut self.replica, LINK, frame);
        self.replica.make_durable();
        self.session.handle_commit(now(step), &mut self.replica);
    }

    /// Everything that it wants to send now.
    fn answers(&mut self, step: u64) -> Vec<Vec<u8>> {
        let poll = || self.session.poll_transmit(now(step), &self.replica);
        let answers: Vec<Transmit> = std::iter::from_fn(poll).take(ANSWERS_MAX).collect();
        assert!(answers.len() < ANSWERS_MAX, "it does not fall silent");
        while self.session.poll_event().is_some() {}
        answers.into_iter().map(|answer| answer.frame).collect()
    }
}

fn now(step: u64) -> Duration {
    Duration::from_millis(5000 + step)
}

fn key(id: &str) -> DocumentKey {
    DocumentKey {
        collection: CollectionName::new("things").expect("a name"),
        id: DocId::new(Value::from(id)).expect("an id"),
    }
}

fn insert() -> DocumentOp {
    let mut fields = samples::fields();
    fields.remove("_id");
    DocumentOp::Insert {
        fields,
        kinds: Vec::new(),
        conflict: InsertConflict::DoUpdate,
    }
}

fn edit(number: u8) -> DocumentOp {
    DocumentOp::Update(vec![FieldOp::Set {
        path: FieldPath::field("by"),
        value: Value::Int(number.into()),
        kind: None,
    }])
}

/// What peer 1 says to peer 2 while both catch up: frames, each with its length as a `u16`.
fn conversation(documents: u8) -> Vec<u8> {
    let mut peers = [Peer::new(1, documents), Peer::new(2, DOCUMENTS)];
    let mut said = Vec::new();
    let mut waiting: [VecDeque<Vec<u8>>; 2] = Default::default();
    for step in 0..200 {
        for from in 0..2 {
            if let Some(frame) = waiting[from].pop_front() {
                peers[from].handle(step, &frame);
            }
            let answers = peers[from].answers(step);
            if from == 0 {
                for frame in &answers {
                    let len = u16::try_from(frame.len()).expect("samples are short");
                    said.extend_from_slice(&len.to_le_bytes());
                    said.extend_from_slice(frame);
                }
            }
            waiting[1 - from].extend(answers);
        }
    }
    said
}

fn run(data: &[u8]) -> Verdict {
    let mut peer = Peer::new(2, DOCUMENTS);
    peer.answers(0);
    let mut rest = data;
    let mut step = 0;
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes(*len)).min(after.len());
        let (frame, after) = after.split_at(len);
        step += 1;
        peer.handle(step, frame);
        peer.answers(step);
        rest = after;
    }
    peer.session
        .handle_timeout(now(step + 60_000), &mut peer.replica);
    peer.answers(step + 60_000);
    if peer.session.is_established() {
        Verdict::Accepted
    } else {
        Verdict::Rejected
    }
}
