//! Council tenancies and council tax.

use crate::city::Scale;
use crate::highways::Ward;
use rand::Rng;

/// One tenancy.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenancy {
    /// The household.
    pub household: String,
    /// Where.
    pub ward: String,
    /// Size.
    pub bedrooms: Option<i64>,
    /// Pence a week.
    pub rent_pence: i64,
    /// Pence owed; negative is paid ahead.
    pub arrears_pence: Option<i64>,
}

/// One council tax account.
#[derive(Debug, Clone, PartialEq)]
pub struct TaxAccount {
    /// The account.
    pub account: String,
    /// Where.
    pub ward: String,
    /// A to H.
    pub band: &'static str,
    /// Pence a year.
    pub charge_pence: i64,
    /// Pence paid this year.
    pub paid_pence: i64,
}

// Ninths of band D, Local Government Finance Act 1992, section 5.
const BANDS: [(&str, i64); 8] = [
    ("A", 6),
    ("B", 7),
    ("C", 8),
    ("D", 9),
    ("E", 11),
    ("F", 13),
    ("G", 15),
    ("H", 18),
];
const BAND_D_PENCE: i64 = 228_042;

pub(crate) fn tenancies(wards: &[Ward], scale: Scale, rng: &mut impl Rng) -> Vec<Tenancy> {
    (0..scale.rows(2_800))
        .map(|i| {
            let bedrooms = [1, 1, 2, 2, 2, 3, 3, 4][rng.random_range(0..8)];
            let owes = rng.random_bool(0.22);
            Tenancy {
                household: format!("HH{:06}", 200_000 + i * 3),
                ward: wards[rng.random_range(0..wards.len())].ward.clone(),
                bedrooms: rng.random_bool(0.99).then_some(bedrooms),
                rent_pence: 7_200 + bedrooms * 1_350 + rng.random_range(0..900),
                arrears_pence: rng.random_bool(0.98).then(|| {
                    if owes {
                        rng.random_range(500..320_000)
                    } else {
                        rng.random_range(-4_000..1)
                    }
                }),
            }
        })
        .collect()
}

pub(crate) fn tax(wards: &[Ward], scale: Scale, rng: &mut impl Rng) -> Vec<TaxAccount> {
    (0..scale.rows(6_000))
        .map(|i| {
            let (band, ninths) =
                BANDS[[0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6][rng.random_range(0..12)]];
            // One house in three hundred is a mansion.
            let (band, ninths) = if rng.random_bool(1.0 / 300.0) {
                BANDS[7]
            } else {
                (band, ninths)
            };
            let charge = BAND_D_PENCE * ninths / 9;
            TaxAccount {
                account: format!("CT{:07}", 1_000_000 + i * 7),
                ward: wards[rng.random_range(0..wards.len())].ward.clone(),
                band,
                charge_pence: charge,
                paid_pence: if rng.random_bool(0.9) {
                    charge
                } else {
                    rng.random_range(0..charge)
                },
            }
        })
        .collect()
}
