//! age encryption to one recipient, and the identity that a node makes for one loan of keys.

use age::x25519;
use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use ring::rand::SystemRandom;
use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;
use zeroize::Zeroizing;

/// The largest ciphertext that is opened.
pub const MAX_SEALED: usize = 4 << 20;

/// Why a text is not a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipientError {
    /// Not `age1...` over X25519.
    #[error("not an age X25519 recipient: one begins with `age1` and has 62 characters")]
    Form,
    /// A point to which nothing can be encrypted in secret.
    #[error("the recipient is a weak point of its curve, to which nothing stays secret")]
    Weak,
}

/// Why something could not be sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// age failed.
    #[error("cannot encrypt to the recipient")]
    Age {
        /// What age said.
        #[source]
        source: age::EncryptError,
    },
    /// Writing the ciphertext failed.
    #[error("cannot write the ciphertext")]
    Write {
        /// What the writer said.
        #[source]
        source: std::io::Error,
    },
}

/// Why something sealed could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Beyond [`MAX_SEALED`].
    #[error("the ciphertext is larger than {MAX_SEALED} bytes")]
    TooLarge,
    /// Not age, or not to this identity.
    #[error("no age identity here matches the ciphertext")]
    Age {
        /// What age said.
        #[source]
        source: age::DecryptError,
    },
    /// The ciphertext was cut short or altered.
    #[error("the ciphertext is damaged")]
    Damaged {
        /// What age said.
        #[source]
        source: std::io::Error,
    },
}

/// An age recipient: the public half to which keys are wrapped.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Recipient(x25519::Recipient);

impl Recipient {
    /// The recipient of an age identity.
    #[must_use]
    pub fn of(identity: &x25519::Identity) -> Self {
        Self(identity.to_public())
    }
}

impl FromStr for Recipient {
    type Err = RecipientError;

    /// Parses `age1...`. A weak point is refused here, since age panics on one.
    fn from_str(s: &str) -> Result<Self, RecipientError> {
        let recipient = s.parse().map_err(|_| RecipientError::Form)?;
        let (_, point) = bech32::decode(s).map_err(|_| RecipientError::Form)?;
        if is_strong(&point) {
            Ok(Self(recipient))
        } else {
            Err(RecipientError::Weak)
        }
    }
}

/// Whether a key agreed with `point` is a secret: ring refuses an agreement whose outcome is zero.
fn is_strong(point: &[u8]) -> bool {
    EphemeralPrivateKey::generate(&agreement::X25519, &SystemRandom::new())
        .and_then(|ours| {
            let theirs = UnparsedPublicKey::new(&agreement::X25519, point);
            agreement::agree_ephemeral(ours, &theirs, |_| ())
        })
        .is_ok()
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

/// Encrypts `plaintext` to `recipient`, in age's binary form.
pub fn seal(plaintext: &[u8], recipient: &Recipient) -> Result<Vec<u8>, SealError> {
    seal_to_all(plaintext, std::slice::from_ref(recipient))
}

/// Encrypts `plaintext` so that each of `recipients`, of whom there must be one, can open it.
pub fn seal_to_all(plaintext: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, SealError> {
    let encryptor =
        age::Encryptor::with_recipients(recipients.iter().map(|r| &r.0 as &dyn age::Recipient))
            .map_err(|source| SealError::Age { source })?;
    let write = |source| SealError::Write { source };
    let mut out = Vec::with_capacity(plaintext.len() + 256);
    let mut writer = encryptor.wrap_output(&mut out).map_err(write)?;
    writer.write_all(plaintext).map_err(write)?;
    writer.finish().map_err(write)?;
    Ok(out)
}

/// Opens age's binary form with whichever of `identities` fits, into memory that is wiped.
pub fn open_with<'a>(
    identities: impl IntoIterator<Item = &'a dyn age::Identity>,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if sealed.len() > MAX_SEALED {
        return Err(OpenError::TooLarge);
    }
    let mut reader = age::Decryptor::new_buffered(sealed)
        .and_then(|d| d.decrypt(identities.into_iter()))
        .map_err(|source| OpenError::Age { source })?;
    // Invariant: the plaintext is shorter than the ciphertext, so this never grows and leaves
    // no copy behind.
    let mut plaintext = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader
        .read_to_end(&mut plaintext)
        .map_err(|source| OpenError::Damaged { source })?;
    Ok(plaintext)
}

/// An identity that is made for one loan of keys and dropped with it.
pub struct EphemeralIdentity(x25519::Identity);

impl EphemeralIdentity {
    /// A fresh identity.
    #[must_use]
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// To whom the keys are to be sealed.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient::of(&self.0)
    }

    /// Opens what was sealed to this identity.
    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let identity: &dyn age::Identity = &self.0;
        open_with([identity], sealed)
    }
}

impl fmt::Debug for EphemeralIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EphemeralIdentity({})", self.recipient())
    }
}
