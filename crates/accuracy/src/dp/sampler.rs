//! Exact samplers: uniform bits in, integers out, and nothing but integers on the way.
//!
//! Canonne, Kamath & Steinke 2020 (arXiv 2004.00010), algorithms 1 to 3. Each step's probability is a ratio of
//! integers that is compared with a uniform integer below its denominator, so the distribution is the closed form
//! itself and not an approximation. Loops end with probability one; no bound on them could be exact.
//!
//! Bytes are read little-endian, as few as the bound needs: a seed gives the same draw on every machine.

use crate::dp::Sigma2;
use num_bigint::BigUint;
use rand_core::CryptoRng;

/// A draw from the discrete Gaussian: x has probability proportional to `exp(-x^2 / (2 sigma2))`.
///
/// With `sigma2 = n/d` and `t = floor(sigma) + 1`, a discrete Laplace y of scale t is kept with probability
/// `exp(-(|y| - sigma2/t)^2 / (2 sigma2))`, which is `exp(-(|y| t d - n)^2 / (2 n d t^2))`.
pub(crate) fn discrete_gaussian<R: CryptoRng + ?Sized>(sigma2: &Sigma2, rng: &mut R) -> i128 {
    let t = (sigma2.numerator() / sigma2.denominator()).isqrt() + 1;
    loop {
        let y = discrete_laplace(t, rng);
        let keep = match short_ratio(y, t, sigma2) {
            Some((over, under)) => bernoulli_exp(&over, &under, rng),
            None => {
                let (over, under) = long_ratio(y, t, sigma2);
                bernoulli_exp(&over, &under, rng)
            }
        };
        if keep {
            return y;
        }
    }
}

/// The ratio whose exponential keeps `y`, over and under.
fn long_ratio(y: i128, t: u128, sigma2: &Sigma2) -> (BigUint, BigUint) {
    let n = BigUint::from(sigma2.numerator());
    let td = BigUint::from(t) * sigma2.denominator();
    let (near, under) = (&td * y.unsigned_abs(), &n * &td * t * 2u32);
    let difference = if near > n { near - n } else { n - near };
    (&difference * &difference, under)
}

/// The same where it fits a register, as it does for most counts. Draws do not depend on which of the two is taken.
fn short_ratio(y: i128, t: u128, sigma2: &Sigma2) -> Option<(u128, u128)> {
    let n = sigma2.numerator();
    let td = t.checked_mul(sigma2.denominator())?;
    let under = td.checked_mul(n)?.checked_mul(t)?.checked_mul(2)?;
    let difference = td.checked_mul(y.unsigned_abs())?.abs_diff(n);
    let over = difference.checked_mul(difference)?;
    (under <= u128::from(u64::MAX)).then_some((over, under))
}

/// A draw from the discrete Laplace: x has probability proportional to `exp(-|x| / t)`. `t` is at least one.
///
/// The size is `u + t v`: u below t, kept with probability `exp(-u/t)`, and v successes of `exp(-1)` before a failure.
/// A minus sign on nought would count it twice, so that draw starts again.
pub(crate) fn discrete_laplace<R: CryptoRng + ?Sized>(t: u128, rng: &mut R) -> i128 {
    loop {
        let u = t.below(rng);
        if !bernoulli_exp(&u, &t, rng) {
            continue;
        }
        let size = u.saturating_add(t.saturating_mul(successes(rng)));
        let size = i128::try_from(size).unwrap_or(i128::MAX);
        match (2u128.below(rng), size) {
            (0, 0) => {}
            (0, size) => return -size,
            (_, size) => return size,
        }
    }
}

/// How often `exp(-1)` succeeds before it first fails.
fn successes<R: CryptoRng + ?Sized>(rng: &mut R) -> u128 {
    let mut v = 0;
    while bernoulli_exp(&1u128, &1u128, rng) {
        v += 1;
    }
    v
}

/// True with probability `exp(-a/b)`: once for each whole part of the ratio, and once for what is left.
pub(crate) fn bernoulli_exp<T: Whole, R: CryptoRng + ?Sized>(a: &T, b: &T, rng: &mut R) -> bool {
    let (wholes, rest) = a.divide(b);
    (0..wholes).all(|_| bernoulli_exp_below_one(&1u128, &1u128, rng))
        && bernoulli_exp_below_one(&rest, b, rng)
}

/// True with probability `exp(-a/b)` for `a <= b`: whether the first k to fail at probability `a / (b k)` is odd.
fn bernoulli_exp_below_one<T: Whole, R: CryptoRng + ?Sized>(a: &T, b: &T, rng: &mut R) -> bool {
    let mut k = 1u64;
    while b.times(k).below(rng) < *a {
        k += 1;
    }
    k % 2 == 1
}

/// Non-negative integers, small ones in a register and the rest of any length.
pub(crate) trait Whole: Sized + PartialOrd {
    /// Uniform in `0..self`. `self` is above zero.
    fn below<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> Self;

    /// The product. Invariant for `u128`: `self` is below 2^64, as scales are and [`short_ratio`] sees to.
    fn times(&self, k: u64) -> Self;

    /// The whole part of `self / by`, and what is left. A whole part beyond 64 bits is cut to it: to tell the
    /// difference takes 2^64 successes at `exp(-1)` in a row.
    fn divide(&self, by: &Self) -> (u64, Self);
}

