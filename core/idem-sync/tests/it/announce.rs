//! Changes that came from others are announced to whoever has other sources of the same.

use std::time::Duration;

use idem_model::{DocumentKey, DocumentOp, Lane, limits};
use idem_sync::{CloseReason, Cursor, Event, Replica, subscription_id_of};
use idem_wire::{BatchWriter, Message, Transfer};
use proptest::prelude::*;

use crate::{
    mesh::Mesh,
    pair::{Pair, insert, key, selector, set},
};

/// The writer, two beside it, and one behind these.
const DIAMOND: [(usize, usize); 4] = [(0, 1), (0, 2), (1, 3), (2, 3)];

/// Text that nothing makes smaller.
fn text(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + u8::try_from(state % 64).expect("below 64"))
    };
    (0..bytes).map(|_| letter()).collect()
}

fn document(id: &str, seed: u64, bytes: usize) -> (DocumentKey, DocumentOp) {
    (key(id), insert(&[("text", text(seed, bytes).into())]))
}

/// The cursor that a peer has stored for another one.
fn cursor(mesh: &Mesh, of: usize, with: usize) -> Option<Cursor> {
    let subscription = subscription_id_of(&selector("SELECT * FROM things"));
    let replica = &mesh.peers[of].replica;
    replica.cursor(Mesh::peer_id(with), subscription).unwrap()
}

/// Moves frames, a millisecond at a time, until `is_there`.
fn until(mesh: &mut Mesh, is_there: impl Fn(&Mesh) -> bool) {
    for _ in 0..10_000 {
        if is_there(mesh) {
            return;
        }
        mesh.step();
        mesh.sync();
        mesh.pass(Duration::from_millis(1));
    }
    panic!("it never comes");
}

#[test]
fn who_has_two_sources_gets_each_change_once() {
    let mut mesh = Mesh::linked(4, &DIAMOND);
    for number in 0..20 {
        mesh.commit(0, &[document(&format!("d{number}"), number, 300)]);
        mesh.settle();
        mesh.assert_same();
    }
    // Those beside the writer got it from there, and the last one from one of the two.
    assert_eq!(mesh.sum(|it| it.documents_sent), 60);
    assert_eq!(mesh.sum(|it| it.documents_unchanged), 0);
    assert_eq!(mesh.sum(|it| it.documents_pulled), 20);
}

#[test]
fn small_changes_and_groups_are_sent_at_once() {
    let mut mesh = Mesh::linked(4, &DIAMOND);
    for number in 0..20 {
        mesh.commit(0, &[document(&format!("d{number}"), number, 20)]);
        mesh.settle();
    }
    for number in 20..30 {
        let pair = [
            document(&format!("a{number}"), number, 300),
            document(&format!("b{number}"), number, 300),
        ];
        mesh.commit(0, &pair);
        mesh.settle();
    }
    mesh.assert_same();
    assert_eq!(mesh.sum(|it| it.documents_announced), 0);
}

#[test]
fn what_a_peer_writes_itself_is_sent_at_once() {
    let mut mesh = Mesh::linked(3, &[(0, 1), (0, 2), (1, 2)]);
    mesh.commit(0, &[document("a", 1, 300)]);
    mesh.step();
    assert!(mesh.holds(1, &key("a")) && mesh.holds(2, &key("a")));
}

#[test]
fn an_edit_of_what_all_hold_travels_as_a_delta() {
    let mut mesh = Mesh::linked(4, &DIAMOND);
    mesh.commit(0, &[document("a", 1, 2_000)]);
    mesh.settle();
    let before = mesh.sum(|it| it.document_bytes_sent);
    mesh.commit(0, &[(key("a"), set("note", text(2, 200)))]);
    mesh.settle();
    mesh.assert_same();
    let bytes = mesh.sum(|it| it.document_bytes_sent) - before;
    assert!(bytes < 3 * 600, "{bytes} bytes");
}

/// Peer 3 hears of a document from both sides, asks one of them, and that one never answers.
fn asked_in_vain() -> (Mesh, usize, usize) {
    let mut mesh = Mesh::linked(4, &DIAMOND);
    mesh.commit(0, &[document("a", 1, 300)]);
    until(&mut mesh, |mesh| {
        mesh.count("Pull") > 0 || mesh.heard.len() > 500
    });
    let pull = mesh.heard.iter().find(|(.., kind)| kind == "Pull");
    let (_, asked, _) = *pull.expect("it asks");
    mesh.stuck.insert((asked, 3));
    let other = 3 - asked;
    (mesh, asked, other)
}

