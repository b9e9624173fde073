//! The planner over nodes in this process: fragments are decoded and run as a node would, less
//! its grants and its release.

mod city;
mod equal;
mod joint;
mod linked;
mod mistakes;
mod nests;
mod semi_joins;
mod told;
mod tpch;
mod tpch_queries;

use super::*;
use crate::catalogue::{Offer, OwnTable};
use crate::guard::{StatementLimits, guard};
use crate::profile::FragmentLimits;
use crate::remote::{Fragment, FragmentRunner};
use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use datafusion::arrow::ipc::writer::{IpcDataGenerator, IpcWriteOptions};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProvider,
    MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider,
};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt as _, TryStreamExt as _};
use guildhall_grant::product::{
    Budget, BudgetPeriod, Column, Dimension, Measure, NanoRho, Product, RollUp, RollUpKind,
};
use guildhall_model::{ColumnClass, Digest, PeerId, ReleaseClass};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A product's rows with what is said of it.
pub(super) struct Given {
    pub(super) product: Product,
    pub(super) batches: Vec<RecordBatch>,
}

impl Given {
    /// An open product of the first node of its department.
    pub(super) fn open(name: &str, batches: Vec<RecordBatch>) -> Self {
        let [council, department, product] = name.split('.').collect::<Vec<_>>()[..] else {
            panic!("{name}");
        };
        let schema = batches[0].schema();
        let node = format!("spiffe://{council}/{department}/node/one")
            .parse()
            .unwrap();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let product = Product {
            council: council.parse().unwrap(),
            department: department.parse().unwrap(),
            name: product.parse().unwrap(),
            version: 1,
            doc: format!("{product} of {council}"),
            class: ReleaseClass::Open,
            purposes: BTreeSet::new(),
            conforms_to: None,
            unit: None,
            minimum_group: 0,
            max_rows_per_unit: 0,
            columns: schema
                .fields()
                .iter()
                .map(|f| Column {
                    name: f.name().parse().unwrap(),
                    class: ColumnClass::Open,
                    doc: String::new(),
                    reads: BTreeSet::new(),
                })
                .collect(),
            dimensions: vec![],
            measures: vec![],
            arrow_schema: ipc_schema(&schema),
            definition: Digest::of(name.as_bytes()),
            row_count: Some(rows as u64),
            always_reads: BTreeSet::new(),
            budgets: vec![],
            joint_with: std::collections::BTreeSet::new(),
            linkable: None,
            node,
        };
        Self { product, batches }
    }

    pub(super) fn conforming(mut self, template: &str) -> Self {
        self.product.conforms_to = Some(template.parse().unwrap());
        self
    }

    /// The same with a budget for the purpose that all questions here are asked for.
    pub(super) fn budgeted(mut self) -> Self {
        self.product.budgets.push(Budget {
            purpose: PURPOSE.parse().unwrap(),
            datasets: BTreeSet::new(),
            rho: NanoRho::new(50_000_000),
            period: BudgetPeriod::Quarter,
            per_query: NanoRho::new(1_000_000),
            cells_per_unit: 1,
        });
        self
    }

    /// The same as a private product with these dimensions and measures.
    pub(super) fn private(mut self, unit: &str, dimensions: &[&str], measures: &[&str]) -> Self {
        let p = &mut self.product;
        p.class = ReleaseClass::Aggregate;
        p.row_count = None;
        p.unit = Some(unit.parse().unwrap());
        p.minimum_group = 10;
        p.max_rows_per_unit = 100;
        for column in &mut p.columns {
            let name = column.name.as_str();
            column.class = if name == unit {
                ColumnClass::Identifier
            } else if measures.contains(&name) {
                ColumnClass::Measure
            } else {
                ColumnClass::Quasi
            };
        }
        p.dimensions = dimensions
            .iter()
            .map(|d| Dimension {
                column: d.parse().unwrap(),
                roll_ups: if d.ends_with("ed") {
                    vec![RollUp {
                        name: "month".to_owned(),
                        kind: RollUpKind::DateTrunc("month".to_owned()),
                    }]
                } else {
                    vec![]
                },
                values: vec![],
                within: None,
            })
            .collect();
        p.measures = measures
            .iter()
            .map(|m| Measure {
                column: m.parse().unwrap(),
                lower: 0.0,
                upper: 1_000.0,
            })
            .collect();
        self
    }
}

