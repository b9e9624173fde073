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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Date32Array, DictionaryArray, Int8Array, LargeStringArray, StringArray, StringViewArray,
    };
    use arrow::array::{
        TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    };
    use arrow::datatypes::Int32Type;

    #[test]
    fn texts_match_in_any_encoding() {
        let dictionary: DictionaryArray<Int32Type> = [Some("Kinson"), None].into_iter().collect();
        let all: [ArrayRef; 4] = [
            Arc::new(StringArray::from(vec![Some("Kinson"), None])),
            Arc::new(LargeStringArray::from(vec![Some("Kinson"), None])),
            Arc::new(StringViewArray::from(vec![Some("Kinson"), None])),
            Arc::new(dictionary),
        ];
        assert!(
            all.iter()
                .all(|a| [name(a, 0), name(a, 1)] == [name(&all[0], 0), name(&all[0], 1)])
        );
        assert_ne!(name(&all[0], 0), name(&all[0], 1));
    }

    #[test]
    fn whole_numbers_match_at_any_width() {
        let narrow: ArrayRef = Arc::new(Int8Array::from(vec![7, -7]));
        let wide: ArrayRef = Arc::new(UInt64Array::from(vec![7, u64::MAX]));
        assert_eq!(name(&narrow, 0), name(&wide, 0));
        assert_ne!(name(&narrow, 1), name(&wide, 1));
    }

    #[test]
    fn instants_match_in_any_unit() {
        let day = 20_000_i64;
        let all: [ArrayRef; 4] = [
            Arc::new(TimestampSecondArray::from(vec![day * 86_400])),
            Arc::new(TimestampMillisecondArray::from(vec![day * 86_400_000]).with_timezone("UTC")),
            Arc::new(TimestampNanosecondArray::from(vec![
                day * 86_400_000_000_000,
            ])),
            Arc::new(Date32Array::from(vec![20_000])),
        ];
        assert!(all.iter().all(|a| name(a, 0) == name(&all[0], 0)));
    }

    #[test]
    fn far_instants_do_not_run_into_each_other() {
        let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX, i64::MAX - 1]));
        assert_ne!(name(&far, 0), name(&far, 1));
    }

    #[test]
    fn names_of_two_axes_do_not_run_into_each_other() {
        let of = |parts: [&str; 2]| -> Vec<u8> {
            let keys = parts.map(|p| Arc::new(StringArray::from(vec![p])) as ArrayRef);
            keys.iter().flat_map(|k| name(k, 0)).collect()
        };
        assert_ne!(of(["a", "bc"]), of(["ab", "c"]));
        assert_ne!(of(["", "a"]), of(["a", ""]));
    }

    fn name(values: &ArrayRef, row: usize) -> Vec<u8> {
        let mut name = Vec::new();
        KeyColumn::read(values).unwrap().write(row, &mut name);
        name
    }
}
