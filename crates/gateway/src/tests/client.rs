//! A Flight client, as any tool has one.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandPreparedStatementQuery, CommandStatementQuery, DoPutPreparedStatementResult,
    ProstMessageExt,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo, Ticket};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A Flight client, one method a call.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) inner: FlightServiceClient<Channel>,
    headers: Vec<(&'static str, String)>,
}

/// A result with all that came with it.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
    pub(super) missing: Option<String>,
    pub(super) last_words: String,
}

impl Fetched {
    pub(super) fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

impl Client {
    pub(super) fn new(inner: FlightServiceClient<Channel>) -> Self {
        Self {
            inner,
            headers: Vec::new(),
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in &self.headers {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        request
    }

    pub(super) async fn info(&self, command: impl ProstMessageExt) -> Result<FlightInfo, Status> {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        Ok(self
            .inner
            .clone()
            .get_flight_info(self.request(descriptor))
            .await?
            .into_inner())
    }

    pub(super) async fn get(&self, ticket: Ticket) -> Result<Fetched, Status> {
        let response = self.inner.clone().do_get(self.request(ticket)).await?;
        let missing = response
            .metadata()
            .get("x-guildhall-missing")
            .map(|v| v.to_str().unwrap().to_owned());
        let messages: Vec<FlightData> = response.into_inner().try_collect().await?;
        let last_words = messages
            .last()
            .map(|m| String::from_utf8(m.app_metadata.to_vec()).unwrap());
        let stream = stream::iter(messages.into_iter().map(Ok::<_, FlightError>)).boxed();
        let mut decoded = FlightRecordBatchStream::new_from_flight_data(stream);
        let mut batches = Vec::new();
        while let Some(batch) = decoded.next().await {
            batches.push(batch.unwrap());
        }
        let schema = decoded.schema().unwrap().clone();
        Ok(Fetched {
            schema,
            batches,
            missing,
            last_words: last_words.unwrap_or_default(),
        })
    }

    pub(super) async fn fetch(&self, info: &FlightInfo) -> Result<Fetched, Status> {
        self.get(info.endpoint[0].ticket.clone().unwrap()).await
    }

    pub(super) async fn ask(&self, sql: &str) -> Result<Fetched, Status> {
        let info = self.info(statement(sql)).await?;
        let fetched = self.fetch(&info).await?;
        let declared = info.try_decode_schema().unwrap();
        assert_eq!(
            *fetched.schema, declared,
            "the stream's schema is the declared one"
        );
        Ok(fetched)
    }

    pub(super) async fn act(&self, name: &str, body: Vec<u8>) -> Result<Vec<Vec<u8>>, Status> {
        let action = Action {
            r#type: name.into(),
            body: body.into(),
        };
        let results = self
            .inner
            .clone()
            .do_action(self.request(action))
            .await?
            .into_inner();
        Ok(results
            .try_collect::<Vec<_>>()
            .await?
            .into_iter()
            .map(|r| r.body.to_vec())
            .collect())
    }

    pub(super) async fn prepare(
        &self,
        sql: &str,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let request = ActionCreatePreparedStatementRequest {
            query: sql.into(),
            transaction_id: None,
        };
        let body = self
            .act("CreatePreparedStatement", request.as_any().encode_to_vec())
            .await?;
        Ok(Any::decode(body[0].as_slice())
            .unwrap()
            .unpack()
            .unwrap()
            .unwrap())
    }

    pub(super) async fn bind(&self, handle: &[u8], batch: RecordBatch) -> Result<Vec<u8>, Status> {
        let command = CommandPreparedStatementQuery {
            prepared_statement_handle: handle.to_vec().into(),
        };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let messages: Vec<FlightData> = arrow_flight::encode::FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(descriptor))
            .build(stream::iter([Ok(batch)]))
            .try_collect()
            .await
            .unwrap();
        let mut results = self
            .inner
            .clone()
            .do_put(self.request(stream::iter(messages)))
            .await?
            .into_inner();
        let result = results.message().await?.unwrap();
        let result = DoPutPreparedStatementResult::decode(result.app_metadata).unwrap();
        Ok(result.prepared_statement_handle.unwrap().to_vec())
    }
}

pub(super) fn statement(sql: &str) -> CommandStatementQuery {
    CommandStatementQuery {
        query: sql.into(),
        transaction_id: None,
    }
}

pub(super) fn prepared(handle: &[u8]) -> CommandPreparedStatementQuery {
    CommandPreparedStatementQuery {
        prepared_statement_handle: handle.to_vec().into(),
    }
}
