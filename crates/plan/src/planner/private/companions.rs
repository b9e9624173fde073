//! Status companions: beside each released value, what was done to it.
//!
//! A companion is shown for each column of the answer that is a released value, renamed or cast at most, on its way up
//! from the fragment through projections, filters (`HAVING` too), sorting, limits, sub-selects and unions. What is
//! worked out from released values has none, nor has what a join, a window or another aggregation passes on: the
//! companion would speak of a value that is not there to be seen. Keys have none. Nodes are asked for companions only
//! where they are shown; which cells are withheld, and every value, is the same with them and without.

use super::internal;
use crate::planner::PlanError;
use crate::remote::RemoteFragment;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, Projection, Union};
use guildhall_accuracy::status;
use std::collections::HashMap;
use std::sync::Arc;

/// What companions are called on their way up.
const ON_ITS_WAY: &str = "guildhall status";

/// `plan` with a companion after each released value that it passes on.
pub(super) fn shown(plan: LogicalPlan) -> Result<LogicalPlan, PlanError> {
    let carried = carry(&plan).map_err(internal)?;
    if carried.of.is_empty() {
        return Ok(plan);
    }
    let names = plan.schema().fields().iter().map(|f| f.name().clone());
    let names: Vec<String> = names.collect();
    let schema = carried.plan.schema();
    let mut exprs = Vec::new();
    for (at, name) in names.iter().enumerate() {
        exprs.push(column(schema, at));
        if let Some(companion) = carried.companion(at) {
            let name = status::name(name);
            if names.contains(&name) {
                return Err(PlanError::invalid(format!(
                    "`{name}` is the name of a column and of a status companion: give the column another name with \
                     `as`, or ask with `SET guildhall.cell_status = off`"
                )));
            }
            exprs.push(column(schema, companion).alias(name));
        }
    }
    projected(exprs, carried.plan).map_err(internal)
}

/// A plan that has the columns it had, in their places, and more of them: companions.
struct Carried {
    plan: LogicalPlan,
    /// Released columns, each with the place of its companion.
    of: Vec<(usize, usize)>,
}

impl Carried {
    fn none(plan: &LogicalPlan) -> Self {
        Self {
            plan: plan.clone(),
            of: vec![],
        }
    }

    fn companion(&self, of: usize) -> Option<usize> {
        let found = self.of.iter().find(|(value, _)| *value == of);
        found.map(|(_, companion)| *companion)
    }
}

fn carry(plan: &LogicalPlan) -> EngineResult<Carried> {
    match plan {
        LogicalPlan::Extension(e) => match e.node.as_any().downcast_ref::<RemoteFragment>() {
            Some(part) => with_companions(part),
            None => Ok(Carried::none(plan)),
        },
        LogicalPlan::Projection(p) => projection(plan, p),
        LogicalPlan::Union(u) => union(plan, u),
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::SubqueryAlias(_) => above(plan),
        _ => Ok(Carried::none(plan)),
    }
}

/// The fragment with companions, which come where its node puts them: each after its value.
fn with_companions(part: &RemoteFragment) -> EngineResult<Carried> {
    let Some(keys) = part.cells.as_ref().map(|c| c.keys) else {
        return Ok(Carried::none(&extension(part.clone())));
    };
    let (mut fields, mut of) = (Vec::new(), Vec::new());
    for (at, field) in part.schema.fields().iter().enumerate() {
        fields.push(field.as_ref().clone());
        if at >= keys {
            let name = unused(at, &part.schema);
            let metadata = status::told().metadata().into_iter().collect();
            let companion = Field::new(name, DataType::Utf8, true);
            of.push((fields.len().saturating_sub(1), fields.len()));
            fields.push(companion.with_metadata(metadata));
        }
    }
    let schema = DFSchema::from_unqualified_fields(fields.into(), HashMap::new())?;
    let mut fragment = part.fragment.as_ref().clone();
    fragment.cell_status = true;
    let part = RemoteFragment {
        fragment: Arc::new(fragment),
        schema: Arc::new(schema),
        ..part.clone()
    };
    Ok(Carried {
        plan: extension(part),
        of,
    })
}