fn ipc_schema(schema: &Schema) -> Vec<u8> {
    use datafusion::arrow::ipc::writer::{DictionaryTracker, write_message};
    let options = IpcWriteOptions::default();
    let mut tracker = DictionaryTracker::new(false);
    let data = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        schema,
        &mut tracker,
        &options,
    );
    let mut bytes = Vec::new();
    write_message(&mut bytes, data, &options).unwrap();
    bytes
}

const PURPOSE: &str = "transport_planning";

/// Nodes in this process, and a planner over what they offer.
pub(super) struct City {
    pub(super) planner: Planner,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) nodes: Arc<Nodes>,
}

/// What ran where.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    states: BTreeMap<PeerId, SessionState>,
    pub(super) rows: AtomicUsize,
    pub(super) ran: Mutex<Vec<(PeerId, String)>>,
}

impl City {
    pub(super) fn of(given: Vec<Given>) -> Self {
        Self::asked_for(PURPOSE, given)
    }

    pub(super) fn asked_for(purpose: &str, given: Vec<Given>) -> Self {
        let mut lists: BTreeMap<PeerId, Arc<MemoryCatalogProviderList>> = BTreeMap::new();
        let mut offers = Vec::new();
        for Given { product, batches } in given {
            let list = lists.entry(product.node.clone()).or_default();
            let schema = batches[0].schema();
            let table = MemTable::try_new(schema, vec![batches]).unwrap();
            add(list, &product, Arc::new(table));
            offers.push(Offer {
                address: format!("{}.test:1", product.department),
                product,
            });
        }
        let states = lists
            .into_iter()
            .map(|(node, list)| {
                let config = session::base_config().with_target_partitions(2);
                let state = session::bare_builder(config)
                    .with_catalog_list(list)
                    .build();
                (node, state)
            })
            .collect();
        Self {
            planner: Planner::new(PlannerLimits {
                deadline: Duration::from_secs(120),
                ..PlannerLimits::default()
            }),
            catalogue: Arc::new(Catalogue::new(offers, Some(&purpose.parse().unwrap())).unwrap()),
            nodes: Arc::new(Nodes {
                states,
                ..Nodes::default()
            }),
        }
    }

    pub(super) async fn plan(&self, sql: &str) -> Result<QueryPlan, PlanError> {
        let statement = guard(sql, &StatementLimits::default()).expect(sql);
        self.planner.plan(&statement, &self.catalogue, None).await
    }

    pub(super) async fn run(&self, plan: &QueryPlan) -> Vec<RecordBatch> {
        let limits = ExecuteLimits {
            partitions: 2,
            ..ExecuteLimits::default()
        };
        let runner = Arc::clone(&self.nodes) as Arc<dyn FragmentRunner>;
        let stream = plan.execute(runner, limits).await.unwrap();
        let schema = stream.schema();
        assert_eq!(&schema, plan.wire_schema());
        let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
        assert!(batches.iter().all(|b| b.schema() == schema));
        batches
    }

    /// The rows of an answer as text, in the order they came.
    pub(super) async fn ask(&self, sql: &str) -> Vec<String> {
        let plan = self
            .plan(sql)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        rows_of(&self.run(&plan).await)
    }

    /// Why it is not answered.
    pub(super) async fn refusal(&self, sql: &str) -> PlanError {
        match self.plan(sql).await {
            Ok(plan) => panic!("{sql}: {:?}", plan.explain()),
            Err(error) => error,
        }
    }

    /// How often nodes were asked, and for how many rows, since last asked.
    pub(super) fn traffic(&self) -> (usize, usize) {
        let asked = std::mem::take(&mut *self.nodes.ran.lock().unwrap()).len();
        (asked, self.nodes.rows.swap(0, Ordering::SeqCst))
    }
}

