//! A council's certificate authority: it alone names the council's roles.

use crate::certificate::{only_uri, parse, read_chain};
use crate::error::IdentityError;
use guildhall_model::{CouncilName, Digest, PeerId, Role, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use zeroize::Zeroizing;

const LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Clocks of peers may lag behind ours by this much.
const BACKDATED: Duration = Duration::from_secs(3600);
// The last second that X.509 can express.
const END_OF_TIME: i64 = 253_402_300_799;

/// A council's certificate authority, key included. Its `Debug` shows the council alone.
pub struct CertificateAuthority {
    council: CouncilName,
    key: KeyPair,
    pem: String,
    der: CertificateDer<'static>,
}

impl CertificateAuthority {
    /// A new authority for `council`, good for ten years.
    ///
    /// # Errors
    /// If the machine gives no randomness.
    pub fn generate(council: &CouncilName, now: Timestamp) -> Result<Self, IdentityError> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now.before(BACKDATED));
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now.after(LIFE));
        params.serial_number = Some(new_serial()?);
        params.distinguished_name = name(council, "certificate authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{council}"))?];
        let certificate = params
            .self_signed(&key)
            .map_err(|e| IdentityError::internal("sign the certificate authority", e))?;
        Ok(Self {
            council: council.clone(),
            key,
            pem: certificate.pem(),
            der: certificate.der().clone(),
        })
    }

    /// Reads what [`certificate_pem`](Self::certificate_pem) and [`key_pem`](Self::key_pem) gave.
    ///
    /// # Errors
    /// If either is not PEM, the key is not the certificate's, or no council is named.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::from_pem(key)
            .map_err(|e| IdentityError::malformed("the certificate authority's key", e))?;
        let der = read_chain(certificate)?.swap_remove(0);
        let parsed = parse(&der)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(IdentityError::Malformed {
                what: "the certificate authority: the key is not its certificate's".to_owned(),
                source: None,
            });
        }
        let council = council_of(&der)?;
        Ok(Self {
            council,
            key,
            pem: certificate.to_owned(),
            der,
        })
    }

    /// Its private key. Keep it as the keyring is kept.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// Its certificate, for trust bundles.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// Whose it is.
    #[must_use]
    pub fn council(&self) -> &CouncilName {
        &self.council
    }

    /// SHA-256 of its certificate; enrolment codes carry it.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// Names the holder of the request's key `peer`; returns the chain, leaf first.
    ///
    /// Of the request only the public key is taken: the names in it are the asker's own
    /// words. `host_names` (DNS names or IP addresses) go into certificates of the doors
    /// that strangers dial by name, gateways and supplier doors; other roles are dialled
    /// by their SPIFFE id, and a host name in their hands would let them pose as a door.
    ///
    /// # Errors
    /// If `peer` is of another council, the request is malformed or not signed by its own
    /// key, or a host name is neither DNS name nor address.
    pub fn issue(
        &self,
        csr: &[u8],
        peer: &PeerId,
        host_names: &[String],
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<String, IdentityError> {
        if peer.council != self.council {
            return Err(IdentityError::ForeignPeer {
                council: self.council.clone(),
                peer: Box::new(peer.clone()),
            });
        }
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
                .map_err(|e| IdentityError::malformed("the certificate request", e))?;
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(not_before);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(not_after);
        params.serial_number = Some(new_serial()?);
        params.distinguished_name = name(&self.council, peer.role.as_str());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if peer.role != Role::Analyst {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.subject_alt_names = vec![uri(&peer.to_string())?];
        if matches!(peer.role, Role::Gateway | Role::SupplierDoor) {
            for host in host_names {
                params.subject_alt_names.push(host_name(host)?);
            }
        }
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&self.der, &self.key)
            .map_err(|e| IdentityError::internal("use the certificate authority", e))?;
        let leaf = params
            .signed_by(&request.public_key, &issuer)
            .map_err(|e| IdentityError::internal("sign the certificate", e))?;
        Ok(format!("{}{}", leaf.pem(), self.pem))
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("council", &self.council.as_str())
            .finish_non_exhaustive()
    }
}

/// A fresh P-256 key (PKCS#8 PEM) and a request that proves its possession (DER).
///
/// # Errors
/// If the machine gives no randomness.
pub fn new_key_and_csr() -> Result<(Zeroizing<String>, Vec<u8>), IdentityError> {
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params
        .serialize_request(&key)
        .map_err(|e| IdentityError::internal("sign a certificate request", e))?;
    Ok((Zeroizing::new(key.serialize_pem()), csr.der().to_vec()))
}

/// The council that a certificate authority's certificate is for: its one URI, `spiffe://<council>`.
pub(crate) fn council_of(ca: &[u8]) -> Result<CouncilName, IdentityError> {
    let uri = only_uri(&parse(ca)?)?;
    uri.strip_prefix("spiffe://")
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| IdentityError::Unnamed {
            why: "a certificate authority is named `spiffe://<council>`".to_owned(),
        })
}

fn new_key() -> Result<KeyPair, IdentityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|e| IdentityError::internal("make a key", e))
}

