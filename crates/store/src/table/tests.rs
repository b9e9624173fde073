use super::*;
use crate::Mode;
use crate::testing::{Department, PERMITS, ask, parts, permits, session};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;
use guildhall_keys::{ColumnKey, KeyName};
use std::path::Path;

#[tokio::test]
async fn a_column_that_was_not_lent_fails_by_name_and_only_if_it_is_read() {
    let department = Department::new();
    department
        .import(&permits(100), Mode::Replace)
        .await
        .unwrap();
    let dataset = department.open().await.unwrap();
    let lent = department.lend(&dataset, |k| is_one_of(k, &["ward"]));
    let context = session(dataset, lent, 2);
    let answer = ask(&context, "SELECT count(DISTINCT ward) AS n FROM permits")
        .await
        .unwrap();
    assert!(answer.contains("| 10 "), "{answer}");
    for sql in [
        "SELECT holder FROM permits",
        "SELECT ward FROM permits WHERE paid_pence > 3",
    ] {
        let error = ask(&context, sql).await.unwrap_err();
        let column = if sql.contains("holder") {
            "holder"
        } else {
            "paid_pence"
        };
        assert!(
            error.contains("was not lent") && error.contains(column),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_scan_before_any_loan_is_refused() {
    let department = Department::new();
    department
        .import(&permits(10), Mode::Replace)
        .await
        .unwrap();
    let context = session(department.open().await.unwrap(), LentKeys::default(), 2);
    let error = ask(&context, "SELECT ward FROM permits").await.unwrap_err();
    assert!(error.contains("no keys were lent"), "{error}");
}

#[tokio::test]
async fn a_wrong_key_opens_nothing() {
    let department = Department::new();
    department
        .import(&permits(100), Mode::Replace)
        .await
        .unwrap();
    for wrong in [None, Some("holder")] {
        let dataset = department.open().await.unwrap();
        let right = department.lend(&dataset, |_| true);
        let keys = right.get().unwrap().names().cloned().map(|name| {
            let is_wrong = name.column.as_ref().map(ColumnName::as_str) == wrong;
            let key = if is_wrong {
                ColumnKey::generate().unwrap()
            } else {
                copy(&right, &name)
            };
            (name, key)
        });
        let lent = LentKeys::default();
        lent.set(keys.collect()).unwrap();
        let error = ask(&session(dataset, lent, 2), "SELECT holder FROM permits")
            .await
            .unwrap_err();
        assert!(error.contains("cannot be opened"), "{error}");
    }
}

#[tokio::test]
async fn the_keys_of_one_version_do_not_open_another() {
    let department = Department::new();
    department
        .import(&permits(10), Mode::Replace)
        .await
        .unwrap();
    let old = department.lend(&department.open().await.unwrap(), |_| true);
    department
        .import(&permits(10), Mode::Replace)
        .await
        .unwrap();
    let context = session(department.open().await.unwrap(), old, 2);
    let error = ask(&context, "SELECT ward FROM permits").await.unwrap_err();
    assert!(error.contains("was not lent"), "{error}");
}

#[tokio::test]
async fn with_the_footer_key_alone_no_value_is_known() {
    let department = Department::new();
    department
        .import(&permits(1000), Mode::Replace)
        .await
        .unwrap();
    let dataset = department.open().await.unwrap();
    let lent = department.lend(&dataset, |k| k.column.is_none());
    let none = BTreeSet::new();
    let footers = crate::footer::read(&dataset, &none, lent.get().unwrap())
        .await
        .unwrap();
    for column in footers[0].row_group(0).columns() {
        assert!(column.statistics().is_none());
    }
    let context = session(dataset, lent, 2);
    let answer = ask(&context, "SELECT count(*) AS n FROM permits")
        .await
        .unwrap();
    assert!(answer.contains("| 1000 "), "{answer}");
}

#[tokio::test]
async fn swapped_parts_are_refused() {
    let department = Department::new();
    department
        .import(&permits(500), Mode::Replace)
        .await
        .unwrap();
    department
        .import(&permits(500), Mode::Append)
        .await
        .unwrap();
    let parts = parts(&department);
    let (a, b) = (
        std::fs::read(&parts[0]).unwrap(),
        std::fs::read(&parts[1]).unwrap(),
    );
    std::fs::write(&parts[0], &b).unwrap();
    std::fs::write(&parts[1], &a).unwrap();
    let opened = department.open().await;
    if a.len() == b.len() {
        let dataset = opened.unwrap();
        let lent = department.lend(&dataset, |_| true);
        let error = ask(&session(dataset, lent, 2), "SELECT ward FROM permits")
            .await
            .unwrap_err();
        assert!(error.contains("cannot be opened"), "{error}");
    } else {
        assert!(
            matches!(opened, Err(ReadError::PartDamaged { .. })),
            "{opened:?}"
        );
    }
}

#[tokio::test]
async fn a_part_read_under_another_place_does_not_open() {
    let department = Department::new();
    department
        .import(&permits(500), Mode::Replace)
        .await
        .unwrap();
    let dataset = department.open().await.unwrap();
    let lent = department.lend(&dataset, |_| true);
    let mut moved = dataset.manifest().clone();
    moved.parts[0].written_in = 7;
    moved.version = 7;
    let moved = dataset.with_manifest(moved);
    let error = crate::footer::read(&moved, &BTreeSet::new(), lent.get().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, ReadError::Sealed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_or_shortened_part_is_noticed_when_the_dataset_is_opened() {
    let department = Department::new();
    department
        .import(&permits(500), Mode::Replace)
        .await
        .unwrap();
    let part = parts(&department).remove(0);
    let bytes = std::fs::read(&part).unwrap();
    std::fs::write(&part, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(
        department.open().await,
        Err(ReadError::PartDamaged { .. })
    ));
    std::fs::remove_file(&part).unwrap();
    assert!(matches!(
        department.open().await,
        Err(ReadError::PartMissing { .. })
    ));
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_never_read_as_data() {
    let department = Department::new();
    department
        .import(&permits(300), Mode::Replace)
        .await
        .unwrap();
    let part = parts(&department).remove(0);
    let bytes = std::fs::read(&part).unwrap();
    let sql = "SELECT ward, holder, paid_pence FROM permits ORDER BY 2";
    let whole = ask(&department.session().await.unwrap(), sql)
        .await
        .unwrap();
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(97) {
        let mut altered = bytes.clone();
        altered[at] ^= 0x10;
        std::fs::write(&part, &altered).unwrap();
        let dataset = department.open().await.unwrap();
        assert!(
            dataset.verify_parts().await.is_err(),
            "byte {at} is not in the digest"
        );
        let context = department.session().await.unwrap();
        match ask(&context, sql).await {
            Err(_) => refused += 1,
            // The magic at the head of the file carries nothing.
            Ok(answer) => assert_eq!(answer, whole, "byte {at} changed the answer"),
        }
    }
    assert!(refused > 10, "{refused}");
    std::fs::write(&part, &bytes).unwrap();
    department
        .open()
        .await
        .unwrap()
        .verify_parts()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_rolled_back_dataset_is_noticed_against_the_record() {
    let department = Department::new();
    let first = department.import(&permits(1), Mode::Replace).await.unwrap();
    let second = department.import(&permits(2), Mode::Replace).await.unwrap();
    let recorded = crate::Recorded {
        version: 2,
        digest: second.digest,
    };
    let newest = department
        .data()
        .join("datasets/permits/manifests/0000000002.manifest");
    let oldest = department
        .data()
        .join("datasets/permits/manifests/0000000001.manifest");
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::remove_file(&newest).unwrap();
    let error = department.open_expecting(Some(recorded)).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::Manifest(crate::ManifestError::RolledBack {
                recorded: 2,
                found: Some(1),
                ..
            })
        ),
        "{error:?}"
    );
    // An old manifest in the place of the new one.
    std::fs::copy(&oldest, &newest).unwrap();
    let error = department.open_expecting(Some(recorded)).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::Manifest(crate::ManifestError::Misplaced { says: 1, .. })
        ),
        "{error:?}"
    );
    // Put back, it opens; so does the version before, while that is the one on record.
    std::fs::write(&newest, bytes).unwrap();
    assert_eq!(
        department
            .open_expecting(Some(recorded))
            .await
            .unwrap()
            .manifest()
            .version,
        2
    );
    let before = crate::Recorded {
        version: 1,
        digest: first.digest,
    };
    assert_eq!(
        department
            .open_expecting(Some(before))
            .await
            .unwrap()
            .manifest()
            .version,
        1
    );
    let other = crate::Recorded {
        version: 2,
        digest: first.digest,
    };
    assert!(department.open_expecting(Some(other)).await.is_err());
}

#[tokio::test]
async fn a_manifest_that_was_tampered_with_or_signed_by_another_is_refused() {
    let department = Department::new();
    department.import(&permits(1), Mode::Replace).await.unwrap();
    let path = department
        .data()
        .join("datasets/permits/manifests/0000000001.manifest");
    let bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(31) {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        std::fs::write(&path, &altered).unwrap();
        let opened = department.open().await;
        assert!(
            matches!(opened, Err(ReadError::Manifest(_))),
            "byte {at}: {opened:?}"
        );
    }
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(department.open().await.is_err());
    std::fs::write(&path, &bytes).unwrap();
    let stranger = guildhall_grant::SigningKey::generate().unwrap().public();
    let opened = SealedDataset::open(&department.storage, &department.id, &[stranger], None).await;
    assert!(opened.is_err());
}

#[tokio::test]
async fn row_groups_are_pruned_by_their_statistics_on_encrypted_parts() {
    let department = big().await;
    let dataset = department.open().await.unwrap();
    let lent = department.lend(&dataset, |k| is_one_of(k, &["ward"]));
    let context = session(dataset, lent, 2);
    let sql = "SELECT ward FROM permits WHERE ward = 'Ward 0'";
    let (rows, plan) = run(&context, sql).await;
    assert_eq!(rows, BIG / 10);
    assert_eq!(
        scanned(&plan),
        crate::part::ROW_GROUP_ROWS,
        "one row group of three"
    );
}

#[tokio::test]
async fn every_partition_gets_work_when_the_first_column_is_not_lent() {
    let department = big().await;
    let dataset = department.open().await.unwrap();
    assert_eq!(dataset.schema().field(0).name(), "ward");
    let lent = department.lend(&dataset, |k| is_one_of(k, &["paid_pence"]));
    let context = session(dataset, lent, 3);
    let frame = context.sql("SELECT paid_pence FROM permits").await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let partitions = plan.properties().output_partitioning().partition_count();
    assert_eq!(partitions, 3, "{}", displayable(plan.as_ref()).indent(true));
    let mut rows = vec![];
    for partition in 0..partitions {
        // One after the other, so none can take another's share.
        let context = no_stealing(&context);
        let stream = plan.execute(partition, context).unwrap();
        let batches = datafusion::physical_plan::common::collect(stream)
            .await
            .unwrap();
        rows.push(batches.iter().map(|b| b.num_rows()).sum::<usize>());
    }
    assert_eq!(rows.iter().sum::<usize>(), BIG);
    assert!(rows.iter().all(|n| *n >= BIG / 6), "{rows:?}");
}

#[tokio::test]
async fn views_give_the_same_answers() {
    let department = Department::new();
    department
        .import(&permits(1000), Mode::Replace)
        .await
        .unwrap();
    let sql = "SELECT ward, count(*) AS n, max(holder) AS last FROM permits WHERE ward < 'Ward 5' GROUP BY 1 ORDER BY 1";
    let plain = ask(&department.session().await.unwrap(), sql)
        .await
        .unwrap();
    let dataset = Arc::new(department.open().await.unwrap());
    let lent = department.lend(&dataset, |_| true);
    let context = SessionContext::new();
    let table = SealedTable::new(dataset, lent).with_view_types();
    assert_eq!(*table.schema().field(0).data_type(), DataType::Utf8View);
    context.register_table("permits", Arc::new(table)).unwrap();
    assert_eq!(ask(&context, sql).await.unwrap(), plain);
}

#[tokio::test]
async fn the_planner_is_told_rows_and_bounds_of_the_columns_that_are_read() {
    let department = Department::new();
    department
        .import(&permits(1000), Mode::Replace)
        .await
        .unwrap();
    let context = department.session().await.unwrap();
    let frame = context.sql("SELECT paid_pence FROM permits").await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let context = StatisticsContext::new();
    let statistics = context
        .compute(plan.as_ref(), &StatisticsArgs::new())
        .unwrap();
    assert_eq!(statistics.num_rows, Precision::Exact(1000));
    let paid = &statistics.column_statistics[0];
    assert_eq!(paid.max_value.get_value().unwrap().to_string(), "9990");
    assert_eq!(paid.null_count, Precision::Exact(0));
}

#[test]
fn row_groups_are_dealt_evenly_and_whole() {
    for (parts, partitions) in [
        (vec![vec![100; 24]], 2),
        (vec![vec![100; 16], vec![100; 7], vec![3]], 4),
        (vec![vec![5]], 8),
        (vec![vec![1, 1, 1000, 1, 1], vec![7; 3]], 3),
        (vec![vec![0], vec![]], 2),
    ] {
        let slices: Vec<&[u64]> = parts.iter().map(Vec::as_slice).collect();
        let shares = deal(&slices, partitions);
        assert!(shares.len() <= partitions);
        let mut dealt: Vec<(usize, usize)> = shares
            .iter()
            .flatten()
            .flat_map(|p| p.row_groups.clone().map(|g| (p.part, g)))
            .collect();
        dealt.sort_unstable();
        let all: Vec<(usize, usize)> = parts
            .iter()
            .enumerate()
            .flat_map(|(p, g)| (0..g.len()).map(move |g| (p, g)))
            .collect();
        assert_eq!(dealt, all, "{parts:?} over {partitions}");
    }
    let shares = deal(&[&[100; 24]], 2);
    let rows: Vec<u64> = shares
        .iter()
        .map(|s| s.iter().map(|p| p.rows).sum())
        .collect();
    assert_eq!(rows, [1200, 1200]);
}

#[tokio::test]
async fn debug_prints_no_key() {
    let department = Department::new();
    department.import(&permits(1), Mode::Replace).await.unwrap();
    let dataset = Arc::new(department.open().await.unwrap());
    let lent = department.lend(&dataset, |_| true);
    let text = format!("{:?}", SealedTable::new(dataset, lent));
    assert_eq!(
        text,
        "SealedTable { dataset: DatasetId { council: CouncilName(\"northmoor\"), department: DepartmentName(\"parking\"), dataset: DatasetName(\"permits\") }, version: 1, lent: Some(4), .. }"
    );
}

/// The departments' real files, where they are at hand.
#[tokio::test]
async fn real_files_are_imported_as_inferred() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !data.is_dir() {
        println!("skipped: no {}", data.display());
        return;
    }
    for (file, rows, sql, wanted) in [
        (
            "parking/birmingham_car_park_occupancy_2016.csv.gz",
            35_717,
            "SELECT count(DISTINCT system_code_number) AS n FROM t",
            "| 30 ",
        ),
        (
            "community-safety/leeds_street_crime_2025_02.csv.gz",
            8_009,
            "SELECT min(month) AS m FROM t",
            "2025-02-01",
        ),
        (
            "highways/leeds_road_casualties_2017.csv.gz",
            0,
            "SELECT max(accident_date) AS d FROM t",
            "2017-12-",
        ),
        (
            "highways/leeds_road_casualties_2009.csv.gz",
            0,
            "SELECT min(accident_date) AS d FROM t",
            "2009-01-",
        ),
        (
            "finance/original/leeds_processed_2017-03_cp1252.csv.gz",
            0,
            "SELECT count(*) AS n FROM t",
            "|",
        ),
        (
            "city-centre/leeds_footfall_hourly_2009_2016.parquet",
            554_360,
            "SELECT count(date) AS n FROM t",
            "554360",
        ),
        (
            "geography/lookup_lsoa21_ward24_ltla24.parquet",
            35_672,
            "SELECT count(*) AS n FROM t",
            "| 35672 ",
        ),
    ] {
        let department = Department::new();
        let options = crate::InferOptions {
            dataset: Some("permits".parse().unwrap()),
            ..Default::default()
        };
        let inferred = crate::import::infer(&data.join(file), &options).unwrap();
        let report = department
            .import_spec(&inferred.spec, Mode::Replace, None, &department.storage)
            .await;
        let report = report.unwrap_or_else(|e| panic!("{file}: {e}\n{}", inferred.toml));
        println!(
            "{file}: {} rows, {} rejects, {} blank",
            report.rows, report.rejects, report.blank
        );
        if rows > 0 {
            assert_eq!(report.rows + report.rejects, rows, "{file}");
        }
        let dataset = department.open().await.unwrap();
        let lent = department.lend(&dataset, |_| true);
        let context = SessionContext::new();
        context
            .register_table("t", Arc::new(SealedTable::new(Arc::new(dataset), lent)))
            .unwrap();
        let answer = ask(&context, sql)
            .await
            .unwrap_or_else(|e| panic!("{file}: {e}\n{}", inferred.toml));
        assert!(
            answer.contains(wanted),
            "{file}: {answer}\n{}",
            inferred.toml
        );
    }
}

const BIG: usize = 700_000;

/// Three row groups.
async fn big() -> Department {
    let department = Department::new();
    let spec = department.spec(PERMITS, &permits(BIG));
    department
        .import_spec(&spec, Mode::Replace, None, &department.storage)
        .await
        .unwrap();
    department
}

async fn run(context: &SessionContext, sql: &str) -> (usize, Arc<dyn ExecutionPlan>) {
    let plan = context
        .sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let batches = collect(Arc::clone(&plan), context.task_ctx())
        .await
        .unwrap();
    (batches.iter().map(|b| b.num_rows()).sum(), plan)
}

/// The rows that the scan below a plan gave out.
fn scanned(plan: &Arc<dyn ExecutionPlan>) -> usize {
    match plan.children().first() {
        Some(child) => scanned(child),
        None => plan.metrics().unwrap().output_rows().unwrap(),
    }
}

fn no_stealing(context: &SessionContext) -> Arc<datafusion::execution::TaskContext> {
    let mut config = context.copied_config();
    config
        .options_mut()
        .execution
        .enable_file_stream_work_stealing = false;
    let task = context.task_ctx();
    Arc::new(
        datafusion::execution::TaskContext::default()
            .with_session_config(config)
            .with_runtime(task.runtime_env()),
    )
}

fn is_one_of(key: &KeyName, columns: &[&str]) -> bool {
    key.column
        .as_ref()
        .is_none_or(|c| columns.contains(&c.as_str()))
}

fn copy(lent: &LentKeys, name: &KeyName) -> ColumnKey {
    ColumnKey::from_bytes(lent.get().unwrap().get(name).unwrap().as_bytes()).unwrap()
}
