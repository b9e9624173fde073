//! Who believes whom, and until when.

use super::{AUTHORITY, City, GATEWAY, NODE, ask, tls};
use crate::credential::Identity;
use crate::dial::{Dialer, enrol_channel};
use crate::enrolment::EnrolmentCode;
use crate::tls::ClientAuth;
use crate::verify::Expect;
use crate::verify::tests::{authority, bundle, identity, now, peer};
use guildhall_model::{MockClock, SharedClock};
use guildhall_telemetry::error_chain;
use std::time::Duration;
use tonic::Code;

#[tokio::test]
async fn each_end_knows_the_other() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    assert_eq!(city.ask(GATEWAY, &node, NODE).await.unwrap(), GATEWAY);
    node.stop().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_gets_no_connection() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let refused = tls(node.address(), city.nameless()).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_client_whose_certificate_another_council_made_gets_no_connection() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let forger = authority("northmoor");
    let forged = identity(&forger, GATEWAY);
    let channel = Dialer::new(&forged, &city.trust, city.clock.clone())
        .channel(&node.address().to_string(), Expect::Peer(peer(NODE)))
        .unwrap();
    assert!(ask(channel).await.is_err());
}

#[tokio::test]
async fn a_server_whose_certificate_another_council_made_is_not_believed() {
    let city = City::new();
    let forger = authority("northmoor");
    let liar = city
        .serve_as(&identity(&forger, NODE), ClientAuth::Required)
        .await;
    let refused = city.ask(GATEWAY, &liar, NODE).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        error_chain(&refused)
            .contains("no TLS connection with `spiffe://northmoor/parking/node/p1`")
    );
}

#[tokio::test]
async fn a_peer_other_than_expected_is_not_believed_though_its_council_is() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let refused = city
        .ask(GATEWAY, &node, "spiffe://northmoor/housing/node/h1")
        .await
        .unwrap_err();
    let chain = error_chain(&refused);
    assert!(chain.contains("expected `spiffe://northmoor/housing/node/h1`, met `spiffe://northmoor/parking/node/p1`"), "{chain}");
}

#[tokio::test]
async fn an_expired_certificate_gets_no_connection_either_way() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let gateway = identity(&city.authority, GATEWAY);
    city.mock.advance(Duration::from_secs(3601));
    // The server's has expired, as a client at the right time sees it.
    assert!(city.ask_as(&gateway, &node, NODE).await.is_err());
    // The client's has expired, as the server sees it; the client's own clock is slow.
    let slow: SharedClock = MockClock::at(now());
    let channel = Dialer::new(&gateway, &city.trust, slow)
        .channel(&node.address().to_string(), Expect::Peer(peer(NODE)))
        .unwrap();
    assert!(ask(channel).await.is_err());
}

#[tokio::test]
async fn a_caller_is_forgotten_when_its_certificate_expires_mid_connection() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let channel = city.channel(GATEWAY, &node, NODE);
    assert_eq!(ask(channel.clone()).await.unwrap(), GATEWAY);
    city.mock.advance(Duration::from_secs(3601));
    assert_eq!(
        ask(channel).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_new_certificate_is_shown_without_a_restart() {
    let city = City::new();
    let serving = identity(&city.authority, NODE);
    let node = city.serve_as(&serving, ClientAuth::Required).await;
    let before = tls(node.address(), city.named(GATEWAY)).await.unwrap();
    let renewed = identity(&city.authority, NODE);
    serving
        .replace(&renewed.chain_pem(), &renewed.key_pem())
        .unwrap();
    let after = tls(node.address(), city.named(GATEWAY)).await.unwrap();
    assert_eq!(after, renewed.chain());
    assert_ne!(before, after);
}

#[tokio::test]
async fn a_council_withdrawn_from_trust_gets_no_new_connection() {
    let city = City::new();
    let south = authority("southmere");
    city.trust
        .replace(&[bundle(&city.authority), bundle(&south)])
        .unwrap();
    let node = city.serve(NODE, ClientAuth::Required).await;
    let guest = identity(&south, "spiffe://southmere/council/gateway/g1");
    assert!(city.ask_as(&guest, &node, NODE).await.is_ok());
    city.trust.replace(&[bundle(&city.authority)]).unwrap();
    assert!(city.ask_as(&guest, &node, NODE).await.is_err());
}

#[tokio::test]
async fn roles_speak_tls_1_3_alone() {
    let city = City::new();
    let node = city.serve(NODE, ClientAuth::Required).await;
    assert!(tls(node.address(), city.tls_1_2()).await.is_err());
    let door = city.serve(GATEWAY, ClientAuth::Optional).await;
    assert!(tls(door.address(), city.tls_1_2()).await.is_ok());
}

#[tokio::test]
async fn newcomers_are_let_in_without_a_name() {
    let city = City::new();
    let desk = city.serve(AUTHORITY, ClientAuth::Newcomers).await;
    let code =
        EnrolmentCode::generate(city.authority.council(), city.authority.fingerprint()).unwrap();
    let channel = enrol_channel(&desk.address().to_string(), &code, city.clock.clone()).unwrap();
    assert_eq!(
        ask(channel).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_newcomer_believes_only_the_authority_that_its_code_names() {
    let city = City::new();
    let forger = authority("northmoor");
    let code =
        EnrolmentCode::generate(city.authority.council(), city.authority.fingerprint()).unwrap();
    // Another certificate authority, another role, and the right chain appended to a forged leaf.
    let other_role = identity(&city.authority, NODE);
    let forged = identity(&forger, AUTHORITY);
    let appended = format!("{}{}", forged.chain_pem(), city.authority.certificate_pem());
    let appended = Identity::from_pem(&appended, &forged.key_pem()).unwrap();
    for liar in [other_role, forged, appended] {
        let desk = city.serve_as(&liar, ClientAuth::Newcomers).await;
        let channel =
            enrol_channel(&desk.address().to_string(), &code, city.clock.clone()).unwrap();
        let refused = ask(channel).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{liar:?}");
    }
}
