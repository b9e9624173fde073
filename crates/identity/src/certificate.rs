//! Reading certificates: whose they are and how long they last.

use crate::error::IdentityError;
use guildhall_model::{PeerId, Timestamp};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

/// What a role's certificate says. Reading it verifies nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The one SPIFFE id among its names.
    pub peer: PeerId,
    /// From when it holds.
    pub not_before: Timestamp,
    /// Until when it holds.
    pub expires: Timestamp,
}

impl PeerCertificate {
    /// Reads a DER certificate.
    ///
    /// # Errors
    /// If it is no certificate, or its URI names are not exactly one SPIFFE id of a role.
    pub fn read(der: &[u8]) -> Result<Self, IdentityError> {
        let certificate = parse(der)?;
        let uri = only_uri(&certificate)?;
        let peer = uri.parse().map_err(|e| IdentityError::Unnamed {
            why: format!("`{}` is {e}", shorten(&uri)),
        })?;
        let validity = certificate.validity();
        Ok(Self {
            peer,
            not_before: seconds(validity.not_before.timestamp()),
            expires: seconds(validity.not_after.timestamp()),
        })
    }
}

/// The certificates of a PEM text, leaf first.
///
/// # Errors
/// If it is not PEM or holds no certificate.
pub fn read_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| IdentityError::malformed("the certificate chain", e))?;
    if chain.is_empty() {
        return Err(IdentityError::Malformed {
            what: "the certificate chain: it is empty".to_owned(),
            source: None,
        });
    }
    Ok(chain)
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(IdentityError::Malformed {
            what: "the certificate: bytes follow it".to_owned(),
            source: None,
        }),
        Err(e) => Err(IdentityError::malformed("the certificate", e)),
    }
}

// Invariant: a certificate with two URI names has none, or a reader might pick the other one.
pub(crate) fn only_uri(certificate: &X509Certificate<'_>) -> Result<String, IdentityError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|e| IdentityError::malformed("the certificate's names", e))?;
    let mut uris = names
        .iter()
        .flat_map(|san| &san.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.to_owned()),
        (None, _) => Err(IdentityError::Unnamed {
            why: "it has no URI".to_owned(),
        }),
        (Some(_), Some(_)) => Err(IdentityError::Unnamed {
            why: "it has more than one URI".to_owned(),
        }),
    }
}

fn seconds(unix: i64) -> Timestamp {
    Timestamp::from_micros(unix.saturating_mul(1_000_000))
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}
