//! Stock Python clients at the door: ADBC, `pyarrow.flight`, pandas, polars.

use crate::venv::pytest;
use guildhall_testkit::TestCity;
use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn stock_python_clients_are_served() {
    let city = TestCity::start().await.unwrap();
    let ready = city.folder().join("ready.json");
    city.city.ready().save(&ready).unwrap();
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    tokio::task::spawn_blocking(move || pytest(&clients, &[("GUILDHALL_READY_FILE", &ready)]))
        .await
        .unwrap()
        .unwrap();
    city.city.stop().await;
}
