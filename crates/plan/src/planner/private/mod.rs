//! Takes aggregates over private products out of a plan as whole cells.
//!
//! This comes before the optimiser, which would move filters and columns about until a question
//! is no longer one of the cube's. What is asked is written down in terms of the product's own
//! columns, recognised, and replaced by a fragment whose node releases the cells. Where cells have parts at several
//! owners, the fragment is a clean room's, which puts the parts together ([`joint`]); where rows of several owners meet, it
//! is one of tokenised rows ([`linked`]). A product whose rows are still read
//! after that is refused.

mod asked;
mod companions;
mod joint;
mod linked;
mod released;

use super::PlanError;
use crate::catalogue::{CatalogueProduct, CleanRoom};
use crate::cut::product_of;
use crate::remote::RemoteFragment;
use asked::{Asked, Leaf, columns, reach, simplifier, together};
use datafusion::arrow::datatypes::Field;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue, TableReference};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, EmptyRelation, Expr, ExprSchemable, Extension, FetchType, Filter,
    LogicalPlan, Projection, Union,
};
use guildhall_model::ReleaseClass;
use std::collections::BTreeSet;
use std::sync::Arc;

/// `plan` with every aggregate over a private product in a fragment of its own; with `cell_status`, and a companion beside
/// each released value of its answer ([`companions`]). `room` is where cells of several owners may be released.
pub(crate) fn taken_out(
    plan: LogicalPlan,
    state: &SessionState,
    room: Option<&CleanRoom>,
    cell_status: bool,
) -> Result<LogicalPlan, PlanError> {
    if first_private(&plan).is_none() {
        return Ok(plan);
    }
    let plan = emptied(plan, state).map_err(internal)?;
    let mut failed = None;
    let taken = plan.transform_down_with_subqueries(|node| match take(node, state, room) {
        Ok(transformed) => Ok(transformed),
        Err(error) => {
            failed = Some(error);
            Err(DataFusionError::Internal("taken out".to_owned()))
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let plan = taken.map_err(internal)?.data;
    if let Some(product) = first_private(&plan) {
        return Err(rows_refused(&product));
    }
    // Released columns may be NULL where the engine thought that they could not be.
    let plan = plan
        .transform_up_with_subqueries(|node| node.recompute_schema().map(Transformed::yes))
        .map_err(internal)?
        .data;
    if cell_status {
        companions::shown(plan)
    } else {
        Ok(plan)
    }
}

/// The plan with what is asked for no rows at all as relations without rows: tools ask so for the
/// columns of a table, which the catalogue tells anyway.
fn emptied(plan: LogicalPlan, state: &SessionState) -> EngineResult<LogicalPlan> {
    let emptied = plan.transform_down_with_subqueries(|node| {
        let none = match &node {
            LogicalPlan::Filter(filter) => simplifier(filter.input.schema(), state)
                .simplify(filter.predicate.clone())
                .is_ok_and(|predicate| never(&predicate)),
            LogicalPlan::Limit(limit) => {
                matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0))))
            }
            _ => false,
        };
        if !none {
            return Ok(Transformed::no(node));
        }
        let schema = Arc::clone(node.schema());
        let empty = LogicalPlan::EmptyRelation(EmptyRelation {
            produce_one_row: false,
            schema,
        });
        Ok(Transformed::new(empty, true, TreeNodeRecursion::Jump))
    })?;
    Ok(emptied.data)
}

/// Whether a simplified predicate keeps no row.
fn never(predicate: &Expr) -> bool {
    matches!(predicate, Expr::Literal(ScalarValue::Boolean(v), _) if *v != Some(true))
}

fn internal(source: DataFusionError) -> PlanError {
    PlanError::internal(source)
}

/// A product in `plan` whose rows do not leave its node, sub-queries included.
fn first_private(plan: &LogicalPlan) -> Option<Arc<CatalogueProduct>> {
    let mut found = None;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(product) = product_of(scan)
            && !product.releases_rows()
        {
            found = Some(product);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok());
    found
}

