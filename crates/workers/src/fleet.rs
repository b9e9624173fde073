//! A node's workers, as the node sees them: planned for, given their grant, and watched while they work.

use crate::address;
use crate::channels::Channels;
use crate::codec::ShareCodec;
use crate::config::Pinned;
use crate::door::GRANT;
use crate::share::ShareExec;
use datafusion::common::config_datafusion_err;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion_distributed::{
    DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedExec, DistributedExt as _,
    DistributedLeafExec, ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse,
    SessionStateBuilderExt as _, WorkerResolver,
};
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::{BoxStream, SelectAll};
use guildhall_grant::{Assignment, SigningKey, VerifiedGrant, envelope};
use guildhall_identity::Dialer;
use guildhall_model::{ColumnName, PeerId};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::worker::v1::worker_client::WorkerClient;
use guildhall_proto::worker::v1::{self as wire, HoldRequest};
use guildhall_store::{SealedDataset, SealedScan};
use guildhall_telemetry::error_chain;
use http::{HeaderMap, HeaderValue};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status};
use url::Url;

/// How long a worker may take to borrow its keys.
const HOLD_WITHIN: Duration = Duration::from_secs(10);
/// When work fails: how long to wait for word that a worker is lost, which is then why.
const WORD_WITHIN: Duration = Duration::from_millis(500);

/// Why workers did not take a question on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// A worker's address is none.
    #[error("the address of worker `{name}` is not of the form `host:port`")]
    Address {
        /// Which.
        name: String,
    },
    /// The plan cannot be made or dealt.
    #[error("the plan cannot be dealt over workers")]
    Plan {
        /// Why.
        #[source]
        source: DataFusionError,
    },
    /// None answered.
    #[error("none of the node's workers answers")]
    NoneAnswers,
    /// One answered with a no.
    #[error("worker `{worker}` refused: {message}")]
    Refused {
        /// Which.
        worker: Box<PeerId>,
        /// Its words.
        message: String,
    },
}

/// A worker went away while it worked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("worker `{0}` went away")]
pub struct WorkerLost(pub PeerId);

/// What a plan reads of one dataset.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The dataset, at the version that is planned with.
    pub dataset: Arc<SealedDataset>,
    /// The columns that are read.
    pub columns: BTreeSet<ColumnName>,
}

/// Under whose leave a plan runs, and what it reads.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The node's grant.
    pub grant: &'a VerifiedGrant,
    /// The same as it was signed.
    pub envelope: &'a Envelope,
    /// What the plan reads.
    pub readings: &'a [Reading],
}

/// The workers of a node.
#[derive(Debug)]
pub struct Fleet {
    node: PeerId,
    signer: Arc<SigningKey>,
    rows_each: u64,
    workers: BTreeMap<Url, PeerId>,
    channels: Channels,
}

impl Fleet {
    /// The workers that `pinned` names, of the node that `dialer` dials as and that signs with `signer`. Nobody is
    /// dialled yet.
    ///
    /// # Errors
    /// If an address is none.
    pub fn new(
        pinned: &Pinned,
        dialer: &Dialer,
        signer: Arc<SigningKey>,
    ) -> Result<Self, FleetError> {
        let node = dialer.identity().peer();
        let mut workers = BTreeMap::new();
        for (name, at) in &pinned.at {
            let worker =
                address::url(name, at).and_then(|url| Some((address::peer(&url, &node)?, url)));
            let (peer, url) = worker.ok_or_else(|| FleetError::Address {
                name: name.to_string(),
            })?;
            workers.insert(url, peer);
        }
        let channels = Channels::of_node(dialer, workers.keys().cloned().collect());
        Ok(Self {
            node,
            signer,
            rows_each: pinned.rows_each,
            workers,
            channels,
        })
    }

