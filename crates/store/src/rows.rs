//! Rows from files: batches of the declared types, and the rows that could not be such.
//!
//! What a file is, is read from its first bytes: gzip or not, Parquet or CSV. Spreadsheets and
//! UTF-16 are turned away with a word on what to do instead.

use crate::cell::CellReader;
use crate::import::ImportError;
use crate::spec::ImportSpec;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use guildhall_model::ColumnName;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod csv_rows;
mod parquet_rows;

pub(crate) use csv_rows::{CsvRecords, decode};

/// How many rows are read at a time.
const BATCH_ROWS: usize = 16_384;

/// A row, or several that ran into one another, that did not become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reject {
    /// The file, as a place in the spec's list.
    pub(crate) source: usize,
    /// The line that the row begins on; in Parquet, the row, from 1.
    pub(crate) line: u64,
    /// How many lines went with it.
    pub(crate) lines: u64,
    /// The first column at fault, if one is.
    pub(crate) column: Option<ColumnName>,
    /// Which rule was broken; never the value.
    pub(crate) reason: Cow<'static, str>,
}

/// Some rows.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) batch: RecordBatch,
    pub(crate) rejects: Vec<Reject>,
    /// Rows without any value, which are passed over.
    pub(crate) blank: u64,
}

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Csv,
    GzipCsv,
    Parquet,
}

/// Reads all files of a spec, one after the other.
pub(crate) struct RowReader<'a> {
    spec: &'a ImportSpec,
    schema: SchemaRef,
    read: Arc<AtomicU64>,
    next_source: usize,
    current: Option<OneFile>,
}

enum OneFile {
    Csv(csv_rows::CsvRows),
    Parquet(parquet_rows::ParquetRows),
}

impl<'a> RowReader<'a> {
    /// Checks the head of every file before a row is read; `read` counts their bytes.
    pub(crate) fn open(
        spec: &'a ImportSpec,
        schema: SchemaRef,
        read: Arc<AtomicU64>,
    ) -> Result<Self, ImportError> {
        let mut found = vec![false; spec.columns.len()];
        for (i, path) in spec.source.iter().enumerate() {
            let has = open_file(spec, i, path, &Arc::default())?.has_columns();
            for ((column, has), found) in spec.columns.iter().zip(has).zip(&mut found) {
                if !has && column.required {
                    return Err(missing(path, &column.name));
                }
                *found |= has;
            }
        }
        match spec.columns.iter().zip(&found).find(|(_, found)| !**found) {
            Some((column, _)) => Err(missing(&spec.source[0], &column.name)),
            None => Ok(Self {
                spec,
                schema,
                read,
                next_source: 0,
                current: None,
            }),
        }
    }

    /// The next rows, `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Rows>, ImportError> {
        loop {
            if self.current.is_none() {
                let Some(path) = self.spec.source.get(self.next_source) else {
                    return Ok(None);
                };
                let file = open_file(self.spec, self.next_source, path, &self.read)?;
                self.current = Some(file);
                self.next_source += 1;
            }
            let rows = match &mut self.current {
                Some(OneFile::Csv(csv)) => csv.next(&self.schema)?,
                Some(OneFile::Parquet(parquet)) => parquet.next(&self.schema)?,
                None => None,
            };
            match rows {
                Some(rows) => return Ok(Some(rows)),
                None => self.current = None,
            }
        }
    }
}

impl OneFile {
    fn has_columns(&self) -> Vec<bool> {
        match self {
            Self::Csv(csv) => csv.has_columns(),
            Self::Parquet(parquet) => parquet.has_columns(),
        }
    }
}

fn open_file(
    spec: &ImportSpec,
    source: usize,
    path: &Path,
    read: &Arc<AtomicU64>,
) -> Result<OneFile, ImportError> {
    let (kind, file) = open(path)?;
    Ok(match kind {
        FileKind::Parquet => OneFile::Parquet(parquet_rows::ParquetRows::open(
            spec, source, path, file, read,
        )?),
        kind => {
            let file = Counted {
                file,
                read: Arc::clone(read),
            };
            OneFile::Csv(csv_rows::CsvRows::open(spec, source, path, kind, file)?)
        }
    })
}

