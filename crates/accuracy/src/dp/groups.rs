//! Which cells of an answer may show that they exist.

use crate::dp::noise::ceil_sqrt;
use crate::dp::{Delta, DpError, Sigma2};
use num_bigint::BigUint;

/// Where the groups of an answer come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Groups {
    /// From the register: the grid is known without data, and *every* cell of it is published with noise, the empty
    /// ones too. Groups found in the data that are not registered are left out.
    Registered,
    /// From the data: a cell is published where its noisy count of units reaches [`tau`], at this chance of showing a
    /// group that one unit alone is in.
    Discovered {
        /// The chance, over all cells of the answer.
        delta: Delta,
    },
}

/// The least noisy count of units at which a group discovered in the data may be published.
///
/// A unit can bring up to `cells_per_unit` groups into being, each with a count of one. That any of them reaches
/// `1 + m` has a chance of at most `cells_per_unit * exp(-m^2 / (2 sigma2))`, the discrete Gaussian being as light in
/// its tails as the continuous one (Canonne, Kamath & Steinke 2020, on its being sub-Gaussian). The least m that keeps
/// this at or below `delta` is found in integers, logarithms rounded up: about 5.3 sigma at one in a million.
pub fn tau(sigma2: &Sigma2, cells_per_unit: u32, delta: Delta) -> Result<i128, DpError> {
    if cells_per_unit == 0 {
        return Err(DpError::NoCells);
    }
    if delta == Delta::ZERO || delta >= Delta::ONE {
        return Err(DpError::NoThreshold { delta });
    }
    let odds = (u128::from(cells_per_unit) * u128::from(Delta::ONE.pico()))
        .div_ceil(u128::from(delta.pico()));
    let (log_over, log_under) = log_above(odds);
    let over = BigUint::from(sigma2.numerator()) * log_over * 2u32;
    Ok(ceil_sqrt(&over, &(BigUint::from(sigma2.denominator()) * log_under)).saturating_add(1))
}

/// A ratio at or above the natural logarithm of `x`, within 0.011: the bits of `x^64`, times `ln 2`, over 64.
fn log_above(x: u128) -> (u64, u64) {
    const LN_2: u64 = 693_147_181; // billionths, rounded up
    (BigUint::from(x).pow(64).bits() * LN_2, 64 * 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dp::yardstick::tail;

    #[test]
    fn a_group_of_one_unit_shows_with_no_more_than_delta() {
        for (over, under) in [(1u128, 10u128), (1, 4), (1, 1), (10, 3), (50, 1), (1000, 1)] {
            for cells in [1, 2, 30] {
                for pico in [1_000, 1_000_000, 1_000_000_000, 50_000_000_000] {
                    let sigma2 = Sigma2::new(over, under).unwrap();
                    let tau = tau(&sigma2, cells, Delta::from_pico(pico)).unwrap();
                    let chance = f64::from(cells) * tail(over as f64 / under as f64, tau - 1);
                    assert!(
                        chance <= pico as f64 / 1e12,
                        "{sigma2} {cells} {pico}: {tau} {chance}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_threshold_is_no_higher_than_it_has_to_be() {
        // 1 + ceil(sqrt(2 * 50 * ln 1e6)) = 1 + ceil(37.17)
        assert_eq!(
            tau(&Sigma2::new(50, 1).unwrap(), 1, Delta::ONE_IN_A_MILLION),
            Ok(39)
        );
        // 1 + ceil(sqrt(2 * 2500 * ln 3e6)) = 1 + ceil(273.08)
        assert_eq!(
            tau(&Sigma2::new(2500, 1).unwrap(), 3, Delta::ONE_IN_A_MILLION),
            Ok(275)
        );
    }

    #[test]
    fn the_logarithm_is_above_and_close() {
        for x in [1u128, 2, 3, 10, 1_000_000, 4_294_967_295_000_000_000_000] {
            let (over, under) = log_above(x);
            let excess = over as f64 / under as f64 - (x as f64).ln();
            assert!((0.0..0.012).contains(&excess), "{x}: {excess}");
        }
    }

    #[test]
    fn a_threshold_without_a_chance_of_failure_is_refused() {
        let sigma2 = Sigma2::new(1, 1).unwrap();
        assert_eq!(
            tau(&sigma2, 1, Delta::ZERO),
            Err(DpError::NoThreshold { delta: Delta::ZERO })
        );
        assert_eq!(
            tau(&sigma2, 1, Delta::ONE),
            Err(DpError::NoThreshold { delta: Delta::ONE })
        );
        assert_eq!(
            tau(&sigma2, 0, Delta::ONE_IN_A_MILLION),
            Err(DpError::NoCells)
        );
        let widest = Sigma2::new(Sigma2::MAX, 1).unwrap();
        assert!(tau(&widest, u32::MAX, Delta::from_pico(1)).unwrap() > 1 << 65);
    }
}
