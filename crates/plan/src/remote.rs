//! What a node is asked, and the plan node that asks it.
//!
//! A [`RemoteFragment`] stands in the logical plan for what was cut out; [`RemoteExec`] runs it.
//! Fragments run from the moment their parent executes, all at once, each a few batches ahead of
//! its reader; dropping a stream ends the node's work for it.

use crate::catalogue::{CatalogueProduct, OwnTable};
pub use crate::fragment::{Fragment, Mode};
use crate::planner::cast_batch;
use crate::semi_join::{self, Narrowed, SemiJoin};
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::common::{DFSchemaRef, Statistics, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::{Stream, StreamExt as _};
use guildhall_model::CouncilName;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Batches that a fragment may be ahead of its reader.
const AHEAD: usize = 4;

/// Has nodes run fragments. The gateway's finds or asks for the grant, and dials.
#[async_trait]
pub trait FragmentRunner: Send + Sync + fmt::Debug {
    /// Runs `fragment` at its node; dropping the stream ends it there.
    ///
    /// The fragment may be one that the plan did not list: a join of open products narrows the
    /// larger side by the keys of the smaller, which changes its bytes and digest, not what it
    /// reads.
    async fn run(&self, fragment: &Fragment) -> Result<SendableRecordBatchStream, DataFusionError>;

    /// The rows of a table about whoever asks, in that table's schema. A runner that knows nobody has none to give.
    async fn own(&self, table: OwnTable) -> Result<RecordBatch, DataFusionError> {
        Ok(RecordBatch::new_empty(table.schema()))
    }
}

/// What stands in a logical plan for a part that a node runs.
#[derive(Debug, Clone)]
pub struct RemoteFragment {
    pub(crate) fragment: Arc<Fragment>,
    /// What the node is asked, to narrow it later or to explain it; none for released cells.
    pub(crate) plan: Option<Arc<LogicalPlan>>,
    pub(crate) schema: DFSchemaRef,
    pub(crate) rows: crate::planner::Rows,
    /// The rule that lets it leave, for `EXPLAIN`.
    pub(crate) rule: String,
    /// Of released cells, what is known of them; none where rows leave.
    pub(crate) cells: Option<Cells>,
    /// Whether all it reads is open, so that keys may travel to and from it.
    pub(crate) open: bool,
}

/// What is known of the cells that a fragment gives.
#[derive(Debug, Clone)]
pub(crate) struct Cells {
    /// How many of the first columns are keys.
    pub(crate) keys: usize,
    /// Of which products they are: one, or one of each owner that has a part of them.
    pub(crate) products: Vec<Arc<CatalogueProduct>>,
    /// Whether the question is free, and charged to a budget.
    pub(crate) free: bool,
    /// Whether they were asked of all councils and are not told apart by them: then each is another cell if an owner
    /// is missing.
    pub(crate) of_all: bool,
    /// Whose clean room puts them together, if one does.
    pub(crate) room: Option<CouncilName>,
    /// Whether they are made of rows that meet there.
    pub(crate) linked: bool,
}

impl Cells {
    /// The fewest distinct units that one of them speaks of: what the strictest owner says.
    pub(crate) fn minimum_group(&self) -> u32 {
        let minima = self.products.iter().map(|p| p.product.minimum_group);
        minima.max().unwrap_or(u32::MAX)
    }
}

impl PartialEq for RemoteFragment {
    fn eq(&self, other: &Self) -> bool {
        self.fragment.digest == other.fragment.digest && self.schema == other.schema
    }
}

impl Eq for RemoteFragment {}

impl Hash for RemoteFragment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fragment.digest.hash(state);
        self.schema.hash(state);
    }
}

impl PartialOrd for RemoteFragment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for RemoteFragment {
    fn name(&self) -> &str {
        "RemoteFragment"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RemoteFragment: {} {}",
            self.fragment.node, self.fragment.mode
        )
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        if !exprs.is_empty() || !inputs.is_empty() {
            return internal_err!("a remote fragment has no inputs");
        }
        Ok(self.clone())
    }
}

/// Runs one fragment at its node.
#[derive(Debug)]
pub struct RemoteExec {
    part: RemoteFragment,
    runner: Arc<dyn FragmentRunner>,
    properties: Arc<PlanProperties>,
    /// Filters that joins above will complete once their smaller side is read.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    semi_join: Option<Arc<SemiJoin>>,
}

impl RemoteExec {
    pub(crate) fn new(part: RemoteFragment, runner: Arc<dyn FragmentRunner>) -> Self {
        let schema: SchemaRef = Arc::clone(part.schema.inner());
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self {
            part,
            runner,
            properties,
            filters: vec![],
            semi_join: None,
        }
    }

    pub(crate) fn part(&self) -> &RemoteFragment {
        &self.part
    }

    pub(crate) fn filters(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.filters
    }

    /// The columns that keys are awaited for.
    pub(crate) fn awaited(&self) -> Vec<String> {
        let columns = self.filters.iter().flat_map(collect_columns);
        let names: BTreeSet<String> = columns.map(|c| c.name().to_owned()).collect();
        names.into_iter().collect()
    }

