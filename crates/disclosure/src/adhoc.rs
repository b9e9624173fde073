//! Cells with differential privacy: what their rule is, and what of them leaves.
//!
//! All cells of the register leave, in its order, those that nobody is in among them: which cells there are says
//! nothing of the data. Each statistic of each cell has noise of its own, drawn from a generator that is seeded with
//! a keyed hash of question, data, policy and cell ([`Share::draw_context`]), so the same question of the same data has
//! the same answer, and no other question shares a draw with it.
//!
//! What is released is as it was drawn: a count may be below nought, and is not rounded up, since that would make
//! totals of counts too large.

use crate::answer::{mean, status_of};
use crate::canonical;
use crate::cells::status_field;
use crate::dp::{Plan, Share};
use crate::noise::NoiseSecret;
use crate::release::ReleaseError;
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, RecordBatch, StringArray, UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, Schema, SchemaRef,
};
use arrow::row::{OwnedRow, RowConverter, SortField};
use guildhall_accuracy::adhoc::Column;
use guildhall_accuracy::status::UNDEFINED;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use std::collections::HashMap;
use std::sync::Arc;

/// No decimal of 38 digits is beyond this.
const LARGEST: i128 = 10_i128.pow(DECIMAL128_MAX_PRECISION as u32) - 1;
/// The most cells of an answer.
const MAX_CELLS: usize = 1_000_000;

/// How the cells of one free question are made noisy: the rule of the ad hoc lane.
///
/// The input has one row per cell that is present: its keys, then the statistics of the plan in its order, each the
/// sum over units of what [`Share::bounds`] allow one unit; NULL is nought. A cell that is absent is nought in all of
/// them; one that is not registered is left out. Debit the plan's charge before a row is read.
#[derive(Debug, Clone)]
pub struct AdHocRule {
    /// What each statistic may cost and how much noise it carries.
    pub plan: Plan,
    /// What noise is drawn from.
    pub draws: Draws,
    /// The registered cells.
    pub grid: Grid,
    /// What leaves, in order.
    pub columns: Vec<AdHocColumn>,
    /// Whether each column that is no key gets a companion `<name>_status`, which says `perturbed` or `undefined`.
    pub cell_status: bool,
}

/// What the draws of an answer are a function of, besides policy and cell.
#[derive(Debug, Clone)]
pub struct Draws {
    /// The secret of these draws; whoever holds it can take the noise off.
    pub secret: NoiseSecret,
    /// The digest of the admitted question.
    pub question: [u8; 32],
    /// The digest of the data that it is asked of.
    pub snapshot: [u8; 32],
}

/// A column of the answer.
#[derive(Debug, Clone)]
pub struct AdHocColumn {
    /// Its name.
    pub name: String,
    /// Its type; a value that does not fit it is NULL.
    pub data_type: DataType,
    /// What it is made of.
    pub value: AdHocValue,
}

/// What a released column is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdHocValue {
    /// A part of the cell's name: a key of the grid.
    Key(usize),
    /// A statistic of the plan with its noise.
    Statistic(usize),
    /// One noisy statistic over another, a count; NULL where that is not above nought.
    Mean {
        /// Which is divided.
        sum: usize,
        /// By which.
        count: usize,
    },
}

impl AdHocValue {
    /// What it is as far as its rule and its error go.
    fn column(self) -> Column {
        match self {
            Self::Key(_) => Column::Key,
            Self::Statistic(at) => Column::Statistic(at),
            Self::Mean { sum, count } => Column::Mean { sum, count },
        }
    }
}

/// The cells of an answer: every combination of the registered values of its keys, or the one cell of all rows.
///
/// Invariant: no key has the same value twice, which would tell of the same rows twice.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Per key, its registered values as text and as they are.
    keys: Vec<(Vec<String>, ArrayRef)>,
    cells: usize,
}

