//! Aggregates one side of a join before the join.
//!
//! A sum over a large table by a property of a small one (flows by class of street) needs of the
//! large table only one row for each key of the small one. Its node can make those, where the
//! join would have every row travel. Done where the keys are known to be few: no more than the
//! small table has rows.

use super::parts;
use crate::cut::{Owner, owner};
use crate::planner::rows;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::{Aggregate, Expr, Join, JoinType, LogicalPlan};
use std::sync::Arc;

/// Fewer rows than this travel as they are.
const WORTH: f64 = 10_000.0;
/// How many rows must become one for the aggregation to be worth its work.
const FEWER: f64 = 4.0;

/// The aggregate over a join of several owners with one side aggregated first, if that pays.
pub(super) fn aggregated(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let Some(join) = joined(&aggregate.input) else {
        return Ok(None);
    };
    let plain = join.join_type == JoinType::Inner
        && join.filter.is_none()
        && !join.on.is_empty()
        && join.null_equality == NullEquality::NullEqualsNothing;
    if !plain || owner(&aggregate.input) != Owner::Gateway {
        return Ok(None);
    }
    let Some(parts) = parts::of(aggregate) else {
        return Ok(None);
    };
    let left = side(
        aggregate,
        &join.left,
        &join.right,
        join.on.iter().map(|(l, _)| l),
    );
    let right = side(
        aggregate,
        &join.right,
        &join.left,
        join.on.iter().map(|(_, r)| r),
    );
    let (on_left, keys) = match (left, right) {
        (Some(keys), _) => (true, keys),
        (None, Some(keys)) => (false, keys),
        (None, None) => return Ok(None),
    };
    let many = if on_left { &join.left } else { &join.right };
    let key_count = keys.len();
    let early = Aggregate::try_new(Arc::clone(many), keys, parts::on_each(&parts))?;
    let given: Vec<Expr> = early
        .schema
        .columns()
        .into_iter()
        .skip(key_count)
        .map(Expr::Column)
        .collect();
    let early = Arc::new(LogicalPlan::Aggregate(early));
    let (left, right) = if on_left {
        (early, Arc::clone(&join.right))
    } else {
        (Arc::clone(&join.left), early)
    };
    let join = Join::try_new(
        left,
        right,
        join.on.clone(),
        None,
        JoinType::Inner,
        join.join_constraint,
        join.null_equality,
        false,
    )?;
    let groups = aggregate.group_expr.clone();
    let given = given.into_iter();
    parts::merge(aggregate, &parts, LogicalPlan::Join(join), groups, given).map(Some)
}

/// The join below, with nothing but a choice of its columns in between.
fn joined(plan: &LogicalPlan) -> Option<&Join> {
    match plan {
        LogicalPlan::Join(join) => Some(join),
        LogicalPlan::Projection(p) if p.expr.iter().all(|e| matches!(e, Expr::Column(_))) => {
            joined(&p.input)
        }
        _ => None,
    }
}

/// What `many` is to be aggregated by before it is joined to `few`; none if it cannot be, or if
/// that would not leave few rows of many.
fn side<'a>(
    aggregate: &Aggregate,
    many: &LogicalPlan,
    few: &LogicalPlan,
    on: impl Iterator<Item = &'a Expr>,
) -> Option<Vec<Expr>> {
    let has = |e: &Expr, schema: &DFSchema| e.column_refs().iter().all(|c| schema.has_column(c));
    let input = rows(many);
    if input.given < WORTH || !is_of_nodes(many) || is_aggregated(many) {
        return None;
    }
    if !aggregate.aggr_expr.iter().all(|e| has(e, many.schema())) {
        return None;
    }
    let mut keys: Vec<Expr> = Vec::new();
    let mut distinct = 1.0;
    for key in on {
        if !matches!(key, Expr::Column(_)) {
            return None;
        }
        if !keys.contains(key) {
            distinct *= rows(few).base.min(input.base);
            keys.push(key.clone());
        }
    }
    for group in &aggregate.group_expr {
        if group
            .column_refs()
            .iter()
            .all(|c| few.schema().has_column(c))
            || keys.contains(group)
        {
            continue;
        }
        if !matches!(group, Expr::Column(_)) || !has(group, many.schema()) {
            return None;
        }
        distinct *= literals(group, many)?;
        keys.push(group.clone());
    }
    (distinct * FEWER <= input.given).then_some(keys)
}

/// Whether all of it can be cut out for nodes; cells that were released are few already.
fn is_of_nodes(plan: &LogicalPlan) -> bool {
    let mut of_nodes = owner(plan) != Owner::Nobody;
    let walked = plan.apply_with_subqueries(|node| {
        of_nodes &= match node {
            LogicalPlan::Extension(_) => false,
            LogicalPlan::TableScan(scan) => crate::cut::product_of(scan).is_some(),
            _ => true,
        };
        Ok(TreeNodeRecursion::Continue)
    });
    of_nodes && walked.is_ok()
}

fn is_aggregated(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) => true,
        LogicalPlan::Projection(p) => is_aggregated(&p.input),
        LogicalPlan::SubqueryAlias(a) => is_aggregated(&a.input),
        LogicalPlan::Filter(f) => is_aggregated(&f.input),
        _ => false,
    }
}

/// The number of values of a column that is one literal for each branch of a union.
#[expect(clippy::cast_precision_loss, reason = "a guess")]
fn literals(column: &Expr, plan: &LogicalPlan) -> Option<f64> {
    let Expr::Column(name) = column else {
        return None;
    };
    let index = plan.schema().index_of_column(name).ok()?;
    match plan {
        LogicalPlan::SubqueryAlias(a) => {
            let below = a.input.schema().columns().into_iter().nth(index)?;
            literals(&Expr::Column(below), &a.input)
        }
        LogicalPlan::Projection(p) => literals(p.expr.get(index)?, &p.input),
        LogicalPlan::Filter(f) => literals(column, &f.input),
        LogicalPlan::Union(u) => u
            .inputs
            .iter()
            .all(|input| is_literal(input, index))
            .then_some(u.inputs.len() as f64),
        _ => None,
    }
}

fn is_literal(plan: &LogicalPlan, index: usize) -> bool {
    match plan {
        LogicalPlan::Projection(p) => p
            .expr
            .get(index)
            .is_some_and(|e| matches!(e.clone().unalias_nested().data, Expr::Literal(_, _))),
        LogicalPlan::SubqueryAlias(a) => is_literal(&a.input, index),
        _ => false,
    }
}
