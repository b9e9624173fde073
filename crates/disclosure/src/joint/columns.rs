//! The facts of cells that are put together, column by column.

use super::TotalTerms;
use crate::facts::{Amount, PartFacts};
use crate::release::ReleaseError;
use arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, RecordBatch, RecordBatchOptions, UInt64Array,
};
use arrow::compute::interleave;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, Field, Schema};
use std::sync::Arc;

/// Columns about the units of a cell, and about each of its totals.
pub(super) const UNITS: usize = 4;
pub(super) const TOTAL: usize = 8;

/// One statistic of one cell, over all owners.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    owners: u64,
    count: u64,
    key_sum: u64,
    negatives: u64,
    amount: Amount,
    pub(super) fit: bool,
}

impl Sum {
    /// Adds an owner's part; none if a number is too large.
    pub(super) fn add(
        &mut self,
        owner: usize,
        (part, amount): (PartFacts, Option<Amount>),
    ) -> Option<()> {
        self.owners |= 1_u64.checked_shl(u32::try_from(owner).ok()?)?;
        self.count = self.count.checked_add(part.count)?;
        self.key_sum = self.key_sum.wrapping_add(part.key_sum);
        self.negatives = self.negatives.checked_add(part.negatives)?;
        if let Some(amount) = amount {
            self.amount = self.amount.with(amount)?;
        }
        Some(())
    }
}

/// By statistic, the count of units first, one for each cell.
pub(super) struct Merged(Vec<Vec<Sum>>);

impl Merged {
    pub(super) fn of(totals: usize) -> Self {
        Self(vec![vec![]; totals.saturating_add(1)])
    }

    pub(super) fn push(&mut self, at: usize, sum: Sum) {
        if let Some(sums) = self.0.get_mut(at) {
            sums.push(sum);
        }
    }

    /// The table: the first `keys` columns of `batches`, of each cell from an owner that has it, then the facts.
    pub(super) fn write(
        &self,
        batches: &[&RecordBatch],
        keys: usize,
        rows: &[&[Option<usize>]],
        totals: &[TotalTerms],
    ) -> Result<RecordBatch, ReleaseError> {
        let mut columns = Vec::new();
        let first = |rows: &&[Option<usize>]| {
            let mut owners = rows.iter().enumerate();
            owners.find_map(|(owner, row)| row.map(|row| (owner, row)))
        };
        let from: Vec<(usize, usize)> = rows.iter().filter_map(first).collect();
        for column in 0..keys {
            let values = batches.iter().map(|b| b.column(column).as_ref());
            let values: Vec<&dyn Array> = values.collect();
            columns.push(interleave(&values, &from)?);
        }
        for (at, sums) in self.0.iter().enumerate() {
            columns.extend(members(sums));
            if let Some(terms) = at.checked_sub(1).and_then(|total| totals.get(total)) {
                columns.extend(amounts(sums, terms.scale)?);
            }
        }
        let field =
            |(at, c): (usize, &ArrayRef)| Field::new(format!("c{at}"), c.data_type().clone(), true);
        let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = Arc::new(Schema::new(fields));
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }
}

fn members(sums: &[Sum]) -> [ArrayRef; UNITS] {
    let numbers = |pick: fn(&Sum) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(sums.iter().map(pick)))
    };
    let fit = sums.iter().map(|s| Some(s.fit)).collect::<BooleanArray>();
    [
        numbers(|s| s.count),
        numbers(|s| s.key_sum),
        numbers(|s| s.owners),
        Arc::new(fit),
    ]
}

fn amounts(sums: &[Sum], scale: i8) -> Result<[ArrayRef; TOTAL - UNITS], ReleaseError> {
    let amounts = |least: u64, pick: fn(&Sum) -> i128| -> Result<ArrayRef, ReleaseError> {
        let some = |s: &Sum| (s.count >= least).then(|| pick(s));
        let values: Decimal128Array = sums.iter().map(some).collect();
        Ok(Arc::new(values.with_precision_and_scale(
            DECIMAL128_MAX_PRECISION,
            scale,
        )?))
    };
    let negatives = UInt64Array::from_iter_values(sums.iter().map(|s| s.negatives));
    Ok([
        amounts(1, |s| s.amount.sum)?,
        amounts(1, |s| s.amount.largest)?,
        amounts(2, |s| s.amount.second)?,
        Arc::new(negatives),
    ])
}
