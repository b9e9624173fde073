//! Imports: files in, a new version of a dataset out, or nothing.
//!
//! Parts are written under fresh names that nothing refers to; the manifest comes last and is
//! the only thing that publishes them. An import that fails removes its parts; one that was
//! killed leaves them to the next import, which sweeps what neither the newest version nor
//! the one before it (which a query may be reading) refers to.

use crate::manifest::{self, ManifestError, Recorded};
use crate::part::{FreshKeys, PartError};
use crate::period;
use crate::spec::ImportSpec;
use crate::storage::{self, DatasetId, Storage, StorageError};
use before::Before;
use guildhall_grant::{SigningKey, envelope};
use guildhall_keys::Recipient;
use guildhall_model::{Clock, ColumnName, Digest, NameError};
use guildhall_proto::envelope::v1::Envelope;
use std::path::PathBuf;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use writer::{Job, Written};

pub use crate::infer::{InferError, InferOptions, Inferred, infer};

mod before;
mod rejects;
mod writer;

/// Why an import did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The spec is for another dataset.
    #[error("the spec is for dataset `{spec}`, not `{id}`")]
    OtherDataset {
        /// What the spec names.
        spec: guildhall_model::DatasetName,
        /// What was to be imported.
        id: DatasetId,
    },
    /// The version before cannot be read.
    #[error("cannot continue from the version before")]
    Before {
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// An append to a table of other columns.
    #[error(
        "column `{column}` is not as it is in version {version}; an append keeps names, types and order"
    )]
    OtherColumns {
        /// The first column that differs.
        column: String,
        /// The version that lies here.
        version: u32,
    },
    /// A source file cannot be opened.
    #[error("cannot open {}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A source file is not a table.
    #[error("{} is {what}", path.display())]
    NotRows {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// A source file lacks a column.
    #[error("{} has no column for `{column}`", path.display())]
    NoSuchColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: ColumnName,
    },
    /// A source file breaks off or is damaged.
    #[error("cannot read the rows of {}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Too many rows did not parse.
    #[error(
        "{rejects} of {rows} rows were rejected, above the reject rate of {rate}; see {reject_file}"
    )]
    TooManyRejects {
        /// How many were rejected.
        rejects: u64,
        /// How many there were.
        rows: u64,
        /// What was declared.
        rate: f64,
        /// Where they are listed, without values.
        reject_file: String,
    },
    /// No key period can be named.
    #[error("cannot name the key period of this version")]
    Period {
        /// Why.
        #[source]
        source: NameError,
    },
    /// The disk is full, or a file may not grow so large.
    #[error("the disk that holds `{folder}` has no room for the rows")]
    NoRoom {
        /// The dataset's folder.
        folder: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A part cannot be written.
    #[error("cannot write the rows")]
    Part {
        /// Why.
        #[source]
        source: PartError,
    },
    /// The storage failed.
    #[error("the storage failed")]
    Storage {
        /// Why.
        #[source]
        source: StorageError,
    },
    /// Another import published this version first.
    #[error("version {version} of `{id}` was published by somebody else meanwhile")]
    Overtaken {
        /// The dataset.
        id: DatasetId,
        /// The version.
        version: u32,
    },
    /// Ours: a thread ended without a word.
    #[error("the import broke off")]
    BrokeOff,
}

impl ImportError {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::OtherColumns { .. } => Some("import without append to replace the table"),
            Self::NoSuchColumn { .. } => {
                Some("name the file's column in `source = \"...\"` of the spec")
            }
            Self::TooManyRejects { .. } => {
                Some("mend the spec or the file, or raise `reject_rate` if that many may be lost")
            }
            Self::Before { .. } => Some(
                "append to a sound version; or remove the dataset's folder and import it whole",
            ),
            Self::NoRoom { .. } => {
                Some("make room there and import again; nothing of this import was kept")
            }
            Self::Storage {
                source: StorageError::Busy { .. },
            } => Some("wait until it has ended"),
            _ => None,
        }
    }
}

