//! From rows to units: who is in which cell, and what their rows add up to there.
//!
//! Every table of a lattice is about the same rows, so they are read once. A [`Gathering`] takes them batch by batch
//! and keeps one entry for each unit in each of the finest cells; [`Gathered`] makes the tables of it. Several may share
//! the rows of different units among them ([`Gathered::joined`]).
//!
//! Sums are of whole numbers, so that their order does not matter: the same rows give the same facts.

use crate::amounts::Amounts;
use crate::entries::{Entries, NOWHERE};
use crate::names::Names;
use crate::noise::NoiseSecret;
use crate::release::ReleaseError;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, UInt32Array, UInt64Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{Decimal128Type, UInt64Type};
use std::fmt;
use std::ops::Range;

/// Entries of all that share rows after which those of the same unit and cell are taken together for the first time.
const COMPACT_AT: usize = 1 << 23;

/// Rows that are numbered at a time: few enough for what is made of them to stay in a processor's own memory.
const STEP: usize = 1 << 12;

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
    // Invariant: no unit is in two of them.
    pub(crate) parts: Vec<Part>,
}

/// What one gathering has made of its units.
pub(crate) struct Part {
    /// The record key of each unit, by its number.
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

    /// The same as one of so many that share the rows, which together take as much memory as one alone.
    #[must_use]
    pub fn one_of(self, gatherings: usize) -> Self {
        let compact_at = self.compact_at.div_ceil(gatherings.max(1));
        Self { compact_at, ..self }
    }

    /// Takes rows: where each is at every level of every axis, whose it is, and its values. A row of nobody (NULL) is
    /// in no cell.
    ///
    /// Fails if the columns are of different lengths, or of other types than before, or the values are not there.
    pub fn push(
        &mut self,
        keys: &[ArrayRef],
        unit: &ArrayRef,
        values: &[ArrayRef],
    ) -> Result<(), ReleaseError> {
        self.push_rows(keys, unit, values, None)
    }

    /// The same, of units whose record keys are told with their rows, the same in each row of a unit.
    pub fn push_keyed(
        &mut self,
        keys: &[ArrayRef],
        unit: &ArrayRef,
        values: &[ArrayRef],
        records: &UInt64Array,
    ) -> Result<(), ReleaseError> {
        match records.len() == unit.len() {
            true => self.push_rows(keys, unit, values, Some(records)),
            false => Err(ReleaseError::Shape),
        }
    }

    fn push_rows(
        &mut self,
        keys: &[ArrayRef],
        unit: &ArrayRef,
        values: &[ArrayRef],
        records: Option<&UInt64Array>,
    ) -> Result<(), ReleaseError> {
        let rows = unit.len();
        if keys.iter().chain(values).any(|c| c.len() != rows) {
            return Err(ReleaseError::Shape);
        }
        let mut new = (Vec::new(), Vec::new());
        // No rows have columns, too.
        for start in (0..rows.max(1)).step_by(STEP) {
            let some = start..rows.min(start.saturating_add(STEP));
            self.push_some(keys, unit, values, some, &mut new)?;
        }
        let (cells, units) = (UInt32Array::from(new.0), UInt32Array::from(new.1));
        if self.keys.is_empty() || !cells.is_empty() {
            self.keys.push(taken(keys, &cells)?);
        }
        let records = match records {
            Some(records) => take(records, &units, None)?
                .as_primitive::<UInt64Type>()
                .clone(),
            None => self.secret.record_keys(&take(unit, &units, None)?)?,
        };
        self.records
            .extend(records.iter().map(Option::unwrap_or_default));
        if self.entries.len() >= self.compact_at {
            self.compact();
            self.compact_at = self.compact_at.max(self.entries.len().saturating_mul(2));
        }
        Ok(())
    }

    /// Takes `some` of the rows, and tells which of them are the first of a cell and of a unit.
    fn push_some(
        &mut self,
        keys: &[ArrayRef],
        unit: &ArrayRef,
        values: &[ArrayRef],
        some: Range<usize>,
        new: &mut (Vec<u32>, Vec<u32>),
    ) -> Result<(), ReleaseError> {
        let given = Given::read(&self.adds, values)?;
        let slice = |column: &ArrayRef| column.slice(some.start, some.len());
        let keys: Vec<ArrayRef> = keys.iter().map(slice).collect();
        let (cells, new_cells) = self.cells.number(&keys, some.len())?;
        let (units, new_units) = self.units.number(&[slice(unit)], some.len())?;
        let start = u32::try_from(some.start).map_err(|_| ReleaseError::Shape)?;
        new.0
            .extend(new_cells.values().iter().map(|row| start + row));
        new.1
            .extend(new_units.values().iter().map(|row| start + row));
        let first = some.start;
        let places = self
            .entries
            .places(&units, &cells, |row| unit.is_valid(first + row))?;
        given.add(first, &places, &mut self.entries.totals);
        Ok(())
    }

