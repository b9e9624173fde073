//! Running an authority.

use crate::admin::AdminError;
use crate::config::AuthorityConfig;
use crate::policies::PolicyFileError;
use crate::service::Service;
use crate::state::State;
use guildhall_identity::{
    ClientAuth, Identity, IdentityError, MAX_MESSAGE_BYTES, ServerTls, keep_renewed,
    new_key_and_csr, server_builder,
};
use guildhall_keys::OpenError;
use guildhall_model::SharedClock;
use guildhall_proto::authority::v1::authority_server::AuthorityServer;
use guildhall_proto::authority::v1::enrolment_server::EnrolmentServer;
use guildhall_telemetry::{error_chain, spawn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often the authority looks for what the command line changed: trust and policy files.
/// Everything else is read from the database at each decision.
const REFRESH: Duration = Duration::from_secs(1);

/// Why an authority did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its folder, database or configuration.
    #[error("cannot open the authority")]
    Admin(#[from] AdminError),
    /// Its policy files.
    #[error("cannot read the council's policy")]
    Policy(#[from] PolicyFileError),
    /// The root identity does not open what was sealed to the root.
    #[error("the root identity does not open `{what}`: it is another council's, or damaged")]
    WrongRoot {
        /// What was to be opened.
        what: &'static str,
        /// What age said.
        #[source]
        source: OpenError,
    },
    /// It opened, and is not what it should be.
    #[error("`{what}` in the database is damaged")]
    Locked {
        /// What was opened.
        what: &'static str,
    },
    /// Its own certificate.
    #[error("the authority cannot certify itself")]
    Identity(#[from] IdentityError),
    /// The port.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// An authority that answers until it is stopped or dropped.
#[derive(Debug)]
#[must_use = "an authority stops when this is dropped"]
pub struct Running {
    server: guildhall_identity::Running,
    _upkeep: DropGuard,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Waits until it has ended, for whatever reason.
    pub async fn ended(&mut self) {
        self.server.ended().await;
    }

    /// Lets calls in flight finish, then ends.
    pub async fn stop(self) {
        self.server.stop().await;
    }

    /// Cuts every connection now, as a crash would.
    pub async fn kill(self) {
        self.server.kill().await;
    }
}

/// Unlocks the authority with its root identity and serves its two services, and
/// `grpc.health.v1`, over TLS 1.3.
///
/// A newcomer connects without a certificate and can do nothing but enrol.
pub async fn start(config: AuthorityConfig, clock: SharedClock) -> Result<Running, StartError> {
    let address = config.listen;
    let state = Arc::new(
        tokio::task::spawn_blocking({
            let clock = clock.clone();
            move || State::unlock(config, clock)
        })
        .await
        .map_err(|e| StartError::Listen {
            address,
            source: io::Error::other(e),
        })??,
    );
    let identity = certify(&state)?;
    let tls = ServerTls::new(
        &identity,
        &state.trust,
        ClientAuth::Newcomers,
        clock.clone(),
    )?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })?;

    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AuthorityServer<Service>>().await;
    health.set_serving::<EnrolmentServer<Service>>().await;
    let service = Service(Arc::clone(&state));
    let router = server_builder()
        .add_service(health_service)
        .add_service(EnrolmentServer::new(service.clone()))
        .add_service(
            AuthorityServer::new(service)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
        );
    let shutdown = CancellationToken::new();
    let server = guildhall_identity::serve(listener, tls, router, &shutdown)?;
    let renewing = Arc::clone(&state);
    let renew = move |csr: Vec<u8>| {
        let state = Arc::clone(&renewing);
        async move { own_chain(&state, &csr) }
    };
    spawn(keep_renewed(identity, renew, clock, shutdown.child_token()));
    spawn(keep_fresh(state, shutdown.child_token()));
    tracing::info!(address = %server.address(), "the authority answers");
    Ok(Running {
        server,
        _upkeep: shutdown.drop_guard(),
    })
}

/// The authority's own name, under a key that lives as long as the process.
fn certify(state: &State) -> Result<Identity, IdentityError> {
    let (key, csr) = new_key_and_csr()?;
    Identity::from_pem(&own_chain(state, &csr)?, &key)
}

fn own_chain(state: &State, csr: &[u8]) -> Result<String, IdentityError> {
    let now = state.clock.now();
    let until = now.after(state.config.certificate_life());
    state.ca.issue(
        csr,
        &state.own,
        &[],
        now.before(guildhall_grant::CLOCK_SKEW),
        until,
    )
}

async fn keep_fresh(state: Arc<State>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(REFRESH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What went wrong last time, so that it is said once and not every second.
    let mut before = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let said = state.refresh().await.err().map(|e| error_chain(&e));
        if let Some(error) = said.as_ref().filter(|_| said != before) {
            tracing::error!(error, "a change of trust or policy cannot be used");
        }
        before = said;
    }
}