fn rows_refused(product: &CatalogueProduct) -> PlanError {
    let name = product.product.product_ref();
    match product.product.class {
        ReleaseClass::Warranted => PlanError::refused(
            "warrant",
            format!("`{name}` is given on a warrant, which this gateway does not take"),
            "ask the department how a warrant is applied for",
        ),
        _ => PlanError::refused(
            "rows-of-private-product",
            format!("`{name}` gives released cells only, and this statement needs its rows"),
            "aggregate it by itself first: count(*), count(distinct <unit>), sum or avg of its \
             measures, grouped by its dimensions; join, filter or sort what comes out",
        ),
    }
}

fn take(
    node: LogicalPlan,
    state: &SessionState,
    room: Option<&CleanRoom>,
) -> Result<Transformed<LogicalPlan>, PlanError> {
    let aggregate = match &node {
        LogicalPlan::Aggregate(aggregate) => aggregate.clone(),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let columns = input.schema().columns().into_iter().map(Expr::Column);
            Aggregate::try_new(Arc::clone(input), columns.collect(), vec![]).map_err(internal)?
        }
        _ => return Ok(Transformed::no(node)),
    };
    if first_private(&aggregate.input).is_none() {
        return Ok(Transformed::no(node));
    }
    if linked::applies(&aggregate) {
        let plan = linked::cells(&aggregate, &fields(&aggregate), state, room)?;
        return Ok(Transformed::new(plan, true, TreeNodeRecursion::Jump));
    }
    let mut leaves = Vec::new();
    let asked = Asked {
        group: aggregate.group_expr.clone(),
        aggregates: aggregate.aggr_expr.clone(),
        filters: vec![],
        of_city: false,
    };
    if !reach(asked, &aggregate.input, state, &mut leaves)? {
        return Ok(Transformed::no(node));
    }
    let (live, dead): (Vec<Leaf>, Vec<Leaf>) = leaves.into_iter().partition(|l| !l.is_empty());
    if !live.is_empty() && live.iter().all(|l| l.product.releases_rows()) {
        let node = without(node, &dead).map_err(internal)?;
        return Ok(Transformed::yes(node));
    }
    let plan = cells(&aggregate, together(live), state, room)?;
    Ok(Transformed::new(plan, true, TreeNodeRecursion::Jump))
}

/// The aggregate as one fragment for each of these groups of leaves, whose cells are told apart.
fn cells(
    aggregate: &Aggregate,
    groups: Vec<Vec<Leaf>>,
    state: &SessionState,
    room: Option<&CleanRoom>,
) -> Result<LogicalPlan, PlanError> {
    let fields = fields(aggregate);
    let mut branches = Vec::new();
    for leaves in &groups {
        branches.push(Arc::new(match leaves.as_slice() {
            [leaf] => branch(leaf, &fields, state)?,
            several => joint::branch(several, &fields, state, room)?,
        }));
    }
    match branches.as_slice() {
        [] => nothing(aggregate, &fields).map_err(internal),
        [only] => Ok(LogicalPlan::clone(only)),
        _ => {
            let union = LogicalPlan::Union(Union::try_new(branches).map_err(internal)?);
            named(columns(union.schema()), union, &fields).map_err(internal)
        }
    }
}

/// The columns of an answer, as the statement has them.
fn fields(aggregate: &Aggregate) -> Vec<(Option<TableReference>, Arc<Field>)> {
    let columns = aggregate.schema.iter();
    columns
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .collect()
}

/// No owner is asked: no cells, or one without a value.
fn nothing(
    aggregate: &Aggregate,
    fields: &[(Option<TableReference>, Arc<Field>)],
) -> EngineResult<LogicalPlan> {
    let one = LogicalPlan::EmptyRelation(EmptyRelation {
        produce_one_row: aggregate.group_expr.is_empty(),
        schema: Arc::new(DFSchema::empty()),
    });
    let nulls = fields
        .iter()
        .map(|(_, f)| ScalarValue::try_from(f.data_type()).map(|v| Expr::Literal(v, None)))
        .collect::<EngineResult<Vec<_>>>()?;
    named(nulls, one, fields)
}

