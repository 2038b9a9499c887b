//! Questions about windows between two sessions.

use idem_model::{CollectionName, Object, SyncScope, limits};
use idem_query::{Reach, Window};
use idem_sync::Event;
use idem_wire::{AskReach, Message, Told};

use crate::pair::Pair;

const TOP: &str = "SELECT * FROM things AS d ORDER BY d.size DESC LIMIT 3";

fn window(text: &str) -> Window {
    let statement = idem_query::parse(text).expect("a statement");
    let window = statement.window(&Object::new()).expect("a window");
    window.expect("a window")
}

impl Pair {
    fn ask(&mut self, index: usize, number: u8, count: u32) -> bool {
        let peer = &mut self.peers[index];
        let session = &mut peer.session;
        session.ask_reach(&peer.replica, number, count, &window(TOP))
    }

    fn tell(&mut self, index: usize, numbers: (u8, u32), reach: &Result<Reach, String>) -> bool {
        let peer = &mut self.peers[index];
        let session = &mut peer.session;
        session.tell_reach(&peer.replica, &window(TOP), numbers, reach)
    }

    fn close(&mut self, index: usize) {
        let things = CollectionName::new("things").expect("a valid name");
        let replica = &mut self.peers[index].replica;
        replica.set_sync_scope(things, SyncScope::LocalPeerOnly);
    }

    /// What a peer was asked, and what it was told.
    fn heard(&self, index: usize) -> Vec<Event> {
        let events = self.peers[index].events.iter();
        let is_heard =
            |it: &&Event| matches!(it, Event::ReachAsked { .. } | Event::ReachTold { .. });
        events.filter(is_heard).cloned().collect()
    }
}

fn asked(number: u8, count: u32) -> Event {
    Event::ReachAsked {
        number,
        count,
        window: window(TOP),
    }
}

fn told(number: u8, count: u32, reach: Result<Reach, String>) -> Event {
    Event::ReachTold {
        number,
        count,
        reach,
    }
}

#[test]
fn a_question_is_answered() {
    let mut pair = Pair::linked();
    pair.settle();
    assert!(pair.ask(0, 5, 3));
    assert!(pair.ask(0, 6, 40_000));
    pair.settle();
    assert_eq!(pair.heard(1), [asked(5, 3), asked(6, 40_000)]);
    let reach = Ok(Reach::to_place(b"some place"));
    assert!(pair.tell(1, (5, 3), &reach));
    assert!(pair.tell(1, (6, 40_000), &Ok(Reach::ALL)));
    assert!(pair.tell(1, (6, 40_000), &Err("x".repeat(5000))));
    pair.settle();
    let cut = "x".repeat(limits::WIRE_DETAIL_BYTES_MAX);
    assert_eq!(
        pair.heard(0),
        [
            told(5, 3, reach),
            told(6, 40_000, Ok(Reach::ALL)),
            told(6, 40_000, Err(cut)),
        ]
    );
    pair.assert_calm();
}

#[test]
fn without_a_session_nothing_is_asked() {
    let mut pair = Pair::apart();
    assert!(!pair.ask(0, 0, 1));
    assert!(!pair.tell(0, (0, 1), &Ok(Reach::ALL)));
    pair.link();
    assert!(!pair.ask(0, 0, 1));
    pair.settle();
    assert!(pair.ask(0, 0, 1));
}

#[test]
fn a_closed_collection_is_not_asked_about_and_tells_nothing() {
    let mut pair = Pair::linked();
    pair.settle();
    assert!(pair.ask(0, 0, 3));
    assert!(pair.ask(0, 1, 3));
    pair.settle();
    // It closes between the question and the answer.
    pair.close(1);
    assert!(pair.tell(1, (0, 3), &Ok(Reach::to_place(b"secret"))));
    assert!(pair.ask(0, 2, 3));
    pair.settle();
    assert_eq!(pair.heard(1), [asked(0, 3), asked(1, 3)]);
    let heard = pair.heard(0);
    let refused = |it: &Event| matches!(it, Event::ReachTold { reach: Err(_), .. });
    assert!(heard.len() == 2 && heard.iter().all(refused), "{heard:?}");
    // Who closes it asks nothing either.
    pair.close(0);
    assert!(!pair.ask(0, 0, 3));
}

#[test]
fn what_is_no_window_is_refused() {
    let mut pair = Pair::linked();
    pair.settle();
    let link = pair.peers[0]
        .session
        .active_link()
        .expect("they are linked");
    for statement in [
        "",
        "SELECT",
        "DELETE FROM things",
        "SELECT * FROM things",
        "SELECT * FROM things ORDER BY size",
        "SELECT * FROM things AS d ORDER BY d.size DESC LIMIT 10001",
        "select * from things as d order by d.size desc limit 3",
        "SELECT * FROM things AS d ORDER BY clock() LIMIT 3",
        "SELECT * FROM things AS d ORDER BY d.size DESC LIMIT :n",
    ] {
        let question = Message::AskReach(AskReach {
            number: 1,
            count: 3,
            statement,
        });
        let peer = &mut pair.peers[1];
        let now = std::time::Duration::from_secs(1);
        peer.session
            .handle_frame(now, &mut peer.replica, link, &question.to_bytes());
        let mut answers = Vec::new();
        while let Some(transmit) = peer.session.poll_transmit(now, &peer.replica) {
            answers.push(transmit.frame);
        }
        let [answer] = &answers[..] else {
            panic!("{statement}: {} frames", answers.len());
        };
        let refused = matches!(
            Message::decode(answer),
            Ok(Message::Reach(reach)) if matches!(reach.told, Told::Refused(_))
        );
        assert!(refused, "{statement}");
    }
    assert!(pair.heard(1).is_empty());
}

#[test]
fn who_asks_without_end_is_cut_off() {
    let mut pair = Pair::linked();
    pair.settle();
    let link = pair.peers[0]
        .session
        .active_link()
        .expect("they are linked");
    let question = Message::AskReach(AskReach {
        number: 1,
        count: 3,
        // What cannot be read costs least.
        statement: "x",
    });
    let frame = question.to_bytes();
    let peer = &mut pair.peers[1];
    let now = std::time::Duration::from_secs(1);
    let mut count = 0;
    while peer.session.active_link() == Some(link) {
        peer.session
            .handle_frame(now, &mut peer.replica, link, &frame);
        count += 1;
        assert!(count < 20_000, "it goes on");
        while peer.session.poll_transmit(now, &peer.replica).is_some() {}
    }
    assert!(count > 1000);
}
