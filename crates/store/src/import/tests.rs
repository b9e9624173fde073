use super::*;
use crate::testing::failing::FailingStore;
use crate::testing::{Department, PERMITS, ask, files, parts, permits};
use std::sync::Arc;

#[tokio::test]
async fn an_import_reads_back_as_it_was_written() {
    let department = Department::new();
    let csv = "ward,holder,paid_pence\nWest,Ann,\"1,200\"\nEast,Bob,\n";
    let report = department.import(csv, Mode::Replace).await.unwrap();
    assert_eq!((report.rows, report.rejects, report.version), (2, 0, 1));
    let context = department.session().await.unwrap();
    let answer = ask(&context, "SELECT * FROM permits").await.unwrap();
    let wanted = "\
+------+--------+------------+
| ward | holder | paid_pence |
+------+--------+------------+
| East | Bob    |            |
| West | Ann    | 1200       |
+------+--------+------------+";
    assert_eq!(answer, wanted);
}

#[tokio::test]
async fn no_value_and_no_column_name_of_a_part_is_in_clear() {
    let department = Department::new();
    department
        .import(&permits(3000), Mode::Replace)
        .await
        .unwrap();
    let parts = parts(&department);
    assert_eq!(parts.len(), 1);
    let bytes = std::fs::read(&parts[0]).unwrap();
    for known in ["Zebedee", "Quill", "Ward", "ward", "holder", "paid_pence"] {
        assert!(!contains(&bytes, known.as_bytes()), "`{known}` is in clear");
    }
    // The manifest names columns, and no value.
    for file in files(&department.data()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!contains(&bytes, b"Zebedee"), "{}", file.display());
    }
    // The same search finds them where nothing is encrypted.
    assert!(contains(permits(1).as_bytes(), b"Zebedee"));
}

#[tokio::test]
async fn rejects_are_listed_by_line_and_never_by_value() {
    let department = Department::new();
    let csv = "ward,holder,paid_pence\nEast,Ann,12\nWest,Zebedee,seven\n,Quill,3\nEast,Bob\n";
    let spec = department.spec(
        &PERMITS.replace("sort_by", "reject_rate = 0.9\nsort_by"),
        csv,
    );
    let report = department
        .import_spec(&spec, Mode::Replace, None, &department.storage)
        .await
        .unwrap();
    assert_eq!((report.rows, report.rejects), (1, 3));
    let list = std::fs::read_to_string(report.reject_file.unwrap()).unwrap();
    let wanted = "\
file,line,column,reason
permits.csv,3,paid_pence,not a whole number
permits.csv,4,ward,\"blank, but the column is required\"
permits.csv,5,,\"2 fields, the header has 3\"
";
    assert_eq!(list, wanted);
}

#[tokio::test]
async fn too_many_rejects_publish_nothing() {
    let department = Department::new();
    department
        .import(&permits(10), Mode::Replace)
        .await
        .unwrap();
    let before = department.count().await;
    let error = department
        .import(
            "ward,holder,paid_pence\nEast,Ann,x\nEast,Ann,1\n",
            Mode::Replace,
        )
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ImportError::TooManyRejects {
                rejects: 1,
                rows: 2,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(department.count().await, before);
    assert_eq!(parts(&department).len(), 1);
}

#[tokio::test]
async fn appended_rows_join_those_before_under_keys_of_their_own() {
    let department = Department::new();
    department
        .import("ward,holder,paid_pence\nEast,Ann,1\n", Mode::Replace)
        .await
        .unwrap();
    department
        .import("ward,holder,paid_pence\nWest,Bob,2\n", Mode::Append)
        .await
        .unwrap();
    let dataset = department.open().await.unwrap();
    let periods: Vec<_> = dataset
        .manifest()
        .parts
        .iter()
        .map(|p| p.period.to_string())
        .collect();
    assert_eq!(periods, ["all", "all.2"]);
    assert_eq!(dataset.manifest().keys.len(), 2 * 4);
    let context = department.session().await.unwrap();
    let answer = ask(
        &context,
        "SELECT string_agg(holder, ' ' ORDER BY holder) AS a FROM permits",
    )
    .await
    .unwrap();
    assert!(answer.contains("Ann Bob"), "{answer}");
}

#[tokio::test]
async fn an_append_of_other_columns_is_refused_by_name() {
    let department = Department::new();
    department.import(&permits(3), Mode::Replace).await.unwrap();
    let spec = department.spec(&PERMITS.replace("\"integer\"", "\"float\""), &permits(3));
    let error = department
        .import_spec(&spec, Mode::Append, None, &department.storage)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ImportError::OtherColumns { column, version: 1 } if column == "paid_pence"),
        "{error:?}"
    );
}

