//! A department's node: it holds the department's tables under keys it does not have, and releases answers.
//!
//! Promises: a fragment runs only under a grant of the node's own council, made for this node, fragment and
//! recipient, used once; only if it is admitted against the department's own products and permitted by the
//! department's own policy; with keys of the columns it reads and no others, lent for that grant; and what
//! leaves has passed disclosure control. The order is fixed by types, see [`mod@run`]. Every decision is in the
//! node's own chained log before anything leaves.
//!
//! An answer of cells, and the word that there is none, leaves at the end of a bucket of time, so that how long it
//! took says little of what was found; what of it can be seen is said in `run/pace.rs`.
//!
//! Before anybody asks, it makes the tables that cells are told from, so that the first question over new data is answered
//! like any other ([`Prepare`]).
//!
//! Does not promise: that an administrator of the running machine reads nothing from its memory; that what a
//! department loads is true; that answers to two products, put together outside, say no more than each.

#![warn(missing_docs)]

mod admit;
mod audit;
mod authority;
mod check;
mod config;
mod datasets;
mod engine;
mod enrol;
mod error;
mod import;
mod node;
mod prepare;
mod product;
mod publish;
mod run;
mod serve;
#[cfg(test)]
mod testing;
mod wire;

pub use audit::{Log, LogError};
pub use authority::AuthorityError;
pub use check::{
    BoundSurvey, CheckError, Checked, ColumnSurvey, Finding, Gravity, Officer, PairSurvey,
    PartSurvey, StatisticSurvey, Survey, TableSurvey,
};
pub use config::{AuthorityAddress, ConfigError, Limits, NodeConfig, Prepare};
pub use datasets::DatasetError;
pub use enrol::{EnrolError, enrol};
pub use guildhall_store::{ImportReport, ImportSpec, Mode, Phase, Progress};
pub use guildhall_workers::Pinned;
pub use import::NodeImportError;
pub use node::{Node, NodeError};
pub use prepare::Preparation;
pub use product::{ColumnDraft, Draft, ProductError};
pub use publish::{PublishError, Published};
pub use run::Prepared;
pub use serve::{RunningNode, start};
