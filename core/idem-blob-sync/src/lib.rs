//! Fetching blobs, the content of attachments, from several peers at once, without I/O.
//!
//! An [`Exchange`] is one for all neighbours of a peer. It is told what happens and asked what must leave;
//! the blobs themselves are behind [`Blobs`], which the owner hands to each call. Nothing here knows a
//! socket, a clock, a disk or a hash function.
//!
//! ```text
//!   app: fetch(key)          ASK -> every neighbour              HAVE / WAIT / LACK <-
//!                            (passed on once by everybody, over some hops)
//!   who has it               GET part -> one of them             PIECE <-, checked, stored
//!                            the next part -> another one
//! ```
//!
//! What holds at all times:
//!
//! - Nothing is asked for that the app does not fetch or a neighbour asked for, and nothing is said about a
//!   blob to who does not name its hash.
//! - What came from a neighbour is passed on, and counts, only after [`Blobs::write`] has checked it. A
//!   source that sends anything else is not asked for that blob again.
//! - Every question ends: who has seen it before answers at once, and who does not answer is not waited for.
//! - Under way from one neighbour are at most `limits::BLOB_WINDOW_BYTES_MAX`, and fewer as soon as they
//!   wait for each other: what somebody else wants to say on the link comes through.
//! - Everything is bounded (`limits::BLOB_*`); a neighbour that breaks a rule is reported
//!   ([`Event::Misbehaved`]).

mod event;
mod exchange;
mod neighbour;
mod port;
mod questions;
mod want;
mod window;

pub use event::{Event, FailReason};
pub use exchange::{Exchange, FetchTerms, Transmit};
pub use port::{Blobs, Purpose, Trouble, Written};
