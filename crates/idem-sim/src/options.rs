//! What a run is made of. A seed expands to it, so that a failure can be read.

use crate::random::Random;

/// What a run is made of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where it comes from, and what decides everything else.
    pub seed: u64,
    /// How many peers there are.
    pub peers: usize,
    /// Which of them share a link; all are connected over some way.
    pub edges: Vec<(usize, usize)>,
    /// How far each peer's wall clock is off, in milliseconds.
    pub skews_ms: Vec<i64>,
    /// How many transactions are written.
    pub writes: u64,
    /// The longest pause between two of them, in microseconds.
    pub write_pause_us_max: u64,
    /// The time of a frame on a link, in microseconds, least and most.
    pub latency_us: (u64, u64),
    /// Of 100 frames, how many are sent twice, which costs their lane 200 ms.
    pub retransmit_percent: u64,
    /// How many frames a link holds in each direction.
    pub frames_in_flight_max: usize,
    /// The longest time from a commit to its being on disk, in microseconds.
    pub fsync_us_max: u64,
    /// How often a link is cut, on average per simulated second and for all links.
    pub cuts: u64,
    /// How often a process dies, likewise.
    pub crashes: u64,
    /// How many plain documents are written to; few make many conflicts.
    pub documents: u64,
    /// How many pairs of documents are always written together.
    pub pairs: u64,
    /// Whether peers have the real store, on a simulated disk, or the double in memory, which is ten
    /// times as fast.
    pub has_engine: bool,
    /// Whether some documents are large enough to be asked for first.
    pub has_large_documents: bool,
}

impl Options {
    /// Expands a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let peers = usize::try_from(random.between(2, 5)).expect("a small number");
        let peers = if random.chance(10) { peers * 2 } else { peers };
        let mut edges: Vec<_> = (1..peers).map(|peer| (random.index(peer), peer)).collect();
        for a in 0..peers {
            for b in a + 1..peers {
                if random.chance(25) && !edges.contains(&(a, b)) {
                    edges.push((a, b));
                }
            }
        }
        let fastest = random.between(50, 5_000);
        Self {
            seed,
            peers,
            edges,
            skews_ms: (0..peers).map(|_| skew(&mut random)).collect(),
            writes: random.between(20, 120),
            write_pause_us_max: [1_000, 20_000, 100_000][random.index(3)],
            latency_us: (fastest, fastest * random.between(1, 20)),
            retransmit_percent: random.below(20),
            frames_in_flight_max: [1, 2, 8, 64][random.index(4)],
            fsync_us_max: [0, 500, 20_000][random.index(3)],
            cuts: random.below(8),
            crashes: random.below(4),
            documents: random.between(1, 12),
            pairs: random.between(1, 4),
            has_large_documents: random.chance(40),
            has_engine: random.chance(20),
        }
    }
}

/// Most clocks are right to the second, some are wrong by minutes.
fn skew(random: &mut Random) -> i64 {
    let bound = if random.chance(80) { 1_000 } else { 600_000 };
    let off = random.between(0, 2 * bound).cast_signed();
    off - bound.cast_signed()
}
