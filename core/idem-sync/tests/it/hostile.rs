//! Remotes that break the rules.

use std::time::Duration;

use idem_model::{ActorId, Dot, Lane, Timestamp, limits};
use idem_sync::{
    CloseReason, Event, LinkId, LinkProperties, MemoryReplica, Priority, Session,
    subscription_id_of,
};
use idem_wire::{
    Accept, CatchUpTier, Compared, Hello, Holdings, KeyedVersion, Lacks, Message, SketchBlock,
    SketchSummary, SketchSymbol, Subscribe, SubscriptionId, Transfer,
};
use proptest::prelude::*;

use crate::pair::{DATABASE, Pair, insert, key, selector, session};

const LINK: LinkId = LinkId(1);
const NOW: Duration = Duration::from_secs(5);

/// A session of peer 2 that has just got a link, and its replica.
fn greeted() -> (Session, MemoryReplica) {
    let mut session = session(2, 1, 5);
    session.handle_link_up(NOW, LINK, LinkProperties::default());
    (session, MemoryReplica::new(ActorId([2; 16]), 1_000_000))
}

fn hello() -> Hello {
    // The hash is taken from a real session, so that it is described in one place.
    let mut other = session(1, 2, 9);
    let replica = MemoryReplica::new(ActorId([1; 16]), 1_000_000);
    other.handle_link_up(NOW, LINK, LinkProperties::default());
    let transmit = other
        .poll_transmit(NOW, &replica)
        .expect("the leader greets");
    match Message::decode(&transmit.frame) {
        Ok(Message::Hello(hello)) => hello,
        other => panic!("{other:?} is no HELLO"),
    }
}

/// Sends frames and gives the reason for which the session closed the link, if it did.
fn close_reason(frames: &[Vec<u8>]) -> Option<CloseReason> {
    let (mut session, mut replica) = greeted();
    for frame in frames {
        session.handle_frame(NOW, &mut replica, LINK, frame);
        while session.poll_transmit(NOW, &replica).is_some() {}
    }
    std::iter::from_fn(|| session.poll_event()).find_map(|event| match event {
        Event::Closed {
            reason, by_remote, ..
        } => {
            assert!(!by_remote);
            Some(reason)
        }
        _ => None,
    })
}

fn check(frames: &[Message<'_>], expected: CloseReason) {
    let mut all = vec![Message::Hello(hello()).to_bytes()];
    all.extend(frames.iter().map(Message::to_bytes));
    assert_eq!(close_reason(&all), Some(expected), "after {frames:?}");
}

fn subscribe(alias: u32) -> Message<'static> {
    Message::Subscribe(Subscribe {
        has_evicted: false,
        alias,
        subscription: SubscriptionId([u8::try_from(alias % 256).expect("below 256"); 32]),
        priority: 0,
        holdings: Holdings::Nothing,
        statement: None,
        more: false,
        evicts: false,
    })
}

fn transfer(lane: Lane, payload: &[u8]) -> Message<'_> {
    Message::Transfer(Transfer {
        lane,
        more: false,
        round: 0,
        raw_bytes: None,
        payload,
    })
}

#[test]
fn the_handshake_tells_what_is_wrong() {
    let check = |change: fn(&mut Hello), expected| {
        let mut hello = hello();
        change(&mut hello);
        let frame = Message::Hello(hello).to_bytes();
        assert_eq!(close_reason(&[frame]), expected);
    };
    check(|_| {}, None);
    check(|it| it.database = [0; 8], Some(CloseReason::Database));
    check(
        |it| (it.version_min, it.version_max) = (900, 901),
        Some(CloseReason::Version),
    );
    check(|it| it.version_max = 901, None);
    check(|it| it.lane_credit_bytes = 10, Some(CloseReason::Limit));
    check(|it| it.timestamp = Timestamp(u64::MAX), None);
    assert_eq!(
        close_reason(&[subscribe(1).to_bytes()]),
        Some(CloseReason::Malformed),
        "a message before the handshake"
    );
}

