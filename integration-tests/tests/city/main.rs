//! A city in one process, asked over its front door.

#![expect(
    clippy::unwrap_used,
    reason = "tests; clippy's own allowance does not reach helper functions"
)]

mod at_rest;
mod bad_input;
mod bad_statements;
mod clients;
mod door;
mod faults;
mod federation;
mod keys;
mod lying_gateway;
mod processes;
mod real_data;
mod release;
mod rogue;
mod venv;
