//! Splits work over a union into work on each branch and a merge, and aggregates before joins.
//!
//! `count(*)` over the tables of four councils becomes four counts and a sum; the first ten rows
//! of the union come from the first ten of each. What the branches give travels; the rows behind
//! it stay where they are.

mod early;
mod parts;

use crate::cut::{Owner, owner};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::{
    Aggregate, Expr, Join, JoinType, LogicalPlan, Projection, Sort, SubqueryAlias, Union,
};
use std::sync::Arc;

/// Splits every aggregate and every top-n over a union of several owners that can be split.
pub(crate) fn split(plan: LogicalPlan) -> Result<LogicalPlan> {
    let early = plan.transform_down_with_subqueries(|node| {
        let new = match &node {
            LogicalPlan::Aggregate(aggregate) => early::aggregated(aggregate),
            _ => Ok(None),
        };
        Ok(match new {
            Ok(Some(new)) => Transformed::yes(new),
            Ok(None) | Err(_) => Transformed::no(node),
        })
    })?;
    let split = early.transform_data(|plan| {
        plan.transform_up_with_subqueries(|node| {
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
    let Some(parts) = parts::of(aggregate) else {
        return Ok(None);
    };
    let mut below = Vec::new();
    for branch in branches(&between, union)? {
        let part = Aggregate::try_new(
            Arc::new(branch),
            aggregate.group_expr.clone(),
            parts::on_each(&parts),
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
    let mut given = union.schema().columns().into_iter().map(Expr::Column);
    let keys = given.by_ref().take(aggregate.group_expr.len()).collect();
    parts::merge(aggregate, &parts, union, keys, given).map(Some)
}
