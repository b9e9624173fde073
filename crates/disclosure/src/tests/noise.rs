//! Noise as drawn: its keys against vectors, its distribution, and what it has to do with who is in a cell.

use crate::tests::{SECRET, secret};
use crate::{NoiseSecret, PTable};
use ring::hkdf;

#[test]
fn keys_and_indices_are_hmac_sha256_as_written() {
    // From Python's `hmac` and `hashlib`, over the same bytes.
    assert_eq!(secret().record_key(b"AB12 CDE"), RECORD_KEY);
    assert_eq!(secret().draws().index("total", "rows", 12_345, 7), INDEX);
    let derived = secret().derive("parking/permits 2026-11");
    assert_eq!(derived.record_key(b"AB12 CDE"), DERIVED);
}

#[test]
fn a_derived_secret_is_hkdf_of_its_label() {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"guildhall cell-key noise").extract(&SECRET);
    let info = [b"parking".as_slice()];
    let mut bytes = [0; 32];
    let okm = prk.expand(&info, Length).unwrap();
    okm.fill(&mut bytes).unwrap();
    let derived = secret().derive("parking");
    assert_eq!(
        derived.record_key(b"u"),
        NoiseSecret::from_bytes(bytes).record_key(b"u")
    );
    assert_ne!(
        derived.record_key(b"u"),
        secret().derive("parkin").record_key(b"u")
    );
}

struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

#[test]
fn a_secret_shows_nothing_and_a_clone_draws_the_same() {
    assert_eq!(format!("{:?}", secret()), "NoiseSecret(..)");
    assert_eq!(secret().clone().record_key(b"u"), secret().record_key(b"u"));
}

#[test]
fn names_do_not_run_into_each_other() {
    assert_ne!(
        secret().draws().index("a", "bc", 1, 1),
        secret().draws().index("ab", "c", 1, 1)
    );
    assert_ne!(
        secret().draws().index("a", "b", 1, 2),
        secret().draws().index("a", "b", 2, 1)
    );
}

#[test]
fn noise_over_many_cells_has_the_distribution_of_its_row() {
    // Chi-square at p = 0.001, for one less than the row's steps.
    for (n, critical) in [(1, 22.458), (3, 26.125), (5, 29.588), (7, 29.588)] {
        let mut seen = [0_u32; 11];
        for cell in 0..CELLS {
            seen[usize::try_from(noise_of("units", cell * 100, n) + 5).unwrap()] += 1;
        }
        let off = |(d, p): (i64, f64)| {
            let (expected, got) = (
                p * CELLS as f64,
                f64::from(seen[usize::try_from(d + 5).unwrap()]),
            );
            (got - expected).powi(2) / expected
        };
        let chi_square: f64 = PTable::standard().chances(n).map(off).sum();
        assert!(chi_square < critical, "count {n}: {chi_square}");
    }
}

#[test]
fn the_noise_of_cells_that_nest_has_nothing_in_common() {
    let pairs = (0..CELLS).map(|cell| {
        (
            noise_of("units", cell * 100, 6),
            noise_of("units", cell * 100, 7),
        )
    });
    assert!(correlation(pairs).abs() < 0.01);
}

#[test]
fn the_noise_of_two_totals_of_the_same_units_has_nothing_in_common() {
    let pairs = (0..CELLS).map(|cell| {
        (
            noise_of("units", cell * 100, 6),
            noise_of("total", cell * 100, 6),
        )
    });
    assert!(correlation(pairs).abs() < 0.01);
}

/// Cells of each test.
const CELLS: u64 = 100_000;
const RECORD_KEY: u64 = 6_483_443_062_211_227_160;
const INDEX: u64 = 9_539_851_374_216_416_888;
const DERIVED: u64 = 10_409_083_603_528_460_129;

/// The noise of the cell of the `n` units from `first` on.
fn noise_of(kind: &str, first: u64, n: u64) -> i64 {
    let (secret, draws) = (secret(), secret().draws());
    let keys = (first..first + n).map(|unit| secret.record_key(&unit.to_le_bytes()));
    let key_sum = keys.fold(0, u64::wrapping_add);
    PTable::standard().noise(n, draws.index(kind, "", key_sum, n))
}

fn correlation(pairs: impl Iterator<Item = (i64, i64)>) -> f64 {
    let pairs: Vec<(f64, f64)> = pairs.map(|(x, y)| (x as f64, y as f64)).collect();
    let mean =
        |pick: fn(&(f64, f64)) -> f64| pairs.iter().map(pick).sum::<f64>() / pairs.len() as f64;
    let (mx, my) = (mean(|p| p.0), mean(|p| p.1));
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| -> f64 { pairs.iter().map(|(x, y)| f(x - mx, y - my)).sum() };
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}
