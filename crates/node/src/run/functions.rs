//! What a plan of cells computes beside the engine's own functions: record keys, and what a rule needs to know of
//! a total.
//!
//! They exist in the node's own plans alone: no fragment can name them.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array, StructArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Fields, Int64Type,
    UInt64Type,
};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, EmitTo, Expr, GroupsAccumulator,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use guildhall_disclosure::NoiseSecret;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The record key of `unit` under `secret`, which `label` names: `UInt64`, NULL for no unit.
pub(super) fn record_key(secret: &NoiseSecret, label: &str, unit: Expr) -> Expr {
    let function = RecordKey {
        secret: secret.clone(),
        label: label.to_owned(),
        signature: Signature::any(1, Volatility::Immutable),
    };
    ScalarUDF::new_from_impl(function).call(vec![unit])
}

/// What a rule needs to know of a total of `value`, one unit's (`Decimal128`), over the units with record keys
/// `record`: a structure with the fields of [`Facts`].
pub(super) fn facts_of(value: Expr, record: Expr) -> Expr {
    let function = CellFacts {
        signature: Signature::any(2, Volatility::Immutable),
    };
    AggregateUDF::new_from_impl(function).call(vec![value, record])
}

/// The fields of what [`facts_of`] gives, in order.
pub(super) const FACTS: [&str; 6] = [
    "contributors",
    "key_sum",
    "sum",
    "largest",
    "second",
    "negatives",
];

/// `Debug` shows the label and not the secret.
#[derive(Debug)]
struct RecordKey {
    secret: NoiseSecret,
    label: String,
    signature: Signature,
}

// The label says which secret of this node it is.
impl PartialEq for RecordKey {
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label
    }
}
impl Eq for RecordKey {}
impl Hash for RecordKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.label.hash(state);
    }
}

impl ScalarUDFImpl for RecordKey {
    fn name(&self) -> &'static str {
        "record_key"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let units = ColumnarValue::values_to_arrays(&args.args)?;
        let [units] = units.as_slice() else {
            return Err(internal("a record key is of one unit"));
        };
        let key = |unit: &[u8]| self.secret.record_key(unit);
        let keys: UInt64Array = match units.data_type() {
            DataType::Utf8 => units
                .as_string::<i32>()
                .iter()
                .map(|u| u.map(|u| key(u.as_bytes())))
                .collect(),
            DataType::Utf8View => units
                .as_string_view()
                .iter()
                .map(|u| u.map(|u| key(u.as_bytes())))
                .collect(),
            _ => cast(units, &DataType::Utf8)?
                .as_string::<i32>()
                .iter()
                .map(|u| u.map(|u| key(u.as_bytes())))
                .collect(),
        };
        Ok(ColumnarValue::Array(Arc::new(keys)))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CellFacts {
    signature: Signature,
}

impl AggregateUDFImpl for CellFacts {
    fn name(&self) -> &'static str {
        "cell_facts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields(scale(arguments.first())?)))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneCell(cells(&args)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let DataType::Struct(fields) = args.return_field.data_type() else {
            return Err(internal("the facts of a cell are a structure"));
        };
        Ok(fields.to_vec())
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(cells(&args)?))
    }
}

fn cells(args: &AccumulatorArgs) -> Result<Cells> {
    let of = args.expr_fields.first().map(|f| f.data_type());
    Ok(Cells {
        scale: scale(of)?,
        facts: Vec::new(),
    })
}

fn scale(of: Option<&DataType>) -> Result<i8> {
    match of {
        Some(DataType::Decimal128(_, scale)) => Ok(*scale),
        _ => Err(internal("a total is a decimal")),
    }
}

fn fields(scale: i8) -> Fields {
    let decimal = DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale);
    let types = [
        DataType::Int64,
        DataType::UInt64,
        decimal.clone(),
        decimal.clone(),
        decimal,
        DataType::Int64,
    ];
    let named = FACTS.iter().zip(types);
    named
        .map(|(name, data_type)| Field::new(*name, data_type, true))
        .collect()
}

/// What is known of one total in one cell so far.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    contributors: i64,
    key_sum: u64,
    sum: i128,
    largest: i128,
    second: i128,
    negatives: i64,
}

