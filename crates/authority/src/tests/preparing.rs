//! Which keys a node is lent to prepare a product with, and that it is on record.

use super::*;
use guildhall_audit::{Decision, Event};
use guildhall_keys::EphemeralIdentity;

fn request(town: &Town, product: &str, columns: &[Option<&str>]) -> wire::LendToPrepareRequest {
    let keys = columns.iter().map(|c| wrapped(*c, &town.sessions));
    wire::LendToPrepareRequest {
        product: product.to_owned(),
        version: 1,
        ephemeral_recipient: EphemeralIdentity::generate().recipient().to_string(),
        keys: keys.collect(),
    }
}

const ALL: [Option<&str>; 4] = [None, Some("ward"), Some("paid"), Some("plate")];

/// Why it was refused; the refusal is the last thing on record.
async fn refused(town: &Town, node: &PeerId, request: wire::LendToPrepareRequest) -> String {
    let refusal = town.state.lend_to_prepare(node, request).await;
    let refusal = refusal.unwrap_err();
    let entry = town.log().pop().unwrap();
    let said = (entry.event, entry.decision);
    assert_eq!(said, (Event::LendKeys, Decision::Forbid));
    assert_eq!(entry.reason.unwrap().as_str(), refusal.name());
    assert_eq!(entry.purpose.unwrap().as_str(), "prepare");
    refusal.to_string()
}

#[tokio::test]
async fn a_node_prepares_its_own_statistics_and_the_loan_is_on_record_as_that() {
    let town = Town::with_product().await;
    let identity = EphemeralIdentity::generate();
    let request = wire::LendToPrepareRequest {
        ephemeral_recipient: identity.recipient().to_string(),
        ..request(&town, "sessions", &ALL)
    };
    let lent = town.state.lend_to_prepare(&town.node, request).await;
    let lent = lent.unwrap();
    let opened = identity.open(&lent.sealed).unwrap();
    let keys: wire::LentKeys = prost::Message::decode(opened.as_slice()).unwrap();
    let columns: Vec<&str> = keys.keys.iter().map(|k| k.column.as_str()).collect();
    assert_eq!(columns, ["", "paid", "plate", "ward"]);

    let log = town.log();
    let [.., issued, loan] = log.as_slice() else {
        panic!("a grant and a loan are on record")
    };
    let permit = |event| (event, Decision::Permit);
    assert_eq!((issued.event, issued.decision), permit(Event::IssueGrant));
    assert_eq!(
        issued.policies,
        ["statistics-are-prepared-at-their-own-node"]
    );
    assert_eq!(issued.recipient, Some(town.node.clone()));
    assert_eq!((loan.event, loan.decision), permit(Event::LendKeys));
    assert_eq!((&loan.grant, loan.keys.len()), (&issued.grant, 4));
    for entry in [issued, loan] {
        let who = entry.principal.as_ref().unwrap().to_string();
        let why = entry.purpose.as_ref().unwrap().as_str();
        assert_eq!((who.as_str(), why), ("northmoor/n1", "prepare"));
    }
}

#[tokio::test]
async fn no_column_is_lent_that_no_question_of_cells_reads() {
    let town = Town::with_product().await;
    let said = refused(
        &town,
        &town.node,
        request(&town, "sessions", &[None, Some("note")]),
    )
    .await;
    assert_eq!(said, "the grant does not cover column `sessions.note`");
}

#[tokio::test]
async fn what_is_not_registered_as_it_stands_is_not_prepared() {
    let town = Town::with_product().await;
    let gone = "a product of this grant has changed since";
    let unknown = request(&town, "swims", &ALL);
    assert!(refused(&town, &town.node, unknown).await.contains(gone));
    let later = wire::LendToPrepareRequest {
        version: 2,
        ..request(&town, "sessions", &ALL)
    };
    assert!(refused(&town, &town.node, later).await.contains(gone));
    let other: PeerId = "spiffe://northmoor/parking/node/n2".parse().unwrap();
    town.enrol(&other, Some(&town.node_key)).await.unwrap();
    let theirs = request(&town, "sessions", &ALL);
    assert!(refused(&town, &other, theirs).await.contains(gone));
}

#[tokio::test]
async fn rows_are_not_prepared_whatever_policy_says() {
    let town = Town::with_product().await;
    town.register(&town.open_product()).await.unwrap();
    let said = refused(&town, &town.node, request(&town, "open_sessions", &ALL)).await;
    assert!(said.contains("it is of class `open`"), "{said}");
}

#[tokio::test]
async fn a_council_whose_policy_does_not_say_so_lends_nothing() {
    let mut town = Town::with_product().await;
    let file = town.dir.path().join("council.cedar");
    let text = guildhall_policy::DEFAULT_COUNCIL_POLICY;
    std::fs::write(&file, text.replace("PrepareProduct", "CheckProduct")).unwrap();
    let config = AuthorityConfig {
        policy: Some(file),
        ..config(town.dir.path(), "northmoor")
    };
    town.state = Arc::new(State::unlock(config, town.clock.clone()).unwrap());
    let said = refused(&town, &town.node, request(&town, "sessions", &ALL)).await;
    assert!(said.contains("sessions"), "{said}");
}
