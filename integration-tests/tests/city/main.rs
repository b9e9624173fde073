//! A city in one process, asked over its front door.

#![expect(
    clippy::unwrap_used,
    reason = "tests; clippy's own allowance does not reach helper functions"
)]

mod clients;
mod federation;
mod real_data;
mod release;
mod venv;
