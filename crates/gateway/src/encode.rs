//! Batches to Flight messages, large enough to be quick and small enough for every client.
//!
//! One schema is declared; every batch is made to fit it. Small batches are gathered (a slow
//! source is not waited for), large ones are cut so that a message stays below the 4 MB that
//! gRPC clients take by default. No compression: it costs more than a fast link.

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::compute::{BatchCoalescer, cast};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use guildhall_client::arrow_message::{ArrowEncoder, ArrowMessageError};
use std::fmt;

/// What a message is meant to weigh.
const TARGET_BYTES: usize = 3 * 1024 * 1024;
/// What a message may weigh, with its headers below 4 MiB.
pub(crate) const MOST_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;
/// Rows that are gathered at most.
const MOST_ROWS: usize = 128 * 1024;

/// The schema as FlightInfo and prepared statements carry it.
pub(crate) fn schema_bytes(schema: &Schema) -> Result<Bytes, ArrowError> {
    let options = IpcWriteOptions::default();
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &options).try_into()?;
    Ok(bytes)
}

/// The schema as the first message of a stream.
pub(crate) fn schema_message(schema: &Schema) -> FlightData {
    SchemaAsIpc::new(schema, &IpcWriteOptions::default()).into()
}

/// `batch` in exactly `schema`, which has the same columns in possibly other types.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    if batch.num_columns() != schema.fields().len() {
        return Err(ArrowError::SchemaError(
            "the result has other columns than were declared".into(),
        ));
    }
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(column.clone())
            } else {
                cast(column, field.data_type())
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

/// Gathers batches and writes messages.
pub(crate) struct Encoder {
    schema: SchemaRef,
    gathered: Option<BatchCoalescer>,
    wire: ArrowEncoder,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("columns", &self.schema.fields().len())
            .finish_non_exhaustive()
    }
}

impl Encoder {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self {
            schema,
            gathered: None,
            wire: ArrowEncoder::default(),
        }
    }

    /// Takes a batch; returns the messages that are full.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>, ArrowError> {
        let batch = conform(batch, &self.schema)?;
        if batch.num_columns() == 0 || batch.num_rows() == 0 {
            return if batch.num_rows() == 0 {
                Ok(Vec::new())
            } else {
                self.cut(&batch)
            };
        }
        if self.gathered.is_none() {
            let rows = (TARGET_BYTES / row_bytes(&batch)).clamp(1, MOST_ROWS);
            let gathered = BatchCoalescer::new(self.schema.clone(), rows)
                .with_biggest_coalesce_batch_size(Some((rows / 2).max(1)));
            self.gathered = Some(gathered);
        }
        if let Some(gathered) = &mut self.gathered {
            gathered.push_batch(batch)?;
        }
        self.full()
    }

    /// The messages of what is gathered so far.
    pub(crate) fn flush(&mut self) -> Result<Vec<FlightData>, ArrowError> {
        if let Some(gathered) = &mut self.gathered {
            gathered.finish_buffered_batch()?;
        }
        self.full()
    }

    /// Whether there is anything that a flush would write.
    pub(crate) fn holds_rows(&self) -> bool {
        self.gathered.as_ref().is_some_and(|g| !g.is_empty())
    }

    /// An empty batch that says something besides.
    pub(crate) fn remark(&mut self, remark: String) -> Result<Vec<FlightData>, ArrowError> {
        let mut messages = self.cut(&RecordBatch::new_empty(self.schema.clone()))?;
        if let Some(last) = messages.last_mut() {
            last.app_metadata = remark.into();
        }
        Ok(messages)
    }

    fn full(&mut self) -> Result<Vec<FlightData>, ArrowError> {
        let mut messages = Vec::new();
        while let Some(batch) = self
            .gathered
            .as_mut()
            .and_then(BatchCoalescer::next_completed_batch)
        {
            messages.extend(self.cut(&batch)?);
        }
        Ok(messages)
    }

    /// The messages of a batch, gathered with no other.
    pub(crate) fn cut(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>, ArrowError> {
        let mut messages = Vec::new();
        let mut waiting = vec![batch.clone()];
        while let Some(piece) = waiting.pop() {
            let pieces = batch_bytes(&piece)
                .div_ceil(TARGET_BYTES)
                .clamp(1, piece.num_rows().max(1));
            if pieces > 1 {
                let rows = piece.num_rows().div_ceil(pieces);
                let starts: Vec<usize> = (0..piece.num_rows()).step_by(rows).collect();
                waiting.extend(
                    starts
                        .iter()
                        .rev()
                        .map(|at| piece.slice(*at, rows.min(piece.num_rows() - at))),
                );
                continue;
            }
            let message = self.write_one(&piece)?;
            // Rows of uneven width: cut again, down to the single row that nothing can shorten.
            if message.data_body.len() > MOST_BYTES && piece.num_rows() > 1 {
                let half = piece.num_rows() / 2;
                waiting.push(piece.slice(half, piece.num_rows() - half));
                waiting.push(piece.slice(0, half));
                continue;
            }
            messages.push(message);
        }
        Ok(messages)
    }

    fn write_one(&mut self, batch: &RecordBatch) -> Result<FlightData, ArrowError> {
        let message = self.wire.message(batch).map_err(|e| match e {
            ArrowMessageError::Encode { source } => source,
            e => ArrowError::ExternalError(Box::new(e)),
        })?;
        Ok(FlightData {
            data_header: message.header,
            data_body: message.body,
            ..FlightData::default()
        })
    }
}