fn new_serial() -> Result<SerialNumber, IdentityError> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| IdentityError::Internal {
            what: "draw a serial number",
            source: None,
        })?;
    // Positive, as X.509 wants it.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn name(council: &CouncilName, what: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, council.as_str());
    name.push(DnType::CommonName, what);
    name
}

fn uri(text: &str) -> Result<SanType, IdentityError> {
    let text = text
        .try_into()
        .map_err(|e| IdentityError::internal("write a name into a certificate", e))?;
    Ok(SanType::URI(text))
}

fn host_name(host: &str) -> Result<SanType, IdentityError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let malformed = || IdentityError::Malformed {
        what: "a host name: neither a DNS name nor an address".to_owned(),
        source: None,
    };
    rustls_pki_types::DnsName::try_from(host).map_err(|_| malformed())?;
    Ok(SanType::DnsName(host.try_into().map_err(|_| malformed())?))
}

/// Seconds from 1970, within what X.509 can express.
fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_seconds().clamp(0, END_OF_TIME)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::PeerCertificate;
    use crate::verify::tests::{authority, now, peer};

    fn issue(
        authority: &CertificateAuthority,
        id: &str,
        hosts: &[&str],
    ) -> Result<String, IdentityError> {
        let hosts: Vec<String> = hosts.iter().map(|&h| h.to_owned()).collect();
        let (_, csr) = new_key_and_csr().unwrap();
        authority.issue(
            &csr,
            &peer(id),
            &hosts,
            now(),
            now().after(Duration::from_secs(600)),
        )
    }

    fn dns_names(chain: &str) -> Vec<String> {
        let leaf = read_chain(chain).unwrap().swap_remove(0);
        let certificate = parse(&leaf).unwrap();
        let san = certificate.subject_alternative_name().unwrap().unwrap();
        san.value
            .general_names
            .iter()
            .filter_map(|n| match n {
                x509_parser::extensions::GeneralName::DNSName(d) => Some((*d).to_owned()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_certificate_names_its_peer_and_its_life() {
        let authority = authority("northmoor");
        let chain = issue(&authority, "spiffe://northmoor/parking/node/p1", &[]).unwrap();
        let chain = read_chain(&chain).unwrap();
        let read = PeerCertificate::read(&chain[0]).unwrap();
        assert_eq!(read.peer.to_string(), "spiffe://northmoor/parking/node/p1");
        assert_eq!(read.not_before, now());
        assert_eq!(read.expires, now().after(Duration::from_secs(600)));
        assert_eq!(Digest::of(&chain[1]), authority.fingerprint());
    }

    #[test]
    fn an_authority_vouches_for_its_own_council_alone() {
        let refused = issue(
            &authority("northmoor"),
            "spiffe://southmere/parking/node/p1",
            &[],
        );
        assert!(matches!(refused, Err(IdentityError::ForeignPeer { .. })));
    }

    #[test]
    fn only_doors_get_host_names() {
        let authority = authority("northmoor");
        let door = issue(
            &authority,
            "spiffe://northmoor/council/gateway/g",
            &["city.example", "127.0.0.1"],
        )
        .unwrap();
        assert_eq!(dns_names(&door), ["city.example"]);
        let node = issue(
            &authority,
            "spiffe://northmoor/parking/node/p1",
            &["city.example"],
        )
        .unwrap();
        assert!(dns_names(&node).is_empty());
        assert!(issue(&authority, "spiffe://northmoor/council/gateway/g", &["a b"]).is_err());
    }

    #[test]
    fn names_in_the_request_are_ignored() {
        let key = new_key().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri("spiffe://northmoor/council/authority/a").unwrap()];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let csr = params.serialize_request(&key).unwrap();
        let asked = peer("spiffe://northmoor/parking/node/p1");
        let chain = authority("northmoor")
            .issue(csr.der(), &asked, &[], now(), now().after(LIFE))
            .unwrap();
        let leaf = read_chain(&chain).unwrap().swap_remove(0);
        assert_eq!(PeerCertificate::read(&leaf).unwrap().peer, asked);
        assert!(!parse(&leaf).unwrap().is_ca());
    }

    #[test]
    fn a_request_not_signed_by_its_own_key_is_refused() {
        let (_, mut csr) = new_key_and_csr().unwrap();
        let last = csr.len() - 1;
        csr[last] ^= 1;
        let asked = peer("spiffe://northmoor/parking/node/p1");
        assert!(
            authority("northmoor")
                .issue(&csr, &asked, &[], now(), now().after(LIFE))
                .is_err()
        );
    }

    #[test]
    fn an_authority_reads_back_from_pem() {
        let made = authority("northmoor");
        let read = CertificateAuthority::from_pem(made.certificate_pem(), &made.key_pem()).unwrap();
        assert_eq!(read.council(), made.council());
        assert_eq!(read.fingerprint(), made.fingerprint());
        let other = authority("northmoor");
        assert!(CertificateAuthority::from_pem(made.certificate_pem(), &other.key_pem()).is_err());
    }

    #[test]
    fn debug_shows_the_council_and_no_key() {
        assert_eq!(
            format!("{:?}", authority("northmoor")),
            "CertificateAuthority { council: \"northmoor\", .. }"
        );
    }
}
