//! Places in a statement's text.

use crate::error::Position;

/// A byte range of the text. A statement is at most 1 MiB, so `u32` is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let clip = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            start: clip(start),
            end: clip(end),
        }
    }

    /// From the start of this one to the end of `other`.
    pub(crate) fn to(self, other: Self) -> Self {
        Self {
            start: self.start,
            end: other.end.max(self.start),
        }
    }

    /// The one of the two that starts later.
    pub(crate) fn max_start(self, other: Self) -> Self {
        if other.start > self.start {
            other
        } else {
            self
        }
    }

    /// The text inside; empty if the span is not of this text.
    pub(crate) fn text(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// Line and column. Linear in the text: only for errors and warnings.
    pub(crate) fn position(self, text: &str) -> Position {
        let clip = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let before = text.get(..self.start as usize).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Position {
            line: clip(before.matches('\n').count() + 1),
            column: clip(before[line_start..].chars().count() + 1),
            len: clip(self.text(text).chars().count().max(1)),
        }
    }
}

/// The place of an expression. All sites are equal, so that two expressions are equal when they
/// mean the same, wherever they are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site(pub(crate) Span);

impl Site {
    /// Of what is not warned of.
    pub(crate) const NOWHERE: Self = Self(Span { start: 0, end: 0 });

    pub(crate) fn is_nowhere(self) -> bool {
        self.0 == Self::NOWHERE.0
    }
}

impl PartialEq for Site {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}
