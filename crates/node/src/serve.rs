//! Serving: the node's gRPC service and what goes on behind it.

use crate::config::NodeConfig;
use crate::engine::Engine;
use crate::node::{Node, NodeError};
use crate::prepare::{Preparation, Preparer};
use crate::product::Products;
use crate::run::{Answer, Contributions, Door, Runner, Turns};
use guildhall_client::{Upkeep, keep_up};
use guildhall_disclosure::NoiseSecret;
use guildhall_identity::{
    ClientAuth, IdentityError, MAX_MESSAGE_BYTES, Running, ServerTls, load_secret, require_peer,
    save_secret, serve, server_builder,
};
use guildhall_model::SharedClock;
use guildhall_policy::{DEFAULT_DEPARTMENT_POLICY, Policies};
use guildhall_proto::node::v1::RunRequest;
use guildhall_proto::node::v1::contributor_server::{self, ContributorServer};
use guildhall_proto::node::v1::node_server::{self, NodeServer};
use guildhall_telemetry::{error_chain, spawn};
use guildhall_workers::Fleet;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

/// How long after a failed announcement the next one is made.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(2);
/// How often a node says again where it listens, for an authority that was restored from a backup.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(300);

/// A node that serves until it is stopped or dropped.
#[derive(Debug)]
#[must_use = "a node stops when this is dropped"]
pub struct RunningNode {
    server: Running,
    background: DropGuard,
    prepared: watch::Receiver<Preparation>,
}

impl RunningNode {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What it has prepared so far, and whatever it prepares from now on.
    #[must_use]
    pub fn preparation(&self) -> watch::Receiver<Preparation> {
        self.prepared.clone()
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) {
        self.server.ended().await;
    }

