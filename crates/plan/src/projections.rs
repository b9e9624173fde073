//! The engine's rule that prunes and merges projections, kept from losing one.
//!
//! DataFusion 55 drops one of two projections that stand on one another and are spelt alike
//! (`merge_consecutive_projections` of `optimize_projections`). That is right as long as both
//! read the same. It is wrong where the lower one gives a name anew: of `x + x AS x`, over
//! another, over another, one is lost, and the answer is too small without a word.
//!
//! So before the rule runs, a projection below another gives no name of its input to something
//! else. Two that are spelt alike then read the same, and so do all that the rule makes of them
//! on its way: it merges from the top down, and what it compares with below is as it was given.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, not_impl_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Subquery};
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The engine's rules, with its `optimize_projections` in its safe form.
// Invariant: every session that optimises a plan of ours has these rules.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let unsafe_name = OptimizeProjections::new().name().to_owned();
    Optimizer::new()
        .rules
        .into_iter()
        .map(|rule| {
            if rule.name() == unsafe_name {
                Arc::new(Projections::new())
            } else {
                rule
            }
        })
        .collect()
}

/// `optimize_projections`, after names are told apart.
#[derive(Debug)]
pub(crate) struct Projections(OptimizeProjections);

impl Projections {
    pub(crate) fn new() -> Self {
        Self(OptimizeProjections::new())
    }
}

impl OptimizerRule for Projections {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let told_apart = plan.transform_up_with_subqueries(told_apart)?;
        let mut pruned = self.0.rewrite(told_apart.data, config)?;
        pruned.transformed |= told_apart.transformed;
        Ok(pruned)
    }
}

/// `plan` with the names told apart that the projection right below it gives anew.
fn told_apart(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Projection(upper) = plan else {
        return Ok(Transformed::no(plan));
    };
    let LogicalPlan::Projection(lower) = upper.input.as_ref() else {
        return Ok(Transformed::no(LogicalPlan::Projection(upper)));
    };
    let names = fresh_names(lower);
    if names.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Projection(upper)));
    }
    let lower_exprs = lower
        .expr
        .iter()
        .enumerate()
        .map(|(i, e)| match names.get(&i) {
            Some(name) => bare(e).alias(name),
            None => e.clone(),
        });
    let upper_exprs = upper
        .expr
        .iter()
        .map(|e| read_by(e.clone(), lower, &names))
        .collect::<Result<_>>()?;
    let lower = Projection::try_new(lower_exprs.collect(), Arc::clone(&lower.input))?;
    let lower = Arc::new(LogicalPlan::Projection(lower));
    let upper = Projection::try_new_with_schema(upper_exprs, lower, Arc::clone(&upper.schema))?;
    Ok(Transformed::yes(LogicalPlan::Projection(upper)))
}

/// Names for those columns of `lower` that bear the name of one of its input and are another,
/// by place.
fn fresh_names(lower: &Projection) -> HashMap<usize, String> {
    let (given, made) = (lower.input.schema(), &lower.schema);
    let mut taken: HashSet<&str> = HashSet::new();
    for field in given.fields().iter().chain(made.fields()) {
        taken.insert(field.name());
    }
    let free = (1_usize..)
        .map(|n| format!("__named_anew_{n}"))
        .filter(|name| !taken.contains(name.as_str()));
    (0..made.fields().len().min(lower.expr.len()))
        .filter(|i| is_anew(lower, *i))
        .zip(free)
        .collect()
}

fn is_anew(lower: &Projection, place: usize) -> bool {
    let (Some(expr), Some((qualifier, field))) =
        (lower.expr.get(place), lower.schema.iter().nth(place))
    else {
        return false;
    };
    let given = lower.input.schema();
    let mut alike = given
        .iter()
        .enumerate()
        .filter(|(_, (_, f))| f.name() == field.name());
    let (Some((first, _)), others) = (alike.next(), alike.count()) else {
        return false;
    };
    let Expr::Column(column) = bare(expr) else {
        return true;
    };
    match given.maybe_index_of_column(&column) {
        Some(from) if others == 0 => from != first,
        // Of several by this name: the same one if its relation is.
        Some(from) => qualifier.is_none() || given.qualified_field(from) != (qualifier, field),
        None => true,
    }
}

/// What is given a name. One that carries metadata stays.
fn bare(e: &Expr) -> Expr {
    match e {
        Expr::Alias(a) if a.metadata.as_ref().is_none_or(|m| m.is_empty()) => bare(&a.expr),
        other => other.clone(),
    }
}

