//! What an aggregate over private products asks, followed down to the scans that it reaches.

use super::{PlanError, internal, never};
use crate::catalogue::{CITY, CatalogueProduct};
use crate::cut::product_of;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue, TableReference};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, TableScan, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use std::sync::Arc;

/// What an aggregate asks, in terms of the columns of the relation reached so far.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) group: Vec<Expr>,
    pub(super) aggregates: Vec<Expr>,
    pub(super) filters: Vec<Expr>,
    /// Whether it is asked of a table that unites all councils.
    pub(super) of_city: bool,
}

impl Asked {
    /// Replaces each column of `schema` by what stands for it one relation further down.
    fn through(self, schema: &DFSchema, stands_for: &[Expr]) -> EngineResult<Self> {
        let all = |exprs: Vec<Expr>| -> EngineResult<Vec<Expr>> {
            exprs
                .into_iter()
                .map(|expr| {
                    let replaced = expr.transform_up(|e| match e {
                        Expr::Column(column) => {
                            let index = schema.index_of_column(&column)?;
                            let by = stands_for.get(index).cloned().ok_or_else(|| {
                                DataFusionError::Internal("a column beyond its relation".into())
                            })?;
                            Ok(Transformed::yes(by))
                        }
                        other => Ok(Transformed::no(other)),
                    })?;
                    Ok(replaced.data)
                })
                .collect()
        };
        Ok(Self {
            group: all(self.group)?,
            aggregates: all(self.aggregates)?,
            filters: all(self.filters)?,
            of_city: self.of_city,
        })
    }
}

impl Asked {
    /// The same, if every constant in it could be worked out: the simplifier leaves what fails for when rows are there.
    pub(super) fn computed(self) -> Result<Self, PlanError> {
        if self.group.iter().chain(&self.filters).any(holds_constant) {
            return Err(PlanError::invalid(
                "a constant of the statement cannot be computed",
            ));
        }
        Ok(self)
    }
}

/// Whether a part of a simplified expression is made of literals alone and yet is none. What a `CASE` may never come
/// to is not looked at.
fn holds_constant(e: &Expr) -> bool {
    let mut found = false;
    let walked = e.apply(|part| match part {
        Expr::Case(_) => Ok(TreeNodeRecursion::Jump),
        Expr::Literal(..) => Ok(TreeNodeRecursion::Continue),
        part if is_constant(part) => {
            found = true;
            Ok(TreeNodeRecursion::Stop)
        }
        _ => Ok(TreeNodeRecursion::Continue),
    });
    debug_assert!(walked.is_ok());
    found
}

/// Whether `e` is operators, casts and functions over literals, and nothing else.
fn is_constant(e: &Expr) -> bool {
    match e {
        Expr::Literal(..) => true,
        Expr::BinaryExpr(b) => is_constant(&b.left) && is_constant(&b.right),
        Expr::Negative(e) => is_constant(e),
        Expr::Cast(c) => is_constant(&c.expr),
        Expr::ScalarFunction(f) => {
            let fixed = f.func.signature().volatility == Volatility::Immutable;
            fixed && !f.args.is_empty() && f.args.iter().all(is_constant)
        }
        _ => false,
    }
}

/// One scan that an aggregate reaches through filters, columns and unions.
pub(super) struct Leaf {
    pub(super) asked: Asked,
    pub(super) scan: TableScan,
    pub(super) product: Arc<CatalogueProduct>,
}

impl Leaf {
    /// Whether its filters say by themselves that no row is wanted.
    pub(super) fn is_empty(&self) -> bool {
        self.asked.filters.iter().any(never)
    }

    /// Whether it was asked of all councils, and no key of its cells names its own.
    pub(super) fn is_of_all(&self) -> bool {
        let council = self.product.product.council.as_str();
        let names = |key: &Expr| matches!(key, Expr::Literal(v, _) if v.to_string() == council);
        self.asked.of_city && !self.asked.group.iter().any(names)
    }
}

