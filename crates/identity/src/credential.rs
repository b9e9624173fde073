//! Our own name: key and certificate, replaceable while connections stand.

use crate::certificate::{PeerCertificate, read_chain};
use crate::error::IdentityError;
use crate::files;
use crate::tls::provider;
use arc_swap::{ArcSwap, ArcSwapOption};
use guildhall_model::{PeerId, Timestamp};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// A role's own key and certificate. Clones share one, and [`replace`](Self::replace) swaps it
/// for all of them: new handshakes show the new certificate. `Debug` shows name and expiry.
#[derive(Clone)]
pub struct Identity(Arc<Shared>);

struct Shared {
    current: ArcSwap<Current>,
    /// Where it is kept, once it was loaded from or saved to a folder.
    dir: ArcSwapOption<PathBuf>,
}

struct Current {
    certificate: PeerCertificate,
    certified: Arc<CertifiedKey>,
    chain_pem: String,
    key_pem: Zeroizing<String>,
}

impl Identity {
    /// From a certificate chain (leaf first) and its PKCS#8 key, both PEM.
    ///
    /// # Errors
    /// If either is malformed, the key is not the certificate's, or the certificate names no role.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, IdentityError> {
        Ok(Self(Arc::new(Shared {
            current: ArcSwap::from_pointee(Current::read(chain, key)?),
            dir: ArcSwapOption::empty(),
        })))
    }

    /// Reads `chain.pem` and `key.pem` in `dir`; later replacements are written there.
    ///
    /// # Errors
    /// If a file is missing, malformed, or others can read the key.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let chain = files::load_public(&dir.join(files::CHAIN))?;
        let current = match load_with(dir, &chain, files::KEY) {
            Ok(current) => current,
            // A crash after the new chain was in place and before its key was.
            Err(error) => match load_with(dir, &chain, files::NEXT_KEY) {
                Ok(current) => {
                    files::rename(&dir.join(files::NEXT_KEY), &dir.join(files::KEY))?;
                    current
                }
                Err(_) => return Err(error),
            },
        };
        Ok(Self(Arc::new(Shared {
            current: ArcSwap::from_pointee(current),
            dir: ArcSwapOption::from_pointee(dir.to_owned()),
        })))
    }

    /// Writes `chain.pem` and `key.pem` (mode 0600) in `dir`; later replacements go there too.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        self.0.current.load().save(dir)?;
        self.0.dir.store(Some(Arc::new(dir.to_owned())));
        Ok(())
    }

    /// Takes a renewed chain and its key from now on, and keeps it where this one is kept.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem), and if it names another peer; then nothing changes.
    pub fn replace(&self, chain: &str, key: &str) -> Result<(), IdentityError> {
        let next = Current::read(chain, key)?;
        let expected = self.peer();
        if next.certificate.peer != expected {
            return Err(IdentityError::WrongPeer {
                expected: Box::new(expected),
                found: Box::new(next.certificate.peer),
            });
        }
        if let Some(dir) = self.0.dir.load_full() {
            next.save(&dir)?;
        }
        self.0.current.store(Arc::new(next));
        Ok(())
    }

    /// Who we are.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.0.current.load().certificate.peer.clone()
    }

    /// From when our certificate holds.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.0.current.load().certificate.not_before
    }

    /// Until when our certificate holds.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.0.current.load().certificate.expires
    }

    /// Our certificate chain, DER, leaf first.
    #[must_use]
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.0
            .current
            .load()
            .certified
            .cert
            .iter()
            .map(|der| der.to_vec())
            .collect()
    }

    /// Our certificate chain, PEM, leaf first.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.0.current.load().chain_pem.clone()
    }

    /// Our private key, PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.0.current.load().key_pem.clone()
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        self.0.current.load().certified.clone()
    }
}

impl Current {
    fn read(chain_pem: &str, key_pem: &str) -> Result<Self, IdentityError> {
        let chain = read_chain(chain_pem)?;
        let certificate = PeerCertificate::read(&chain[0])?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|e| IdentityError::malformed("the private key", e))?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|e| {
            IdentityError::malformed(format!("the key of `{}`", certificate.peer), e)
        })?;
        Ok(Self {
            certificate,
            certified: Arc::new(certified),
            chain_pem: chain_pem.to_owned(),
            key_pem: Zeroizing::new(key_pem.to_owned()),
        })
    }

    // Invariant: at every instant the folder holds a chain and the key that fits it.
    fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let next = dir.join(files::NEXT_KEY);
        files::save_secret(&next, self.key_pem.as_bytes())?;
        files::save_public(&dir.join(files::CHAIN), &self.chain_pem)?;
        files::rename(&next, &dir.join(files::KEY))
    }
}

fn load_with(dir: &Path, chain: &str, key: &str) -> Result<Current, IdentityError> {
    let path = dir.join(key);
    let bytes = files::load_secret(&path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|e| IdentityError::malformed(format!("`{}`", path.display()), e))?;
    Current::read(chain, text)
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.0.current.load();
        f.debug_struct("Identity")
            .field("peer", &current.certificate.peer.to_string())
            .field("expires", &current.certificate.expires.to_string())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::tests::{authority, identity};

    const NODE: &str = "spiffe://northmoor/parking/node/p1";

    #[test]
    fn an_identity_reads_back_from_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let made = identity(&authority("northmoor"), NODE);
        made.save(dir.path()).unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap().chain(), made.chain());
    }

    #[test]
    fn a_replacement_is_kept_and_shown_by_every_clone() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority("northmoor");
        let (old, new) = (identity(&authority, NODE), identity(&authority, NODE));
        old.save(dir.path()).unwrap();
        let clone = old.clone();
        old.replace(&new.chain_pem(), &new.key_pem()).unwrap();
        assert_eq!(clone.chain(), new.chain());
        assert_eq!(Identity::load(dir.path()).unwrap().chain(), new.chain());
    }

    #[test]
    fn a_replacement_for_another_peer_is_refused() {
        let authority = authority("northmoor");
        let ours = identity(&authority, NODE);
        let other = identity(&authority, "spiffe://northmoor/housing/node/h1");
        let refused = ours.replace(&other.chain_pem(), &other.key_pem());
        assert!(matches!(refused, Err(IdentityError::WrongPeer { .. })));
    }

    #[test]
    fn a_crash_between_chain_and_key_loses_neither() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority("northmoor");
        let (old, new) = (identity(&authority, NODE), identity(&authority, NODE));
        old.save(dir.path()).unwrap();
        files::save_secret(&dir.path().join(files::NEXT_KEY), new.key_pem().as_bytes()).unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap().chain(), old.chain());
        files::save_public(&dir.path().join(files::CHAIN), &new.chain_pem()).unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap().chain(), new.chain());
        assert_eq!(Identity::load(dir.path()).unwrap().chain(), new.chain());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let authority = authority("northmoor");
        let (a, b) = (identity(&authority, NODE), identity(&authority, NODE));
        assert!(Identity::from_pem(&a.chain_pem(), &b.key_pem()).is_err());
    }

    #[test]
    fn debug_shows_name_and_expiry_alone() {
        let shown = format!("{:?}", identity(&authority("northmoor"), NODE));
        assert_eq!(
            shown,
            format!("Identity {{ peer: \"{NODE}\", expires: \"2026-11-18T12:06:40Z\", .. }}")
        );
    }
}
