//! Imports: files in, a new version of a dataset out, or nothing.
//!
//! Parts are written under fresh names that nothing refers to; the manifest comes last and is
//! the only thing that publishes them. An import that fails removes its parts; one that was
//! killed leaves them to the next import, which sweeps what neither the newest version nor
//! the one before it (which a query may be reading) refers to.

use crate::manifest::{self, Manifest, ManifestError, Part, Recorded};
use crate::part::{FreshKeys, PartError};
use crate::period;
use crate::rows::Reject;
use crate::spec::ImportSpec;
use crate::storage::{self, DatasetId, Storage, StorageError};
use guildhall_grant::{SigningKey, envelope};
use guildhall_keys::Recipient;
use guildhall_model::{Clock, ColumnName, Digest, NameError};
use guildhall_proto::envelope::v1::Envelope;
use std::path::PathBuf;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use writer::{Job, Written};

pub use crate::infer::infer;

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
        source,
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

/// What was there before this import.
struct Before {
    newest: Option<(Manifest, Digest)>,
    /// The version before the newest, which a query may be reading.
    second: Option<Manifest>,
    recorded: Option<Recorded>,
}

impl Before {
    async fn find(request: &ImportRequest<'_>) -> Result<Self, ImportError> {
        let ImportRequest {
            storage,
            id,
            signer,
            ..
        } = request;
        let unreadable = |source| ImportError::Before { source };
        let versions = storage.versions(&id.dataset).await;
        let versions = versions.map_err(|source| ImportError::Storage { source })?;
        let signers = [signer.public()];
        let mut newest = None;
        let mut second = None;
        if let Some(version) = versions.last() {
            let found = manifest::load(storage, id, *version, &signers).await;
            newest = found.map_err(unreadable)?.map(|(m, _, digest)| (m, digest));
        }
        if let [.., version, _] = versions.as_slice() {
            let found = manifest::load(storage, id, *version, &signers).await;
            second = found.map_err(unreadable)?.map(|(m, _, _)| m);
        }
        let before = Self {
            newest,
            second,
            recorded: request.previous,
        };
        before.check(request).map_err(unreadable)?;
        before.check_columns(request)?;
        Ok(before)
    }

    /// An append builds on what is on record, or it would sign a rollback as its own.
    fn check(&self, request: &ImportRequest<'_>) -> Result<(), ManifestError> {
        let Some(recorded) = self.recorded else {
            return Ok(());
        };
        let found = self.newest.as_ref().map(|(m, _)| m.version);
        if request.mode == Mode::Append && found < Some(recorded.version) {
            return Err(ManifestError::RolledBack {
                dataset: request.id.clone(),
                recorded: recorded.version,
                found,
            });
        }
        match &self.newest {
            Some((m, digest)) if m.version == recorded.version && *digest != recorded.digest => {
                Err(ManifestError::NotRecorded {
                    dataset: request.id.clone(),
                    version: m.version,
                })
            }
            _ => Ok(()),
        }
    }

    fn check_columns(&self, request: &ImportRequest<'_>) -> Result<(), ImportError> {
        let (Mode::Append, Some((newest, _))) = (request.mode, &self.newest) else {
            return Ok(());
        };
        let schema = crate::part::bare(&request.spec.schema());
        let old = crate::part::bare(&newest.schema);
        let pairs = schema.fields().len().max(old.fields().len());
        let differs = (0..pairs).find(|i| schema.fields().get(*i) != old.fields().get(*i));
        match differs {
            None => Ok(()),
            Some(i) => Err(ImportError::OtherColumns {
                column: schema
                    .fields()
                    .get(i)
                    .or(old.fields().get(i))
                    .map(|f| f.name().clone())
                    .unwrap_or_default(),
                version: newest.version,
            }),
        }
    }

    fn next_version(&self) -> u32 {
        let newest = self.newest.as_ref().map_or(0, |(m, _)| m.version);
        let recorded = self.recorded.map_or(0, |r| r.version);
        newest.max(recorded).saturating_add(1)
    }