impl Facts {
    fn contribute(&mut self, value: i128, record: u64) {
        self.add(&Self {
            contributors: 1,
            key_sum: record,
            sum: value,
            largest: value.saturating_abs(),
            second: 0,
            negatives: i64::from(value < 0),
        });
    }

    fn add(&mut self, other: &Self) {
        self.contributors = self.contributors.saturating_add(other.contributors);
        self.key_sum = self.key_sum.wrapping_add(other.key_sum);
        self.sum = self.sum.saturating_add(other.sum);
        let (low, high) = if self.largest < other.largest {
            (self.largest, other.largest)
        } else {
            (other.largest, self.largest)
        };
        self.second = low.max(self.second).max(other.second);
        self.largest = high;
        self.negatives = self.negatives.saturating_add(other.negatives);
    }
}

/// The facts of every cell, by its number.
#[derive(Debug)]
struct Cells {
    scale: i8,
    facts: Vec<Facts>,
}

impl Cells {
    fn contribute(
        &mut self,
        values: &[ArrayRef],
        group: impl Fn(usize) -> Option<usize>,
    ) -> Result<()> {
        let [values, records] = values else {
            return Err(internal("a total is of values and record keys"));
        };
        let (values, records) = (
            values.as_primitive::<Decimal128Type>(),
            records.as_primitive::<UInt64Type>(),
        );
        for (row, (value, record)) in values.iter().zip(records).enumerate() {
            let cell = group(row).and_then(|g| self.facts.get_mut(g));
            if let (Some(cell), Some(value), Some(record)) = (cell, value, record) {
                cell.contribute(value, record);
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], group: impl Fn(usize) -> Option<usize>) -> Result<()> {
        let [contributors, key_sums, sums, largest, second, negatives] = states else {
            return Err(internal("the state of a total has six parts"));
        };
        let (contributors, negatives) = (
            contributors.as_primitive::<Int64Type>(),
            negatives.as_primitive::<Int64Type>(),
        );
        let key_sums = key_sums.as_primitive::<UInt64Type>();
        let decimal = |a: &ArrayRef| a.as_primitive::<Decimal128Type>().clone();
        let (sums, largest, second) = (decimal(sums), decimal(largest), decimal(second));
        for row in 0..contributors.len() {
            if let Some(cell) = group(row).and_then(|g| self.facts.get_mut(g)) {
                cell.add(&Facts {
                    contributors: contributors.value(row),
                    key_sum: key_sums.value(row),
                    sum: sums.value(row),
                    largest: largest.value(row),
                    second: second.value(row),
                    negatives: negatives.value(row),
                });
            }
        }
        Ok(())
    }

    fn emit(&mut self, to: EmitTo) -> Result<Vec<ArrayRef>> {
        let facts = to.take_needed(&mut self.facts);
        let int = |pick: fn(&Facts) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(facts.iter().map(pick)))
        };
        let decimal = |pick: fn(&Facts) -> i128| -> Result<ArrayRef> {
            let values = Decimal128Array::from_iter_values(facts.iter().map(pick));
            let typed = values.with_precision_and_scale(DECIMAL128_MAX_PRECISION, self.scale)?;
            Ok(Arc::new(typed))
        };
        let keys = UInt64Array::from_iter_values(facts.iter().map(|f| f.key_sum));
        Ok(vec![
            int(|f| f.contributors),
            Arc::new(keys),
            decimal(|f| f.sum)?,
            decimal(|f| f.largest)?,
            decimal(|f| f.second)?,
            int(|f| f.negatives),
        ])
    }

    fn structure(&mut self, to: EmitTo) -> Result<ArrayRef> {
        let parts = self.emit(to)?;
        Ok(Arc::new(StructArray::try_new(
            fields(self.scale),
            parts,
            None,
        )?))
    }
}

