//! Two sides, the links between them, and the schedule.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_model::Lane;
use idem_sync::{LinkId, LinkProperties, sketch::Salt};
use idem_wire::{Hello, Message, MessageKind};

use super::{
    lies::Scene,
    side::{DATABASE, STATEMENTS, Side},
};
use crate::statements::Choices;

/// Steps of a schedule: about as many as an input of 3 KB has choices for.
const STEPS_MAX: usize = 500;

/// Frames that may move before two honest peers must be at rest.
const FRAMES_TO_REST_MAX: usize = 20_000;

/// Links that two honest peers may need until they are in step: a store may take a new actor on each
/// side, and what a liar left may cost one more.
const LINKS_TO_REST_MAX: usize = 6;

/// Clocks differ by less than the 24 hours beyond which documents are held back.
const CLOCK_STEP_MS: u64 = 10 * 60 * 60 * 1000;

/// What a frame on its way is found by: its link, whom it is for, and its lane.
type Way = (LinkId, usize, Lane);

#[derive(Debug)]
pub(crate) struct World {
    now: Duration,
    sides: [Side; 2],
    wires: BTreeMap<Way, VecDeque<Vec<u8>>>,
    /// Which sides know of each link that is up.
    links: BTreeMap<LinkId, BTreeSet<usize>>,
    link_last: u64,
    /// The place of the side that may lie.
    liar: usize,
    /// Whether it did.
    has_lied: bool,
    /// A frame of the liar, to be sent again.
    recorded: Option<(Lane, Vec<u8>)>,
    /// The last introductions of both sides.
    hellos: [Option<Hello>; 2],
    /// Bytes that the honest side sent on each lane of the latest link.
    received: BTreeMap<Lane, u64>,
    /// Changes that the liar made up.
    changes: Cell<u64>,
    /// Frames that arrived.
    moved: usize,
}

impl World {
    /// Runs the schedule that `data` stands for, and the peace after it. Returns whether anything was
    /// said.
    ///
    /// # Panics
    ///
    /// If anything fails to hold that must.
    pub(crate) fn run(data: &[u8]) -> bool {
        let choices = &mut Choices::new(data);
        let mut world = Self {
            now: Duration::from_secs(1),
            sides: [Side::new(1), Side::new(2)],
            wires: BTreeMap::new(),
            links: BTreeMap::new(),
            link_last: 0,
            liar: choices.below(2),
            has_lied: false,
            recorded: None,
            hellos: [None, None],
            received: BTreeMap::new(),
            changes: Cell::new(0),
            moved: 0,
        };
        // Some schedules are all honest, so that what is sent for nothing is found there.
        let may_lie = choices.below(3) > 0;
        for side in &mut world.sides {
            side.subscribe(choices);
        }
        world.link_up();
        let length = data.len().min(STEPS_MAX * 8) / 8;
        for _ in 0..length {
            world.step(may_lie, choices);
            let honest = &world.sides[1 - world.liar];
            honest.check();
        }
        world.sides[1 - world.liar].check_documents();
        let moved = world.moved;
        world.make_peace();
        moved > 0
    }

    fn step(&mut self, may_lie: bool, choices: &mut Choices<'_>) {
        let index = choices.below(2);
        if self.links.is_empty() && choices.percent(30) {
            self.link_up();
        }
        let lies = usize::from(may_lie);
        let weights = [
            20,
            10,
            2,
            4,
            2,
            10,
            14,
            2,
            2,
            5,
            2,
            2,
            2,
            16 * lies,
            8 * lies,
            lies,
        ];
        match choices.weighted(&weights) {
            0 => {
                self.exchange(choices.of(&[1, 2, 5]));
            }
            1 => self.write(index, choices),
            2 => self.sides[index].evict(choices),
            3 => self.sides[index].subscribe(choices),
            4 => self.sides[index].unsubscribe(choices.below(STATEMENTS.len())),
            5 => self.collect(index, choices.of(&[1, 3, usize::MAX])),
            6 => self.deliver_some(choices),
            7 => self.link_up(),
            8 => self.link_down(index, choices),
            9 => self.pass(choices.of(&[1, 250, 1_000, 11_000, 61_000])),
            10 => {
                let ahead = choices.of(&[0, 1, 1_000, CLOCK_STEP_MS]);
                let base = self.sides[index].now_ms;
                // Never further than the limit, however often it steps.
                let start = base - base % (3 * CLOCK_STEP_MS);
                self.sides[index].set_clock(start + ahead);
            }
            11 => {
                let side = &mut self.sides[index];
                side.is_durable_at_once = !side.is_durable_at_once;
                side.committed(self.now);
            }
            12 => self.restart(index),
            13 => self.lie(choices),
            14 => self.mangle(choices),
            _ => self.flood(choices),
        }
    }

    fn write(&mut self, index: usize, choices: &mut Choices<'_>) {
        self.sides[index].write(choices);
        self.sides[index].committed(self.now);
    }

