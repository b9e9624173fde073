//! The one-time code by which a new role first meets its council.

use guildhall_model::{CouncilName, Digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

const SECRET_BYTES: usize = 16;

/// `<council>:<fingerprint of its certificate authority>:<secret>`.
///
/// The fingerprint lets a newcomer know the authority by its certificate before it trusts
/// anything else; the secret lets the authority know the newcomer, once. `Display` prints
/// the whole code, `Debug` leaves the secret out.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolmentCode {
    /// The council that invites.
    pub council: CouncilName,
    /// SHA-256 of its certificate authority's certificate.
    pub fingerprint: Digest,
    secret: Zeroizing<String>,
}

/// Why a text is not an enrolment code. Does not repeat the text, which holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an enrolment code of the form `<council>:<fingerprint>:<secret>`\nhelp: copy the whole line that `guildhall authority invite` printed"
)]
pub struct EnrolmentCodeError;

impl EnrolmentCode {
    /// A code with a fresh 128-bit secret; `None` if the machine gives no randomness.
    #[must_use]
    pub fn generate(council: &CouncilName, fingerprint: Digest) -> Option<Self> {
        let mut bytes = Zeroizing::new([0_u8; SECRET_BYTES]);
        SystemRandom::new().fill(bytes.as_mut_slice()).ok()?;
        Some(Self {
            council: council.clone(),
            fingerprint,
            secret: Zeroizing::new(hex::encode(bytes.as_slice())),
        })
    }

    /// What the authority knows the newcomer by. Keep its digest, never itself.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl FromStr for EnrolmentCode {
    type Err = EnrolmentCodeError;

    fn from_str(text: &str) -> Result<Self, EnrolmentCodeError> {
        let mut parts = text.trim().split(':');
        let (Some(council), Some(fingerprint), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(EnrolmentCodeError);
        };
        let fingerprint = hex::decode(fingerprint)
            .ok()
            .and_then(|bytes| Digest::from_bytes(&bytes));
        if secret.len() != 2 * SECRET_BYTES || !secret.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(EnrolmentCodeError);
        }
        Ok(Self {
            council: council.parse().map_err(|_| EnrolmentCodeError)?,
            fingerprint: fingerprint.ok_or(EnrolmentCodeError)?,
            secret: Zeroizing::new(secret.to_ascii_lowercase()),
        })
    }
}

impl fmt::Display for EnrolmentCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}",
            self.council,
            self.fingerprint,
            self.secret.as_str()
        )
    }
}

impl fmt::Debug for EnrolmentCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolmentCode")
            .field("council", &self.council.as_str())
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_as_it_was_printed() {
        let code =
            EnrolmentCode::generate(&"northmoor".parse().unwrap(), Digest::of(b"ca")).unwrap();
        assert_eq!(format!(" {code}\n").parse(), Ok(code));
    }

    #[test]
    fn half_a_code_is_none() {
        let text = EnrolmentCode::generate(&"northmoor".parse().unwrap(), Digest::of(b"ca"))
            .unwrap()
            .to_string();
        for bad in [
            &text[..text.len() - 1],
            "northmoor",
            &format!("{text}:x"),
            &text.replace(":", "-"),
            "",
        ] {
            assert_eq!(
                bad.parse::<EnrolmentCode>(),
                Err(EnrolmentCodeError),
                "{bad}"
            );
        }
    }

    #[test]
    fn debug_leaves_the_secret_out() {
        let code =
            EnrolmentCode::generate(&"northmoor".parse().unwrap(), Digest::of(b"ca")).unwrap();
        assert!(!format!("{code:?}").contains(code.secret()));
    }
}
