//! How far one unit can move an answer, from the policy alone.

use crate::dp::DpError;

/// The most that one unit may put into one statistic of an answer.
///
/// Invariant: at least one cell, `lower <= upper`, not both zero, and the squared sensitivity fits 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    cells_per_unit: u32,
    lower: i128,
    upper: i128,
    sensitivity: Sensitivity,
}

/// The square of a statistic's L2 sensitivity under adding or removing one unit, exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sensitivity {
    squared: u128,
}

impl Sensitivity {
    /// The square, in squared units of the value's last digit.
    #[must_use]
    pub fn squared(self) -> u128 {
        self.squared
    }
}

impl Bounds {
    /// A count of distinct units, each in at most `cells_per_unit` cells.
    pub fn units(cells_per_unit: u32) -> Result<Self, DpError> {
        Self::total(cells_per_unit, 0, 1)
    }

    /// A total, to each cell of which a unit adds one value, clamped to `lower..=upper` in units of its last digit.
    ///
    /// A count of rows is a total from nought to the most rows of a unit in a cell.
    pub fn total(cells_per_unit: u32, lower: i128, upper: i128) -> Result<Self, DpError> {
        if cells_per_unit == 0 {
            return Err(DpError::NoCells);
        }
        if lower > upper {
            return Err(DpError::CrossedBounds { lower, upper });
        }
        let sensitivity = sensitivity(cells_per_unit, lower, upper)?;
        Ok(Self {
            cells_per_unit,
            lower,
            upper,
            sensitivity,
        })
    }

    /// The most cells of one answer that a unit may be in.
    #[must_use]
    pub fn cells_per_unit(&self) -> u32 {
        self.cells_per_unit
    }

    /// The least a unit may add to a cell.
    #[must_use]
    pub fn lower(&self) -> i128 {
        self.lower
    }

    /// The most a unit may add to a cell.
    #[must_use]
    pub fn upper(&self) -> i128 {
        self.upper
    }

    /// How far one unit can move the whole statistic, over all its cells.
    #[must_use]
    pub fn sensitivity(&self) -> Sensitivity {
        self.sensitivity
    }

    /// Whether this counts units.
    pub(crate) fn counts_units(&self) -> bool {
        (self.lower, self.upper) == (0, 1)
    }
}

/// `c * max(|lower|, |upper|)^2`: a unit that comes or goes changes at most `c` cells, each by at most that much.
fn sensitivity(cells_per_unit: u32, lower: i128, upper: i128) -> Result<Sensitivity, DpError> {
    let reach = lower.unsigned_abs().max(upper.unsigned_abs());
    if reach == 0 {
        return Err(DpError::NoContribution);
    }
    reach
        .checked_mul(reach)
        .and_then(|square| square.checked_mul(u128::from(cells_per_unit)))
        .map(|squared| Sensitivity { squared })
        .ok_or(DpError::SensitivityTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensitivity_is_the_farthest_a_unit_can_reach() {
        let squared = |c, lower, upper| {
            Bounds::total(c, lower, upper)
                .unwrap()
                .sensitivity()
                .squared()
        };
        assert_eq!(Bounds::units(3).unwrap().sensitivity().squared(), 3);
        assert_eq!(squared(1, 0, 10), 100);
        assert_eq!(squared(2, -20, 10), 800);
        // A unit that leaves takes its whole value along: the width of the clamp does not help.
        assert_eq!(squared(1, 5, 10), 100);
        assert_eq!(squared(1, -10, -5), 100);
    }

    #[test]
    fn no_two_neighbours_differ_by_more_than_the_sensitivity() {
        let (cells, lower, upper) = (2u32, -3i128, 2i128);
        let most = Bounds::total(cells, lower, upper)
            .unwrap()
            .sensitivity()
            .squared();
        let mut worst = 0;
        for first in lower..=upper {
            for second in lower..=upper {
                worst = worst.max((first * first + second * second).unsigned_abs());
            }
        }
        assert_eq!(worst, most);
    }

    #[test]
    fn bounds_that_protect_nothing_or_overflow_are_refused() {
        assert_eq!(Bounds::units(0), Err(DpError::NoCells));
        assert_eq!(
            Bounds::total(1, 2, 1),
            Err(DpError::CrossedBounds { lower: 2, upper: 1 })
        );
        assert_eq!(Bounds::total(1, 0, 0), Err(DpError::NoContribution));
        assert_eq!(
            Bounds::total(1, i128::MIN, 0),
            Err(DpError::SensitivityTooLarge)
        );
        assert_eq!(
            Bounds::total(u32::MAX, 0, 1 << 60),
            Err(DpError::SensitivityTooLarge)
        );
        assert_eq!(
            Bounds::total(1, 0, 1 << 63)
                .unwrap()
                .sensitivity()
                .squared(),
            1 << 126
        );
    }
}
