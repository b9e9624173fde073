//! Rows of Parquet: text columns are read like CSV cells, typed ones are cast.

use super::{BATCH_ROWS, Reject, Rows, batch_of, cell_readers, places};
use crate::cell::{BLANK, CellReader};
use crate::import::ImportError;
use crate::spec::{ColumnType, ImportSpec};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use guildhall_model::ColumnName;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Turns the batches of a Parquet file into rows of the declared types.
pub(super) struct ParquetRows {
    path: PathBuf,
    source: usize,
    reader: ParquetRecordBatchReader,
    columns: Vec<(ColumnName, ColumnType, bool)>,
    places: Vec<Option<usize>>,
    cells: Vec<CellReader>,
    /// Whether text is taken as it stands: nothing was said of nulls.
    is_plain_text: bool,
    row: u64,
    rows: u64,
    bytes: u64,
    read: Arc<AtomicU64>,
}

impl ParquetRows {
    pub(super) fn open(
        spec: &ImportSpec,
        source: usize,
        path: &Path,
        file: File,
        read: &Arc<AtomicU64>,
    ) -> Result<Self, ImportError> {
        let fault = |e| super::arrow_fault(path, arrow::error::ArrowError::from(e));
        let bytes = file.metadata().map(|m| m.len()).unwrap_or(0);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(fault)?;
        let rows = builder.metadata().file_metadata().num_rows();
        let headers: Vec<String> = builder
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        Ok(Self {
            path: path.to_owned(),
            source,
            reader: builder.with_batch_size(BATCH_ROWS).build().map_err(fault)?,
            columns: spec
                .columns
                .iter()
                .map(|c| (c.name.clone(), c.column_type, c.required))
                .collect(),
            places: places(spec, &headers),
            cells: cell_readers(spec, &[]),
            is_plain_text: spec.nulls.is_none() && spec.columns.iter().all(|c| c.nulls.is_empty()),
            row: 0,
            rows: u64::try_from(rows).unwrap_or(0),
            bytes,
            read: Arc::clone(read),
        })
    }

    pub(super) fn has_columns(&self) -> Vec<bool> {
        self.places.iter().map(Option::is_some).collect()
    }

    pub(super) fn next(&mut self, schema: &SchemaRef) -> Result<Option<Rows>, ImportError> {
        let Some(batch) = self.reader.next() else {
            return Ok(None);
        };
        let batch = batch.map_err(|e| super::arrow_fault(&self.path, e))?;
        let mut faults: Vec<Option<(usize, &'static str)>> = vec![None; batch.num_rows()];
        let mut columns = Vec::with_capacity(self.columns.len());
        for i in 0..self.columns.len() {
            columns.push(self.column(i, &batch, &mut faults)?);
        }
        let rejects = faults
            .iter()
            .zip(self.row + 1..)
            .filter_map(|(fault, line)| {
                let (column, reason) = (*fault)?;
                Some(Reject {
                    source: self.source,
                    line,
                    lines: 1,
                    column: Some(self.columns[column].0.clone()),
                    reason: reason.into(),
                })
            })
            .collect();
        self.count(batch.num_rows());
        let keep = faults.iter().map(Option::is_none).collect();
        let batch =
            batch_of(schema, columns, keep).map_err(|e| super::arrow_fault(&self.path, e))?;
        Ok(Some(Rows {
            batch,
            rejects,
            blank: 0,
        }))
    }

    fn count(&mut self, rows: usize) {
        let rows = u64::try_from(rows).unwrap_or(0);
        self.row += rows;
        if self.rows > 0 {
            let share = u128::from(self.bytes) * u128::from(rows) / u128::from(self.rows);
            self.read
                .fetch_add(u64::try_from(share).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// One column in its declared type; the first fault of each row is kept in `faults`.
    fn column(
        &mut self,
        i: usize,
        batch: &RecordBatch,
        faults: &mut [Option<(usize, &'static str)>],
    ) -> Result<ArrayRef, ImportError> {
        let (_, column_type, required) = self.columns[i];
        let data_type = column_type.data_type();
        let array = match self.places[i] {
            None => new_null_array(&data_type, batch.num_rows()),
            Some(place) => Arc::clone(batch.column(place)),
        };
        let fault = |e| super::arrow_fault(&self.path, e);
        let is_text = is_text(array.data_type());
        if is_text && (column_type != ColumnType::Text || !self.is_plain_text) {
            let text = cast(&array, &DataType::Utf8).map_err(fault)?;
            let cells = &mut self.cells[i];
            for (value, slot) in text.as_string::<i32>().iter().zip(faults) {
                let taken = match value {
                    None => cells.push_null(),
                    Some(value) if column_type == ColumnType::Text => cells.push(value),
                    Some(value) => cells.push(value.trim()),
                };
                if let Err(reason) = taken {
                    slot.get_or_insert((i, reason));
                }
            }
            return Ok(cells.finish());
        }
        let options = CastOptions {
            safe: true,
            ..CastOptions::default()
        };
        let typed = cast_with_options(&array, &data_type, &options).map_err(fault)?;
        let is_cut = cuts_fractions(&array, column_type).map_err(fault)?;
        for (row, slot) in faults.iter_mut().enumerate() {
            let reason = match (array.is_null(row), typed.is_null(row)) {
                (true, _) if required => BLANK,
                (false, true) => "a value that the declared type cannot hold",
                (false, false) if is_cut.get(row) == Some(&true) => "not a whole number",
                _ => continue,
            };
            slot.get_or_insert((i, reason));
        }
        Ok(typed)
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// For binary numbers that become integers: which rows would lose their fraction.
fn cuts_fractions(
    array: &ArrayRef,
    column_type: ColumnType,
) -> Result<Vec<bool>, arrow::error::ArrowError> {
    if column_type != ColumnType::Integer || !array.data_type().is_floating() {
        return Ok(vec![]);
    }
    let floats = cast(array, &DataType::Float64)?;
    let floats = floats.as_primitive::<Float64Type>();
    Ok(floats
        .iter()
        .map(|v| v.is_some_and(|v| v.fract() != 0.0))
        .collect())
}
