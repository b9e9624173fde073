//! Starting and stopping a gateway.

use crate::clean_room::CleanRoomClient;
use crate::config::GatewayConfig;
use crate::credential::Check;
use crate::door::{Door, Inner};
use crate::engine::{Engine, Parties};
use crate::net::Net;
use crate::seal::{NoRandomness, Sealer};
use crate::session::Sessions;
use arrow_flight::flight_service_server::FlightServiceServer;
use guildhall_client::{AuthorityClient, ClientError, Upkeep, keep_up};
use guildhall_identity::{
    ClientAuth, Dialer, Identity, IdentityError, MAX_MESSAGE_BYTES, ServerTls, TrustStore,
    server_builder,
};
use guildhall_model::{CouncilName, PeerId, Role, SharedClock};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its own identity cannot be used.
    #[error("cannot use the gateway's identity")]
    Identity {
        /// Why.
        #[source]
        source: IdentityError,
    },
    /// The identity is another role's.
    #[error("`{0}` is not a gateway\nhelp: enrol it with a code that was made for a gateway")]
    Role(PeerId),
    /// Nobody would renew its certificate.
    #[error("no [[council]] describes `{0}`, whose gateway this is")]
    NoHome(CouncilName),
    /// An authority's address cannot be used.
    #[error("cannot call an authority")]
    Authority {
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The clean room's address cannot be used.
    #[error("cannot call the clean room: `clean_room.address` is not `host:port`")]
    CleanRoom {
        /// Why.
        #[source]
        source: IdentityError,
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
    /// No key for tickets.
    #[error("cannot make a key for tickets")]
    Key {
        /// Why.
        #[source]
        source: NoRandomness,
    },
}

/// A gateway that runs until it is stopped or dropped.
#[must_use = "a gateway stops when this is dropped"]
pub struct Running {
    server: guildhall_identity::Running,
    engine: Engine,
    shutdown: CancellationToken,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
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
        self.shutdown.cancel();
        self.server.stop().await;
        self.engine.cancel_all();
    }

    /// Ends now, as a crash would.
    pub async fn kill(self) {
        self.shutdown.cancel();
        self.engine.cancel_all();
        self.server.kill().await;
    }
}

/// Starts the gateway that `config` describes.
pub async fn start(config: GatewayConfig, clock: SharedClock) -> Result<Running, StartError> {
    let own = |source| StartError::Identity { source };
    let identity = Identity::load(&config.identity).map_err(own)?;
    let trust = TrustStore::load(&config.identity).map_err(own)?;
    let peer = identity.peer();
    if peer.role != Role::Gateway {
        return Err(StartError::Role(peer));
    }
    let dialer = Dialer::new(&identity, &trust, clock.clone());
    let authorities = authorities(&config, &dialer)?;
    let home = authorities
        .get(&peer.council)
        .ok_or_else(|| StartError::NoHome(peer.council.clone()))?
        .clone();
    learn_of(&config, &trust, &home).await;

    let councils: Vec<CouncilName> = authorities.keys().cloned().collect();
    let clean_room = config.clean_room();
    let room = clean_room
        .as_ref()
        .map(|room| CleanRoomClient::new(&dialer, room))
        .transpose()
        .map_err(|source| StartError::CleanRoom { source })?;
    let net = Arc::new(Net::new(dialer.clone(), authorities, room));
    let check = Check::new(net.clone(), &councils, trust.clone(), clock.clone());
    let parties = Parties {
        backend: net,
        councils,
        clean_room,
    };
    let engine = Engine::new(parties, peer, config.limits, clock.clone());
    let door = Door(Arc::new(Inner {
        check,
        engine: engine.clone(),
        sealer: Sealer::new().map_err(|source| StartError::Key { source })?,
        sessions: Sessions::new(
            config.limits.sessions,
            Duration::from_secs(config.limits.session_seconds),
        ),
        clock: clock.clone(),
        default_council: config.default_council.clone(),
    }));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<FlightServiceServer<Door>>().await;
    let router = server_builder()
        .max_concurrent_streams(config.limits.streams)
        .add_service(service(door))
        .add_service(health_service);
    let shutdown = CancellationToken::new();
    let tls = ServerTls::new(&identity, &trust, ClientAuth::Optional, clock).map_err(own)?;
    let listener =
        TcpListener::bind(&config.listen)
            .await
            .map_err(|source| StartError::Listen {
                address: config.listen.clone(),
                source,
            })?;
    let server = guildhall_identity::serve(listener, tls, router, &shutdown).map_err(own)?;
    let upkeep = Upkeep {
        dialer,
        authority: home,
        host_names: config.host_names,
        dir: Some(config.identity),
    };
    guildhall_telemetry::spawn(keep_up(upkeep, shutdown.clone()));
    tracing::info!(address = %server.address(), "the gateway answers");
    Ok(Running {
        server,
        engine,
        shutdown,
    })
}

/// The Flight service with room for long IN lists and batches of parameters.
pub(crate) fn service(door: Door) -> FlightServiceServer<Door> {
    FlightServiceServer::new(door)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

fn authorities(
    config: &GatewayConfig,
    dialer: &Dialer,
) -> Result<BTreeMap<CouncilName, AuthorityClient>, StartError> {
    config
        .councils
        .iter()
        .map(|council| {
            let client = AuthorityClient::new(dialer, &council.authority, &council.name)
                .map_err(|source| StartError::Authority { source })?;
            Ok((council.name.clone(), client))
        })
        .collect()
}

/// A council that was befriended after this gateway enrolled is learnt of at once.
async fn learn_of(config: &GatewayConfig, trust: &TrustStore, home: &AuthorityClient) {
    if config.councils.iter().all(|c| trust.trusts(&c.name)) {
        return;
    }
    let learnt = match home.trust().await {
        Ok(bundles) => trust
            .replace(&bundles)
            .map_err(|e| guildhall_telemetry::error_chain(&e)),
        Err(e) => Err(guildhall_telemetry::error_chain(&e)),
    };
    if let Err(error) = learnt {
        tracing::info!(
            error,
            "could not ask whom to trust; asking again in a minute"
        );
    }
}
