//! Cells: what is told of them, what is withheld, and what a view may fail of.

use super::{KINSON, about, off, rows_of};
use crate::testing::{TestNode, sessions};
use arrow::array::{AsArray, RecordBatch};

#[tokio::test]
async fn cells_below_the_minimum_stay_and_totals_are_clamped_per_unit() {
    let node = TestNode::parking().await;
    // K0 paid 50 x 1000 and more: its total counts as 5000. The session of nobody is in no cell, and the ten
    // vehicles of Boscombe are enough.
    let kinson = 5000.0
        + (1..12)
            .map(|v| 100 + v + if v < 3 { 100 } else { 0 })
            .map(f64::from)
            .sum::<f64>();
    let boscombe = (0..9).map(|v| 100.0 + f64::from(v)).sum::<f64>();
    let answer = node.cells(KINSON).await.unwrap();
    let rows = rows_of(&answer);
    let bounds = [off(10.0, 10.0, 1.0), 5.0, off(boscombe, 9.0, 108.0)];
    about(&rows[0][1..], &[10.0, 10.0, boscombe], &bounds);
    let bounds = [off(74.0, 12.0, 52.0), 5.0, off(kinson, 12.0, 5000.0)];
    about(&rows[1][1..], &[74.0, 12.0, kinson], &bounds);
}

#[tokio::test]
async fn companions_say_what_was_done_and_change_nothing_else() {
    let mut node = TestNode::parking().await;
    let sql = "SELECT date_trunc('month', started) AS m, count(*) AS n, avg(paid_pence) AS paid \
               FROM northmoor.parking.sessions GROUP BY date_trunc('month', started)";
    let without = sent(&node, sql).await;
    node.cell_status = true;
    let with = sent(&node, sql).await;
    let schema = with.schema();
    for at in [2, 4] {
        let name = schema.field(at - 1).name();
        assert_eq!(*schema.field(at).name(), format!("{name}_status"));
    }
    let told = |column: usize| -> Vec<String> {
        let column = with.column(column).as_string::<i32>();
        column.iter().map(|s| s.unwrap().to_owned()).collect()
    };
    assert_eq!(told(2), ["perturbed", "perturbed"]);
    assert_eq!(told(4), ["suppressed", "suppressed"]);
    assert_eq!(with.project(&[0, 1, 3]).unwrap(), without);
}

async fn sent(node: &TestNode, sql: &str) -> RecordBatch {
    let fragment = node.fragment(sql).await;
    let grant = node.grant(&fragment, guildhall_model::OutputClass::ReleasedCells);
    node.send(&grant, &fragment).await.unwrap()
}

#[tokio::test]
async fn a_measure_of_too_few_contributors_is_null() {
    let node = TestNode::parking().await;
    let answer = node
        .cells(
            "SELECT date_trunc('month', started) AS m, count(*) AS n, avg(paid_pence) AS paid \
             FROM northmoor.parking.sessions GROUP BY date_trunc('month', started)",
        )
        .await
        .unwrap();
    let rows = rows_of(&answer);
    assert_eq!(rows[0][0], "2026-01-01T00:00:00");
    about(&rows[0][1..2], &[12.0], &[off(12.0, 10.0, 3.0)]);
    about(&rows[1][1..2], &[72.0], &[off(72.0, 10.0, 52.0)]);
    // The mean of January stands on three; that of February is withheld with it, since the two make the mean of all.
    assert_eq!(
        (rows[0][2].as_str(), rows[1][2].as_str()),
        ("", ""),
        "{answer}"
    );
}

/// The parking department, with one session of `K1` at a time that the engine cannot truncate.
async fn with_a_sentinel(product: &str) -> TestNode {
    let mut node = TestNode::parking().await;
    let path = node.folder.path().join("sessions.csv");
    let csv = std::fs::read_to_string(path).unwrap();
    let csv = format!("{csv}K1,P1,9999-12-31 00:00:00,0,0.1,canary\n");
    node.import(crate::testing::SESSIONS_DATA, &csv)
        .await
        .unwrap();
    node.publish(product).await.unwrap();
    node
}

