//! What is known of each cell, and whether it passes on its own: the primary rules.
//!
//! The gate and the pattern of margins both judge by [`Weighed`], so they cannot disagree on what fails.

use crate::dominance;
use crate::noise::{Drawn, Noise};
use crate::release::ReleaseError;
use arrow::array::{Array, AsArray, BooleanArray, Decimal128Array, RecordBatch, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Schema, UInt64Type};

/// The facts of a cell that its rules look at, none of which leaves as it is.
///
/// All column numbers count from the first column of facts: keys come before them, and how many differs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The least number of distinct units (k) that a cell or value may stand on; 2 at least.
    pub minimum_group: u32,
    /// Who is in the cell.
    pub units: Members,
    /// The totals over it.
    pub totals: Vec<Total>,
    /// What noise is drawn with.
    pub noise: Noise,
}

/// Columns about a set of distinct units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Members {
    /// How many; an integer.
    pub count: usize,
    /// The wrapping sum of their record keys; `UInt64`.
    pub key_sum: usize,
    /// Of cells that were put together of several owners' parts, what is known of those.
    pub parts: Option<Parts>,
}

/// Columns about the parts of a set of units that several owners have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Which owners have some: a bit each; `UInt64`.
    pub owners: usize,
    /// Whether what its owners withhold of it by themselves may be told together ([`crate::joint`]); `Boolean`.
    pub fit: usize,
}

/// A total over the cell: the sum over its contributors, the units that have a value, of each one's clamped total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// What it is a total of, such as `rows` or `sum:sessions.paid`. Its noise depends on this and on its contributors.
    pub id: String,
    /// The contributors.
    pub members: Members,
    /// The sum; an integer or a `Decimal128`.
    pub sum: usize,
    /// The largest contribution by absolute value, of the sum's type; NULL if there is none.
    pub largest: usize,
    /// The second largest, likewise.
    pub second: usize,
    /// How many contributors are below 0; an integer.
    pub negatives: usize,
    /// Whether every contribution is 1 by what the product declares, not by what the data happen to be: such a total is
    /// the count of its contributors, and has that count's noise alone.
    pub ones: bool,
}

/// The share of the largest contribution that one step of a sum's own noise moves it by: one part in so many.
const STEP_PARTS: i128 = 20;
/// No decimal of 38 digits reaches this.
const TOO_LARGE: i128 = 10_i128.pow(DECIMAL128_MAX_PRECISION as u32);

impl Facts {
    /// Fails unless the columns from `first` on are there and of the types that are read.
    pub(crate) fn check(&self, input: &Schema, first: usize) -> Result<(), ReleaseError> {
        if self.minimum_group < 2 {
            let k = self.minimum_group;
            return Err(wrong(format!("a minimum group of {k} protects nobody")));
        }
        let columns = Columns { input, first };
        columns.members(self.units)?;
        for (at, total) in self.totals.iter().enumerate() {
            columns.total(total)?;
            if self.totals.iter().take(at).any(|t| t.id == total.id) {
                return Err(wrong(format!("two totals are called `{}`", total.id)));
            }
        }
        Ok(())
    }

    /// Whether a total is the count of its contributors by declaration.
    pub(crate) fn is_count(&self, total: usize) -> bool {
        self.totals.get(total).is_some_and(|t| t.ones)
    }
}

struct Columns<'a> {
    input: &'a Schema,
    first: usize,
}

