//! Rows that are to meet others: what a clean room is given of them, and under whose leave.

use super::KINSON;
use crate::product::SESSIONS;
use crate::testing::{GATEWAY, TestNode, refused};
use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::DataType;
use futures::TryStreamExt as _;
use guildhall_client::arrow_message::{decode_batch, decode_schema};
use guildhall_grant::{Grant, Linkage};
use guildhall_model::{Digest, OutputClass};
use guildhall_proto::node::v1::contribution::Kind;
use guildhall_proto::node::v1::{Contribution, RunRequest};
use prost::Message as _;
use std::collections::BTreeSet;
use tonic::{Code, Status};

const ROOM: &str = "spiffe://northmoor/council/clean-room/main";
const OTHER: &str = "northmoor.permits.holders";

/// Parking, whose sessions may meet holders of permits.
async fn linkable() -> TestNode {
    let with = format!(
        "unit = \"vehicle\"\nlinkable = {{ identity = \"vehicle\", dpia = \"DPIA-1\", with = [\"{OTHER}\"] }}"
    );
    let text = SESSIONS
        .replace("version = 1", "version = 2")
        .replace("unit = \"vehicle\"", &with);
    let mut node = TestNode::parking().await;
    node.publish(&text).await.unwrap();
    node
}

/// Leave for the rows of what `sql` asks for, after `change`.
async fn leave(node: &TestNode, sql: &str, change: impl FnOnce(&mut Grant)) -> RunRequest {
    let fragment = node.fragment(sql).await;
    let mut grant = node.grant(&fragment, OutputClass::TokenisedRows);
    grant.recipient = ROOM.parse().unwrap();
    let products = ["northmoor.parking.sessions", OTHER];
    grant.linkage = Some(Linkage {
        id: "l-1".parse().unwrap(),
        question: Digest::of(b"how they meet"),
        products: products.map(|p| p.parse().unwrap()).into(),
    });
    change(&mut grant);
    RunRequest {
        grant: Some(node.sign(&grant)),
        fragment: fragment.into(),
        cell_status: false,
    }
}

async fn given(node: &TestNode, peer: &str, request: RunRequest) -> Result<Vec<Kind>, Status> {
    let peer = peer.parse().unwrap();
    let parts = node.runner.contribute(&peer, request).await?;
    let parts: Vec<_> = parts.try_collect().await?;
    Ok(parts.into_iter().map(|part| part.kind.unwrap()).collect())
}

/// The rows of a contribution, whose terms come first and whose end comes last.
fn rows(kinds: &[Kind]) -> RecordBatch {
    let [
        Kind::Terms(_),
        Kind::Rows(schema),
        rows @ ..,
        Kind::EndOfRows(end),
    ] = kinds
    else {
        panic!("{} messages", kinds.len());
    };
    let schema = decode_schema(schema).unwrap();
    let batches = rows.iter().map(|kind| match kind {
        Kind::Rows(message) => decode_batch(&schema, message).unwrap(),
        _ => panic!("no rows"),
    });
    let all = arrow::compute::concat_batches(&schema, &batches.collect::<Vec<_>>()).unwrap();
    assert_eq!(all.num_rows() as u64, *end);
    all
}

fn tokens(rows: &RecordBatch) -> Vec<Vec<u8>> {
    let tokens = rows.column_by_name("token").unwrap().as_fixed_size_binary();
    tokens.iter().map(|t| t.unwrap().to_vec()).collect()
}

#[tokio::test]
async fn a_clean_room_is_given_rows_under_tokens_and_no_name_of_a_unit() {
    let node = linkable().await;
    let kinds = given(&node, ROOM, leave(&node, KINSON, |_| {}).await)
        .await
        .unwrap();
    let told = rows(&kinds);
    let types: Vec<DataType> = told
        .schema_ref()
        .fields()
        .iter()
        .map(|f| f.data_type().clone())
        .collect();
    assert_eq!(
        types,
        [
            DataType::Utf8,
            DataType::FixedSizeBinary(16),
            DataType::UInt8,
            DataType::Decimal128(38, 0)
        ]
    );
    let tokens = tokens(&told);
    assert!(tokens.is_sorted());
    // As many as there are vehicles: 10 of one ward and 12 of the other.
    let units: BTreeSet<&Vec<u8>> = tokens.iter().collect();
    assert_eq!(units.len(), 22);
    let bytes = kinds
        .into_iter()
        .flat_map(|kind| Contribution { kind: Some(kind) }.encode_to_vec());
    let bytes: Vec<u8> = bytes.collect();
    for unit in [&b"K11"[..], b"plate"] {
        assert!(!bytes.windows(unit.len()).any(|w| w == unit));
    }
}

#[tokio::test]
async fn tokens_of_two_questions_have_nothing_in_common() {
    let node = linkable().await;
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let told = rows(
            &given(&node, ROOM, leave(&node, KINSON, |_| {}).await)
                .await
                .unwrap(),
        );
        let units: BTreeSet<Vec<u8>> = tokens(&told).into_iter().collect();
        let before = seen.len();
        seen.extend(units.iter().cloned());
        assert_eq!(seen.len(), before + units.len());
    }
}

#[tokio::test]
async fn rows_meet_those_that_the_product_names_in_the_councils_own_clean_room() {
    let node = linkable().await;
    let refusal = async |peer: &str, change: fn(&mut Grant)| {
        let request = leave(&node, KINSON, change).await;
        refused(given(&node, peer, request).await)
    };
    let (code, said) = refusal(ROOM, |g| {
        let third = "northmoor.tax.accounts".parse().unwrap();
        g.linkage.as_mut().unwrap().products.insert(third);
    })
    .await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(
        said.contains("may not meet those of `northmoor.tax.accounts`"),
        "{said}"
    );
    let (code, _) = refusal(GATEWAY, |g| g.recipient = GATEWAY.parse().unwrap()).await;
    assert_eq!(code, Code::PermissionDenied);
    let theirs = ROOM.replace("northmoor", "southmere");
    let (code, _) = refusal(&theirs, |g| {
        g.recipient = ROOM.replace("northmoor", "southmere").parse().unwrap();
    })
    .await;
    assert_eq!(code, Code::PermissionDenied);
    // Leave for cells is none for rows, and the other way round.
    let (code, _) = refusal(ROOM, |g| g.output = OutputClass::PartialCells).await;
    assert_ne!(code, Code::Ok);

    let alone = TestNode::parking().await;
    let (code, said) = refused(given(&alone, ROOM, leave(&alone, KINSON, |_| {}).await).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(said.contains("may not meet"), "{said}");
}
