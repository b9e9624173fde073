//! Writing a fragment.

use super::{FragmentLimits, ProfileError, Stage, message, not_in, plan, unused};
use arrow::datatypes::DataType;
use arrow::temporal_conversions::NANOSECONDS;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinConstraint, ScalarValue, not_impl_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, LogicalPlan, Operator, WindowFrameBound, WindowFrameUnits, lit,
};
use datafusion_substrait::logical_plan::producer::to_substrait_plan;
use datafusion_substrait::substrait::proto::extensions::simple_extension_declaration::MappingType;
use datafusion_substrait::substrait::proto::plan_rel::RelType;
use prost::Message;
use std::collections::BTreeSet;

/// Writes an optimised plan as a fragment.
///
/// The same plan gives the same bytes. Of columns with one name, all but the first are renamed. What Substrait would lose in silence (a zone, `IGNORE
/// NULLS`, a frame by interval) is refused, and so is what the receiving [`super::decode`] would
/// refuse under the default limits.
pub fn encode(plan: &LogicalPlan, state: &SessionState) -> Result<Vec<u8>, ProfileError> {
    let plan = writable(plan.clone())?;
    plan::check(&plan, Stage::Fragment)?;
    check_losses(&plan)?;
    let mut written = to_substrait_plan(&plan, state).map_err(|e| plan::engine("written", &e))?;
    written.extensions.sort_by_key(|e| match &e.mapping_type {
        Some(MappingType::ExtensionType(t)) => (0, t.type_anchor),
        Some(MappingType::ExtensionTypeVariation(v)) => (1, v.type_variation_anchor),
        Some(MappingType::ExtensionFunction(f)) => (2, f.function_anchor),
        None => (3, 0),
    });
    for relation in &mut written.relations {
        if let Some(RelType::Root(root)) = &mut relation.rel_type {
            let mut taken = BTreeSet::new();
            for name in &mut root.names {
                *name = unused(name, &mut taken);
            }
        }
    }
    let bytes = written.encode_to_vec();
    let limits = FragmentLimits::default();
    let read = message::parse(&bytes, &limits)?;
    message::check(&read, &limits)?;
    Ok(bytes)
}

/// The same plan in the forms that the format has: joins by condition, `NOT IN` spelt out, `log` of one argument
/// with its base, and long chains of `AND` and `OR` as balanced trees, which nest less deeply.
fn writable(plan: LogicalPlan) -> Result<LogicalPlan, ProfileError> {
    let changed = plan.transform_down_with_subqueries(|node| {
        let node = match node {
            LogicalPlan::Join(join) => {
                let Some(mut join) = not_in::spell(join) else {
                    return not_impl_err!("NOT IN in a form that a fragment does not carry");
                };
                join.join_constraint = JoinConstraint::On;
                Transformed::yes(LogicalPlan::Join(join))
            }
            LogicalPlan::TableScan(mut scan) => {
                let filters: Vec<Expr> = scan
                    .filters
                    .iter()
                    .flat_map(split_conjunction)
                    .cloned()
                    .collect();
                scan.filters = rebuild(filters, Operator::And).into_iter().collect();
                Transformed::yes(LogicalPlan::TableScan(scan))
            }
            other => Transformed::no(other),
        };
        node.transform_data(|n| n.map_expressions(|e| e.transform_down(|e| Ok(writable_expr(e)))))
    });
    Ok(changed.map_err(|e| plan::engine("written", &e))?.data)
}

fn writable_expr(e: Expr) -> Transformed<Expr> {
    match e {
        Expr::BinaryExpr(b) if matches!(b.op, Operator::And | Operator::Or) => balance(b),
        Expr::ScalarFunction(mut f) if f.name() == "log" && f.args.len() == 1 => {
            f.args.insert(0, lit(10.0_f64));
            Transformed::yes(Expr::ScalarFunction(f))
        }
        other => Transformed::no(other),
    }
}

/// A chain of one of `AND` and `OR`, as deep as the logarithm of its length. Both are
/// associative in three-valued logic.
fn balance(b: BinaryExpr) -> Transformed<Expr> {
    let op = b.op;
    let mut operands = Vec::new();
    let mut open = vec![*b.right, *b.left];
    while let Some(e) = open.pop() {
        match e {
            Expr::BinaryExpr(inner) if inner.op == op => {
                open.push(*inner.right);
                open.push(*inner.left);
            }
            other => operands.push(other),
        }
    }
    if operands.len() <= 3 {
        // Short enough: the walk goes on into the operands.
        return match operands.into_iter().reduce(|l, r| binary(l, op, r)) {
            Some(e) => Transformed::no(e),
            None => Transformed::no(Expr::Literal(
                ScalarValue::Boolean(Some(op == Operator::And)),
                None,
            )),
        };
    }
    match rebuild(operands, op) {
        Some(e) => Transformed::yes(e),
        None => Transformed::no(Expr::Literal(
            ScalarValue::Boolean(Some(op == Operator::And)),
            None,
        )),
    }
}

fn rebuild(mut operands: Vec<Expr>, op: Operator) -> Option<Expr> {
    match operands.len() {
        0 => None,
        1 => operands.pop(),
        n => {
            let right = operands.split_off(n / 2);
            Some(binary(rebuild(operands, op)?, op, rebuild(right, op)?))
        }
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// Refuses what the producer writes without complaint and not as it was.
fn check_losses(plan: &LogicalPlan) -> Result<(), ProfileError> {
    let mut lost: Option<&'static str> = None;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|root| {
            root.apply(|e| {
                lost = loss(e);
                Ok(if lost.is_some() {
                    TreeNodeRecursion::Stop
                } else {
                    TreeNodeRecursion::Continue
                })
            })
        })
    });
    match lost {
        Some(what) => Err(ProfileError::not_in_profile(what)),
        None => walked.map(|_| ()).map_err(|e| plan::engine("written", &e)),
    }
}

fn loss(e: &Expr) -> Option<&'static str> {
    match e {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(i)), _)
            if i32::try_from(i.nanoseconds / NANOSECONDS).is_err() =>
        {
            Some("an interval of more than 68 years given in seconds")
        }
        Expr::Literal(ScalarValue::Date64(Some(_)), _) => Some("a date in milliseconds"),
        Expr::WindowFunction(f) => {
            let frame = &f.params.window_frame;
            let carried = |b: &WindowFrameBound| match frame.units {
                WindowFrameUnits::Rows => unbounded(b) || whole(b),
                WindowFrameUnits::Range => unbounded(b),
                WindowFrameUnits::Groups => false,
            };
            (!carried(&frame.start_bound) || !carried(&frame.end_bound))
                .then_some("a window frame that is not a whole number of rows")
        }
        _ => None,
    }
}

fn unbounded(bound: &WindowFrameBound) -> bool {
    match bound {
        WindowFrameBound::CurrentRow => true,
        WindowFrameBound::Preceding(v) | WindowFrameBound::Following(v) => v.is_null(),
    }
}

/// Whether a bound is a positive whole number, the only one that the format carries.
fn whole(bound: &WindowFrameBound) -> bool {
    match bound {
        WindowFrameBound::CurrentRow => false,
        WindowFrameBound::Preceding(v) | WindowFrameBound::Following(v) => {
            v.data_type().is_integer()
                && v.cast_to(&DataType::Int64)
                    .is_ok_and(|n| matches!(n, ScalarValue::Int64(Some(n)) if n > 0))
        }
    }
}
