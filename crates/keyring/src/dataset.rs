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
        expected: Box<KeyName>,
        /// Whose key it is.
        inner: Box<KeyName>,
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
        let text = root
            .open(sealed)
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
            expected: expected().into(),
            inner: name.into(),
        });
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guildhall_keys::{seal, wrap};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn named(column: Option<&str>) -> KeyName {
        KeyName {
            dataset: "permits".parse().unwrap(),
            column: column.map(|c| c.parse().unwrap()),
            period: "2026".parse().unwrap(),
        }
    }

    fn key() -> ColumnKey {
        ColumnKey::from_bytes(&[0xab; 32]).unwrap()
    }

    #[test]
    fn a_wrapped_key_is_unwrapped_under_its_name() {
        let dataset = DatasetIdentity::generate();
        for name in [named(Some("postcode")), named(None)] {
            let wrapped = wrap(&name, &key(), &dataset.recipient()).unwrap();
            assert_eq!(
                unwrap(&dataset, &wrapped, &name).unwrap().as_bytes(),
                key().as_bytes()
            );
        }
    }

    #[test]
    fn a_key_is_never_given_under_another_name() {
        let dataset = DatasetIdentity::generate();
        let asked = named(Some("postcode"));
        for inner in [
            named(Some("ward")),
            named(Some("Postcode")),
            named(None),
            KeyName {
                dataset: "cases".parse().unwrap(),
                ..asked.clone()
            },
            KeyName {
                period: "2025".parse().unwrap(),
                ..asked.clone()
            },
        ] {
            let wrapped = wrap(&inner, &key(), &dataset.recipient()).unwrap();
            let error = unwrap(&dataset, &wrapped, &asked).unwrap_err();
            assert!(
                matches!(&error, UnwrapError::OtherName { inner: i, .. } if **i == inner),
                "{error}"
            );
        }
    }

    #[test]
    fn the_key_of_another_dataset_does_not_unwrap() {
        let (mine, theirs) = (DatasetIdentity::generate(), DatasetIdentity::generate());
        let wrapped = wrap(&named(None), &key(), &theirs.recipient()).unwrap();
        let error = unwrap(&mine, &wrapped, &named(None)).unwrap_err();
        assert!(matches!(error, UnwrapError::Closed { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            "cannot unwrap the key of the footer of permits (2026)"
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let dataset = DatasetIdentity::generate();
        let wrapped = seal(b"anything else", &dataset.recipient()).unwrap();
        let error = unwrap(&dataset, &wrapped, &named(None)).unwrap_err();
        assert!(matches!(error, UnwrapError::NotAKey { .. }), "{error}");
    }

    #[test]
    fn a_large_ciphertext_is_not_looked_at() {
        let dataset = DatasetIdentity::generate();
        let wrapped = seal(&[0; MAX_WRAPPED], &dataset.recipient()).unwrap();
        let error = unwrap(&dataset, &wrapped, &named(None)).unwrap_err();
        assert!(matches!(error, UnwrapError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_dataset_identity_survives_sealing_to_the_root() {
        let root = RootIdentity::generate();
        let dataset = DatasetIdentity::generate();
        let sealed = dataset.seal_to(&root.recipients()).unwrap();
        let again = DatasetIdentity::open_sealed(&sealed, &root).unwrap();
        assert_eq!(again.recipient(), dataset.recipient());
        let wrapped = wrap(&named(None), &key(), &dataset.recipient()).unwrap();
        unwrap(&again, &wrapped, &named(None)).unwrap();
    }

    #[test]
    fn every_identity_of_the_root_opens_it() {
        let (old, new) = (RootIdentity::generate(), RootIdentity::generate());
        let both = format!("{}{}", old.recipients(), new.recipients());
        let sealed = DatasetIdentity::generate()
            .seal_to(&RootRecipients::parse(&both).unwrap())
            .unwrap();
        for root in [&old, &new] {
            DatasetIdentity::open_sealed(&sealed, root).unwrap();
        }
    }

    #[test]
    fn another_root_does_not_open_it() {
        let sealed = DatasetIdentity::generate()
            .seal_to(&RootIdentity::generate().recipients())
            .unwrap();
        let error = DatasetIdentity::open_sealed(&sealed, &RootIdentity::generate()).unwrap_err();
        assert!(
            matches!(error, SealedIdentityError::Closed { .. }),
            "{error}"
        );
    }

    #[test]
    fn the_sealed_form_holds_no_secret_in_clear() {
        let root = RootIdentity::generate();
        let dataset = DatasetIdentity::generate();
        let sealed = dataset.seal_to(&root.recipients()).unwrap();
        let secret = dataset.0.to_string();
        let secret = secret.expose_secret().as_bytes();
        assert!(!sealed.windows(16).any(|w| w == b"AGE-SECRET-KEY-1"));
        assert!(!sealed.windows(16).any(|w| w == &secret[16..32]));
    }

    #[test]
    fn what_the_root_sealed_otherwise_is_no_identity() {
        let root = RootIdentity::generate();
        let to = &root.recipients().as_slice()[0].clone();
        for text in [&b""[..], b"AGE-SECRET-KEY-1", b"\xff\xfe", b"age1xyz"] {
            let sealed = seal(text, to).unwrap();
            let error = DatasetIdentity::open_sealed(&sealed, &root).unwrap_err();
            assert!(
                matches!(error, SealedIdentityError::NotAnIdentity),
                "{error}"
            );
        }
    }

    #[test]
    fn debug_prints_the_public_half_alone() {
        let dataset = DatasetIdentity::generate();
        assert_eq!(
            format!("{dataset:?}"),
            format!("DatasetIdentity({})", dataset.recipient())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn altered_ciphertexts_give_no_key(changes in vec((any::<usize>(), 1u8..), 1..4)) {
            let dataset = DatasetIdentity::generate();
            let name = named(Some("postcode"));
            let honest = wrap(&name, &key(), &dataset.recipient()).unwrap();
            let mut wrapped = honest.clone();
            for (at, to) in changes {
                let at = at % wrapped.len();
                wrapped[at] ^= to;
            }
            if wrapped != honest {
                prop_assert!(unwrap(&dataset, &wrapped, &name).is_err());
            }
        }

        #[test]
        fn random_bytes_give_no_key(bytes in vec(any::<u8>(), 0..400)) {
            let dataset = DatasetIdentity::generate();
            prop_assert!(unwrap(&dataset, &bytes, &named(None)).is_err());
            prop_assert!(DatasetIdentity::open_sealed(&bytes, &RootIdentity::generate()).is_err());
            // Sealed to the right dataset by somebody who knows only its recipient.
            let sealed = seal(&bytes, &dataset.recipient()).unwrap();
            prop_assert!(unwrap(&dataset, &sealed, &named(None)).is_err());
        }
    }
}
