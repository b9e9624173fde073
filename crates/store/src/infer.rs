//! Inference: a first spec for a file, to be read and corrected by a person.
//!
//! It looks at the first rows and at some of all others, and says in comments what it saw: how
//! many values were blank and how many would be rejected. Codes with leading zeros stay text; a date that could
//! be British or American is taken for British unless the column has days beyond 12 in the
//! middle, and then says so.

use crate::import::ImportError;
use crate::rows::{self, Counted, CsvRecords, FileKind, decode};
use crate::spec::{ColumnType, Encoding, ImportSpec, SpecError};
use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use guildhall_model::DatasetName;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sample::Sample;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;
use std::path::Path;

mod sample;

/// How many rows at the start are looked at if nothing is said.
const ROWS: usize = 20_000;

/// Of the rows after those, each so-many-th: files change their ways as they go on.
const EACH: usize = 50;

/// Where looking ends.
const MOST_ROWS: usize = 5_000_000;

/// Why no spec could be inferred.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ImportError),
    /// What was inferred is no spec, for instance because the file has no columns.
    #[error("cannot make an import spec of this file")]
    Spec {
        /// Why.
        #[source]
        source: SpecError,
    },
}

/// What is known of a file before it is looked at.
#[derive(Debug, Clone, Default)]
pub struct InferOptions {
    /// The dataset's name; made of the file's if not said.
    pub dataset: Option<DatasetName>,
    /// The encoding; guessed if not said.
    pub encoding: Option<Encoding>,
    /// The delimiter; guessed from the header if not said.
    pub delimiter: Option<u8>,
    /// How many rows at the start to look at.
    pub rows: Option<usize>,
}

/// A first spec.
#[derive(Debug, Clone)]
pub struct Inferred {
    /// For a person to review.
    pub toml: String,
    /// The same, parsed.
    pub spec: ImportSpec,
}

/// Looks at the first rows of a file and suggests how to import it.
pub fn infer(path: &Path, options: &InferOptions) -> Result<Inferred, InferError> {
    let (kind, file) = rows::open(path)?;
    let limit = options.rows.unwrap_or(ROWS);
    let seen = match kind {
        FileKind::Parquet => parquet(path, file, limit)?,
        kind => csv(path, kind, file, options, limit)?,
    };
    let toml = write_spec(path, options, &seen).unwrap_or_default();
    let folder = Path::new(".");
    let spec = ImportSpec::parse(&toml, folder).map_err(|source| InferError::Spec { source })?;
    Ok(Inferred { toml, spec })
}

/// What was seen of a file.
struct Seen {
    encoding: Encoding,
    delimiter: u8,
    rows: usize,
    ragged: usize,
    columns: Vec<Column>,
}

struct Column {
    header: String,
    kind: Kind,
}

enum Kind {
    /// Typed by the file itself.
    Typed(ColumnType),
    /// To be typed by what was seen.
    Text(Box<Sample>),
    /// Of a type that is not stored.
    LeftOut(String),
}

fn csv(
    path: &Path,
    kind: FileKind,
    file: File,
    options: &InferOptions,
    limit: usize,
) -> Result<Seen, ImportError> {
    drop(file);
    let open = |delimiter, encoding| {
        let (_, file) = rows::open(path)?;
        let file = Counted {
            file,
            read: Default::default(),
        };
        CsvRecords::open(path, kind, file, delimiter, encoding)
    };
    let delimiter = match options.delimiter {
        Some(delimiter) => delimiter,
        None => guess_delimiter(|delimiter| Ok(open(delimiter, Encoding::Utf8)?.headers.len()))?,
    };
    let encoding = match options.encoding {
        Some(encoding) => encoding,
        None => guess_encoding(&mut open(delimiter, Encoding::Utf8)?, limit)?,
    };
    let mut records = open(delimiter, encoding)?;
    let headers = records.headers.clone();
    let mut samples: Vec<Sample> = headers.iter().map(|h| Sample::new(h)).collect();
    let (mut count, mut ragged) = (0, 0);
    let (mut record, mut place) = (csv::ByteRecord::new(), 0);
    while place < MOST_ROWS && records.next(&mut record)? {
        place += 1;
        if !is_looked_at(place - 1, limit) {
            continue;
        }
        count += 1;
        if record.len() < headers.len() {
            ragged += 1;
            continue;
        }
        for (sample, field) in samples.iter_mut().zip(&record) {
            if let Some(text) = decode(encoding, field) {
                sample.see(text.trim());
            }
        }
    }
    let columns = headers
        .into_iter()
        .zip(samples)
        .map(|(header, sample)| Column {
            header,
            kind: Kind::Text(Box::new(sample)),
        });
    Ok(Seen {
        encoding,
        delimiter,
        rows: count,
        ragged,
        columns: columns.collect(),
    })
}

