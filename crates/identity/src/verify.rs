//! Believing a certificate in a handshake.

use crate::tls::provider;
use crate::trust::{End, TrustStore, other};
use guildhall_model::{CouncilName, Digest, PeerId, Role};
use guildhall_telemetry::error_chain;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::io;

/// Whom a client wants to reach. Takes the place of a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expect {
    /// This peer and no other.
    Peer(PeerId),
    /// Any peer of a role of a council.
    Role {
        /// The council.
        council: CouncilName,
        /// The role.
        role: Role,
    },
}

impl Expect {
    /// The authority of a council.
    #[must_use]
    pub fn authority(council: &CouncilName) -> Self {
        Self::Role {
            council: council.clone(),
            role: Role::Authority,
        }
    }

    /// Whether `peer` is whom we want.
    #[must_use]
    pub fn admits(&self, peer: &PeerId) -> bool {
        match self {
            Self::Peer(expected) => expected == peer,
            Self::Role { council, role } => peer.council == *council && peer.role == *role,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => write!(f, "`{peer}`"),
            Self::Role { council, role } => write!(f, "the {role} of {council}"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("expected {expected}, met `{found}`")]
struct Stranger {
    expected: Expect,
    found: PeerId,
}

/// Believes servers that the trust store bears out and that are whom we expect.
#[derive(Debug)]
pub(crate) struct ExpectedServer {
    pub(crate) trust: TrustStore,
    pub(crate) expect: Expect,
}

impl ServerCertVerifier for ExpectedServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = self.trust.verify(leaf, intermediates, now, End::Server)?;
        if !self.expect.admits(&found.peer) {
            return Err(other(Stranger {
                expected: self.expect.clone(),
                found: found.peer,
            }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server does not show the certificate authority that the enrolment code names")]
struct NotPinned;

/// Believes the authority of one council, whose certificate authority is known by fingerprint alone.
#[derive(Debug)]
pub(crate) struct PinnedAuthority {
    pub(crate) council: CouncilName,
    pub(crate) fingerprint: Digest,
}

impl PinnedAuthority {
    // Invariant: nothing that the server sent is a root unless its digest is the pinned one.
    fn trust(&self, shown: &[CertificateDer<'_>]) -> Result<TrustStore, Error> {
        let ca = shown
            .iter()
            .find(|der| Digest::of(der) == self.fingerprint)
            .ok_or_else(|| other(NotPinned))?;
        TrustStore::of_authority(&self.council, ca).map_err(other)
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let expected = ExpectedServer {
            trust: self.trust(intermediates)?,
            expect: Expect::authority(&self.council),
        };
        expected.verify_server_cert(leaf, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Believes clients that the trust store bears out; may let others in without a name.
#[derive(Debug)]
pub(crate) struct TrustedClient {
    pub(crate) trust: TrustStore,
    pub(crate) mandatory: bool,
}

impl ClientCertVerifier for TrustedClient {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    // The store may change while the server runs, and a list would tell strangers whom we trust.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.verify(leaf, intermediates, now, End::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// Whether a handshake ended over a certificate, as against the line or the protocol.
pub(crate) fn is_certificate_refusal(error: &io::Error) -> bool {
    matches!(
        tls_error(error),
        Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented)
    )
}

/// The same error, with our own reason as its text where rustls would print its insides.
pub(crate) fn plain(error: io::Error) -> io::Error {
    match tls_error(&error) {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(reason)))) => {
            io::Error::new(error.kind(), error_chain(reason.as_ref()))
        }
        _ => error,
    }
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|e| e.downcast_ref())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::authority::{CertificateAuthority, new_key_and_csr};
    use crate::credential::Identity;
    use crate::error::IdentityError;
    use guildhall_model::Timestamp;
    use std::time::Duration;

    /// In November 2026, when these tests take place.
    pub(crate) fn now() -> Timestamp {
        Timestamp::from_micros(1_795_000_000_000_000)
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_peer_is_believed_on_its_own_councils_word() {
        let north = authority("northmoor");
        let store = trust(&[&north]);
        let found = store
            .verify_chain(&chain(&north, "spiffe://northmoor/parking/node/p1"), now())
            .unwrap();
        assert_eq!(found.peer, peer("spiffe://northmoor/parking/node/p1"));
        assert_eq!(found.expires, now().after(HOUR));
    }

    #[test]
    fn another_trusted_council_cannot_vouch_for_it() {
        let (north, south) = (authority("northmoor"), authority("southmere"));
        // What a lying southmere can make: northmoor's names over a key of its own.
        let forged = authority("northmoor");
        let store = trust(&[&north, &south]);
        let refused =
            store.verify_chain(&chain(&forged, "spiffe://northmoor/parking/node/p1"), now());
        assert!(
            matches!(refused, Err(IdentityError::Untrusted { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_certificate_holds_from_its_first_to_its_last_second() {
        let north = authority("northmoor");
        let store = trust(&[&north]);
        let shown = chain(&north, "spiffe://northmoor/parking/node/p1");
        for (at, holds) in [
            (now().before(Duration::from_secs(1)), false),
            (now(), true),
            (now().after(HOUR), true),
            (now().after(HOUR + Duration::from_secs(1)), false),
        ] {
            assert_eq!(store.verify_chain(&shown, at).is_ok(), holds, "{at}");
        }
    }

    #[test]
    fn the_authority_of_another_council_is_not_the_one_we_want() {
        let wanted = Expect::authority(&"northmoor".parse().unwrap());
        assert!(wanted.admits(&peer("spiffe://northmoor/council/authority/a")));
        assert!(!wanted.admits(&peer("spiffe://southmere/council/authority/a")));
        assert!(!wanted.admits(&peer("spiffe://northmoor/council/gateway/a")));
    }

    #[test]
    fn an_analysts_certificate_cannot_be_a_servers() {
        let north = authority("northmoor");
        let store = trust(&[&north]);
        let shown = chain(&north, "spiffe://northmoor/council/analyst/ana");
        let leaf = CertificateDer::from(shown[0].clone());
        let at =
            UnixTime::since_unix_epoch(Duration::from_micros(now().as_micros().unsigned_abs()));
        assert!(store.verify(&leaf, &[], at, End::Client).is_ok());
        assert!(store.verify(&leaf, &[], at, End::Server).is_err());
    }

    #[test]
    fn a_peers_own_certificate_cannot_vouch_for_another() {
        let north = authority("northmoor");
        let store = trust(&[&north]);
        let node = identity(&north, "spiffe://northmoor/parking/node/p1");
        let forged = rcgen_chain_below(&node, "spiffe://northmoor/council/authority/a");
        assert!(store.verify_chain(&forged, now()).is_err());
    }

    #[test]
    fn a_bundle_cannot_bring_another_councils_authority() {
        let south = authority("southmere");
        let mut bundle = bundle(&south);
        bundle.council = "northmoor".to_owned();
        assert!(TrustStore::from_bundles(&[bundle]).is_err());
    }

    #[test]
    fn the_store_reads_back_from_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let store = trust(&[&authority("northmoor"), &authority("southmere")]);
        store.save(dir.path()).unwrap();
        assert_eq!(
            TrustStore::load(dir.path()).unwrap().to_bundles(),
            store.to_bundles()
        );
    }

    #[test]
    fn a_withdrawn_council_is_a_stranger() {
        let (north, south) = (authority("northmoor"), authority("southmere"));
        let store = trust(&[&north, &south]);
        let shown = chain(&south, "spiffe://southmere/parking/node/p1");
        assert!(store.verify_chain(&shown, now()).is_ok());
        store.replace(&[bundle(&north)]).unwrap();
        assert!(store.verify_chain(&shown, now()).is_err());
        assert!(
            store
                .authority_keys(&"southmere".parse().unwrap())
                .is_empty()
        );
    }

    pub(crate) fn peer(id: &str) -> PeerId {
        id.parse().unwrap()
    }

    pub(crate) fn authority(council: &str) -> CertificateAuthority {
        CertificateAuthority::generate(&council.parse().unwrap(), now()).unwrap()
    }

    pub(crate) fn bundle(
        authority: &CertificateAuthority,
    ) -> guildhall_proto::authority::v1::TrustBundle {
        guildhall_proto::authority::v1::TrustBundle {
            council: authority.council().to_string(),
            ca_pem: vec![authority.certificate_pem().to_owned()],
            authority_keys: vec![vec![7; 32]],
        }
    }

    pub(crate) fn trust(authorities: &[&CertificateAuthority]) -> TrustStore {
        let bundles: Vec<_> = authorities.iter().map(|a| bundle(a)).collect();
        TrustStore::from_bundles(&bundles).unwrap()
    }

    /// Good for an hour from [`now`].
    pub(crate) fn identity(authority: &CertificateAuthority, id: &str) -> Identity {
        let (key, csr) = new_key_and_csr().unwrap();
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let chain = authority
            .issue(&csr, &peer(id), &hosts, now(), now().after(HOUR))
            .unwrap();
        Identity::from_pem(&chain, &key).unwrap()
    }

    fn chain(authority: &CertificateAuthority, id: &str) -> Vec<Vec<u8>> {
        identity(authority, id).chain()
    }

    fn rcgen_chain_below(issuer: &Identity, id: &str) -> Vec<Vec<u8>> {
        let key = rcgen::KeyPair::from_pem(&issuer.key_pem()).unwrap();
        let der = CertificateDer::from(issuer.chain()[0].clone());
        let issuing = rcgen::Issuer::from_ca_cert_der(&der, &key).unwrap();
        let own = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI(id.try_into().unwrap())];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&own, &issuing).unwrap();
        let mut chain = vec![leaf.der().to_vec()];
        chain.extend(issuer.chain());
        chain
    }
}
