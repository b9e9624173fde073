//! Air quality.

use crate::city::Scale;
use crate::highways::{Ward, two_places};
use crate::rhythm::{HOUR, START, traffic};
use rand::Rng;

/// A sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// Its name.
    pub sensor: String,
    /// The ward it hangs in.
    pub ward: String,
    /// roadside or background.
    pub site: &'static str,
}

/// One hour of one sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The sensor.
    pub sensor: String,
    /// Start of the hour, seconds since 1970, local time.
    pub ts: i64,
    /// Nitrogen dioxide, micrograms a cubic metre.
    pub no2: Option<f64>,
    /// Fine particles, micrograms a cubic metre.
    pub pm25: Option<f64>,
}

pub(crate) fn sensors(wards: &[Ward], _rng: &mut impl Rng) -> Vec<Sensor> {
    (0..10_usize)
        .map(|i| Sensor {
            sensor: format!("AQ{:02}", i + 1),
            ward: wards[(i * 5) % wards.len()].ward.clone(),
            site: if i % 3 == 2 { "background" } else { "roadside" },
        })
        .collect()
}

pub(crate) fn readings(sensors: &[Sensor], scale: Scale, rng: &mut impl Rng) -> Vec<Reading> {
    let mut all = Vec::new();
    for sensor in sensors {
        let near: f64 = if sensor.site == "roadside" { 1.0 } else { 0.45 };
        for hour in 0..scale.days() * 24 {
            let ts = START + hour * HOUR;
            let no2 = 9.0 + 42.0 * near * traffic(ts) + rng.random_range(-4.0..4.0);
            let pm25 = 5.0 + 9.0 * near * traffic(ts) + rng.random_range(-2.0..2.0);
            all.push(Reading {
                sensor: sensor.sensor.clone(),
                ts,
                no2: rng.random_bool(0.985).then(|| two_places(no2)),
                pm25: rng.random_bool(0.97).then(|| two_places(pm25)),
            });
        }
    }
    all
}
