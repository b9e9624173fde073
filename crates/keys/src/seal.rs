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

#[cfg(test)]
mod tests {
    use super::*;
    use bech32::{Bech32, Hrp};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::error::Error;

    /// The published points of small order on Curve25519, and their other writings.
    const WEAK: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];

    fn written(point: &[u8]) -> String {
        bech32::encode::<Bech32>(Hrp::parse("age").unwrap(), point).unwrap()
    }

    #[test]
    fn a_recipient_reads_back() {
        let text = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
        let recipient: Recipient = text.parse().unwrap();
        assert_eq!(recipient.to_string(), text);
        assert_eq!(format!("{recipient:?}"), format!("Recipient({text})"));
    }

    #[test]
    fn a_weak_point_is_no_recipient() {
        for point in WEAK {
            let mut point = hex::decode(point).unwrap();
            assert_eq!(
                written(&point).parse::<Recipient>(),
                Err(RecipientError::Weak)
            );
            point[31] |= 0x80;
            assert_eq!(
                written(&point).parse::<Recipient>(),
                Err(RecipientError::Weak)
            );
        }
    }

    #[test]
    fn other_texts_are_no_recipients() {
        let good = EphemeralIdentity::generate().recipient().to_string();
        let identity = x25519::Identity::generate();
        let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
        let cut = good[..good.len() - 1].to_owned();
        let two = format!("{good}{good}");
        let short = written(&[9; 31]);
        for bad in ["", "age1", "ssh-ed25519 AAAA", &cut, &two, &short, &secret] {
            assert_eq!(bad.parse::<Recipient>(), Err(RecipientError::Form), "{bad}");
        }
    }

    #[test]
    fn what_is_sealed_opens_again() {
        let identity = EphemeralIdentity::generate();
        for size in [0, 1, 100, 65_535, 65_536, 65_537, 200_000] {
            let plaintext = vec![7; size];
            let sealed = seal(&plaintext, &identity.recipient()).unwrap();
            let opened = identity.open(&sealed).unwrap();
            assert_eq!(*opened, plaintext);
            assert_eq!(
                opened.capacity(),
                sealed.len(),
                "grown, which leaves a copy behind"
            );
        }
    }

    #[test]
    fn each_of_several_recipients_can_open() {
        let (a, b) = (EphemeralIdentity::generate(), EphemeralIdentity::generate());
        let sealed = seal_to_all(b"x", &[a.recipient(), b.recipient()]).unwrap();
        assert_eq!(*a.open(&sealed).unwrap(), b"x");
        assert_eq!(*b.open(&sealed).unwrap(), b"x");
        assert!(EphemeralIdentity::generate().open(&sealed).is_err());
    }

    #[test]
    fn sealing_to_nobody_is_refused() {
        assert!(matches!(seal_to_all(b"x", &[]), Err(SealError::Age { .. })));
    }

    #[test]
    fn a_ciphertext_that_is_too_large_is_not_looked_at() {
        let identity = EphemeralIdentity::generate();
        let error = identity.open(&vec![0; MAX_SEALED + 1]).unwrap_err();
        assert!(matches!(error, OpenError::TooLarge), "{error}");
    }

    #[test]
    fn a_ciphertext_cut_anywhere_is_refused() {
        let identity = EphemeralIdentity::generate();
        let sealed = seal(b"a plaintext", &identity.recipient()).unwrap();
        for end in 0..sealed.len() {
            assert!(identity.open(&sealed[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn no_byte_of_a_ciphertext_can_be_altered() {
        let identity = EphemeralIdentity::generate();
        let sealed = seal(b"a plaintext", &identity.recipient()).unwrap();
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(identity.open(&forged).is_err(), "{at}");
        }
    }

    #[test]
    fn debug_and_errors_print_the_public_half_alone() {
        let identity = EphemeralIdentity::generate();
        let text = format!("{identity:?}");
        assert_eq!(text, format!("EphemeralIdentity({})", identity.recipient()));
        let error = identity.open(b"a secret that is not age").unwrap_err();
        let chain = format!(
            "{error} {:?} {error:?}",
            error.source().map(ToString::to_string)
        );
        assert!(!chain.contains("secret"), "{chain}");
    }

    proptest! {
        #[test]
        fn random_bytes_do_not_open(bytes in vec(any::<u8>(), 0..300)) {
            let identity = EphemeralIdentity::generate();
            prop_assert!(identity.open(&bytes).is_err());
            let begun = [b"age-encryption.org/v1\n-> X25519 ", bytes.as_slice()].concat();
            prop_assert!(identity.open(&begun).is_err());
        }

        #[test]
        fn random_points_can_be_sealed_to_or_are_refused(point in any::<[u8; 32]>()) {
            if let Ok(recipient) = written(&point).parse::<Recipient>() {
                prop_assert!(seal(b"x", &recipient).is_ok());
            }
        }
    }
}