#[tokio::test]
async fn each_version_names_the_one_before_and_a_replaced_one_is_swept_later() {
    let department = Department::new();
    let mut digests = vec![];
    for n in 1..=3 {
        let report = department.import(&permits(n), Mode::Replace).await.unwrap();
        digests.push(report.digest);
    }
    let dataset = department.open().await.unwrap();
    assert_eq!(dataset.manifest().version, 3);
    assert_eq!(dataset.manifest().previous, Some(digests[1]));
    assert_eq!(dataset.manifest().rows(), 3);
    // Version 1 went when 3 began: 2 was newest then and 1 might have been in use.
    department.import(&permits(4), Mode::Replace).await.unwrap();
    assert_eq!(parts(&department).len(), 3, "versions 2, 3 and 4");
}

#[tokio::test]
async fn an_append_to_what_was_rolled_back_is_refused() {
    let department = Department::new();
    department.import(&permits(1), Mode::Replace).await.unwrap();
    let second = department.import(&permits(2), Mode::Append).await.unwrap();
    std::fs::remove_file(
        department
            .data()
            .join("datasets/permits/manifests/0000000002.manifest"),
    )
    .unwrap();
    let recorded = Some(Recorded {
        version: 2,
        digest: second.digest,
    });
    let spec = department.spec(PERMITS, &permits(1));
    let error = department
        .import_spec(&spec, Mode::Append, recorded, &department.storage)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ImportError::Before {
                source: ManifestError::RolledBack { .. }
            }
        ),
        "{error:?}"
    );
    // A whole new table may follow what was lost.
    let report = department
        .import_spec(&spec, Mode::Replace, recorded, &department.storage)
        .await
        .unwrap();
    assert_eq!(report.version, 3);
    assert_eq!(
        department.open().await.unwrap().manifest().previous,
        Some(second.digest)
    );
}

#[tokio::test]
async fn a_table_without_rows_is_a_table() {
    let department = Department::new();
    department
        .import("ward,holder,paid_pence\n", Mode::Replace)
        .await
        .unwrap();
    let context = department.session().await.unwrap();
    let answer = ask(
        &context,
        "SELECT count(*) AS n FROM permits WHERE ward = 'East'",
    )
    .await
    .unwrap();
    assert!(answer.contains("| 0 "), "{answer}");
}

