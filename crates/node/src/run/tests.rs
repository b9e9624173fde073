//! The whole path, on real encrypted files, with a gateway that tells the truth.

use crate::testing::{TestNode, refused, sessions};
use arrow::array::{AsArray, RecordBatch};
use tonic::Code;

const KINSON: &str = "SELECT ward, count(*) AS n, count(DISTINCT vehicle) AS vehicles, sum(paid_pence) AS paid \
                      FROM northmoor.parking.sessions GROUP BY ward";

#[tokio::test]
async fn rows_of_an_open_product_come_back() {
    let node = TestNode::parking().await;
    let answer = node.rows("SELECT ward, sum(spaces) AS s FROM northmoor.parking.places GROUP BY ward ORDER BY ward").await;
    let wanted = "\
+----------+-----+
| ward     | s   |
+----------+-----+
| Boscombe | 40  |
| Kinson   | 160 |
+----------+-----+";
    assert_eq!(answer.unwrap(), wanted);
}

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
async fn a_row_filter_and_a_mask_hold_whatever_is_asked() {
    let node = TestNode::parking().await;
    let answer = node
        .rows("SELECT min(paid_pence) AS least FROM northmoor.parking.visits")
        .await
        .unwrap();
    assert!(answer.contains("| 100 "), "{answer}");
    let answer = node
        .rows("SELECT DISTINCT started FROM northmoor.parking.visits")
        .await
        .unwrap();
    assert_eq!(answer.lines().count(), 4 + 2, "{answer}");
    let sql = "SELECT count(*) AS n FROM northmoor.parking.visits WHERE started = TIMESTAMP '2026-02-03 12:00:00'";
    assert!(node.rows(sql).await.unwrap().contains("| 0 |"));
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
async fn a_new_version_is_served_as_soon_as_it_is_on_record() {
    let node = TestNode::parking().await;
    let sql = "SELECT count(*) AS n FROM northmoor.parking.places";
    assert!(node.rows(sql).await.unwrap().contains("| 3 |"));
    let spec = crate::testing::CAR_PARKS;
    node.import(spec, "car_park,ward,spaces\nP9,Kinson,1\n")
        .await
        .unwrap();
    assert!(node.rows(sql).await.unwrap().contains("| 1 |"));
}

#[tokio::test]
async fn an_import_that_was_stopped_before_it_was_on_record_is_finished_by_the_serving_node() {
    let node = TestNode::parking().await;
    let sql = "SELECT count(*) AS n FROM northmoor.parking.places";
    assert!(node.rows(sql).await.unwrap().contains("| 3 |"));
    node.authority
        .forget_next
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let error = node
        .import(
            crate::testing::CAR_PARKS,
            "car_park,ward,spaces\nP9,Kinson,1\n",
        )
        .await
        .unwrap_err();
    assert!(
        matches!(error, crate::NodeImportError::Record { version: 2, .. }),
        "{error}"
    );
    assert!(node.rows(sql).await.unwrap().contains("| 1 |"));
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

#[tokio::test]
async fn dropping_an_answer_stops_the_work_and_gives_its_turn_back() {
    let mut node = TestNode::parking().await;
    node.runner.turns = crate::run::Turns::new(1, 0);
    let sql = "SELECT a.spaces FROM northmoor.parking.places a CROSS JOIN northmoor.parking.places b \
               CROSS JOIN northmoor.parking.places c CROSS JOIN northmoor.parking.places d";
    let (one, two) = (
        node.fragment(sql).await,
        node.fragment("SELECT ward FROM northmoor.parking.places")
            .await,
    );
    let output = guildhall_model::OutputClass::OpenRows;
    let request = |fragment: &[u8]| guildhall_proto::node::v1::RunRequest {
        grant: Some(node.sign(&node.grant(fragment, output))),
        fragment: fragment.to_vec().into(),
        cell_status: false,
    };
    let peer = crate::testing::GATEWAY.parse().unwrap();
    let answer = node.runner.answer(&peer, request(&one)).await.unwrap();
    drop(answer);
    let again = tokio::time::timeout(std::time::Duration::from_secs(1), async {
        loop {
            match node.runner.answer(&peer, request(&two)).await {
                Ok(_) => return,
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
            }
            tokio::task::yield_now().await;
        }
    });
    again.await.unwrap();
}

#[tokio::test]
async fn dropping_an_answer_stops_work_that_has_nothing_to_show_yet() {
    let mut node = TestNode::parking().await;
    node.runner.turns = crate::run::Turns::new(1, 0);
    // 3^17 rows, of which none is in the answer before all are counted.
    let joins: String = (0..16)
        .map(|i| format!(" CROSS JOIN northmoor.parking.places p{i}"))
        .collect();
    let sql = format!(
        "SELECT sum(p0.spaces * p1.spaces + p2.spaces) AS n FROM northmoor.parking.places p{joins}"
    );
    let (one, two) = (
        node.fragment(&sql).await,
        node.fragment("SELECT ward FROM northmoor.parking.places")
            .await,
    );
    let output = guildhall_model::OutputClass::OpenRows;
    let request = |fragment: &[u8]| guildhall_proto::node::v1::RunRequest {
        grant: Some(node.sign(&node.grant(fragment, output))),
        fragment: fragment.to_vec().into(),
        cell_status: false,
    };
    let peer = crate::testing::GATEWAY.parse().unwrap();
    drop(node.runner.answer(&peer, request(&one)).await.unwrap());
    let again = tokio::time::timeout(std::time::Duration::from_secs(1), async {
        while node.runner.answer(&peer, request(&two)).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    again.await.unwrap();
}

#[tokio::test]
async fn a_fault_over_rows_says_what_was_wrong_without_the_value() {
    let node = TestNode::parking().await;
    let sql = "SELECT CAST(ward AS BIGINT) AS n FROM northmoor.parking.places";
    let (code, text) = refused(node.rows(sql).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(
        text.contains("cannot be cast") && !text.contains("Kinson"),
        "{text}"
    );
}

#[tokio::test]
async fn publishing_again_changes_nothing() {
    let mut node = TestNode::parking().await;
    node.import(
        crate::testing::CAR_PARKS,
        "car_park,ward,spaces\nP9,Kinson,1\n",
    )
    .await
    .unwrap();
    let again = node.publish(crate::testing::PLACES).await.unwrap();
    assert!(again.unchanged);
    assert_eq!(again.product.row_count, Some(3), "as it was registered");
    let changed = crate::testing::PLACES.replace("version = 3", "version = 4");
    assert!(!node.publish(&changed).await.unwrap().unchanged);
}

#[tokio::test]
async fn a_file_that_does_not_fit_the_data_names_the_field() {
    let mut node = TestNode::parking().await;
    let error = node
        .publish(&crate::testing::PLACES.replace("FROM car_parks", "FROM car_parcs"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "product.toml: `view` names a dataset that cannot be used"
    );
    assert_eq!(error.help(), Some("`guildhall node import` it first"));
}

#[tokio::test]
async fn a_dataset_that_was_rolled_back_on_disk_is_not_served() {
    let node = TestNode::parking().await;
    node.import(
        crate::testing::CAR_PARKS,
        "car_park,ward,spaces\nP9,Kinson,1\n",
    )
    .await
    .unwrap();
    let manifests = node.folder.path().join("datasets/car_parks/manifests");
    let newest = std::fs::read_dir(&manifests)
        .unwrap()
        .map(|e| e.unwrap().path())
        .max()
        .unwrap();
    std::fs::remove_file(newest).unwrap();
    let (code, text) = refused(node.rows("SELECT ward FROM northmoor.parking.places").await);
    assert_eq!(code, Code::Internal, "{text}");
}

/// How far a total over so many units is off at most: five mean contributions, and five steps of a twentieth of the
/// largest or of one.
fn off(total: f64, units: f64, largest: f64) -> f64 {
    5.0 * total / units + 5.0 * (largest / 20.0).max(1.0) + 1.0
}

/// Each number is near the true one.
fn about(told: &[String], truth: &[f64], off: &[f64]) {
    assert_eq!(told.len(), truth.len());
    for ((told, truth), off) in told.iter().zip(truth).zip(off) {
        let number: f64 = told.parse().unwrap();
        assert!(
            (number - truth).abs() <= *off,
            "{number} is not within {off} of {truth}"
        );
    }
}

fn rows_of(table: &str) -> Vec<Vec<String>> {
    let cells = |row: &str| {
        row.trim_matches('|')
            .split('|')
            .map(|c| c.trim().to_owned())
            .collect()
    };
    table
        .lines()
        .skip(3)
        .filter(|l| l.starts_with('|'))
        .map(cells)
        .collect()
}

#[tokio::test]
async fn text_meets_literals_unions_and_functions_as_text() {
    let node = TestNode::parking().await;
    let p = "northmoor.parking.places";
    for (sql, wanted) in [
        (
            format!("SELECT ward FROM {p} WHERE ward LIKE 'Bos%'"),
            "Boscombe",
        ),
        (
            format!("SELECT ward || '!' AS w FROM {p} WHERE ward IN ('Boscombe', 'x')"),
            "Boscombe!",
        ),
        (
            format!(
                "SELECT 'a' AS w FROM {p} WHERE spaces = 40 UNION ALL SELECT ward FROM {p} WHERE spaces = 40"
            ),
            "Boscombe",
        ),
        (
            format!(
                "SELECT CASE WHEN spaces = 40 THEN ward ELSE 'none' END AS w FROM {p} ORDER BY w LIMIT 1"
            ),
            "Boscombe",
        ),
        (
            format!(
                "SELECT coalesce(nullif(ward, 'Kinson'), 'K') AS w FROM {p} ORDER BY w LIMIT 1"
            ),
            "Boscombe",
        ),
        (
            format!(
                "SELECT lag(ward, 1, 'first') OVER (ORDER BY spaces) AS w FROM {p} ORDER BY w DESC LIMIT 1"
            ),
            "first",
        ),
        (
            format!(
                "SELECT a.ward FROM {p} a JOIN (SELECT 'Boscombe' AS ward) b ON a.ward = b.ward"
            ),
            "Boscombe",
        ),
        (
            format!("SELECT upper(substr(ward, 1, 3)) AS w FROM {p} WHERE spaces = 40"),
            "BOS",
        ),
        (
            format!("SELECT string_agg(ward, ',' ORDER BY ward) AS w FROM {p}"),
            "Boscombe,Kinson,Kinson",
        ),
        (format!("SELECT max(ward) AS w FROM {p}"), "Kinson"),
        (
            format!("SELECT ward FROM {p} WHERE ward > 'A' AND ward < 'C'"),
            "Boscombe",
        ),
        (
            format!("SELECT ward FROM {p} WHERE ward = (SELECT min(ward) FROM {p})"),
            "Boscombe",
        ),
    ] {
        let answer = node
            .rows(&sql)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert!(
            rows_of(&answer).iter().any(|r| r[0] == wanted),
            "{sql}: {answer}"
        );
    }
}
