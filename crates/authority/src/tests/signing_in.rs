//! Passwords and certificates, the tokens that they are traded for, and when those end.

use super::*;
use guildhall_audit::{Decision, Event};
use guildhall_grant::token::{self, TokenCheck};
use guildhall_grant::{AccessToken, CLOCK_SKEW};
use guildhall_identity::PeerCertificate;
use std::time::Duration;

#[tokio::test]
async fn a_password_is_traded_for_a_token_that_ends() {
    let town = Town::new().await;
    let wire::credential::Kind::AccessToken(token) = town.token("ana").await.kind.unwrap() else {
        panic!("not a token");
    };
    let verify = |now| {
        token::verify(
            &token,
            &[town.state.verifying],
            &TokenCheck {
                council: &town.node.council,
                now,
            },
        )
    };
    let now = town.clock.now();
    assert_eq!(verify(now).unwrap().roles, ["analyst"]);
    assert!(verify(now.after(Duration::from_secs(3600) + CLOCK_SKEW)).is_err());
    let entry = town.log().pop().unwrap();
    assert_eq!(
        (entry.event, entry.decision),
        (Event::SignIn, Decision::Permit)
    );
}

async fn sign_in(
    town: &Town,
    account: &str,
    password: &str,
) -> Result<wire::SignInResponse, Refusal> {
    let request = wire::SignInRequest {
        account: account.to_owned(),
        password: password.to_owned(),
        certificate: None,
    };
    town.state.sign_in(&town.gateway, request).await
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_account_get_the_same_answer() {
    let town = Town::new().await;
    for (account, password) in [
        ("ana", "wrong"),
        ("nobody", PASSWORD),
        ("not a name", PASSWORD),
    ] {
        let refusal = sign_in(&town, account, password).await.unwrap_err();
        assert_eq!(refusal.to_string(), "the account or the password is wrong");
        assert_eq!(town.log().pop().unwrap().decision, Decision::Forbid);
    }
    // What was typed for an account may be anything.
    let text: Vec<String> = town
        .log()
        .iter()
        .map(|e| serde_json::to_string(e).unwrap())
        .collect();
    assert!(!text.concat().contains("nobody") && !text.concat().contains("not a name"));
}

#[tokio::test]
async fn guessing_is_slowed_down_and_then_let_in_with_the_right_password() {
    let town = Town::new().await;
    for _ in 0..5 {
        assert!(matches!(
            sign_in(&town, "ana", "wrong").await,
            Err(Refusal::SignIn)
        ));
    }
    let waiting = sign_in(&town, "ana", PASSWORD).await.unwrap_err();
    assert_eq!(
        tonic::Status::from(waiting).code(),
        tonic::Code::ResourceExhausted
    );
    town.clock.advance(Duration::from_secs(30));
    assert!(sign_in(&town, "ana", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_closed_account_gets_nothing_with_the_token_it_still_has() {
    let town = Town::with_product().await;
    let request = town.question().await;
    town.admin()
        .revoke_account(&"ana".parse().unwrap(), town.clock.now())
        .unwrap();
    let refusal = town
        .state
        .issue_grants(&town.gateway, request)
        .await
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Credential { .. }));
    assert!(sign_in(&town, "ana", PASSWORD).await.is_err());
}

#[tokio::test]
async fn an_old_token_does_not_outlive_a_purpose_that_was_taken_away() {
    let town = Town::with_product().await;
    let request = town.question().await;
    town.account("ana", &["analyst"], &["review"]);
    let refusal = town
        .state
        .issue_grants(&town.gateway, request)
        .await
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Purpose { .. }));
}

#[tokio::test]
async fn a_purpose_that_is_published_no_longer_can_be_named_by_nobody() {
    let town = Town::with_product().await;
    let request = town.question().await;
    town.admin()
        .set_purposes(&names(&["review"]), town.clock.now())
        .unwrap();
    let refusal = town
        .state
        .issue_grants(&town.gateway, request)
        .await
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Purpose { .. }));
}

