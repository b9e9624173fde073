//! The draws held against the closed form, and against OpenDP's. Tests only, so floating point is at home here.

use crate::dp::{Sigma2, noisy, sampler};
use num_bigint::BigUint;
use rand_core::{CryptoRng, RngCore};
use std::collections::BTreeMap;

/// How many draws a test takes: a hundred thousand, or more where `GUILDHALL_CASES` says so.
pub(crate) fn cases() -> usize {
    let said = std::env::var("GUILDHALL_CASES").ok();
    said.map_or(0, |said| {
        said.parse().expect("GUILDHALL_CASES is a number of draws")
    })
    .max(100_000)
}

/// The discrete Gaussian's closed form, as far as `f64` reaches: `exp(-x^2 / 2 sigma2)`, normalised.
pub(crate) fn gaussian_pmf(sigma2: f64) -> BTreeMap<i128, f64> {
    normalised(|x| (-x * x / (2.0 * sigma2)).exp())
}

/// The discrete Laplace's: `exp(-|x| / t)`, normalised.
fn laplace_pmf(t: f64) -> BTreeMap<i128, f64> {
    normalised(|x| (-x / t).exp())
}

/// Both sides of a weight that falls from nought.
fn normalised(weight: impl Fn(f64) -> f64) -> BTreeMap<i128, f64> {
    let half = (0i128..).map(|x| (x, weight(x as f64)));
    let both = half
        .take_while(|(_, w)| *w > 0.0)
        .flat_map(|(x, w)| [(x, w), (-x, w)]);
    let weights: BTreeMap<i128, f64> = both.collect();
    let sum: f64 = weights.values().sum();
    weights.into_iter().map(|(x, w)| (x, w / sum)).collect()
}

/// The chance that a draw is `from` or more.
pub(crate) fn tail(sigma2: f64, from: i128) -> f64 {
    gaussian_pmf(sigma2).range(from..).map(|(_, p)| p).sum()
}

/// A generator that plays given bytes, or those of a seed, and counts them.
///
/// The seeded one is SplitMix64 (Steele, Lea & Flood 2014): no secret is kept here, and millions of draws are soon made.
pub(crate) struct Tape {
    bytes: Vec<u8>,
    endless: Option<u64>,
    read: usize,
}

impl Tape {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            endless: None,
            read: 0,
        }
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            bytes: vec![],
            endless: Some(seed.wrapping_mul(0xd134_2543_de82_ef95)),
            read: 0,
        }
    }

    pub(crate) fn read(&self) -> usize {
        self.read
    }
}

impl RngCore for Tape {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, dst: &mut [u8]) {
        let to = self.read + dst.len();
        match &mut self.endless {
            Some(state) => dst.chunks_mut(8).for_each(|chunk| {
                chunk.copy_from_slice(&split_mix(state).to_le_bytes()[..chunk.len()]);
            }),
            None => dst.copy_from_slice(&self.bytes[self.read..to]),
        }
        self.read = to;
    }
}

impl CryptoRng for Tape {}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn histogram(draws: usize, mut draw: impl FnMut() -> i128) -> BTreeMap<i128, f64> {
    let mut seen = BTreeMap::new();
    (0..draws).for_each(|_| *seen.entry(draw()).or_default() += 1.0);
    seen
}

/// Whether draws fit a distribution at p > 0.001: chi-square over bins of at least ten expected draws.
fn fits(seen: &BTreeMap<i128, f64>, pmf: &BTreeMap<i128, f64>) -> bool {
    let draws: f64 = seen.values().sum();
    let outside: f64 = seen
        .iter()
        .filter(|(x, _)| !pmf.contains_key(x))
        .map(|(_, n)| n)
        .sum();
    let (mut statistic, mut bins) = (0.0, 0.0);
    let (mut found, mut expected) = (outside, 0.0);
    for (x, p) in pmf {
        found += seen.get(x).unwrap_or(&0.0);
        expected += p * draws;
        if expected >= 10.0 {
            statistic += (found - expected).powi(2) / expected;
            (bins, found, expected) = (bins + 1.0, 0.0, 0.0);
        }
    }
    // What is left over at the far end, less than ten expected, is held to its own bound.
    assert!(bins >= 2.0, "too few draws for a comparison");
    found < 40.0 && statistic < critical(bins - 1.0)
}

