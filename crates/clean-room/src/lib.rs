//! The council's clean room: what several owners have a part in, put together and released once.
//!
//! A gateway brings a question and a grant for each owner's part ([`admit`]). The clean room asks the owners' nodes for
//! their parts ([`gather`]), which they send to it alone, puts them together by the strictest of their terms and releases
//! what passes ([`release`]). The gateway is believed in nothing: who may ask, of whom, what and for whom stands in the
//! grants; what the question means is read here again from the bytes that the grants name.
//!
//! Or the parts are rows under tokens, which meet here and of which cells are released ([`linked`]).
//!
//! It holds what one question needs, in memory, until that is answered: no key, no name of a unit, nothing on disk. What it
//! learns meanwhile are the owners' cells before disclosure control, with the sums of their units' record keys, or their rows
//! with tokens and 8 bits of a record key in place of units; and what their noise is drawn with. Who reads its memory learns
//! them, too. It is the council's to run.
//!
//! Not yet: a log of its own (nodes and authorities keep theirs), and answers padded to buckets of time.
//!
//! An owner may lie within the bounds of what could be true; what could not be is refused, and the owner named.

mod admit;
mod config;
mod error;
mod gather;
mod linked;
mod release;
mod serve;
#[cfg(test)]
mod tests;

pub use config::{AuthorityAddress, CleanRoomConfig, ConfigError, Limits};
pub use serve::{Running, StartError, start};
