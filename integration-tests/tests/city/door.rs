//! The gateway's front door, one Flight call at a time, for what no client of ours would send.

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt,
};
use arrow_flight::{Action, FlightDescriptor, FlightInfo, Ticket};
use futures::TryStreamExt as _;
use guildhall_cli::city::City;
use guildhall_cli::sql::Endpoint;
use prost::Message as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Request, Status};

/// How to connect to the city's gateway as `account`.
pub(crate) fn endpoint(city: &City, account: &str) -> Endpoint {
    let ready = city.ready();
    Endpoint {
        uri: ready.uri.clone(),
        ca: std::fs::read_to_string(&ready.ca).unwrap(),
        account: Some((account.to_owned(), ready.accounts[account].password.clone())),
        certificate: None,
    }
}

/// One connection, with the headers that it sends.
#[derive(Clone)]
pub(crate) struct Door {
    client: FlightServiceClient<Channel>,
    headers: Vec<(&'static str, String)>,
}

impl Door {
    /// A connection without a credential, or with the endpoint's certificate. It comes about
    /// with the first call.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        let address = endpoint.uri.strip_prefix("grpc+tls://").unwrap();
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&endpoint.ca));
        if let Some((chain, key)) = &endpoint.certificate {
            tls = tls.identity(Identity::from_pem(chain, key));
        }
        let channel = Channel::from_shared(format!("https://{address}"))
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect_lazy();
        let client = FlightServiceClient::new(channel).max_encoding_message_size(64 << 20);
        Self {
            client,
            headers: Vec::new(),
        }
    }

    /// Signed in as `account`, for `purpose`.
    pub(crate) async fn signed_in(city: &City, account: &str, purpose: &str) -> Self {
        let endpoint = endpoint(city, account);
        let door = Self::of(&endpoint);
        let (name, password) = endpoint.account.unwrap();
        let token = door.sign_in(&name, &password).await.unwrap();
        door.with("authorization", format!("Bearer {token}"))
            .with("x-guildhall-purpose", purpose)
    }

    /// Trades a password for a token.
    pub(crate) async fn sign_in(&self, name: &str, password: &str) -> Result<String, String> {
        let mut client = FlightSqlServiceClient::new_from_inner(self.client.clone());
        client
            .handshake(name, password)
            .await
            .map_err(|e| e.to_string())?;
        Ok(client.token().cloned().unwrap())
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in &self.headers {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        request
    }

    async fn info(&self, command: impl ProstMessageExt) -> Result<FlightInfo, Status> {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        Ok(self
            .client
            .clone()
            .get_flight_info(self.request(descriptor))
            .await?
            .into_inner())
    }

    /// The ticket for a statement's result.
    pub(crate) async fn ticket(&self, sql: &str) -> Result<Vec<u8>, Status> {
        let command = CommandStatementQuery {
            query: sql.to_owned(),
            transaction_id: None,
        };
        Ok(ticket_of(self.info(command).await?))
    }

    /// The schema of a statement's result.
    pub(crate) async fn schema(&self, sql: &str) -> Result<(), Status> {
        let command = CommandStatementQuery {
            query: sql.to_owned(),
            transaction_id: None,
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        self.client
            .clone()
            .get_schema(self.request(descriptor))
            .await
            .map(drop)
    }

    /// A handle for a prepared statement.
    pub(crate) async fn prepare(&self, sql: &str) -> Result<Vec<u8>, Status> {
        let command = ActionCreatePreparedStatementRequest {
            query: sql.to_owned(),
            transaction_id: None,
        };
        let action = Action {
            r#type: "CreatePreparedStatement".to_owned(),
            body: command.as_any().encode_to_vec().into(),
        };
        let mut results = self
            .client
            .clone()
            .do_action(self.request(action))
            .await?
            .into_inner();
        let body = results.try_next().await?.unwrap().body;
        let made: ActionCreatePreparedStatementResult =
            Any::decode(body).unwrap().unpack().unwrap().unwrap();
        Ok(made.prepared_statement_handle.to_vec())
    }

    /// The ticket for the result of a prepared statement.
    pub(crate) async fn ticket_for(&self, handle: &[u8]) -> Result<Vec<u8>, Status> {
        let command = CommandPreparedStatementQuery {
            prepared_statement_handle: handle.to_vec().into(),
        };
        Ok(ticket_of(self.info(command).await?))
    }

    /// The rows behind a ticket.
    pub(crate) async fn fetch(&self, ticket: &[u8]) -> Result<usize, Status> {
        let request = self.request(Ticket::new(ticket.to_vec()));
        let data = self.client.clone().do_get(request).await?.into_inner();
        let batches =
            FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from));
        let batches: Vec<RecordBatch> = batches.try_collect().await.map_err(|e| match e {
            FlightError::Tonic(status) => *status,
            other => Status::unknown(other.to_string()),
        })?;
        Ok(batches.iter().map(RecordBatch::num_rows).sum())
    }

    /// Asks one statement; how many rows came back.
    pub(crate) async fn ask(&self, sql: &str) -> Result<usize, Status> {
        self.fetch(&self.ticket(sql).await?).await
    }
}

fn ticket_of(info: FlightInfo) -> Vec<u8> {
    info.endpoint[0].ticket.clone().unwrap().ticket.to_vec()
}
