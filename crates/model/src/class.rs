//! The classes that decide what may leave, and to whom.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What may leave the node from a product, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseClass {
    /// Rows, to any principal with a grant.
    Open,
    /// Rows, to the principals and purposes that policy names.
    Restricted,
    /// Cells that passed disclosure control.
    Aggregate,
    /// Rows sealed to a named officer, on a warrant.
    Warranted,
}

impl ReleaseClass {
    /// Whether single rows may leave under an ordinary grant.
    #[must_use]
    pub fn releases_rows(self) -> bool {
        matches!(self, Self::Open | Self::Restricted)
    }

    /// The word used in product files and policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Restricted => "restricted",
            Self::Aggregate => "aggregate",
            Self::Warranted => "warranted",
        }
    }
}

impl fmt::Display for ReleaseClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a column of a product may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnClass {
    /// Freely, rows included where the product releases rows.
    Open,
    /// To group and filter in cells. Where rows are released, to filter and count, never in a row; which rows a
    /// filter keeps tells of it all the same.
    Quasi,
    /// To sum and average, within its bounds.
    Measure,
    /// To join inside a clean room, as a token; here also the privacy unit.
    Identifier,
    /// Never, in any form.
    Secret,
}

impl ColumnClass {
    /// The word used in product files and policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Quasi => "quasi",
            Self::Measure => "measure",
            Self::Identifier => "identifier",
            Self::Secret => "secret",
        }
    }
}

impl fmt::Display for ColumnClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a grant lets out of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputClass {
    /// Cells that passed disclosure control.
    ReleasedCells,
    /// Rows of open (or permitted) products.
    OpenRows,
    /// What is known of cells before disclosure control, to a clean room alone.
    PartialCells,
    /// Rows whose unit is a token that means nothing after the question, to a clean room alone.
    TokenisedRows,
}

impl OutputClass {
    /// The word used in policies and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReleasedCells => "released-cells",
            Self::OpenRows => "open-rows",
            Self::PartialCells => "partial-cells",
            Self::TokenisedRows => "tokenised-rows",
        }
    }
}

impl fmt::Display for OutputClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
