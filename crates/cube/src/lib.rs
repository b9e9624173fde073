//! A question of cells between its plan and its release: what is to be known of each cell, which tables it lies in, and how
//! the answer is taken from the finest of them.
//!
//! The gateway's plan is never run. A node makes the tables from rows of its own; a clean room puts together those that
//! several nodes made. Both take the answer from them in the same way, so that it is the same.

mod asked;
mod declared;
mod known;
mod question;
mod totals;

pub use asked::Asked;
pub use known::{Known, is_finest, levels};
pub use question::Question;
pub use totals::{TotalOf, Totals};

use datafusion::common::DataFusionError;

/// A fault of our own; its text is for our own log.
#[must_use]
pub fn internal(what: &str) -> DataFusionError {
    DataFusionError::Internal(what.to_owned())
}
