//! What an import is told: which files, which columns, of which types.
//!
//! ```toml
//! dataset = "spending"
//! source = ["2017-03.csv.gz", "2017-04.csv.gz"]   # beside this file; CSV, gzip or not, or Parquet
//! encoding = "windows-1252"                       # or "utf-8"; a byte-order mark is skipped
//! reject_rate = 0.01                              # above it the import fails; 0 if not said
//! sort_by = ["paid"]
//!
//! [[column]]
//! name = "paid"
//! source = ["Payment Date", "Date Paid"]          # whichever of these a file has
//! type = "date"                                   # text integer float decimal(p,s) boolean date timestamp time
//! formats = ["%d/%m/%Y"]                          # the first that fits a value counts
//! required = true                                 # a blank rejects the row
//! ```

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use guildhall_model::{ColumnName, DatasetName, PeriodName};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// The metadata key under which a manifest's schema keeps a column's doc comment.
pub(crate) const DOC: &str = "doc";

/// Why an import spec is not one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, or with a key that means nothing here.
    #[error("not an import spec")]
    NotASpec {
        /// Where, and what was expected.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A setting that cannot be.
    #[error("`{setting}` {rule}")]
    Setting {
        /// The setting.
        setting: String,
        /// What must hold of it.
        rule: String,
    },
}

/// What an import is told.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportSpec {
    /// The dataset to make.
    pub dataset: DatasetName,
    /// The files to read, in order.
    pub source: Vec<PathBuf>,
    /// What the table is.
    pub doc: String,
    /// How CSV bytes become text.
    pub encoding: Encoding,
    /// What stands between fields.
    pub delimiter: u8,
    /// The share of rows that may be rejected.
    pub reject_rate: f64,
    /// The order of rows within a part.
    pub sort_by: Vec<ColumnName>,
    /// Texts that stand for no value; for CSV, the blank unless said otherwise.
    pub nulls: Option<Vec<String>>,
    /// Whether space around CSV text is dropped.
    pub trim: bool,
    /// The key period.
    pub period: PeriodName,
    /// The columns to make, in order.
    pub columns: Vec<ColumnSpec>,
}

/// One column to make.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSpec {
    /// Its name in the dataset.
    pub name: ColumnName,
    /// What the files call it; its name if empty.
    pub source: Vec<String>,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether a row without a value is rejected.
    pub required: bool,
    /// The forms that its dates or times take, tried in order; the usual ones if empty.
    pub formats: Vec<String>,
    /// Further texts that stand for no value in this column.
    pub nulls: Vec<String>,
    /// What it holds.
    pub doc: String,
}

/// How CSV bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Encoding {
    /// UTF-8; a row with other bytes is rejected.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// Windows-1252, as older spreadsheets save it.
    #[serde(rename = "windows-1252")]
    Windows1252,
}

impl Encoding {
    /// The word in a spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Windows1252 => "windows-1252",
        }
    }
}

/// The types that a dataset's columns have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// 64-bit whole numbers.
    Integer,
    /// 64-bit binary numbers.
    Float,
    /// Exact decimals.
    Decimal {
        /// All digits, 38 at most.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// True or false.
    Boolean,
    /// Days.
    Date,
    /// Local date and time, to the microsecond.
    Timestamp,
    /// Time of day, to the microsecond.
    Time,
}

impl ColumnType {
    /// Its Arrow type.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Decimal { precision, scale } => {
                DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
            }
            Self::Boolean => DataType::Boolean,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
        }
    }

    fn has_formats(self) -> bool {
        matches!(self, Self::Date | Self::Timestamp | Self::Time)
    }
}

