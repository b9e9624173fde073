//! An answer of cells: each weighed by its rule, what passes perturbed, the rest withheld.

use crate::canonical;
use crate::cells::{CellColumn, CellRule, CellValue};
use crate::facts::{Facts, Statistic, Weighed};
use crate::release::ReleaseError;
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Float64Type, Schema, SchemaRef};
use guildhall_accuracy::status::{PERTURBED, SUPPRESSED};
use std::sync::Arc;

/// The shape of an answer of cells: known before anything is computed, since it says nothing of the data.
#[must_use]
pub fn schema_of(facts: &Facts, columns: &[CellColumn], cell_status: bool) -> SchemaRef {
    let fields = columns.iter().flat_map(|column| {
        let status = cell_status.then(|| column.status_field()).flatten();
        [Some(column.field(facts)), status].into_iter().flatten()
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A rule that fits the shape it was checked against.
#[derive(Debug)]
pub(crate) struct CheckedCells(CellRule);

impl CheckedCells {
    pub(crate) fn new(rule: CellRule, input: &Schema) -> Result<Self, ReleaseError> {
        rule.facts.check(input, rule.first_fact)?;
        check_keys(&rule, input)?;
        check_totals(&rule)?;
        rule.margins.check(&rule, input)?;
        Ok(Self(rule))
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        schema_of(&self.0.facts, &self.0.columns, self.0.cell_status)
    }

    /// The columns that leave, and how many cells.
    ///
    /// A grouped answer loses the cells that do not stand; the one cell of a whole table stays, all of it NULL, and is
    /// there even if the input has no row.
    pub(crate) fn release(
        &self,
        batch: &RecordBatch,
    ) -> Result<(Vec<ArrayRef>, usize), ReleaseError> {
        let rule = &self.0;
        let key = |i: &usize| {
            batch
                .columns()
                .get(*i)
                .map(ArrayRef::clone)
                .ok_or(ReleaseError::Shape)
        };
        let keys = rule.keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        let order = canonical::order(&keys, batch.num_rows())?;
        let cells = Cells::judge(rule, batch)?;
        let order: UInt32Array = match rule.whole_table() {
            true if order.is_empty() => UInt32Array::from(vec![None]),
            true => order,
            false => order
                .iter()
                .filter(|row| row.is_some_and(|r| cells.stands(index(r))))
                .collect(),
        };
        let mut columns = Vec::new();
        for column in &rule.columns {
            let values = take(&cells.values(column, batch)?, &order, None)?;
            let values = cast(&values, &column.data_type)?;
            let status = self.0.cell_status.then(|| column.status_field()).flatten();
            let status = status.map(|_| status_of(&values, SUPPRESSED));
            columns.extend([Some(values), status].into_iter().flatten());
        }
        Ok((columns, order.len()))
    }
}

fn check_keys(rule: &CellRule, input: &Schema) -> Result<(), ReleaseError> {
    let wrong = |what: String| Err(ReleaseError::Rule { what });
    let columns = input.fields().len();
    if let Some(bad) = rule
        .keys
        .iter()
        .find(|i| **i >= columns.min(rule.first_fact))
    {
        return wrong(format!("column {bad} is no key of the cells"));
    }
    // Invariant: a key leaves only as part of the cell's name, so that what is weighed is what is released.
    let stray = rule.columns.iter().find(|c| match c.value {
        CellValue::Key { column } => !rule.keys.contains(&column),
        _ => false,
    });
    match stray {
        Some(column) => wrong(format!("column `{}` is no key of the cells", column.name)),
        None => Ok(()),
    }
}

fn check_totals(rule: &CellRule) -> Result<(), ReleaseError> {
    let there = rule.facts.totals.len();
    let asked = rule.columns.iter().flat_map(|c| c.value.totals());
    match asked.into_iter().find(|t| *t >= there) {
        Some(total) => Err(ReleaseError::Rule {
            what: format!("total {total} of {there}"),
        }),
        None => Ok(()),
    }
}

/// The cells of one batch, and what of each may be seen.
struct Cells<'a> {
    weighed: Weighed<'a>,
    standing: Vec<bool>,
    shown: Vec<Vec<bool>>,
}

impl<'a> Cells<'a> {
    fn judge(rule: &'a CellRule, batch: &RecordBatch) -> Result<Self, ReleaseError> {
        let weighed = Weighed::read(&rule.facts, batch, rule.first_fact)?;
        let kept = rule.margins.kept(&rule.facts, batch)?;
        let rows = 0..weighed.rows();
        let standing: Vec<bool> = rows
            .clone()
            .map(|row| weighed.stands(row) && kept.shows(Statistic::Units, row))
            .collect();
        let shown = (0..rule.facts.totals.len()).map(|total| {
            let passes =
                |row| weighed.total_passes(total, row) && kept.shows(Statistic::Total(total), row);
            let cells = rows.clone().zip(&standing);
            cells.map(|(row, stands)| *stands && passes(row)).collect()
        });
        let shown = shown.collect();
        Ok(Self {
            weighed,
            standing,
            shown,
        })
    }

    fn stands(&self, row: usize) -> bool {
        self.standing.get(row).copied().unwrap_or(false)
    }

    fn shows(&self, total: usize, row: usize) -> bool {
        self.shown
            .get(total)
            .and_then(|s| s.get(row))
            .copied()
            .unwrap_or(false)
    }

    fn values(&self, column: &CellColumn, batch: &RecordBatch) -> Result<ArrayRef, ReleaseError> {
        match column.value {
            CellValue::Key { column } => batch
                .columns()
                .get(column)
                .map(ArrayRef::clone)
                .ok_or(ReleaseError::Shape),
            CellValue::Units => Ok(Arc::new(self.units())),
            CellValue::Sum { total } => Ok(Arc::new(self.total(total)?)),
            CellValue::Mean { sum, count } => mean(&self.total(sum)?, &self.total(count)?),
        }
    }

    fn units(&self) -> Int64Array {
        let rows = 0..self.weighed.rows();
        rows.map(|row| {
            self.weighed
                .published_units(row)
                .filter(|_| self.stands(row))
        })
        .collect()
    }

    fn total(&self, total: usize) -> Result<Decimal128Array, ReleaseError> {
        let value = |row| {
            self.weighed
                .published_total(total, row)
                .filter(|_| self.shows(total, row))
        };
        let values: Decimal128Array = (0..self.weighed.rows()).map(value).collect();
        Ok(values.with_precision_and_scale(DECIMAL128_MAX_PRECISION, self.weighed.scale(total))?)
    }
}

/// `sum / count`; NULL where the count is not above nought.
pub(crate) fn mean(
    sum: &Decimal128Array,
    count: &Decimal128Array,
) -> Result<ArrayRef, ReleaseError> {
    let sum = cast(sum, &DataType::Float64)?;
    let count = cast(count, &DataType::Float64)?;
    let sums = sum.as_primitive::<Float64Type>().iter();
    let pairs = sums.zip(count.as_primitive::<Float64Type>().iter());
    let quotient = |(s, n): (Option<f64>, Option<f64>)| Some(s? / n.filter(|n| *n > 0.0)?);
    Ok(Arc::new(pairs.map(quotient).collect::<Float64Array>()))
}

/// Says of each released value what was done to it: of one that is none, `otherwise`.
pub(crate) fn status_of(values: &ArrayRef, otherwise: &'static str) -> ArrayRef {
    let word = |row| {
        if values.is_valid(row) {
            PERTURBED
        } else {
            otherwise
        }
    };
    Arc::new(
        (0..values.len())
            .map(|row| Some(word(row)))
            .collect::<StringArray>(),
    )
}

fn index(row: u32) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}
