//! Cells of rows that meet on their unit, as a fragment in whose clean room they do.

use super::asked::{Asked, simplified};
use super::joint::named;
use super::released::cell_schema;
use super::{internal, is_literal, placed};
use crate::catalogue::{CatalogueProduct, CleanRoom};
use crate::cube::Refusal;
use crate::cut::{fragment, products};
use crate::linked::{LinkedQuery, Meeting, Offered, Registered, United, encode, meeting};
use crate::planner::{PlanError, Rows};
use crate::remote::{Cells, Fragment, Mode, RemoteFragment};
use datafusion::arrow::datatypes::Field;
use datafusion::common::TableReference;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use guildhall_model::{OutputClass, ReleaseClass};
use std::collections::BTreeSet;
use std::sync::Arc;

const RULE: &str = "linked";

/// Whether rows of several products meet below `aggregate`, all of them of owners that agree to such meetings at all.
pub(super) fn applies(aggregate: &Aggregate) -> bool {
    let found = products(&aggregate.input);
    let may_meet = |p: &Arc<CatalogueProduct>| {
        p.product.class == ReleaseClass::Aggregate && p.product.linkable.is_some()
    };
    let names: BTreeSet<_> = found.iter().map(|p| p.product.product_ref()).collect();
    names.len() > 1 && found.iter().all(may_meet) && meets(&aggregate.input)
}

/// Whether something in `plan` makes rows of two relations meet.
fn meets(plan: &LogicalPlan) -> bool {
    let within = |e: &Expr| e.exists(|e| Ok(matches!(e, Expr::InSubquery(_))));
    let mut found = false;
    let walked = plan.apply(|node| {
        found |= match node {
            LogicalPlan::Join(_) => true,
            LogicalPlan::Filter(f) => within(&f.predicate)?,
            _ => false,
        };
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    });
    found && walked.is_ok()
}

/// The aggregate over rows that meet, answered by a clean room.
pub(super) fn cells(
    aggregate: &Aggregate,
    fields: &[(Option<TableReference>, Arc<Field>)],
    state: &SessionState,
    room: Option<&CleanRoom>,
) -> Result<LogicalPlan, PlanError> {
    let refused = |refusal| PlanError::Refused { refusal };
    let mut meeting = meeting(aggregate).map_err(refused)?;
    simplify(&mut meeting, state)?;
    let group = meeting.group.clone();
    let (mut query, offered, united) = meeting.question().map_err(refused)?;
    let room = room.ok_or_else(|| {
        refused(Refusal::new(
            RULE,
            "rows of several departments meet in a clean room, and none is configured at this gateway",
            "aggregate each product by itself, and join the cells",
        ))
    })?;
    let council = &united.product.council;
    if room.peer.council != *council {
        return Err(refused(Refusal::new(
            RULE,
            format!("rows of `{council}` meet in its own clean room, and this gateway has another"),
            "aggregate each product by itself, and join the cells",
        )));
    }
    let names = fields.iter().map(|(_, field)| field.name().as_str());
    let names = names.enumerate();
    let names = names.filter(|(at, _)| !group.get(*at).is_some_and(is_literal));
    query.cells = named(query.cells, names.map(|(_, name)| name));
    let part = released(&query, &offered, &united, room, state)?;
    placed(part, &group, fields)
}

/// Works out the constants of the statement, as for every question of a cube.
fn simplify(meeting: &mut Meeting, state: &SessionState) -> Result<(), PlanError> {
    let relation = meeting.relation().map_err(internal)?;
    let schema = relation.schema();
    let simple = |group: Vec<Expr>, filters: Vec<Expr>| {
        let asked = Asked {
            group,
            aggregates: vec![],
            filters,
            of_city: false,
        };
        simplified(asked, schema, state)
            .map_err(PlanError::constant)?
            .computed()
    };
    meeting.group = simple(std::mem::take(&mut meeting.group), vec![])?.group;
    let filters = std::mem::take(meeting.filters_mut());
    *meeting.filters_mut() = simple(vec![], filters)?.filters;
    Ok(())
}

/// The fragment whose clean room answers `query` with rows that each member's node sends it.
fn released(
    query: &LinkedQuery,
    offered: &Offered,
    united: &United,
    room: &CleanRoom,
    state: &SessionState,
) -> Result<RemoteFragment, PlanError> {
    let registered = offered.registered();
    let mut parts = Vec::new();
    for (at, (of, product)) in registered.iter().zip(&offered.0).enumerate() {
        parts.push(part(query, at, *of, product, state)?);
    }
    let question = encode(query, &registered, state);
    let question =
        question.map_err(|e| PlanError::invalid(guildhall_telemetry::error_chain(&e)))?;
    let cells = Cells {
        keys: query.cells.keys.len(),
        products: offered.0.clone(),
        free: false,
        of_all: false,
        room: Some(room.peer.council.clone()),
        linked: true,
    };
    let most = united.product.max_rows_per_unit;
    let told = query.cells.told_within(cells.minimum_group(), most);
    let schema = cell_schema(&query.cells.output_schema(), told).map_err(internal)?;
    Ok(RemoteFragment {
        fragment: Arc::new(Fragment::linked(room, question, parts)),
        plan: None,
        schema,
        rows: Rows::exactly(1_000.0),
        rule: rule(query, offered, &cells),
        cells: Some(cells),
        open: false,
    })
}

/// What the node of one member is asked.
fn part(
    query: &LinkedQuery,
    at: usize,
    of: Registered<'_>,
    product: &Arc<CatalogueProduct>,
    state: &SessionState,
) -> Result<Fragment, PlanError> {
    let part = query.part(at, of);
    let part = part.ok_or_else(|| PlanError::invalid("a product without a unit is linked"))?;
    let plan = part.canonical_plan(of.schema).map_err(internal)?;
    let read = std::slice::from_ref(product);
    fragment(&plan, state, read, OutputClass::TokenisedRows, Mode::Linked)
}

/// The rule that the cells pass, what each owner says, and what allows it.
fn rule(query: &LinkedQuery, offered: &Offered, cells: &Cells) -> String {
    let minimum = cells.minimum_group();
    let said = query.members.iter().zip(&offered.0).map(|(member, of)| {
        let product = &of.product;
        let dpia = product.linkable.as_ref().map(|l| l.dpia.to_string());
        format!(
            "{}.{}: {}, minimum group {}, {}",
            product.department,
            product.name,
            member.presence.as_str(),
            product.minimum_group,
            dpia.unwrap_or_default()
        )
    });
    format!(
        "minimum group of {minimum} distinct units, whose rows meet in the clean room ({}; the strictest, {minimum}, holds)",
        said.collect::<Vec<_>>().join("; ")
    )
}