    /// The rows of `plan`, which is optimised and whose tables have their keys: worked out by the workers where that is
    /// more than one can do alone, and otherwise here, in `state`.
    ///
    /// A worker that does not answer before anything is read is done without. One that goes away later fails the rows,
    /// with [`WorkerLost`]. Dropping the rows stops all work and has every worker wipe its keys.
    ///
    /// # Errors
    /// If the plan cannot be dealt, if no worker answers, or one refuses.
    pub async fn start(
        &self,
        state: &SessionState,
        plan: &LogicalPlan,
        question: &Question<'_>,
    ) -> Result<SendableRecordBatchStream, FleetError> {
        let failed = |source| FleetError::Plan { source };
        let all: Vec<Url> = self.workers.keys().cloned().collect();
        let mut dealt = self
            .deal(state, plan, question, all)
            .await
            .map_err(failed)?;
        if !dealt.is_for_workers() {
            return execute_stream(dealt.plan, dealt.state.task_ctx()).map_err(failed);
        }
        let (answering, holds) = self.hold(question).await?;
        if answering.len() < self.workers.len() {
            dealt = self
                .deal(state, plan, question, answering)
                .await
                .map_err(failed)?;
        }
        let rows = execute_stream(dealt.plan, dealt.state.task_ctx()).map_err(failed)?;
        Ok(watched(rows, holds))
    }

    /// What is sent to workers' engines.
    #[cfg(test)]
    pub(crate) fn tap(&self) -> &crate::tests::Tap {
        &self.channels.tap
    }

    /// The plan, dealt over `workers`, and what to run it in.
    pub(crate) async fn deal(
        &self,
        state: &SessionState,
        plan: &LogicalPlan,
        question: &Question<'_>,
        workers: Vec<Url>,
    ) -> EngineResult<Dealt> {
        let mut headers = HeaderMap::new();
        let grant = HeaderValue::from_str(question.grant.id.as_str());
        headers.insert(GRANT, grant.map_err(|e| config_datafusion_err!("{e}"))?);
        let rows_each = self.rows_each;
        let wanted = move |event: DesiredTaskCountEvent<'_>| tasks_wanted(&event, rows_each);
        let state = SessionStateBuilder::new_from_existing(state.clone())
            .with_distributed_planner()
            .with_distributed_worker_resolver(Workers(workers))
            .with_distributed_channel_resolver(self.channels.clone())
            .with_distributed_user_codec(ShareCodec)
            .with_distributed_desired_task_count_handler(wanted)
            .with_distributed_scale_up_leaf_node_handler(dealt)
            .with_distributed_passthrough_headers(headers)?
            // What operators counted tells of rows: it stays where it was counted.
            .with_distributed_metrics_collection(false)?
            .with_distributed_compression(None)?
            .build();
        let planner = Arc::clone(state.query_planner());
        let plan = planner.create_physical_plan(plan, &state).await?;
        Ok(Dealt { plan, state })
    }

    /// Has every worker borrow keys for itself; those that answer, and their calls.
    async fn hold(&self, question: &Question<'_>) -> Result<(Vec<Url>, Holds), FleetError> {
        let asked = self.workers.iter().map(|(url, worker)| async move {
            let asked = self.ask(url, worker, question);
            let answer = tokio::time::timeout(HOLD_WITHIN, asked).await;
            let late = || Err(Status::deadline_exceeded("too slow"));
            (url, worker, answer.unwrap_or_else(|_| late()))
        });
        let (mut answering, mut holds) = (vec![], Holds::new());
        for (url, worker, answer) in join_all(asked).await {
            match answer {
                Ok(call) => {
                    answering.push(url.clone());
                    holds.push(lost_when_ended(call, worker.clone()));
                }
                Err(status) if is_away(&status) => {
                    let error = error_chain(&status);
                    tracing::warn!(%worker, error, "a worker is away; the others do its share");
                }
                Err(status) => {
                    return Err(FleetError::Refused {
                        worker: Box::new(worker.clone()),
                        message: status.message().to_owned(),
                    });
                }
            }
        }
        match answering.is_empty() {
            true => Err(FleetError::NoneAnswers),
            false => Ok((answering, holds)),
        }
    }

    /// One worker's call, once it has said that it holds its keys.
    async fn ask(
        &self,
        url: &Url,
        worker: &PeerId,
        question: &Question<'_>,
    ) -> Result<tonic::Streaming<wire::Holding>, Status> {
        let channel = self.channels.to(url);
        let channel: Channel = channel.map_err(|e| Status::internal(e.to_string()))?;
        let request = self.request(worker, question);
        let mut call = WorkerClient::new(channel).hold(request).await?.into_inner();
        match call.message().await? {
            Some(wire::Holding {}) => Ok(call),
            None => Err(Status::unavailable("it ended the call")),
        }
    }