#[test]
fn the_next_one_is_asked_if_the_first_does_not_send() {
    let (mut mesh, asked, _) = asked_in_vain();
    let before = mesh.now;
    until(&mut mesh, |mesh| mesh.holds(3, &key("a")));
    let took = mesh.now - before;
    assert!(took < Duration::from_secs(4), "{took:?}");
    mesh.stuck.clear();
    mesh.settle();
    mesh.assert_same();
    assert!(cursor(&mesh, 3, asked).is_some());
}

#[test]
fn the_next_one_is_asked_at_once_if_the_link_of_the_first_is_lost() {
    let (mut mesh, asked, _) = asked_in_vain();
    let before = mesh.now;
    mesh.cut(asked, 3);
    until(&mut mesh, |mesh| mesh.holds(3, &key("a")));
    let took = mesh.now - before;
    assert!(took < Duration::from_secs(1), "{took:?}");
    mesh.stuck.clear();
    mesh.link(asked, 3);
    mesh.settle();
    mesh.assert_same();
}

#[test]
fn nothing_that_was_only_announced_counts_as_held() {
    let (mut mesh, asked, other) = asked_in_vain();
    let commits = |mesh: &Mesh| [asked, other].map(|it| cursor(mesh, 3, it).map(|it| it.commit));
    let before = commits(&mesh);
    for _ in 0..1_000 {
        mesh.step();
        mesh.sync();
        mesh.pass(Duration::from_millis(1));
    }
    assert!(!mesh.holds(3, &key("a")));
    assert_eq!(commits(&mesh), before, "no cursor passes it");
    for source in [asked, other] {
        let peer = &mesh.peers[source];
        let confirmed = peer.sessions[&3].confirmed_commit();
        let commit = peer.replica.last_commit();
        assert!(confirmed < Some(commit), "{source} takes it for held");
    }
    // The process dies, and both sources send what it does not have.
    mesh.stuck.clear();
    mesh.crash(3);
    for source in [asked, other] {
        mesh.link(source, 3);
    }
    mesh.settle();
    mesh.assert_same();
}

#[test]
fn what_is_announced_and_held_already_is_confirmed_once_it_is_durable() {
    let mut mesh = Mesh::linked(4, &DIAMOND);
    mesh.stuck.insert((2, 3));
    mesh.commit(0, &[document("a", 1, 300)]);
    // Peer 3 gets it from peer 1 and has not written it to disk when peer 2 announces the same.
    for _ in 0..1_000 {
        if mesh.holds(3, &key("a")) {
            mesh.stuck.clear();
        }
        mesh.step();
        (0..3).for_each(|of| mesh.make_durable(of));
        mesh.pass(Duration::from_millis(1));
    }
    assert!(mesh.holds(3, &key("a")) && mesh.stuck.is_empty());
    assert_eq!(mesh.stats_of(2, 3).documents_announced, 1);
    let confirmed = |mesh: &Mesh| mesh.peers[2].sessions[&3].confirmed_commit();
    let commit = mesh.peers[2].replica.last_commit();
    assert!(confirmed(&mesh) < Some(commit), "it is taken for durable");
    mesh.settle();
    assert_eq!(confirmed(&mesh), Some(commit));
}

#[test]
fn who_is_left_with_one_source_is_sent_everything_again() {
    let mut mesh = Mesh::linked(4, &DIAMOND);
    mesh.cut(1, 3);
    mesh.settle();
    let before = mesh.sum(|it| it.documents_announced);
    for number in 0..3 {
        mesh.commit(0, &[document(&format!("d{number}"), number, 300)]);
        mesh.settle();
    }
    mesh.assert_same();
    assert_eq!(mesh.sum(|it| it.documents_announced), before);
}

#[test]
fn two_peers_say_nothing_of_all_that() {
    let mut mesh = Mesh::linked(2, &[(0, 1)]);
    for number in 0..10 {
        mesh.commit(0, &[document(&format!("d{number}"), number, 300)]);
        mesh.settle();
    }
    mesh.assert_same();
    assert_eq!(mesh.count("Feed") + mesh.count("Pull"), 0);
    assert_eq!(mesh.sum(|it| it.documents_announced), 0);
}

/// Hands the first peer of a pair a frame that the second did not make.
fn say(pair: &mut Pair, message: &Message<'_>) -> Option<CloseReason> {
    let link = pair.links[0];
    let peer = &mut pair.peers[0];
    let frame = message.to_bytes();
    peer.session
        .handle_frame(pair.now, &mut peer.replica, link, &frame);
    std::iter::from_fn(|| peer.session.poll_event()).find_map(|event| match event {
        Event::Closed { reason, .. } => Some(reason),
        _ => None,
    })
}

