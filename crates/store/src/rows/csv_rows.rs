//! Rows of CSV.

use super::{
    BATCH_ROWS, Bounded, Counted, FileKind, Reject, Rows, batch_of, cell_readers, places, text_of,
};
use crate::cell::CellReader;
use crate::import::ImportError;
use crate::spec::{Encoding, ImportSpec};
use arrow::datatypes::SchemaRef;
use csv::ByteRecord;
use guildhall_model::ColumnName;
use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Ends the last line whether the file does or not, so that lines can be counted by their ends.
const LAST_LINE_END: &[u8] = b"\n";

/// The records of a CSV file, its header read.
pub(crate) struct CsvRecords {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read + Send>>,
    encoding: Encoding,
    header: ByteRecord,
    /// Whether the line counter stands behind a record's own line end once it is read.
    own_end: u64,
    since: Arc<AtomicU64>,
    /// The names of its columns.
    pub(crate) headers: Vec<String>,
}

impl CsvRecords {
    pub(crate) fn open(
        path: &Path,
        kind: FileKind,
        file: Counted,
        delimiter: u8,
        encoding: Encoding,
    ) -> Result<Self, ImportError> {
        let since = Arc::new(AtomicU64::new(0));
        let text = Bounded {
            text: text_of(kind, file).chain(LAST_LINE_END),
            since: Arc::clone(&since),
        };
        let text: Box<dyn Read + Send> = Box::new(text);
        let reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .from_reader(text);
        let mut records = Self {
            path: path.to_owned(),
            reader,
            encoding,
            header: ByteRecord::new(),
            own_end: 1,
            since,
            headers: vec![],
        };
        let mut header = ByteRecord::new();
        if !records.next(&mut header)? {
            return Err(ImportError::NotRows {
                path: path.to_owned(),
                what: "an empty file",
            });
        }
        records.headers = header.iter().map(|h| header_name(encoding, h)).collect();
        let line = records.reader.position().line();
        records.own_end = line.saturating_sub(1 + line_ends(header.as_slice())).min(1);
        records.header = header;
        Ok(records)
    }

    /// Reads the next record; false after the last.
    pub(crate) fn next(&mut self, record: &mut ByteRecord) -> Result<bool, ImportError> {
        self.since.store(0, Ordering::Relaxed);
        self.reader
            .read_byte_record(record)
            .map_err(|source| ImportError::Rows {
                path: self.path.clone(),
                source: Box::new(source),
            })
    }

    /// The line that `record`, the last one read, began on, and how many lines it took.
    ///
    /// The reader counts the empty lines before a record as if they were its own, and of
    /// `\r\n` it leaves the second half to the next.
    fn lines_of(&self, record: &ByteRecord) -> (u64, u64) {
        let bytes = record.as_slice();
        let inner = line_ends(bytes);
        let from = record.position().map_or(0, csv::Position::line);
        let to = self.reader.position().line();
        let start = from + to.saturating_sub(from + inner + self.own_end);
        // An open quote runs to the end of the file, and swallows the line end added there.
        let is_open = bytes.ends_with(b"\n") && to.saturating_sub(start) == inner;
        let lines = if is_open {
            inner.saturating_sub(1)
        } else {
            inner + 1
        };
        (start, lines.max(1))
    }
}

fn line_ends(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.iter().filter(|b| **b == b'\n').count()).unwrap_or(0)
}

/// Turns records into rows of the declared types.
pub(super) struct CsvRows {
    records: CsvRecords,
    source: usize,
    trim: bool,
    names: Vec<ColumnName>,
    places: Vec<Option<usize>>,
    cells: Vec<CellReader>,
}

impl CsvRows {
    pub(super) fn open(
        spec: &ImportSpec,
        source: usize,
        path: &Path,
        kind: FileKind,
        file: Counted,
    ) -> Result<Self, ImportError> {
        let records = CsvRecords::open(path, kind, file, spec.delimiter, spec.encoding)?;
        Ok(Self {
            source,
            trim: spec.trim,
            names: spec.columns.iter().map(|c| c.name.clone()).collect(),
            places: places(spec, &records.headers),
            cells: cell_readers(spec, &[String::new()]),
            records,
        })
    }

    pub(super) fn has_columns(&self) -> Vec<bool> {
        self.places.iter().map(Option::is_some).collect()
    }