#[tokio::test]
async fn a_date_that_cannot_be_truncated_does_not_tell_of_its_row() {
    let dated = crate::product::SESSIONS
        .replace("name = \"sessions\"", "name = \"days\"")
        .replace("s.started,", "CAST(s.started AS DATE) AS started,");
    let node = with_a_sentinel(&dated).await;
    for (product, by) in [
        ("sessions", "date_trunc('month', started)"),
        ("days", "date_trunc('month', CAST(started AS TIMESTAMP))"),
    ] {
        let sql = format!(
            "SELECT {by} AS m, count(*) AS n FROM northmoor.parking.{product} GROUP BY {by}"
        );
        let answer = node.cells(&sql).await.unwrap();
        // The sentinel's month is NULL, a cell of one vehicle, which stays, and with it the smaller of the others.
        assert_eq!(rows_of(&answer).len(), 1, "{answer}");
        assert!(
            answer.contains("2026-02") && !answer.contains("9999"),
            "{answer}"
        );
        for (month, units) in [
            ("2026-02-01", true),
            ("2026-01-01", false),
            ("2100-01-01", false),
        ] {
            let sql = format!(
                "SELECT count(DISTINCT vehicle) AS n FROM northmoor.parking.{product} WHERE {by} = TIMESTAMP '{month}'"
            );
            let answer = node.cells(&sql).await.unwrap();
            assert_eq!(!rows_of(&answer)[0][0].is_empty(), units, "{sql}: {answer}");
        }
    }
}

#[tokio::test]
async fn what_fails_in_an_owners_view_does_not_tell_of_its_row() {
    let failing = crate::product::SESSIONS
        .replace("name = \"sessions\"", "name = \"rates\"")
        .replace(
            "s.paid_pence FROM",
            "date_trunc('month', s.started) AS month, CAST(s.notes AS BIGINT) + 100 / s.paid_pence AS paid_pence FROM",
        )
        .replace("paid_pence = {", "month = { class = \"open\" }\n        paid_pence = {");
    let node = with_a_sentinel(&failing).await;
    let sql = "SELECT ward, count(*) AS n, sum(paid_pence) AS s FROM northmoor.parking.rates GROUP BY ward";
    let answer = node.cells(sql).await.unwrap();
    let kinson = &rows_of(&answer)[1];
    about(&kinson[1..2], &[75.0], &[off(75.0, 12.0, 52.0)]);
    assert_eq!(kinson[2], "", "{answer}");
}

#[tokio::test]
async fn a_whole_table_of_too_few_is_one_row_of_nulls() {
    let node = TestNode::parking().await;
    let few = node
        .cells(
            "SELECT count(*) AS n, sum(paid_pence) AS s FROM northmoor.parking.sessions WHERE ward = 'Nowhere'",
        )
        .await
        .unwrap();
    assert_eq!(
        few.lines()
            .nth(3)
            .unwrap()
            .split_whitespace()
            .collect::<String>(),
        "|||",
        "{few}"
    );
}

#[tokio::test]
async fn the_same_rows_give_the_same_sum_of_floats() {
    let mut node = TestNode::new();
    node.fill().await;
    let text = crate::product::SESSIONS
        .replace("name = \"sessions\"", "name = \"stays\"")
        .replace("s.paid_pence", "s.hours AS paid_pence")
        .replace("upper = 5000", "upper = 20.5");
    node.publish(&text).await.unwrap();
    let sql = "SELECT ward, sum(paid_pence) AS h FROM northmoor.parking.stays GROUP BY ward";
    let first = node.cells(sql).await.unwrap();
    // K0 stayed for 50 x 1.5 hours and more, which counts as 20.5; the other eleven for 0.1 and 0.2 each.
    let rows = rows_of(&first);
    about(&rows[1][1..], &[23.8], &[off(23.8, 12.0, 20.5)]);
    about(&rows[0][1..], &[3.0], &[off(3.0, 10.0, 0.3)]);
    for rows in [
        sessions().lines().rev().collect::<Vec<_>>(),
        sessions().lines().collect(),
    ] {
        let (header, rows): (Vec<&str>, Vec<&str>) =
            rows.iter().partition(|l| l.starts_with("vehicle"));
        let csv = format!("{}\n{}\n", header.join(""), rows.join("\n"));
        node.import(crate::testing::SESSIONS_DATA, &csv)
            .await
            .unwrap();
        assert_eq!(
            node.cells(sql).await.unwrap(),
            first,
            "imported again in another order"
        );
    }
}
