//! Several links between two peers: which one is used, and that nothing is lost or taken in twice when
//! that changes.

use std::{collections::BTreeMap, time::Duration};

use idem_sync::{CloseReason, Event, Lane, LinkId, LinkProperties};
use idem_wire::{Message, MessageKind};
use proptest::prelude::*;

use crate::pair::{Pair, insert, key, session, set};

/// What was said on a peer's links, by kind.
fn kinds(pair: &Pair) -> Vec<MessageKind> {
    let frames = pair.wires.values().flatten();
    frames
        .map(|frame| Message::decode(frame).expect("an honest frame").kind())
        .collect()
}

fn count(pair: &Pair, index: usize, is_it: impl Fn(&Event) -> bool) -> usize {
    let events = pair.peers[index].events.iter();
    events.filter(|event| is_it(event)).count()
}

fn established(pair: &Pair, index: usize) -> usize {
    count(pair, index, |it| matches!(it, Event::Established { .. }))
}

/// The session went on over another link `moves` times, was greeted once, and took nothing in twice.
fn assert_moved(pair: &Pair, moves: u64) {
    pair.assert_same();
    for (index, peer) in pair.peers.iter().enumerate() {
        assert_eq!(peer.session.stats().moves, moves, "moves of peer {index}");
        assert_eq!(peer.session.stats().documents_unchanged, 0);
        assert_eq!(established(pair, index), 1, "greetings of peer {index}");
        let caught_up = |it: &Event| matches!(it, Event::CaughtUp { .. });
        assert_eq!(count(pair, index, caught_up), 1, "told once");
    }
}

#[test]
fn a_link_that_dies_in_a_transfer_costs_neither_a_greeting_nor_a_document() {
    for frames in 0..12 {
        let mut pair = Pair::linked();
        let second = pair.link();
        pair.peers[0].insert_many("d", 2000, 300);
        pair.peers[1].insert_many("e", 20, 300);
        // Until the handshake is done nothing can go on.
        pair.step();
        pair.step();
        pair.step();
        for _ in 0..frames {
            pair.collect(1);
            pair.deliver();
        }
        pair.collect(2);
        let first = pair.links[0];
        pair.cut(first);
        pair.collect(usize::MAX);
        assert!(!kinds(&pair).contains(&MessageKind::Hello));
        pair.settle();
        pair.assert_calm();
        assert_moved(&pair, 1);
        for peer in &pair.peers {
            assert_eq!(peer.session.active_link(), Some(second));
            let sent = peer.session.stats().documents_sent;
            assert!(sent == 2000 || sent == 20, "{sent} documents sent");
        }
    }
}

#[test]
fn who_does_not_choose_and_finds_the_link_dead_asks_for_another() {
    let mut pair = Pair::linked();
    let second = pair.link();
    pair.settle();
    pair.peers[0].insert_many("d", 100, 300);
    pair.collect(1);
    let first = pair.links[0];
    pair.lose(first, 1);
    pair.settle();
    let lost = |event: &Event| {
        let reason = CloseReason::Lost;
        matches!(event, Event::Closed { link, reason: it, .. } if *link == first && *it == reason)
    };
    assert_eq!(count(&pair, 0, lost), 1, "its owner closes the link");
    assert_eq!(pair.peers[0].session.active_link(), Some(second));
    assert_moved(&pair, 1);
}

/// Frames that were received are confirmed after a while, for which a timer is set.
#[test]
fn no_timer_runs_while_the_link_takes_no_frames() {
    for count in [1, 200] {
        let mut pair = Pair::linked();
        pair.link();
        pair.settle();
        for number in 0..count {
            pair.peers[0].subscribe(&format!("SELECT * FROM c{number}"));
        }
        pair.collect(usize::MAX);
        pair.deliver();
        // The link of the receiver is full from now on.
        let session = &mut pair.peers[1].session;
        for _ in 0..20 {
            let Some(due) = session.poll_timeout() else {
                break;
            };
            assert!(due > pair.now, "it would be called for ever");
            if due > pair.now + Duration::from_secs(5) {
                break;
            }
            pair.now = due;
            session.handle_timeout(pair.now, &mut pair.peers[1].replica);
        }
        let is_confirmation = |frame: &[u8]| {
            let message = Message::decode(frame).expect("an honest frame");
            let lane = Lane::Control;
            matches!(message, Message::Ack { lane: it, .. } if it == lane)
        };
        pair.collect(usize::MAX);
        let frames = pair.wires.values().flatten();
        let confirmations = frames.filter(|frame| is_confirmation(frame)).count();
        assert!(confirmations > 0, "it is told as soon as there is room");
        pair.settle();
        pair.assert_calm();
    }
}

