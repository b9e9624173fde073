//! Access tokens: what a principal shows after it signed in.
//!
//! A gateway shows its callers' tokens to every council it asks. So a token names the gateway
//! that it was given through, and is nothing in the hands of another: an authority compares it
//! with the peer that calls, which [`verify`] cannot know.

use crate::envelope::{self, EnvelopeError, Statement};
use crate::grant::CLOCK_SKEW;
use crate::grant::wire::{principal_from_wire, principal_to_wire};
use crate::key::VerifyingKey;
use crate::wire::{self, WireError};
use guildhall_model::{CouncilName, PeerId, Principal, Purpose, Timestamp};
use guildhall_proto::envelope::v1 as envelope_proto;
use guildhall_proto::grant::v1 as proto;
use std::ops::Deref;

/// A principal's short bearer token, signed by its own council.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Names this token in logs.
    pub id: String,
    /// Who bears it.
    pub principal: Principal,
    /// The roles that policies speak of.
    pub roles: Vec<String>,
    /// The purposes that it may name.
    pub purposes: Vec<Purpose>,
    /// The only gateway that may show it: the one it was given through.
    pub gateway: PeerId,
    /// From when it counts.
    pub not_before: Timestamp,
    /// Until when it counts.
    pub expires: Timestamp,
}

/// Why a token was turned away, in the order the checks run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The envelope, its signature or its form.
    #[error("the access token is not a statement of a council that is trusted here")]
    NotStated {
        /// What was wrong with the envelope.
        #[source]
        source: EnvelopeError,
    },
    /// Signed by one council about a principal of another.
    #[error("access token `{id}` is about a principal of `{claimed}`, signed by `{signer}`")]
    WrongCouncil {
        /// The token.
        id: String,
        /// The council of its principal.
        claimed: CouncilName,
        /// The council whose key signed it.
        signer: CouncilName,
    },
    /// Too early, beyond [`CLOCK_SKEW`].
    #[error("access token `{id}` counts from {not_before}")]
    NotYet {
        /// The token.
        id: String,
        /// From when it counts.
        not_before: Timestamp,
    },
    /// Too late, beyond [`CLOCK_SKEW`].
    #[error("access token `{id}` expired at {expired}")]
    Expired {
        /// The token.
        id: String,
        /// Until when it counted.
        expired: Timestamp,
    },
}

impl TokenError {
    /// What the caller can do about it.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Expired { .. } => Some("sign in again"),
            Self::NotYet { .. } => Some("compare the clocks of the authority and this host"),
            _ => None,
        }
    }
}

/// What a token is held against.
#[derive(Debug, Clone, Copy)]
pub struct TokenCheck<'a> {
    /// The council whose authority's keys are the signers; it speaks of its own principals only.
    pub council: &'a CouncilName,
    /// The time.
    pub now: Timestamp,
}

/// A token whose signature, council and time hold; only this module makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken(AccessToken);

impl Deref for VerifiedToken {
    type Target = AccessToken;
    fn deref(&self) -> &AccessToken {
        &self.0
    }
}

/// Checks that the bearer is the principal named, on the word of `check.council`.
pub fn verify(
    envelope: &envelope_proto::Envelope,
    signers: &[VerifyingKey],
    check: &TokenCheck<'_>,
) -> Result<VerifiedToken, TokenError> {
    let TokenCheck { council, now } = *check;
    let token: AccessToken =
        envelope::verify(envelope, signers).map_err(|source| TokenError::NotStated { source })?;
    let id = || token.id.clone();
    if token.principal.council != *council {
        return Err(TokenError::WrongCouncil {
            id: id(),
            claimed: token.principal.council.clone(),
            signer: council.clone(),
        });
    }
    if now.after(CLOCK_SKEW) < token.not_before {
        return Err(TokenError::NotYet {
            id: id(),
            not_before: token.not_before,
        });
    }
    if now >= token.expires.after(CLOCK_SKEW) {
        return Err(TokenError::Expired {
            id: id(),
            expired: token.expires,
        });
    }
    Ok(VerifiedToken(token))
}

/// [`verify`] where the bearer may be of any of several trusted councils, each with its keys.
///
/// A council's keys speak of that council's principals alone.
pub fn verify_any<'a>(
    envelope: &envelope_proto::Envelope,
    trusted: impl IntoIterator<Item = (&'a CouncilName, &'a [VerifyingKey])>,
    now: Timestamp,
) -> Result<VerifiedToken, TokenError> {
    let mut refusal = TokenError::NotStated {
        source: EnvelopeError::NotSigned,
    };
    for (council, signers) in trusted {
        match verify(envelope, signers, &TokenCheck { council, now }) {
            Err(TokenError::NotStated {
                source: EnvelopeError::NotSigned,
            }) => {}
            Err(e) => refusal = e,
            Ok(token) => return Ok(token),
        }
    }
    Err(refusal)
}

/// The longest role name, and the most of them.
const MAX_ROLE: usize = 128;

