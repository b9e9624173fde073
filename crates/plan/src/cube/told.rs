//! What is told of the columns of an answer of the cube, before it is asked.

use super::{CubeAgg, CubeQuery};
use guildhall_accuracy::Told;
use guildhall_accuracy::cube::{CellNoise, Column};
use guildhall_grant::product::Product;

impl CubeQuery {
    /// What is told of each column of the answer, in order: its rule, and how far off it may be.
    #[must_use]
    pub fn told(&self, product: &Product) -> Vec<Told> {
        // One row of a unit at most: a count of rows is one of units.
        let ones = product.max_rows_per_unit == 1;
        let keys = self.keys.iter().map(|_| Column::Key);
        let told = self.aggregates.iter().map(|a| match a.aggregate {
            CubeAgg::CountUnits => Column::Units,
            CubeAgg::CountRows | CubeAgg::CountMeasure(_) => Column::Total { ones },
            CubeAgg::Sum(_) => Column::Total { ones: false },
            CubeAgg::Avg(_) => Column::Mean { ones },
        });
        keys.chain(told)
            .map(|c| c.told(product.minimum_group, CellNoise::STANDARD))
            .collect()
    }
}
