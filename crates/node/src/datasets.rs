//! The datasets of this node, each at the version that the authority has on record.
//!
//! An import publishes a manifest on disk and then has it recorded. Whoever is stopped between the two is
//! finished for by [`reconcile`]: by the next import, or by a serving node that finds the manifest. What is not
//! on record is not served; what is on record and not here is a rollback, and refused.

use crate::authority::{Authority, AuthorityError};
use guildhall_grant::SigningKey;
use guildhall_model::{CouncilName, DatasetName, DepartmentName};
use guildhall_store::import::envelopes_after;
use guildhall_store::{DatasetId, ManifestError, ReadError, Recorded, SealedDataset, Storage};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a dataset cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// What is on record is not known.
    #[error("cannot learn which version of `{dataset}` is on record")]
    Authority {
        /// The dataset.
        dataset: DatasetName,
        /// Why.
        #[source]
        source: AuthorityError,
    },
    /// What lies here cannot be read.
    #[error("cannot list the versions of `{dataset}`")]
    Manifest {
        /// The dataset.
        dataset: DatasetName,
        /// Why.
        #[source]
        source: Box<ManifestError>,
    },
    /// What is on record is not here as it was.
    #[error("cannot open `{dataset}`")]
    Open {
        /// The dataset.
        dataset: DatasetName,
        /// Why.
        #[source]
        source: Box<ReadError>,
    },
    /// Nothing was imported.
    #[error("there is no dataset `{dataset}` here")]
    NoSuchDataset {
        /// The dataset.
        dataset: DatasetName,
    },
}

impl DatasetError {
    /// Whether it is the authority's absence that stands in the way.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Authority {
                source: AuthorityError::Unavailable { .. },
                ..
            }
        )
    }
}

/// The datasets of one department.
#[derive(Debug)]
pub(crate) struct Datasets {
    storage: Storage,
    council: CouncilName,
    department: DepartmentName,
    signer: Arc<SigningKey>,
    authority: Arc<dyn Authority>,
    open: Mutex<BTreeMap<DatasetName, Arc<SealedDataset>>>,
    opening: tokio::sync::Mutex<()>,
}

impl Datasets {
    pub(crate) fn new(
        storage: Storage,
        council: CouncilName,
        department: DepartmentName,
        signer: Arc<SigningKey>,
        authority: Arc<dyn Authority>,
    ) -> Self {
        Self {
            storage,
            council,
            department,
            signer,
            authority,
            open: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// The dataset's full name.
    pub(crate) fn id(&self, dataset: &DatasetName) -> DatasetId {
        DatasetId {
            council: self.council.clone(),
            department: self.department.clone(),
            dataset: dataset.clone(),
        }
    }

    /// The dataset as it stands on record.
    ///
    /// The authority is asked when a dataset is first used, and when a newer manifest lies here than is open.
    pub(crate) async fn current(
        &self,
        dataset: &DatasetName,
    ) -> Result<Arc<SealedDataset>, DatasetError> {
        if let Some(newest) = self.newest(dataset).await? {
            return Ok(newest);
        }
        let _one_at_a_time = self.opening.lock().await;
        // Somebody else may have opened it meanwhile.
        if let Some(newest) = self.newest(dataset).await? {
            return Ok(newest);
        }
        let id = self.id(dataset);
        let recorded = reconcile(&self.storage, &id, &self.signer, self.authority.as_ref()).await?;
        let Some(recorded) = recorded else {
            return Err(DatasetError::NoSuchDataset {
                dataset: dataset.clone(),
            });
        };
        let signers = [self.signer.public()];
        let opened = SealedDataset::open(&self.storage, &id, &signers, Some(recorded)).await;
        let opened = Arc::new(opened.map_err(|source| DatasetError::Open {
            dataset: dataset.clone(),
            source: Box::new(source),
        })?);
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(dataset.clone(), Arc::clone(&opened));
        Ok(opened)
    }

    /// The dataset as it is open, if nothing newer lies here.
    async fn newest(
        &self,
        dataset: &DatasetName,
    ) -> Result<Option<Arc<SealedDataset>>, DatasetError> {
        let open = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(dataset)
            .cloned();
        let Some(open) = open else { return Ok(None) };
        let version = open.manifest().version;
        let newer = envelopes_after(&self.storage, &self.id(dataset), version, &self.signer).await;
        let newer = newer.map_err(|source| manifest_error(dataset, source))?;
        Ok(newer.is_empty().then_some(open))
    }
}

/// Puts on record what an import published here and could not have recorded any more. Gives the newest record.
pub(crate) async fn reconcile(
    storage: &Storage,
    id: &DatasetId,
    signer: &SigningKey,
    authority: &dyn Authority,
) -> Result<Option<Recorded>, DatasetError> {
    let dataset = &id.dataset;
    let unknown = |source| DatasetError::Authority {
        dataset: dataset.clone(),
        source,
    };
    let recorded = authority.latest_manifest(dataset).await.map_err(unknown)?;
    let version = recorded.map_or(0, |r| r.version);
    let unrecorded = envelopes_after(storage, id, version, signer)
        .await
        .map_err(|source| manifest_error(dataset, source))?;
    if unrecorded.is_empty() {
        return Ok(recorded);
    }
    for (version, manifest) in unrecorded {
        tracing::info!(%dataset, version, "putting a published version on record");
        authority.record_manifest(manifest).await.map_err(unknown)?;
    }
    authority.latest_manifest(dataset).await.map_err(unknown)
}

fn manifest_error(dataset: &DatasetName, source: ManifestError) -> DatasetError {
    DatasetError::Manifest {
        dataset: dataset.clone(),
        source: Box::new(source),
    }
}
