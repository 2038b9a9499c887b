//! What operators hold while a statement runs, counted against its memory.

use std::mem;

use idem_model::{Object, Value};

use crate::eval::{Env, Slot, weight};

/// Bytes that a clause holds; they are given back when this is dropped.
#[derive(Debug)]
pub(super) struct Holding<'e> {
    env: &'e Env<'e>,
    clause: &'static str,
    bytes: usize,
}

impl<'e> Holding<'e> {
    pub(super) fn new(env: &'e Env<'e>, clause: &'static str) -> Self {
        Self {
            env,
            clause,
            bytes: 0,
        }
    }

    /// Counts bytes that are held from now on; `false` if the run has to end.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.env.charge(self.clause, bytes)
    }

    /// Counts bytes that are not held any more.
    pub(super) fn remove(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.env.release(bytes);
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.env.release(self.bytes);
    }
}

/// A row of a source as the source gives it. A document that is only looked at lends its memory to the
/// next one.
pub(super) enum Given<'a> {
    Document(&'a mut Object),
    Value(&'a Value),
}

impl Given<'_> {
    pub(super) fn slot(&self) -> Slot<'_> {
        match self {
            Self::Document(fields) => Slot::Document(fields),
            Self::Value(value) => Slot::Value(value),
        }
    }

    pub(super) fn hold(self) -> Held {
        match self {
            Self::Document(fields) => Held::Document(mem::take(fields)),
            Self::Value(value) => Held::Value(value.clone()),
        }
    }
}

/// A value of a slot that is kept.
#[derive(Debug)]
pub(super) enum Held {
    Absent,
    Document(Object),
    Value(Value),
}

impl Held {
    pub(super) fn of(slot: Slot<'_>) -> Self {
        match slot {
            Slot::Absent => Self::Absent,
            Slot::Document(fields) => Self::Document(fields.clone()),
            Slot::Value(value) => Self::Value(value.clone()),
        }
    }

    pub(super) fn slot(&self) -> Slot<'_> {
        match self {
            Self::Absent => Slot::Absent,
            Self::Document(fields) => Slot::Document(fields),
            Self::Value(value) => Slot::Value(value),
        }
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Absent => size_of::<Self>(),
            Self::Document(fields) => weight_of(fields),
            Self::Value(value) => weight(value),
        }
    }
}

/// As [`weight`], of a document.
pub(super) fn weight_of(fields: &Object) -> usize {
    const NODE: usize = 64;
    fields
        .iter()
        .map(|(name, value)| NODE + name.len() + weight(value))
        .sum::<usize>()
        + NODE
}