/// Whether two sets of draws come from one distribution at p > 0.001.
fn agree(a: &BTreeMap<i128, f64>, b: &BTreeMap<i128, f64>) -> bool {
    let (m, n): (f64, f64) = (a.values().sum(), b.values().sum());
    let (mut statistic, mut bins) = (0.0, 0.0);
    for (x, of_b) in b {
        let of_a = a.get(x).unwrap_or(&0.0);
        if *of_b * m / n >= 10.0 {
            statistic += ((n / m).sqrt() * of_a - (m / n).sqrt() * of_b).powi(2) / (of_a + of_b);
            bins += 1.0;
        }
    }
    statistic < critical(bins)
}

/// The 99.9th percentile of chi-square (Wilson & Hilferty 1931).
fn critical(freedom: f64) -> f64 {
    let part = 2.0 / (9.0 * freedom);
    freedom * (1.0 - part + 3.0902 * part.sqrt()).powi(3)
}

fn gaussian(over: u128, under: u128, seed: u64) -> impl FnMut() -> i128 {
    let (sigma2, mut rng) = (Sigma2::new(over, under).unwrap(), Tape::seeded(seed));
    move || noisy(0, &sigma2, &mut rng)
}

/// Closed forms by mpmath at 30 digits, so that the yardstick itself is held against something.
#[test]
fn the_closed_forms_are_those_worked_out_elsewhere() {
    let gaussians = [
        (
            0.25,
            [0.786570707041948, 0.106450769423145, 0.000263865076415429],
        ),
        (
            1.0,
            [0.398942278266862, 0.241970723224461, 0.0539909662243053],
        ),
        (
            10.0 / 3.0,
            [0.218509686118416, 0.188073029768256, 0.11992065834104],
        ),
        (
            50.0,
            [0.0564189583547756, 0.0558575803394468, 0.0542067393552432],
        ),
    ];
    let laplaces = [
        (
            1.0,
            [0.46211715726001, 0.170003401568548, 0.0625407563662817],
        ),
        (
            3.0,
            [0.165140412924629, 0.118328276501581, 0.0847859150396158],
        ),
    ];
    let all = gaussians
        .map(|(s, v)| (gaussian_pmf(s), v))
        .into_iter()
        .chain(laplaces.map(|(t, v)| (laplace_pmf(t), v)));
    for (pmf, vector) in all {
        for (x, p) in (0..).zip(vector) {
            assert!(
                (pmf[&x] - p).abs() < 1e-13 && pmf[&x] == pmf[&-x],
                "{x} {p}"
            );
        }
    }
}

#[test]
fn discrete_gaussian_draws_fit_the_closed_form() {
    for (seed, (over, under)) in [(1, 8), (1, 4), (1, 1), (10, 3), (50, 1), (99_999, 100)]
        .into_iter()
        .enumerate()
    {
        let seen = histogram(cases(), gaussian(over, under, seed as u64));
        assert!(
            fits(&seen, &gaussian_pmf(over as f64 / under as f64)),
            "{over}/{under}: {seen:?}"
        );
    }
}

#[test]
fn discrete_laplace_draws_fit_the_closed_form() {
    for (seed, t) in (1..).zip([1u128, 2, 3, 10]) {
        let mut rng = Tape::seeded(seed);
        let seen = histogram(cases(), || sampler::discrete_laplace(t, &mut rng));
        assert!(fits(&seen, &laplace_pmf(t as f64)), "{t}: {seen:?}");
    }
}

#[test]
fn an_exponential_chance_is_exact_in_both_kinds_of_integer() {
    for (seed, (a, b)) in (1..).zip([(1u128, 7u128), (6, 7), (7, 7), (8, 7), (30, 7)]) {
        let mut rng = Tape::seeded(seed);
        let (n, p) = (cases(), (-(a as f64) / b as f64).exp());
        let small = (0..n)
            .filter(|_| sampler::bernoulli_exp(&a, &b, &mut rng))
            .count();
        let big = (0..n)
            .filter(|_| sampler::bernoulli_exp(&BigUint::from(a), &BigUint::from(b), &mut rng))
            .count();
        for successes in [small, big] {
            let z = (successes as f64 - n as f64 * p) / (n as f64 * p * (1.0 - p)).sqrt();
            assert!(z.abs() < 4.0, "{a}/{b}: {z}");
        }
    }
}

