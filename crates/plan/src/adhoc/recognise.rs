//! From an aggregation to a free question.

use super::AdHocQuery;
use super::form;
use crate::cube::{self, CubeKey, Refusal};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use guildhall_grant::product::Product;
use std::sync::Arc;

/// The most parts that one expression may have when it is written in terms of the product's columns, and how deep
/// they may lie: a projection can name a column twice, and so can the next.
const MAX_PARTS: usize = 10_000;
const MAX_DEPTH: usize = 200;
/// The most cells that an answer may have.
const MAX_CELLS: usize = 10_000;

/// Reads `plan`, an aggregation with nothing above it, as a free question to `product`.
///
/// The columns of the answer are those of `plan`, in its order.
pub fn recognise(plan: &LogicalPlan, product: &Product) -> Result<AdHocQuery, Refusal> {
    let LogicalPlan::Aggregate(aggregate) = plan else {
        return Err(Refusal::new(
            "adhoc.form",
            "something that is no aggregation of private rows",
            "aggregate the rows of the product: count(*), or count, sum and avg of its measures",
        ));
    };
    let mut predicates = Vec::new();
    follow(&aggregate.input, product, &mut predicates)?;
    let bare = unfiltered(plan.clone()).map_err(|_| wrong_form())?;
    let cells = cube::recognise(&bare, product)
        .map_err(|r| Refusal::new("adhoc.cells", r.reason, r.instead))?;
    if cells.aggregates.is_empty() {
        return Err(Refusal::new(
            "adhoc.aggregate",
            "an answer that tells nothing of its cells",
            "ask for count(*), or for count, sum or avg of a measure",
        ));
    }
    check_keys(&cells.keys, product)?;
    let form = form::of(&cells, &predicates, product)?;
    Ok(AdHocQuery {
        cells,
        predicates,
        form,
    })
}

fn wrong_form() -> Refusal {
    Refusal::new(
        "adhoc.form",
        "an aggregation that is not directly over the rows of one product",
        "select from one product, filter by any condition on its columns, and aggregate",
    )
}