impl GroupsAccumulator for Cells {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.facts.resize(total_num_groups, Facts::default());
        let counts = |row: usize| opt_filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        self.contribute(values, |row| {
            group_indices.get(row).copied().filter(|_| counts(row))
        })
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.structure(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.emit(emit_to)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.facts.resize(total_num_groups, Facts::default());
        self.merge(values, |row| group_indices.get(row).copied())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |v| v.len());
        let mut each = Self {
            scale: self.scale,
            facts: vec![Facts::default(); rows],
        };
        let counts = |row: usize| opt_filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        each.contribute(values, |row| Some(row).filter(|row| counts(*row)))?;
        each.emit(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.facts.capacity().saturating_mul(size_of::<Facts>())
    }
}

/// The one cell of a whole table.
#[derive(Debug)]
struct OneCell(Cells);

impl OneCell {
    fn room(&mut self) {
        self.0.facts.resize(1, Facts::default());
    }
}

impl Accumulator for OneCell {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.room();
        self.0.contribute(values, |_| Some(0))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.room();
        ScalarValue::try_from_array(&self.0.structure(EmitTo::All)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self).saturating_add(GroupsAccumulator::size(&self.0))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.room();
        let parts = self.0.emit(EmitTo::All)?;
        parts
            .iter()
            .map(|p| ScalarValue::try_from_array(p, 0))
            .collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.room();
        self.0.merge(states, |_| Some(0))
    }
}

fn internal(what: &str) -> DataFusionError {
    DataFusionError::Internal(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{SessionConfig, SessionContext, col};

    /// Units of three groups with their values, spread over partitions; some with none.
    async fn facts(partitions: usize) -> Vec<String> {
        let config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(3);
        let context = SessionContext::new_with_config(config);
        let sql = "SELECT v % 3 AS g, arrow_cast(v, 'UInt64') AS r, \
                   CASE WHEN v % 5 = 0 THEN NULL ELSE arrow_cast(v - 20, 'Decimal128(38, 0)') END AS x \
                   FROM (SELECT unnest(range(1, 61)) AS v)";
        let frame = context.sql(sql).await.unwrap();
        let aggregates = vec![facts_of(col("x"), col("r")).alias("facts")];
        let cells = frame
            .aggregate(vec![col("g")], aggregates)
            .unwrap()
            .sort(vec![col("g").sort(true, false)])
            .unwrap();
        let batches = cells.collect().await.unwrap();
        let whole = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        let facts = whole.column(1).as_struct();
        (0..whole.num_rows())
            .map(|row| {
                let text = |c: &ArrayRef| arrow::util::display::array_value_to_string(c, row);
                let parts: Vec<_> = facts.columns().iter().map(|c| text(c).unwrap()).collect();
                parts.join(" ")
            })
            .collect()
    }

    #[tokio::test]
    async fn facts_are_those_of_the_values_however_they_are_spread() {
        let mut wanted = Vec::new();
        for g in 0..3_i64 {
            let units = (1..61).filter(|v| v % 3 == g && v % 5 != 0);
            let units: Vec<i64> = units.collect();
            let mut sizes: Vec<i64> = units.iter().map(|v| (v - 20).abs()).collect();
            sizes.sort_unstable();
            let (records, sum) = (
                units.iter().sum::<i64>(),
                units.iter().map(|v| v - 20).sum::<i64>(),
            );
            let negatives = units.iter().filter(|v| **v < 20).count();
            let (largest, second) = (sizes[sizes.len() - 1], sizes[sizes.len() - 2]);
            wanted.push(format!(
                "{} {records} {sum} {largest} {second} {negatives}",
                units.len()
            ));
        }
        for partitions in [1, 4] {
            assert_eq!(facts(partitions).await, wanted);
        }
    }

    #[tokio::test]
    async fn a_whole_table_of_nobody_has_facts() {
        let context = SessionContext::new();
        let sql = "SELECT arrow_cast(1, 'Decimal128(38, 0)') AS x, arrow_cast(1, 'UInt64') AS r WHERE false";
        let frame = context.sql(sql).await.unwrap();
        let cell = frame
            .aggregate(vec![], vec![facts_of(col("x"), col("r")).alias("facts")])
            .unwrap();
        let batches = cell.collect().await.unwrap();
        let contributors = batches[0].column(0).as_struct().column(0);
        assert_eq!(contributors.as_primitive::<Int64Type>().value(0), 0);
    }
}
