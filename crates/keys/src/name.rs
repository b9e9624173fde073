//! Which key is meant.

use guildhall_model::{ColumnName, DatasetName, PeriodName};
use std::fmt;

/// The name of a column key within a department.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName {
    /// The dataset at rest.
    pub dataset: DatasetName,
    /// Its column; `None` for the footer.
    pub column: Option<ColumnName>,
    /// The span of time whose keys live and die together.
    pub period: PeriodName,
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "{}.{column} ({})", self.dataset, self.period),
            None => write!(f, "the footer of {} ({})", self.dataset, self.period),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_column_dataset_and_period() {
        let column = |c: Option<&str>| KeyName {
            dataset: "permits".parse().unwrap(),
            column: c.map(|c| c.parse().unwrap()),
            period: "2026".parse().unwrap(),
        };
        assert_eq!(
            column(Some("postcode")).to_string(),
            "permits.postcode (2026)"
        );
        assert_eq!(column(None).to_string(), "the footer of permits (2026)");
        assert!(column(None) < column(Some("postcode")));
    }
}
