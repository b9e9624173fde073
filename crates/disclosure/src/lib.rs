//! Disclosure control: what may leave, and in what form.
//!
//! Values in, values out. [`Gate::release`] is the one way to make a [`Released`], and code that writes to a peer
//! accepts nothing else. A gate is made from a [`Rule`], which the owner's own product decides and the request
//! never does.
//!
//! Held here is the *cube lane*: the minimum group on distinct units before and after noise, the minimum of
//! contributors per measure, dominance, cell-key noise, margins with complementary suppression, one shape for what is
//! empty, unknown or withheld, and a canonical order of cells; and the *ad hoc lane*'s noise ([`dp`], [`AdHocRule`]).
//! What is told of a released column is in `guildhall_accuracy`, so that a planner can tell it before.
//! Not held here: the ledger of budgets, and what two products say together, which is weighed when a product is
//! published. Each module names its sources; [`ons`] has the Office for National Statistics' own form of cell keys,
//! for conformance.
//!
//! The differential test of gate and margins against a slow reference runs 10,000 cases; its long form is
//! `GUILDHALL_CASES=1000000 cargo test -p guildhall-disclosure --release -- differential`.

mod adhoc;
mod amounts;
mod answer;
mod canonical;
mod cells;
mod coordinates;
mod dominance;
mod entries;
mod explain;
mod facts;
mod gather;
pub mod joint;
mod lattice;
mod lines;
mod margins;
mod names;
mod noise;
pub mod ons;
mod ptable;
#[cfg(test)]
mod reference;
mod release;
mod tables;
#[cfg(test)]
mod tests;

pub use guildhall_accuracy::dp;
pub use guildhall_accuracy::{ERROR_METADATA, RULE_METADATA};

pub use adhoc::{AdHocColumn, AdHocRule, AdHocValue, Draws, Grid};
pub use answer::schema_of;
pub use cells::{CellColumn, CellRule, CellValue};
pub use explain::{CellFate, Fate};
pub use facts::{Facts, Members, Parts, Total};
pub use gather::{Adds, Gathered, Gathering, Takes};
pub use margins::{Axis, Beside, Coordinate, Cuboid, Margins, Pattern};
pub use noise::{CellDraws, DrawSecret, Noise, NoiseSecret, OwnerDraws};
pub use ptable::{PTable, PTableError, PTableSpec};
pub use release::{Gate, Receipt, ReleaseError, Released, Rule};
pub use tables::{Tally, keys_of};
