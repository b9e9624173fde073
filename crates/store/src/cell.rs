//! One cell: a text in, a typed value or a reason out.
//!
//! A reason names the rule that was broken and never the value, which may be personal.

use crate::numbers::{self, DecimalFault, Overflow};
use crate::spec::{ColumnSpec, ColumnType};
use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder,
    StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use std::sync::Arc;

/// The forms of dates that need no saying. UK order; nothing American among them.
pub(crate) const DATE_FORMATS: [&str; 10] = [
    "%d/%m/%Y", "%Y-%m-%d", "%d/%m/%y", "%d-%m-%Y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y",
    "%d.%m.%Y", "%Y%m%d",
];

/// The forms of date and time that need no saying.
pub(crate) const TIMESTAMP_FORMATS: [&str; 9] = [
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%d-%b-%y %H:%M",
    "%d/%m/%y %H:%M",
];

/// The forms of times of day that need no saying.
pub(crate) const TIME_FORMATS: [&str; 4] = ["%H:%M", "%H:%M:%S%.f", "%H%M", "%I:%M %p"];

/// Why a cell has no value.
pub(crate) type Reason = &'static str;

pub(crate) const BLANK: Reason = "blank, but the column is required";

/// Reads the cells of one column and keeps their values.
pub(crate) struct CellReader {
    column_type: ColumnType,
    required: bool,
    formats: Vec<Format>,
    nulls: Vec<String>,
    values: Values,
}

enum Values {
    Text(StringBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Decimal(Decimal128Builder),
    Boolean(BooleanBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Time(Time64MicrosecondBuilder),
}

enum Value<'a> {
    Text(&'a str),
    Integer(i64),
    Float(f64),
    Decimal(i128),
    Boolean(bool),
    Date(i32),
    /// Microseconds, of a timestamp or a time.
    Micros(i64),
}

impl CellReader {
    pub(crate) fn new(column: &ColumnSpec, nulls: &[String]) -> Self {
        let usual: &[&str] = match column.column_type {
            ColumnType::Date => &DATE_FORMATS,
            ColumnType::Timestamp => &TIMESTAMP_FORMATS,
            ColumnType::Time => &TIME_FORMATS,
            _ => &[],
        };
        let formats = if column.formats.is_empty() {
            usual.iter().map(|f| Format::new(f)).collect()
        } else {
            column.formats.iter().map(|f| Format::new(f)).collect()
        };
        Self {
            column_type: column.column_type,
            required: column.required,
            formats,
            nulls: nulls.iter().chain(&column.nulls).cloned().collect(),
            values: Values::new(column.column_type),
        }
    }

    /// Takes one cell; on a fault the value is null, so that columns stay of one length.
    pub(crate) fn push(&mut self, text: &str) -> Result<(), Reason> {
        let is_blank = text.is_empty() && self.column_type != ColumnType::Text;
        if is_blank || self.nulls.iter().any(|n| n == text) {
            return self.push_null();
        }
        match self.parse(text) {
            Ok(value) => {
                self.values.push(value);
                Ok(())
            }
            Err(reason) => {
                self.values.push_null();
                Err(reason)
            }
        }
    }

    /// Takes a cell without a value.
    pub(crate) fn push_null(&mut self) -> Result<(), Reason> {
        self.values.push_null();
        if self.required { Err(BLANK) } else { Ok(()) }
    }

    /// Takes the place of a cell in a row that is rejected anyway.
    pub(crate) fn skip(&mut self) {
        self.values.push_null();
    }

    /// The values taken since the last time.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        self.values.finish(self.column_type)
    }

    fn parse<'a>(&self, text: &'a str) -> Result<Value<'a>, Reason> {
        Ok(match self.column_type {
            ColumnType::Text => Value::Text(text),
            ColumnType::Integer => match numbers::integer(text) {
                Some(Ok(n)) => Value::Integer(n),
                Some(Err(Overflow)) => return Err("a whole number beyond 64 bits"),
                None => return Err("not a whole number"),
            },
            ColumnType::Float => Value::Float(numbers::float(text).ok_or("not a number")?),
            ColumnType::Decimal { precision, scale } => {
                let fault = |fault| match fault {
                    DecimalFault::NotANumber => "not a number",
                    DecimalFault::TooManyPlaces => {
                        "a number with more decimal places than declared"
                    }
                    DecimalFault::TooManyDigits => "a number with more digits than declared",
                };
                Value::Decimal(numbers::decimal(text, precision, scale).map_err(fault)?)
            }
            ColumnType::Boolean => Value::Boolean(boolean(text).ok_or("neither true nor false")?),
            ColumnType::Date => {
                let date = self.date(text).ok_or("not a date in a declared form")?;
                Value::Date(days(date).ok_or("a date out of range")?)
            }
            ColumnType::Timestamp => {
                let at = self
                    .timestamp(text)
                    .ok_or("not a date and time in a declared form")?;
                Value::Micros(at.and_utc().timestamp_micros())
            }
            ColumnType::Time => {
                let time = self.formats.iter().find_map(|f| f.time(text));
                Value::Micros(micros(time.ok_or("not a time of day in a declared form")?))
            }
        })
    }

    /// A date, or a date with a midnight behind it.
    fn date(&self, text: &str) -> Option<NaiveDate> {
        self.formats.iter().find_map(|f| f.date(text)).or_else(|| {
            let (date, time) = text.split_once([' ', 'T'])?;
            let is_midnight = time.bytes().all(|b| matches!(b, b'0' | b':' | b'.'));
            is_midnight.then(|| self.formats.iter().find_map(|f| f.date(date)))?
        })
    }

    /// A date and time; a date alone is its midnight.
    fn timestamp(&self, text: &str) -> Option<NaiveDateTime> {
        self.formats
            .iter()
            .find_map(|f| f.timestamp(text))
            .or_else(|| {
                let dates = ["%Y-%m-%d", "%d/%m/%Y"];
                let date = dates.iter().find_map(|f| Format::new(f).date(text))?;
                date.and_hms_opt(0, 0, 0)
            })
    }
}

