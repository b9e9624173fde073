//! The tables of a lattice, weighed.

use crate::internal;
use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use guildhall_disclosure::joint::Tables;
use guildhall_disclosure::{Axis, Beside, Cuboid, Facts, Pattern, ReleaseError};
use std::fmt;
use std::sync::Arc;

/// What is known of a lattice. `Debug` shows its shape.
pub struct Known {
    /// What is withheld of its finest table.
    pub pattern: Arc<Pattern>,
    /// Every cell of the finest table with its facts.
    pub cells: RecordBatch,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("columns", &self.cells.num_columns())
            .finish_non_exhaustive()
    }
}

impl Known {
    /// Weighs every table. In the finest, the first `places` columns say where a cell lies, and the facts begin at
    /// `first_fact`.
    pub fn of(
        facts: &Facts,
        axes: &[Axis],
        tables: Tables,
        places: usize,
        first_fact: usize,
    ) -> Result<Self, DataFusionError> {
        let Read { cuboids, cells } = read(tables, places, first_fact)?;
        let pattern = if axes.is_empty() {
            Pattern::whole()
        } else {
            built(Pattern::build(facts, axes, &cuboids))?
        };
        let pattern = Arc::new(pattern);
        Ok(Self { pattern, cells })
    }

    /// The same of cells that lie in what is published [beside](Beside) them, too.
    pub fn beside(
        facts: &Facts,
        axes: &[Axis],
        tables: Tables,
        (places, first_fact): (usize, usize),
        beside: &[Beside],
    ) -> Result<Self, DataFusionError> {
        let Read { cuboids, cells } = read(tables, places, first_fact)?;
        let pattern = built(Pattern::build_beside(facts, axes, &cuboids, beside))?;
        let pattern = Arc::new(pattern);
        Ok(Self { pattern, cells })
    }
}

fn built(pattern: Result<Pattern, ReleaseError>) -> Result<Pattern, DataFusionError> {
    pattern.map_err(|e| DataFusionError::External(Box::new(e)))
}

/// Tables as a lattice has them, and every cell of the finest with all that is known of it.
struct Read {
    cuboids: Vec<Cuboid>,
    cells: RecordBatch,
}

fn read(tables: Tables, places: usize, first_fact: usize) -> Result<Read, DataFusionError> {
    let mut cuboids = Vec::with_capacity(tables.len());
    let mut finest = None;
    for (levels, mut cells) in tables {
        if is_finest(&levels) {
            finest = Some(cells.clone());
            let columns: Vec<usize> = (0..places).chain(first_fact..cells.num_columns()).collect();
            cells = cells.project(&columns)?;
        }
        cuboids.push(Cuboid { levels, cells });
    }
    let cells = finest.ok_or_else(|| internal("a lattice without a finest table"))?;
    Ok(Read { cuboids, cells })
}

/// The levels of every table over `axes`, 0 for an axis that is rolled up to all.
#[must_use]
pub fn levels(axes: &[Axis]) -> Vec<Vec<usize>> {
    let mut tables = vec![Vec::new()];
    for axis in axes {
        let longer = |levels: Vec<usize>| {
            (0..=axis.coarser.len()).map(move |level| {
                let mut levels = levels.clone();
                levels.push(level);
                levels
            })
        };
        tables = tables.into_iter().flat_map(longer).collect();
    }
    tables
}

/// Whether a table is the finest of its lattice.
#[must_use]
pub fn is_finest(levels: &[usize]) -> bool {
    levels.iter().all(|level| *level == 1)
}
