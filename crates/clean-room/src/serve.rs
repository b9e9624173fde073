//! Starting and stopping a clean room, and becoming one.

use crate::admit::Door;
use crate::config::CleanRoomConfig;
use crate::error::Error;
use crate::gather::{Room, ask};
use crate::linked::Meeting;
use crate::release::agree;
use futures::future::try_join_all;
use guildhall_client::arrow_message::ArrowEncoder;
use guildhall_client::{AuthorityClient, ClientError, Upkeep, keep_up};
use guildhall_disclosure::Released;
use guildhall_identity::{
    ClientAuth, Dialer, Identity, IdentityError, MAX_MESSAGE_BYTES, ServerTls, TrustStore,
    require_peer, serve, server_builder,
};
use guildhall_model::{PeerId, Role, SharedClock};
use guildhall_proto::clean_room::v1::ReleaseRequest;
use guildhall_proto::clean_room::v1::clean_room_server::{CleanRoom, CleanRoomServer};
use guildhall_proto::node::v1::ArrowMessage;
use guildhall_telemetry::spawn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

/// Messages between the release and the gateway.
const AHEAD: usize = 4;

/// Why a clean room did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its own identity cannot be used.
    #[error("cannot use the clean room's identity")]
    Identity {
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// The identity is another role's, or another council's.
    #[error(
        "`{0}` is not the clean room that the configuration describes\nhelp: enrol it with a code that was made for it"
    )]
    Other(PeerId),
    /// The authority's address cannot be used.
    #[error("cannot call the authority")]
    Authority {
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A clean room that serves until it is stopped or dropped.
#[derive(Debug)]
#[must_use = "a clean room stops when this is dropped"]
pub struct Running {
    server: guildhall_identity::Running,
    background: DropGuard,
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

    /// Takes no more calls, gives those in flight a few seconds, and ends.
    pub async fn stop(self) {
        drop(self.background);
        self.server.stop().await;
    }

    /// Ends now, as a crash would.
    pub async fn kill(self) {
        drop(self.background);
        self.server.kill().await;
    }
}

/// Starts the clean room that `config` describes.
pub async fn start(config: CleanRoomConfig, clock: SharedClock) -> Result<Running, StartError> {
    let own = |source| StartError::Identity { source };
    let identity = Identity::load(&config.identity).map_err(own)?;
    let trust = TrustStore::load(&config.identity).map_err(own)?;
    let peer = identity.peer();
    if peer.role != Role::CleanRoom || peer.council != config.council {
        return Err(StartError::Other(peer));
    }
    let dialer = Dialer::new(&identity, &trust, clock.clone());
    let authority = AuthorityClient::new(&dialer, &config.authority.address, &config.council);
    let authority = authority.map_err(|source| StartError::Authority { source })?;
    let listener = TcpListener::bind(&config.listen).await;
    let listener = listener.map_err(|source| StartError::Listen {
        address: config.listen.clone(),
        source,
    })?;
    let tls = ServerTls::new(&identity, &trust, ClientAuth::Required, clock.clone());
    let tls = tls.map_err(own)?;
    let shutdown = CancellationToken::new();
    let upkeep = Upkeep {
        dialer: dialer.clone(),
        authority,
        host_names: config.host_names.clone(),
        dir: Some(config.identity.clone()),
    };
    spawn(keep_up(upkeep, shutdown.clone()));
    let service = Service(Arc::new(Inner {
        door: Door::new(peer, trust, clock.now()),
        dialer,
        turns: Arc::new(Semaphore::new(config.limits.concurrent)),
        longest: Duration::from_secs(config.limits.seconds),
        memory_mib: config.limits.memory_mib,
        clock,
    }));
    let service = CleanRoomServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (health, healthy) = tonic_health::server::health_reporter();
    health.set_serving::<CleanRoomServer<Service>>().await;
    let router = server_builder().add_service(healthy).add_service(service);
    let server = serve(listener, tls, router, &shutdown).map_err(own)?;
    tracing::info!(address = %server.address(), "the clean room serves");
    Ok(Running {
        server,
        background: shutdown.drop_guard(),
    })
}

struct Inner {
    door: Door,
    dialer: Dialer,
    turns: Arc<Semaphore>,
    longest: Duration,
    memory_mib: usize,
    clock: SharedClock,
}

impl Inner {
    /// Answers one question, or not.
    async fn answer(&self, gateway: &PeerId, request: ReleaseRequest) -> Result<Released, Error> {
        let turn = self.turn()?;
        let cell_status = request.cell_status;
        let question = request.linked.clone();
        let parts = self.door.enter(gateway, request, self.clock.now())?;
        let offers = try_join_all(parts.into_iter().map(|part| ask(part, &self.dialer))).await?;
        let room = Room::new(self.memory_mib);
        if !question.is_empty() {
            let meeting = move || Meeting::of(offers, &question, cell_status);
            let meeting = tokio::task::spawn_blocking(meeting);
            let meeting = meeting.await.map_err(Error::internal)??;
            return meeting.release(&room, turn).await;
        }
        let agreed = tokio::task::spawn_blocking(move || agree(offers, cell_status));
        let agreed = agreed.await.map_err(Error::internal)??;
        agreed.release(&room, turn).await
    }

    /// The same, within the time that one question may take.
    async fn in_time(&self, gateway: &PeerId, request: ReleaseRequest) -> Result<Released, Error> {
        let seconds = self.longest.as_secs();
        let answer = tokio::time::timeout(self.longest, self.answer(gateway, request)).await;
        answer.map_err(|_| Error::TooLong { seconds })?
    }

    fn turn(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.turns)
            .try_acquire_owned()
            .map_err(|_| Error::Busy)
    }
}

/// The messages of what was released.
fn messages(released: Released) -> Result<Vec<ArrowMessage>, Error> {
    let batch = released.into_batch();
    let mut encoder = ArrowEncoder::default();
    let mut messages = vec![encoder.schema(batch.schema_ref())];
    messages.extend(encoder.batch(&batch).map_err(Error::internal)?);
    Ok(messages)
}

/// The gRPC face.
#[derive(Clone)]
struct Service(Arc<Inner>);

#[tonic::async_trait]
impl CleanRoom for Service {
    type ReleaseStream = ReceiverStream<Result<ArrowMessage, Status>>;

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<Self::ReleaseStream>, Status> {
        let gateway = require_peer(&request)?;
        let request = request.into_inner();
        let failed = |error: Error| {
            error.log(&gateway);
            error.status()
        };
        // Nothing leaves before all is released: an answer is whole, or it is an error.
        let released = self.0.in_time(&gateway, request).await.map_err(failed)?;
        let all = messages(released).map_err(failed)?;
        let (to, answer) = mpsc::channel(AHEAD);
        spawn(async move {
            for message in all {
                if to.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answer)))
    }
}
