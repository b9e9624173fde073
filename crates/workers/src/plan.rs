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
