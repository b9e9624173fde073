//! What free questions may cost: rho of zero-concentrated differential privacy, in exact
//! integers, over calendar periods in UTC.

use crate::wire::WireError;
use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use guildhall_model::{DatasetName, Purpose, Timestamp};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// An amount of privacy budget, in billionths of rho.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NanoRho(u64);

/// Why a text is not an amount of rho.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NanoRhoError {
    /// Not digits with at most one point among them.
    #[error("is not a plain decimal such as 0.05")]
    NotDecimal,
    /// More digits after the point than are counted.
    #[error("has more than {} decimals", NanoRho::DECIMALS)]
    TooFine,
    /// More than can be counted.
    #[error("is too large")]
    TooLarge,
}

impl NanoRho {
    /// The digits after the point of rho that are counted.
    pub const DECIMALS: usize = 9;
    /// Rho of 1.
    const ONE: u64 = 1_000_000_000;

    /// From billionths of rho.
    #[must_use]
    pub const fn new(billionths: u64) -> Self {
        Self(billionths)
    }

    /// In billionths of rho.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, unless it is more than can be counted.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// This less `other`, unless `other` is more.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }
}

/// Rho as a plain decimal, exactly: `0.05` is 50,000,000 billionths. No sign, no exponent.
impl FromStr for NanoRho {
    type Err = NanoRhoError;

    fn from_str(text: &str) -> Result<Self, NanoRhoError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(NanoRhoError::NotDecimal),
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(NanoRhoError::NotDecimal);
        }
        if fraction.len() > Self::DECIMALS {
            return Err(NanoRhoError::TooFine);
        }
        let number = |s: &str| s.parse::<u64>().map_err(|_| NanoRhoError::TooLarge);
        let whole = number(whole)?.checked_mul(Self::ONE);
        let fraction = number(&format!("{fraction:0<width$}", width = Self::DECIMALS))?;
        whole
            .and_then(|w| w.checked_add(fraction))
            .map(Self)
            .ok_or(NanoRhoError::TooLarge)
    }
}

/// Rho as a plain decimal that parses to the same amount.
impl fmt::Display for NanoRho {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / Self::ONE, self.0 % Self::ONE);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{fraction:0width$}", width = Self::DECIMALS);
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// How long a budget lasts until it is whole again. The shortest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BudgetPeriod {
    /// A calendar month.
    Month,
    /// Three months, from January, April, July or October.
    Quarter,
    /// A calendar year.
    Year,
}

impl BudgetPeriod {
    /// Every period, the shortest first.
    pub const ALL: [Self; 3] = [Self::Month, Self::Quarter, Self::Year];

    /// The word used in product files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }

    /// The period that holds `at`: its first microsecond, and the first after it, both midnight
    /// UTC. None of a time that no calendar reaches.
    #[must_use]
    pub fn around(self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let date = DateTime::<Utc>::from_timestamp_micros(at.as_micros())?.date_naive();
        let months = self.months();
        let first = date.month0() / months * months;
        let (year, next) = match first + months {
            12 => (date.year().checked_add(1)?, 0),
            next => (date.year(), next),
        };
        Some((midnight(date.year(), first)?, midnight(year, next)?))
    }

    const fn months(self) -> u32 {
        match self {
            Self::Month => 1,
            Self::Quarter => 3,
            Self::Year => 12,
        }
    }
}

/// The start of the month that is `month0` months after January.
fn midnight(year: i32, month0: u32) -> Option<Timestamp> {
    let day = NaiveDate::from_ymd_opt(year, month0 + 1, 1)?;
    let micros = day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros();
    Some(Timestamp::from_micros(micros))
}

impl fmt::Display for BudgetPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The privacy budget of free questions for one purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// What the questions are asked for.
    pub purpose: Purpose,
    /// Those that the values of the privacy unit come from. Products over the same ones share
    /// one budget, whatever else they are joined with.
    pub datasets: BTreeSet<DatasetName>,
    /// What all questions of one period may cost together.
    pub rho: NanoRho,
    /// When it is whole again.
    pub period: BudgetPeriod,
    /// What one question costs unless it says so, and at most.
    pub per_query: NanoRho,
    /// The most cells of one answer that one unit may be in.
    pub cells_per_unit: u32,
}

impl Budget {
    /// The most that a period's budget can be: rho of 10, beyond which it protects nobody.
    pub const MOST: NanoRho = NanoRho(10 * NanoRho::ONE);

    /// What one question costs where the product does not say: rho of 0.001, or all of a budget
    /// that is smaller.
    #[must_use]
    pub fn default_per_query(rho: NanoRho) -> NanoRho {
        rho.min(NanoRho(NanoRho::ONE / 1000))
    }

