//! From wire fields to domain values, each with the field's name in its error.

use guildhall_model::{Digest, NameError, PeerId, PeerIdError, Timestamp};
use std::str::FromStr;

/// Why a decoded message is not a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A field that must be there is not.
    #[error("`{field}` is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// Not a name.
    #[error("`{field}` is not a name")]
    Name {
        /// The field.
        field: &'static str,
        /// What such a name looks like.
        #[source]
        source: NameError,
    },
    /// Not a peer's identity.
    #[error("`{field}` is not a peer's identity")]
    Peer {
        /// The field.
        field: &'static str,
        /// What such an identity looks like.
        #[source]
        source: PeerIdError,
    },
    /// Not a SHA-256 digest.
    #[error("`{field}` is not 32 bytes long")]
    Digest {
        /// The field.
        field: &'static str,
    },
    /// A number that stands for nothing here.
    #[error("`{field}` is {value}, which stands for nothing this version knows")]
    Unknown {
        /// The field.
        field: &'static str,
        /// The number.
        value: i32,
    },
    /// The same name twice where each may stand once.
    #[error("`{field}` names `{name}` twice")]
    Twice {
        /// The field.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// A name that refers to nothing.
    #[error("`{field}` names `{name}`, which is no column of the product")]
    NoSuchColumn {
        /// The field.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// Any other rule of the field.
    #[error("`{field}` {rule}")]
    Rule {
        /// The field.
        field: &'static str,
        /// What holds of it otherwise.
        rule: &'static str,
    },
}

pub(crate) fn name<T: FromStr<Err = NameError>>(
    field: &'static str,
    text: &str,
) -> Result<T, WireError> {
    text.parse()
        .map_err(|source| WireError::Name { field, source })
}

/// A name that may be absent, which the wire writes as an empty text.
pub(crate) fn optional_name<T: FromStr<Err = NameError>>(
    field: &'static str,
    text: &str,
) -> Result<Option<T>, WireError> {
    if text.is_empty() {
        Ok(None)
    } else {
        name(field, text).map(Some)
    }
}

/// A set of names; the same name twice is refused, so that one value has one wire form.
pub(crate) fn names<T: FromStr<Err = NameError> + Ord>(
    field: &'static str,
    texts: &[String],
) -> Result<std::collections::BTreeSet<T>, WireError> {
    let mut set = std::collections::BTreeSet::new();
    for text in texts {
        if !set.insert(name(field, text)?) {
            return Err(WireError::Twice {
                field,
                name: text.clone(),
            });
        }
    }
    Ok(set)
}

pub(crate) fn peer(field: &'static str, text: &str) -> Result<PeerId, WireError> {
    text.parse()
        .map_err(|source| WireError::Peer { field, source })
}

pub(crate) fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, WireError> {
    Digest::from_bytes(bytes).ok_or(WireError::Digest { field })
}

/// The two ends of a span of time, the first before the second.
pub(crate) fn span(
    not_before_us: i64,
    expires_us: i64,
) -> Result<(Timestamp, Timestamp), WireError> {
    if not_before_us >= expires_us {
        return Err(WireError::Rule {
            field: "expires",
            rule: "is not after `not_before`",
        });
    }
    Ok((
        Timestamp::from_micros(not_before_us),
        Timestamp::from_micros(expires_us),
    ))
}
