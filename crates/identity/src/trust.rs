//! Which councils are trusted, and who vouches for each.

use crate::authority::council_of;
use crate::certificate::{PeerCertificate, read_chain};
use crate::error::IdentityError;
use crate::files;
use crate::tls::provider;
use arc_swap::ArcSwap;
use guildhall_model::{CouncilName, Timestamp};
use guildhall_proto::authority::v1::TrustBundle;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, OtherError, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What one council has vouched with: its certificate authorities and its authority's keys.
#[derive(Debug)]
struct CouncilTrust {
    ca_pem: Vec<String>,
    authority_keys: Vec<Vec<u8>>,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    council: BTreeMap<CouncilName, FileEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    certificate_authorities: Vec<String>,
    authority_keys: Vec<String>,
}

/// The councils that this process trusts. Clones share one store, which can be replaced
/// while connections stand: new handshakes see the new store.
#[derive(Debug, Clone, Default)]
pub struct TrustStore(Arc<ArcSwap<BTreeMap<CouncilName, CouncilTrust>>>);

/// Which end of a connection shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Server,
}

impl TrustStore {
    /// A store of these bundles.
    ///
    /// # Errors
    /// If a bundle's council has no valid name, or a certificate authority in it is not one
    /// or is named for another council.
    pub fn from_bundles(bundles: &[TrustBundle]) -> Result<Self, IdentityError> {
        let store = Self::default();
        store.replace(bundles)?;
        Ok(store)
    }

    /// A store of one council, with one certificate authority (DER) and no keys.
    pub(crate) fn of_authority(council: &CouncilName, ca: &[u8]) -> Result<Self, IdentityError> {
        let trust = CouncilTrust::new(
            council,
            Vec::new(),
            &[CertificateDer::from(ca.to_vec())],
            Vec::new(),
        )?;
        let store = Self::default();
        store
            .0
            .store(Arc::new(BTreeMap::from([(council.clone(), trust)])));
        Ok(store)
    }

    /// Trusts these councils from now on, and no others. On an error nothing changes.
    ///
    /// # Errors
    /// As [`from_bundles`](Self::from_bundles).
    pub fn replace(&self, bundles: &[TrustBundle]) -> Result<(), IdentityError> {
        let mut councils = BTreeMap::new();
        for bundle in bundles {
            let council: CouncilName = bundle
                .council
                .parse()
                .map_err(|e| IdentityError::malformed("a trust bundle", e))?;
            let trust = CouncilTrust::read(&council, &bundle.ca_pem, &bundle.authority_keys)?;
            councils.insert(council, trust);
        }
        self.0.store(Arc::new(councils));
        Ok(())
    }

    /// The bundles that make this store, by council.
    #[must_use]
    pub fn to_bundles(&self) -> Vec<TrustBundle> {
        self.0
            .load()
            .iter()
            .map(|(council, trust)| TrustBundle {
                council: council.to_string(),
                ca_pem: trust.ca_pem.clone(),
                authority_keys: trust.authority_keys.clone(),
            })
            .collect()
    }

