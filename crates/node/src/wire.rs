//! What was released becomes Arrow IPC messages.
//!
//! String views and dictionaries are written out, since a slice of one drags its whole buffers along. Small
//! batches are put together and large ones cut, so that messages say nothing of how the answer was computed.

use crate::product::plain_type;
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use bytes::Bytes;
use guildhall_disclosure::Released;
use guildhall_proto::node::v1::ArrowMessage;
use std::sync::Arc;

/// Rows that are put together before a message is written.
pub(crate) const ROWS: usize = 32_768;
/// The most bytes of rows in one message; some clients take 4 MB and no more.
const BYTES: usize = 3_400_000;

/// Writes one answer.
pub(crate) struct Encoder {
    schema: SchemaRef,
    generator: IpcDataGenerator,
    tracker: DictionaryTracker,
    options: IpcWriteOptions,
    context: IpcWriteContext,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: usize,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder")
            .field("columns", &self.schema.fields().len())
            .field("waiting", &self.waiting_rows)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// A writer of answers of this shape, and the message that says it.
    pub(crate) fn new(released: &Schema) -> (Self, ArrowMessage) {
        let schema = wire_schema(released);
        let mut encoder = Self {
            schema,
            generator: IpcDataGenerator::default(),
            tracker: DictionaryTracker::new(false),
            options: IpcWriteOptions::default(),
            context: IpcWriteContext::default(),
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
        };
        let header = encoder.generator.schema_to_bytes_with_dictionary_tracker(
            &encoder.schema,
            &mut encoder.tracker,
            &encoder.options,
        );
        let message = ArrowMessage {
            header: Bytes::from(header.ipc_message),
            body: Bytes::new(),
        };
        (encoder, message)
    }

    /// Takes what was released; gives the messages that are full.
    pub(crate) fn push(&mut self, released: Released) -> Result<Vec<ArrowMessage>, ArrowError> {
        let batch = self.plain(released.into_batch())?;
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        self.waiting_rows += batch.num_rows();
        self.waiting_bytes += bytes_of(&batch);
        self.waiting.push(batch);
        if self.waiting_rows >= ROWS || self.waiting_bytes >= BYTES {
            self.flush()
        } else {
            Ok(Vec::new())
        }
    }

    /// Gives what is left.
    pub(crate) fn finish(mut self) -> Result<Vec<ArrowMessage>, ArrowError> {
        self.flush()
    }

    fn flush(&mut self) -> Result<Vec<ArrowMessage>, ArrowError> {
        let batches = std::mem::take(&mut self.waiting);
        (self.waiting_rows, self.waiting_bytes) = (0, 0);
        let batch = match batches.as_slice() {
            [] => return Ok(Vec::new()),
            [one] => one.clone(),
            many => concat_batches(&self.schema, many)?,
        };
        let mut messages = Vec::new();
        self.write(&batch, &mut messages)?;
        Ok(messages)
    }

    /// Writes `batch`, halved for as long as it is too large for one message.
    fn write(
        &mut self,
        batch: &RecordBatch,
        messages: &mut Vec<ArrowMessage>,
    ) -> Result<(), ArrowError> {
        let rows = batch.num_rows();
        if rows > 1 && bytes_of(batch) > BYTES {
            let parts = (bytes_of(batch) / BYTES + 1).clamp(2, rows);
            let step = rows.div_ceil(parts);
            for start in (0..rows).step_by(step) {
                self.write(&batch.slice(start, step.min(rows - start)), messages)?;
            }
            return Ok(());
        }
        let (_, data) =
            self.generator
                .encode(batch, &mut self.tracker, &self.options, &mut self.context)?;
        messages.push(ArrowMessage {
            header: Bytes::from(data.ipc_message),
            body: Bytes::from(data.arrow_data),
        });
        Ok(())
    }

    fn plain(&self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let rows = batch.num_rows();
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(
                |(column, field)| match column.data_type() == field.data_type() {
                    true => Ok(ArrayRef::clone(column)),
                    false => cast(column, field.data_type()),
                },
            )
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

fn wire_schema(released: &Schema) -> SchemaRef {
    let fields: Vec<_> = released
        .fields()
        .iter()
        .map(|f| {
            f.as_ref()
                .clone()
                .with_data_type(plain_type(f.data_type()))
                .with_nullable(true)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// The bytes of the rows themselves, not of the buffers that they are slices of.
fn bytes_of(batch: &RecordBatch) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, StringViewArray};
    use arrow::datatypes::{DataType, Field, Int64Type};
    use arrow_flight::FlightData;
    use arrow_flight::utils::flight_data_to_batches;
    use guildhall_disclosure::{Gate, Rule};

    fn encode(batches: &[RecordBatch]) -> Vec<ArrowMessage> {
        let mut gate = Gate::new(Rule::OpenRows, batches[0].schema()).unwrap();
        let (mut encoder, first) = Encoder::new(&gate.schema());
        let mut messages = vec![first];
        for batch in batches {
            messages.extend(encoder.push(gate.release(batch).unwrap()).unwrap());
        }
        messages.extend(encoder.finish().unwrap());
        messages
    }

    fn decode(messages: &[ArrowMessage]) -> Vec<RecordBatch> {
        let data: Vec<FlightData> = messages
            .iter()
            .map(|m| FlightData {
                data_header: m.header.clone(),
                data_body: m.body.clone(),
                ..FlightData::default()
            })
            .collect();
        flight_data_to_batches(&data).unwrap()
    }

    fn numbers(from: i64, to: i64) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        RecordBatch::try_new(
            schema,
            vec![Arc::new(Int64Array::from_iter_values(from..to))],
        )
        .unwrap()
    }

    #[test]
    fn small_batches_are_put_together_and_none_is_lost() {
        let batches: Vec<_> = (0..100)
            .map(|i| numbers(i * 1000, (i + 1) * 1000))
            .collect();
        let messages = encode(&batches);
        assert!(messages.len() < 6, "{}", messages.len());
        let back: Vec<i64> = decode(&messages)
            .iter()
            .flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect();
        assert_eq!(back, (0..100_000).collect::<Vec<_>>());
    }

    #[test]
    fn no_message_is_larger_than_every_client_takes() {
        let text = "x".repeat(1000);
        let views = StringViewArray::from_iter_values((0..20_000).map(|i| format!("{i}{text}")));
        let schema = Arc::new(Schema::new(vec![Field::new(
            "t",
            DataType::Utf8View,
            false,
        )]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(views)]).unwrap();
        let messages = encode(&[batch]);
        assert!(messages.iter().all(|m| m.body.len() < 4_000_000));
        let rows: usize = decode(&messages).iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 20_000);
    }

    #[test]
    fn a_slice_of_views_does_not_drag_its_buffers_along() {
        let views = StringViewArray::from_iter_values(
            (0..50_000).map(|i| format!("a text that is long enough to be kept apart {i}")),
        );
        let schema = Arc::new(Schema::new(vec![Field::new(
            "t",
            DataType::Utf8View,
            false,
        )]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(views)])
            .unwrap()
            .slice(10, 5);
        let messages = encode(&[batch]);
        assert!(messages.iter().map(|m| m.body.len()).sum::<usize>() < 1000);
        assert_eq!(
            decode(&messages)[0].schema().field(0).data_type(),
            &DataType::Utf8
        );
    }

    #[test]
    fn an_answer_without_columns_keeps_its_rows() {
        let options = RecordBatchOptions::new().with_row_count(Some(3));
        let batch =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        assert_eq!(decode(&encode(&[batch]))[0].num_rows(), 3);
    }
}
