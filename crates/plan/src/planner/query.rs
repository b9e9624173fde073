//! A planned query: what it will ask of whom, and its run.

use super::thread::Threads;
use super::{PlanError, cast_stream};
use crate::catalogue::Giver;
use crate::explain::Step;
use crate::privacy::Privacy;
use crate::remote::{Fragment, FragmentRunner, RemoteExec, RemoteFragment};
use crate::semi_join;
use crate::sides::BuildSmaller;
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::context::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use std::fmt;
use std::sync::Arc;

/// What one query may use while it runs.
#[derive(Debug, Clone)]
pub struct ExecuteLimits {
    /// Bytes that its operators may hold; it fails beyond. Nothing is written to disk.
    pub memory: usize,
    /// Ways that its operators run in parallel.
    pub partitions: usize,
    /// A pool shared with other queries, in place of one of `memory` bytes for this alone.
    pub pool: Option<Arc<dyn MemoryPool>>,
}

impl Default for ExecuteLimits {
    fn default() -> Self {
        Self {
            memory: 2 << 30,
            partitions: std::thread::available_parallelism().map_or(2, usize::from),
            pool: None,
        }
    }
}

#[derive(Clone)]
pub(super) enum Body {
    /// A plan whose leaves are fragments.
    Plan(Arc<LogicalPlan>),
    /// Rows that the planner made itself.
    Rows(RecordBatch),
}

/// A planned query. It may be run more than once, by different runners.
#[derive(Clone)]
pub struct QueryPlan {
    pub(super) wire_schema: SchemaRef,
    pub(super) body: Body,
    pub(super) fragments: Vec<Fragment>,
    pub(super) of_all: bool,
    pub(super) steps: Vec<Step>,
    pub(super) privacy: Option<Arc<Privacy>>,
    pub(super) state: SessionState,
    pub(super) threads: Threads,
}

impl fmt::Debug for QueryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryPlan")
            .field("columns", &self.wire_schema.fields().len())
            .field("fragments", &self.fragments)
            .finish_non_exhaustive()
    }
}

impl QueryPlan {
    /// The schema of every batch that [`QueryPlan::execute`] gives: all columns nullable, no
    /// views, no dictionaries.
    #[must_use]
    pub fn wire_schema(&self) -> &SchemaRef {
        &self.wire_schema
    }

    /// What nodes and clean rooms will be asked; equal ones as often as they run. What grants are needed for each says
    /// ([`Fragment::granted`]).
    #[must_use]
    pub fn fragments(&self) -> &[Fragment] {
        &self.fragments
    }

    /// The one fragment that is the whole plan, if it is: its rows need no merging, only the
    /// types of [`QueryPlan::wire_schema`].
    #[must_use]
    pub fn whole(&self) -> Option<&Fragment> {
        match &self.body {
            Body::Plan(plan) => match plan.as_ref() {
                LogicalPlan::Extension(e) => {
                    let part = e.node.as_any().downcast_ref::<RemoteFragment>()?;
                    Some(part.fragment.as_ref())
                }
                _ => None,
            },
            Body::Rows(_) => None,
        }
    }

    /// Whether it has cells that all councils were asked for and that are not told apart by council: with a council
    /// missing, they would be other cells, and look the same.
    #[must_use]
    pub fn is_of_all(&self) -> bool {
        self.of_all
    }

    /// What `EXPLAIN` tells.
    #[must_use]
    pub fn explain(&self) -> &[Step] {
        &self.steps
    }

    /// What `EXPLAIN PRIVACY` tells, if that was asked for.
    #[must_use]
    pub fn privacy(&self) -> Option<&Privacy> {
        self.privacy.as_deref()
    }

    /// Runs the plan. Errors in the stream are for [`PlanError::running`].
    ///
    /// Nodes are asked at once; dropping the stream ends their work.
    pub async fn execute(
        &self,
        runner: Arc<dyn FragmentRunner>,
        limits: ExecuteLimits,
    ) -> Result<SendableRecordBatchStream, PlanError> {
        let logical = match &self.body {
            Body::Rows(batch) => {
                return MemoryStream::try_new(vec![batch.clone()], batch.schema(), None)
                    .map(|s| Box::pin(s) as SendableRecordBatchStream)
                    .map_err(PlanError::running);
            }
            Body::Plan(plan) => Arc::clone(plan),
        };
        let giver = Some(Arc::clone(&runner));
        let state = execution_state(&self.state, &limits, giver).map_err(PlanError::running)?;
        let task = state.task_ctx();
        let physical = self
            .threads
            .run(move |_| {
                futures::executor::block_on(physical(&logical, &state, runner))
                    .map_err(|source| PlanError::planning(source, &[]))
            })
            .await?;
        self.start(physical, task)
    }