fn extension(part: RemoteFragment) -> LogicalPlan {
    LogicalPlan::Extension(Extension {
        node: Arc::new(part),
    })
}

fn projection(plan: &LogicalPlan, projection: &Projection) -> EngineResult<Carried> {
    let input = carry(&projection.input)?;
    let (mut exprs, mut of) = (projection.expr.clone(), Vec::new());
    for (at, expr) in projection.expr.iter().enumerate() {
        let Some(passed) = passed_on(expr) else {
            continue;
        };
        let from = input.plan.schema().index_of_column(passed)?;
        if let Some(companion) = input.companion(from) {
            of.push((at, exprs.len()));
            let name = unused(at, &projection.schema);
            exprs.push(column(input.plan.schema(), companion).alias(name));
        }
    }
    if of.is_empty() {
        return Ok(Carried::none(plan));
    }
    Ok(Carried {
        plan: projected(exprs, input.plan)?,
        of,
    })
}

/// The column that `expr` passes on, under another name or in another type at most.
fn passed_on(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => passed_on(&alias.expr),
        Expr::Cast(cast) => passed_on(&cast.expr),
        _ => None,
    }
}

/// A relation that passes on all columns of its one input.
fn above(plan: &LogicalPlan) -> EngineResult<Carried> {
    let [input] = plan.inputs()[..] else {
        return Ok(Carried::none(plan));
    };
    let input = carry(input)?;
    if input.of.is_empty() {
        return Ok(Carried::none(plan));
    }
    Ok(Carried {
        plan: plan.with_new_exprs(plan.expressions(), vec![input.plan])?,
        of: input.of,
    })
}

/// A union whose parts all have companions of the same columns.
fn union(plan: &LogicalPlan, union: &Union) -> EngineResult<Carried> {
    let parts = union.inputs.iter().map(|input| carry(input));
    let parts = parts.collect::<EngineResult<Vec<_>>>()?;
    let columns = union.schema.fields().len();
    let common = (0..columns).filter(|at| parts.iter().all(|p| p.companion(*at).is_some()));
    let common: Vec<usize> = common.collect();
    if common.is_empty() {
        return Ok(Carried::none(plan));
    }
    let inputs = parts.into_iter().map(|part| {
        let schema = part.plan.schema();
        let mut exprs: Vec<Expr> = (0..columns).map(|at| column(schema, at)).collect();
        for at in &common {
            let companion = part.companion(*at).unwrap_or(*at);
            exprs.push(column(schema, companion).alias(unused(*at, &union.schema)));
        }
        Ok(Arc::new(projected(exprs, part.plan)?))
    });
    let together = Union::try_new(inputs.collect::<EngineResult<_>>()?)?;
    // Whoever is above names columns as the union had them.
    let same = (0..columns)
        .all(|at| together.schema.qualified_field(at) == union.schema.qualified_field(at));
    if !same {
        return Ok(Carried::none(plan));
    }
    let of = common.into_iter().zip(columns..).collect();
    Ok(Carried {
        plan: LogicalPlan::Union(together),
        of,
    })
}

/// A name that no column of `schema` has.
fn unused(at: usize, schema: &DFSchema) -> String {
    let mut name = format!("{ON_ITS_WAY} {at}");
    while schema.fields().iter().any(|f| *f.name() == name) {
        name.push('\'');
    }
    name
}

fn column(schema: &DFSchemaRef, at: usize) -> Expr {
    Expr::Column(Column::from(schema.qualified_field(at)))
}

fn projected(exprs: Vec<Expr>, input: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    Projection::try_new(exprs, Arc::new(input)).map(LogicalPlan::Projection)
}