fn add(list: &MemoryCatalogProviderList, product: &Product, table: Arc<MemTable>) {
    let council = product.council.as_str();
    let catalog = list.catalog(council).unwrap_or_else(|| {
        let new: Arc<dyn CatalogProvider> = Arc::new(MemoryCatalogProvider::new());
        list.register_catalog(council.to_owned(), Arc::clone(&new));
        new
    });
    let department = product.department.as_str();
    let schema = catalog.schema(department).unwrap_or_else(|| {
        let new: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
        catalog
            .register_schema(department, Arc::clone(&new))
            .unwrap();
        new
    });
    schema
        .register_table(product.name.to_string(), table)
        .unwrap();
}

#[async_trait]
impl FragmentRunner for Nodes {
    async fn own(&self, table: OwnTable) -> EngineResult<RecordBatch> {
        let columns = table
            .schema()
            .fields()
            .iter()
            .map(|field| match field.data_type() {
                DataType::Utf8 => Arc::new(StringArray::from(vec!["K7"])) as ArrayRef,
                other => new_null_array(other, 1),
            })
            .collect();
        Ok(RecordBatch::try_new(table.schema(), columns)?)
    }

    async fn run(&self, fragment: &Fragment) -> EngineResult<SendableRecordBatchStream> {
        assert_eq!(Digest::of(&fragment.bytes), fragment.digest);
        let state = &self.states[&fragment.node];
        let plan = profile::decode(&fragment.bytes, state, &FragmentLimits::default())
            .map_err(|e| DataFusionError::External(Box::new(e)))?;
        for read in profile::reads(&plan).unwrap() {
            let granted = fragment
                .products
                .iter()
                .find(|p| {
                    p.department == read.product.department && p.product == read.product.product
                })
                .expect("a product that was not named");
            assert!(
                read.columns.is_subset(&granted.columns),
                "{read:?} {granted:?}"
            );
        }
        self.ran
            .lock()
            .unwrap()
            .push((fragment.node.clone(), plan.display_indent().to_string()));
        let mut started = SessionStateBuilder::new_from_existing(state.clone()).build();
        started.mark_start_execution();
        let physical = started.create_physical_plan(&plan).await?;
        let batches: Vec<RecordBatch> = execute_stream(physical, started.task_ctx())?
            .try_collect()
            .await?;
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        self.rows.fetch_add(rows, Ordering::SeqCst);
        if fragment.cell_status {
            return with_companions(&plan, batches);
        }
        let schema = Arc::new(plan.schema().as_arrow().clone());
        let stream = futures::stream::iter(batches.into_iter().map(Ok)).boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}

/// What a node makes of cells that are to have companions: `perturbed` beside each value.
fn with_companions(
    plan: &LogicalPlan,
    batches: Vec<RecordBatch>,
) -> EngineResult<SendableRecordBatchStream> {
    let LogicalPlan::Aggregate(cells) = plan else {
        panic!("companions of what is no cell: {plan}");
    };
    let keys = cells.group_expr.len();
    let batches = batches.into_iter().map(|batch| {
        let mut columns = Vec::new();
        for (at, column) in batch.columns().iter().enumerate() {
            columns.push((format!("c{at}"), Arc::clone(column)));
            if at >= keys {
                let told = StringArray::from(vec!["perturbed"; batch.num_rows()]);
                columns.push((format!("s{at}"), Arc::new(told) as ArrayRef));
            }
        }
        RecordBatch::try_from_iter(columns).unwrap()
    });
    let batches: Vec<RecordBatch> = batches.collect();
    let schema = batches[0].schema();
    let stream = futures::stream::iter(batches.into_iter().map(Ok)).boxed();
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
}

/// Each row as text, columns parted by ` | `; floats to nine digits.
pub(super) fn rows_of(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = columns
                .iter()
                .zip(batch.columns())
                .map(|(c, array)| {
                    let text = c.value(row).to_string();
                    match (array.data_type(), text.parse::<f64>()) {
                        (DataType::Float64, Ok(v)) => format!("{v:.9e}"),
                        _ => text,
                    }
                })
                .collect();
            rows.push(cells.join(" | "));
        }
    }
    rows
}
