//! The questions that a peer has seen, so that it passes each of them on once.

use std::collections::{BTreeMap, VecDeque};

use idem_model::limits;

/// The questions that a peer has seen.
#[derive(Debug)]
pub(crate) struct Questions {
    /// With how many hops they came, by their numbers.
    known: BTreeMap<u64, u8>,
    /// The oldest first.
    order: VecDeque<u64>,
    /// Where the numbers of this peer's own come from (SplitMix64).
    state: u64,
}

impl Questions {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            known: BTreeMap::new(),
            order: VecDeque::new(),
            state: seed,
        }
    }

    /// The number of a question of this peer. It is known from now on, whatever its hops.
    pub(crate) fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let question = (mixed ^ (mixed >> 31)).max(1);
        self.note(question, u8::MAX);
        question
    }

    /// Whether a question came with as many hops before. With more it reaches more.
    pub(crate) fn knows(&self, question: u64, hops: u8) -> bool {
        self.known.get(&question).is_some_and(|it| *it >= hops)
    }

    pub(crate) fn note(&mut self, question: u64, hops: u8) {
        if self.known.insert(question, hops).is_none() {
            self.order.push_back(question);
        }
        while self.order.len() > limits::BLOB_QUESTIONS_REMEMBERED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_with_the_most_hops_they_came_with() {
        let mut questions = Questions::new(1);
        let own = questions.draw();
        assert!(questions.knows(own, 12));
        questions.note(7, 3);
        assert!(questions.knows(7, 3) && !questions.knows(7, 4));
        questions.note(7, 4);
        assert!(questions.knows(7, 4));
        for number in 100..100 + limits::BLOB_QUESTIONS_REMEMBERED_MAX as u64 {
            questions.note(number, 0);
        }
        assert!(!questions.knows(own, 0) && !questions.knows(7, 0));
        assert!(questions.knows(100, 0));
        assert_eq!(questions.known.len(), questions.order.len());
    }
}
