//! Arrow batches as the messages of a node's stream, and back.
//!
//! The schema comes first, record batches follow; dictionaries and compressed bodies do not
//! travel. A decoder is given bytes of a peer: it checks what the Arrow library takes on
//! trust, and turns what it would panic at into an error.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::try_schema_from_flatbuffer_bytes;
use arrow::ipc::reader::RecordBatchDecoder;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::ipc::{MessageHeader, root_as_message};
use bytes::Bytes;
use guildhall_proto::node::v1::ArrowMessage;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Encoders cut batches so that a message stays about below this.
pub const TARGET_BYTES: usize = 4 * 1024 * 1024;

/// Why bytes are not an Arrow message of ours. Says what is wrong, never what is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArrowMessageError {
    /// Not an Arrow IPC message.
    #[error("not an Arrow message")]
    Malformed,
    /// An Arrow message, but not of the kind that belongs here.
    #[error("an Arrow message of another kind than {expected}")]
    Unexpected {
        /// What belongs here.
        expected: &'static str,
    },
    /// A record batch that contradicts itself or its schema.
    #[error("a record batch that does not fit its schema or its own bytes")]
    Inconsistent,
    /// A batch that cannot be encoded.
    #[error("cannot encode a record batch")]
    Encode {
        /// What the Arrow library said.
        source: ArrowError,
    },
}

/// Reads the first message of a stream.
///
/// # Errors
/// If it is not a schema.
pub fn decode_schema(message: &ArrowMessage) -> Result<SchemaRef, ArrowMessageError> {
    guarded(|| {
        let header = root_as_message(&message.header).map_err(|_| ArrowMessageError::Malformed)?;
        if header.header_type() != MessageHeader::Schema {
            return Err(ArrowMessageError::Unexpected {
                expected: "a schema",
            });
        }
        let schema = try_schema_from_flatbuffer_bytes(&message.header)
            .map_err(|_| ArrowMessageError::Malformed)?;
        Ok(Arc::new(schema))
    })
}

/// Reads any later message of a stream. Columns point into the message where they are
/// aligned; nothing is copied but the columns that are not.
///
/// # Errors
/// If it is not a record batch of `schema`.
pub fn decode_batch(
    schema: &SchemaRef,
    message: &ArrowMessage,
) -> Result<RecordBatch, ArrowMessageError> {
    guarded(|| {
        let header = root_as_message(&message.header).map_err(|_| ArrowMessageError::Malformed)?;
        let Some(batch) = header.header_as_record_batch() else {
            return Err(ArrowMessageError::Unexpected {
                expected: "a record batch",
            });
        };
        let body = u64::try_from(message.body.len()).map_err(|_| ArrowMessageError::Malformed)?;
        let rows = u64::try_from(batch.length()).map_err(|_| ArrowMessageError::Inconsistent)?;
        let fits = |offset: i64, length: i64| {
            let (Ok(offset), Ok(length)) = (u64::try_from(offset), u64::try_from(length)) else {
                return false;
            };
            offset.checked_add(length).is_some_and(|end| end <= body)
        };
        let buffers_fit = batch
            .buffers()
            .iter()
            .flatten()
            .all(|b| fits(b.offset(), b.length()));
        let nodes_fit = batch
            .nodes()
            .iter()
            .flatten()
            .all(|n| n.length() >= 0 && n.null_count() >= 0);
        // Where no column takes bytes, any number of rows can be claimed; else there is a bit for each row at least.
        let rows_fit = match schema.fields().iter().all(|f| weightless(f.data_type())) {
            true => rows <= u64::from(u32::MAX),
            false => rows <= body.saturating_mul(8),
        };
        if !buffers_fit || !nodes_fit || !rows_fit || batch.compression().is_some() {
            return Err(ArrowMessageError::Inconsistent);
        }
        let version = header.version();
        let none = HashMap::new();
        let body = Buffer::from(message.body.clone());
        RecordBatchDecoder::try_new(&body, batch, schema.clone(), &none, &version)
            .and_then(RecordBatchDecoder::read_record_batch)
            .map_err(|_| ArrowMessageError::Inconsistent)
    })
}

/// Whether values of a type take no bytes of their own.
fn weightless(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null | DataType::FixedSizeBinary(0) => true,
        DataType::Struct(fields) => fields.iter().all(|f| weightless(f.data_type())),
        DataType::FixedSizeList(item, n) => *n == 0 || weightless(item.data_type()),
        _ => false,
    }
}

// The Arrow library asserts some of what it reads; a peer must not be able to end our task with it.
fn guarded<T>(
    decode: impl FnOnce() -> Result<T, ArrowMessageError>,
) -> Result<T, ArrowMessageError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or(Err(ArrowMessageError::Inconsistent))
}

