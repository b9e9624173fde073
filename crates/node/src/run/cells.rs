//! From a question of cells to the node's own plan of the rows that they are made of.

use super::facts::CellFacts;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use guildhall_cube::Question;

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
