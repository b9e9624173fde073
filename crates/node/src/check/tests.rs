//! Checking, from the file to the report.

use super::*;
use crate::product::SESSIONS;
use crate::testing::{FakeAuthority, TestNode};

#[tokio::test]
async fn without_leave_no_key_is_asked_for_and_the_file_is_linted_all_the_same() {
    let node = TestNode::parking().await;
    let checked = node.check(SESSIONS, None).await.unwrap();
    assert!(checked.survey.is_none());
    assert!(node.authority.columns_asked().is_empty());
    assert!(
        checked.to_string().contains("its data was not read"),
        "{checked}"
    );
}

#[tokio::test]
async fn with_leave_the_keys_of_the_product_are_borrowed_and_it_is_written_down() {
    let node = TestNode::parking().await;
    let checked = node.check(SESSIONS, Some(&node.authority)).await.unwrap();
    assert!(checked.survey.is_some());
    let asked = node.authority.columns_asked();
    assert!(asked.contains(&"sessions.vehicle".to_owned()), "{asked:?}");
    assert!(!asked.contains(&"car_parks.spaces".to_owned()), "{asked:?}");
    let records = node.runner.log.records().unwrap();
    let mut chain = guildhall_audit::Chain::new();
    let entries = records.iter().map(|r| chain.follow(r).unwrap().1);
    let last = entries.last().unwrap();
    assert_eq!(last.event, Event::LendKeys);
    assert_eq!(last.grant.unwrap().to_string(), "g-check");
}

#[tokio::test]
async fn a_refused_loan_says_what_the_account_needs() {
    let node = TestNode::parking().await;
    let refusing = FakeAuthority::refusing();
    let error = node.check(SESSIONS, Some(&refusing)).await.unwrap_err();
    assert!(error.help().is_some(), "{error}");
}

#[tokio::test]
async fn the_report_holds_no_value_of_a_row() {
    let node = TestNode::parking().await;
    let report = node
        .check(SESSIONS, Some(&node.authority))
        .await
        .unwrap()
        .to_string();
    for value in ["canary", "Kinson", "Boscombe", "K0", "B1", "7000"] {
        assert!(!report.contains(value), "{value} in:\n{report}");
    }
    assert!(report.contains("published"), "{report}");
}

#[test]
fn an_officer_shows_no_password() {
    let officer = Officer {
        account: "olu".to_owned(),
        password: "correct horse".to_owned().into(),
    };
    let shown = format!("{officer:?}");
    assert!(
        shown.contains("olu") && !shown.contains("correct"),
        "{shown}"
    );
}
