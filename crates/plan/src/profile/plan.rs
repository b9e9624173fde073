//! The walk over a logical plan: every node and expression is one of a closed list.

use super::{ProfileError, types};
use crate::functions::{Kind, check_call, check_scalar};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, WindowFunction};
use datafusion::logical_expr::{
    Distinct, Expr, LogicalPlan, Operator, WindowFrameUnits, WindowFunctionDefinition,
};

/// Where a plan stands when it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// As planned from a statement at the gateway: correlated sub-queries and `DISTINCT` are
    /// still there.
    Planned,
    /// As written to or read from a fragment.
    Fragment,
}

/// Checks that every node, expression, function and type of `plan` is on the lists.
///
/// The gateway runs it on a planned statement before the optimiser evaluates anything; a node
/// runs it on what it decoded.
pub fn check(plan: &LogicalPlan, stage: Stage) -> Result<(), ProfileError> {
    let mut failed = None;
    let walked = plan.apply_with_subqueries(|node| {
        match check_node(node, stage).and_then(|()| check_expressions(node, stage)) {
            Ok(()) => Ok(TreeNodeRecursion::Continue),
            Err(e) => {
                failed = Some(e);
                Ok(TreeNodeRecursion::Stop)
            }
        }
    });
    match failed {
        Some(e) => Err(e),
        None => walked.map(|_| ()).map_err(|e| engine("read", &e)),
    }
}

fn check_node(node: &LogicalPlan, stage: Stage) -> Result<(), ProfileError> {
    let refuse = |what: &str| Err(ProfileError::not_in_profile(what));
    let planned = stage == Stage::Planned;
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Values(_) => {}
        // The walk shows the plan of a sub-query expression in this wrapping.
        LogicalPlan::Subquery(_) => {}
        LogicalPlan::Distinct(Distinct::All(_)) => {}
        LogicalPlan::Distinct(Distinct::On(_)) if planned => {}
        LogicalPlan::Distinct(Distinct::On(_)) => return refuse("DISTINCT ON"),
        LogicalPlan::Repartition(_) => return refuse("a repartition"),
        LogicalPlan::Statement(_) => return refuse("a statement"),
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => return refuse("EXPLAIN"),
        LogicalPlan::Extension(_) => return refuse("an extension"),
        LogicalPlan::Dml(_) => return refuse("a change of data"),
        LogicalPlan::Ddl(_) => return refuse("a change of schema"),
        LogicalPlan::Copy(_) => return refuse("COPY"),
        LogicalPlan::DescribeTable(_) => return refuse("DESCRIBE"),
        LogicalPlan::Unnest(_) => return refuse("UNNEST"),
        LogicalPlan::RecursiveQuery(_) => return refuse("a recursive query"),
    }
    for field in node.schema().fields() {
        if !types::is_column(field.data_type()) {
            return refuse("a column of a nested or unusual type");
        }
    }
    Ok(())
}

fn check_expressions(node: &LogicalPlan, stage: Stage) -> Result<(), ProfileError> {
    let mut failed = None;
    let walked = node.apply_expressions(|root| {
        root.apply(|e| match check_expression(e, stage) {
            Ok(()) => Ok(TreeNodeRecursion::Continue),
            Err(e) => {
                failed = Some(e);
                Ok(TreeNodeRecursion::Stop)
            }
        })
    });
    match failed {
        Some(e) => Err(e),
        None => walked.map(|_| ()).map_err(|e| engine("read", &e)),
    }
}