#[test]
fn broken_rules_close_the_link() {
    use CloseReason::{Limit, Malformed};
    let too_many: Vec<_> = (1..=257).map(subscribe).collect();
    check(&too_many, Limit);
    check(&[subscribe(5), subscribe(5)], Malformed);
    check(&[transfer(Lane::Bulk, &[0xff; 9])], Malformed);
    let cursor = [0x80, 1, 5];
    check(&[transfer(Lane::Control, &cursor)], Malformed);
    check(&[transfer(Lane::Blobs, &cursor)], Malformed);
    check(&[transfer(Lane::Bulk, &[])], Malformed);
    let false_ack = Message::Ack {
        lane: Lane::Bulk,
        consumed_bytes: 1,
        batches: 0,
    };
    check(&[false_ack], Malformed);
    let unasked = Message::Resumed {
        is_known: true,
        is_caught_up: true,
    };
    check(&[unasked], Malformed);
    let bomb = Message::Transfer(Transfer {
        lane: Lane::Bulk,
        more: true,
        round: 0,
        raw_bytes: Some(200_000),
        payload: &[0; 9],
    });
    check(&[bomb], Malformed);
    let wants = vec![
        Message::Want {
            documents: Vec::new()
        };
        8193
    ];
    check(&wants, Limit);
}