    /// Whether the amounts are within their bounds.
    pub(super) fn check(&self) -> Result<(), WireError> {
        let rule = |field, rule| Err(WireError::Rule { field, rule });
        if self.datasets.is_empty() {
            return Err(WireError::Missing {
                field: "budgets.datasets",
            });
        }
        if self.rho == NanoRho::default() || self.rho > Self::MOST {
            return rule("budgets.nano_rho", "is not above 0 and at most 10 rho");
        }
        if self.per_query == NanoRho::default() || self.per_query > self.rho {
            return rule(
                "budgets.per_query_nano_rho",
                "is not above 0 and at most the budget",
            );
        }
        if self.cells_per_unit == 0 {
            return rule("budgets.cells_per_unit", "is 0");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<u64, NanoRhoError> {
        text.parse::<NanoRho>().map(NanoRho::get)
    }

    #[test]
    fn rho_is_read_exactly() {
        for (text, billionths) in [
            ("0.05", 50_000_000),
            ("0.1", 100_000_000),
            ("0.3", 300_000_000),
            ("0.000000001", 1),
            ("10", 10_000_000_000),
            ("10.000000000", 10_000_000_000),
            ("0", 0),
            ("18446744073.709551615", u64::MAX),
        ] {
            assert_eq!(parsed(text), Ok(billionths), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_decimal_of_nine_places_is_not_read() {
        use NanoRhoError::{NotDecimal, TooFine, TooLarge};
        for (text, error) in [
            ("", NotDecimal),
            (".", NotDecimal),
            (".5", NotDecimal),
            ("5.", NotDecimal),
            ("+0.5", NotDecimal),
            ("-0.5", NotDecimal),
            ("5e-2", NotDecimal),
            ("0_1.0", NotDecimal),
            ("0.1.2", NotDecimal),
            ("nan", NotDecimal),
            ("0x1", NotDecimal),
            ("٣", NotDecimal),
            ("0.0000000001", TooFine),
            ("0.1000000000", TooFine),
            ("18446744073.709551616", TooLarge),
            ("99999999999999999999", TooLarge),
        ] {
            assert_eq!(parsed(text), Err(error), "{text}");
        }
    }

    /// The period around `at`, as text.
    fn around(period: BudgetPeriod, at: &str) -> (String, String) {
        let at = DateTime::parse_from_rfc3339(at).unwrap();
        let at = Timestamp::from_micros(at.timestamp_micros());
        let (start, end) = period.around(at).unwrap();
        (start.to_string(), end.to_string())
    }

    #[test]
    fn periods_begin_and_end_at_midnight_utc() {
        use BudgetPeriod::{Month, Quarter, Year};
        for (period, at, start, end) in [
            (Quarter, "2026-01-01T00:00:00Z", "2026-01-01", "2026-04-01"),
            (
                Quarter,
                "2026-03-31T23:59:59.999999Z",
                "2026-01-01",
                "2026-04-01",
            ),
            (Quarter, "2026-04-01T00:00:00Z", "2026-04-01", "2026-07-01"),
            (
                Quarter,
                "2026-12-31T23:59:59.999999Z",
                "2026-10-01",
                "2027-01-01",
            ),
            // British summer time has begun, and the quarter has not ended.
            (
                Quarter,
                "2026-07-01T00:30:00+01:00",
                "2026-04-01",
                "2026-07-01",
            ),
            // Leap days: of every fourth year, of no century, of every fourth century.
            (Month, "2028-02-29T23:59:59Z", "2028-02-01", "2028-03-01"),
            (Month, "2100-02-28T23:59:59Z", "2100-02-01", "2100-03-01"),
            (Month, "2000-02-29T12:00:00Z", "2000-02-01", "2000-03-01"),
            (Month, "2026-12-31T23:59:59Z", "2026-12-01", "2027-01-01"),
            (Year, "2028-12-31T23:59:59Z", "2028-01-01", "2029-01-01"),
            (Year, "1969-06-01T00:00:00Z", "1969-01-01", "1970-01-01"),
        ] {
            let expected = (format!("{start}T00:00:00Z"), format!("{end}T00:00:00Z"));
            assert_eq!(around(period, at), expected, "{period} around {at}");
        }
        let day = |p, at| {
            let (start, end) = BudgetPeriod::around(p, Timestamp::from_micros(at)).unwrap();
            end.since(start).as_secs() / 86_400
        };
        assert_eq!(
            (day(Year, 1_840_000_000_000_000), day(Year, 0)),
            (366, 365),
            "2028 is a leap year"
        );
    }

    #[test]
    fn a_time_that_no_calendar_reaches_is_in_no_period() {
        for at in [i64::MIN, i64::MAX] {
            assert_eq!(BudgetPeriod::Year.around(Timestamp::from_micros(at)), None);
        }
    }

    proptest! {
        #[test]
        fn an_amount_prints_as_it_parses(billionths: u64) {
            let amount = NanoRho::new(billionths);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }

        #[test]
        fn periods_follow_each_other_and_longer_ones_hold_shorter_ones(
            at in -62_000_000_000_000_000i64..250_000_000_000_000_000
        ) {
            let at = Timestamp::from_micros(at);
            for period in BudgetPeriod::ALL {
                let (start, end) = period.around(at).unwrap();
                prop_assert!(start <= at && at < end);
                prop_assert_eq!(period.around(start), Some((start, end)));
                prop_assert_eq!(period.around(end).unwrap().0, end);
            }
            let around = |p: BudgetPeriod| p.around(at).unwrap();
            for pair in BudgetPeriod::ALL.windows(2) {
                let (short, long) = (around(pair[0]), around(pair[1]));
                prop_assert!(long.0 <= short.0 && short.1 <= long.1);
            }
        }
    }
}
