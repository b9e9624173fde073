//! The authorities, nodes and the clean room, over mutual TLS.

use crate::backend::{Backend, Messages, Party, PartyError};
use crate::clean_room::CleanRoomClient;
use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use guildhall_client::{AuthorityClient, ClientError, NodeClient};
use guildhall_identity::Dialer;
use guildhall_model::{CouncilName, PeerId, Purpose};
use guildhall_plan::remote::Fragment;
use guildhall_proto::authority::v1::{
    CatalogueRequest, CatalogueResponse, Credential, IssueGrantsRequest, ProductBudget,
};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_telemetry::error_chain;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use tonic::Code;

/// Connections to nodes that are kept.
const MOST_NODES: usize = 1024;

/// The parties of the configured councils.
pub(crate) struct Net {
    dialer: Dialer,
    authorities: BTreeMap<CouncilName, AuthorityClient>,
    nodes: Mutex<HashMap<(PeerId, String), NodeClient>>,
    clean_room: Option<CleanRoomClient>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("councils", &self.authorities.keys())
            .finish_non_exhaustive()
    }
}

impl Net {
    pub(crate) fn new(
        dialer: Dialer,
        authorities: BTreeMap<CouncilName, AuthorityClient>,
        clean_room: Option<CleanRoomClient>,
    ) -> Self {
        Self {
            dialer,
            authorities,
            nodes: Mutex::default(),
            clean_room,
        }
    }

    fn authority(&self, council: &CouncilName) -> Result<&AuthorityClient, PartyError> {
        self.authorities
            .get(council)
            .ok_or_else(|| PartyError::Away(Party::Authority(council.clone())))
    }

    fn node(&self, fragment: &Fragment) -> Result<NodeClient, PartyError> {
        // A panic elsewhere does not spoil a map of connections.
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (fragment.node.clone(), fragment.address.clone());
        if let Some(node) = nodes.get(&key) {
            return Ok(node.clone());
        }
        let node = NodeClient::new(&self.dialer, &fragment.address, &fragment.node)
            .map_err(|e| told(&Party::Node(fragment.node.clone()), &e))?;
        if nodes.len() >= MOST_NODES {
            nodes.clear();
        }
        nodes.insert(key, node.clone());
        Ok(node)
    }
}

#[async_trait]
impl Backend for Net {
    async fn sign_in(
        &self,
        council: &CouncilName,
        account: &str,
        password: &str,
    ) -> Result<Envelope, PartyError> {
        let authority = self.authority(council)?;
        authority
            .sign_in(account, password)
            .await
            .map_err(|e| told(&Party::Authority(council.clone()), &e))
    }

    async fn sign_in_with_certificate(
        &self,
        council: &CouncilName,
        chain: Vec<Vec<u8>>,
    ) -> Result<Envelope, PartyError> {
        let authority = self.authority(council)?;
        authority
            .sign_in_with_certificate(chain)
            .await
            .map_err(|e| told(&Party::Authority(council.clone()), &e))
    }

    async fn catalogue(
        &self,
        council: &CouncilName,
        request: CatalogueRequest,
    ) -> Result<CatalogueResponse, PartyError> {
        let authority = self.authority(council)?;
        let purpose = request.purpose.parse().ok();
        authority
            .catalogue(request.credential.unwrap_or_default(), purpose.as_ref())
            .await
            .map_err(|e| told(&Party::Authority(council.clone()), &e))
    }

    async fn budgets(
        &self,
        council: &CouncilName,
        credential: Credential,
        purpose: &Purpose,
    ) -> Result<Vec<ProductBudget>, PartyError> {
        let authority = self.authority(council)?;
        authority
            .budget(credential, purpose)
            .await
            .map_err(|e| told(&Party::Authority(council.clone()), &e))
    }

    async fn issue_grants(
        &self,
        council: &CouncilName,
        request: IssueGrantsRequest,
    ) -> Result<Vec<Envelope>, PartyError> {
        let authority = self.authority(council)?;
        authority
            .issue_grants(request)
            .await
            .map_err(|e| told(&Party::Authority(council.clone()), &e))
    }

    async fn run(
        &self,
        fragment: &Fragment,
        grant: Envelope,
    ) -> Result<SendableRecordBatchStream, PartyError> {
        let party = Party::Node(fragment.node.clone());
        let node = self.node(fragment)?.with_cell_status(fragment.cell_status);
        let (schema, batches) = node
            .run(grant, fragment.bytes.clone())
            .await
            .map_err(|e| told(&party, &e))?;
        let batches =
            batches.map_err(move |e| DataFusionError::External(Box::new(told(&party, &e))));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    async fn relay(&self, fragment: &Fragment, grant: Envelope) -> Result<Messages, PartyError> {
        let party = Party::Node(fragment.node.clone());
        let node = self.node(fragment)?.with_cell_status(fragment.cell_status);
        let messages = node
            .run_messages(grant, fragment.bytes.clone())
            .await
            .map_err(|e| told(&party, &e))?;
        Ok(messages.map_err(move |e| told(&party, &e)).boxed())
    }

    async fn release(
        &self,
        fragment: &Fragment,
        grants: Vec<Envelope>,
    ) -> Result<Messages, PartyError> {
        let party = || Party::CleanRoom(fragment.node.council.clone());
        // A plan names the one that is configured; it was made here.
        let room = self.clean_room.as_ref().filter(|r| r.is(&fragment.node));
        let room = room.ok_or_else(|| PartyError::Failed(party()))?;
        room.release(fragment, grants).await
    }
}

/// What the caller is told of a peer's failure; the rest is logged here.
fn told(party: &Party, e: &ClientError) -> PartyError {
    match e {
        e if e.is_away() => {
            tracing::info!(%party, reason = error_chain(e), "did not answer");
            PartyError::Away(party.clone())
        }
        ClientError::Refused {
            code: Code::Unavailable,
            message,
            ..
        } => {
            tracing::info!(%party, reason = message, "did not answer");
            PartyError::Away(party.clone())
        }
        ClientError::Refused { code, message, .. } if is_an_answer(*code) => PartyError::Refused {
            party: party.clone(),
            code: *code,
            message: message.clone(),
        },
        e => {
            tracing::warn!(%party, reason = error_chain(e), "failed");
            PartyError::Failed(party.clone())
        }
    }
}

/// Whether a code says something about the question, rather than about whoever was asked.
pub(crate) fn is_an_answer(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::OutOfRange
            | Code::Cancelled
    )
}
