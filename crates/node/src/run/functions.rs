//! What a plan computes beside the engine's own functions: record keys.
//!
//! They exist in the node's own plans alone: no fragment can name them.

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
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
        let keys = self.secret.record_keys(units)?;
        Ok(ColumnarValue::Array(Arc::new(keys)))
    }
}

fn internal(what: &str) -> DataFusionError {
    DataFusionError::Internal(what.to_owned())
}
