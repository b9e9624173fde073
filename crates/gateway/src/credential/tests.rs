//! Tokens and certificates, good and bad; and the made-up ones that other tests show.

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
pub(crate) fn token(key: &SigningKey, council: &str, name: &str, purposes: &[&str]) -> Envelope {
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
