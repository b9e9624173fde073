//! A product's synthetic twin: rows of the same columns, made up of what the product declares.
//!
//! Queries are written and tried against it, for the purpose [`DEVELOPMENT`]. Registered values and groups, bounds and
//! levels come from the declaration; where that says nothing, texts are numbered (`ward-1`), numbers are small and
//! times lie in one fixed year. The same declaration makes the same rows, at every node.
//!
//! Invariant: a twin is a function of a [`Product`] alone. Nothing in this module can name a dataset, a file or a key.
//!
//! [`DEVELOPMENT`]: guildhall_grant::product::DEVELOPMENT

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use guildhall_grant::product::{Dimension, Measure, Product, RollUpKind};
use guildhall_model::ColumnClass;
use std::fmt;
use std::sync::Arc;

/// How many rows a twin has: enough for cells of a few dimensions to stand.
const ROWS: u64 = 4096;
/// Rows of one unit, where the product lets so many count.
const ROWS_PER_UNIT: u64 = 2;
/// Made-up values of a dimension, and of one that lies within another.
const VALUES: u64 = 8;
const INNER_VALUES: u64 = 24;
/// Made-up values of any other column.
const OTHER_VALUES: u64 = 50;
/// Days of which a time is made up, and the first of them, 1 January 2025, in microseconds.
const DAYS: u64 = 365;
const FIRST_DAY: i64 = 1_735_689_600_000_000;
const DAY: i64 = 86_400_000_000;

/// Rows that are made up. `Debug` shows its shape.
pub(crate) struct Twin {
    rows: RecordBatch,
}

impl fmt::Debug for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Twin")
            .field("columns", &self.rows.num_columns())
            .field("rows", &self.rows.num_rows())
            .finish()
    }
}

impl Twin {
    /// The twin of `product`, whose columns are `schema`.
    pub(crate) fn of(product: &Product, schema: &SchemaRef) -> Result<Self, ArrowError> {
        let maker = Maker { product };
        let columns = schema.fields().iter().map(|f| maker.column(f));
        Ok(Self {
            rows: RecordBatch::try_new(Arc::clone(schema), columns.collect())?,
        })
    }

    /// The rows.
    pub(crate) fn rows(&self) -> &RecordBatch {
        &self.rows
    }
}

/// The registered columns of a product.
pub(crate) fn registered_schema(product: &Product) -> Result<SchemaRef, ArrowError> {
    let bytes = arrow::buffer::Buffer::from_vec(product.arrow_schema.clone());
    let schema: Schema = arrow::ipc::convert::try_schema_from_ipc_buffer(&bytes)?;
    Ok(Arc::new(schema))
}

/// What makes the columns of one twin.
struct Maker<'a> {
    product: &'a Product,
}

impl Maker<'_> {
    fn column(&self, field: &Field) -> ArrayRef {
        let name = field.name();
        let plain = match (self.product.dimension(name), self.product.measure(name)) {
            (Some(dimension), _) => self.dimension(dimension, field.data_type()),
            (None, Some(measure)) => amounts(name, measure),
            (None, None) => self.other(name, field.data_type()),
        };
        let rows = plain.len();
        let typed = cast(&plain, field.data_type());
        typed.unwrap_or_else(|_| new_null_array(field.data_type(), rows))
    }

    /// A dimension's registered values, or made-up ones.
    fn dimension(&self, dimension: &Dimension, data_type: &DataType) -> ArrayRef {
        let picked = (0..ROWS).map(|row| self.pick(dimension, row));
        let values = declared(dimension);
        if values.is_empty() {
            return made_up(dimension.column.as_str(), data_type, picked);
        }
        let value = |at: u64| usize::try_from(at).ok().and_then(|at| values.get(at));
        Arc::new(picked.map(value).collect::<StringArray>())
    }

    /// Which of a dimension's values a row has: one that lies within the row's value of the dimension around it.
    fn pick(&self, dimension: &Dimension, row: u64) -> u64 {
        let values = self.values(dimension);
        let outer = dimension.within.as_ref();
        let outer = outer.and_then(|o| self.product.dimension(o.as_str()));
        let drawn = drawn(dimension.column.as_str(), row);
        match outer {
            None => skewed(drawn, values),
            Some(outer) => {
                let (around, outers) = (self.pick(outer, row), self.values(outer));
                // Value i lies in value i modulo the number of those around; of each there is one at least.
                let choices = values.saturating_sub(around).div_ceil(outers.max(1)).max(1);
                let choice = skewed(drawn, choices);
                around.saturating_add(choice.saturating_mul(outers))
            }
        }
    }

    /// How many values of a dimension are used: no more than those of any that lies within it.
    fn values(&self, dimension: &Dimension) -> u64 {
        let registered = declared(dimension).len() as u64;
        let times = dimension
            .roll_ups
            .iter()
            .any(|r| matches!(r.kind, RollUpKind::DateTrunc(_)));
        let own = match (registered, times, dimension.within.is_some()) {
            (0, true, _) => DAYS,
            (0, false, true) => INNER_VALUES,
            (0, false, false) => VALUES,
            (registered, ..) => registered,
        };
        let inner = self.product.dimensions.iter();
        let inner = inner.filter(|d| d.within.as_ref() == Some(&dimension.column));
        inner.map(|d| self.values(d)).fold(own, u64::min)
    }

    /// A column that is neither dimension nor measure.
    fn other(&self, name: &str, data_type: &DataType) -> ArrayRef {
        let is_unit = self
            .product
            .unit
            .as_ref()
            .is_some_and(|u| u.as_str() == name);
        match self.product.column(name).map(|c| c.class) {
            _ if is_unit => made_up(name, data_type, (0..ROWS).map(|row| row % self.units())),
            Some(ColumnClass::Secret) | None => {
                new_null_array(data_type, usize::try_from(ROWS).unwrap_or(0))
            }
            Some(_) => {
                let drawn = (0..ROWS).map(|row| drawn(name, row) % OTHER_VALUES);
                made_up(name, data_type, drawn)
            }
        }
    }

    fn units(&self) -> u64 {
        let most = u64::from(self.product.max_rows_per_unit).clamp(1, ROWS_PER_UNIT);
        ROWS / most
    }
}