#[tokio::test]
async fn rows_are_sorted_within_a_part() {
    let department = Department::new();
    department
        .import(&permits(50_000), Mode::Replace)
        .await
        .unwrap();
    let dataset = department.open().await.unwrap();
    let lent = department.lend(&dataset, |_| true);
    let context = crate::testing::session(dataset, lent, 1);
    let batches = crate::testing::batches(&context, "SELECT ward FROM permits")
        .await
        .unwrap();
    let wards: Vec<String> = batches
        .iter()
        .flat_map(|b| {
            let wards = arrow::array::AsArray::as_string::<i32>(b.column(0));
            wards
                .iter()
                .map(|w| w.unwrap().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(wards.len(), 50_000);
    assert!(wards.is_sorted());
}

#[tokio::test]
async fn progress_ends_with_all_rows_and_bytes() {
    let department = Department::new();
    let spec = department.spec(PERMITS, &permits(40_000));
    let seen = std::sync::Mutex::new(vec![]);
    let report = run(ImportRequest {
        spec: &spec,
        storage: &department.storage,
        id: &department.id,
        recipient: &department.recipient,
        signer: &department.signer,
        previous: None,
        mode: Mode::Replace,
        clock: department.clock.as_ref(),
        progress: &|p| seen.lock().unwrap().push(p),
    })
    .await
    .unwrap();
    let seen = seen.into_inner().unwrap();
    let last = seen.last().unwrap();
    assert_eq!((last.phase, last.rows), (Phase::Publishing, report.rows));
    assert_eq!(last.bytes, last.of_bytes);
    assert!(seen.iter().any(|p| p.phase == Phase::Reading));
}

/// A full disk or a lost store at any one moment: fail the n-th operation, for every n.
#[tokio::test]
async fn a_store_that_fails_at_any_moment_leaves_the_version_before() {
    for mode in [Mode::Replace, Mode::Append] {
        for n in 0.. {
            let department = Department::new();
            department
                .import(&permits(20), Mode::Replace)
                .await
                .unwrap();
            let before = department.count().await.unwrap();
            let failing = FailingStore::new(&department, n, false);
            let storage = Storage::local_through(department.data(), failing.clone());
            let spec = department.spec(PERMITS, "ward,holder,paid_pence\nEast,Ann,1\n");
            let result = department.import_spec(&spec, mode, None, &storage).await;
            let after = department.count().await.unwrap();
            if let Err(error) = &result {
                let said = error.to_string();
                assert!(
                    said.contains("datasets/permits` has no room"),
                    "{n}: {said}"
                );
                assert!(error.help().is_some());
            }
            if result.is_ok() {
                assert_ne!(after, before, "published, and nothing to be seen");
                if failing.used() <= n {
                    assert!(n > 8, "an import takes more than {n} operations");
                    break;
                }
            } else {
                assert_eq!(
                    after, before,
                    "operation {n} failed and something is to be seen"
                );
            }
            // The next import goes well and sweeps.
            department.import(&permits(7), Mode::Replace).await.unwrap();
            assert_eq!(department.open().await.unwrap().manifest().rows(), 7);
        }
    }
}

/// A killed process: nothing works any more from the n-th operation on, not even tidying up.
#[tokio::test]
async fn a_process_killed_at_any_moment_leaves_the_version_before_and_orphans_are_swept() {
    let mut left_orphans = false;
    for n in 0.. {
        let department = Department::new();
        department
            .import(&permits(20), Mode::Replace)
            .await
            .unwrap();
        let before = department.count().await.unwrap();
        let failing = FailingStore::new(&department, n, true);
        let storage = Storage::local_through(department.data(), failing.clone());
        let spec = department.spec(PERMITS, "ward,holder,paid_pence\nEast,Ann,1\n");
        let result = department
            .import_spec(&spec, Mode::Append, None, &storage)
            .await;
        let after = department.count().await.unwrap();
        if failing.used() <= n {
            assert!(result.is_ok(), "{result:?}");
            break;
        }
        let is_published = after != before;
        left_orphans |= !is_published && parts(&department).len() > 1;
        department.import(&permits(7), Mode::Replace).await.unwrap();
        department.import(&permits(8), Mode::Replace).await.unwrap();
        department.import(&permits(9), Mode::Replace).await.unwrap();
        let referred = parts(&department).len();
        assert_eq!(
            referred, 3,
            "the newest two versions and the one being replaced"
        );
        let drafts = files(&department.data())
            .into_iter()
            .filter(|f| f.extension().is_some_and(|e| e == "draft"));
        assert_eq!(drafts.count(), 0);
    }
    assert!(
        left_orphans,
        "no kill fell between the parts and the manifest"
    );
}

#[tokio::test]
async fn a_second_import_of_a_dataset_waits_its_turn() {
    let department = Department::new();
    let _held = department.storage.lock(&department.id.dataset).unwrap();
    let error = department
        .import(&permits(1), Mode::Replace)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ImportError::Storage {
                source: StorageError::Busy { .. }
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_parquet_file_is_imported_with_its_types() {
    let department = Department::new();
    let csv = "ward,holder,paid_pence\n";
    let spec = department.spec(&PERMITS.replace("permits.csv", "permits.parquet"), csv);
    write_parquet(&department.folder.path().join("permits.parquet"));
    let report = department
        .import_spec(&spec, Mode::Replace, None, &department.storage)
        .await;
    let error = report.unwrap_err();
    assert!(
        matches!(
            error,
            ImportError::TooManyRejects {
                rejects: 1,
                rows: 3,
                ..
            }
        ),
        "{error:?}"
    );
    let spec = ImportSpec {
        reject_rate: 0.5,
        ..spec
    };
    department
        .import_spec(&spec, Mode::Replace, None, &department.storage)
        .await
        .unwrap();
    let context = department.session().await.unwrap();
    let answer = ask(
        &context,
        "SELECT holder, paid_pence FROM permits ORDER BY 1",
    )
    .await
    .unwrap();
    assert!(
        answer.contains("| Ann    | 5 ") && answer.contains("|  Bob   | 7 "),
        "{answer}"
    );
}

fn write_parquet(path: &std::path::Path) {
    use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringViewArray};
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "ward",
            Arc::new(StringViewArray::from(vec!["East", "West", "West"])),
        ),
        (
            "holder",
            Arc::new(StringViewArray::from(vec![Some("Ann"), Some(" Bob"), None])),
        ),
        (
            "paid_pence",
            Arc::new(Float64Array::from(vec![5.0, 7.0, 7.5])),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn contains(bytes: &[u8], known: &[u8]) -> bool {
    bytes.windows(known.len()).any(|w| w == known)
}
