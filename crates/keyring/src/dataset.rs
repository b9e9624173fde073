//! One age identity per dataset, and the one function that unwraps.

use crate::root::{RootIdentity, RootRecipients};
use age::secrecy::ExposeSecret;
use age::x25519;
use guildhall_keys::{
    ColumnKey, KeyName, OpenError, PayloadError, Recipient, SealError, UnwrappedKey,
    WrappedPayload, open_with, seal_to_all,
};
use std::fmt;
use zeroize::Zeroizing;

/// The largest wrapped key that is looked at.
pub const MAX_WRAPPED: usize = 4096;

/// Why a sealed dataset identity did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedIdentityError {
    /// The root's identities do not open it, or it is damaged.
    #[error("cannot open the dataset's identity with the council root")]
    Closed {
        /// What was wrong.
        #[source]
        source: OpenError,
    },
    /// It opened, and is not one age identity.
    #[error("what the council root sealed is not a dataset's identity")]
    NotAnIdentity,
}

/// Why a wrapped key was not unwrapped, in the order the checks run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// Beyond [`MAX_WRAPPED`].
    #[error("the wrapped key of {expected} is larger than {MAX_WRAPPED} bytes")]
    TooLarge {
        /// Whose key was asked for.
        expected: KeyName,
    },
    /// Not wrapped to this dataset, or damaged.
    #[error("cannot unwrap the key of {expected}")]
    Closed {
        /// Whose key was asked for.
        expected: KeyName,
        /// What was wrong.
        #[source]
        source: OpenError,
    },
    /// It opened, and is not a named column key.
    #[error("what was wrapped as the key of {expected} is none")]
    NotAKey {
        /// Whose key was asked for.
        expected: KeyName,
        /// What was wrong.
        #[source]
        source: PayloadError,
    },
    /// It is the key of something else.
    #[error("what was presented as the key of {expected} is the key of {inner}")]
    OtherName {
        /// Whose key was asked for.
        expected: KeyName,
        /// Whose key it is.
        inner: KeyName,
    },
}

/// The age identity of one dataset, to whose recipient its column keys are wrapped.
pub struct DatasetIdentity(x25519::Identity);

impl DatasetIdentity {
    /// A fresh identity.
    #[must_use]
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// To whom the dataset's column keys are wrapped.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient::of(&self.0)
    }

    /// This identity as an age ciphertext to every recipient of the root, the only form in which
    /// it is stored. Inside is a plain age identity file, so that `age` itself can recover it.
    pub fn seal_to(&self, root: &RootRecipients) -> Result<Vec<u8>, SealError> {
        let secret = self.0.to_string();
        seal_to_all(secret.expose_secret().as_bytes(), root.as_slice())
    }

    /// The identity from its sealed form.
    pub fn open_sealed(sealed: &[u8], root: &RootIdentity) -> Result<Self, SealedIdentityError> {
        let text = open_with(
            root.identities().iter().map(|i| i as &dyn age::Identity),
            sealed,
        )
        .map_err(|source| SealedIdentityError::Closed { source })?;
        std::str::from_utf8(&text)
            .ok()
            .and_then(|t| t.trim_end().parse().ok())
            .map(Self)
            .ok_or(SealedIdentityError::NotAnIdentity)
    }
}

impl fmt::Debug for DatasetIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatasetIdentity({})", self.recipient())
    }
}

/// Unwraps the key of `expected`. This is the only function that unwraps.
///
/// The name inside the ciphertext must be the one asked for: a node that presents the wrapped
/// key of one column under the name of another gets nothing.
pub fn unwrap(
    dataset: &DatasetIdentity,
    wrapped: &[u8],
    expected: &KeyName,
) -> Result<ColumnKey, UnwrapError> {
    let expected = || expected.clone();
    if wrapped.len() > MAX_WRAPPED {
        return Err(UnwrapError::TooLarge {
            expected: expected(),
        });
    }
    let identity: &dyn age::Identity = &dataset.0;
    let payload: Zeroizing<Vec<u8>> =
        open_with([identity], wrapped).map_err(|source| UnwrapError::Closed {
            expected: expected(),
            source,
        })?;
    let UnwrappedKey { name, key } =
        WrappedPayload::decode(&payload).map_err(|source| UnwrapError::NotAKey {
            expected: expected(),
            source,
        })?;
    if name != expected() {
        return Err(UnwrapError::OtherName {
            expected: expected(),
            inner: name,
        });
    }
    Ok(key)
}
