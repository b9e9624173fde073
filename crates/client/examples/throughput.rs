//! How fast a node's stream is, beside plain Arrow Flight over tonic's own TLS.
//!
//! `cargo run --release -p guildhall-client --example throughput [gigabytes] [rounds]`
//!
//! Client and server share this process and one machine. Rounds are interleaved, and medians
//! printed: megabytes of Arrow buffers per second, and processor seconds per gigabyte.

use anyhow::{Context as _, Result};
use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use guildhall_client::NodeClient;
use guildhall_client::arrow_message::ArrowEncoder;
use guildhall_identity::{
    CertificateAuthority, ClientAuth, Dialer, Identity, MAX_MESSAGE_BYTES, ServerTls, TrustStore,
    new_key_and_csr, serve, server_builder,
};
use guildhall_model::{Clock as _, PeerId, SharedClock, SystemClock};
use guildhall_proto::authority::v1::TrustBundle;
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::node::v1::node_server::{Node, NodeServer};
use guildhall_proto::node::v1::{ArrowMessage, RunRequest};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity, Server,
    ServerTlsConfig,
};
use tonic::{Request, Response, Status, Streaming};

const ROWS: usize = 32_768;
const NODE: &str = "spiffe://northmoor/parking/node/p1";
const GATEWAY: &str = "spiffe://northmoor/council/gateway/g1";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let gigabytes: f64 = arguments.next().map_or(Ok(0.6), |a| a.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(3), |a| a.parse())?;
    let batch = lineitem(ROWS)?;
    #[expect(clippy::cast_possible_truncation, reason = "a count of batches")]
    #[expect(clippy::cast_sign_loss, reason = "a count of batches")]
    let batches = (gigabytes * 1e9 / size(&batch)).ceil() as usize;
    let load = Load { batch, batches };
    let council = Council::new()?;

    let plain = council.flight(load.clone(), false).await?;
    let tuned = council.flight(load.clone(), true).await?;
    let node = council.node(load.clone()).await?;
    let mut results: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    for _ in 0..rounds {
        for way in [
            "flight, tonic's defaults",
            "flight, our windows",
            "node, decoded",
            "node, messages",
        ] {
            let (started, cpu) = (Instant::now(), processor_seconds()?);
            let rows = match way {
                "flight, tonic's defaults" => flight_rows(&plain).await?,
                "flight, our windows" => flight_rows(&tuned).await?,
                "node, decoded" => node_rows(&node).await?,
                _ => node_messages(&node, load.batches).await?,
            };
            anyhow::ensure!(rows == load.batches * ROWS, "{way}: {rows} rows");
            let bytes = size(&load.batch) * f64::from(u32::try_from(load.batches)?);
            let speed = bytes / 1e6 / started.elapsed().as_secs_f64();
            let cost = (processor_seconds()? - cpu) / (bytes / 1e9);
            match results.iter_mut().find(|(name, _)| *name == way) {
                Some((_, measured)) => measured.push((speed, cost)),
                None => results.push((way, vec![(speed, cost)])),
            }
        }
    }
    for (way, mut measured) in results {
        measured.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (speed, cost) = measured[measured.len() / 2];
        eprintln!("{way:<26} {speed:>7.0} MB/s {cost:>6.2} CPU s/GB");
    }
    Ok(())
}

#[derive(Clone)]
struct Load {
    batch: RecordBatch,
    batches: usize,
}

async fn flight_rows(channel: &Channel) -> Result<usize> {
    let mut client =
        FlightServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let data = client
        .do_get(Ticket::default())
        .await?
        .into_inner()
        .map_err(FlightError::from);
    let stream = FlightRecordBatchStream::new_from_flight_data(data);
    Ok(stream
        .try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) })
        .await?)
}

async fn node_rows(client: &NodeClient) -> Result<usize> {
    let (_, stream) = client.run(Envelope::default(), Bytes::new()).await?;
    Ok(stream
        .try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) })
        .await?)
}

async fn node_messages(client: &NodeClient, expected: usize) -> Result<usize> {
    let stream = client
        .run_messages(Envelope::default(), Bytes::new())
        .await?;
    let messages = stream.try_fold(0, |n, _| async move { Ok(n + 1) }).await?;
    anyhow::ensure!(messages > expected, "{messages} messages");
    Ok(expected * ROWS)
}

struct Council {
    authority: CertificateAuthority,
    trust: TrustStore,
    clock: SharedClock,
}

impl Council {
    fn new() -> Result<Self> {
        let authority = CertificateAuthority::generate(&"northmoor".parse()?, SystemClock.now())?;
        let trust = TrustStore::from_bundles(&[TrustBundle {
            council: "northmoor".to_owned(),
            ca_pem: vec![authority.certificate_pem().to_owned()],
            authority_keys: Vec::new(),
        }])?;
        Ok(Self {
            authority,
            trust,
            clock: Arc::new(SystemClock),
        })
    }

    fn identity(&self, id: &str) -> Result<Identity> {
        let (key, csr) = new_key_and_csr()?;
        let now = self.clock.now();
        let hosts = ["localhost".to_owned()];
        let until = now.after(Duration::from_secs(3600));
        let chain = self
            .authority
            .issue(&csr, &id.parse()?, &hosts, now, until)?;
        Ok(Identity::from_pem(&chain, &key)?)
    }

