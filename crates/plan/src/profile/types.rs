//! The types that may appear in a fragment: flat ones, which product schemas are made of.

use arrow::datatypes::{DataType, TimeUnit};

/// Whether `t` is a flat type: no struct, map, union, view, dictionary or fixed-size type.
#[must_use]
pub fn is_flat(t: &DataType) -> bool {
    match t {
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Date64
        | DataType::Duration(_)
        | DataType::Interval(_)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => true,
        DataType::Timestamp(_, zone) => zone.as_deref().is_none_or(is_utc),
        DataType::Time32(unit) => matches!(unit, TimeUnit::Second | TimeUnit::Millisecond),
        DataType::Time64(unit) => matches!(unit, TimeUnit::Microsecond | TimeUnit::Nanosecond),
        DataType::Decimal128(p, s) => (1..=38).contains(p) && *s >= 0 && s.unsigned_abs() <= *p,
        DataType::Float16
        | DataType::FixedSizeBinary(_)
        | DataType::List(_)
        | DataType::ListView(_)
        | DataType::FixedSizeList(_, _)
        | DataType::LargeList(_)
        | DataType::LargeListView(_)
        | DataType::Struct(_)
        | DataType::Union(_, _)
        | DataType::Dictionary(_, _)
        | DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Decimal256(_, _)
        | DataType::Map(_, _)
        | DataType::RunEndEncoded(_, _) => false,
    }
}

/// Whether `t` may be a column of a relation in a fragment: flat, or a list of flat values,
/// which `array_agg` makes.
#[must_use]
pub fn is_column(t: &DataType) -> bool {
    match t {
        DataType::List(inner) | DataType::LargeList(inner) => is_flat(inner.data_type()),
        other => is_flat(other),
    }
}

/// The names of the one zone that a fragment can carry; any other is lost on the way.
pub(crate) fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Z")
}
