//! Connections as they happen: real sockets, a clock that stands still.

use crate::authority::CertificateAuthority;
use crate::caller::{peer_chain, require_peer};
use crate::credential::Identity;
use crate::dial::{Dialer, enrol_channel};
use crate::enrolment::EnrolmentCode;
use crate::serve::{Running, serve, server_builder};
use crate::tls::{ClientAuth, ServerTls, client_config, provider};
use crate::trust::TrustStore;
use crate::verify::tests::{authority, bundle, identity, now, peer, trust};
use crate::verify::{Expect, ExpectedServer};
use bytes::Bytes;
use futures::stream::BoxStream;
use guildhall_model::{MockClock, SharedClock};
use guildhall_proto::node::v1::node_client::NodeClient;
use guildhall_proto::node::v1::node_server::{Node, NodeServer};
use guildhall_proto::node::v1::{ArrowMessage, RunRequest};
use guildhall_telemetry::error_chain;
use rustls::client::danger::ServerCertVerifier;
use rustls::version::TLS12;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

const NODE: &str = "spiffe://northmoor/parking/node/p1";
const GATEWAY: &str = "spiffe://northmoor/council/gateway/g1";
const AUTHORITY: &str = "spiffe://northmoor/council/authority/a1";

#[tokio::test]
async fn each_end_knows_the_other() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    assert_eq!(city.ask(GATEWAY, &node, NODE).await.unwrap(), GATEWAY);
    node.stop().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_gets_no_connection() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let refused = tls(node.address(), city.nameless()).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_client_whose_certificate_another_council_made_gets_no_connection() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let forger = authority("northmoor");
    let forged = identity(&forger, GATEWAY);
    let channel = Dialer::new(&forged, &city.trust, city.clock.clone())
        .channel(&node.address().to_string(), Expect::Peer(peer(NODE)))
        .unwrap();
    assert!(ask(channel).await.is_err());
}

#[tokio::test]
async fn a_server_whose_certificate_another_council_made_is_not_believed() {
    let city = City::new();
    let forger = authority("northmoor");
    let liar = city
        .serve_as(&identity(&forger, NODE), ClientAuth::Required)
        .await;
    let refused = city.ask(GATEWAY, &liar, NODE).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        error_chain(&refused)
            .contains("no TLS connection with `spiffe://northmoor/parking/node/p1`")
    );
}

#[tokio::test]
async fn a_peer_other_than_expected_is_not_believed_though_its_council_is() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let refused = city
        .ask(GATEWAY, &node, "spiffe://northmoor/housing/node/h1")
        .await
        .unwrap_err();
    let chain = error_chain(&refused);
    assert!(chain.contains("expected `spiffe://northmoor/housing/node/h1`, met `spiffe://northmoor/parking/node/p1`"), "{chain}");
}

#[tokio::test]
async fn an_expired_certificate_gets_no_connection_either_way() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let gateway = identity(&city.authority, GATEWAY);
    city.mock.advance(Duration::from_secs(3601));
    // The server's has expired, as a client at the right time sees it.
    assert!(city.ask_as(&gateway, &node, NODE).await.is_err());
    // The client's has expired, as the server sees it; the client's own clock is slow.
    let slow: SharedClock = MockClock::at(now());
    let channel = Dialer::new(&gateway, &city.trust, slow)
        .channel(&node.address().to_string(), Expect::Peer(peer(NODE)))
        .unwrap();
    assert!(ask(channel).await.is_err());
}

#[tokio::test]
async fn a_caller_is_forgotten_when_its_certificate_expires_mid_connection() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let channel = city.channel(GATEWAY, &node, NODE);
    assert_eq!(ask(channel.clone()).await.unwrap(), GATEWAY);
    city.mock.advance(Duration::from_secs(3601));
    assert_eq!(
        ask(channel).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_new_certificate_is_shown_without_a_restart() {
    let city = City::new();
    let serving = identity(&city.authority, NODE);
    let node = city.serve_as(&serving, ClientAuth::Required).await;
    let before = tls(node.address(), city.named(GATEWAY)).await.unwrap();
    let renewed = identity(&city.authority, NODE);
    serving
        .replace(&renewed.chain_pem(), &renewed.key_pem())
        .unwrap();
    let after = tls(node.address(), city.named(GATEWAY)).await.unwrap();
    assert_eq!(after, renewed.chain());
    assert_ne!(before, after);
}

#[tokio::test]
async fn a_council_withdrawn_from_trust_gets_no_new_connection() {
    let city = City::new();
    let south = authority("southmere");
    city.trust
        .replace(&[bundle(&city.authority), bundle(&south)])
        .unwrap();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let guest = identity(&south, "spiffe://southmere/council/gateway/g1");
    assert!(city.ask_as(&guest, &node, NODE).await.is_ok());
    city.trust.replace(&[bundle(&city.authority)]).unwrap();
    assert!(city.ask_as(&guest, &node, NODE).await.is_err());
}

#[tokio::test]
async fn roles_speak_tls_1_3_alone() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    assert!(tls(node.address(), city.tls_1_2()).await.is_err());
    let door = city.serve(GATEWAY, ClientAuth::Optional).await;
    assert!(tls(door.address(), city.tls_1_2()).await.is_ok());
}

