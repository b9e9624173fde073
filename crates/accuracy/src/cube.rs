//! What is told of the columns of the cube lane, whose values have cell-key noise.

use crate::Told;

/// Dominance, as a column's metadata names it: two units make up less than nine tenths, and the others give at least a
/// tenth of what the largest does. The rules themselves are the node's.
pub const DOMINANCE: &str = "dominance=2,0.90;p-ratio=0.10";

/// How far a count is moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CellNoise {
    /// The most, either way.
    pub most: u32,
    /// The variance.
    pub variance: f64,
}

impl CellNoise {
    /// The noise of the cube lane.
    pub const STANDARD: Self = Self {
        most: 5,
        variance: 3.0,
    };
}

/// What a column of cells is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// A part of the cell's name.
    Key,
    /// A count of distinct units.
    Units,
    /// A total: a sum of a measure, or a count of rows.
    Total {
        /// Whether a unit gives 1 or nothing, by what the product declares: then it is a count of units.
        ones: bool,
    },
    /// A released sum over a released count.
    Mean {
        /// Whether the count is of ones.
        ones: bool,
    },
}

impl Column {
    /// Its rule and its error, under a minimum group of `minimum_group` distinct units.
    #[must_use]
    pub fn told(self, minimum_group: u32, noise: CellNoise) -> Told {
        Told {
            rule: self.rule(minimum_group, noise),
            error: self.error(noise),
        }
    }

    fn rule(self, k: u32, noise: CellNoise) -> String {
        let cell = format!("minimum-group={k};margins");
        let noise = format!("cell-key={},{}", noise.most, noise.variance);
        match self {
            Self::Key => cell,
            Self::Units => format!("{cell};{noise}"),
            Self::Total { .. } | Self::Mean { .. } => {
                format!("{cell};minimum-contributors={k};{DOMINANCE};clamped-per-unit;{noise}")
            }
        }
    }

    fn error(self, noise: CellNoise) -> String {
        match self {
            Self::Key => crate::NO_ERROR.to_owned(),
            Self::Units => units_error(noise.most),
            Self::Total { ones: true } => units_error(noise.most),
            Self::Total { ones: false } => sum_error(noise.most),
            Self::Mean { ones } => mean_error(noise.most, ones),
        }
    }
}

/// How far a released count of units may be from the true one, if it moves by `most` at most.
#[must_use]
pub fn units_error(most: u32) -> String {
    format!("at most {most}")
}

/// How far a released sum may be from the true one, if each of its noises moves it by `most` steps at most: that of its
/// contributors' count, and its own.
#[must_use]
pub fn sum_error(most: u32) -> String {
    format!(
        "{} mean contributions and {}",
        units_error(most),
        own_error(most)
    )
}

/// How far a released mean may be: what moves its sum and its count alike leaves it where it is.
#[must_use]
pub fn mean_error(most: u32, ones: bool) -> String {
    let count = match ones {
        true => "not moved".to_owned(),
        false => format!("moved by {}", own_error(most)),
    };
    format!("its sum moved by {}, its count {count}", own_error(most))
}

/// How far a total's own noise may move it, after clamping.
fn own_error(most: u32) -> String {
    let percent = u64::from(most) * 5;
    format!(
        "at most {percent}% of the largest contribution, or {most} in the last digit if that is more"
    )
}

/// What the cube lane withholds whatever is asked, one rule a line.
#[must_use]
pub fn withheld(minimum_group: u32) -> [(&'static str, String); 4] {
    let k = minimum_group;
    [
        (
            "minimum-group",
            format!("cells of fewer than {k} distinct units, before or after noise"),
        ),
        (
            "minimum-contributors",
            format!("totals that fewer than {k} distinct units give to, before or after noise"),
        ),
        (
            "dominance",
            "totals of which two units make up nine tenths, or whose others give less than a tenth of the largest, \
             or that a unit gives less than nought to"
                .to_owned(),
        ),
        (
            "margins",
            "what could be worked out from the margins of its table if the above alone were withheld".to_owned(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_told_to_be_at_most_five_off() {
        let told = Column::Units.told(10, CellNoise::STANDARD);
        assert_eq!(told.rule, "minimum-group=10;margins;cell-key=5,3");
        assert_eq!(told.error, "at most 5");
    }

    #[test]
    fn a_total_names_the_rules_of_totals_too() {
        for column in [Column::Total { ones: false }, Column::Mean { ones: true }] {
            let told = column.told(10, CellNoise::STANDARD);
            assert!(told.rule.contains(DOMINANCE), "{}", told.rule);
            assert!(told.error.contains(&own_error(5)), "{}", told.error);
        }
        let count = Column::Total { ones: true }.told(10, CellNoise::STANDARD);
        assert_eq!(count.error, "at most 5");
        assert_eq!(Column::Key.told(10, CellNoise::STANDARD).error, "none");
    }
}
