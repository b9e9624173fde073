//! A gateway over two councils, listening.

use super::client::Client;
use super::parties::{Parties, product};
use crate::backend::{Backend, Party};
use crate::config::Limits;
use crate::credential::{Check, tests as credentials, token_text};
use crate::door::{Door, Inner};
use crate::engine::{self, Engine};
use crate::seal::Sealer;
use crate::serve::service;
use crate::session::Sessions;
use arrow_flight::flight_service_client::FlightServiceClient;
use futures::StreamExt;
use guildhall_identity::TrustStore;
use guildhall_model::MockClock;
use guildhall_plan::catalogue::CleanRoom;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};

pub(super) const COUNCILS: [&str; 2] = ["northmoor", "southsea"];
pub(super) const PASSWORD: &str = "correct horse";

/// A gateway over the two councils, listening.
pub(super) struct City {
    pub(super) parties: Arc<Parties>,
    pub(super) clock: Arc<MockClock>,
    channel: Channel,
}

impl City {
    pub(super) async fn start() -> Self {
        Self::with(Limits {
            ticket_seconds: 60,
            ..Limits::default()
        })
        .await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        let (key, trust) = credentials::council();
        let clock = MockClock::at(credentials::now());
        let parties = Arc::new(Parties::new(key, clock.clone()));
        Self::over(parties.clone(), parties, trust, clock, limits, None).await
    }

    /// The same over a backend that answers some of it otherwise than `parties`, perhaps with a clean room.
    pub(super) async fn over(
        parties: Arc<Parties>,
        backend: Arc<dyn Backend>,
        trust: TrustStore,
        clock: Arc<MockClock>,
        limits: Limits,
        clean_room: Option<CleanRoom>,
    ) -> Self {
        let councils = COUNCILS.map(|c| c.parse().unwrap()).to_vec();
        let asked = engine::Parties {
            backend: backend.clone(),
            councils: councils.clone(),
            clean_room,
        };
        let recipient = "spiffe://northmoor/council/gateway/door-1".parse().unwrap();
        let inner = Inner {
            check: Check::new(backend, &councils, trust, clock.clone()),
            engine: Engine::new(asked, recipient, limits, clock.clone()),
            sealer: Sealer::new().unwrap(),
            sessions: Sessions::new(100, Duration::from_secs(60)),
            clock: clock.clone(),
            default_council: "northmoor".parse().unwrap(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = TcpListenerStream::new(listener)
            .map(|stream| stream.inspect(|s| s.set_nodelay(true).unwrap()));
        let router = Server::builder().add_service(service(Door(Arc::new(inner))));
        guildhall_telemetry::spawn(router.serve_with_incoming(incoming));
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        Self {
            parties,
            clock,
            channel,
        }
    }

    /// A client that shows nothing.
    pub(super) fn stranger(&self) -> Client {
        let inner =
            FlightServiceClient::new(self.channel.clone()).max_decoding_message_size(16 << 20);
        Client::new(inner)
    }

    /// A signed-in client of northmoor's.
    pub(super) fn client(&self, name: &str, purposes: &[&str]) -> Client {
        let token = credentials::token(&self.parties.key, "northmoor", name, purposes);
        self.stranger()
            .header("authorization", format!("Bearer {}", token_text(&token)))
    }

    /// A client that needs not name its purpose.
    pub(super) fn ana(&self) -> Client {
        self.client("ana", &["planning"])
    }

    pub(super) fn authority(council: &str) -> Party {
        Party::Authority(council.parse().unwrap())
    }

    pub(super) fn node(council: &str) -> Party {
        Party::Node(product(council).node)
    }
}
