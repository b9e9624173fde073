//! What the node's own plans of cells read of each row, and how a unit's totals come about.
//!
//! A unit counts once in a cell however many rows it has there, and its totals are clamped to what the product allows.
//! Rows are made into cells by [`guildhall_disclosure::Gathering`]; for free questions a plan adds them up by units.
//!
//! Sums are added as decimals, whose order does not matter: the same rows give the same sum. Every step is
//! total, with the help of [`super::total`]: what cannot be computed is NULL, since an error would tell of the
//! row that caused it.

use super::functions::record_key;
use super::total::as_time;
use crate::error::RunError;
use crate::product::{View, origin};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::{Column, DataFusionError, ScalarValue, TableReference};
use datafusion::functions::expr_fn::{date_trunc, isnan};
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit, try_cast, when};
use guildhall_cube::{TotalOf, Totals, internal};
use guildhall_disclosure::dp::Bounds;
use guildhall_disclosure::{Adds, CellDraws, Facts, Noise, NoiseSecret, PTable, Takes};
use guildhall_grant::product::{Measure, Product, RollUp, RollUpKind};
use guildhall_model::ColumnName;
use guildhall_plan::cube::{CubeLevel, CubeQuery, LevelBy, Scale};

/// How far beyond its bound one row's value is followed, before it is added to its unit's total.
const HEADROOM: f64 = 1024.0;

/// What every table of cells over one product's relation has in common for one question.
#[derive(Debug)]
pub(super) struct CellFacts<'a> {
    pub(super) product: &'a Product,
    view: &'a View,
    name: &'a TableReference,
    unit: &'a ColumnName,
    /// Secret of the records of the unit's dataset, and its name.
    secret: NoiseSecret,
    label: String,
    totals: Totals<'a>,
}

impl<'a> CellFacts<'a> {
    /// What `query` asks to know of cells of `product`, the columns of whose `view` are named by `name`.
    pub(super) fn new(
        query: &CubeQuery,
        product: &'a Product,
        view: &'a View,
        name: &'a TableReference,
        secret: &NoiseSecret,
    ) -> Result<Self, DataFusionError> {
        let unit = product.unit.as_ref();
        let unit = unit.ok_or_else(|| internal("a product of cells has no unit"))?;
        let label = joined(origin(view, unit)?.iter());
        Ok(Self {
            product,
            view,
            name,
            unit,
            secret: secret.derive(&label),
            label,
            totals: Totals::of(query, product)?,
        })
    }

    /// Where in the facts of a cell each number stands, and how it is judged.
    pub(super) fn layout(&self) -> Result<Facts, DataFusionError> {
        let ids = self.total_ids()?;
        let terms = self.totals.terms(self.product, self.view.schema())?;
        let totals = ids.into_iter().zip(terms.iter().map(|t| t.ones));
        let noise = Noise {
            draws: CellDraws::Own(self.secret.draws()),
            table: PTable::standard(),
        };
        Ok(Facts::gathered(self.product.minimum_group, totals, noise))
    }

    /// The secret that record keys and noise are of.
    pub(super) fn secret(&self) -> &NoiseSecret {
        &self.secret
    }

    /// What each total is of, in the order of the facts.
    pub(super) fn total_ids(&self) -> Result<Vec<String>, DataFusionError> {
        self.totals.iter().map(|of| self.id(of)).collect()
    }

