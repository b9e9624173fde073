//! Signing in, catalogues, grants.

use super::*;
use guildhall_audit::{Decision, Event};
use guildhall_grant::token::{self, TokenCheck};
use guildhall_grant::{AccessToken, CLOCK_SKEW, Grant, GrantCheck};
use std::time::Duration;

type Change<'a> = Box<dyn FnOnce(&mut wire::IssueGrantsRequest) + 'a>;

#[tokio::test]
async fn a_grant_says_what_was_asked_and_is_signed_and_on_record() {
    let town = Town::with_product().await;
    let envelope = town.grant().await;
    let check = GrantCheck {
        council: &town.node.council,
        node: &town.node,
        fragment: &fragment_digest(),
        recipient: Some(&town.gateway),
        now: town.clock.now(),
    };
    let grant = guildhall_grant::verify(&envelope, &[town.state.verifying], &check).unwrap();
    assert_eq!(grant.principal.to_string(), "northmoor/ana");
    assert_eq!(
        grant.expires,
        town.clock.now().after(Duration::from_secs(300))
    );
    let columns: Vec<&str> = grant.products[0]
        .columns
        .iter()
        .map(|c| c.as_str())
        .collect();
    assert_eq!(columns, ["paid", "ward"]);

    let entry = town.log().pop().unwrap();
    assert_eq!(
        (entry.event, entry.decision),
        (Event::IssueGrant, Decision::Permit)
    );
    assert_eq!(entry.grant, Some(grant.id.clone()));
    assert_eq!(entry.policies, ["statistics-for-analysts"]);
    assert_eq!(entry.fragment, Some(fragment_digest()));
}

/// Asks after `change`; what the answer was, and what the log then says last.
async fn asked(town: &Town, change: impl FnOnce(&mut wire::IssueGrantsRequest)) -> String {
    let mut request = town.question().await;
    change(&mut request);
    let refusal = town
        .state
        .issue_grants(&town.gateway, request)
        .await
        .unwrap_err();
    let entry = town.log().pop().unwrap();
    assert_eq!(
        (entry.event, entry.decision),
        (Event::IssueGrant, Decision::Forbid)
    );
    assert_eq!(entry.reason.unwrap().as_str(), refusal.name());
    refusal.to_string()
}

#[tokio::test]
async fn every_reason_against_a_grant_is_found_and_recorded() {
    let town = Town::with_product().await;
    town.register(&town.open_product()).await.unwrap();
    let fragment = |product, output, columns: &[&str]| town.fragment(product, output, columns);
    let (cells, rows) = (OutputClass::ReleasedCells, OutputClass::OpenRows);
    let cases: Vec<(&str, Change<'_>)> = vec![
        (
            "`fragments` is not valid: between 1 and 256 are granted at once",
            Box::new(|r| r.fragments.clear()),
        ),
        (
            "the credential is not valid: none was given",
            Box::new(|r| r.credential = None),
        ),
        (
            "`secrets` is not a purpose that you may name here; you may name: planning, review",
            Box::new(|r| r.purpose = "secrets".to_owned()),
        ),
        (
            "no product `northmoor.parking.sessions`",
            Box::new(|r| r.purpose = "review".to_owned()),
        ),
        (
            "no product `northmoor.parking.no_such`",
            Box::new(|r| r.fragments[0] = fragment("no_such", cells, &["ward"])),
        ),
        (
            "`fragments.products` is not valid: a fragment reads some product",
            Box::new(|r| r.fragments[0].products.clear()),
        ),
        (
            "`fragments.products` is not valid: it names a product twice",
            Box::new(|r| {
                let twice = r.fragments[0].products[0].clone();
                r.fragments[0].products.push(twice);
            }),
        ),
        (
            "product `northmoor.parking.sessions` is now version 1; plan the question again",
            Box::new(|r| r.fragments[0].products[0].version = 2),
        ),
        (
            "`fragments.node` is not valid: the product is served by another node",
            Box::new(|r| r.fragments[0].node = "spiffe://northmoor/parking/node/n2".to_owned()),
        ),
        (
            "`fragments.recipient` is not valid: results go to the gateway that asks",
            Box::new(|r| {
                r.fragments[0].recipient = "spiffe://northmoor/council/gateway/other".to_owned()
            }),
        ),
        (
            "`fragments.fragment_digest` is not valid: not 32 bytes",
            Box::new(|r| r.fragments[0].fragment_digest.truncate(31)),
        ),
        (
            "`northmoor.parking.sessions` does not release this: it releases cells, not rows",
            Box::new(|r| r.fragments[0] = fragment("sessions", rows, &["ward"])),
        ),
        (
            "`northmoor.parking.sessions` does not release this: column `colour` does not exist",
            Box::new(|r| r.fragments[0] = fragment("sessions", cells, &["colour"])),
        ),
        (
            "`northmoor.parking.sessions` does not release this: column `note` never leaves its node",
            Box::new(|r| r.fragments[0] = fragment("sessions", cells, &["note"])),
        ),
        (
            "`northmoor.parking.open_sessions` does not release this: column `note` never leaves its node",
            Box::new(|r| r.fragments[0] = fragment("open_sessions", rows, &["note"])),
        ),
        (
            "`northmoor.parking.open_sessions` does not release this: column `vehicle` is an identifier and never leaves as a row",
            Box::new(|r| r.fragments[0] = fragment("open_sessions", rows, &["vehicle"])),
        ),
    ];
    for (expected, change) in cases {
        assert_eq!(asked(&town, change).await, expected);
    }
}

