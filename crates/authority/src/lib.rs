//! A council's authority: it says who is who, decides every grant, lends the keys that a grant
//! covers, and puts each decision on record before anything leaves.
//!
//! Promises: a decision is one transaction with its entry in the log, flushed to disk before
//! the answer is sent, so that a crash at any moment leaves either both or neither. A key
//! leaves only under a grant that is verified again, only if the grant's columns need it, and
//! only sealed to the node that asked. A free question is charged to its privacy budget before it
//! is answered, and no budget is ever overspent or given back. What is secret at rest (the certificate authority's
//! key, the key that signs grants, the identity of each dataset) is age-encrypted to the
//! council root.
//!
//! Does not promise: anything against who holds the root identity and the database together,
//! nor that the log's newest entries were not cut off by such a person. It holds no row and no
//! result, and has no code that could read one.

#![warn(missing_docs)]

mod accounts;
mod admin;
mod ask;
mod assigned;
mod budget;
mod check;
mod config;
mod credential;
mod db;
mod debit;
mod enrol;
mod grants;
mod init;
mod ledger;
mod lend;
mod linkage;
mod links;
mod log;
mod policies;
mod prepare;
mod presented;
mod publish;
mod refusal;
mod register;
pub mod serve;
mod service;
mod shelf;
mod state;
#[cfg(test)]
mod tests;

pub use admin::{Account, Admin, AdminError, INVITE_LIFE};
pub use budget::BudgetStanding;
pub use config::{AuthorityConfig, ConfigError};
pub use db::DbError;
pub use init::{InitOptions, init};
pub use ledger::check::{LedgerError, LedgerSum};
pub use log::LogError;
pub use policies::PolicyFileError;