/// The delimiter that cuts the header into the most fields.
fn guess_delimiter(fields: impl Fn(u8) -> Result<usize, ImportError>) -> Result<u8, ImportError> {
    let mut best = (b',', fields(b',')?);
    for delimiter in [b';', b'\t', b'|'] {
        let count = fields(delimiter)?;
        if count > best.1 {
            best = (delimiter, count);
        }
    }
    Ok(best.0)
}

fn guess_encoding(records: &mut CsvRecords, limit: usize) -> Result<Encoding, ImportError> {
    let mut record = csv::ByteRecord::new();
    // Odd bytes are rare: look further for them than for types.
    for _ in 0..limit.saturating_mul(10) {
        if !records.next(&mut record)? {
            break;
        }
        if record
            .iter()
            .any(|field| decode(Encoding::Utf8, field).is_none())
        {
            return Ok(Encoding::Windows1252);
        }
    }
    Ok(Encoding::Utf8)
}

fn parquet(path: &Path, file: File, limit: usize) -> Result<Seen, ImportError> {
    let fault = |source: Box<dyn std::error::Error + Send + Sync>| ImportError::Rows {
        path: path.to_owned(),
        source,
    };
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| fault(e.into()))?;
    let mut columns: Vec<Column> = builder
        .schema()
        .fields()
        .iter()
        .map(|f| Column {
            header: f.name().clone(),
            kind: kind_of(f.name(), f.data_type()),
        })
        .collect();
    let text: Vec<usize> = (0..columns.len())
        .filter(|i| matches!(columns[*i].kind, Kind::Text(_)))
        .collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), text.iter().copied());
    let reader = builder
        .with_projection(mask)
        .with_limit(MOST_ROWS)
        .build()
        .map_err(|e| fault(e.into()))?;
    let (mut rows, mut start) = (0, 0);
    for batch in reader {
        let batch = batch.map_err(|e| fault(e.into()))?;
        let looked_at: Vec<usize> = (0..batch.num_rows())
            .filter(|row| is_looked_at(start + row, limit))
            .collect();
        start += batch.num_rows();
        rows += looked_at.len();
        for (place, array) in text.iter().zip(batch.columns()) {
            if let Kind::Text(sample) = &mut columns[*place].kind {
                let values = cast(array, &DataType::Utf8).map_err(|e| fault(e.into()))?;
                let values = values.as_string::<i32>();
                for row in &looked_at {
                    let is_null = values.is_null(*row);
                    sample.see(if is_null {
                        ""
                    } else {
                        values.value(*row).trim()
                    });
                }
            }
        }
    }
    Ok(Seen {
        encoding: Encoding::Utf8,
        delimiter: b',',
        rows,
        ragged: 0,
        columns,
    })
}

fn is_looked_at(row: usize, limit: usize) -> bool {
    row < limit || row.is_multiple_of(EACH)
}

