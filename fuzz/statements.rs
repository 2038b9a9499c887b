//! Random DQL: documents, indexes and statements that are mostly valid, made of the bytes of an input.
//!
//! Every byte is a choice. Where the bytes end, every choice is the first and simplest one, so a
//! shorter input makes a smaller script.

mod choices;
mod compare;
mod documents;
mod effect;
mod expression;
mod facts;
mod narrow;
mod query;
mod script;
mod tally;
mod watched;

pub(crate) use self::{
    choices::Choices,
    compare::{Check, compare_on_double, compare_on_store},
    documents::Numbers,
    expression::Writer,
    script::Script,
    tally::{OPERATORS, STORE_OPERATORS, Tallies},
};
