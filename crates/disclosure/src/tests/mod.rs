//! Tests of the cube lane as a whole, and what they are built with.

mod audit;
mod beside;
mod differential;
mod gate;
mod gather;
mod joint;
mod lattice;
mod measure;
mod names;
mod noise;
mod ptable;
mod worlds;

use crate::{NoiseSecret, PTable};

pub(crate) const SECRET: [u8; 32] = *b"the secret which only tests know";

pub(crate) fn secret() -> NoiseSecret {
    NoiseSecret::from_bytes(SECRET)
}

/// A table that moves nothing, for tests of what does not depend on noise.
pub(crate) fn still() -> &'static PTable {
    static STILL: std::sync::LazyLock<PTable> = std::sync::LazyLock::new(PTable::still);
    &STILL
}

/// How many cases a differential test runs: `GUILDHALL_CASES`, or as many as it says.
pub(crate) fn cases(usual: u32) -> u32 {
    std::env::var("GUILDHALL_CASES")
        .map_or(usual, |n| n.parse().expect("GUILDHALL_CASES is a number"))
}