#[tokio::test]
async fn newcomers_are_let_in_without_a_name() {
    let city = City::new();
    let desk = city.serve(AUTHORITY, ClientAuth::Newcomers).await;
    let code =
        EnrolmentCode::generate(city.authority.council(), city.authority.fingerprint()).unwrap();
    let channel = enrol_channel(&desk.address().to_string(), &code, city.clock.clone()).unwrap();
    assert_eq!(
        ask(channel).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_newcomer_believes_only_the_authority_that_its_code_names() {
    let city = City::new();
    let forger = authority("northmoor");
    let code =
        EnrolmentCode::generate(city.authority.council(), city.authority.fingerprint()).unwrap();
    // Another certificate authority, another role, and the right chain appended to a forged leaf.
    let other_role = identity(&city.authority, NODE);
    let forged = identity(&forger, AUTHORITY);
    let appended = format!("{}{}", forged.chain_pem(), city.authority.certificate_pem());
    let appended = Identity::from_pem(&appended, &forged.key_pem()).unwrap();
    for liar in [other_role, forged, appended] {
        let desk = city.serve_as(&liar, ClientAuth::Newcomers).await;
        let channel =
            enrol_channel(&desk.address().to_string(), &code, city.clock.clone()).unwrap();
        let refused = ask(channel).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{liar:?}");
    }
}

#[tokio::test]
async fn a_stalled_handshake_holds_up_nobody_else() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let mut stalled = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        // The start of a handshake record, and no more.
        stream.write_all(&[22, 3, 1]).await.unwrap();
        stalled.push(stream);
    }
    let started = Instant::now();
    city.ask(GATEWAY, &node, NODE).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    // And it is cut off in the end.
    let mut byte = [0];
    let cut = tokio::time::timeout(Duration::from_secs(20), stalled[0].read(&mut byte))
        .await
        .unwrap();
    assert!(matches!(cut, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_peer_that_shakes_hands_and_says_nothing_is_cut_off() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let stream = TcpStream::connect(node.address()).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(Arc::new(city.named(GATEWAY)))
        .connect(name, stream)
        .await
        .unwrap();
    // The server's own settings come first.
    let mut read = Vec::new();
    let cut = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut read)).await;
    assert!(cut.is_ok(), "still open after 20 s");
}

#[tokio::test]
async fn an_unreachable_peer_is_named_within_four_seconds() {
    let city = City::new();
    // Listens and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    for address in [silent.local_addr().unwrap(), closed] {
        let started = Instant::now();
        let gateway = identity(&city.authority, GATEWAY);
        let channel = Dialer::new(&gateway, &city.trust, city.clock.clone())
            .channel(&address.to_string(), Expect::Peer(peer(NODE)))
            .unwrap();
        let away = ask(channel).await.unwrap_err();
        assert_eq!(away.code(), Code::Unavailable);
        let chain = error_chain(&away);
        assert!(
            chain.contains(NODE) && chain.contains(&address.to_string()),
            "{chain}"
        );
        assert!(
            started.elapsed() < Duration::from_secs(4),
            "{:?}",
            started.elapsed()
        );
    }
}

#[tokio::test]
async fn a_channel_finds_a_peer_that_came_back() {
    let city = City::new();
    let first = city.serve(NODE, ClientAuth::Required).await;
    let address = first.address();
    let channel = city.channel(GATEWAY, &first, NODE);
    assert!(ask(channel.clone()).await.is_ok());
    first.stop().await;
    assert!(ask(channel.clone()).await.is_err());
    let again = TcpListener::bind(address).await.unwrap();
    let _again = city.serve_on(
        again,
        &identity(&city.authority, NODE),
        ClientAuth::Required,
    );
    assert_eq!(ask(channel).await.unwrap(), GATEWAY);
}

#[tokio::test]
async fn a_killed_server_cuts_its_streams_at_once() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let mut client = NodeClient::new(city.channel(GATEWAY, &node, NODE));
    let mut stream = client
        .run(RunRequest {
            grant: None,
            fragment: Bytes::from_static(b"endless"),
            cell_status: false,
        })
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    let started = Instant::now();
    node.kill().await;
    assert!(stream.message().await.is_err());
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_server_that_stops_gives_its_streams_a_while_and_then_cuts_them() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let mut client = NodeClient::new(city.channel(GATEWAY, &node, NODE));
    let mut stream = client
        .run(RunRequest {
            grant: None,
            fragment: Bytes::from_static(b"endless"),
            cell_status: false,
        })
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    let started = Instant::now();
    tokio::join!(node.stop(), async {
        assert!(stream.message().await.is_err());
    });
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
}

/// One council and its clock.
struct City {
    authority: CertificateAuthority,
    trust: TrustStore,
    mock: Arc<MockClock>,
    clock: SharedClock,
}