/// The values that a dimension declares, or else those of its groups.
fn declared(dimension: &Dimension) -> Vec<&str> {
    if !dimension.values.is_empty() {
        return dimension.values.iter().map(String::as_str).collect();
    }
    let groups = dimension.roll_ups.iter().filter_map(|r| match &r.kind {
        RollUpKind::Group(values) => Some(values),
        RollUpKind::DateTrunc(_) => None,
    });
    groups.flatten().map(String::as_str).collect()
}

/// Values of which nothing is declared but their type.
fn made_up(name: &str, data_type: &DataType, numbers: impl Iterator<Item = u64>) -> ArrayRef {
    let whole = |n: u64| i64::try_from(n).unwrap_or(0);
    match data_type {
        DataType::Boolean => Arc::new(Int64Array::from_iter_values(numbers.map(|n| whole(n % 2)))),
        t if t.is_temporal() => {
            let moment = |n: u64| {
                let day = whole(n % DAYS).saturating_mul(DAY);
                let second = whole(mixed(n) % 86_400).saturating_mul(1_000_000);
                FIRST_DAY.saturating_add(day).saturating_add(second)
            };
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                numbers.map(moment),
            ))
        }
        t if t.is_numeric() => {
            let numbers = numbers.map(|n| whole(n.saturating_add(1)));
            Arc::new(Int64Array::from_iter_values(numbers))
        }
        _ => {
            let texts = numbers.map(|n| format!("{name}-{}", n.saturating_add(1)));
            Arc::new(StringArray::from_iter_values(texts))
        }
    }
}

/// Amounts of which two lie within a measure's bounds, none below 0 if that can be, small ones more often.
fn amounts(name: &str, measure: &Measure) -> ArrayRef {
    let least = measure.lower.max(0.0_f64.min(measure.upper));
    let amount = |row| {
        let share = fraction(drawn(name, row));
        let amount = least + (measure.upper - least) * share * share / 2.0;
        (amount * 100.0).round() / 100.0
    };
    Arc::new(Float64Array::from_iter_values((0..ROWS).map(amount)))
}

/// One of so many, the first ones more often.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "made-up numbers, far below 2^52"
)]
fn skewed(drawn: u64, of: u64) -> u64 {
    let share = fraction(drawn);
    let at = (share * share * of as f64) as u64;
    at.min(of.saturating_sub(1))
}

#[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
fn fraction(drawn: u64) -> f64 {
    (drawn >> 11) as f64 / (1_u64 << 53) as f64
}

/// A number for one row of a column: the same at every time and place.
fn drawn(column: &str, row: u64) -> u64 {
    let name = column.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mixed(name ^ mixed(row))
}

/// SplitMix64's finaliser (Steele, Lea and Flood 2014): well spread, and of no worth as a secret.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests;
