//! The same engine behind bare Arrow Flight over TLS: no grants, no keys, no plan to check.

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use datafusion::prelude::SessionContext;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use guildhall_cli::city::City;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// Serves statements as tickets until the process ends, with the gateway's own certificate.
pub(crate) async fn serve(context: SessionContext, city: &City) -> Result<SocketAddr> {
    let identity = &city.gateway_config().identity;
    let (chain, key) = (
        std::fs::read(identity.join("chain.pem")).context("the gateway has no certificate")?,
        std::fs::read(identity.join("key.pem"))?,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(Identity::from_pem(chain, key)))?
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(1 << 20)
        .add_service(FlightServiceServer::new(Bare(context)).max_encoding_message_size(16 << 20))
        .serve_with_incoming(TcpListenerStream::new(listener));
    guildhall_telemetry::spawn(server);
    Ok(address)
}

pub(crate) async fn connect(
    address: SocketAddr,
    city: &City,
) -> Result<FlightServiceClient<Channel>> {
    let ca = Certificate::from_pem(std::fs::read(&city.ready().ca)?);
    let channel = Channel::from_shared(format!("https://localhost:{}", address.port()))?
        .tls_config(ClientTlsConfig::new().ca_certificate(ca))?
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(1 << 20)
        .connect()
        .await?;
    Ok(FlightServiceClient::new(channel).max_decoding_message_size(16 << 20))
}

/// The batches of one statement.
pub(crate) async fn query(
    client: &mut FlightServiceClient<Channel>,
    statement: &str,
) -> Result<BoxStream<'static, Result<RecordBatch, FlightError>>> {
    let data = client
        .do_get(Ticket::new(statement.to_owned()))
        .await?
        .into_inner();
    let batches = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(
        data.map_err(FlightError::from),
    );
    Ok(batches.boxed())
}

struct Bare(SessionContext);

type Answer<T> = Result<Response<BoxStream<'static, Result<T, Status>>>, Status>;

fn not_here<T>() -> Result<T, Status> {
    Err(Status::unimplemented("only DoGet"))
}

#[tonic::async_trait]
impl FlightService for Bare {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Answer<FlightData> {
        let internal = |e: datafusion::error::DataFusionError| Status::internal(e.to_string());
        let statement = String::from_utf8_lossy(&request.get_ref().ticket).into_owned();
        let frame = self.0.sql(&statement).await.map_err(internal)?;
        let batches = frame.execute_stream().await.map_err(internal)?;
        let data = FlightDataEncoderBuilder::new()
            .build(batches.map_err(|e| FlightError::ExternalError(Box::new(e))))
            .map_err(Status::from);
        Ok(Response::new(data.boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<HandshakeResponse> {
        not_here()
    }
    async fn list_flights(&self, _: Request<Criteria>) -> Answer<FlightInfo> {
        not_here()
    }
    async fn get_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        not_here()
    }
    async fn poll_flight_info(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        not_here()
    }
    async fn get_schema(
        &self,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        not_here()
    }
    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<PutResult> {
        not_here()
    }
    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<FlightData> {
        not_here()
    }
    async fn do_action(&self, _: Request<Action>) -> Answer<arrow_flight::Result> {
        not_here()
    }
    async fn list_actions(&self, _: Request<Empty>) -> Answer<ActionType> {
        not_here()
    }
}
