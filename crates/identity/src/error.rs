//! What can be wrong with an identity, its files or its peers.

use guildhall_model::{CouncilName, PeerId};
use std::error::Error;
use std::path::PathBuf;

/// Why an identity cannot be made, read, kept or believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file is missing or cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A secret that others on the machine can read.
    #[error("`{}` can be read by others than its owner\nhelp: chmod 600 `{}`", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A certificate, key, request or bundle that is not what it should be.
    #[error("cannot read {what}")]
    Malformed {
        /// The thing, as its reader knows it.
        what: String,
        /// What the parser said.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A certificate whose names are not exactly one SPIFFE id.
    #[error("the certificate names no role of a council: {why}")]
    Unnamed {
        /// What is missing or too many.
        why: String,
    },
    /// A certificate authority was asked for a name of another council.
    #[error("the certificate authority of {council} cannot vouch for `{peer}`")]
    ForeignPeer {
        /// Whose authority it is.
        council: CouncilName,
        /// The name asked for.
        peer: Box<PeerId>,
    },
    /// A renewed certificate for somebody else.
    #[error("the new certificate names `{found}`, not `{expected}`")]
    WrongPeer {
        /// Who this identity is.
        expected: Box<PeerId>,
        /// Who the certificate names.
        found: Box<PeerId>,
    },
    /// A certificate that the trust store does not bear out.
    #[error("the certificate is not one that its council vouches for now")]
    Untrusted {
        /// The reason, for our own log.
        source: rustls::Error,
    },
    /// Key generation, signing or TLS set-up failed on our side.
    #[error("cannot {what}")]
    Internal {
        /// What was being done.
        what: &'static str,
        /// What the library said.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// An address that is not `host:port`.
    #[error("`{address}` is not an address of the form `host:port`")]
    Address {
        /// The text.
        address: String,
    },
}

impl IdentityError {
    pub(crate) fn malformed(
        what: impl Into<String>,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::Malformed {
            what: what.into(),
            source: Some(Box::new(source)),
        }
    }

    pub(crate) fn internal(what: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Internal {
            what,
            source: Some(Box::new(source)),
        }
    }
}
