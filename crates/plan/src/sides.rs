//! Which side of a join is built.
//!
//! The engine guesses from statistics that fragments do not have. Joins were ordered by our own
//! guesses, with the smaller side first; this keeps it so, and turns round those that were not
//! ordered, such as outer joins written the other way.

use crate::planner::Rows;
use crate::remote::RemoteExec;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::JoinType;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode,
};
use datafusion::physical_plan::union::UnionExec;
use std::sync::Arc;

/// Rows up to which one table of the built side serves all partitions.
const ONE_TABLE: f64 = 131_072.0;
/// How much smaller the other side must be for a join to be turned round.
const SMALLER: f64 = 2.0;

/// Builds the side of each join that is guessed to be smaller.
#[derive(Debug)]
pub(crate) struct BuildSmaller;

impl PhysicalOptimizerRule for BuildSmaller {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            Ok(match built(&node)? {
                Some(new) => Transformed::yes(new),
                None => Transformed::no(node),
            })
        })
        .map(|t| t.data)
    }

    fn name(&self) -> &str {
        "build_smaller"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn built(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        return hash_join(join).map(Some);
    }
    if let Some(join) = node.downcast_ref::<CrossJoinExec>() {
        let turn = is_smaller(rows(join.right()), rows(join.left()));
        return turn.then(|| join.swap_inputs()).transpose();
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        let turn =
            join.join_type().supports_swap() && is_smaller(rows(join.right()), rows(join.left()));
        return turn.then(|| join.swap_inputs()).transpose();
    }
    Ok(None)
}

fn hash_join(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let (left, right) = (rows(join.left()), rows(join.right()));
    let mode = |built: Rows| {
        if built.given <= ONE_TABLE {
            PartitionMode::CollectLeft
        } else {
            PartitionMode::Partitioned
        }
    };
    if join.null_aware {
        // Only one table can tell whether there was a NULL.
        return join
            .builder()
            .with_partition_mode(PartitionMode::CollectLeft)
            .build_exec();
    }
    if join.join_type().supports_swap() && is_smaller(right, left) {
        return join.swap_inputs(mode(right));
    }
    join.builder().with_partition_mode(mode(left)).build_exec()
}

fn is_smaller(one: Rows, other: Rows) -> bool {
    one.given * SMALLER < other.given
}

/// Guesses the rows of a physical plan from those of its fragments.
pub(crate) fn rows(plan: &Arc<dyn ExecutionPlan>) -> Rows {
    if let Some(remote) = plan.downcast_ref::<RemoteExec>() {
        return remote.part().rows;
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let (left, right) = (rows(join.left()), rows(join.right()));
        let matched = left.joined(right);
        return match join.join_type() {
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => Rows {
                given: left.given.min(matched.given),
                ..left
            },
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => Rows {
                given: right.given.min(matched.given),
                ..right
            },
            _ => matched,
        };
    }
    let children = plan.children();
    if plan.downcast_ref::<UnionExec>().is_some() {
        return children.iter().fold(
            Rows {
                given: 0.0,
                base: 1.0,
            },
            |a, child| {
                let b = rows(child);
                Rows {
                    given: a.given + b.given,
                    base: a.base.max(b.base),
                }
            },
        );
    }
    let [only] = children.as_slice() else {
        return Rows::exactly(1_000.0);
    };
    let input = rows(only);
    if plan.downcast_ref::<FilterExec>().is_some() {
        return input.times(0.3);
    }
    match plan.downcast_ref::<AggregateExec>() {
        Some(a) if a.group_expr().is_empty() => Rows::exactly(1.0),
        Some(a) if *a.mode() != AggregateMode::Partial => input.times(0.5),
        _ => input,
    }
}
