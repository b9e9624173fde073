//! Cells with parts at several owners, as a fragment whose clean room puts the parts together and releases them.
//!
//! That is for products which say alike what a cell is, and none of whose units is another owner's: else a cell put
//! together would not be one that any owner's rules are about. What is asked here is asked again by the clean room, which
//! believes nothing of it.

use super::asked::Leaf;
use super::released::cell_schema;
use super::{internal, is_literal, placed, question};
use crate::adhoc::{self, Lane};
use crate::catalogue::{CatalogueProduct, CleanRoom};
use crate::cube::{CubeQuery, Refusal, axes};
use crate::cut::fragment;
use crate::planner::{PlanError, Rows};
use crate::remote::{Cells, Fragment, Mode, RemoteFragment};
use datafusion::arrow::datatypes::Field;
use datafusion::common::TableReference;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use guildhall_grant::product::Product;
use guildhall_model::{OutputClass, ReleaseClass};
use std::collections::BTreeSet;
use std::sync::Arc;

const RULE: &str = "joint-cells";
const BY_COUNCIL: &str = "group by council, so that each cell is one owner's";

/// The aggregate over `leaves`, of which a cell may have parts at each.
pub(super) fn branch(
    leaves: &[Leaf],
    fields: &[(Option<TableReference>, Arc<Field>)],
    state: &SessionState,
    room: Option<&CleanRoom>,
) -> Result<LogicalPlan, PlanError> {
    let mut leaves: Vec<&Leaf> = leaves.iter().collect();
    leaves.sort_by_key(|l| l.product.product.product_ref());
    let room = may_join(&leaves, room).map_err(|refusal| PlanError::Refused { refusal })?;
    let group = constants(&leaves).map_err(|refusal| PlanError::Refused { refusal })?;
    let names = fields.iter().map(|(_, field)| field.name().as_str());
    let names = names
        .enumerate()
        .filter(|(at, _)| !group.get(*at).is_some_and(is_literal))
        .map(|(_, name)| name);
    let query = named(one_question(&leaves)?, names);
    let part = released(&query, &leaves, room, state)?;
    placed(part, group, fields)
}

/// Where the cells of these owners may be put together, or why not.
///
/// Invariant: nothing is asked of anybody unless these are all the products that each of them is released together with,
/// and no owner has two parts of a cell.
fn may_join<'a>(leaves: &[&Leaf], room: Option<&'a CleanRoom>) -> Result<&'a CleanRoom, Refusal> {
    let products = || leaves.iter().map(|l| &l.product.product);
    if products().any(|p| p.class != ReleaseClass::Aggregate) {
        return Err(refused(leaves, "that are not all released as cells"));
    }
    let Some(room) = room else {
        let why =
            "that have to be released together, and no clean room is configured at this gateway";
        return Err(refused(leaves, why));
    };
    let templates: BTreeSet<_> = products().map(|p| &p.conforms_to).collect();
    if templates.len() > 1 || templates.contains(&None) {
        return Err(refused(leaves, "whose products are not of one template"));
    }
    let owners: BTreeSet<_> = products().map(|p| (&p.council, &p.department)).collect();
    if owners.len() < leaves.len() {
        return Err(refused(leaves, "of which one would give two parts"));
    }
    let all: BTreeSet<_> = products().map(|p| p.product_ref()).collect();
    let apart = |p: &&Product| {
        let mut owners = p.joint_with.clone();
        owners.insert(p.product_ref());
        owners != all
    };
    if let Some(product) = products().find(apart) {
        let with: Vec<String> = product
            .joint_with
            .iter()
            .map(|p| format!("`{p}`"))
            .collect();
        let with = match with.as_slice() {
            [] => "any other".to_owned(),
            all => format!("others than {}, all of them", all.join(", ")),
        };
        let why = format!(
            "and `{}` is not released together with {with}",
            product.product_ref()
        );
        return Err(refused(leaves, &why));
    }
    Ok(room)
}