    /// The totals that are added up.
    pub(super) fn totals(&self) -> &Totals<'a> {
        &self.totals
    }

    /// What a total is of, whatever product and whatever question asks for it.
    fn id(&self, of: TotalOf<'_>) -> Result<String, DataFusionError> {
        Ok(match of {
            TotalOf::Rows => "rows".to_owned(),
            TotalOf::Sum(m) => format!("sum:{}", self.lineage(&m.column)?),
            TotalOf::Values(m) => format!("values:{}", self.lineage(&m.column)?),
        })
    }

    /// The dataset columns that a measure's values are made of: the same for every product that offers them.
    fn lineage(&self, column: &ColumnName) -> Result<String, DataFusionError> {
        let datasets = origin(self.view, column)?;
        let reads = self.product.column(column.as_str()).map(|c| &c.reads);
        let reads = reads.into_iter().flatten();
        let made_of = reads.filter(|r| datasets.contains(&r.dataset));
        Ok(joined(
            made_of.map(|r| format!("{}.{}", r.dataset, r.column)),
        ))
    }

    /// The rows of `relation` that are of somebody: the keys, the unit, then what each gives to the totals as
    /// [`Self::adds`] has it.
    pub(super) fn rows_of(
        &self,
        relation: LogicalPlan,
        keys: Vec<Expr>,
    ) -> Result<LogicalPlan, DataFusionError> {
        let keys = keys.into_iter().enumerate();
        let mut columns: Vec<Expr> = keys
            .map(|(at, key)| key.alias(format!("key{at}")))
            .collect();
        columns.push(self.column(self.unit).alias("unit"));
        for (at, measure) in self.measures().into_iter().enumerate() {
            let column = self.column(&measure.column);
            let exact = exact(self.scale(measure)?, column, measure)?;
            columns.push(exact.alias(format!("value{at}")));
        }
        LogicalPlanBuilder::from(relation)
            // Invariant: a row of nobody stands on no unit, so it is in no cell.
            .filter(self.column(self.unit).is_not_null())?
            .project(columns)?
            .build()
    }

    /// How each total is added up from the rows of [`Self::rows_of`].
    pub(super) fn adds(&self) -> Result<Vec<Adds>, DataFusionError> {
        let measures = self.measures();
        let column = |measure: &Measure| {
            let at = measures.iter().position(|m| m.column == measure.column);
            at.ok_or_else(|| internal("a measure that was not planned"))
        };
        let schema = self.view.schema();
        let adds = self.totals.iter().map(|total| {
            let takes = match total {
                TotalOf::Rows => Takes::Rows,
                TotalOf::Values(measure) => Takes::Values(column(measure)?),
                TotalOf::Sum(measure) => Takes::Sum(column(measure)?),
            };
            let terms = total.terms(self.product, schema)?;
            Ok(Adds {
                takes,
                lower: terms.lower,
                upper: terms.upper,
                scale: terms.scale,
            })
        });
        adds.collect()
    }

    /// The measures of the totals, each once.
    fn measures(&self) -> Vec<&'a Measure> {
        let mut measures: Vec<&Measure> = Vec::new();
        for total in self.totals.iter() {
            if let TotalOf::Sum(measure) | TotalOf::Values(measure) = total
                && !measures.iter().any(|m| m.column == measure.column)
            {
                measures.push(measure);
            }
        }
        measures
    }

    /// One row for each unit in each cell: the keys, its record key, its totals and the unit itself.
    pub(super) fn per_unit(
        &self,
        relation: LogicalPlan,
        keys: Vec<Expr>,
        groups: &[Expr],
    ) -> Result<LogicalPlan, DataFusionError> {
        let keys = keys.into_iter().enumerate();
        let mut columns: Vec<Expr> = keys
            .map(|(at, key)| key.alias(format!("key{at}")))
            .collect();
        columns.push(self.column(self.unit).alias("unit"));
        let mut sums = vec![count(lit(1_i64)).alias("rows")];
        let mut after = groups.to_vec();
        after.push(record_key(&self.secret, &self.label, plain("unit")).alias("record"));
        for (at, total) in self.totals.iter().enumerate() {
            let (column, one, all) = self.total(at, total)?;
            columns.extend(column.map(|c| c.alias(format!("value{at}"))));
            sums.extend(one.map(|s| s.alias(format!("raw{at}"))));
            after.push(all.alias(format!("total{at}")));
        }
        after.push(plain("unit"));
        let by_unit = groups.iter().cloned().chain([plain("unit")]);
        let by_unit: Vec<Expr> = by_unit.collect();
        LogicalPlanBuilder::from(relation)
            // Invariant: a row of nobody stands on no unit, so it is in no cell.
            .filter(self.column(self.unit).is_not_null())?
            .project(columns)?
            .aggregate(by_unit, sums)?
            .project(after)?
            .build()
    }

    /// What one total takes of each row, how it is added up over a unit's, and the unit's clamped total of it:
    /// NULL if it contributes nothing.
    fn total(
        &self,
        at: usize,
        total: TotalOf<'_>,
    ) -> Result<(Option<Expr>, Option<Expr>, Expr), DataFusionError> {
        let (value, raw) = (numbered("value", at), numbered("raw", at));
        Ok(match total {
            TotalOf::Rows => (None, None, self.at_most(plain("rows"))?),
            TotalOf::Sum(measure) => {
                let scale = self.scale(measure)?;
                let of_row = exact(scale, self.column(&measure.column), measure)?;
                let clamped = clamp(scale, raw, measure)?;
                (Some(of_row), Some(sum(value)), clamped)
            }
            TotalOf::Values(measure) => {
                let none = raw.clone().eq(lit(0_i64));
                let some = when(
                    none,
                    lit(ScalarValue::Decimal128(None, DECIMAL128_MAX_PRECISION, 0)),
                )
                .otherwise(self.at_most(raw)?)?;
                let scale = self.scale(measure)?;
                let of_row = exact(scale, self.column(&measure.column), measure)?;
                (Some(of_row), Some(count(value)), some)
            }
        })
    }

    /// A unit's count of rows as a decimal, no more than the product lets count.
    fn at_most(&self, rows: Expr) -> Result<Expr, DataFusionError> {
        let most = lit(i64::from(self.product.max_rows_per_unit));
        let rows = when(rows.clone().gt(most.clone()), most).otherwise(rows)?;
        Ok(cast(
            rows,
            DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0),
        ))
    }

    fn scale(&self, measure: &Measure) -> Result<Scale, DataFusionError> {
        let field = self
            .view
            .schema()
            .field_with_name(measure.column.as_str())?;
        Scale::of(measure, field.data_type()).ok_or_else(|| internal("a measure that is no number"))
    }

    /// A dimension at a level.
    pub(super) fn level(
        &self,
        CubeLevel { column, by }: &CubeLevel,
    ) -> Result<Expr, DataFusionError> {
        match by {
            LevelBy::Value => Ok(self.column(column)),
            LevelBy::Trunc(roll_up) => self.truncated(column, Some(roll_up)),
            LevelBy::Groups(groups) => {
                let text = try_cast(self.column(column), DataType::Utf8);
                let mut whens = Vec::new();
                for RollUp { name, kind } in groups {
                    if let RollUpKind::Group(values) = kind {
                        let values = values.iter().map(|v| lit(v.as_str())).collect();
                        let within = text.clone().in_list(values, false);
                        whens.push((Box::new(within), Box::new(lit(name.as_str()))));
                    }
                }
                let case = datafusion::logical_expr::Case::new(None, whens, None);
                Ok(Expr::Case(case))
            }
        }
    }

    /// A dimension, or a coarser grouping of it by time.
    pub(super) fn truncated(
        &self,
        name: &ColumnName,
        roll_up: Option<&RollUp>,
    ) -> Result<Expr, DataFusionError> {
        let column = self.column(name);
        match roll_up.map(|r| &r.kind) {
            None => Ok(column),
            Some(RollUpKind::DateTrunc(unit)) => {
                let field = self.view.schema().field_with_name(name.as_str())?;
                let time = as_time(column, field.data_type());
                Ok(date_trunc(lit(unit.as_str()), time))
            }
            Some(RollUpKind::Group(_)) => Err(internal("a group of values is no key")),
        }
    }

    /// How far one unit can move the total of each number, if it is in so many cells at most.
    pub(super) fn bounds(&self, cells_per_unit: u32) -> Result<Vec<Bounds>, RunError> {
        let schema = self.view.schema();
        let bounds = |total: TotalOf<'_>| {
            let terms = total.terms(self.product, schema)?;
            Bounds::total(cells_per_unit, terms.lower, terms.upper).map_err(RunError::from)
        };
        self.totals.iter().map(bounds).collect()
    }

    /// A secret of the unit's dataset for another use.
    pub(super) fn secret_for(&self, purpose: &str) -> NoiseSecret {
        self.secret.derive(purpose)
    }

    /// A column of the product.
    pub(super) fn column(&self, name: &ColumnName) -> Expr {
        self.named(name.as_str())
    }

    /// The same, where the name is known to be of a column.
    pub(super) fn named(&self, name: &str) -> Expr {
        Expr::Column(Column::new(Some(self.name.clone()), name))
    }
}

