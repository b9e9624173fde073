//! What a plan that a worker is sent may consist of.

use crate::share::ShareExec;
use datafusion::common::exec_err;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion_distributed::{
    NetworkBroadcastExec, NetworkCoalesceExec, NetworkShuffleExec, WorkerPlanRewriteEvent,
    WorkerPlanRewriteEventResponse,
};

/// Lets a plan through that reads shares, other workers' rows and literals, and writes nothing.
pub(crate) fn check(event: WorkerPlanRewriteEvent<'_>) -> Result<WorkerPlanRewriteEventResponse> {
    event.plan.apply(|node| {
        let may_be = match node.children().is_empty() {
            true => is_leaf(node.as_ref()),
            false => !node.is::<DataSinkExec>(),
        };
        match may_be {
            true => Ok(TreeNodeRecursion::Continue),
            false => exec_err!("a worker carries out no {}", node.name()),
        }
    })?;
    Ok(WorkerPlanRewriteEventResponse::new(event.plan))
}

fn is_leaf(node: &dyn ExecutionPlan) -> bool {
    let is_values = || {
        let source = node.downcast_ref::<DataSourceExec>();
        source.is_some_and(|s| s.data_source().is::<MemorySourceConfig>())
    };
    node.is::<ShareExec>()
        || node.is::<NetworkShuffleExec>()
        || node.is::<NetworkBroadcastExec>()
        || node.is::<NetworkCoalesceExec>()
        || node.is::<EmptyExec>()
        || node.is::<PlaceholderRowExec>()
        || is_values()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::prelude::{SessionConfig, SessionContext};
    use std::sync::Arc;

    fn checked(plan: Arc<dyn ExecutionPlan>) -> Result<()> {
        let session_config = &SessionConfig::new();
        check(WorkerPlanRewriteEvent {
            plan,
            session_config,
        })
        .map(drop)
    }

    fn one_to_three() -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        RecordBatch::try_from_iter([("n", numbers)]).unwrap()
    }

    #[tokio::test]
    async fn a_plan_over_literals_passes_and_one_over_files_does_not() {
        let context = SessionContext::new();
        let values = context
            .sql("SELECT count(*) FROM (VALUES (1), (2)) AS v(n)")
            .await;
        let values = values.unwrap().create_physical_plan().await.unwrap();
        checked(values).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("n.parquet").display().to_string();
        let written = context.read_batch(one_to_three()).unwrap();
        written
            .write_parquet(&file, Default::default(), None)
            .await
            .unwrap();
        let read = context
            .read_parquet(&file, Default::default())
            .await
            .unwrap();
        let error = checked(read.create_physical_plan().await.unwrap()).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("a worker carries out no DataSourceExec"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_plan_that_writes_does_not_pass() {
        let context = SessionContext::new();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("n.parquet").display().to_string();
        let copy = format!("COPY (SELECT 1 AS n) TO '{file}' STORED AS PARQUET");
        let plan = context.sql(&copy).await.unwrap();
        let error = checked(plan.create_physical_plan().await.unwrap()).unwrap_err();
        assert!(error.to_string().contains("no DataSinkExec"), "{error}");
    }
}