    /// Reads `trust.json` in `dir`.
    ///
    /// # Errors
    /// If the file is missing or malformed.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join(files::TRUST);
        let malformed = |e| IdentityError::malformed(format!("`{}`", path.display()), e);
        let file: File = serde_json::from_str(&files::load_public(&path)?).map_err(malformed)?;
        let mut bundles = Vec::new();
        for (council, entry) in file.council {
            let authority_keys = entry
                .authority_keys
                .iter()
                .map(hex::decode)
                .collect::<Result<_, _>>()
                .map_err(|e| IdentityError::malformed(format!("`{}`", path.display()), e))?;
            bundles.push(TrustBundle {
                council: council.into(),
                ca_pem: entry.certificate_authorities,
                authority_keys,
            });
        }
        Self::from_bundles(&bundles)
    }

    /// Writes `trust.json` in `dir`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let council = self
            .0
            .load()
            .iter()
            .map(|(council, trust)| {
                let entry = FileEntry {
                    certificate_authorities: trust.ca_pem.clone(),
                    authority_keys: trust.authority_keys.iter().map(hex::encode).collect(),
                };
                (council.clone(), entry)
            })
            .collect();
        let text = serde_json::to_string_pretty(&File { council })
            .map_err(|e| IdentityError::internal("write the trust store", e))?;
        files::save_public(&dir.join(files::TRUST), &text)
    }

    /// The trusted councils.
    #[must_use]
    pub fn councils(&self) -> Vec<CouncilName> {
        self.0.load().keys().cloned().collect()
    }

    /// Whether `council` is trusted now.
    #[must_use]
    pub fn trusts(&self, council: &CouncilName) -> bool {
        self.0.load().contains_key(council)
    }

    /// Raw Ed25519 public keys that sign `council`'s grants and tokens; none if it is not trusted.
    #[must_use]
    pub fn authority_keys(&self, council: &CouncilName) -> Vec<Vec<u8>> {
        self.0
            .load()
            .get(council)
            .map(|trust| trust.authority_keys.clone())
            .unwrap_or_default()
    }

    /// Whose certificate chain (DER, leaf first) this is, verified as a client's at `now`.
    ///
    /// For chains that another peer saw and passed on; it proves nothing about who holds
    /// the key, for which the word of that peer must do.
    ///
    /// # Errors
    /// If the chain names no role, or its council does not vouch for it now.
    pub fn verify_chain(
        &self,
        chain: &[Vec<u8>],
        now: Timestamp,
    ) -> Result<PeerCertificate, IdentityError> {
        let chain: Vec<CertificateDer<'_>> = chain
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let Some((leaf, rest)) = chain.split_first() else {
            return Err(IdentityError::Malformed {
                what: "the certificate chain: it is empty".to_owned(),
                source: None,
            });
        };
        let now = Duration::from_secs(u64::try_from(now.as_seconds()).unwrap_or(0));
        self.verify(leaf, rest, UnixTime::since_unix_epoch(now), End::Client)
            .map_err(|source| IdentityError::Untrusted { source })
    }

    // Invariant: the roots are those of the council that the leaf names, and no others.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        end: End,
    ) -> Result<PeerCertificate, rustls::Error> {
        let found = PeerCertificate::read(leaf).map_err(other)?;
        let councils = self.0.load();
        let Some(trust) = councils.get(&found.peer.council) else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        match end {
            End::Client => {
                trust.clients.verify_client_cert(leaf, intermediates, now)?;
            }
            End::Server => verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(leaf)?,
                &trust.roots,
                intermediates,
                now,
                provider().signature_verification_algorithms.all,
            )?,
        }
        Ok(found)
    }
}

impl CouncilTrust {
    fn read(
        council: &CouncilName,
        ca_pem: &[String],
        authority_keys: &[Vec<u8>],
    ) -> Result<Self, IdentityError> {
        let mut authorities = Vec::new();
        for pem in ca_pem {
            authorities.extend(read_chain(pem)?);
        }
        Self::new(
            council,
            ca_pem.to_vec(),
            &authorities,
            authority_keys.to_vec(),
        )
    }

    fn new(
        council: &CouncilName,
        ca_pem: Vec<String>,
        authorities: &[CertificateDer<'static>],
        authority_keys: Vec<Vec<u8>>,
    ) -> Result<Self, IdentityError> {
        let mut roots = RootCertStore::empty();
        for der in authorities {
            if council_of(der)? != *council {
                return Err(IdentityError::Unnamed {
                    why: format!(
                        "a certificate authority given for {council} is another council's"
                    ),
                });
            }
            roots
                .add(der.clone())
                .map_err(|e| IdentityError::malformed("a certificate authority", e))?;
        }
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|e| IdentityError::malformed(format!("the trust bundle of {council}"), e))?;
        Ok(Self {
            ca_pem,
            authority_keys,
            roots,
            clients,
        })
    }
}

pub(crate) fn other(error: impl std::error::Error + Send + Sync + 'static) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}
