//! The other parties of a query, as the gateway sees them: authorities, nodes and the clean room.

use crate::error::{BY_COUNCIL_HINT, DoorError, PARTIAL_HINT};
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::BoxStream;
use guildhall_model::{CouncilName, PeerId, Purpose};
use guildhall_plan::remote::Fragment;
use guildhall_proto::authority::v1::{
    CatalogueRequest, CatalogueResponse, Credential, IssueGrantsRequest, ProductBudget,
};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::node::v1::ArrowMessage;
use std::fmt;
use tonic::Code;

/// Somebody who is asked on a client's behalf.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Authority(CouncilName),
    Node(PeerId),
    CleanRoom(CouncilName),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(council) => write!(f, "the authority of `{council}`"),
            Self::Node(node) => write!(f, "department `{}` of `{}`", node.department, node.council),
            Self::CleanRoom(council) => write!(f, "the clean room of `{council}`"),
        }
    }
}

/// Why a party did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PartyError {
    /// It cannot be reached, or fell silent.
    #[error("{0} did not answer")]
    Away(Party),
    /// So did one without whose part there is no answer, not even one that lacks it.
    #[error("{0} did not answer")]
    PartAway(Party),
    /// It said no, in words fit for the caller.
    #[error("{message}")]
    Refused {
        party: Party,
        code: Code,
        message: String,
    },
    /// It, or the way to it, failed; the reason is in our log.
    #[error("{0} failed")]
    Failed(Party),
}

impl PartyError {
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

impl From<PartyError> for DoorError {
    fn from(e: PartyError) -> Self {
        match e {
            PartyError::Away(who @ Party::Node(_)) => Self::Away {
                who: who.to_string(),
                hint: PARTIAL_HINT,
            },
            PartyError::Away(who) => Self::Away {
                who: who.to_string(),
                hint: "",
            },
            PartyError::PartAway(who) => Self::Away {
                who: who.to_string(),
                hint: BY_COUNCIL_HINT,
            },
            PartyError::Refused { code, message, .. } => Self::Refused { code, message },
            PartyError::Failed(who) => Self::Refused {
                code: Code::Internal,
                message: format!("{who} failed"),
            },
        }
    }
}

/// What a party released, not decoded: the schema first, then batches.
pub(crate) type Messages = BoxStream<'static, Result<ArrowMessage, PartyError>>;

/// What the gateway asks of others. One is over the network; tests have their own.
#[async_trait]
pub(crate) trait Backend: Send + Sync + fmt::Debug {
    /// Trades an account's password for an access token.
    async fn sign_in(
        &self,
        council: &CouncilName,
        account: &str,
        password: &str,
    ) -> Result<Envelope, PartyError>;

    /// Trades a client certificate (DER chain, leaf first), as a handshake of ours proved it, for
    /// an access token.
    async fn sign_in_with_certificate(
        &self,
        council: &CouncilName,
        chain: Vec<Vec<u8>>,
    ) -> Result<Envelope, PartyError>;

    /// What a credential may see at one council.
    async fn catalogue(
        &self,
        council: &CouncilName,
        request: CatalogueRequest,
    ) -> Result<CatalogueResponse, PartyError>;

    /// What is left of the privacy budgets for one purpose of what a credential may see at one council.
    async fn budgets(
        &self,
        council: &CouncilName,
        credential: Credential,
        purpose: &Purpose,
    ) -> Result<Vec<ProductBudget>, PartyError>;

    /// Grants for fragments at one council's nodes, in the order of the request.
    async fn issue_grants(
        &self,
        council: &CouncilName,
        request: IssueGrantsRequest,
    ) -> Result<Vec<Envelope>, PartyError>;

    /// Runs a fragment; dropping the stream ends it at the node.
    async fn run(
        &self,
        fragment: &Fragment,
        grant: Envelope,
    ) -> Result<SendableRecordBatchStream, PartyError>;

    /// The same, not decoded: the schema first, then batches.
    async fn relay(&self, fragment: &Fragment, grant: Envelope) -> Result<Messages, PartyError>;

    /// Has a clean room put together and release what nodes contribute, under a grant for each part in the order of the
    /// parts: the schema first, then batches. Dropping the stream ends it there and at the nodes.
    async fn release(
        &self,
        fragment: &Fragment,
        grants: Vec<Envelope>,
    ) -> Result<Messages, PartyError>;
}
