//! Running a plan and sending what the gate lets go.
//!
//! The plan runs in one task, the gate and the writing of messages in another, so that both of two cores have
//! work. Between them and to the caller are bounded channels: a slow reader slows the scan. Whoever drops the
//! answer stops both tasks at once, and with them the engine's own.
//!
//! Cells leave together, and with them the word that they cannot: at a [`Pace`] of their own, and ahead of them nothing
//! but their shape, which says nothing of the data.

use super::pace::Pace;
use crate::error::{Privacy, RunError};
use crate::wire::Encoder;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use guildhall_disclosure::{CellRule, Gate, Rule};
use guildhall_model::Digest;
use guildhall_plan::planner::synthetic;
use guildhall_proto::node::v1::ArrowMessage;
use guildhall_telemetry::spawn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::Status;

/// Batches between the engine and the gate.
const BATCHES_AHEAD: usize = 4;
/// Messages between the gate and the caller.
const MESSAGES_AHEAD: usize = 4;

/// How many fragments may run, and how many may wait for it.
#[derive(Debug)]
pub(crate) struct Turns {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Leave to run; given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _running: OwnedSemaphorePermit,
}

impl Turns {
    pub(crate) fn new(running: usize, waiting: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running)),
            waiting: Arc::new(Semaphore::new(waiting)),
        }
    }

    /// Waits for a turn, unless too many do already.
    pub(crate) async fn take(&self) -> Result<Turn, RunError> {
        if let Ok(running) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(Turn { _running: running });
        }
        let _waiting = Arc::clone(&self.waiting)
            .try_acquire_owned()
            .map_err(|_| RunError::Busy)?;
        let running = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(|_| RunError::Busy)?;
        Ok(Turn { _running: running })
    }
}

/// Rows that are ready to be computed, and the gate they go through.
pub(crate) struct Work {
    pub(crate) rows: SendableRecordBatchStream,
    pub(crate) gate: Gate,
    pub(crate) privacy: Privacy,
    pub(crate) fragment: Digest,
    pub(crate) longest: Duration,
    pub(crate) pace: Pace,
    pub(crate) turn: Turn,
    /// Whether the rows are a twin's, which the answer then says.
    pub(crate) made_up: bool,
}

impl Work {
    /// Starts both tasks. The first message is the schema, which says nothing of the data.
    pub(crate) fn start(self) -> Answer {
        let Self {
            rows,
            gate,
            privacy,
            fragment,
            longest,
            pace,
            turn,
            made_up,
        } = self;
        let (batches, computed) = mpsc::channel(BATCHES_AHEAD);
        let (messages, answer) = mpsc::channel(MESSAGES_AHEAD);
        let (encoder, first) = Encoder::new(&told(&gate.schema(), made_up));
        // There is room for it: the channel is new.
        let _ = messages.try_send(Ok(Part::Message(first)));
        let (computing, weighing) = match privacy {
            Privacy::Rows => (Some(turn), None),
            Privacy::Cells => (None, Some(turn)),
        };
        spawn(compute(rows, batches, longest, computing));
        spawn(async move {
            let _turn = weighing;
            let released = match privacy {
                Privacy::Rows => release_rows(computed, gate, encoder, &messages).await,
                Privacy::Cells => {
                    let released = pace.keep(release_cells(computed, gate, encoder));
                    let Some(released) = unless_nobody_waits(&messages, released).await else {
                        return;
                    };
                    send_whole(released, &messages).await
                }
            };
            end(released, privacy, &fragment, &messages).await;
        });
        Answer::of(answer, fragment, privacy)
    }
}

/// Cells that are found all at once, and the rule they are weighed by.
pub(crate) struct Whole {
    pub(crate) schema: SchemaRef,
    pub(crate) cells: BoxFuture<'static, Result<(RecordBatch, CellRule), RunError>>,
    pub(crate) fragment: Digest,
    pub(crate) longest: Duration,
    pub(crate) pace: Pace,
    pub(crate) turn: Turn,
    /// Whether the cells are a twin's, which the answer then says.
    pub(crate) made_up: bool,
}

impl Whole {
    /// Starts to look for them. The schema goes ahead: to work a lattice out may take longer than a caller waits
    /// for a first word.
    pub(crate) fn start(self) -> Answer {
        let Self {
            schema,
            cells,
            fragment,
            longest,
            pace,
            turn,
            made_up,
        } = self;
        let (messages, answer) = mpsc::channel(MESSAGES_AHEAD);
        let (encoder, first) = Encoder::new(&told(&schema, made_up));
        // There is room for it: the channel is new.
        let _ = messages.try_send(Ok(Part::Message(first)));
        spawn(async move {
            let _turn = turn;
            let released = async {
                let released = tokio::time::timeout(longest, release_whole(cells, encoder)).await;
                let seconds = longest.as_secs();
                released.map_err(|_| RunError::TooLong { seconds })?
            };
            let released = pace.keep(released);
            let Some(released) = unless_nobody_waits(&messages, released).await else {
                return;
            };
            let sent = send_whole(released, &messages).await;
            end(sent, Privacy::Cells, &fragment, &messages).await;
        });
        Answer::of(answer, fragment, Privacy::Cells)
    }
}

/// What an answer of that shape says of itself.
fn told(schema: &SchemaRef, made_up: bool) -> SchemaRef {
    match made_up {
        true => synthetic(schema),
        false => Arc::clone(schema),
    }
}

