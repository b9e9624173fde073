//! What an analyst sees of disclosure control, before a question and after it.

use arrow::array::RecordBatch;
use guildhall_cli::sql::Connection;
use guildhall_testkit::{TestCity, answer, refusal, rows};
use tonic::Code;

const PRODUCT: &str = "northmoor.parking.sessions";

async fn city() -> TestCity {
    let options = guildhall_city_data::CityOptions {
        scale: 0.05,
        ..Default::default()
    };
    TestCity::made_up(&options).await.unwrap()
}

fn names(batch: &RecordBatch) -> Vec<String> {
    let schema = batch.schema();
    schema.fields().iter().map(|f| f.name().clone()).collect()
}

async fn ask(ana: &mut Connection, sql: &str) -> RecordBatch {
    let answer = answer(ana, sql).await;
    answer.inspect_err(|e| eprintln!("{sql}: {e}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn released_columns_carry_their_rule_and_their_error_bound() {
    let city = city().await;
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    let sql = format!(
        "SELECT ward, count(DISTINCT vehicle) AS v, sum(paid) AS s FROM {PRODUCT} GROUP BY ward ORDER BY ward"
    );
    let cube = ask(&mut ana, &sql).await;
    let told = |batch: &RecordBatch, column: usize, key: &str| {
        let schema = batch.schema();
        schema.field(column).metadata()[key].clone()
    };
    assert_eq!(told(&cube, 0, "guildhall.error"), "none");
    assert_eq!(told(&cube, 1, "guildhall.error"), "at most 5");
    assert!(told(&cube, 2, "guildhall.rule").contains("dominance"));
    let free = format!("SELECT count(DISTINCT vehicle) AS v FROM {PRODUCT} WHERE paid > 0.01");
    let free = ask(&mut ana, &free).await;
    assert_eq!(
        told(&free, 0, "guildhall.rule"),
        "differential-privacy;rho=0.001"
    );
    // A vehicle counts in two cells: a sigma of the root of 2 / (2 * 0.001), times 1.96.
    assert_eq!(told(&free, 0, "guildhall.error"), "within 62 with 95 %");
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_companions_are_there_when_the_session_asks_for_them() {
    let city = city().await;
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    for sql in [
        format!(
            "SELECT ward, channel, count(*) AS n, sum(paid) AS s FROM {PRODUCT} GROUP BY ward, channel ORDER BY ward, channel"
        ),
        format!(
            "SELECT 'a' AS ward, 'b' AS channel, count(DISTINCT vehicle) AS n, avg(paid) AS s FROM {PRODUCT} WHERE minutes > 20"
        ),
    ] {
        let without = ask(&mut ana, &sql).await;
        assert_eq!(names(&without), ["ward", "channel", "n", "s"]);
        ask(&mut ana, "SET guildhall.cell_status = on").await;
        let with = ask(&mut ana, &sql).await;
        assert_eq!(
            names(&with),
            ["ward", "channel", "n", "n_status", "s", "s_status"]
        );
        assert_eq!(with.project(&[0, 1, 2, 4]).unwrap(), without);
        for row in rows(&with.project(&[2, 3, 4, 5]).unwrap()).unwrap() {
            let cell: Vec<&str> = row.split('|').collect();
            for pair in cell.chunks(2) {
                let kept_back = pair[0] == "-";
                assert_eq!(pair[1] == "perturbed", !kept_back, "{row}");
                assert!(
                    !kept_back || ["suppressed", "undefined"].contains(&pair[1]),
                    "{row}"
                );
            }
        }
        ask(&mut ana, "SET guildhall.cell_status = off").await;
        assert_eq!(ask(&mut ana, &sql).await, without);
    }
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_privacy_tells_what_a_question_costs_and_spends_nothing() {
    let city = city().await;
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    let free = format!("SELECT count(DISTINCT vehicle) AS v FROM {PRODUCT} WHERE paid > 0.77");
    let told = |rows: &[String], what: &str| -> Vec<String> {
        let of = rows.iter().filter(|r| r.split('|').nth(2) == Some(what));
        of.cloned().collect()
    };
    let mut before = Vec::new();
    for _ in 0..3 {
        let explained = ask(&mut ana, &format!("EXPLAIN /* its */ privacy {free}")).await;
        assert_eq!(names(&explained), ["product", "column", "what", "detail"]);
        before = rows(&explained).unwrap();
        assert!(told(&before, "lane")[0].contains("ad hoc"), "{before:?}");
        assert!(told(&before, "cost")[0].contains("rho 0.001"), "{before:?}");
        assert!(
            told(&before, "error")[0].contains("v|error|within 62"),
            "{before:?}"
        );
        assert!(
            told(&before, "remaining")[0].contains("rho 0.05 of rho 0.05"),
            "{before:?}"
        );
        assert!(!before.join("").contains("0.77"), "{before:?}");
    }
    ask(&mut ana, &free).await;
    let after = rows(&ask(&mut ana, &format!("EXPLAIN PRIVACY {free}")).await).unwrap();
    assert!(
        told(&after, "remaining")[0].contains("rho 0.049 of rho 0.05"),
        "{after:?}"
    );
    assert_eq!(before.len(), after.len());
    let refused = format!("EXPLAIN PRIVACY SELECT max(paid) FROM {PRODUCT}");
    let refused = rows(&ask(&mut ana, &refused).await).unwrap();
    assert!(
        told(&refused, "rule")[0].contains("cube.aggregate"),
        "{refused:?}"
    );
    assert_eq!(told(&refused, "instead").len(), 1);
    let cube = format!("EXPLAIN PRIVACY SELECT count(*) AS n FROM {PRODUCT}");
    let cube = rows(&ask(&mut ana, &cube).await).unwrap();
    assert!(told(&cube, "lane")[0].contains("cube"), "{cube:?}");
    assert!(told(&cube, "remaining").is_empty(), "{cube:?}");
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_sees_its_own_budget_and_refusals_and_nobody_elses() {
    let city = city().await;
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    let mine = "SELECT remaining_rho, spent_rho FROM guildhall.budget WHERE council = 'northmoor' \
                AND product = 'sessions' AND purpose = 'transport_planning'";
    assert_eq!(
        rows(&ask(&mut ana, mine).await).unwrap(),
        ["0.050000000|0.000000000"]
    );
    ask(
        &mut ana,
        &format!("SELECT count(*) AS n FROM {PRODUCT} WHERE paid > 0.5"),
    )
    .await;
    assert_eq!(
        rows(&ask(&mut ana, mine).await).unwrap(),
        ["0.049000000|0.001000000"]
    );
    assert_eq!(
        ask(&mut ana, "SELECT * FROM guildhall.refusals")
            .await
            .num_rows(),
        0
    );
    let sql = format!("SELECT max(paid) FROM {PRODUCT} WHERE ward = 'Jane Doe'");
    let refused = refusal(&mut ana, &sql);
    assert_eq!(refused.await.unwrap().code, Code::PermissionDenied);
    let kept = "SELECT rule, instead FROM guildhall.refusals ORDER BY at";
    let kept = rows(&ask(&mut ana, kept).await).unwrap();
    assert!(kept[0].starts_with("cube.aggregate|"), "{kept:?}");
    assert!(!kept.join("").contains("Jane"), "{kept:?}");
    let mut cara = city.connect("cara", "care_planning").await.unwrap();
    assert_eq!(
        ask(&mut cara, "SELECT * FROM guildhall.refusals")
            .await
            .num_rows(),
        0
    );
    let listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'guildhall' ORDER BY 1";
    assert_eq!(
        rows(&ask(&mut ana, listed).await).unwrap(),
        ["budget", "refusals"]
    );
    // With a released answer they meet at the gateway; with a private product's rows nowhere.
    let with = format!(
        "SELECT c.n > 0 AS some, b.product FROM (SELECT count(*) AS n FROM {PRODUCT}) c, \
                        (SELECT product FROM guildhall.budget WHERE council = 'northmoor' AND product = 'sessions' LIMIT 1) b"
    );
    assert_eq!(
        rows(&ask(&mut ana, &with).await).unwrap(),
        ["true|sessions"]
    );
    let rows_wanted =
        format!("SELECT s.paid FROM {PRODUCT} s JOIN guildhall.budget b ON b.product = s.channel");
    let refused = refusal(&mut ana, &rows_wanted).await.unwrap();
    assert_eq!(refused.code, Code::PermissionDenied);
    city.city.stop().await;
}