    pub(super) fn next(&mut self, schema: &SchemaRef) -> Result<Option<Rows>, ImportError> {
        let mut record = ByteRecord::new();
        let (mut keep, mut rejects, mut blank) = (vec![], vec![], 0);
        let mut is_end = false;
        while keep.len() < BATCH_ROWS {
            if !self.records.next(&mut record)? {
                is_end = true;
                break;
            }
            if record.iter().all(|f| f.trim_ascii().is_empty()) {
                blank += 1;
                continue;
            }
            match self.row(&record) {
                Ok(()) => keep.push(true),
                Err((column, reason)) => {
                    keep.push(false);
                    let (line, lines) = self.records.lines_of(&record);
                    rejects.push(Reject {
                        source: self.source,
                        line,
                        lines,
                        column,
                        reason,
                    });
                }
            }
        }
        if is_end && keep.is_empty() && blank == 0 {
            return Ok(None);
        }
        let columns = self.cells.iter_mut().map(CellReader::finish).collect();
        let batch = batch_of(schema, columns, keep)
            .map_err(|e| super::arrow_fault(&self.records.path, e))?;
        Ok(Some(Rows {
            batch,
            rejects,
            blank,
        }))
    }

    /// Takes one record; every cell reader is one longer afterwards, whatever happened.
    fn row(&mut self, record: &ByteRecord) -> Result<(), (Option<ColumnName>, Cow<'static, str>)> {
        let fault = self.fault_of_form(record);
        if let Some(reason) = fault {
            self.cells.iter_mut().for_each(CellReader::skip);
            return Err((None, reason));
        }
        let mut first_fault = None;
        for (i, cell) in self.cells.iter_mut().enumerate() {
            if first_fault.is_some() {
                cell.skip();
                continue;
            }
            let taken = match self.places[i].and_then(|p| record.get(p)) {
                None => cell.push_null(),
                Some(bytes) => match decode(self.records.encoding, bytes) {
                    Some(text) if self.trim => cell.push(text.trim()),
                    Some(text) => cell.push(&text),
                    None => {
                        cell.skip();
                        Err("not UTF-8; the file may be in windows-1252")
                    }
                },
            };
            if let Err(reason) = taken {
                first_fault = Some((Some(self.names[i].clone()), Cow::Borrowed(reason)));
            }
        }
        first_fault.map_or(Ok(()), Err)
    }

    /// What is wrong with a record before its cells are looked at.
    fn fault_of_form(&self, record: &ByteRecord) -> Option<Cow<'static, str>> {
        let (has, wants) = (record.len(), self.records.headers.len());
        if has < wants {
            return Some(format!("{has} fields, the header has {wants}").into());
        }
        // Spreadsheets put delimiters behind the last column; they hold nothing.
        if record
            .iter()
            .skip(wants)
            .any(|f| !f.trim_ascii().is_empty())
        {
            return Some(format!("{has} fields, the header has {wants}").into());
        }
        if *record == self.records.header {
            return Some("the header again".into());
        }
        None
    }
}

fn header_name(encoding: Encoding, bytes: &[u8]) -> String {
    let text = match decode(encoding, bytes) {
        Some(text) => text,
        None => String::from_utf8_lossy(bytes),
    };
    text.trim_start_matches('\u{feff}').trim().to_owned()
}

