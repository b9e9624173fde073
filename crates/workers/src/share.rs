//! A share of a scan, as it stands in a plan that travels.

use crate::hold::Held;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::TryStreamExt as _;
use guildhall_model::{ColumnName, DatasetName};
use guildhall_store::{Piece, Recorded, SealedScan, carry_out, template};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// What a share reads: row groups of one version of one dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) dataset: DatasetName,
    pub(crate) recorded: Recorded,
    /// Those whose keys it takes.
    pub(crate) columns: BTreeSet<ColumnName>,
    /// A list for each partition; one may be empty.
    pub(crate) pieces: Vec<Vec<Piece>>,
}

/// A share of a scan. Where it is planned it cannot be run; where it is decoded it reads with the keys held there.
#[derive(Clone)]
pub(crate) struct ShareExec {
    share: Share,
    /// How it is read: projection, filter, limit.
    template: Arc<DataSourceExec>,
    properties: Arc<PlanProperties>,
    held: Option<Arc<Held>>,
    opened: Arc<OnceCell<Arc<dyn ExecutionPlan>>>,
}

impl ShareExec {
    /// Deals `plan`, a scan of a sealed table, over `tasks` tasks of so many partitions each.
    pub(crate) fn deal(
        plan: &dyn ExecutionPlan,
        scan: &SealedScan,
        tasks: usize,
    ) -> Result<Vec<Self>> {
        let partitions = plan.properties().partitioning.partition_count().max(1);
        let template = template(plan)?;
        let mut dealt = vec![vec![vec![]; partitions]; tasks];
        for (at, share) in scan
            .deal(tasks.saturating_mul(partitions))
            .into_iter()
            .enumerate()
        {
            // Task by task, so that few pieces go to many tasks.
            if let Some(place) = dealt
                .get_mut(at % tasks)
                .and_then(|t| t.get_mut(at / tasks))
            {
                *place = share;
            }
        }
        let of = |pieces| {
            let share = Share {
                dataset: scan.dataset().id().dataset.clone(),
                recorded: scan.dataset().recorded(),
                columns: scan.columns().clone(),
                pieces,
            };
            Self::new(share, Arc::clone(&template), None)
        };
        Ok(dealt.into_iter().map(of).collect())
    }

    pub(crate) fn new(
        share: Share,
        template: Arc<DataSourceExec>,
        held: Option<Arc<Held>>,
    ) -> Self {
        let bare = template.properties().as_ref().clone();
        let partitions = Partitioning::UnknownPartitioning(share.pieces.len());
        Self {
            properties: Arc::new(bare.with_partitioning(partitions)),
            share,
            template,
            held,
            opened: Arc::default(),
        }
    }

    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    pub(crate) fn template(&self) -> &Arc<DataSourceExec> {
        &self.template
    }

    /// The scan over this worker's own files, with the keys that it was lent; opened once for all partitions.
    async fn open(&self) -> Result<Arc<dyn ExecutionPlan>> {
        let open = async || {
            let Some(held) = &self.held else {
                return internal_err!(
                    "a share is carried out by a worker, not where it is planned"
                );
            };
            let Some((dataset, keys)) = held.reading(&self.share) else {
                return exec_err!(
                    "no keys are held for this share of `{}`",
                    self.share.dataset
                );
            };
            let Share {
                columns, pieces, ..
            } = &self.share;
            carry_out(self.template.as_ref(), &dataset, columns, &keys, pieces).await
        };
        self.opened.get_or_try_init(open).await.cloned()
    }
}

/// Shape, not keys.
impl fmt::Debug for ShareExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareExec")
            .field("share", &self.share)
            .field("held", &self.held.is_some())
            .finish_non_exhaustive()
    }
}

impl DisplayAs for ShareExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces: usize = self.share.pieces.iter().map(Vec::len).sum();
        let Share {
            dataset, recorded, ..
        } = &self.share;
        write!(
            f,
            "ShareExec: {dataset} version {}, {pieces} pieces",
            recorded.version
        )
    }
}

impl ExecutionPlan for ShareExec {
    fn name(&self) -> &str {
        "ShareExec"
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
        self.template.apply_expressions(f)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("a share has no children"),
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let this = self.clone();
        let rows = async move { this.open().await?.execute(partition, context) };
        let rows = futures::stream::once(rows).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
