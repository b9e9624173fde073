//! The key of one column for one period.

use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use zeroize::Zeroize;

/// Why there is no column key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The operating system gave no randomness.
    #[error("the system's random source failed")]
    NoRandomness,
    /// Not 32 bytes.
    #[error("a column key has 32 bytes, this has {got}")]
    Length {
        /// How many bytes there were.
        got: usize,
    },
}

/// 32 random bytes, from which the file keys of a column are derived; wiped when dropped.
///
/// The bytes are on the heap, so that moving a key leaves no copy behind.
#[derive(Clone)]
pub struct ColumnKey(Box<[u8; 32]>);

impl ColumnKey {
    /// A fresh key from the system's random source.
    pub fn generate() -> Result<Self, KeyError> {
        let mut key = Self(Box::new([0; 32]));
        SystemRandom::new()
            .fill(key.0.as_mut_slice())
            .map_err(|_| KeyError::NoRandomness)?;
        Ok(key)
    }

    /// A key from its 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() != 32 {
            return Err(KeyError::Length { got: bytes.len() });
        }
        let mut key = Self(Box::new([0; 32]));
        key.0.copy_from_slice(bytes);
        Ok(key)
    }

    /// The 32 bytes. Whoever copies them wipes the copy.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for ColumnKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl zeroize::ZeroizeOnDrop for ColumnKey {}

impl fmt::Debug for ColumnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ColumnKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_are_never_the_same() {
        let (a, b) = (
            ColumnKey::generate().unwrap(),
            ColumnKey::generate().unwrap(),
        );
        assert_ne!(a.as_bytes(), b.as_bytes());
        assert_ne!(a.as_bytes(), &[0; 32]);
    }

    #[test]
    fn debug_prints_nothing_of_the_key() {
        let key = ColumnKey::from_bytes(&[0xab; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "ColumnKey(..)");
        assert_eq!(format!("{key:#?}"), "ColumnKey(..)");
    }

    #[test]
    fn other_lengths_are_no_keys() {
        for got in [0, 16, 31, 33] {
            let error = ColumnKey::from_bytes(&vec![1; got]).unwrap_err();
            assert_eq!(error, KeyError::Length { got });
        }
    }
}
