//! Answers that nobody waits for.

use crate::testing::TestNode;
use tonic::Code;

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
