//! A department's node.

use crate::arrow_message::{decode_batch, decode_schema};
use crate::error::ClientError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use guildhall_identity::{Dialer, Expect, MAX_MESSAGE_BYTES};
use guildhall_model::PeerId;
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::node::v1::node_client::NodeClient as Stub;
use guildhall_proto::node::v1::{ArrowMessage, RunRequest};
use std::time::Duration;
use tonic::transport::Channel;

const FIRST_ANSWER: Duration = Duration::from_secs(30);

/// What a node released, batch by batch. Dropping it stops the node's work.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, ClientError>>;

/// What a node released, as it came: the schema first. Dropping it stops the node's work.
pub type MessageStream = BoxStream<'static, Result<ArrowMessage, ClientError>>;

/// Calls one node. Clones share its connection.
#[derive(Debug, Clone)]
pub struct NodeClient {
    who: String,
    stub: Stub<Channel>,
    first_answer: Duration,
}

impl NodeClient {
    /// The node that is `peer`, at `address`; connects when first called.
    ///
    /// # Errors
    /// If `address` is not `host:port`.
    pub fn new(dialer: &Dialer, address: &str, peer: &PeerId) -> Result<Self, ClientError> {
        let who = format!("department `{}` of {}", peer.department, peer.council);
        let channel = dialer
            .channel(address, Expect::Peer(peer.clone()))
            .map_err(|source| ClientError::Setup { who: who.clone(), source })?;
        Ok(Self::over(channel, who))
    }

    /// A node over a channel made elsewhere; `who` names it in errors.
    #[must_use]
    pub fn over(channel: Channel, who: String) -> Self {
        let stub = Stub::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self { who, stub, first_answer: FIRST_ANSWER }
    }

    /// Waits no longer than this for the schema, which a node sends before it reads rows;
    /// half a minute if never set. What follows is not timed here.
    #[must_use]
    pub fn with_first_answer(self, first_answer: Duration) -> Self {
        Self { first_answer, ..self }
    }

    /// Runs a fragment under a grant.
    ///
    /// # Errors
    /// If the node refuses, is away, or its first message is not a schema.
    pub async fn run(&self, grant: Envelope, fragment: Bytes) -> Result<(SchemaRef, BatchStream), ClientError> {
        let (first, rest) = self.start(grant, fragment).await?;
        let who = self.who.clone();
        let schema = decode_schema(&first).map_err(|e| ClientError::malformed(&who, e.to_string()))?;
        let of = schema.clone();
        let batches = rest.and_then(move |message| {
            let batch = decode_batch(&of, &message).map_err(|e| ClientError::malformed(&who, e.to_string()));
            std::future::ready(batch)
        });
        Ok((schema, batches.boxed()))
    }

    /// Runs a fragment under a grant and hands its messages on as they come, the schema
    /// first, for a gateway that only relays them. Nothing of them is checked.
    ///
    /// # Errors
    /// If the node refuses or is away.
    pub async fn run_messages(&self, grant: Envelope, fragment: Bytes) -> Result<MessageStream, ClientError> {
        let (first, rest) = self.start(grant, fragment).await?;
        Ok(futures::stream::once(std::future::ready(Ok(first))).chain(rest).boxed())
    }

    async fn start(&self, grant: Envelope, fragment: Bytes) -> Result<(ArrowMessage, MessageStream), ClientError> {
        let mut stub = self.stub.clone();
        let first = async {
            let request = RunRequest { grant: Some(grant), fragment };
            let mut stream =
                stub.run(request).await.map_err(|s| ClientError::from_status(&self.who, &s))?.into_inner();
            match stream.message().await {
                Ok(Some(first)) => Ok((first, stream)),
                Ok(None) => Err(ClientError::malformed(&self.who, "it ended before the schema")),
                Err(status) => Err(ClientError::from_status(&self.who, &status)),
            }
        };
        let (first, stream) = tokio::time::timeout(self.first_answer, first).await.unwrap_or_else(|_| {
            Err(ClientError::Deadline { who: self.who.clone(), within: self.first_answer })
        })?;
        let who = self.who.clone();
        Ok((first, stream.map_err(move |status| ClientError::from_status(&who, &status)).boxed()))
    }
}
