//! A domain's own workers: one department's part of a question, run on several machines of that department.
//!
//! A node that is configured with workers hands them the plan that it would run itself, below its one door out: they
//! scan, join and aggregate, and give rows to one another and to the node, which alone releases. Plans travel as
//! `datafusion-distributed` writes them; a scan of a sealed table travels as a share of its row groups
//! ([`mod@share`]), without a key.
//!
//! Promised: a worker answers nobody but nodes and workers of its own department and council, and takes plans and
//! grants from a node alone; a node dials the workers that its configuration pins by name, and a worker dials workers
//! of its own department; column keys are lent by the authority to each worker for itself, under the node's grant and
//! the node's signed assignment, are held while the node's call lasts and no longer, and are in no plan; a worker
//! reads datasets whose manifest is the one that the node planned with; what operators counted stays where it was
//! counted.
//!
//! Not promised: that a worker withstands its own node. It runs what the node sends, over the columns that the grant
//! covers: both are one department's, and no other's. A query that loses a worker while it runs fails.

#![warn(missing_docs)]

mod address;
mod channels;
mod codec;
mod config;
mod door;
mod fleet;
mod hold;
pub mod loan;
mod plan;
mod serve;
mod service;
mod session;
mod share;
#[cfg(test)]
mod tests;

pub use config::{AuthorityAddress, ConfigError, Limits, Pinned, WorkerConfig};
pub use fleet::{Fleet, FleetError, Question, Reading, WorkerLost};
pub use serve::{Running, StartError, start};
