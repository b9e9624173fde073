//! Time and how busy a city is at it.

use chrono::{DateTime, Datelike as _, NaiveDateTime, Timelike as _};
use std::f64::consts::TAU;

/// Monday 2 March 2026, 00:00: when the city's records begin, local time.
pub(crate) const START: i64 = 1_772_409_600;
pub(crate) const MINUTE: i64 = 60;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// A local time from its seconds since 1970.
pub(crate) fn local(seconds: i64) -> NaiveDateTime {
    DateTime::from_timestamp(seconds, 0)
        .unwrap_or_default()
        .naive_utc()
}

/// `02/03/2026 08:30`.
pub(crate) fn uk_minute(seconds: i64) -> String {
    local(seconds).format("%d/%m/%Y %H:%M").to_string()
}

/// `2026-03-02 08:30:00`.
pub(crate) fn iso(seconds: i64) -> String {
    local(seconds).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// How busy streets are: two peaks on weekdays, a broad noon at weekends; 0 to about 1.
pub(crate) fn traffic(seconds: i64) -> f64 {
    let (hour, weekend) = hour_of(seconds);
    if weekend {
        return 0.08 + 0.55 * bump(hour, 13.5, 4.5);
    }
    0.06 + 0.80 * bump(hour, 8.3, 1.6) + 0.75 * bump(hour, 17.3, 2.0) + 0.40 * bump(hour, 12.8, 3.5)
}

/// How full shoppers' car parks are, 0 to about 0.9.
pub(crate) fn shopping(seconds: i64) -> f64 {
    let (hour, weekend) = hour_of(seconds);
    let height = if weekend { 0.85 } else { 0.62 };
    0.04 + height * bump(hour, 13.0, 3.4)
}

fn hour_of(seconds: i64) -> (f64, bool) {
    let time = local(seconds);
    let hour = f64::from(time.hour()) + f64::from(time.minute()) / 60.0;
    (hour, time.weekday().number_from_monday() >= 6)
}

/// A bell around `centre` on the 24-hour circle.
fn bump(hour: f64, centre: f64, width: f64) -> f64 {
    let apart = ((hour - centre) / 24.0 * TAU).cos().clamp(-1.0, 1.0).acos() / TAU * 24.0;
    (-0.5 * (apart / width).powi(2)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_begin_on_a_monday_at_midnight() {
        assert_eq!(
            local(START).format("%a %Y-%m-%d %H:%M").to_string(),
            "Mon 2026-03-02 00:00"
        );
    }

    #[test]
    fn weekday_mornings_are_busier_than_nights_and_sundays() {
        let monday_eight = traffic(START + 8 * HOUR);
        assert!(monday_eight > 3.0 * traffic(START + 3 * HOUR));
        assert!(monday_eight > 2.0 * traffic(START + 6 * DAY + 8 * HOUR));
    }
}
