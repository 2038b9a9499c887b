//! Feeds a target with mutated inputs until its budget is spent or it fails.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::{
    fuzz_targets::smaller,
    mutator::{Mutator, Random},
    target::{Target, Verdict},
};

/// Longest input. Long enough for counts beyond a byte, short enough for many runs a second.
const INPUT_BYTES_MAX: usize = 16 << 10;

/// Inputs that are kept to be mutated again; a kept one beyond that takes another's place.
const CORPUS_MAX: usize = 512;

/// Tries to make a failing input smaller.
const SHRINK_TRIES: usize = 2000;

/// When a run ends.
#[derive(Debug, Clone, Copy)]
pub enum Budget {
    /// After this time.
    Time(Duration),
    /// After this many inputs; the same run every time.
    Inputs(u64),
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Inputs in all.
    pub inputs: u64,
    /// How many of them the target accepted.
    pub accepted: u64,
}

/// An input on which a target failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// The smallest input found.
    pub input: Vec<u8>,
    /// What failed.
    pub reason: String,
}

/// One target with the inputs that it accepted so far.
#[derive(Debug)]
pub struct Fuzzer {
    target: Target,
    random: Random,
    mutator: Mutator,
    corpus: Vec<Vec<u8>>,
    known: BTreeSet<Vec<u8>>,
}

impl Fuzzer {
    /// A run over `target` that `seed` determines.
    pub fn new(target: Target, seed: u64) -> Self {
        let mut corpus = (target.seeds)();
        corpus.push(Vec::new());
        Self {
            target,
            random: Random::new(seed),
            mutator: Mutator::new(Random::new(seed.rotate_left(32)), INPUT_BYTES_MAX),
            known: corpus.iter().cloned().collect(),
            corpus,
        }
    }

    /// Runs until `budget` is spent.
    ///
    /// # Errors
    ///
    /// The first [`Crash`], shrunk.
    ///
    /// # Panics
    ///
    /// If the target refuses one of its own seeds: then it would be fuzzed with noise only.
    pub fn run(&mut self, budget: Budget) -> Result<Tally, Crash> {
        let mut tally = Tally {
            inputs: 0,
            accepted: 0,
        };
        for seed in (self.target.seeds)() {
            let verdict = self.check(&seed)?;
            let name = self.target.name;
            assert_eq!(
                verdict,
                Verdict::Accepted,
                "{name} refuses its seed {seed:?}"
            );
        }
        let started = Instant::now();
        let spent = |inputs| match budget {
            Budget::Time(duration) => started.elapsed() >= duration,
            Budget::Inputs(count) => inputs >= count,
        };
        while !spent(tally.inputs) {
            let input = self.next_input();
            tally.inputs += 1;
            if self.check(&input)? == Verdict::Accepted {
                tally.accepted += 1;
                self.keep(input);
            }
        }
        Ok(tally)
    }

    fn check(&self, input: &[u8]) -> Result<Verdict, Crash> {
        self.target.check(input).map_err(|reason| {
            let input =
                smaller(self.target.name, input).unwrap_or_else(|| shrink(&self.target, input));
            Crash {
                // The smaller one may fail in a plainer way.
                reason: self.target.check(&input).err().unwrap_or(reason),
                input,
            }
        })
    }

    fn next_input(&mut self) -> Vec<u8> {
        let one = self.random.below(self.corpus.len());
        let other = self.random.below(self.corpus.len());
        self.mutator.mutate(&self.corpus[one], &self.corpus[other])
    }

    fn keep(&mut self, input: Vec<u8>) {
        if self.known.contains(&input) {
            return;
        }
        if self.corpus.len() < CORPUS_MAX {
            self.known.insert(input.clone());
            self.corpus.push(input);
        } else {
            let at = self.random.below(CORPUS_MAX);
            self.known.insert(input.clone());
            let dropped = std::mem::replace(&mut self.corpus[at], input);
            self.known.remove(&dropped);
        }
    }
}

/// Removes pieces, large ones first, as long as the target still fails.
fn shrink(target: &Target, input: &[u8]) -> Vec<u8> {
    let mut smallest = input.to_vec();
    let mut tries = 0;
    let mut piece = smallest.len() / 2;
    while piece > 0 && tries < SHRINK_TRIES {
        let mut at = 0;
        while at < smallest.len() && tries < SHRINK_TRIES {
            let mut shorter = smallest.clone();
            shorter.drain(at..smallest.len().min(at + piece));
            tries += 1;
            if target.check(&shorter).is_err() {
                smallest = shorter;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails on a bracket that is opened twice: a planted bug behind a mutation or two.
    const PLANTED: Target = Target {
        name: "planted",
        run: |data| {
            assert!(!data.windows(2).any(|pair| pair == b"[["), "two brackets");
            Verdict::Accepted
        },
        seeds: || vec![b"a list [1, 2, 3] and more text around it".to_vec()],
    };

    #[test]
    fn a_planted_bug_is_found_and_its_input_shrunk() {
        let crash = Fuzzer::new(PLANTED, 1)
            .run(Budget::Inputs(100_000))
            .unwrap_err();
        assert_eq!(crash.input, b"[[");
        assert_eq!(crash.reason, "panicked: two brackets");
    }

    #[test]
    fn a_run_is_determined_by_its_seed() {
        let target = Target {
            run: |data| {
                if data.len() % 2 == 0 {
                    Verdict::Accepted
                } else {
                    Verdict::Rejected
                }
            },
            seeds: || vec![b"even".to_vec()],
            ..PLANTED
        };
        let run = |seed| Fuzzer::new(target, seed).run(Budget::Inputs(1000));
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
