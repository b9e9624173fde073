//! By whose leave a fragment runs: its grant, the department's policy, the keys that are lent, and the record of it.

use super::KINSON;
use crate::testing::{TestNode, refused};
use tonic::Code;

#[tokio::test]
async fn only_the_keys_of_columns_that_are_read_are_asked_for() {
    let node = TestNode::parking().await;
    node.rows("SELECT ward FROM northmoor.parking.places")
        .await
        .unwrap();
    assert_eq!(
        node.authority.columns_asked(),
        ["car_parks.", "car_parks.ward"]
    );
}

#[tokio::test]
async fn cells_ask_for_the_unit_the_joins_and_what_is_named() {
    let node = TestNode::parking().await;
    node.cells("SELECT ward, count(*) AS n FROM northmoor.parking.sessions GROUP BY ward")
        .await
        .unwrap();
    assert_eq!(
        node.authority.columns_asked(),
        [
            "car_parks.",
            "car_parks.car_park",
            "car_parks.ward",
            "sessions.",
            "sessions.car_park",
            "sessions.vehicle"
        ]
    );
}

#[tokio::test]
async fn a_grant_is_used_once() {
    let node = TestNode::parking().await;
    let fragment = node
        .fragment("SELECT ward FROM northmoor.parking.places")
        .await;
    let grant = node.grant(&fragment, guildhall_model::OutputClass::OpenRows);
    node.send(&grant, &fragment).await.unwrap();
    let (code, text) = refused(node.send(&grant, &fragment).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(text.contains("has been used\nhelp: ask again"), "{text}");
}

#[tokio::test]
async fn what_the_authority_does_not_lend_is_not_read() {
    let mut node = TestNode::parking().await;
    node.runner.authority = std::sync::Arc::new(crate::testing::FakeAuthority::refusing());
    let (code, text) = refused(node.rows("SELECT ward FROM northmoor.parking.places").await);
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(text, "the authority lends no keys for this grant");
}

#[tokio::test]
async fn cells_that_are_known_are_told_only_to_whom_keys_are_lent() {
    let mut node = TestNode::parking().await;
    let first = node.cells(KINSON).await.unwrap();
    let asked = node.authority.columns_asked();
    node.authority.asked.lock().unwrap().clear();
    assert_eq!(node.cells(KINSON).await.unwrap(), first);
    assert_eq!(node.authority.columns_asked(), asked, "the same keys again");
    node.runner.authority = std::sync::Arc::new(crate::testing::FakeAuthority::refusing());
    let (code, text) = refused(node.cells(KINSON).await);
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(text, "the authority lends no keys for this grant");
}

#[tokio::test]
async fn what_holds_cells_or_literals_does_not_print_them() {
    let node = TestNode::parking().await;
    node.cells(KINSON).await.unwrap();
    let printed = format!("{:?}", node.runner);
    assert!(
        printed.contains("Known") && !printed.contains("Kinson"),
        "{printed}"
    );
}

#[tokio::test]
async fn an_authority_that_is_away_is_named() {
    let node = TestNode::parking().await;
    let fragment = node
        .fragment("SELECT ward FROM northmoor.parking.places")
        .await;
    let grant = node.grant(&fragment, guildhall_model::OutputClass::OpenRows);
    node.authority
        .away
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let (code, text) = refused(node.send(&grant, &fragment).await);
    assert_eq!(code, Code::Unavailable);
    assert!(text.contains("authority"), "{text}");
}

#[tokio::test]
async fn every_decision_is_in_the_chained_log() {
    let node = TestNode::parking().await;
    node.rows("SELECT ward FROM northmoor.parking.places")
        .await
        .unwrap();
    let fragment = node
        .fragment("SELECT ward FROM northmoor.parking.places")
        .await;
    let grant = node.grant(&fragment, guildhall_model::OutputClass::OpenRows);
    node.send(&grant, b"another fragment").await.unwrap_err();
    let records = node.runner.log.records().unwrap();
    guildhall_audit::verify_chain(&records).unwrap();
    let text: Vec<String> = records
        .iter()
        .map(|r| String::from_utf8(r.bytes.clone()).unwrap())
        .collect();
    assert!(
        text.iter()
            .any(|t| t.contains("\"admit-fragment\"") && t.contains("\"permit\""))
    );
    assert!(text.last().unwrap().contains("\"forbid\""), "{text:?}");
}

#[tokio::test]
async fn a_departments_own_policy_can_forbid_what_the_council_granted() {
    let policy = format!(
        "{}\n@id(\"not-for-ana\") forbid (principal == Principal::\"northmoor/ana\", action, resource);",
        guildhall_policy::DEFAULT_DEPARTMENT_POLICY
    );
    let mut node = TestNode::with_policy(&policy);
    node.fill().await;
    let (code, text) = refused(node.rows("SELECT ward FROM northmoor.parking.places").await);
    assert_eq!(
        (code, text.contains("`not-for-ana`")),
        (Code::PermissionDenied, true),
        "{text}"
    );
    assert!(
        node.authority.columns_asked().is_empty(),
        "keys were asked for after a refusal"
    );
}
