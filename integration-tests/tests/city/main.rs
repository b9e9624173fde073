//! A city in one process, asked over its front door.

#![expect(
    clippy::unwrap_used,
    reason = "tests; clippy's own allowance does not reach helper functions"
)]

mod analyst;
mod at_rest;
mod bad_input;
mod bad_statements;
mod checking;
mod clients;
mod door;
mod faults;
mod federation;
mod joint;
mod keys;
mod linked;
mod lying_gateway;
mod preparing;
mod processes;
mod real_data;
mod release;
mod rogue;
mod same;
#[path = "../../../crates/plan/src/planner/tests/tpch_queries.rs"]
mod tpch_queries;
mod twins;
mod workers;

use guildhall_integration_tests::venv;
use std::path::Path;

/// Runs the Python tests in `folder` with the packages of `clients/requirements.txt`.
fn pytest(folder: &Path, variables: &[(&str, &Path)]) -> anyhow::Result<()> {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/requirements.txt");
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv");
    let python = venv::python(&requirements, &home)?;
    eprint!("{}", venv::pytest(&python, folder, variables)?);
    Ok(())
}
