//! What is taken from a statement before it is planned: names, literals, placeholders.

use super::PlanError;
use crate::catalogue::{CITY, Catalogue, INFORMATION_SCHEMA};
use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::{
    Expr, Statement, Value, VisitMut, visit_expressions, visit_expressions_mut,
};
use std::ops::ControlFlow;

/// The schema that a bare name falls into; no department is called that.
pub(super) const NO_SCHEMA: &str = "public";

/// Numbers each `?` from the left, as `$1`, `$2` and so on; the engine knows no other kind.
pub(super) fn number_placeholders<S: VisitMut>(statement: &mut S) {
    let mut next = 0_usize;
    let walked: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &mut value.value
            && name == "?"
        {
            next += 1;
            *name = format!("${next}");
        }
        ControlFlow::Continue(())
    });
    debug_assert!(walked.is_continue());
}

/// The texts of all literals, so that no message repeats them; longest first.
pub(super) fn literals(statement: &Statement) -> Vec<String> {
    let mut found = Vec::new();
    let walked: ControlFlow<()> = visit_expressions(statement, |expr| {
        match expr {
            Expr::Value(value) => found.extend(literal_text(&value.value)),
            Expr::TypedString(typed) => found.extend(literal_text(&typed.value.value)),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    debug_assert!(walked.is_continue());
    found.sort_by_key(|text| std::cmp::Reverse(text.len()));
    found.dedup();
    found
}

fn literal_text(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Boolean(_) | Value::Placeholder(_) => None,
        Value::Number(text, _) => Some(text.clone()),
        other => other.clone().into_string(),
    }
}

/// Refuses the first name that is not of a table in the catalogue.
pub(super) fn check_names(
    statement: &Statement,
    references: &[TableReference],
    catalogue: &Catalogue,
) -> Result<(), PlanError> {
    for reference in references {
        let resolved = reference.clone().resolve(CITY, NO_SCHEMA);
        // `SHOW` stands for queries that the engine writes, not all of which it then needs.
        if !matches!(statement, Statement::Query(_)) && *resolved.schema == *INFORMATION_SCHEMA {
            continue;
        }
        if !catalogue.has_table(&resolved.catalog, &resolved.schema, &resolved.table) {
            return Err(PlanError::NoProduct {
                name: reference.to_string(),
            });
        }
    }
    Ok(())
}
