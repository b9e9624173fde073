#![expect(clippy::unwrap_used, reason = "tests")]
mod at_rest;
mod bad_input;
mod door;
mod faults;
mod keys;
mod lying_gateway;
mod rogue;
