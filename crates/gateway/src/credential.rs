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
        })?;
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
pub(crate) mod tests {
    use super::*;
    use crate::tests::Parties;
    use guildhall_grant::{AccessToken, SigningKey};
    use guildhall_identity::{CertificateAuthority, Identity, new_key_and_csr};
    use guildhall_model::{MockClock, Timestamp};
    use guildhall_proto::authority::v1::TrustBundle;
    use std::sync::atomic::Ordering;
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
            purposes: purposes.iter().map(|p| p.parse().unwrap()).collect(),
            shown: true,
        }
    }

    /// A trusted council: its authority's key, and its certificate authority.
    fn certified_council() -> (SigningKey, TrustStore, CertificateAuthority) {
        let key = SigningKey::generate().unwrap();
        let ca = CertificateAuthority::generate(&"northmoor".parse().unwrap(), now()).unwrap();
        let bundle = TrustBundle {
            council: "northmoor".into(),
            ca_pem: vec![ca.certificate_pem().to_owned()],
            authority_keys: vec![key.public().as_bytes().to_vec()],
        };
        (key, TrustStore::from_bundles(&[bundle]).unwrap(), ca)
    }

    /// A trusted council and its authority's key.
    pub(crate) fn council() -> (SigningKey, TrustStore) {
        let (key, trust, _) = certified_council();
        (key, trust)
    }

    /// Counts from now, for ten minutes.
    pub(crate) fn token(
        key: &SigningKey,
        council: &str,
        name: &str,
        purposes: &[&str],
    ) -> Envelope {
        token_at(now(), key, council, name, purposes)
    }

    pub(crate) fn token_at(
        at: Timestamp,
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
            not_before: at,
            expires: at.after(Duration::from_secs(600)),
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

    /// A gateway's check, at northmoor, whose authority certifies `ana`.
    struct Town {
        ca: CertificateAuthority,
        check: Check,
        clock: Arc<MockClock>,
        parties: Arc<Parties>,
    }

    impl Town {
        fn new() -> Self {
            let (key, trust, ca) = certified_council();
            let clock = MockClock::at(now());
            let parties = Arc::new(Parties::new(key, clock.clone()));
            let councils = ["northmoor".parse().unwrap()];
            let check = Check::new(parties.clone(), &councils, trust, clock.clone());
            Self {
                ca,
                check,
                clock,
                parties,
            }
        }

        async fn with_header(&self, text: &str) -> Result<Caller, DoorError> {
            self.check.caller(&with_authorization(text)).await
        }

        /// A chain that holds for an hour.
        fn chain(&self, id: &str) -> Vec<Vec<u8>> {
            let (key, csr) = new_key_and_csr().unwrap();
            let until = now().after(Duration::from_secs(3600));
            let chain = self.ca.issue(&csr, &id.parse().unwrap(), &[], now(), until);
            Identity::from_pem(&chain.unwrap(), &key).unwrap().chain()
        }

        fn trades(&self) -> usize {
            self.parties.traded.load(Ordering::SeqCst)
        }
    }

    const ANA: &str = "spiffe://northmoor/council/analyst/ana";

    #[tokio::test]
    async fn a_certificate_speaks_by_a_token_that_is_not_handed_out() {
        let town = Town::new();
        let chain = town.chain(ANA);
        let caller = town.check.of_certificate(chain.clone()).await.unwrap();
        assert_eq!(caller.principal.to_string(), "northmoor/ana");
        assert_eq!(caller.purposes, ["planning".parse().unwrap()]);
        assert!(caller.token_text().is_none());
        let Some(credential::Kind::AccessToken(envelope)) = &caller.credential.kind else {
            panic!("it speaks by its certificate");
        };
        let by_token = town.check.of_token(&token_text(envelope)).unwrap();
        assert_eq!(by_token.principal, caller.principal);
        let again = town.check.of_certificate(chain).await.unwrap();
        assert_eq!(again.id, caller.id, "its session is the same");
    }

    #[tokio::test]
    async fn a_certificate_has_nothing_after_its_end_whatever_its_token_says() {
        let town = Town::new();
        let chain = town.chain(ANA);
        town.clock.advance(Duration::from_secs(3590));
        town.check.of_certificate(chain.clone()).await.unwrap();
        town.clock.advance(Duration::from_secs(20));
        let ended = town.check.of_certificate(chain).await;
        assert!(matches!(ended, Err(DoorError::BadCredential)));
    }

    #[tokio::test]
    async fn only_an_analysts_certificate_is_traded() {
        let town = Town::new();
        for id in [
            "spiffe://northmoor/parking/node/ana",
            "spiffe://northmoor/council/gateway/ana",
        ] {
            let refused = town.check.of_certificate(town.chain(id)).await;
            assert!(matches!(refused, Err(DoorError::BadCredential)), "{id}");
        }
        assert_eq!(town.trades(), 0);
    }

    #[tokio::test]
    async fn a_certificate_of_a_council_that_is_not_offered_is_not_traded() {
        let mut town = Town::new();
        town.check.councils = Arc::new([]);
        let refused = town.check.of_certificate(town.chain(ANA)).await;
        assert!(matches!(refused, Err(DoorError::BadCredential)));
        assert_eq!(town.trades(), 0);
    }

    #[tokio::test]
    async fn what_the_authority_refuses_is_refused_here() {
        let town = Town::new();
        town.parties.certifies("");
        let refused = town.check.of_certificate(town.chain(ANA)).await;
        let status = tonic::Status::from(refused.unwrap_err());
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }

    #[tokio::test]
    async fn a_token_is_good_as_bearer_and_as_the_password_of_any_name() {
        let town = Town::new();
        let text = token_text(&token(&town.parties.key, "northmoor", "ana", &["planning"]));
        let basic = STANDARD_NO_PAD.encode(format!("whoever:{text}"));
        for header in [
            format!("Bearer {text}"),
            format!("bearer {text}"),
            format!("Basic {basic}"),
            format!("Basic {basic}=="),
        ] {
            let caller = town.with_header(&header).await.unwrap();
            assert_eq!(caller.principal.to_string(), "northmoor/ana");
        }
    }

    #[tokio::test]
    async fn a_token_ends_at_its_time() {
        let town = Town::new();
        let text = format!(
            "Bearer {}",
            token_text(&token(&town.parties.key, "northmoor", "ana", &[]))
        );
        town.clock.advance(Duration::from_secs(700));
        assert!(matches!(
            town.with_header(&text).await,
            Err(DoorError::BadCredential)
        ));
    }

    #[tokio::test]
    async fn a_council_cannot_speak_of_anothers_principals() {
        let town = Town::new();
        let text = format!(
            "Bearer {}",
            token_text(&token(&town.parties.key, "southsea", "ana", &[]))
        );
        assert!(town.with_header(&text).await.is_err());
    }

    #[tokio::test]
    async fn garbage_is_no_credential() {
        let town = Town::new();
        assert!(matches!(
            town.check.caller(&Request::new(())).await,
            Err(DoorError::NoCredential)
        ));
        for header in [
            "Bearer",
            "Bearer x",
            "Basic !!",
            "Digest abc",
            "Bearer AAAA",
        ] {
            assert!(town.with_header(header).await.is_err(), "{header}");
        }
    }
}