/// The comparison has to be able to fail: a variance a twentieth too small, a mean a thirtieth of sigma off.
#[test]
fn draws_of_another_distribution_do_not_fit() {
    let pmf = gaussian_pmf(50.0);
    let mut right = gaussian(50, 1, 1);
    assert!(fits(&histogram(cases(), &mut right), &pmf));
    assert!(!fits(&histogram(cases(), gaussian(95, 2, 2)), &pmf));
    let mut count = 0u64;
    let leaning = || {
        count += 1;
        right() + i128::from(count.is_multiple_of(4))
    };
    assert!(!fits(&histogram(cases(), leaning), &pmf));
}

#[test]
fn noise_is_unbiased_and_its_variance_is_what_it_says() {
    for (seed, over) in [1u128, 50, 4_000, 90_000_000_000].into_iter().enumerate() {
        let (mut draw, n, variance) = (gaussian(over, 1, seed as u64), cases() as f64, over as f64);
        let draws: Vec<f64> = (0..cases()).map(|_| draw() as f64).collect();
        let mean = draws.iter().sum::<f64>() / n;
        let square = draws.iter().map(|d| d * d).sum::<f64>() / n;
        assert!(
            mean.abs() < 4.0 * (variance / n).sqrt(),
            "{over}: mean {mean}"
        );
        assert!(
            (square - variance).abs() < 4.0 * variance * (2.0 / n).sqrt(),
            "{over}: {square}"
        );
    }
}

#[test]
fn the_error_bound_holds_19_in_20_and_is_no_wider_than_it_has_to_be() {
    for (over, under) in [
        (1u128, 9u128),
        (1, 4),
        (1, 1),
        (10, 3),
        (50, 1),
        (997, 1),
        (12_345, 1),
    ] {
        let (sigma2, value) = (
            Sigma2::new(over, under).unwrap(),
            over as f64 / under as f64,
        );
        let within = |bound: i128| 1.0 - 2.0 * tail(value, bound + 1);
        let bound = sigma2.error_95();
        assert!(within(bound) >= 0.95, "{sigma2}: {bound}");
        assert!(
            bound < 2 || within(bound - 2) < 0.95,
            "{sigma2}: {bound} is wide"
        );
    }
    assert_eq!(Sigma2::new(50, 1).unwrap().error_95(), 14);
    assert_eq!(Sigma2::new(10_000, 1).unwrap().error_95(), 196);
}

/// A million draws each of `opendp` 0.16.0's `sample_discrete_gaussian`, at scale 5/2 and scale 2.
#[test]
fn draws_agree_with_those_of_opendp() {
    let histogram_of = |from: i128, counts: &[u32]| -> BTreeMap<i128, f64> {
        (from..).zip(counts.iter().map(|&n| f64::from(n))).collect()
    };
    let wider = histogram_of(-13, &OPENDP_SCALE_5_2);
    let narrower = histogram_of(-9, &OPENDP_SCALE_2);
    assert!(agree(&histogram(cases(), gaussian(25, 4, 1)), &wider));
    assert!(agree(&histogram(cases(), gaussian(4, 1, 2)), &narrower));
    assert!(!agree(&histogram(cases(), gaussian(25, 4, 3)), &narrower));
    assert!(!agree(&histogram(cases(), gaussian(6, 1, 4)), &wider));
}

const OPENDP_SCALE_5_2: [u32; 26] = [
    2, 1, 7, 62, 224, 913, 3153, 8802, 21612, 44337, 77629, 115930, 147238, 159582, 147840, 115548,
    77608, 44471, 21591, 9024, 3174, 959, 229, 53, 10, 1,
];

const OPENDP_SCALE_2: [u32; 19] = [
    6, 62, 449, 2216, 8668, 27314, 64732, 120947, 175910, 199224, 176400, 121114, 64530, 26942,
    8715, 2256, 441, 70, 4,
];
