//! A department's workers, in a whole city: TPC-H over a node with four of them equals one process, every key that a worker
//! holds is a loan on record, and a worker that is away is done without.

use crate::rogue::authority_log;
use crate::tpch_queries::query;
use arrow::array::{AsArray as _, RecordBatch, RecordBatchReader};
use arrow::datatypes::{DataType, Float64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use guildhall_audit::{Decision, Entry, Event};
use guildhall_cli::city::{City, CityOptions, boot};
use guildhall_cli::sql::{Connection, Endpoint};
use guildhall_model::{Role, SystemClock};
use guildhall_node::{ImportSpec, Mode, Node};
use guildhall_testkit::{answer, node};
use parquet::arrow::ArrowWriter;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

const TABLES: [&str; 8] = [
    "lineitem", "orders", "customer", "partsupp", "part", "supplier", "nation", "region",
];
const SCALE: f64 = 0.005;
const WORKERS: usize = 4;

/// The large tables are imported in four parts, as a department appends from day to day: what is dealt are parts.
fn parts(table: &str) -> i32 {
    match table {
        "supplier" | "nation" | "region" => 1,
        _ => 4,
    }
}

fn rows_of(table: &str, part: i32) -> Box<dyn RecordBatchReader> {
    let (part, of) = (part + 1, parts(table));
    match table {
        "lineitem" => Box::new(LineItemArrow::new(LineItemGenerator::new(SCALE, part, of))),
        "orders" => Box::new(OrderArrow::new(OrderGenerator::new(SCALE, part, of))),
        "customer" => Box::new(CustomerArrow::new(CustomerGenerator::new(SCALE, part, of))),
        "partsupp" => Box::new(PartSuppArrow::new(PartSuppGenerator::new(SCALE, part, of))),
        "part" => Box::new(PartArrow::new(PartGenerator::new(SCALE, part, of))),
        "supplier" => Box::new(SupplierArrow::new(SupplierGenerator::new(SCALE, part, of))),
        "nation" => Box::new(NationArrow::new(NationGenerator::new(SCALE, part, of))),
        _ => Box::new(RegionArrow::new(RegionGenerator::new(SCALE, part, of))),
    }
}

/// What to import, one specification a part, from files in `folder`; and the product over it.
fn described(folder: &Path, table: &str, plain: &SessionContext) -> (Vec<String>, String) {
    let (mut specs, mut product) = (Vec::new(), String::new());
    let mut all = Vec::new();
    for part in 0..parts(table) {
        let reader = rows_of(table, part);
        let schema = reader.schema();
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        let file = folder.join(format!("{table}-{part}.parquet"));
        let to = std::fs::File::create(&file).unwrap();
        let mut writer = ArrowWriter::try_new(to, schema.clone(), None).unwrap();
        batches.iter().for_each(|b| writer.write(b).unwrap());
        writer.close().unwrap();
        all.extend(batches);
        let source = file.display().to_string();
        specs.push(format!(
            "dataset = \"{table}\"\nsource = {source:?}\n{}",
            columns(&schema)
        ));
        product = product_of(table, &schema);
    }
    let schema = all[0].schema();
    let memory = MemTable::try_new(schema, vec![all]).unwrap();
    plain.register_table(table, Arc::new(memory)).unwrap();
    (specs, product)
}

fn columns(schema: &Schema) -> String {
    let mut text = String::new();
    for field in schema.fields() {
        let kind = match field.data_type() {
            DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
            DataType::Date32 => "date".to_owned(),
            DataType::Int32 | DataType::Int64 => "integer".to_owned(),
            _ => "text".to_owned(),
        };
        let name = field.name();
        writeln!(
            text,
            "[[column]]\nname = \"{name}\"\ntype = \"{kind}\"\nrequired = true"
        )
        .unwrap();
    }
    text
}

fn product_of(table: &str, schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let mut text = format!(
        "name = \"{table}\"\nversion = 1\nclass = \"open\"\ndoc = \"TPC-H {table}.\"\npurposes = [\"benchmark\"]\n\
         view = \"SELECT {} FROM {table}\"\n",
        names.join(", ")
    );
    for name in names {
        write!(text, "\n[columns.{name}]\nclass = \"open\"\n").unwrap();
    }
    text
}

const CITY: &str = r#"
open_product = "tpch.sales.lineitem"
[[council]]
name = "tpch"
purposes = ["benchmark"]
[[council.department]]
name = "sales"
[[account]]
name = "bench"
council = "tpch"
roles = ["analyst"]
purposes = ["benchmark"]
"#;

/// A city whose one department has four workers, and the same tables in one engine.
async fn start(folder: &Path) -> (City, SessionContext) {
    let plain = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    let (described_city, files) = (folder.join("city"), folder.join("files"));
    let home = described_city.join("tpch/sales");
    for made in [&files, &home.join("imports"), &home.join("products")] {
        std::fs::create_dir_all(made).unwrap();
    }
    std::fs::write(described_city.join("city.toml"), CITY).unwrap();
    let mut later = Vec::new();
    for table in TABLES {
        let (mut specs, product) = described(&files, table, &plain);
        let file = format!("{table}.toml");
        std::fs::write(home.join("imports").join(&file), specs.remove(0)).unwrap();
        std::fs::write(home.join("products").join(&file), product).unwrap();
        later.extend(specs);
    }
    let options = CityOptions {
        workers: WORKERS,
        rows_each: 1,
        ..CityOptions::new(&described_city, &folder.join("data"))
    };
    let city = boot(options).await.unwrap();
    let config = city.node_config(&node("tpch", "sales")).unwrap();
    let beside = Node::open(config, Arc::new(SystemClock)).unwrap();
    for spec in later {
        let spec = ImportSpec::parse(&spec, folder).unwrap();
        beside.import(&spec, Mode::Append, &|_| {}).await.unwrap();
    }
    (city, plain)
}

async fn connect(city: &City) -> Connection {
    let ready = city.ready();
    let (name, account) = ready.accounts.iter().next().unwrap();
    let endpoint = Endpoint {
        uri: ready.uri.clone(),
        ca: std::fs::read_to_string(&ready.ca).unwrap(),
        account: Some((name.clone(), account.password.clone())),
        certificate: None,
    };
    let purpose = Some("benchmark".to_owned());
    Connection::open(&endpoint, purpose).await.unwrap()
}

/// Rows as text, sorted; floats to nine digits, since the order of a sum is nobody's promise.
fn canonical(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cell =
                |column: &arrow::array::ArrayRef| match column.as_primitive_opt::<Float64Type>() {
                    Some(floats) if column.is_valid(row) => format!("{:.8e}", floats.value(row)),
                    _ => {
                        let formatter = ArrayFormatter::try_new(column.as_ref(), &options);
                        formatter.unwrap().value(row).to_string()
                    }
                };
            let cells: Vec<String> = batch.columns().iter().map(cell).collect();
            rows.push(cells.join("|"));
        }
    }
    rows.sort_unstable();
    rows
}

