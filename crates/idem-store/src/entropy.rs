//! Random bytes, from the operating system or from a seed.

/// The source of actors, nonces and generated ids.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entropy {
    System,
    Seeded(u64),
}

impl Entropy {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        seed.map_or(Self::System, Self::Seeded)
    }

    /// Makes what follows depend on `word`, if it comes from a seed.
    pub(crate) fn stir(&mut self, word: u64) {
        if let Self::Seeded(state) = self {
            *state ^= word.wrapping_mul(0x2545_f491_4f6c_dd1d);
        }
    }

    /// The next random bytes.
    ///
    /// # Panics
    /// If the operating system gives none: nothing that must be unique could be named.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        match self {
            Self::System => getrandom::fill(&mut out).expect("the operating system has entropy"),
            Self::Seeded(state) => {
                for chunk in out.chunks_mut(8) {
                    let word = split_mix(state).to_le_bytes();
                    chunk.copy_from_slice(&word[..chunk.len()]);
                }
            }
        }
        out
    }
}

/// The splitmix64 generator: every 64-bit state gives a well-mixed word, zero included.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
