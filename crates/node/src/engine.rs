//! The engine as a node runs it: bounded memory, no disk, nothing but listed functions.

use crate::config::Limits;
use crate::wire::ROWS as WIRE_ROWS;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning, execute_stream_partitioned};
use guildhall_plan::session::{bare_builder, base_config};
use std::num::NonZeroUsize;
use std::sync::Arc;

const TOP_CONSUMERS: NonZeroUsize = NonZeroUsize::MIN;

/// Sessions that share one pool of memory.
#[derive(Clone)]
pub(crate) struct Engine {
    state: SessionState,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("partitions", &self.state.config().target_partitions())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that takes no more than `limits` allow.
    pub(crate) fn new(limits: &Limits) -> Result<Self, DataFusionError> {
        let partitions = match limits.partitions {
            0 => std::thread::available_parallelism().map_or(2, NonZeroUsize::get),
            n => n,
        };
        let pool = GreedyMemoryPool::new(limits.memory_mib.saturating_mul(1 << 20));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, TOP_CONSUMERS)))
            // Invariant: rows of a department are on its disk encrypted or not at all.
            .with_disk_manager_builder(
                DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
            )
            .build_arc()?;
        let mut config = base_config().with_target_partitions(partitions);
        // Inside one node no value reaches another department by way of a filter.
        let optimizer = &mut config.options_mut().optimizer;
        optimizer.enable_dynamic_filter_pushdown = true;
        optimizer.enable_join_dynamic_filter_pushdown = true;
        optimizer.enable_topk_dynamic_filter_pushdown = true;
        optimizer.enable_aggregate_dynamic_filter_pushdown = true;
        let state = bare_builder(config).with_runtime_env(runtime).build();
        Ok(Self { state })
    }

    /// The same engine for work that nobody waits for: it keeps half as many threads busy.
    pub(crate) fn in_background(&self) -> Self {
        let mut state = self.state.clone();
        let config = state.config().clone();
        *state.config_mut() = config.with_target_partitions(self.threads().div_ceil(2));
        Self { state }
    }

    /// The same for a node that has workers: every sub-query becomes a join, since the engine's plans of sub-queries that
    /// are run on their own do not travel.
    pub(crate) fn for_workers(mut self) -> Self {
        let options = self.state.config_mut().options_mut();
        options
            .optimizer
            .enable_physical_uncorrelated_scalar_subquery = false;
        self
    }

    /// A session state of its own, over an empty catalogue.
    pub(crate) fn state(&self) -> SessionState {
        self.state.clone()
    }

    /// How many threads a question may keep busy.
    pub(crate) fn threads(&self) -> usize {
        self.state.config().target_partitions().max(1)
    }

    /// `plan` with every cast that its types ask for written out.
    pub(crate) fn analysed(&self, plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        self.state
            .analyzer()
            .execute_and_check(plan, self.state.config_options(), |_, _| {})
    }

    /// The optimised form of `plan`, in which the columns that will be read stand fast.
    pub(crate) fn optimise(&self, plan: &LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        self.state.optimize(plan)
    }

    /// The physical plan of an optimised one, and what to run it in. Call it when keys have been lent.
    pub(crate) async fn physical(
        &self,
        optimised: &LogicalPlan,
    ) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>), DataFusionError> {
        let mut state = self.state.clone();
        if only_reads(optimised)? {
            *state.config_mut() = state.config().clone().with_batch_size(WIRE_ROWS);
        }
        let physical = state
            .query_planner()
            .create_physical_plan(optimised, &state)
            .await?;
        Ok((physical, state.task_ctx()))
    }
}

