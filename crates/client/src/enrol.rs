//! Becoming a gateway or a clean room: a one-time code traded for a certificate.

use crate::enrolment::EnrolmentClient;
use crate::error::ClientError;
use guildhall_identity::{EnrolmentCode, IdentityError};
use guildhall_model::{PeerId, SharedClock};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Why an enrolment came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// The authority did not certify this role.
    #[error("cannot enrol")]
    Refused {
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The identity folder cannot be made.
    #[error("cannot make the folder `{}`", folder.display())]
    Folder {
        /// The folder.
        folder: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What it gave cannot be kept.
    #[error("cannot keep the new identity")]
    Keep {
        /// Why.
        #[source]
        source: IdentityError,
    },
}

/// Trades an enrolment code for a role's identity and keeps it in `folder`, which is made for its owner alone. For roles that
/// sign nothing; what a node needs besides is its own to make.
///
/// # Errors
/// If the authority does not certify it, or the folder cannot be made or written to.
pub async fn enrol(
    code: &EnrolmentCode,
    authority: &str,
    host_names: &[String],
    folder: &Path,
    clock: SharedClock,
) -> Result<PeerId, EnrolError> {
    let refused = |source| EnrolError::Refused { source };
    let keep = |source| EnrolError::Keep { source };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| EnrolError::Folder {
            folder: folder.to_owned(),
            source,
        })?;
    let desk = EnrolmentClient::new(authority, code, clock).map_err(refused)?;
    let enrolled = desk.enrol(&[], host_names).await.map_err(refused)?;
    enrolled.trust.save(folder).map_err(keep)?;
    enrolled.identity.save(folder).map_err(keep)?;
    Ok(enrolled.identity.peer())
}
