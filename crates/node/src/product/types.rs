//! The forms that text takes on its way: plain at rest and on the wire, string views in between.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// Whether values of `t` need no cast before they are written as `to`.
pub(super) fn is_form_of(t: &DataType, to: &DataType) -> bool {
    t == to
        || matches!(
            (t, to),
            (DataType::Utf8View, DataType::Utf8) | (DataType::BinaryView, DataType::Binary)
        )
}

/// A dataset's columns in the form in which they are read: text as string views.
pub(crate) fn read_schema(stored: &Schema) -> SchemaRef {
    let fields = stored.fields().iter().map(|f| match f.data_type() {
        DataType::Utf8 => f.as_ref().clone().with_data_type(DataType::Utf8View),
        _ => f.as_ref().clone(),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The type that values of `t` have in a product: no views, no dictionaries.
pub(crate) fn plain_type(t: &DataType) -> DataType {
    match t {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::List(item) => DataType::List(plain_item(item)),
        DataType::LargeList(item) => DataType::LargeList(plain_item(item)),
        other => other.clone(),
    }
}

fn plain_item(item: &Arc<Field>) -> Arc<Field> {
    Arc::new(
        item.as_ref()
            .clone()
            .with_data_type(plain_type(item.data_type())),
    )
}
