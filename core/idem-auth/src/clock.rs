//! Signed time, for peers whose clock cannot be trusted (docs/format/auth.md, "Time").

use idem_model::{DatabaseId, DecodeError, limits};

use crate::signed::{AuthorityKey, Domain, Sealed, Signer, put_time, read_time};

/// An authority's word that it is at least this late.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeBeacon {
    time_ms: u64,
    sealed: Sealed,
}

/// Head, time, signature.
pub(crate) const BYTES_MAX: usize = 1 + 16 + 32 + 10 + 64;

impl TimeBeacon {
    /// Signs a time; one after [`limits::SIGNED_TIME_MS_MAX`] as that.
    pub fn sign(database: DatabaseId, time_ms: u64, signer: &dyn Signer) -> Self {
        let time_ms = time_ms.min(limits::SIGNED_TIME_MS_MAX);
        let sealed = Sealed::new(Domain::Beacon, database, signer, |out| {
            put_time(out, time_ms);
        });
        Self { time_ms, sealed }
    }

    /// Reads [`TimeBeacon::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (sealed, mut reader) = Sealed::decode("signed time", bytes, BYTES_MAX)?;
        let time_ms = read_time(&mut reader)?;
        reader.finish()?;
        Ok(Self { time_ms, sealed })
    }

    /// Its bytes, which are passed on as they are.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.sealed.to_bytes()
    }

    /// The database.
    pub fn database(&self) -> DatabaseId {
        self.sealed.database
    }

    /// Who signed it.
    pub fn issuer(&self) -> AuthorityKey {
        self.sealed.issuer
    }

    /// The Unix milliseconds.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    pub(crate) fn signature_holds(&self) -> bool {
        self.sealed.holds(Domain::Beacon)
    }
}

/// A span of time as people say it, rounded down: `3 h`, `2 days`.
pub fn in_words(ms: u64) -> String {
    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    // From two days on nobody counts hours.
    let units = [
        (2 * DAY, DAY, "days"),
        (HOUR, HOUR, "h"),
        (MINUTE, MINUTE, "min"),
        (SECOND, SECOND, "s"),
    ];
    let fitting = units.iter().find(|(least, ..)| ms >= *least);
    let (count, unit) = fitting.map_or((ms, "ms"), |(_, each, unit)| (ms / each, unit));
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_as_people_say_them() {
        let check = |ms, expected| assert_eq!(in_words(ms), expected);
        check(0, "0 ms");
        check(999, "999 ms");
        check(1000, "1 s");
        check(59_999, "59 s");
        check(60_000, "1 min");
        check(3 * 3_600_000, "3 h");
        check(47 * 3_600_000, "47 h");
        check(48 * 3_600_000, "2 days");
        check(limits::SIGNED_TIME_MS_MAX, "3257812 days");
    }
}
