//! Tickets and handles that only this process can read, for one principal, until a time.
//!
//! A client carries them; what is inside (a statement with its literals, bound parameters, a
//! purpose) is sealed with a key that lives and dies with the process. After a restart every
//! ticket is refused, and clients ask again.

use guildhall_model::{Principal, Timestamp};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a sealed thing may be used for; one kind never opens as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Fetches a result by DoGet.
    Ticket,
    /// Names a prepared statement.
    Handle,
}

impl Kind {
    /// The word for it in messages.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Handle => "prepared statement handle",
        }
    }

    fn label(self) -> &'static [u8] {
        match self {
            Self::Ticket => b"guildhall gateway ticket v1",
            Self::Handle => b"guildhall gateway handle v1",
        }
    }
}

/// Why something that a client brought back does not open.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SealError {
    /// Garbled, forged, another kind, another principal's, or from before a restart. Which of
    /// these it was is not told.
    #[error("the {} was not issued to you by this gateway", .0.noun())]
    NotYours(Kind),
    /// It was good until then.
    #[error("the {} expired at {at}", .kind.noun())]
    Expired {
        /// What it was.
        kind: Kind,
        /// Its end.
        at: Timestamp,
    },
}

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw random bytes from the system")]
pub struct NoRandomness;

/// Seals and opens what clients carry.
pub(crate) struct Sealer {
    key: LessSafeKey,
    // Invariant: a nonce is never used twice under `key`, which is drawn afresh by `new`.
    used: AtomicU64,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer with a fresh key.
    pub(crate) fn new() -> Result<Self, NoRandomness> {
        let mut key = [0; 32];
        SystemRandom::new()
            .fill(&mut key)
            .map_err(|_| NoRandomness)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| NoRandomness)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            used: AtomicU64::new(0),
        })
    }

    /// Seals `content` for `owner` until `expires`.
    pub(crate) fn seal(
        &self,
        kind: Kind,
        owner: &Principal,
        expires: Timestamp,
        content: &[u8],
    ) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&self.used.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let mut body = Vec::with_capacity(8 + content.len() + 16);
        body.extend_from_slice(&expires.as_micros().to_be_bytes());
        body.extend_from_slice(content);
        let aad = Aad::from(bound_to(kind, owner));
        // Sealing fails only for lengths beyond 256 GiB; an empty answer opens for nobody.
        if self
            .key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .is_err()
        {
            return Vec::new();
        }
        let mut sealed = nonce.to_vec();
        sealed.append(&mut body);
        sealed
    }

    /// Opens what [`Self::seal`] made for the same kind and owner, until its time.
    pub(crate) fn open(
        &self,
        kind: Kind,
        owner: &Principal,
        now: Timestamp,
        sealed: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let not_yours = || SealError::NotYours(kind);
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(not_yours)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| not_yours())?;
        let mut body = body.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(bound_to(kind, owner)), &mut body)
            .map_err(|_| not_yours())?;
        let (expires, content) = plain.split_first_chunk::<8>().ok_or_else(not_yours)?;
        let at = Timestamp::from_micros(i64::from_be_bytes(*expires));
        if now >= at {
            return Err(SealError::Expired { kind, at });
        }
        Ok(content.to_vec())
    }
}

fn bound_to(kind: Kind, owner: &Principal) -> Vec<u8> {
    let mut aad = kind.label().to_vec();
    for part in [owner.council.as_str(), owner.name.as_str()] {
        aad.push(0);
        aad.extend_from_slice(part.as_bytes());
    }
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn principal(name: &str) -> Principal {
        Principal {
            council: "northmoor".parse().unwrap(),
            name: name.parse().unwrap(),
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_micros(1_000_000)
    }

    #[test]
    fn what_was_sealed_opens_for_its_owner_alone() {
        let sealer = Sealer::new().unwrap();
        let sealed = sealer.seal(
            Kind::Ticket,
            &principal("ana"),
            now().after(Duration::from_secs(1)),
            b"x",
        );
        assert_eq!(
            sealer
                .open(Kind::Ticket, &principal("ana"), now(), &sealed)
                .unwrap(),
            b"x"
        );
        assert_eq!(
            sealer.open(Kind::Ticket, &principal("bob"), now(), &sealed),
            Err(SealError::NotYours(Kind::Ticket))
        );
    }

    #[test]
    fn a_handle_is_not_a_ticket() {
        let sealer = Sealer::new().unwrap();
        let sealed = sealer.seal(
            Kind::Handle,
            &principal("ana"),
            now().after(Duration::from_secs(1)),
            b"x",
        );
        assert!(
            sealer
                .open(Kind::Ticket, &principal("ana"), now(), &sealed)
                .is_err()
        );
    }

    #[test]
    fn a_ticket_ends_at_its_time() {
        let sealer = Sealer::new().unwrap();
        let end = now().after(Duration::from_secs(1));
        let sealed = sealer.seal(Kind::Ticket, &principal("ana"), end, b"x");
        assert_eq!(
            sealer.open(Kind::Ticket, &principal("ana"), end, &sealed),
            Err(SealError::Expired {
                kind: Kind::Ticket,
                at: end
            })
        );
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unnoticed() {
        let sealer = Sealer::new().unwrap();
        let sealed = sealer.seal(
            Kind::Ticket,
            &principal("ana"),
            now().after(Duration::from_secs(1)),
            b"select",
        );
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(
                sealer
                    .open(Kind::Ticket, &principal("ana"), now(), &forged)
                    .is_err(),
                "byte {at}"
            );
            assert!(
                sealer
                    .open(Kind::Ticket, &principal("ana"), now(), &sealed[..at])
                    .is_err(),
                "cut {at}"
            );
        }
    }

    #[test]
    fn a_ticket_of_another_gateway_is_refused() {
        let (a, b) = (Sealer::new().unwrap(), Sealer::new().unwrap());
        let sealed = a.seal(
            Kind::Ticket,
            &principal("ana"),
            now().after(Duration::from_secs(1)),
            b"x",
        );
        assert!(
            b.open(Kind::Ticket, &principal("ana"), now(), &sealed)
                .is_err()
        );
    }
}
