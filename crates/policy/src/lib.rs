//! The policies of a council and of a department, in Cedar.
//!
//! A set of [`Policies`] is checked against its schema when it is made, so a misspelt attribute
//! is found by whoever wrote it and not by whoever is wrongly let through. What no policy
//! permits is forbidden; a policy that fails while it is evaluated forbids.
//!
//! What this crate does not do: it knows no grants, signatures or columns' classes. Those
//! checks stand in code and hold whatever a policy says. There is no clock and no disk
//! here either: the same request gets the same decision at any hour.

#![warn(missing_docs)]

mod request;
mod set;
#[cfg(test)]
mod tests;

pub use request::{Action, Asker, Question, Subject};
pub use set::{Decision, Policies, PolicyError};

/// The policy a council starts with.
pub const DEFAULT_COUNCIL_POLICY: &str = include_str!("../policies/council.cedar");

/// The policy a department starts with.
pub const DEFAULT_DEPARTMENT_POLICY: &str = include_str!("../policies/department.cedar");
