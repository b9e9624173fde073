//! What is added up over a cell.

use crate::internal;
use arrow::datatypes::Schema;
use datafusion::common::DataFusionError;
use guildhall_disclosure::joint::TotalTerms;
use guildhall_grant::product::{Measure, Product};
use guildhall_model::ColumnName;
use guildhall_plan::cube::{CubeAgg, CubeQuery, Scale};

/// The totals that a question needs of each cell, each once.
#[derive(Debug, Clone)]
pub struct Totals<'a>(Vec<TotalOf<'a>>);

/// What is added up over a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TotalOf<'a> {
    /// Rows.
    Rows,
    /// A measure.
    Sum(&'a Measure),
    /// Rows that have a value of a measure.
    Values(&'a Measure),
}

impl<'a> Totals<'a> {
    /// Those of `query` over `product`.
    pub fn of(query: &CubeQuery, product: &'a Product) -> Result<Self, DataFusionError> {
        let mut totals = Vec::new();
        let mut add = |total| {
            if !totals.contains(&total) {
                totals.push(total);
            }
        };
        let measure = |column: &ColumnName| {
            let measure = product.measure(column.as_str());
            measure.ok_or_else(|| internal("a sum of what is no measure"))
        };
        for told in &query.aggregates {
            match &told.aggregate {
                CubeAgg::CountUnits => {}
                CubeAgg::CountRows => add(TotalOf::Rows),
                CubeAgg::CountMeasure(c) => add(TotalOf::Values(measure(c)?)),
                CubeAgg::Sum(c) => add(TotalOf::Sum(measure(c)?)),
                CubeAgg::Avg(c) => {
                    add(TotalOf::Sum(measure(c)?));
                    add(TotalOf::Values(measure(c)?));
                }
            }
        }
        Ok(Self(totals))
    }

    /// In the order of the facts.
    pub fn iter(&self) -> impl Iterator<Item = TotalOf<'a>> + '_ {
        self.0.iter().copied()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The number of the total of rows.
    pub fn rows(&self) -> Result<usize, DataFusionError> {
        self.at(|t| *t == TotalOf::Rows)
    }

    /// The number of the total of a measure.
    pub fn sum(&self, column: &ColumnName) -> Result<usize, DataFusionError> {
        self.at(|t| matches!(t, TotalOf::Sum(m) if m.column == *column))
    }

    /// The number of the total of rows that have a value of a measure.
    pub fn values(&self, column: &ColumnName) -> Result<usize, DataFusionError> {
        self.at(|t| matches!(t, TotalOf::Values(m) if m.column == *column))
    }

    fn at(&self, is: impl Fn(&TotalOf<'_>) -> bool) -> Result<usize, DataFusionError> {
        let at = self.0.iter().position(is);
        at.ok_or_else(|| internal("a total that was not planned"))
    }

    /// What holds of each, by what `product` declares; `schema` is its view's.
    pub fn terms(
        &self,
        product: &Product,
        schema: &Schema,
    ) -> Result<Vec<TotalTerms>, DataFusionError> {
        self.iter().map(|t| t.terms(product, schema)).collect()
    }
}

impl TotalOf<'_> {
    /// What holds of it, by what `product` declares; `schema` is its view's.
    pub fn terms(self, product: &Product, schema: &Schema) -> Result<TotalTerms, DataFusionError> {
        let most = product.max_rows_per_unit;
        Ok(match self {
            Self::Rows | Self::Values(_) => TotalTerms {
                // One row of a unit at most: by declaration a count of rows is one of units.
                ones: most == 1,
                lower: 0,
                upper: most.into(),
                scale: 0,
            },
            Self::Sum(measure) => {
                let scale = scale(measure, schema)?;
                let (lower, upper) = scale.bounds(measure)?;
                TotalTerms {
                    ones: false,
                    lower,
                    upper,
                    scale: scale.decimals,
                }
            }
        })
    }
}

fn scale(measure: &Measure, schema: &Schema) -> Result<Scale, DataFusionError> {
    let field = schema.field_with_name(measure.column.as_str())?;
    Scale::of(measure, field.data_type()).ok_or_else(|| internal("a measure that is no number"))
}
