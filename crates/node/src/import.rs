//! Imports: a file in, a version of a dataset on record.
//!
//! The order is: finish what an earlier import left unrecorded; ask the authority for the dataset's recipient
//! and the newest version on record; write and publish on disk; have it recorded. A version is served only once
//! it is on record, so an import that is stopped at any moment shows nothing half done, and one that was stopped
//! after publishing is finished by the next import or by the serving node.

use crate::audit::{Log, LogError};
use crate::authority::{Authority, AuthorityError};
use crate::datasets::{DatasetError, reconcile};
use guildhall_audit::{Decision, Entry, Event};
use guildhall_grant::SigningKey;
use guildhall_model::{CouncilName, DepartmentName, SharedClock};
use guildhall_store::import::{self, ImportReport, ImportRequest};
use guildhall_store::{DatasetId, ImportError, ImportSpec, Mode, Progress, Storage};

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeImportError {
    /// The version before is not to be had.
    #[error("cannot continue from the version on record")]
    Before {
        /// Why.
        #[source]
        source: DatasetError,
    },
    /// There is nobody to encrypt to.
    #[error("cannot learn the recipient of the dataset")]
    Recipient {
        /// Why.
        #[source]
        source: AuthorityError,
    },
    /// The file, or the disk.
    #[error("cannot import")]
    Import {
        /// Why.
        #[source]
        source: ImportError,
    },
    /// The new version lies here, but not on record.
    #[error(
        "version {version} is written, but not on record yet; it will be, by the serving node or the next import"
    )]
    Record {
        /// The version.
        version: u32,
        /// Why.
        #[source]
        source: AuthorityError,
    },
    /// It could not be written down.
    #[error("cannot write the import down")]
    Log {
        /// Why.
        #[source]
        source: LogError,
    },
}

impl NodeImportError {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Import { source } => source.help(),
            _ => None,
        }
    }
}

/// What imports need of a node.
#[derive(Debug)]
pub(crate) struct Importer<'a> {
    pub(crate) council: &'a CouncilName,
    pub(crate) department: &'a DepartmentName,
    pub(crate) storage: &'a Storage,
    pub(crate) signer: &'a SigningKey,
    pub(crate) authority: &'a dyn Authority,
    pub(crate) log: &'a Log,
    pub(crate) clock: &'a SharedClock,
}

impl Importer<'_> {
    /// Imports what `spec` describes and has it put on record.
    pub(crate) async fn run(
        &self,
        spec: &ImportSpec,
        mode: Mode,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<ImportReport, NodeImportError> {
        let id = DatasetId {
            council: self.council.clone(),
            department: self.department.clone(),
            dataset: spec.dataset.clone(),
        };
        let recipient = self.authority.open_dataset(&id.dataset).await;
        let recipient = recipient.map_err(|source| NodeImportError::Recipient { source })?;
        let previous = reconcile(self.storage, &id, self.signer, self.authority).await;
        let previous = previous.map_err(|source| NodeImportError::Before { source })?;
        let report = import::run(ImportRequest {
            spec,
            storage: self.storage,
            id: &id,
            recipient: &recipient,
            signer: self.signer,
            previous,
            mode,
            clock: self.clock.as_ref(),
            progress,
        })
        .await
        .map_err(|source| NodeImportError::Import { source })?;
        let recorded = self
            .authority
            .record_manifest(report.manifest.clone())
            .await;
        recorded.map_err(|source| NodeImportError::Record {
            version: report.version,
            source,
        })?;
        let mut entry = Entry::new(Event::Import, Decision::Permit);
        entry.dataset = Some(id.dataset);
        entry.digest = Some(report.digest);
        let written = self.log.append(&entry, self.clock.now());
        written.map_err(|source| NodeImportError::Log { source })?;
        Ok(report)
    }
}