/// Who borrowed under each grant, by the authority's log.
fn loans(city: &City) -> BTreeMap<String, Vec<Entry>> {
    let mut loans: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in authority_log(city, "tpch") {
        if entry.event == Event::LendKeys {
            assert_eq!(entry.decision, Decision::Permit, "{:?}", entry.reason);
            let grant = entry.grant.as_ref().unwrap().to_string();
            loans.entry(grant).or_default().push(entry);
        }
    }
    loans
}

fn names(entries: &[Entry], role: Role) -> Vec<String> {
    let peers = entries.iter().filter_map(|e| e.peer.as_ref());
    let mut names: Vec<String> = peers
        .filter(|p| p.role == role)
        .map(|p| p.name.to_string())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn tpch_over_a_node_with_four_workers_equals_one_process_and_every_loan_is_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let (mut city, plain) = start(folder.path()).await;
    let mut connection = connect(&city).await;
    for number in 1..=22 {
        let here = plain.sql(&query(number, str::to_owned)).await.unwrap();
        let expected = canonical(&here.collect().await.unwrap());
        let there = query(number, |t| format!("tpch.sales.{t}"));
        let told = answer(&mut connection, &there).await;
        let told = told.unwrap_or_else(|e| panic!("Q{number}: {e:#}"));
        assert_eq!(canonical(&[told]), expected, "Q{number}");
    }
    let audited = loans(&city);
    let dealt = audited.values().filter(|l| l.len() > 1);
    assert_eq!(dealt.count(), 22, "each question was dealt");
    for (grant, entries) in &audited {
        assert_eq!(names(entries, Role::Node), ["sales-1"], "{grant}");
        assert_eq!(
            names(entries, Role::Worker),
            ["w1", "w2", "w3", "w4"],
            "{grant}"
        );
        // A worker has what its node has, and the log says for whom.
        let keys: BTreeSet<String> = entries.iter().map(|e| format!("{:?}", e.keys)).collect();
        assert_eq!(keys.len(), 1, "{grant}");
        let of_workers = entries.iter().filter(|e| e.node.is_some()).count();
        assert_eq!(of_workers, WORKERS, "{grant}");
    }

    city.kill_worker(&node("tpch", "sales"), "w3")
        .await
        .unwrap();
    let there = query(1, |t| format!("tpch.sales.{t}"));
    let told = canonical(&[answer(&mut connection, &there).await.unwrap()]);
    let here = plain.sql(&query(1, str::to_owned)).await.unwrap();
    assert_eq!(told, canonical(&here.collect().await.unwrap()));
    let after = loans(&city);
    let new = after
        .iter()
        .find(|(grant, _)| !audited.contains_key(*grant));
    assert_eq!(names(new.unwrap().1, Role::Worker), ["w1", "w2", "w4"]);
    city.stop().await;
}