impl Whole for u128 {
    fn below<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> Self {
        let bits = Self::BITS - (self - 1).leading_zeros();
        let mask = Self::MAX.checked_shr(Self::BITS - bits).unwrap_or(0);
        loop {
            let mut bytes = [0; 16];
            rng.fill_bytes(&mut bytes[..bits.div_ceil(8) as usize]);
            let draw = Self::from_le_bytes(bytes) & mask;
            if draw < *self {
                return draw;
            }
        }
    }

    fn times(&self, k: u64) -> Self {
        self * Self::from(k)
    }

    fn divide(&self, by: &Self) -> (u64, Self) {
        (u64::try_from(self / by).unwrap_or(u64::MAX), self % by)
    }
}

impl Whole for BigUint {
    fn below<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> Self {
        let bits = (self - 1u32).bits();
        let mut bytes = vec![0; usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX)];
        let spare = u32::try_from(bytes.len() as u64 * 8 - bits).unwrap_or(0);
        loop {
            rng.fill_bytes(&mut bytes);
            if let Some(top) = bytes.last_mut() {
                *top &= u8::MAX >> spare;
            }
            let draw = Self::from_bytes_le(&bytes);
            if draw < *self {
                return draw;
            }
        }
    }

    fn times(&self, k: u64) -> Self {
        self * k
    }

    fn divide(&self, by: &Self) -> (u64, Self) {
        (u64::try_from(self / by).unwrap_or(u64::MAX), self % by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dp::yardstick::Tape;
    use std::collections::BTreeMap;

    /// Every byte once: how often each value comes, those thrown away aside.
    fn every_byte(bound: u128) -> Vec<usize> {
        let mut seen = BTreeMap::new();
        for byte in 0..=255 {
            // A second byte of zeros follows for those that are thrown away.
            let mut tape = Tape::new(vec![byte, 0]);
            let draw = bound.below(&mut tape);
            *seen.entry(draw).or_default() += usize::from(tape.read() == 1);
        }
        assert!(seen.keys().copied().eq(0..bound));
        seen.into_values().collect()
    }

    #[test]
    fn a_uniform_draw_takes_every_value_equally_often() {
        assert_eq!(every_byte(5), [32; 5]);
        assert_eq!(every_byte(64), [4; 64]);
        assert_eq!(every_byte(200), [1; 200]);
    }

    #[test]
    fn a_draw_below_one_reads_nothing() {
        let mut tape = Tape::new(vec![]);
        assert_eq!(1u128.below(&mut tape), 0);
        assert_eq!(BigUint::from(1u32).below(&mut tape), BigUint::ZERO);
    }

    #[test]
    fn both_kinds_of_integer_draw_alike() {
        for (seed, bound) in [
            2u128,
            3,
            255,
            256,
            257,
            1 << 64,
            (1 << 80) + 12345,
            u128::MAX,
        ]
        .into_iter()
        .enumerate()
        {
            let (mut small, mut big) = (Tape::seeded(seed as u64), Tape::seeded(seed as u64));
            for _ in 0..200 {
                assert_eq!(
                    BigUint::from(bound.below(&mut small)),
                    BigUint::from(bound).below(&mut big)
                );
            }
            assert_eq!(small.read(), big.read());
        }
    }

    #[test]
    fn the_short_ratio_is_the_long_one() {
        let mut short = 0;
        for (n, d) in [
            (1, 7),
            (50, 1),
            (10, 3),
            (1 << 31, 1),
            (1 << 40, 3),
            (Sigma2::MAX, 1),
            (u128::MAX, 16),
        ] {
            let sigma2 = Sigma2::new(n, d).unwrap();
            for (t, y) in [
                (1, 0),
                (8, -31),
                (9, 12),
                (1 << 16, 99),
                (1 << 62, i128::MIN),
            ] {
                if let Some((over, under)) = short_ratio(y, t, &sigma2) {
                    short += 1;
                    assert_eq!(
                        (over.into(), under.into()),
                        long_ratio(y, t, &sigma2),
                        "{sigma2} {t} {y}"
                    );
                }
            }
        }
        assert!((12..30).contains(&short), "{short} of 35 are short");
    }

    #[test]
    fn a_sure_thing_is_sure() {
        assert!(bernoulli_exp(&0u128, &7u128, &mut Tape::seeded(1)));
        let far = (BigUint::from(u128::MAX), BigUint::from(1u32));
        assert!((0..64).all(|seed| !bernoulli_exp(&far.0, &far.1, &mut Tape::seeded(seed))));
    }

    #[test]
    fn the_widest_noise_still_draws_both_signs() {
        let widest = Sigma2::new(Sigma2::MAX, 1).unwrap();
        let mut rng = Tape::seeded(3);
        let draws: Vec<i128> = (0..200)
            .map(|_| discrete_gaussian(&widest, &mut rng))
            .collect();
        let beyond = draws.iter().filter(|d| d.unsigned_abs() > 1 << 62).count();
        assert!(
            (30..100).contains(&beyond),
            "{beyond} of 200 beyond one sigma, 63 expected"
        );
        assert!(draws.iter().any(|&d| d < 0) && draws.iter().any(|&d| d > 0));
    }

    #[test]
    fn the_narrowest_noise_is_nought() {
        let narrowest = Sigma2::new(1, u128::MAX).unwrap();
        let mut rng = Tape::seeded(4);
        assert!((0..100).all(|_| discrete_gaussian(&narrowest, &mut rng) == 0));
    }
}
