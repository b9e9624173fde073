//! When a node prepares what, and when it tries again.

use super::*;
use crate::testing::{SESSIONS_DATA, TestNode, sessions};
use std::sync::atomic::Ordering;

fn preparer() -> Preparer {
    Preparer::new(Prepare::default())
}

fn loans(node: &TestNode) -> usize {
    node.authority.asked.lock().unwrap().len()
}

fn sessions_name() -> ProductName {
    "sessions".parse().unwrap()
}

#[tokio::test]
async fn products_of_cells_are_prepared_once_for_each_state_of_the_data() {
    let node = TestNode::parking().await;
    let mut preparer = preparer();
    let told = preparer.told();
    preparer.round(&node.runner).await;
    let prepared = told.borrow().clone();
    // The others of the department release rows.
    let names: Vec<&str> = prepared.products.keys().map(ProductName::as_str).collect();
    assert_eq!((names, prepared.rounds), (vec!["sessions"], 1));
    let sessions_prepared = &prepared.products[&sessions_name()];
    // Wards or none; times, months or none.
    assert_eq!(
        (sessions_prepared.lattices, sessions_prepared.tables),
        (1, 6)
    );
    assert_eq!((loans(&node), sessions_prepared.passes), (1, 1));
    preparer.round(&node.runner).await;
    assert_eq!(loans(&node), 1);

    let more = format!("{}Z,P1,2026-02-01 10:00:00,5,0.3,canary\n", sessions());
    node.import(SESSIONS_DATA, &more).await.unwrap();
    preparer.round(&node.runner).await;
    assert_eq!(loans(&node), 2);
}

#[tokio::test]
async fn a_new_version_of_a_product_is_prepared() {
    let mut node = TestNode::parking().await;
    let mut preparer = preparer();
    preparer.round(&node.runner).await;
    let second = crate::product::SESSIONS
        .replace("version = 1", "version = 2")
        .replace("minimum_group = 10", "minimum_group = 11");
    node.publish(&second).await.unwrap();
    preparer.round(&node.runner).await;
    assert_eq!(loans(&node), 2);
    let told = preparer.told().borrow().clone();
    assert_eq!(told.products[&sessions_name()].version, 2);
}

#[tokio::test]
async fn what_is_left_out_is_not_prepared() {
    let node = TestNode::parking().await;
    let mut preparer = Preparer::new(Prepare {
        except: [sessions_name()].into(),
        ..Prepare::default()
    });
    preparer.round(&node.runner).await;
    assert_eq!(loans(&node), 0);
    // Nothing is looked at where nothing is to be prepared.
    let off = Preparer::new(Prepare {
        enabled: false,
        ..Prepare::default()
    });
    let told = off.told();
    let runner = Arc::new(TestNode::new().runner);
    off.keep_prepared(runner, CancellationToken::new()).await;
    assert_eq!(told.borrow().rounds, 0);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_after_longer_and_longer() {
    let node = TestNode::parking().await;
    // Opens the datasets.
    let opened = node.runner.products.serve(&sessions_name(), 1).await;
    opened.unwrap();
    node.authority.away.store(true, Ordering::SeqCst);
    let mut preparer = preparer();
    let failed = |preparer: &Preparer| preparer.tried[&sessions_name()].failed;
    preparer.round(&node.runner).await;
    preparer.round(&node.runner).await;
    assert_eq!(failed(&preparer), 1);
    for seconds in [120, 240] {
        tokio::time::advance(Duration::from_secs(seconds - 1)).await;
        preparer.round(&node.runner).await;
        let before = failed(&preparer);
        tokio::time::advance(Duration::from_secs(1)).await;
        preparer.round(&node.runner).await;
        assert_eq!(failed(&preparer), before + 1);
    }
    node.authority.away.store(false, Ordering::SeqCst);
    preparer.round(&node.runner).await;
    assert_eq!(loans(&node), 0);
    tokio::time::advance(LONGEST).await;
    preparer.round(&node.runner).await;
    assert_eq!((loans(&node), failed(&preparer)), (1, 0));
}
