//! Cells that one owner has whole, as a fragment whose node releases them.

use super::asked::Leaf;
use super::{internal, rows_refused};
use crate::adhoc::{self, Lane};
use crate::catalogue::CatalogueProduct;
use crate::cut::fragment;
use crate::planner::{PlanError, Rows};
use crate::remote::{Cells, Mode, RemoteFragment};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use guildhall_accuracy::Told;
use guildhall_model::{OutputClass, ReleaseClass};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The fragment whose node answers `question` with released cells.
pub(super) fn by_its_node(
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
            products: vec![Arc::clone(&leaf.product)],
            free: matches!(lane, Lane::AdHoc(_)),
            of_all: leaf.is_of_all(),
            room: None,
            linked: false,
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
pub(super) fn cell_schema(columns: &Schema, told: Vec<Told>) -> EngineResult<DFSchemaRef> {
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