/// The columns `exprs` of `input`, typed and named as `fields` are.
fn named(
    exprs: Vec<Expr>,
    input: LogicalPlan,
    fields: &[(Option<TableReference>, Arc<Field>)],
) -> EngineResult<LogicalPlan> {
    let exprs = exprs
        .into_iter()
        .zip(fields)
        .map(|(expr, (qualifier, field))| {
            Ok(expr
                .cast_to(field.data_type(), input.schema())?
                .alias_qualified(qualifier.clone(), field.name()))
        })
        .collect::<EngineResult<Vec<_>>>()?;
    Projection::try_new(exprs, Arc::new(input)).map(LogicalPlan::Projection)
}

fn branch(
    leaf: &Leaf,
    fields: &[(Option<TableReference>, Arc<Field>)],
    state: &SessionState,
) -> Result<LogicalPlan, PlanError> {
    if leaf.product.releases_rows() {
        let (group, aggregates) = (leaf.asked.group.clone(), leaf.asked.aggregates.clone());
        let input = rows(leaf).map_err(internal)?;
        let plain = Aggregate::try_new(Arc::new(input), group, aggregates).map_err(internal)?;
        let exprs = columns(&plain.schema);
        return named(exprs, LogicalPlan::Aggregate(plain), fields).map_err(internal);
    }
    let part = released::by_its_node(&question(leaf)?, leaf, state)?;
    placed(part, &leaf.asked.group, fields)
}

/// The rows that a leaf is asked of.
fn rows(leaf: &Leaf) -> EngineResult<LogicalPlan> {
    let scan = LogicalPlan::TableScan(leaf.scan.clone());
    match conjunction(leaf.asked.filters.iter().cloned()) {
        Some(predicate) => Filter::try_new(predicate, Arc::new(scan)).map(LogicalPlan::Filter),
        None => Ok(scan),
    }
}

fn is_literal(e: &Expr) -> bool {
    matches!(e, Expr::Literal(_, _))
}

/// What is asked of a leaf's owner: keys that are the same for all of its cells are not.
fn question(leaf: &Leaf) -> Result<LogicalPlan, PlanError> {
    let keys = leaf.asked.group.iter().filter(|e| !is_literal(e));
    let keys: Vec<Expr> = keys.cloned().collect();
    if keys.is_empty() && leaf.asked.aggregates.is_empty() {
        return Err(rows_refused(&leaf.product));
    }
    let input = rows(leaf).map_err(internal)?;
    Aggregate::try_new(Arc::new(input), keys, leaf.asked.aggregates.clone())
        .map(LogicalPlan::Aggregate)
        .map_err(internal)
}

/// The columns of `part` with the constants among the keys of `group` in their places, typed and named as `fields` are.
fn placed(
    part: RemoteFragment,
    group: &[Expr],
    fields: &[(Option<TableReference>, Arc<Field>)],
) -> Result<LogicalPlan, PlanError> {
    let mut returned = columns(&part.schema).into_iter();
    let mut exprs = Vec::new();
    for key in group {
        exprs.extend(if is_literal(key) {
            Some(key.clone())
        } else {
            returned.next()
        });
    }
    exprs.extend(returned);
    if exprs.len() != fields.len() {
        return Err(internal(DataFusionError::Internal(
            "cells with other columns than were asked for".to_owned(),
        )));
    }
    let part = LogicalPlan::Extension(Extension {
        node: Arc::new(part),
    });
    named(exprs, part, fields).map_err(internal)
}

/// The plan with the scans of `dead` leaves as relations without rows.
fn without(plan: LogicalPlan, dead: &[Leaf]) -> EngineResult<LogicalPlan> {
    let gone: BTreeSet<String> = dead.iter().map(|l| l.scan.table_name.to_string()).collect();
    let plan = plan.transform_down(|node| match node {
        LogicalPlan::TableScan(scan) if gone.contains(&scan.table_name.to_string()) => Ok(
            Transformed::yes(LogicalPlan::EmptyRelation(EmptyRelation {
                produce_one_row: false,
                schema: Arc::clone(&scan.projected_schema),
            })),
        ),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}
