//! How many rows a part of a plan may give, guessed from published row counts.
//!
//! Wrong by factors, and good enough for the three choices made with it: which side of a join is
//! built, whether its keys travel, and whether a join is better done at the gateway.

use crate::catalogue::ProductTable;
use crate::remote::RemoteFragment;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Join, JoinType, LogicalPlan, Operator, TableScan,
};

/// Rows assumed of a product that publishes no count.
const UNKNOWN: f64 = 100_000.0;

/// The share of groups that a condition on them is taken to keep.
const HAVING: f64 = 0.1;

/// A guess at a relation's size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rows {
    /// Rows that it gives.
    pub(crate) given: f64,
    /// Rows of its largest table before any filter: about as many distinct keys as it may have.
    pub(crate) base: f64,
}

impl Rows {
    pub(crate) fn exactly(rows: f64) -> Self {
        Self {
            given: rows,
            base: rows.max(1.0),
        }
    }

    pub(crate) fn times(self, share: f64) -> Self {
        Self {
            given: self.given * share,
            ..self
        }
    }

    /// An inner join over equal keys, as if from many to one.
    pub(crate) fn joined(self, other: Self) -> Self {
        Self {
            given: self.given * other.given / self.base.min(other.base).max(1.0),
            base: self.base.max(other.base),
        }
    }

    /// As a count for the engine, 1 at least.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a guess, clamped to what fits"
    )]
    pub(crate) fn count(self) -> usize {
        self.given.clamp(1.0, 1e12) as usize
    }
}

/// Guesses the rows of `plan`.
pub(crate) fn rows(plan: &LogicalPlan) -> Rows {
    match plan {
        LogicalPlan::TableScan(scan) => scanned(scan),
        LogicalPlan::Extension(e) => e
            .node
            .as_any()
            .downcast_ref::<RemoteFragment>()
            .map_or(Rows::exactly(UNKNOWN), |r| r.rows),
        // What is asked of groups is mostly asked to find the few.
        LogicalPlan::Filter(f) if is_grouped(&f.input) => {
            rows(&f.input).times(share(&f.predicate).min(HAVING))
        }
        LogicalPlan::Filter(f) => rows(&f.input).times(share(&f.predicate)),
        LogicalPlan::Aggregate(a) => {
            let input = rows(&a.input);
            if a.group_expr.is_empty() {
                Rows {
                    given: 1.0,
                    base: 1.0,
                }
            } else {
                // As many groups as keep an aggregate worth writing.
                let given = (input.given / 4.0).max(input.given.min(64.0));
                Rows { given, ..input }
            }
        }
        LogicalPlan::Join(join) => joined(join),
        LogicalPlan::Limit(limit) => {
            let input = rows(&limit.input);
            match limit.get_fetch_type() {
                Ok(datafusion::logical_expr::FetchType::Literal(Some(n))) => Rows {
                    given: input.given.min(f64_of(n)),
                    ..input
                },
                _ => input,
            }
        }
        LogicalPlan::Sort(sort) => {
            let input = rows(&sort.input);
            match sort.fetch {
                Some(n) => Rows {
                    given: input.given.min(f64_of(n)),
                    ..input
                },
                None => input,
            }
        }
        LogicalPlan::Union(union) => {
            let inputs = union.inputs.iter().map(|i| rows(i));
            inputs.fold(
                Rows {
                    given: 0.0,
                    base: 1.0,
                },
                |a, b| Rows {
                    given: a.given + b.given,
                    base: a.base.max(b.base),
                },
            )
        }
        LogicalPlan::EmptyRelation(_) => Rows::exactly(1.0),
        LogicalPlan::Values(v) => Rows::exactly(f64_of(v.values.len())),
        other => match other.inputs().as_slice() {
            [only] => rows(only),
            _ => Rows::exactly(UNKNOWN),
        },
    }
}

fn is_grouped(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) => true,
        LogicalPlan::Projection(p) => is_grouped(&p.input),
        LogicalPlan::SubqueryAlias(a) => is_grouped(&a.input),
        _ => false,
    }
}

fn scanned(scan: &TableScan) -> Rows {
    let counted = source_as_provider(&scan.source).ok().and_then(|p| {
        let table = p.downcast_ref::<ProductTable>()?;
        table.product().product.row_count
    });
    #[expect(clippy::cast_precision_loss, reason = "a guess")]
    let all = Rows::exactly(counted.map_or(UNKNOWN, |n| n as f64));
    scan.filters.iter().fold(all, |r, f| r.times(share(f)))
}

fn joined(join: &Join) -> Rows {
    let (left, right) = (rows(&join.left), rows(&join.right));
    let matched = if join.on.is_empty() {
        Rows {
            given: left.given * right.given,
            base: left.base.max(right.base),
        }
    } else {
        left.joined(right)
    };
    let matched = match &join.filter {
        Some(filter) => matched.times(share(filter)),
        None => matched,
    };
    match join.join_type {
        JoinType::Inner => matched,
        JoinType::Left => Rows {
            given: matched.given.max(left.given),
            ..matched
        },
        JoinType::Right => Rows {
            given: matched.given.max(right.given),
            ..matched
        },
        JoinType::Full => Rows {
            given: matched.given.max(left.given + right.given),
            ..matched
        },
        JoinType::LeftSemi => Rows {
            given: left.given.min(matched.given),
            ..left
        },
        JoinType::RightSemi => Rows {
            given: right.given.min(matched.given),
            ..right
        },
        JoinType::LeftAnti | JoinType::LeftMark => left,
        JoinType::RightAnti | JoinType::RightMark => right,
    }
}

/// The share of rows that a predicate is taken to keep.
fn share(predicate: &Expr) -> f64 {
    match predicate {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => share(left) * share(right),
            Operator::Or => (share(left) + share(right)).min(1.0),
            Operator::Eq => 0.05,
            Operator::NotEq => 0.95,
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => 0.35,
            _ => 0.3,
        },
        Expr::InList(list) if !list.negated => (0.05 * f64_of(list.list.len())).min(0.5),
        Expr::Like(like) if !like.negated => 0.1,
        Expr::Between(between) if !between.negated => 0.1,
        Expr::IsNotNull(_) => 1.0,
        Expr::IsNull(_) => 0.05,
        Expr::Not(inner) => 1.0 - share(inner),
        _ => 0.5,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a guess")]
fn f64_of(n: usize) -> f64 {
    n as f64
}