#[test]
fn more_bytes_than_credit_close_the_link() {
    let payload = vec![0; limits::FRAME_BYTES_MAX - 16];
    let piece = Message::Transfer(Transfer {
        lane: Lane::Bulk,
        more: true,
        round: 0,
        raw_bytes: None,
        payload: &payload,
    })
    .to_bytes();
    let (mut session, mut replica) = greeted();
    let hello = Message::Hello(hello()).to_bytes();
    session.handle_frame(NOW, &mut replica, LINK, &hello);
    // Never polled, so nothing is acknowledged.
    for _ in 0..17 {
        session.handle_frame(NOW, &mut replica, LINK, &piece);
    }
    let reasons = std::iter::from_fn(|| session.poll_event()).filter_map(|event| match event {
        Event::Closed { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), [CloseReason::Limit]);
}

#[test]
fn a_batch_without_end_is_cut_off() {
    let payload = vec![0; limits::FRAME_BYTES_MAX - 16];
    let piece = Message::Transfer(Transfer {
        lane: Lane::Bulk,
        more: true,
        round: 0,
        raw_bytes: None,
        payload: &payload,
    })
    .to_bytes();
    let mut frames = vec![Message::Hello(hello()).to_bytes()];
    frames.resize(1 + 270, piece);
    assert_eq!(close_reason(&frames), Some(CloseReason::Limit));
}

#[test]
fn a_remote_that_never_answers_is_left() {
    let (mut session, mut replica) = greeted();
    let mut timeout = Duration::ZERO;
    let event = loop {
        timeout = timeout.max(session.poll_timeout().expect("the handshake has a limit"));
        assert!(timeout <= Duration::from_secs(20));
        session.handle_timeout(timeout, &mut replica);
        if let Some(event) = session.poll_event() {
            break event;
        }
    };
    assert!(matches!(
        event,
        Event::Closed {
            reason: CloseReason::Timeout,
            ..
        }
    ));

    let mut pair = Pair::linked();
    pair.settle();
    pair.peers[0].insert_many("d", 1, 100);
    pair.collect(9);
    let peer = &mut pair.peers[0];
    // The lane rests before that.
    while peer.session.is_established() {
        let timeout = peer.session.poll_timeout().expect("an answer is due");
        peer.session.handle_timeout(timeout, &mut peer.replica);
    }
}

/// A peer 1 without a session, that says what it likes to peer 2.
struct Liar {
    session: Session,
    replica: MemoryReplica,
    now: Duration,
    /// How many links it had.
    links: u64,
}

impl Liar {
    /// It has introduced itself to a peer with `documents` documents.
    fn greeted(documents: usize) -> Self {
        let (session, mut replica) = greeted();
        for number in 0..documents {
            let fields = [("n", i64::try_from(number).expect("few").into())];
            let operation = (key(&format!("d{number}")), insert(&fields));
            replica.commit(&[operation]).expect("a valid document");
        }
        replica.make_durable();
        let mut liar = Self {
            session,
            replica,
            now: NOW,
            links: 1,
        };
        liar.say(&Message::Hello(hello()));
        liar
    }

    /// The link ends, and another one takes its place.
    fn reconnect(&mut self) {
        self.session.handle_link_down(self.now, LINK);
        let properties = LinkProperties::default();
        self.session.handle_link_up(self.now, LINK, properties);
        self.links += 1;
        let choice = self.links;
        self.say(&Message::Hello(Hello { choice, ..hello() }));
    }

    /// It was asked for the collection by a peer with `documents` documents.
    fn asked(documents: usize) -> Self {
        let mut liar = Self::greeted(documents);
        let subscribed =
            (liar.session).subscribe(&selector("SELECT * FROM things"), Priority::Normal);
        subscribed.expect("a subscription within the limits");
        assert!(
            liar.session
                .poll_transmit(liar.now, &liar.replica)
                .is_some()
        );
        liar
    }

    /// Says something and gives the frames that come back.
    fn say(&mut self, message: &Message<'_>) -> Vec<Vec<u8>> {
        let frame = message.to_bytes();
        (self.session).handle_frame(self.now, &mut self.replica, LINK, &frame);
        let session = &mut self.session;
        let replica = &self.replica;
        let transmits = std::iter::from_fn(|| session.poll_transmit(self.now, replica));
        transmits.map(|transmit| transmit.frame).collect()
    }

    fn subscribe(&mut self, alias: u32, holdings: Holdings) -> Vec<Vec<u8>> {
        let selector = selector("SELECT * FROM things");
        self.say(&Message::Subscribe(Subscribe {
            has_evicted: false,
            alias,
            subscription: subscription_id_of(&selector),
            priority: 0,
            holdings,
            statement: Some(selector.canonical()),
            more: false,
            evicts: false,
        }))
    }

    /// Subscribes anew, since what was sent is of no use.
    fn subscribe_again(&mut self, alias: u32) {
        self.say(&Message::Restart);
        self.subscribe(alias, Holdings::Nothing);
    }

    /// Why the session closed the link, if it did.
    fn close_reason(&mut self) -> Option<CloseReason> {
        let events = std::iter::from_fn(|| self.session.poll_event());
        let reasons = events.filter_map(|event| match event {
            Event::Closed { reason, .. } => Some(reason),
            _ => None,
        });
        reasons.last()
    }
}

/// A sketch of as many items as the other side has, with symbols that are nobody's.
fn garbage(items: u64, symbols: u32) -> Holdings {
    let symbol = |number: u32| SketchSymbol {
        xor: [7; 12],
        check: number.to_le_bytes(),
        count: 77,
    };
    Holdings::Sketch {
        summary: SketchSummary {
            items,
            xor: [1; 12],
            check: [2; 8],
        },
        block: SketchBlock {
            first: 1,
            symbols: (0..symbols).map(symbol).collect(),
        },
    }
}

fn asks_for(frames: &[Vec<u8>]) -> Option<u32> {
    frames
        .iter()
        .find_map(|frame| match Message::decode(frame) {
            Ok(Message::AskHoldings { symbols, .. }) => Some(symbols),
            _ => None,
        })
}

#[test]
fn a_subscriber_that_never_says_what_it_holds_is_left() {
    for symbols in [1, 300] {
        let mut liar = Liar::greeted(300);
        let asked = asks_for(&liar.subscribe(1, garbage(300, symbols)));
        // A sketch that shows nothing is given up for a list.
        assert_eq!(asked, Some(if symbols == 1 { 4 } else { 0 }));
        let timeout = liar.session.poll_timeout().expect("an answer is due");
        let waited = timeout - liar.now;
        assert_eq!(waited, Duration::from_secs(60));
        liar.session.handle_timeout(timeout, &mut liar.replica);
        assert_eq!(liar.close_reason(), Some(CloseReason::Timeout));
    }
}

#[test]
fn answers_to_what_was_not_compared_close_the_link() {
    let lacks = |alias| {
        Message::Lacks(Lacks {
            alias,
            more: false,
            versions: vec![keyed(1)],
        })
    };
    let mut liar = Liar::greeted(10);
    liar.subscribe(1, Holdings::Items(vec![[1; 12]]));
    liar.say(&lacks(7));
    assert_eq!(liar.close_reason(), None, "it may have been given back");
    liar.say(&lacks(1));
    assert_eq!(liar.close_reason(), Some(CloseReason::Malformed));
}

#[test]
fn a_comparison_that_was_not_made_is_replaced_by_a_list() {
    let mut liar = Liar::greeted(10);
    assert_eq!(
        asks_for(&liar.subscribe(1, Holdings::Mirrored { alias: 1 })),
        Some(0)
    );
    let timeout = liar.session.poll_timeout().expect("an answer is due");
    liar.session.handle_timeout(timeout, &mut liar.replica);
    assert_eq!(liar.close_reason(), Some(CloseReason::Timeout));
}

#[test]
fn a_comparison_is_told_once_and_within_limits() {
    let compared = |alias, more, versions: Vec<KeyedVersion>| {
        Message::Compared(Compared {
            lane: Lane::Bulk,
            alias,
            more,
            tags: vec![[9; 4]; 100],
            versions,
        })
    };
    let asking = || {
        let mut liar = Liar::asked(10);
        liar.say(&compared(7, false, vec![keyed(1)]));
        assert_eq!(liar.close_reason(), None, "it may have been given back");
        liar
    };
    let mut liar = asking();
    let frames = liar.say(&compared(1, false, vec![keyed(1), keyed(2)]));
    let lacks = frames
        .iter()
        .find_map(|frame| match Message::decode(frame) {
            Ok(Message::Lacks(lacks)) => Some(lacks.versions.len()),
            _ => None,
        });
    assert_eq!(lacks, Some(2), "nothing is known of them here");
    assert_eq!(liar.close_reason(), None);
    liar.say(&compared(1, false, vec![keyed(1)]));
    assert_eq!(liar.close_reason(), Some(CloseReason::Malformed));
    for versions in [Vec::new(), vec![keyed(1); 300]] {
        let mut liar = asking();
        let mut said = 0;
        let reason = loop {
            liar.say(&compared(1, true, versions.clone()));
            said += 1;
            if let Some(reason) = liar.close_reason() {
                break reason;
            }
            assert!(said < 10_000, "it is taken in without end");
        };
        assert_eq!(reason, CloseReason::Limit);
    }
}

fn keyed(byte: u8) -> KeyedVersion {
    let dot = Dot {
        actor: ActorId([byte; 16]),
        n: 1,
    };
    KeyedVersion {
        key: [byte; 8],
        version: [dot].into_iter().collect(),
    }
}

#[test]
fn sketches_without_end_are_not_solved_without_end() {
    let mut liar = Liar::greeted(10);
    let mut solved = 0;
    for alias in 1..1000 {
        let frames = liar.subscribe(alias, garbage(10, limits::SKETCH_SYMBOLS_MAX - 1));
        solved += u64::from(asks_for(&frames).is_some()) * u64::from(limits::SKETCH_SYMBOLS_MAX);
        liar.say(&Message::Unsubscribe { alias });
    }
    let limit = limits::SYMBOLS_PER_TEN_SECONDS_MAX;
    let is_limited = (limit..limit + 2 * u64::from(limits::SKETCH_SYMBOLS_MAX)).contains(&solved);
    assert!(is_limited, "{solved} symbols were taken in");
    assert_eq!(liar.close_reason(), None, "all of it is sent instead");
    liar.now += Duration::from_secs(11);
    let frames = liar.subscribe(1000, garbage(10, 1));
    assert_eq!(asks_for(&frames), Some(4), "later it may ask again");
}

/// A link of a peer that says the same `count` times, and reads every answer.
fn repeating(message: &Message<'_>, count: u32) -> Liar {
    let mut liar = Liar::greeted(1);
    for _ in 0..count {
        liar.say(message);
    }
    liar
}

#[test]
fn whatever_is_said_without_end_is_cut_off() {
    let refuse = Message::Refuse {
        alias: 1,
        is_closed: false,
        detail: "no",
    };
    let accept = Message::Accept(Accept {
        alias: 1,
        tier: CatchUpTier::Stream,
        from: 0,
    });
    let extension = Message::Extension { number: 0x99 };
    let floods = [refuse, accept, extension, Message::Hello(hello())];
    for flood in floods {
        let mut liar = repeating(&flood, limits::REQUESTS_PER_TEN_SECONDS_MAX - 1);
        assert_eq!(liar.close_reason(), None, "{flood:?}");
        liar.say(&flood);
        assert_eq!(liar.close_reason(), Some(CloseReason::Limit), "{flood:?}");
    }
}

#[test]
fn who_comes_back_at_once_has_no_more_leave() {
    let mut liar = Liar::greeted(1);
    let want = Message::Want {
        documents: Vec::new(),
    };
    for _ in 0..limits::REQUESTS_PER_TEN_SECONDS_MAX / 2 {
        liar.say(&want);
    }
    liar.reconnect();
    for _ in 0..limits::REQUESTS_PER_TEN_SECONDS_MAX / 2 {
        liar.say(&want);
    }
    assert_eq!(liar.close_reason(), Some(CloseReason::Limit));

    let mut liar = Liar::greeted(10);
    let mut solved = 0;
    for _ in 1..1000 {
        liar.reconnect();
        let frames = liar.subscribe(1, garbage(10, limits::SKETCH_SYMBOLS_MAX - 1));
        solved += u64::from(asks_for(&frames).is_some()) * u64::from(limits::SKETCH_SYMBOLS_MAX);
    }
    let limit = limits::SYMBOLS_PER_TEN_SECONDS_MAX;
    let is_limited = (limit..limit + 2 * u64::from(limits::SKETCH_SYMBOLS_MAX)).contains(&solved);
    assert!(is_limited, "{solved} symbols were taken in");
    liar.now += Duration::from_secs(11);
    liar.reconnect();
    let frames = liar.subscribe(1, garbage(10, 1));
    assert_eq!(asks_for(&frames), Some(4), "later it may ask again");
}

#[test]
fn questions_without_reading_the_answers_take_bounded_memory() {
    let mut liar = Liar::greeted(0);
    let text = "x".repeat(limits::SUBSCRIPTION_STATEMENT_BYTES_MAX - 100);
    let wanted = selector(&format!("SELECT * FROM things WHERE a = '{text}'"));
    let subscription = (liar.session)
        .subscribe(&wanted, Priority::Normal)
        .expect("a subscription within the limits");
    let question = Message::AskStatement { subscription }.to_bytes();
    let mut asked = 0;
    while liar.session.is_established() {
        (liar.session).handle_frame(liar.now, &mut liar.replica, LINK, &question);
        let queued = liar.session.stats().queued_bytes;
        assert!(queued <= limits::CONTROL_BYTES_QUEUED_MAX as u64);
        asked += 1;
    }
    let expected = limits::CONTROL_BYTES_QUEUED_MAX / limits::SUBSCRIPTION_STATEMENT_BYTES_MAX;
    assert!(asked > expected, "{asked} questions are answered");
    assert_eq!(liar.close_reason(), Some(CloseReason::Limit));
}

#[test]
fn who_acknowledges_nothing_new_does_not_look_alive() {
    let ack = |consumed_bytes| Message::Ack {
        lane: Lane::Bulk,
        consumed_bytes,
        batches: 0,
    };
    for (said, reason) in [
        (vec![], Some(CloseReason::Timeout)),
        (vec![0], Some(CloseReason::Malformed)),
        (vec![1], Some(CloseReason::Timeout)),
        // The frame that was sent can be acknowledged once.
        (vec![1, 2], Some(CloseReason::Malformed)),
    ] {
        let mut liar = Liar::greeted(10);
        liar.subscribe(1, Holdings::Nothing);
        for bytes in &said {
            liar.now += Duration::from_secs(30);
            liar.say(&ack(*bytes));
        }
        // The lane rests before that.
        let rested = liar.now + Duration::from_millis(limits::LANE_REST_MS);
        liar.session.handle_timeout(rested, &mut liar.replica);
        if let Some(timeout) = liar.session.poll_timeout() {
            let since = timeout - liar.now;
            assert_eq!(since, Duration::from_secs(60), "after {said:?}");
            liar.session.handle_timeout(timeout, &mut liar.replica);
        }
        assert_eq!(liar.close_reason(), reason, "after {said:?}");
    }
}

#[test]
fn a_large_batch_without_its_rest_is_given_up() {
    let payload = vec![0; limits::FRAME_BYTES_MAX - 16];
    let piece = |len: usize| {
        Message::Transfer(Transfer {
            lane: Lane::Bulk,
            more: true,
            round: 0,
            raw_bytes: None,
            payload: &payload[..len],
        })
    };
    // A small one may be held up by live changes.
    let mut liar = Liar::greeted(0);
    liar.say(&piece(payload.len()));
    // Nothing is due but the rest of the lane.
    let rest = Duration::from_millis(limits::LANE_REST_MS);
    assert_eq!(liar.session.poll_timeout(), Some(liar.now + rest));
    for _ in 0..5 {
        liar.now += Duration::from_secs(50);
        liar.say(&piece(payload.len()));
    }
    assert!(liar.session.is_established(), "it goes on");
    let at_rest = liar.now + rest;
    assert_eq!(liar.session.poll_timeout(), Some(at_rest));
    liar.session.handle_timeout(at_rest, &mut liar.replica);
    let timeout = liar.session.poll_timeout().expect("more is due");
    assert_eq!(timeout - liar.now, Duration::from_secs(60));
    liar.session.handle_timeout(timeout, &mut liar.replica);
    assert_eq!(liar.close_reason(), Some(CloseReason::Timeout));

    let mut liar = Liar::greeted(0);
    liar.say(&piece(limits::PIECE_BYTES_MIN));
    assert_eq!(liar.close_reason(), None);
    liar.say(&piece(limits::PIECE_BYTES_MIN - 1));
    assert_eq!(liar.close_reason(), Some(CloseReason::Malformed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames of a real exchange with bytes changed: the session may close the link, no more.
    #[test]
    fn changed_frames_do_no_harm(seed in any::<u64>(), flips in prop::collection::vec((any::<u16>(), any::<u8>()), 1..20)) {
        let mut pair = Pair::linked();
        pair.peers[0].insert_many("d", 20, 400);
        pair.peers[1].insert_many("e", 20, 2000);
        let mut flips = flips.into_iter().cycle();
        let mut state = seed;
        for _ in 0..20 {
            pair.collect(usize::MAX);
            for frames in pair.wires.values_mut() {
                for frame in frames.iter_mut() {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    if state >> 62 == 0 && !frame.is_empty() {
                        let (at, xor) = flips.next().expect("cycles for ever");
                        let at = usize::from(at) % frame.len();
                        frame[at] ^= xor;
                    }
                }
            }
            pair.deliver();
        }
    }

    #[test]
    fn any_frames_do_no_harm(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let mut all = vec![Message::Hello(hello()).to_bytes()];
        all.extend(frames);
        close_reason(&all);
    }
}

#[test]
fn the_database_is_part_of_the_hash() {
    assert_ne!(hello().database, DATABASE.0[..8], "it is hashed");
}

#[test]
fn a_statement_in_parts_without_end_is_over_the_limit() {
    let text = "x".repeat(15_000);
    let part = || Message::Statement {
        subscription: SubscriptionId([1; 32]),
        more: true,
        text: &text,
    };
    let parts: Vec<_> = std::iter::repeat_with(part).take(5).collect();
    let mut said = vec![subscribe(1)];
    said.extend(parts);
    check(&said, CloseReason::Limit);
    // What was not asked for is not kept.
    said[0] = Message::Floor {
        lane: Lane::Bulk,
        floor: Timestamp::ZERO,
    };
    let mut all = vec![Message::Hello(hello()).to_bytes()];
    all.extend(said.iter().map(Message::to_bytes));
    assert_eq!(close_reason(&all), None);
}

#[test]
fn who_asks_for_everything_again_and_again_has_no_more_leave_on_the_next_link() {
    let mut liar = Liar::greeted(10);
    let mut restarts = 0;
    let reason = 'links: loop {
        for alias in 1..=10 {
            liar.subscribe_again(alias);
            if let Some(reason) = liar.close_reason() {
                break 'links reason;
            }
            restarts += 1;
            assert!(restarts < 1000, "it is served without end");
        }
        // What else is counted is forgotten by then.
        liar.now += Duration::from_secs(11);
        liar.reconnect();
    };
    assert_eq!(reason, CloseReason::Limit);
    assert_eq!(restarts, u32::from(limits::REWINDS_MAX));
    // Later it may ask again.
    liar.now += Duration::from_secs(601);
    liar.reconnect();
    liar.subscribe_again(1);
    assert_eq!(liar.close_reason(), None);
}
