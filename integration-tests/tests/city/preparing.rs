//! Nodes that make their tables before anybody asks.

use crate::rogue::{authority_log, node_log};
use guildhall_audit::{Decision, Entry, Event};
use guildhall_city_data::{CityOptions, Department};
use guildhall_model::SystemClock;
use guildhall_node::{ImportSpec, Mode, Node};
use guildhall_testkit::{TestCity, answer, node, refusal, rows};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const QUESTIONS: [&str; 3] = [
    "SELECT ward, count(DISTINCT vehicle) AS vehicles, sum(paid) AS pounds FROM northmoor.parking.sessions GROUP BY ward ORDER BY ward",
    "SELECT count(*) AS n FROM northmoor.parking.sessions",
    "SELECT date_trunc('month', started) AS m, avg(paid) AS pounds FROM northmoor.parking.sessions GROUP BY 1 ORDER BY 1",
];
const ROWS: &str = "SELECT count(*) AS n FROM northmoor.parking.occupancy WHERE occupied > 3";

/// The loans on record that were made to prepare with.
fn loans(log: &[Entry]) -> Vec<&Entry> {
    let purpose = |e: &&Entry| e.purpose.as_ref().is_some_and(|p| p.as_str() == "prepare");
    let loans = log.iter().filter(|e| e.event == Event::LendKeys);
    loans.filter(purpose).collect()
}

fn encrypted_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(encrypted_files(&path));
        } else if path.extension().is_some_and(|e| e == "parquet") {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_node_answers_the_first_question_without_reading_a_row() {
    let options = CityOptions {
        scale: 0.05,
        departments: Some(vec![Department::Parking]),
        ..CityOptions::default()
    };
    let mut city = TestCity::made_up(&options).await.unwrap();
    let parking = node("northmoor", "parking");
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    let mut before = Vec::new();
    for sql in QUESTIONS {
        before.push(rows(&answer(&mut ana, sql).await.unwrap()).unwrap());
    }
    assert!(refusal(&mut ana, ROWS).await.is_err());
    assert!(loans(&authority_log(&city.city, "northmoor")).is_empty());

    // The same node, which now prepares.
    let mut config = city.city.node_config(&parking).unwrap();
    config.prepare.enabled = true;
    config.prepare.every_seconds = 1;
    city.city.kill_node(&parking).await.unwrap();
    let running = guildhall_node::start(config.clone(), Arc::new(SystemClock));
    let running = running.await.unwrap();
    let mut told = running.preparation();
    told.wait_for(|p| p.rounds > 0).await.unwrap();
    let prepared = told.borrow().products[&"sessions".parse().unwrap()].clone();
    assert!(
        prepared.lattices > 0 && prepared.kept_bytes > 0,
        "{prepared:?}"
    );

    for file in encrypted_files(&config.data.join("datasets")) {
        std::fs::remove_file(file).unwrap();
    }
    for (sql, before) in QUESTIONS.iter().zip(&before) {
        let answer = answer(&mut ana, sql).await.unwrap();
        assert_eq!(rows(&answer).unwrap(), *before, "{sql}");
    }
    assert!(
        refusal(&mut ana, ROWS).await.is_ok(),
        "its data are not gone"
    );

    // Who was lent what for it is on record at both ends, beside each question's own loan.
    let log = authority_log(&city.city, "northmoor");
    let made = loans(&log);
    assert!(!made.is_empty());
    for loan in &made {
        assert_eq!(loan.decision, Decision::Permit);
        assert_eq!(
            loan.principal.as_ref().unwrap().to_string(),
            "northmoor/parking-1"
        );
        assert!(loan.grant.is_some() && !loan.keys.is_empty());
    }
    let own = node_log(&city.city, &parking);
    assert_eq!(loans(&own).len(), made.len());
    let known = made.len();

    // New data are prepared without anybody asking.
    let spec = city
        .folder()
        .join("city/northmoor/parking/imports/sessions.toml");
    let spec = ImportSpec::load(&spec).unwrap();
    let importing = Node::open(config, Arc::new(SystemClock)).unwrap();
    importing
        .import(&spec, Mode::Replace, &|_| {})
        .await
        .unwrap();
    let more = |_: &_| loans(&authority_log(&city.city, "northmoor")).len() > known;
    told.wait_for(more).await.unwrap();
    running.stop().await;
    city.city.stop().await;
}
