//! What the values of one column look like.

use crate::cell::{DATE_FORMATS, Format, TIME_FORMATS, TIMESTAMP_FORMATS, boolean};
use crate::numbers;
use crate::spec::ColumnType;
use std::collections::{BTreeMap, BTreeSet};

/// Further forms of dates, which are never tried unless they were declared.
const OTHER_DATE_FORMATS: [&str; 5] = ["%m/%d/%Y", "%m/%d/%y", "%b-%y", "%B %Y", "%Y-%m"];

/// Texts that stand for no value in columns of numbers and dates.
const NULLS: [&str; 8] = ["NA", "N/A", "n/a", "#N/A", "NULL", "null", "-", "None"];

/// What share of the values must fit a type.
const FITS: (usize, usize) = (99, 100);

/// Counts of what was seen in one column.
#[derive(Debug)]
pub(super) struct Sample {
    header: String,
    values: usize,
    blank: usize,
    nulls: BTreeMap<&'static str, usize>,
    integers: usize,
    numbers: usize,
    leading_zeros: usize,
    money: usize,
    places: BTreeMap<usize, usize>,
    whole_digits: usize,
    booleans: usize,
    dates: Forms,
    timestamps: Forms,
    times: Forms,
}

/// The type that fits, with what a person should know of it.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) column_type: ColumnType,
    pub(super) formats: Vec<&'static str>,
    pub(super) nulls: Vec<&'static str>,
    pub(super) notes: Vec<String>,
}

/// How many values fit which sets of forms.
struct Forms {
    formats: Vec<(&'static str, Format)>,
    /// Sets of forms, as bits, that fit the same values.
    fitting: BTreeMap<u32, usize>,
    tried: usize,
}

impl Sample {
    pub(super) fn new(header: &str) -> Self {
        let header = header.to_lowercase();
        // Digits alone are a date or a time only where the column says so.
        let dates = DATE_FORMATS.iter().chain(&OTHER_DATE_FORMATS);
        let dates = dates.filter(|f| **f != "%Y%m%d" || header.contains("date"));
        let times = TIME_FORMATS
            .iter()
            .filter(|f| **f != "%H%M" || header.contains("time"));
        Self {
            values: 0,
            blank: 0,
            nulls: BTreeMap::new(),
            integers: 0,
            numbers: 0,
            leading_zeros: 0,
            money: 0,
            places: BTreeMap::new(),
            whole_digits: 0,
            booleans: 0,
            dates: Forms::new(dates.copied()),
            timestamps: Forms::new(TIMESTAMP_FORMATS.iter().copied()),
            times: Forms::new(times.copied()),
            header,
        }
    }

    pub(super) fn see(&mut self, text: &str) {
        if text.is_empty() {
            self.blank += 1;
            return;
        }
        if let Some(null) = NULLS.iter().find(|n| **n == text) {
            *self.nulls.entry(null).or_default() += 1;
            return;
        }
        self.values += 1;
        self.integers += usize::from(matches!(numbers::integer(text), Some(Ok(_))));
        if numbers::float(text).is_some() {
            self.numbers += 1;
            self.see_number(text);
        }
        let is_word = !text.bytes().all(|b| b.is_ascii_digit());
        self.booleans += usize::from(is_word && boolean(text).is_some());
        self.dates.see(|f| f.date(text).is_some());
        self.timestamps.see(|f| f.timestamp(text).is_some());
        self.times.see(|f| f.time(text).is_some());
    }

    fn see_number(&mut self, text: &str) {
        let digits = text.trim_start_matches(['-', '+']);
        let is_code = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
        self.leading_zeros += usize::from(is_code);
        self.money += usize::from(text.contains(['£', '€', '$']));
        if let Some(places) = numbers::places(text) {
            *self.places.entry(places).or_default() += 1;
        }
        let whole = digits.split('.').next().unwrap_or_default();
        let whole = whole.bytes().filter(u8::is_ascii_digit).count();
        self.whole_digits = self.whole_digits.max(whole);
    }

