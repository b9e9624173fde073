//! `NOT IN` over values that may be NULL.
//!
//! The engine plans it as an anti-join with a flag of its own, which Substrait does not carry and
//! the producer drops: rows with a NULL would come back that `NOT IN` leaves out. A fragment says
//! what the flag means, an anti-join on `(l = r) IS NOT FALSE`, and the reader turns that one
//! form back into the flag, so that it need not compare every row with every other.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::find_valid_equijoin_key_pair;
use datafusion::logical_expr::{BinaryExpr, Expr, Join, LogicalPlan, Operator};

/// The join with its flag written out, or `None` if it has a flag that this form does not cover.
pub(super) fn spell(mut join: Join) -> Option<Join> {
    if !join.null_aware {
        return Some(join);
    }
    let covered = join.join_type == JoinType::LeftAnti
        && join.null_equality == NullEquality::NullEqualsNothing
        && join.on.len() == 1;
    let (left, right) = join.on.pop().filter(|_| covered)?;
    let equal = Expr::BinaryExpr(BinaryExpr::new(
        Box::new(left),
        Operator::Eq,
        Box::new(right),
    ));
    let unless_unequal = Expr::IsNotFalse(Box::new(equal));
    join.filter = Some(match join.filter.take() {
        Some(also) => unless_unequal.and(also),
        None => unless_unequal,
    });
    join.null_aware = false;
    Some(join)
}

/// The plan with every anti-join on nothing but `(l = r) IS NOT FALSE` as the engine plans it.
pub(super) fn read_back(plan: LogicalPlan) -> Result<LogicalPlan> {
    let changed = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => {
            let (join, changed) = flagged(join)?;
            let node = LogicalPlan::Join(join);
            Ok(if changed {
                Transformed::yes(node)
            } else {
                Transformed::no(node)
            })
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(changed.data)
}

fn flagged(mut join: Join) -> Result<(Join, bool)> {
    if join.join_type != JoinType::LeftAnti || !join.on.is_empty() {
        return Ok((join, false));
    }
    let keys = match &join.filter {
        Some(Expr::IsNotFalse(e)) => match e.as_ref() {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Eq,
                right,
            }) => {
                find_valid_equijoin_key_pair(left, right, join.left.schema(), join.right.schema())?
            }
            _ => None,
        },
        _ => None,
    };
    let Some(keys) = keys else {
        return Ok((join, false));
    };
    join.on = vec![keys];
    join.filter = None;
    join.null_equality = NullEquality::NullEqualsNothing;
    join.null_aware = true;
    Ok((join, true))
}
