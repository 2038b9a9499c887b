//! Subscriptions to some fields of documents.

use idem_crdt::Document;
use idem_model::{ActorId, CollectionName, DocId, DocumentKey, DocumentOp, FieldOp, FieldPath};
use idem_sync::{Lane, OnLeave, Priority, SubscriptionTerms, projected_collection};
use proptest::prelude::*;

use crate::pair::{Pair, Peer, insert, key, selector, set};

const NAMED: &str = "SELECT _id, name, price FROM things";
const RED: &str = "SELECT name, price FROM things WHERE colour = 'red'";

fn projected_name(statement: &str) -> CollectionName {
    projected_collection(&selector(statement)).expect("some fields are named")
}

fn named(id: &str) -> DocumentKey {
    DocumentKey {
        collection: projected_name(NAMED),
        id: DocId::from(id),
    }
}

/// A document of about 20 kB.
fn product(name: &str, colour: &str) -> DocumentOp {
    let text = |filling: &str| filling.repeat(20_000 / filling.len());
    insert(&[
        ("name", name.into()),
        ("price", 5.into()),
        ("colour", colour.into()),
        (
            "description",
            text(&format!("all about {name}, ")).as_str().into(),
        ),
    ])
}

/// The first peer has products, of which the second one wants some fields.
fn linked(statement: &str, documents: usize) -> Pair {
    let mut pair = Pair::apart();
    pair.peers[1].subscribe(statement);
    for number in 0..documents {
        let id = format!("p{number}");
        pair.peers[0].commit(&[(key(&id), product(&id, "red"))]);
    }
    pair.link();
    pair.settle();
    pair.assert_calm();
    pair
}

/// What is held under the name of the projection is what the fields make of `things` elsewhere.
fn assert_projected(source: &Peer, subscriber: &Peer, is_wanted: impl Fn(&Document) -> bool) {
    let paths: Vec<_> = selector(NAMED)
        .projection()
        .expect("some fields are named")
        .to_vec();
    let name = projected_name(NAMED);
    let whole = source.replica.documents();
    let whole = whole.filter(|(key, it)| key.collection.as_str() == "things" && is_wanted(it));
    let expected: Vec<_> = whole
        .map(|(key, it)| (key.id.clone(), it.project(&paths)))
        .collect();
    let held = subscriber.replica.documents();
    let held =
        held.filter(|(key, it)| key.collection == name && (it.is_present() || is_wanted(it)));
    let held: Vec<_> = held.map(|(key, it)| (key.id.clone(), it.clone())).collect();
    assert_eq!(held, expected);
}

fn sent(pair: &Pair) -> u64 {
    pair.peers[0].session.stats().bytes_sent
}

#[test]
fn only_the_fields_that_were_named_travel() {
    let mut pair = linked(NAMED, 100);
    let first = sent(&pair);
    assert!(
        first < 100 * 100,
        "{first} bytes for 100 documents of 20 kB"
    );
    assert_projected(&pair.peers[0], &pair.peers[1], |_| true);
    let whole = pair.peers[1].documents();
    assert!(
        whole
            .keys()
            .all(|key| key.collection == projected_name(NAMED))
    );

    let mut cost = |op: DocumentOp| {
        let before = sent(&pair);
        let documents = pair.peers[0].session.stats().document_bytes_sent;
        pair.peers[0].commit(&[(key("p7"), op)]);
        pair.settle();
        assert_projected(&pair.peers[0], &pair.peers[1], |_| true);
        let documents = pair.peers[0].session.stats().document_bytes_sent - documents;
        (sent(&pair) - before, documents)
    };
    let (bytes, document) = cost(set("description", "short"));
    assert!(
        bytes < 160 && document < 90,
        "the version: {document} of {bytes} bytes"
    );
    let long = "a name that is not short ".repeat(100);
    cost(set("name", long.as_str()));
    let (bytes, document) = cost(set("price", 6));
    assert!(
        bytes < 200 && document < 120,
        "a delta: {document} of {bytes} bytes"
    );
    let (bytes, _) = cost(DocumentOp::Delete);
    assert!(bytes < 200, "a deletion: {bytes} bytes");
    pair.assert_calm();
}

#[test]
fn a_subscriber_that_comes_back_goes_on_and_compares() {
    for renews in [false, true] {
        let mut pair = linked(NAMED, 50);
        let link = pair.links[0];
        pair.cut(link);
        if renews {
            pair.peers[0].replica.renew_actor(ActorId([7; 16]));
        }
        let seed = pair.fresh_seed();
        pair.peers[1].replica.crash();
        pair.peers[1].session = crate::pair::session(2, 1, seed);
        pair.peers[1].subscribe(NAMED);
        pair.peers[0].commit(&[(key("p3"), set("price", 9))]);
        pair.peers[0].commit(&[(key("p4"), DocumentOp::Delete)]);
        let before = (sent(&pair), pair.peers[0].session.stats().documents_sent);
        pair.link();
        pair.settle();
        pair.assert_calm();
        assert_projected(&pair.peers[0], &pair.peers[1], |_| true);
        let documents = pair.peers[0].session.stats().documents_sent - before.1;
        assert_eq!(documents, 2, "{renews}");
        assert!(sent(&pair) - before.0 < 2_000);
    }
}

