//! The tables of a lattice: of each cell its units, and what is to be known of each of its totals.

use crate::facts::{Facts, Members, Total};
use crate::gather::{Adds, Gathered, Names, taken};
use crate::margins::Axis;
use crate::noise::Noise;
use crate::release::ReleaseError;
use arrow::array::{ArrayRef, Decimal128Array, RecordBatch, UInt64Array};
use arrow::datatypes::DECIMAL128_MAX_PRECISION;
use std::sync::Arc;

/// Columns about the units of a cell, and about each of its totals.
const UNITS: usize = 2;
const TOTAL: usize = 6;

impl Facts {
    /// The facts of the tables that [`Gathered`] makes: the totals by their ids, in order, and whether each is of ones.
    #[must_use]
    pub fn gathered(
        minimum_group: u32,
        totals: impl IntoIterator<Item = (String, bool)>,
        noise: Noise,
    ) -> Self {
        let members = |first| Members {
            count: first,
            key_sum: first + 1,
        };
        let total = |(at, (id, ones)): (usize, (String, bool))| {
            let first = UNITS + TOTAL * at;
            Total {
                id,
                members: members(first),
                sum: first + 2,
                largest: first + 3,
                second: first + 4,
                negatives: first + 5,
                ones,
            }
        };
        Self {
            minimum_group,
            units: members(0),
            totals: totals.into_iter().enumerate().map(total).collect(),
            noise,
        }
    }
}

impl Gathered {
    /// The table of a lattice at `levels`, laid out as a [`Cuboid`](crate::Cuboid)'s cells are, with the facts as
    /// [`Facts::gathered`] numbers them. Between keys and facts are the keys at `more`: axes and levels that the cells'
    /// own lie within.
    ///
    /// The rows that were gathered had a key for each level of each axis, in this order.
    pub fn table(
        &self,
        axes: &[Axis],
        levels: &[usize],
        more: &[(usize, usize)],
    ) -> Result<RecordBatch, ReleaseError> {
        let keys = self.columns(axes, &keys_of(axes, levels))?;
        let mut names = Names::default();
        let (cell_of, first) = names.number(&keys, self.cells)?;
        let facts = self.facts(&cell_of, first.len().max(usize::from(keys.is_empty())));
        let mut columns = taken(&keys, &first)?;
        columns.extend(taken(&self.columns(axes, more)?, &first)?);
        facts.write(&mut columns)?;
        let named = columns.into_iter().enumerate();
        let named = named.map(|(at, column)| (format!("c{at}"), column, true));
        Ok(RecordBatch::try_from_iter_with_nullable(named)?)
    }

    /// The keys at these axes and levels; of no cells, none.
    fn columns(
        &self,
        axes: &[Axis],
        levels: &[(usize, usize)],
    ) -> Result<Vec<ArrayRef>, ReleaseError> {
        let column = |(axis, level): &(usize, usize)| {
            let before = axes.iter().take(*axis).map(|a| a.coarser.len());
            let at = before.sum::<usize>() + level - 1;
            self.keys.get(at).cloned().ok_or(ReleaseError::Shape)
        };
        levels.iter().map(column).collect()
    }

    /// What is known of each of `cells` cells, of which `cell_of` says where each of the finest lies.
    fn facts(&self, cell_of: &[u32], cells: usize) -> Cells<'_> {
        let mut facts = Cells::new(&self.adds, cells);
        for (unit, entries) in self.entries.of_units() {
            for entry in entries {
                let cell = cell_of[self.entries.cells[entry] as usize];
                facts.add(unit, cell as usize, self.entries.given(entry));
            }
            facts.contribute(self.records[unit as usize]);
        }
        facts
    }
}

/// The axes and levels whose keys name the cells of a table.
fn keys_of(axes: &[Axis], levels: &[usize]) -> Vec<(usize, usize)> {
    let mut keys = Vec::new();
    for (at, (axis, level)) in axes.iter().zip(levels).enumerate() {
        if let Some(coarser) = level.checked_sub(1).and_then(|own| axis.coarser.get(own)) {
            keys.push((at, *level));
            keys.extend(coarser.iter().map(|level| (at, *level)));
        }
    }
    keys
}

