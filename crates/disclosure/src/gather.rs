//! From rows to units: who is in which cell, and what their rows add up to there.
//!
//! Every table of a lattice is about the same rows, so they are read once. A [`Gathering`] takes them batch by batch
//! and keeps one entry for each unit in each of the finest cells; [`Gathered`] makes the tables of it.
//!
//! Sums are of whole numbers, so that their order does not matter: the same rows give the same facts.

use crate::noise::NoiseSecret;
use crate::release::ReleaseError;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::Decimal128Type;
use arrow::row::{RowConverter, SortField};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

/// Entries after which those of the same unit and cell are taken together for the first time.
const COMPACT_AT: usize = 1 << 22;

/// How the total of one unit in one cell comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adds {
    /// What each row gives.
    pub takes: Takes,
    /// The least that a unit's total counts for, in units of the last digit.
    pub lower: i128,
    /// The most.
    pub upper: i128,
    /// How many digits are decimals.
    pub scale: i8,
}

/// What a row gives to a total. Columns count from the first column of values, which are `Decimal128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// One.
    Rows,
    /// One, if it has a value in this column.
    Values(usize),
    /// Its value in this column, if it has one.
    Sum(usize),
}

/// Rows of units on their way to a lattice's tables. `Debug` shows how many there are of what.
pub struct Gathering {
    secret: NoiseSecret,
    adds: Vec<Adds>,
    cells: Names,
    units: Names,
    /// The key columns of the cells, in the order of their numbers, in pieces.
    keys: Vec<Vec<ArrayRef>>,
    /// The record key of each unit, by its number.
    records: Vec<u64>,
    entries: Entries,
    compact_at: usize,
}

/// What [`Gathering`] has made of the rows; see [`Gathered::table`].
pub struct Gathered {
    pub(crate) adds: Vec<Adds>,
    /// The key columns, a row for each of the finest cells.
    pub(crate) keys: Vec<ArrayRef>,
    pub(crate) cells: usize,
    pub(crate) records: Vec<u64>,
    pub(crate) entries: Entries,
}

impl Gathering {
    /// For cells of units with record keys under `secret`, and so many totals.
    #[must_use]
    pub fn new(secret: NoiseSecret, adds: Vec<Adds>) -> Self {
        Self {
            secret,
            entries: Entries::of(adds.len()),
            adds,
            cells: Names::default(),
            units: Names::default(),
            keys: vec![],
            records: vec![],
            compact_at: COMPACT_AT,
        }
    }

    /// Takes rows: where each is at every level of every axis, whose it is, and its values. A row of nobody (NULL) is
    /// in no cell.
    ///
    /// Fails if the columns are of different lengths or the values are not there.
    pub fn push(
        &mut self,
        keys: &[ArrayRef],
        unit: &ArrayRef,
        values: &[ArrayRef],
    ) -> Result<(), ReleaseError> {
        let rows = unit.len();
        if keys.iter().chain(values).any(|c| c.len() != rows) {
            return Err(ReleaseError::Shape);
        }
        let given = Given::read(&self.adds, values)?;
        let (cells, new_cells) = self.cells.number(keys, rows)?;
        if self.keys.is_empty() || !new_cells.is_empty() {
            self.keys.push(taken(keys, &new_cells)?);
        }
        let (units, new_units) = self.units.number(std::slice::from_ref(unit), rows)?;
        let new_units = take(unit, &new_units, None)?;
        let records = self.secret.record_keys(&new_units)?;
        self.records
            .extend(records.iter().map(Option::unwrap_or_default));
        for row in (0..rows).filter(|row| unit.is_valid(*row)) {
            self.entries.push(units[row], cells[row], given.of(row));
        }
        if self.entries.len() >= self.compact_at {
            self.entries = self.entries.compacted(self.records.len());
            self.compact_at = self.compact_at.max(self.entries.len().saturating_mul(2));
        }
        Ok(())
    }

    /// The same, taking entries together sooner or later.
    #[cfg(test)]
    pub(crate) fn compacting_at(self, compact_at: usize) -> Self {
        Self { compact_at, ..self }
    }

