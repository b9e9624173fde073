//! A predicate of a free question, which never fails.
//!
//! [`super::total`] makes the common faults NULL. Listed functions have faults of their own: a code that is no letter,
//! a pattern that is none, a number beyond its type. Where a batch of rows fails, it is taken in halves until the rows
//! that fail are alone, and for these the predicate is NULL, which is not met. What it is for a row depends on that row
//! alone.
//!
//! What it does not hide is time: a batch in which a row fails takes longer.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Column, DFSchema, DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// `predicate` over a relation of columns `schema` as one that is NULL where it cannot be computed.
pub(super) fn guarded(predicate: Expr, schema: &DFSchema, state: &SessionState) -> Result<Expr> {
    let read: Vec<Column> = {
        let mut read: Vec<Column> = predicate.column_refs().into_iter().cloned().collect();
        read.sort();
        read
    };
    // It says the same of every row, and fails when it is planned or never.
    if read.is_empty() {
        return Ok(predicate);
    }
    let fields = read.iter().map(|c| {
        let (qualifier, field) = schema.qualified_field_from_column(c)?;
        let field = field.as_ref().clone().with_nullable(true);
        Ok((qualifier.cloned(), Arc::new(field)))
    });
    let columns = DFSchema::new_with_metadata(fields.collect::<Result<Vec<_>>>()?, HashMap::new())?;
    let function = Guarded {
        physical: state.create_physical_expr(predicate.clone(), &columns)?,
        predicate,
        columns: Arc::clone(columns.inner()),
        signature: Signature::any(read.len(), Volatility::Immutable),
    };
    let read = read.into_iter().map(Expr::Column).collect();
    Ok(ScalarUDF::new_from_impl(function).call(read))
}

struct Guarded {
    predicate: Expr,
    physical: Arc<dyn PhysicalExpr>,
    columns: SchemaRef,
    signature: Signature,
}

impl Guarded {
    /// The predicate for each row of `batch`.
    fn of(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let rows = batch.num_rows();
        // A function that panics tells no more of its row than one that fails.
        let tried = catch_unwind(AssertUnwindSafe(|| {
            self.physical.evaluate(batch)?.into_array(rows)
        }));
        match tried {
            Ok(Ok(met)) if met.len() == rows && met.as_boolean_opt().is_some() => Ok(met),
            _ if rows <= 1 => Ok(Arc::new(BooleanArray::new_null(rows))),
            _ => {
                let half = rows / 2;
                let (one, other) = (
                    self.of(&batch.slice(0, half))?,
                    self.of(&batch.slice(half, rows.saturating_sub(half)))?,
                );
                Ok(concat(&[&one, &other])?)
            }
        }
    }
}

impl ScalarUDFImpl for Guarded {
    fn name(&self) -> &'static str {
        "guarded"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let columns = args.args.into_iter().zip(self.columns.fields());
        let columns = columns.map(|(value, field)| {
            let column = value.into_array(rows)?;
            Ok(arrow::compute::cast(&column, field.data_type())?)
        });
        let columns = columns.collect::<Result<Vec<_>, DataFusionError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&self.columns), columns, &options)?;
        Ok(ColumnarValue::Array(self.of(&batch)?))
    }
}

/// Shows no literal of the statement.
impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&String> = self.columns.fields().iter().map(|f| f.name()).collect();
        f.debug_struct("Guarded")
            .field("columns", &columns)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.predicate == other.predicate && self.columns == other.columns
    }
}

impl Eq for Guarded {}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.predicate.hash(state);
    }
}
