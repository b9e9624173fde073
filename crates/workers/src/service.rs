//! Holding keys for a node: verified, borrowed for oneself, given up when the node's call ends.

use crate::hold::{Held, HoldLimit, Holds};
use crate::loan::{Loan, LoanError};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use guildhall_client::{AuthorityClient, ClientError};
use guildhall_grant::{
    Assignment, EnvelopeError, GrantCheck, GrantError, VerifiedGrant, VerifyingKey, envelope,
};
use guildhall_identity::{TrustStore, require_peer};
use guildhall_keys::KeyName;
use guildhall_model::{ColumnName, Digest, FragmentDigest, PeerId, SharedClock};
use guildhall_proto::authority::v1::{LendKeysRequest, LendKeysResponse};
use guildhall_proto::worker::v1::worker_server;
use guildhall_proto::worker::v1::{HoldRequest, Holding, Reading};
use guildhall_store::{DatasetId, ReadError, Recorded, SealedDataset, Storage};
use guildhall_telemetry::error_chain;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Who lends keys: the council's authority.
#[async_trait]
pub(crate) trait Lender: Send + Sync + std::fmt::Debug {
    async fn lend(&self, request: LendKeysRequest) -> Result<LendKeysResponse, ClientError>;
}

#[async_trait]
impl Lender for AuthorityClient {
    async fn lend(&self, request: LendKeysRequest) -> Result<LendKeysResponse, ClientError> {
        self.lend_keys(request).await
    }
}

/// Why no keys are held, in the order the checks run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    #[error("`{field}` is not valid")]
    Malformed { field: &'static str },
    #[error("the grant does not hold for {node}")]
    Grant {
        node: Box<PeerId>,
        #[source]
        source: GrantError,
    },
    #[error("the assignment is not signed by its node")]
    Assignment {
        #[source]
        source: EnvelopeError,
    },
    #[error("the assignment is for another worker, node or grant")]
    OtherAssignment,
    #[error(transparent)]
    Limit(#[from] HoldLimit),
    #[error("a dataset is not here as the node plans with it")]
    Dataset {
        #[source]
        source: ReadError,
    },
    #[error("the authority lends no keys")]
    Authority {
        #[source]
        source: ClientError,
    },
    #[error("the loan cannot be used")]
    Loan {
        #[source]
        source: LoanError,
    },
}

impl HoldError {
    fn status(&self) -> Status {
        match self {
            Self::Malformed { .. } => Status::invalid_argument(self.to_string()),
            Self::Grant { .. } => Status::permission_denied("the grant does not hold"),
            Self::Assignment { .. } | Self::OtherAssignment => {
                Status::permission_denied("the assignment does not hold")
            }
            Self::Limit(HoldLimit::Full) => Status::resource_exhausted(self.to_string()),
            Self::Limit(HoldLimit::Twice) => Status::already_exists(self.to_string()),
            Self::Dataset { .. } => Status::failed_precondition(self.to_string()),
            Self::Authority { source } if source.is_away() => {
                Status::failed_precondition("the authority does not answer this worker")
            }
            Self::Authority { .. } => Status::permission_denied(self.to_string()),
            Self::Loan { .. } => Status::internal(self.to_string()),
        }
    }
}

/// The gRPC face of what a worker holds.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) own: PeerId,
    pub(crate) trust: TrustStore,
    pub(crate) clock: SharedClock,
    pub(crate) storage: Storage,
    pub(crate) lender: Arc<dyn Lender>,
    pub(crate) holds: Arc<Holds>,
    pub(crate) longest: Duration,
}

impl Service {
    /// Everything that is checked of a request, and then what is held for it.
    async fn held(
        &self,
        node: &PeerId,
        request: HoldRequest,
    ) -> Result<(VerifiedGrant, Held), HoldError> {
        let grant = self.verify(node, &request)?;
        self.holds.has_room()?;
        let signer = VerifyingKey::from_bytes(&request.node_key);
        let signer = signer.map_err(|_| HoldError::Malformed { field: "node_key" })?;
        self.check_assignment(node, &grant, &request, &signer)?;
        let mut datasets = BTreeMap::new();
        let mut wanted = BTreeMap::new();
        for reading in &request.readings {
            let (dataset, keys) = self.open(reading, &signer).await?;
            wanted.extend(keys);
            datasets.insert(dataset.id().dataset.clone(), Arc::new(dataset));
        }
        let (loan, keys) = Loan::of(wanted);
        let lent = self.lender.lend(LendKeysRequest {
            grant: request.grant,
            fragment_digest: request.fragment_digest,
            ephemeral_recipient: loan.recipient(),
            keys,
            assignment: request.assignment,
        });
        let lent = lent
            .await
            .map_err(|source| HoldError::Authority { source })?;
        let keys = loan.opened(&lent.sealed);
        let keys = keys.map_err(|source| HoldError::Loan { source })?;
        Ok((grant, Held::new(datasets, keys)))
    }