impl FromStr for ColumnType {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        Ok(match s {
            "text" => Self::Text,
            "integer" => Self::Integer,
            "float" => Self::Float,
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            "timestamp" => Self::Timestamp,
            "time" => Self::Time,
            _ => {
                let inner = s
                    .strip_prefix("decimal(")
                    .and_then(|r| r.strip_suffix(')'))
                    .ok_or(())?;
                let (precision, scale) = inner.split_once(',').ok_or(())?;
                let precision: u8 = precision.trim().parse().map_err(|_| ())?;
                let scale: u8 = scale.trim().parse().map_err(|_| ())?;
                if precision == 0 || precision > 38 || scale > precision {
                    return Err(());
                }
                Self::Decimal { precision, scale }
            }
        })
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Integer => f.write_str("integer"),
            Self::Float => f.write_str("float"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Boolean => f.write_str("boolean"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Time => f.write_str("time"),
        }
    }
}

impl ImportSpec {
    /// The spec in a file; relative sources lie beside it.
    pub fn load(path: &Path) -> Result<Self, SpecError> {
        let text = std::fs::read_to_string(path).map_err(|source| SpecError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(".")))
    }

    /// The spec in a text; relative sources lie in `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, SpecError> {
        let written: Written = toml::from_str(text).map_err(|source| SpecError::NotASpec {
            source: Box::new(source),
        })?;
        written.into_spec(folder)
    }

    /// The dataset's schema, with doc comments as metadata.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self.columns.iter().map(ColumnSpec::field).collect();
        Arc::new(Schema::new_with_metadata(fields, doc_metadata(&self.doc)))
    }

    fn check(&self) -> Result<(), SpecError> {
        if self.source.is_empty() {
            return Err(setting("source", "names no file"));
        }
        if self.columns.is_empty() {
            return Err(setting("column", "is not there; a dataset has columns"));
        }
        if !(0.0..=1.0).contains(&self.reject_rate) {
            return Err(setting("reject_rate", "is a share from 0 to 1"));
        }
        let mut names = BTreeSet::new();
        for column in &self.columns {
            if !names.insert(&column.name) {
                return Err(setting(&column.setting(), "is there twice"));
            }
            column.check()?;
        }
        match self.sort_by.iter().find(|c| !names.contains(c)) {
            Some(column) => Err(setting(
                "sort_by",
                &format!("names `{column}`, which is no column"),
            )),
            None => Ok(()),
        }
    }
}

impl ColumnSpec {
    /// The names that files may have for it.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &str> {
        let own = self.source.is_empty().then_some(self.name.as_str());
        self.source.iter().map(String::as_str).chain(own)
    }

    fn field(&self) -> Field {
        Field::new(
            self.name.as_str(),
            self.column_type.data_type(),
            !self.required,
        )
        .with_metadata(doc_metadata(&self.doc))
    }

    fn setting(&self) -> String {
        format!("column.{}", self.name)
    }

    fn check(&self) -> Result<(), SpecError> {
        if !self.formats.is_empty() && !self.column_type.has_formats() {
            return Err(setting(
                &self.setting(),
                "has `formats`, which only dates and times have",
            ));
        }
        for format in &self.formats {
            let has_error = chrono::format::StrftimeItems::new(format)
                .any(|item| item == chrono::format::Item::Error);
            if has_error {
                let rule = format!("has the format `{format}`, which is not one (see strftime)");
                return Err(setting(&self.setting(), &rule));
            }
        }
        Ok(())
    }
}

fn doc_metadata(doc: &str) -> HashMap<String, String> {
    let doc = (!doc.is_empty()).then(|| (DOC.to_owned(), doc.to_owned()));
    doc.into_iter().collect()
}

fn setting(setting: &str, rule: &str) -> SpecError {
    SpecError::Setting {
        setting: setting.to_owned(),
        rule: rule.to_owned(),
    }
}

/// A spec as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    dataset: DatasetName,
    source: OneOrMany,
    #[serde(default)]
    doc: String,
    #[serde(default)]
    encoding: Encoding,
    delimiter: Option<String>,
    #[serde(default)]
    reject_rate: f64,
    #[serde(default)]
    sort_by: Vec<ColumnName>,
    nulls: Option<Vec<String>>,
    trim: Option<bool>,
    period: Option<PeriodName>,
    #[serde(default)]
    column: Vec<WrittenColumn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenColumn {
    name: ColumnName,
    source: Option<OneOrMany>,
    #[serde(rename = "type")]
    column_type: String,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    formats: Vec<String>,
    #[serde(default)]
    nulls: Vec<String>,
    #[serde(default)]
    doc: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(s) => vec![s],
            Self::Many(v) => v,
        }
    }
}

