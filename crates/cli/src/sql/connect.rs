//! A Flight SQL connection to a gateway.

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt as _};
use arrow_flight::{FlightDescriptor, HandshakeRequest};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Request, Status};

/// The largest message that is taken.
const MAX_MESSAGE: usize = 16 << 20;

/// Where a gateway is, and who asks.
#[derive(Clone, Default)]
pub struct Endpoint {
    /// `grpc+tls://host:port`.
    pub uri: String,
    /// The certificate authority, PEM.
    pub ca: String,
    /// Name and password.
    pub account: Option<(String, String)>,
    /// Certificate chain and key, PEM.
    pub certificate: Option<(String, String)>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("uri", &self.uri)
            .field("account", &self.account.as_ref().map(|(name, _)| name))
            .field("certificate", &self.certificate.is_some())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// From the file that `guildhall demo --ready-file` writes; the first account unless named.
    pub fn from_ready_file(file: &Path, account: Option<&str>) -> Result<Self> {
        let shown = file.display();
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read `{shown}`"))?;
        let ready: serde_json::Value = serde_json::from_str(&text)
            .with_context(|| format!("`{shown}` is not a ready file"))?;
        let field = |name: &str| {
            ready[name]
                .as_str()
                .with_context(|| format!("`{shown}` has no `{name}`"))
        };
        let accounts = ready["accounts"]
            .as_object()
            .with_context(|| format!("`{shown}` has no `accounts`"))?;
        let (name, details) = match account {
            Some(name) => accounts
                .get_key_value(name)
                .with_context(|| format!("`{shown}` has no account `{name}`"))?,
            None => accounts
                .iter()
                .next()
                .with_context(|| format!("`{shown}` has no account"))?,
        };
        let password = details["password"]
            .as_str()
            .with_context(|| format!("`{shown}` has no password for `{name}`"))?;
        let ca = field("ca")?;
        Ok(Self {
            uri: field("uri")?.to_owned(),
            ca: std::fs::read_to_string(ca).with_context(|| format!("cannot read `{ca}`"))?,
            account: Some((name.clone(), password.to_owned())),
            certificate: None,
        })
    }
}

/// What a gateway said no with, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// gRPC's code.
    pub code: tonic::Code,
    /// The gateway's message.
    pub message: String,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self {
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

/// A signed-in connection.
#[derive(Debug, Clone)]
pub struct Connection {
    client: FlightServiceClient<Channel>,
    token: Option<MetadataValue<Ascii>>,
    cookies: Vec<String>,
    /// Sent with every statement.
    pub purpose: Option<String>,
}

impl Connection {
    /// Connects, and signs in if the endpoint has an account.
    pub async fn open(endpoint: &Endpoint, purpose: Option<String>) -> Result<Self> {
        let Some(address) = endpoint.uri.strip_prefix("grpc+tls://") else {
            bail!("`{}` is not of the form grpc+tls://HOST:PORT", endpoint.uri);
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&endpoint.ca));
        if let Some((cert, key)) = &endpoint.certificate {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let channel = Channel::from_shared(format!("https://{address}"))
            .with_context(|| format!("`{}` is not an address", endpoint.uri))?
            .tls_config(tls)
            .context("cannot use the certificates")?
            .connect_timeout(Duration::from_secs(5))
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(1 << 20)
            .connect()
            .await
            .with_context(|| format!("cannot reach the gateway at `{address}`"))?;
        let client = FlightServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let mut connection = Self {
            client,
            token: None,
            cookies: Vec::new(),
            purpose,
        };
        if let Some((name, password)) = &endpoint.account {
            connection.sign_in(name, password).await?;
        }
        Ok(connection)
    }

    async fn sign_in(&mut self, name: &str, password: &str) -> Result<(), Refused> {
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        let mut request = Request::new(futures::stream::iter([HandshakeRequest::default()]));
        let value = format!("Basic {basic}").parse().map_err(|_| {
            Status::invalid_argument("the account's name or password cannot be sent")
        })?;
        request.metadata_mut().insert("authorization", value);
        let response = self.client.handshake(request).await?;
        self.token = response.metadata().get("authorization").cloned();
        Ok(())
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Refused> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        if let Some(token) = &self.token {
            metadata.insert("authorization", token.clone());
        }
        let unsendable =
            |what: &str| Status::invalid_argument(format!("the {what} cannot be sent as a header"));
        if let Some(purpose) = &self.purpose {
            let value = purpose.parse().map_err(|_| unsendable("purpose"))?;
            metadata.insert("x-guildhall-purpose", value);
        }
        if !self.cookies.is_empty() {
            let value = self
                .cookies
                .join("; ")
                .parse()
                .map_err(|_| unsendable("cookie"))?;
            metadata.insert("cookie", value);
        }
        Ok(request)
    }

    /// Asks one statement.
    pub async fn query(&mut self, statement: &str) -> Result<Answer, Refused> {
        use prost::Message as _;
        let command = CommandStatementQuery {
            query: statement.to_owned(),
            transaction_id: None,
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let info = self
            .client
            .get_flight_info(self.request(descriptor)?)
            .await?;
        self.keep_cookies(info.metadata());
        let info = info.into_inner();
        let schema = info
            .clone()
            .try_decode_schema()
            .map_err(|e| Status::internal(format!("the answer has no schema: {e}")))?;
        let ticket = info
            .endpoint
            .into_iter()
            .next()
            .and_then(|e| e.ticket)
            .ok_or_else(|| Status::internal("the answer has no ticket"))?;
        let data = self
            .client
            .do_get(self.request(ticket)?)
            .await?
            .into_inner();
        let (note, notes) = std::sync::mpsc::channel();
        let data = data.map_err(FlightError::from).inspect_ok(move |message| {
            if !message.app_metadata.is_empty() {
                // Nobody listens once the answer has been dropped.
                let _unheard =
                    note.send(String::from_utf8_lossy(&message.app_metadata).into_owned());
            }
        });
        let batches = FlightRecordBatchStream::new_from_flight_data(data).map_err(|e| match e {
            FlightError::Tonic(status) => Refused::from(*status),
            other => Refused {
                code: tonic::Code::Internal,
                message: other.to_string(),
            },
        });
        Ok(Answer {
            schema: schema.into(),
            batches: batches.boxed(),
            notes,
        })
    }

    fn keep_cookies(&mut self, metadata: &tonic::metadata::MetadataMap) {
        for cookie in metadata.get_all("set-cookie") {
            let Some(pair) = cookie.to_str().ok().and_then(|c| c.split(';').next()) else {
                continue;
            };
            let name = pair.split('=').next().unwrap_or(pair);
            self.cookies
                .retain(|known| known.split('=').next() != Some(name));
            self.cookies.push(pair.trim().to_owned());
        }
    }
}

/// Batches as they arrive; dropping it stops the query.
pub struct Answer {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, Refused>>,
    notes: std::sync::mpsc::Receiver<String>,
}

impl Answer {
    /// The columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What the gateway remarked beside the rows, such as who is missing from a partial answer.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.notes.try_iter().collect()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({} columns)", self.schema.fields().len())
    }
}

impl Stream for Answer {
    type Item = Result<RecordBatch, Refused>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(cx)
    }
}
