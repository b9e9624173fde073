//! What is inside a wrapped key: the key, and whose key it is.

use crate::seal::{Recipient, SealError, seal};
use crate::{ColumnKey, KeyName};
use std::str::FromStr;
use zeroize::Zeroizing;

const MAGIC: &[u8] = b"guildhall column key v1\n";

/// Why a plaintext is not a named column key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// It does not begin as one, or ends early or late.
    #[error("not a wrapped column key")]
    Form,
    /// A name in it is none.
    #[error("the wrapped column key does not say whose it is")]
    Name,
}

/// A column key with the name that was sealed in with it.
#[derive(Debug, Clone)]
pub struct UnwrappedKey {
    /// Whose key it says it is.
    pub name: KeyName,
    /// The key.
    pub key: ColumnKey,
}

/// The plaintext of a wrapped key, to bytes and back. One value has one form.
#[derive(Debug, Clone, Copy)]
pub struct WrappedPayload;

impl WrappedPayload {
    /// The bytes: a fixed opening, dataset, column (or the mark of the footer), period, key.
    #[must_use]
    pub fn encode(name: &KeyName, key: &ColumnKey) -> Zeroizing<Vec<u8>> {
        let KeyName {
            dataset,
            column,
            period,
        } = name;
        let (mark, column) = column.as_ref().map_or((0, ""), |c| (1, c.as_str()));
        let texts = [dataset.as_str(), column, period.as_str()];
        let size = MAGIC.len() + 1 + texts.iter().map(|t| 8 + t.len()).sum::<usize>() + 32;
        // Invariant: never grows past its first allocation, which would leave a copy behind.
        let mut out = Zeroizing::new(Vec::with_capacity(size));
        out.extend_from_slice(MAGIC);
        out.push(mark);
        for text in texts {
            out.extend_from_slice(&(text.len() as u64).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(key.as_bytes());
        out
    }

    /// The key and its name, if `bytes` are exactly what [`WrappedPayload::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<UnwrappedKey, PayloadError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(PayloadError::Form)?;
        let (mark, rest) = rest.split_first().ok_or(PayloadError::Form)?;
        let (dataset, rest) = text(rest)?;
        let (column, rest) = text(rest)?;
        let (period, key) = text(rest)?;
        let column = match mark {
            0 if column.is_empty() => None,
            1 => Some(name(column)?),
            _ => return Err(PayloadError::Form),
        };
        let name = KeyName {
            dataset: name(dataset)?,
            column,
            period: name(period)?,
        };
        let key = ColumnKey::from_bytes(key).map_err(|_| PayloadError::Form)?;
        Ok(UnwrappedKey { name, key })
    }
}

fn text(bytes: &[u8]) -> Result<(&str, &[u8]), PayloadError> {
    let (length, rest) = bytes.split_first_chunk().ok_or(PayloadError::Form)?;
    let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| PayloadError::Form)?;
    let (text, rest) = rest.split_at_checked(length).ok_or(PayloadError::Form)?;
    Ok((
        std::str::from_utf8(text).map_err(|_| PayloadError::Name)?,
        rest,
    ))
}

fn name<T: FromStr>(text: &str) -> Result<T, PayloadError> {
    text.parse().map_err(|_| PayloadError::Name)
}