/// What is known of the cells of one table so far.
struct Cells<'a> {
    adds: &'a [Adds],
    /// By cell.
    units: Vec<(u64, u64)>,
    /// By cell and total.
    totals: Vec<Contributions>,
    /// The unit whose entries are being added up: the cells that it is in, and what it has in each by cell and total.
    touched: Vec<usize>,
    seen: Vec<Option<u32>>,
    sums: Vec<Option<i128>>,
}

/// What units have contributed to one total in one cell.
#[derive(Debug, Clone, Copy, Default)]
struct Contributions {
    count: u64,
    key_sum: u64,
    sum: i128,
    largest: i128,
    second: i128,
    negatives: u64,
}

impl Contributions {
    fn add(&mut self, value: i128, record: u64) {
        self.count = self.count.saturating_add(1);
        self.key_sum = self.key_sum.wrapping_add(record);
        self.sum = self.sum.saturating_add(value);
        self.negatives = self.negatives.saturating_add(u64::from(value < 0));
        let size = value.saturating_abs();
        self.second = self.second.max(size.min(self.largest));
        self.largest = self.largest.max(size);
    }
}

impl<'a> Cells<'a> {
    fn new(adds: &'a [Adds], cells: usize) -> Self {
        let wide = cells.saturating_mul(adds.len());
        Self {
            adds,
            units: vec![(0, 0); cells],
            totals: vec![Contributions::default(); wide],
            touched: vec![],
            seen: vec![None; cells],
            sums: vec![None; wide],
        }
    }

    /// Adds what a unit has in a part of `cell` to what it has there.
    fn add(&mut self, unit: u32, cell: usize, given: impl Iterator<Item = Option<i128>>) {
        let first = cell * self.adds.len();
        if self.seen[cell] != Some(unit) {
            self.seen[cell] = Some(unit);
            self.touched.push(cell);
            self.sums[first..first + self.adds.len()].fill(None);
        }
        for (sum, value) in self.sums[first..].iter_mut().zip(given) {
            if let Some(value) = value {
                *sum = Some(sum.unwrap_or(0).saturating_add(value));
            }
        }
    }

    /// Counts the unit whose record key is `record` in each cell that it is in, and what it gives there, clamped.
    fn contribute(&mut self, record: u64) {
        for cell in self.touched.drain(..) {
            let (count, key_sum) = &mut self.units[cell];
            *count = count.saturating_add(1);
            *key_sum = key_sum.wrapping_add(record);
            let first = cell * self.adds.len();
            for (at, adds) in (first..).zip(self.adds) {
                if let Some(sum) = self.sums[at] {
                    // A product whose bounds cross is refused before.
                    let clamped = sum.min(adds.upper).max(adds.lower);
                    self.totals[at].add(clamped, record);
                }
            }
        }
    }

    fn write(&self, columns: &mut Vec<ArrayRef>) -> Result<(), ReleaseError> {
        let numbers = |values: &mut dyn Iterator<Item = u64>| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(values))
        };
        columns.push(numbers(&mut self.units.iter().map(|u| u.0)));
        columns.push(numbers(&mut self.units.iter().map(|u| u.1)));
        for (at, adds) in self.adds.iter().enumerate() {
            let of = || self.totals.iter().skip(at).step_by(self.adds.len());
            let amounts =
                |least: u64, pick: fn(&Contributions) -> i128| -> Result<ArrayRef, ReleaseError> {
                    let some = |c: &Contributions| (c.count >= least).then(|| pick(c));
                    let values: Decimal128Array = of().map(some).collect();
                    let typed =
                        values.with_precision_and_scale(DECIMAL128_MAX_PRECISION, adds.scale)?;
                    Ok(Arc::new(typed))
                };
            columns.push(numbers(&mut of().map(|c| c.count)));
            columns.push(numbers(&mut of().map(|c| c.key_sum)));
            columns.push(amounts(1, |c| c.sum)?);
            columns.push(amounts(1, |c| c.largest)?);
            columns.push(amounts(2, |c| c.second)?);
            columns.push(numbers(&mut of().map(|c| c.negatives)));
        }
        Ok(())
    }
}
