//! The lengths of an argument, row by row, whatever form it comes in.

use arrow::array::{
    Array, AsArray, BinaryArray, BinaryViewArray, LargeBinaryArray, LargeStringArray, StringArray,
    StringViewArray,
};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;

/// One argument of a call.
pub(super) enum Texts<'a> {
    One(&'a str),
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    /// No text: each value may be as long as all of them.
    Other(usize),
}

impl<'a> Texts<'a> {
    pub(super) fn of(arg: &'a ColumnarValue) -> Self {
        match arg {
            ColumnarValue::Scalar(s) => match s.try_as_str() {
                Some(text) => Self::One(text.unwrap_or_default()),
                None => Self::Other(scalar_bytes(s)),
            },
            ColumnarValue::Array(a) => match a.data_type() {
                DataType::Utf8 => Self::Utf8(a.as_string()),
                DataType::LargeUtf8 => Self::LargeUtf8(a.as_string()),
                DataType::Utf8View => Self::Utf8View(a.as_string_view()),
                DataType::Binary => Self::Binary(a.as_binary()),
                DataType::LargeBinary => Self::LargeBinary(a.as_binary()),
                DataType::BinaryView => Self::BinaryView(a.as_binary_view()),
                _ => Self::Other(a.get_array_memory_size()),
            },
        }
    }

    /// The bytes of a row; of a NULL, no fewer than none.
    pub(super) fn len(&self, row: usize) -> usize {
        match self {
            Self::Binary(a) => a.value(row).len(),
            Self::LargeBinary(a) => a.value(row).len(),
            Self::BinaryView(a) => a.value(row).len(),
            Self::Other(n) => *n,
            _ => self.text(row).map_or(0, str::len),
        }
    }

    /// How many bytes of a row are one of `these`.
    pub(super) fn count(&self, row: usize, these: &[u8]) -> usize {
        match self.text(row) {
            Some(text) => text.bytes().filter(|b| these.contains(b)).count(),
            None => self.len(row),
        }
    }

    /// How long a row is once every `from` is replaced by `to`.
    pub(super) fn replaced(&self, from: &Self, to: &Self, row: usize) -> usize {
        match (self.text(row), from.text(row), to.text(row)) {
            (Some(text), Some(from), Some(to)) if !from.is_empty() => {
                let times = text.matches(from).count();
                text.len()
                    .saturating_sub(times.saturating_mul(from.len()))
                    .saturating_add(times.saturating_mul(to.len()))
            }
            _ => usize::MAX,
        }
    }

    fn text(&self, row: usize) -> Option<&str> {
        match self {
            Self::One(text) => Some(text),
            Self::Utf8(a) => Some(a.value(row)),
            Self::LargeUtf8(a) => Some(a.value(row)),
            Self::Utf8View(a) => Some(a.value(row)),
            _ => None,
        }
    }
}

fn scalar_bytes(s: &ScalarValue) -> usize {
    match s {
        ScalarValue::Binary(b)
        | ScalarValue::LargeBinary(b)
        | ScalarValue::BinaryView(b)
        | ScalarValue::FixedSizeBinary(_, b) => b.as_ref().map_or(0, Vec::len),
        other => other.size(),
    }
}
