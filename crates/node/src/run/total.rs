//! A plan over rows that may not leave is total: what cannot be computed is NULL.
//!
//! An error would tell of the row that caused it, and a question can aim it at one person. So in a plan of cells,
//! the owner's view and masks included, a cast that fails gives NULL, and so do a division of whole numbers by
//! zero and a truncation of a date that the engine cannot follow.
//!
//! What it does not reach: functions of the owner's own view that fail on some of their arguments.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::functions::expr_fn::nullif;
use datafusion::logical_expr::expr::{ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, lit, try_cast, when,
};

/// The dates that the engine truncates, in seconds: it counts nanoseconds in 64 bits. 1678 to 2262.
const FIRST: i64 = -9_214_560_000;
const AFTER_LAST: i64 = 9_214_646_400;

/// The total form of `plan`, in which every cast is written out.
pub(crate) fn total(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let total = plan.transform_up_with_subqueries(|node| {
        // Its expressions are literals of ours.
        if matches!(node, LogicalPlan::Limit(_)) {
            return Ok(Transformed::no(node));
        }
        let schema = match node.inputs().as_slice() {
            [] => DFSchema::clone(node.schema()),
            inputs => merge_schema(inputs),
        };
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|e| {
            let name = names.save(&e);
            let e = e.transform_up(|e| expression(e, &schema))?;
            Ok(e.update_data(|e| name.restore(e)))
        })?;
        // Whether a column may be NULL has changed.
        Ok(Transformed::yes(node.data.recompute_schema()?))
    })?;
    Ok(total.data)
}

fn expression(e: Expr, schema: &DFSchema) -> Result<Transformed<Expr>, DataFusionError> {
    Ok(match e {
        Expr::Cast(c) => Transformed::yes(Expr::TryCast(TryCast::new_from_field(c.expr, c.field))),
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(op, Operator::Divide | Operator::Modulo) =>
        {
            let to = right.get_type(schema)?;
            let right = if to.is_integer() || to.is_decimal() {
                Box::new(nullif(*right, lit(ScalarValue::new_zero(&to)?)))
            } else {
                right
            };
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::ScalarFunction(f) if f.name() == "date_trunc" => {
            let ScalarFunction { func, mut args } = f;
            if let Some(of) = args.pop() {
                args.push(truncatable(of, schema)?);
            }
            Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
        }
        other => Transformed::no(other),
    })
}

/// `of` where it can be truncated, and NULL where it cannot.
fn truncatable(of: Expr, schema: &DFSchema) -> Result<Expr, DataFusionError> {
    let to = of.get_type(schema)?;
    if !matches!(to, DataType::Timestamp(..)) {
        return Ok(of);
    }
    let bound = |seconds| {
        let at = ScalarValue::TimestampSecond(Some(seconds), None);
        at.cast_to(&to).map(lit)
    };
    let within = of
        .clone()
        .gt_eq(bound(FIRST)?)
        .and(of.clone().lt(bound(AFTER_LAST)?));
    when(within, of).end()
}

/// A date as a time of the coarsest kind, which holds all of them.
pub(crate) fn as_time(e: Expr, data_type: &DataType) -> Expr {
    match data_type {
        DataType::Date32 => try_cast(e, DataType::Timestamp(TimeUnit::Microsecond, None)),
        _ => e,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, RecordBatch};
    use arrow::compute::concat_batches;
    use datafusion::prelude::SessionContext;

    async fn answer(sql: &str, whole: bool) -> Result<RecordBatch, DataFusionError> {
        let context = SessionContext::new();
        let state = context.state();
        let plan = state.create_logical_plan(sql).await?;
        let plan = state
            .analyzer()
            .execute_and_check(plan, state.config_options(), |_, _| {})?;
        let plan = if whole { total(plan)? } else { plan };
        let batches = context.execute_logical_plan(plan).await?.collect().await?;
        Ok(concat_batches(&batches[0].schema(), &batches)?)
    }

    #[tokio::test]
    async fn what_cannot_be_computed_is_null_and_no_error() {
        const TIMES: &str = "(VALUES ('2026-03-05T10:00:00'), ('9999-12-31T00:00:00'), ('0001-01-01T00:00:00')) t(v)";
        const NUMBERS: &str = "(VALUES (6, 3), (6, 0)) t(v, w)";
        for sql in [
            "SELECT CAST(v AS BIGINT) FROM (VALUES ('1'), ('Mrs Miggins')) t(v)".to_owned(),
            "SELECT 1 + CAST(v AS BIGINT) AS n FROM (VALUES ('1'), ('x')) t(v) WHERE CAST(v AS BIGINT) > 0 OR v = 'x'".to_owned(),
            format!("SELECT v / w FROM {NUMBERS}"),
            format!("SELECT v % w FROM {NUMBERS}"),
            format!("SELECT CAST(v AS DECIMAL(10, 2)) / CAST(w AS DECIMAL(10, 2)) FROM {NUMBERS}"),
            format!("SELECT date_trunc('month', arrow_cast(v, 'Timestamp(Microsecond, None)')) FROM {TIMES}"),
            format!("SELECT date_trunc('year', arrow_cast(v, 'Timestamp(Second, None)')) FROM {TIMES}"),
            format!("SELECT date_trunc('week', CAST(v AS DATE)) FROM {TIMES}"),
        ] {
            assert!(answer(&sql, false).await.is_err(), "{sql} shows nothing");
            let batch = answer(&sql, true).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            let column = batch.column(0);
            assert!(column.is_valid(0) && column.null_count() == column.len() - 1, "{sql}: {batch:?}");
        }
    }

    #[tokio::test]
    async fn the_ends_of_the_range_are_truncated() {
        for unit in ["hour", "day", "week", "month", "quarter", "year"] {
            let sql = format!(
                "SELECT date_trunc('{unit}', arrow_cast(v, 'Timestamp(Nanosecond, None)')) \
                 FROM (VALUES ('1678-01-01T00:00:00'), ('2261-12-31T23:59:59')) t(v)"
            );
            assert_eq!(answer(&sql, true).await.unwrap().column(0).null_count(), 0);
        }
    }

    #[tokio::test]
    async fn a_plan_keeps_its_names_through_joins_and_groups() {
        let sql = "SELECT CAST(a.v AS BIGINT), count(*) AS n FROM (VALUES ('1'), ('2')) a(v) \
                   JOIN (VALUES (1), (2)) b(w) ON CAST(a.v AS BIGINT) = b.w GROUP BY CAST(a.v AS BIGINT)";
        let (before, after) = (
            answer(sql, false).await.unwrap(),
            answer(sql, true).await.unwrap(),
        );
        let names = |b: &RecordBatch| -> Vec<String> {
            b.schema()
                .fields()
                .iter()
                .map(|f| f.name().clone())
                .collect()
        };
        assert_eq!((names(&before), 2), (names(&after), after.num_rows()));
    }
}