    /// How many of the finest cells there are so far.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.cells.ids.len()
    }

    /// About how many bytes of memory it holds, with what it takes to finish.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let keys = self
            .keys
            .iter()
            .flatten()
            .map(|k| k.get_array_memory_size());
        let names = self.cells.bytes().saturating_add(self.units.bytes());
        let entries = self.entries.bytes().saturating_mul(2);
        keys.fold(names, usize::saturating_add)
            .saturating_add(entries)
    }

    /// All that there is to know of the rows.
    pub fn finish(self) -> Result<Gathered, ReleaseError> {
        let columns = self.keys.first().map_or(0, Vec::len);
        let column = |at: usize| {
            let pieces: Vec<&dyn Array> =
                self.keys.iter().map(|piece| piece[at].as_ref()).collect();
            concat(&pieces)
        };
        Ok(Gathered {
            keys: (0..columns).map(column).collect::<Result<_, _>>()?,
            cells: self.cells.ids.len(),
            entries: self.entries.compacted(self.records.len()),
            adds: self.adds,
            records: self.records,
        })
    }
}

impl fmt::Debug for Gathering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathering")
            .field("totals", &self.adds.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathered")
            .field("totals", &self.adds.len())
            .finish_non_exhaustive()
    }
}

/// The rows of `columns` that `rows` numbers.
pub(crate) fn taken(
    columns: &[ArrayRef],
    rows: &UInt32Array,
) -> Result<Vec<ArrayRef>, ReleaseError> {
    let columns = columns.iter().map(|c| take(c, rows, None));
    Ok(columns.collect::<Result<_, _>>()?)
}

/// Numbers for what has the same values, in the order in which it was first seen.
#[derive(Default)]
pub(crate) struct Names {
    converter: Option<RowConverter>,
    ids: HashMap<Box<[u8]>, u32>,
}

impl Names {
    /// The number of each row, and the rows that had none yet.
    pub(crate) fn number(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<(Vec<u32>, UInt32Array), ReleaseError> {
        let (mut numbers, mut new) = (Vec::with_capacity(rows), Vec::new());
        let names = self.names(columns)?;
        for row in 0..rows {
            let name = names.as_ref().map(|n| n.row(row));
            let name = name.as_ref().map_or(&[][..], AsRef::as_ref);
            let number = match self.ids.get(name) {
                Some(number) => *number,
                None => {
                    let next = u32::try_from(self.ids.len()).map_err(|_| ReleaseError::Shape)?;
                    self.ids.insert(name.into(), next);
                    new.push(u32::try_from(row).map_err(|_| ReleaseError::Shape)?);
                    next
                }
            };
            numbers.push(number);
        }
        Ok((numbers, UInt32Array::from(new)))
    }

    /// Rows of no column have one name, which is none.
    fn names(&mut self, columns: &[ArrayRef]) -> Result<Option<arrow::row::Rows>, ReleaseError> {
        if columns.is_empty() {
            return Ok(None);
        }
        if self.converter.is_none() {
            let fields = columns
                .iter()
                .map(|c| SortField::new(c.data_type().clone()));
            self.converter = Some(RowConverter::new(fields.collect())?);
        }
        let rows = self.converter.as_ref().map(|c| c.convert_columns(columns));
        Ok(rows.transpose()?)
    }

    fn bytes(&self) -> usize {
        /// Of a name, its number and its place in the table.
        const EACH: usize = 64;
        self.ids.len().saturating_mul(EACH)
    }
}

/// What the rows of a batch give to each total.
struct Given<'a> {
    adds: &'a [Adds],
    values: Vec<&'a Decimal128Array>,
}

impl<'a> Given<'a> {
    fn read(adds: &'a [Adds], values: &'a [ArrayRef]) -> Result<Self, ReleaseError> {
        let decimal = |v: &'a ArrayRef| v.as_primitive_opt::<Decimal128Type>();
        let values: Option<Vec<_>> = values.iter().map(decimal).collect();
        let values = values.ok_or(ReleaseError::Shape)?;
        let there = |a: &Adds| match a.takes {
            Takes::Rows => true,
            Takes::Values(column) => column < values.len(),
            // Invariant: a value in other units than the bounds is added to nothing.
            Takes::Sum(column) => values.get(column).is_some_and(|v| v.scale() == a.scale),
        };
        match adds.iter().all(there) {
            true => Ok(Self { adds, values }),
            false => Err(ReleaseError::Shape),
        }
    }

