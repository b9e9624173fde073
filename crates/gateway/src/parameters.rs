//! Parameters of prepared statements: read from DoPut, carried in handles, one execution a row.

use crate::error::DoorError;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::{ParamValues, ScalarValue};

/// One batch as it travels in a handle.
pub(crate) fn encode(batches: &[RecordBatch], schema: &SchemaRef) -> Result<Vec<u8>, DoorError> {
    let mut bytes = Vec::new();
    let written = concat_batches(schema, batches).and_then(|all| {
        let mut writer = StreamWriter::try_new(&mut bytes, schema)?;
        writer.write(&all)?;
        writer.finish()
    });
    written.map_err(|e| DoorError::internal("write parameters", &e))?;
    Ok(bytes)
}

/// The rows of what [`encode`] wrote, each as the values of `$1` to `$n` in the types expected.
pub(crate) fn rows(bytes: &[u8], expected: &Schema) -> Result<Vec<ParamValues>, DoorError> {
    let unreadable = |e| DoorError::internal("read parameters", &e);
    let mut reader = StreamReader::try_new(bytes, None).map_err(unreadable)?;
    let Some(batch) = reader.next().transpose().map_err(unreadable)? else {
        return Ok(Vec::new());
    };
    if batch.num_columns() != expected.fields().len() {
        return Err(DoorError::invalid(format!(
            "the statement has {} parameters, and {} were bound",
            expected.fields().len(),
            batch.num_columns()
        )));
    }
    let columns = batch
        .columns()
        .iter()
        .zip(expected.fields())
        .enumerate()
        .map(|(i, (column, field))| fit(column, field.data_type(), i + 1))
        .collect::<Result<Vec<_>, _>>()?;
    (0..batch.num_rows())
        .map(|row| {
            let values = columns
                .iter()
                .map(|c| ScalarValue::try_from_array(c, row).map(Into::into))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| DoorError::internal("read parameters", &e))?;
            Ok(ParamValues::List(values))
        })
        .collect()
}

// The value itself is not told: it may be somebody's name.
fn fit(column: &ArrayRef, expected: &DataType, number: usize) -> Result<ArrayRef, DoorError> {
    if column.data_type() == expected {
        return Ok(column.clone());
    }
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, expected, &strict).map_err(|_| {
        DoorError::invalid(format!(
            "parameter ${number} is of type {}, and a value of it does not fit {expected}",
            column.data_type()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Field;
    use std::sync::Arc;

    fn types(types: &[DataType]) -> Schema {
        Schema::new(
            types
                .iter()
                .map(|t| Field::new("$", t.clone(), true))
                .collect::<Vec<_>>(),
        )
    }

    fn bound(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(n, c)| (n, c, true)),
        )
        .unwrap();
        encode(std::slice::from_ref(&batch), &batch.schema()).unwrap()
    }

    #[test]
    fn each_row_is_one_execution_and_null_stays_null() {
        let bytes = bound(vec![(
            "0",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
        )]);
        let rows = rows(&bytes, &types(&[DataType::Int32])).unwrap();
        let values: Vec<ScalarValue> = rows
            .iter()
            .map(|r| match r {
                ParamValues::List(v) => v[0].value.clone(),
                ParamValues::Map(_) => unreachable!(),
            })
            .collect();
        assert_eq!(
            values,
            [
                ScalarValue::Int32(Some(1)),
                ScalarValue::Int32(None),
                ScalarValue::Int32(Some(3))
            ]
        );
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused_without_being_told() {
        let bytes = bound(vec![("0", Arc::new(StringArray::from(vec!["Jane Doe"])))]);
        let error = rows(&bytes, &types(&[DataType::Int64]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("$1") && !error.contains("Jane"), "{error}");
    }

    #[test]
    fn too_few_are_refused() {
        let bytes = bound(vec![("0", Arc::new(Int64Array::from(vec![1])))]);
        assert!(rows(&bytes, &types(&[DataType::Utf8, DataType::Utf8])).is_err());
    }
}
