//! Key periods: whose column keys live and die together.
//!
//! An import makes fresh keys. It holds public recipients alone, so it cannot unwrap the keys
//! of earlier versions, and rows appended later must have keys of their own: version 1 of a
//! dataset with period `all` has the keys of `all`, rows that version 4 brought those of
//! `all.4`. A period is destroyed by destroying the keys of it and of its sub-periods.

use guildhall_model::{NameError, PeriodName};

/// The period of the rows that `version` brings, under the declared period `base`.
pub(crate) fn of_version(base: &PeriodName, version: u32) -> Result<PeriodName, NameError> {
    if version == 1 {
        return Ok(base.clone());
    }
    format!("{base}.{version}").parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_after_the_first_has_a_period_of_its_own() {
        let base: PeriodName = "all".parse().unwrap();
        assert_eq!(of_version(&base, 1).unwrap().as_str(), "all");
        assert_eq!(of_version(&base, 4).unwrap().as_str(), "all.4");
    }
}
