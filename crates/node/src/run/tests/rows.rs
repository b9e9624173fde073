//! Rows of open and restricted products.

use super::rows_of;
use crate::testing::{TestNode, refused};
use tonic::Code;

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
