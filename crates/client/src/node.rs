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
    cell_status: bool,
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
            .map_err(|source| ClientError::Setup {
                who: who.clone(),
                source,
            })?;
        Ok(Self::over(channel, who))
    }

    /// A node over a channel made elsewhere; `who` names it in errors.
    #[must_use]
    pub fn over(channel: Channel, who: String) -> Self {
        let stub = Stub::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self {
            who,
            stub,
            first_answer: FIRST_ANSWER,
            cell_status: false,
        }
    }

    /// Waits no longer than this for the schema, which a node sends before it reads rows;
    /// half a minute if never set. What follows is not timed here.
    #[must_use]
    pub fn with_first_answer(self, first_answer: Duration) -> Self {
        Self {
            first_answer,
            ..self
        }
    }

    /// Whether each released value of an answer of cells is to have a companion that says what was done to it; no if
    /// never set.
    #[must_use]
    pub fn with_cell_status(self, cell_status: bool) -> Self {
        Self {
            cell_status,
            ..self
        }
    }

    /// Runs a fragment under a grant.
    ///
    /// # Errors
    /// If the node refuses, is away, or its first message is not a schema.
    pub async fn run(
        &self,
        grant: Envelope,
        fragment: Bytes,
    ) -> Result<(SchemaRef, BatchStream), ClientError> {
        let (first, rest) = self.start(grant, fragment).await?;
        let who = self.who.clone();
        let schema =
            decode_schema(&first).map_err(|e| ClientError::malformed(&who, e.to_string()))?;
        let of = schema.clone();
        let batches = rest.and_then(move |message| {
            let batch = decode_batch(&of, &message)
                .map_err(|e| ClientError::malformed(&who, e.to_string()));
            std::future::ready(batch)
        });
        Ok((schema, batches.boxed()))
    }

    /// Runs a fragment under a grant and hands its messages on as they come, the schema
    /// first, for a gateway that only relays them. Nothing of them is checked.
    ///
    /// # Errors
    /// If the node refuses or is away.
    pub async fn run_messages(
        &self,
        grant: Envelope,
        fragment: Bytes,
    ) -> Result<MessageStream, ClientError> {
        let (first, rest) = self.start(grant, fragment).await?;
        Ok(futures::stream::once(std::future::ready(Ok(first)))
            .chain(rest)
            .boxed())
    }

    async fn start(
        &self,
        grant: Envelope,
        fragment: Bytes,
    ) -> Result<(ArrowMessage, MessageStream), ClientError> {
        let mut stub = self.stub.clone();
        let first = async {
            let request = RunRequest {
                grant: Some(grant),
                fragment,
                cell_status: self.cell_status,
            };
            let mut stream = stub
                .run(request)
                .await
                .map_err(|s| ClientError::from_status(&self.who, &s))?
                .into_inner();
            match stream.message().await {
                Ok(Some(first)) => Ok((first, stream)),
                Ok(None) => Err(ClientError::malformed(
                    &self.who,
                    "it ended before the schema",
                )),
                Err(status) => Err(ClientError::from_status(&self.who, &status)),
            }
        };
        let (first, stream) = tokio::time::timeout(self.first_answer, first)
            .await
            .unwrap_or_else(|_| {
                Err(ClientError::Deadline {
                    who: self.who.clone(),
                    within: self.first_answer,
                })
            })?;
        let who = self.who.clone();
        Ok((
            first,
            stream
                .map_err(move |status| ClientError::from_status(&who, &status))
                .boxed(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Council, NODE, batch};
    use guildhall_identity::Running;
    use std::time::Instant;
    use tonic::Code;

    fn client(council: &Council, node: &Running) -> NodeClient {
        NodeClient::new(
            &council.gateway(),
            &node.address().to_string(),
            &NODE.parse().unwrap(),
        )
        .unwrap()
    }

    async fn run(client: &NodeClient, what: &'static str) -> Result<Vec<RecordBatch>, ClientError> {
        let (_, stream) = client
            .run(Envelope::default(), Bytes::from_static(what.as_bytes()))
            .await?;
        stream.try_collect().await
    }

    #[tokio::test]
    async fn batches_arrive_as_they_were_released() {
        let council = Council::new("northmoor");
        let (node, _) = council.node().await;
        let batches = run(&client(&council, &node), "rows").await.unwrap();
        assert_eq!(batches, [batch(1000), batch(1000), batch(1000)]);
    }

    #[tokio::test]
    async fn raw_messages_are_those_of_the_node_schema_first() {
        let council = Council::new("northmoor");
        let (node, _) = council.node().await;
        let stream = client(&council, &node)
            .run_messages(Envelope::default(), Bytes::from_static(b"rows"))
            .await
            .unwrap();
        let messages: Vec<_> = stream.try_collect().await.unwrap();
        let schema = decode_schema(&messages[0]).unwrap();
        assert_eq!(messages.len(), 4);
        assert_eq!(decode_batch(&schema, &messages[3]).unwrap(), batch(1000));
    }

    #[tokio::test]
    async fn a_refusal_keeps_the_nodes_code_and_words() {
        let council = Council::new("northmoor");
        let (node, _) = council.node().await;
        let refused = run(&client(&council, &node), "refuse").await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(refused.message(), Some("forbidden by `residents-only`"));
        assert!(!refused.is_away());
        let later = run(&client(&council, &node), "fail later")
            .await
            .unwrap_err();
        assert_eq!(
            (later.code(), later.message()),
            (Code::Internal, Some("reference r-1"))
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_none_names_the_node() {
        let council = Council::new("northmoor");
        let (node, _) = council.node().await;
        for what in ["nothing", "nonsense"] {
            let refused = run(&client(&council, &node), what).await.unwrap_err();
            assert!(
                matches!(refused, ClientError::Malformed { .. }),
                "{refused}"
            );
            assert_eq!(refused.who(), "department `parking` of northmoor");
        }
    }

    #[tokio::test]
    async fn dropping_the_stream_stops_the_node() {
        let council = Council::new("northmoor");
        let (node, mut endings) = council.node().await;
        let client = client(&council, &node);
        let (_, mut stream) = client
            .run(Envelope::default(), Bytes::from_static(b"endless"))
            .await
            .unwrap();
        stream.next().await.unwrap().unwrap();
        let started = Instant::now();
        drop(stream);
        assert_eq!(endings.recv().await, Some("dropped"));
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
        // Raw streams, too, before the first batch is read.
        let raw = client
            .run_messages(Envelope::default(), Bytes::from_static(b"endless"))
            .await
            .unwrap();
        let started = Instant::now();
        drop(raw);
        assert_eq!(endings.recv().await, Some("dropped"));
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
    }

    #[tokio::test]
    async fn giving_up_on_the_first_answer_stops_the_node() {
        let council = Council::new("northmoor");
        let (node, _) = council.node().await;
        let client = client(&council, &node).with_first_answer(Duration::from_millis(200));
        let late = run(&client, "never").await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        assert!(
            late.to_string()
                .starts_with("department `parking` of northmoor did not answer")
        );
    }

    #[tokio::test]
    async fn messages_are_at_most_sixteen_megabytes() {
        let council = Council::new("northmoor");
        let (node, _) = council.node().await;
        let client = client(&council, &node);
        let fits = client
            .run_messages(Envelope::default(), Bytes::from_static(b"16000000"))
            .await
            .unwrap();
        assert_eq!(
            fits.try_collect::<Vec<_>>().await.unwrap()[1].body.len(),
            16_000_000
        );
        let large = client
            .run_messages(Envelope::default(), Bytes::from_static(b"17000000"))
            .await
            .unwrap();
        let refused = large.try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        assert!(
            refused.to_string().contains("limit is: 16777216 bytes"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_node_that_is_away_is_named_with_its_address() {
        let council = Council::new("northmoor");
        let (node, _) = council.node().await;
        let client = client(&council, &node);
        let address = node.address().to_string();
        node.stop().await;
        let started = Instant::now();
        let away = run(&client, "rows").await.unwrap_err();
        assert!(away.is_away());
        let chain = guildhall_telemetry::error_chain(&away);
        assert_eq!(
            chain,
            format!(
                "department `parking` of northmoor is away: cannot connect to `{NODE}` at `{address}`: \
                 Connection refused (os error 111)"
            )
        );
        assert!(started.elapsed() < Duration::from_secs(4));
    }

    #[tokio::test]
    async fn a_node_cut_off_in_the_middle_is_away() {
        let council = Council::new("northmoor");
        let (node, _) = council.node().await;
        let client = client(&council, &node);
        let (_, mut stream) = client
            .run(Envelope::default(), Bytes::from_static(b"endless"))
            .await
            .unwrap();
        stream.next().await.unwrap().unwrap();
        node.kill().await;
        let error = loop {
            match stream.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("a cut stream must not look like an ended one"),
            }
        };
        assert!(error.is_away(), "{error}");
    }
}