impl Columns<'_> {
    fn data_type(&self, column: usize) -> Result<&DataType, ReleaseError> {
        let column = self.first.saturating_add(column);
        let field = self.input.fields().get(column);
        field.map(|f| f.data_type()).ok_or_else(|| {
            let columns = self.input.fields().len();
            wrong(format!("column {column} of {columns}"))
        })
    }

    fn integer(&self, column: usize) -> Result<(), ReleaseError> {
        match self.data_type(column)?.is_integer() {
            true => Ok(()),
            false => Err(wrong(format!("column {column} of the facts is no count"))),
        }
    }

    fn members(&self, members: Members) -> Result<(), ReleaseError> {
        self.integer(members.count)?;
        if let Some(parts) = members.parts {
            let typed = [
                (parts.owners, DataType::UInt64),
                (parts.fit, DataType::Boolean),
            ];
            for (column, data_type) in typed {
                if *self.data_type(column)? != data_type {
                    return Err(wrong(format!("column {column} is not about parts")));
                }
            }
        }
        match self.data_type(members.key_sum)? {
            DataType::UInt64 => Ok(()),
            _ => Err(wrong(format!(
                "column {} of the facts is no sum of record keys",
                members.key_sum
            ))),
        }
    }

    fn total(&self, total: &Total) -> Result<(), ReleaseError> {
        self.members(total.members)?;
        self.integer(total.negatives)?;
        let sum = self.data_type(total.sum)?;
        let readable = sum.is_integer() || matches!(sum, DataType::Decimal128(_, s) if *s >= 0);
        for column in [total.largest, total.second] {
            if !readable || !alike(self.data_type(column)?, sum) {
                return Err(wrong(format!("total `{}` is no exact number", total.id)));
            }
        }
        Ok(())
    }
}

/// Whether two numbers have the same last digit.
fn alike(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::Decimal128(_, a), DataType::Decimal128(_, b)) => a == b,
        (a, b) => a.is_integer() && b.is_integer(),
    }
}

fn wrong(what: String) -> ReleaseError {
    ReleaseError::Rule { what }
}

/// The facts of the cells of one batch, read.
pub(crate) struct Weighed<'a> {
    facts: &'a Facts,
    rows: usize,
    units: Sets,
    totals: Vec<Amounts>,
}

/// A set of units for each cell. What cannot be read is no set, and stands on nobody.
struct Sets {
    counts: UInt64Array,
    key_sums: UInt64Array,
    /// Where the noise of the count is drawn; decides ties, too.
    indices: Vec<u64>,
    /// Of sets of several owners: which of them have some, and whether the set may be told for what they withhold.
    parts: Option<(UInt64Array, BooleanArray)>,
}

impl Sets {
    /// The owners that have some, a bit each; 0 where there is one owner alone.
    fn owners(&self, row: usize) -> u64 {
        self.parts
            .as_ref()
            .map_or(0, |(owners, _)| number(owners, row).unwrap_or_default())
    }

    /// Whether it may be told for what its owners withhold of it by themselves.
    fn fit(&self, row: usize) -> bool {
        self.parts
            .as_ref()
            .is_none_or(|(_, fit)| row < fit.len() && fit.is_valid(row) && fit.value(row))
    }
}

struct Amounts {
    members: Sets,
    scale: i8,
    sum: Decimal128Array,
    largest: Decimal128Array,
    second: Decimal128Array,
    negatives: UInt64Array,
}

/// The largest contributions of a total, and the total.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Amount {
    pub(crate) sum: i128,
    pub(crate) largest: i128,
    pub(crate) second: i128,
}

impl Amount {
    /// With what others give, none of whom is among these; none if that is too large.
    pub(crate) fn with(self, other: Self) -> Option<Self> {
        Some(Self {
            sum: self.sum.checked_add(other.sum)?,
            largest: self.largest.max(other.largest),
            second: self
                .largest
                .min(other.largest)
                .max(self.second.max(other.second)),
        })
    }
}

/// What is known of a set of units, as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartFacts {
    pub(crate) count: u64,
    pub(crate) key_sum: u64,
    /// How many of them give less than 0; of the units of a cell, none.
    pub(crate) negatives: u64,
}