    async fn node(&self, load: Load) -> Result<NodeClient> {
        let tls = ServerTls::new(
            &self.identity(NODE)?,
            &self.trust,
            ClientAuth::Required,
            self.clock.clone(),
        )?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let router = server_builder().add_service(NodeServer::new(load));
        let mut running = serve(listener, tls, router, &CancellationToken::new())?;
        let address = running.address().to_string();
        guildhall_telemetry::spawn(async move { running.ended().await });
        let dialer = Dialer::new(&self.identity(GATEWAY)?, &self.trust, self.clock.clone());
        let peer: PeerId = NODE.parse()?;
        Ok(NodeClient::new(&dialer, &address, &peer)?)
    }

    async fn flight(&self, load: Load, tuned: bool) -> Result<Channel> {
        // A door's certificate has the host name that tonic's own client asks for.
        let door = self.identity(GATEWAY)?;
        let identity = || TlsIdentity::from_pem(door.chain_pem(), door.key_pem().as_bytes());
        let ca = || Certificate::from_pem(self.authority.certificate_pem());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address: SocketAddr = listener.local_addr()?;
        let server = if tuned {
            server_builder()
        } else {
            Server::builder()
        };
        let router = server
            .tls_config(
                ServerTlsConfig::new()
                    .identity(identity())
                    .client_ca_root(ca()),
            )?
            .add_service(FlightServiceServer::new(load));
        guildhall_telemetry::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        let mut endpoint = Endpoint::from_shared(format!("https://localhost:{}", address.port()))?
            .tls_config(
                ClientTlsConfig::new()
                    .ca_certificate(ca())
                    .identity(identity())
                    .domain_name("localhost"),
            )?;
        if tuned {
            endpoint = endpoint
                .initial_stream_window_size(4 * 1024 * 1024)
                .initial_connection_window_size(16 * 1024 * 1024)
                .max_frame_size(1024 * 1024);
        }
        endpoint
            .connect()
            .await
            .context("cannot connect to the Flight server")
    }
}

fn lineitem(rows: usize) -> Result<RecordBatch> {
    let count = i64::try_from(rows)?;
    let numbers = |by: i64| {
        Arc::new(Int64Array::from_iter_values(
            (0..count).map(|i| i * by % 9973),
        )) as ArrayRef
    };
    let money = |by: i64| {
        let values =
            Decimal128Array::from_iter_values((0..count).map(|i| i128::from(i * by % 99_991)));
        values
            .with_precision_and_scale(15, 2)
            .map(|a| Arc::new(a) as ArrayRef)
    };
    let small = |n: i64| u32::try_from(n % 100).map(f64::from).unwrap_or_default();
    Ok(RecordBatch::try_from_iter([
        ("order", numbers(1)),
        ("part", numbers(7)),
        ("supplier", numbers(13)),
        ("quantity", money(3)?),
        ("price", money(17)?),
        ("discount", money(5)?),
        (
            "tax",
            Arc::new(Float64Array::from_iter_values((0..count).map(small))) as ArrayRef,
        ),
        (
            "shipped",
            Arc::new(Date32Array::from_iter_values(0..i32::try_from(rows)?)) as ArrayRef,
        ),
        (
            "mode",
            Arc::new(StringArray::from_iter_values(
                (0..rows).map(|i| ["AIR", "RAIL", "TRUCK"][i % 3]),
            )) as _,
        ),
        (
            "comment",
            Arc::new(StringArray::from_iter_values(
                (0..rows).map(|i| format!("carefully final {i}")),
            )) as _,
        ),
    ])?)
}

#[expect(clippy::cast_precision_loss, reason = "megabytes")]
fn size(batch: &RecordBatch) -> f64 {
    batch.get_array_memory_size() as f64
}

/// User and system time of this process, from `/proc`.
fn processor_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .context("no fields")?
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

#[tonic::async_trait]
impl Node for Load {
    type RunStream = BoxStream<'static, Result<ArrowMessage, Status>>;

    async fn run(&self, _: Request<RunRequest>) -> Result<Response<Self::RunStream>, Status> {
        let Self { batch, batches } = self.clone();
        let mut encoder = ArrowEncoder::default();
        let schema = encoder.schema(&batch.schema());
        let messages = futures::stream::iter(0..batches).flat_map(move |_| {
            let messages = encoder.batch(&batch).unwrap_or_default();
            futures::stream::iter(messages.into_iter().map(Ok))
        });
        Ok(Response::new(
            futures::stream::iter([Ok(schema)]).chain(messages).boxed(),
        ))
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlightService for Load {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_get(&self, _: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let Self { batch, batches } = self.clone();
        let input = futures::stream::iter((0..batches).map(move |_| Ok(batch.clone())));
        let encoder = FlightDataEncoderBuilder::new()
            .with_max_flight_data_size(4 * 1024 * 1024)
            .build(input);
        Ok(Response::new(encoder.map_err(Status::from).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Self::HandshakeStream> {
        Err(Status::unimplemented(""))
    }
    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Err(Status::unimplemented(""))
    }
    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        Err(Status::unimplemented(""))
    }
    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        Err(Status::unimplemented(""))
    }
    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        Err(Status::unimplemented(""))
    }
    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        Err(Status::unimplemented(""))
    }
    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Answer<Self::DoExchangeStream> {
        Err(Status::unimplemented(""))
    }
    async fn do_action(&self, _: Request<Action>) -> Answer<Self::DoActionStream> {
        Err(Status::unimplemented(""))
    }
    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Err(Status::unimplemented(""))
    }
}
