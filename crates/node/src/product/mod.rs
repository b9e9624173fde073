//! Products: the file that a department writes, the view behind it, what is registered of it.

mod file;
mod shelf;
mod view;

#[cfg(test)]
pub(crate) use file::tests::SESSIONS;
pub use file::{ColumnDraft, Draft, ProductError};
pub(crate) use shelf::{Products, Served, ShelfError};
pub(crate) use shelf::{definition_file, envelope_file};
pub(crate) use view::{
    DatasetScan, Lineage, View, dataset_names, dataset_of, lineage, plain_type, plan_view,
    read_schema, scans,
};

use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::{IpcMessage, SchemaAsIpc};

/// A schema as an Arrow IPC encapsulated message, which is how products carry it.
pub(crate) fn schema_bytes(schema: &Schema) -> Result<Vec<u8>, ArrowError> {
    let options = IpcWriteOptions::default();
    Ok(IpcMessage::try_from(SchemaAsIpc::new(schema, &options))?
        .0
        .to_vec())
}