#[tokio::test]
async fn one_fragment_that_is_refused_leaves_no_grant_for_the_others() {
    let town = Town::with_product().await;
    let mut request = town.question().await;
    request
        .fragments
        .push(town.fragment("no_such", OutputClass::ReleasedCells, &["ward"]));
    assert!(
        town.state
            .issue_grants(&town.gateway, request)
            .await
            .is_err()
    );
    let issued = |e: &&Entry| e.event == Event::IssueGrant && e.decision == Decision::Permit;
    assert_eq!(town.log().iter().filter(issued).count(), 0);
}

#[tokio::test]
async fn what_policy_forbids_looks_like_what_does_not_exist() {
    let town = Town::with_product().await;
    town.account("loader", &["service"], &["planning"]);
    let mut request = town.question().await;
    request.credential = Some(town.token("loader").await);
    let refusal = town
        .state
        .issue_grants(&town.gateway, request)
        .await
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "no product `northmoor.parking.sessions`"
    );
    assert_eq!(tonic::Status::from(refusal).code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn a_policy_that_forbids_is_named_to_those_who_may_know_of_the_product() {
    let mut town = Town::with_product().await;
    let policy = town.dir.path().join("council.cedar");
    let text = guildhall_policy::DEFAULT_COUNCIL_POLICY;
    let forbid = "@id(\"no-payments\") forbid (principal, action == Action::\"ReadCells\", resource) when { context.columns.contains(\"paid\") };";
    std::fs::write(&policy, text).unwrap();
    let config = AuthorityConfig {
        policy: Some(policy.clone()),
        ..config(town.dir.path(), "northmoor")
    };
    town.state = Arc::new(State::unlock(config, town.clock.clone()).unwrap());
    town.grant().await;

    std::fs::write(&policy, format!("{text}\n{forbid}")).unwrap();
    town.state.refresh().await.unwrap();
    assert_eq!(town.log().pop().unwrap().event, Event::PolicyChange);
    let mut request = town.question().await;
    let refusal = town
        .state
        .issue_grants(&town.gateway, request.clone())
        .await
        .unwrap_err();
    let expected =
        "policy does not allow this question over `northmoor.parking.sessions` (`no-payments`)";
    assert_eq!(refusal.to_string(), expected);
    assert_eq!(town.log().pop().unwrap().policies, ["no-payments"]);
    request.fragments[0] = town.fragment("sessions", OutputClass::ReleasedCells, &["ward"]);
    assert!(
        town.state
            .issue_grants(&town.gateway, request)
            .await
            .is_ok()
    );

    std::fs::write(&policy, "not a policy").unwrap();
    assert!(town.state.refresh().await.is_err());
    assert!(
        town.state
            .issue_grants(&town.gateway, town.question().await)
            .await
            .is_err()
    );
}

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
async fn another_councils_principal_is_believed_once_that_council_is_trusted() {
    let (north, south) = (Town::with_product().await, Town::of("southmoor").await);
    north.register(&north.open_product()).await.unwrap();
    let request = visiting(&south, &north, "open_sessions", OutputClass::OpenRows).await;
    let ask = || north.state.issue_grants(&south.gateway, request.clone());
    assert!(matches!(ask().await, Err(Refusal::Credential { .. })));

    let bundle = south.admin().bundle().unwrap();
    north.admin().trust_add(&bundle, north.clock.now()).unwrap();
    north.state.refresh().await.unwrap();
    let grant: Grant = read(&ask().await.unwrap().grants[0]);
    assert_eq!(grant.principal.to_string(), "southmoor/ana");
    assert_eq!(grant.council.as_str(), "northmoor");
    assert!(
        north
            .state
            .admit(south.gateway.clone(), &[guildhall_model::Role::Gateway])
            .is_ok()
    );
    assert!(
        north
            .state
            .admit(south.node.clone(), &[guildhall_model::Role::Node])
            .is_err()
    );
    assert!(north.state.admit(south.gateway.clone(), &[]).is_err());

    north
        .admin()
        .revoke_peer(&south.gateway, north.clock.now())
        .unwrap();
    assert!(
        north
            .state
            .admit(south.gateway.clone(), &[guildhall_model::Role::Gateway])
            .is_err()
    );
    north
        .admin()
        .trust_remove(&south.node.council, north.clock.now())
        .unwrap();
    north.state.refresh().await.unwrap();
    assert!(matches!(ask().await, Err(Refusal::Credential { .. })));
}

/// What `ana` of `home`, signed in there, asks `host` through her own council's gateway.
async fn visiting(
    home: &Town,
    host: &Town,
    product: &str,
    output: OutputClass,
) -> wire::IssueGrantsRequest {
    let fragment = wire::FragmentWanted {
        recipient: home.gateway.to_string(),
        ..host.fragment(product, output, &["ward"])
    };
    wire::IssueGrantsRequest {
        credential: Some(home.token("ana").await),
        fragments: vec![fragment],
        ..host.question().await
    }
}

#[tokio::test]
async fn another_councils_analyst_is_none_of_ours() {
    let (mut north, south) = (Town::with_product().await, Town::of("southmoor").await);
    let policy = north.dir.path().join("council.cedar");
    let text = guildhall_policy::DEFAULT_COUNCIL_POLICY;
    std::fs::write(&policy, text).unwrap();
    let bundle = south.admin().bundle().unwrap();
    north.admin().trust_add(&bundle, north.clock.now()).unwrap();
    let config = AuthorityConfig {
        policy: Some(policy.clone()),
        ..config(north.dir.path(), "northmoor")
    };
    north.state = Arc::new(State::unlock(config, north.clock.clone()).unwrap());
    let cells = visiting(&south, &north, "sessions", OutputClass::ReleasedCells).await;
    let ask = || north.state.issue_grants(&south.gateway, cells.clone());
    assert!(matches!(ask().await, Err(Refusal::NoProduct(_))));

    let permit = "@id(\"neighbours\") permit (principal, action in [Action::\"SeeProduct\", Action::\"ReadCells\"], resource) when { principal.roles.contains(\"southmoor/analyst\") };";
    std::fs::write(&policy, format!("{text}\n{permit}")).unwrap();
    north.state.refresh().await.unwrap();
    ask().await.unwrap();
    assert_eq!(north.log().pop().unwrap().policies, ["neighbours"]);
}

#[tokio::test]
async fn a_token_that_another_gateway_shows_is_refused_at_home_and_abroad() {
    let (north, south) = (Town::with_product().await, Town::of("southmoor").await);
    north.register(&north.open_product()).await.unwrap();
    let bundle = south.admin().bundle().unwrap();
    north.admin().trust_add(&bundle, north.clock.now()).unwrap();
    north.state.refresh().await.unwrap();
    let stolen = async |credential, thief: &PeerId| {
        let fragment = wire::FragmentWanted {
            recipient: thief.to_string(),
            ..north.fragment("open_sessions", OutputClass::OpenRows, &["ward"])
        };
        let request = wire::IssueGrantsRequest {
            credential: Some(credential),
            fragments: vec![fragment],
            ..north.question().await
        };
        let catalogue = wire::CatalogueRequest {
            credential: request.credential.clone(),
            purpose: String::new(),
        };
        let seen = north.state.catalogue(thief, catalogue).map(drop);
        let granted = north.state.issue_grants(thief, request).await.map(drop);
        [seen, granted].map(|answer| answer.map_err(|e| e.to_string()))
    };
    let why = "the credential is not valid: the access token was given through another gateway; sign in through this one";
    let refused = || [Err(why.to_owned()), Err(why.to_owned())];
    let (own, visitor) = (north.token("ana").await, south.token("ana").await);
    assert_eq!(stolen(own.clone(), &south.gateway).await, refused());
    assert_eq!(stolen(visitor.clone(), &north.gateway).await, refused());
    assert_eq!(stolen(own, &north.gateway).await, [Ok(()), Ok(())]);
    assert_eq!(stolen(visitor, &south.gateway).await, [Ok(()), Ok(())]);
}

#[tokio::test]
async fn a_council_cannot_sign_for_another_councils_principal() {
    let (north, south) = (Town::with_product().await, Town::of("southmoor").await);
    north
        .admin()
        .trust_add(&south.admin().bundle().unwrap(), north.clock.now())
        .unwrap();
    north.state.refresh().await.unwrap();
    let wire::credential::Kind::AccessToken(token) = north.token("ana").await.kind.unwrap() else {
        panic!("not a token");
    };
    let forged = envelope::sign(&read::<AccessToken>(&token), &south.state.signing);
    let mut request = north.question().await;
    request.credential = Some(credential(forged));
    let refused = north.state.issue_grants(&north.gateway, request).await;
    assert!(matches!(refused, Err(Refusal::Credential { .. })));
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

#[tokio::test]
async fn a_catalogue_holds_what_may_be_seen_and_nothing_else() {
    let town = Town::with_product().await;
    town.register(&town.open_product()).await.unwrap();
    town.account("loader", &["service"], &["planning"]);
    let seen = async |account: &str, purpose: &str| {
        let request = wire::CatalogueRequest {
            credential: Some(town.token(account).await),
            purpose: purpose.to_owned(),
        };
        let answer = town.state.catalogue(&town.gateway, request)?;
        let name = |e: &wire::CatalogueEntry| {
            let envelope = envelope::decode(&e.product).unwrap();
            let product: Product = envelope::verify(&envelope, &[town.node_key.public()]).unwrap();
            product.name.to_string()
        };
        Ok::<Vec<String>, Refusal>(answer.products.iter().map(name).collect())
    };
    for _again in 0..2 {
        assert_eq!(
            seen("ana", "").await.unwrap(),
            ["open_sessions", "sessions"]
        );
        assert_eq!(
            seen("ana", "planning").await.unwrap(),
            ["open_sessions", "sessions"]
        );
        assert!(seen("ana", "review").await.unwrap().is_empty());
        assert_eq!(seen("loader", "planning").await.unwrap(), ["open_sessions"]);
        assert!(matches!(
            seen("loader", "review").await,
            Err(Refusal::Purpose { .. })
        ));
    }
    town.admin()
        .revoke_peer(&town.node, town.clock.now())
        .unwrap();
    assert!(seen("ana", "").await.unwrap().is_empty());
}

#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_grant_costs() {
    let town = Arc::new(Town::with_product().await);
    let request = town.question().await;
    let start = std::time::Instant::now();
    for _ in 0..200 {
        town.state
            .issue_grants(&town.gateway, request.clone())
            .await
            .unwrap();
    }
    println!("{:?} a grant, one after another", start.elapsed() / 200);
    let start = std::time::Instant::now();
    for _ in 0..200 {
        let entry = Entry::new(Event::Renew, Decision::Permit);
        town.state.record(entry, town.clock.now()).await.unwrap();
    }
    println!("{:?} of that for the log", start.elapsed() / 200);
    let start = std::time::Instant::now();
    let all = (0..1000).map(|_| town.state.issue_grants(&town.gateway, request.clone()));
    for granted in futures::future::join_all(all).await {
        granted.unwrap();
    }
    println!("{:?} a grant, a thousand at once", start.elapsed() / 1000);
}
