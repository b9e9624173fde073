//! Small tables to plan and run over.

use crate::guard::{GuardedStatement, StatementLimits, guard};
use crate::session::{bare_builder, base_config};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProvider,
    MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider,
};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use std::sync::Arc;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};

/// How many cases a property is tried with: `usual`, or what `PROPTEST_CASES` says.
pub(crate) fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(usual)
}

/// A session over `tables`, each in `bench.tpch`.
pub(crate) fn session(tables: Vec<(&str, Vec<RecordBatch>)>) -> SessionState {
    let schema = MemorySchemaProvider::new();
    for (name, batches) in tables {
        let table = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
        schema
            .register_table(name.to_owned(), Arc::new(table))
            .unwrap();
    }
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema("tpch", Arc::new(schema)).unwrap();
    let list = MemoryCatalogProviderList::new();
    list.register_catalog("bench".to_owned(), Arc::new(catalog));
    bare_builder(base_config().with_target_partitions(2))
        .with_catalog_list(Arc::new(list))
        .build()
}

/// TPC-H at a scale of five thousandths, texts as `Utf8`.
pub(crate) fn tpch() -> SessionState {
    const SF: f64 = 0.005;
    macro_rules! table {
        ($arrow:ident, $generator:ident) => {
            tpchgen_arrow::$arrow::new($generator::new(SF, 1, 1))
                .map(|b| plain(&b.unwrap()))
                .collect()
        };
    }
    session(vec![
        ("lineitem", table!(LineItemArrow, LineItemGenerator)),
        ("orders", table!(OrderArrow, OrderGenerator)),
        ("customer", table!(CustomerArrow, CustomerGenerator)),
        ("part", table!(PartArrow, PartGenerator)),
        ("partsupp", table!(PartSuppArrow, PartSuppGenerator)),
        ("supplier", table!(SupplierArrow, SupplierGenerator)),
        ("nation", table!(NationArrow, NationGenerator)),
        ("region", table!(RegionArrow, RegionGenerator)),
    ])
}

fn plain(batch: &RecordBatch) -> RecordBatch {
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(f, c)| match f.data_type() {
            DataType::Utf8View => (
                Field::new(f.name(), DataType::Utf8, true),
                cast(c, &DataType::Utf8).unwrap(),
            ),
            t => (Field::new(f.name(), t.clone(), true), Arc::clone(c)),
        })
        .unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// One small table with a column of each type, NULLs among them, as `bench.tpch.t`.
pub(crate) fn types() -> SessionState {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "i",
            Arc::new(Int64Array::from(vec![
                Some(1),
                Some(2),
                None,
                Some(-4),
                Some(5),
            ])),
        ),
        (
            "f",
            Arc::new(Float64Array::from(vec![
                Some(0.5),
                None,
                Some(2.25),
                Some(-1.0),
                Some(9.0),
            ])),
        ),
        (
            "s",
            Arc::new(StringArray::from(vec![
                Some("a"),
                Some("b%"),
                None,
                Some("c_d"),
                Some("a"),
            ])),
        ),
        (
            "b",
            Arc::new(BooleanArray::from(vec![
                Some(true),
                Some(false),
                None,
                Some(true),
                Some(false),
            ])),
        ),
        (
            "d",
            Arc::new(Date32Array::from(vec![
                Some(0),
                Some(20_000),
                None,
                Some(20_031),
                Some(1),
            ])),
        ),
        (
            "ts",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(0),
                Some(1_700_000_000_000_000),
                None,
                Some(1_700_003_600_000_000),
                Some(5),
            ])),
        ),
        (
            "dec",
            cast(
                &Int64Array::from(vec![Some(1), Some(2), None, Some(3), Some(100)]),
                &DataType::Decimal128(10, 2),
            )
            .unwrap(),
        ),
    ];
    session(vec![(
        "t",
        vec![
            RecordBatch::try_from_iter_with_nullable(
                columns.into_iter().map(|(n, c)| (n, c, true)),
            )
            .unwrap(),
        ],
    )])
}

/// The plan of a guarded statement; `@` stands for `bench.tpch.`.
pub(crate) async fn planned(state: &SessionState, sql: &str) -> LogicalPlan {
    let sql = sql.replace('@', "bench.tpch.");
    let GuardedStatement::Query(statement) =
        guard(&sql, &StatementLimits::default()).unwrap_or_else(|e| panic!("{e}: {sql}"))
    else {
        panic!("no query: {sql}");
    };
    state
        .statement_to_plan(Statement::Statement(statement))
        .await
        .unwrap()
}

/// The rows of `plan`, as sorted lines.
pub(crate) async fn rows(state: &SessionState, plan: LogicalPlan) -> Vec<String> {
    try_rows(state, plan).await.unwrap()
}

/// The rows of `plan`, as sorted lines, if the engine runs it.
pub(crate) async fn try_rows(
    state: &SessionState,
    plan: LogicalPlan,
) -> datafusion::common::Result<Vec<String>> {
    let context = SessionContext::new_with_state(state.clone());
    let batches = context.execute_logical_plan(plan).await?.collect().await?;
    let mut lines = Vec::new();
    for batch in &batches {
        let options = FormatOptions::default().with_null("NULL");
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|c| ArrayFormatter::try_new(c, &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            lines.push(cells.join(" | "));
        }
    }
    lines.sort();
    Ok(lines)
}
