//! From a question of cells to the node's own plan of the rows that they are made of.

use super::facts::CellFacts;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use guildhall_cube::{Question, internal};
use guildhall_grant::product::{Dimension, Product, RollUp};
use guildhall_plan::cube::{CubeAgg, CubeAggregate, CubeKey, CubeQuery};

/// A question of cells over the relation of its product.
#[derive(Debug)]
pub(super) struct Cells<'a> {
    pub(super) question: Question<'a>,
    pub(super) facts: CellFacts<'a>,
}

impl Cells<'_> {
    /// The rows that cells are made of, with their keys at each level of each axis.
    pub(super) fn rows(&self, relation: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        let levels = self.question.axes.iter().flat_map(|a| &a.levels);
        let keys = levels.map(|level| self.facts.level(level));
        self.facts
            .rows_of(relation, keys.collect::<Result<_, _>>()?)
    }
}

/// A dimension, or one of its roll-ups in time, that a table is told apart by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Key<'a> {
    pub(super) of: &'a Dimension,
    pub(super) roll_up: Option<&'a RollUp>,
}

/// A question of the node's own: `told` by `keys`, of every row of `product`, whose view has the columns of `schema`.
pub(super) fn asked(
    product: &Product,
    schema: &Schema,
    keys: &[Key<'_>],
    told: impl Iterator<Item = CubeAgg>,
) -> Result<CubeQuery, DataFusionError> {
    let keys = keys.iter().map(|Key { of, roll_up }| {
        let field = schema.field_with_name(of.column.as_str())?;
        Ok(CubeKey {
            name: of.column.to_string(),
            column: of.column.clone(),
            roll_up: roll_up.cloned(),
            data_type: field.data_type().clone(),
        })
    });
    let aggregates = told.map(|aggregate| CubeAggregate {
        name: String::new(),
        aggregate,
        argument: None,
        data_type: DataType::Int64,
    });
    let unit = product.unit.clone();
    Ok(CubeQuery {
        product: product.product_ref(),
        unit: unit.ok_or_else(|| internal("a product of cells has no unit"))?,
        keys: keys.collect::<Result<_, DataFusionError>>()?,
        filters: Vec::new(),
        aggregates: aggregates.collect(),
    })
}
