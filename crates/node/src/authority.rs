//! What a node asks of its council's authority.

use async_trait::async_trait;
use guildhall_client::{AuthorityClient, ClientError, Debited};
use guildhall_keys::Recipient;
use guildhall_model::{CouncilName, DatasetName};
use guildhall_proto::authority::v1::{
    DebitRequest, LendForCheckRequest, LendForCheckResponse, LendKeysRequest, LendKeysResponse,
    LendToPrepareRequest, LendToPrepareResponse,
};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_store::Recorded;
use tonic::Code;

/// Why the authority did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// It does not answer.
    #[error("the authority of `{council}` does not answer")]
    Unavailable {
        /// Whose authority.
        council: CouncilName,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A privacy budget does not cover the question.
    #[error("{message}")]
    Exhausted {
        /// Which, and when it renews, in the authority's words.
        message: String,
    },
    /// It said no.
    #[error("the authority of `{council}` refused: {message}")]
    Refused {
        /// Whose authority.
        council: CouncilName,
        /// Its words.
        message: String,
    },
    /// It said something that makes no sense.
    #[error("the authority of `{council}` answered with {what}")]
    Senseless {
        /// Whose authority.
        council: CouncilName,
        /// What.
        what: &'static str,
    },
}

/// The council's authority, as a node sees it.
#[async_trait]
pub(crate) trait Authority: Send + Sync + std::fmt::Debug {
    /// The age recipient of one of our datasets.
    async fn open_dataset(&self, dataset: &DatasetName) -> Result<Recipient, AuthorityError>;
    /// Puts a signed manifest on record.
    async fn record_manifest(&self, manifest: Envelope) -> Result<(), AuthorityError>;
    /// The newest manifest on record.
    async fn latest_manifest(
        &self,
        dataset: &DatasetName,
    ) -> Result<Option<Recorded>, AuthorityError>;
    /// Says where we listen.
    async fn announce(&self, address: &str) -> Result<(), AuthorityError>;
    /// Registers a signed product.
    async fn register_product(&self, product: Envelope) -> Result<(), AuthorityError>;
    /// The column keys that a grant covers.
    async fn lend_keys(&self, request: LendKeysRequest)
    -> Result<LendKeysResponse, AuthorityError>;
    /// The column keys that the check of a product reads, on an officer's leave.
    async fn lend_for_check(
        &self,
        request: LendForCheckRequest,
    ) -> Result<LendForCheckResponse, AuthorityError>;
    /// The column keys that the tables of a registered product are made with, before anybody asks.
    async fn lend_to_prepare(
        &self,
        request: LendToPrepareRequest,
    ) -> Result<LendToPrepareResponse, AuthorityError>;
    /// Charges one question to a privacy budget, before it is answered. The same question is
    /// charged once, so a request whose answer was lost can be made again.
    async fn debit(&self, request: DebitRequest) -> Result<Debited, AuthorityError>;
}

/// The authority over the wire.
#[derive(Debug, Clone)]
pub(crate) struct CouncilAuthority {
    council: CouncilName,
    client: AuthorityClient,
}

impl CouncilAuthority {
    pub(crate) fn new(council: CouncilName, client: AuthorityClient) -> Self {
        Self { council, client }
    }

    fn fault(&self, error: ClientError) -> AuthorityError {
        let council = self.council.clone();
        match error {
            ClientError::Refused {
                code: Code::Unavailable,
                ..
            } => AuthorityError::Unavailable {
                council,
                source: Box::new(error),
            },
            ClientError::Refused { message, .. } => AuthorityError::Refused { council, message },
            other => AuthorityError::Unavailable {
                council,
                source: Box::new(other),
            },
        }
    }
}

#[async_trait]
impl Authority for CouncilAuthority {
    async fn open_dataset(&self, dataset: &DatasetName) -> Result<Recipient, AuthorityError> {
        let text = self
            .client
            .open_dataset(dataset)
            .await
            .map_err(|e| self.fault(e))?;
        text.parse().map_err(|_| AuthorityError::Senseless {
            council: self.council.clone(),
            what: "a recipient that is none",
        })
    }

    async fn record_manifest(&self, manifest: Envelope) -> Result<(), AuthorityError> {
        self.client
            .record_manifest(manifest)
            .await
            .map_err(|e| self.fault(e))
    }

    async fn latest_manifest(
        &self,
        dataset: &DatasetName,
    ) -> Result<Option<Recorded>, AuthorityError> {
        let latest = self
            .client
            .latest_manifest(dataset)
            .await
            .map_err(|e| self.fault(e))?;
        Ok(latest.map(|l| Recorded {
            version: l.version,
            digest: l.digest,
        }))
    }

    async fn announce(&self, address: &str) -> Result<(), AuthorityError> {
        self.client
            .announce(address)
            .await
            .map_err(|e| self.fault(e))
    }

    async fn register_product(&self, product: Envelope) -> Result<(), AuthorityError> {
        self.client
            .register_product(product)
            .await
            .map_err(|e| self.fault(e))
    }

    async fn lend_keys(
        &self,
        request: LendKeysRequest,
    ) -> Result<LendKeysResponse, AuthorityError> {
        self.client
            .lend_keys(request)
            .await
            .map_err(|e| self.fault(e))
    }
    async fn lend_for_check(
        &self,
        request: LendForCheckRequest,
    ) -> Result<LendForCheckResponse, AuthorityError> {
        self.client
            .lend_for_check(request)
            .await
            .map_err(|e| self.fault(e))
    }

    async fn lend_to_prepare(
        &self,
        request: LendToPrepareRequest,
    ) -> Result<LendToPrepareResponse, AuthorityError> {
        self.client
            .lend_to_prepare(request)
            .await
            .map_err(|e| self.fault(e))
    }

    async fn debit(&self, request: DebitRequest) -> Result<Debited, AuthorityError> {
        self.client.debit(request).await.map_err(|e| match e {
            ClientError::Refused {
                code: Code::ResourceExhausted,
                message,
                ..
            } => AuthorityError::Exhausted { message },
            other => self.fault(other),
        })
    }
}
