//! Cells over a private product: what their rule is, and what of them leaves.

use crate::facts::Facts;
use crate::margins::Margins;
use arrow::datatypes::{DataType, Field};
use guildhall_accuracy::cube::Column;
use guildhall_accuracy::status;

/// How the cells of one answer are weighed: the rule of the cube lane.
///
/// The input has one row per cell: its keys, and from [`Self::first_fact`] on the facts that the rule looks at. A
/// cell *stands* if it has `minimum_group` distinct units before and after noise, and is not withheld for its
/// margins. A total in it is shown if the cell stands, it has as many contributors before and after noise, no
/// contributor is negative, no one or two dominate it, and it is not withheld for its margins. What is not shown is
/// NULL, and of a grouped answer a cell that does not stand is no row at all.
#[derive(Debug, Clone)]
pub struct CellRule {
    /// What is known of each cell, and its thresholds.
    pub facts: Facts,
    /// The input column where the facts start, which is how many keys come before them.
    pub first_fact: usize,
    /// Input columns that name a cell; none for an answer of one cell.
    pub keys: Vec<usize>,
    /// What leaves, in order.
    pub columns: Vec<CellColumn>,
    /// What is withheld so that no margin gives it away.
    pub margins: Margins,
    /// Whether each column that is no key gets a companion `<name>_status`, which says `perturbed` or `suppressed`.
    pub cell_status: bool,
}

impl CellRule {
    /// Whether the answer is the one cell of the whole table.
    #[must_use]
    pub fn whole_table(&self) -> bool {
        self.keys.is_empty()
    }
}

/// A column of the answer.
#[derive(Debug, Clone)]
pub struct CellColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// What it is made of.
    pub value: CellValue,
}

/// What a released column is made of. `total`, `sum` and `count` number the rule's [`Facts::totals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellValue {
    /// A part of the cell's name.
    Key {
        /// Input column.
        column: usize,
    },
    /// The distinct units of the cell, with the noise of their count.
    Units,
    /// A total with the noise of its contributors' count times its mean contribution, and with noise of its own, one step
    /// of which is 5 % of the largest contribution and one in the last digit at least.
    Sum {
        /// Which total.
        total: usize,
    },
    /// `sum / count`, from the very values that these two totals release.
    Mean {
        /// Which total is divided.
        sum: usize,
        /// By which.
        count: usize,
    },
}

impl CellColumn {
    /// The field of the released column: may always be NULL, and names its rule and how far off it may be.
    pub(crate) fn field(&self, facts: &Facts) -> Field {
        let told = (self.value.column(facts))
            .told(facts.minimum_group, facts.noise.table.noise_of_cells());
        Field::new(&self.name, self.data_type.clone(), true)
            .with_metadata(told.metadata().into_iter().collect())
    }

    /// The field of the column's companion; a key has none.
    pub(crate) fn status_field(&self) -> Option<Field> {
        let is_key = matches!(self.value, CellValue::Key { .. });
        (!is_key).then(|| status_field(&self.name))
    }
}

/// The field of the companion of a released value called `name`.
pub(crate) fn status_field(name: &str) -> Field {
    Field::new(status::name(name), DataType::Utf8, true)
        .with_metadata(status::told().metadata().into_iter().collect())
}

impl CellValue {
    /// The totals it is made of.
    pub(crate) fn totals(self) -> Vec<usize> {
        match self {
            Self::Key { .. } | Self::Units => vec![],
            Self::Sum { total } => vec![total],
            Self::Mean { sum, count } => vec![sum, count],
        }
    }

    /// What it is as far as its rule and its error go.
    fn column(self, facts: &Facts) -> Column {
        match self {
            Self::Key { .. } => Column::Key,
            Self::Units => Column::Units,
            Self::Sum { total } => Column::Total {
                ones: facts.is_count(total),
            },
            Self::Mean { count, .. } => Column::Mean {
                ones: facts.is_count(count),
            },
        }
    }
}