/// Encodes one stream: [`schema`](Self::schema) once, then [`batch`](Self::batch) for each batch.
pub struct ArrowEncoder {
    generator: IpcDataGenerator,
    options: IpcWriteOptions,
    context: IpcWriteContext,
    tracker: DictionaryTracker,
}

impl Default for ArrowEncoder {
    fn default() -> Self {
        Self {
            generator: IpcDataGenerator::default(),
            options: IpcWriteOptions::default(),
            context: IpcWriteContext::default(),
            tracker: DictionaryTracker::new(false),
        }
    }
}

impl ArrowEncoder {
    /// The first message.
    #[must_use]
    pub fn schema(&mut self, schema: &Schema) -> ArrowMessage {
        let encoded = self.generator.schema_to_bytes_with_dictionary_tracker(
            schema,
            &mut self.tracker,
            &self.options,
        );
        ArrowMessage {
            header: Bytes::from(encoded.ipc_message),
            body: Bytes::new(),
        }
    }

    /// The messages of one batch, cut by rows to about [`TARGET_BYTES`] each.
    ///
    /// View columns must be compacted and dictionaries cast beforehand: a view column is
    /// sent with all of its buffers in each message.
    ///
    /// # Errors
    /// If a column has a dictionary type, or the Arrow library cannot encode it.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<ArrowMessage>, ArrowMessageError> {
        let rows = batch.num_rows();
        let per_message = rows_per_message(batch);
        let mut messages = Vec::with_capacity(rows.div_ceil(per_message).max(1));
        let mut from = 0;
        while from < rows || messages.is_empty() {
            let slice = batch.slice(from, per_message.min(rows - from));
            messages.push(self.message(&slice)?);
            from += per_message;
        }
        Ok(messages)
    }

    /// One message of one batch, however large: for those who cut by a measure of their own.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn message(&mut self, batch: &RecordBatch) -> Result<ArrowMessage, ArrowMessageError> {
        let (dictionaries, encoded) = self
            .generator
            .encode(batch, &mut self.tracker, &self.options, &mut self.context)
            .map_err(|source| ArrowMessageError::Encode { source })?;
        if !dictionaries.is_empty() {
            return Err(ArrowMessageError::Unexpected {
                expected: "plain columns",
            });
        }
        Ok(ArrowMessage {
            header: Bytes::from(encoded.ipc_message),
            body: Bytes::from(encoded.arrow_data),
        })
    }
}

impl fmt::Debug for ArrowEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrowEncoder").finish_non_exhaustive()
    }
}