#[test]
fn both_find_the_link_dead_at_once() {
    let mut pair = Pair::linked();
    pair.link();
    pair.link();
    pair.settle();
    pair.peers[0].insert_many("d", 100, 300);
    pair.peers[1].insert_many("e", 100, 300);
    pair.collect(1);
    let first = pair.links[0];
    pair.cut(first);
    pair.settle();
    pair.assert_calm();
    assert_moved(&pair, 1);
}

#[test]
fn the_rank_of_the_peer_with_the_smaller_id_counts() {
    let mut pair = Pair::linked();
    let worse = pair.links[0];
    pair.settle();
    // The two peers rank these the other way round.
    let better = pair.link_ranked([0, 9]);
    for (index, rank) in [(0, 9), (1, 0)] {
        let now = pair.now;
        let session = &mut pair.peers[index].session;
        session.handle_link_rank(now, worse, rank);
    }
    pair.peers[0].insert_many("d", 50, 300);
    pair.settle();
    pair.assert_calm();
    for peer in &pair.peers {
        assert_eq!(peer.session.active_link(), Some(better));
    }
    assert_moved(&pair, 1);
}

#[test]
fn what_is_left_of_an_earlier_use_of_a_link_is_not_taken_in() {
    let mut pair = Pair::linked();
    let first = pair.links[0];
    pair.settle();
    let second = pair.link_ranked([5, 5]);
    pair.settle();
    pair.peers[0].insert_many("d", 30, 300);
    pair.peers[1].insert_many("e", 30, 300);
    pair.collect(1);
    // What was sent over the first link stays on its way while both sides go to the second and back.
    let stale = std::mem::take(&mut pair.wires);
    let rank = |pair: &mut Pair, rank| {
        let now = pair.now;
        let session = &mut pair.peers[0].session;
        session.handle_link_rank(now, first, rank);
    };
    rank(&mut pair, 9);
    pair.collect(1);
    assert_eq!(pair.peers[0].session.active_link(), Some(second));
    pair.step();
    pair.step();
    rank(&mut pair, 0);
    pair.collect(usize::MAX);
    assert_eq!(pair.peers[0].session.active_link(), Some(first));
    // Each lane still brings the old frames first.
    for (wire, frames) in stale {
        let mut all = frames;
        all.extend(pair.wires.remove(&wire).unwrap_or_default());
        pair.wires.insert(wire, all);
    }
    pair.settle();
    pair.assert_calm();
    assert_moved(&pair, 2);
}

#[test]
fn without_the_state_of_the_other_side_it_is_greeted() {
    let mut pair = Pair::linked();
    pair.link();
    pair.settle();
    pair.peers[0].insert_many("d", 100, 300);
    pair.collect(1);
    // The other process dies, and its new one has two links before the first side notices.
    let links = pair.links.clone();
    pair.wires.clear();
    pair.restart(1);
    drop(links);
    pair.link();
    pair.settle();
    pair.assert_same();
    assert_eq!(established(&pair, 0), 2);
}

#[test]
fn frames_that_are_too_large_for_the_next_link_are_made_anew() {
    let mut pair = Pair::linked();
    let narrow = LinkId(99);
    pair.links.push(narrow);
    let mut properties = LinkProperties::default();
    properties.frame_bytes_max = 16 * 1024;
    for peer in &mut pair.peers {
        peer.session.handle_link_up(pair.now, narrow, properties);
    }
    pair.peers[0].insert_many("d", 3000, 300);
    for _ in 0..4 {
        pair.step();
    }
    pair.collect(1);
    let first = pair.links[0];
    pair.cut(first);
    pair.collect(usize::MAX);
    for ((link, _, lane), frames) in &pair.wires {
        let longest = frames.iter().map(Vec::len).max();
        assert!(
            longest <= Some(16 * 1024),
            "{longest:?} on {link:?} {lane:?}"
        );
    }
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
}

#[test]
fn a_peer_that_found_its_only_link_dead_says_so_on_the_next() {
    let mut pair = Pair::linked();
    pair.settle();
    let first = pair.links[0];
    pair.lose(first, 1);
    pair.peers[0].insert_many("d", 10, 300);
    pair.collect(usize::MAX);
    let second = pair.link();
    // The side that chooses still believes in the first one.
    let before = pair.now;
    pair.settle();
    pair.assert_same();
    assert_eq!(pair.peers[0].session.active_link(), Some(second));
    assert!(pair.now - before < Duration::from_secs(10));
}