impl Values {
    fn new(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Text => Self::Text(StringBuilder::new()),
            ColumnType::Integer => Self::Integer(Int64Builder::new()),
            ColumnType::Float => Self::Float(Float64Builder::new()),
            ColumnType::Decimal { .. } => {
                Self::Decimal(Decimal128Builder::new().with_data_type(column_type.data_type()))
            }
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new()),
            ColumnType::Time => Self::Time(Time64MicrosecondBuilder::new()),
        }
    }

    fn push(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Text(b), Value::Text(v)) => b.append_value(v),
            (Self::Integer(b), Value::Integer(v)) => b.append_value(v),
            (Self::Float(b), Value::Float(v)) => b.append_value(v),
            (Self::Decimal(b), Value::Decimal(v)) => b.append_value(v),
            (Self::Boolean(b), Value::Boolean(v)) => b.append_value(v),
            (Self::Date(b), Value::Date(v)) => b.append_value(v),
            (Self::Timestamp(b), Value::Micros(v)) => b.append_value(v),
            (Self::Time(b), Value::Micros(v)) => b.append_value(v),
            // `parse` makes values of the column's own type only.
            (values, _) => values.push_null(),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Text(b) => b.append_null(),
            Self::Integer(b) => b.append_null(),
            Self::Float(b) => b.append_null(),
            Self::Decimal(b) => b.append_null(),
            Self::Boolean(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Timestamp(b) => b.append_null(),
            Self::Time(b) => b.append_null(),
        }
    }

    fn finish(&mut self, column_type: ColumnType) -> ArrayRef {
        match self {
            Self::Text(b) => Arc::new(b.finish()),
            Self::Integer(b) => Arc::new(b.finish()),
            Self::Float(b) => Arc::new(b.finish()),
            Self::Decimal(b) => Arc::new(b.finish().with_data_type(column_type.data_type())),
            Self::Boolean(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Timestamp(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
        }
    }
}

/// One form of dates or times, taken apart once.
pub(crate) struct Format {
    items: Vec<Item<'static>>,
    /// The form names a month and no day, as `Feb-25` does: the first of the month is meant.
    is_monthly: bool,
    /// All digits, this many: spreadsheets drop the zeros in front of `0055`.
    digits: Option<usize>,
}

impl Format {
    pub(crate) fn new(format: &str) -> Self {
        let has = |specs: &[&str]| specs.iter().any(|s| format.contains(s));
        let is_monthly = has(&["%b", "%B", "%m", "%h"]) && !has(&["%d", "%e", "%j", "%D", "%F"]);
        let whole = if is_monthly {
            format!("{format} %d")
        } else {
            format.to_owned()
        };
        Self {
            items: StrftimeItems::new(&whole)
                .parse_to_owned()
                .unwrap_or_default(),
            is_monthly,
            digits: match format {
                "%H%M" => Some(4),
                "%H%M%S" => Some(6),
                _ => None,
            },
        }
    }

    fn parsed(&self, text: &str) -> Option<Parsed> {
        let mut parsed = Parsed::new();
        if self.items.is_empty() {
            return None;
        }
        if self.is_monthly {
            let text = format!("{text} 1");
            chrono::format::parse(&mut parsed, &text, self.items.iter()).ok()?;
        } else {
            chrono::format::parse(&mut parsed, text, self.items.iter()).ok()?;
        }
        Some(parsed)
    }

    pub(crate) fn date(&self, text: &str) -> Option<NaiveDate> {
        self.parsed(text)?.to_naive_date().ok().filter(is_plausible)
    }

    pub(crate) fn timestamp(&self, text: &str) -> Option<NaiveDateTime> {
        let parsed = self.parsed(text)?;
        let at = match parsed.offset() {
            Some(_) => parsed.to_datetime().ok()?.naive_utc(),
            None => parsed.to_naive_datetime_with_offset(0).ok()?,
        };
        Some(at).filter(|at| is_plausible(&at.date()))
    }

    pub(crate) fn time(&self, text: &str) -> Option<NaiveTime> {
        let is_short = |digits: &usize| {
            text.len() < *digits && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
        };
        let parsed = match self.digits.filter(is_short) {
            Some(digits) => self.parsed(&format!("{text:0>digits$}"))?,
            None => self.parsed(text)?,
        };
        parsed.to_naive_time().ok()
    }
}

/// `%Y` takes `16` for the year 16; nobody here means that.
fn is_plausible(date: &NaiveDate) -> bool {
    (1000..=9999).contains(&date.year())
}

fn days(date: NaiveDate) -> Option<i32> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    i32::try_from(date.signed_duration_since(epoch).num_days()).ok()
}

