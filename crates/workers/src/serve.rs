//! Starting and stopping a worker.

use crate::channels::Channels;
use crate::config::{Limits, WorkerConfig};
use crate::door::Inside;
use crate::hold::Holds;
use crate::service::{Lender, Service};
use crate::session::{Sessions, runtime};
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion_distributed::Worker;
use guildhall_client::{AuthorityClient, ClientError, Upkeep, keep_up};
use guildhall_identity::{
    ClientAuth, Dialer, Identity, IdentityError, MAX_MESSAGE_BYTES, ServerTls, TrustStore, serve,
    server_builder,
};
use guildhall_model::{PeerId, SharedClock};
use guildhall_proto::worker::v1::worker_server::WorkerServer;
use guildhall_store::{Storage, StorageError};
use guildhall_telemetry::spawn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Streams of one connection: every task of every question has several.
const STREAMS: u32 = 2048;

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its own identity cannot be used.
    #[error("this worker has no identity; `guildhall worker enrol` gets one")]
    Identity {
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// The identity is somebody else's.
    #[error("the identity in the folder is {found}, but worker.toml is that of {config}")]
    OtherPeer {
        /// Whose identity it is.
        found: Box<PeerId>,
        /// Who this is.
        config: Box<PeerId>,
    },
    /// The authority cannot be called.
    #[error("the authority cannot be called")]
    Authority {
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The data folder cannot be used.
    #[error("the data folder cannot be used")]
    Storage {
        /// Why.
        #[source]
        source: StorageError,
    },
    /// The engine cannot be set up.
    #[error("the engine cannot be set up")]
    Engine {
        /// Why.
        #[source]
        source: DataFusionError,
    },
    /// Nothing can be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A worker that serves until it is stopped or dropped.
#[derive(Debug)]
#[must_use = "a worker stops when this is dropped"]
pub struct Running {
    server: guildhall_identity::Running,
    holds: Arc<Holds>,
    runtime: Arc<RuntimeEnv>,
    background: DropGuard,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// For how many grants it holds keys, now and whenever that changes.
    #[must_use]
    pub fn holding(&self) -> watch::Receiver<usize> {
        self.holds.count()
    }

    /// Bytes that its work has set aside.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.runtime.memory_pool.reserved()
    }

    /// Waits until it has ended, for whatever reason.
    pub async fn ended(&mut self) {
        self.server.ended().await;
    }

    /// Takes no more calls, gives those in flight a few seconds, and ends.
    pub async fn stop(self) {
        drop(self.background);
        self.server.stop().await;
    }

    /// Cuts every connection now, as a crash would.
    pub async fn kill(self) {
        drop(self.background);
        self.server.kill().await;
    }
}

/// Starts the enrolled worker that `config` describes.
///
/// # Errors
/// If its identity, its data folder or its address cannot be used.
pub async fn start(config: WorkerConfig, clock: SharedClock) -> Result<Running, StartError> {
    let own = |source| StartError::Identity { source };
    let identity = Identity::load(&config.identity).map_err(own)?;
    let trust = TrustStore::load(&config.identity).map_err(own)?;
    if identity.peer() != config.peer() {
        return Err(StartError::OtherPeer {
            found: Box::new(identity.peer()),
            config: Box::new(config.peer()),
        });
    }
    let dialer = Dialer::new(&identity, &trust, clock);
    let authority = AuthorityClient::new(&dialer, &config.authority.address, &config.council);
    let authority = authority.map_err(|source| StartError::Authority { source })?;
    let storage = Storage::local(&config.data).map_err(|source| StartError::Storage { source })?;
    let upkeep = Upkeep {
        dialer: dialer.clone(),
        authority: authority.clone(),
        host_names: config.host_names.clone(),
        dir: Some(config.identity.clone()),
    };
    let parts = Parts {
        listen: config.listen,
        dialer,
        storage,
        lender: Arc::new(authority),
        limits: config.limits,
    };
    let shutdown = CancellationToken::new();
    let running = parts.serve(shutdown.clone()).await?;
    spawn(keep_up(upkeep, shutdown));
    Ok(running)
}

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) listen: String,
    pub(crate) dialer: Dialer,
    pub(crate) storage: Storage,
    pub(crate) lender: Arc<dyn Lender>,
    pub(crate) limits: Limits,
}

impl Parts {
    pub(crate) async fn serve(self, shutdown: CancellationToken) -> Result<Running, StartError> {
        let no_identity = |source| StartError::Identity { source };
        let listener = TcpListener::bind(&self.listen).await;
        let listener = listener.map_err(|source| StartError::Listen {
            address: self.listen.clone(),
            source,
        })?;
        let (identity, trust) = (self.dialer.identity(), self.dialer.trust());
        let clock = self.dialer.clock().clone();
        let tls = ServerTls::new(identity, trust, ClientAuth::Required, clock.clone());
        let tls = tls.map_err(no_identity)?;
        let own = identity.peer();
        let holds = Holds::new(self.limits.concurrent);
        let runtime = runtime(self.limits.memory_mib);
        let runtime = runtime.map_err(|source| StartError::Engine { source })?;
        let sessions = Sessions {
            holds: Arc::clone(&holds),
            channels: Channels::of_worker(&self.dialer),
            runtime: Arc::clone(&runtime),
        };
        let engine = Worker::from_session_builder(sessions).with_runtime_env(Arc::clone(&runtime));
        let service = WorkerServer::new(Service {
            own: own.clone(),
            trust: trust.clone(),
            clock,
            storage: self.storage,
            lender: self.lender,
            holds: Arc::clone(&holds),
            longest: Duration::from_secs(self.limits.seconds),
        })
        .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (health, healthy) = tonic_health::server::health_reporter();
        health.set_serving::<WorkerServer<Service>>().await;
        let router = server_builder()
            .max_concurrent_streams(STREAMS)
            .add_service(healthy)
            .add_service(Inside::new(own.clone(), service))
            .add_service(Inside::new(own, engine.into_worker_server()));
        let server = serve(listener, tls, router, &shutdown).map_err(no_identity)?;
        tracing::info!(address = %server.address(), "the worker serves");
        Ok(Running {
            server,
            holds,
            runtime,
            background: shutdown.drop_guard(),
        })
    }
}
