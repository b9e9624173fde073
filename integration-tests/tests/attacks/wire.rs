//! The attacker's side of the wire: raw gRPC messages out, and every byte that comes back.
//!
//! The codec hands over messages as they arrive, so that what is searched for canaries is what was sent and not what
//! a decoder made of it. Headers and trailers are kept as well; batches are decoded beside that, for the verdicts.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo, Ticket};
use futures::{StreamExt as _, stream};
use guildhall_testkit::TestCity;
use prost::Message;
use prost::bytes::{Buf as _, BufMut as _};
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Code, Request, Status};

/// Longest that any one call may take. A call that takes longer is a failure of the system.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest message that is taken.
const LARGEST: usize = 64 << 20;

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

/// What one call brought back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) messages: Vec<Vec<u8>>,
    /// Headers and trailers, `name: value`.
    pub(crate) headers: Vec<Vec<u8>>,
    /// Why it ended early, if it did.
    pub(crate) refused: Option<(Code, String)>,
}

impl Reply {
    /// Every byte of it, parts parted by a zero.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let words = self.refused.iter().map(|(_, words)| words.as_bytes());
        let parts = self.headers.iter().chain(&self.messages);
        parts
            .map(Vec::as_slice)
            .chain(words)
            .collect::<Vec<_>>()
            .join(&0)
    }

    fn of(status: Status) -> Self {
        let mut reply = Self {
            messages: Vec::new(),
            headers: Vec::new(),
            refused: None,
        };
        reply.end(&status);
        reply
    }

    fn end(&mut self, status: &Status) {
        self.keep(status.metadata());
        self.headers.push(status.details().to_vec());
        self.refused = Some((status.code(), status.message().to_owned()));
    }

    fn keep(&mut self, metadata: &MetadataMap) {
        for entry in metadata.iter() {
            let (name, value) = match entry {
                KeyAndValueRef::Ascii(k, v) => (k.as_str(), v.as_encoded_bytes().to_vec()),
                KeyAndValueRef::Binary(k, v) => (k.as_str(), v.as_encoded_bytes().to_vec()),
            };
            let mut line = format!("{name}: ").into_bytes();
            line.extend(value);
            self.headers.push(line);
        }
    }

    /// The values of the header `name`.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let start = format!("{name}: ");
        let line = self
            .headers
            .iter()
            .find(|h| h.starts_with(start.as_bytes()))?;
        Some(String::from_utf8_lossy(&line[start.len()..]).into_owned())
    }

    /// The first message, read as `M`.
    pub(crate) fn first<M: Message + Default>(&self) -> Option<M> {
        M::decode(self.messages.first()?.as_slice()).ok()
    }
}

/// An account's connection to the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Attacker {
    channel: Channel,
    headers: Vec<(String, String)>,
}

/// What came of one statement.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) replies: Vec<Reply>,
    /// The rows, or the code and words of the refusal.
    pub(crate) answer: Result<RecordBatch, (Code, String)>,
}

impl Attacker {
    /// A connection without a credential.
    pub(crate) fn stranger(town: &TestCity) -> Self {
        let ready = town.city.ready();
        let address = ready.uri.strip_prefix("grpc+tls://").unwrap();
        let ca = std::fs::read_to_string(&ready.ca).unwrap();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        let channel = Channel::from_shared(format!("https://{address}"))
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect_lazy();
        Self {
            channel,
            headers: Vec::new(),
        }
    }

    /// Signed in as `account`, asking for `purpose`.
    pub(crate) async fn signed_in(town: &TestCity, account: &str, purpose: &str) -> Self {
        let stranger = Self::stranger(town);
        let password = &town.city.ready().accounts[account].password;
        let mut pair = crate::net::base64(format!("{account}:{password}").as_bytes());
        pair.resize(pair.len().next_multiple_of(4), b'=');
        let basic = format!("Basic {}", String::from_utf8(pair).unwrap());
        let reply = stranger
            .clone()
            .with("authorization", &basic)
            .call("Handshake", vec![Vec::new()])
            .await;
        let token = reply.header("authorization").unwrap();
        stranger
            .with("authorization", &token)
            .with("x-guildhall-purpose", purpose)
    }