    fn start(
        &self,
        physical: Arc<dyn ExecutionPlan>,
        task: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream, PlanError> {
        let stream = execute_stream(physical, task).map_err(PlanError::running)?;
        Ok(cast_stream(stream, Arc::clone(&self.wire_schema)))
    }
}

async fn physical(
    logical: &LogicalPlan,
    state: &SessionState,
    runner: Arc<dyn FragmentRunner>,
) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let planner =
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(RemotePlanner { runner })]);
    let plan = planner.create_physical_plan(logical, state).await?;
    semi_join::decide(plan, state)
}

fn execution_state(
    state: &SessionState,
    limits: &ExecuteLimits,
    giver: Option<Arc<dyn FragmentRunner>>,
) -> EngineResult<SessionState> {
    let mut config = state
        .config()
        .clone()
        .with_target_partitions(limits.partitions.max(1));
    if let Some(giver) = giver {
        config = config.with_extension(Arc::new(Giver(giver)));
    }
    let options = config.options_mut();
    // What is left of sub-queries is run once, before the rest.
    options
        .optimizer
        .enable_physical_uncorrelated_scalar_subquery = true;
    options.optimizer.join_reordering = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = true;
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    options
        .optimizer
        .hash_join_inlist_pushdown_max_distinct_values = semi_join::MAX_KEYS;
    options.optimizer.hash_join_inlist_pushdown_max_size = semi_join::MAX_KEY_BYTES;
    let pool = match &limits.pool {
        Some(pool) => Arc::clone(pool),
        None => Arc::new(GreedyMemoryPool::new(limits.memory)),
    };
    let runtime: Arc<RuntimeEnv> = RuntimeEnvBuilder::new()
        .with_memory_pool(pool)
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        )
        .build_arc()?;
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> = vec![Arc::new(BuildSmaller)];
    rules.extend(state.physical_optimizers().iter().map(Arc::clone));
    Ok(SessionStateBuilder::new_from_existing(state.clone())
        .with_config(config)
        .with_runtime_env(runtime)
        .with_physical_optimizer_rules(rules)
        .build())
}

struct RemotePlanner {
    runner: Arc<dyn FragmentRunner>,
}

#[async_trait]
impl ExtensionPlanner for RemotePlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        _physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _planning_ctx: &PhysicalPlanningContext,
    ) -> EngineResult<Option<Arc<dyn ExecutionPlan>>> {
        Ok(node.as_any().downcast_ref::<RemoteFragment>().map(|part| {
            Arc::new(RemoteExec::new(part.clone(), Arc::clone(&self.runner)))
                as Arc<dyn ExecutionPlan>
        }))
    }
}

/// The keys that would travel while the plan runs; nothing runs.
pub(super) fn keys_sent(
    plan: &LogicalPlan,
    state: &SessionState,
    steps: &mut Vec<Step>,
) -> EngineResult<()> {
    let state = execution_state(state, &ExecuteLimits::default(), None)?;
    let physical = futures::executor::block_on(physical(plan, &state, Arc::new(Nobody)))?;
    crate::explain::keys_sent(&physical, steps);
    Ok(())
}

/// Runs nothing.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl FragmentRunner for Nobody {
    async fn run(&self, _fragment: &Fragment) -> EngineResult<SendableRecordBatchStream> {
        Err(DataFusionError::Internal(
            "a plan that is explained does not run".to_owned(),
        ))
    }
}

/// The fragments of a cut plan, in the order they stand.
pub(super) fn fragments(plan: &LogicalPlan) -> Result<Vec<Fragment>, DataFusionError> {
    let mut found = Vec::new();
    each(plan, |part| found.push(Fragment::clone(&part.fragment)))?;
    Ok(found)
}

/// Whether a cut plan has cells of all councils that are not told apart by council.
pub(super) fn is_of_all(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = each(plan, |part| {
        found |= part.cells.as_ref().is_some_and(|cells| cells.of_all);
    });
    found || walked.is_err()
}

fn each(plan: &LogicalPlan, mut visit: impl FnMut(&RemoteFragment)) -> EngineResult<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(e) = node
            && let Some(part) = e.node.as_any().downcast_ref::<RemoteFragment>()
        {
            visit(part);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
