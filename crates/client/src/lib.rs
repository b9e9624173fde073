//! Calling the other roles: authorities, nodes, and the enrolment desk.
//!
//! Every call has a deadline and names its peer when it fails. Dropping a stream of a node
//! stops the work behind it. Answers are parsed here and no more than parsed: whether a
//! signed statement in them holds is for the caller to verify.

#![warn(missing_docs)]

pub mod arrow_message;
mod authority;
mod call;
mod contributor;
mod enrol;
mod enrolment;
mod error;
mod node;
#[cfg(test)]
mod testing;
mod upkeep;

pub use authority::{AuthorityClient, Debited, LatestManifest, Renewed};
pub use contributor::{ContributionStream, ContributorClient};
pub use enrol::{EnrolError, enrol};
pub use enrolment::{Enrolled, EnrolmentClient};
pub use error::{ClientError, Lost};
pub use node::{BatchStream, MessageStream, NodeClient};
pub use upkeep::{Upkeep, keep_up};
