//! Becoming a node: a one-time code traded for a certificate.

use crate::config::NodeConfig;
use guildhall_client::{ClientError, EnrolmentClient};
use guildhall_grant::SigningKey;
use guildhall_identity::{EnrolmentCode, IdentityError, load_signing_key, save_signing_key};
use guildhall_model::{CouncilName, PeerId, SharedClock};
use std::path::Path;

/// Why a node did not enrol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// A code of another council.
    #[error("the code is of council `{code}`, but node.toml says `{config}`")]
    OtherCouncil {
        /// Whose code it is.
        code: CouncilName,
        /// Whose node this is.
        config: CouncilName,
    },
    /// The identity folder cannot be used.
    #[error("cannot use the identity folder")]
    Folder {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key that signs what the node publishes cannot be made.
    #[error("cannot make the signing key")]
    SigningKey {
        /// Why.
        #[source]
        source: guildhall_grant::KeyError,
    },
    /// The authority said no, or nothing.
    #[error("cannot enrol")]
    Authority {
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The certificate is for somebody else.
    #[error("the code is for {invited}, but node.toml is that of {config}")]
    OtherPeer {
        /// Whom the authority invited.
        invited: Box<PeerId>,
        /// Who this is.
        config: Box<PeerId>,
    },
    /// The identity cannot be kept.
    #[error("cannot keep the identity")]
    Keep {
        /// Why.
        #[source]
        source: IdentityError,
    },
}

/// Makes the node's keys, has them certified at the authority that `code` names, and keeps them.
///
/// The signing key of an earlier enrolment is kept: what it signed stays valid.
pub async fn enrol(
    config: &NodeConfig,
    code: &EnrolmentCode,
    clock: SharedClock,
) -> Result<PeerId, EnrolError> {
    if code.council != config.council {
        return Err(EnrolError::OtherCouncil {
            code: code.council.clone(),
            config: config.council.clone(),
        });
    }
    let dir = config.identity_dir();
    make_private_folder(&dir).map_err(|source| EnrolError::Folder { source })?;
    let signing = signing_key(&dir)?;
    let authority = |source| EnrolError::Authority { source };
    let desk = EnrolmentClient::new(&config.authority.address, code, clock).map_err(authority)?;
    let enrolled = desk
        .enrol(signing.public().as_bytes(), &config.host_names)
        .await
        .map_err(authority)?;
    let invited = enrolled.identity.peer();
    if invited != config.peer() {
        return Err(EnrolError::OtherPeer {
            invited: Box::new(invited),
            config: Box::new(config.peer()),
        });
    }
    let keep = |source| EnrolError::Keep { source };
    enrolled.trust.save(&dir).map_err(keep)?;
    enrolled.identity.save(&dir).map_err(keep)?;
    Ok(invited)
}

fn signing_key(dir: &Path) -> Result<SigningKey, EnrolError> {
    if let Ok(kept) = load_signing_key(dir)
        && let Ok(key) = SigningKey::from_pkcs8(&kept)
    {
        return Ok(key);
    }
    let key = SigningKey::generate().map_err(|source| EnrolError::SigningKey { source })?;
    save_signing_key(dir, &key.to_pkcs8()).map_err(|source| EnrolError::Keep { source })?;
    Ok(key)
}

/// A folder for its owner alone.
pub(crate) fn make_private_folder(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}
