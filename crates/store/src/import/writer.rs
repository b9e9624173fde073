//! The work of an import: one thread reads and parses, one sorts, encrypts and stores.

use super::{ImportError, Phase, Progress};
use crate::manifest::Part;
use crate::part::{FreshKeys, PartError, PartWriter, ROW_GROUP_ROWS, bare};
use crate::rows::{Reject, RowReader, Rows};
use crate::spec::ImportSpec;
use crate::storage::Storage;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{SortColumn, concat, interleave_record_batch, lexsort_to_indices};
use arrow::datatypes::SchemaRef;
use guildhall_keys::KeyName;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Rows of a part.
const PART_ROWS: usize = 16 * ROW_GROUP_ROWS;

/// Memory that the rows of a part may take while they wait to be sorted.
const SORT_BYTES: usize = 512 << 20;

/// Rejects that are listed; the rest are counted.
const LISTED_REJECTS: usize = 10_000;

/// What is done on threads of its own, away from those that answer queries.
pub(super) struct Job {
    pub(super) spec: ImportSpec,
    pub(super) storage: Storage,
    pub(super) version: u32,
    pub(super) keys: FreshKeys,
    pub(super) tell: mpsc::Sender<Progress>,
    pub(super) runtime: Handle,
}

/// What was written, and what was not.
pub(super) struct Written {
    pub(super) parts: Vec<Part>,
    pub(super) wrapped: BTreeMap<KeyName, Vec<u8>>,
    pub(super) rows: u64,
    pub(super) rejects: u64,
    pub(super) listed: Vec<Reject>,
    pub(super) blank: u64,
    pub(super) progress: Progress,
}

impl Job {
    /// Reads and writes everything; if that fails, the parts written so far are removed.
    pub(super) fn run(self) -> Result<Written, ImportError> {
        let schema = self.spec.schema();
        let read = Arc::new(AtomicU64::new(0));
        let reader = RowReader::open(&self.spec, Arc::clone(&schema), Arc::clone(&read))?;
        let of_bytes = self
            .spec
            .source
            .iter()
            .filter_map(|p| p.metadata().ok())
            .map(|m| m.len());
        let mut sink = Sink {
            job: &self,
            schema: bare(&schema),
            sort_by: sort_places(&self.spec, &schema),
            read,
            waiting: vec![],
            waiting_rows: 0,
            waiting_bytes: 0,
            writer: None,
            writer_rows: 0,
            begun: vec![],
            written: Written {
                parts: vec![],
                wrapped: BTreeMap::new(),
                rows: 0,
                rejects: 0,
                listed: vec![],
                blank: 0,
                progress: Progress {
                    phase: Phase::Reading,
                    rows: 0,
                    bytes: 0,
                    of_bytes: of_bytes.sum(),
                },
            },
        };
        let result = std::thread::scope(|scope| {
            let (send, receive) = sync_channel(4);
            scope.spawn(move || read_all(reader, &send));
            sink.take_all(&receive)
        });
        match result {
            Ok(()) => Ok(sink.written),
            Err(error) => {
                sink.undo();
                Err(error)
            }
        }
    }
}

/// Sends all rows; ends early if nobody takes them any more.
fn read_all(mut reader: RowReader<'_>, send: &SyncSender<Result<Rows, ImportError>>) {
    loop {
        let rows = match reader.next() {
            Ok(None) => return,
            Ok(Some(rows)) => Ok(rows),
            Err(error) => Err(error),
        };
        let is_end = rows.is_err();
        if send.send(rows).is_err() || is_end {
            return;
        }
    }
}

/// Takes rows and makes parts of them.
struct Sink<'a> {
    job: &'a Job,
    schema: SchemaRef,
    sort_by: Vec<usize>,
    read: Arc<AtomicU64>,
    /// Rows of the part to be, if they are to be sorted first.
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: usize,
    /// The part that is being written.
    writer: Option<PartWriter>,
    writer_rows: usize,
    /// Where parts were begun, to be undone if the import fails.
    begun: Vec<Path>,
    written: Written,
}