fn refused(leaves: &[&Leaf], why: &str) -> Refusal {
    let councils: BTreeSet<&str> = leaves
        .iter()
        .map(|l| l.product.product.council.as_str())
        .collect();
    let councils: Vec<&str> = councils.into_iter().collect();
    let reason = format!(
        "cells of this statement have parts at several owners ({}), {why}",
        councils.join(", ")
    );
    Refusal::new(RULE, reason, BY_COUNCIL)
}

/// The keys, if those that are constants are the same constants of all cells.
fn constants<'a>(leaves: &[&'a Leaf]) -> Result<&'a [Expr], Refusal> {
    let Some((first, others)) = leaves.split_first() else {
        return Ok(&[]);
    };
    let same = |other: &&Leaf| {
        let keys = first.asked.group.iter().zip(&other.asked.group);
        keys.into_iter()
            .all(|(a, b)| !(is_literal(a) || is_literal(b)) || a == b)
    };
    match others.iter().all(same) {
        true => Ok(&first.asked.group),
        false => Err(refused(
            leaves,
            "and are grouped by what is a constant of one and not of another",
        )),
    }
}

/// The question that all of them are asked, as one of the cube of the first.
fn one_question(leaves: &[&Leaf]) -> Result<CubeQuery, PlanError> {
    let mut queries = Vec::new();
    for leaf in leaves {
        queries.push((cube(leaf, leaves)?, leaf.product.as_ref()));
    }
    let mut queries = queries.into_iter();
    let Some((first, of)) = queries.next() else {
        return Err(PlanError::invalid("cells of nobody"));
    };
    for (other, and) in queries {
        if let Some(what) = differs((&first, of), (&other, and)) {
            let names = (of.product.product_ref(), and.product.product_ref());
            let why = format!(
                "and {what} is not the same for `{}` and `{}`",
                names.0, names.1
            );
            let refusal = refused(leaves, &why);
            return Err(PlanError::Refused { refusal });
        }
    }
    Ok(first)
}

/// What one owner is asked, as a question of its product's cube.
fn cube(leaf: &Leaf, leaves: &[&Leaf]) -> Result<CubeQuery, PlanError> {
    let product = &leaf.product;
    let lane = adhoc::lane(&question(leaf)?, &product.product, product.budget.as_ref());
    match lane {
        Ok(Lane::Cube(query)) => Ok(query),
        Ok(Lane::AdHoc(_)) => {
            let why = "and free questions are not asked of several owners at once";
            let refusal = refused(leaves, why);
            Err(PlanError::Refused { refusal })
        }
        Err(refusal) => Err(PlanError::Refused { refusal }),
    }
}

type Recognised<'a> = (&'a CubeQuery, &'a CatalogueProduct);

/// What makes the cells of two owners different things, if anything does.
fn differs((a, of): Recognised<'_>, (b, and): Recognised<'_>) -> Option<String> {
    let (one, other) = (&of.product, &and.product);
    let keys = |q: &CubeQuery| -> Vec<_> {
        let keys = q.keys.iter();
        keys.map(|k| (k.column.clone(), k.roll_up.clone(), k.data_type.clone()))
            .collect()
    };
    let told = |q: &CubeQuery| -> Vec<_> {
        let told = q.aggregates.iter();
        told.map(|a| (a.aggregate.clone(), a.argument.clone(), a.data_type.clone()))
            .collect()
    };
    let limits =
        a.filters.len() == b.filters.len() && a.filters.iter().all(|f| b.filters.contains(f));
    let what = if a.unit != b.unit {
        "the unit that is counted"
    } else if one.max_rows_per_unit != other.max_rows_per_unit {
        "how many rows of one unit count in a cell"
    } else if keys(a) != keys(b) {
        "what cells are told apart by"
    } else if !limits {
        "what cells are limited to"
    } else if told(a) != told(b) {
        "what is told of a cell"
    } else if !same_lattice((a, one), (b, other)) {
        "which coarser cells a cell lies in"
    } else {
        return measure((a, of), (b, and)).map(|m| format!("how measure `{m}` is bounded"));
    };
    Some(what.to_owned())
}

