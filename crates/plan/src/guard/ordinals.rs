//! `ORDER BY 2`, where the second column is an expression without a name.
//!
//! The engine looks such a column up among those of the grouping and does not find it. The
//! number is replaced by the expression that it stands for.

use datafusion::sql::sqlparser::ast::{
    Expr, OrderByKind, Query, SelectItem, SetExpr, Statement, Value, VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

/// Replaces the numbers in the `ORDER BY` of every query of `statement`.
pub(super) fn spell_out(statement: &mut Statement) {
    let walked = statement.visit(&mut Ordinals);
    debug_assert!(walked.is_continue());
}

struct Ordinals;

impl VisitorMut for Ordinals {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_ref() else {
            return ControlFlow::Continue(());
        };
        let Some(OrderByKind::Expressions(sorts)) = query.order_by.as_mut().map(|o| &mut o.kind)
        else {
            return ControlFlow::Continue(());
        };
        for sort in sorts {
            if let Some(e) = named(&sort.expr, &select.projection) {
                sort.expr = e;
            }
        }
        ControlFlow::Continue(())
    }
}

/// The expression that a number stands for, if it has no name and no wildcard comes before it.
fn named(sort: &Expr, projection: &[SelectItem]) -> Option<Expr> {
    let Expr::Value(v) = sort else { return None };
    let Value::Number(text, false) = &v.value else {
        return None;
    };
    let index = text.parse::<usize>().ok()?.checked_sub(1)?;
    for item in projection.iter().take(index) {
        match item {
            SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => {}
            _ => return None,
        }
    }
    match projection.get(index)? {
        SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => None,
        // A literal would be read as a number of a column again.
        SelectItem::UnnamedExpr(Expr::Value(_) | Expr::UnaryOp { .. } | Expr::Nested(_)) => None,
        SelectItem::UnnamedExpr(e) => Some(e.clone()),
        _ => None,
    }
}
