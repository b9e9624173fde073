//! Who calls: the one check that every RPC passes before anything else is looked at.
//!
//! A bearer token is verified here, with the keys of the council that it speaks of; a client
//! certificate was verified by TLS and is verified again, since a connection can outlive it.
//! Nothing of a call is believed for what the gateway may do: the authorities check the same
//! credential again before they grant anything.

use crate::error::DoorError;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use guildhall_grant::{VerifyingKey, envelope, token};
use guildhall_identity::{TrustStore, peer_chain};
use guildhall_model::{CouncilName, Digest, Principal, Purpose, Role, SharedClock};
use guildhall_proto::authority::v1::{CertificateChain, Credential, credential};
use guildhall_proto::envelope::v1::Envelope;
use prost::Message;
use std::fmt;
use tonic::Request;
use tonic::metadata::MetadataMap;

// A token is some 500 bytes; a header beyond this is no token.
const LONGEST_HEADER: usize = 16 * 1024;

/// Who calls, checked. Only [`Check::caller`] makes one.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// What the authorities are shown.
    pub(crate) credential: Credential,
    /// The purposes that a token names; a certificate names none, its authority does.
    pub(crate) purposes: Option<Vec<Purpose>>,
    /// Names this very credential in caches.
    pub(crate) id: Digest,
}

impl Caller {
    /// The token that this caller showed, as it is sent; a certificate has none.
    pub(crate) fn token_text(&self) -> Option<String> {
        match &self.credential.kind {
            Some(credential::Kind::AccessToken(envelope)) => Some(token_text(envelope)),
            _ => None,
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("principal", &self.principal)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A name and password, as the handshake takes them.
pub(crate) struct Basic {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Basic")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Checks credentials.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    trust: TrustStore,
    clock: SharedClock,
}

impl Check {
    pub(crate) fn new(trust: TrustStore, clock: SharedClock) -> Self {
        Self { trust, clock }
    }

    /// Who sent `request`.
    pub(crate) fn caller<T>(&self, request: &Request<T>) -> Result<Caller, DoorError> {
        match bearer(request.metadata())? {
            Some(text) => self.of_token(&text),
            None => match peer_chain(request) {
                Some(chain) => self.of_certificate(chain),
                None => Err(DoorError::NoCredential),
            },
        }
    }

    fn of_token(&self, text: &str) -> Result<Caller, DoorError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| DoorError::BadCredential)?;
        let envelope = envelope::decode(&bytes).map_err(|_| DoorError::BadCredential)?;
        let trusted = self.signers();
        let token = token::verify_any(
            &envelope,
            trusted
                .iter()
                .map(|(council, keys)| (council, keys.as_slice())),
            self.clock.now(),
        )
        .map_err(|e| {
            tracing::info!(reason = %guildhall_telemetry::error_chain(&e), "access token refused");
            DoorError::BadCredential
        })?;
        Ok(Caller {
            principal: token.principal.clone(),
            purposes: Some(token.purposes.clone()),
            id: Digest::of(&bytes),
            credential: Credential {
                kind: Some(credential::Kind::AccessToken(envelope)),
            },
        })
    }

    fn of_certificate(&self, chain: Vec<Vec<u8>>) -> Result<Caller, DoorError> {
        let peer = self.trust.verify_chain(&chain, self.clock.now()).map_err(|e| {
            tracing::info!(reason = %guildhall_telemetry::error_chain(&e), "client certificate refused");
            DoorError::BadCredential
        })?;
        if peer.role != Role::Analyst {
            return Err(DoorError::BadCredential);
        }
        let name = peer
            .name
            .as_str()
            .parse()
            .map_err(|_| DoorError::BadCredential)?;
        let chain = CertificateChain { der: chain };
        Ok(Caller {
            principal: Principal {
                council: peer.council,
                name,
            },
            purposes: None,
            id: Digest::of(&chain.encode_to_vec()),
            credential: Credential {
                kind: Some(credential::Kind::Certificate(chain)),
            },
        })
    }

    fn signers(&self) -> Vec<(CouncilName, Vec<VerifyingKey>)> {
        self.trust
            .councils()
            .into_iter()
            .map(|council| {
                let keys = self.trust.authority_keys(&council);
                let keys = keys
                    .iter()
                    .filter_map(|k| VerifyingKey::from_bytes(k).ok())
                    .collect();
                (council, keys)
            })
            .collect()
    }
}

/// The text that a client sends as its bearer token.
pub(crate) fn token_text(envelope: &Envelope) -> String {
    URL_SAFE_NO_PAD.encode(envelope::encode(envelope))
}

/// The token of a call: a bearer's, or the password of a basic one, whatever its user name.
fn bearer(metadata: &MetadataMap) -> Result<Option<String>, DoorError> {
    match authorization(metadata)? {
        None => Ok(None),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(rest.to_owned())),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("basic") => {
            Ok(Some(decode_basic(rest)?.password))
        }
        Some(_) => Err(DoorError::BadCredential),
    }
}

/// Name and password of a handshake, if the call has them.
pub(crate) fn basic(metadata: &MetadataMap) -> Result<Option<Basic>, DoorError> {
    match authorization(metadata)? {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("basic") => {
            decode_basic(rest).map(Some)
        }
        _ => Ok(None),
    }
}

