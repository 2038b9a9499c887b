//! What a session says that the remote holds.

use idem_model::{DocumentKey, VersionVector};
use idem_sync::Replica;
use proptest::prelude::*;

use crate::pair::{Pair, insert, key, key_in, set};

/// What peer 0 committed: the number of the commit, and the version of the document since then.
type History = Vec<(u64, DocumentKey, VersionVector)>;

fn version_of(pair: &Pair, index: usize, key: &DocumentKey) -> VersionVector {
    let mut documents = pair.peers[index].replica.documents();
    let found = documents.find(|(it, _)| *it == key);
    found.map_or_else(VersionVector::new, |(_, it)| it.version().clone())
}

/// Everything that is confirmed would be there if the remote lost power now.
fn check(pair: &Pair, history: &History) {
    let [local, remote] = &pair.peers;
    let Some(confirmed) = local.session.confirmed_commit() else {
        return;
    };
    assert!(confirmed <= local.replica.durable_commit());
    let wanted: Vec<_> = local.session.remote_collections().collect();
    let mut survivor = remote.replica.clone();
    survivor.crash();
    for (commit, key, version) in history {
        if *commit > confirmed || !wanted.contains(&&key.collection) {
            continue;
        }
        let mut held = survivor.documents();
        let held = held.find(|(it, _)| *it == key);
        let is_held = held.is_some_and(|(_, it)| it.version().covers_all(version));
        assert!(
            is_held,
            "{key} of commit {commit} is not held, {confirmed} is confirmed"
        );
    }
}

fn commit(pair: &mut Pair, history: &mut History, key: DocumentKey, number: i64) {
    let operation = match version_of(pair, 0, &key).is_empty() {
        true => insert(&[("text", "x".repeat(200).into())]),
        false => set("n", number),
    };
    pair.peers[0].commit(&[(key.clone(), operation)]);
    let commit = pair.peers[0].replica.durable_commit();
    let version = version_of(pair, 0, &key);
    history.push((commit, key, version));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens in whatever order, nothing is confirmed that is not held.
    #[test]
    fn what_is_confirmed_is_held(steps in prop::collection::vec((0_u8..12, 0_u8..6), 1..80)) {
        let mut pair = Pair::linked();
        let mut history = History::new();
        let mut has_more = false;
        pair.peers[1].is_durable = false;
        for (number, (step, which)) in steps.into_iter().enumerate() {
            match step {
                0..=2 => {
                    let collection = if which % 3 == 0 { "others" } else { "things" };
                    let key = key_in(collection, &format!("d{which}"));
                    commit(&mut pair, &mut history, key, number as i64);
                }
                3 | 4 => pair.collect(1 + usize::from(which)),
                5 | 6 => {
                    pair.deliver();
                }
                7 | 8 => pair.peers[1].replica.make_durable(),
                9 if !has_more => {
                    has_more = true;
                    pair.peers[1].subscribe("SELECT * FROM others");
                }
                10 => pair.peers[1].commit(&[(key(&format!("r{number}")), insert(&[]))]),
                11 if which == 0 => {
                    pair.cut(pair.links[0]);
                    pair.link();
                }
                _ => {
                    pair.step();
                }
            }
            check(&pair, &history);
        }
        pair.peers[1].is_durable = true;
        pair.peers[1].replica.make_durable();
        pair.settle();
        check(&pair, &history);
        let last = pair.peers[0].replica.durable_commit();
        prop_assert_eq!(pair.peers[0].session.confirmed_commit(), Some(last));
    }
}

#[test]
fn nothing_is_confirmed_to_who_has_not_said_what_it_wants() {
    let mut pair = Pair::apart();
    pair.peers[0].commit(&[(key("a"), insert(&[]))]);
    pair.link();
    pair.settle();
    assert_eq!(pair.peers[0].session.confirmed_commit(), None);
    pair.peers[1].subscribe("SELECT * FROM others");
    pair.settle();
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(1));
    // It holds nothing of what it asks for now.
    pair.peers[1].is_durable = false;
    pair.peers[1].subscribe("SELECT * FROM things");
    pair.settle();
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(0));
    pair.peers[1].replica.make_durable();
    pair.settle();
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(1));
}

#[test]
fn it_follows_though_something_is_always_under_way() {
    let mut pair = Pair::linked();
    pair.settle();
    pair.peers[1].is_durable = false;
    let mut history = History::new();
    for number in 1..=50 {
        // What came before becomes durable while this is on its way.
        commit(&mut pair, &mut history, key(&format!("d{number}")), 0);
        pair.collect(1);
        pair.peers[1].replica.make_durable();
        pair.deliver();
        check(&pair, &history);
    }
    let confirmed = pair.peers[0].session.confirmed_commit();
    assert!(confirmed >= Some(45), "{confirmed:?}");
}

#[test]
fn a_link_that_resumes_knows_what_was_confirmed() {
    let mut pair = Pair::linked();
    pair.peers[0].commit(&[(key("a"), insert(&[]))]);
    pair.settle();
    pair.cut(pair.links[0]);
    assert_eq!(pair.peers[0].session.confirmed_commit(), None);
    pair.peers[0].commit(&[(key("b"), insert(&[]))]);
    pair.peers[1].is_durable = false;
    pair.link();
    pair.settle();
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(1));
    pair.peers[1].replica.make_durable();
    pair.settle();
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(2));
}
