//! Checks of free questions behind which another stands: each by what it alone says or does.

use super::adhoc_tests::{STAYS, asked, debits, numbers, product};
use crate::testing::{TestNode, refused};
use guildhall_model::OutputClass;
use std::sync::atomic::Ordering;
use tonic::Code;

#[tokio::test]
async fn rows_of_nobody_are_in_no_cell_of_a_free_question() {
    let mut node = TestNode::parking().await;
    let parks = "car_park,ward,spaces\nP1,Kinson,1\nP2,Boscombe,1\n";
    node.import(crate::testing::CAR_PARKS, parks).await.unwrap();
    let stay = |vehicle: &str, park| format!("{vehicle},{park},2026-02-01 10:00:00,100,0.1,x\n");
    let mut csv = "vehicle,car_park,started,paid_pence,hours,notes\n".to_owned();
    csv.extend((0..20).map(|v| stay(&format!("K{v}"), "P1")));
    // Without a vehicle, and alone in their ward.
    csv.extend((0..20).map(|_| stay("", "P2")));
    node.import(crate::testing::SESSIONS_DATA, &csv)
        .await
        .unwrap();
    node.publish(&product("1", 1)).await.unwrap();
    node.authority.budget.store(u64::MAX, Ordering::SeqCst);
    // Nobody is in Boscombe. Of a rho of 1 the mean of 80 draws is off by 0.08 as a rule, and by a half never.
    let mut nobody = 0;
    for draw in 0..80 {
        let sql = format!(
            "SELECT count(DISTINCT vehicle) AS n FROM {STAYS} WHERE ward LIKE 'B%' AND paid_pence > -{}",
            1000 + draw
        );
        nobody += numbers(&asked(&node, &sql).await.unwrap(), 0)[0];
    }
    assert!(nobody < 40, "{nobody}");
}

#[tokio::test]
async fn another_version_is_another_question_though_its_file_is_the_same() {
    let mut node = TestNode::parking().await;
    let first = node.publish(&product("0.001", 1)).await.unwrap().product;
    let sql = format!("SELECT count(*) AS n FROM {STAYS} WHERE paid_pence > 100");
    asked(&node, &sql).await.unwrap();
    let mut second = first.clone();
    second.version += 1;
    assert_eq!(first.definition, second.definition);
    node.shelve(second);
    asked(&node, &sql).await.unwrap();
    assert_eq!(debits(&node), 2);
}

#[tokio::test]
async fn a_budget_of_one_purpose_takes_no_question_of_another() {
    let mut node = TestNode::parking().await;
    let purposes = "purposes = [\"transport_planning\", \"service_review\"]";
    let text = product("0.001", 1).replace("purposes = [\"transport_planning\"]", purposes);
    node.publish(&text).await.unwrap();
    let sql = format!("SELECT count(*) AS n FROM {STAYS} WHERE paid_pence > 100");
    let fragment = node.fragment(&sql).await;
    let mut grant = node.grant(&fragment, OutputClass::ReleasedCells);
    grant.purpose = "service_review".parse().unwrap();
    let (code, text) = refused(node.send(&grant, &fragment).await);
    assert_eq!(code, Code::PermissionDenied, "{text}");
    assert!(text.contains("(rule `cube.predicate`)"), "{text}");
    assert_eq!(debits(&node), 0);
}
