//! TPC-H over one node and over four equals TPC-H in one engine.

use super::tpch_queries::query;
use super::*;
use datafusion::arrow::compute::cast;
use datafusion::prelude::SessionContext;
use std::sync::OnceLock;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

/// Small enough for an unoptimised engine; `GUILDHALL_TPCH_SCALE` asks for another.
fn scale() -> f64 {
    std::env::var("GUILDHALL_TPCH_SCALE").map_or(0.005, |s| s.parse().unwrap())
}

/// Which department holds which table: one for all, and two ways to deal them to four.
const LAYOUTS: [(&str, [(&str, &str); 8]); 3] = [
    (
        "one node",
        [
            ("lineitem", "sales"),
            ("orders", "sales"),
            ("customer", "sales"),
            ("partsupp", "sales"),
            ("part", "sales"),
            ("supplier", "sales"),
            ("nation", "sales"),
            ("region", "sales"),
        ],
    ),
    (
        "four nodes by subject",
        [
            ("lineitem", "sales"),
            ("orders", "sales"),
            ("customer", "people"),
            ("nation", "places"),
            ("region", "places"),
            ("supplier", "places"),
            ("part", "goods"),
            ("partsupp", "goods"),
        ],
    ),
    (
        "four nodes against the grain",
        [
            ("lineitem", "one"),
            ("nation", "one"),
            ("orders", "two"),
            ("supplier", "two"),
            ("customer", "three"),
            ("part", "three"),
            ("partsupp", "four"),
            ("region", "four"),
        ],
    ),
];

/// The tables, their strings as a node would register them.
fn tables() -> &'static BTreeMap<&'static str, Vec<RecordBatch>> {
    static TABLES: OnceLock<BTreeMap<&'static str, Vec<RecordBatch>>> = OnceLock::new();
    TABLES.get_or_init(|| {
        BTreeMap::from([
            (
                "lineitem",
                plain(LineItemArrow::new(LineItemGenerator::new(scale(), 1, 1))),
            ),
            (
                "orders",
                plain(OrderArrow::new(OrderGenerator::new(scale(), 1, 1))),
            ),
            (
                "customer",
                plain(CustomerArrow::new(CustomerGenerator::new(scale(), 1, 1))),
            ),
            (
                "partsupp",
                plain(PartSuppArrow::new(PartSuppGenerator::new(scale(), 1, 1))),
            ),
            (
                "part",
                plain(PartArrow::new(PartGenerator::new(scale(), 1, 1))),
            ),
            (
                "supplier",
                plain(SupplierArrow::new(SupplierGenerator::new(scale(), 1, 1))),
            ),
            (
                "nation",
                plain(NationArrow::new(NationGenerator::new(scale(), 1, 1))),
            ),
            (
                "region",
                plain(RegionArrow::new(RegionGenerator::new(scale(), 1, 1))),
            ),
        ])
    })
}

fn plain<E: std::fmt::Debug>(
    batches: impl Iterator<Item = Result<RecordBatch, E>>,
) -> Vec<RecordBatch> {
    batches
        .map(|batch| {
            let batch = batch.unwrap();
            let schema = batch.schema();
            let wire = wire_schema(&schema);
            let columns = batch
                .columns()
                .iter()
                .zip(wire.fields())
                .map(|(c, f)| cast(c, f.data_type()).unwrap())
                .collect();
            RecordBatch::try_new(wire, columns).unwrap()
        })
        .collect()
}

fn city(layout: &[(&str, &str); 8]) -> City {
    City::of(
        layout
            .iter()
            .map(|(table, department)| {
                let name = format!("northmoor.{department}.{table}");
                Given::open(&name, tables()[table].clone())
            })
            .collect(),
    )
}

async fn locally(sql: &str) -> Vec<String> {
    let config = session::base_config().with_target_partitions(2);
    let context = SessionContext::new_with_config(
        config
            .with_create_default_catalog_and_schema(true)
            .with_default_catalog_and_schema("datafusion", "public"),
    );
    for (name, batches) in tables() {
        let table = MemTable::try_new(batches[0].schema(), vec![batches.clone()]).unwrap();
        context.register_table(*name, Arc::new(table)).unwrap();
    }
    rows_of(&context.sql(sql).await.unwrap().collect().await.unwrap())
}

async fn all_equal(layout: usize) {
    let (name, departments) = &LAYOUTS[layout];
    let city = city(departments);
    let department: BTreeMap<&str, &str> = departments.iter().copied().collect();
    for number in 1..=22 {
        let here = query(number, str::to_owned);
        let there = query(number, |t| format!("northmoor.{}.{t}", department[t]));
        let plan = city
            .plan(&there)
            .await
            .unwrap_or_else(|e| panic!("Q{number}: {e:?}"));
        let mut answer = rows_of(&city.run(&plan).await);
        let mut expected = locally(&here).await;
        let (asked, rows) = city.traffic();
        eprintln!(
            "{name}: Q{number}: {asked} fragments, {rows} rows of {} ",
            expected.len()
        );
        answer.sort();
        expected.sort();
        assert_eq!(answer, expected, "{name}: Q{number}: {:#?}", plan.explain());
        if layout == 0 {
            assert_eq!(
                plan.fragments().len(),
                1,
                "Q{number}: {:#?}",
                plan.explain()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_one_node_each_query_is_one_fragment_with_the_same_answer() {
    all_equal(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_four_nodes_by_subject_the_answers_are_the_same() {
    all_equal(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_four_nodes_against_the_grain_the_answers_are_the_same() {
    all_equal(2).await;
}
