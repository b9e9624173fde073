//! How far off a released value may be, and the words for it.
//!
//! Which rule a released column passed and how far from the truth it may be are functions of the owner's product and of
//! what is asked, never of the data. So whoever plans a question can tell both before it is asked, in the very words in
//! which the node that answers it says them: both call [`cube`] and [`adhoc`]. Below them lies the mathematics of the ad
//! hoc lane's noise ([`dp`]).
//!
//! Holds no data and no secret, and decides nothing: what leaves is for the disclosure control of the node alone. A
//! gateway that reaches this crate could not relax a rule with it.

pub mod adhoc;
pub mod cube;
pub mod dp;

/// Field metadata that names the rule a column was released under.
pub const RULE_METADATA: &str = "guildhall.rule";
/// Field metadata that names how far a released value may be from the true one.
pub const ERROR_METADATA: &str = "guildhall.error";

/// What is told of a released column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The rule it passed.
    pub rule: String,
    /// How far from the true value it may be; `none` for what is exact.
    pub error: String,
}

impl Told {
    /// What is told of a column that says no more than its rule lets it, exactly.
    #[must_use]
    pub fn exact(rule: impl Into<String>) -> Self {
        Self {
            rule: rule.into(),
            error: NO_ERROR.to_owned(),
        }
    }

    /// The same as metadata of the column's field, by key and value.
    #[must_use]
    pub fn metadata(self) -> [(String, String); 2] {
        [
            (RULE_METADATA.to_owned(), self.rule),
            (ERROR_METADATA.to_owned(), self.error),
        ]
    }
}

/// The error of what is exact.
const NO_ERROR: &str = "none";

/// The companion of a released value, which says what was done to it.
pub mod status {
    use super::Told;

    /// A value with its noise.
    pub const PERTURBED: &str = "perturbed";
    /// A value that a rule kept back.
    pub const SUPPRESSED: &str = "suppressed";
    /// A mean whose released count is not above nought, or a value that its column's type cannot hold.
    pub const UNDEFINED: &str = "undefined";

    /// The name of the companion of the column called `name`.
    #[must_use]
    pub fn name(name: &str) -> String {
        format!("{name}_status")
    }

    /// What is told of a companion.
    #[must_use]
    pub fn told() -> Told {
        Told::exact("cell-status")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_names_rule_and_error() {
        let [rule, error] = status::told().metadata();
        assert_eq!(
            (rule.0.as_str(), rule.1.as_str()),
            ("guildhall.rule", "cell-status")
        );
        assert_eq!(
            (error.0.as_str(), error.1.as_str()),
            ("guildhall.error", "none")
        );
    }
}
