//! Free questions to a private product: the grammar of the ad hoc lane, and which lane a question is in.
//!
//! [`recognise`] reads an aggregation over one product of class `aggregate` and gives an [`AdHocQuery`], or a
//! [`Refusal`]. What is told of a cell is what the cube tells: counts, and sums and means of registered measures. What
//! rows may be limited by is free: any predicate of listed operators and of listed functions that depend on nothing
//! but their arguments, over columns that are neither identifiers nor secret. Cells are told apart by nothing, or by
//! dimensions whose values are registered, so that which cells there are is known without the data.
//!
//! [`lane`] decides: the cube first, which costs nothing; then, where the owner states a budget for the purpose, this.
//! Gateway and node both run it, each on the plan it has. What keeps the answers harmless is elsewhere: bounds for each
//! unit, noise, and a ledger that runs out.

mod form;
mod recognise;
mod told;

pub use recognise::recognise;

use crate::cube::{self, CubeQuery, Refusal};
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, LogicalPlan};
use guildhall_grant::product::{Budget, Product};
use guildhall_model::ColumnName;
use std::collections::BTreeSet;
use std::fmt;

/// The lane that a question is answered in.
#[derive(Debug, Clone, PartialEq)]
pub enum Lane {
    /// Of the closed grammar, and without cost.
    Cube(CubeQuery),
    /// Free, and charged to the budget of its purpose.
    AdHoc(AdHocQuery),
}

/// A free question to one product. Only [`recognise`] makes one.
///
/// Invariant: no predicate holds a sub-query, a volatile function, or a column that is an identifier or secret. `Debug`
/// shows none of their literals.
#[derive(Clone, PartialEq)]
pub struct AdHocQuery {
    cells: CubeQuery,
    predicates: Vec<Expr>,
    form: Vec<u8>,
}

/// The lane of `plan`, an aggregation with nothing above it, over `product`; `budget` is what its owner states for the
/// purpose that it is asked for.
///
/// What neither lane answers is refused under the cube's rule. If there is a budget, the help says what the ad hoc lane
/// would take as well.
pub fn lane(
    plan: &LogicalPlan,
    product: &Product,
    budget: Option<&Budget>,
) -> Result<Lane, Refusal> {
    let refused = match cube::recognise(plan, product) {
        Ok(query) => return Ok(Lane::Cube(query)),
        Err(refused) => refused,
    };
    if budget.is_none() {
        return Err(refused);
    }
    recognise(plan, product)
        .map(Lane::AdHoc)
        .map_err(|free| Refusal {
            instead: format!(
                "{}; within the privacy budget: {} (rule `{}`)",
                refused.instead, free.instead, free.rule
            ),
            ..refused
        })
}

impl Lane {
    /// What is told of which cells.
    #[must_use]
    pub fn cells(&self) -> &CubeQuery {
        match self {
            Self::Cube(query) => query,
            Self::AdHoc(query) => query.cells(),
        }
    }
}

impl AdHocQuery {
    /// What is told of which cells. It has no filters: the predicates stand for them.
    #[must_use]
    pub fn cells(&self) -> &CubeQuery {
        &self.cells
    }

    /// What a row must meet, all of it, in terms of the product's columns by their bare names.
    #[must_use]
    pub fn predicates(&self) -> &[Expr] {
        &self.predicates
    }

    /// The bytes of the question, names of output columns aside: the same for no two questions that differ.
    #[must_use]
    pub fn form(&self) -> &[u8] {
        &self.form
    }

    /// The columns of the answer.
    #[must_use]
    pub fn output_schema(&self) -> SchemaRef {
        self.cells.output_schema()
    }

    /// The question as a plan over the product's schema. It may be written as a fragment, and is recognised again.
    pub fn canonical_plan(&self, schema: &SchemaRef) -> Result<LogicalPlan> {
        let columns = self.predicates.iter().flat_map(Expr::column_refs);
        let read: BTreeSet<ColumnName> = columns.filter_map(|c| c.name.parse().ok()).collect();
        self.cells.plan_where(schema, &read, &self.predicates)
    }
}

impl fmt::Debug for AdHocQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdHocQuery")
            .field("cells", &self.cells)
            .field("predicates", &self.predicates.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
