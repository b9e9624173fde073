//! A dataset that lies here, believed as far as its manifest can be.

use crate::manifest::{self, Manifest, ManifestError, Part, Recorded};
use crate::part::{Sha256, bare};
use crate::storage::{self, DatasetId, Storage, StorageError};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use futures::{StreamExt, TryStreamExt};
use guildhall_grant::VerifyingKey;
use guildhall_keys::KeyName;
use guildhall_model::{ColumnName, Digest};
use object_store::ObjectStoreExt;
use std::collections::BTreeSet;

/// How many parts are looked at at a time.
const AT_ONCE: usize = 8;

/// Why a dataset is not read, in the order the checks run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The manifest is not believed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A part is not there.
    #[error("part `{part}` of `{dataset}` is missing")]
    PartMissing {
        /// The dataset.
        dataset: DatasetId,
        /// The part's id.
        part: String,
    },
    /// A part is not what its manifest says.
    #[error("part `{part}` of `{dataset}` is damaged: {what}")]
    PartDamaged {
        /// The dataset.
        dataset: DatasetId,
        /// The part's id.
        part: String,
        /// What does not fit.
        what: &'static str,
    },
    /// The storage failed.
    #[error("cannot reach the parts of `{dataset}`")]
    Storage {
        /// The dataset.
        dataset: DatasetId,
        /// Why.
        #[source]
        source: Box<StorageError>,
    },
    /// No keys at all: a scan was planned before any were asked for.
    #[error("no keys were lent to read `{dataset}` with")]
    NothingLent {
        /// The dataset.
        dataset: DatasetId,
    },
    /// A column is read whose key was not lent.
    #[error("the key of {key} was not lent")]
    ColumnNotLent {
        /// The key.
        key: KeyName,
    },
    /// A footer does not decrypt: the part was altered or swapped, or the keys are not its own.
    #[error(
        "part `{part}` of `{dataset}` cannot be opened: it was altered, or the keys that were lent are not its keys"
    )]
    Sealed {
        /// The dataset.
        dataset: DatasetId,
        /// The part's id.
        part: String,
        /// What the decoder said.
        #[source]
        source: Box<DataFusionError>,
    },
}

impl From<ReadError> for DataFusionError {
    fn from(error: ReadError) -> Self {
        Self::External(Box::new(error))
    }
}

/// A version of a dataset whose manifest is verified and whose parts are all here.
#[derive(Debug)]
pub struct SealedDataset {
    storage: Storage,
    manifest: Manifest,
    digest: Digest,
    schema: SchemaRef,
}

impl SealedDataset {
    /// Opens the version on record at the authority, or the newest here if none is named.
    ///
    /// The signature comes first; then the manifest's place, its version against the record
    /// (an older one is a rollback, another one of the same version a forgery) and the size of
    /// every part. A newer version that is not on record yet is passed over: it was published,
    /// but whoever recorded it was stopped before.
    pub async fn open(
        storage: &Storage,
        id: &DatasetId,
        signers: &[VerifyingKey],
        expected: Option<Recorded>,
    ) -> Result<Self, ReadError> {
        let versions = storage.versions(&id.dataset).await;
        let versions = versions.map_err(|source| storage_fault(id, source))?;
        let version = match (expected, versions.last().copied()) {
            (Some(recorded), found) if found < Some(recorded.version) => {
                return Err(rolled_back(id, recorded, found));
            }
            (Some(recorded), _) => recorded.version,
            (None, Some(newest)) => newest,
            (None, None) => {
                return Err(ManifestError::NoSuchDataset {
                    dataset: id.clone(),
                }
                .into());
            }
        };
        let loaded = manifest::load(storage, id, version, signers).await?;
        let Some((manifest, _, digest)) = loaded else {
            return Err(match expected {
                Some(recorded) => rolled_back(id, recorded, versions.last().copied()),
                None => ManifestError::NoSuchDataset {
                    dataset: id.clone(),
                }
                .into(),
            });
        };
        if expected.is_some_and(|recorded| recorded.digest != digest) {
            return Err(ManifestError::NotRecorded {
                dataset: id.clone(),
                version,
            }
            .into());
        }
        let dataset = Self {
            storage: storage.clone(),
            schema: bare(&manifest.schema),
            manifest,
            digest,
        };
        dataset.check_sizes().await?;
        Ok(dataset)
    }