impl Written {
    fn into_spec(self, folder: &Path) -> Result<ImportSpec, SpecError> {
        let delimiter = match self.delimiter.as_deref().map(str::as_bytes) {
            None => b',',
            Some([byte]) if byte.is_ascii() => *byte,
            Some(_) => return Err(setting("delimiter", "is one ASCII character")),
        };
        let all = PeriodName::from_str("all").map_err(|e| setting("period", &e.to_string()))?;
        let spec = ImportSpec {
            dataset: self.dataset,
            source: self
                .source
                .into_vec()
                .iter()
                .map(|s| folder.join(s))
                .collect(),
            doc: self.doc,
            encoding: self.encoding,
            delimiter,
            reject_rate: self.reject_rate,
            sort_by: self.sort_by,
            nulls: self.nulls,
            trim: self.trim.unwrap_or(true),
            period: self.period.unwrap_or(all),
            columns: self
                .column
                .into_iter()
                .map(WrittenColumn::into_spec)
                .collect::<Result<_, _>>()?,
        };
        spec.check()?;
        Ok(spec)
    }
}

impl WrittenColumn {
    fn into_spec(self) -> Result<ColumnSpec, SpecError> {
        let column_type = self.column_type.parse().map_err(|()| {
            let rule = format!(
                "has the type `{}`, which is none of text, integer, float, decimal(p,s), boolean, date, timestamp, time",
                self.column_type
            );
            setting(&format!("column.{}", self.name), &rule)
        })?;
        Ok(ColumnSpec {
            name: self.name,
            source: self.source.map(OneOrMany::into_vec).unwrap_or_default(),
            column_type,
            required: self.required,
            formats: self.formats,
            nulls: self.nulls,
            doc: self.doc,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"
        dataset = "spending"
        source = "march.csv"
        reject_rate = 0.01
        sort_by = ["paid"]
        [[column]]
        name = "paid"
        source = ["Payment Date", "Date"]
        type = "date"
        formats = ["%d/%m/%Y"]
        [[column]]
        name = "amount"
        type = "decimal(12,2)"
        required = true
    "#;

    #[test]
    fn sources_lie_beside_the_spec() {
        let spec = ImportSpec::parse(SPEC, Path::new("/city/imports")).unwrap();
        assert_eq!(spec.source, [PathBuf::from("/city/imports/march.csv")]);
        assert_eq!(spec.period.as_str(), "all");
        assert_eq!(spec.columns[1].sources().collect::<Vec<_>>(), ["amount"]);
        assert_eq!(
            *spec.schema().field(1).data_type(),
            DataType::Decimal128(12, 2)
        );
    }

    #[test]
    fn a_spec_that_cannot_be_is_refused_by_setting() {
        for (from, to, says) in [
            ("decimal(12,2)", "decimal(2,12)", "column.amount"),
            ("decimal(12,2)", "money", "column.amount"),
            ("0.01", "1.5", "reject_rate"),
            ("sort_by = [\"paid\"]", "sort_by = [\"nobody\"]", "sort_by"),
            ("%d/%m/%Y", "%Q", "column.paid"),
            ("\"amount\"", "\"paid\"", "column.paid"),
            ("source = \"march.csv\"", "source = []", "source"),
        ] {
            let text = SPEC.replace(from, to);
            assert_ne!(text, SPEC, "{from}");
            let error = ImportSpec::parse(&text, Path::new(".")).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = SPEC.replace("required", "requierd");
        let error = ImportSpec::parse(&text, Path::new(".")).unwrap_err();
        assert!(matches!(error, SpecError::NotASpec { .. }), "{error:?}");
    }
}
