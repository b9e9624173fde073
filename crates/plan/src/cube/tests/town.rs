//! One private product, and the aggregations asked of it.

use crate::cube::{CubeQuery, Refusal, recognise};
use crate::guard::{GuardedStatement, StatementLimits, guard};
use crate::profile::{FragmentLimits, decode, encode};
use crate::session::{bare_builder, base_config};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProvider,
    MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider,
};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use guildhall_grant::product::{Column, Dimension, Measure, Product, RollUp, RollUpKind};
use guildhall_model::{ColumnClass, Digest, ReleaseClass};
use std::collections::BTreeSet;
use std::sync::Arc;

const HOUR: i64 = 3_600_000_000;

/// `northmoor.parking.sessions`, with NULLs in every column, and an open table beside it.
pub(crate) fn town() -> SessionState {
    let n = 120_i64;
    let each = |f: &dyn Fn(i64) -> Option<i64>| -> Vec<Option<i64>> { (0..n).map(f).collect() };
    let text = |name: &str, values: Vec<Option<i64>>| -> ArrayRef {
        Arc::new(
            values
                .iter()
                .map(|v| v.map(|v| format!("{name}{v}")))
                .collect::<StringArray>(),
        )
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "vehicle",
            text("v", each(&|i| (i % 13 != 0).then_some(i % 37))),
        ),
        ("ward", text("W", each(&|i| (i % 11 != 0).then_some(i % 4)))),
        (
            "started",
            Arc::new(TimestampMicrosecondArray::from(each(&|i| {
                (i % 17 != 0).then_some(1_700_000_000_000_000 + i * 31 * HOUR)
            }))),
        ),
        (
            "day",
            Arc::new(
                (0..n)
                    .map(|i| (i % 19 != 0).then(|| 19_700 + i32::try_from(i).unwrap() % 50))
                    .collect::<Date32Array>(),
            ),
        ),
        (
            "blue",
            Arc::new(
                (0..n)
                    .map(|i| (i % 7 != 0).then_some(i % 3 == 0))
                    .collect::<BooleanArray>(),
            ),
        ),
        (
            "zone",
            Arc::new(Int64Array::from(each(&|i| (i % 23 != 0).then_some(i % 5)))),
        ),
        (
            "paid",
            Arc::new(Int64Array::from(each(&|i| (i % 5 != 0).then_some(i * 10)))),
        ),
        (
            "fee",
            Arc::new(
                (0..n)
                    .map(|i| (i % 6 != 0).then(|| f64::from(i32::try_from(i).unwrap()) / 4.0))
                    .collect::<Float64Array>(),
            ),
        ),
        ("note", text("secret", each(&Some))),
        ("kind", text("k", each(&|i| Some(i % 2)))),
    ];
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .unwrap();
    let wards = RecordBatch::try_from_iter([(
        "ward",
        Arc::new(StringArray::from(vec!["W0", "W1", "W2", "W3"])) as ArrayRef,
    )])
    .unwrap();
    let schema = MemorySchemaProvider::new();
    for (name, batch) in [("sessions", batch), ("wards", wards)] {
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        schema
            .register_table(name.to_owned(), Arc::new(table))
            .unwrap();
    }
    let catalog = MemoryCatalogProvider::new();
    catalog
        .register_schema("parking", Arc::new(schema))
        .unwrap();
    let list = MemoryCatalogProviderList::new();
    list.register_catalog("northmoor".to_owned(), Arc::new(catalog));
    bare_builder(base_config().with_target_partitions(1))
        .with_catalog_list(Arc::new(list))
        .build()
}

