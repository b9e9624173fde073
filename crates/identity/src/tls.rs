//! TLS as roles speak it.

use crate::credential::Identity;
use crate::error::IdentityError;
use crate::trust::TrustStore;
use crate::verify::TrustedClient;
use guildhall_model::SharedClock;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::UnixTime;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const HTTP_2: &[u8] = b"h2";

/// Whom a server lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Roles only, over TLS 1.3: a client without a trusted certificate gets no connection.
    Required,
    /// Over TLS 1.3, newcomers too; a certificate, if shown, must be trusted. For authorities,
    /// which newcomers enrol with: each service asks [`require_peer`](crate::require_peer).
    Newcomers,
    /// Over TLS 1.2 and 1.3, anyone; a certificate, if shown, must be trusted. For the doors
    /// that analysts' own tools knock at.
    Optional,
}

/// How a server speaks TLS. Identity and trust may be replaced while it runs.
#[derive(Debug, Clone)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) clock: SharedClock,
}

impl ServerTls {
    /// A server that is `identity` and lets in whom `clients` says, judged by `trust`.
    ///
    /// # Errors
    /// If the TLS library refuses the settings.
    pub fn new(
        identity: &Identity,
        trust: &TrustStore,
        clients: ClientAuth,
        clock: SharedClock,
    ) -> Result<Self, IdentityError> {
        let versions: &[_] = if clients == ClientAuth::Optional {
            &[&TLS13, &TLS12]
        } else {
            &[&TLS13]
        };
        let verifier = TrustedClient {
            trust: trust.clone(),
            mandatory: clients == ClientAuth::Required,
        };
        let mut config =
            ServerConfig::builder_with_details(provider(), Arc::new(Time(clock.clone())))
                .with_protocol_versions(versions)
                .map_err(|e| IdentityError::internal("set TLS up", e))?
                .with_client_cert_verifier(Arc::new(verifier))
                .with_cert_resolver(Arc::new(identity.clone()));
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        // Invariant: no resumption. A resumed session is not verified again, so a peer that is
        // no longer trusted could come back with it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            clock,
        })
    }
}

/// A client that believes what `verifier` does, and shows `identity` if it has one.
pub(crate) fn client_config(
    identity: Option<&Identity>,
    verifier: Arc<dyn ServerCertVerifier>,
    clock: SharedClock,
) -> Result<ClientConfig, IdentityError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| IdentityError::internal("set TLS up", e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity.clone())),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The one crypto provider.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
        .clone()
}

#[derive(Debug)]
struct Time(SharedClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
