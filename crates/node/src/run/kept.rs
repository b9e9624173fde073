//! Tables that are kept, and how those of a smaller lattice are taken from them.
//!
//! A lattice lies within another if each of its axes does within one of the other's, and its totals are among the
//! other's. Then each of its tables is one of the other's: over the same rows, by the same keys, with the same units in each
//! cell. What is withheld of them is not taken over: it is decided anew, over the smaller lattice's own tables, as if they had been
//! gathered for it alone.

use super::lattice::{Lattice, TotalKey};
use arrow::array::{ArrayRef, RecordBatch};
use guildhall_cube::{is_finest, levels};
use guildhall_disclosure::joint::Tables;
use guildhall_disclosure::{Facts, keys_of};
use guildhall_plan::cube::CubeLevel;
use std::collections::HashMap;
use std::fmt;

/// Every table of a lattice. `Debug` shows its shape.
pub(crate) struct Kept {
    levels: Vec<Vec<CubeLevel>>,
    totals: Vec<TotalKey>,
    tables: HashMap<Vec<usize>, KeptTable>,
    bytes: usize,
}

/// One table, each row of which has its keys at every level that it lies within.
pub(crate) struct KeptTable {
    /// The axes and levels of the key columns, which the facts follow.
    pub(crate) keys: Vec<(usize, usize)>,
    pub(crate) cells: RecordBatch,
}

/// Where a lattice lies in another.
struct Within {
    /// For each axis the other's, and there its levels in order.
    axes: Vec<(usize, Vec<usize>)>,
    /// For each total the other's.
    totals: Vec<usize>,
}

impl Kept {
    pub(crate) fn new(
        levels: Vec<Vec<CubeLevel>>,
        totals: Vec<TotalKey>,
        tables: Vec<(Vec<usize>, KeptTable)>,
    ) -> Self {
        let bytes = tables.iter().map(|(_, t)| t.cells.get_array_memory_size());
        Self {
            levels,
            totals,
            bytes: bytes.fold(0, usize::saturating_add),
            tables: tables.into_iter().collect(),
        }
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many tables there are, and cells in the finest of them.
    pub(crate) fn size(&self) -> (usize, usize) {
        let cells = self.tables.values().map(|t| t.cells.num_rows());
        (self.tables.len(), cells.max().unwrap_or(0))
    }

    /// Whether everything of `other` can be taken from here, too.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        self.within(&other.levels, &other.totals).is_some()
    }

    /// Whether `lattice` lies within.
    pub(crate) fn covers(&self, lattice: &Lattice) -> bool {
        self.within(&lattice.levels, &lattice.totals).is_some()
    }

    /// The tables of `lattice` as they would be gathered for it alone, but for the order of rows; none if it does not lie
    /// within.
    pub(crate) fn tables_of(&self, lattice: &Lattice) -> Option<Tables> {
        let within = self.within(&lattice.levels, &lattice.totals)?;
        let tables = levels(&lattice.axes).into_iter().map(|levels| {
            let cells = self.table(lattice, &within, &levels)?;
            Some((levels, cells))
        });
        tables.collect()
    }

    fn within(&self, levels: &[Vec<CubeLevel>], totals: &[TotalKey]) -> Option<Within> {
        let mut axes: Vec<(usize, Vec<usize>)> = Vec::new();
        for axis in levels {
            let free = self.levels.iter().enumerate();
            let mut free = free.filter(|(at, _)| !axes.iter().any(|(taken, _)| taken == at));
            let place = free.find_map(|(at, own)| Some((at, places(axis, own)?)))?;
            axes.push(place);
        }
        let totals = totals
            .iter()
            .map(|t| self.totals.iter().position(|o| o == t));
        Some(Within {
            axes,
            totals: totals.collect::<Option<_>>()?,
        })
    }

    /// One table of `lattice`, whose finest one has its other levels, too.
    fn table(&self, lattice: &Lattice, within: &Within, levels: &[usize]) -> Option<RecordBatch> {
        let mut own = vec![0; self.levels.len()];
        for ((axis, at), level) in within.axes.iter().zip(levels) {
            if let Some(level) = level.checked_sub(1) {
                *own.get_mut(*axis)? = *at.get(level)?;
            }
        }
        let table = self.tables.get(&own)?;
        let mut keys = keys_of(&lattice.axes, levels);
        if is_finest(levels) {
            keys.extend(&lattice.more);
        }
        let mut columns = Vec::with_capacity(keys.len());
        for (axis, level) in keys {
            let (axis, at) = within.axes.get(axis)?;
            let key = (*axis, *at.get(level.checked_sub(1)?)?);
            columns.push(table.keys.iter().position(|k| *k == key)?);
        }
        let facts = |total: usize| table.keys.len().checked_add(Facts::gathered_columns(total));
        columns.extend(table.keys.len()..facts(0)?);
        for total in &within.totals {
            columns.extend(facts(*total)?..facts(total.checked_add(1)?)?);
        }
        let taken = columns.iter().map(|at| table.cells.columns().get(*at));
        named(
            taken.map(|c| c.cloned()).collect::<Option<_>>()?,
            &table.cells,
        )
    }
}

/// Where each of these levels is among `own`, by numbers from 1.
fn places(levels: &[CubeLevel], own: &[CubeLevel]) -> Option<Vec<usize>> {
    let place = |level: &CubeLevel| {
        let at = own.iter().position(|o| o.is_same(level))?;
        at.checked_add(1)
    };
    levels.iter().map(place).collect()
}

/// A table of these columns, with as many rows as `like`.
fn named(columns: Vec<ArrayRef>, like: &RecordBatch) -> Option<RecordBatch> {
    let named = columns.into_iter().enumerate();
    let named = named.map(|(at, column)| (format!("c{at}"), column, true));
    let table = RecordBatch::try_from_iter_with_nullable(named).ok()?;
    (table.num_rows() == like.num_rows()).then_some(table)
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("tables", &self.tables.len())
            .field("totals", &self.totals.len())
            .finish_non_exhaustive()
    }
}
