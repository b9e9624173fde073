//! Results on their way to a client.
//!
//! Merging and encoding run in a task of their own, a few messages ahead of the client and no
//! more: a slow client holds up its own query and nobody's memory. When the client goes, the
//! query is cancelled, or its time is up, the task ends, and with it the nodes' work.

use crate::door::Answer;
use crate::encode::{Encoder, MOST_BYTES, schema_message};
use crate::error::DoorError;
use crate::running::Place;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_flight::FlightData;
use futures::StreamExt;
use futures::stream::BoxStream;
use guildhall_client::arrow_message::decode_batch;
use guildhall_model::QueryId;
use guildhall_proto::node::v1::ArrowMessage;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Messages that a query may be ahead of its client; a message has 4 MB at most.
const AHEAD: usize = 4;
/// Rows are not held back for longer than this while a source is slow.
const GATHER_WITHIN: Duration = Duration::from_millis(40);

/// Batches, or why there are no more.
pub(crate) type Batches = BoxStream<'static, Result<RecordBatch, DoorError>>;
/// Encoded batches, or why there are no more.
pub(crate) type Messages = BoxStream<'static, Result<FlightData, DoorError>>;
/// What is to be said once all rows are out, if anything.
pub(crate) type Afterword = Box<dyn FnOnce() -> Option<String> + Send>;

/// One query's way out.
pub(crate) struct Outlet {
    pub(crate) query: QueryId,
    pub(crate) place: Place,
    pub(crate) seconds: u64,
}

/// The sending end, which knows when to stop.
struct Way {
    query: QueryId,
    // Held until the task ends.
    place: Place,
    seconds: u64,
    deadline: Instant,
    out: mpsc::Sender<Result<FlightData, Status>>,
}

impl Outlet {
    /// Encodes `batches` in `schema`.
    pub(crate) fn encode(
        self,
        schema: SchemaRef,
        batches: Batches,
        afterword: Afterword,
    ) -> Answer<FlightData> {
        let (way, answer) = self.open();
        guildhall_telemetry::spawn(async move {
            if let Err(e) = encode(&way, schema, batches, afterword).await {
                way.fail(e).await;
            }
        });
        answer
    }

    /// Passes `messages` on as they are, under a schema message of our own.
    pub(crate) fn relay(self, schema: SchemaRef, messages: Messages) -> Answer<FlightData> {
        let (way, answer) = self.open();
        guildhall_telemetry::spawn(async move {
            if let Err(e) = relay(&way, schema, messages).await {
                way.fail(e).await;
            }
        });
        answer
    }

    fn open(self) -> (Way, Answer<FlightData>) {
        let (out, messages) = mpsc::channel(AHEAD);
        let deadline = Instant::now() + Duration::from_secs(self.seconds);
        let Self {
            query,
            place,
            seconds,
        } = self;
        (
            Way {
                query,
                place,
                seconds,
                deadline,
                out,
            },
            Box::pin(ReceiverStream::new(messages)),
        )
    }
}

fn broken(e: ArrowError) -> DoorError {
    DoorError::internal("encode a result", &e)
}

/// The client is gone: nobody is left to be told anything.
struct Gone;

enum Stop {
    Gone,
    Failed(DoorError),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<DoorError> for Stop {
    fn from(e: DoorError) -> Self {
        Self::Failed(e)
    }
}

impl Way {
    async fn send(&self, messages: impl IntoIterator<Item = FlightData>) -> Result<(), Stop> {
        let cancelled = self.place.cancelled();
        for message in messages {
            tokio::select! {
                biased;
                () = cancelled.cancelled() => return Err(DoorError::Cancelled.into()),
                sent = self.out.send(Ok(message)) => sent.map_err(|_| Gone)?,
                () = tokio::time::sleep_until(self.deadline) => return Err(self.late().into()),
            }
        }
        Ok(())
    }

    fn late(&self) -> DoorError {
        DoorError::Deadline {
            seconds: self.seconds,
            hint: "",
        }
    }

