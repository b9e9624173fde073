//! From a guarded statement to a [`QueryPlan`].
//!
//! In order: names are looked up, the engine plans and checks types, aggregates over private
//! products are taken out as whole cells, the engine optimises the rest, aggregates over unions
//! are split, joins within one node are brought together, and what one node can answer alone is
//! cut out. Nothing runs before [`QueryPlan::execute`].

mod error;
mod estimate;
mod group_joins;
mod private;
mod query;
mod statement;
mod thread;
mod wire;

pub use error::{PlanError, PlanErrorKind};
pub use query::{ExecuteLimits, QueryPlan};
pub use wire::{METADATA_PREFIX, SYNTHETIC, synthetic, wire_schema};

pub(crate) use estimate::{Rows, rows};
pub(crate) use wire::{cast_batch, cast_stream};

use crate::catalogue::{CITY, Catalogue, INFORMATION_SCHEMA};
use crate::guard::GuardedStatement;
use crate::privacy::{self, Privacy, privacy_schema};
use crate::profile::{self, Stage};
use crate::projections::Projections;
use crate::{cut, explain, session, split};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::Statement;
use std::sync::Arc;
use std::time::Duration;
use thread::{Deadline, Threads};

/// What planning may take.
#[derive(Debug, Clone)]
pub struct PlannerLimits {
    /// The time from a statement to its plan.
    pub deadline: Duration,
    /// Stack of a planning thread.
    pub stack_bytes: usize,
    /// Statements planned at once; more wait, within their deadline.
    pub at_once: usize,
    /// Fragments of one statement, parts of cells counted.
    pub max_fragments: usize,
}

impl Default for PlannerLimits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            stack_bytes: 64 << 20,
            at_once: 2 * std::thread::available_parallelism().map_or(2, usize::from),
            max_fragments: 256,
        }
    }
}

/// What is known of a statement before its parameters are.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The schema of its result, as [`QueryPlan::wire_schema`].
    pub schema: SchemaRef,
    /// One nullable field for each parameter, in order; `Utf8` where its use does not tell.
    pub parameters: SchemaRef,
}

/// Plans statements over a catalogue.
#[derive(Debug, Clone)]
pub struct Planner {
    limits: PlannerLimits,
    threads: Threads,
    /// Made once: what is in it is the same for all statements.
    state: Arc<SessionState>,
    cell_status: bool,
}

impl Planner {
    /// A planner within these limits.
    #[must_use]
    pub fn new(limits: PlannerLimits) -> Self {
        let threads = Threads::new(limits.at_once, limits.stack_bytes, limits.deadline);
        let mut config =
            session::base_config().with_default_catalog_and_schema(CITY, statement::NO_SCHEMA);
        // Sub-queries become joins, so that filters and cuts see through them.
        config
            .options_mut()
            .optimizer
            .enable_physical_uncorrelated_scalar_subquery = false;
        let state = Arc::new(session::bare_state(config));
        Self {
            limits,
            threads,
            state,
            cell_status: false,
        }
    }

    /// The same, with a status companion beside each released value that an answer passes on unaltered; off at first.
    /// Statements with parameters have none.
    #[must_use]
    pub fn with_cell_status(&self, cell_status: bool) -> Self {
        Self {
            cell_status,
            ..self.clone()
        }
    }

    /// Checks a statement and tells its result and parameters. Nothing is asked of a node.
    pub async fn prepare(
        &self,
        statement: &GuardedStatement,
        catalogue: &Arc<Catalogue>,
    ) -> Result<Prepared, PlanError> {
        let work = self.work(statement, catalogue)?;
        let explained = match work.wanted {
            Wanted::Answer => None,
            Wanted::Steps => Some(explain::explain_schema()),
            Wanted::Privacy => Some(privacy_schema()),
        };
        if let Some(schema) = explained {
            return Ok(Prepared {
                schema,
                parameters: Arc::new(Schema::empty()),
            });
        }
        self.threads
            .run(move |deadline| work.prepare(deadline))
            .await
    }

    /// Plans a statement with its parameters, positional ones named `$1`, `$2` and so on.
    ///
    /// An `EXPLAIN` gives a plan whose rows are its steps, and which asks nothing of a node. So does an `EXPLAIN PRIVACY`,
    /// of a refused query too; what remains of budgets is for the caller to add ([`QueryPlan::privacy`]).
    pub async fn plan(
        &self,
        statement: &GuardedStatement,
        catalogue: &Arc<Catalogue>,
        parameters: Option<ParamValues>,
    ) -> Result<QueryPlan, PlanError> {
        let work = self.work(statement, catalogue)?;
        self.threads
            .run(move |deadline| work.plan(parameters, deadline))
            .await
    }

