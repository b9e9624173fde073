//! The perturbation table against `vectors/ptable.csv`, and against what it has to keep.

use crate::{PTable, PTableError, PTableSpec};

/// D, V, js, count, step, probability to four digits.
const VECTORS: &str = include_str!("../../vectors/ptable.csv");

#[test]
fn the_probabilities_are_those_of_the_vectors() {
    for line in VECTORS.lines().filter(|l| !l.starts_with('#')) {
        let fields: Vec<&str> = line.split(',').collect();
        let whole = |at: usize| fields[at].parse::<u32>().unwrap();
        let number = |at: usize| fields[at].parse::<f64>().unwrap();
        let step: i64 = fields[4].parse().unwrap();
        let table = table(whole(0), number(1), whole(2));
        let chance = table.chances(whole(3).into()).find(|(d, _)| *d == step);
        let chance = chance.map_or(0.0, |(_, p)| p);
        assert!((chance - number(5)).abs() <= 5e-5, "{line}: {chance}");
    }
}

#[test]
fn every_row_adds_to_one_has_mean_zero_and_the_variance_and_keeps_its_support() {
    for (most, variance, barred) in [
        (2, 1.0, 0),
        (5, 3.0, 0),
        (5, 3.0, 2),
        (1, 0.5, 0),
        (8, 6.0, 3),
        (20, 12.0, 0),
    ] {
        let table = table(most, variance, barred);
        for count in 1..=u64::from(most + barred) + 3 {
            let of = |k: i32| -> f64 {
                table
                    .chances(count)
                    .map(|(d, p)| p * (d as f64).powi(k))
                    .sum()
            };
            assert!((of(0) - 1.0).abs() < 1e-12, "{most} {count}");
            assert!(
                of(1).abs() < 1e-9 && (of(2) - variance).abs() < 1e-9,
                "{most} {count}"
            );
            for (d, p) in table.chances(count) {
                let published = count as i64 + d;
                assert!(p > 0.0 && d.abs() <= i64::from(most));
                assert!(published == 0 || published > i64::from(barred));
            }
        }
    }
}

#[test]
fn counts_from_d_and_js_upwards_share_a_row() {
    let table = table(5, 3.0, 2);
    let row = |n: u64| table.chances(n).collect::<Vec<_>>();
    assert_ne!(row(6), row(7));
    assert_eq!(row(7), row(8));
    assert_eq!(row(7), row(u64::MAX));
}

#[test]
fn a_count_of_zero_is_not_moved() {
    assert!(
        [0, u64::MAX / 2, u64::MAX]
            .iter()
            .all(|index| PTable::standard().noise(0, *index) == 0)
    );
    assert_eq!(PTable::standard().chances(0).count(), 0);
}

#[test]
fn the_ends_of_the_index_are_the_ends_of_the_noise() {
    let table = PTable::standard();
    assert_eq!((table.noise(7, 0), table.noise(7, u64::MAX)), (-5, 5));
    assert_eq!((table.noise(1, 0), table.noise(1, u64::MAX)), (-1, 5));
    assert_eq!(table.noise(7, u64::MAX / 2), 0);
}

#[test]
fn the_standard_table_has_all_its_rows() {
    let spec = PTableSpec {
        most: 5,
        variance: 3.0,
        barred: 0,
    };
    assert_eq!(PTable::standard().spec(), spec);
    assert_eq!(PTable::standard().most(), 5);
    assert!((1..20).all(|n| PTable::standard().chances(n).count() >= 7));
}

#[test]
fn what_no_table_can_keep_is_refused() {
    let spec = |most, variance, barred| PTableSpec {
        most,
        variance,
        barred,
    };
    for bad in [
        spec(0, 1.0, 0),
        spec(101, 1.0, 0),
        spec(5, 0.0, 0),
        spec(5, f64::NAN, 0),
        spec(5, 1.0, 101),
    ] {
        assert_eq!(PTable::generate(bad).err(), Some(PTableError::Spec));
    }
    // A count of 1 can only go down by 1: with D = 5 the variance is 5 at most.
    let wide = PTable::generate(spec(5, 5.5, 0)).err();
    assert!(
        matches!(wide, Some(PTableError::Infeasible { count: 1, .. })),
        "{wide:?}"
    );
}

fn table(most: u32, variance: f64, barred: u32) -> PTable {
    PTable::generate(PTableSpec {
        most,
        variance,
        barred,
    })
    .unwrap()
}