fn rows_per_message(batch: &RecordBatch) -> usize {
    let bytes: usize = batch
        .columns()
        .iter()
        .map(|column| {
            column
                .to_data()
                .get_slice_memory_size()
                .unwrap_or_else(|_| column.get_buffer_memory_size())
        })
        .sum();
    let messages = bytes.div_ceil(TARGET_BYTES).max(1);
    batch.num_rows().div_ceil(messages).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::batch;
    use arrow::array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array,
        Int32Array, Time64MicrosecondArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::Int32Type;

    #[test]
    fn every_wire_type_reads_back() {
        let columns: [ArrayRef; 7] = [
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(
                Decimal128Array::from(vec![Some(123), None, Some(-1)])
                    .with_precision_and_scale(20, 2)
                    .unwrap(),
            ),
            Arc::new(Date32Array::from(vec![Some(1), None, Some(20_000)])),
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(1),
                None,
                Some(2),
            ])),
            Arc::new(Time64MicrosecondArray::from(vec![Some(1), None, Some(2)])),
            Arc::new(Int32Array::from(vec![1, 2, 3])),
        ];
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let batch = RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap();
        assert_eq!(round_trip(&batch), [format!("{batch:?}")]);
    }

    #[test]
    fn a_batch_without_rows_or_columns_keeps_its_shape() {
        let empty = batch(0);
        assert_eq!(round_trip(&empty), [format!("{empty:?}")]);
        let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(5));
        let bare =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &rows).unwrap();
        assert_eq!(round_trip(&bare), [format!("{bare:?}")]);
    }

    #[test]
    fn rows_that_the_bytes_cannot_hold_are_refused() {
        let none: ArrayRef = Arc::new(arrow::array::NullArray::new(1_000_000));
        let nothing = RecordBatch::try_from_iter([("nothing", none.clone())]).unwrap();
        assert_eq!(round_trip(&nothing).len(), 1);
        // The same rows, said to be of a column whose values take bytes.
        let mut encoder = ArrowEncoder::default();
        let message = encoder.message(&nothing).unwrap();
        let numbers = DataType::FixedSizeBinary(1);
        let field = arrow::datatypes::Field::new("numbers", numbers, true);
        let claimed = decode_batch(&Arc::new(Schema::new(vec![field])), &message);
        assert!(matches!(claimed, Err(ArrowMessageError::Inconsistent)));
    }

    #[test]
    fn large_batches_are_cut_and_lose_no_row() {
        let whole = batch(600_000);
        let mut encoder = ArrowEncoder::default();
        let schema = decode_schema(&encoder.schema(&whole.schema())).unwrap();
        let messages = encoder.batch(&whole).unwrap();
        assert!(messages.len() > 2);
        assert!(
            messages
                .iter()
                .all(|m| m.body.len() < TARGET_BYTES + TARGET_BYTES / 4)
        );
        let batches: Vec<_> = messages
            .iter()
            .map(|m| decode_batch(&schema, m).unwrap())
            .collect();
        assert_eq!(
            arrow::compute::concat_batches(&schema, &batches).unwrap(),
            whole
        );
    }

    #[test]
    fn a_slice_sends_its_own_rows_alone() {
        let slice = batch(100_000).slice(50_000, 10);
        let messages = ArrowEncoder::default().batch(&slice).unwrap();
        assert!(messages[0].body.len() < 2_000, "{}", messages[0].body.len());
    }

    #[test]
    fn an_aligned_column_is_not_copied() {
        let batch = batch(1000);
        let mut encoder = ArrowEncoder::default();
        let schema = decode_schema(&encoder.schema(&batch.schema())).unwrap();
        let message = encoder.batch(&batch).unwrap().remove(0);
        let decoded = decode_batch(&schema, &message).unwrap();
        let body = message.body.as_ptr_range();
        for column in decoded.columns() {
            let data = column.to_data();
            assert!(data.buffers().iter().all(|b| body.contains(&b.as_ptr())));
        }
    }

    #[test]
    fn dictionaries_are_not_sent() {
        let column: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let batch = RecordBatch::try_from_iter([("a", Arc::new(column) as ArrayRef)]).unwrap();
        let mut encoder = ArrowEncoder::default();
        let _ = encoder.schema(&batch.schema());
        assert!(encoder.batch(&batch).is_err());
    }

    #[test]
    fn a_message_out_of_place_is_refused() {
        let batch = batch(10);
        let mut encoder = ArrowEncoder::default();
        let first = encoder.schema(&batch.schema());
        let second = encoder.batch(&batch).unwrap().remove(0);
        assert!(matches!(
            decode_schema(&second),
            Err(ArrowMessageError::Unexpected { .. })
        ));
        assert!(matches!(
            decode_batch(&batch.schema(), &first),
            Err(ArrowMessageError::Unexpected { .. })
        ));
    }

    #[test]
    fn no_damage_to_a_message_ends_the_task() {
        // Silences the reports of what `guarded` catches; this test is about what comes out.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let batch = batch(50);
        let mut encoder = ArrowEncoder::default();
        let schema = encoder.schema(&batch.schema());
        let message = encoder.batch(&batch).unwrap().remove(0);
        let mut read = 0;
        for at in 0..message.header.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let damage = |bytes: &Bytes| {
                    let mut bytes = bytes.to_vec();
                    bytes[at] = value;
                    Bytes::from(bytes)
                };
                let damaged = ArrowMessage {
                    header: damage(&message.header),
                    body: message.body.clone(),
                };
                read += usize::from(decode_batch(&batch.schema(), &damaged).is_ok());
                if at < schema.header.len() {
                    let damaged = ArrowMessage {
                        header: damage(&schema.header),
                        body: Bytes::new(),
                    };
                    let _ = decode_schema(&damaged);
                }
            }
        }
        for cut in 0..message.body.len() {
            let short = ArrowMessage {
                header: message.header.clone(),
                body: message.body.slice(..cut),
            };
            assert!(
                decode_batch(&batch.schema(), &short).is_err() || cut + 64 > message.body.len()
            );
        }
        std::panic::set_hook(hook);
        assert!(
            read > 0,
            "the damage hit nothing but padding, so this test tests nothing"
        );
    }

    fn round_trip(batch: &RecordBatch) -> Vec<String> {
        let mut encoder = ArrowEncoder::default();
        let schema = decode_schema(&encoder.schema(&batch.schema())).unwrap();
        assert_eq!(schema, batch.schema());
        let messages = encoder.batch(batch).unwrap();
        messages
            .iter()
            .map(|m| format!("{:?}", decode_batch(&schema, m).unwrap()))
            .collect()
    }
}