    fn work(
        &self,
        statement: &GuardedStatement,
        catalogue: &Arc<Catalogue>,
    ) -> Result<Work, PlanError> {
        let (statement, wanted) = match statement {
            GuardedStatement::Query(statement) => (statement, Wanted::Answer),
            GuardedStatement::Explain { analyze: true, .. } => {
                return Err(PlanError::refused(
                    "explain-analyze",
                    "`explain analyze` is not offered: how long each step took and how many rows it saw tells of data that was not released",
                    "use `explain`",
                ));
            }
            GuardedStatement::Explain { statement, .. } => (statement, Wanted::Steps),
            GuardedStatement::ExplainPrivacy { statement } => (statement, Wanted::Privacy),
            _ => return Err(PlanError::invalid("only queries are planned")),
        };
        let mut statement: Statement = (**statement).clone();
        statement::number_placeholders(&mut statement);
        let mut state =
            datafusion::execution::session_state::SessionStateBuilder::new_from_existing(
                (*self.state).clone(),
            )
            .with_catalog_list(catalogue.catalog_list())
            .build();
        state.mark_start_execution();
        Ok(Work {
            statement,
            wanted,
            catalogue: Arc::clone(catalogue),
            state,
            threads: self.threads.clone(),
            cell_status: self.cell_status,
            max_fragments: self.limits.max_fragments,
        })
    }
}

/// What is wanted of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Answer,
    /// `EXPLAIN`.
    Steps,
    /// `EXPLAIN PRIVACY`.
    Privacy,
}

/// One statement on its way through the planner.
struct Work {
    statement: Statement,
    wanted: Wanted,
    catalogue: Arc<Catalogue>,
    state: SessionState,
    threads: Threads,
    cell_status: bool,
    max_fragments: usize,
}

impl Work {
    fn prepare(self, deadline: Deadline) -> Result<Prepared, PlanError> {
        let literals = statement::literals(&self.statement);
        let planned = self.planned(&literals)?;
        let found = planned
            .get_parameter_types()
            .map_err(|e| PlanError::planning(e, &literals))?;
        let mut parameters: Vec<(usize, String, DataType)> = found
            .into_iter()
            .map(|(name, t)| {
                let place = name.trim_start_matches('$').parse().unwrap_or(usize::MAX);
                (place, name, t.unwrap_or(DataType::Utf8))
            })
            .collect();
        parameters.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let has_parameters = !parameters.is_empty();
        let parameters = Schema::new(
            parameters
                .into_iter()
                .map(|(_, name, t)| Field::new(name, t, true))
                .collect::<Vec<_>>(),
        );
        let schema = if has_parameters {
            let analysed = self.analysed(planned, &literals)?;
            // Whether cells are offered may hang on the values; the schema does not.
            let told = self.taken_out(analysed.clone(), false);
            let told = told.as_ref().unwrap_or(&analysed);
            self.described(&analysed, told.schema().as_arrow())
        } else {
            // A wrong statement is told here, where a driver asks first.
            self.fragmented(planned, &literals, deadline)?.1
        };
        Ok(Prepared {
            schema,
            parameters: wire_schema(&parameters),
        })
    }

    fn plan(
        mut self,
        parameters: Option<ParamValues>,
        deadline: Deadline,
    ) -> Result<QueryPlan, PlanError> {
        let literals = statement::literals(&self.statement);
        let mut planned = self.planned(&literals)?;
        if let Some(values) = parameters {
            // Whether there are cells may hang on the values; the columns of the answer do not.
            self.cell_status = false;
            planned = planned
                .replace_params_with_values(&values)
                .map_err(|e| PlanError::planning(e, &literals))?;
        }
        let missing = planned
            .get_parameter_names()
            .map_err(|e| PlanError::planning(e, &literals))?;
        if let Some(name) = missing.iter().min() {
            return Err(PlanError::invalid(format!(
                "parameter `{name}` has no value"
            )));
        }
        let fragmented = self.fragmented(planned, &literals, deadline);
        if self.wanted == Wanted::Privacy {
            let privacy = match fragmented {
                Ok((plan, schema)) => {
                    privacy::of_plan(&plan, &schema, self.catalogue.is_synthetic())
                }
                Err(PlanError::Refused { refusal }) => privacy::of_refused(&refusal),
                Err(error) => return Err(error),
            };
            return self.told(privacy);
        }
        let (plan, wire_schema) = fragmented?;
        let fragments = query::fragments(&plan).map_err(|e| PlanError::planning(e, &literals))?;
        let asked: usize = fragments.iter().map(|f| f.granted().len()).sum();
        if asked > self.max_fragments {
            return Err(PlanError::TooMuch {
                what: "of the nodes: it has too many parts",
            });
        }
        let of_all = query::is_of_all(&plan);
        let mut steps = explain::steps(&plan, self.catalogue.is_synthetic());
        let explain = self.wanted == Wanted::Steps;
        if explain {
            query::keys_sent(&plan, &self.state, &mut steps)
                .map_err(|e| PlanError::planning(e, &literals))?;
        }
        let (body, wire_schema, fragments) = if explain {
            (
                query::Body::Rows(explain::batch(&steps)?),
                explain::explain_schema(),
                vec![],
            )
        } else {
            (query::Body::Plan(Arc::new(plan)), wire_schema, fragments)
        };
        Ok(QueryPlan {
            wire_schema,
            body,
            fragments,
            of_all: of_all && !explain,
            steps,
            privacy: None,
            state: self.state,
            threads: self.threads,
        })
    }