impl<'a> Weighed<'a> {
    /// Reads the facts of `batch`, which start at its column `first`; [`Facts::check`] has passed.
    pub(crate) fn read(
        facts: &'a Facts,
        batch: &RecordBatch,
        first: usize,
    ) -> Result<Self, ReleaseError> {
        let input = Input {
            facts,
            batch,
            first,
        };
        Ok(Self {
            facts,
            rows: batch.num_rows(),
            units: input.sets(facts.units)?,
            totals: facts
                .totals
                .iter()
                .map(|t| input.amounts(t))
                .collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn totals(&self) -> usize {
        self.totals.len()
    }

    pub(crate) fn minimum_group(&self) -> u32 {
        self.facts.minimum_group
    }

    /// Whether the cell has enough units, before and after noise.
    pub(crate) fn stands(&self, row: usize) -> bool {
        self.enough(&self.units, row)
    }

    /// Whether the total has enough contributors, before and after noise, and none of them dominates it.
    ///
    /// Says nothing of the cell, on which the total depends as well.
    pub(crate) fn total_passes(&self, total: usize, row: usize) -> bool {
        let Some(amounts) = self.totals.get(total) else {
            return false;
        };
        let all_positive = number(&amounts.negatives, row) == Some(0);
        let amount = amounts.amount(row);
        self.enough(&amounts.members, row)
            && all_positive
            && amount.is_some_and(|a| dominance::passes(a.sum, a.largest, a.second))
    }

    /// The units of the cell, or the contributors of one of its totals.
    pub(crate) fn members(&self, statistic: Statistic, row: usize) -> u64 {
        self.sets(statistic)
            .and_then(|s| number(&s.counts, row))
            .unwrap_or(0)
    }

    /// The set that a statistic stands on, for it to be put together with others.
    pub(crate) fn part(&self, statistic: Statistic, row: usize) -> PartFacts {
        let of = |column: &UInt64Array| number(column, row).unwrap_or_default();
        let negatives = match statistic {
            Statistic::Units => 0,
            Statistic::Total(total) => self.totals.get(total).map_or(0, |t| of(&t.negatives)),
        };
        let sets = self.sets(statistic);
        PartFacts {
            count: sets.map_or(0, |s| of(&s.counts)),
            key_sum: sets.map_or(0, |s| of(&s.key_sums)),
            negatives,
        }
    }

    /// Decides between cells with as many members: secret, and a function of who is in the cell.
    pub(crate) fn tie(&self, statistic: Statistic, row: usize) -> u64 {
        self.sets(statistic)
            .and_then(|s| s.indices.get(row).copied())
            .unwrap_or(0)
    }

    /// What a total adds up to, and its largest contributions; none for the count of units.
    pub(crate) fn amount(&self, statistic: Statistic, row: usize) -> Option<Amount> {
        match statistic {
            Statistic::Units => None,
            Statistic::Total(total) => self.totals.get(total)?.amount(row),
        }
    }

    /// The count of units with its noise.
    pub(crate) fn published_units(&self, row: usize) -> Option<i64> {
        let n = number(&self.units.counts, row)?;
        i64::try_from(n)
            .ok()?
            .checked_add(self.step(&self.units, row)?)
    }

    /// The total with its noise, in units of its last digit.
    ///
    /// The count's noise goes into every total, as if so many mean contributors were more or fewer: so a total of parts
    /// that are nearly equal tells no more of how many they are than the count does, however many such totals there are.
    /// A total's own noise, a share of the largest contribution, hides what one contributor gives.
    pub(crate) fn published_total(&self, total: usize, row: usize) -> Option<i128> {
        let amounts = self.totals.get(total)?;
        let id = &self.facts.totals.get(total)?.id;
        let n = number(&amounts.members.counts, row)?;
        let key_sum = number(&amounts.members.key_sums, row)?;
        let noise = &self.facts.noise;
        let owners = amounts.members.owners(row);
        let drawn = Drawn::Total(total, id);
        let index = noise.draws.index(drawn, owners, key_sum, n);
        let own = noise.table.noise(n, index);
        let amount = amounts.amount(row)?;
        let size = match self.facts.is_count(total) {
            true => 0,
            false => (amount.largest / STEP_PARTS).max(1),
        };
        let shared = mean_parts(amount.sum, self.step(&amounts.members, row)?, n)?;
        let moved = amount
            .sum
            .checked_add(shared)?
            .checked_add(size.checked_mul(i128::from(own))?)?;
        (-TOO_LARGE < moved && moved < TOO_LARGE).then_some(moved)
    }

    /// How many digits of a published total are decimals.
    pub(crate) fn scale(&self, total: usize) -> i8 {
        self.totals.get(total).map_or(0, |t| t.scale)
    }

    fn sets(&self, statistic: Statistic) -> Option<&Sets> {
        match statistic {
            Statistic::Units => Some(&self.units),
            Statistic::Total(total) => self.totals.get(total).map(|t| &t.members),
        }
    }

    fn enough(&self, sets: &Sets, row: usize) -> bool {
        let minimum = i64::from(self.facts.minimum_group);
        let count = number(&sets.counts, row).and_then(|n| i64::try_from(n).ok());
        let noise = self.step(sets, row);
        let reaches =
            |n: i64, noise: i64| n >= minimum && n.checked_add(noise).is_some_and(|p| p >= minimum);
        sets.fit(row) && count.zip(noise).is_some_and(|(n, noise)| reaches(n, noise))
    }

    fn step(&self, sets: &Sets, row: usize) -> Option<i64> {
        let n = number(&sets.counts, row)?;
        number(&sets.key_sums, row)?;
        Some(self.facts.noise.table.noise(n, *sets.indices.get(row)?))
    }
}

/// So many times the mean of `n` contributions, to the nearest whole, halves up.
fn mean_parts(sum: i128, times: i64, n: u64) -> Option<i128> {
    let n = i128::from(n.max(1));
    let twice = sum.checked_mul(i128::from(times))?.checked_mul(2)?;
    twice.checked_add(n)?.checked_div_euclid(n.checked_mul(2)?)
}

/// What is published of a cell: the count of its units, or one of its totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statistic {
    Units,
    Total(usize),
}

impl Amounts {
    fn amount(&self, row: usize) -> Option<Amount> {
        let largest = decimal(&self.largest, row)?.checked_abs()?;
        let second = decimal(&self.second, row).unwrap_or(0).checked_abs()?;
        let sum = decimal(&self.sum, row)?;
        Some(Amount {
            sum,
            largest,
            second,
        })
    }
}

struct Input<'a> {
    facts: &'a Facts,
    batch: &'a RecordBatch,
    first: usize,
}

impl Input<'_> {
    fn column(&self, column: usize) -> Result<&arrow::array::ArrayRef, ReleaseError> {
        let column = self.batch.columns().get(self.first.saturating_add(column));
        column.ok_or(ReleaseError::Shape)
    }

