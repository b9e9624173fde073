//! One council's rows.

use crate::environment::{self, Reading, Sensor};
use crate::highways::{self, Count, Street, Ward};
use crate::housing::{self, TaxAccount, Tenancy};
use crate::parking::{self, CarPark, Occupancy, Session};
use crate::social_care::{self, Case};
use crate::{CityError, CityOptions, MAX_COUNCILS};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

const NAMES: [&str; MAX_COUNCILS] = [
    "northmoor",
    "southmere",
    "eastfold",
    "westhaven",
    "midvale",
    "highcross",
];

/// Everything that one council's departments hold, as it would read if nobody had made a mistake.
///
/// Rows that stand twice in the raw files stand twice here; rows that do not parse are not here.
#[derive(Debug, Clone, PartialEq)]
pub struct Council {
    /// Its name.
    pub name: &'static str,
    /// Its wards.
    pub wards: Vec<Ward>,
    /// Its streets.
    pub streets: Vec<Street>,
    /// Its traffic counts.
    pub counts: Vec<Count>,
    /// Its car parks.
    pub car_parks: Vec<CarPark>,
    /// How full they are.
    pub occupancy: Vec<Occupancy>,
    /// Paid stays.
    pub sessions: Vec<Session>,
    /// Its air quality sensors.
    pub sensors: Vec<Sensor>,
    /// What they read.
    pub readings: Vec<Reading>,
    /// Adult social care cases.
    pub cases: Vec<Case>,
    /// Council tenancies.
    pub tenancies: Vec<Tenancy>,
    /// Council tax accounts.
    pub tax: Vec<TaxAccount>,
}

/// The rows of the `index`-th council of a city.
pub fn council(options: &CityOptions, index: usize) -> Result<Council, CityError> {
    if options.councils == 0 || options.councils > MAX_COUNCILS || index >= options.councils {
        return Err(CityError::Councils(options.councils.max(index + 1)));
    }
    if !(options.scale > 0.0 && options.scale <= 10_000.0) {
        return Err(CityError::Scale);
    }
    let scale = Scale(options.scale);
    let rng = |table: u64| {
        let council = u64::try_from(index).unwrap_or(0);
        ChaCha8Rng::seed_from_u64(options.seed ^ (council << 40) ^ (table << 52))
    };
    let name = NAMES[index];
    let wards = highways::wards(name, &mut rng(1));
    let streets = highways::streets(&wards, index, &mut rng(2));
    let car_parks = parking::car_parks(&wards, &mut rng(3));
    let sensors = environment::sensors(&wards, &mut rng(4));
    Ok(Council {
        name,
        counts: highways::counts(&streets, scale, &mut rng(5)),
        occupancy: parking::occupancy(&car_parks, scale, &mut rng(6)),
        sessions: parking::sessions(&car_parks, scale, &mut rng(7)),
        readings: environment::readings(&sensors, scale, &mut rng(8)),
        cases: social_care::cases(&wards, scale, &mut rng(9)),
        tenancies: housing::tenancies(&wards, scale, &mut rng(10)),
        tax: housing::tax(&wards, scale, &mut rng(11)),
        wards,
        streets,
        car_parks,
        sensors,
    })
}

/// How large the city is against the small one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale(f64);

impl Scale {
    /// `base` rows at scale 1.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "counts of made-up rows, below 2^53"
    )]
    pub(crate) fn rows(self, base: u32) -> usize {
        ((f64::from(base) * self.0).round() as usize).max(1)
    }

    /// Two weeks at scale 1, at least one day, at most ten years; beyond that nothing grows but
    /// what [`Scale::rows`] counts.
    pub(crate) fn days(self) -> i64 {
        i64::try_from(self.rows(14))
            .unwrap_or(i64::MAX)
            .clamp(1, 3650)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_council_and_another_seed_another() {
        let options = CityOptions {
            scale: 0.1,
            ..CityOptions::default()
        };
        let other = CityOptions {
            seed: 1,
            ..options.clone()
        };
        assert_eq!(council(&options, 0).unwrap(), council(&options, 0).unwrap());
        assert_ne!(
            council(&options, 0).unwrap().sessions,
            council(&other, 0).unwrap().sessions
        );
        assert_ne!(
            council(&options, 0).unwrap().cases,
            council(&options, 1).unwrap().cases
        );
    }

    #[test]
    fn impossible_cities_are_refused() {
        for (councils, scale) in [(0, 1.0), (7, 1.0), (2, 0.0), (2, f64::NAN), (2, 1e9)] {
            let options = CityOptions {
                councils,
                scale,
                ..CityOptions::default()
            };
            assert!(council(&options, 0).is_err(), "{councils} {scale}");
        }
    }
}