/// Wraps `key` to the recipient of its dataset, with its name sealed in.
pub fn wrap(name: &KeyName, key: &ColumnKey, recipient: &Recipient) -> Result<Vec<u8>, SealError> {
    seal(&WrappedPayload::encode(name, key), recipient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EphemeralIdentity;
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

    prop_compose! {
        fn any_name()(
            dataset in "[a-z][a-z0-9_]{0,8}",
            column in prop::option::of("[ -~é]{1,10}"),
            period in "[A-Za-z0-9_.-]{1,8}",
        ) -> KeyName {
            KeyName {
                dataset: dataset.parse().unwrap(),
                column: column.map(|c| c.parse().unwrap()),
                period: period.parse().unwrap(),
            }
        }
    }

    #[test]
    fn the_form_is_pinned() {
        // A change here makes every wrapped key unreadable.
        let mut expected = b"guildhall column key v1\n\x01".to_vec();
        for text in ["permits", "postcode", "2026"] {
            expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, text.len().try_into().unwrap()]);
            expected.extend_from_slice(text.as_bytes());
        }
        expected.extend_from_slice(&[0xab; 32]);
        assert_eq!(
            *WrappedPayload::encode(&named(Some("postcode")), &key()),
            expected
        );
    }

    #[test]
    fn the_buffer_never_grows_and_leaves_a_copy() {
        let bytes = WrappedPayload::encode(&named(Some("postcode")), &key());
        assert_eq!(bytes.capacity(), bytes.len());
    }

    #[test]
    fn a_wrapped_key_opens_for_its_recipient_alone() {
        let (mine, theirs) = (EphemeralIdentity::generate(), EphemeralIdentity::generate());
        let wrapped = wrap(&named(None), &key(), &mine.recipient()).unwrap();
        let opened = WrappedPayload::decode(&mine.open(&wrapped).unwrap()).unwrap();
        assert_eq!(opened.name, named(None));
        assert_eq!(opened.key.as_bytes(), key().as_bytes());
        theirs.open(&wrapped).unwrap_err();
    }

    #[test]
    fn a_wrapped_key_fits_a_manifest() {
        let mine = EphemeralIdentity::generate();
        let long = KeyName {
            dataset: "d".repeat(63).parse().unwrap(),
            column: Some("é".repeat(64).parse().unwrap()),
            period: "p".repeat(128).parse().unwrap(),
        };
        assert!(wrap(&long, &key(), &mine.recipient()).unwrap().len() < 1024);
    }

    #[test]
    fn the_footer_is_no_column_without_a_name() {
        let mut bytes = WrappedPayload::encode(&named(None), &key()).to_vec();
        bytes[MAGIC.len()] = 1;
        assert_eq!(
            WrappedPayload::decode(&bytes).unwrap_err(),
            PayloadError::Name
        );
        let mut bytes = WrappedPayload::encode(&named(Some("postcode")), &key()).to_vec();
        for mark in [0, 2, 255] {
            bytes[MAGIC.len()] = mark;
            assert_eq!(
                WrappedPayload::decode(&bytes).unwrap_err(),
                PayloadError::Form
            );
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        let mut bytes = WrappedPayload::encode(&named(None), &key()).to_vec();
        for at in MAGIC.len() + 1..MAGIC.len() + 9 {
            let was = bytes[at];
            bytes[at] = 0xff;
            assert_eq!(
                WrappedPayload::decode(&bytes).unwrap_err(),
                PayloadError::Form
            );
            bytes[at] = was;
        }
    }

    #[test]
    fn debug_prints_the_name_and_nothing_of_the_key() {
        let bytes = WrappedPayload::encode(&named(Some("postcode")), &key());
        let text = format!("{:?}", WrappedPayload::decode(&bytes).unwrap());
        assert!(
            text.contains("postcode") && text.contains("ColumnKey(..)"),
            "{text}"
        );
        assert!(!text.contains("171") && !text.contains("ab, ab"), "{text}");
    }

    proptest! {
        #[test]
        fn every_payload_reads_back(name in any_name(), key in any::<[u8; 32]>()) {
            let key = ColumnKey::from_bytes(&key).unwrap();
            let bytes = WrappedPayload::encode(&name, &key);
            let again = WrappedPayload::decode(&bytes).unwrap();
            prop_assert_eq!(&again.name, &name);
            prop_assert_eq!(again.key.as_bytes(), key.as_bytes());
        }

        #[test]
        fn different_names_give_different_bytes(a in any_name(), b in any_name()) {
            let same = *WrappedPayload::encode(&a, &key()) == *WrappedPayload::encode(&b, &key());
            prop_assert_eq!(same, a == b);
        }

        /// What decodes at all is exactly what encoding it gives.
        #[test]
        fn altered_bytes_have_one_meaning_or_none(
            changes in vec((any::<usize>(), any::<u8>()), 0..4),
            cut in 0usize..4,
            more in vec(any::<u8>(), 0..3),
        ) {
            let mut bytes = WrappedPayload::encode(&named(Some("postcode")), &key()).to_vec();
            for (at, to) in changes {
                let at = at % bytes.len();
                bytes[at] ^= to;
            }
            bytes.truncate(bytes.len() - cut);
            bytes.extend_from_slice(&more);
            if let Ok(UnwrappedKey { name, key }) = WrappedPayload::decode(&bytes) {
                prop_assert_eq!(&*WrappedPayload::encode(&name, &key), &bytes);
            }
        }

        #[test]
        fn random_bytes_are_no_payload(bytes in vec(any::<u8>(), 0..200)) {
            prop_assert!(WrappedPayload::decode(&bytes).is_err());
            let begun: Vec<u8> = [MAGIC, &bytes].concat();
            if let Ok(UnwrappedKey { name, key }) = WrappedPayload::decode(&begun) {
                prop_assert_eq!(&*WrappedPayload::encode(&name, &key), &begun);
            }
        }
    }
}
