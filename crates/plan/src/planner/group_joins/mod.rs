//! Brings the relations of one owner together within a chain of inner joins.
//!
//! The engine joins in the order that the statement names its tables. Here each owner's
//! relations are joined to each other first, as far as equal keys connect them and the join does
//! not swell, so that the node does it; what comes of it is joined at the gateway, smallest
//! first, with the smaller side built and the larger one probed. Semi- and anti-joins go to the
//! relations that they filter when those are of one owner.

mod equal_keys;

use super::estimate::{Rows, rows};
use crate::cut::{Owner, owner};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, JoinConstraint, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan, Projection};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Regroups every chain of inner joins over several owners.
pub(crate) fn grouped(plan: LogicalPlan) -> Result<LogicalPlan> {
    let grouped = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Join(join) = &node else {
            return Ok(Transformed::no(node));
        };
        if owner(&node) != Owner::Gateway {
            return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
        }
        if !is_chained(join) {
            return Ok(Transformed::no(node));
        }
        // A chain that cannot be put together anew stays as it is.
        let regrouped = Chain::of(&node).and_then(|chain| match chain {
            Some(chain) => regroup(chain, &node),
            None => Ok(None),
        });
        match regrouped {
            Ok(Some(plan)) => Ok(Transformed::new(plan, true, TreeNodeRecursion::Jump)),
            Ok(None) | Err(_) => Ok(Transformed::no(node)),
        }
    })?;
    Ok(grouped.data)
}

fn is_chained(join: &Join) -> bool {
    let filters_left =
        matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti) && !join.null_aware;
    (join.join_type == JoinType::Inner || filters_left)
        && join.null_equality == NullEquality::NullEqualsNothing
}

/// Inner joins taken apart.
#[derive(Default)]
struct Chain {
    relations: Vec<LogicalPlan>,
    predicates: Vec<Expr>,
    /// Semi- and anti-joins, innermost first.
    filters: Vec<Join>,
}

impl Chain {
    fn of(plan: &LogicalPlan) -> Result<Option<Self>> {
        let mut chain = Self::default();
        chain.take(plan)?;
        let owners: Vec<Owner> = chain.relations.iter().map(owner).collect();
        let several = owners.len() > 1 || !chain.filters.is_empty();
        Ok(several.then_some(chain))
    }

    fn take(&mut self, plan: &LogicalPlan) -> Result<()> {
        match plan {
            LogicalPlan::Join(join) if is_chained(join) => {
                self.take(&join.left)?;
                if join.join_type == JoinType::Inner {
                    self.take(&join.right)?;
                    self.predicates
                        .extend(join.on.iter().map(|(l, r)| l.clone().eq(r.clone())));
                    if let Some(filter) = &join.filter {
                        self.predicates
                            .extend(split_conjunction(filter).into_iter().cloned());
                    }
                } else {
                    // What is filtered by has joins of its own.
                    let mut join = join.clone();
                    join.right = Arc::new(grouped(LogicalPlan::clone(&join.right))?);
                    self.filters.push(join);
                }
            }
            LogicalPlan::Projection(p) if p.expr.iter().all(|e| matches!(e, Expr::Column(_))) => {
                self.take(&p.input)?;
            }
            LogicalPlan::Filter(f) if matches!(&*f.input, LogicalPlan::Join(j) if j.join_type == JoinType::Inner && is_chained(j)) =>
            {
                self.take(&f.input)?;
                self.predicates
                    .extend(split_conjunction(&f.predicate).into_iter().cloned());
            }
            other => self.relations.push(grouped(other.clone())?),
        }
        Ok(())
    }
}

/// A set of relations already joined.
struct Group {
    plan: LogicalPlan,
    owner: Owner,
    size: Size,
}

/// Which relations a group has, and how many rows.
#[derive(Clone)]
struct Size {
    members: BTreeSet<usize>,
    rows: Rows,
}

/// Columns that predicates make equal.
struct Class {
    columns: Vec<(usize, Column)>,
    /// As many distinct values as its smallest table can have.
    distinct: f64,
}

struct Regrouping {
    classes: Vec<Class>,
    /// Predicates that are not of a class, with the relations that they speak of.
    others: Vec<(BTreeSet<usize>, Expr)>,
    schemas: Vec<datafusion::common::DFSchemaRef>,
}

fn regroup(chain: Chain, original: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let Some(mut work) = Regrouping::of(&chain)? else {
        return Ok(None);
    };
    let mut groups: Vec<Group> = chain
        .relations
        .into_iter()
        .enumerate()
        .map(|(i, plan)| Group {
            owner: owner(&plan),
            size: Size {
                rows: rows(&plan),
                members: BTreeSet::from([i]),
            },
            plan,
        })
        .collect();
    for group in &mut groups {
        work.filter(group)?;
    }
    let mut filters = chain.filters;
    work.push_filters(&mut groups, &mut filters)?;
    while let Some((a, b)) = work.mergeable(&groups) {
        let second = groups.remove(b.max(a));
        let first = groups.remove(b.min(a));
        groups.push(work.join(first, second)?);
        work.push_filters(&mut groups, &mut filters)?;
    }
    let Some(mut joined) = work.at_the_gateway(groups)? else {
        return Ok(None);
    };
    for filter in filters {
        joined = refiltered(&filter, joined)?;
    }
    restored(joined, original)
}