/// Opens a file and looks at its first bytes.
pub(crate) fn open(path: &Path) -> Result<(FileKind, File), ImportError> {
    let unreadable = |source| ImportError::Source {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut head = [0; 4];
    let length = read_up_to(&mut file, &mut head).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let not_rows = |what| {
        Err(ImportError::NotRows {
            path: path.to_owned(),
            what,
        })
    };
    match &head[..length] {
        [0x1f, 0x8b, ..] => Ok((FileKind::GzipCsv, file)),
        b"PAR1" => Ok((FileKind::Parquet, file)),
        b"PARE" => not_rows("a Parquet file that is encrypted already"),
        b"PK\x03\x04" => not_rows("a spreadsheet or a zip; save it as CSV"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => not_rows("UTF-16 text; save it as UTF-8"),
        _ => Ok((FileKind::Csv, file)),
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            n => length += n,
        }
    }
    Ok(length)
}

/// The CSV text of a file, unpacked if it is packed.
pub(crate) fn text_of(kind: FileKind, file: Counted) -> Box<dyn Read + Send> {
    let file = BufReader::with_capacity(1 << 16, file);
    match kind {
        FileKind::GzipCsv => Box::new(flate2::read::MultiGzDecoder::new(file)),
        _ => Box::new(file),
    }
}

/// Text that ends with an error where a row grows without end, as it does behind a quote that
/// is left open in a large file.
pub(crate) struct Bounded<R> {
    pub(crate) text: R,
    /// Bytes since the last row; whoever takes a row sets it to 0.
    pub(crate) since: Arc<AtomicU64>,
}

/// The longest row, with what the readers buffer ahead.
const ROW_BYTES: u64 = 64 << 20;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since.load(Ordering::Relaxed) > ROW_BYTES {
            return Err(io::Error::other(
                "a row of more than 64 MB: is a quote left open?",
            ));
        }
        let n = self.text.read(buffer)?;
        self.since
            .fetch_add(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
        Ok(n)
    }
}

/// A file whose bytes are counted as they are read.
pub(crate) struct Counted {
    pub(crate) file: File,
    pub(crate) read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.read
            .fetch_add(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
        Ok(n)
    }
}

/// For each column of the spec, where in `headers` it is.
///
/// A name that is written just so comes first; then case and spacing do not matter.
fn places(spec: &ImportSpec, headers: &[String]) -> Vec<Option<usize>> {
    let folded: Vec<String> = headers.iter().map(|h| fold(h)).collect();
    spec.columns
        .iter()
        .map(|column| {
            let exact = column
                .sources()
                .find_map(|s| headers.iter().position(|h| h == s));
            exact.or_else(|| {
                column
                    .sources()
                    .find_map(|s| folded.iter().position(|h| *h == fold(s)))
            })
        })
        .collect()
}

fn fold(header: &str) -> String {
    let words: Vec<&str> = header.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// One reader of cells for each column of the spec.
fn cell_readers(spec: &ImportSpec, default_nulls: &[String]) -> Vec<CellReader> {
    let nulls = spec.nulls.as_deref().unwrap_or(default_nulls);
    spec.columns
        .iter()
        .map(|c| CellReader::new(c, nulls))
        .collect()
}

/// A batch of the rows that `keep` marks. The others may have nulls in required columns.
fn batch_of(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    keep: Vec<bool>,
) -> Result<RecordBatch, ArrowError> {
    if keep.iter().all(|k| *k) {
        return RecordBatch::try_new(Arc::clone(schema), columns);
    }
    let keep = BooleanArray::from(keep);
    let columns = columns
        .iter()
        .map(|c| filter(c, &keep))
        .collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

fn arrow_fault(path: &Path, source: ArrowError) -> ImportError {
    ImportError::Rows {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

fn missing(path: &Path, column: &ColumnName) -> ImportError {
    ImportError::NoSuchColumn {
        path: path.to_owned(),
        column: column.clone(),
    }
}

/// A file's name without its folders, for the reject file.
pub(crate) fn short_name(path: &Path) -> String {
    let name = path.file_name().map(PathBuf::from);
    name.unwrap_or_else(|| path.to_owned())
        .display()
        .to_string()
}