    fn request(&self, worker: &PeerId, question: &Question<'_>) -> HoldRequest {
        let Question {
            grant,
            envelope,
            readings,
        } = question;
        let assignment = Assignment {
            grant: grant.id.clone(),
            node: self.node.clone(),
            worker: worker.clone(),
        };
        let reading = |reading: &Reading| {
            let recorded = reading.dataset.recorded();
            wire::Reading {
                dataset: reading.dataset.id().dataset.to_string(),
                version: recorded.version,
                digest: recorded.digest.as_bytes().to_vec(),
                columns: reading.columns.iter().map(ToString::to_string).collect(),
            }
        };
        HoldRequest {
            grant: Some((*envelope).clone()),
            fragment_digest: grant.fragment.as_bytes().to_vec(),
            assignment: Some(envelope::sign(&assignment, &self.signer)),
            node_key: self.signer.public().as_bytes().to_vec(),
            readings: readings.iter().map(reading).collect(),
        }
    }
}

/// Whether a worker did not answer, as against answering with a no. A status of tonic's own making has a source.
fn is_away(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
        || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

pub(crate) struct Dealt {
    plan: Arc<dyn ExecutionPlan>,
    pub(crate) state: SessionState,
}

impl Dealt {
    pub(crate) fn is_for_workers(&self) -> bool {
        self.plan.is::<DistributedExec>()
    }
}

/// The workers that a question may be dealt over.
struct Workers(Vec<Url>);

impl WorkerResolver for Workers {
    fn get_urls(&self) -> EngineResult<Vec<Url>> {
        Ok(self.0.clone())
    }
}

/// As many tasks as a scan has shares of so many rows; the engine takes no more than there are workers.
fn tasks_wanted(
    event: &DesiredTaskCountEvent<'_>,
    rows_each: u64,
) -> Option<EngineResult<DesiredTaskCountEventResponse>> {
    let scan = SealedScan::of(event.plan.as_ref())?;
    let worth = usize::try_from(scan.rows() / rows_each.max(1)).unwrap_or(usize::MAX);
    let wanted = worth.clamp(1, scan.row_groups().max(1));
    Some(Ok(DesiredTaskCountEventResponse::desired(wanted)))
}

/// A scan, dealt over tasks. Where the plan stays at the node it is the scan that it was.
fn dealt(event: ScaleUpLeafNodeEvent<'_>) -> Option<EngineResult<ScaleUpLeafNodeEventResponse>> {
    let scan = SealedScan::of(event.plan.as_ref())?;
    let tasks = event.task_count.max(1);
    let leaf = ShareExec::deal(event.plan.as_ref(), &scan, tasks).and_then(|shares| {
        let shares = shares
            .into_iter()
            .map(|s| Arc::new(s) as Arc<dyn ExecutionPlan>);
        DistributedLeafExec::try_new(Arc::clone(event.plan), shares)
    });
    Some(leaf.map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf))))
}

/// The workers' calls: the first word from any of them is that it is lost.
type Holds = SelectAll<BoxStream<'static, WorkerLost>>;

fn lost_when_ended(
    mut call: tonic::Streaming<wire::Holding>,
    worker: PeerId,
) -> BoxStream<'static, WorkerLost> {
    let lost = async move {
        while let Ok(Some(wire::Holding {})) = call.message().await {}
        WorkerLost(worker)
    };
    futures::stream::once(lost).boxed()
}

/// `rows`, until they end or a worker is lost. Dropping them ends the workers' calls.
fn watched(rows: SendableRecordBatchStream, holds: Holds) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let next = |work: Option<(SendableRecordBatchStream, Holds)>| async move {
        let (mut rows, mut holds) = work?;
        tokio::select! {
            biased;
            Some(lost) = holds.next() => Some((Err(DataFusionError::External(Box::new(lost))), None)),
            next = rows.next() => match next? {
                Ok(batch) => Some((Ok(batch), Some((rows, holds)))),
                Err(error) => Some((Err(why(error, &mut holds).await), None)),
            },
        }
    };
    let rows = futures::stream::unfold(Some((rows, holds)), next);
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// `error`, unless a worker is lost: then others have failed for want of it.
async fn why(error: DataFusionError, holds: &mut Holds) -> DataFusionError {
    match tokio::time::timeout(WORD_WITHIN, holds.next()).await {
        Ok(Some(lost)) => DataFusionError::External(Box::new(lost)),
        _ => error,
    }
}
