//! A department's tables at rest: written with public keys alone, read with lent ones.
//!
//! [`import::run`] turns CSV or Parquet into a new version of a dataset: Parquet parts with
//! encrypted footers and one key per column (`AES_GCM_V1`), bound by their AAD prefix to the
//! place they were written for, and a manifest that the node signs. A version is published
//! by its manifest alone, which is written last and never over another: whatever stops an
//! import, the version before it stays readable and no row of the new one is to be seen.
//!
//! [`SealedDataset::open`] believes nothing of a dataset before the manifest's signature,
//! place and version are verified. [`SealedTable`] reads it inside DataFusion with the keys
//! that were lent for one grant, and refuses a column whose key was not.
//!
//! Promised: no value and no column name of a part is on the disk in clear; a part that was
//! altered, truncated, swapped or taken from an older version does not read; an import needs
//! memory for one part at most. Not promised: that a manifest hides column names, sizes or
//! row counts (it does not), that deleted bytes leave the medium, or that order holds beyond
//! a part (`sort_by` sorts within each part; parts are large enough for that to prune well).

mod cell;
mod footer;
pub mod import;
mod infer;
mod manifest;
mod numbers;
mod part;
mod period;
mod rows;
mod sealed;
mod share;
mod spec;
mod storage;
mod table;
#[cfg(test)]
mod testing;
mod wire;

pub use import::{ImportError, ImportReport, ImportRequest, Mode, Phase, Progress};
pub use infer::{InferError, InferOptions, Inferred};
pub use manifest::{Manifest, ManifestError, Part, Recorded};
pub use sealed::{ReadError, SealedDataset};
pub use share::{Piece, SealedScan, carry_out, template};
pub use spec::{ColumnSpec, ColumnType, Encoding, ImportSpec, SpecError};
pub use storage::{DatasetId, Storage, StorageError};
pub use table::{LentKeys, SealedTable};
