//! The schema that leaves the gateway, and the cast to it.
//!
//! A client is told one schema before it fetches and gets exactly that: every column nullable
//! (statistics and suppression both change what can be NULL), no views, no dictionaries.

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt as _;
use std::sync::Arc;

/// Field metadata that is ours starts with this; no other leaves.
pub const METADATA_PREFIX: &str = "guildhall.";

/// What a client is told of a result with these columns.
#[must_use]
pub fn wire_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(wire_field).collect();
    Arc::new(Schema::new(fields))
}

/// The rule of columns whose rows are synthetic: made up of what products declare, for the purpose of development.
pub const SYNTHETIC: &str = "synthetic";

/// The same columns, each of which says that its rows are synthetic.
#[must_use]
pub fn synthetic(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let mut metadata = field.metadata().clone();
        metadata.insert(format!("{METADATA_PREFIX}rule"), SYNTHETIC.to_owned());
        field.as_ref().clone().with_metadata(metadata)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn wire_field(field: &FieldRef) -> FieldRef {
    let metadata = field
        .metadata()
        .iter()
        .filter(|(k, _)| k.starts_with(METADATA_PREFIX))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    Arc::new(Field::new(field.name(), wire_type(field.data_type()), true).with_metadata(metadata))
}

/// The type that stands for `t` on the wire.
fn wire_type(t: &DataType) -> DataType {
    match t {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => wire_type(values),
        DataType::RunEndEncoded(_, values) => wire_type(values.data_type()),
        DataType::List(f) | DataType::ListView(f) => DataType::List(wire_field(f)),
        DataType::LargeList(f) | DataType::LargeListView(f) => DataType::LargeList(wire_field(f)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(wire_field(f), *n),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(wire_field).collect::<Fields>())
        }
        other => other.clone(),
    }
}

/// `batch` in `schema`, column by column in their order.
pub(crate) fn cast_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast(column, field.data_type())
            }
        })
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

/// `stream` with every batch in `schema`.
pub(crate) fn cast_stream(
    stream: SendableRecordBatchStream,
    schema: SchemaRef,
) -> SendableRecordBatchStream {
    let target = Arc::clone(&schema);
    let batches = stream.map(move |batch| batch.and_then(|b| cast_batch(&b, &target)));
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array, StringViewArray};

    #[test]
    fn what_leaves_is_nullable_and_plain() {
        let inner = Field::new("a", DataType::Utf8View, false).with_metadata(
            [
                ("guildhall.rule".to_owned(), "x".to_owned()),
                ("b".into(), "y".into()),
            ]
            .into(),
        );
        let told = wire_schema(&Schema::new(vec![inner]));
        let field = told.field(0);
        assert_eq!(field.data_type(), &DataType::Utf8);
        assert!(field.is_nullable());
        assert_eq!(field.metadata().len(), 1);
    }

    #[test]
    fn synthetic_columns_say_so_and_lose_nothing_else() {
        let metadata = [
            ("guildhall.rule".to_owned(), "x".to_owned()),
            ("guildhall.error_bound".into(), "none".into()),
        ];
        let of_cells = Field::new("n", DataType::Int64, true).with_metadata(metadata.into());
        let plain = Field::new("m", DataType::Int64, true);
        let told = synthetic(&Schema::new(vec![of_cells, plain]));
        for field in told.fields() {
            assert_eq!(field.metadata()["guildhall.rule"], SYNTHETIC);
        }
        assert_eq!(told.field(0).metadata()["guildhall.error_bound"], "none");
    }

    #[test]
    fn a_batch_takes_the_schema_that_was_told() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("a", Arc::new(StringViewArray::from(vec!["x"]))),
            ("b", Arc::new(Int64Array::from(vec![1]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let told = wire_schema(&batch.schema());
        assert_eq!(cast_batch(&batch, &told).unwrap().schema(), told);
    }
}
