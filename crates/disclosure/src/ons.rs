//! Cell-key perturbation as the Office for National Statistics has it, for conformance.
//!
//! `cell-key-perturbation` 3.1.0 (github.com/ONSdigital/cell-key-perturbation) in its SQL form: a NULL category is a
//! category, a missing record key adds nothing, and a pair without a row in the table does not move. Guildhall's own cube lane keeps the idea and not the form: see
//! [`Noise`](crate::Noise).

use std::collections::HashMap;

/// The count below which nothing is published, unless a release says otherwise.
pub const THRESHOLD: i64 = 10;
/// The last count with a row of its own.
const ROWS: u64 = 750;
/// How many of the last rows larger counts take turns in.
const REUSED: u64 = 250;

/// A perturbation table in ONS's form: for each pair of `pcv` and cell key, how far a count moves.
#[derive(Debug, Clone)]
pub struct OnsTable {
    keys: u64,
    moves: HashMap<(u64, u64), i64>,
}

/// A perturbed cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnsCell {
    /// The row of the table that the count fell in.
    pub pcv: u64,
    /// How far it moved.
    pub pvalue: i64,
    /// What is published; none below the threshold.
    pub count: Option<i64>,
}

impl OnsTable {
    /// The table of these rows of `(pcv, ckey, pvalue)`.
    #[must_use]
    pub fn new(rows: impl IntoIterator<Item = (u64, u64, i64)>) -> Self {
        let moves: HashMap<_, _> = rows
            .into_iter()
            .map(|(pcv, ckey, pvalue)| ((pcv, ckey), pvalue))
            .collect();
        let keys = moves
            .keys()
            .map(|(_, ckey)| ckey.saturating_add(1))
            .max()
            .unwrap_or(1);
        Self { keys, moves }
    }

    /// The 10-5 table: counts below 10 go to 0, others to the nearest 5, whatever their key of 256.
    #[must_use]
    pub fn ten_five() -> Self {
        let pvalue = |pcv: i64| match (pcv, pcv % 5) {
            (0..10, _) => -pcv,
            (_, r @ 0..3) => -r,
            (_, r) => 5 - r,
        };
        let row = |pcv: u64| {
            (0..256).map(move |ckey| (pcv, ckey, pvalue(i64::try_from(pcv).unwrap_or(0))))
        };
        Self::new((1..=ROWS).flat_map(row))
    }

    /// The cell key of units with these record keys: their sum, modulo as many keys as the table has.
    ///
    /// A missing key adds nothing.
    #[must_use]
    pub fn cell_key(&self, record_keys: impl IntoIterator<Item = Option<u64>>) -> u64 {
        let keys = record_keys.into_iter().flatten().map(|key| key % self.keys);
        keys.fold(0, |sum, key| (sum + key) % self.keys)
    }

    /// A cell of `n` units and key `ckey`, published from `threshold` upwards. A pair without a row does not move.
    #[must_use]
    pub fn cell_key_perturb(&self, n: u64, ckey: u64, threshold: i64) -> OnsCell {
        let pcv = pcv(n);
        let pvalue = self.moves.get(&(pcv, ckey)).copied().unwrap_or(0);
        let count = i64::try_from(n).ok().and_then(|n| n.checked_add(pvalue));
        OnsCell {
            pcv,
            pvalue,
            count: count.filter(|count| *count >= threshold),
        }
    }
}

/// The row of a count: its own up to 750, from there on rows 501 to 750 in turn.
#[must_use]
pub fn pcv(n: u64) -> u64 {
    match n {
        0..=ROWS => n,
        _ => (n - 1) % REUSED + (ROWS - REUSED + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// n, ckey, pvalue, published; from the package's own generator.
    const VECTORS: &str = include_str!("../vectors/ons_10_5.csv");

    #[test]
    fn cells_are_published_as_the_package_does() {
        let table = OnsTable::ten_five();
        for line in VECTORS.lines().filter(|l| !l.starts_with('#')) {
            let f: Vec<&str> = line.split(',').map(str::trim).collect();
            let cell =
                table.cell_key_perturb(f[0].parse().unwrap(), f[1].parse().unwrap(), THRESHOLD);
            assert_eq!(
                (cell.pvalue, cell.count),
                (f[2].parse().unwrap(), f[3].parse().ok()),
                "{line}"
            );
        }
    }

    #[test]
    fn large_counts_take_turns_in_the_last_rows() {
        let examples = [
            (0, 0),
            (1, 1),
            (750, 750),
            (751, 501),
            (1000, 750),
            (1001, 501),
            (100_001, 501),
        ];
        assert_eq!(examples.map(|(n, _)| pcv(n)), examples.map(|(_, row)| row));
    }

    #[test]
    fn the_ten_five_table_rounds_alike_for_every_key() {
        let table = OnsTable::ten_five();
        for ckey in [0, 128, 255] {
            let moves = (10..15).map(|n| table.cell_key_perturb(n, ckey, THRESHOLD).pvalue);
            assert_eq!(moves.collect::<Vec<_>>(), [0, -1, -2, 2, 1]);
        }
        assert_eq!(
            table.cell_key_perturb(12, 256, THRESHOLD).pvalue,
            0,
            "no such key"
        );
    }

    #[test]
    fn the_threshold_comes_after_the_noise() {
        let table = OnsTable::new([(9, 3, 1), (10, 3, -1), (10, 255, 0)]);
        assert_eq!(table.cell_key_perturb(9, 3, THRESHOLD).count, Some(10));
        assert_eq!(table.cell_key_perturb(10, 3, THRESHOLD).count, None);
    }

    #[test]
    fn a_cell_key_is_the_sum_of_record_keys_and_a_missing_one_adds_nothing() {
        let table = OnsTable::ten_five();
        assert_eq!(table.cell_key([Some(200), None, Some(100)]), 44);
        assert_eq!(table.cell_key([]), 0);
    }
}