fn joined(names: impl Iterator<Item = impl ToString>) -> String {
    let names: Vec<String> = names.map(|n| n.to_string()).collect();
    names.join(",")
}

/// One row's value as a decimal; NULL where it is none.
fn exact(scale: Scale, value: Expr, measure: &Measure) -> Result<Expr, DataFusionError> {
    if !scale.floating {
        return Ok(try_cast(value, scale.data_type()));
    }
    let far = measure.lower.abs().max(measure.upper.abs()) * HEADROOM;
    let value = cast(value, DataType::Float64);
    let bounded = when(isnan(value.clone()), lit(ScalarValue::Float64(None)))
        .when(value.clone().gt(lit(far)), lit(far))
        .when(value.clone().lt(lit(-far)), lit(-far))
        .otherwise(value)?;
    Ok(try_cast(bounded, scale.data_type()))
}

/// A unit's total within the measure's bounds; NULL if it has no value.
fn clamp(scale: Scale, total: Expr, measure: &Measure) -> Result<Expr, DataFusionError> {
    let (lower, upper) = scale.bounds(measure)?;
    let bound = |v| {
        lit(ScalarValue::Decimal128(
            Some(v),
            DECIMAL128_MAX_PRECISION,
            scale.decimals,
        ))
    };
    let (lower, upper) = (bound(lower), bound(upper));
    let total = try_cast(total, scale.data_type());
    when(total.clone().lt(lower.clone()), lower)
        .when(total.clone().gt(upper.clone()), upper)
        .otherwise(total)
}

pub(super) fn plain(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

pub(super) fn numbered(name: &str, at: usize) -> Expr {
    plain(&format!("{name}{at}"))
}