impl Statement for AccessToken {
    const PAYLOAD_TYPE: &'static str = "application/vnd.guildhall.access-token.v1";
    type Wire = proto::AccessToken;

    fn to_wire(&self) -> proto::AccessToken {
        proto::AccessToken {
            id: self.id.clone(),
            principal: Some(principal_to_wire(&self.principal)),
            roles: self.roles.clone(),
            purposes: self.purposes.iter().map(ToString::to_string).collect(),
            not_before_us: self.not_before.as_micros(),
            expires_us: self.expires.as_micros(),
            gateway: self.gateway.to_string(),
        }
    }

    fn from_wire(w: proto::AccessToken) -> Result<Self, WireError> {
        if w.id.is_empty() || w.id.len() > MAX_ROLE || w.id.chars().any(char::is_control) {
            return Err(WireError::Rule {
                field: "id",
                rule: "is not 1 to 128 printable characters",
            });
        }
        if w.roles.len() > MAX_ROLE
            || w.roles
                .iter()
                .any(|r| r.is_empty() || r.len() > MAX_ROLE || r.chars().any(char::is_control))
        {
            return Err(WireError::Rule {
                field: "roles",
                rule: "is not at most 128 short names",
            });
        }
        let (not_before, expires) = wire::span(w.not_before_us, w.expires_us)?;
        Ok(Self {
            id: w.id,
            principal: principal_from_wire(w.principal)?,
            roles: w.roles,
            purposes: w
                .purposes
                .iter()
                .map(|p| wire::name("purposes", p))
                .collect::<Result<_, _>>()?,
            gateway: wire::peer("gateway", &w.gateway)?,
            not_before,
            expires,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use crate::arbitrary::{LIFE, a_token, n, start};
    use crate::envelope::sign;
    use std::time::Duration;

    fn at(now: Timestamp) -> Result<VerifiedToken, TokenError> {
        let key = SigningKey::generate().unwrap();
        let check = TokenCheck {
            council: &n("northmoor"),
            now,
        };
        verify(&sign(&a_token(), &key), &[key.public()], &check)
    }

    #[test]
    fn the_right_token_is_verified() {
        assert_eq!(*at(start()).unwrap(), a_token());
    }

    #[test]
    fn a_token_counts_within_its_time_and_the_skew() {
        let tick = Duration::from_micros(1);
        let end = start().after(LIFE).after(CLOCK_SKEW);
        let first = start().before(CLOCK_SKEW);
        assert!(matches!(
            at(first.before(tick)),
            Err(TokenError::NotYet { .. })
        ));
        at(first).unwrap();
        at(end.before(tick)).unwrap();
        let error = at(end).unwrap_err();
        assert!(matches!(error, TokenError::Expired { .. }));
        assert_eq!(error.help(), Some("sign in again"));
    }

    #[test]
    fn a_council_speaks_of_its_own_principals_alone() {
        let southmoor = SigningKey::generate().unwrap();
        let forged = sign(&a_token(), &southmoor);
        let check = TokenCheck {
            council: &n("southmoor"),
            now: start(),
        };
        let error = verify(&forged, &[southmoor.public()], &check).unwrap_err();
        assert!(matches!(error, TokenError::WrongCouncil { .. }), "{error}");

        let northmoor = SigningKey::generate().unwrap();
        let (north, south) = (n("northmoor"), n("southmoor"));
        let (north_keys, south_keys) = ([northmoor.public()], [southmoor.public()]);
        let trusted = [(&north, &north_keys[..]), (&south, &south_keys[..])];
        let error = verify_any(&forged, trusted, start()).unwrap_err();
        assert!(matches!(error, TokenError::WrongCouncil { .. }), "{error}");
        verify_any(&sign(&a_token(), &northmoor), trusted, start()).unwrap();
        let stranger = sign(&a_token(), &SigningKey::generate().unwrap());
        let error = verify_any(&stranger, trusted, start()).unwrap_err();
        assert_eq!(
            error,
            TokenError::NotStated {
                source: EnvelopeError::NotSigned
            }
        );
    }

    #[test]
    fn a_token_that_names_no_gateway_is_none() {
        let wire = proto::AccessToken {
            gateway: String::new(),
            ..a_token().to_wire()
        };
        assert!(matches!(
            AccessToken::from_wire(wire),
            Err(WireError::Peer {
                field: "gateway",
                ..
            })
        ));
    }

    #[test]
    fn an_id_and_roles_stay_short_and_printable() {
        for id in [String::new(), "x".repeat(129), "a\nb".into()] {
            assert!(AccessToken::from_wire(AccessToken { id, ..a_token() }.to_wire()).is_err());
        }
        for roles in [
            vec![String::new()],
            vec!["x".repeat(129)],
            vec!["a".into(); 129],
        ] {
            assert!(AccessToken::from_wire(AccessToken { roles, ..a_token() }.to_wire()).is_err());
        }
    }
}