fn authorization(metadata: &MetadataMap) -> Result<Option<(&str, &str)>, DoorError> {
    let Some(value) = metadata.get("authorization") else {
        return Ok(None);
    };
    if value.len() > LONGEST_HEADER {
        return Err(DoorError::BadCredential);
    }
    let text = value.to_str().map_err(|_| DoorError::BadCredential)?;
    let (scheme, rest) = text.split_once(' ').ok_or(DoorError::BadCredential)?;
    Ok(Some((scheme, rest.trim())))
}

fn decode_basic(text: &str) -> Result<Basic, DoorError> {
    // Go's drivers send it without padding.
    let bytes = STANDARD_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| DoorError::BadCredential)?;
    let text = String::from_utf8(bytes).map_err(|_| DoorError::BadCredential)?;
    let (name, password) = text.split_once(':').ok_or(DoorError::BadCredential)?;
    Ok(Basic {
        name: name.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use guildhall_grant::{AccessToken, SigningKey};
    use guildhall_identity::CertificateAuthority;
    use guildhall_model::{MockClock, Timestamp};
    use guildhall_proto::authority::v1::TrustBundle;
    use std::sync::Arc;
    use std::time::Duration;

    pub(crate) fn now() -> Timestamp {
        Timestamp::from_micros(1_000_000_000_000)
    }

    pub(crate) fn caller(name: &str, purposes: &[&str]) -> Caller {
        let principal = Principal {
            council: "northmoor".parse().unwrap(),
            name: name.parse().unwrap(),
        };
        Caller {
            id: Digest::of(name.as_bytes()),
            principal,
            credential: Credential::default(),
            purposes: Some(purposes.iter().map(|p| p.parse().unwrap()).collect()),
        }
    }

    /// A trusted council and its authority's key.
    pub(crate) fn council() -> (SigningKey, TrustStore) {
        let key = SigningKey::generate().unwrap();
        let ca = CertificateAuthority::generate(&"northmoor".parse().unwrap(), now()).unwrap();
        let bundle = TrustBundle {
            council: "northmoor".into(),
            ca_pem: vec![ca.certificate_pem().to_owned()],
            authority_keys: vec![key.public().as_bytes().to_vec()],
        };
        (key, TrustStore::from_bundles(&[bundle]).unwrap())
    }

    pub(crate) fn token(
        key: &SigningKey,
        council: &str,
        name: &str,
        purposes: &[&str],
    ) -> Envelope {
        let token = AccessToken {
            id: "t-1".into(),
            principal: Principal {
                council: council.parse().unwrap(),
                name: name.parse().unwrap(),
            },
            roles: vec!["analyst".into()],
            purposes: purposes.iter().map(|p| p.parse().unwrap()).collect(),
            gateway: "spiffe://northmoor/council/gateway/gw".parse().unwrap(),
            not_before: now(),
            expires: now().after(Duration::from_secs(600)),
        };
        envelope::sign(&token, key)
    }

    pub(crate) fn with_authorization(text: &str) -> Request<()> {
        let mut request = Request::new(());
        request
            .metadata_mut()
            .insert("authorization", text.parse().unwrap());
        request
    }

    fn check(trust: TrustStore) -> (Check, Arc<MockClock>) {
        let clock = MockClock::at(now());
        (Check::new(trust, clock.clone()), clock)
    }

    #[test]
    fn a_token_is_good_as_bearer_and_as_the_password_of_any_name() {
        let (key, trust) = council();
        let (check, _) = check(trust);
        let text = token_text(&token(&key, "northmoor", "ana", &["planning"]));
        let basic = STANDARD_NO_PAD.encode(format!("whoever:{text}"));
        for header in [
            format!("Bearer {text}"),
            format!("bearer {text}"),
            format!("Basic {basic}"),
            format!("Basic {basic}=="),
        ] {
            let caller = check.caller(&with_authorization(&header)).unwrap();
            assert_eq!(caller.principal.to_string(), "northmoor/ana");
        }
    }

    #[test]
    fn a_token_ends_at_its_time() {
        let (key, trust) = council();
        let (check, clock) = check(trust);
        let text = format!(
            "Bearer {}",
            token_text(&token(&key, "northmoor", "ana", &[]))
        );
        clock.advance(Duration::from_secs(700));
        assert!(matches!(
            check.caller(&with_authorization(&text)),
            Err(DoorError::BadCredential)
        ));
    }

    #[test]
    fn a_council_cannot_speak_of_anothers_principals() {
        let (key, trust) = council();
        let (check, _) = check(trust);
        let text = format!(
            "Bearer {}",
            token_text(&token(&key, "southsea", "ana", &[]))
        );
        assert!(check.caller(&with_authorization(&text)).is_err());
    }

    #[test]
    fn garbage_is_no_credential() {
        let (_, trust) = council();
        let (check, _) = check(trust);
        assert!(matches!(
            check.caller(&Request::new(())),
            Err(DoorError::NoCredential)
        ));
        for header in [
            "Bearer",
            "Bearer x",
            "Basic !!",
            "Digest abc",
            "Bearer AAAA",
        ] {
            assert!(
                check.caller(&with_authorization(header)).is_err(),
                "{header}"
            );
        }
    }
}
