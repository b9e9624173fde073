//! What is told of the columns of a free question's answer, before it is asked.

use super::AdHocQuery;
use crate::cube::{CubeAgg, Refusal, Scale};
use arrow::datatypes::Schema;
use guildhall_accuracy::Told;
use guildhall_accuracy::adhoc::Column;
use guildhall_accuracy::dp::{Bounds, DpError, Groups, Plan, Rho};
use guildhall_grant::product::{Budget, Product};
use guildhall_model::ColumnName;

/// What noise is added to: as many as the answer needs, each once.
///
/// Invariant: in the order in which nodes share out the cost, a count of units first; a node's test holds that what is
/// told here is what its gate tells.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Statistic<'a> {
    Units,
    Rows,
    Values(&'a ColumnName),
    Sum(&'a ColumnName),
}

impl AdHocQuery {
    /// What is told of each column of the answer, in order: its rule, and how far off it may be.
    ///
    /// `schema` is that of the product's view. Fails if the question's statistics cannot share what it may cost.
    pub fn told(
        &self,
        product: &Product,
        schema: &Schema,
        budget: &Budget,
    ) -> Result<Vec<Told>, Refusal> {
        let statistics = self.statistics();
        let parts = statistics.iter().map(|s| s.bounds(product, schema, budget));
        let parts: Vec<(Bounds, i8)> = parts.collect::<Result<_, _>>()?;
        let (bounds, scales): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let rho = Rho::from_nano(budget.per_query.get());
        let plan = Plan::new(rho, &bounds, Groups::Registered).map_err(|e| cost(&e))?;
        let at = |s: Statistic<'_>| {
            statistics
                .iter()
                .position(|t| *t == s)
                .unwrap_or(usize::MAX)
        };
        let keys = self.cells.keys.iter().map(|_| Column::Key);
        let told = self.cells.aggregates.iter().map(|a| match &a.aggregate {
            CubeAgg::CountUnits => Column::Statistic(at(Statistic::Units)),
            CubeAgg::CountRows => Column::Statistic(at(Statistic::Rows)),
            CubeAgg::CountMeasure(c) => Column::Statistic(at(Statistic::Values(c))),
            CubeAgg::Sum(c) => Column::Statistic(at(Statistic::Sum(c))),
            CubeAgg::Avg(c) => Column::Mean {
                sum: at(Statistic::Sum(c)),
                count: at(Statistic::Values(c)),
            },
        });
        Ok(keys.chain(told).map(|c| c.told(&plan, &scales)).collect())
    }

    fn statistics(&self) -> Vec<Statistic<'_>> {
        let told = || self.cells.aggregates.iter().map(|a| &a.aggregate);
        let mut all = Vec::new();
        if told().any(|a| *a == CubeAgg::CountUnits) {
            all.push(Statistic::Units);
        }
        for aggregate in told() {
            let needed = match aggregate {
                CubeAgg::CountUnits => vec![],
                CubeAgg::CountRows => vec![Statistic::Rows],
                CubeAgg::CountMeasure(c) => vec![Statistic::Values(c)],
                CubeAgg::Sum(c) => vec![Statistic::Sum(c)],
                CubeAgg::Avg(c) => vec![Statistic::Sum(c), Statistic::Values(c)],
            };
            for one in needed {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        }
        all
    }
}

impl Statistic<'_> {
    /// What one unit may put into it, and its decimals.
    fn bounds(
        self,
        product: &Product,
        schema: &Schema,
        budget: &Budget,
    ) -> Result<(Bounds, i8), Refusal> {
        let cells = budget.cells_per_unit;
        let rows = product.max_rows_per_unit.into();
        let (bounds, decimals) = match self {
            Self::Units => (Bounds::units(cells), 0),
            Self::Rows | Self::Values(_) => (Bounds::total(cells, 0, rows), 0),
            Self::Sum(column) => {
                let measure = product.measure(column.as_str());
                let measure = measure.ok_or_else(|| unbounded(column))?;
                let field = schema.field_with_name(column.as_str()).ok();
                let scale = field.and_then(|f| Scale::of(measure, f.data_type()));
                let scale = scale.ok_or_else(|| unbounded(column))?;
                let (lower, upper) = scale.bounds(measure).map_err(|_| unbounded(column))?;
                (Bounds::total(cells, lower, upper), scale.decimals)
            }
        };
        Ok((bounds.map_err(|e| cost(&e))?, decimals))
    }
}

fn unbounded(column: &ColumnName) -> Refusal {
    Refusal::new(
        "adhoc.measure",
        format!("`{column}` has no bounds that noise could be measured by"),
        "ask for counts, or tell the department that its product is at fault",
    )
}

/// Why a question cannot be paid for: its owner's policy, or how much is asked at once.
fn cost(error: &DpError) -> Refusal {
    Refusal::new(
        "adhoc.cost",
        error.to_string(),
        "ask for fewer counts and totals in one question",
    )
}