/// An expression over `lower` after its columns have their new names. Its own name stays.
fn read_by(e: Expr, lower: &Projection, names: &HashMap<usize, String>) -> Result<Expr> {
    let new_name = |c: &Column| names.get(&lower.schema.maybe_index_of_column(c)?);
    let name = NamePreserver::new_for_projection().save(&e);
    let read = e.transform_up(|e| match &e {
        Expr::Column(c) => Ok(match new_name(c) {
            Some(name) => Transformed::yes(Expr::Column(Column::new_unqualified(name))),
            None => Transformed::no(e),
        }),
        Expr::ScalarSubquery(s) => whole(s).map(|()| Transformed::no(e)),
        Expr::Exists(x) => whole(&x.subquery).map(|()| Transformed::no(e)),
        Expr::InSubquery(x) => whole(&x.subquery).map(|()| Transformed::no(e)),
        Expr::SetComparison(x) => whole(&x.subquery).map(|()| Transformed::no(e)),
        _ => Ok(Transformed::no(e)),
    })?;
    Ok(name.restore(read.data))
}

/// A sub-query that still reads its surroundings here is one that no join could be made of.
fn whole(subquery: &Subquery) -> Result<()> {
    if subquery.outer_ref_columns.is_empty() {
        Ok(())
    } else {
        not_impl_err!("a sub-query that reads columns whose names are given anew around it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{bare_state, base_config};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::{LogicalPlanBuilder, col, lit, table_scan};

    fn table() -> LogicalPlanBuilder {
        let columns = ["a", "b"].map(|n| Field::new(n, DataType::Int64, true));
        table_scan(Some("t"), &Schema::new(columns.to_vec()), None).unwrap()
    }

    /// The expressions of the topmost projections, from above.
    fn stacked(plan: &LogicalPlan) -> Vec<String> {
        let mut all = Vec::new();
        let mut plan = plan;
        while let LogicalPlan::Projection(p) = plan {
            all.push(
                p.expr
                    .iter()
                    .map(|e| e.to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            );
            plan = &p.input;
        }
        all
    }

    fn apart(plan: LogicalPlan) -> Transformed<LogicalPlan> {
        plan.transform_up_with_subqueries(told_apart).unwrap()
    }

    #[test]
    fn the_engines_own_rule_is_nowhere_in_a_session() {
        let ours = format!("{:?}", Projections::new());
        let state = bare_state(base_config());
        let found: Vec<String> = state
            .optimizers()
            .iter()
            .filter(|r| r.name() == "optimize_projections")
            .map(|r| format!("{r:?}"))
            .collect();
        assert_eq!(found, [ours]);
        assert_eq!(state.optimizers().len(), Optimizer::new().rules.len());
    }

    #[test]
    fn a_name_that_is_given_anew_below_is_told_apart() {
        let twice = || (col("a") + col("a")).alias("a");
        let plan = table().project([twice()]).unwrap();
        let plan = plan.project([twice()]).unwrap();
        let plan = plan.project([twice()]).unwrap().build().unwrap();
        let schema = Arc::clone(plan.schema());
        let plan = apart(plan).data;
        assert_eq!(
            stacked(&plan),
            [
                "a + a AS a",
                "__named_anew_1 + __named_anew_1 AS a",
                "t.a + t.a AS __named_anew_1"
            ]
        );
        assert_eq!(plan.schema(), &schema);
        assert!(!apart(plan).transformed, "once is enough");
    }

    #[test]
    fn columns_that_change_places_are_told_apart() {
        let swapped = || [col("a").alias("b"), col("b").alias("a")];
        let plan = table().project(swapped()).unwrap();
        let plan = plan.project(swapped()).unwrap().build().unwrap();
        assert!(apart(plan).transformed);
    }

    #[test]
    fn columns_that_are_handed_on_stay() {
        let plan = table()
            .project([col("a"), col("b"), lit(1).alias("c")])
            .unwrap();
        let plan = plan
            .project([col("a"), (col("b") + col("c")).alias("b")])
            .unwrap();
        assert!(!apart(plan.build().unwrap()).transformed);
    }

    #[test]
    fn the_name_and_relation_of_a_column_stay() {
        let plan = table()
            .project([(col("a") + lit(1)).alias_qualified(Some("t"), "a")])
            .unwrap();
        let plan = plan.project([col("t.a")]).unwrap().build().unwrap();
        let schema = Arc::clone(plan.schema());
        let apart = apart(plan);
        assert!(apart.transformed);
        assert_eq!(apart.data.schema(), &schema);
        let again = apart.data.recompute_schema().unwrap();
        assert_eq!(again.schema(), &schema);
    }
}