impl City {
    fn new() -> Self {
        let authority = authority("northmoor");
        let mock = MockClock::at(now());
        Self {
            trust: trust(&[&authority]),
            clock: mock.clone(),
            mock,
            authority,
        }
    }

    async fn serve(&self, id: &str, clients: ClientAuth) -> Running {
        self.serve_as(&identity(&self.authority, id), clients).await
    }

    async fn serve_as(&self, identity: &Identity, clients: ClientAuth) -> Running {
        self.serve_on(
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            identity,
            clients,
        )
    }

    fn serve_on(&self, listener: TcpListener, identity: &Identity, clients: ClientAuth) -> Running {
        let tls = ServerTls::new(identity, &self.trust, clients, self.clock.clone()).unwrap();
        let router = server_builder().add_service(NodeServer::new(WhoAmI));
        serve(listener, tls, router, &CancellationToken::new()).unwrap()
    }

    fn channel(&self, from: &str, to: &Running, expect: &str) -> Channel {
        Dialer::new(
            &identity(&self.authority, from),
            &self.trust,
            self.clock.clone(),
        )
        .channel(&to.address().to_string(), Expect::Peer(peer(expect)))
        .unwrap()
    }

    async fn ask(&self, from: &str, to: &Running, expect: &str) -> Result<String, Status> {
        ask(self.channel(from, to, expect)).await
    }

    async fn ask_as(&self, from: &Identity, to: &Running, expect: &str) -> Result<String, Status> {
        let channel = Dialer::new(from, &self.trust, self.clock.clone())
            .channel(&to.address().to_string(), Expect::Peer(peer(expect)))
            .unwrap();
        ask(channel).await
    }

    fn verifier(&self) -> Arc<dyn ServerCertVerifier> {
        // Whoever serves in these tests.
        Arc::new(AnyOf(self.trust.clone()))
    }

    fn nameless(&self) -> rustls::ClientConfig {
        client_config(None, self.verifier(), self.clock.clone()).unwrap()
    }

    fn named(&self, id: &str) -> rustls::ClientConfig {
        let identity = identity(&self.authority, id);
        client_config(Some(&identity), self.verifier(), self.clock.clone()).unwrap()
    }

    fn tls_1_2(&self) -> rustls::ClientConfig {
        let identity = identity(&self.authority, GATEWAY);
        rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(self.verifier())
            .with_client_cert_resolver(Arc::new(identity))
    }
}

/// Answers with the caller's name; with `endless`, then says nothing more.
struct WhoAmI;

#[tonic::async_trait]
impl Node for WhoAmI {
    type RunStream = BoxStream<'static, Result<ArrowMessage, Status>>;

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<Self::RunStream>, Status> {
        use futures::StreamExt as _;
        let caller = require_peer(&request)?;
        assert_eq!(peer_chain(&request).unwrap().len(), 2);
        let answer = ArrowMessage {
            header: Bytes::from(caller.to_string()),
            body: Bytes::new(),
        };
        let once = futures::stream::once(std::future::ready(Ok(answer)));
        let endless = request.get_ref().fragment == "endless";
        let stream = if endless {
            once.chain(futures::stream::pending()).boxed()
        } else {
            once.boxed()
        };
        Ok(Response::new(stream))
    }
}

async fn ask(channel: Channel) -> Result<String, Status> {
    let mut stream = NodeClient::new(channel)
        .run(RunRequest::default())
        .await?
        .into_inner();
    let answer = stream.message().await?.expect("an answer");
    Ok(String::from_utf8(answer.header.to_vec()).expect("text"))
}

/// Shakes hands and waits for the server's first bytes, for in TLS 1.3 a client learns only
/// then that it was refused. Gives the server's chain.
async fn tls(
    address: SocketAddr,
    mut config: rustls::ClientConfig,
) -> std::io::Result<Vec<Vec<u8>>> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    // HTTP/2 preface and empty settings.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await?;
    if stream.read(&mut [0; 9]).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap()
        .iter()
        .map(|der| der.to_vec())
        .collect())
}

/// Believes any role of a trusted council.
#[derive(Debug)]
struct AnyOf(TrustStore);

impl AnyOf {
    fn expected(&self, leaf: &rustls_pki_types::CertificateDer<'_>) -> ExpectedServer {
        let found = crate::certificate::PeerCertificate::read(leaf).unwrap();
        ExpectedServer {
            trust: self.0.clone(),
            expect: Expect::Peer(found.peer),
        }
    }
}

impl ServerCertVerifier for AnyOf {
    fn verify_server_cert(
        &self,
        leaf: &rustls_pki_types::CertificateDer<'_>,
        rest: &[rustls_pki_types::CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        let at = Duration::from_micros(now().as_micros().unsigned_abs());
        let at = rustls_pki_types::UnixTime::since_unix_epoch(at);
        self.expected(leaf)
            .verify_server_cert(leaf, rest, name, ocsp, at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.expected(cert)
            .verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.expected(cert)
            .verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
