//! What was decided, in a chain that shows every change made to it.
//!
//! Promises: each record holds the digest of the one before, so no record can be altered, left
//! out, moved or put in without [`verify_chain`] saying where. An [`Entry`] has no place for a
//! row, a count, a key or the text of a statement.
//!
//! Does not promise: that the newest records are there. A log that was cut at its end is whole
//! up to the cut; whoever needs to notice keeps a [`Chain`]'s length and head elsewhere.

#![warn(missing_docs)]

mod chain;
mod entry;

pub use chain::{Chain, ChainError, Record, verify_chain};
pub use entry::{Decision, Entry, Event, KeySeen, Mode, ProductSeen, Reason};