fn check_expression(e: &Expr, stage: Stage) -> Result<(), ProfileError> {
    let refuse = |what: &str| Err(ProfileError::not_in_profile(what));
    let planned = stage == Stage::Planned;
    match e {
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::Like(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::InList(_)
        | Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::ScalarSubquery(_)
        | Expr::GroupingSet(_) => Ok(()),
        Expr::Literal(v, _) => check_literal(v, stage),
        Expr::BinaryExpr(b) => check_operator(b.op),
        Expr::Cast(c) => check_cast(c.field.data_type()),
        Expr::TryCast(c) => check_cast(c.field.data_type()),
        Expr::ScalarFunction(f) => Ok(check_scalar(&f.func, &f.args)?),
        Expr::AggregateFunction(f) => check_aggregate(f, stage),
        Expr::WindowFunction(f) => check_window(f, stage),
        Expr::SimilarTo(_) if planned => Ok(()),
        Expr::OuterReferenceColumn(_, _) if planned => Ok(()),
        Expr::Placeholder(_) if planned => Ok(()),
        Expr::SimilarTo(_) => refuse("SIMILAR TO"),
        Expr::OuterReferenceColumn(_, _) => refuse("a correlated column"),
        Expr::Placeholder(_) => refuse("a parameter without a value"),
        Expr::ScalarVariable(_, _) => refuse("a variable"),
        Expr::SetComparison(_) => refuse("ANY and ALL"),
        Expr::Unnest(_) => refuse("UNNEST"),
        Expr::HigherOrderFunction(_) => refuse("a higher-order function"),
        Expr::Lambda(_) | Expr::LambdaVariable(_) => refuse("a lambda"),
        #[expect(deprecated, reason = "the match is to name every variant")]
        Expr::Wildcard { .. } => refuse("a wildcard"),
    }
}

fn check_cast(to: &DataType) -> Result<(), ProfileError> {
    if types::is_flat(to) {
        Ok(())
    } else {
        Err(ProfileError::not_in_profile(
            "a cast to a nested, zoned or unusual type",
        ))
    }
}

fn check_literal(value: &ScalarValue, stage: Stage) -> Result<(), ProfileError> {
    let t = value.data_type();
    if types::is_flat(&t) || (stage == Stage::Planned && types::is_column(&t)) {
        Ok(())
    } else {
        Err(ProfileError::not_in_profile(
            "a literal of a nested or unusual type",
        ))
    }
}

fn check_operator(op: Operator) -> Result<(), ProfileError> {
    match op {
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::Plus
        | Operator::Minus
        | Operator::Multiply
        | Operator::Divide
        | Operator::Modulo
        | Operator::And
        | Operator::Or
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom
        | Operator::RegexMatch
        | Operator::RegexIMatch
        | Operator::RegexNotMatch
        | Operator::RegexNotIMatch
        | Operator::BitwiseAnd
        | Operator::BitwiseOr
        | Operator::BitwiseXor
        | Operator::BitwiseShiftRight
        | Operator::BitwiseShiftLeft => Ok(()),
        // It is planned as a function whose text is held to a length.
        Operator::StringConcat
        | Operator::LikeMatch
        | Operator::ILikeMatch
        | Operator::NotLikeMatch
        | Operator::NotILikeMatch
        | Operator::AtArrow
        | Operator::ArrowAt
        | Operator::Arrow
        | Operator::LongArrow
        | Operator::HashArrow
        | Operator::HashLongArrow
        | Operator::AtAt
        | Operator::IntegerDivide
        | Operator::HashMinus
        | Operator::AtQuestion
        | Operator::Question
        | Operator::QuestionAnd
        | Operator::QuestionPipe
        | Operator::Colon => Err(ProfileError::not_in_profile(format!("the operator `{op}`"))),
    }
}

fn check_aggregate(f: &AggregateFunction, stage: Stage) -> Result<(), ProfileError> {
    check_call(Kind::Aggregate, f.func.name(), &f.params.args)?;
    // The format has no place for it, and would drop it in silence.
    if stage == Stage::Fragment && f.params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        return Err(ProfileError::not_in_profile("IGNORE NULLS in an aggregate"));
    }
    Ok(())
}

fn check_window(f: &WindowFunction, stage: Stage) -> Result<(), ProfileError> {
    let name = match &f.fun {
        WindowFunctionDefinition::AggregateUDF(u) => u.name(),
        WindowFunctionDefinition::WindowUDF(u) => u.name(),
    };
    check_call(Kind::Window, name, &f.params.args)?;
    if stage == Stage::Planned {
        return Ok(());
    }
    let p = &f.params;
    // The format has no place for these either.
    if p.distinct || p.filter.is_some() || p.null_treatment == Some(NullTreatment::IgnoreNulls) {
        return Err(ProfileError::not_in_profile(
            "DISTINCT, FILTER or IGNORE NULLS in a window function",
        ));
    }
    if p.window_frame.units == WindowFrameUnits::Groups {
        return Err(ProfileError::not_in_profile("a window frame in GROUPS"));
    }
    Ok(())
}

/// What class of error the engine gave, without its words.
pub(super) fn engine(doing: &'static str, e: &DataFusionError) -> ProfileError {
    let kind = match e.find_root() {
        DataFusionError::NotImplemented(_) => "something in it is not implemented",
        DataFusionError::Plan(_) | DataFusionError::SchemaError(_, _) => "the plan is not valid",
        DataFusionError::Substrait(_) => "the Substrait message is not valid",
        DataFusionError::ResourcesExhausted(_) => "it takes too much memory",
        _ => "the engine failed",
    };
    ProfileError::Engine { doing, kind }
}