/// Follows `plan` to its scans. False if something other than filters, columns and unions is in
/// between.
pub(super) fn reach(
    mut asked: Asked,
    plan: &LogicalPlan,
    state: &SessionState,
    leaves: &mut Vec<Leaf>,
) -> Result<bool, PlanError> {
    match plan {
        LogicalPlan::Filter(filter) => {
            asked.filters.push(filter.predicate.clone());
            reach(asked, &filter.input, state, leaves)
        }
        LogicalPlan::Projection(projection) => {
            let exprs: Vec<Expr> = projection
                .expr
                .iter()
                .map(|e| e.clone().unalias_nested().data)
                .collect();
            let asked = asked
                .through(&projection.schema, &exprs)
                .map_err(internal)?;
            reach(asked, &projection.input, state, leaves)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let under = columns(alias.input.schema());
            let mut asked = asked.through(&alias.schema, &under).map_err(internal)?;
            asked.of_city |= is_of_city(&alias.alias);
            reach(asked, &alias.input, state, leaves)
        }
        // Order within a relation means nothing to an aggregate of the cube's.
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => reach(asked, &sort.input, state, leaves),
        LogicalPlan::Union(union) => {
            for input in &union.inputs {
                let under = columns(input.schema());
                let branch = asked.clone().through(&union.schema, &under);
                let branch = branch.map_err(internal)?;
                if !reach(branch, input, state, leaves)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            let Some(product) = product_of(scan) else {
                return Ok(false);
            };
            asked.of_city &= !is_limited_to(&asked.filters, &product);
            asked.filters.extend(scan.filters.iter().cloned());
            leaves.push(Leaf {
                // What fails here needs no row: the statement's own constants cannot be computed.
                asked: simplified(asked, &scan.projected_schema, state)
                    .map_err(PlanError::constant)?
                    .computed()?,
                scan: scan.clone(),
                product,
            });
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Whether filters say by themselves that the council of `product` alone is asked.
fn is_limited_to(filters: &[Expr], product: &CatalogueProduct) -> bool {
    let council = product.product.council.as_str();
    let names = |e: &Expr| matches!(e, Expr::Literal(v, _) if v.to_string() == council);
    let parts = filters.iter().cloned().flat_map(split_conjunction_owned);
    parts.into_iter().any(|part| match &part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            *op == Operator::Eq && names(left) && names(right)
        }
        _ => false,
    })
}

/// Whether a name is that of a table which unites all councils; names that a statement gives have no schema.
fn is_of_city(name: &TableReference) -> bool {
    name.schema().is_some() && name.catalog().is_none_or(|catalog| catalog == CITY)
}

pub(super) fn columns(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

pub(super) fn simplifier(schema: &DFSchemaRef, state: &SessionState) -> ExprSimplifier {
    let context = SimplifyContext::builder()
        .with_schema(Arc::clone(schema))
        .with_config_options(Arc::clone(state.config_options()))
        .with_query_execution_start_time(state.execution_props().query_execution_start_time)
        .build();
    ExprSimplifier::new(context)
}

/// Keys and filters with their constant parts worked out, filters one by one.
pub(super) fn simplified(
    asked: Asked,
    schema: &DFSchemaRef,
    state: &SessionState,
) -> EngineResult<Asked> {
    let simplifier = simplifier(schema, state);
    let mut filters = Vec::new();
    for filter in asked.filters {
        for part in split_conjunction_owned(simplifier.simplify(filter)?) {
            if !matches!(part, Expr::Literal(ScalarValue::Boolean(Some(true)), _)) {
                filters.push(as_list(part));
            }
        }
    }
    Ok(Asked {
        group: asked
            .group
            .into_iter()
            .map(|e| simplifier.simplify(e))
            .collect::<EngineResult<_>>()?,
        aggregates: asked.aggregates,
        filters,
        of_city: asked.of_city,
    })
}

/// `c = a OR c = b` as the `c IN (a, b)` that it was: the engine's simplifier takes short lists apart.
fn as_list(filter: Expr) -> Expr {
    let (mut of, mut values) = (None, Vec::new());
    match alternatives(&filter, &mut of, &mut values) {
        true if values.len() > 1 => match of {
            Some(of) => of.in_list(values, false),
            None => filter,
        },
        _ => filter,
    }
}

/// Whether `e` says no more than that one expression, put in `of`, has one of `values`.
fn alternatives(e: &Expr, of: &mut Option<Expr>, values: &mut Vec<Expr>) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = e else {
        return false;
    };
    match op {
        Operator::Or => alternatives(left, of, values) && alternatives(right, of, values),
        Operator::Eq => {
            let (named, value) = match (left.as_ref(), right.as_ref()) {
                (named, value @ Expr::Literal(..)) | (value @ Expr::Literal(..), named) => {
                    (named, value)
                }
                _ => return false,
            };
            values.push(value.clone());
            of.get_or_insert_with(|| named.clone()) == named
        }
        _ => false,
    }
}

/// The leaves, those together of which a cell may have parts.
///
/// Invariant: two leaves are in one group unless some key is one value for the one and another value for the other.
pub(super) fn together(leaves: Vec<Leaf>) -> Vec<Vec<Leaf>> {
    let mut groups: Vec<Vec<Leaf>> = Vec::new();
    for leaf in leaves {
        let (with, mut rest): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .partition(|group| group.iter().any(|other| !told_apart(other, &leaf)));
        let mut group: Vec<Leaf> = with.into_iter().flatten().collect();
        group.push(leaf);
        rest.push(group);
        groups = rest;
    }
    groups
}

/// Whether some key has one value in every cell of `a` and another in every cell of `b`.
fn told_apart(a: &Leaf, b: &Leaf) -> bool {
    let keys = a.asked.group.iter().zip(&b.asked.group);
    keys.into_iter().any(|keys| match keys {
        (Expr::Literal(a, _), Expr::Literal(b, _)) => a.to_string() != b.to_string(),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};

    #[test]
    fn a_short_list_that_was_taken_apart_is_a_list_again() {
        let apart = col("channel")
            .eq(lit("app"))
            .or(lit("phone").eq(col("channel")));
        assert_eq!(
            as_list(apart),
            col("channel").in_list(vec![lit("app"), lit("phone")], false)
        );
    }

    #[test]
    fn any_other_or_stays_one() {
        for other in [
            col("channel").eq(lit("app")).or(col("ward").eq(lit("app"))),
            col("channel")
                .eq(lit("app"))
                .or(col("channel").gt(lit("phone"))),
            col("channel")
                .eq(lit("app"))
                .or(col("channel").eq(col("ward"))),
            col("channel").eq(lit("app")),
        ] {
            assert_eq!(as_list(other.clone()), other);
        }
    }
}
