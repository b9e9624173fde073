//! Who is lent keys for the check of a product, and which.

use super::*;
use guildhall_audit::{Decision, Event};
use guildhall_keys::EphemeralIdentity;

/// A town whose council lets `olu` check products.
async fn town() -> Town {
    let town = Town::new().await;
    let purposes = names(&["planning", "review", "product_check"]);
    town.admin()
        .set_purposes(&purposes, town.clock.now())
        .unwrap();
    town.account("olu", &[], &["product_check"]);
    town
}

fn request(town: &Town, account: &str, columns: &[Option<&str>]) -> wire::LendForCheckRequest {
    let keys = columns.iter().map(|c| wrapped(*c, &town.sessions));
    wire::LendForCheckRequest {
        account: account.to_owned(),
        password: PASSWORD.to_owned(),
        product: Some(envelope::sign(&town.product(), &town.node_key)),
        ephemeral_recipient: EphemeralIdentity::generate().recipient().to_string(),
        keys: keys.collect(),
    }
}

const ALL: [Option<&str>; 4] = [None, Some("ward"), Some("paid"), Some("plate")];

/// Why it was refused; the refusal is the last thing on record.
async fn refused(town: &Town, request: wire::LendForCheckRequest) -> String {
    let refusal = town.state.lend_for_check(&town.node, request).await;
    let refusal = refusal.unwrap_err();
    let entry = town.log().pop().unwrap();
    let said = (entry.event, entry.decision);
    assert_eq!(said, (Event::LendKeys, Decision::Forbid));
    assert_eq!(entry.reason.unwrap().as_str(), refusal.name());
    refusal.to_string()
}

#[tokio::test]
async fn keys_of_a_product_that_is_not_registered_are_lent_on_an_officers_leave() {
    let town = town().await;
    let identity = EphemeralIdentity::generate();
    let request = wire::LendForCheckRequest {
        ephemeral_recipient: identity.recipient().to_string(),
        ..request(&town, "olu", &ALL)
    };
    let lent = town
        .state
        .lend_for_check(&town.node, request)
        .await
        .unwrap();
    let opened = identity.open(&lent.sealed).unwrap();
    let keys: wire::LentKeys = prost::Message::decode(opened.as_slice()).unwrap();
    let columns: Vec<&str> = keys.keys.iter().map(|k| k.column.as_str()).collect();
    assert_eq!(columns, ["", "paid", "plate", "ward"]);

    let log = town.log();
    let [.., issued, loan] = log.as_slice() else {
        panic!("a grant and a loan are on record")
    };
    assert_eq!(
        (issued.event, issued.decision),
        (Event::IssueGrant, Decision::Permit)
    );
    assert_eq!(
        issued.policies,
        ["product-checks-for-whoever-holds-the-purpose"]
    );
    assert_eq!(issued.recipient, Some(town.node.clone()));
    assert_eq!(
        (loan.event, loan.decision),
        (Event::LendKeys, Decision::Permit)
    );
    assert_eq!((&loan.grant, loan.keys.len()), (&issued.grant, 4));
    assert_eq!(
        loan.principal.as_ref().unwrap().to_string(),
        "northmoor/olu"
    );
}

#[tokio::test]
async fn nobody_else_gives_leave() {
    let town = town().await;
    let said = refused(&town, request(&town, "ana", &ALL)).await;
    assert!(
        said.contains("`product_check` is not a purpose that you may name"),
        "{said}"
    );
    let wrong = wire::LendForCheckRequest {
        password: "guess".to_owned(),
        ..request(&town, "olu", &ALL)
    };
    assert_eq!(
        refused(&town, wrong).await,
        "the account or the password is wrong"
    );
}

#[tokio::test]
async fn a_council_that_does_not_publish_the_purpose_lends_nothing() {
    let town = town().await;
    let purposes = names(&["planning", "review"]);
    town.admin()
        .set_purposes(&purposes, town.clock.now())
        .unwrap();
    let said = refused(&town, request(&town, "olu", &ALL)).await;
    assert!(said.contains("is not a purpose"), "{said}");
}

#[tokio::test]
async fn a_product_reads_no_more_than_it_says_and_is_the_nodes_own() {
    let town = town().await;
    let more = [None, Some("ward"), Some("other")];
    let said = refused(&town, request(&town, "olu", &more)).await;
    assert_eq!(said, "the grant does not cover column `sessions.other`");

    let forged = wire::LendForCheckRequest {
        product: Some(envelope::sign(
            &town.product(),
            &SigningKey::generate().unwrap(),
        )),
        ..request(&town, "olu", &ALL)
    };
    assert!(
        refused(&town, forged)
            .await
            .contains("`product` is not valid")
    );

    let mut theirs = town.product();
    theirs.department = "highways".parse().unwrap();
    theirs.node = "spiffe://northmoor/highways/node/n1".parse().unwrap();
    let theirs = wire::LendForCheckRequest {
        product: Some(envelope::sign(&theirs, &town.node_key)),
        ..request(&town, "olu", &ALL)
    };
    assert!(refused(&town, theirs).await.contains("not of this node"));
}

#[tokio::test]
async fn a_dataset_of_another_node_is_not_lent_for_a_check() {
    let town = town().await;
    let other: PeerId = "spiffe://northmoor/parking/node/n2".parse().unwrap();
    town.enrol(&other, Some(&town.node_key)).await.unwrap();
    let mut product = town.product();
    product.node = other.clone();
    let request = wire::LendForCheckRequest {
        product: Some(envelope::sign(&product, &town.node_key)),
        ..request(&town, "olu", &ALL)
    };
    let refusal = town
        .state
        .lend_for_check(&other, request)
        .await
        .unwrap_err();
    assert!(refusal.to_string().contains("is held by"), "{refusal}");
}
