//! Cells over a private product: what a rule needs to know of each, and what of it leaves.

use crate::canonical;
use crate::release::ReleaseError;
use crate::threshold::enough;
use crate::{ERROR_METADATA, RULE_METADATA};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, UInt32Array,
};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{and, cast, filter, take};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use std::collections::HashMap;
use std::sync::Arc;

/// How the cells of one answer are weighed. The input has one row per cell and, beside the values asked for, the
/// counts that the rule looks at; those never leave.
#[derive(Debug, Clone)]
pub struct CellRule {
    /// The least number of distinct units that a cell or value may stand on; 2 at least.
    pub minimum_group: u32,
    /// Input columns that name a cell; none for an answer of one cell.
    pub keys: Vec<usize>,
    /// Input column with the distinct units of the cell.
    pub units: usize,
    /// What leaves, in order.
    pub columns: Vec<CellColumn>,
}

impl CellRule {
    /// Whether the answer is the one cell of the whole table.
    #[must_use]
    pub fn whole_table(&self) -> bool {
        self.keys.is_empty()
    }
}

/// A column of the answer.
#[derive(Debug, Clone)]
pub struct CellColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// What it is made of.
    pub value: CellValue,
}

/// What a released column is made of; numbers are input columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CellValue {
    /// A part of the cell's name.
    Key {
        /// Input column.
        column: usize,
    },
    /// A count of units or rows, which stands on the units in `contributors`.
    Count {
        /// Input column.
        column: usize,
        /// Input column with the distinct units that have a value.
        contributors: usize,
    },
    /// A sum of per-unit totals, each clamped to its bounds already.
    Sum {
        /// Input column.
        column: usize,
        /// Input column with the distinct units that have a value.
        contributors: usize,
    },
    /// `sum / count`, from the released numbers.
    Mean {
        /// Input column with the sum of clamped per-unit totals.
        sum: usize,
        /// Input column with the count of values.
        count: usize,
        /// Input column with the distinct units that have a value.
        contributors: usize,
    },
}

impl CellValue {
    fn rule(self, minimum: u32) -> String {
        match self {
            Self::Key { .. } => format!("minimum-group={minimum}"),
            Self::Count { .. } => format!("minimum-group={minimum};minimum-contributors={minimum}"),
            Self::Sum { .. } | Self::Mean { .. } => {
                format!("minimum-group={minimum};minimum-contributors={minimum};clamped-per-unit")
            }
        }
    }

    fn error(self) -> &'static str {
        match self {
            Self::Key { .. } | Self::Count { .. } => "none",
            Self::Sum { .. } | Self::Mean { .. } => "clamping",
        }
    }

    fn inputs(self) -> Vec<usize> {
        match self {
            Self::Key { column } => vec![column],
            Self::Count {
                column,
                contributors,
            }
            | Self::Sum {
                column,
                contributors,
            } => {
                vec![column, contributors]
            }
            Self::Mean {
                sum,
                count,
                contributors,
            } => vec![sum, count, contributors],
        }
    }
}

/// A rule that fits the shape it was checked against.
#[derive(Debug)]
pub(crate) struct CheckedCells(CellRule);