fn kind_of(header: &str, data_type: &DataType) -> Kind {
    use DataType as D;
    let scale_of = |scale: i8| u8::try_from(scale).ok();
    match data_type {
        D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 => {
            Kind::Typed(ColumnType::Integer)
        }
        D::UInt64 => Kind::Typed(ColumnType::Decimal {
            precision: 20,
            scale: 0,
        }),
        D::Float16 | D::Float32 | D::Float64 => Kind::Typed(ColumnType::Float),
        D::Boolean => Kind::Typed(ColumnType::Boolean),
        D::Date32 | D::Date64 => Kind::Typed(ColumnType::Date),
        D::Timestamp(_, _) => Kind::Typed(ColumnType::Timestamp),
        D::Time32(_) | D::Time64(_) => Kind::Typed(ColumnType::Time),
        D::Decimal32(p, s) | D::Decimal64(p, s) | D::Decimal128(p, s) | D::Decimal256(p, s)
            if *p <= 38 && scale_of(*s).is_some() =>
        {
            Kind::Typed(ColumnType::Decimal {
                precision: *p,
                scale: scale_of(*s).unwrap_or(0),
            })
        }
        D::Utf8 | D::LargeUtf8 | D::Utf8View => Kind::Text(Box::new(Sample::new(header))),
        D::Dictionary(_, values) => kind_of(header, values),
        other => Kind::LeftOut(other.to_string()),
    }
}

fn write_spec(path: &Path, options: &InferOptions, seen: &Seen) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let dataset = match &options.dataset {
        Some(dataset) => dataset.to_string(),
        None => name_of(
            &path.file_name().unwrap_or_default().to_string_lossy(),
            "dataset",
        ),
    };
    writeln!(
        out,
        "# Inferred from {} of its rows; review before use.",
        seen.rows
    )?;
    if seen.ragged > 0 {
        writeln!(
            out,
            "# {} of them have fewer fields than the header and would be rejected.",
            seen.ragged
        )?;
    }
    writeln!(out, "dataset = {}", quoted(&dataset))?;
    writeln!(out, "source = {}", quoted(&path.display().to_string()))?;
    writeln!(out, "encoding = {}", quoted(seen.encoding.as_str()))?;
    if seen.delimiter != b',' {
        writeln!(
            out,
            "delimiter = {}",
            quoted(&char::from(seen.delimiter).to_string())
        )?;
    }
    writeln!(out, "reject_rate = 0.01")?;
    let mut names = BTreeSet::new();
    for (i, column) in seen.columns.iter().enumerate() {
        write_column(&mut out, &mut names, i, column)?;
    }
    Ok(out)
}

fn write_column(
    out: &mut String,
    names: &mut BTreeSet<String>,
    place: usize,
    column: &Column,
) -> std::fmt::Result {
    if let Kind::LeftOut(data_type) = &column.kind {
        return writeln!(
            out,
            "\n# left out: {} is {data_type}, which is not stored",
            quoted(&column.header)
        );
    }
    let mut name = name_of(&column.header, &format!("column_{}", place + 1));
    while !names.insert(name.clone()) {
        name.push_str("_2");
    }
    writeln!(out, "\n[[column]]")?;
    writeln!(out, "name = {}", quoted(&name))?;
    if name != column.header {
        writeln!(out, "source = {}", quoted(&column.header))?;
    }
    match &column.kind {
        Kind::Typed(column_type) => writeln!(out, "type = \"{column_type}\""),
        Kind::LeftOut(_) => Ok(()),
        Kind::Text(sample) => {
            let choice = sample.choice();
            writeln!(out, "type = \"{}\"", choice.column_type)?;
            if !choice.formats.is_empty() {
                let formats: Vec<String> = choice.formats.iter().map(|f| quoted(f)).collect();
                writeln!(out, "formats = [{}]", formats.join(", "))?;
            }
            if !choice.nulls.is_empty() {
                let nulls: Vec<String> = choice.nulls.iter().map(|n| quoted(n)).collect();
                writeln!(out, "nulls = [{}]", nulls.join(", "))?;
            }
            for note in choice.notes {
                writeln!(out, "# {note}")?;
            }
            Ok(())
        }
    }
}

/// A name as SQL likes it: `LastUpdated` and `Last Updated` become `last_updated`.
fn name_of(text: &str, otherwise: &str) -> String {
    let stem = text.split('.').next().unwrap_or(text);
    let mut name = String::new();
    let mut before = ' ';
    for c in stem.trim().chars() {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            name.push('_');
        }
        before = c;
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
    }
    let name = name.trim_end_matches('_');
    match name.chars().next() {
        None => otherwise.to_owned(),
        Some(c) if c.is_ascii_digit() => format!("{}_{name}", &otherwise[..1]),
        Some(_) => name.chars().take(60).collect(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests;
