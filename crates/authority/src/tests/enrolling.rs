//! Newcomers, renewals, revocation.

use super::*;
use crate::{AdminError, INVITE_LIFE};
use guildhall_identity::Identity;
use guildhall_model::Role;
use std::time::Duration;

#[tokio::test]
async fn a_code_is_good_once_and_for_its_peer_alone() {
    let town = Town::new().await;
    let peer: PeerId = "spiffe://northmoor/housing/node/h1".parse().unwrap();
    let code = town
        .admin()
        .invite(&peer, town.clock.now())
        .unwrap()
        .to_string();
    let key = SigningKey::generate().unwrap();
    let (request_key, csr) = new_key_and_csr().unwrap();
    let request = wire::EnrolRequest {
        csr,
        ..enrol_request(&code, Some(&key))
    };
    let enrolled = town.state.enrol(request.clone()).await.unwrap();
    let chain = enrolled.certificate.unwrap().chain_pem;
    assert_eq!(
        Identity::from_pem(&chain, &request_key).unwrap().peer(),
        peer
    );
    assert_eq!(enrolled.trust[0].council, "northmoor");
    assert!(matches!(
        town.state.enrol(request).await,
        Err(Refusal::Code)
    ));
}

#[tokio::test]
async fn a_code_is_not_kept_and_not_good_for_ever() {
    let town = Town::new().await;
    let peer: PeerId = "spiffe://northmoor/council/gateway/g2".parse().unwrap();
    let code = town.admin().invite(&peer, town.clock.now()).unwrap();
    for file in std::fs::read_dir(town.dir.path().join("data")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let secret = code.secret().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|w| w == secret));
    }
    town.clock.advance(INVITE_LIFE);
    let refused = town
        .state
        .enrol(enrol_request(&code.to_string(), None))
        .await;
    assert!(matches!(refused, Err(Refusal::Code)));
}

#[tokio::test]
async fn a_code_that_nobody_made_gets_nothing_and_leaves_no_trace() {
    let town = Town::new().await;
    let peer: PeerId = "spiffe://northmoor/council/gateway/g2".parse().unwrap();
    let code = town
        .admin()
        .invite(&peer, town.clock.now())
        .unwrap()
        .to_string();
    let wrong = format!("{}{}", &code[..code.len() - 32], "0".repeat(32));
    let entries = town.log().len();
    for code in [wrong.as_str(), "", "northmoor"] {
        assert!(matches!(
            town.state.enrol(enrol_request(code, None)).await,
            Err(Refusal::Code)
        ));
    }
    assert_eq!(town.log().len(), entries);
}

#[tokio::test]
async fn a_request_that_is_refused_does_not_use_up_its_code() {
    let town = Town::new().await;
    let peer: PeerId = "spiffe://northmoor/housing/node/h1".parse().unwrap();
    let code = town
        .admin()
        .invite(&peer, town.clock.now())
        .unwrap()
        .to_string();
    let unsigned = town.state.enrol(enrol_request(&code, None)).await;
    assert!(matches!(
        unsigned,
        Err(Refusal::Invalid {
            field: "signing_key",
            ..
        })
    ));
    let bad = wire::EnrolRequest {
        csr: vec![1],
        ..enrol_request(&code, Some(&town.node_key))
    };
    assert!(matches!(
        town.state.enrol(bad).await,
        Err(Refusal::Invalid { field: "csr", .. })
    ));
    assert!(
        town.state
            .enrol(enrol_request(&code, Some(&town.node_key)))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_revoked_peer_is_admitted_nowhere_and_not_invited_again() {
    let town = Town::new().await;
    let code = town
        .admin()
        .invite(&town.node, town.clock.now())
        .unwrap()
        .to_string();
    assert!(town.state.admit(town.node.clone(), &[Role::Node]).is_ok());
    town.admin()
        .revoke_peer(&town.node, town.clock.now())
        .unwrap();
    assert!(town.state.admit(town.node.clone(), &[]).is_err());
    let again = town.admin().invite(&town.node, town.clock.now());
    assert!(matches!(again, Err(AdminError::NotInvited { .. })));
    assert!(
        town.state
            .enrol(enrol_request(&code, Some(&town.node_key)))
            .await
            .is_err()
    );
    assert!(town.state.admit(town.node.clone(), &[]).is_err());
    let unknown = town.admin().revoke_peer(
        &"spiffe://northmoor/a/node/b".parse().unwrap(),
        town.clock.now(),
    );
    assert!(matches!(unknown, Err(AdminError::Unknown { .. })));
}

#[tokio::test]
async fn only_the_roles_that_enrol_are_invited() {
    let town = Town::new().await;
    for peer in [
        "spiffe://southmoor/parking/node/n1",
        "spiffe://northmoor/council/authority/a",
        "spiffe://northmoor/council/node/n1",
    ] {
        assert!(
            town.admin()
                .invite(&peer.parse().unwrap(), town.clock.now())
                .is_err(),
            "{peer}"
        );
    }
}

#[tokio::test]
async fn a_peer_of_the_wrong_role_or_a_stranger_is_not_admitted() {
    let town = Town::new().await;
    assert!(
        town.state
            .admit(town.node.clone(), &[Role::Gateway])
            .is_err()
    );
    assert!(
        town.state
            .admit(town.gateway.clone(), &[Role::Node])
            .is_err()
    );
    let unknown: PeerId = "spiffe://northmoor/council/gateway/unknown"
        .parse()
        .unwrap();
    assert!(town.state.admit(unknown, &[Role::Gateway]).is_err());
}

#[tokio::test]
async fn a_renewal_adds_no_host_name() {
    let town = Town::new().await;
    let peer: PeerId = "spiffe://northmoor/council/gateway/g2".parse().unwrap();
    let code = town.admin().invite(&peer, town.clock.now()).unwrap();
    let request = wire::EnrolRequest {
        host_names: vec!["data.northmoor.example".to_owned()],
        ..enrol_request(&code.to_string(), None)
    };
    town.state.enrol(request).await.unwrap();
    let renew = async |names: &[&str]| {
        let request = wire::RenewRequest {
            csr: new_key_and_csr().unwrap().1,
            host_names: names.iter().map(|n| (*n).to_owned()).collect(),
        };
        town.state.renew(peer.clone(), &request).await
    };
    assert!(renew(&["data.northmoor.example"]).await.is_ok());
    assert!(renew(&[]).await.is_ok());
    let refused = renew(&["data.northmoor.example", "pay.northmoor.example"]).await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "`host_names` is not valid: `pay.northmoor.example` is not one that it enrolled with; enrol again with a fresh code"
    );
}

#[tokio::test]
async fn a_renewed_certificate_has_the_same_name_and_a_later_end() {
    let town = Town::new().await;
    town.clock.advance(Duration::from_secs(5 * 86_400));
    let (key, csr) = new_key_and_csr().unwrap();
    let request = wire::RenewRequest {
        csr,
        host_names: Vec::new(),
    };
    let renewed = town.state.renew(town.node.clone(), &request).await.unwrap();
    let identity = Identity::from_pem(&renewed.certificate.unwrap().chain_pem, &key).unwrap();
    assert_eq!(identity.peer(), town.node);
    assert_eq!(
        identity.expires(),
        town.clock.now().after(Duration::from_secs(7 * 86_400))
    );
}