    /// The grant, if our own council's authority signed it for the very node that shows it, and it is of now.
    fn verify(&self, node: &PeerId, request: &HoldRequest) -> Result<VerifiedGrant, HoldError> {
        let envelope = request.grant.as_ref();
        let envelope = envelope.ok_or(HoldError::Malformed { field: "grant" })?;
        let fragment = FragmentDigest::from_bytes(&request.fragment_digest);
        let field = "fragment_digest";
        let fragment = fragment.ok_or(HoldError::Malformed { field })?;
        let keys = self.trust.authority_keys(&self.own.council);
        let signers = keys.iter().filter_map(|k| VerifyingKey::from_bytes(k).ok());
        let check = GrantCheck {
            council: &self.own.council,
            node,
            fragment: &fragment,
            recipient: None,
            now: self.clock.now(),
        };
        let verified = guildhall_grant::verify(envelope, &signers.collect::<Vec<_>>(), &check);
        verified.map_err(|source| HoldError::Grant {
            node: Box::new(node.clone()),
            source,
        })
    }

    fn check_assignment(
        &self,
        node: &PeerId,
        grant: &VerifiedGrant,
        request: &HoldRequest,
        signer: &VerifyingKey,
    ) -> Result<(), HoldError> {
        let envelope = request.assignment.as_ref();
        let envelope = envelope.ok_or(HoldError::Malformed {
            field: "assignment",
        })?;
        let said: Assignment = envelope::verify(envelope, &[*signer])
            .map_err(|source| HoldError::Assignment { source })?;
        let is_ours = said.stays_inside()
            && said.grant == grant.id
            && said.node == *node
            && said.worker == self.own;
        is_ours.then_some(()).ok_or(HoldError::OtherAssignment)
    }

    /// The dataset, at the version that the node plans with, and its wrapped keys of the columns that are read.
    async fn open(
        &self,
        reading: &Reading,
        signer: &VerifyingKey,
    ) -> Result<(SealedDataset, Vec<(KeyName, Vec<u8>)>), HoldError> {
        let malformed = || HoldError::Malformed { field: "readings" };
        let id = DatasetId {
            council: self.own.council.clone(),
            department: self.own.department.clone(),
            dataset: reading.dataset.parse().map_err(|_| malformed())?,
        };
        let recorded = Recorded {
            version: reading.version,
            digest: Digest::from_bytes(&reading.digest).ok_or_else(malformed)?,
        };
        let columns = reading.columns.iter().map(|c| c.parse());
        let columns: BTreeSet<ColumnName> =
            columns.collect::<Result<_, _>>().map_err(|_| malformed())?;
        let opened = SealedDataset::open(&self.storage, &id, &[*signer], Some(recorded)).await;
        let dataset = opened.map_err(|source| HoldError::Dataset { source })?;
        let keys = dataset.wrapped_keys_of(&columns);
        Ok((dataset, keys))
    }
}

#[tonic::async_trait]
impl worker_server::Worker for Service {
    type HoldStream = BoxStream<'static, Result<Holding, Status>>;

    async fn hold(
        &self,
        request: Request<HoldRequest>,
    ) -> Result<Response<Self::HoldStream>, Status> {
        let node = require_peer(&request)?;
        let held = self.held(&node, request.into_inner()).await;
        let put = held
            .and_then(|(grant, held)| Ok(self.holds.put(node.clone(), grant.id.clone(), held)?));
        let holding = put.map_err(|error| {
            tracing::warn!(%node, error = error_chain(&error), "no keys are held");
            error.status()
        })?;
        let longest = self.longest;
        // Whoever ends the call, or the connection that it is on, drops this and with it the keys.
        let end = async move {
            let _holding = holding;
            tokio::time::sleep(longest).await;
            Err(Status::deadline_exceeded("keys are held no longer"))
        };
        let held = futures::stream::once(async { Ok(Holding {}) });
        Ok(Response::new(
            held.chain(futures::stream::once(end)).boxed(),
        ))
    }
}
