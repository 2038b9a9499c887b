//! What several tests need: opening, replaying, payloads and a seeded generator.

use std::{cell::RefCell, ops::ControlFlow};

use idem_log::{Log, LogError, LogOptions, LogStorage, Position, Recovery};
use idem_vault::{Cipher, Purpose, Vault};

thread_local! {
    /// What the logs of this thread are encrypted with.
    static CIPHER: RefCell<Option<Cipher>> = const { RefCell::new(None) };
}

/// Runs a test on encrypted logs.
pub(crate) fn sealed(test: impl FnOnce()) {
    let cipher = Vault::in_memory().unwrap().cipher(Purpose::Log).unwrap();
    CIPHER.set(Some(cipher));
    test();
    CIPHER.set(None);
}

pub(crate) fn options() -> LogOptions {
    // The smallest segments, so that a test of a few hundred frames rolls and recycles often.
    let options = LogOptions::default()
        .segment_bytes(8192)
        .spare_bytes_max(3 * 8192)
        .id(77);
    match CIPHER.with_borrow(Clone::clone) {
        Some(cipher) => options.cipher(cipher),
        None => options,
    }
}

pub(crate) fn open(storage: impl LogStorage + 'static) -> Result<(Log, Recovery), LogError> {
    Log::open(Box::new(storage), options())
}

/// Every frame from `from` on.
pub(crate) fn replay(log: &Log, from: Position) -> Result<Vec<(Position, Vec<u8>)>, LogError> {
    let mut frames = Vec::new();
    log.read(from, |end, payload| {
        frames.push((end, payload.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(frames)
}

#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Bytes of a size that is often near a boundary of the log.
    pub(crate) fn payload(&mut self) -> Vec<u8> {
        let size = match self.below(10) {
            0 => 0,
            1 => 4096 - 16 - self.below(3),
            2 => 4096 - 16 + self.below(3),
            3 => 2048 - 16,
            4 => 9000 + self.below(3000),
            _ => self.below(400),
        };
        let fill = self.next();
        (0..size).map(|at| (fill >> (at % 8)) as u8).collect()
    }
}