    fn of(&self, row: usize) -> impl Iterator<Item = Option<i128>> + '_ {
        self.adds.iter().map(move |adds| match adds.takes {
            Takes::Rows => Some(1),
            Takes::Values(column) => self.values[column].is_valid(row).then_some(1),
            Takes::Sum(column) => {
                let values = self.values[column];
                values.is_valid(row).then(|| values.value(row))
            }
        })
    }
}

/// What units have in the finest cells, by the units' and the cells' numbers.
pub(crate) struct Entries {
    totals: usize,
    units: Vec<u32>,
    pub(crate) cells: Vec<u32>,
    /// For each entry as many as there are totals: what was given, and whether anything was.
    sums: Vec<i128>,
    given: Vec<bool>,
}

impl Entries {
    fn of(totals: usize) -> Self {
        Self {
            totals,
            units: vec![],
            cells: vec![],
            sums: vec![],
            given: vec![],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.units.len()
    }

    fn bytes(&self) -> usize {
        let totals = self.totals.saturating_mul(size_of::<i128>() + 1);
        let each = totals.saturating_add(2 * size_of::<u32>() + size_of::<usize>());
        self.units.capacity().saturating_mul(each)
    }

    fn push(&mut self, unit: u32, cell: u32, given: impl Iterator<Item = Option<i128>>) {
        self.units.push(unit);
        self.cells.push(cell);
        for value in given {
            self.sums.push(value.unwrap_or(0));
            self.given.push(value.is_some());
        }
    }

    /// What an entry gives to each total.
    pub(crate) fn given(&self, entry: usize) -> impl Iterator<Item = Option<i128>> + '_ {
        let totals = entry * self.totals..(entry + 1) * self.totals;
        let pairs = self.sums[totals.clone()].iter().zip(&self.given[totals]);
        pairs.map(|(sum, given)| given.then_some(*sum))
    }

    /// The same, of each unit in each cell one, in the order of units and then cells.
    fn compacted(&self, units: usize) -> Self {
        let mut order = self.by_unit(units);
        for run in self.runs(&order) {
            order[run].sort_unstable_by_key(|entry| self.cells[*entry]);
        }
        let mut compacted = Self::of(self.totals);
        for entry in order {
            let of = (self.units[entry], self.cells[entry]);
            match (compacted.units.last(), compacted.cells.last()) {
                (Some(unit), Some(cell)) if (*unit, *cell) == of => compacted.add(self, entry),
                _ => compacted.push(of.0, of.1, self.given(entry)),
            }
        }
        compacted
    }

    /// Adds an entry of `other` to the last one.
    fn add(&mut self, other: &Self, entry: usize) {
        let last = self.sums.len() - self.totals;
        for (at, value) in (last..).zip(other.given(entry)) {
            if let Some(value) = value {
                self.sums[at] = self.sums[at].saturating_add(value);
                self.given[at] = true;
            }
        }
    }

    /// The entries in the order of their units, by counting.
    fn by_unit(&self, units: usize) -> Vec<usize> {
        let mut next = vec![0_usize; units + 1];
        for unit in &self.units {
            next[*unit as usize + 1] += 1;
        }
        for unit in 0..units {
            next[unit + 1] += next[unit];
        }
        let mut order = vec![0; self.len()];
        for (entry, unit) in self.units.iter().enumerate() {
            let place = &mut next[*unit as usize];
            order[*place] = entry;
            *place += 1;
        }
        order
    }

    /// Where in `order`, which is by units, the entries of each unit are.
    fn runs(&self, order: &[usize]) -> Vec<Range<usize>> {
        let (mut runs, mut start) = (Vec::new(), 0);
        for run in order.chunk_by(|a, b| self.units[*a] == self.units[*b]) {
            runs.push(start..start + run.len());
            start += run.len();
        }
        runs
    }

    /// The entries of one unit after the other, with its number; they are in the order of units.
    pub(crate) fn of_units(&self) -> impl Iterator<Item = (u32, Range<usize>)> + '_ {
        let mut start = 0;
        self.units.chunk_by(|a, b| a == b).map(move |run| {
            let entries = start..start + run.len();
            start = entries.end;
            (run[0], entries)
        })
    }
}
