//! When answers leave, by a clock that moves only while everybody waits for it.

use super::KINSON;
use crate::config::Limits;
use crate::engine::Engine;
use crate::run::pace::FIRST;
use crate::testing::TestNode;
use std::time::Duration;
use tokio::time::{Instant, pause};
use tonic::Status;

const FREE: &str = "SELECT count(*) AS n FROM northmoor.parking.stays WHERE paid_pence > 100";

/// The parking department with a product that answers free questions.
async fn node() -> TestNode {
    let mut node = TestNode::parking().await;
    let stays = crate::product::SESSIONS.replace("name = \"sessions\"", "name = \"stays\"");
    let budget = "[[budget]]\npurpose = \"transport_planning\"\nrho = 0.5\nperiod = \"quarter\"\n";
    node.publish(&format!("{stays}\n{budget}")).await.unwrap();
    node
}

/// How long an answer took by the clock of timers.
async fn took<T>(answer: impl Future<Output = Result<T, Status>>) -> (Duration, Result<T, Status>) {
    let start = Instant::now();
    let answer = answer.await;
    (start.elapsed(), answer)
}

/// Whether it is the end of the first bucket; timers go off at whole milliseconds.
fn is_first(took: Duration) -> bool {
    (FIRST..=FIRST + Duration::from_millis(1)).contains(&took)
}

#[tokio::test]
async fn private_answers_leave_at_the_end_of_a_bucket_whatever_they_found() {
    let node = node().await;
    pause();
    let nobody = FREE.replace("> 100", "> 4999");
    for sql in [KINSON, KINSON, FREE, &nobody] {
        let (took, answer) = took(node.cells(sql)).await;
        answer.unwrap();
        assert!(is_first(took), "{sql}: {took:?}");
    }
}

#[tokio::test]
async fn a_refusal_after_rows_were_touched_leaves_with_the_answers() {
    let mut node = node().await;
    let none = Limits {
        memory_mib: 0,
        ..Limits::default()
    };
    node.runner.engine = Engine::new(&none).unwrap();
    pause();
    for sql in [KINSON, FREE] {
        let (took, answer) = took(node.cells(sql)).await;
        assert_eq!(answer.unwrap_err().code(), tonic::Code::Internal, "{sql}");
        assert!(is_first(took), "{sql}: {took:?}");
    }
}

#[tokio::test]
async fn rows_that_may_leave_wait_for_nothing() {
    let node = node().await;
    pause();
    let sql = "SELECT ward, sum(spaces) AS s FROM northmoor.parking.places GROUP BY ward";
    let (took, answer) = took(node.rows(sql)).await;
    answer.unwrap();
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_gives_its_turn_back_before_its_bucket_ends() {
    let mut node = node().await;
    node.runner.turns = crate::run::Turns::new(1, 0);
    node.cells(KINSON).await.unwrap();
    pause();
    let (fragment, start) = (node.fragment(KINSON).await, Instant::now());
    let grant = node.grant(&fragment, guildhall_model::OutputClass::ReleasedCells);
    let request = guildhall_proto::node::v1::RunRequest {
        grant: Some(node.sign(&grant)),
        fragment: fragment.clone().into(),
        cell_status: false,
    };
    let peer = crate::testing::GATEWAY.parse().unwrap();
    drop(node.runner.answer(&peer, request).await.unwrap());
    while node.runner.turns.take().await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}
