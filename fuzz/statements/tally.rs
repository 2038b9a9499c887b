//! What the random statements were and how they were run, to see that they are worth running.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Words that stand for what a random statement can be. Each is counted, those that never came too.
const WORDS: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "EVICT",
    "DISTINCT",
    "JOIN",
    "LEFT",
    "RIGHT",
    "INNER",
    "UNNEST",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "DESC",
    "LIMIT",
    "OFFSET",
    "UNION",
    "ALL",
    "EXISTS",
    "IN",
    "BETWEEN",
    "LIKE",
    "ILIKE",
    "SIMILAR",
    "ESCAPE",
    "IS",
    "NOT",
    "AND",
    "OR",
    "XOR",
    "CASE",
    "CAST",
    "ARRAY",
    "OBJECT",
    "ANY",
    "EVERY",
    "WITHIN",
    "WHEN",
    "USE",
    "IDS",
    "INDEX",
    "DIRECTIVES",
    "RETURNING",
    "SET",
    "UNSET",
    "CONFLICT",
    "DROP",
    "MISSING",
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "<<",
    ">>",
    "=",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
];

/// Operators of plans, as [`idem_query::operators_of`] names them, all of which random statements
/// reach. A plan has others only where a collection is larger than any here.
pub(crate) const OPERATORS: &[&str] = &[
    "countScan",
    "countScan of index covering",
    "delete",
    "derived",
    "distinct",
    "evict",
    "fetch",
    "filter",
    "group",
    "hashBeforeJoin inner",
    "hashBeforeJoin left",
    "hashBeforeJoin right",
    "hashHereJoin inner",
    "hashHereJoin left",
    "hashHereJoin right",
    "heldJoin inner",
    "heldJoin left",
    "heldJoin right",
    "idScan",
    "indexScan",
    "indexScan covering",
    "indexScan covering ordered",
    "indexScan covering ordered end",
    "indexScan inside",
    "indexScan ordered",
    "insert",
    "intersectScan",
    "limit",
    "nestedJoin inner",
    "nestedJoin left",
    "projection",
    "returning",
    "scan",
    "sort",
    "subquery",
    "subquery correlated",
    "unionAll",
    "unionScan",
    "unnest",
    "update",
];

/// What those on a store reach, where EXPLAIN does not tell the methods of joining.
pub(crate) const STORE_OPERATORS: &[&str] = &[
    "countScan of index covering",
    "delete",
    "derived",
    "distinct",
    "evict",
    "fetch",
    "filter",
    "group",
    "hashJoin inner",
    "hashJoin left",
    "hashJoin right",
    "idScan",
    "indexScan",
    "indexScan covering",
    "indexScan ordered",
    "insert",
    "limit",
    "nlJoin inner",
    "nlJoin left",
    "nlJoin right",
    "projection",
    "returning",
    "scan",
    "sort",
    "subquery",
    "subquery correlated",
    "unionAll",
    "unnest",
    "update",
];

/// How often each of several things was.
#[derive(Debug)]
pub(crate) struct Counts(Mutex<BTreeMap<String, u64>>);

impl Counts {
    const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn with<T>(&self, body: impl FnOnce(&mut BTreeMap<String, u64>) -> T) -> T {
        body(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn bump(&self, name: &str) {
        self.with(|counts| match counts.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                counts.insert(name.to_owned(), 1);
            }
        });
    }

    /// Those of `names` that never were.
    pub(crate) fn never<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
        self.with(|counts| names.filter(|name| !counts.contains_key(*name)).collect())
    }

    /// How often each was, the most frequent first, and those of `names` that never were.
    fn summary<'n>(&self, names: impl Iterator<Item = &'n str>) -> String {
        let mut counts: Vec<(u64, String)> = self.with(|counts| {
            let counts = counts.iter().map(|(name, count)| (*count, name.clone()));
            counts.collect()
        });
        counts.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.cmp(other)));
        let counts: Vec<String> = counts
            .into_iter()
            .map(|(count, name)| format!("{name} {count}"))
            .collect();
        let never = self.never(names).join(", ");
        format!("{}\n    never: {never}", counts.join(", "))
    }
}

macro_rules! tallies {
    ($($name:ident),* $(,)?) => {
        /// Counts over all runs of this process.
        #[derive(Debug)]
        pub(crate) struct Tallies {
            $(pub(crate) $name: AtomicU64,)*
            /// By the words of a statement.
            words: Counts,
            /// By the names of functions.
            functions: Counts,
            /// By what is in the plan of a statement.
            pub(crate) operators: Counts,
            /// What should be in some plan.
            wanted: &'static [&'static str],
        }

        impl Tallies {
            pub(crate) const fn new(wanted: &'static [&'static str]) -> Self {
                Self {
                    wanted,
                    $($name: AtomicU64::new(0),)*
                    words: Counts::new(),
                    functions: Counts::new(),
                    operators: Counts::new(),
                }
            }

            fn numbers(&self) -> String {
                let counts = [$((stringify!($name), &self.$name)),*];
                let counts: Vec<String> = counts
                    .into_iter()
                    .map(|(name, count)| format!("{name} {}", count.load(Ordering::Relaxed)))
                    .collect();
                counts.join(", ")
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
    index_used,
    index_used_twice,
    ids_used,
    changes,
    effects,
    returned,
    warned,
    warnings_compared,
    warnings_bounded,
    rivals,
);

impl Tallies {
    /// Counts a valid statement by the words and functions in it.
    pub(crate) fn note_text(&self, text: &str) {
        let tokens: Vec<&str> = text.split(' ').collect();
        for (at, token) in tokens.iter().enumerate() {
            if WORDS.contains(token) {
                self.words.bump(token);
            }
            if tokens.get(at + 1) == Some(&"(") {
                let name = token.to_ascii_lowercase();
                if idem_query::functions().any(|function| function.name == name) {
                    self.functions.bump(&name);
                }
            }
        }
    }

    /// Operators that should be in plans and never were.
    pub(crate) fn never_planned(&self) -> Vec<&'static str> {
        self.operators.never(self.wanted.iter().copied())
    }
}

impl fmt::Display for Tallies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}", self.numbers())?;
        let words = self.words.summary(WORDS.iter().copied());
        writeln!(f, "  words: {words}")?;
        let functions = idem_query::functions().map(|function| function.name);
        writeln!(f, "  functions: {}", self.functions.summary(functions))?;
        let operators = self.operators.summary(self.wanted.iter().copied());
        write!(f, "  plans: {operators}")
    }
}

pub(crate) fn bump(tally: &AtomicU64) {
    tally.fetch_add(1, Ordering::Relaxed);
}
