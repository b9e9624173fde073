//! Splits work over a union into work on each branch and a merge.
//!
//! `count(*)` over the tables of four councils becomes four counts and a sum; the first ten rows
//! of the union come from the first ten of each. What the branches give travels; the rows behind
//! it stay where they are.

use crate::cut::{Owner, owner};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::error::Result;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, BinaryExpr, Expr, ExprSchemable, Join, JoinType, LogicalPlan,
    Operator, Projection, Sort, SubqueryAlias, Union,
};
use std::sync::Arc;

/// Splits every aggregate and every top-n over a union of several owners that can be split.
pub(crate) fn split(plan: LogicalPlan) -> Result<LogicalPlan> {
    let split = plan.transform_up_with_subqueries(|node| {
        let new = match &node {
            LogicalPlan::Aggregate(aggregate) => split_aggregate(aggregate),
            LogicalPlan::Sort(sort) => split_top(sort),
            LogicalPlan::Join(join) => fewer_keys(join),
            _ => Ok(None),
        };
        // What cannot be split stays whole.
        Ok(match new {
            Ok(Some(new)) => Transformed::yes(new),
            Ok(None) | Err(_) => Transformed::no(node),
        })
    })?;
    if !split.transformed {
        return Ok(split.data);
    }
    // A sum of counts may be NULL for the engine where a count was not.
    Ok(split
        .data
        .transform_up_with_subqueries(|node| node.recompute_schema().map(Transformed::yes))?
        .data)
}

/// The union below `plan` and the columns and filters in between, if that is all there is.
fn over_union(plan: &LogicalPlan) -> Option<(Vec<&LogicalPlan>, &Union)> {
    let mut between = Vec::new();
    let mut node = plan;
    loop {
        match node {
            LogicalPlan::Union(union) => {
                let several = owner(node) == Owner::Gateway;
                return several.then_some((between, union));
            }
            LogicalPlan::Projection(p) => {
                between.push(node);
                node = &p.input;
            }
            LogicalPlan::SubqueryAlias(a) => {
                between.push(node);
                node = &a.input;
            }
            LogicalPlan::Filter(f) => {
                between.push(node);
                node = &f.input;
            }
            _ => return None,
        }
    }
}

/// Each branch of the union with what was above the union on top of it.
fn branches(between: &[&LogicalPlan], union: &Union) -> Result<Vec<LogicalPlan>> {
    union
        .inputs
        .iter()
        .map(|input| {
            let columns = input
                .schema()
                .columns()
                .into_iter()
                .zip(union.schema.iter())
                .map(|(column, (qualifier, field))| {
                    Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
                })
                .collect();
            let start = Projection::try_new(columns, Arc::clone(input))?;
            between.iter().rev().try_fold(
                LogicalPlan::Projection(start),
                |below, node| match node {
                    LogicalPlan::SubqueryAlias(alias) => {
                        SubqueryAlias::try_new(Arc::new(below), alias.alias.clone())
                            .map(LogicalPlan::SubqueryAlias)
                    }
                    other => other.with_new_exprs(other.expressions(), vec![below]),
                },
            )
        })
        .collect()
}

/// The branches as one relation again, its columns named as those of `schema`.
fn reunited(branches: Vec<LogicalPlan>, schema: &DFSchema) -> Result<LogicalPlan> {
    let union = Union::try_new_with_loose_types(branches.into_iter().map(Arc::new).collect())?;
    let union = LogicalPlan::Union(union);
    let columns = union
        .schema()
        .columns()
        .into_iter()
        .zip(schema.iter())
        .map(|(column, (qualifier, field))| {
            Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
        })
        .collect();
    Projection::try_new(columns, Arc::new(union)).map(LogicalPlan::Projection)
}

