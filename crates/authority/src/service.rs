//! The gRPC services: who calls, then the one function that answers.

use crate::refusal::Refusal;
use crate::state::State;
use guildhall_identity::peer_of;
use guildhall_model::{PeerId, Role};
use guildhall_proto::authority::v1 as wire;
use guildhall_proto::authority::v1::authority_server::Authority;
use guildhall_proto::authority::v1::enrolment_server::Enrolment;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The services, as tonic clones them.
#[derive(Debug, Clone)]
pub(crate) struct Service(pub(crate) Arc<State>);

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    /// Who calls, if it has one of the roles; and what it asks.
    fn admit<T>(&self, request: Request<T>, roles: &[Role]) -> Result<(PeerId, T), Refusal> {
        let peer = peer_of(&request).ok_or(Refusal::Peer)?;
        Ok((self.0.admit(peer, roles)?, request.into_inner()))
    }
}

fn answer<T>(answer: Result<T, Refusal>) -> Answer<T> {
    Ok(Response::new(answer?))
}

#[tonic::async_trait]
impl Enrolment for Service {
    async fn enrol(&self, request: Request<wire::EnrolRequest>) -> Answer<wire::EnrolResponse> {
        answer(self.0.enrol(request.into_inner()).await)
    }
}

#[tonic::async_trait]
impl Authority for Service {
    async fn renew(&self, request: Request<wire::RenewRequest>) -> Answer<wire::RenewResponse> {
        let (peer, request) = self.admit(request, &[])?;
        answer(self.0.renew(peer, &request).await)
    }

    async fn trust(&self, request: Request<wire::TrustRequest>) -> Answer<wire::TrustResponse> {
        self.admit(request, &[])?;
        answer(self.0.trusted())
    }

    async fn open_dataset(
        &self,
        request: Request<wire::OpenDatasetRequest>,
    ) -> Answer<wire::OpenDatasetResponse> {
        let (node, request) = self.admit(request, &[Role::Node])?;
        answer(self.0.open_dataset(node, &request).await)
    }

    async fn record_manifest(
        &self,
        request: Request<wire::RecordManifestRequest>,
    ) -> Answer<wire::RecordManifestResponse> {
        let (node, request) = self.admit(request, &[Role::Node])?;
        answer(self.0.record_manifest(node, request).await)
    }

    async fn latest_manifest(
        &self,
        request: Request<wire::LatestManifestRequest>,
    ) -> Answer<wire::LatestManifestResponse> {
        let (node, request) = self.admit(request, &[Role::Node])?;
        answer(self.0.latest_manifest(&node, &request))
    }

    async fn announce(
        &self,
        request: Request<wire::AnnounceRequest>,
    ) -> Answer<wire::AnnounceResponse> {
        let (node, request) = self.admit(request, &[Role::Node])?;
        answer(self.0.announce(node, request).await)
    }

    async fn register_product(
        &self,
        request: Request<wire::RegisterProductRequest>,
    ) -> Answer<wire::RegisterProductResponse> {
        let (node, request) = self.admit(request, &[Role::Node])?;
        answer(self.0.register_product(node, request).await)
    }

    async fn lend_keys(
        &self,
        request: Request<wire::LendKeysRequest>,
    ) -> Answer<wire::LendKeysResponse> {
        let (borrower, request) = self.admit(request, &[Role::Node, Role::Worker])?;
        answer(self.0.lend_keys(&borrower, request).await)
    }

    async fn lend_for_check(
        &self,
        request: Request<wire::LendForCheckRequest>,
    ) -> Answer<wire::LendForCheckResponse> {
        let (node, request) = self.admit(request, &[Role::Node])?;
        answer(self.0.lend_for_check(&node, request).await)
    }

    async fn lend_to_prepare(
        &self,
        request: Request<wire::LendToPrepareRequest>,
    ) -> Answer<wire::LendToPrepareResponse> {
        let (node, request) = self.admit(request, &[Role::Node])?;
        answer(self.0.lend_to_prepare(&node, request).await)
    }

    async fn debit(&self, request: Request<wire::DebitRequest>) -> Answer<wire::DebitResponse> {
        let (node, request) = self.admit(request, &[Role::Node])?;
        answer(self.0.debit(&node, request).await)
    }

    async fn sign_in(&self, request: Request<wire::SignInRequest>) -> Answer<wire::SignInResponse> {
        let (gateway, request) = self.admit(request, &[Role::Gateway])?;
        answer(self.0.sign_in(&gateway, request).await)
    }

    async fn catalogue(
        &self,
        request: Request<wire::CatalogueRequest>,
    ) -> Answer<wire::CatalogueResponse> {
        let (gateway, request) = self.admit(request, &[Role::Gateway])?;
        answer(self.0.catalogue(&gateway, request))
    }

    async fn issue_grants(
        &self,
        request: Request<wire::IssueGrantsRequest>,
    ) -> Answer<wire::IssueGrantsResponse> {
        let (gateway, request) = self.admit(request, &[Role::Gateway])?;
        answer(self.0.issue_grants(&gateway, request).await)
    }

    async fn budget(&self, request: Request<wire::BudgetRequest>) -> Answer<wire::BudgetResponse> {
        let (gateway, request) = self.admit(request, &[Role::Gateway])?;
        answer(self.0.budgets(&gateway, request))
    }
}
