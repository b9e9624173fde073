//! What a plan is decoded and run in at a worker: the listed functions, bounded memory, no files but sealed ones.

use crate::channels::Channels;
use crate::codec::ShareCodec;
use crate::door::plan_of;
use crate::hold::Holds;
use crate::plan;
use async_trait::async_trait;
use datafusion::common::{exec_datafusion_err, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion_distributed::{DistributedExt as _, WorkerQueryContext, WorkerSessionBuilder};
use guildhall_plan::session::{bare_builder, on_base};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::sync::Arc;
use url::Url;

/// Makes a session for each task.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    pub(crate) holds: Arc<Holds>,
    pub(crate) channels: Channels,
    pub(crate) runtime: Arc<RuntimeEnv>,
}

#[async_trait]
impl WorkerSessionBuilder for Sessions {
    async fn build_session_state(&self, context: WorkerQueryContext) -> Result<SessionState> {
        let WorkerQueryContext {
            mut builder,
            headers,
        } = context;
        let (node, grant) =
            plan_of(&headers).ok_or_else(|| exec_datafusion_err!("a plan without a grant"))?;
        let Some(held) = self.holds.get(node, grant) else {
            return exec_err!("no keys are held for the grant of this plan");
        };
        let config = builder.config().take().unwrap_or_default();
        let config = on_base(config)
            .with_extension(held)
            .with_distributed_channel_resolver(self.channels.clone())
            .with_distributed_user_codec(ShareCodec)
            .with_distributed_worker_plan_rewrite_handler(plan::check);
        let state = bare_builder(config).with_runtime_env(Arc::clone(&self.runtime));
        Ok(state.build())
    }
}

/// The runtime of all tasks together: so much memory, no disk, and no store that a plan could name.
pub(crate) fn runtime(memory_mib: usize) -> Result<Arc<RuntimeEnv>> {
    let pool = GreedyMemoryPool::new(memory_mib.saturating_mul(1 << 20));
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        // Invariant: rows of a department are on its disk encrypted or not at all.
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        )
        .with_object_store_registry(Arc::new(NoStores))
        .build_arc()
}

/// Where the engine looks stores up. The readers of sealed files have their own, so that of theirs is empty; there is no
/// other.
#[derive(Debug)]
struct NoStores;

impl ObjectStoreRegistry for NoStores {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>, DataFusionError> {
        match url.scheme() {
            "sealed" => Ok(Arc::new(InMemory::new())),
            _ => exec_err!("a worker reads nothing but sealed datasets"),
        }
    }
}