    /// With one more header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With `value` in place of what the header was.
    pub(crate) fn instead(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self.with(name, value)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(n, _)| n == name).unwrap().1
    }

    /// Sends `messages` to one method of the Flight service and takes all that comes back.
    pub(crate) async fn call(&self, method: &str, messages: Vec<Vec<u8>>) -> Reply {
        match tokio::time::timeout(PATIENCE, self.exchange(method, messages, usize::MAX)).await {
            Ok(reply) => reply,
            Err(_) => Reply::of(Status::deadline_exceeded(
                "the attacker's patience is at an end",
            )),
        }
    }

    /// As [`Attacker::call`], but hangs up after `most` messages.
    pub(crate) async fn exchange(
        &self,
        method: &str,
        messages: Vec<Vec<u8>>,
        most: usize,
    ) -> Reply {
        let mut grpc = Grpc::new(self.channel.clone())
            .max_decoding_message_size(LARGEST)
            .max_encoding_message_size(LARGEST);
        if let Err(e) = grpc.ready().await {
            return Reply::of(Status::unavailable(e.to_string()));
        }
        let mut request = Request::new(stream::iter(messages));
        for (name, value) in &self.headers {
            let name: tonic::metadata::AsciiMetadataKey = name.parse().unwrap();
            request.metadata_mut().append(name, value.parse().unwrap());
        }
        let path = format!("/arrow.flight.protocol.FlightService/{method}");
        let path: PathAndQuery = path.parse().unwrap();
        let response = match grpc.streaming(request, path, Raw).await {
            Ok(response) => response,
            Err(status) => return Reply::of(status),
        };
        let mut reply = Reply {
            messages: Vec::new(),
            headers: Vec::new(),
            refused: None,
        };
        reply.keep(response.metadata());
        let mut body = response.into_inner();
        while reply.messages.len() < most {
            match body.message().await {
                Ok(Some(message)) => reply.messages.push(message),
                Ok(None) => break,
                Err(status) => {
                    reply.end(&status);
                    return reply;
                }
            }
        }
        if most == usize::MAX
            && let Ok(Some(trailers)) = body.trailers().await
        {
            reply.keep(&trailers);
        }
        reply
    }

    /// Asks for a command's FlightInfo and fetches its result.
    pub(crate) async fn command(&self, command: Vec<u8>) -> Outcome {
        let descriptor = FlightDescriptor::new_cmd(command).encode_to_vec();
        let reply = self.call("GetFlightInfo", vec![descriptor]).await;
        let Some(info) = reply.first::<FlightInfo>() else {
            return Outcome::refused(vec![reply]);
        };
        let ticket = info
            .endpoint
            .first()
            .and_then(|e| e.ticket.clone())
            .unwrap_or_default();
        let rows = self.call("DoGet", vec![ticket.encode_to_vec()]).await;
        Outcome::read(vec![reply, rows]).await
    }

    /// Asks one statement.
    pub(crate) async fn ask(&self, sql: &str) -> Outcome {
        self.command(statement(sql)).await
    }

    /// Prepares one statement, and runs it.
    pub(crate) async fn prepare(&self, sql: &str) -> Outcome {
        let reply = self.call("DoAction", vec![prepare(sql)]).await;
        let Some(handle) = handle_of(&reply) else {
            return Outcome::refused(vec![reply]);
        };
        let command = CommandPreparedStatementQuery {
            prepared_statement_handle: handle.into(),
        };
        let mut outcome = self.command(command.as_any().encode_to_vec()).await;
        outcome.replies.insert(0, reply);
        outcome
    }

    /// The ticket for a statement's result.
    pub(crate) async fn ticket(&self, sql: &str) -> Vec<u8> {
        let descriptor = FlightDescriptor::new_cmd(statement(sql)).encode_to_vec();
        let reply = self.call("GetFlightInfo", vec![descriptor]).await;
        let info: FlightInfo = reply.first().unwrap();
        info.endpoint[0].ticket.clone().unwrap().ticket.to_vec()
    }

    /// The rows behind a ticket.
    pub(crate) async fn fetch(&self, ticket: &[u8]) -> Outcome {
        let message = Ticket::new(ticket.to_vec()).encode_to_vec();
        Outcome::read(vec![self.call("DoGet", vec![message]).await]).await
    }
}

impl Outcome {
    fn refused(replies: Vec<Reply>) -> Self {
        let answer = Err(refusal_of(&replies));
        Self { replies, answer }
    }

    /// Reads the last reply as a stream of batches.
    async fn read(replies: Vec<Reply>) -> Self {
        let last = replies.last().unwrap();
        if last.refused.is_some() {
            return Self::refused(replies);
        }
        let data: Vec<Result<FlightData, FlightError>> = last
            .messages
            .iter()
            .map(|m| {
                FlightData::decode(m.as_slice())
                    .map_err(|e| FlightError::DecodeError(e.to_string()))
            })
            .collect();
        let mut batches = FlightRecordBatchStream::new_from_flight_data(stream::iter(data));
        let mut read = Vec::new();
        while let Some(batch) = batches.next().await {
            read.push(batch.unwrap());
        }
        let schema = batches.schema().unwrap().clone();
        let answer = Ok(concat_batches(&schema, &read).unwrap());
        Self { replies, answer }
    }

    /// Every byte that came back.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.replies
            .iter()
            .map(Reply::bytes)
            .collect::<Vec<_>>()
            .join(&0)
    }

    /// The rows as text.
    pub(crate) fn rows(&self) -> Result<Vec<String>, (Code, String)> {
        self.answer
            .as_ref()
            .map(|batch| guildhall_testkit::rows(batch).unwrap())
            .map_err(Clone::clone)
    }
}

fn refusal_of(replies: &[Reply]) -> (Code, String) {
    let last = replies.last().and_then(|r| r.refused.clone());
    last.unwrap_or((Code::Unknown, "neither an answer nor a refusal".to_owned()))
}

/// The command that asks `sql`.
pub(crate) fn statement(sql: &str) -> Vec<u8> {
    let command = CommandStatementQuery {
        query: sql.to_owned(),
        transaction_id: None,
    };
    command.as_any().encode_to_vec()
}

/// The action that prepares `sql`.
pub(crate) fn prepare(sql: &str) -> Vec<u8> {
    let command = ActionCreatePreparedStatementRequest {
        query: sql.to_owned(),
        transaction_id: None,
    };
    action("CreatePreparedStatement", command.as_any().encode_to_vec())
}

pub(crate) fn action(name: &str, body: Vec<u8>) -> Vec<u8> {
    let action = Action {
        r#type: name.to_owned(),
        body: body.into(),
    };
    action.encode_to_vec()
}

/// The handle of a statement that was prepared.
pub(crate) fn handle_of(reply: &Reply) -> Option<Vec<u8>> {
    let result: arrow_flight::Result = reply.first()?;
    let made: ActionCreatePreparedStatementResult =
        Any::decode(result.body).ok()?.unpack().ok()??;
    Some(made.prepared_statement_handle.to_vec())
}

/// What a statement answers, which must be an answer.
pub(crate) async fn rows(attacker: &Attacker, sql: &str) -> Vec<String> {
    attacker
        .ask(sql)
        .await
        .rows()
        .unwrap_or_else(|(code, words)| panic!("{sql}: {code:?} {words}"))
}