impl CheckedCells {
    pub(crate) fn new(rule: CellRule, input: &Schema) -> Result<Self, ReleaseError> {
        let wrong = |what: String| ReleaseError::Rule { what };
        if rule.minimum_group < 2 {
            return Err(wrong(format!(
                "a minimum group of {} protects nobody",
                rule.minimum_group
            )));
        }
        let columns = input.fields().len();
        let counts = rule.columns.iter().flat_map(|c| match c.value {
            CellValue::Key { .. } => None,
            CellValue::Count { contributors, .. }
            | CellValue::Sum { contributors, .. }
            | CellValue::Mean { contributors, .. } => Some(contributors),
        });
        let counts: Vec<usize> = counts.chain([rule.units]).collect();
        let used = rule.columns.iter().flat_map(|c| c.value.inputs());
        if let Some(bad) = used
            .chain(rule.keys.iter().copied())
            .chain(counts.iter().copied())
            .find(|i| *i >= columns)
        {
            return Err(wrong(format!("column {bad} of {columns}")));
        }
        if let Some(bad) = counts
            .iter()
            .find(|i| !input.field(**i).data_type().is_integer())
        {
            return Err(wrong(format!("column {bad} is no count")));
        }
        // Invariant: a key leaves only as part of the cell's name, so that what is weighed is what is released.
        for column in &rule.columns {
            if let CellValue::Key { column: key } = column.value
                && !rule.keys.contains(&key)
            {
                return Err(wrong(format!(
                    "column `{}` is no key of the cells",
                    column.name
                )));
            }
        }
        Ok(Self(rule))
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        let fields: Vec<_> = self.0.columns.iter().map(|c| self.field(c)).collect();
        Arc::new(Schema::new(fields))
    }

    fn field(&self, column: &CellColumn) -> Field {
        let metadata = HashMap::from([
            (
                RULE_METADATA.to_owned(),
                column.value.rule(self.0.minimum_group),
            ),
            (ERROR_METADATA.to_owned(), column.value.error().to_owned()),
        ]);
        Field::new(&column.name, column.data_type.clone(), true).with_metadata(metadata)
    }

    /// The columns that leave, and how many cells.
    ///
    /// A grouped answer loses the cells below the minimum; the one cell of a whole table stays, all of it NULL.
    pub(crate) fn release(
        &self,
        batch: &RecordBatch,
    ) -> Result<(Vec<ArrayRef>, usize), ReleaseError> {
        let rule = &self.0;
        let keys: Vec<ArrayRef> = rule
            .keys
            .iter()
            .map(|i| ArrayRef::clone(batch.column(*i)))
            .collect();
        let order = canonical::order(&keys, batch.num_rows())?;
        let standing = enough(batch.column(rule.units), rule.minimum_group)?;
        let order = if rule.whole_table() {
            order
        } else {
            kept(&order, &standing)?
        };
        let columns = rule
            .columns
            .iter()
            .map(|c| {
                let values = self.values(c, batch, &standing)?;
                Ok(cast(&take(&values, &order, None)?, &c.data_type)?)
            })
            .collect::<Result<Vec<_>, ReleaseError>>()?;
        Ok((columns, order.len()))
    }

    fn values(
        &self,
        column: &CellColumn,
        batch: &RecordBatch,
        standing: &BooleanArray,
    ) -> Result<ArrayRef, ReleaseError> {
        match column.value {
            CellValue::Key { column } => Ok(ArrayRef::clone(batch.column(column))),
            CellValue::Count {
                column,
                contributors,
            }
            | CellValue::Sum {
                column,
                contributors,
            } => {
                let shown = self.shown(batch, contributors, standing)?;
                hide(batch.column(column), &shown)
            }
            CellValue::Mean {
                sum,
                count,
                contributors,
            } => {
                let shown = self.shown(batch, contributors, standing)?;
                hide(&mean(batch.column(sum), batch.column(count))?, &shown)
            }
        }
    }

    /// Where a value may be seen: the cell stands, and so does the value in it.
    fn shown(
        &self,
        batch: &RecordBatch,
        contributors: usize,
        standing: &BooleanArray,
    ) -> Result<BooleanArray, ReleaseError> {
        Ok(and(
            standing,
            &enough(batch.column(contributors), self.0.minimum_group)?,
        )?)
    }
}

fn kept(order: &UInt32Array, standing: &BooleanArray) -> Result<UInt32Array, ReleaseError> {
    let mask = take(standing, order, None)?;
    let kept = filter(order, mask.as_boolean())?;
    Ok(kept.as_primitive::<arrow::datatypes::UInt32Type>().clone())
}