    /// The digest that the next version names as the one before it.
    fn digest(&self) -> Option<Digest> {
        let newest = self.newest.as_ref().map(|(m, digest)| (m.version, *digest));
        let recorded = self.recorded.map(|r| (r.version, r.digest));
        // Where this machine lost what the authority remembers, its record is what came before.
        newest
            .into_iter()
            .chain(recorded)
            .max_by_key(|(version, _)| *version)
            .map(|(_, d)| d)
    }

    async fn sweep(&self, request: &ImportRequest<'_>) -> Result<(), ImportError> {
        let ImportRequest { storage, id, .. } = request;
        let kept: Vec<Manifest> = self
            .newest
            .iter()
            .map(|(m, _)| m)
            .chain(&self.second)
            .cloned()
            .collect();
        let oldest = kept.iter().map(|m| m.version).min().unwrap_or(0);
        let oldest = self.recorded.map_or(oldest, |r| oldest.min(r.version));
        storage
            .sweep(&id.dataset, &kept, oldest, request.clock.now())
            .await
            .map_err(|source| ImportError::Storage { source })
    }
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
    let reject_file = store_rejects(request, version, written).await?;
    if is_above(rejects, rows + rejects, spec.reject_rate) {
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

impl Before {
    fn followed_by(
        &self,
        request: &ImportRequest<'_>,
        version: u32,
        written: &Written,
    ) -> Manifest {
        let mut parts: Vec<Part> = vec![];
        let mut keys = std::collections::BTreeMap::new();
        if let (Mode::Append, Some((newest, _))) = (request.mode, &self.newest) {
            parts.extend_from_slice(&newest.parts);
            keys.extend(newest.keys.clone());
        }
        parts.extend_from_slice(&written.parts);
        if !written.parts.is_empty() {
            keys.extend(written.wrapped.clone());
        }
        Manifest {
            id: request.id.clone(),
            version,
            previous: self.digest(),
            schema: request.spec.schema(),
            parts,
            keys,
            created: request.clock.now(),
        }
    }
}

/// Whether `rejects` of `rows` is more than the share `rate`.
fn is_above(rejects: u64, rows: u64, rate: f64) -> bool {
    // Both are far below 2^53.
    #[expect(clippy::cast_precision_loss, reason = "no import has 2^53 rows")]
    let allowed = rows as f64 * rate;
    #[expect(clippy::cast_precision_loss, reason = "no import has 2^53 rows")]
    let rejects = rejects as f64;
    rejects > allowed
}

/// Lists the rejects: file, line, column, reason. Values are personal and stay out.
async fn store_rejects(
    request: &ImportRequest<'_>,
    version: u32,
    written: &Written,
) -> Result<Option<String>, ImportError> {
    if written.rejects == 0 {
        return Ok(None);
    }
    let ImportRequest {
        spec, storage, id, ..
    } = request;
    let mut list = csv::Writer::from_writer(vec![]);
    let mut listed = list.write_record(["file", "line", "column", "reason"]);
    for reject in &written.listed {
        let Reject {
            source,
            line,
            lines,
            column,
            reason,
        } = reject;
        let file = spec.source.get(*source).map(|p| crate::rows::short_name(p));
        let lines = match lines {
            1 => String::new(),
            n => format!(" (and the {} lines after it: is a quote left open?)", n - 1),
        };
        listed = listed.and_then(|()| {
            list.write_record([
                file.as_deref().unwrap_or_default(),
                &line.to_string(),
                column.as_ref().map(ColumnName::as_str).unwrap_or_default(),
                &format!("{reason}{lines}"),
            ])
        });
    }
    let bytes = listed
        .map_err(std::io::Error::from)
        .and_then(|()| list.into_inner().map_err(csv::IntoInnerError::into_error));
    let path = storage::rejects_path(&id.dataset, version);
    let stored = match bytes {
        Ok(bytes) => storage.overwrite(&path, bytes).await,
        Err(source) => Err(StorageError::Write {
            path: path.clone(),
            source: object_store::Error::Generic {
                store: "rejects",
                source: Box::new(source),
            },
        }),
    };
    stored.map_err(|source| ImportError::Storage { source })?;
    Ok(Some(storage.describe(&path)))
}

#[cfg(test)]
mod tests;
