//! Stock Python clients at the door: ADBC, `pyarrow.flight`, pandas, polars.

use crate::pytest;
use guildhall_city_data::CityOptions;
use guildhall_testkit::TestCity;
use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn stock_python_clients_are_served() {
    let four = CityOptions {
        scale: 0.15,
        councils: 4,
        ..CityOptions::default()
    };
    let city = TestCity::made_up(&four).await.unwrap();
    let raw = city.folder().join("city");
    let ready = city.folder().join("ready.json");
    city.city.ready().save(&ready).unwrap();
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    tokio::task::spawn_blocking(move || {
        let known = [
            ("GUILDHALL_READY_FILE", ready.as_path()),
            ("GUILDHALL_RAW_CITY", raw.as_path()),
        ];
        pytest(&clients, &known)
    })
    .await
    .unwrap()
    .unwrap();
    city.city.stop().await;
}
