//! Grants for parts of cells, which a clean room puts together.

use super::*;
use guildhall_audit::{Decision, Event};
use guildhall_grant::{Grant, envelope};

const CLEAN_ROOM: &str = "spiffe://northmoor/council/clean-room/main";

/// A town whose units are nobody else's.
async fn shared() -> Town {
    let town = Town::new().await;
    let product = Product {
        conforms_to: Some("sessions".parse().unwrap()),
        joint_with: ["southmoor.parking.sessions".parse().unwrap()].into(),
        ..town.product()
    };
    town.register(&product).await.unwrap();
    town
}

/// What the authority says to a question for parts of cells that `recipient` would be sent.
async fn asked(town: &Town, recipient: &str) -> Result<Grant, String> {
    let mut request = town.question().await;
    let fragment = town.fragment("sessions", OutputClass::PartialCells, &["ward", "paid"]);
    request.fragments = vec![wire::FragmentWanted {
        recipient: recipient.to_owned(),
        ..fragment
    }];
    let issued = town.state.issue_grants(&town.gateway, request).await;
    let issued = issued.map_err(|refusal| refusal.to_string())?;
    Ok(envelope::verify(&issued.grants[0], &[town.state.verifying]).unwrap())
}

#[tokio::test]
async fn parts_of_cells_are_granted_to_a_clean_room_for_the_gateway_that_asks() {
    let town = shared().await;
    let grant = asked(&town, CLEAN_ROOM).await.unwrap();
    assert_eq!(grant.output, OutputClass::PartialCells);
    assert_eq!(grant.recipient.to_string(), CLEAN_ROOM);
    assert_eq!(grant.gateway, town.gateway);
    let entry = town.log().pop().unwrap();
    assert_eq!(
        (entry.event, entry.decision),
        (Event::IssueGrant, Decision::Permit)
    );
    assert_eq!(entry.recipient, Some(grant.recipient));
    assert_eq!(entry.peer, Some(town.gateway.clone()));
    assert_eq!(entry.policies, ["parts-of-cells-to-our-clean-room"]);
}

#[tokio::test]
async fn nobody_but_a_clean_room_is_granted_parts_of_cells() {
    let town = shared().await;
    let refused = asked(&town, GATEWAY).await.unwrap_err();
    assert_eq!(
        refused,
        "`fragments.recipient` is not valid: parts of cells go to a clean room"
    );
    let node = town.node.to_string();
    assert_eq!(asked(&town, &node).await.unwrap_err(), refused);
}

#[tokio::test]
async fn another_councils_clean_room_is_granted_them_where_a_policy_says_so() {
    let town = shared().await;
    let theirs = CLEAN_ROOM.replace("northmoor", "southmoor");
    let refused = asked(&town, &theirs).await.unwrap_err();
    assert!(refused.contains("nothing-permits-it"), "{refused}");
}

#[tokio::test]
async fn units_that_may_be_another_owners_too_are_not_put_together_with_theirs() {
    let town = Town::with_product().await;
    let refused = asked(&town, CLEAN_ROOM).await.unwrap_err();
    assert!(refused.contains("not released together"), "{refused}");
}
