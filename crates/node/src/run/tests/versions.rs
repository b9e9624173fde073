//! Which version of a dataset and of a product is served.

use crate::testing::{TestNode, refused};
use tonic::Code;

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
