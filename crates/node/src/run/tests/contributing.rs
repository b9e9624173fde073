//! Parts of cells: what a clean room is given, under whose leave, and that nobody else is.

use super::KINSON;
use crate::product::SESSIONS;
use crate::testing::{GATEWAY, TestNode, refused};
use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt as _;
use guildhall_client::arrow_message::{decode_batch, decode_schema};
use guildhall_grant::Grant;
use guildhall_model::OutputClass;
use guildhall_proto::node::v1::contribution::Kind;
use guildhall_proto::node::v1::{ArrowMessage, RunRequest, Terms};
use prost::Message as _;
use std::collections::BTreeMap;
use tonic::{Code, Status};

const ROOM: &str = "spiffe://northmoor/council/clean-room/main";

fn joint() -> String {
    let with = "conforms_to = \"sessions\"\njoint_with = [\"southmere.parking.sessions\"]\nunit = \"vehicle\"";
    SESSIONS
        .replace("version = 1", "version = 2")
        .replace("unit = \"vehicle\"", with)
}

/// Parking, whose sessions are released together with southmere's.
async fn shared() -> TestNode {
    let mut node = TestNode::parking().await;
    node.publish(&joint()).await.unwrap();
    node
}

/// Leave for a part of what `sql` asks for, after `change`.
async fn leave(node: &TestNode, sql: &str, change: impl FnOnce(&mut Grant)) -> RunRequest {
    let fragment = node.fragment(sql).await;
    let mut grant = node.grant(&fragment, OutputClass::PartialCells);
    grant.recipient = ROOM.parse().unwrap();
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

#[tokio::test]
async fn a_clean_room_is_given_terms_and_every_table_and_told_that_this_is_all() {
    let node = shared().await;
    let request = leave(&node, KINSON, |_| {}).await;
    let kinds = given(&node, ROOM, request).await.unwrap();
    let [Kind::Terms(terms), tables @ .., Kind::Tables(2)] = kinds.as_slice() else {
        panic!("{} messages", kinds.len());
    };
    let Terms {
        product,
        totals,
        draws,
        ..
    } = terms.as_ref();
    assert_eq!(product.as_ref().unwrap().minimum_group, 10);
    assert_eq!(
        totals,
        &["rows", "sum:sessions.car_park,sessions.paid_pence"]
    );
    assert_eq!(draws.len(), 32);
    let mut units = Vec::new();
    let mut schema = None;
    for kind in tables {
        let Kind::Table(part) = kind else {
            panic!("no table");
        };
        let message: &ArrowMessage = part.message.as_ref().unwrap();
        match decode_schema(message) {
            Ok(of) => schema = Some(of),
            Err(_) => {
                let batch = decode_batch(schema.as_ref().unwrap(), message).unwrap();
                let keys = part.levels.iter().filter(|l| **l > 0).count();
                let count = batch.column(keys).as_primitive::<UInt64Type>();
                units.push((part.levels.clone(), count.values().to_vec()));
            }
        }
    }
    units
        .iter_mut()
        .for_each(|(_, counts)| counts.sort_unstable());
    units.sort();
    // As it is, without noise.
    let levels: Vec<&[u32]> = units.iter().map(|(levels, _)| levels.as_slice()).collect();
    assert_eq!(levels, [[0], [1]]);
    assert_eq!(units[1].1, [10, 12]);
    // No unit by name, and no column of record keys of units: tables are as long as there are cells.
    let bytes: Vec<u8> = tables
        .iter()
        .filter_map(|k| match k {
            Kind::Table(t) => Some(t.encode_to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    assert!(!bytes.windows(3).any(|w| w == b"K11"));
}

/// Every table that a clean room is given for `sql`, by its levels, its rows as text in order.
async fn cells_of(node: &TestNode, sql: &str) -> BTreeMap<Vec<u32>, Vec<String>> {
    let kinds = given(node, ROOM, leave(node, sql, |_| {}).await).await;
    let (mut tables, mut schema) = (BTreeMap::new(), None);
    for kind in kinds.unwrap() {
        let Kind::Table(part) = kind else { continue };
        let message: &ArrowMessage = part.message.as_ref().unwrap();
        match decode_schema(message) {
            Ok(of) => schema = Some(of),
            Err(_) => {
                let batch = decode_batch(schema.as_ref().unwrap(), message).unwrap();
                let text = crate::testing::table(&batch);
                let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
                rows.sort();
                tables.insert(part.levels, rows);
            }
        }
    }
    tables
}

#[tokio::test]
async fn a_part_is_the_same_from_tables_that_were_prepared() {
    let mut node = shared().await;
    let sql = "SELECT date_trunc('month', started) AS m, count(*) AS n FROM northmoor.parking.sessions GROUP BY 1";
    let alone = cells_of(&node, sql).await;
    assert!(node.runner.patterns.made_for_questions() == 1 && alone.len() == 2);
    node.runner.patterns = Default::default();
    let name = "sessions".parse().unwrap();
    let served = node.runner.products.serve(&name, 2).await.unwrap();
    node.runner.prepare(&served, 1 << 26).await.unwrap();
    assert_eq!(cells_of(&node, sql).await, alone);
    assert_eq!(node.runner.patterns.made_for_questions(), 0);
}

#[tokio::test]
async fn nobody_but_the_clean_room_of_the_grant_is_given_a_part() {
    let node = shared().await;
    let (code, _) = refused(given(&node, GATEWAY, leave(&node, KINSON, |_| {}).await).await);
    assert_eq!(code, Code::PermissionDenied);
    let other = ROOM.replace("main", "other");
    let (code, _) = refused(given(&node, &other, leave(&node, KINSON, |_| {}).await).await);
    assert_eq!(code, Code::PermissionDenied);
    // Released cells are for gateways, parts for clean rooms, whatever a grant says of itself.
    let released = leave(&node, KINSON, |g| g.output = OutputClass::ReleasedCells).await;
    let (code, said) = refused(given(&node, ROOM, released).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(said.contains("partial-cells"), "{said}");
    let to_gateway = leave(&node, KINSON, |g| g.recipient = GATEWAY.parse().unwrap()).await;
    let gateway = GATEWAY.parse().unwrap();
    let (code, _) = refused(node.runner.answer(&gateway, to_gateway).await.map(drop));
    assert_eq!(code, Code::PermissionDenied);
}

#[tokio::test]
async fn a_grant_for_a_part_is_used_once_and_only_where_the_owner_releases_with_others() {
    let node = shared().await;
    let request = leave(&node, KINSON, |_| {}).await;
    given(&node, ROOM, request.clone()).await.unwrap();
    let (code, _) = refused(given(&node, ROOM, request).await);
    assert_ne!(code, Code::Ok);
    let alone = TestNode::parking().await;
    let request = leave(&alone, KINSON, |_| {}).await;
    let (code, said) = refused(given(&alone, ROOM, request).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(said.contains("together with no other"), "{said}");
}

#[tokio::test]
async fn a_department_may_keep_its_parts_to_itself() {
    let own =
        "@id(\"our-cells-alone\") forbid (principal, action == Action::\"JoinCells\", resource);";
    let policy = format!("{}\n{own}", guildhall_policy::DEFAULT_DEPARTMENT_POLICY);
    let mut node = TestNode::with_policy(&policy);
    node.fill().await;
    node.publish(&joint()).await.unwrap();
    let (code, said) = refused(given(&node, ROOM, leave(&node, KINSON, |_| {}).await).await);
    assert_eq!(code, Code::PermissionDenied);
    assert!(said.contains("our-cells-alone"), "{said}");
}