    /// Its full name.
    #[must_use]
    pub fn id(&self) -> &DatasetId {
        &self.manifest.id
    }

    /// What the node signed.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Version and digest, as the authority records them.
    #[must_use]
    pub fn recorded(&self) -> Recorded {
        Recorded {
            version: self.manifest.version,
            digest: self.digest,
        }
    }

    /// The columns, without doc comments.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Every wrapped key, as it stands in the manifest.
    pub fn wrapped_keys(&self) -> impl Iterator<Item = (&KeyName, &[u8])> {
        self.manifest
            .keys
            .iter()
            .map(|(name, age)| (name, age.as_slice()))
    }

    /// The wrapped keys that reading `columns` takes: theirs and the footers', in every period
    /// that has parts.
    #[must_use]
    pub fn wrapped_keys_of(&self, columns: &BTreeSet<ColumnName>) -> Vec<(KeyName, Vec<u8>)> {
        let periods = self.manifest.periods();
        self.wrapped_keys()
            .filter(|(name, _)| periods.contains(&name.period))
            .filter(|(name, _)| name.column.as_ref().is_none_or(|c| columns.contains(c)))
            .map(|(name, age)| (name.clone(), age.to_vec()))
            .collect()
    }

    /// Reads every part and compares its digest: slow, and certain.
    pub async fn verify_parts(&self) -> Result<(), ReadError> {
        for part in &self.manifest.parts {
            let path = storage::part_path(&self.id().dataset, &part.path);
            let fault = |e| storage_fault(self.id(), StorageError::read(&path)(e));
            let object = self
                .storage
                .object_store()
                .get(&path)
                .await
                .map_err(fault)?;
            let mut stream = object.into_stream();
            let mut digest = Sha256::default();
            while let Some(bytes) = stream.try_next().await.map_err(fault)? {
                digest.update(&bytes);
            }
            if digest.finish() != part.digest {
                return Err(self.damaged(part, "its digest is not the manifest's"));
            }
        }
        Ok(())
    }

    /// The same parts under another manifest, as nobody could sign one.
    #[cfg(test)]
    pub(crate) fn with_manifest(&self, manifest: Manifest) -> Self {
        Self {
            storage: self.storage.clone(),
            schema: bare(&manifest.schema),
            manifest,
            digest: self.digest,
        }
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn damaged(&self, part: &Part, what: &'static str) -> ReadError {
        ReadError::PartDamaged {
            dataset: self.id().clone(),
            part: part.file_id.clone(),
            what,
        }
    }

    async fn check_sizes(&self) -> Result<(), ReadError> {
        let checks: Vec<_> = self
            .manifest
            .parts
            .iter()
            .map(|part| self.check_size(part))
            .collect();
        futures::stream::iter(checks)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn check_size(&self, part: &Part) -> Result<(), ReadError> {
        let path = storage::part_path(&self.id().dataset, &part.path);
        match self.storage.object_store().head(&path).await {
            Ok(meta) if meta.size == part.bytes => Ok(()),
            Ok(_) => Err(self.damaged(part, "its size is not the manifest's")),
            Err(object_store::Error::NotFound { .. }) => Err(ReadError::PartMissing {
                dataset: self.id().clone(),
                part: part.file_id.clone(),
            }),
            Err(e) => Err(storage_fault(self.id(), StorageError::read(&path)(e))),
        }
    }
}

fn storage_fault(id: &DatasetId, source: StorageError) -> ReadError {
    ReadError::Storage {
        dataset: id.clone(),
        source: Box::new(source),
    }
}

fn rolled_back(id: &DatasetId, recorded: Recorded, found: Option<u32>) -> ReadError {
    ManifestError::RolledBack {
        dataset: id.clone(),
        recorded: recorded.version,
        found,
    }
    .into()
}