#[test]
fn what_leaves_is_told_though_the_condition_looks_at_other_fields() {
    for on_leave in [OnLeave::Keep, OnLeave::Evict] {
        let mut pair = Pair::apart();
        let selector = selector(RED);
        let priority = Priority::Normal;
        let terms = SubscriptionTerms { priority, on_leave };
        pair.peers[1]
            .session
            .subscribe(&selector, terms)
            .expect("a subscription within the limits");
        pair.peers[1].replica.set_subscriptions([selector]);
        for (id, colour) in [("a", "red"), ("b", "red"), ("c", "blue")] {
            pair.peers[0].commit(&[(key(id), product(id, colour))]);
        }
        pair.link();
        pair.settle();
        assert_eq!(projected_name(RED), projected_name(NAMED));
        assert_eq!(pair.peers[1].documents().len(), 2);
        pair.peers[0].commit(&[
            (key("a"), set("colour", "blue")),
            (key("a"), set("price", 7)),
        ]);
        pair.settle();
        assert_eq!(pair.peers[0].session.stats().leaves_sent, 1);
        let held = pair.peers[1].replica.state(&named("a"));
        let held = held.map(|it| {
            Document::decode(&it)
                .expect("a document")
                .fields()
                .expect("not deleted")["price"]
                .clone()
        });
        let expected = (on_leave == OnLeave::Keep).then_some(7.into());
        assert_eq!(held, expected, "{on_leave:?}");
        // What comes to match arrives.
        pair.peers[0].commit(&[(key("c"), set("colour", "red"))]);
        pair.settle();
        assert!(pair.peers[1].documents().contains_key(&named("c")));
        pair.assert_calm();
    }
}

/// Both have the collection and want all of it, and the fields as well.
#[test]
fn whole_and_projected_documents_do_not_mix() {
    let mut pair = Pair::linked();
    for peer in &mut pair.peers {
        peer.subscribe(NAMED);
    }
    pair.peers[0].commit(&[(key("a"), product("a", "red"))]);
    pair.peers[1].commit(&[(key("b"), product("b", "red"))]);
    pair.settle();
    for round in 0..3 {
        pair.peers[0].commit(&[(key("b"), set("price", round))]);
        pair.peers[1].commit(&[(key("a"), set("description", round))]);
        pair.peers[1].commit(&[(key("a"), set("name", "other"))]);
        pair.settle();
    }
    pair.assert_calm();
    pair.assert_same();
    assert_eq!(pair.peers[0].documents().len(), 4);
    let [a, b] = &pair.peers;
    assert_projected(a, b, |_| true);
    assert_projected(b, a, |_| true);
    // A new subscription brings its part alone.
    let before = sent(&pair);
    pair.peers[1].subscribe("SELECT colour FROM things");
    pair.settle();
    assert_eq!(pair.peers[1].documents().len(), 6);
    assert!(sent(&pair) - before < 500, "{}", sent(&pair) - before);
}

#[test]
fn a_projection_cannot_be_asked_for_as_if_it_were_a_collection() {
    let mut pair = linked(NAMED, 3);
    pair.peers[0].subscribe(&format!("SELECT * FROM {}", projected_name(NAMED)));
    pair.settle();
    let documents = pair.peers[0].documents();
    assert!(
        documents
            .keys()
            .all(|key| key.collection.as_str() == "things")
    );
    assert_eq!(pair.peers[1].session.stats().documents_sent, 0);
    pair.assert_calm();
}

