//! The tables of a lattice: of each cell its units, and what is to be known of each of its totals.

use crate::amounts::Amounts;
use crate::entries::Merged;
use crate::facts::{Facts, Members, Total};
use crate::gather::{Adds, Gathered, Part, joined, taken};
use crate::margins::Axis;
use crate::names::Names;
use crate::noise::Noise;
use crate::release::ReleaseError;
use arrow::array::{ArrayRef, Decimal128Array, RecordBatch, UInt64Array};
use arrow::datatypes::DECIMAL128_MAX_PRECISION;
use std::fmt;
use std::ops::Range;
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
            parts: None,
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

    /// How many columns those are. Those of a total follow those of the totals before it.
    #[must_use]
    pub fn gathered_columns(totals: usize) -> usize {
        UNITS.saturating_add(TOTAL.saturating_mul(totals))
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
        self.tally(axes, levels, more, 0..self.parts())?.table()
    }

    /// What the units of some of the [parts](Self::parts) bring to the table at `levels`. Those of all parts are to be
    /// [merged](Tally::merge).
    pub fn tally(
        &self,
        axes: &[Axis],
        levels: &[usize],
        more: &[(usize, usize)],
        parts: Range<usize>,
    ) -> Result<Tally, ReleaseError> {
        let keys = self.columns(axes, &keys_of(axes, levels))?;
        let (cell_of, first) = Names::default().number(&keys, self.cells)?;
        let cells = first.len().max(usize::from(keys.is_empty()));
        let mut columns = taken(&keys, &first)?;
        columns.extend(taken(&self.columns(axes, more)?, &first)?);
        let mut tally = Tally::new(columns, &self.adds, cells);
        for part in self.parts.get(parts).ok_or(ReleaseError::Shape)? {
            tally.count(part, &cell_of);
        }
        Ok(tally)
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
}

/// The axes and levels whose keys name the cells of the table at `levels`, in the order of its columns.
#[must_use]
pub fn keys_of(axes: &[Axis], levels: &[usize]) -> Vec<(usize, usize)> {
    let mut keys = Vec::new();
    for (at, (axis, level)) in axes.iter().zip(levels).enumerate() {
        if let Some(coarser) = level.checked_sub(1).and_then(|own| axis.coarser.get(own)) {
            keys.push((at, *level));
            keys.extend(coarser.iter().map(|level| (at, *level)));
        }
    }
    keys
}

/// What units bring to the cells of one table; each is counted once. `Debug` shows its shape.
pub struct Tally {
    /// The columns that name the cells.
    keys: Vec<ArrayRef>,
    adds: Vec<Adds>,
    /// By cell the count of units, and the sum of their record keys.
    units: Vec<(u64, u64)>,
    /// By total and cell.
    totals: Vec<Vec<Contributions>>,
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

    /// Adds what other units have contributed.
    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.key_sum = self.key_sum.wrapping_add(other.key_sum);
        self.sum = self.sum.saturating_add(other.sum);
        self.negatives = self.negatives.saturating_add(other.negatives);
        let seconds = self.second.max(other.second);
        self.second = seconds.max(self.largest.min(other.largest));
        self.largest = self.largest.max(other.largest);
    }
}

impl Tally {
    fn new(keys: Vec<ArrayRef>, adds: &[Adds], cells: usize) -> Self {
        let none = vec![Contributions::default(); cells];
        Self {
            keys,
            adds: adds.to_vec(),
            units: vec![(0, 0); cells],
            totals: vec![none; adds.len()],
        }
    }

    /// Counts the units of a part, where `cell_of` says in which cell each of the finest lies.
    fn count(&mut self, part: &Part, cell_of: &[u32]) {
        let entries = &part.entries;
        let mut slots = vec![0; self.units.len()];
        for chunk in entries.chunks() {
            let of = |entry| {
                let cell = entries.cells[entry];
                (entries.units[entry], cell_of[cell as usize])
            };
            let merged = Merged::of(chunk.clone().map(of), &mut slots);
            let member =
                |(unit, cell): (&u32, &u32)| (part.records[*unit as usize], *cell as usize);
            let members: Vec<_> = merged.units.iter().zip(&merged.cells).map(member).collect();
            self.count_units(&members);
            for (total, amounts) in entries.totals.iter().enumerate() {
                let sums = amounts.merged(chunk.clone(), &merged.becomes, members.len());
                self.count_sums(total, &members, &sums);
            }
        }
    }

    /// Counts units in cells: each by its record key, in each cell once.
    fn count_units(&mut self, members: &[(u64, usize)]) {
        for (record, cell) in members {
            let (count, key_sum) = &mut self.units[*cell];
            *count = count.saturating_add(1);
            *key_sum = key_sum.wrapping_add(*record);
        }
    }

