//! What inference makes of real files.

use crate::Mode;
use crate::table::*;
use crate::testing::{Department, ask};
use datafusion::prelude::SessionContext;
use std::path::Path;

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
