//! Car parks, how full they are, who paid.

use crate::city::Scale;
use crate::highways::{Ward, whole};
use crate::rhythm::{DAY, HOUR, MINUTE, START, shopping};
use rand::Rng;

/// A car park.
#[derive(Debug, Clone, PartialEq)]
pub struct CarPark {
    /// Its code.
    pub car_park: String,
    /// Its name.
    pub name: String,
    /// The ward it stands in.
    pub ward: String,
    /// Its size.
    pub spaces: i64,
}

/// One half hour of one car park.
#[derive(Debug, Clone, PartialEq)]
pub struct Occupancy {
    /// The car park.
    pub car_park: String,
    /// Start of the half hour, seconds since 1970, local time.
    pub ts: i64,
    /// Taken spaces.
    pub occupied: i64,
}

/// One paid stay.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Running number.
    pub session: i64,
    /// Registration mark.
    pub vehicle: String,
    /// The car park.
    pub car_park: String,
    /// Seconds since 1970, local time.
    pub started: i64,
    /// Length of the stay; some suppliers leave it out.
    pub minutes: Option<i64>,
    /// Pence.
    pub paid_pence: Option<i64>,
    /// app, machine or phone.
    pub channel: &'static str,
}

pub(crate) fn car_parks(wards: &[Ward], rng: &mut impl Rng) -> Vec<CarPark> {
    (0..12_usize)
        .map(|i| CarPark {
            car_park: format!("P{:02}", i + 1),
            name: format!("{} car park", wards[(i * 7) % wards.len()].name),
            ward: wards[(i * 7) % wards.len()].ward.clone(),
            spaces: [60, 110, 240, 420, 780, 1_250][i % 6] + rng.random_range(0..40),
        })
        .collect()
}

pub(crate) fn occupancy(parks: &[CarPark], scale: Scale, rng: &mut impl Rng) -> Vec<Occupancy> {
    let mut all = Vec::new();
    for park in parks {
        let spaces = spaces_of(park);
        let liked: f64 = rng.random_range(0.6..1.05);
        for half_hour in 0..scale.days() * 48 {
            let ts = START + half_hour * 30 * MINUTE;
            let full = (shopping(ts) * liked * rng.random_range(0.9..1.1)).min(1.02);
            all.push(Occupancy {
                car_park: park.car_park.clone(),
                ts,
                occupied: whole(spaces * full),
            });
        }
    }
    all
}

pub(crate) fn sessions(parks: &[CarPark], scale: Scale, rng: &mut impl Rng) -> Vec<Session> {
    let rows = scale.rows(12_000);
    let vehicles = scale.rows(4_000);
    let marks: Vec<String> = (0..vehicles).map(|_| mark(rng)).collect();
    let mut all = Vec::with_capacity(rows);
    while all.len() < rows {
        let started =
            START + rng.random_range(0..scale.days()) * DAY + rng.random_range(6 * HOUR..22 * HOUR);
        let started = started - started % MINUTE;
        if !rng.random_bool(shopping(started).clamp(0.05, 1.0)) {
            continue;
        }
        // A few regulars park often, most vehicles now and then.
        let whose = (rng.random::<f64>().powi(2) * count_as_float(vehicles)).floor();
        let minutes = rng.random_range(12..420);
        let channel = match rng.random_range(0..100) {
            0..55 => "app",
            55..85 => "machine",
            _ => "phone",
        };
        all.push(Session {
            session: 700_000 + i64::try_from(all.len()).unwrap_or(0),
            vehicle: marks[usize::try_from(whole(whose)).unwrap_or(0).min(vehicles - 1)].clone(),
            car_park: parks[rng.random_range(0..parks.len())].car_park.clone(),
            started,
            minutes: rng.random_bool(0.98).then_some(minutes),
            paid_pence: rng.random_bool(0.99).then(|| 80 + (minutes / 30) * 90),
            channel,
        });
    }
    // A supplier's daily file is sometimes delivered twice.
    let again: Vec<Session> = all.iter().step_by(97).cloned().collect();
    all.extend(again);
    all
}

fn spaces_of(park: &CarPark) -> f64 {
    f64::from(i32::try_from(park.spaces).unwrap_or(i32::MAX))
}

fn count_as_float(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

/// In the form of a registration mark, with a first pair that is not issued.
fn mark(rng: &mut impl Rng) -> String {
    let letter = |rng: &mut dyn rand::RngCore| char::from(b'A' + rng.random_range(0..26_u8));
    format!(
        "QZ{:02} {}{}{}",
        rng.random_range(2..76),
        letter(rng),
        letter(rng),
        letter(rng)
    )
}