    /// Counts what each of them gives to a total, clamped.
    fn count_sums(&mut self, total: usize, members: &[(u64, usize)], sums: &Amounts) {
        let (adds, cells) = (&self.adds[total], &mut self.totals[total]);
        for (at, (record, cell)) in members.iter().enumerate() {
            if let Some(sum) = sums.at(at) {
                // A product whose bounds cross is refused before.
                let clamped = sum.min(adds.upper).max(adds.lower);
                cells[*cell].add(clamped, *record);
            }
        }
    }

    /// Adds what units of other parts bring to the same table. A unit that is in both counts twice.
    ///
    /// Fails if it is of another table.
    pub fn merge(&mut self, other: &Self) -> Result<(), ReleaseError> {
        if self.adds != other.adds || self.units.len() != other.units.len() {
            return Err(ReleaseError::Shape);
        }
        for ((count, key_sum), (more, keys)) in self.units.iter_mut().zip(&other.units) {
            *count = count.saturating_add(*more);
            *key_sum = key_sum.wrapping_add(*keys);
        }
        let totals = self.totals.iter_mut().flatten();
        totals
            .zip(other.totals.iter().flatten())
            .for_each(|(total, other)| total.merge(other));
        Ok(())
    }

    /// What several tallies of one table say together, each of other units, whose cells may be others, too. A unit that
    /// is in two of them counts twice. The first `names` key columns tell cells apart.
    ///
    /// Fails if they are of different tables, and for none.
    pub fn joined(all: &[Self], names: usize) -> Result<Self, ReleaseError> {
        let first = all.first().ok_or(ReleaseError::Shape)?;
        let alike = |t: &Self| t.adds == first.adds && t.keys.len() == first.keys.len();
        if !all.iter().all(alike) {
            return Err(ReleaseError::Shape);
        }
        let pieces: Vec<&[ArrayRef]> = all.iter().map(|t| t.keys.as_slice()).collect();
        let keys = joined(&pieces)?;
        let cells = all.iter().map(|t| t.units.len());
        let cells = cells.fold(0, usize::saturating_add);
        let named = keys.get(..names).ok_or(ReleaseError::Shape)?;
        let (numbers, new) = Names::default().number(named, cells)?;
        let mut joined = Self::new(taken(&keys, &new)?, &first.adds, new.len());
        let mut numbers = numbers.as_slice();
        for one in all {
            let (own, others) = numbers.split_at(one.units.len());
            joined.add(one, own);
            numbers = others;
        }
        Ok(joined)
    }

    /// Adds what `one` says of its cells to those that these numbers name.
    fn add(&mut self, one: &Self, numbers: &[u32]) {
        for ((more, keys), cell) in one.units.iter().zip(numbers) {
            let (count, key_sum) = &mut self.units[*cell as usize];
            *count = count.saturating_add(*more);
            *key_sum = key_sum.wrapping_add(*keys);
        }
        for (total, more) in self.totals.iter_mut().zip(&one.totals) {
            for (more, cell) in more.iter().zip(numbers) {
                total[*cell as usize].merge(more);
            }
        }
    }

    /// How many cells the table has.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.units.len()
    }

    /// The table.
    pub fn table(self) -> Result<RecordBatch, ReleaseError> {
        let mut columns = self.keys;
        columns.push(numbers(self.units.iter().map(|u| u.0)));
        columns.push(numbers(self.units.iter().map(|u| u.1)));
        for (total, adds) in self.totals.iter().zip(&self.adds) {
            columns.extend(written(total, adds.scale)?);
        }
        let named = columns.into_iter().enumerate();
        let named = named.map(|(at, column)| (format!("c{at}"), column, true));
        Ok(RecordBatch::try_from_iter_with_nullable(named)?)
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally")
            .field("totals", &self.adds.len())
            .finish_non_exhaustive()
    }
}

/// The columns of one total, which has so many decimals.
fn written(total: &[Contributions], scale: i8) -> Result<[ArrayRef; TOTAL], ReleaseError> {
    let amounts =
        |least: u64, pick: fn(&Contributions) -> i128| -> Result<ArrayRef, ReleaseError> {
            let some = |c: &Contributions| (c.count >= least).then(|| pick(c));
            let values: Decimal128Array = total.iter().map(some).collect();
            let typed = values.with_precision_and_scale(DECIMAL128_MAX_PRECISION, scale)?;
            Ok(Arc::new(typed))
        };
    Ok([
        numbers(total.iter().map(|c| c.count)),
        numbers(total.iter().map(|c| c.key_sum)),
        amounts(1, |c| c.sum)?,
        amounts(1, |c| c.largest)?,
        amounts(2, |c| c.second)?,
        numbers(total.iter().map(|c| c.negatives)),
    ])
}

fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}
