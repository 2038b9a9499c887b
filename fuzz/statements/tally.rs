//! What the random statements were, to see that they are worth running.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

macro_rules! tallies {
    ($($name:ident),* $(,)?) => {
        /// Counts over all runs of this process.
        #[derive(Debug, Default)]
        pub(crate) struct Tallies {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Tallies {
            pub(crate) const fn new() -> Self {
                Self { $($name: AtomicU64::new(0),)* }
            }
        }

        impl fmt::Display for Tallies {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(
                    let count = self.$name.load(Ordering::Relaxed);
                    if count > 0 {
                        write!(f, "{} {count}  ", stringify!($name))?;
                    }
                )*
                Ok(())
            }
        }
    };
}

tallies!(
    statements,
    invalid,
    failed,
    too_large,
    tolerated,
    compared,
    with_rows,
    joined,
    unnested,
    grouped,
    ordered,
    limited,
    united,
    distinct,
    subqueries,
    derived,
    index_used,
    index_used_twice,
    ids_used,
    changes,
    warned,
);

impl Tallies {
    /// Counts a statement by the words that stand in it.
    pub(crate) fn note_text(&self, text: &str) {
        let has = |word: &str, tally: &AtomicU64| {
            if text.contains(word) {
                bump(tally);
            }
        };
        has("JOIN ", &self.joined);
        has("UNNEST", &self.unnested);
        has("GROUP BY", &self.grouped);
        has("ORDER BY", &self.ordered);
        has("LIMIT", &self.limited);
        has("UNION", &self.united);
        has("DISTINCT", &self.distinct);
        has("( SELECT", &self.subqueries);
        has("FROM (", &self.derived);
    }
}

pub(crate) fn bump(tally: &AtomicU64) {
    tally.fetch_add(1, Ordering::Relaxed);
}
