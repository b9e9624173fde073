//! The node's own plan for a question of cells, and the rule that its result is weighed by.
//!
//! The gateway's plan is never run. From what was recognised in it the node builds two aggregations: the inner
//! one has a row for each unit in each cell, so that a unit counts once however many rows it has and its total
//! is clamped to the measure's bounds; the outer one counts units and contributors and adds the totals up.
//!
//! Sums are added as decimals, whose order does not matter: the same rows give the same sum. Every step is
//! total, with the help of [`super::total`]: what cannot be computed is NULL, since an error would tell of the
//! row that caused it.

use super::total::as_time;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, SchemaRef};
use datafusion::common::{Column, DataFusionError, ScalarValue, TableReference};
use datafusion::functions::expr_fn::{date_trunc, isnan};
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit, try_cast, when};
use guildhall_disclosure::{CellColumn, CellRule, CellValue};
use guildhall_grant::product::{Measure, Product, RollUp, RollUpKind};
use guildhall_model::ColumnName;
use guildhall_plan::cube::{CubeAgg, CubeFilter, CubeQuery};

/// A plan of cells, and how its result is weighed.
#[derive(Debug)]
pub(crate) struct CellPlan {
    pub(crate) plan: LogicalPlan,
    pub(crate) rule: CellRule,
}

/// How far beyond its bound one row's value is followed, before it is added to its unit's total.
const HEADROOM: f64 = 1024.0;
/// The significant digits of a bound that a sum of floats keeps.
const DIGITS: i32 = 15;

/// The plan that answers `query` from `relation`, the product's relation with columns named by `name`.
pub(crate) fn cell_plan(
    query: &CubeQuery,
    product: &Product,
    schema: &SchemaRef,
    relation: LogicalPlan,
    name: &TableReference,
) -> Result<CellPlan, DataFusionError> {
    let cells = Cells {
        query,
        product,
        schema,
        name,
    };
    let unit = product
        .unit
        .as_ref()
        .ok_or_else(|| internal("a product of cells has no unit"))?;
    let measures = cells.measures()?;
    let keys = query.keys.len();
    let per_unit = cells.per_unit(relation, unit, &measures)?;
    let mut totals = vec![
        count(lit(1_i64)).alias("units"),
        sum(plain("rows")).alias("rows"),
    ];
    for at in 0..measures.len() {
        totals.push(sum(plain(&format!("total{at}"))).alias(format!("sum{at}")));
        totals.push(sum(plain(&format!("values{at}"))).alias(format!("count{at}")));
        totals.push(count(plain(&format!("total{at}"))).alias(format!("contributors{at}")));
    }
    let groups: Vec<Expr> = (0..keys).map(|at| plain(&format!("key{at}"))).collect();
    let plan = LogicalPlanBuilder::from(per_unit)
        .aggregate(groups, totals)?
        .build()?;
    Ok(CellPlan {
        plan,
        rule: cells.rule(&measures)?,
    })
}

struct Cells<'a> {
    query: &'a CubeQuery,
    product: &'a Product,
    schema: &'a SchemaRef,
    name: &'a TableReference,
}