/// `values` where `shown`, NULL elsewhere.
fn hide(values: &ArrayRef, shown: &BooleanArray) -> Result<ArrayRef, ReleaseError> {
    let nothing = arrow::array::new_null_array(values.data_type(), values.len());
    Ok(zip(shown, values, &nothing)?)
}

fn mean(sum: &ArrayRef, count: &ArrayRef) -> Result<ArrayRef, ReleaseError> {
    let sum = cast(sum, &DataType::Float64)?;
    let count = cast(count, &DataType::Float64)?;
    let pairs = sum
        .as_primitive::<Float64Type>()
        .iter()
        .zip(count.as_primitive::<Float64Type>().iter());
    let means: Float64Array = pairs
        .map(|(s, n)| match (s, n) {
            (Some(s), Some(n)) if n > 0.0 => Some(s / n),
            _ => None,
        })
        .collect();
    Ok(Arc::new(means))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::release::{Gate, Rule};
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    const WARD: usize = 0;
    const UNITS: usize = 1;
    const ROWS: usize = 2;
    const SUM: usize = 3;
    const CONTRIBUTORS: usize = 4;

    #[test]
    fn a_group_below_the_minimum_is_withheld() {
        let out = release(
            ward_rule(10),
            &[("Kinson", 10, 11, 50, 10), ("Boscombe", 9, 99, 50, 9)],
        );
        assert_eq!(wards(&out), ["Kinson"]);
    }

    #[test]
    fn many_rows_of_few_units_are_withheld_too() {
        assert_eq!(
            release(ward_rule(10), &[("Kinson", 1, 10_000, 5, 1)]).num_rows(),
            0
        );
    }

    #[test]
    fn a_measure_with_too_few_contributors_is_null_in_a_cell_that_stands() {
        let out = release(ward_rule(10), &[("Kinson", 12, 12, 50, 9)]);
        assert_eq!(out.num_rows(), 1);
        assert!(out.column(1).is_valid(0));
        assert!(out.column(2).is_null(0));
        assert!(out.column(3).is_null(0));
    }

    #[test]
    fn a_mean_comes_from_the_released_sum_and_count() {
        let out = release(ward_rule(2), &[("Kinson", 4, 4, 50, 4)]);
        assert!((out.column(3).as_primitive::<Float64Type>().value(0) - 12.5).abs() < f64::EPSILON);
    }

    #[test]
    fn the_order_of_cells_says_nothing_about_the_data() {
        let a = release(ward_rule(2), &[("b", 5, 5, 1, 5), ("a", 6, 6, 2, 6)]);
        let b = release(ward_rule(2), &[("a", 6, 6, 2, 6), ("b", 5, 5, 1, 5)]);
        assert_eq!(a, b);
        assert_eq!(wards(&a), ["a", "b"]);
    }

    #[test]
    fn a_whole_table_below_the_minimum_is_one_row_of_nulls() {
        let out = release(whole_rule(10), &[("", 9, 9, 50, 9)]);
        assert_eq!(out.num_rows(), 1);
        assert!(out.columns().iter().all(|c| c.is_null(0)));
    }

    #[test]
    fn an_empty_whole_table_looks_like_a_withheld_one() {
        let few = release(whole_rule(10), &[("", 3, 3, 50, 3)]);
        let none = release(whole_rule(10), &[("", 0, 0, 0, 0)]);
        assert_eq!(few, none);
    }

    #[test]
    fn the_counts_that_the_rule_looks_at_do_not_leave() {
        let out = release(ward_rule(2), &[("Kinson", 77, 88, 50, 77)]);
        let names: Vec<_> = out
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        assert_eq!(names, ["ward", "n", "total", "mean"]);
        let ints = |c: usize| out.column(c).as_primitive::<Int64Type>().value(0);
        assert_eq!((ints(1), ints(2)), (88, 50));
    }

    #[test]
    fn a_minimum_that_protects_nobody_makes_no_gate() {
        let schema = cells(&[]).schema();
        for k in [0, 1] {
            assert!(Gate::new(Rule::Cells(ward_rule(k)), Arc::clone(&schema)).is_err());
        }
    }

    #[test]
    fn a_rule_over_columns_that_are_not_there_makes_no_gate() {
        let schema = cells(&[]).schema();
        let mut rule = ward_rule(10);
        rule.units = 17;
        assert!(Gate::new(Rule::Cells(rule), Arc::clone(&schema)).is_err());
        let mut rule = ward_rule(10);
        rule.units = WARD;
        assert!(Gate::new(Rule::Cells(rule), Arc::clone(&schema)).is_err());
        let mut rule = ward_rule(10);
        rule.keys.clear();
        assert!(
            Gate::new(Rule::Cells(rule), schema).is_err(),
            "a key that is no part of the cell's name"
        );
    }

    #[test]
    fn every_released_column_names_its_rule() {
        let out = release(ward_rule(10), &[]);
        assert!(
            out.schema()
                .fields()
                .iter()
                .all(|f| f.metadata().contains_key(RULE_METADATA)
                    && f.metadata().contains_key(ERROR_METADATA)
                    && f.is_nullable())
        );
        assert_eq!(
            out.schema().field(0).metadata()[RULE_METADATA],
            "minimum-group=10"
        );
    }

    fn release(rule: CellRule, rows: &[(&str, i64, i64, i64, i64)]) -> RecordBatch {
        let batch = cells(rows);
        Gate::new(Rule::Cells(rule), batch.schema())
            .unwrap()
            .release(&batch)
            .unwrap()
            .into_batch()
    }

    fn wards(batch: &RecordBatch) -> Vec<&str> {
        batch
            .column(0)
            .as_string::<i32>()
            .iter()
            .map(Option::unwrap)
            .collect()
    }

    fn column(name: &str, data_type: DataType, value: CellValue) -> CellColumn {
        CellColumn {
            name: name.to_owned(),
            data_type,
            value,
        }
    }

    pub(crate) fn ward_rule(minimum_group: u32) -> CellRule {
        let mut rule = whole_rule(minimum_group);
        rule.keys = vec![WARD];
        rule.columns.insert(
            0,
            column("ward", DataType::Utf8, CellValue::Key { column: WARD }),
        );
        rule
    }

    fn whole_rule(minimum_group: u32) -> CellRule {
        let mean = CellValue::Mean {
            sum: SUM,
            count: ROWS,
            contributors: CONTRIBUTORS,
        };
        CellRule {
            minimum_group,
            keys: vec![],
            units: UNITS,
            columns: vec![
                column(
                    "n",
                    DataType::Int64,
                    CellValue::Count {
                        column: ROWS,
                        contributors: UNITS,
                    },
                ),
                column(
                    "total",
                    DataType::Int64,
                    CellValue::Sum {
                        column: SUM,
                        contributors: CONTRIBUTORS,
                    },
                ),
                column("mean", DataType::Float64, mean),
            ],
        }
    }

    /// Cells of (ward, units, rows, sum, contributors).
    pub(crate) fn cells(rows: &[(&str, i64, i64, i64, i64)]) -> RecordBatch {
        let number = |pick: fn(&(&str, i64, i64, i64, i64)) -> i64| -> ArrayRef {
            Arc::new(rows.iter().map(pick).map(Some).collect::<Int64Array>())
        };
        let wards: ArrayRef = Arc::new(rows.iter().map(|r| Some(r.0)).collect::<StringArray>());
        RecordBatch::try_from_iter([
            ("ward", wards),
            ("units", number(|r| r.1)),
            ("rows", number(|r| r.2)),
            ("sum", number(|r| r.3)),
            ("contributors", number(|r| r.4)),
        ])
        .unwrap()
    }
}