/// The rows of `plan` in so many streams, which are to be read side by side: rows with the same value in `column` are all
/// in one of them.
pub(crate) fn dealt(
    plan: Arc<dyn ExecutionPlan>,
    column: usize,
    streams: usize,
    context: &Arc<TaskContext>,
) -> Result<Vec<SendableRecordBatchStream>, DataFusionError> {
    let schema = plan.schema();
    let name = schema.fields().get(column).map(|f| f.name().as_str());
    let by = Column::new(name.unwrap_or_default(), column);
    let dealt = Partitioning::Hash(vec![Arc::new(by)], streams);
    let plan: Arc<dyn ExecutionPlan> = match streams {
        1 => Arc::new(CoalescePartitionsExec::new(plan)),
        _ => Arc::new(RepartitionExec::try_new(plan, dealt)?),
    };
    execute_stream_partitioned(plan, Arc::clone(context))
}

/// Whether a plan reads, filters and projects, and no more: its batches go to the wire as they are.
fn only_reads(plan: &LogicalPlan) -> Result<bool, DataFusionError> {
    let more = plan.exists(|node| {
        Ok(!matches!(
            node,
            LogicalPlan::TableScan(_)
                | LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::Limit(_)
        ))
    })?;
    Ok(!more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray as _;
    use arrow::datatypes::Int64Type;
    use datafusion::physical_plan::common::collect;
    use datafusion::prelude::SessionContext;

    #[tokio::test]
    async fn a_question_that_wants_too_much_memory_is_refused_and_nothing_is_spilt() {
        let limits = Limits {
            memory_mib: 1,
            ..Limits::default()
        };
        let engine = Engine::new(&limits).unwrap();
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![
            arrow::datatypes::Field::new("n", arrow::datatypes::DataType::Int64, false),
        ]));
        let column =
            arrow::array::Int64Array::from_iter_values((0..400_000).map(|i| i * 7_919 % 400_009));
        let batch = arrow::array::RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap();
        let frame = SessionContext::new_with_state(engine.state())
            .read_batch(batch)
            .unwrap()
            .sort(vec![datafusion::prelude::col("n").sort(true, true)])
            .unwrap();
        let error = frame.collect().await.unwrap_err();
        assert!(
            matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)),
            "{error}"
        );
    }

    #[tokio::test]
    async fn rows_with_the_same_value_are_dealt_to_one_stream() {
        const ROWS: i64 = 10_000;
        let engine = Engine::new(&Limits::default()).unwrap();
        let rows = arrow::array::Int64Array::from_iter((0..ROWS).map(Some));
        // NULL is a value, too.
        let value = |row: i64| (row % 7 > 0).then(|| format!("a name of some length {}", row % 97));
        let values: arrow::array::StringArray = (0..ROWS).map(value).collect();
        let columns: [(_, arrow::array::ArrayRef); 2] =
            [("row", Arc::new(rows)), ("value", Arc::new(values))];
        let batch = arrow::array::RecordBatch::try_from_iter(columns).unwrap();
        for streams in [1, 3] {
            let batches: Vec<_> = (0..10).map(|at| batch.slice(at * 1_000, 1_000)).collect();
            let frame = SessionContext::new_with_state(engine.state());
            let frame = frame.read_batches(batches).unwrap();
            let (context, plan) = (
                frame.task_ctx(),
                frame.create_physical_plan().await.unwrap(),
            );
            let dealt = dealt(plan, 1, streams, &Arc::new(context)).unwrap();
            assert_eq!(dealt.len(), streams);
            let dealt = dealt.into_iter().map(collect);
            let mut at = std::collections::HashMap::new();
            let (mut seen, mut busy) = (0, 0);
            for (stream, batches) in futures::future::try_join_all(dealt)
                .await
                .unwrap()
                .iter()
                .enumerate()
            {
                busy += usize::from(!batches.is_empty());
                for batch in batches {
                    for row in batch.column(0).as_primitive::<Int64Type>().values() {
                        seen += 1;
                        assert_eq!(*at.entry(value(*row)).or_insert(stream), stream);
                    }
                }
            }
            assert_eq!((seen, busy), (ROWS, streams));
        }
    }
}
