//! Makes broken inputs of good ones.

/// A small seeded generator (SplitMix64): the same seed gives the same run everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    ///
    /// # Panics
    ///
    /// If `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "no number is below 0");
        usize::try_from(self.bits() % bound as u64).expect("below a usize")
    }
}

/// Bytes with a meaning in many formats: ends of ranges, tags, brackets, quotes.
const BYTES: &[u8] = b"\x00\x01\x02\x7f\x80\x81\xfe\xff {}[]()\"'\\/.,:;*-+eE0";

/// Varints at the edges: a count beyond the input, 32 and 64 bits full, one too many, padded.
const VARINTS: &[&[u8]] = &[
    b"\xff\x7f",
    b"\x80\x80\x04",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
    b"\x80\x00",
];

/// Longest piece that one mutation copies or removes.
const PIECE_BYTES_MAX: usize = 64;

/// Changes inputs, never beyond a length.
#[derive(Debug)]
pub struct Mutator {
    random: Random,
    bytes_max: usize,
}

impl Mutator {
    /// A mutator whose inputs have at most `bytes_max` bytes.
    pub fn new(random: Random, bytes_max: usize) -> Self {
        Self { random, bytes_max }
    }

    /// One to eight changes to `input`; pieces may come from `other`, another valid input.
    pub fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        let changes = 1 << self.random.below(4);
        for _ in 0..changes {
            self.change(&mut bytes, other);
        }
        bytes.truncate(self.bytes_max);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.random.below(bytes.len() + 1);
        match self.random.below(10) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.random.below(8),
            1 if at < bytes.len() => bytes[at] = BYTES[self.random.below(BYTES.len())],
            2 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1),
            3 if at < bytes.len() => bytes[at] = bytes[at].wrapping_sub(1),
            4 => bytes.truncate(at),
            5 => bytes.insert(at, BYTES[self.random.below(BYTES.len())]),
            6 => {
                let end = bytes.len().min(at + self.piece());
                bytes.drain(at..end);
            }
            7 => {
                let varint = VARINTS[self.random.below(VARINTS.len())];
                let end = bytes.len().min(at + 1);
                bytes.splice(at..end, varint.iter().copied());
            }
            8 => {
                let end = bytes.len().min(at + self.piece());
                let piece = bytes[at..end].to_vec();
                let times = 1 + self.random.below(100);
                self.insert(bytes, at, &piece.repeat(times));
            }
            _ => {
                let from = self.random.below(other.len() + 1);
                let end = other.len().min(from + self.piece());
                self.insert(bytes, at, &other[from..end]);
            }
        }
    }

    fn piece(&mut self) -> usize {
        1 + self.random.below(PIECE_BYTES_MAX)
    }

    fn insert(&self, bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
        if bytes.len() + piece.len() <= self.bytes_max {
            bytes.splice(at..at, piece.iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_within_the_length() {
        let inputs = |seed| {
            let mut mutator = Mutator::new(Random::new(seed), 100);
            let mut input = b"{\"a\": [1, 2]}".to_vec();
            let mut all = Vec::new();
            for _ in 0..500 {
                input = mutator.mutate(&input, b"other");
                assert!(input.len() <= 100);
                all.push(input.clone());
            }
            all
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }
}
