//! Over the wire, with real certificates.

use super::*;
use crate::serve;
use guildhall_identity::{Dialer, Expect, Identity, TrustStore, enrol_channel};
use guildhall_model::SharedClock;
use guildhall_proto::authority::v1::authority_client::AuthorityClient;
use guildhall_proto::authority::v1::enrolment_client::EnrolmentClient;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn a_newcomer_enrols_and_is_known_by_its_certificate() {
    let town = Town::new().await;
    let clock: SharedClock = town.clock.clone();
    let running = serve::start(config(town.dir.path(), "northmoor"), clock.clone())
        .await
        .unwrap();
    let address = running.address().to_string();
    let peer: PeerId = "spiffe://northmoor/housing/node/h1".parse().unwrap();
    let code = town.admin().invite(&peer, clock.now()).unwrap();

    // Before it enrols, a stranger is answered by nothing but enrolment and health.
    let channel = enrol_channel(&address, &code, clock.clone()).unwrap();
    let refused = AuthorityClient::new(channel.clone())
        .trust(wire::TrustRequest {})
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let service = "guildhall.authority.v1.Authority".to_owned();
    let health = HealthClient::new(channel.clone())
        .check(HealthCheckRequest { service })
        .await;
    assert_eq!(health.unwrap().into_inner().status, 1);

    let (key, csr) = new_key_and_csr().unwrap();
    let request = wire::EnrolRequest {
        csr,
        ..enrol_request(&code.to_string(), Some(&town.node_key))
    };
    let enrolled = EnrolmentClient::new(channel)
        .enrol(request)
        .await
        .unwrap()
        .into_inner();
    let identity = Identity::from_pem(&enrolled.certificate.unwrap().chain_pem, &key).unwrap();
    let trust = TrustStore::from_bundles(&enrolled.trust).unwrap();
    let dialer = Dialer::new(&identity, &trust, clock.clone());
    let expect = || Expect::authority(&peer.council);
    let mut authority = AuthorityClient::new(dialer.channel(&address, expect()).unwrap());

    let trusted = authority
        .trust(wire::TrustRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(trusted.bundles.len(), 1);
    let open = wire::OpenDatasetRequest {
        dataset: "homes".to_owned(),
    };
    assert!(
        authority
            .open_dataset(open.clone())
            .await
            .unwrap()
            .into_inner()
            .recipient
            .starts_with("age1")
    );
    // A node is not asked for grants.
    let refused = authority
        .issue_grants(wire::IssueGrantsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::Unauthenticated,
            "no valid certificate of a role that may ask this"
        )
    );

    // On the connection that it has.
    town.admin().revoke_peer(&peer, clock.now()).unwrap();
    assert_eq!(
        authority.open_dataset(open).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let (_, csr) = new_key_and_csr().unwrap();
    let renew = wire::RenewRequest {
        csr,
        host_names: Vec::new(),
    };
    assert_eq!(
        authority.renew(renew).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    running.stop().await;
}

#[tokio::test]
async fn a_node_charges_and_a_gateway_reads_a_budget_over_the_wire() {
    let town = Town::with_budget(10).await;
    let clock: SharedClock = town.clock.clone();
    let running = serve::start(config(town.dir.path(), "northmoor"), clock.clone())
        .await
        .unwrap();
    let address = running.address().to_string();
    let mut calls = Vec::new();
    for (peer, signing) in [(&town.node, Some(&town.node_key)), (&town.gateway, None)] {
        let code = town.admin().invite(peer, clock.now()).unwrap().to_string();
        let (key, csr) = new_key_and_csr().unwrap();
        let request = wire::EnrolRequest {
            csr,
            ..enrol_request(&code, signing)
        };
        let enrolled = town.state.enrol(request).await.unwrap();
        let identity = Identity::from_pem(&enrolled.certificate.unwrap().chain_pem, &key).unwrap();
        let trust = TrustStore::from_bundles(&enrolled.trust).unwrap();
        let channel = Dialer::new(&identity, &trust, clock.clone())
            .channel(&address, Expect::authority(&peer.council));
        calls.push(AuthorityClient::new(channel.unwrap()));
    }
    let (mut gateway, mut node) = (calls.pop().unwrap(), calls.pop().unwrap());
    let debit = wire::DebitRequest {
        grant: Some(town.grant().await),
        fragment_digest: fragment_digest().as_bytes().to_vec(),
        product: "sessions".to_owned(),
        nano_rho: 4,
        question_digest: Digest::of(b"a question").as_bytes().to_vec(),
    };
    let refused = gateway.debit(debit.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let charged = node.debit(debit).await.unwrap().into_inner();
    assert_eq!(
        (charged.charged_nano_rho, charged.remaining_nano_rho),
        (4, 6)
    );

    let ask = wire::BudgetRequest {
        credential: Some(town.token("ana").await),
        purpose: "planning".to_owned(),
    };
    let refused = node.budget(ask.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let budgets = gateway.budget(ask).await.unwrap().into_inner().budgets;
    assert_eq!(budgets[0].spent_nano_rho, 4);
    running.stop().await;
}

#[tokio::test]
async fn an_authority_that_was_cut_off_answers_after_a_restart() {
    let mut town = Town::with_product().await;
    let clock: SharedClock = town.clock.clone();
    let peer: PeerId = "spiffe://northmoor/council/gateway/g2".parse().unwrap();
    let code = town.admin().invite(&peer, clock.now()).unwrap();
    let (key, csr) = new_key_and_csr().unwrap();
    let enrolled = town
        .state
        .enrol(wire::EnrolRequest {
            csr,
            ..enrol_request(&code.to_string(), None)
        })
        .await
        .unwrap();
    town.gateway = peer.clone();
    let identity = Identity::from_pem(&enrolled.certificate.unwrap().chain_pem, &key).unwrap();
    let trust = TrustStore::from_bundles(&enrolled.trust).unwrap();
    let dialer = Dialer::new(&identity, &trust, clock.clone());
    let first = serve::start(config(town.dir.path(), "northmoor"), clock.clone())
        .await
        .unwrap();
    let listen = first.address();
    let channel = dialer
        .channel(&listen.to_string(), Expect::authority(&peer.council))
        .unwrap();
    let mut authority = AuthorityClient::new(channel);
    let request = wire::CatalogueRequest {
        credential: Some(town.token("ana").await),
        purpose: String::new(),
    };
    assert_eq!(
        authority
            .catalogue(request.clone())
            .await
            .unwrap()
            .into_inner()
            .products
            .len(),
        1
    );
    first.kill().await;
    assert!(authority.catalogue(request.clone()).await.is_err());
    let again = AuthorityConfig {
        listen,
        ..config(town.dir.path(), "northmoor")
    };
    let second = serve::start(again, clock).await.unwrap();
    assert_eq!(
        authority
            .catalogue(request)
            .await
            .unwrap()
            .into_inner()
            .products
            .len(),
        1
    );
    second.stop().await;
}