/// The process of a peer dies and is back, and the other side has not noticed yet.
fn return_unnoticed(pair: &mut Pair, index: usize) {
    for link in pair.links.clone() {
        pair.lose(link, index);
    }
    let number = pair.peers[index].id.0[0];
    let seed = pair.fresh_seed();
    let peer = &mut pair.peers[index];
    peer.session = session(number, 3 - number, seed);
    peer.subscribe("SELECT * FROM things");
}

/// Moves frames, and time as far as the sessions ask within so many seconds. Gives the seconds that passed
/// until both have greeted each other.
fn greeted_after(pair: &mut Pair, seconds: u64) -> Option<f64> {
    let (start, end) = (pair.now, pair.now + Duration::from_secs(seconds));
    let before = [0, 1].map(|index| established(pair, index));
    loop {
        if pair.step() > 0 {
            continue;
        }
        if (0..2).all(|index| established(pair, index) > before[index]) {
            return Some((pair.now - start).as_secs_f64());
        }
        let timeouts = pair.peers.iter().filter_map(|it| it.session.poll_timeout());
        let next = timeouts.min().filter(|timeout| *timeout <= end)?;
        pair.now = pair.now.max(next);
        for peer in &mut pair.peers {
            peer.session.handle_timeout(pair.now, &mut peer.replica);
        }
    }
}

fn timeouts(pair: &Pair) -> usize {
    let is_timeout = |event: &Event| {
        let reason = CloseReason::Timeout;
        matches!(event, Event::Closed { reason: it, .. } if *it == reason)
    };
    (0..2).map(|index| count(pair, index, is_timeout)).sum()
}

#[test]
fn who_returns_is_greeted_though_the_other_side_believes_in_a_dead_link() {
    for returning in 0..2 {
        let mut pair = Pair::linked();
        pair.settle();
        let first = pair.links[0];
        return_unnoticed(&mut pair, returning);
        let second = pair.link();
        let passed = greeted_after(&mut pair, 30);
        assert!(passed.is_some_and(|passed| passed < 2.0), "{passed:?}");
        for peer in &pair.peers {
            assert_eq!(peer.session.active_link(), Some(second));
        }
        assert_eq!(timeouts(&pair), 0);
        pair.lose(first, 1 - returning);
        pair.peers[0].insert_many("d", 10, 300);
        pair.settle();
        pair.assert_same();
    }
}

#[test]
fn a_leader_that_greets_over_a_dead_link_is_told_of_another_one() {
    let mut pair = Pair::linked();
    let dead = pair.links[0];
    pair.lose(dead, 1);
    let second = pair.link();
    let passed = greeted_after(&mut pair, 30);
    assert!(passed.is_some_and(|passed| passed < 6.0), "{passed:?}");
    assert_eq!(pair.peers[0].session.active_link(), Some(second));
    assert_eq!(timeouts(&pair), 0);
}

#[test]
fn what_is_under_way_survives_a_leader_that_moves_to_a_dead_link() {
    let mut pair = Pair::linked();
    let first = pair.links[0];
    let second = pair.link_ranked([5, 5]);
    pair.settle();
    let dead = pair.link();
    pair.lose(dead, 1);
    pair.peers[0].insert_many("d", 100, 300);
    pair.collect(1);
    // Both find the first link dead, and the leader tries the one that only it believes in.
    pair.cut(first);
    pair.collect(usize::MAX);
    assert_eq!(pair.peers[0].session.active_link(), Some(dead));
    for _ in 0..8 {
        pair.settle();
        pair.now += Duration::from_secs(1);
    }
    assert_eq!(pair.peers[0].session.active_link(), Some(second));
    assert_eq!(timeouts(&pair), 0);
    assert_moved(&pair, 1);
}

#[test]
fn a_choice_that_crosses_the_wish_for_one_stands() {
    let mut pair = Pair::linked();
    let first = pair.links[0];
    let second = pair.link_ranked([5, 5]);
    // Each side likes another one best.
    let third = pair.link_ranked([0, 9]);
    pair.settle();
    pair.lose(first, 1);
    pair.collect(usize::MAX);
    let wish = std::mem::take(&mut pair.wires);
    assert!(!wish.is_empty());
    pair.lose(first, 0);
    pair.links.retain(|it| *it != first);
    // It comes while the leader waits for the answer, and once more long after that.
    for _ in 0..2 {
        pair.collect(usize::MAX);
        let under_way = std::mem::take(&mut pair.wires);
        pair.hand_out(wish.clone().into_iter().collect());
        pair.wires.extend(under_way);
        pair.settle();
        assert_eq!(pair.peers[0].session.active_link(), Some(third));
        pair.now += Duration::from_secs(60);
    }
    let closed = count(&pair, 0, |it| matches!(it, Event::Closed { .. }));
    assert_eq!(closed, 0, "{second:?} and {third:?} are there still");
}

