//! The passes over the rows: columns, pairs of dimensions, and what bounds do to units' parts.

use super::super::facts::plain;
use super::numbers::{number, numbers, whole};
use super::{Surveyor, twos};
use crate::check::{BoundSurvey, ColumnSurvey, PairSurvey, PartSurvey, Survey};
use crate::error::RunError;
use arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::functions_aggregate::expr_fn::{
    approx_distinct, avg, count, max, min, stddev_pop, sum,
};
use datafusion::logical_expr::{
    Aggregate, Expr, GroupingSet, LogicalPlanBuilder, cast, lit, try_cast, when,
};
use guildhall_grant::product::Dimension;
use guildhall_model::ColumnClass;
use std::collections::BTreeMap;

impl Surveyor<'_> {
    /// Rows, and what is in each column.
    pub(super) async fn columns(&self) -> Result<Survey, RunError> {
        let unit = self.unit()?;
        let mut told = vec![
            count(lit(1_i64)).alias("rows"),
            count(unit).alias("of_units"),
        ];
        let listed = self.product.columns.iter();
        let listed: Vec<_> = listed.filter(|c| c.class != ColumnClass::Secret).collect();
        for (at, column) in listed.iter().enumerate() {
            let value = self.column(&column.name);
            let text = try_cast(value.clone(), DataType::Utf8);
            told.push(count(value.clone()).alias(format!("values{at}")));
            told.push(approx_distinct(text).alias(format!("distinct{at}")));
            if self.product.measure(column.name.as_str()).is_some() {
                let number = try_cast(value, DataType::Float64);
                told.push(avg(number.clone()).alias(format!("mean{at}")));
                told.push(stddev_pop(number).alias(format!("spread{at}")));
            }
        }
        let plan = LogicalPlanBuilder::from(self.relation.clone())
            .aggregate(Vec::<Expr>::new(), told)?
            .build()?;
        let row = self.run(plan).await?;
        let rows = whole(&row, "rows")?;
        let columns = listed.iter().enumerate().map(|(at, column)| {
            let of = |what: &str| number(&row, &format!("{what}{at}"));
            let spread = of("spread").zip(of("mean"));
            Ok(ColumnSurvey {
                name: column.name.clone(),
                values: whole(&row, &format!("values{at}"))?,
                distinct: whole(&row, &format!("distinct{at}"))?,
                spread: spread.map(|(spread, mean)| spread / mean.abs().max(f64::MIN_POSITIVE)),
            })
        });
        Ok(Survey {
            rows,
            rows_of_nobody: rows.saturating_sub(whole(&row, "of_units")?),
            columns: columns.collect::<Result<_, RunError>>()?,
            ..Survey::default()
        })
    }

    /// How many values every dimension has, and every two of them together.
    pub(super) async fn pairs(
        &self,
        dimensions: &[&Dimension],
    ) -> Result<Vec<PairSurvey>, RunError> {
        let alone: Vec<Vec<usize>> = (0..dimensions.len()).map(|at| vec![at]).collect();
        let sets: Vec<Vec<usize>> = alone.into_iter().chain(twos(dimensions.len())).collect();
        let columns: Vec<Expr> = dimensions.iter().map(|d| self.column(&d.column)).collect();
        let exprs = |set: &Vec<usize>| -> Vec<Expr> {
            let picked = set.iter().filter_map(|at| columns.get(*at).cloned());
            picked.collect()
        };
        let grouping = GroupingSet::GroupingSets(sets.iter().map(exprs).collect());
        let id = plain(Aggregate::INTERNAL_GROUPING_ID);
        let plan = LogicalPlanBuilder::from(self.relation.clone())
            .filter(self.unit()?.is_not_null())?
            .aggregate(
                vec![Expr::GroupingSet(grouping)],
                vec![count(lit(1_i64)).alias("rows")],
            )?
            .project(vec![cast(id, DataType::UInt64).alias("of")])?
            .aggregate(
                vec![plain("of")],
                vec![count(lit(1_i64)).alias("combinations")],
            )?
            .build()?;
        let found = self.run(plan).await?;
        let ids = numbers(&found, "of")?;
        let counts = numbers(&found, "combinations")?;
        let counted: BTreeMap<u64, u64> = ids.into_iter().zip(counts).collect();
        let of = |set: &[usize]| {
            let id = grouping_id(set, dimensions.len());
            counted.get(&id).copied().unwrap_or(0)
        };
        let pairs = twos(dimensions.len()).into_iter().filter_map(|set| {
            let [one, other] = set.as_slice() else {
                return None;
            };
            Some(PairSurvey {
                one: dimensions.get(*one)?.column.clone(),
                other: dimensions.get(*other)?.column.clone(),
                ones: of(&[*one]),
                others: of(&[*other]),
                both: of(&set),
            })
        });
        Ok(pairs.collect())
    }

    /// What bounds do to each unit's part in the cells of `dimensions`.
    pub(super) async fn parts(&self, dimensions: &[&Dimension]) -> Result<PartSurvey, RunError> {
        let measures = &self.product.measures;
        let keys = dimensions.iter().map(|d| self.column(&d.column));
        let groups: Vec<Expr> = keys.chain([self.unit()?]).collect();
        let totals = measures.iter().enumerate().map(|(at, m)| {
            let value = try_cast(self.column(&m.column), DataType::Float64);
            sum(value).alias(format!("total{at}"))
        });
        let rows = count(lit(1_i64)).alias("rows");
        let most = lit(i64::from(self.product.max_rows_per_unit));
        let mut told = vec![
            count(lit(1_i64)).alias("units"),
            ones(plain("rows").gt(most))?.alias("over"),
        ];
        for (at, m) in measures.iter().enumerate() {
            let total = plain(&format!("total{at}"));
            told.push(count(total.clone()).alias(format!("totals{at}")));
            told.push(ones(total.clone().lt(lit(m.lower)))?.alias(format!("below{at}")));
            told.push(ones(total.clone().gt(lit(m.upper)))?.alias(format!("above{at}")));
            told.push(min(total.clone()).alias(format!("least{at}")));
            told.push(max(total).alias(format!("most{at}")));
        }
        let plan = LogicalPlanBuilder::from(self.relation.clone())
            .filter(self.unit()?.is_not_null())?
            .aggregate(groups, std::iter::once(rows).chain(totals))?
            .aggregate(Vec::<Expr>::new(), told)?
            .build()?;
        let row = self.run(plan).await?;
        let bounds = measures.iter().enumerate().map(|(at, m)| {
            let reach = number(&row, &format!("most{at}")).zip(number(&row, &format!("least{at}")));
            Ok(BoundSurvey {
                column: m.column.clone(),
                totals: whole(&row, &format!("totals{at}"))?,
                below: whole(&row, &format!("below{at}"))?,
                above: whole(&row, &format!("above{at}"))?,
                unused: reach
                    .is_some_and(|(most, least)| most - least < (m.upper - m.lower) / 10.0),
            })
        });
        Ok(PartSurvey {
            keys: dimensions.iter().map(|d| d.column.clone()).collect(),
            units: whole(&row, "units")?,
            over_rows: whole(&row, "over")?,
            measures: bounds.collect::<Result<_, RunError>>()?,
        })
    }
}

/// The engine's number of a grouping set: a bit for each column that is not in it, the last column's the lowest.
pub(super) fn grouping_id(set: &[usize], columns: usize) -> u64 {
    let bits = (0..columns).map(|at| u64::from(!set.contains(&at)));
    bits.fold(0, |id, bit| (id << 1) | bit)
}

/// How many rows meet a condition.
fn ones(condition: Expr) -> Result<Expr, DataFusionError> {
    Ok(sum(when(condition, lit(1_i64)).otherwise(lit(0_i64))?))
}
