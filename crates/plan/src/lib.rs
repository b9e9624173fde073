//! From a statement to what each node is asked, and back to one answer.
//!
//! Promises: a statement is capped and closed before it is parsed and planned ([`guard`]); only
//! listed functions exist ([`functions`], [`session`]); what crosses to a node is a closed
//! profile of Substrait, and what comes from a gateway is believed in nothing ([`profile`]); a
//! question to a private product is a registered cube's ([`cube`]), or a free one that is charged to a budget
//! ([`adhoc`]), or one of cells whose rows meet in a clean room ([`linked`]), or refused with a reason; which of these, under which rule, how far off and at what cost is told before it
//! is asked ([`privacy`]).
//!
//! Does not promise: that an answer may be released. Grants, policy, keys and disclosure control
//! are other crates, and this one reaches none of them.

pub mod adhoc;
pub mod catalogue;
pub mod cube;
mod cut;
pub mod explain;
mod fragment;
pub mod functions;
pub mod guard;
pub mod linked;
pub mod planner;
pub mod privacy;
pub mod profile;
mod projections;
pub mod remote;
mod semi_join;
pub mod session;
mod sides;
mod split;
mod yielding;
