//! Wards, streets, traffic.

use crate::city::Scale;
use crate::rhythm::{DAY, HOUR, START, traffic};
use rand::Rng;

/// A ward.
#[derive(Debug, Clone, PartialEq)]
pub struct Ward {
    /// Code, unique over all councils.
    pub ward: String,
    /// Name.
    pub name: String,
    /// People.
    pub population: i64,
    /// Square kilometres.
    pub area_km2: f64,
}

/// A street.
#[derive(Debug, Clone, PartialEq)]
pub struct Street {
    /// Unique street reference number.
    pub usrn: i64,
    /// Name.
    pub street: String,
    /// Ward it lies in.
    pub ward: String,
    /// Metres.
    pub length_m: f64,
}

/// One hour at one counter.
#[derive(Debug, Clone, PartialEq)]
pub struct Count {
    /// The counter.
    pub counter: String,
    /// Its street.
    pub usrn: i64,
    /// Start of the hour, seconds since 1970, local time.
    pub ts: i64,
    /// Vehicles; none while the counter was down.
    pub vehicles: Option<i64>,
    /// Their mean speed.
    pub mean_kph: Option<f64>,
}

const FIRST: [&str; 10] = [
    "Abbey", "Beck", "Castle", "Dene", "Elm", "Foundry", "Grange", "Harbour", "Ings", "Kiln",
];
const SECOND: [&str; 6] = ["Bank", "Cross", "Fields", "Gate", "Hill", "Side"];
// The dash and the accent are not ASCII, so that the file's encoding matters.
const STREETS: [&str; 8] = [
    "Lane",
    "Road",
    "Street",
    "Rise",
    "Close",
    "Way",
    "Walk \u{2013} North",
    "Café Row",
];

pub(crate) fn wards(council: &str, rng: &mut impl Rng) -> Vec<Ward> {
    let letters: String = council.chars().take(2).collect::<String>().to_uppercase();
    (0..12_usize)
        .map(|i| Ward {
            ward: format!("{letters}{:02}", i + 1),
            name: format!(
                "{} {}",
                FIRST[i % FIRST.len()],
                SECOND[(i * 5 + i / 6) % SECOND.len()]
            ),
            population: rng.random_range(6_500..19_500),
            area_km2: two_places(rng.random_range(1.2..14.0)),
        })
        .collect()
}

pub(crate) fn streets(wards: &[Ward], council: usize, rng: &mut impl Rng) -> Vec<Street> {
    let base = 40_100_000 + i64::try_from(council).unwrap_or(0) * 1_000_000;
    (0..180_usize)
        .map(|i| Street {
            usrn: base + i64::try_from(i).unwrap_or(0) * 37,
            street: format!(
                "{} {}",
                FIRST[i % FIRST.len()],
                STREETS[(i / FIRST.len()) % STREETS.len()]
            ),
            ward: wards[i % wards.len()].ward.clone(),
            length_m: two_places(rng.random_range(60.0..2_400.0)),
        })
        .collect()
}

pub(crate) fn counts(streets: &[Street], scale: Scale, rng: &mut impl Rng) -> Vec<Count> {
    let mut all = Vec::new();
    for (number, street) in streets.iter().step_by(9).enumerate() {
        let busy: f64 = rng.random_range(120.0..1_900.0);
        for hour in 0..scale.days() * 24 {
            let ts = START + hour * HOUR;
            let down = rng.random_bool(0.006);
            let load = traffic(ts) * rng.random_range(0.85..1.15);
            all.push(Count {
                counter: format!("C{number:03}"),
                usrn: street.usrn,
                ts,
                vehicles: (!down).then(|| whole(busy * load)),
                mean_kph: (!down)
                    .then(|| two_places(48.0 - 22.0 * load + rng.random_range(-2.0..2.0))),
            });
        }
    }
    // The exporter sends every tenth day's first hours again.
    let again: Vec<Count> = all
        .iter()
        .filter(|c| (c.ts - START) % (10 * DAY) < 2 * HOUR)
        .cloned()
        .collect();
    all.extend(again);
    all
}

/// Rounded to a whole number, for counts.
#[expect(
    clippy::cast_possible_truncation,
    reason = "made-up counts, far below 2^53"
)]
pub(crate) fn whole(x: f64) -> i64 {
    x.round() as i64
}

/// Rounded to two decimal places.
pub(crate) fn two_places(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}
