//! How much noise a statistic carries, and adding it.

use crate::dp::{DpError, Rho, Sensitivity, sampler};
use num_bigint::BigUint;
use rand_core::CryptoRng;
use std::fmt;

/// The parameter sigma^2 of discrete Gaussian noise, an exact ratio in lowest terms.
///
/// The variance is never above it. Invariant: above zero, and at most [`Sigma2::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sigma2 {
    numerator: u128,
    denominator: u128,
}

impl Sigma2 {
    /// The most that is added: a noise beyond 64 bits says that the bounds or the cost are wrong.
    pub const MAX: u128 = 1 << 124;

    /// The ratio `numerator / denominator`.
    pub fn new(numerator: u128, denominator: u128) -> Result<Self, DpError> {
        if numerator == 0 || denominator == 0 {
            return Err(DpError::NoNoise);
        }
        let common = gcd(numerator, denominator);
        let (numerator, denominator) = (numerator / common, denominator / common);
        if numerator.div_ceil(denominator) > Self::MAX {
            return Err(DpError::NoiseTooLarge);
        }
        Ok(Self {
            numerator,
            denominator,
        })
    }

    /// The noise that makes a statistic of this sensitivity cost `rho`: `sigma^2 = D^2 / (2 rho)`, without rounding.
    pub fn for_cost(sensitivity: Sensitivity, rho: Rho) -> Result<Self, DpError> {
        const HALF_A_RHO: u128 = 500_000_000; // D^2 / (2 rho) = D^2 10^9 / (2 nano)
        let (square, nano) = (sensitivity.squared(), u128::from(rho.nano()));
        if square == 0 || nano == 0 {
            return Err(DpError::NoNoise);
        }
        let common = gcd(square, nano);
        let numerator = (square / common)
            .checked_mul(HALF_A_RHO)
            .ok_or(DpError::NoiseTooLarge)?;
        Self::new(numerator, nano / common)
    }

    /// The upper part of the ratio.
    #[must_use]
    pub fn numerator(&self) -> u128 {
        self.numerator
    }

    /// The lower part of the ratio.
    #[must_use]
    pub fn denominator(&self) -> u128 {
        self.denominator
    }

    /// A distance from the true value that at least 95 % of draws stay within, in units of the value's last digit.
    ///
    /// 1.96 sigma, rounded up: beyond it the discrete Gaussian has no more in its tails than the continuous one.
    #[must_use]
    pub fn error_95(&self) -> i128 {
        const SQUARE_OF_1_959964: u128 = 3_841_459; // millionths, rounded up
        let over = BigUint::from(self.numerator) * SQUARE_OF_1_959964;
        ceil_sqrt(&over, &(BigUint::from(self.denominator) * 1_000_000u32))
    }
}

impl fmt::Display for Sigma2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            under => write!(f, "{}/{under}", self.numerator),
        }
    }
}

/// `value` with a draw of the discrete Gaussian of `sigma2` added, in units of the value's last digit.
///
/// Total: a sum beyond 128 bits is the nearest that fits, which is done to the noisy value and so tells no more.
pub fn noisy<R: CryptoRng + ?Sized>(value: i128, sigma2: &Sigma2, rng: &mut R) -> i128 {
    value.saturating_add(sampler::discrete_gaussian(sigma2, rng))
}

/// The least m with `m^2 >= over / under`.
pub(crate) fn ceil_sqrt(over: &BigUint, under: &BigUint) -> i128 {
    let square = (over + under - 1u32) / under;
    let root = square.sqrt();
    let root = if &root * &root < square {
        root + 1u32
    } else {
        root
    };
    i128::try_from(root).unwrap_or(i128::MAX)
}

pub(crate) fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dp::Bounds;
    use crate::dp::yardstick::Tape;

    #[test]
    fn noise_is_the_exact_ratio_of_sensitivity_and_cost() {
        let sigma2 = |bounds: Bounds, nano| {
            Sigma2::for_cost(bounds.sensitivity(), Rho::from_nano(nano)).unwrap()
        };
        assert_eq!(
            sigma2(Bounds::units(1).unwrap(), 500_000_000).to_string(),
            "1"
        );
        assert_eq!(
            sigma2(Bounds::units(1).unwrap(), 10_000_000).to_string(),
            "50"
        );
        assert_eq!(
            sigma2(Bounds::units(2).unwrap(), 30_000_000).to_string(),
            "100/3"
        );
        assert_eq!(
            sigma2(Bounds::total(3, -7, 100).unwrap(), 50_000_000).to_string(),
            "300000"
        );
    }

    #[test]
    fn the_cost_comes_back_out_of_the_noise() {
        for nano in [1u64, 3, 7_777_777, 999_999_937] {
            let bounds = Bounds::total(5, -11, 13).unwrap();
            let sigma2 = Sigma2::for_cost(bounds.sensitivity(), Rho::from_nano(nano)).unwrap();
            // rho = D^2 / (2 sigma^2), in billionths, crosswise so that nothing is rounded
            let left = bounds.sensitivity().squared() * sigma2.denominator() * 1_000_000_000;
            assert_eq!(left, 2 * sigma2.numerator() * u128::from(nano));
        }
    }

    #[test]
    fn extreme_noise_is_refused_and_not_wrapped() {
        assert_eq!(Sigma2::new(0, 1), Err(DpError::NoNoise));
        assert_eq!(Sigma2::new(1, 0), Err(DpError::NoNoise));
        assert_eq!(Sigma2::new(Sigma2::MAX + 1, 1), Err(DpError::NoiseTooLarge));
        assert_eq!(
            Sigma2::new(2 * Sigma2::MAX + 1, 2),
            Err(DpError::NoiseTooLarge)
        );
        assert!(Sigma2::new(u128::MAX, 16).is_ok());
        let wide = Bounds::total(1, 0, 1 << 63).unwrap().sensitivity();
        assert_eq!(
            Sigma2::for_cost(wide, Rho::from_nano(1)),
            Err(DpError::NoiseTooLarge)
        );
        assert_eq!(Sigma2::for_cost(wide, Rho::ZERO), Err(DpError::NoNoise));
    }

    #[test]
    fn a_sum_beyond_128_bits_is_the_nearest_that_fits() {
        let sigma2 = Sigma2::new(Sigma2::MAX, 1).unwrap();
        let mut rng = Tape::seeded(1);
        let draws: Vec<i128> = (0..64)
            .map(|_| noisy(i128::MAX, &sigma2, &mut rng))
            .collect();
        assert!(
            draws.contains(&i128::MAX)
                && draws.iter().any(|&d| d < i128::MAX)
                && draws.iter().all(|&d| d > 0)
        );
    }

    #[test]
    fn the_root_is_the_least_that_reaches() {
        for (over, under, root) in [
            (1u32, 1u32, 1),
            (2, 1, 2),
            (4, 1, 2),
            (5, 1, 3),
            (1, 2, 1),
            (9, 2, 3),
            (8, 2, 2),
        ] {
            assert_eq!(
                ceil_sqrt(&over.into(), &under.into()),
                root,
                "{over}/{under}"
            );
        }
    }
}
