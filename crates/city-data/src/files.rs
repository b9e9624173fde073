//! Raw files as a department's systems export them.

use crate::CityError;
use arrow::array::{ArrayRef, RecordBatch};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Text rows on their way into a CSV file.
#[derive(Debug)]
pub(crate) struct Csv {
    text: String,
}

impl Csv {
    pub(crate) fn new(header: &[&str]) -> Self {
        let mut csv = Self {
            text: String::new(),
        };
        csv.row(header);
        csv
    }

    pub(crate) fn row<T: AsRef<str>>(&mut self, fields: &[T]) {
        for (i, field) in fields.iter().enumerate() {
            if i > 0 {
                self.text.push(',');
            }
            let field = field.as_ref();
            if field.contains([',', '"', '\n', '\r']) {
                self.text.push('"');
                self.text.push_str(&field.replace('"', "\"\""));
                self.text.push('"');
            } else {
                self.text.push_str(field);
            }
        }
        self.text.push_str("\r\n");
    }

    /// UTF-8 with a byte-order mark, as spreadsheets write it.
    pub(crate) fn save_with_mark(&self, path: &Path) -> Result<(), CityError> {
        save(path, format!("\u{feff}{}", self.text).as_bytes())
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), CityError> {
        save(path, self.text.as_bytes())
    }

    pub(crate) fn save_windows_1252(&self, path: &Path) -> Result<(), CityError> {
        save(path, &encoding_rs::WINDOWS_1252.encode(&self.text).0)
    }

    pub(crate) fn save_gzip(&self, path: &Path) -> Result<(), CityError> {
        let failed = |source| CityError::Write {
            path: path.to_owned(),
            source,
        };
        // No name and no time in the header: the same rows give the same bytes.
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(self.text.as_bytes()).map_err(failed)?;
        save(path, &gzip.finish().map_err(failed)?)
    }
}

pub(crate) fn save(path: &Path, bytes: &[u8]) -> Result<(), CityError> {
    std::fs::write(path, bytes).map_err(|source| CityError::Write {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn save_parquet<const N: usize>(
    path: &Path,
    columns: [(&str, ArrayRef); N],
) -> Result<(), CityError> {
    let failed = |source| CityError::Parquet {
        path: path.to_owned(),
        source,
    };
    let batch = RecordBatch::try_from_iter(columns).map_err(|e| failed(e.into()))?;
    let file = std::fs::File::create(path).map_err(|source| CityError::Write {
        path: path.to_owned(),
        source,
    })?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).map_err(failed)?;
    writer.write(&batch).map_err(failed)?;
    writer.close().map_err(failed)?;
    Ok(())
}

/// A column for [`save_parquet`].
pub(crate) fn column<A: arrow::array::Array + 'static>(array: A) -> ArrayRef {
    Arc::new(array)
}

/// `1,204.50` from pence.
pub(crate) fn money(pence: i64) -> String {
    let sign = if pence < 0 { "-" } else { "" };
    let pence = pence.unsigned_abs();
    format!("{sign}{}.{:02}", thousands(pence / 100), pence % 100)
}

/// `12,345`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The text of a value that may be missing, and what stands where it is.
pub(crate) fn or_blank<T: ToString>(value: Option<T>, blank: &str) -> String {
    value.map_or_else(|| blank.to_owned(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_reads_as_a_finance_office_writes_it() {
        assert_eq!(money(120_450), "1,204.50");
        assert_eq!(money(-5), "-0.05");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }

    #[test]
    fn fields_with_commas_are_quoted() {
        let mut csv = Csv::new(&["a"]);
        csv.row(&["1,5", "x \"y\""]);
        assert_eq!(csv.text, "a\r\n\"1,5\",\"x \"\"y\"\"\"\r\n");
    }
}
