//! The rules of disclosure control beside the packages that they come from, over random microdata.
//!
//! `conformance/random_tables.py` makes the data and runs the packages; what is compared is recomputed here from the same
//! microdata, by the names that `disclosure` has for everybody. Where the two differ on purpose, the difference itself is
//! asserted: that it is there, and that it is no larger than said.

#![expect(
    clippy::unwrap_used,
    reason = "tests; clippy's own allowance does not reach helper functions"
)]

mod acro;
mod ons;

use guildhall_integration_tests::venv;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What the package `what` makes of so many random tables. `GUILDHALL_CASES` asks for as many instead, and
/// `GUILDHALL_SEED` for other ones.
fn tables(what: &str, tables: u64) -> Vec<Value> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let python = venv::python(&here.join("requirements.txt"), &home).unwrap();
    let asked = |name, default| match std::env::var(name) {
        Ok(number) => number.parse().unwrap(),
        Err(_) => default,
    };
    let (seed, tables): (u64, u64) = (asked("GUILDHALL_SEED", 1), asked("GUILDHALL_CASES", tables));
    let mut script = Command::new(python);
    script.arg(here.join("random_tables.py"));
    script.args([what, &seed.to_string(), &tables.to_string()]);
    let lines = venv::run(script.env("MPLBACKEND", "Agg")).unwrap();
    let made: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(made.len() as u64, tables);
    made
}