/// What happens to the peers, or to the link.
#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(usize, usize),
    Set(usize, usize, &'static str, i64),
    Nest(usize, usize, i64),
    Unset(usize, usize, &'static str),
    Count(usize, usize),
    Delete(usize, usize),
    Both(usize),
    Cut,
    Link,
    Forget,
    Renew,
    /// Takes so many frames out of each session, and delivers those of the lanes.
    Move(usize, &'static [Lane]),
}

const FIELDS: [&str; 4] = ["name", "price", "colour", "stock"];

const LANES: [&[Lane]; 3] = [
    &[Lane::Control, Lane::Interactive, Lane::Bulk],
    &[Lane::Control, Lane::Interactive],
    &[Lane::Control, Lane::Bulk],
];

fn step() -> impl Strategy<Value = Step> {
    let (peer, id) = (0..2usize, 0..4usize);
    let at = (peer.clone(), id);
    let field = prop::sample::select(&FIELDS[..]);
    prop_oneof![
        3 => at.clone().prop_map(|(peer, id)| Step::Insert(peer, id)),
        4 => (at.clone(), field.clone(), 0..9i64)
            .prop_map(|((peer, id), field, n)| Step::Set(peer, id, field, n)),
        1 => (at.clone(), 0..9i64).prop_map(|((peer, id), n)| Step::Nest(peer, id, n)),
        1 => (at.clone(), field).prop_map(|((peer, id), field)| Step::Unset(peer, id, field)),
        1 => at.clone().prop_map(|(peer, id)| Step::Count(peer, id)),
        1 => at.prop_map(|(peer, id)| Step::Delete(peer, id)),
        1 => peer.prop_map(Step::Both),
        1 => Just(Step::Cut),
        2 => Just(Step::Link),
        1 => Just(Step::Forget),
        1 => Just(Step::Renew),
        4 => (1..4usize, prop::sample::select(&LANES[..]))
            .prop_map(|(frames, lanes)| Step::Move(frames, lanes)),
    ]
}

fn subscribe(peer: &mut Peer, statements: &[&str]) {
    for statement in statements {
        peer.subscribe(statement);
    }
}

fn edit(op: FieldOp) -> DocumentOp {
    DocumentOp::Update(vec![op])
}

fn perform(pair: &mut Pair, step: Step, statements: [&[&str]; 2]) {
    let id = |number: usize| key(&format!("d{number}"));
    let mut commit = |peer: usize, operations: &[(DocumentKey, DocumentOp)]| {
        // Of a document that is not there nothing can be set.
        let _ = pair.peers[peer].replica.commit(operations);
        pair.peers[peer].replica.make_durable();
    };
    let path = |path: &[&str]| FieldPath::new(path.iter().map(|it| (*it).to_owned()).collect());
    match step {
        Step::Insert(peer, number) => commit(peer, &[(id(number), product("x", "red"))]),
        Step::Set(peer, number, field, n) => commit(peer, &[(id(number), set(field, n))]),
        Step::Nest(peer, number, n) => {
            let path = path(&["price", "net"]).expect("a short path");
            let (value, kind) = (n.into(), None);
            commit(
                peer,
                &[(id(number), edit(FieldOp::Set { path, value, kind }))],
            );
        }
        Step::Unset(peer, number, field) => {
            let path = FieldPath::field(field);
            commit(peer, &[(id(number), edit(FieldOp::Unset { path }))]);
        }
        Step::Count(peer, number) => {
            let path = FieldPath::field("stock");
            commit(
                peer,
                &[(id(number), edit(FieldOp::Increment { path, by: 1 }))],
            );
        }
        Step::Delete(peer, number) => commit(peer, &[(id(number), DocumentOp::Delete)]),
        Step::Both(peer) => {
            commit(peer, &[(id(0), set("price", 1)), (id(1), set("colour", 1))]);
        }
        Step::Cut => pair.links.clone().into_iter().for_each(|it| pair.cut(it)),
        Step::Link if pair.links.is_empty() => drop(pair.link()),
        Step::Link => {}
        Step::Forget | Step::Renew => {
            pair.links.clone().into_iter().for_each(|it| pair.cut(it));
            for (index, peer) in pair.peers.iter_mut().enumerate() {
                if matches!(step, Step::Renew) {
                    let actor = u128::from(peer.replica.last_commit() + 1) << 64 | index as u128;
                    peer.replica.renew_actor(ActorId(actor.to_be_bytes()));
                }
            }
            for (index, statements) in statements.iter().enumerate() {
                let seed = pair.fresh_seed();
                let number = u8::try_from(index + 1).expect("one of two");
                pair.peers[index].session = crate::pair::session(number, 3 - number, seed);
                subscribe(&mut pair.peers[index], statements);
            }
        }
        Step::Move(frames, lanes) => {
            pair.collect(frames);
            pair.deliver_on(lanes);
        }
    }
    pair.peers
        .iter_mut()
        .for_each(|it| it.replica.make_durable());
}

proptest! {
    /// Whatever else the two want of each other, and whatever happens.
    #[test]
    fn a_projection_follows_its_collection_through_any_history(
        wants_all: bool,
        wants_both_ways: bool,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        const ALL: &str = "SELECT * FROM things";
        let statements: [&[&str]; 2] = match (wants_all, wants_both_ways) {
            (false, _) => [&[ALL], &[NAMED]],
            (true, false) => [&[ALL], &[ALL, NAMED]],
            (true, true) => [&[ALL, NAMED], &[ALL, NAMED]],
        };
        let mut pair = Pair::apart();
        for (peer, statements) in pair.peers.iter_mut().zip(statements) {
            subscribe(peer, statements);
        }
        for step in steps {
            perform(&mut pair, step, statements);
        }
        perform(&mut pair, Step::Link, statements);
        pair.settle();
        pair.assert_calm();
        let [a, b] = &pair.peers;
        assert_projected(a, b, |_| true);
        if wants_all && wants_both_ways {
            assert_projected(b, a, |_| true);
        }
    }
}
