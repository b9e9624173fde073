//! Literals and types: what may be converted without a change of meaning.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;

/// `value` as `to`, if it comes back as it was and is no null.
///
/// With [`widens`] this makes `CAST(column AS wide) = value` the same as `column = converted`.
pub(super) fn convert(value: &ScalarValue, to: &DataType) -> Option<ScalarValue> {
    if value.is_null() {
        return None;
    }
    if value.data_type() == *to {
        return Some(value.clone());
    }
    let converted = value.cast_to(to).ok().filter(|c| !c.is_null())?;
    let back = converted.cast_to(&value.data_type()).ok()?;
    (back == *value).then_some(converted)
}

/// The text of a value, as product files write it.
pub(super) fn text_of(value: &ScalarValue) -> Option<String> {
    match value.cast_to(&DataType::Utf8).ok()? {
        ScalarValue::Utf8(text) => text,
        _ => None,
    }
}

/// Whether a cast from `from` to `to` keeps every value apart from every other, so that an
/// equality after it is an equality before it.
pub(super) fn widens(from: &DataType, to: &DataType) -> bool {
    if from == to || widens_number(from, to) && !loses_digits(from, to) {
        return true;
    }
    match (from, to) {
        (a, b) if is_text(a) && is_text(b) => true,
        (DataType::Date32, DataType::Timestamp(_, None)) => true,
        (DataType::Timestamp(a, None), DataType::Timestamp(b, None)) => fineness(a) <= fineness(b),
        _ => false,
    }
}

/// Whether `CAST(column AS to) = value` is true of one value of the column at most, as it is
/// for whole numbers as `Float64` below 2^53.
pub(super) fn tells_apart(from: &DataType, to: &DataType, value: &ScalarValue) -> bool {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    widens(from, to)
        || from.is_integer()
            && matches!(value, ScalarValue::Float64(Some(v)) if v.abs() < EXACT)
            && *to == DataType::Float64
}

/// Whether a measure may be widened from `from` to `to` before it is added. Whole numbers
/// beyond 2^53 are rounded as `Float64`, as the engine itself does for a mean.
pub(super) fn widens_number(from: &DataType, to: &DataType) -> bool {
    if from == to {
        return from.is_numeric();
    }
    match (from, to) {
        (a, DataType::Float64) => a.is_numeric(),
        (a, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            a.is_integer() && a.primitive_width() < to.primitive_width()
        }
        (a, DataType::UInt16 | DataType::UInt32 | DataType::UInt64) => {
            a.is_unsigned_integer() && a.primitive_width() < to.primitive_width()
        }
        (DataType::Decimal128(p, s), DataType::Decimal128(wide, scale)) => {
            *s >= 0 && scale >= s && whole_digits(*wide, *scale) >= whole_digits(*p, *s)
        }
        (a, DataType::Decimal128(wide, scale)) => {
            digits(a).is_some_and(|d| whole_digits(*wide, *scale) >= d) && *scale >= 0
        }
        _ => false,
    }
}

fn loses_digits(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (a, DataType::Float64) if a.is_integer() => a.primitive_width() > Some(4),
        (DataType::Decimal128(_, _), DataType::Float64) => true,
        _ => false,
    }
}

fn whole_digits(precision: u8, scale: i8) -> i16 {
    i16::from(precision) - i16::from(scale)
}

/// How many decimal digits an integer type has at most.
fn digits(t: &DataType) -> Option<i16> {
    match t {
        DataType::Int8 | DataType::UInt8 => Some(3),
        DataType::Int16 | DataType::UInt16 => Some(5),
        DataType::Int32 | DataType::UInt32 => Some(10),
        DataType::Int64 => Some(19),
        DataType::UInt64 => Some(20),
        _ => None,
    }
}

fn is_text(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn fineness(unit: &TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_converts_only_if_it_comes_back() {
        let int = |n| ScalarValue::Int64(Some(n));
        assert_eq!(
            convert(&ScalarValue::Float64(Some(5.0)), &DataType::Int64),
            Some(int(5))
        );
        assert_eq!(
            convert(&ScalarValue::Float64(Some(5.5)), &DataType::Int64),
            None
        );
        assert_eq!(convert(&ScalarValue::from("05"), &DataType::Int64), None);
        assert_eq!(convert(&ScalarValue::Int64(None), &DataType::Int64), None);
    }

    #[test]
    fn whole_numbers_as_floats_are_told_apart_up_to_two_to_the_53() {
        let apart = |v| {
            tells_apart(
                &DataType::Int64,
                &DataType::Float64,
                &ScalarValue::Float64(Some(v)),
            )
        };
        assert!(apart(3.0) && apart(-3.5));
        assert!(!apart(9_007_199_254_740_992.0) && !apart(f64::NAN) && !apart(f64::INFINITY));
    }

    #[test]
    fn widening_never_merges_two_values() {
        assert!(widens(&DataType::Int32, &DataType::Int64));
        assert!(widens(&DataType::Utf8, &DataType::Utf8View));
        assert!(widens(
            &DataType::Date32,
            &DataType::Timestamp(TimeUnit::Nanosecond, None)
        ));
        assert!(widens(&DataType::Int64, &DataType::Decimal128(20, 1)));
        assert!(!widens(&DataType::Int64, &DataType::Decimal128(19, 1)));
        assert!(!widens(&DataType::Int64, &DataType::Float64));
        assert!(!widens(&DataType::Float64, &DataType::Int64));
        assert!(!widens(&DataType::UInt32, &DataType::Int32));
        assert!(!widens(
            &DataType::Timestamp(TimeUnit::Microsecond, None),
            &DataType::Date32
        ));
        assert!(!widens(
            &DataType::Timestamp(TimeUnit::Nanosecond, None),
            &DataType::Timestamp(TimeUnit::Second, None)
        ));
    }
}
