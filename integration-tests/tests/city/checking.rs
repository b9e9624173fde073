//! What a department's officer is told of a product before it is offered.

use crate::rogue::authority_log;
use guildhall_audit::Event;
use guildhall_city_data::CityOptions;
use guildhall_model::SystemClock;
use guildhall_node::{Checked, Gravity, Node, Officer};
use guildhall_testkit::{TestCity, node};
use std::sync::Arc;

/// Parking sessions by ward, channel and moment, of vehicles.
const DRAFT: &str = r#"
    name = "stays"
    version = 1
    class = "aggregate"
    purposes = ["transport_planning"]
    unit = "vehicle"
    minimum_group = 10
    max_rows_per_unit = 20
    view = "SELECT s.vehicle, s.car_park, p.ward, s.started, s.paid FROM sessions s JOIN car_parks p ON s.car_park = p.car_park"
    [columns]
    vehicle = { class = "identifier" }
    car_park = { class = "quasi" }
    ward = { class = "quasi" }
    started = { class = "quasi" }
    paid = { class = "measure" }
    [[dimension]]
    column = "car_park"
    [[dimension]]
    column = "ward"
    [[dimension]]
    column = "started"
    roll_ups = [ { name = "week", date_trunc = "week" }, { name = "month", date_trunc = "month" } ]
    [[measure]]
    column = "paid"
    lower = 0
    upper = 100000
"#;

async fn city() -> TestCity {
    let options = CityOptions {
        scale: 0.05,
        ..CityOptions::default()
    };
    TestCity::made_up(&options).await.unwrap()
}

fn officer(city: &TestCity, account: &str) -> Officer {
    let known = &city.city.ready().accounts[account];
    Officer {
        account: account.to_owned(),
        password: known.password.clone().into(),
    }
}

fn rules(checked: &Checked) -> Vec<&str> {
    checked.findings.iter().map(|f| f.rule).collect()
}

/// Checks `DRAFT` at the parking department's node, which serves all the while.
async fn check(city: &TestCity, officer: Option<&Officer>) -> Result<Checked, String> {
    let file = city.folder().join("stays.toml");
    std::fs::write(&file, DRAFT).unwrap();
    let config = city
        .city
        .node_config(&node("northmoor", "parking"))
        .unwrap();
    let opened = Node::open(config, Arc::new(SystemClock)).unwrap();
    let checked = opened.check(&file, officer).await;
    checked.map_err(|e| chain(&e))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut chain = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        chain = format!("{chain}: {cause}");
        source = cause.source();
    }
    chain
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_weighed_on_its_data_with_an_officers_leave_and_with_no_one_elses() {
    let city = city().await;
    let unread = check(&city, None).await.unwrap();
    assert_eq!(rules(&unread), ["levels-do-not-nest"]);

    let refused = check(&city, Some(&officer(&city, "ana")))
        .await
        .unwrap_err();
    assert!(
        refused.contains("`product_check` is not a purpose"),
        "{refused}"
    );

    let checked = check(&city, Some(&officer(&city, "olu"))).await.unwrap();
    let survey = checked.survey.as_ref().unwrap();
    assert!(survey.rows > 500 && survey.units > 100, "{survey:?}");
    assert_eq!(survey.tables.len(), 9 - survey.left_out.len(), "{survey:?}");
    let found = rules(&checked);
    for rule in [
        "levels-do-not-nest",
        "undeclared-within",
        "bounds-too-wide",
        "mostly-empty",
        "mostly-withheld",
    ] {
        assert!(found.contains(&rule), "{rule} is not among {found:?}");
    }
    assert!(!checked.has(Gravity::Error));

    // Both the grant and the loan are on the council's record, under the officer's name.
    let log = authority_log(&city.city, "northmoor");
    let last = log
        .iter()
        .rev()
        .take(2)
        .map(|e| (e.event, e.principal.as_ref()));
    for (entry, event) in last.zip([Event::LendKeys, Event::IssueGrant]) {
        assert_eq!((entry.0, entry.1.unwrap().name.as_str()), (event, "olu"));
    }
    let report = checked.to_string();
    assert!(report.contains("withheld: "), "{report}");
    let one = survey
        .tables
        .iter()
        .find(|t| t.keys.len() == 1 && t.keys[0].as_str() == "ward");
    let ward = one.unwrap();
    assert_eq!(ward.possible, ward.cells);
    city.city.stop().await;
}