/// The same plan without its filters.
fn unfiltered(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let plan = plan.transform_up(|node| {
        Ok(match node {
            LogicalPlan::Filter(f) => Transformed::yes(Arc::unwrap_or_clone(f.input)),
            LogicalPlan::TableScan(mut scan) => {
                scan.filters.clear();
                Transformed::yes(LogicalPlan::TableScan(scan))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(plan.data)
}

/// The cells are known without the data.
fn check_keys(keys: &[CubeKey], product: &Product) -> Result<(), Refusal> {
    let mut cells = 1_usize;
    for (at, key) in keys.iter().enumerate() {
        let values = product.dimension(key.column.as_str()).map(|d| &d.values);
        let values = values.map_or(0, Vec::len);
        let again = keys.iter().take(at).any(|k| k.column == key.column);
        if key.roll_up.is_some() || values == 0 || again {
            return Err(Refusal::new(
                "adhoc.key",
                format!("a free question grouped by `{}`", key.column),
                groupable(product),
            ));
        }
        cells = cells.saturating_mul(values);
    }
    if cells > MAX_CELLS {
        return Err(Refusal::new(
            "adhoc.grid",
            format!("a free question of more than {MAX_CELLS} cells"),
            "group by fewer dimensions",
        ));
    }
    Ok(())
}

fn groupable(product: &Product) -> String {
    let registered = product.dimensions.iter().filter(|d| !d.values.is_empty());
    let names: Vec<&str> = registered.map(|d| d.column.as_str()).collect();
    if names.is_empty() {
        "no dimension of this product states its values: ask for totals, one question for each group"
            .to_owned()
    } else {
        format!(
            "group by each of these once and as it is, since their values are registered: {}",
            names.join(", ")
        )
    }
}

/// What a column is in terms of the product's columns, and how large that is.
#[derive(Clone)]
struct Followed {
    expr: Expr,
    size: Size,
}

#[derive(Clone, Copy)]
struct Size {
    parts: usize,
    depth: usize,
}

/// The columns of `plan` in terms of the product's, and the predicates on the way to it.
fn follow(
    plan: &LogicalPlan,
    product: &Product,
    predicates: &mut Vec<Expr>,
) -> Result<Vec<Followed>, Refusal> {
    match plan {
        LogicalPlan::TableScan(scan) => scanned(scan, product, predicates),
        LogicalPlan::SubqueryAlias(alias) => follow(&alias.input, product, predicates),
        LogicalPlan::Projection(p) => {
            let columns = follow(&p.input, product, predicates)?;
            let each = p.expr.iter();
            each.map(|e| substituted(e, p.input.schema(), &columns))
                .collect()
        }
        LogicalPlan::Filter(f) => {
            let columns = follow(&f.input, product, predicates)?;
            add(&f.predicate, f.input.schema(), &columns, predicates)?;
            Ok(columns)
        }
        _ => Err(wrong_form()),
    }
}

fn scanned(
    scan: &TableScan,
    product: &Product,
    predicates: &mut Vec<Expr>,
) -> Result<Vec<Followed>, Refusal> {
    let named = crate::profile::product_of(&scan.table_name);
    if scan.fetch.is_some() || !named.is_ok_and(|n| n == product.product_ref()) {
        return Err(wrong_form());
    }
    let table = scan.source.schema();
    let all = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &table)
        .map_err(|_| wrong_form())?;
    let columns: Vec<Followed> = all
        .fields()
        .iter()
        .map(|f| named_column(f.name()))
        .collect();
    for predicate in &scan.filters {
        add(predicate, &all, &columns, predicates)?;
    }
    let projected = scan.projected_schema.fields();
    Ok(projected.iter().map(|f| named_column(f.name())).collect())
}

fn named_column(name: &str) -> Followed {
    Followed {
        expr: Expr::Column(Column::new_unqualified(name)),
        size: Size { parts: 1, depth: 1 },
    }
}

/// Adds the parts of a condition, each one once.
fn add(
    predicate: &Expr,
    schema: &DFSchema,
    columns: &[Followed],
    predicates: &mut Vec<Expr>,
) -> Result<(), Refusal> {
    for part in split_conjunction(predicate) {
        let part = substituted(part, schema, columns)?.expr;
        if !predicates.contains(&part) {
            predicates.push(part);
        }
    }
    Ok(())
}

/// `e` with what each column stands for in its place, without aliases.
fn substituted(e: &Expr, schema: &DFSchema, columns: &[Followed]) -> Result<Followed, Refusal> {
    let size = size(e, schema, columns)?;
    if size.parts > MAX_PARTS || size.depth > MAX_DEPTH {
        return Err(Refusal::new(
            "adhoc.size",
            "an expression that is very large, or nested very deeply",
            "write the condition with fewer parts",
        ));
    }
    let replaced = e.clone().transform_up(|e| {
        Ok(match e {
            Expr::Alias(a) => Transformed::yes(*a.expr),
            Expr::Column(c) => {
                let stands_for = schema.maybe_index_of_column(&c);
                let stands_for = stands_for.and_then(|at| columns.get(at));
                let stands_for = stands_for.ok_or_else(unknown)?;
                Transformed::yes(stands_for.expr.clone())
            }
            other => Transformed::no(other),
        })
    });
    let expr = replaced.map_err(|_| wrong_form())?.data;
    Ok(Followed { expr, size })
}

fn unknown() -> DataFusionError {
    DataFusionError::Plan("a column that the relation does not have".to_owned())
}

/// How large `e` will be when it is written in terms of the product's columns.
fn size(e: &Expr, schema: &DFSchema, columns: &[Followed]) -> Result<Size, Refusal> {
    if let Expr::Column(c) = e {
        let stands_for = schema.maybe_index_of_column(c);
        let stands_for = stands_for.and_then(|at| columns.get(at));
        return stands_for.map(|f| f.size).ok_or_else(wrong_form);
    }
    let (mut parts, mut depth, mut failed) = (1_usize, 0_usize, None);
    let walked = e.apply_children(|child| {
        match size(child, schema, columns) {
            Ok(size) => {
                parts = parts.saturating_add(size.parts);
                depth = depth.max(size.depth);
            }
            Err(refusal) => failed = Some(refusal),
        }
        Ok(TreeNodeRecursion::Continue)
    });
    match (failed, walked) {
        (Some(refusal), _) => Err(refusal),
        (None, Err(_)) => Err(wrong_form()),
        (None, Ok(_)) => Ok(Size {
            parts,
            depth: depth.saturating_add(1),
        }),
    }
}