pub(crate) fn sessions() -> Product {
    let column = |name: &str, class| Column {
        name: name.parse().unwrap(),
        class,
        doc: String::new(),
        reads: BTreeSet::new(),
    };
    let trunc = |unit: &str| RollUp {
        name: unit.into(),
        kind: RollUpKind::DateTrunc(unit.into()),
    };
    let group = |name: &str, values: &[&str]| RollUp {
        name: name.into(),
        kind: RollUpKind::Group(values.iter().map(|v| (*v).to_owned()).collect()),
    };
    let dimension = |name: &str, roll_ups| Dimension {
        column: name.parse().unwrap(),
        roll_ups,
        values: vec![],
        within: None,
    };
    Product {
        council: "northmoor".parse().unwrap(),
        department: "parking".parse().unwrap(),
        name: "sessions".parse().unwrap(),
        version: 1,
        doc: String::new(),
        class: ReleaseClass::Aggregate,
        purposes: BTreeSet::new(),
        conforms_to: None,
        unit: Some("vehicle".parse().unwrap()),
        minimum_group: 10,
        max_rows_per_unit: 100,
        columns: vec![
            column("vehicle", ColumnClass::Identifier),
            column("ward", ColumnClass::Quasi),
            column("started", ColumnClass::Quasi),
            column("day", ColumnClass::Quasi),
            column("blue", ColumnClass::Quasi),
            column("zone", ColumnClass::Quasi),
            column("paid", ColumnClass::Measure),
            column("fee", ColumnClass::Measure),
            column("note", ColumnClass::Secret),
            column("kind", ColumnClass::Open),
        ],
        dimensions: vec![
            dimension("ward", vec![group("centre", &["W1", "W2"])]),
            dimension("started", vec![trunc("month"), trunc("day")]),
            dimension("day", vec![trunc("month")]),
            dimension("blue", vec![]),
            dimension("zone", vec![group("inner", &["1", "2"])]),
        ],
        measures: ["paid", "fee"]
            .map(|m| Measure {
                column: m.parse().unwrap(),
                lower: 0.0,
                upper: 5_000.0,
            })
            .to_vec(),
        arrow_schema: vec![],
        definition: Digest::of(b""),
        row_count: None,
        always_reads: BTreeSet::new(),
        budgets: vec![],
        joint_with: std::collections::BTreeSet::new(),
        linkable: None,
        node: "spiffe://northmoor/parking/node/parking-1".parse().unwrap(),
    }
}

pub(crate) fn schema(state: &SessionState) -> SchemaRef {
    let catalog = state.catalog_list().catalog("northmoor").unwrap();
    let schema = catalog.schema("parking").unwrap();
    futures::executor::block_on(schema.table("sessions"))
        .unwrap()
        .unwrap()
        .schema()
}

/// The analysed plan of `sql`; `@` stands for `northmoor.parking.`.
pub(crate) async fn analysed(state: &SessionState, sql: &str) -> Result<LogicalPlan, String> {
    let sql = sql.replace('@', "northmoor.parking.");
    let statement = match guard(&sql, &StatementLimits::default()) {
        Ok(GuardedStatement::Query(statement)) => statement,
        other => return Err(format!("{other:?}")),
    };
    let plan = state
        .statement_to_plan(Statement::Statement(statement))
        .await
        .map_err(|e| e.to_string())?;
    state
        .analyzer()
        .execute_and_check(plan, state.config().options(), |_, _| {})
        .map_err(|e| e.to_string())
}

/// The aggregation nearest the root of `plan`, or what is left when there is none.
pub(crate) fn aggregation(plan: LogicalPlan) -> LogicalPlan {
    let next = match &plan {
        LogicalPlan::Projection(p) => Arc::clone(&p.input),
        LogicalPlan::Filter(f) => Arc::clone(&f.input),
        LogicalPlan::Sort(s) => Arc::clone(&s.input),
        LogicalPlan::Limit(l) => Arc::clone(&l.input),
        LogicalPlan::SubqueryAlias(a) => Arc::clone(&a.input),
        _ => return plan,
    };
    let found = aggregation(Arc::unwrap_or_clone(next));
    if matches!(found, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_)) {
        found
    } else {
        plan
    }
}

/// What `sql` asks of the cube.
pub(crate) async fn asked(state: &SessionState, sql: &str) -> Result<CubeQuery, Refusal> {
    let plan = analysed(state, sql)
        .await
        .unwrap_or_else(|e| panic!("{e}: {sql}"));
    recognise(&aggregation(plan), &sessions())
}

/// The question's own plan, as a node would have it: written, read, and recognised again.
pub(crate) fn canonical(state: &SessionState, asked: &CubeQuery) -> LogicalPlan {
    let plan = asked
        .canonical_plan(&schema(state))
        .unwrap_or_else(|e| panic!("{e}: {asked:?}"));
    assert_eq!(&recognise(&plan, &sessions()).unwrap(), asked, "{plan}");
    let bytes = encode(&plan, state).unwrap_or_else(|e| panic!("{e}\n{plan}"));
    let read =
        decode(&bytes, state, &FragmentLimits::default()).unwrap_or_else(|e| panic!("{e}\n{plan}"));
    let again = recognise(&read, &sessions()).unwrap_or_else(|e| panic!("{e}\n{read}"));
    assert_eq!(nameless(&again), nameless(asked), "{read}");
    read
}

/// The question without the names of its output, which go by position.
fn nameless(asked: &CubeQuery) -> CubeQuery {
    let mut asked = asked.clone();
    asked.keys.iter_mut().for_each(|k| k.name.clear());
    asked.aggregates.iter_mut().for_each(|a| a.name.clear());
    asked
}
