//! Changes that the remote announced and that are not held yet.
//!
//! A batch with such changes is not acknowledged, and no cursor in it or behind it counts, until they are held:
//! they came from another peer, or the remote was asked and has answered. So nothing that was only
//! announced is ever taken for held, whoever dies meanwhile.

use std::{collections::VecDeque, time::Duration};

use idem_model::{PeerId, limits};
use idem_wire::{AnnouncedItem, Message};

use crate::{
    event::CloseReason,
    failure::Failure,
    gathering::{Gathering, Step},
};

/// Cursors that came to count without a batch that could bring them along wait so long for one.
const CURSOR_DELAY: Duration = Duration::from_millis(200);

/// A cursor as it came: alias, commit, and whether that is all that was there at the start.
pub(super) type CursorItem = (u32, u64, bool);

/// Changes that the remote announced and that are not held yet.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Batches of which something is not held, and all behind the first of them that have cursors.
    batches: VecDeque<HeardBatch>,
    /// How many changes are not held.
    open: usize,
    /// What the remote was asked for and has not answered.
    pulls: Vec<Pull>,
    /// Cursors that count and are not stored.
    ripe: Vec<CursorItem>,
    ripe_at: Duration,
    /// When one of the changes is to be looked at again.
    look_at: Option<Duration>,
    /// As [`Gathering::progress`] was when all of them were looked at.
    changes: u64,
}

#[derive(Debug)]
struct HeardBatch {
    number: u64,
    open: Vec<Open>,
    cursors: Vec<CursorItem>,
}

#[derive(Debug)]
struct Open {
    place: u32,
    item: AnnouncedItem,
    /// When to ask for it if it did not come; never, if the remote was asked.
    look_at: Option<Duration>,
}

#[derive(Debug)]
struct Pull {
    batch: u64,
    items: Vec<(u32, AnnouncedItem)>,
    at: Duration,
}

impl Heard {
    /// Whether cursors of the next batch have to wait.
    pub(super) fn holds_back(&self) -> bool {
        !self.batches.is_empty()
    }

    /// Takes a batch in that was applied. What of it is to be asked for comes from the next look.
    pub(super) fn push(
        &mut self,
        number: u64,
        announced: &[AnnouncedItem],
        cursors: Vec<CursorItem>,
    ) -> Result<(), Failure> {
        self.open += announced.len();
        if self.open > limits::ANNOUNCED_OPEN_MAX {
            return Err(Failure::new(CloseReason::Limit, "too many announcements"));
        }
        let open = (0..).zip(announced).map(|(place, item)| Open {
            place,
            item: *item,
            look_at: Some(Duration::ZERO),
        });
        let open = open.collect();
        self.batches.push_back(HeardBatch {
            number,
            open,
            cursors,
        });
        self.look_at = Some(Duration::ZERO);
        Ok(())
    }

    /// The remote has sent what it was asked for first. That is its word alone, so nobody else hears that it
    /// came: others count what is in the store.
    pub(super) fn answered(&mut self) -> Result<(), Failure> {
        if self.pulls.is_empty() {
            let detail = "answer to what was not asked for";
            return Err(Failure::new(CloseReason::Malformed, detail));
        }
        let pull = self.pulls.remove(0);
        let mut batches = self.batches.iter_mut();
        if let Some(batch) = batches.find(|batch| batch.number == pull.batch) {
            let before = batch.open.len();
            batch.open.retain(|open| {
                let is_it = |(place, _): &(u32, AnnouncedItem)| *place == open.place;
                !pull.items.iter().any(is_it)
            });
            self.open -= before - batch.open.len();
        }
        self.look_at = Some(Duration::ZERO);
        Ok(())
    }

    /// Looks for what came in meanwhile, and asks for what has to be asked for.
    pub(super) fn look(
        &mut self,
        now: Duration,
        remote: PeerId,
        gathering: &mut Gathering,
    ) -> Vec<Message<'static>> {
        let (changes, _) = gathering.progress();
        let is_time = self.look_at.is_some_and(|at| at <= now);
        if changes == self.changes && !is_time {
            return Vec::new();
        }
        self.changes = changes;
        self.look_at = None;
        let mut messages = Vec::new();
        for batch in &mut self.batches {
            let mut asked = Vec::new();
            batch.open.retain_mut(|open| {
                let step = match open.look_at {
                    None if gathering.has(&open.item) => Step::Held,
                    None => return true,
                    Some(_) => gathering.step(now, open.item, remote),
                };
                match step {
                    Step::Held => {
                        self.open -= 1;
                        return false;
                    }
                    Step::Ask => {
                        open.look_at = None;
                        asked.push((open.place, open.item));
                    }
                    Step::Wait(until) => open.look_at = Some(until),
                }
                true
            });
            let looks = batch.open.iter().filter_map(|open| open.look_at);
            self.look_at = self.look_at.into_iter().chain(looks).min();
            if !asked.is_empty() {
                messages.push(Message::Pull {
                    batch: batch.number,
                    places: asked.iter().map(|(place, _)| *place).collect(),
                });
                self.pulls.push(Pull {
                    batch: batch.number,
                    items: asked,
                    at: now,
                });
            }
        }
        self.ripen(now);
        messages
    }

    /// Lets cursors count that nothing is missing before.
    fn ripen(&mut self, now: Duration) {
        while self.batches.front().is_some_and(|it| it.open.is_empty()) {
            let batch = self.batches.pop_front().into_iter();
            let cursors = batch.flat_map(|it| it.cursors);
            if self.ripe.is_empty() {
                self.ripe_at = now;
            }
            for cursor in cursors {
                match self.ripe.iter_mut().find(|(alias, ..)| *alias == cursor.0) {
                    Some(ripe) => ripe.1 = ripe.1.max(cursor.1),
                    None => self.ripe.push(cursor),
                }
            }
        }
    }

    /// Cursors that count, without taking them.
    pub(super) fn ripe(&self) -> &[CursorItem] {
        &self.ripe
    }

    /// They were stored.
    pub(super) fn forget_ripe(&mut self) {
        self.ripe = Vec::new();
    }

    /// Whether such cursors have waited long enough.
    pub(super) fn is_ripe_due(&self, now: Duration) -> bool {
        !self.ripe.is_empty() && self.ripe_at + CURSOR_DELAY <= now
    }

    /// The first batch of which something is not held.
    pub(crate) fn first_open(&self) -> Option<u64> {
        self.batches.front().map(|batch| batch.number)
    }

    /// Since when the remote owes an answer.
    pub(crate) fn asking_since(&self) -> Option<Duration> {
        self.pulls.first().map(|pull| pull.at)
    }

    /// When something is to be done.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let ripe = (!self.ripe.is_empty()).then_some(self.ripe_at + CURSOR_DELAY);
        self.look_at.into_iter().chain(ripe).min()
    }
}
