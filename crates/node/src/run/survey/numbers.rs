//! Counts, read out of what the engine gives.

use crate::error::RunError;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use guildhall_cube::internal;

pub(super) fn encodable(
    batch: Result<RecordBatch, arrow::error::ArrowError>,
) -> Result<RecordBatch, RunError> {
    batch.map_err(|source| RunError::Encode { source })
}

fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, RunError> {
    let column = batch.column_by_name(name);
    Ok(column.ok_or_else(|| internal("a count that was not planned"))?)
}

pub(super) fn column_numbers(column: &ArrayRef) -> Result<Vec<u64>, RunError> {
    let column = cast(column, &DataType::UInt64).map_err(|source| RunError::Encode { source })?;
    let numbers = column.as_primitive::<UInt64Type>();
    Ok(numbers.iter().map(|n| n.unwrap_or(0)).collect())
}

pub(super) fn numbers(batch: &RecordBatch, name: &str) -> Result<Vec<u64>, RunError> {
    column_numbers(named(batch, name)?)
}

/// The one number of that name; 0 if it is NULL.
pub(super) fn whole(row: &RecordBatch, name: &str) -> Result<u64, RunError> {
    Ok(numbers(row, name)?.first().copied().unwrap_or(0))
}

/// The one number of that name, if it is one.
pub(super) fn number(row: &RecordBatch, name: &str) -> Option<f64> {
    let column = cast(row.column_by_name(name)?, &DataType::Float64).ok()?;
    let numbers = column.as_primitive::<Float64Type>();
    let number = (numbers.len() == 1 && numbers.is_valid(0)).then(|| numbers.value(0));
    number.filter(|n| n.is_finite())
}