    /// The same, waiting for these filters only.
    pub(crate) fn awaiting(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        semi_join: Option<Arc<SemiJoin>>,
    ) -> Self {
        Self {
            part: self.part.clone(),
            runner: Arc::clone(&self.runner),
            properties: Arc::clone(&self.properties),
            filters,
            semi_join,
        }
    }
}

impl DisplayAs for RemoteExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RemoteExec: node={}, mode={}, awaits={}",
            self.part.fragment.node,
            self.part.fragment.mode,
            self.filters.len()
        )
    }
}

impl ExecutionPlan for RemoteExec {
    fn name(&self) -> &'static str {
        "RemoteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut recursion = TreeNodeRecursion::Continue;
        for filter in &self.filters {
            recursion = f(filter)?;
            if recursion == TreeNodeRecursion::Stop {
                break;
            }
        }
        Ok(recursion)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("a fragment has one partition");
        }
        let schema = self.schema();
        let (sender, batches) = mpsc::channel(AHEAD);
        let held = MemoryConsumer::new("RemoteExec").register(context.memory_pool());
        let work = Work {
            fragment: Arc::clone(&self.part.fragment),
            semi_join: self.semi_join.clone(),
            filters: self.filters.clone(),
            runner: Arc::clone(&self.runner),
            schema: Arc::clone(&schema),
            held,
        }
        .run(sender);
        let ahead = Ahead {
            batches,
            work: Some(guildhall_telemetry::spawn(work)),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, ahead)))
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let schema = self.schema();
        let mut statistics = Statistics::new_unknown(&schema);
        // No bytes: sides of joins are to be weighed by rows, as they were when joins were ordered.
        statistics.num_rows = Precision::Inexact(self.part.rows.count());
        Ok(Arc::new(statistics))
    }

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let offered = child_pushdown_result.parent_filters;
        // Whatever is kept only narrows: whoever filters above still does.
        let answer = FilterPushdownPropagation::with_parent_pushdown_result(vec![
            PushedDown::No;
            offered.len()
        ]);
        if !matches!(phase, FilterPushdownPhase::Post)
            || self.part.plan.is_none()
            || !self.part.open
        {
            return Ok(answer);
        }
        let kept: Vec<_> = offered
            .into_iter()
            .map(|f| f.filter)
            .filter(semi_join::is_dynamic)
            .collect();
        if kept.is_empty() {
            return Ok(answer);
        }
        Ok(answer.with_updated_node(Arc::new(self.awaiting(kept, None))))
    }
}

/// A fragment that runs ahead of its reader.
struct Work {
    fragment: Arc<Fragment>,
    semi_join: Option<Arc<SemiJoin>>,
    filters: Vec<Arc<dyn PhysicalExpr>>,
    runner: Arc<dyn FragmentRunner>,
    schema: SchemaRef,
    /// What the batches on their way take; the reader gives it back.
    held: MemoryReservation,
}

/// A batch on its way, with the memory that it takes.
type Sent = (RecordBatch, MemoryReservation);

impl Work {
    /// Sends the fragment's batches, or why there are no more.
    async fn run(self, sender: mpsc::Sender<Result<Sent>>) {
        if let Err(error) = self.send(&sender).await {
            // A reader that is gone does not want to know.
            let _ = sender.send(Err(error)).await;
        }
    }

    async fn send(self, sender: &mpsc::Sender<Result<Sent>>) -> Result<()> {
        let narrowed = match self.semi_join {
            Some(semi_join) => semi_join.narrow(&self.filters).await?,
            None => Narrowed::Unchanged,
        };
        let fragment = match narrowed {
            Narrowed::Unchanged => self.fragment,
            Narrowed::Fragment(narrowed) => narrowed,
            Narrowed::Empty => return Ok(()),
        };
        let mut stream = self.runner.run(&fragment).await?;
        while let Some(batch) = stream.next().await {
            let batch = checked(&batch?, &self.schema)?;
            let held = self.held.new_empty();
            held.try_grow(get_record_batch_memory_size(&batch))?;
            if sender.send(Ok((batch, held))).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The batch in the schema that was planned for; a node that sends another is at fault.
fn checked(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(DataFusionError::Internal(format!(
            "a node sent {} columns for {}",
            batch.num_columns(),
            schema.fields().len()
        )));
    }
    cast_batch(batch, schema)
}

/// Batches that arrive ahead of their reader. Dropping it ends the work behind them.
struct Ahead {
    batches: mpsc::Receiver<Result<Sent>>,
    work: Option<JoinHandle<()>>,
}

impl Stream for Ahead {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(batch) = ready!(self.batches.poll_recv(cx)) {
            return Poll::Ready(Some(batch.map(|(batch, _held)| batch)));
        }
        // The sender is gone: all is sent, or the work died.
        let Some(work) = self.work.as_mut() else {
            return Poll::Ready(None);
        };
        let ended = ready!(Pin::new(work).poll(cx));
        self.work = None;
        Poll::Ready(ended.err().map(|_| {
            Err(DataFusionError::Internal(
                "the work on a fragment ended early".to_owned(),
            ))
        }))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(work) = &self.work {
            work.abort();
        }
    }
}
