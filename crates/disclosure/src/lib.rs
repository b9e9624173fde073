//! Disclosure control: what may leave, and in what form.
//!
//! Values in, values out. [`Gate::release`] is the one way to make a [`Released`], and code that writes to a peer
//! accepts nothing else. A gate is made from a [`Rule`], which the owner's own product decides and the request
//! never does.
//!
//! Held here: the minimum group on distinct units per cell, the minimum of contributors per measure, one shape for
//! what is empty, unknown or withheld, and a canonical order of cells. Not held here: noise, dominance, margins
//! and budgets; and what two products say together, which is weighed when a product is published.

mod canonical;
mod cells;
pub mod dp;
mod release;
mod threshold;

pub use cells::{CellColumn, CellRule, CellValue};
pub use release::{Gate, Receipt, ReleaseError, Released, Rule};

/// Field metadata that names the rule a column was released under.
pub const RULE_METADATA: &str = "guildhall.rule";
/// Field metadata that names how far a released value may be from the true one.
pub const ERROR_METADATA: &str = "guildhall.error_bound";
