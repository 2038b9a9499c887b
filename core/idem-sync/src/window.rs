//! How the first documents of a window are asked for, from one remote.
//!
//! A window is asked for as a subscription to all documents up to some place in its order. It has the
//! first `n` of all documents if `n` documents of this peer are within that place at every remote, since
//! each of those is as new here as there, and what is better anywhere was sent. So a follower
//!
//! - begins at the place of the `n`th document of this peer. Where there are fewer, it asks the remote for
//!   the place of its `n`th one, which the first `n` of all documents of both are within;
//! - goes farther when fewer than `n` are within, because some went or were not as good as they seemed. It
//!   asks anew how far, and for some more than `n`, so that the next ones may go without a question;
//! - comes closer when more than twice as many are within.
//!
//! What a remote says of its own documents is believed of those alone: one that names a place too close
//! hides none but its own, and one that names a place too far is asked for no more than so many.

use std::time::Duration;

use idem_model::limits;
use idem_query::Reach;

/// The shortest time between two questions.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// How long after something changed it is taken for granted that this peer's own reach is of what is held.
const SETTLE: Duration = Duration::from_millis(250);

/// The shortest time between two steps closer.
const CLOSER_INTERVAL: Duration = Duration::from_secs(1);

/// How long an answer is waited for, and the longest pause after a refusal.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// The first pause after a refusal.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// How many documents are counted for a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowCounts {
    /// What the window has.
    pub near: u32,
    /// What it has with the spare ones.
    pub middle: u32,
    /// What it has before it comes closer.
    pub far: u32,
}

impl WindowCounts {
    /// Those of a window of `count` documents, 1 to [`limits::WINDOW_DOCUMENTS_MAX`]: a quarter to spare, and
    /// at least 4.
    pub fn new(count: u32) -> Self {
        let middle = count + (count / 4).max(4);
        Self {
            near: count,
            middle,
            far: 2 * middle,
        }
    }
}

/// How far the documents of this peer go, for each of [`WindowCounts`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnReach {
    /// Up to the last one of the window.
    pub near: Reach,
    /// Up to the last one to spare.
    pub middle: Reach,
    /// Up to the last one before it comes closer.
    pub far: Reach,
}

/// How a window is asked for from one remote.
///
/// After each input, poll [`WindowFollower::wanted`], [`WindowFollower::poll_question`] and
/// [`WindowFollower::poll_timeout`].
#[derive(Debug)]
pub struct WindowFollower {
    counts: WindowCounts,
    /// `None` until this peer has looked.
    own: Option<OwnReach>,
    /// What is subscribed to.
    wanted: Option<Reach>,
    /// Whether that has caught up.
    is_caught_up: bool,
    /// Whether the window has not been full since that was subscribed to.
    is_filling: bool,
    /// For how many documents the next question is.
    count: u32,
    question: Question,
    is_linked: bool,
    /// When the last question went out, the subscription last came closer, and anything last changed.
    asked_at: Option<Duration>,
    closer_at: Option<Duration>,
    changed_at: Duration,
    refused_pause: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Question {
    None,
    /// To be asked then.
    Due(Duration),
    /// It was asked then.
    Open(Duration),
    /// It was refused, and is asked again then.
    Refused(Duration),
}

impl WindowFollower {
    /// A follower of a window of `count` documents that is not linked.
    pub fn new(count: u32) -> Self {
        let counts = WindowCounts::new(count);
        Self {
            counts,
            own: None,
            wanted: None,
            is_caught_up: false,
            is_filling: false,
            count: counts.near,
            question: Question::None,
            is_linked: false,
            asked_at: None,
            closer_at: None,
            changed_at: Duration::ZERO,
            refused_pause: REFUSED_PAUSE,
        }
    }

    // Input.

    /// The session with the remote is established, anew or for the first time: what was asked before is
    /// void.
    pub fn handle_established(&mut self, now: Duration) {
        self.is_linked = true;
        self.question = Question::None;
        self.refused_pause = REFUSED_PAUSE;
        self.decide(now);
    }

    /// The session has no link any more. What is subscribed to stays for the next one.
    pub fn handle_lost(&mut self) {
        self.is_linked = false;
        self.question = Question::None;
    }

    /// The documents of this peer go so far now.
    pub fn handle_own(&mut self, now: Duration, own: &OwnReach) {
        if self.own.as_ref() != Some(own) {
            self.changed_at = now;
            self.own = Some(own.clone());
            self.decide(now);
        }
    }

    /// What is subscribed to has caught up.
    pub fn handle_caught_up(&mut self, now: Duration) {
        if !self.is_caught_up {
            self.is_caught_up = true;
            self.changed_at = now;
            self.decide(now);
        }
    }