    /// The narrowest type that nearly all values fit.
    pub(super) fn choice(&self) -> Choice {
        if self.values == 0 {
            return self.chosen(
                ColumnType::Text,
                vec![],
                0,
                &["empty throughout what was seen"],
            );
        }
        let times = self.times.cover(self.values);
        if let Some((formats, covered)) = times {
            return self.chosen(ColumnType::Time, formats, self.values - covered, &[]);
        }
        if let Some((formats, covered)) = self.dates.cover(self.values) {
            let is_us = formats.iter().any(|f| f.starts_with("%m/"));
            let note = ["American dates, by the days beyond 12 in the middle"];
            let notes = if is_us { &note[..] } else { &[] };
            return self.chosen(ColumnType::Date, formats, self.values - covered, notes);
        }
        if let Some((formats, covered)) = self.timestamps.cover(self.values) {
            return self.chosen(ColumnType::Timestamp, formats, self.values - covered, &[]);
        }
        if self.fits(self.booleans) {
            return self.chosen(
                ColumnType::Boolean,
                vec![],
                self.values - self.booleans,
                &[],
            );
        }
        if self.leading_zeros > 0 {
            let notes: &[&str] = if self.fits(self.numbers) {
                &["numbers with leading zeros: codes"]
            } else {
                &[]
            };
            return self.chosen(ColumnType::Text, vec![], 0, notes);
        }
        if self.fits(self.integers) && self.money == 0 && !self.is_money() {
            return self.chosen(
                ColumnType::Integer,
                vec![],
                self.values - self.integers,
                &[],
            );
        }
        if self.fits(self.numbers) {
            let misfits = self.values - self.numbers;
            return self.chosen(self.number_type(), vec![], misfits, &[]);
        }
        self.chosen(ColumnType::Text, vec![], 0, &[])
    }

    /// Whether the header speaks of money, so that pence are exact.
    fn is_money(&self) -> bool {
        ["amount", "price", "cost", "net", "gross", "vat"]
            .iter()
            .any(|w| {
                self.header
                    .split(|c: char| !c.is_alphanumeric())
                    .any(|word| word == *w)
            })
    }

    fn number_type(&self) -> ColumnType {
        let places = self.places.keys().next_back().copied().unwrap_or(0);
        let is_exact = self.money > 0 || self.is_money() || self.places.keys().eq([2].iter());
        let scale = u8::try_from(places.max(2)).unwrap_or(u8::MAX);
        if is_exact && scale <= 4 && self.whole_digits <= 14 {
            return ColumnType::Decimal {
                precision: 18,
                scale,
            };
        }
        ColumnType::Float
    }

    fn fits(&self, count: usize) -> bool {
        fits(count, self.values)
    }

    fn chosen(
        &self,
        column_type: ColumnType,
        formats: Vec<&'static str>,
        misfits: usize,
        notes: &[&str],
    ) -> Choice {
        let is_text = column_type == ColumnType::Text;
        let mut notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
        if misfits > 0 {
            notes.push(format!(
                "{misfits} of {} values seen do not fit: their rows would be rejected",
                self.values
            ));
        }
        if self.blank > 0 && self.values > 0 {
            notes.push(format!(
                "{} blank of {} seen",
                self.blank,
                self.blank + self.values
            ));
        }
        Choice {
            column_type,
            formats,
            nulls: if is_text {
                vec![]
            } else {
                self.nulls.keys().copied().collect()
            },
            notes,
        }
    }
}

fn fits(count: usize, values: usize) -> bool {
    count > 0 && count * FITS.1 >= values * FITS.0
}

impl Forms {
    fn new(formats: impl Iterator<Item = &'static str>) -> Self {
        Self {
            formats: formats.map(|f| (f, Format::new(f))).collect(),
            fitting: BTreeMap::new(),
            tried: 0,
        }
    }

    fn see(&mut self, fits: impl Fn(&Format) -> bool) {
        self.tried += 1;
        // Nothing fitted so far: this is a column of something else.
        if self.tried > 100 && self.fitting.is_empty() {
            return;
        }
        let bits = self
            .formats
            .iter()
            .enumerate()
            .filter(|(_, (_, f))| fits(f));
        let bits = bits.fold(0_u32, |bits, (i, _)| bits | 1 << i);
        if bits != 0 {
            *self.fitting.entry(bits).or_default() += 1;
        }
    }

    /// The forms that cover nearly all values, and how many they cover.
    ///
    /// One form is better than several: a column in which every day fits `%m/%d/%Y` and some
    /// fit nothing else is American, though many of its days could be British as well.
    fn cover(&self, values: usize) -> Option<(Vec<&'static str>, usize)> {
        let count = |set: u32| {
            self.fitting
                .iter()
                .filter(|(bits, _)| *bits & set != 0)
                .map(|(_, n)| n)
                .sum::<usize>()
        };
        let single = (0..self.formats.len()).map(|i| (i, count(1 << i)));
        let best = single.max_by_key(|(i, n)| (*n, std::cmp::Reverse(*i)));
        if let Some((i, n)) = best.filter(|(_, n)| fits(*n, values)) {
            return Some((vec![self.formats[i].0], n));
        }
        let (mut set, mut chosen) = (0_u32, BTreeSet::new());
        for (i, (format, _)) in self.formats.iter().enumerate() {
            let is_american = format.starts_with("%m/");
            if !is_american && count(set | 1 << i) > count(set) {
                set |= 1 << i;
                chosen.insert(i);
            }
        }
        let formats = chosen.iter().map(|i| self.formats[*i].0).collect();
        fits(count(set), values).then(|| (formats, count(set)))
    }
}

impl std::fmt::Debug for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Forms({} forms, {} tried)",
            self.formats.len(),
            self.tried
        )
    }
}
