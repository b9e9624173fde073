//! A council's authority.

use crate::call::{answer, within};
use crate::error::ClientError;
use guildhall_identity::{Dialer, Expect, MAX_MESSAGE_BYTES};
use guildhall_model::{CouncilName, DatasetName, Digest, Purpose, Timestamp};
use guildhall_proto::authority::v1 as proto;
use guildhall_proto::authority::v1::authority_client::AuthorityClient as Stub;
use guildhall_proto::envelope::v1::Envelope;
use std::time::Duration;
use tonic::transport::Channel;

const DEADLINE: Duration = Duration::from_secs(10);

/// Calls one council's authority. Clones share its connection.
#[derive(Debug, Clone)]
pub struct AuthorityClient {
    who: String,
    stub: Stub<Channel>,
    deadline: Duration,
}

/// A renewed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// Leaf first.
    pub chain_pem: String,
    /// Until when it holds.
    pub expires: Timestamp,
}

/// The newest manifest on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatestManifest {
    /// Its version, from 1.
    pub version: u32,
    /// SHA-256 of its encoded envelope.
    pub digest: Digest,
}

/// A question that was charged to a privacy budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debited {
    /// What it cost, in billionths of rho; 0 if it was paid for before.
    pub charged_nano_rho: u64,
    /// What that left of the budget, in billionths of rho.
    pub remaining_nano_rho: u64,
    /// When the budget is whole again.
    pub renews: Timestamp,
}

impl Debited {
    /// Whether the same question was paid for before, in the same period.
    #[must_use]
    pub fn already_paid(&self) -> bool {
        self.charged_nano_rho == 0
    }
}

impl AuthorityClient {
    /// The authority of `council` at `address`; connects when first called.
    ///
    /// # Errors
    /// If `address` is not `host:port`.
    pub fn new(dialer: &Dialer, address: &str, council: &CouncilName) -> Result<Self, ClientError> {
        let who = format!("the authority of {council}");
        let channel = dialer
            .channel(address, Expect::authority(council))
            .map_err(|source| ClientError::Setup {
                who: who.clone(),
                source,
            })?;
        Ok(Self::over(channel, who))
    }

    /// An authority over a channel made elsewhere; `who` names it in errors.
    #[must_use]
    pub fn over(channel: Channel, who: String) -> Self {
        let stub = Stub::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self {
            who,
            stub,
            deadline: DEADLINE,
        }
    }

