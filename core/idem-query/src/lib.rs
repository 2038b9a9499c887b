//! DQL, the query language of Idem.
//!
//! The data flow is `text -> lexer -> parser (syntax tree with spans) -> binder (names resolved,
//! parameters numbered) -> planner (access path) -> executor`. [`parse`] goes as far as the binder,
//! so its result depends on the text alone and can be cached; the planner looks at the indexes that
//! exist when a statement runs. The executor reads through a [`Source`] and writes through a
//! [`Target`]: it never touches a store, a clock or randomness.
//!
//! Invariants: no input text and no argument panics; recursion, statement length, tokens, values
//! made by expressions and warnings are bounded by [`idem_model::limits`].
//!
//! The language itself is described in `docs/dql/`.

mod ast;
mod bind;
mod bound;
mod error;
mod eval;
mod exact;
mod execute;
mod expr;
mod functions;
mod habits;
mod interrupt;
mod lexer;
mod live;
#[cfg(feature = "__oracle")]
mod naive;
mod parameters;
mod parser;
mod plan;
mod print;
mod selector;
mod source;
mod span;
mod spelling;
mod statement;
mod window;

pub use bind::Directives;
pub use error::{ErrorKind, ExecuteError, Position, QueryError, Warning};
pub use execute::{Clock, Context, QueryOutput, execute, execute_each, execute_mut};
pub use functions::{FunctionExample, FunctionInfo, functions};
pub use interrupt::{Interrupt, InterruptCheck, StatementLimits};
pub use lexer::without_literals;
pub use live::{DocumentChange, Effect, Interests, LiveQuery};
#[cfg(feature = "__oracle")]
pub use naive::{
    NaiveError, NaiveOutput, detailed_plan, evaluate_naively, operators_of, printed_again,
};
pub use parameters::{parameter_default, sync_scopes};
pub use parser::STATEMENT_WORDS;
pub use plan::to_text as plan_to_text;
pub use selector::Selector;
pub use source::{
    Fields, IndexExpression, IndexField, IndexInfo, IndexKey, IndexSpec, IndexStatistics, KeySpan,
    Outcome, Source, Target, Tested,
};
pub use statement::{Statement, StatementKind, parse, parse_with};
pub use window::{Reach, Window};