impl Grid {
    /// The grid of these keys, each with its type and its registered values as text.
    pub fn new(keys: &[(DataType, Vec<String>)]) -> Result<Self, ReleaseError> {
        let mut cells = 1_usize;
        let mut all = Vec::new();
        for (data_type, texts) in keys {
            let values: ArrayRef = Arc::new(StringArray::from(texts.clone()));
            let values = cast(&values, data_type)?;
            if values.null_count() > 0 {
                return Err(wrong("a registered value is not of its column's type"));
            }
            if canonical::order(&[Arc::clone(&values)], texts.len()).is_err() {
                return Err(wrong("a value is registered twice"));
            }
            cells = cells.saturating_mul(texts.len());
            all.push((texts.clone(), values));
        }
        if cells > MAX_CELLS {
            return Err(wrong("an answer of too many cells"));
        }
        Ok(Self { keys: all, cells })
    }

    /// For each key, which of its values each cell has; the last key changes fastest.
    fn places(&self) -> Vec<UInt32Array> {
        let mut places = Vec::new();
        let mut each = self.cells;
        for (texts, _) in &self.keys {
            each = each.checked_div(texts.len()).unwrap_or(0);
            let of = |cell: usize| cell.checked_div(each)?.checked_rem(texts.len());
            let of = |cell| of(cell).and_then(|at| u32::try_from(at).ok());
            places.push((0..self.cells).map(of).collect());
        }
        places
    }

    fn columns(&self) -> Result<Vec<ArrayRef>, ReleaseError> {
        let keys = self.keys.iter().zip(self.places());
        keys.map(|((_, values), places)| Ok(take(values, &places, None)?))
            .collect()
    }

    /// The cell's name for its draws: its registered values, each with its length before it.
    fn name(&self, places: &[UInt32Array], cell: usize) -> Vec<u8> {
        let mut name = Vec::new();
        for ((texts, _), places) in self.keys.iter().zip(places) {
            let place = places.values().get(cell);
            let place = place.and_then(|p| usize::try_from(*p).ok());
            let text = place.and_then(|p| texts.get(p)).map_or("", String::as_str);
            name.extend_from_slice(&(text.len() as u64).to_le_bytes());
            name.extend_from_slice(text.as_bytes());
        }
        name
    }
}

/// A rule that fits the shape it was checked against.
#[derive(Debug)]
pub(crate) struct CheckedAdHoc {
    rule: AdHocRule,
    scales: Vec<i8>,
}