    // Links.

    fn link_up(&mut self) {
        self.link_last += 1;
        let link = LinkId(self.link_last);
        self.links.insert(link, BTreeSet::from([0, 1]));
        for side in &mut self.sides {
            let properties = LinkProperties::default();
            side.session.handle_link_up(self.now, link, properties);
        }
        self.received.clear();
    }

    /// A side finds a link dead; the other one may find out later.
    fn link_down(&mut self, index: usize, choices: &mut Choices<'_>) {
        let count = self.links.len();
        if count == 0 {
            return;
        }
        let at = choices.below(count);
        let link = *self.links.keys().nth(at).expect("below the count");
        self.drop_link(link, index);
        if choices.percent(70) {
            self.drop_link(link, 1 - index);
        }
    }

    fn drop_link(&mut self, link: LinkId, index: usize) {
        let Some(ends) = self.links.get_mut(&link) else {
            return;
        };
        ends.remove(&index);
        if ends.is_empty() {
            self.links.remove(&link);
        }
        // What was on its way to this side is lost, and what it sends goes nowhere.
        self.wires
            .retain(|(it, to, _), _| (*it, *to) != (link, index));
        self.sides[index].session.handle_link_down(self.now, link);
    }

    fn restart(&mut self, index: usize) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.drop_link(link, index);
            self.drop_link(link, 1 - index);
        }
        self.sides[index].restart();
    }

    // Frames.

    fn collect(&mut self, index: usize, count: usize) {
        for _ in 0..count {
            let side = &mut self.sides[index];
            let Some(transmit) = side.session.poll_transmit(self.now, &side.replica) else {
                break;
            };
            if let Ok(Message::Hello(hello)) = Message::decode(&transmit.frame) {
                self.hellos[index] = Some(hello);
            }
            if index != self.liar {
                *self.received.entry(transmit.lane).or_default() += transmit.frame.len() as u64;
            } else {
                self.recorded = Some((transmit.lane, transmit.frame.clone()));
            }
            if self
                .links
                .get(&transmit.link)
                .is_some_and(|it| it.len() == 2)
            {
                let way = (transmit.link, 1 - index, transmit.lane);
                self.wires.entry(way).or_default().push_back(transmit.frame);
            }
        }
        while self.sides[index].session.poll_event().is_some() {}
    }

    /// Lanes may overtake each other.
    fn deliver_some(&mut self, choices: &mut Choices<'_>) {
        let count = self.wires.len();
        if count == 0 {
            return;
        }
        let at = choices.below(count);
        let way = *self.wires.keys().nth(at).expect("below the count");
        for _ in 0..choices.of(&[1, 2, 50]) {
            self.deliver(way);
        }
    }

    fn deliver(&mut self, way: Way) {
        let Some(frames) = self.wires.get_mut(&way) else {
            return;
        };
        let frame = frames.pop_front();
        if frames.is_empty() {
            self.wires.remove(&way);
        }
        if let Some(frame) = frame {
            self.hand_over(way, &frame);
        }
    }

    fn hand_over(&mut self, (link, to, _): Way, frame: &[u8]) {
        self.moved += 1;
        let side = &mut self.sides[to];
        side.session
            .handle_frame(self.now, &mut side.replica, link, frame);
        side.committed(self.now);
    }

    /// Moves everything that there is, some times. Returns how many frames that were.
    fn exchange(&mut self, rounds: usize) -> usize {
        let mut count = 0;
        for _ in 0..rounds {
            self.collect(0, usize::MAX);
            self.collect(1, usize::MAX);
            while let Some(way) = self.wires.keys().next_back().copied() {
                count += 1;
                self.deliver(way);
            }
        }
        count
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        for side in &mut self.sides {
            let is_due = side.session.poll_timeout().is_some_and(|at| at <= self.now);
            if is_due {
                side.session.handle_timeout(self.now, &mut side.replica);
            }
        }
    }

    // Hostile acts.

    /// Some link on which the honest side listens.
    fn ground(&self, choices: &mut Choices<'_>) -> Option<LinkId> {
        let honest = 1 - self.liar;
        let heard = self.links.iter().filter(|(_, ends)| ends.contains(&honest));
        let heard: Vec<LinkId> = heard.map(|(link, _)| *link).collect();
        (!heard.is_empty()).then(|| heard[choices.below(heard.len())])
    }

    /// What the liar knows.
    fn scene(&self) -> Scene<'_> {
        let (own, other) = (self.liar, 1 - self.liar);
        Scene {
            own: &self.sides[own].replica,
            other: &self.sides[other].replica,
            hello: self.hellos[own].as_ref(),
            salt: self.salt(),
            received: &self.received,
            changes: &self.changes,
        }
    }

    fn lie(&mut self, choices: &mut Choices<'_>) {
        let Some(link) = self.ground(choices) else {
            return;
        };
        self.has_lied = true;
        let other = 1 - self.liar;
        for _ in 0..choices.of(&[1, 1, 2, 4]) {
            let kind = MessageKind::ALL[choices.below(MessageKind::ALL.len())];
            let frame = self.scene().lie(kind, choices);
            let way = (link, other, Lane::Control);
            self.hand_over(way, &frame);
        }
        self.answer_some(choices);
    }

    /// The honest side may say something at once.
    fn answer_some(&mut self, choices: &mut Choices<'_>) {
        let count = choices.of(&[usize::MAX, 0, 1]);
        self.collect(1 - self.liar, count);
    }

    /// Frames of the liar's session are lost, come twice, late or changed.
    fn mangle(&mut self, choices: &mut Choices<'_>) {
        let honest = 1 - self.liar;
        self.has_lied = true;
        if choices.below(4) == 0 {
            let (Some((lane, frame)), Some(link)) = (self.recorded.clone(), self.ground(choices))
            else {
                return;
            };
            return self.hand_over((link, honest, lane), &frame);
        }
        let ways = self
            .wires
            .iter_mut()
            .filter(|((_, to, _), _)| *to == honest);
        let mut ways: Vec<_> = ways.map(|(_, frames)| frames).collect();
        if ways.is_empty() {
            return;
        }
        let at = choices.below(ways.len());
        let frames = &mut *ways[at];
        let place = choices.below(frames.len().min(256));
        match choices.below(4) {
            0 => {
                frames.remove(place);
            }
            1 => frames.swap(0, place),
            2 => {
                let again = frames[place].clone();
                frames.push_back(again);
            }
            _ => {
                let frame = &mut frames[place];
                for _ in 0..=choices.below(3) {
                    let at = choices.below(256) * (1 + frame.len() / 256);
                    if let Some(byte) = frame.get_mut(at) {
                        *byte ^= 1 << choices.below(8);
                    }
                }
            }
        }
        self.wires.retain(|_, frames| !frames.is_empty());
    }

    /// The same frame until the link is given up, or for long.
    fn flood(&mut self, choices: &mut Choices<'_>) {
        let Some(link) = self.ground(choices) else {
            return;
        };
        self.has_lied = true;
        let other = 1 - self.liar;
        let kind = MessageKind::ALL[choices.below(MessageKind::ALL.len())];
        let frame = self.scene().lie(kind, choices);
        for _ in 0..choices.of(&[10, 100, 300]) {
            self.hand_over((link, other, Lane::Control), &frame);
            self.sides[other].check();
        }
        self.answer_some(choices);
    }

    /// What both sides compare under, which a liar knows as well (docs/format/wire.md, "Catching up").
    fn salt(&self) -> Salt {
        let instance = |index: usize| self.hellos[index].as_ref().map_or(0, |it| it.instance);
        let mut hasher = blake3::Hasher::new_derive_key("idem sync salt of sketches, version 1");
        hasher.update(&DATABASE.0);
        hasher.update(&instance(0).to_be_bytes());
        hasher.update(&instance(1).to_be_bytes());
        let mut salt = [0; 16];
        hasher.finalize_xof().fill(&mut salt);
        Salt(salt)
    }

    // What must come of it.

    /// Everything heals, the liar reforms, and both peers come to hold what they ask each other for.
    fn make_peace(&mut self) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.drop_link(link, 0);
            self.drop_link(link, 1);
        }
        self.wires.clear();
        let now_ms = self.sides.iter().map(|side| side.now_ms).max();
        let now_ms = now_ms.expect("two sides");
        self.pass(20_000);
        for side in &mut self.sides {
            side.set_clock(now_ms);
            side.is_durable_at_once = true;
            side.committed(self.now);
        }
        if self.has_lied {
            self.sides[self.liar].reform();
        }
        let mut missing = None;
        for _ in 0..LINKS_TO_REST_MAX {
            self.link_up();
            self.rest();
            for (from, to) in [(0, 1), (1, 0)] {
                missing = self.sides[from].missing_at(&self.sides[to]);
                if missing.is_some() {
                    break;
                }
            }
            let is_up = self.sides.iter().all(|side| side.session.is_established());
            if is_up && missing.is_none() {
                self.sides.iter().for_each(Side::check_documents);
                return;
            }
            for link in self.links.keys().copied().collect::<Vec<_>>() {
                self.drop_link(link, 0);
                self.drop_link(link, 1);
            }
        }
        panic!(
            "no peace: {}",
            missing.as_deref().unwrap_or("no link stays up")
        );
    }

    /// Moves frames until nothing moves, and time as far as the sessions ask.
    fn rest(&mut self) {
        let mut moved = 0;
        let mut idle = 0;
        while idle < 3 {
            let count = self.exchange(1);
            moved += count;
            assert!(moved < FRAMES_TO_REST_MAX, "they do not fall silent");
            idle = if count == 0 { idle + 1 } else { 0 };
            if count == 0 {
                self.pass(400);
            }
        }
    }
}