/// The messages of cells that are weighed once, all together.
async fn release_whole(
    cells: BoxFuture<'static, Result<(RecordBatch, CellRule), RunError>>,
    mut encoder: Encoder,
) -> Result<Vec<ArrowMessage>, RunError> {
    let (cells, rule) = cells.await?;
    let mut gate = Gate::new(Rule::Cells(rule), cells.schema())?;
    let released = gate.release(&cells)?;
    let encode = |source| RunError::Encode { source };
    let mut full = encoder.push(released).map_err(encode)?;
    full.extend(encoder.finish().map_err(encode)?);
    Ok(full)
}

/// What the engine gives: a batch, or `None` when it has no more. A channel that just closes has broken off.
type Computed = Result<Option<RecordBatch>, RunError>;

/// Pulls rows out of the engine until there are no more, nobody wants them, or time is up.
async fn compute(
    mut rows: SendableRecordBatchStream,
    batches: mpsc::Sender<Computed>,
    longest: Duration,
    _turn: Option<Turn>,
) {
    let work = async {
        while let Some(next) = rows.next().await {
            let failed = next.is_err();
            if batches
                .send(next.map(Some).map_err(RunError::from))
                .await
                .is_err()
                || failed
            {
                return;
            }
        }
        let _ = batches.send(Ok(None)).await;
    };
    tokio::select! {
        () = batches.closed() => {}
        timed = tokio::time::timeout(longest, work) => {
            if timed.is_err() {
                // If there is no room, the reader finds the channel closed without an end.
                let _ = batches.try_send(Err(RunError::TooLong { seconds: longest.as_secs() }));
            }
        }
    }
}

/// The next batch, if there is one.
async fn next(computed: &mut mpsc::Receiver<Computed>) -> Computed {
    let broke_off = || {
        Err(RunError::from(DataFusionError::Internal(
            "the work broke off".to_owned(),
        )))
    };
    computed.recv().await.unwrap_or_else(broke_off)
}

type Messages = mpsc::Sender<Result<Part, Status>>;

/// Says that the answer is whole, or what a caller may learn of why it is not.
async fn end(
    released: Result<(), RunError>,
    privacy: Privacy,
    fragment: &Digest,
    messages: &Messages,
) {
    let last = released.map(|()| Part::End).map_err(|error| {
        error.log(privacy, fragment);
        error.status(privacy, fragment)
    });
    // Nobody may be listening any more.
    let _ = messages.send(last).await;
}

async fn release_rows(
    mut computed: mpsc::Receiver<Computed>,
    mut gate: Gate,
    mut encoder: Encoder,
    messages: &Messages,
) -> Result<(), RunError> {
    loop {
        let batch = tokio::select! {
            () = messages.closed() => return Ok(()),
            batch = next(&mut computed) => batch?,
        };
        let Some(batch) = batch else { break };
        let released = gate.release(&batch)?;
        let full = encoder
            .push(released)
            .map_err(|source| RunError::Encode { source })?;
        if !send(messages, full).await {
            return Ok(());
        }
    }
    let rest = encoder
        .finish()
        .map_err(|source| RunError::Encode { source })?;
    send(messages, rest).await;
    Ok(())
}

/// Gathers every cell before any is weighed: what leaves says nothing of the order of the work.
async fn release_cells(
    mut computed: mpsc::Receiver<Computed>,
    mut gate: Gate,
    mut encoder: Encoder,
) -> Result<Vec<ArrowMessage>, RunError> {
    let mut cells = Vec::new();
    while let Some(batch) = next(&mut computed).await? {
        cells.push(batch);
    }
    let whole =
        concat_batches(gate.input(), &cells).map_err(|source| RunError::Encode { source })?;
    drop(cells);
    let released = gate.release(&whole)?;
    let mut full = encoder
        .push(released)
        .map_err(|source| RunError::Encode { source })?;
    full.extend(
        encoder
            .finish()
            .map_err(|source| RunError::Encode { source })?,
    );
    Ok(full)
}

/// What comes of `work`, or nothing if the caller goes before it does.
async fn unless_nobody_waits<T>(messages: &Messages, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = messages.closed() => None,
        done = work => Some(done),
    }
}

/// Sends all messages of an answer, if there is one.
async fn send_whole(
    released: Result<Vec<ArrowMessage>, RunError>,
    messages: &Messages,
) -> Result<(), RunError> {
    send(messages, released?).await;
    Ok(())
}

async fn send(messages: &Messages, full: Vec<ArrowMessage>) -> bool {
    for message in full {
        if messages.send(Ok(Part::Message(message))).await.is_err() {
            return false;
        }
    }
    true
}

#[derive(Debug)]
enum Part {
    Message(ArrowMessage),
    End,
}

/// The messages of one answer. Dropping it stops the work behind it.
#[derive(Debug)]
pub(crate) struct Answer {
    parts: mpsc::Receiver<Result<Part, Status>>,
    fragment: Digest,
    privacy: Privacy,
    ended: bool,
}

impl Answer {
    fn of(parts: mpsc::Receiver<Result<Part, Status>>, fragment: Digest, privacy: Privacy) -> Self {
        Self {
            parts,
            fragment,
            privacy,
            ended: false,
        }
    }
}

impl Stream for Answer {
    type Item = Result<ArrowMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.parts.poll_recv(cx).map(|part| match part {
            Some(Ok(Part::Message(message))) => Some(Ok(message)),
            Some(Ok(Part::End)) => {
                self.ended = true;
                None
            }
            Some(Err(status)) => {
                self.ended = true;
                Some(Err(status))
            }
            // Invariant: an answer that breaks off is never taken for a whole one.
            None => {
                self.ended = true;
                let fault = RunError::from(DataFusionError::Internal(
                    "a task ended without a word".to_owned(),
                ));
                Some(Err(fault.status(self.privacy, &self.fragment)))
            }
        })
    }
}