/// What the rows of a batch weigh, shared buffers counted only as far as they are used.
fn batch_bytes(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|c| {
            c.to_data()
                .get_slice_memory_size()
                .unwrap_or_else(|_| c.get_array_memory_size())
        })
        .sum()
}

fn row_bytes(batch: &RecordBatch) -> usize {
    (batch_bytes(batch) / batch.num_rows().max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray, StringViewArray};
    use arrow::datatypes::{DataType, Field};
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::{StreamExt, TryStreamExt, stream};
    use std::sync::Arc;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("t", DataType::Utf8, true),
        ]))
    }

    fn batch(rows: i64, width: usize) -> RecordBatch {
        let n = Int64Array::from_iter_values(0..rows);
        let t = StringArray::from_iter_values((0..rows).map(|i| format!("{i:0width$}")));
        RecordBatch::try_new(schema(), vec![Arc::new(n), Arc::new(t)]).unwrap()
    }

    async fn decode(messages: Vec<FlightData>) -> Vec<RecordBatch> {
        let all = stream::iter(
            [schema_message(&schema())]
                .into_iter()
                .chain(messages)
                .map(Ok),
        );
        FlightRecordBatchStream::new_from_flight_data(all.boxed())
            .try_collect()
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn small_batches_are_gathered() {
        let mut encoder = Encoder::new(schema());
        let mut messages = Vec::new();
        for _ in 0..100 {
            messages.extend(encoder.push(&batch(100, 8)).unwrap());
        }
        messages.extend(encoder.flush().unwrap());
        assert_eq!(messages.len(), 1);
        assert_eq!(decode(messages).await[0].num_rows(), 10_000);
    }

    #[tokio::test]
    async fn no_message_is_too_large_for_a_default_client() {
        let mut encoder = Encoder::new(schema());
        let mut messages = encoder.push(&batch(500_000, 40)).unwrap();
        // Slices of a large batch, as a limit or a sort leaves them.
        messages.extend(encoder.push(&batch(400_000, 40).slice(7, 390_000)).unwrap());
        messages.extend(encoder.flush().unwrap());
        assert!(
            messages
                .iter()
                .all(|m| m.data_body.len() + m.data_header.len() < 4 * 1024 * 1024)
        );
        assert!(messages.len() < 25, "{}", messages.len());
        assert_eq!(
            decode(messages)
                .await
                .iter()
                .map(RecordBatch::num_rows)
                .sum::<usize>(),
            890_000
        );
    }

    #[tokio::test]
    async fn rows_of_uneven_width_are_cut_again() {
        let wide = "x".repeat(3_000_000);
        let texts: Vec<&str> = (0..40)
            .map(|i| if i < 3 { wide.as_str() } else { "" })
            .collect();
        let n = Int64Array::from_iter_values(0..40);
        let b = RecordBatch::try_new(
            schema(),
            vec![Arc::new(n), Arc::new(StringArray::from(texts))],
        )
        .unwrap();
        let mut encoder = Encoder::new(schema());
        let mut messages = encoder.push(&b).unwrap();
        messages.extend(encoder.flush().unwrap());
        assert!(messages.iter().all(|m| m.data_body.len() < 4 * 1024 * 1024));
        assert_eq!(
            decode(messages)
                .await
                .iter()
                .map(RecordBatch::num_rows)
                .sum::<usize>(),
            40
        );
    }

    #[test]
    fn a_batch_is_cast_to_what_was_declared() {
        let views = Schema::new(vec![
            Field::new("n", DataType::Int64, false),
            Field::new("t", DataType::Utf8View, true),
        ]);
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(Int64Array::from(vec![1])),
            Arc::new(StringViewArray::from(vec!["a"])),
        ];
        let batch = RecordBatch::try_new(Arc::new(views), columns).unwrap();
        assert_eq!(conform(&batch, &schema()).unwrap().schema(), schema());
    }

    #[tokio::test]
    async fn rows_without_columns_are_still_counted() {
        let none = Arc::new(Schema::empty());
        let options = RecordBatchOptions::new().with_row_count(Some(3));
        let batch = RecordBatch::try_new_with_options(none.clone(), vec![], &options).unwrap();
        let messages = Encoder::new(none.clone()).push(&batch).unwrap();
        let all = stream::iter([schema_message(&none)].into_iter().chain(messages).map(Ok));
        let back: Vec<RecordBatch> = FlightRecordBatchStream::new_from_flight_data(all.boxed())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(back[0].num_rows(), 3);
    }
}