/// The right side of a semi- or anti-join over several owners as distinct keys, where it is one
/// node's: whether a key is there is all that the join asks.
fn fewer_keys(join: &Join) -> Result<Option<LogicalPlan>> {
    let asks_only = matches!(
        join.join_type,
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark
    );
    if !asks_only || join.filter.is_some() || join.on.is_empty() {
        return Ok(None);
    }
    let crosses = !matches!((owner(&join.left), owner(&join.right)), (Owner::One(a), Owner::One(b)) if a == b);
    if !crosses || !matches!(owner(&join.right), Owner::One(_)) || is_distinct(&join.right) {
        return Ok(None);
    }
    let Some(keys) = join
        .on
        .iter()
        .map(|(_, right)| matches!(right, Expr::Column(_)).then(|| right.clone()))
        .collect::<Option<Vec<_>>>()
    else {
        return Ok(None);
    };
    let distinct = Aggregate::try_new(Arc::clone(&join.right), keys, vec![])?;
    let mut join = join.clone();
    join.right = Arc::new(LogicalPlan::Aggregate(distinct));
    Ok(Some(LogicalPlan::Join(join)))
}

fn is_distinct(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => true,
        LogicalPlan::SubqueryAlias(a) => is_distinct(&a.input),
        LogicalPlan::Projection(p) => is_distinct(&p.input),
        LogicalPlan::Filter(f) => is_distinct(&f.input),
        _ => false,
    }
}

fn split_top(sort: &Sort) -> Result<Option<LogicalPlan>> {
    if sort.fetch.is_none() {
        return Ok(None);
    }
    let Some((between, union)) = over_union(&sort.input) else {
        return Ok(None);
    };
    let tops = branches(&between, union)?
        .into_iter()
        .map(|branch| {
            LogicalPlan::Sort(Sort {
                expr: sort.expr.clone(),
                input: Arc::new(branch),
                fetch: sort.fetch,
            })
        })
        .collect();
    Ok(Some(LogicalPlan::Sort(Sort {
        expr: sort.expr.clone(),
        input: Arc::new(reunited(tops, sort.input.schema())?),
        fetch: sort.fetch,
    })))
}

fn split_aggregate(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let Some((between, union)) = over_union(&aggregate.input) else {
        return Ok(None);
    };
    if aggregate
        .group_expr
        .iter()
        .any(|e| matches!(e, Expr::GroupingSet(_)))
    {
        return Ok(None);
    }
    let Some(parts) = aggregate
        .aggr_expr
        .iter()
        .map(Part::of)
        .collect::<Option<Vec<_>>>()
    else {
        return Ok(None);
    };
    let partial: Vec<Expr> = parts
        .iter()
        .flat_map(Part::on_each)
        .enumerate()
        .map(|(i, e)| e.alias(format!("__part{i}")))
        .collect();
    let mut below = Vec::new();
    for branch in branches(&between, union)? {
        let part = Aggregate::try_new(
            Arc::new(branch),
            aggregate.group_expr.clone(),
            partial.clone(),
        )?;
        let names = part
            .schema
            .columns()
            .into_iter()
            .enumerate()
            .map(|(i, c)| Expr::Column(c).alias(format!("__p{i}")))
            .collect();
        let part = Projection::try_new(names, Arc::new(LogicalPlan::Aggregate(part)))?;
        below.push(Arc::new(LogicalPlan::Projection(part)));
    }
    let union = LogicalPlan::Union(Union::try_new_with_loose_types(below)?);
    merge(aggregate, &parts, union).map(Some)
}

/// The aggregate again, over what the branches gave.
fn merge(aggregate: &Aggregate, parts: &[Part], union: LogicalPlan) -> Result<LogicalPlan> {
    let mut given = union.schema().columns().into_iter().map(Expr::Column);
    let keys: Vec<Expr> = given.by_ref().take(aggregate.group_expr.len()).collect();
    let mut totals = Vec::new();
    for (i, (function, column)) in parts
        .iter()
        .flat_map(Part::merged_by)
        .zip(given)
        .enumerate()
    {
        let total = call(function, vec![column], None).alias(format!("__total{i}"));
        totals.push(total);
    }
    let merged = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(union), keys, totals)?);
    let mut columns = merged.schema().columns().into_iter().map(Expr::Column);
    let mut exprs: Vec<Expr> = columns.by_ref().take(aggregate.group_expr.len()).collect();
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
enum Part {
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
        let Self::Average(_) = self else {
            return Ok(first);
        };
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