/// The leader goes on with who begins anew, hears that there is nothing to go on with, and greets; its first
/// choice is still under way on two lanes then. A lane that it is heard on last must be open for all that.
#[test]
fn a_choice_that_comes_behind_a_later_one_is_outdated() {
    let mut pair = Pair::linked();
    pair.settle();
    let first = pair.links[0];
    return_unnoticed(&mut pair, 1);
    pair.link();
    pair.lose(first, 0);
    pair.links.retain(|it| *it != first);
    pair.collect(usize::MAX);
    pair.deliver_on(&[Lane::Bulk]);
    let late = std::mem::take(&mut pair.wires);
    // Only the answer, and what it brings about.
    pair.collect(usize::MAX);
    pair.deliver();
    pair.collect(usize::MAX);
    pair.deliver_on(&[Lane::Bulk]);
    for (wire, frames) in late {
        let mut all = frames;
        all.extend(pair.wires.remove(&wire).unwrap_or_default());
        pair.wires.insert(wire, all);
    }
    pair.peers[0].insert_many("d", 100, 300);
    pair.settle();
    pair.assert_same();
    pair.assert_calm();
    assert_eq!(timeouts(&pair), 0);
}

#[test]
fn nothing_is_taken_from_a_link_that_is_gone() {
    let mut pair = Pair::linked();
    pair.link();
    pair.settle();
    pair.peers[0].insert_many("d", 10, 300);
    pair.collect(usize::MAX);
    let late = std::mem::take(&mut pair.wires);
    assert!(!late.is_empty());
    let first = pair.links[0];
    pair.cut(first);
    let before = pair.peers[1].session.stats().frames_received;
    pair.hand_out(late.into_iter().collect());
    assert_eq!(pair.peers[1].session.stats().frames_received, before);
    assert!(pair.peers[1].documents().is_empty());
    pair.settle();
    assert_moved(&pair, 1);
}

#[test]
fn more_links_than_a_session_holds_are_taken_when_offered_again() {
    let mut pair = Pair::linked();
    for _ in 0..5 {
        pair.link();
    }
    pair.settle();
    let late = pair.links[5];
    let earlier: Vec<_> = pair.links[..5].to_vec();
    for link in earlier {
        pair.cut(link);
        for peer in &mut pair.peers {
            let properties = LinkProperties::default();
            peer.session.handle_link_up(pair.now, late, properties);
        }
    }
    pair.peers[0].insert_many("d", 10, 300);
    pair.settle();
    pair.assert_calm();
    assert_eq!(pair.peers[1].session.active_link(), Some(late));
    pair.assert_same();
}

/// What happens to two peers with several links.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    Link([u32; 2]),
    Rank(usize, usize, u32),
    /// A link dies; the side that is named notices.
    Lose(usize, usize),
    /// A link keeps back what is said, or gives it out again.
    Stall(usize),
    Collect(usize),
    /// Hands out the first frames of a lane of a link.
    Deliver(usize, usize, usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let side = 0..2usize;
    let link = 0..4usize;
    prop_oneof![
        3 => (side.clone(), 0..8usize).prop_map(|(side, id)| Step::Write(side, id)),
        2 => any::<[bool; 2]>().prop_map(|ranks| Step::Link(ranks.map(u32::from))),
        1 => (side.clone(), link.clone(), 0..3u32).prop_map(|(a, b, c)| Step::Rank(a, b, c)),
        1 => (side, link.clone()).prop_map(|(side, link)| Step::Lose(side, link)),
        1 => link.clone().prop_map(Step::Stall),
        8 => (1..4usize).prop_map(Step::Collect),
        8 => (link, 0..6usize, 1..6usize).prop_map(|(a, b, c)| Step::Deliver(a, b, c)),
        1 => prop::sample::select(vec![300, 1_100, 11_000]).prop_map(Step::Pass),
    ]
}

/// Links by which side has noticed that they are dead, and whether they stall.
#[derive(Default)]
struct Links {
    dead: BTreeMap<LinkId, [bool; 2]>,
    stalled: Vec<LinkId>,
}