fn batch(lane: Lane, payload: &[u8]) -> Message<'_> {
    Message::Transfer(Transfer {
        lane,
        more: false,
        round: 0,
        raw_bytes: None,
        payload,
    })
}

fn announcement(items: usize) -> Vec<u8> {
    let items: Vec<_> = (0..items as u64).map(u64::to_be_bytes).collect();
    let mut writer = BatchWriter::new();
    writer.announced(&items);
    writer.into_bytes()
}

#[test]
fn false_announcements_and_questions_end_the_link() {
    let linked = || {
        let mut pair = Pair::linked();
        pair.settle();
        pair
    };
    let pull = Message::Pull {
        batch: 1,
        places: vec![0],
    };
    assert_eq!(say(&mut linked(), &pull), Some(CloseReason::Malformed));
    let mut writer = BatchWriter::new();
    writer.answered(false);
    let answer = writer.into_bytes();
    for lane in [Lane::Interactive, Lane::Bulk] {
        let closed = say(&mut linked(), &batch(lane, &answer));
        assert_eq!(closed, Some(CloseReason::Malformed));
    }
    let items = announcement(3);
    let closed = say(&mut linked(), &batch(Lane::Bulk, &items));
    assert_eq!(closed, Some(CloseReason::Malformed));
}

#[test]
fn no_more_announcements_are_kept_than_may_be_open() {
    let mut pair = Pair::linked();
    pair.settle();
    for number in 0.. {
        let items: Vec<_> = (0..limits::ANNOUNCED_PER_BATCH_MAX as u64)
            .map(|item| (item << 32 | number).to_be_bytes())
            .collect();
        let mut writer = BatchWriter::new();
        writer.announced(&items);
        let items = writer.into_bytes();
        if let Some(reason) = say(&mut pair, &batch(Lane::Interactive, &items)) {
            assert_eq!(reason, CloseReason::Limit);
            let most = limits::ANNOUNCED_OPEN_MAX / limits::ANNOUNCED_PER_BATCH_MAX;
            assert_eq!(number, most as u64);
            return;
        }
    }
}

#[test]
fn who_never_sends_what_it_announced_loses_its_link() {
    let mut pair = Pair::linked();
    pair.settle();
    let items = announcement(1);
    assert_eq!(say(&mut pair, &batch(Lane::Interactive, &items)), None);
    pair.peers[0].events.clear();
    for _ in 0..70 {
        pair.now += Duration::from_secs(1);
        // Its PULL gets lost.
        pair.collect(usize::MAX);
        pair.wires.clear();
        let peer = &mut pair.peers[0];
        peer.session.handle_timeout(pair.now, &mut peer.replica);
    }
    pair.collect(usize::MAX);
    let mut events = pair.peers[0].events.iter();
    assert!(events.any(|it| matches!(
        it,
        Event::Closed {
            reason: CloseReason::Timeout,
            ..
        }
    )));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is linked, cut, lost and written when, all end equal, and nobody gives a link up.
    #[test]
    fn peers_agree_whoever_is_asked(
        steps in prop::collection::vec((0_u8..14, 0..5_usize, 0..5_usize, 0_u8..6), 1..120),
        seed in any::<u64>(),
    ) {
        let links = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 4), (2, 4)];
        let mut mesh = Mesh::linked(5, &links);
        for (number, (step, a, b, which)) in (seed..).zip(steps) {
            match step {
                0..4 => {
                    let id = format!("d{which}");
                    let bytes = [20, 200, 700][usize::from(which) % 3];
                    let field = text(number, bytes);
                    let operation = match mesh.holds(a, &key(&id)) {
                        false => insert(&[("text", field.into())]),
                        true if step == 0 => set(&format!("f{b}"), field),
                        true => set("text", field),
                    };
                    mesh.commit(a, &[(key(&id), operation)]);
                }
                4 => mesh.commit(a, &[document(&format!("x{number}"), number, 400)]),
                5 => {
                    let pair = ["y", "z"].map(|it| document(&format!("{it}{number}"), number, 200));
                    mesh.commit(a, &pair);
                }
                6 if which == 0 && a != b => mesh.cut(a, b),
                7 if links.contains(&(a, b)) => mesh.link(a, b),
                8 if which == 0 => mesh.crash(a),
                9 if which < 2 => { mesh.stuck.insert((a, b)); }
                10 => mesh.stuck.clear(),
                11 => mesh.pass(Duration::from_millis(u64::from(which) * u64::from(which) * 40)),
                12 => mesh.sync(),
                _ => {
                    mesh.step();
                    mesh.pass(Duration::from_millis(2));
                }
            }
        }
        mesh.stuck.clear();
        for (a, b) in links {
            mesh.link(a, b);
        }
        mesh.settle();
        mesh.assert_same();
    }
}
