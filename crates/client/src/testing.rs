//! A small council for this crate's tests: an authority that enrols and renews, and a node.

use crate::arrow_message::ArrowEncoder;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use guildhall_identity::{
    CertificateAuthority, ClientAuth, Dialer, EnrolmentCode, Identity, Running, ServerTls,
    TrustStore, new_key_and_csr, require_peer, serve, server_builder,
};
use guildhall_model::{MockClock, SharedClock, Timestamp};
use guildhall_proto::authority::v1 as authority;
use guildhall_proto::authority::v1::enrolment_server::{Enrolment, EnrolmentServer};
use guildhall_proto::node::v1::node_server::{Node, NodeServer};
use guildhall_proto::node::v1::{ArrowMessage, RunRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub(crate) const NODE: &str = "spiffe://northmoor/parking/node/p1";
const GATEWAY: &str = "spiffe://northmoor/council/gateway/g1";
const AUTHORITY: &str = "spiffe://northmoor/council/authority/a1";
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct Council {
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) trust: TrustStore,
    pub(crate) clock: SharedClock,
}

impl Council {
    pub(crate) fn new(council: &str) -> Self {
        let now = Timestamp::from_micros(1_795_000_000_000_000);
        let authority = CertificateAuthority::generate(&council.parse().unwrap(), now).unwrap();
        let trust = TrustStore::from_bundles(&[bundle(&authority)]).unwrap();
        Self {
            authority: Arc::new(authority),
            trust,
            clock: MockClock::at(now),
        }
    }

    pub(crate) fn identity(&self, id: &str) -> Identity {
        let (key, csr) = new_key_and_csr().unwrap();
        let now = self.clock.now();
        let chain = self
            .authority
            .issue(&csr, &id.parse().unwrap(), &[], now, now.after(HOUR))
            .unwrap();
        Identity::from_pem(&chain, &key).unwrap()
    }

    pub(crate) fn gateway(&self) -> Dialer {
        Dialer::new(&self.identity(GATEWAY), &self.trust, self.clock.clone())
    }

    pub(crate) async fn node(&self) -> (Running, mpsc::Receiver<&'static str>) {
        let (ended, endings) = mpsc::channel(8);
        // No limit on what it sends, so that the client's own is what tests meet.
        let service = NodeServer::new(TestNode { ended });
        let tls = ServerTls::new(
            &self.identity(NODE),
            &self.trust,
            ClientAuth::Required,
            self.clock.clone(),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let router = server_builder().add_service(service);
        (
            serve(listener, tls, router, &CancellationToken::new()).unwrap(),
            endings,
        )
    }

    pub(crate) async fn desk(&self, invited: Option<EnrolmentCode>) -> Running {
        let desk = Desk {
            authority: self.authority.clone(),
            clock: self.clock.clone(),
            invited,
        };
        let tls = ServerTls::new(
            &self.identity(AUTHORITY),
            &self.trust,
            ClientAuth::Newcomers,
            self.clock.clone(),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let router = server_builder().add_service(EnrolmentServer::new(desk));
        serve(listener, tls, router, &CancellationToken::new()).unwrap()
    }
}

pub(crate) fn batch(rows: usize) -> RecordBatch {
    let numbers =
        Int64Array::from_iter((0..rows).map(|i| (i % 7 != 0).then_some(i64::try_from(i).unwrap())));
    let words =
        StringArray::from_iter((0..rows).map(|i| (i % 5 != 0).then(|| format!("word {i}"))));
    RecordBatch::try_from_iter_with_nullable([
        ("number", Arc::new(numbers) as ArrayRef, true),
        ("word", Arc::new(words) as ArrayRef, true),
    ])
    .unwrap()
}

fn bundle(authority: &CertificateAuthority) -> authority::TrustBundle {
    authority::TrustBundle {
        council: authority.council().to_string(),
        ca_pem: vec![authority.certificate_pem().to_owned()],
        authority_keys: vec![vec![7; 32]],
    }
}

/// Does what the fragment says, in words.
struct TestNode {
    ended: mpsc::Sender<&'static str>,
}

struct Ending(mpsc::Sender<&'static str>);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.try_send("dropped");
    }
}

#[tonic::async_trait]
impl Node for TestNode {
    type RunStream = BoxStream<'static, Result<ArrowMessage, Status>>;

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<Self::RunStream>, Status> {
        require_peer(&request)?;
        let mut encoder = ArrowEncoder::default();
        let batch = batch(1000);
        let schema = encoder.schema(&batch.schema());
        let fragment = request.into_inner().fragment;
        let stream = match fragment.as_ref() {
            b"rows" => {
                let mut messages = vec![Ok(schema)];
                for _ in 0..3 {
                    messages.extend(encoder.batch(&batch).unwrap().into_iter().map(Ok));
                }
                futures::stream::iter(messages).boxed()
            }
            b"refuse" => return Err(Status::permission_denied("forbidden by `residents-only`")),
            b"fail later" => {
                futures::stream::iter([Ok(schema), Err(Status::internal("reference r-1"))]).boxed()
            }
            b"never" => futures::stream::pending().boxed(),
            b"nothing" => futures::stream::empty().boxed(),
            b"nonsense" => {
                let nonsense = ArrowMessage {
                    header: Bytes::from_static(b"nonsense"),
                    body: Bytes::new(),
                };
                futures::stream::iter([Ok(schema), Ok(nonsense)]).boxed()
            }
            b"endless" => {
                // A producer that a full channel holds back, and that ends with its receiver.
                let (sender, receiver) = mpsc::channel(1);
                let ending = Ending(self.ended.clone());
                let message = encoder.batch(&batch).unwrap().remove(0);
                guildhall_telemetry::spawn(async move {
                    let _ending = ending;
                    let mut next = schema;
                    while sender.send(Ok(next)).await.is_ok() {
                        next = message.clone();
                    }
                });
                ReceiverStream::new(receiver).boxed()
            }
            size => {
                let bytes: usize = std::str::from_utf8(size).unwrap().parse().unwrap();
                let large = ArrowMessage {
                    header: Bytes::new(),
                    body: Bytes::from(vec![0; bytes]),
                };
                futures::stream::iter([Ok(schema), Ok(large)]).boxed()
            }
        };
        Ok(Response::new(stream))
    }
}

struct Desk {
    authority: Arc<CertificateAuthority>,
    clock: SharedClock,
    invited: Option<EnrolmentCode>,
}

#[tonic::async_trait]
impl Enrolment for Desk {
    async fn enrol(
        &self,
        request: Request<authority::EnrolRequest>,
    ) -> Result<Response<authority::EnrolResponse>, Status> {
        let request = request.into_inner();
        if self.invited.as_ref().map(ToString::to_string) != Some(request.code) {
            return Err(Status::unauthenticated("no such code"));
        }
        let now = self.clock.now();
        let expires = now.after(HOUR);
        let peer = NODE.parse().unwrap();
        let chain_pem = self
            .authority
            .issue(&request.csr, &peer, &request.host_names, now, expires)
            .unwrap();
        Ok(Response::new(authority::EnrolResponse {
            certificate: Some(authority::Certificate {
                chain_pem,
                expires_us: expires.as_micros(),
            }),
            trust: vec![bundle(&self.authority)],
        }))
    }
}
