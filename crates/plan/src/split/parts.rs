//! Aggregates in two steps: parts of them where the rows are, and the whole from the parts.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, Projection,
    lit, when,
};
use std::sync::Arc;

/// The aggregates of `aggregate` in two steps, if each of them can be.
pub(super) fn of(aggregate: &Aggregate) -> Option<Vec<Part>> {
    let sets = |e: &Expr| matches!(e, Expr::GroupingSet(_));
    if aggregate.group_expr.iter().any(sets) {
        return None;
    }
    aggregate.aggr_expr.iter().map(Part::of).collect()
}

/// The first step of all, with names of their own.
pub(super) fn on_each(parts: &[Part]) -> Vec<Expr> {
    let steps = parts.iter().flat_map(Part::on_each).enumerate();
    steps.map(|(i, e)| e.alias(format!("__part{i}"))).collect()
}

/// The second step: `aggregate` again, by `keys` and from the columns `given` of `input`.
pub(super) fn merge(
    aggregate: &Aggregate,
    parts: &[Part],
    input: LogicalPlan,
    keys: Vec<Expr>,
    given: impl Iterator<Item = Expr>,
) -> Result<LogicalPlan> {
    let mut totals = Vec::new();
    let functions = parts.iter().flat_map(Part::merged_by);
    for (i, (function, column)) in functions.zip(given).enumerate() {
        totals.push(call(function, vec![column], None).alias(format!("__total{i}")));
    }
    let key_count = keys.len();
    let merged = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), keys, totals)?);
    let mut columns = merged.schema().columns().into_iter().map(Expr::Column);
    let mut exprs: Vec<Expr> = columns.by_ref().take(key_count).collect();
    for part in parts {
        exprs.push(part.result(&mut columns, &merged)?);
    }
    let named = exprs
        .into_iter()
        .zip(aggregate.schema.iter())
        .map(|(expr, (qualifier, field))| {
            Ok(expr
                .cast_to(field.data_type(), merged.schema())?
                .alias_qualified(qualifier.cloned(), field.name()))
        })
        .collect::<Result<Vec<_>>>()?;
    Projection::try_new(named, Arc::new(merged)).map(LogicalPlan::Projection)
}

/// How one aggregate is split.
pub(super) enum Part {
    /// The same on each branch and over what they give.
    Same(AggregateFunction),
    /// Counted on each branch, added up.
    Count(AggregateFunction),
    /// Added and counted on each branch, divided at the end.
    Average(AggregateFunction),
}

impl Part {
    fn of(expr: &Expr) -> Option<Self> {
        let Expr::AggregateFunction(function) = expr.clone().unalias_nested().data else {
            return None;
        };
        let params = &function.params;
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return None;
        }
        match (function.func.name(), params.distinct) {
            ("min" | "max" | "bool_and" | "bool_or" | "bit_and" | "bit_or", _)
            | ("sum" | "bit_xor", false) => Some(Self::Same(function)),
            ("count", false) => Some(Self::Count(function)),
            ("avg", false) => Some(Self::Average(function)),
            _ => None,
        }
    }

    fn on_each(&self) -> Vec<Expr> {
        match self {
            Self::Same(f) | Self::Count(f) => vec![Expr::AggregateFunction(f.clone())],
            Self::Average(f) => {
                let filter = f.params.filter.clone();
                vec![
                    call(sum_udaf(), f.params.args.clone(), filter.clone()),
                    call(count_udaf(), f.params.args.clone(), filter),
                ]
            }
        }
    }

    fn merged_by(&self) -> Vec<Arc<AggregateUDF>> {
        match self {
            Self::Same(f) => vec![Arc::clone(&f.func)],
            Self::Count(_) => vec![sum_udaf()],
            Self::Average(_) => vec![sum_udaf(), sum_udaf()],
        }
    }

    /// The result from the merged columns, which are taken from `columns`.
    fn result(
        &self,
        columns: &mut impl Iterator<Item = Expr>,
        merged: &LogicalPlan,
    ) -> Result<Expr> {
        let mut next = || {
            columns
                .next()
                .ok_or_else(|| DataFusionError::Internal("an aggregate without its part".into()))
        };
        let first = next()?;
        match self {
            Self::Same(_) => return Ok(first),
            // No rows at all are counted as 0.
            Self::Count(_) => return when(first.clone().is_null(), lit(0_i64)).otherwise(first),
            Self::Average(_) => {}
        }
        // The quotient of exact numbers is exact to the same digits as the engine's own average.
        let count = next()?;
        let divisor = match first.get_type(merged.schema())? {
            DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => DataType::Decimal128(20, 0),
            _ => DataType::Float64,
        };
        let count = count.cast_to(&divisor, merged.schema())?;
        Ok(Expr::BinaryExpr(BinaryExpr::new(
            Box::new(first),
            Operator::Divide,
            Box::new(count),
        )))
    }
}

fn call(function: Arc<AggregateUDF>, args: Vec<Expr>, filter: Option<Box<Expr>>) -> Expr {
    Expr::AggregateFunction(AggregateFunction {
        func: function,
        params: AggregateFunctionParams {
            args,
            distinct: false,
            filter,
            order_by: vec![],
            null_treatment: None,
        },
    })
}
