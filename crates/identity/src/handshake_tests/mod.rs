//! Connections as they happen: real sockets, a clock that stands still.

mod believing;
mod lasting;

use crate::authority::CertificateAuthority;
use crate::caller::{peer_chain, require_peer};
use crate::credential::Identity;
use crate::dial::Dialer;
use crate::serve::{Running, serve, server_builder};
use crate::tls::{ClientAuth, ServerTls, client_config, provider};
use crate::trust::TrustStore;
use crate::verify::tests::{authority, identity, now, peer, trust};
use crate::verify::{Expect, ExpectedServer};
use bytes::Bytes;
use futures::stream::BoxStream;
use guildhall_model::{MockClock, SharedClock};
use guildhall_proto::node::v1::node_client::NodeClient;
use guildhall_proto::node::v1::node_server::{Node, NodeServer};
use guildhall_proto::node::v1::{ArrowMessage, RunRequest};
use rustls::client::danger::ServerCertVerifier;
use rustls::version::TLS12;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

const NODE: &str = "spiffe://northmoor/parking/node/p1";

const GATEWAY: &str = "spiffe://northmoor/council/gateway/g1";

const AUTHORITY: &str = "spiffe://northmoor/council/authority/a1";

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
