//! What is told of the columns of an answer of the cube, before it is asked.

use super::{CubeAgg, CubeQuery};
use guildhall_accuracy::Told;
use guildhall_accuracy::cube::{CellNoise, Column};
use guildhall_grant::product::Product;

impl CubeQuery {
    /// What is told of each column of the answer, in order: its rule, and how far off it may be.
    #[must_use]
    pub fn told(&self, product: &Product) -> Vec<Told> {
        self.told_within(product.minimum_group, product.max_rows_per_unit)
    }

    /// The same for cells of at least `minimum_group` distinct units, with no more than `max_rows_per_unit` rows of one
    /// unit in each. Of cells that several owners have parts of, both are the largest that any of them states.
    #[must_use]
    pub fn told_within(&self, minimum_group: u32, max_rows_per_unit: u32) -> Vec<Told> {
        // One row of a unit at most: a count of rows is one of units.
        let ones = max_rows_per_unit == 1;
        let keys = self.keys.iter().map(|_| Column::Key);
        let told = self.aggregates.iter().map(|a| match a.aggregate {
            CubeAgg::CountUnits => Column::Units,
            CubeAgg::CountRows | CubeAgg::CountMeasure(_) => Column::Total { ones },
            CubeAgg::Sum(_) => Column::Total { ones: false },
            CubeAgg::Avg(_) => Column::Mean { ones },
        });
        keys.chain(told)
            .map(|c| c.told(minimum_group, CellNoise::STANDARD))
            .collect()
    }
}