impl Cells<'_> {
    /// The measures that are asked for, once each.
    fn measures(&self) -> Result<Vec<&Measure>, DataFusionError> {
        let mut measures: Vec<&Measure> = Vec::new();
        for column in self
            .query
            .aggregates
            .iter()
            .filter_map(|a| a.aggregate.measure())
        {
            let measure = self.product.measure(column.as_str());
            let measure = measure.ok_or_else(|| internal("a sum of what is no measure"))?;
            if !measures.iter().any(|m| m.column == measure.column) {
                measures.push(measure);
            }
        }
        Ok(measures)
    }

    /// One row for each unit in each cell: its rows, and for each measure its clamped total and count of values.
    fn per_unit(
        &self,
        relation: LogicalPlan,
        unit: &ColumnName,
        measures: &[&Measure],
    ) -> Result<LogicalPlan, DataFusionError> {
        let mut builder = LogicalPlanBuilder::from(relation)
            // Invariant: a row of nobody stands on no unit, so it is in no cell.
            .filter(self.column(unit).is_not_null())?;
        for filter in &self.query.filters {
            builder = builder.filter(self.predicate(filter)?)?;
        }
        let keys = self.query.keys.iter().enumerate().map(|(at, key)| {
            Ok(self
                .truncated(&key.column, key.roll_up.as_ref())?
                .alias(format!("key{at}")))
        });
        let mut columns = keys.collect::<Result<Vec<_>, DataFusionError>>()?;
        columns.push(self.column(unit).alias("unit"));
        let scales = measures
            .iter()
            .map(|m| self.scale(m))
            .collect::<Result<Vec<_>, _>>()?;
        for (at, (measure, scale)) in measures.iter().zip(&scales).enumerate() {
            let value = scale.exact(self.column(&measure.column), measure)?;
            columns.push(value.alias(format!("value{at}")));
        }
        let mut groups: Vec<Expr> = (0..self.query.keys.len())
            .map(|at| plain(&format!("key{at}")))
            .collect();
        let mut columns_after = groups.clone();
        groups.push(plain("unit"));
        let mut totals = vec![count(lit(1_i64)).alias("rows")];
        columns_after.push(plain("rows"));
        for (at, (measure, scale)) in measures.iter().zip(&scales).enumerate() {
            totals.push(sum(plain(&format!("value{at}"))).alias(format!("raw{at}")));
            totals.push(count(plain(&format!("value{at}"))).alias(format!("values{at}")));
            let clamped = scale.clamp(plain(&format!("raw{at}")), measure)?;
            columns_after.push(clamped.alias(format!("total{at}")));
            columns_after.push(plain(&format!("values{at}")));
        }
        builder
            .project(columns)?
            .aggregate(groups, totals)?
            .project(columns_after)?
            .build()
    }

    fn predicate(&self, filter: &CubeFilter) -> Result<Expr, DataFusionError> {
        Ok(match filter {
            CubeFilter::Eq {
                column,
                roll_up,
                value,
            } => {
                let left = self.truncated(column, roll_up.as_ref())?;
                let left = if roll_up.is_some() {
                    try_cast(left, value.data_type())
                } else {
                    left
                };
                left.eq(Expr::Literal(value.clone(), None))
            }
            CubeFilter::InRollUp { column, values, .. } => {
                let values = values
                    .iter()
                    .map(|v| Expr::Literal(v.clone(), None))
                    .collect();
                self.column(column).in_list(values, false)
            }
        })
    }

    fn scale(&self, measure: &Measure) -> Result<Scale, DataFusionError> {
        let field = self.schema.field_with_name(measure.column.as_str())?;
        match field.data_type() {
            t if t.is_integer() => Ok(Scale {
                decimals: 0,
                floating: false,
            }),
            DataType::Decimal128(_, s) if *s >= 0 => Ok(Scale {
                decimals: *s,
                floating: false,
            }),
            t if t.is_floating() => Ok(Scale::of_floats(measure)),
            _ => Err(internal("a measure that is no number")),
        }
    }

    fn rule(&self, measures: &[&Measure]) -> Result<CellRule, DataFusionError> {
        let keys = self.query.keys.len();
        let (units, rows) = (keys, keys + 1);
        let of = |column: &ColumnName| {
            let at = measures.iter().position(|m| m.column == *column);
            at.map(|at| keys + 2 + 3 * at)
                .ok_or_else(|| internal("a measure that was not planned"))
        };
        let named = self.query.keys.iter().enumerate().map(|(column, key)| {
            Ok(CellColumn {
                name: key.name.clone(),
                data_type: key.data_type.clone(),
                value: CellValue::Key { column },
            })
        });
        let told = self.query.aggregates.iter().map(|a| {
            let value = match &a.aggregate {
                CubeAgg::CountRows => CellValue::Count {
                    column: rows,
                    contributors: units,
                },
                CubeAgg::CountUnits => CellValue::Count {
                    column: units,
                    contributors: units,
                },
                CubeAgg::CountMeasure(c) => CellValue::Count {
                    column: of(c)? + 1,
                    contributors: of(c)? + 2,
                },
                CubeAgg::Sum(c) => CellValue::Sum {
                    column: of(c)?,
                    contributors: of(c)? + 2,
                },
                CubeAgg::Avg(c) => CellValue::Mean {
                    sum: of(c)?,
                    count: of(c)? + 1,
                    contributors: of(c)? + 2,
                },
            };
            Ok(CellColumn {
                name: a.name.clone(),
                data_type: a.data_type.clone(),
                value,
            })
        });
        let columns = named.chain(told).collect::<Result<_, DataFusionError>>()?;
        Ok(CellRule {
            minimum_group: self.product.minimum_group,
            keys: (0..keys).collect(),
            units,
            columns,
        })
    }

    fn truncated(
        &self,
        name: &ColumnName,
        roll_up: Option<&RollUp>,
    ) -> Result<Expr, DataFusionError> {
        let column = self.column(name);
        match roll_up.map(|r| &r.kind) {
            None => Ok(column),
            Some(RollUpKind::DateTrunc(unit)) => {
                let field = self.schema.field_with_name(name.as_str())?;
                let time = as_time(column, field.data_type());
                Ok(date_trunc(lit(unit.as_str()), time))
            }
            Some(RollUpKind::Group(_)) => Err(internal("a group of values is no key")),
        }
    }

    fn column(&self, name: &ColumnName) -> Expr {
        Expr::Column(Column::new(Some(self.name.clone()), name.as_str()))
    }
}

