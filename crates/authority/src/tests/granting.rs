//! What is asked, granted and refused, and what of it is on record.

use super::*;
use guildhall_audit::{Decision, Event};
use guildhall_grant::GrantCheck;
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