    /// The plan whose rows are what `EXPLAIN PRIVACY` tells.
    fn told(self, privacy: Privacy) -> Result<QueryPlan, PlanError> {
        Ok(QueryPlan {
            wire_schema: privacy_schema(),
            body: query::Body::Rows(privacy.batch()?),
            fragments: vec![],
            of_all: false,
            steps: vec![],
            privacy: Some(Arc::new(privacy)),
            state: self.state,
            threads: self.threads,
        })
    }

    /// The engine's plan of the statement, checked against the closed lists.
    fn planned(&self, literals: &[String]) -> Result<LogicalPlan, PlanError> {
        let failed = |e| PlanError::planning(e, literals);
        let statement = EngineStatement::Statement(Box::new(self.statement.clone()));
        let names = self
            .state
            .resolve_table_references(&statement)
            .map_err(failed)?;
        statement::check_names(&self.statement, &names, &self.catalogue)?;
        let plan =
            futures::executor::block_on(self.state.statement_to_plan(statement)).map_err(failed)?;
        profile::check(&plan, Stage::Planned).map_err(|e| PlanError::invalid(e.to_string()))?;
        Ok(plan)
    }

    fn analysed(
        &self,
        planned: LogicalPlan,
        literals: &[String],
    ) -> Result<LogicalPlan, PlanError> {
        self.state
            .analyzer()
            .execute_and_check(planned, self.state.config_options(), |_, _| {})
            .map_err(|e| PlanError::planning(e, literals))
    }

    /// The plan whose leaves are fragments, and the schema that its result has on the wire.
    fn fragmented(
        &self,
        planned: LogicalPlan,
        literals: &[String],
        deadline: Deadline,
    ) -> Result<(LogicalPlan, SchemaRef), PlanError> {
        let failed = |e| PlanError::planning(e, literals);
        let analysed = self.analysed(planned, literals)?;
        let plan = self.taken_out(analysed.clone(), self.cell_status)?;
        let schema = self.described(&analysed, plan.schema().as_arrow());
        let plan = self.optimised(plan, deadline).map_err(failed)?;
        deadline.check()?;
        let plan = if cut::owner(&plan) == cut::Owner::Gateway {
            self.spread(plan, deadline).map_err(failed)?
        } else {
            plan
        };
        deadline.check()?;
        Ok((cut::cut(plan, &self.state)?, schema))
    }

    /// `plan` with its cells in fragments of their own.
    fn taken_out(&self, plan: LogicalPlan, cell_status: bool) -> Result<LogicalPlan, PlanError> {
        private::taken_out(plan, &self.state, self.catalogue.clean_room(), cell_status)
    }

    /// What a client is told of the columns of `plan`: whether their rows are synthetic, too.
    fn described(&self, plan: &LogicalPlan, columns: &Schema) -> SchemaRef {
        let told = wire_schema(columns);
        match self.catalogue.is_synthetic() && reads_products(plan) {
            true => synthetic(&told),
            false => told,
        }
    }

    fn optimised(&self, plan: LogicalPlan, deadline: Deadline) -> EngineResult<LogicalPlan> {
        let mut rules = Vec::new();
        for rule in self.state.optimizers() {
            rules.push(Arc::clone(rule));
            rules.push(Arc::new(InTime(deadline)) as Arc<dyn OptimizerRule + Send + Sync>);
        }
        Optimizer::with_rules(rules).optimize(plan, &self.state, |_, _| {})
    }

    /// For a plan over several owners: brings each one's work together and pushes it down.
    fn spread(&self, plan: LogicalPlan, deadline: Deadline) -> EngineResult<LogicalPlan> {
        let plan = group_joins::grouped(plan)?;
        let plan = split::split(plan)?;
        let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
            Arc::new(PushDownLimit::new()),
            Arc::new(PushDownFilter::new()),
            Arc::new(Projections::new()),
            Arc::new(InTime(deadline)),
        ];
        Optimizer::with_rules(rules).optimize(plan, &self.state, |_, _| {})
    }
}

/// A rule that changes nothing and fails when planning has run out of time.
#[derive(Debug)]
struct InTime(Deadline);

impl OptimizerRule for InTime {
    fn name(&self) -> &str {
        "in_time"
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> EngineResult<Transformed<LogicalPlan>> {
        self.0.check().map_err(DataFusionError::from)?;
        Ok(Transformed::no(plan))
    }
}

/// Whether any table of `plan` is a product's, and not of the information schema.
fn reads_products(plan: &LogicalPlan) -> bool {
    let mut reads = false;
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            reads |= scan.table_name.schema() != Some(INFORMATION_SCHEMA);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    reads || visited.is_err()
}

#[cfg(test)]
mod tests;