/// Whether the rows take the place of those before or join them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The new version holds these rows alone.
    Replace,
    /// The new version holds the rows of the one before as well.
    Append,
}

/// What an import needs.
#[derive(Clone, Copy)]
pub struct ImportRequest<'a> {
    /// What to read.
    pub spec: &'a ImportSpec,
    /// Where to write.
    pub storage: &'a Storage,
    /// Whose table it is; the spec's dataset.
    pub id: &'a DatasetId,
    /// The dataset's recipient: all that is needed to write, and no help in reading.
    pub recipient: &'a Recipient,
    /// What the node signs with.
    pub signer: &'a SigningKey,
    /// The newest version on record at the authority.
    pub previous: Option<Recorded>,
    /// Replace or append.
    pub mode: Mode,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Called now and then.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
}

impl std::fmt::Debug for ImportRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportRequest")
            .field("id", self.id)
            .field("mode", &self.mode)
            .field("previous", &self.previous)
            .finish_non_exhaustive()
    }
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Rows taken so far.
    pub rows: u64,
    /// Bytes of the source files read so far.
    pub bytes: u64,
    /// All bytes of the source files.
    pub of_bytes: u64,
}

/// What an import is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading and encrypting.
    Reading,
    /// Making the new version visible.
    Publishing,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportReport {
    /// Rows that this import brought.
    pub rows: u64,
    /// Rows that were rejected.
    pub rejects: u64,
    /// Rows without any value, which were passed over.
    pub blank: u64,
    /// Where the rejects are listed: file, line, column, reason, and no value.
    pub reject_file: Option<String>,
    /// The new version.
    pub version: u32,
    /// SHA-256 of its envelope.
    pub digest: Digest,
    /// The signed manifest, for the authority's record.
    pub manifest: Envelope,
    /// Bytes of the parts that this import wrote.
    pub bytes: u64,
}

/// Imports, and publishes the new version if all went well.
pub async fn run(request: ImportRequest<'_>) -> Result<ImportReport, ImportError> {
    let ImportRequest { storage, id, .. } = request;
    import(request)
        .await
        .map_err(|error| match no_room(&error) {
            Some(source) => ImportError::NoRoom {
                folder: storage.describe(&storage::dataset_folder(&id.dataset)),
                source,
            },
            None => error,
        })
}