impl Sink<'_> {
    fn take_all(&mut self, rows: &Receiver<Result<Rows, ImportError>>) -> Result<(), ImportError> {
        while let Ok(rows) = rows.recv() {
            let Rows {
                batch,
                rejects,
                blank,
            } = rows?;
            self.written.blank += blank;
            for reject in rejects {
                self.written.rejects += reject.lines;
                if self.written.listed.len() < LISTED_REJECTS {
                    self.written.listed.push(reject);
                }
            }
            self.written.rows += u64::try_from(batch.num_rows()).unwrap_or(0);
            self.take(batch)
                .map_err(|source| ImportError::Part { source })?;
            self.tell();
        }
        self.end_part()
            .map_err(|source| ImportError::Part { source })
    }

    fn take(&mut self, batch: RecordBatch) -> Result<(), PartError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.sort_by.is_empty() {
            self.write(&batch)?;
        } else {
            self.waiting_rows += batch.num_rows();
            self.waiting_bytes += batch.get_array_memory_size();
            self.waiting.push(batch);
        }
        let is_full = self.writer_rows >= PART_ROWS
            || self.waiting_rows >= PART_ROWS
            || self.waiting_bytes >= SORT_BYTES;
        if is_full { self.end_part() } else { Ok(()) }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), PartError> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let Job {
                    runtime,
                    storage,
                    keys,
                    version,
                    ..
                } = self.job;
                let writer = PartWriter::open(runtime, storage, keys, *version, &self.schema)?;
                self.begun.push(writer.location().clone());
                writer
            }
        };
        writer.write(batch)?;
        self.writer_rows += batch.num_rows();
        self.writer = Some(writer);
        Ok(())
    }

    fn end_part(&mut self) -> Result<(), PartError> {
        if !self.waiting.is_empty() {
            self.write_sorted()?;
        }
        if let Some(writer) = self.writer.take() {
            self.written.parts.push(writer.finish()?);
        }
        self.writer_rows = 0;
        Ok(())
    }

    /// Writes what waits, in order, without a second copy of more than a row group.
    fn write_sorted(&mut self) -> Result<(), PartError> {
        let waiting = std::mem::take(&mut self.waiting);
        (self.waiting_rows, self.waiting_bytes) = (0, 0);
        let fault = |e: arrow::error::ArrowError| {
            PartError::from(parquet::errors::ParquetError::ArrowError(e.to_string()))
        };
        let keys = self.sort_by.iter().map(|place| {
            let columns: Vec<&dyn arrow::array::Array> =
                waiting.iter().map(|b| b.column(*place).as_ref()).collect();
            Ok(SortColumn {
                values: concat(&columns)? as ArrayRef,
                options: None,
            })
        });
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(fault)?;
        let order = lexsort_to_indices(&keys, None).map_err(fault)?;
        drop(keys);
        let places = places_of(&waiting);
        let batches: Vec<&RecordBatch> = waiting.iter().collect();
        for rows in order.values().chunks(ROW_GROUP_ROWS / 4) {
            let rows: Vec<(usize, usize)> = rows
                .iter()
                .filter_map(|i| places.get(usize::try_from(*i).ok()?).copied())
                .collect();
            let sorted = interleave_record_batch(&batches, &rows).map_err(fault)?;
            self.write(&sorted)?;
        }
        Ok(())
    }

    fn tell(&mut self) {
        self.written.progress.rows = self.written.rows;
        self.written.progress.bytes = self.read.load(Ordering::Relaxed);
        // Nobody waits for progress: what does not fit is told next time.
        let _ = self.job.tell.try_send(self.written.progress);
    }

    /// Removes what was written.
    fn undo(&mut self) {
        self.writer = None;
        for path in &self.begun {
            self.job.runtime.block_on(self.job.storage.remove(path));
        }
    }
}

/// For each row of all batches in turn: which batch, and which row of it.
fn places_of(batches: &[RecordBatch]) -> Vec<(usize, usize)> {
    let rows = |(i, batch): (usize, &RecordBatch)| (0..batch.num_rows()).map(move |row| (i, row));
    batches.iter().enumerate().flat_map(rows).collect()
}

fn sort_places(spec: &ImportSpec, schema: &SchemaRef) -> Vec<usize> {
    spec.sort_by
        .iter()
        .filter_map(|c| schema.index_of(c.as_str()).ok())
        .collect()
}
