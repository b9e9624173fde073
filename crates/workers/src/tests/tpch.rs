//! TPC-H on four workers equals TPC-H in one process, and no key travels with a plan.

use super::tpch_queries::query;
use super::*;
use arrow::array::{AsArray as _, RecordBatch, RecordBatchReader};
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt as _;
use guildhall_keys::file_key;
use parquet::arrow::ArrowWriter;
use std::fmt::Write as _;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

pub(super) const TABLES: [&str; 8] = [
    "lineitem", "orders", "customer", "partsupp", "part", "supplier", "nation", "region",
];

/// Small enough for an unoptimised engine; `GUILDHALL_TPCH_SCALE` asks for another.
fn scale() -> f64 {
    std::env::var("GUILDHALL_TPCH_SCALE").map_or(0.01, |s| s.parse().unwrap())
}

/// The large tables lie in four parts each, so that there is something to deal.
fn parts(table: &str) -> i32 {
    match table {
        "supplier" | "nation" | "region" => 1,
        _ => 4,
    }
}

fn rows_of(table: &str, part: i32) -> Box<dyn RecordBatchReader> {
    let (s, of) = (scale(), parts(table));
    let part = part + 1;
    match table {
        "lineitem" => Box::new(LineItemArrow::new(LineItemGenerator::new(s, part, of))),
        "orders" => Box::new(OrderArrow::new(OrderGenerator::new(s, part, of))),
        "customer" => Box::new(CustomerArrow::new(CustomerGenerator::new(s, part, of))),
        "partsupp" => Box::new(PartSuppArrow::new(PartSuppGenerator::new(s, part, of))),
        "part" => Box::new(PartArrow::new(PartGenerator::new(s, part, of))),
        "supplier" => Box::new(SupplierArrow::new(SupplierGenerator::new(s, part, of))),
        "nation" => Box::new(NationArrow::new(NationGenerator::new(s, part, of))),
        _ => Box::new(RegionArrow::new(RegionGenerator::new(s, part, of))),
    }
}

/// Imports the eight tables, encrypted.
pub(super) async fn fill(department: &Department, tables: &[&str]) {
    for table in tables {
        let mut spec = String::new();
        for part in 0..parts(table) {
            let mut rows = rows_of(table, part);
            let path = department.files().join(format!("{table}-{part}.parquet"));
            let file = std::fs::File::create(path).unwrap();
            let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
            spec = spec_of(table, &rows.schema());
            for batch in &mut rows {
                writer.write(&batch.unwrap()).unwrap();
            }
            writer.close().unwrap();
        }
        department
            .import(&spec, usize::try_from(parts(table)).unwrap())
            .await;
    }
}

fn spec_of(table: &str, schema: &arrow::datatypes::Schema) -> String {
    let mut spec = format!("dataset = \"{table}\"\nsource = \"{table}-{{part}}.parquet\"\n");
    for field in schema.fields() {
        let kind = match field.data_type() {
            DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
            DataType::Date32 => "date".to_owned(),
            DataType::Int32 | DataType::Int64 => "integer".to_owned(),
            _ => "text".to_owned(),
        };
        let name = field.name();
        writeln!(
            spec,
            "[[column]]\nname = \"{name}\"\ntype = \"{kind}\"\nrequired = true"
        )
        .unwrap();
    }
    spec
}

/// Rows as text, sorted; floats to nine digits, since the order of a sum is nobody's promise.
fn canonical(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = vec![];
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                match column.as_primitive_opt::<Float64Type>() {
                    Some(floats) if column.is_valid(row) => format!("{:.8e}", floats.value(row)),
                    _ => {
                        let formatter = ArrayFormatter::try_new(column.as_ref(), &options);
                        formatter.unwrap().value(row).to_string()
                    }
                }
            });
            rows.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    rows.sort_unstable();
    rows
}

async fn single(context: &SessionContext, sql: &str) -> Vec<String> {
    let frame = context.sql(sql).await.unwrap();
    canonical(&frame.collect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_tpch_on_four_workers_equals_one_process_and_no_key_is_in_any_plan() {
    let department = Department::with_workers(4).await;
    fill(&department, &TABLES).await;
    let session = department.session(&TABLES).await;
    let fleet = department.fleet();
    let mut loans = 0;
    for number in 1..=22 {
        let sql = query(number, str::to_owned);
        let expected = single(&session.0, &sql).await;
        let rows = department.start(&fleet, &session, &sql).await;
        let rows = rows.unwrap_or_else(|e| panic!("Q{number}: {e:?}"));
        let rows = rows.try_collect::<Vec<_>>().await;
        let rows = rows.unwrap_or_else(|e| panic!("Q{number}: {e}"));
        assert_eq!(canonical(&rows), expected, "Q{number}");
        loans += 1;
        // Each worker borrowed for itself, under this question's own grant, once.
        let each = department.loans();
        assert!(each.values().all(|n| *n == loans), "Q{number}: {each:?}");
    }
    for worker in &department.workers {
        worker.holds(0).await;
        let asked = worker.desk.asked.lock().unwrap();
        let recipients: std::collections::BTreeSet<_> = asked
            .iter()
            .map(|r| r.ephemeral_recipient.clone())
            .collect();
        assert_eq!(recipients.len(), loans);
    }
    no_key_is_in(fleet.tap(), &department, &session.1);
}

/// Looks for every column key, and for every file key made of it, as bytes and as text.
fn no_key_is_in(tap: &Tap, department: &Department, readings: &[Reading]) {
    assert!(tap.holds(b"lineitem"), "the plans were not captured");
    for reading in readings {
        let keys = department.keys(&reading.dataset);
        for (name, key) in keys.iter() {
            let hex = key.as_bytes().iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            assert!(
                !tap.holds(key.as_bytes()) && !tap.holds(hex.as_bytes()),
                "{name}"
            );
            let column = name.column.as_ref().map_or("", |c| c.as_str());
            for part in &reading.dataset.manifest().parts {
                let of_file = file_key(key, &part.file_id, column);
                assert!(!tap.holds(of_file.as_slice()), "{name} of a part");
            }
        }
    }
}
