//! Takes aggregates over private products out of a plan as whole cells.
//!
//! This comes before the optimiser, which would move filters and columns about until a question
//! is no longer one of the cube's. What is asked is written down in terms of the product's own
//! columns, recognised, and replaced by a fragment whose node releases the cells. A product whose
//! rows are still read after that is refused.

mod asked;
mod companions;

use super::{PlanError, Rows};
use crate::adhoc::{self, Lane};
use crate::catalogue::CatalogueProduct;
use crate::cut::{fragment, product_of};
use crate::remote::{Cells, Mode, RemoteFragment};
use asked::{Asked, Leaf, columns, reach, simplifier, told_apart};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue, TableReference};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, EmptyRelation, Expr, ExprSchemable, Extension, FetchType, Filter,
    LogicalPlan, Projection, Union,
};
use guildhall_accuracy::Told;
use guildhall_model::{OutputClass, ReleaseClass};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// `plan` with every aggregate over a private product in a fragment of its own; with `cell_status`, and a companion beside
/// each released value of its answer ([`companions`]).
pub(crate) fn taken_out(
    plan: LogicalPlan,
    state: &SessionState,
    cell_status: bool,
) -> Result<LogicalPlan, PlanError> {
    if first_private(&plan).is_none() {
        return Ok(plan);
    }
    let plan = emptied(plan, state).map_err(internal)?;
    let mut failed = None;
    let taken = plan.transform_down_with_subqueries(|node| match take(node, state) {
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

fn take(node: LogicalPlan, state: &SessionState) -> Result<Transformed<LogicalPlan>, PlanError> {
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
    let mut leaves = Vec::new();
    let asked = Asked {
        group: aggregate.group_expr.clone(),
        aggregates: aggregate.aggr_expr.clone(),
        filters: vec![],
    };
    if !reach(asked, &aggregate.input, state, &mut leaves)? {
        return Ok(Transformed::no(node));
    }
    let (live, dead): (Vec<Leaf>, Vec<Leaf>) = leaves.into_iter().partition(|l| !l.is_empty());
    if !live.is_empty() && live.iter().all(|l| l.product.releases_rows()) {
        let node = without(node, &dead).map_err(internal)?;
        return Ok(Transformed::yes(node));
    }
    if live.len() > 1 && !told_apart(&live) {
        return Err(joint_refused(&live));
    }
    let plan = cells(&aggregate, live, state)?;
    Ok(Transformed::new(plan, true, TreeNodeRecursion::Jump))
}

fn joint_refused(live: &[Leaf]) -> PlanError {
    let councils: BTreeSet<&str> = live
        .iter()
        .map(|l| l.product.product.council.as_str())
        .collect();
    PlanError::refused(
        "joint-cells",
        format!(
            "cells of this statement have parts at several owners ({}), which would have to be \
             released together; that is not offered",
            councils.into_iter().collect::<Vec<_>>().join(", ")
        ),
        "group by council, so that each cell is one owner's",
    )
}

/// The aggregate as one fragment for each leaf.
fn cells(
    aggregate: &Aggregate,
    leaves: Vec<Leaf>,
    state: &SessionState,
) -> Result<LogicalPlan, PlanError> {
    let fields: Vec<(Option<TableReference>, Arc<Field>)> = aggregate
        .schema
        .iter()
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .collect();
    let mut branches = Vec::new();
    for leaf in &leaves {
        branches.push(Arc::new(branch(leaf, &fields, state)?));
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
    let mut input = LogicalPlan::TableScan(leaf.scan.clone());
    if let Some(predicate) = conjunction(leaf.asked.filters.iter().cloned()) {
        let filter = Filter::try_new(predicate, Arc::new(input)).map_err(internal)?;
        input = LogicalPlan::Filter(filter);
    }
    if leaf.product.releases_rows() {
        let plain = Aggregate::try_new(
            Arc::new(input),
            leaf.asked.group.clone(),
            leaf.asked.aggregates.clone(),
        )
        .map_err(internal)?;
        let exprs = columns(&plain.schema);
        return named(exprs, LogicalPlan::Aggregate(plain), fields).map_err(internal);
    }
    let is_literal = |e: &&Expr| matches!(e, Expr::Literal(_, _));
    let keys = leaf.asked.group.iter().filter(|e| !is_literal(e));
    if keys.clone().next().is_none() && leaf.asked.aggregates.is_empty() {
        return Err(rows_refused(&leaf.product));
    }
    let question = Aggregate::try_new(
        Arc::new(input),
        keys.cloned().collect(),
        leaf.asked.aggregates.clone(),
    )
    .map_err(internal)?;
    let part = released(&LogicalPlan::Aggregate(question), leaf, state)?;
    let mut returned = columns(&part.schema).into_iter();
    let mut exprs = Vec::new();
    for key in &leaf.asked.group {
        exprs.extend(if is_literal(&key) {
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

/// The fragment whose node answers `question` with released cells.
fn released(
    question: &LogicalPlan,
    leaf: &Leaf,
    state: &SessionState,
) -> Result<RemoteFragment, PlanError> {
    let product = &leaf.product.product;
    if product.class != ReleaseClass::Aggregate {
        return Err(rows_refused(&leaf.product));
    }
    let schema = &leaf.product.schema;
    let lane = adhoc::lane(question, product, leaf.product.budget.as_ref())
        .map_err(|refusal| PlanError::Refused { refusal })?;
    let cells = lane.cells();
    let columns = cells.output_schema();
    let plan = match &lane {
        Lane::Cube(query) => query.canonical_plan(schema),
        Lane::AdHoc(query) => query.canonical_plan(schema),
    };
    let told = told(&lane, &leaf.product)?;
    let plan = plan.map_err(internal)?;
    let fragment = fragment(
        &plan,
        state,
        std::slice::from_ref(&leaf.product),
        OutputClass::ReleasedCells,
        Mode::Local,
    )?;
    let rule = rule(&lane, leaf);
    Ok(RemoteFragment {
        fragment: Arc::new(fragment),
        plan: None,
        schema: cell_schema(&columns, told).map_err(internal)?,
        rows: Rows::exactly(1_000.0),
        rule,
        cells: Some(Cells {
            keys: cells.keys.len(),
            product: Arc::clone(&leaf.product),
            free: matches!(lane, Lane::AdHoc(_)),
        }),
        open: false,
    })
}

/// What is told of each column of the answer, in the words of the node that will give it.
fn told(lane: &Lane, of: &CatalogueProduct) -> Result<Vec<Told>, PlanError> {
    match (lane, &of.budget) {
        (Lane::Cube(query), _) => Ok(query.told(&of.product)),
        (Lane::AdHoc(query), Some(budget)) => query
            .told(&of.product, &of.schema, budget)
            .map_err(|refusal| PlanError::Refused { refusal }),
        (Lane::AdHoc(_), None) => Err(internal(DataFusionError::Internal(
            "a free question without a budget".to_owned(),
        ))),
    }
}

/// The rule that the answer passes, and in the ad hoc lane what it costs.
fn rule(lane: &Lane, leaf: &Leaf) -> String {
    match (lane, &leaf.product.budget) {
        (Lane::AdHoc(_), Some(budget)) => format!(
            "ad hoc: differential privacy; a question not asked before costs rho {} of the {} that `{}` has each {}",
            budget.per_query, budget.rho, budget.purpose, budget.period
        ),
        _ => {
            let minimum = leaf.product.product.minimum_group;
            format!("minimum group of {minimum} distinct units")
        }
    }
}

/// The released columns: all of them nullable, each with a name of its own, its rule and how far off it may be.
fn cell_schema(columns: &Schema, told: Vec<Told>) -> EngineResult<DFSchemaRef> {
    let mut taken = BTreeSet::new();
    let fields = columns.fields().iter().zip(told).enumerate();
    let fields = fields.map(|(index, (field, told))| {
        let mut name = field.name().clone();
        if !taken.insert(name.clone()) {
            name = format!("{name} ({index})");
            taken.insert(name.clone());
        }
        Field::new(name, field.data_type().clone(), true)
            .with_metadata(told.metadata().into_iter().collect())
    });
    let fields = fields.collect();
    Ok(Arc::new(DFSchema::from_unqualified_fields(
        fields,
        HashMap::new(),
    )?))
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