fn micros(time: NaiveTime) -> i64 {
    i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1000)
}

pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::util::display::array_value_to_string;

    #[test]
    fn uk_dates_read_in_their_usual_forms() {
        for text in [
            "04/10/2016",
            "4/10/2016",
            "2016-10-04",
            "04-Oct-16",
            "04/10/16",
            "4 October 2016",
            "04/10/2016 00:00",
        ] {
            assert_eq!(
                read(ColumnType::Date, &[], text),
                Ok("2016-10-04".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn an_american_date_is_read_only_where_it_was_declared() {
        assert!(read(ColumnType::Date, &[], "3/17/2017").is_err());
        assert_eq!(
            read(ColumnType::Date, &["%m/%d/%Y"], "3/17/2017"),
            Ok("2017-03-17".to_owned())
        );
    }

    #[test]
    fn a_month_stands_for_its_first_day() {
        assert_eq!(
            read(ColumnType::Date, &["%b-%y"], "Feb-25"),
            Ok("2025-02-01".to_owned())
        );
    }

    #[test]
    fn a_date_with_a_time_of_day_is_no_date() {
        assert!(read(ColumnType::Date, &[], "04/10/2016 09:30").is_err());
    }

    #[test]
    fn times_that_lost_their_zeros_read() {
        for (text, want) in [
            ("55", "00:55:00"),
            ("905", "09:05:00"),
            ("1730", "17:30:00"),
            ("5", "00:05:00"),
        ] {
            assert_eq!(
                read(ColumnType::Time, &["%H%M"], text),
                Ok(want.to_owned()),
                "{text}"
            );
        }
        assert!(read(ColumnType::Time, &["%H%M"], "2460").is_err());
    }

    #[test]
    fn timestamps_read_with_and_without_seconds_and_offset() {
        for text in [
            "2016-10-04 07:59:42",
            "04/10/2016 07:59:42",
            "2016-10-04T07:59:42Z",
            "2016-10-04T08:59:42+01:00",
        ] {
            let want = Ok("2016-10-04T07:59:42".to_owned());
            assert_eq!(read(ColumnType::Timestamp, &[], text), want, "{text}");
        }
    }

    #[test]
    fn a_reason_never_holds_the_value() {
        let secret = "SW1A 2AA";
        for column_type in [
            ColumnType::Integer,
            ColumnType::Float,
            ColumnType::Decimal {
                precision: 9,
                scale: 2,
            },
            ColumnType::Boolean,
            ColumnType::Date,
            ColumnType::Timestamp,
            ColumnType::Time,
        ] {
            let reason = read(column_type, &[], secret).unwrap_err();
            assert!(!reason.contains(secret), "{reason}");
        }
    }

    fn read(column_type: ColumnType, formats: &[&str], text: &str) -> Result<String, Reason> {
        let column = ColumnSpec {
            name: "c".parse().unwrap(),
            source: vec![],
            column_type,
            required: false,
            formats: formats.iter().map(ToString::to_string).collect(),
            nulls: vec![],
            doc: String::new(),
        };
        let mut reader = CellReader::new(&column, &[String::new()]);
        reader.push(text)?;
        Ok(array_value_to_string(&reader.finish(), 0).unwrap())
    }
}
