//! Statements that are too much, too broken or not offered: none crashes, stalls or gets past.

use crate::door::Door;
use guildhall_city_data::{CityOptions, Department};
use guildhall_testkit::TestCity;
use std::time::{Duration, Instant};
use tonic::{Code, Status};

const ALL: &str = "SELECT car_park, spaces FROM northmoor.parking.car_parks";

fn options() -> CityOptions {
    CityOptions {
        scale: 0.05,
        councils: 1,
        departments: Some(vec![Department::Parking]),
        ..CityOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_crashes_stalls_or_reaches_past_the_products() {
    let town = TestCity::made_up(&options()).await.unwrap();
    let ana = Door::signed_in(&town.city, "ana", "transport_planning").await;
    let outside = town.folder().join("out");

    for (what, sql) in huge() {
        let started = Instant::now();
        let refused = ana.ask(&sql).await.err();
        let took = started.elapsed();
        let code = refused.as_ref().map(Status::code);
        assert!(
            matches!(code, Some(Code::ResourceExhausted | Code::InvalidArgument)),
            "{what}: {:?}",
            refused.map(|s| s.message().chars().take(200).collect::<String>())
        );
        assert!(took < Duration::from_secs(5), "{what} took {took:?}");
        assert!(
            refused.unwrap().message().len() < 2_000,
            "{what}: it is told back"
        );
    }
    for sql in MALFORMED {
        let refused = ana.ask(sql).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::InvalidArgument,
            "{sql}: {}",
            refused.message()
        );
        assert!(
            !refused.message().contains("Miggins"),
            "{sql}: {}",
            refused.message()
        );
    }
    let path = outside.display();
    let copies = [
        format!("COPY (SELECT 1) TO '{path}'"),
        format!("COPY northmoor.parking.car_parks TO '{path}' STORED AS CSV"),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{path}'"),
        format!("SELECT * INTO OUTFILE '{path}' FROM northmoor.parking.car_parks"),
    ];
    let mut taken = Vec::new();
    for sql in NOT_OFFERED.iter().map(|s| (*s).to_owned()).chain(copies) {
        for refused in [ana.ask(&sql).await.err(), ana.prepare(&sql).await.err()] {
            let code = refused.as_ref().map(Status::code);
            let no = matches!(
                code,
                Some(Code::InvalidArgument | Code::NotFound | Code::Unimplemented)
            );
            if !no || refused.is_some_and(|r| r.message().contains("root:")) {
                taken.push((sql.clone(), code));
            }
        }
    }
    assert!(taken.is_empty(), "{taken:?}");
    assert!(!outside.exists());
    // It took all of it in its stride.
    assert_eq!(ana.ask(ALL).await.unwrap(), 12);
    town.city.stop().await;
}

/// Statements that are too much of something.
fn huge() -> Vec<(&'static str, String)> {
    let p = "northmoor.parking.car_parks";
    let many = |what: &str, n: usize, between: &str| vec![what; n].join(between);
    vec![
        ("20,000 terms", format!("SELECT {}", many("1", 20_000, "+"))),
        (
            "20,000 columns added",
            format!("SELECT {} FROM {p}", many("spaces", 20_000, "+")),
        ),
        (
            "20,000 conditions",
            format!(
                "SELECT 1 FROM {p} WHERE {}",
                many("spaces=1", 10_000, " OR ")
            ),
        ),
        ("5,000 unions", many("SELECT 1", 5_000, " UNION ALL ")),
        (
            "5,000 unions of a product",
            many(&format!("SELECT spaces FROM {p}"), 2_000, " UNION ALL "),
        ),
        (
            "20,000 brackets",
            format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        ),
        (
            "2,000 functions",
            format!("SELECT {}1{}", "abs(".repeat(2_000), ")".repeat(2_000)),
        ),
        (
            "2,000 cases",
            format!(
                "SELECT {}1{}",
                "CASE WHEN true THEN ".repeat(2_000),
                " END".repeat(2_000)
            ),
        ),
        (
            "2,000 sub-queries",
            format!("SELECT {}1{}", "(SELECT ".repeat(2_000), ")".repeat(2_000)),
        ),
        (
            "derived tables",
            format!(
                "{}SELECT 1 AS a{}",
                "SELECT a FROM (".repeat(2_000),
                ") x".repeat(2_000)
            ),
        ),
        (
            "10,000 negations",
            format!("SELECT {}true", "NOT ".repeat(10_000)),
        ),
        ("10,000 signs", format!("SELECT {}1", "- ".repeat(10_000))),
        (
            "10,000 arrays",
            format!("SELECT {}1{}", "[".repeat(10_000), "]".repeat(10_000)),
        ),
        (
            "500 joins",
            format!(
                "SELECT 1 FROM {p} a0 {}",
                (1..500)
                    .map(|i| format!("JOIN {p} a{i} USING (car_park)"))
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        ),
        (
            "1,000 tables",
            format!(
                "SELECT 1 FROM {}",
                (0..1_000)
                    .map(|i| format!("{p} a{i}"))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        ),
        (
            "500 withs",
            format!(
                "WITH {} SELECT 1",
                (0..500)
                    .map(|i| format!("w{i} AS (SELECT 1)"))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        ),
        ("doubled withs", doubling(",")),
        ("doubled joins", doubling("CROSS JOIN")),
        (
            "a cube of 15 columns",
            format!(
                "SELECT 1 FROM {p} GROUP BY CUBE ({})",
                (1..16)
                    .map(|i| format!("spaces + {i}"))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        ),
        (
            "20,000 values",
            format!(
                "SELECT 1 FROM {p} WHERE spaces IN ({})",
                many("1", 20_000, ",")
            ),
        ),
        (
            "200,000 bytes of text",
            format!("SELECT '{}'", "x".repeat(200_000)),
        ),
        ("8 MB", format!("SELECT '{}'", "x".repeat(8 << 20))),
        ("a long name", format!("SELECT {}", many("a", 5_000, "."))),
        ("open comments", "/*".repeat(30_000)),
        ("open quotes", "'".repeat(30_001)),
        ("50,000 semicolons", ";".repeat(50_000)),
    ]
}

/// Thirty queries, each of which names the one before it twice: a billion, written out.
fn doubling(between: &str) -> String {
    let step = |i: usize| {
        format!(
            ", a{i} AS (SELECT l.x FROM a{p} l {between} a{p} r)",
            p = i - 1
        )
    };
    let steps: String = (1..30).map(step).collect();
    format!("WITH a0 AS (SELECT 1 AS x){steps} SELECT x FROM a29")
}

const MALFORMED: [&str; 17] = [
    "",
    " \n\t",
    "-- nothing",
    "SELEC 1",
    "SELECT",
    "SELECT 1 FROM",
    "SELECT 1 FRM x WHERE y = 'Mrs Miggins'",
    "SELECT 'Mrs Miggins",
    "SELECT 'Mrs Miggins' 'Mrs Miggins' WHERE",
    "SELECT \"Mrs Miggins",
    "SELECT 1; SELECT 2",
    "SELECT 1 FROM northmoor.parking.car_parks WHERE car_park = 'Mrs Miggins' GROUP",
    "SELECT CAST('Mrs Miggins' AS NOSUCHTYPE)",
    "\0",
    "\u{202e}\u{feff}\u{1f600}",
    "SELECT nosuch FROM northmoor.parking.car_parks WHERE car_park = 'Mrs Miggins'",
    "SELECT car_park + INTERVAL 'Mrs Miggins' FROM northmoor.parking.car_parks",
];

const NOT_OFFERED: [&str; 54] = [
    "CREATE TABLE t (a INT)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE SCHEMA s",
    "CREATE DATABASE d",
    "CREATE INDEX i ON northmoor.parking.car_parks (ward)",
    "CREATE FUNCTION f() RETURNS INT RETURN 1",
    "DROP TABLE northmoor.parking.car_parks",
    "DROP SCHEMA northmoor.parking",
    "ALTER TABLE northmoor.parking.car_parks ADD COLUMN a INT",
    "TRUNCATE TABLE northmoor.parking.car_parks",
    "INSERT INTO northmoor.parking.car_parks VALUES ('a', 'b', 'c', 1)",
    "UPDATE northmoor.parking.car_parks SET spaces = 0",
    "DELETE FROM northmoor.parking.car_parks",
    "MERGE INTO northmoor.parking.car_parks t USING northmoor.parking.car_parks s ON t.ward = s.ward WHEN MATCHED THEN DELETE",
    "WITH d AS (DELETE FROM northmoor.parking.car_parks RETURNING *) SELECT * FROM d",
    "SELECT * INTO t FROM northmoor.parking.car_parks",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "GRANT SELECT ON northmoor.parking.car_parks TO ana",
    "USE northmoor",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "CALL f()",
    "KILL 1",
    "ANALYZE TABLE northmoor.parking.car_parks",
    "EXPLAIN INSERT INTO northmoor.parking.car_parks SELECT * FROM northmoor.parking.car_parks",
    "EXPLAIN ANALYZE DROP TABLE northmoor.parking.car_parks",
    "SELECT 1; DROP TABLE northmoor.parking.car_parks",
    "SET datafusion.execution.batch_size = 1",
    "SET datafusion.runtime.memory_limit = '100G'",
    "SET TIME ZONE 'UTC'",
    "SET search_path = 'x'",
    "RESET datafusion.execution.batch_size",
    "SHOW datafusion.execution.batch_size",
    "SELECT * FROM information_schema.df_settings",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM \"/etc/passwd\"",
    "SELECT * FROM 'https://example.com/x.parquet'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM generate_series(1, 1000000000)",
    "SELECT * FROM range(1, 1000000000)",
    "SELECT * FROM TABLE(generate_series(1, 10))",
    "SELECT repeat('x', 1000000000)",
    "SELECT lpad('x', 1000000000)",
    "SELECT version()",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT current_user",
    "LOAD 'x'",
    "INSTALL x",
];
