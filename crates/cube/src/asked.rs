//! How an answer is taken from the cells of the finest table.

use crate::Known;
use arrow::array::{ArrayRef, RecordBatch, Scalar};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use guildhall_disclosure::{CellColumn, CellRule, Coordinate, Facts, Margins, schema_of};
use std::fmt;
use std::sync::Arc;

/// How an answer is taken from the cells of the finest table, and weighed. It holds literals, which `Debug` does not show.
pub struct Asked {
    pub(crate) facts: Facts,
    /// Columns of the finest table: the keys of the answer, and the first of the facts.
    pub(crate) keys: Vec<usize>,
    pub(crate) first_fact: usize,
    /// Columns of the finest table, and the value that each is to have.
    pub(crate) filters: Vec<(usize, ArrayRef)>,
    pub(crate) columns: Vec<CellColumn>,
    pub(crate) coordinates: Vec<Coordinate>,
    /// Whether each value has a companion that says what was done to it.
    pub(crate) cell_status: bool,
}

impl Asked {
    /// The shape of the answer.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        schema_of(&self.facts, &self.columns, self.cell_status)
    }

    /// The cells that were asked for, and the rule they are weighed by.
    pub fn of(self, known: &Known) -> Result<(RecordBatch, CellRule), ArrowError> {
        let mut cells = known.cells.clone();
        for (column, value) in &self.filters {
            // The column as the literal is: a literal that is cut to the column's type might meet another value.
            let column = cast(cells.column(*column), value.data_type())?;
            let meets = eq(&column, &Scalar::new(value))?;
            cells = filter_record_batch(&cells, &meets)?;
        }
        let facts = self.first_fact..cells.num_columns();
        let columns: Vec<usize> = self.keys.iter().copied().chain(facts).collect();
        let rule = CellRule {
            facts: self.facts,
            first_fact: self.keys.len(),
            keys: (0..self.keys.len()).collect(),
            columns: self.columns,
            margins: Margins {
                pattern: Arc::clone(&known.pattern),
                coordinates: self.coordinates,
            },
            cell_status: self.cell_status,
        };
        Ok((cells.project(&columns)?, rule))
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("columns", &self.columns.len())
            .field("filters", &self.filters.len())
            .finish_non_exhaustive()
    }
}