/// The text of some bytes, `None` if they are none in that encoding.
pub(crate) fn decode(encoding: Encoding, bytes: &[u8]) -> Option<Cow<'_, str>> {
    match encoding {
        Encoding::Utf8 => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Encoding::Windows1252 => Some(
            encoding_rs::WINDOWS_1252
                .decode_without_bom_handling(bytes)
                .0,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::RowReader;
    use super::*;
    use arrow::array::AsArray;

    #[test]
    fn short_long_and_garbled_rows_are_rejected_by_line() {
        let text =
            "ward,count\nKinson,1\nBoscombe\n\nMuscliff,2,x\nMoordown,three\nKinson,4,,\n,\n";
        let (rows, rejects, blank) = read(text.as_bytes(), "");
        assert_eq!(rows, ["Kinson 1", "Kinson 4"]);
        let lines: Vec<u64> = rejects.iter().map(|r| r.line).collect();
        assert_eq!(lines, [3, 5, 6]);
        assert_eq!(rejects[0].reason, "1 fields, the header has 2");
        assert_eq!(rejects[2].column.as_ref().unwrap().as_str(), "count");
        assert_eq!(rejects[2].reason, "not a whole number");
        assert_eq!(blank, 1);
    }

    #[test]
    fn an_open_quote_rejects_every_line_that_it_swallows() {
        let text = "ward,count\nKinson,1\n\"Boscombe,2\nMuscliff,3\nMoordown,4\n";
        let (rows, rejects, _) = read(text.as_bytes(), "");
        assert_eq!(rows, ["Kinson 1"]);
        assert_eq!(rejects.len(), 1);
        assert_eq!((rejects[0].line, rejects[0].lines), (3, 3));
    }

    #[test]
    fn lines_are_counted_with_or_without_a_last_line_end() {
        for text in [
            "ward,count\nKinson,1\n\n\nBoscombe",
            "ward,count\r\nKinson,1\r\n\r\n\r\nBoscombe\r\n",
        ] {
            let (_, rejects, _) = read(text.as_bytes(), "");
            assert_eq!((rejects[0].line, rejects[0].lines), (5, 1));
        }
    }

    #[test]
    fn a_row_without_end_is_refused_before_it_fills_the_memory() {
        let mut text = b"ward,count\n\"Kinson".to_vec();
        text.resize(80 << 20, b'x');
        let error = try_read(&text, "").unwrap_err();
        assert!(matches!(error, ImportError::Rows { .. }), "{error:?}");
    }

    #[test]
    fn a_byte_order_mark_and_windows_1252_are_read() {
        let (rows, rejects, _) = read(b"\xef\xbb\xbfward,count\nKinson,1\n", "");
        assert_eq!((rows, rejects.len()), (vec!["Kinson 1".to_owned()], 0));
        let cp1252 = b"ward,count\nCaf\xe9 \x96 East,1\n";
        let (rows, _, _) = read(cp1252, "encoding = \"windows-1252\"");
        assert_eq!(rows, ["Café – East 1"]);
        let (rows, rejects, _) = read(cp1252, "");
        assert_eq!((rows.len(), rejects.len()), (0, 1));
    }

    #[test]
    fn headers_match_whatever_their_case_and_spacing() {
        let (rows, _, _) = read(b" WARD ,Count\nKinson,1\n", "");
        assert_eq!(rows, ["Kinson 1"]);
    }

    #[test]
    fn a_file_without_a_declared_column_is_refused_by_name() {
        let error = try_read(b"ward,number\nKinson,1\n", "").unwrap_err();
        assert!(
            matches!(error, ImportError::NoSuchColumn { column, .. } if column.as_str() == "count")
        );
    }

    #[test]
    fn gzip_is_unpacked_whatever_the_file_is_called() {
        let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, b"ward,count\nKinson,1\n").unwrap();
        let (rows, _, _) = read(&gz.finish().unwrap(), "");
        assert_eq!(rows, ["Kinson 1"]);
    }

    #[test]
    fn a_spreadsheet_is_turned_away_with_advice() {
        let error = try_read(b"PK\x03\x04rest", "").unwrap_err();
        assert!(error.to_string().contains("save it as CSV"), "{error}");
    }

    type Read = (Vec<String>, Vec<Reject>, u64);

    fn read(bytes: &[u8], settings: &str) -> Read {
        try_read(bytes, settings).unwrap()
    }

    fn try_read(bytes: &[u8], settings: &str) -> Result<Read, ImportError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rows"), bytes).unwrap();
        let spec = format!(
            "dataset = 'd'\nsource = 'rows'\n{settings}\n[[column]]\nname = 'ward'\ntype = 'text'\nrequired = true\n[[column]]\nname = 'count'\ntype = 'integer'"
        );
        let spec = ImportSpec::parse(&spec, folder.path()).unwrap();
        let mut reader = RowReader::open(&spec, spec.schema(), Arc::default())?;
        let (mut rows, mut rejects, mut blank) = (vec![], vec![], 0);
        while let Some(some) = reader.next()? {
            let wards = some.batch.column(0).as_string::<i32>();
            let counts = some
                .batch
                .column(1)
                .as_primitive::<arrow::datatypes::Int64Type>();
            rows.extend(
                (0..some.batch.num_rows())
                    .map(|i| format!("{} {}", wards.value(i), counts.value(i))),
            );
            rejects.extend(some.rejects);
            blank += some.blank;
        }
        Ok((rows, rejects, blank))
    }
}
