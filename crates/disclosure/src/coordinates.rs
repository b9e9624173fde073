//! Where a cell is along its axes, as bytes that match whichever way a value came.

use crate::release::ReleaseError;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array};
use arrow::compute::cast;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Int64Type, TimeUnit};
use arrow::row::{RowConverter, Rows, SortField};
use std::sync::Arc;

/// Nanoseconds of a day.
const DAY: i128 = 86_400_000_000_000;

/// The values of one key column, as bytes: equal for equal values, and in the values' order.
pub(crate) struct KeyColumn(Rows);

impl KeyColumn {
    pub(crate) fn read(values: &ArrayRef) -> Result<Self, ReleaseError> {
        let values = canonical(values)?;
        let field = SortField::new(values.data_type().clone());
        Ok(Self(
            RowConverter::new(vec![field])?.convert_columns(&[values])?,
        ))
    }

    /// Adds the value of `row` to a cell's name. Its length goes first, so that no two names run together.
    pub(crate) fn write(&self, row: usize, name: &mut Vec<u8>) {
        if row < self.0.num_rows() {
            let row = self.0.row(row);
            let bytes: &[u8] = row.as_ref();
            name.extend((bytes.len() as u64).to_be_bytes());
            name.extend(bytes);
        }
    }
}

/// The one form of values that mean the same: texts as `Utf8`, whole numbers and times (in ns) as decimals, and so on.
fn canonical(values: &ArrayRef) -> Result<ArrayRef, ReleaseError> {
    let wide = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);
    Ok(match values.data_type() {
        DataType::Dictionary(_, inner) => canonical(&cast(values, inner)?)?,
        DataType::LargeUtf8 | DataType::Utf8View => cast(values, &DataType::Utf8)?,
        DataType::LargeBinary | DataType::BinaryView => cast(values, &DataType::Binary)?,
        DataType::Float16 | DataType::Float32 => cast(values, &DataType::Float64)?,
        DataType::Timestamp(unit, _) => instants(values, nanoseconds(*unit))?,
        DataType::Date32 => instants(&cast(values, &DataType::Int32)?, DAY)?,
        DataType::Date64 => instants(values, nanoseconds(TimeUnit::Millisecond))?,
        t if t.is_integer() => cast(values, &wide)?,
        _ => ArrayRef::clone(values),
    })
}

fn nanoseconds(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// Whole numbers of `unit` nanoseconds, as nanoseconds.
fn instants(values: &ArrayRef, unit: i128) -> Result<ArrayRef, ReleaseError> {
    let whole = cast(values, &DataType::Int64)?;
    let whole = whole.as_primitive::<Int64Type>();
    // An i64 times a day in ns is below 10^33: no product here overflows.
    let scaled = whole.iter().map(|v| v.map(|v| i128::from(v) * unit));
    let scaled = scaled.collect::<Decimal128Array>();
    Ok(Arc::new(
        scaled.with_precision_and_scale(DECIMAL128_MAX_PRECISION, 0)?,
    ))
}