/// Whether the cells of two owners lie in the same tables.
fn same_lattice((a, of): (&CubeQuery, &Product), (b, and): (&CubeQuery, &Product)) -> bool {
    match (axes(a, of), axes(b, and)) {
        (Ok(one), Ok(other)) => {
            one == other
                && one
                    .iter()
                    .zip(&other)
                    .all(|(x, y)| x.coarser(of) == y.coarser(and))
        }
        _ => false,
    }
}

/// A measure of the question that two owners do not bound alike, or do not hold in one type.
fn measure((a, of): Recognised<'_>, (_, and): Recognised<'_>) -> Option<String> {
    let measures = a.aggregates.iter().filter_map(|a| a.aggregate.measure());
    let mut measures = measures.map(|m| m.as_str());
    let held = |p: &CatalogueProduct, m: &str| {
        let field = p.schema.field_with_name(m).ok();
        (
            p.product.measure(m).cloned(),
            field.map(|f| f.data_type().clone()),
        )
    };
    let found = measures.find(|m| held(of, m) != held(and, m));
    found.map(ToOwned::to_owned)
}

/// `query` whose columns have these names, which no product's own name is in.
pub(super) fn named<'a>(mut query: CubeQuery, names: impl Iterator<Item = &'a str>) -> CubeQuery {
    let keys = query.keys.iter_mut().map(|k| &mut k.name);
    let all = keys.chain(query.aggregates.iter_mut().map(|a| &mut a.name));
    for (name, of_answer) in all.zip(names) {
        of_answer.clone_into(name);
    }
    query
}

/// The fragment whose clean room answers `query` with cells put together of what each leaf's node sends it.
fn released(
    query: &CubeQuery,
    leaves: &[&Leaf],
    room: &CleanRoom,
    state: &SessionState,
) -> Result<RemoteFragment, PlanError> {
    let mut parts = Vec::new();
    for leaf in leaves {
        parts.push(part(query, &leaf.product, state)?);
    }
    let cells = Cells {
        keys: query.keys.len(),
        products: leaves.iter().map(|l| Arc::clone(&l.product)).collect(),
        free: false,
        of_all: leaves.iter().any(|l| l.asked.of_city),
        room: Some(room.peer.council.clone()),
        linked: false,
    };
    let rows = leaves.iter().map(|l| l.product.product.max_rows_per_unit);
    let told = query.told_within(cells.minimum_group(), rows.max().unwrap_or(u32::MAX));
    let schema = cell_schema(&query.output_schema(), told).map_err(internal)?;
    Ok(RemoteFragment {
        fragment: Arc::new(Fragment::joint(room, parts)),
        plan: None,
        schema,
        rows: Rows::exactly(1_000.0),
        rule: rule(&cells),
        cells: Some(cells),
        open: false,
    })
}

/// The same question, of one owner's product, for its part of the cells.
fn part(
    query: &CubeQuery,
    product: &Arc<CatalogueProduct>,
    state: &SessionState,
) -> Result<Fragment, PlanError> {
    let query = CubeQuery {
        product: product.product.product_ref(),
        ..query.clone()
    };
    let plan = query.canonical_plan(&product.schema).map_err(internal)?;
    let read = std::slice::from_ref(product);
    fragment(&plan, state, read, OutputClass::PartialCells, Mode::Joint)
}

/// The rule that the cells pass, and what each owner says.
fn rule(cells: &Cells) -> String {
    let minimum = cells.minimum_group();
    let said = cells.products.iter().map(|p| {
        let p = &p.product;
        format!(
            "{}.{}: minimum group {}",
            p.council, p.department, p.minimum_group
        )
    });
    format!(
        "minimum group of {minimum} distinct units, put together of {} owners ({}; the strictest, {minimum}, holds)",
        cells.products.len(),
        said.collect::<Vec<_>>().join("; ")
    )
}
