//! The one program, `guildhall`: every role, the demo city, and the shell.
//!
//! The library part brings up whole cities in one process ([`city`]) and speaks to gateways
//! ([`sql`]); the demo, the tests and the benchmarks share it.

#![expect(
    clippy::print_stdout,
    reason = "this is the crate that speaks on standard output"
)]

pub mod city;
pub mod commands;
pub mod demo;
pub mod sql;
