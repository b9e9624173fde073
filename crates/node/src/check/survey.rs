//! What was counted of a product's rows, at its own node. It holds counts and shares, and no value of any row.

use guildhall_disclosure::Fate;
use guildhall_model::ColumnName;
use std::collections::BTreeMap;

/// What was counted of a product's rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// Rows of the view.
    pub rows: u64,
    /// Of these, those without a unit: they are in no cell.
    pub rows_of_nobody: u64,
    /// Distinct units.
    pub units: u64,
    /// Every column, but for secret ones.
    pub columns: Vec<ColumnSurvey>,
    /// Every pair of dimensions, in the product's order.
    pub pairs: Vec<PairSurvey>,
    /// What bounds do to each unit's part: of the whole product, then of the cells of all dimensions at once.
    pub parts: Vec<PartSurvey>,
    /// Each dimension alone and by its roll-ups in time, each pair, and all of them.
    pub tables: Vec<TableSurvey>,
    /// Tables that were not weighed, and why.
    pub left_out: Vec<String>,
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSurvey {
    /// Its name.
    pub name: ColumnName,
    /// Rows that have a value of it.
    pub values: u64,
    /// Distinct values, to within a few in a hundred.
    pub distinct: u64,
    /// The standard deviation of its values as a share of their mean; of measures alone.
    pub spread: Option<f64>,
}

/// The combinations of two dimensions; NULL counts as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairSurvey {
    /// One dimension.
    pub one: ColumnName,
    /// Another.
    pub other: ColumnName,
    /// Distinct values of the one.
    pub ones: u64,
    /// Distinct values of the other.
    pub others: u64,
    /// Distinct combinations that have units.
    pub both: u64,
}

/// What bounds do to the part of one unit in one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct PartSurvey {
    /// What the cells are told apart by.
    pub keys: Vec<ColumnName>,
    /// Units, each counted once in every cell that it is in.
    pub units: u64,
    /// Those of more rows than `max_rows_per_unit`.
    pub over_rows: u64,
    /// Each measure.
    pub measures: Vec<BoundSurvey>,
}

/// What a measure's bounds do to the totals of units.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundSurvey {
    /// The measure.
    pub column: ColumnName,
    /// Units that have a total of it.
    pub totals: u64,
    /// Those below the lower bound.
    pub below: u64,
    /// Those above the upper one.
    pub above: u64,
    /// Whether no total comes near a tenth of the way between the bounds from where the totals begin.
    pub unused: bool,
}

/// One table of cells.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSurvey {
    /// What its cells are told apart by.
    pub keys: Vec<ColumnName>,
    /// The roll-up of its one dimension; none if it is told apart by its own values.
    pub roll_up: Option<String>,
    /// Cells that have units.
    pub cells: u64,
    /// Combinations of values that there might be.
    pub possible: u64,
    /// Units, each counted once in every cell that it is in.
    pub units: u64,
    /// Those that are in published cells.
    pub units_told: u64,
    /// Rows, as far as they count.
    pub rows: u64,
    /// Those that are in published cells.
    pub rows_told: u64,
    /// Units of cells that are withheld for the margins alone.
    pub units_for_margins: u64,
    /// Whether the cell of NULL, of one dimension, fails on its own.
    pub null_fails: bool,
    /// What becomes of the count of units in each cell, then of each total.
    pub statistics: Vec<StatisticSurvey>,
}

/// What becomes of one statistic over the cells of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticSurvey {
    /// What it is.
    pub name: String,
    /// Cells, by what becomes of them.
    pub fates: BTreeMap<Fate, u64>,
}

impl StatisticSurvey {
    /// Cells of which that becomes.
    #[must_use]
    pub fn of(&self, fate: Fate) -> u64 {
        self.fates.get(&fate).copied().unwrap_or(0)
    }
}

impl TableSurvey {
    /// Cells of which that becomes.
    #[must_use]
    pub fn of(&self, fate: Fate) -> u64 {
        self.statistics.first().map_or(0, |s| s.of(fate))
    }

    /// Cells that have too few units on their own.
    #[must_use]
    pub fn failing(&self) -> u64 {
        self.of(Fate::FewUnits).saturating_add(self.of(Fate::Noise))
    }
}

/// `part` of `whole` as a share; of nothing, nothing.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "shares are shown to a tenth of a per cent"
)]
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => part as f64 / whole as f64,
    }
}