impl Links {
    fn perform(&mut self, pair: &mut Pair, step: &Step) {
        let links = pair.links.clone();
        let pick = |place: usize| (!links.is_empty()).then(|| links[place % links.len()]);
        match *step {
            Step::Write(side, id) => {
                let id = key(&format!("{side}-{id}"));
                let n = i64::try_from(pair.peers[side].replica.last_commit()).expect("few");
                let peer = &mut pair.peers[side];
                match peer.documents().contains_key(&id) {
                    true => peer.commit(&[(id, set("n", n))]),
                    false => peer.commit(&[(id, insert(&[("n", n.into())]))]),
                }
            }
            Step::Link(ranks) if links.len() < 4 => drop(pair.link_ranked(ranks)),
            Step::Link(_) => {}
            Step::Rank(side, place, rank) => {
                let Some(link) = pick(place) else { return };
                let now = pair.now;
                let session = &mut pair.peers[side].session;
                session.handle_link_rank(now, link, rank);
            }
            Step::Lose(side, place) => {
                if let Some(link) = pick(place) {
                    self.lose(pair, link, side);
                }
            }
            Step::Stall(place) => {
                let Some(link) = pick(place) else { return };
                match self.stalled.iter().position(|it| *it == link) {
                    Some(at) => drop(self.stalled.swap_remove(at)),
                    None => self.stalled.push(link),
                }
            }
            Step::Collect(frames) => {
                pair.collect(frames);
                self.follow(pair);
            }
            Step::Deliver(place, way, frames) => {
                let Some(link) = pick(place) else { return };
                let lane = [Lane::Control, Lane::Interactive, Lane::Bulk][way / 2];
                let wire = (link, way % 2, lane);
                let is_dead = self.dead.contains_key(&link);
                if self.stalled.contains(&link) || is_dead {
                    return;
                }
                let Some(mut queue) = pair.wires.remove(&wire) else {
                    return;
                };
                let rest = queue.split_off(frames.min(queue.len()));
                pair.hand_out(vec![(wire, queue)]);
                if !rest.is_empty() {
                    pair.wires.insert(wire, rest);
                }
            }
            Step::Pass(ms) => {
                pair.now += Duration::from_millis(ms);
                for peer in &mut pair.peers {
                    peer.session.handle_timeout(pair.now, &mut peer.replica);
                }
                self.follow(pair);
            }
        }
    }

    fn lose(&mut self, pair: &mut Pair, link: LinkId, side: usize) {
        let dead = self.dead.entry(link).or_default();
        dead[side] = true;
        let is_gone = dead[0] && dead[1];
        pair.lose(link, side);
        if is_gone {
            pair.links.retain(|it| *it != link);
            pair.wires.retain(|(it, ..), _| *it != link);
        }
    }

    /// Owners close what their sessions gave up.
    fn follow(&mut self, pair: &mut Pair) {
        for side in 0..2 {
            let events = pair.peers[side].events.clone();
            for event in events {
                if let Event::Closed { link, .. } = event
                    && pair.links.contains(&link)
                {
                    self.lose(pair, link, side);
                }
            }
        }
    }

    /// All that is dead is known to be, nothing stalls, and there is a link.
    fn heal(&mut self, pair: &mut Pair) {
        self.stalled.clear();
        for link in self.dead.keys().copied().collect::<Vec<_>>() {
            self.lose(pair, link, 0);
            self.lose(pair, link, 1);
        }
        if pair.links.is_empty() {
            pair.link();
        }
    }
}

proptest! {
    #[test]
    fn links_that_come_go_and_stall_lose_nothing(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut pair = Pair::linked();
        let mut links = Links::default();
        for step in &steps {
            links.perform(&mut pair, step);
        }
        links.heal(&mut pair);
        for _ in 0..6 {
            pair.settle();
            links.follow(&mut pair);
            links.heal(&mut pair);
        }
        pair.assert_same();
        for index in 0..2 {
            let peer = &pair.peers[index];
            prop_assert!(peer.session.is_established());
            let broken = peer.events.iter().find(|event| {
                let is_expected = |reason| {
                    matches!(reason, CloseReason::Lost | CloseReason::Timeout)
                };
                matches!(event, Event::Closed { reason, .. } if !is_expected(*reason))
            });
            prop_assert_eq!(broken, None);
            // Between two that were greeted once every frame was taken in once.
            if established(&pair, 0) == 1 && established(&pair, 1) == 1 {
                let stats = peer.session.stats();
                let sent = pair.peers[1 - index].session.stats().documents_sent;
                prop_assert_eq!(stats.documents_changed + stats.documents_unchanged, sent);
            }
            let greetings = established(&pair, index);
            let caught_up = count(&pair, index, |it| matches!(it, Event::CaughtUp { .. }));
            prop_assert!(caught_up <= greetings, "{} of {}", caught_up, greetings);
        }
    }
}
