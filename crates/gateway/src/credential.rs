//! Who calls: the one check that every RPC passes before anything else is looked at.
//!
//! A bearer token is verified here, with the keys of the council that it speaks of; a client
//! certificate was verified by TLS and is verified again, since a connection can outlive it, and
//! speaks from then on by the token that its council gives for it.
//! Nothing of a call is believed for what the gateway may do: the authorities check the same
//! credential again before they grant anything.

use crate::backend::Backend;
use crate::error::DoorError;
use crate::exchange::{Exchange, signers};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use guildhall_grant::{VerifyingKey, envelope, token};
use guildhall_identity::{TrustStore, peer_chain};
use guildhall_model::{CouncilName, Digest, Principal, Purpose, Role, SharedClock};
use guildhall_proto::authority::v1::{CertificateChain, Credential, credential};
use guildhall_proto::envelope::v1::Envelope;
use prost::Message;
use std::fmt;
use std::sync::Arc;
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
    /// The purposes that the caller's own council says it holds.
    purposes: Vec<Purpose>,
    /// Names what the caller showed, token or certificate, in caches.
    pub(crate) id: Digest,
    /// Whether the caller showed a token: one that stands for a certificate is not handed out.
    shown: bool,
}

impl Caller {
    /// Whether the caller may name `purpose`.
    pub(crate) fn holds(&self, purpose: &Purpose) -> Result<(), DoorError> {
        if self.purposes.contains(purpose) {
            Ok(())
        } else {
            Err(DoorError::PurposeUnknown {
                purpose: purpose.to_string(),
                held: self.purposes.clone(),
            })
        }
    }

    /// The purposes that it holds.
    pub(crate) fn purposes(&self) -> &[Purpose] {
        &self.purposes
    }

    /// What a statement is for: `wanted`, or the caller's one purpose where it needs one.
    pub(crate) fn purpose(
        &self,
        wanted: Option<Purpose>,
        needed: bool,
    ) -> Result<Option<Purpose>, DoorError> {
        match (wanted, self.purposes.as_slice()) {
            (Some(purpose), _) => {
                self.holds(&purpose)?;
                Ok(Some(purpose))
            }
            (None, _) if !needed => Ok(None),
            (None, [only]) => Ok(Some(only.clone())),
            (None, held) => Err(DoorError::PurposeMissing {
                held: held.to_vec(),
            }),
        }
    }

    /// The token that this caller showed, as it is sent; a certificate has none.
    pub(crate) fn token_text(&self) -> Option<String> {
        match &self.credential.kind {
            Some(credential::Kind::AccessToken(envelope)) if self.shown => {
                Some(token_text(envelope))
            }
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
    councils: Arc<[CouncilName]>,
    exchange: Exchange,
}

impl Check {
    /// Certificates of `councils` are traded for tokens by way of `backend`.
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        councils: &[CouncilName],
        trust: TrustStore,
        clock: SharedClock,
    ) -> Self {
        let exchange = Exchange::new(backend, trust.clone(), clock.clone());
        Self {
            trust,
            clock,
            councils: councils.into(),
            exchange,
        }
    }

    /// Who sent `request`.
    pub(crate) async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, DoorError> {
        match bearer(request.metadata())? {
            Some(text) => self.of_token(&text),
            None => match peer_chain(request) {
                Some(chain) => self.of_certificate(chain).await,
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
            purposes: token.purposes.clone(),
            id: Digest::of(&bytes),
            credential: Credential {
                kind: Some(credential::Kind::AccessToken(envelope)),
            },
            shown: true,
        })
    }

    async fn of_certificate(&self, chain: Vec<Vec<u8>>) -> Result<Caller, DoorError> {
        let peer = self.trust.verify_chain(&chain, self.clock.now()).map_err(|e| {
            tracing::info!(reason = %guildhall_telemetry::error_chain(&e), "client certificate refused");
            DoorError::BadCredential
        })?.peer;
        if peer.role != Role::Analyst || !self.councils.contains(&peer.council) {
            return Err(DoorError::BadCredential);
        }
        let name = peer
            .name
            .as_str()
            .parse()
            .map_err(|_| DoorError::BadCredential)?;
        let principal = Principal {
            council: peer.council,
            name,
        };
        let chain = CertificateChain { der: chain };
        let id = Digest::of(&chain.encode_to_vec());
        let held = self.exchange.token(&principal, &chain, id).await?;
        Ok(Caller {
            principal,
            purposes: held.token.purposes.clone(),
            id,
            credential: Credential {
                kind: Some(credential::Kind::AccessToken(held.envelope.clone())),
            },
            shown: false,
        })
    }

    fn signers(&self) -> Vec<(CouncilName, Vec<VerifyingKey>)> {
        self.trust
            .councils()
            .into_iter()
            .map(|council| {
                let keys = signers(&self.trust, &council);
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
pub(crate) mod tests;
