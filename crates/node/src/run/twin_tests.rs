//! Questions for development: answered from synthetic twins, whatever has become of the data.

use crate::product::SESSIONS;
use crate::testing::{PLACES, TestNode, refused};
use arrow::array::RecordBatch;
use guildhall_model::OutputClass;
use std::sync::atomic::Ordering;
use tonic::{Code, Status};

const BUDGET: &str = r#"
    [[budget]]
    purpose = "transport_planning"
    rho = 0.05
    period = "quarter"
"#;

/// The parking department, whose products are offered for development too. Its datasets are gone, and its authority
/// does not answer.
async fn bare(products: &[&str]) -> TestNode {
    let mut node = TestNode::parking().await;
    for text in products {
        let text = text
            .replace("version = 3", "version = 4")
            .replace("version = 1", "version = 2")
            .replace(
                "[\"transport_planning\"]",
                "[\"transport_planning\", \"development\"]",
            );
        node.publish(&text).await.unwrap();
    }
    std::fs::remove_dir_all(node.folder.path().join("datasets")).unwrap();
    node.authority.away.store(true, Ordering::SeqCst);
    node
}

async fn ask(node: &TestNode, sql: &str, output: OutputClass) -> Result<RecordBatch, Status> {
    let fragment = node.fragment(sql).await;
    let mut grant = node.grant(&fragment, output);
    grant.purpose = "development".parse().unwrap();
    node.send(&grant, &fragment).await
}

/// Nothing was lent, and nothing debited; every column says what it is.
fn made_up(node: &TestNode, answer: &RecordBatch) {
    assert!(node.authority.columns_asked().is_empty());
    assert!(node.authority.debited.lock().unwrap().is_empty());
    for field in answer.schema().fields() {
        assert_eq!(field.metadata()["guildhall.rule"], "synthetic", "{field:?}");
    }
}

#[tokio::test]
async fn cells_for_development_are_answered_without_data_keys_or_authority() {
    let node = bare(&[SESSIONS]).await;
    let sql = "SELECT ward, count(*) AS n, count(DISTINCT vehicle) AS v, sum(paid_pence) AS p \
        FROM northmoor.parking.sessions GROUP BY ward";
    let answer = ask(&node, sql, OutputClass::ReleasedCells).await.unwrap();
    made_up(&node, &answer);
    assert_eq!(answer.num_rows(), 8);
    assert!(answer.columns().iter().all(|c| c.null_count() == 0));
    let again = ask(&node, sql, OutputClass::ReleasedCells).await.unwrap();
    assert_eq!(answer, again);
    // For any other purpose the data are what is asked for, and they are gone.
    let fragment = node.fragment(sql).await;
    let grant = node.grant(&fragment, OutputClass::ReleasedCells);
    assert!(node.send(&grant, &fragment).await.is_err());
}

#[tokio::test]
async fn finer_cells_of_a_twin_have_thresholds_and_margins_too() {
    let node = bare(&[SESSIONS]).await;
    let sql = "SELECT ward, date_trunc('month', started) AS m, count(*) AS n \
        FROM northmoor.parking.sessions GROUP BY 1, 2";
    let answer = ask(&node, sql, OutputClass::ReleasedCells).await.unwrap();
    assert!(answer.num_rows() > 50, "{}", answer.num_rows());
    let sql = "SELECT ward, started, count(*) AS n FROM northmoor.parking.sessions GROUP BY 1, 2";
    let answer = ask(&node, sql, OutputClass::ReleasedCells).await.unwrap();
    assert!(answer.num_rows() < 50, "{}", answer.num_rows());
}

#[tokio::test]
async fn rows_of_an_open_product_are_made_up_as_well() {
    let node = bare(&[PLACES]).await;
    let sql = "SELECT ward, spaces FROM northmoor.parking.places WHERE ward = 'ward-3' LIMIT 5";
    let answer = ask(&node, sql, OutputClass::OpenRows).await.unwrap();
    made_up(&node, &answer);
    assert_eq!(answer.num_rows(), 5);
}

#[tokio::test]
async fn what_the_product_refuses_its_twin_refuses_in_the_same_words() {
    let mut node = TestNode::parking().await;
    node.publish(
        &format!("{SESSIONS}{BUDGET}")
            .replace("version = 1", "version = 2")
            .replace(
                "[\"transport_planning\"]",
                "[\"transport_planning\", \"development\"]",
            ),
    )
    .await
    .unwrap();
    let sql = "SELECT paid_pence, count(*) AS n FROM northmoor.parking.sessions GROUP BY 1";
    let fragment = free(&node, sql).await;
    let mut said = Vec::new();
    for purpose in ["transport_planning", "development"] {
        let mut grant = node.grant(&fragment, OutputClass::ReleasedCells);
        grant.purpose = purpose.parse().unwrap();
        let (code, words) = refused(node.send(&grant, &fragment).await);
        assert_eq!(code, Code::PermissionDenied);
        said.push(words);
    }
    assert_eq!(said[0], said[1]);
}

/// A fragment that no honest gateway writes: the plan as it is.
async fn free(node: &TestNode, sql: &str) -> Vec<u8> {
    let (state, plan) = (node.gateway(), node.plan(sql).await);
    guildhall_plan::profile::encode(&state.optimize(&plan).unwrap(), &state).unwrap()
}

#[tokio::test]
async fn a_free_question_is_answered_on_the_products_terms_and_debited_nowhere() {
    let node = bare(&[&format!("{SESSIONS}{BUDGET}")]).await;
    let sql = "SELECT count(*) AS n FROM northmoor.parking.sessions WHERE paid_pence > 1000";
    let answer = ask(&node, sql, OutputClass::ReleasedCells).await.unwrap();
    made_up(&node, &answer);
    // A product without a budget has no ad hoc lane, nor has its twin.
    let poor = bare(&[SESSIONS]).await;
    let fragment = node.fragment(sql).await;
    let mut grant = poor.grant(&fragment, OutputClass::ReleasedCells);
    grant.purpose = "development".parse().unwrap();
    let (code, words) = refused(poor.send(&grant, &fragment).await);
    assert_eq!(code, Code::PermissionDenied, "{words}");
}

#[tokio::test]
async fn a_product_that_is_not_offered_for_development_has_no_twin_to_ask() {
    let node = TestNode::parking().await;
    let sql = "SELECT ward, count(*) AS n FROM northmoor.parking.sessions GROUP BY ward";
    let (code, _) = refused(ask(&node, sql, OutputClass::ReleasedCells).await);
    assert_eq!(code, Code::PermissionDenied);
}