#[tokio::test]
async fn an_altered_or_expired_token_is_turned_away() {
    let town = Town::with_product().await;
    let mut request = town.question().await;
    let wire::credential::Kind::AccessToken(token) =
        request.credential.clone().unwrap().kind.unwrap()
    else {
        panic!("not a token");
    };
    let mut widened: AccessToken = read(&token);
    widened.roles.push("officer".to_owned());
    let forged = Envelope {
        payload: prost::Message::encode_to_vec(&widened.to_wire()),
        ..token.clone()
    };
    request.credential = Some(credential(forged));
    assert!(matches!(
        town.state
            .issue_grants(&town.gateway, request.clone())
            .await,
        Err(Refusal::Credential { .. })
    ));
    let own = envelope::sign(&widened, &SigningKey::generate().unwrap());
    request.credential = Some(credential(own));
    assert!(matches!(
        town.state
            .issue_grants(&town.gateway, request.clone())
            .await,
        Err(Refusal::Credential { .. })
    ));
    request.credential = Some(credential(token));
    assert!(
        town.state
            .issue_grants(&town.gateway, request.clone())
            .await
            .is_ok()
    );
    town.clock.advance(Duration::from_secs(3600) + CLOCK_SKEW);
    assert!(matches!(
        town.state.issue_grants(&town.gateway, request).await,
        Err(Refusal::Credential { .. })
    ));
}

#[tokio::test]
async fn a_certificate_speaks_for_the_account_of_its_name_until_it_is_revoked() {
    let town = Town::with_product().await;
    let ana: PeerId = "spiffe://northmoor/council/analyst/ana".parse().unwrap();
    let chain = town
        .enrol(&ana, None)
        .await
        .unwrap()
        .certificate
        .unwrap()
        .chain_pem;
    let der = guildhall_identity::read_chain(&chain)
        .unwrap()
        .iter()
        .map(|c| c.to_vec())
        .collect();
    let chain = wire::CertificateChain { der };
    let mut request = town.question().await;
    request.credential = Some(wire::Credential {
        kind: Some(wire::credential::Kind::Certificate(chain.clone())),
    });
    assert!(
        town.state
            .issue_grants(&town.gateway, request.clone())
            .await
            .is_ok()
    );
    let sign_in = wire::SignInRequest {
        certificate: Some(chain),
        ..Default::default()
    };
    assert!(
        town.state
            .sign_in(&town.gateway, sign_in.clone())
            .await
            .is_ok()
    );

    let stranger: PeerId = "spiffe://southmoor/council/gateway/gw".parse().unwrap();
    assert!(
        town.state
            .sign_in(&stranger, sign_in.clone())
            .await
            .is_err()
    );
    town.admin().revoke_peer(&ana, town.clock.now()).unwrap();
    assert!(town.state.sign_in(&town.gateway, sign_in).await.is_err());
    assert!(
        town.state
            .issue_grants(&town.gateway, request)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_token_that_a_certificate_was_traded_for_ends_with_it() {
    let town = Town::new().await;
    let ana: PeerId = "spiffe://northmoor/council/analyst/ana".parse().unwrap();
    let enrolled = town.enrol(&ana, None).await.unwrap();
    let chain = guildhall_identity::read_chain(&enrolled.certificate.unwrap().chain_pem).unwrap();
    let ends = PeerCertificate::read(&chain[0]).unwrap().expires;
    let request = wire::SignInRequest {
        certificate: Some(wire::CertificateChain {
            der: chain.iter().map(|c| c.to_vec()).collect(),
        }),
        ..Default::default()
    };
    let token_life = Duration::from_secs(3600);
    for (left, lasts) in [
        (token_life * 2, token_life),
        (token_life / 2, token_life / 2),
        (Duration::from_secs(1), Duration::from_secs(1)),
    ] {
        town.clock
            .advance(ends.before(left).since(town.clock.now()));
        let signed = town.state.sign_in(&town.gateway, request.clone()).await;
        let token: AccessToken = read(&signed.unwrap().token.unwrap());
        assert_eq!(token.expires, town.clock.now().after(lasts));
    }
}

#[tokio::test]
async fn a_certificate_of_another_role_or_past_its_day_is_no_credential() {
    let town = Town::with_product().await;
    let other: PeerId = "spiffe://northmoor/council/gateway/ana".parse().unwrap();
    let ana: PeerId = "spiffe://northmoor/council/analyst/ana".parse().unwrap();
    for (peer, wait) in [
        (other, Duration::ZERO),
        (ana, Duration::from_secs(8 * 86_400)),
    ] {
        let chain = town
            .enrol(&peer, None)
            .await
            .unwrap()
            .certificate
            .unwrap()
            .chain_pem;
        let der = guildhall_identity::read_chain(&chain)
            .unwrap()
            .iter()
            .map(|c| c.to_vec())
            .collect();
        town.clock.advance(wait);
        let certificate = Some(wire::CertificateChain { der });
        let request = wire::SignInRequest {
            certificate,
            ..Default::default()
        };
        let refused = town.state.sign_in(&town.gateway, request).await;
        assert!(matches!(refused, Err(Refusal::Credential { .. })), "{peer}");
    }
}