    fn compact(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        self.entries = entries.compacted(self.records.len(), self.cells.len());
    }

    /// The same, taking entries together sooner or later.
    #[cfg(test)]
    pub(crate) fn compacting_at(self, compact_at: usize) -> Self {
        Self { compact_at, ..self }
    }

    /// How many of the finest cells there are so far.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.cells.len()
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
        let records = self.records.capacity().saturating_mul(size_of::<u64>());
        keys.fold(names, usize::saturating_add)
            .saturating_add(records)
            .saturating_add(self.entries.bytes())
    }

    /// All that there is to know of the rows.
    pub fn finish(mut self) -> Result<Gathered, ReleaseError> {
        self.compact();
        let pieces: Vec<&[ArrayRef]> = self.keys.iter().map(Vec::as_slice).collect();
        Ok(Gathered {
            keys: joined(&pieces)?,
            cells: self.cells.len(),
            adds: self.adds,
            parts: vec![Part {
                records: self.records,
                entries: self.entries,
            }],
        })
    }
}

impl Gathered {
    /// What several gatherings have made of rows of different units, as one would have made of all of them.
    ///
    /// A unit that is in two of them counts twice: it is for the caller to deal rows out by their units. Fails if they
    /// are of different totals or keys, and for none.
    pub fn joined(all: Vec<Self>) -> Result<Self, ReleaseError> {
        let adds = all.first().map(|first| first.adds.clone());
        let adds = adds.ok_or(ReleaseError::Shape)?;
        let keys: Vec<&[ArrayRef]> = all.iter().map(|one| one.keys.as_slice()).collect();
        if all.iter().any(|one| one.adds != adds)
            || keys.windows(2).any(|k| k[0].len() != k[1].len())
        {
            return Err(ReleaseError::Shape);
        }
        let keys = joined(&keys)?;
        let cells = all
            .iter()
            .map(|one| one.cells)
            .fold(0, usize::saturating_add);
        let (numbers, first) = Names::default().number(&keys, cells)?;
        let (mut numbers, mut parts) = (numbers.as_slice(), Vec::new());
        for one in all {
            let (own, others) = numbers.split_at(one.cells);
            parts.extend(one.parts.into_iter().map(|part| part.renumbered(own)));
            numbers = others;
        }
        Ok(Self {
            adds,
            keys: taken(&keys, &first)?,
            cells: first.len(),
            parts,
        })
    }

    /// How many of the finest cells there are.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// How many gatherings it comes from.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.parts.len()
    }
}

impl Part {
    fn renumbered(mut self, cells: &[u32]) -> Self {
        self.entries.renumber(cells);
        self
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

/// The columns that come in `pieces`, whole.
pub(crate) fn joined(pieces: &[&[ArrayRef]]) -> Result<Vec<ArrayRef>, ReleaseError> {
    let columns = pieces.first().map_or(0, |first| first.len());
    let column = |at: usize| {
        let pieces: Vec<&dyn Array> = pieces.iter().map(|piece| piece[at].as_ref()).collect();
        concat(&pieces)
    };
    Ok((0..columns).map(column).collect::<Result<_, _>>()?)
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

    /// Adds what each row from the `first` on gives to each total at the row's place.
    fn add(&self, first: usize, places: &[u32], totals: &mut [Amounts]) {
        for (adds, total) in self.adds.iter().zip(totals) {
            match adds.takes {
                Takes::Rows => add(places, total, |_| Some(1)),
                Takes::Values(column) => {
                    let values = self.values[column];
                    let one = |at| values.is_valid(first + at).then_some(1);
                    add(places, total, one);
                }
                Takes::Sum(column) => {
                    let values = self.values[column];
                    let value = |row| values.is_valid(row).then(|| values.value(row));
                    add(places, total, |at| value(first + at));
                }
            }
        }
    }
}

fn add(places: &[u32], total: &mut Amounts, value: impl Fn(usize) -> Option<i128>) {
    for (at, place) in places.iter().enumerate() {
        if *place != NOWHERE
            && let Some(value) = value(at)
        {
            total.add(*place as usize, value);
        }
    }
}
