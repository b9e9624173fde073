//! Joins that let go of their thread.
//!
//! The engine's own operators yield where they read, so that a query that nobody wants any more can be dropped.
//! A join makes many rows of few, all of them ready at once: an aggregation above it would take them for hours
//! without once looking up.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use std::sync::Arc;

/// Puts a cooperative operator above every join.
#[derive(Debug)]
pub(crate) struct YieldingJoins;

impl PhysicalOptimizerRule for YieldingJoins {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let yielding = plan.transform_up(|node| {
            if !node.name().contains("Join") {
                return Ok(Transformed::no(node));
            }
            Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as _))
        })?;
        Ok(yielding.data)
    }

    fn name(&self) -> &'static str {
        "yielding_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::session::{bare_builder, base_config};
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::physical_plan::execute_stream;
    use datafusion::prelude::{SessionContext, col, lit};
    use futures::StreamExt as _;
    use std::future::poll_fn;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_join_without_end_lets_go_of_its_thread() {
        let state = bare_builder(base_config().with_target_partitions(1)).build();
        let context = SessionContext::new_with_state(state);
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..5_000));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let mut joined = context.read_batch(batch.clone()).unwrap();
        for name in ["a", "b", "c"] {
            let other = context.read_batch(batch.clone()).unwrap();
            let other = other.select(vec![col("n").alias(name)]).unwrap();
            joined = joined
                .join(other, datafusion::common::JoinType::Inner, &[], &[], None)
                .unwrap();
        }
        let sum = datafusion::functions_aggregate::expr_fn::sum(col("a") + col("b") * lit(2));
        let plan = joined.aggregate(vec![], vec![sum]).unwrap();
        let plan = plan.create_physical_plan().await.unwrap();
        let mut rows = execute_stream(plan, context.task_ctx()).unwrap();
        // 6 * 10^14 rows: a poll that comes back at all has not taken them all.
        let first = poll_fn(|cx| std::task::Poll::Ready(rows.poll_next_unpin(cx))).await;
        assert!(first.is_pending());
    }
}
