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