impl CheckedAdHoc {
    pub(crate) fn new(rule: AdHocRule, input: &Schema) -> Result<Self, ReleaseError> {
        let (keys, shares) = (rule.grid.keys.len(), rule.plan.shares().len());
        if rule.plan.tau().is_some() {
            return Err(wrong("the cells of the register need no threshold"));
        }
        if input.fields().len() != keys.saturating_add(shares) {
            return Err(wrong("a statistic without a share of the cost"));
        }
        let statistics = input.fields().iter().skip(keys);
        let scale = |f: &Arc<Field>| match f.data_type() {
            t if t.is_integer() => Ok(0),
            DataType::Decimal128(_, s) if *s >= 0 => Ok(*s),
            _ => Err(wrong("a statistic is no exact number")),
        };
        let scales = statistics.map(scale).collect::<Result<_, _>>()?;
        let fits = |column: &AdHocColumn| match column.value {
            AdHocValue::Key(key) => key < keys,
            AdHocValue::Statistic(at) => at < shares,
            AdHocValue::Mean { sum, count } => sum < shares && count < shares,
        };
        match rule.columns.iter().all(fits) {
            true => Ok(Self { rule, scales }),
            false => Err(wrong("a column of what the question does not ask")),
        }
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        let fields = self.rule.columns.iter().flat_map(|column| {
            let status = self.has_status(column).then(|| status_field(&column.name));
            [Some(self.field(column)), status].into_iter().flatten()
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn has_status(&self, column: &AdHocColumn) -> bool {
        self.rule.cell_status && !matches!(column.value, AdHocValue::Key(_))
    }

    fn field(&self, column: &AdHocColumn) -> Field {
        let told = column.value.column().told(&self.rule.plan, &self.scales);
        Field::new(&column.name, column.data_type.clone(), true)
            .with_metadata(told.metadata().into_iter().collect())
    }

    /// The columns that leave, and how many cells.
    pub(crate) fn release(
        &self,
        batch: &RecordBatch,
    ) -> Result<(Vec<ArrayRef>, usize), ReleaseError> {
        let grid = &self.rule.grid;
        let keys = grid.columns()?;
        let present = Present::of(&keys, batch)?;
        let places = grid.places();
        let mut noisy = Vec::new();
        for ((at, share), scale) in self.rule.plan.shares().iter().enumerate().zip(&self.scales) {
            let column = batch.column(keys.len().saturating_add(at));
            let exact = exact(column, *scale)?;
            let values = (0..grid.cells).map(|cell| {
                let value = present.row(cell).filter(|row| exact.is_valid(*row));
                let value = value.map_or(0, |row| exact.value(row));
                Some(self.drawn(share, value, &grid.name(&places, cell)))
            });
            let values: Decimal128Array = values.collect();
            noisy.push(values.with_precision_and_scale(DECIMAL128_MAX_PRECISION, *scale)?);
        }
        let mut columns = Vec::new();
        for column in &self.rule.columns {
            let values = match column.value {
                AdHocValue::Key(at) => keys.get(at).cloned(),
                AdHocValue::Statistic(at) => noisy.get(at).map(|n| Arc::new(n.clone()) as ArrayRef),
                AdHocValue::Mean { sum, count } => match (noisy.get(sum), noisy.get(count)) {
                    (Some(sum), Some(count)) => Some(mean(sum, count)?),
                    _ => None,
                },
            };
            let values = cast(&values.ok_or(ReleaseError::Shape)?, &column.data_type)?;
            let status = self
                .has_status(column)
                .then(|| status_of(&values, UNDEFINED));
            columns.extend([Some(values), status].into_iter().flatten());
        }
        Ok((columns, grid.cells))
    }

    fn drawn(&self, share: &Share, value: i128, cell: &[u8]) -> i128 {
        let Draws {
            secret,
            question,
            snapshot,
        } = &self.rule.draws;
        let seed = secret.seed(&share.draw_context(question, snapshot, cell));
        let mut generator = ChaCha20Rng::from_seed(*seed);
        share.noisy(value, &mut generator).clamp(-LARGEST, LARGEST)
    }
}

/// Which row of the input each cell of the grid is.
struct Present(Vec<Option<usize>>);

impl Present {
    fn of(grid: &[ArrayRef], batch: &RecordBatch) -> Result<Self, ReleaseError> {
        if grid.is_empty() {
            return match batch.num_rows() {
                0 => Ok(Self(vec![None])),
                1 => Ok(Self(vec![Some(0)])),
                _ => Err(ReleaseError::SplitCell),
            };
        }
        let given = grid.iter().zip(batch.columns());
        let given = given.map(|(grid, given)| cast(given, grid.data_type()));
        let given = given.collect::<Result<Vec<_>, _>>()?;
        let fields = grid.iter().map(|k| SortField::new(k.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let rows = converter.convert_columns(&given)?;
        let mut found: HashMap<OwnedRow, usize> = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            if found.insert(row.owned(), at).is_some() {
                return Err(ReleaseError::SplitCell);
            }
        }
        let cells = converter.convert_columns(grid)?;
        let rows = cells.iter().map(|cell| found.get(&cell.owned()).copied());
        Ok(Self(rows.collect()))
    }

    fn row(&self, cell: usize) -> Option<usize> {
        self.0.get(cell).copied().flatten()
    }
}

fn exact(column: &ArrayRef, scale: i8) -> Result<Decimal128Array, ReleaseError> {
    let to = DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale);
    Ok(cast(column, &to)?.as_primitive::<Decimal128Type>().clone())
}

fn wrong(what: &str) -> ReleaseError {
    ReleaseError::Rule {
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests;