    /// The remote answered: its first `count` documents go so far.
    pub fn handle_told(&mut self, now: Duration, count: u32, reach: Reach) {
        if !matches!(self.question, Question::Open(_)) || count != self.count {
            return;
        }
        self.question = Question::None;
        self.refused_pause = REFUSED_PAUSE;
        let Some(own) = &self.own else {
            return;
        };
        let needed = reach.clone().min(own.near.clone());
        if self.wanted.as_ref().is_none_or(|wanted| needed > *wanted) {
            self.want(now, reach.min(own.far.clone()));
        } else {
            // All that it asked about is here, and still it is not enough: some of it is not as good here, or
            // not here any more.
            if self.count == limits::WINDOW_COUNT_MAX {
                self.question = Question::Refused(now + ANSWER_WAIT);
            }
            self.count = (self.count.saturating_mul(2)).min(limits::WINDOW_COUNT_MAX);
        }
        self.decide(now);
    }

    /// The remote does not answer the last question.
    pub fn handle_refused(&mut self, now: Duration) {
        if matches!(self.question, Question::Open(_)) {
            self.question = Question::Refused(now + self.refused_pause);
            self.refused_pause = (2 * self.refused_pause).min(ANSWER_WAIT);
        }
    }

    /// The time of [`WindowFollower::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        match self.question {
            Question::Refused(at) if at <= now => self.question = Question::None,
            Question::Open(since) if since + ANSWER_WAIT <= now => self.question = Question::None,
            _ => {}
        }
        self.decide(now);
    }

    // Output.

    /// For how many documents the remote is to be asked, if it is now. Say with
    /// [`WindowFollower::handle_refused`] if it cannot be.
    pub fn poll_question(&mut self, now: Duration) -> Option<u32> {
        match self.question {
            Question::Due(at) if at <= now => {
                self.question = Question::Open(now);
                self.asked_at = Some(now);
                Some(self.count)
            }
            _ => None,
        }
    }

    /// When to call [`WindowFollower::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        let question = match self.question {
            Question::Due(at) | Question::Refused(at) => Some(at),
            Question::Open(since) => Some(since + ANSWER_WAIT),
            Question::None => self.settles_at(),
        };
        question.into_iter().chain(self.comes_closer_at()).min()
    }

    // Getters.

    /// How far the remote is asked for documents; `None` for not at all.
    pub fn wanted(&self) -> Option<&Reach> {
        self.wanted.as_ref()
    }

    /// Whether the first documents are here, as far as this remote knows of any.
    pub fn is_filled(&self) -> bool {
        match (&self.wanted, &self.own) {
            (Some(wanted), Some(own)) => self.is_caught_up && own.near <= *wanted,
            _ => false,
        }
    }

    /// Asks for the documents up to another place.
    fn want(&mut self, now: Duration, reach: Reach) {
        self.wanted = Some(reach);
        self.is_caught_up = false;
        self.is_filling = true;
        self.changed_at = now;
    }

    /// Goes on from what is known.
    fn decide(&mut self, now: Duration) {
        let Some(own) = &self.own else {
            return;
        };
        let Some(wanted) = &self.wanted else {
            if !own.near.is_all() {
                // Enough is here to begin with.
                let reach = own.near.clone();
                self.want(now, reach);
            } else if self.is_linked && self.question == Question::None {
                self.question = self.due(now);
            }
            return;
        };
        if own.near <= *wanted {
            self.is_filling = false;
            if !matches!(self.question, Question::Open(_)) {
                self.question = Question::None;
                self.count = self.counts.middle;
            }
            if self.comes_closer_at().is_some_and(|at| at <= now) {
                let reach = own.middle.clone();
                self.closer_at = Some(now);
                self.want(now, reach);
            }
        } else if self.question == Question::None && self.settles_at().is_some_and(|at| at <= now) {
            self.question = self.due(now);
        }
    }

    /// When too few that are within are taken for all that will come: at once, where there were enough.
    fn settles_at(&self) -> Option<Duration> {
        let (wanted, own) = (self.wanted.as_ref()?, self.own.as_ref()?);
        let is_short = self.is_linked && self.is_caught_up && own.near > *wanted;
        let wait = if self.is_filling {
            SETTLE
        } else {
            Duration::ZERO
        };
        is_short.then(|| self.changed_at + wait)
    }

    /// When it comes closer, if nothing changes. Also while it catches up: there may be no end to that.
    fn comes_closer_at(&self) -> Option<Duration> {
        let (wanted, own) = (self.wanted.as_ref()?, self.own.as_ref()?);
        (own.far < *wanted).then(|| {
            self.closer_at
                .map_or(Duration::ZERO, |at| at + CLOSER_INTERVAL)
        })
    }

    fn due(&self, now: Duration) -> Question {
        let next = self.asked_at.map_or(now, |at| at + ASK_INTERVAL);
        Question::Due(now.max(next))
    }
}

#[cfg(test)]
mod tests;
