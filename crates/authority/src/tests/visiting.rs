//! Two councils: whose word counts where, and through which gateway.

use super::*;
use guildhall_grant::{AccessToken, Grant};

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
