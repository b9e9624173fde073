//! What becomes of each cell, and by which rule: for the owner's own eyes, before a product is offered.
//!
//! Judged by what the gate judges by, so that the two cannot disagree. Nothing here leaves a node: why a cell is kept
//! back tells of the cell, and whoever is not its owner learns only that it is.

use crate::cells::CellRule;
use crate::facts::{Statistic, Weighed};
use crate::release::ReleaseError;
use arrow::array::RecordBatch;

/// What becomes of one statistic of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// It is told, with noise.
    Published,
    /// Fewer units than the minimum group.
    FewUnits,
    /// Enough units, of whom noise leaves too few.
    Noise,
    /// The cell does not stand, so that none of its totals does.
    Cell,
    /// Fewer contributors than the minimum group.
    FewContributors,
    /// One or two units make up too much of it, or some contribution is negative; or noise leaves too few contributors.
    Dominated,
    /// It passes on its own and is kept back so that no margin gives another away.
    Margins,
}

/// What becomes of one cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellFate {
    /// Of the count of its units, and so of the cell itself.
    pub units: Fate,
    /// Of each of its totals.
    pub totals: Vec<Fate>,
}

impl CellRule {
    /// What becomes of each row of `cells`.
    ///
    /// # Errors
    /// If the rule does not fit the cells.
    pub fn fates(&self, cells: &RecordBatch) -> Result<Vec<CellFate>, ReleaseError> {
        let schema = cells.schema();
        self.facts.check(&schema, self.first_fact)?;
        self.margins.check(self, &schema)?;
        let weighed = Weighed::read(&self.facts, cells, self.first_fact)?;
        let kept = self.margins.kept(&self.facts, cells)?;
        let minimum = u64::from(self.facts.minimum_group);
        let fate = |row: usize| {
            let enough = weighed.members(Statistic::Units, row) >= minimum;
            let units = match (enough, weighed.stands(row)) {
                (false, _) => Fate::FewUnits,
                (true, false) => Fate::Noise,
                (true, true) if kept.shows(Statistic::Units, row) => Fate::Published,
                (true, true) => Fate::Margins,
            };
            let total = |total: usize| {
                let is = Statistic::Total(total);
                match () {
                    () if units != Fate::Published => Fate::Cell,
                    () if weighed.members(is, row) < minimum => Fate::FewContributors,
                    // Noise may take contributors away as well; it is told as what it mostly is.
                    () if !weighed.total_passes(total, row) => Fate::Dominated,
                    () if kept.shows(is, row) => Fate::Published,
                    () => Fate::Margins,
                }
            };
            let totals = (0..weighed.totals()).map(total).collect();
            CellFate { units, totals }
        };
        Ok((0..weighed.rows()).map(fate).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{secret, still};
    use crate::{CellDraws, Coordinate, Facts, Margins, Members, Noise, Pattern, Total};
    use arrow::array::{ArrayRef, Int64Array, StringArray, UInt64Array};
    use std::sync::Arc;

    /// Units, contributors, sum and largest contribution of each cell.
    type Cell = (u64, u64, i64, i64);

    fn cells(cells: &[Cell]) -> RecordBatch {
        let names = (0..cells.len()).map(|at| format!("w{at}"));
        let counts = |of: fn(&Cell) -> u64| -> ArrayRef {
            Arc::new(cells.iter().map(of).collect::<UInt64Array>())
        };
        let amounts = |of: fn(&Cell) -> i64| -> ArrayRef {
            Arc::new(cells.iter().map(of).collect::<Int64Array>())
        };
        RecordBatch::try_from_iter([
            (
                "key",
                Arc::new(StringArray::from_iter_values(names)) as ArrayRef,
            ),
            ("units", counts(|c| c.0)),
            ("key_sum", counts(|c| c.0)),
            ("contributors", counts(|c| c.1)),
            ("their_keys", counts(|c| c.1)),
            ("sum", amounts(|c| c.2)),
            ("largest", amounts(|c| c.3)),
            ("second", amounts(|_| 1)),
            ("negatives", counts(|_| 0)),
        ])
        .unwrap()
    }

    fn rule(cells: &RecordBatch, shown: &RecordBatch) -> CellRule {
        let facts = Facts {
            minimum_group: 10,
            units: Members {
                count: 0,
                key_sum: 1,
                parts: None,
            },
            totals: vec![Total {
                id: "sum".to_owned(),
                members: Members {
                    count: 2,
                    key_sum: 3,
                    parts: None,
                },
                sum: 4,
                largest: 5,
                second: 6,
                negatives: 7,
                ones: false,
            }],
            noise: Noise {
                draws: CellDraws::Own(secret().draws()),
                table: still(),
            },
        };
        assert_eq!(cells.schema(), shown.schema());
        CellRule {
            margins: Margins {
                pattern: Arc::new(Pattern::showing_all(&facts, shown.column(0))),
                coordinates: vec![Coordinate::Column(0)],
            },
            facts,
            first_fact: 1,
            keys: vec![0],
            columns: vec![],
            cell_status: false,
        }
    }

    #[test]
    fn every_cell_is_told_which_rule_keeps_it_back() {
        let all = cells(&[
            (50, 50, 500, 10),
            (9, 9, 90, 10),
            (50, 9, 90, 10),
            (50, 50, 500, 490),
            (50, 50, 500, 10),
        ]);
        // The last is not among those that the margins show.
        let rule = rule(&all, &all.slice(0, 4));
        let fates = rule.fates(&all).unwrap();
        let told: Vec<(Fate, Fate)> = fates.iter().map(|f| (f.units, f.totals[0])).collect();
        assert_eq!(
            told,
            [
                (Fate::Published, Fate::Published),
                (Fate::FewUnits, Fate::Cell),
                (Fate::Published, Fate::FewContributors),
                (Fate::Published, Fate::Dominated),
                (Fate::Margins, Fate::Cell),
            ]
        );
    }

    #[test]
    fn a_rule_for_other_cells_explains_none() {
        let all = cells(&[(50, 50, 500, 10)]);
        let rule = rule(&all, &all);
        assert!(rule.fates(&all.project(&[0, 1, 2]).unwrap()).is_err());
    }
}
