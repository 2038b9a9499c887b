//! The Rust examples of the reference of DQL.

#[doc = include_str!("../../../docs/dql/README.md")]
struct Tour;

#[doc = include_str!("../../../docs/dql/live.md")]
struct LiveQueries;

#[doc = include_str!("../../../docs/dql/transactions.md")]
struct Transactions;