    fn numbers(&self, column: usize) -> Result<UInt64Array, ReleaseError> {
        let cast = cast(self.column(column)?, &DataType::UInt64)?;
        Ok(cast.as_primitive::<UInt64Type>().clone())
    }

    fn truths(&self, column: usize) -> Result<BooleanArray, ReleaseError> {
        let column = self.column(column)?;
        let truths = column.as_boolean_opt().ok_or(ReleaseError::Shape)?;
        Ok(truths.clone())
    }

    fn decimals(&self, column: usize) -> Result<Decimal128Array, ReleaseError> {
        let column = self.column(column)?;
        let wide = DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale_of(column.data_type()));
        Ok(cast(column, &wide)?
            .as_primitive::<Decimal128Type>()
            .clone())
    }

    fn sets(&self, members: Members) -> Result<Sets, ReleaseError> {
        let counts = self.numbers(members.count)?;
        let key_sums = self.numbers(members.key_sum)?;
        let parts = match members.parts {
            Some(parts) => Some((self.numbers(parts.owners)?, self.truths(parts.fit)?)),
            None => None,
        };
        let sets = Sets {
            counts,
            key_sums,
            indices: vec![],
            parts,
        };
        let draws = &self.facts.noise.draws;
        let index = |row| {
            let of = |column| number(column, row).unwrap_or_default();
            let (key_sum, n) = (of(&sets.key_sums), of(&sets.counts));
            draws.index(Drawn::Units, sets.owners(row), key_sum, n)
        };
        let indices = (0..self.batch.num_rows()).map(index).collect();
        Ok(Sets { indices, ..sets })
    }

    fn amounts(&self, total: &Total) -> Result<Amounts, ReleaseError> {
        Ok(Amounts {
            members: self.sets(total.members)?,
            scale: scale_of(self.column(total.sum)?.data_type()),
            sum: self.decimals(total.sum)?,
            largest: self.decimals(total.largest)?,
            second: self.decimals(total.second)?,
            negatives: self.numbers(total.negatives)?,
        })
    }
}

fn scale_of(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

fn number(column: &UInt64Array, row: usize) -> Option<u64> {
    (row < column.len() && column.is_valid(row)).then(|| column.value(row))
}

fn decimal(column: &Decimal128Array, row: usize) -> Option<i128> {
    (row < column.len() && column.is_valid(row)).then(|| column.value(row))
}
