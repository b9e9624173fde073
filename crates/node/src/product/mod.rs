//! Products: the file that a department writes, the view behind it, what is registered of it.

mod budget;
mod draft;
mod file;
mod lineage;
mod origin;
mod shelf;
mod twin;
mod types;
mod view;

#[cfg(test)]
pub(crate) use draft::tests::SESSIONS;
pub use draft::{ColumnDraft, Draft, ProductError};
pub(crate) use lineage::{DatasetScan, Lineage, dataset_of, lineage, scans};
pub(crate) use origin::origin;
pub(crate) use shelf::{Products, Rows, Served, ShelfError};
pub(crate) use shelf::{definition_file, envelope_file};
pub(crate) use types::{plain_type, read_schema};
pub(crate) use view::{View, dataset_names, plan_view};

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
