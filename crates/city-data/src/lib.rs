//! A made-up city: councils, wards, car parks, traffic, air, care and housing, from a seed.
//!
//! [`write`] makes the folder that `guildhall demo --city` reads: a `city.toml`, and for each
//! department its import specifications, its product files and its raw files with the dirt that
//! council files have (UK dates, pound signs, thousands separators, blanks, Windows-1252, rows
//! twice over, rows that do not parse). The same options give the same bytes on every machine.
//!
//! [`council`] gives the same data as plain rows, so that a test can work out the truth itself.
//! No person, vehicle or place in it is real.

#![warn(missing_docs)]

mod city;
mod departments;
mod environment;
mod files;
mod highways;
mod housing;
mod parking;
mod rhythm;
mod social_care;

pub use city::{Council, council};
pub use departments::{Department, write};
pub use environment::{Reading, Sensor};
pub use highways::{Count, Street, Ward};
pub use housing::{TaxAccount, Tenancy};
pub use parking::{CarPark, Occupancy, Session};
pub use social_care::Case;

/// The most councils a city can have.
pub const MAX_COUNCILS: usize = 6;

/// What city to make.
#[derive(Debug, Clone, PartialEq)]
pub struct CityOptions {
    /// The same seed gives the same city.
    pub seed: u64,
    /// 1.0 is two weeks of a small city, some thirty thousand rows a council; rows grow with it.
    pub scale: f64,
    /// How many councils, 1 to [`MAX_COUNCILS`].
    pub councils: usize,
    /// Only these departments; all that a council has if `None`.
    pub departments: Option<Vec<Department>>,
}

impl Default for CityOptions {
    fn default() -> Self {
        Self {
            seed: 2026,
            scale: 1.0,
            councils: 2,
            departments: None,
        }
    }
}

/// Why a city could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CityError {
    /// Out of range.
    #[error("a city has 1 to {MAX_COUNCILS} councils, not {0}")]
    Councils(usize),
    /// Not a positive number, or too large.
    #[error("a city's scale is above 0 and at most 10,000")]
    Scale,
    /// The folder.
    #[error("cannot write the city to `{}`", path.display())]
    Write {
        /// The folder or file.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The Parquet writer.
    #[error("cannot write `{}` as Parquet", path.display())]
    Parquet {
        /// The file.
        path: std::path::PathBuf,
        /// What it said.
        #[source]
        source: parquet::errors::ParquetError,
    },
}
