//! Real data of four councils, dirt and all: the city answers as pandas does over the raw files.

use crate::pytest;
use guildhall_testkit::{TestCity, node};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The files, which lie beside the checkout; none of them is part of it.
fn data() -> Option<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if data.is_dir() {
        return Some(data);
    }
    // Straight to standard error: what a test prints otherwise is not seen unless it fails.
    let _ = writeln!(
        std::io::stderr(),
        "skipped real_data: there is no folder `{}`; integration-tests/README.md says what it holds",
        data.display()
    );
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_over_real_data_are_answered_as_pandas_answers_them() {
    let Some(data) = data() else { return };
    let described = Path::new(env!("CARGO_MANIFEST_DIR")).join("real-city");
    let city = TestCity::in_folder(&described, tempfile::tempdir().unwrap())
        .await
        .unwrap();

    let finance = city.city.node_data(&node("leeds", "finance")).unwrap();
    assert_eq!(
        rejects(&finance),
        ["361808,paid", "541487,paid", "658903,paid", "776166,paid"]
    );
    let highways = city.city.node_data(&node("leeds", "highways")).unwrap();
    assert!(
        rejects(&highways).is_empty(),
        "every casualty of ten years is there"
    );

    let ready = city.folder().join("ready.json");
    city.city.ready().save(&ready).unwrap();
    let questions = described.join("questions");
    tokio::task::spawn_blocking(move || {
        pytest(
            &questions,
            &[
                ("GUILDHALL_READY_FILE", &ready),
                ("GUILDHALL_REAL_DATA", &data),
            ],
        )
    })
    .await
    .unwrap()
    .unwrap();
    city.city.stop().await;
}

/// Line and column of every row that a department's imports rejected.
fn rejects(node_data: &Path) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(node_data.join("rejects")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.splitn(4, ',').collect();
            found.push(format!("{},{}", fields[1], fields[2]));
        }
    }
    found
}