/// What the system said, if the cause of `error` is a disk without room.
fn no_room(error: &(dyn std::error::Error + 'static)) -> Option<std::io::Error> {
    use std::io::{Error, ErrorKind};
    let found = std::iter::successors(Some(error), |e| e.source())
        .filter_map(|e| e.downcast_ref::<Error>())
        .find(|e| {
            let kind = e.kind();
            kind == ErrorKind::StorageFull
                || kind == ErrorKind::QuotaExceeded
                || kind == ErrorKind::FileTooLarge
        })?;
    let code = found.raw_os_error();
    Some(code.map_or_else(|| found.kind().into(), Error::from_raw_os_error))
}

async fn import(request: ImportRequest<'_>) -> Result<ImportReport, ImportError> {
    let ImportRequest {
        spec, storage, id, ..
    } = request;
    if spec.dataset != id.dataset {
        return Err(ImportError::OtherDataset {
            spec: spec.dataset.clone(),
            id: id.clone(),
        });
    }
    let _lock = storage
        .lock(&id.dataset)
        .map_err(|source| ImportError::Storage { source })?;
    let before = Before::find(&request).await?;
    before.sweep(&request).await?;
    let version = before.next_version();
    let written = write(&request, version).await?;
    let report = publish(&request, &before, version, &written).await;
    // Where it cannot be told whether the manifest arrived, its parts stay: better an orphan
    // for the next sweep than a version without its rows.
    let manifest = storage::manifest_path(&id.dataset, version);
    if report.is_err() && storage.read(&manifest).await.is_ok() {
        for part in &written.parts {
            storage
                .remove(&storage::part_path(&id.dataset, &part.path))
                .await;
        }
    }
    report
}

/// The manifests after `version` that lie here, oldest first: what an import published and
/// the authority may not have on record yet.
pub async fn envelopes_after(
    storage: &Storage,
    id: &DatasetId,
    version: u32,
    signer: &SigningKey,
) -> Result<Vec<(u32, Envelope)>, ManifestError> {
    let versions = storage.versions(&id.dataset).await;
    let versions = versions.map_err(|source| ManifestError::Storage {
        dataset: id.clone(),
        source: Box::new(source),
    })?;
    let mut envelopes = vec![];
    for found in versions.into_iter().filter(|v| *v > version) {
        if let Some((_, signed, _)) = manifest::load(storage, id, found, &[signer.public()]).await?
        {
            envelopes.push((found, signed));
        }
    }
    Ok(envelopes)
}

/// Reads, sorts, encrypts and stores the rows; nothing of it is visible yet.
async fn write(request: &ImportRequest<'_>, version: u32) -> Result<Written, ImportError> {
    let ImportRequest {
        spec,
        storage,
        id,
        recipient,
        ..
    } = request;
    let period = period::of_version(&spec.period, version)
        .map_err(|source| ImportError::Period { source })?;
    let names = spec.columns.iter().map(|c| &c.name);
    let keys =
        FreshKeys::generate(id, &period, names).map_err(|source| ImportError::Part { source })?;
    let wrapped = keys
        .wrapped(recipient)
        .map_err(|source| ImportError::Part { source })?;
    let (tell, mut told) = mpsc::channel(16);
    let job = Job {
        spec: (*spec).clone(),
        storage: (*storage).clone(),
        version,
        keys,
        tell,
        runtime: Handle::current(),
    };
    let mut work = tokio::task::spawn_blocking(move || job.run());
    let result = loop {
        tokio::select! {
            Some(progress) = told.recv() => (request.progress)(progress),
            result = &mut work => break result,
        }
    };
    let mut written = result.unwrap_or(Err(ImportError::BrokeOff))?;
    written.wrapped = wrapped;
    Ok(written)
}

/// Weighs the rejects, signs the manifest and makes it visible.
async fn publish(
    request: &ImportRequest<'_>,
    before: &Before,
    version: u32,
    written: &Written,
) -> Result<ImportReport, ImportError> {
    let ImportRequest {
        spec,
        storage,
        id,
        signer,
        ..
    } = request;
    let fault = |source| ImportError::Storage { source };
    let (rows, rejects) = (written.rows, written.rejects);
    (request.progress)(Progress {
        phase: Phase::Publishing,
        ..written.progress
    });
    let reject_file = rejects::store(request, version, written).await?;
    if rejects::are_above(rejects, rows + rejects, spec.reject_rate) {
        return Err(ImportError::TooManyRejects {
            rejects,
            rows: rows + rejects,
            rate: spec.reject_rate,
            reject_file: reject_file.unwrap_or_default(),
        });
    }
    let manifest = before.followed_by(request, version, written);
    let signed = envelope::sign(&manifest, signer);
    let path = storage::manifest_path(&id.dataset, version);
    let bytes = envelope::encode(&signed);
    match storage.create(&path, bytes.clone()).await {
        Ok(()) => {}
        Err(StorageError::Exists { .. }) => {
            return Err(ImportError::Overtaken {
                id: (*id).clone(),
                version,
            });
        }
        // A store may lose its answer on the way and have done what it was asked.
        Err(source) => match storage.read(&path).await {
            Ok(Some(there)) if there == bytes => {}
            _ => return Err(fault(source)),
        },
    }
    Ok(ImportReport {
        rows,
        rejects,
        blank: written.blank,
        reject_file,
        version,
        digest: envelope::digest(&signed),
        manifest: signed,
        bytes: written.parts.iter().map(|p| p.bytes).sum(),
    })
}

#[cfg(test)]
mod tests;