/// How the values of a measure become decimals.
#[derive(Debug, Clone, Copy)]
struct Scale {
    decimals: i8,
    floating: bool,
}

impl Scale {
    /// Enough decimals for [`DIGITS`] digits of the larger bound, and room for 10^9 rows of it.
    fn of_floats(measure: &Measure) -> Self {
        let largest = measure.lower.abs().max(measure.upper.abs());
        let mut decimals = DIGITS;
        let mut power = 1.0_f64;
        while power < largest && decimals > 0 {
            power *= 10.0;
            decimals -= 1;
        }
        Self {
            decimals: i8::try_from(decimals).unwrap_or(0),
            floating: true,
        }
    }

    fn data_type(self) -> DataType {
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, self.decimals)
    }

    /// One row's value as a decimal; NULL where it is none.
    fn exact(self, value: Expr, measure: &Measure) -> Result<Expr, DataFusionError> {
        if !self.floating {
            return Ok(try_cast(value, self.data_type()));
        }
        let far = measure.lower.abs().max(measure.upper.abs()) * HEADROOM;
        let value = cast(value, DataType::Float64);
        let bounded = when(isnan(value.clone()), lit(ScalarValue::Float64(None)))
            .when(value.clone().gt(lit(far)), lit(far))
            .when(value.clone().lt(lit(-far)), lit(-far))
            .otherwise(value)?;
        Ok(try_cast(bounded, self.data_type()))
    }

    /// A unit's total within the measure's bounds; NULL if it has no value.
    fn clamp(self, total: Expr, measure: &Measure) -> Result<Expr, DataFusionError> {
        let step = 10_f64.powi(i32::from(self.decimals));
        // Inwards: a bound between two steps must not let a total past it.
        let bound = |x: f64| ScalarValue::Float64(Some(x / step)).cast_to(&self.data_type());
        let (lower, upper) = (
            bound((measure.lower * step).ceil())?,
            bound((measure.upper * step).floor())?,
        );
        let total = try_cast(total, self.data_type());
        when(total.clone().lt(lit(lower.clone())), lit(lower))
            .when(total.clone().gt(lit(upper.clone())), lit(upper))
            .otherwise(total)
    }
}

fn plain(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn internal(what: &str) -> DataFusionError {
    DataFusionError::Internal(what.to_owned())
}
