//! The whole path, on real encrypted files, with a gateway that tells the truth.

mod cells;
mod contributing;
mod leave;
mod linking;
mod pacing;
mod preparing;
mod rows;
mod stopping;
mod versions;

const KINSON: &str = "SELECT ward, count(*) AS n, count(DISTINCT vehicle) AS vehicles, sum(paid_pence) AS paid \
                      FROM northmoor.parking.sessions GROUP BY ward";

/// How far a total over so many units is off at most: five mean contributions, and five steps of a twentieth of the
/// largest or of one.
fn off(total: f64, units: f64, largest: f64) -> f64 {
    5.0 * total / units + 5.0 * (largest / 20.0).max(1.0) + 1.0
}

/// Each number is near the true one.
fn about(told: &[String], truth: &[f64], off: &[f64]) {
    assert_eq!(told.len(), truth.len());
    for ((told, truth), off) in told.iter().zip(truth).zip(off) {
        let number: f64 = told.parse().unwrap();
        assert!(
            (number - truth).abs() <= *off,
            "{number} is not within {off} of {truth}"
        );
    }
}

fn rows_of(table: &str) -> Vec<Vec<String>> {
    let cells = |row: &str| {
        row.trim_matches('|')
            .split('|')
            .map(|c| c.trim().to_owned())
            .collect()
    };
    table
        .lines()
        .skip(3)
        .filter(|l| l.starts_with('|'))
        .map(cells)
        .collect()
}
