//! Whether the other side says nothing though something was sent to it.
//!
//! A link that dies without a word is found dead after half a minute, which is soon enough where there
//! is no other way. Where there is, the owner has it watched: who was sent something and says nothing is
//! asked for a sign of life, and then given up. The task of the other link answers by itself, so that a
//! peer that is busy does not look dead.

use std::time::Duration;

use tokio::time::Instant;

use crate::frame::Chunk;

/// What is known of the silence on a link.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    limit: Option<Duration>,
    /// Since when the other side owes a word.
    since: Option<Instant>,
    /// Whether it was asked for one.
    has_asked: bool,
    is_question_due: bool,
    is_answer_due: bool,
}

impl Silence {
    /// From now on, the other side may be silent for so long after something was sent; `None` is as long
    /// as any link may be.
    pub(crate) fn watch(&mut self, limit: Option<Duration>) {
        self.limit = limit;
        if limit.is_none() {
            self.heard();
        }
    }

    /// Something was queued. Gives whether the other side owes a word since then.
    pub(crate) fn sent(&mut self) -> bool {
        let begins = self.limit.is_some() && self.since.is_none();
        if begins {
            self.since = Some(Instant::now());
        }
        begins
    }

    /// Something came.
    pub(crate) fn heard(&mut self) {
        self.since = None;
        self.has_asked = false;
        self.is_question_due = false;
    }

    /// When to [`look`](Self::look).
    pub(crate) fn look_at(&self) -> Option<Instant> {
        let limit = if self.has_asked {
            self.limit?
        } else {
            self.limit? / 2
        };
        Some(self.since? + limit)
    }

    /// Asks for a sign of life if it is time. Gives whether it was silent for too long.
    pub(crate) fn look(&mut self) -> bool {
        let (Some(limit), Some(since)) = (self.limit, self.since) else {
            return false;
        };
        let silent = since.elapsed();
        if silent >= limit / 2 && !self.has_asked {
            self.has_asked = true;
            self.is_question_due = true;
        }
        silent >= limit
    }

    /// The other side asks for a sign of life.
    pub(crate) fn asked(&mut self) {
        self.is_answer_due = true;
    }

    /// What is to be said; however often it was asked for, once.
    pub(crate) fn word(&mut self) -> Option<Chunk<'static>> {
        if std::mem::take(&mut self.is_answer_due) {
            return Some(Chunk::Ping);
        }
        std::mem::take(&mut self.is_question_due).then_some(Chunk::Question)
    }
}