    async fn fail(self, stop: Stop) {
        if let Stop::Failed(e) = stop {
            // If the client is gone as well, nobody is left to be told.
            let _ = self.out.send(Err(e.about(&self.query))).await;
        }
    }
}

async fn encode(
    way: &Way,
    schema: SchemaRef,
    mut batches: Batches,
    afterword: Afterword,
) -> Result<(), Stop> {
    let mut encoder = Encoder::new(schema.clone());
    way.send([schema_message(&schema)]).await?;
    let cancelled = way.place.cancelled();
    loop {
        let full = tokio::select! {
            biased;
            () = cancelled.cancelled() => return Err(DoorError::Cancelled.into()),
            () = way.out.closed() => return Err(Gone.into()),
            next = batches.next() => match next {
                Some(batch) => encoder.push(&batch?).map_err(broken)?,
                None => break,
            },
            () = tokio::time::sleep(GATHER_WITHIN), if encoder.holds_rows() => encoder.flush().map_err(broken)?,
            () = tokio::time::sleep_until(way.deadline) => return Err(way.late().into()),
        };
        way.send(full).await?;
    }
    way.send(encoder.flush().map_err(broken)?).await?;
    if let Some(words) = afterword() {
        way.send(encoder.remark(words).map_err(broken)?).await?;
    }
    Ok(())
}

async fn relay(way: &Way, schema: SchemaRef, mut messages: Messages) -> Result<(), Stop> {
    way.send([schema_message(&schema)]).await?;
    let mut encoder = Encoder::new(schema.clone());
    let cancelled = way.place.cancelled();
    loop {
        let message = tokio::select! {
            biased;
            () = cancelled.cancelled() => return Err(DoorError::Cancelled.into()),
            () = way.out.closed() => return Err(Gone.into()),
            next = messages.next() => match next {
                Some(message) => message?,
                None => return Ok(()),
            },
            () = tokio::time::sleep_until(way.deadline) => return Err(way.late().into()),
        };
        if message.data_body.len() <= MOST_BYTES {
            way.send([message]).await?;
            continue;
        }
        let message = ArrowMessage {
            header: message.data_header,
            body: message.data_body,
        };
        let batch = decode_batch(&schema, &message)
            .map_err(|e| DoorError::internal("read a node's batch", &e))?;
        way.send(encoder.cut(&batch).map_err(broken)?).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::running::RunningQueries;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use futures::stream;
    use guildhall_model::Principal;
    use std::sync::Arc;
    use tonic::Code;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
    }

    fn batch() -> RecordBatch {
        RecordBatch::try_new(
            schema(),
            vec![Arc::new(Int64Array::from_iter_values(0..1000))],
        )
        .unwrap()
    }

    fn principal() -> Principal {
        Principal {
            council: "northmoor".parse().unwrap(),
            name: "ana".parse().unwrap(),
        }
    }

    fn outlet(running: &RunningQueries, seconds: u64) -> Outlet {
        let query: QueryId = "q-1".parse().unwrap();
        let place = running.begin(&query, &principal()).unwrap();
        Outlet {
            query,
            place,
            seconds,
        }
    }

    fn nothing() -> Afterword {
        Box::new(|| None)
    }

    #[tokio::test]
    async fn a_cancelled_query_says_so() {
        let running = RunningQueries::new(&Limits::default());
        let endless: Batches = stream::pending().boxed();
        let mut answer = outlet(&running, 3600).encode(schema(), endless, nothing());
        assert!(answer.next().await.unwrap().is_ok());
        running.cancel(&"q-1".parse().unwrap(), &principal());
        assert_eq!(
            answer.next().await.unwrap().unwrap_err().code(),
            Code::Cancelled
        );
        assert!(answer.next().await.is_none());
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_the_work() {
        struct OnDrop(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                let _ = self.0.take().unwrap().send(());
            }
        }
        let running = RunningQueries::new(&Limits::default());
        let (dropped, was_dropped) = tokio::sync::oneshot::channel();
        let guard = OnDrop(Some(dropped));
        let endless: Batches = stream::pending()
            .chain(stream::once(async move {
                drop(guard);
                Ok(batch())
            }))
            .boxed();
        let answer = outlet(&running, 3600).encode(schema(), endless, nothing());
        drop(answer);
        was_dropped.await.unwrap();
    }

    #[tokio::test]
    async fn a_query_past_its_time_is_ended() {
        let running = RunningQueries::new(&Limits::default());
        let endless: Batches = stream::pending().boxed();
        let answer = outlet(&running, 0).encode(schema(), endless, nothing());
        let last = answer.collect::<Vec<_>>().await.pop().unwrap();
        assert_eq!(last.unwrap_err().code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_relayed_message_is_cut_for_a_default_client() {
        let n = Int64Array::from_iter_values(0..600_000);
        let large = RecordBatch::try_new(schema(), vec![Arc::new(n)]).unwrap();
        let (_, data) = arrow::ipc::writer::IpcDataGenerator::default()
            .encode(
                &large,
                &mut arrow::ipc::writer::DictionaryTracker::new(false),
                &Default::default(),
                &mut Default::default(),
            )
            .unwrap();
        let messages: Messages = stream::iter([Ok(FlightData::from(data))]).boxed();
        let running = RunningQueries::new(&Limits::default());
        let answer = outlet(&running, 5).relay(schema(), messages);
        let all: Vec<_> = answer.map(Result::unwrap).collect().await;
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|m| m.data_body.len() < 4 << 20));
    }

    #[tokio::test]
    async fn what_is_missing_is_said_at_the_end() {
        let running = RunningQueries::new(&Limits::default());
        let batches: Batches = stream::iter([Ok(batch())]).boxed();
        let words: Afterword = Box::new(|| Some("northmoor/parking".to_owned()));
        let answer = outlet(&running, 5).encode(schema(), batches, words);
        let all: Vec<_> = answer.map(Result::unwrap).collect().await;
        assert_eq!(all.len(), 3);
        assert_eq!(all[2].app_metadata.as_ref(), b"northmoor/parking");
    }
}
