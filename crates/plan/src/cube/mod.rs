//! Questions to a private product: the closed grammar of its cube.
//!
//! [`recognise`] reads an aggregation over one product of class `aggregate` and gives a
//! [`CubeQuery`], or a [`Refusal`] with a public rule name and what to ask instead. The grammar:
//! `COUNT(*)`, `COUNT(DISTINCT <unit>)`, `COUNT`, `SUM` and `AVG` of registered measures, by
//! registered dimensions and their roll-ups, filtered by one equality for each dimension or by
//! one registered group of its values.
//!
//! Gateway and node both run it, each on the plan it has: the gateway to cut, the node because it
//! does not trust the gateway. It decides what may be asked; thresholds and bounds are applied to
//! what comes out, elsewhere.

mod axes;
mod canonical;
mod limit;
mod recognise;
mod scale;
mod source;
mod told;
mod value;

pub use axes::{AxisPlace, CubeAxis, CubeLevel, LevelBy, axes};
pub use recognise::recognise;
pub use scale::Scale;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use guildhall_grant::product::RollUp;
use guildhall_model::{ColumnName, ProductRef};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A question to the cube of one product.
#[derive(Debug, Clone, PartialEq)]
pub struct CubeQuery {
    /// The product.
    pub product: ProductRef,
    /// The column that names its privacy unit.
    pub unit: ColumnName,
    /// What the cells are told apart by, in the order of the output.
    pub keys: Vec<CubeKey>,
    /// What the cells are limited to; all must hold. No two name the same dimension.
    pub filters: Vec<CubeFilter>,
    /// What is told of each cell, in the order of the output, after the keys.
    pub aggregates: Vec<CubeAggregate>,
}

/// One key of the cells.
#[derive(Debug, Clone, PartialEq)]
pub struct CubeKey {
    /// The name of the output column.
    pub name: String,
    /// The dimension.
    pub column: ColumnName,
    /// The coarser grouping, `DateTrunc` always; none for the dimension's own values.
    pub roll_up: Option<RollUp>,
    /// The type of the output column.
    pub data_type: DataType,
}

/// One limit of the cells. Its `Debug` names the dimension and not the value.
#[derive(Clone, PartialEq)]
pub enum CubeFilter {
    /// The dimension, or one of its coarser groupings, has one value.
    Eq {
        /// The dimension.
        column: ColumnName,
        /// The coarser grouping, `DateTrunc` always; none for the dimension's own values.
        roll_up: Option<RollUp>,
        /// The value, of the dimension's (or grouping's) type, never null.
        value: ScalarValue,
    },
    /// The dimension has one of the values of a registered group.
    InRollUp {
        /// The dimension.
        column: ColumnName,
        /// The group, `Group` always.
        roll_up: RollUp,
        /// Its values, of the dimension's type, sorted by their text.
        values: Vec<ScalarValue>,
    },
}

/// One column of the answer that is not a key.
#[derive(Debug, Clone, PartialEq)]
pub struct CubeAggregate {
    /// The name of the output column.
    pub name: String,
    /// What is told.
    pub aggregate: CubeAgg,
    /// The type that the measure is widened to before it is added, if it is.
    pub argument: Option<DataType>,
    /// The type of the output column.
    pub data_type: DataType,
}

/// What is told of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CubeAgg {
    /// How many rows.
    CountRows,
    /// How many distinct units.
    CountUnits,
    /// How many rows with a value of the measure.
    CountMeasure(ColumnName),
    /// The total of the measure.
    Sum(ColumnName),
    /// The mean of the measure over rows that have it.
    Avg(ColumnName),
}

/// Why a question is not of the cube, in words for whoever asked.
///
/// Names of columns and functions may appear, literals never.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (rule `{rule}`)")]
pub struct Refusal {
    /// The rule's public name, which stays the same from version to version.
    pub rule: &'static str,
    /// What the question does that the rule does not allow.
    pub reason: String,
    /// What to ask instead.
    pub instead: String,
}

impl Refusal {
    /// A refusal under the rule of that name.
    #[must_use]
    pub fn new(rule: &'static str, reason: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            rule,
            reason: reason.into(),
            instead: instead.into(),
        }
    }

    /// What to ask instead, for a `help:` line.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.instead
    }
}

impl CubeQuery {
    /// The columns of the product that the answer is made from, the unit among them.
    #[must_use]
    pub fn reads(&self) -> BTreeSet<ColumnName> {
        let mut columns = self.columns();
        columns.insert(self.unit.clone());
        columns
    }

    /// The columns of the product that the question names; the unit only if it does.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<ColumnName> {
        let keys = self.keys.iter().map(|k| &k.column);
        let filters = self.filters.iter().map(CubeFilter::column);
        let aggregates = self.aggregates.iter().filter_map(|a| a.aggregate.measure());
        keys.chain(filters).chain(aggregates).cloned().collect()
    }

    /// The columns of the answer: keys, then aggregates, each nullable.
    #[must_use]
    pub fn output_schema(&self) -> SchemaRef {
        let keys = self
            .keys
            .iter()
            .map(|k| Field::new(&k.name, k.data_type.clone(), true));
        let rest = self
            .aggregates
            .iter()
            .map(|a| Field::new(&a.name, a.data_type.clone(), true));
        Arc::new(Schema::new(keys.chain(rest).collect::<Vec<_>>()))
    }
}

impl CubeFilter {
    /// The dimension that it limits.
    #[must_use]
    pub fn column(&self) -> &ColumnName {
        match self {
            Self::Eq { column, .. } | Self::InRollUp { column, .. } => column,
        }
    }

    /// The same limit of a dimension that is called otherwise.
    #[must_use]
    pub fn renamed(&self, to: ColumnName) -> Self {
        let mut renamed = self.clone();
        match &mut renamed {
            Self::Eq { column, .. } | Self::InRollUp { column, .. } => *column = to,
        }
        renamed
    }
}

impl fmt::Debug for CubeFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, roll_up) = match self {
            Self::Eq { roll_up, .. } => ("Eq", roll_up.as_ref()),
            Self::InRollUp { roll_up, .. } => ("InRollUp", Some(roll_up)),
        };
        f.debug_struct(form)
            .field("column", self.column())
            .field("roll_up", &roll_up.map(|r| &r.name))
            .finish_non_exhaustive()
    }
}

impl CubeAgg {
    /// The measure that it reads, if it does.
    #[must_use]
    pub fn measure(&self) -> Option<&ColumnName> {
        match self {
            Self::CountRows | Self::CountUnits => None,
            Self::CountMeasure(c) | Self::Sum(c) | Self::Avg(c) => Some(c),
        }
    }

    /// The same of a measure that is called otherwise; what reads none stays.
    #[must_use]
    pub fn renamed(&self, to: ColumnName) -> Self {
        match self {
            Self::CountRows | Self::CountUnits => self.clone(),
            Self::CountMeasure(_) => Self::CountMeasure(to),
            Self::Sum(_) => Self::Sum(to),
            Self::Avg(_) => Self::Avg(to),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
