//! Ed25519 keys: one half signs statements, the other checks them.

use guildhall_model::Digest;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::fmt;
use zeroize::Zeroizing;

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The operating system gave no randomness.
    #[error("the system's random source failed")]
    NoRandomness,
    /// Not an Ed25519 private key in PKCS#8 version 2.
    #[error("not an Ed25519 private key in PKCS#8 form with its public key")]
    NotPkcs8,
    /// Not 32 bytes.
    #[error("an Ed25519 public key has 32 bytes, this has {got}")]
    NotPublicKey {
        /// How many bytes there were.
        got: usize,
    },
}

/// A private key that signs statements.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl SigningKey {
    /// A fresh key from the system's random source.
    pub fn generate() -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| KeyError::NoRandomness)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// A key from its PKCS#8 (version 2) form.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::NotPkcs8)?;
        Ok(Self {
            pair,
            pkcs8: Zeroizing::new(pkcs8.to_vec()),
        })
    }

    /// The PKCS#8 form, to be stored where nobody else reads it.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.pkcs8.clone()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> VerifyingKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        VerifyingKey(bytes)
    }

    #[cfg(test)]
    pub(crate) fn from_seed(seed: &[u8]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
        Self {
            pair,
            pkcs8: Zeroizing::default(),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

/// A public key that checks signatures.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// A key from its 32 raw bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let got = bytes.len();
        Ok(Self(
            bytes
                .try_into()
                .map_err(|_| KeyError::NotPublicKey { got })?,
        ))
    }

    /// The 32 raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Lower-case hex of the first 16 bytes of SHA-256 over the raw key.
    #[must_use]
    pub fn id(&self) -> String {
        Digest::of(&self.0).short(16)
    }

    pub(crate) fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_reads_back_from_its_pkcs8() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(&key.to_pkcs8()).unwrap();
        assert_eq!(again.public(), key.public());
    }

    #[test]
    fn rfc_8032_test_2_holds() {
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        let key = VerifyingKey::from_bytes(&hex::decode(public).unwrap()).unwrap();
        assert!(key.holds(&[0x72], &hex::decode(signature).unwrap()));
        assert!(!key.holds(&[0x73], &hex::decode(signature).unwrap()));
    }

    #[test]
    fn debug_prints_no_private_byte() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(
            format!("{key:?}"),
            format!("SigningKey({})", key.public().id())
        );
    }

    proptest! {
        #[test]
        fn random_bytes_are_no_private_key(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            prop_assert_eq!(SigningKey::from_pkcs8(&bytes).err(), Some(KeyError::NotPkcs8));
        }
    }

    #[test]
    fn other_lengths_are_no_public_keys() {
        for got in [0, 31, 33, 64] {
            assert_eq!(
                VerifyingKey::from_bytes(&vec![7; got]),
                Err(KeyError::NotPublicKey { got })
            );
        }
    }

    #[test]
    fn a_key_id_is_32_hex_digits() {
        let id = VerifyingKey::from_bytes(&[7; 32]).unwrap().id();
        assert_eq!(id, hex::encode(&Digest::of(&[7; 32]).as_bytes()[..16]));
    }
}