    /// Waits no longer than `deadline` for each answer; ten seconds if never set.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// A fresh certificate for our own name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn renew(
        &self,
        csr: Vec<u8>,
        host_names: Vec<String>,
    ) -> Result<Renewed, ClientError> {
        let request = within(proto::RenewRequest { csr, host_names }, self.deadline);
        let response = answer(&self.who, self.deadline, self.stub.clone().renew(request)).await?;
        let certificate = response
            .certificate
            .ok_or_else(|| ClientError::malformed(&self.who, "no certificate in it"))?;
        Ok(Renewed {
            chain_pem: certificate.chain_pem,
            expires: Timestamp::from_micros(certificate.expires_us),
        })
    }

    /// The councils that this one trusts, itself first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn trust(&self) -> Result<Vec<proto::TrustBundle>, ClientError> {
        let request = within(proto::TrustRequest {}, self.deadline);
        Ok(
            answer(&self.who, self.deadline, self.stub.clone().trust(request))
                .await?
                .bundles,
        )
    }

    /// The age recipient of one of our datasets, made on first request.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open_dataset(&self, dataset: &DatasetName) -> Result<String, ClientError> {
        let request = within(
            proto::OpenDatasetRequest {
                dataset: dataset.to_string(),
            },
            self.deadline,
        );
        Ok(answer(
            &self.who,
            self.deadline,
            self.stub.clone().open_dataset(request),
        )
        .await?
        .recipient)
    }

    /// Puts a signed manifest on record.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn record_manifest(&self, manifest: Envelope) -> Result<(), ClientError> {
        let request = within(
            proto::RecordManifestRequest {
                manifest: Some(manifest),
            },
            self.deadline,
        );
        answer(
            &self.who,
            self.deadline,
            self.stub.clone().record_manifest(request),
        )
        .await?;
        Ok(())
    }

    /// The newest manifest of one of our datasets, if any is on record.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn latest_manifest(
        &self,
        dataset: &DatasetName,
    ) -> Result<Option<LatestManifest>, ClientError> {
        let request = within(
            proto::LatestManifestRequest {
                dataset: dataset.to_string(),
            },
            self.deadline,
        );
        let latest = answer(
            &self.who,
            self.deadline,
            self.stub.clone().latest_manifest(request),
        )
        .await?;
        if latest.version == 0 {
            return Ok(None);
        }
        let digest = Digest::from_bytes(&latest.digest).ok_or_else(|| {
            ClientError::malformed(&self.who, "the manifest's digest is not 32 bytes")
        })?;
        Ok(Some(LatestManifest {
            version: latest.version,
            digest,
        }))
    }

    /// Says where we listen (`host:port`).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn announce(&self, address: &str) -> Result<(), ClientError> {
        let request = within(
            proto::AnnounceRequest {
                address: address.to_owned(),
            },
            self.deadline,
        );
        answer(
            &self.who,
            self.deadline,
            self.stub.clone().announce(request),
        )
        .await?;
        Ok(())
    }

    /// Registers a signed product.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn register_product(&self, product: Envelope) -> Result<(), ClientError> {
        let request = within(
            proto::RegisterProductRequest {
                product: Some(product),
            },
            self.deadline,
        );
        answer(
            &self.who,
            self.deadline,
            self.stub.clone().register_product(request),
        )
        .await?;
        Ok(())
    }

    /// The column keys that a grant covers, sealed to the recipient in the request.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lend_keys(
        &self,
        wanted: proto::LendKeysRequest,
    ) -> Result<proto::LendKeysResponse, ClientError> {
        let request = within(wanted, self.deadline);
        answer(
            &self.who,
            self.deadline,
            self.stub.clone().lend_keys(request),
        )
        .await
    }

    /// Keys for the check of one of our own products, on an officer's leave.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lend_for_check(
        &self,
        wanted: proto::LendForCheckRequest,
    ) -> Result<proto::LendForCheckResponse, ClientError> {
        let request = within(wanted, self.deadline);
        answer(
            &self.who,
            self.deadline,
            self.stub.clone().lend_for_check(request),
        )
        .await
    }

    /// Keys to prepare the tables of one of our own registered products with.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lend_to_prepare(
        &self,
        wanted: proto::LendToPrepareRequest,
    ) -> Result<proto::LendToPrepareResponse, ClientError> {
        let request = within(wanted, self.deadline);
        answer(
            &self.who,
            self.deadline,
            self.stub.clone().lend_to_prepare(request),
        )
        .await
    }

    /// Charges one question to a privacy budget. After an answer that was lost, ask again: the
    /// same question is charged once.
    ///
    /// # Errors
    /// See [`ClientError`]; one that refuses with `RESOURCE_EXHAUSTED` says when the budget renews.
    pub async fn debit(&self, wanted: proto::DebitRequest) -> Result<Debited, ClientError> {
        let asked = wanted.nano_rho;
        let request = within(wanted, self.deadline);
        let answer = answer(&self.who, self.deadline, self.stub.clone().debit(request)).await?;
        let charged = if answer.already_paid { 0 } else { asked };
        if answer.charged_nano_rho != charged {
            let what = "a charge that was not asked for";
            return Err(ClientError::malformed(&self.who, what));
        }
        Ok(Debited {
            charged_nano_rho: charged,
            remaining_nano_rho: answer.remaining_nano_rho,
            renews: Timestamp::from_micros(answer.period_end_us),
        })
    }

    /// Trades an account's password for a signed access token.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn sign_in(&self, account: &str, password: &str) -> Result<Envelope, ClientError> {
        self.trade(proto::SignInRequest {
            account: account.to_owned(),
            password: password.to_owned(),
            certificate: None,
        })
        .await
    }

    /// Trades a client certificate (DER chain, leaf first), as a handshake of ours proved it,
    /// for a signed access token.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn sign_in_with_certificate(
        &self,
        chain: Vec<Vec<u8>>,
    ) -> Result<Envelope, ClientError> {
        self.trade(proto::SignInRequest {
            certificate: Some(proto::CertificateChain { der: chain }),
            ..proto::SignInRequest::default()
        })
        .await
    }

    async fn trade(&self, message: proto::SignInRequest) -> Result<Envelope, ClientError> {
        let request = within(message, self.deadline);
        let response = answer(&self.who, self.deadline, self.stub.clone().sign_in(request)).await?;
        response
            .token
            .ok_or_else(|| ClientError::malformed(&self.who, "no token in it"))
    }

    /// What a credential may see for a purpose; for every purpose it holds if none is named.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn catalogue(
        &self,
        credential: proto::Credential,
        purpose: Option<&Purpose>,
    ) -> Result<proto::CatalogueResponse, ClientError> {
        let message = proto::CatalogueRequest {
            credential: Some(credential),
            purpose: purpose.map(ToString::to_string).unwrap_or_default(),
        };
        answer(
            &self.who,
            self.deadline,
            self.stub.clone().catalogue(within(message, self.deadline)),
        )
        .await
    }

    /// The privacy budgets for a purpose of the products that a credential may see for it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn budget(
        &self,
        credential: proto::Credential,
        purpose: &Purpose,
    ) -> Result<Vec<proto::ProductBudget>, ClientError> {
        let message = proto::BudgetRequest {
            credential: Some(credential),
            purpose: purpose.to_string(),
        };
        let request = within(message, self.deadline);
        Ok(
            answer(&self.who, self.deadline, self.stub.clone().budget(request))
                .await?
                .budgets,
        )
    }

    /// Grants for the fragments of one query, in their order; all or none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn issue_grants(
        &self,
        wanted: proto::IssueGrantsRequest,
    ) -> Result<Vec<Envelope>, ClientError> {
        let fragments = wanted.fragments.len();
        let response = answer(
            &self.who,
            self.deadline,
            self.stub
                .clone()
                .issue_grants(within(wanted, self.deadline)),
        )
        .await?;
        if response.grants.len() != fragments {
            let what = format!("{} grants for {fragments} fragments", response.grants.len());
            return Err(ClientError::malformed(&self.who, what));
        }
        Ok(response.grants)
    }
}
