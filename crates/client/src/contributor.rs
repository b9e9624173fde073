//! A department's node, as a clean room calls it.

use crate::error::ClientError;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use guildhall_identity::{Dialer, Expect, MAX_MESSAGE_BYTES};
use guildhall_model::PeerId;
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::node::v1::contributor_client::ContributorClient as Stub;
use guildhall_proto::node::v1::{Contribution, RunRequest};
use tonic::transport::Channel;

/// A node's part of cells, message by message; nothing of them is checked. Dropping it stops the node's work.
pub type ContributionStream = BoxStream<'static, Result<Contribution, ClientError>>;

/// Calls one node for its part of cells.
#[derive(Debug, Clone)]
pub struct ContributorClient {
    who: String,
    stub: Stub<Channel>,
}

impl ContributorClient {
    /// The node that is `peer`, at `address`; connects when first called.
    ///
    /// # Errors
    /// If `address` is not `host:port`.
    pub fn new(dialer: &Dialer, address: &str, peer: &PeerId) -> Result<Self, ClientError> {
        let who = format!("department `{}` of {}", peer.department, peer.council);
        let channel = dialer.channel(address, Expect::Peer(peer.clone()));
        let channel = channel.map_err(|source| ClientError::Setup {
            who: who.clone(),
            source,
        })?;
        let stub = Stub::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { who, stub })
    }

    /// Asks for the node's part of the cells that `fragment` names, under a grant that names us. It may be long in
    /// coming: the deadline is the caller's.
    ///
    /// # Errors
    /// If the node refuses or is away.
    pub async fn contribute(
        &self,
        grant: Envelope,
        fragment: Bytes,
    ) -> Result<ContributionStream, ClientError> {
        let request = RunRequest {
            grant: Some(grant),
            fragment,
            cell_status: false,
        };
        let who = self.who.clone();
        let failed = move |status| ClientError::from_status(&who, &status);
        let stream = self.stub.clone().contribute(request).await;
        let stream = stream.map_err(&failed)?.into_inner();
        Ok(stream.map_err(failed).boxed())
    }
}