impl Regrouping {
    /// Two groups of one owner that are best joined there, the least result first.
    fn mergeable(&self, groups: &[Group]) -> Option<(usize, usize)> {
        let mut best: Option<(f64, (usize, usize))> = None;
        for (i, a) in groups.iter().enumerate() {
            for (j, b) in groups.iter().enumerate().skip(i + 1) {
                let one = matches!(a.owner, Owner::One(_)) && a.owner == b.owner;
                let (a, b) = (&a.size, &b.size);
                if !one || self.keys(a, b).is_empty() {
                    continue;
                }
                let result = self.rows_of(a, b).given;
                let swells = result > 1.5 * a.rows.given.max(b.rows.given);
                if !swells && best.is_none_or(|(least, _)| result < least) {
                    best = Some((result, (i, j)));
                }
            }
        }
        best.map(|(_, pair)| pair)
    }

    /// The smaller group on the left, where a hash join builds.
    fn join(&mut self, a: Group, b: Group) -> Result<Group> {
        let size = self.joined(&a.size, &b.size);
        let (small, large) = if a.size.rows.given <= b.size.rows.given {
            (a, b)
        } else {
            (b, a)
        };
        let on = self
            .keys(&small.size, &large.size)
            .into_iter()
            .map(|(l, r, _)| (l, r))
            .collect();
        let plan = Join::try_new(
            Arc::new(small.plan),
            Arc::new(large.plan),
            on,
            None,
            JoinType::Inner,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?;
        let plan = LogicalPlan::Join(plan);
        let mut group = Group {
            owner: owner(&plan),
            plan,
            size,
        };
        self.filter(&mut group)?;
        Ok(group)
    }

    /// Applies the predicates whose relations are all in the group.
    fn filter(&mut self, group: &mut Group) -> Result<()> {
        let (now, later): (Vec<_>, Vec<_>) = self
            .others
            .drain(..)
            .partition(|(of, _)| of.is_subset(&group.size.members));
        self.others = later;
        if let Some(predicate) = conjunction(now.into_iter().map(|(_, e)| e)) {
            let input = std::mem::take(&mut group.plan);
            // An equality of expressions is a key of the join below; the engine finds it there.
            group.plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?);
            group.size.rows = group.size.rows.times(0.5);
        }
        Ok(())
    }

    /// Puts semi- and anti-joins on the group that they filter, where one node has both.
    fn push_filters(&self, groups: &mut [Group], filters: &mut Vec<Join>) -> Result<()> {
        let mut left = Vec::new();
        for filter in filters.drain(..) {
            let there = owner(&filter.right);
            let target = groups.iter_mut().find_map(|group| {
                let same = matches!(group.owner, Owner::One(_)) && group.owner == there;
                let on_group = if same {
                    self.on(&filter, &group.size)
                } else {
                    None
                };
                on_group.map(|filter| (group, filter))
            });
            match target {
                Some((group, filter)) => {
                    let input = std::mem::take(&mut group.plan);
                    group.plan = refiltered(&filter, input)?;
                    group.size.rows = Rows {
                        base: group.size.rows.base,
                        ..rows(&group.plan)
                    };
                }
                None => left.push(filter),
            }
        }
        *filters = left;
        Ok(())
    }

    /// Joins what is left in the order that makes the fewest rows on the way.
    fn at_the_gateway(&mut self, groups: Vec<Group>) -> Result<Option<LogicalPlan>> {
        let sizes: Vec<Size> = groups.iter().map(|g| g.size.clone()).collect();
        let best = (0..sizes.len())
            .map(|start| self.order(start, &sizes))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((order, _)) = best else {
            return Ok(None);
        };
        let mut groups: Vec<Option<Group>> = groups.into_iter().map(Some).collect();
        let mut current: Option<Group> = None;
        for i in order {
            let Some(group) = groups.get_mut(i).and_then(Option::take) else {
                return Ok(None);
            };
            current = Some(match current {
                Some(so_far) => self.join(so_far, group)?,
                None => group,
            });
        }
        Ok(current.map(|g| g.plan))
    }

    /// From one group on along what is connected, the fewest rows next; and the rows that all
    /// joins on the way build and give.
    fn order(&self, start: usize, sizes: &[Size]) -> (Vec<usize>, f64) {
        let mut order = vec![start];
        let mut cost = 0.0;
        let Some(mut current) = sizes.get(start).cloned() else {
            return (order, f64::INFINITY);
        };
        while order.len() < sizes.len() {
            let next = sizes
                .iter()
                .enumerate()
                .filter(|(i, _)| !order.contains(i))
                .map(|(i, size)| {
                    let joined = self.joined(&current, size);
                    (!self.connected(&current, size), i, joined)
                })
                .min_by(|a, b| (a.0.cmp(&b.0)).then(a.2.rows.given.total_cmp(&b.2.rows.given)));
            let Some((_, i, joined)) = next else { break };
            let built = sizes
                .get(i)
                .map_or(0.0, |s| s.rows.given.min(current.rows.given));
            cost += built + joined.rows.given;
            order.push(i);
            current = joined;
        }
        (order, cost)
    }
}

fn refiltered(filter: &Join, left: LogicalPlan) -> Result<LogicalPlan> {
    Join::try_new(
        Arc::new(left),
        Arc::clone(&filter.right),
        filter.on.clone(),
        filter.filter.clone(),
        filter.join_type,
        filter.join_constraint,
        filter.null_equality,
        filter.null_aware,
    )
    .map(LogicalPlan::Join)
}

/// The plan with the columns of `original` in their order; none if it lacks one of them.
fn restored(plan: LogicalPlan, original: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let columns = original.schema().columns();
    if columns
        .iter()
        .any(|c| plan.schema().index_of_column(c).is_err())
    {
        return Ok(None);
    }
    let exprs = columns.into_iter().map(Expr::Column).collect();
    let plan = Projection::try_new(exprs, Arc::new(plan))?;
    Ok(Some(LogicalPlan::Projection(plan)))
}