    /// Lets calls in flight finish for a while, then ends.
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

/// Starts an enrolled node.
pub async fn start(config: NodeConfig, clock: SharedClock) -> Result<RunningNode, NodeError> {
    Node::open(config, clock)?.serve().await
}

impl Node {
    /// Serves fragments until stopped.
    pub async fn serve(self) -> Result<RunningNode, NodeError> {
        let no_identity = |source| NodeError::Identity { source };
        let address = self.config.listen.clone();
        let cannot_listen = |source| NodeError::Listen {
            address: address.clone(),
            source,
        };
        let listener = TcpListener::bind(&address).await.map_err(cannot_listen)?;
        let listening = listener.local_addr().map_err(cannot_listen)?;
        let tls = ServerTls::new(
            self.dialer.identity(),
            self.dialer.trust(),
            ClientAuth::Required,
            Arc::clone(&self.clock),
        )
        .map_err(no_identity)?;
        let shutdown = CancellationToken::new();
        let announced = self
            .config
            .announce
            .clone()
            .unwrap_or_else(|| listening.to_string());
        let upkeep = Upkeep {
            dialer: self.dialer.clone(),
            authority: self.client.clone(),
            host_names: self.config.host_names.clone(),
            dir: Some(self.config.identity_dir()),
        };
        spawn(keep_up(upkeep, shutdown.clone()));
        spawn(keep_announced(
            Arc::clone(&self.authority),
            announced,
            shutdown.clone(),
        ));
        let prepare = self.config.prepare.clone();
        let runner = Arc::new(self.runner()?);
        let preparer = Preparer::new(prepare);
        let prepared = preparer.told();
        let service = NodeServer::new(Service(Arc::clone(&runner)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let contributor = ContributorServer::new(Service(Arc::clone(&runner)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (health, healthy) = tonic_health::server::health_reporter();
        health.set_serving::<NodeServer<Service>>().await;
        let router = server_builder()
            .add_service(healthy)
            .add_service(service)
            .add_service(contributor);
        let server = serve(listener, tls, router, &shutdown).map_err(no_identity)?;
        tracing::info!(address = %listening, "the node serves");
        spawn(preparer.keep_prepared(runner, shutdown.clone()));
        Ok(RunningNode {
            server,
            background: shutdown.drop_guard(),
            prepared,
        })
    }

    /// The workers that the configuration pins, if any.
    fn fleet(&self) -> Result<Option<Fleet>, NodeError> {
        if self.config.workers.at.is_empty() {
            return Ok(None);
        }
        let fleet = Fleet::new(&self.config.workers, &self.dialer, Arc::clone(&self.signer));
        fleet
            .map(Some)
            .map_err(|source| NodeError::Workers { source })
    }

    fn runner(self) -> Result<Runner, NodeError> {
        let policy = match &self.config.policy {
            None => DEFAULT_DEPARTMENT_POLICY.to_owned(),
            Some(file) => {
                std::fs::read_to_string(file).map_err(|source| NodeError::PolicyFile {
                    file: file.clone(),
                    source,
                })?
            }
        };
        let limits = self.config.limits.clone();
        let mut engine = Engine::new(&limits).map_err(|source| NodeError::Engine { source })?;
        let fleet = self.fleet()?;
        if fleet.is_some() {
            engine = engine.for_workers();
        }
        let datasets = Arc::new(self.datasets());
        Ok(Runner {
            door: Door::new(
                self.config.peer(),
                self.dialer.trust().clone(),
                self.clock.now(),
            ),
            products: Products::new(self.config.products_dir(), self.signer.public(), datasets),
            secret: noise_secret(&self.config.identity_dir())?,
            patterns: Arc::default(),
            policies: Policies::department(&policy)
                .map_err(|source| NodeError::Policy { source })?,
            engine,
            fleet,
            authority: self.authority,
            log: self.log,
            clock: self.clock,
            turns: Turns::new(limits.concurrent, limits.waiting),
            longest: Duration::from_secs(limits.seconds),
        })
    }
}

/// The secret that released cells are perturbed by, made on the first start. It never changes: another would give
/// another draw of the same noise, and two draws tell more than one.
pub(crate) fn noise_secret(dir: &Path) -> Result<NoiseSecret, NodeError> {
    let kept = |source| NodeError::NoiseSecret { source };
    let file = dir.join("noise.key");
    if !file.exists() {
        let mut fresh = Zeroizing::new([0_u8; 32]);
        SystemRandom::new()
            .fill(fresh.as_mut())
            .map_err(|_| NodeError::Random)?;
        save_secret(&file, fresh.as_ref()).map_err(kept)?;
    }
    let bytes = load_secret(&file).map_err(kept)?;
    let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| {
        kept(IdentityError::Read {
            path: file,
            source: std::io::Error::other("not 32 bytes"),
        })
    })?;
    Ok(NoiseSecret::from_bytes(*bytes))
}

/// Says where we listen until the authority has heard it, and now and then again.
async fn keep_announced(
    authority: Arc<dyn crate::authority::Authority>,
    address: String,
    shutdown: CancellationToken,
) {
    loop {
        let announced = tokio::select! {
            () = shutdown.cancelled() => return,
            announced = authority.announce(&address) => announced,
        };
        let pause = match announced {
            Ok(()) => ANNOUNCE_EVERY,
            Err(error) => {
                tracing::warn!(
                    error = error_chain(&error),
                    "the authority does not know where this node listens"
                );
                ANNOUNCE_AGAIN
            }
        };
        if tokio::time::timeout(pause, shutdown.cancelled())
            .await
            .is_ok()
        {
            return;
        }
    }
}

/// The gRPC face of a runner.
#[derive(Debug)]
struct Service(Arc<Runner>);

#[tonic::async_trait]
impl node_server::Node for Service {
    type RunStream = Answer;

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<Answer>, Status> {
        let peer = require_peer(&request)?;
        Ok(Response::new(
            self.0.answer(&peer, request.into_inner()).await?,
        ))
    }
}

#[tonic::async_trait]
impl contributor_server::Contributor for Service {
    type ContributeStream = Contributions;

    async fn contribute(
        &self,
        request: Request<RunRequest>,
    ) -> Result<Response<Contributions>, Status> {
        let peer = require_peer(&request)?;
        Ok(Response::new(
            self.0.contribute(&peer, request.into_inner()).await?,
        ))
    }
}
