//! Tests of the whole: firebreaks, a small city in one process, real clients, real data; and conformance of the rules with
//! the packages that they come from.

pub mod venv;
