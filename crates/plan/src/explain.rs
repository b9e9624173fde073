//! What `EXPLAIN` tells: where each step runs, in which mode, and what leaves.

use crate::catalogue::OWN_SCHEMA;
use crate::planner::PlanError;
use crate::remote::{Fragment, Mode, RemoteExec, RemoteFragment};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// One step of a plan. It holds no literal of the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done, innermost operations indented most.
    pub step: String,
    /// `gateway`, the node's name, or whose clean room.
    pub place: String,
    /// The release mode; empty at the gateway.
    pub mode: String,
    /// The columns that leave the node or the clean room; empty at the gateway.
    pub leaves: String,
    /// The rule that lets them leave.
    pub rule: String,
}

/// The columns of `EXPLAIN`.
#[must_use]
pub fn explain_schema() -> SchemaRef {
    let fields: Vec<Field> = ["step", "where", "mode", "leaves", "rule"]
        .into_iter()
        .map(|name| Field::new(name, DataType::Utf8, true))
        .collect();
    Arc::new(Schema::new(fields))
}

/// The steps as rows of [`explain_schema`].
pub(crate) fn batch(steps: &[Step]) -> Result<RecordBatch, PlanError> {
    let column = |of: fn(&Step) -> &str| -> ArrayRef {
        Arc::new(steps.iter().map(|s| Some(of(s))).collect::<StringArray>())
    };
    RecordBatch::try_new(
        explain_schema(),
        vec![
            column(|s| &s.step),
            column(|s| &s.place),
            column(|s| &s.mode),
            column(|s| &s.leaves),
            column(|s| &s.rule),
        ],
    )
    .map_err(|e| PlanError::Internal {
        doing: "explained",
        source: e.into(),
    })
}

/// The keys that travel from the gateway to nodes while the plan runs.
pub(crate) fn keys_sent(plan: &Arc<dyn ExecutionPlan>, steps: &mut Vec<Step>) {
    let walked = plan.apply(|node| {
        if let Some(remote) = node.downcast_ref::<RemoteExec>()
            && let columns = remote.awaited()
            && !columns.is_empty()
        {
            steps.push(Step {
                step: "send the keys that the other side of a join has, if they are few".to_owned(),
                place: format!("gateway to {}", remote.part().fragment.node),
                mode: remote.part().fragment.mode.to_string(),
                leaves: columns.join(", "),
                rule: "both sides read open products only".to_owned(),
            });
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok());
}

/// The steps of a cut plan, outermost first; what a node does to synthetic rows says so.
pub(crate) fn steps(plan: &LogicalPlan, synthetic: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    walk(plan, 0, &mut steps);
    let remote = steps.iter_mut().filter(|s| !s.mode.is_empty());
    for step in remote.filter(|_| synthetic) {
        step.rule = format!("synthetic rows; {}", step.rule);
    }
    steps
}

fn walk(plan: &LogicalPlan, depth: usize, steps: &mut Vec<Step>) {
    let indent = "  ".repeat(depth);
    if let LogicalPlan::Extension(e) = plan
        && let Some(part) = e.node.as_any().downcast_ref::<RemoteFragment>()
    {
        steps.push(remote(part, &indent));
        let parts = part.fragment.parts.iter();
        steps.extend(parts.map(|p| contribution(p, &part.fragment, &indent)));
        return;
    }
    let deeper = match name(plan) {
        Some(name) => {
            steps.push(Step {
                step: format!("{indent}{name}"),
                place: "gateway".to_owned(),
                mode: String::new(),
                leaves: String::new(),
                rule: String::new(),
            });
            depth + 1
        }
        None => depth,
    };
    for input in plan.inputs() {
        walk(input, deeper, steps);
    }
    let _ = plan.apply_subqueries(|subquery| {
        walk(subquery, deeper, steps);
        Ok(TreeNodeRecursion::Continue)
    });
}

fn remote(part: &RemoteFragment, indent: &str) -> Step {
    let done = match &part.plan {
        Some(plan) => operations(plan),
        None if part.fragment.mode == Mode::Joint => "put together and release cells".to_owned(),
        None if part.fragment.mode == Mode::Linked => "link rows and release cells".to_owned(),
        None => "aggregate and release cells".to_owned(),
    };
    let products: Vec<String> = part.fragment.granted().iter().flat_map(products).collect();
    Step {
        step: format!("{indent}{done} of {}", products.join(", ")),
        place: match part.fragment.mode {
            Mode::Joint | Mode::Linked => clean_room(&part.fragment),
            _ => part.fragment.node.to_string(),
        },
        mode: part.fragment.mode.to_string(),
        leaves: part
            .schema
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .collect::<Vec<_>>()
            .join(", "),
        rule: part.rule.clone(),
    }
}

/// What a node contributes to `whole`.
fn contribution(part: &Fragment, whole: &Fragment, indent: &str) -> Step {
    let products: Vec<String> = products(part).collect();
    let products = products.join(", ");
    let (step, leaves) = match part.mode {
        Mode::Linked => (
            format!("{indent}  send rows of {products} under tokens"),
            format!(
                "a token of this question alone in place of the unit; {}",
                part.columns()
            ),
        ),
        _ => (
            format!("{indent}  contribute parts of cells of {products}"),
            "of each cell: units, totals, largest contributions, sum of record keys".to_owned(),
        ),
    };
    Step {
        step,
        place: part.node.to_string(),
        mode: part.mode.to_string(),
        leaves,
        rule: format!("not released yet: to {} alone", clean_room(whole)),
    }
}

fn clean_room(fragment: &Fragment) -> String {
    format!("the clean room of {}", fragment.node.council)
}

/// The full names of what a fragment reads.
fn products(fragment: &Fragment) -> impl Iterator<Item = String> {
    let council = &fragment.node.council;
    let products = fragment.products.iter();
    products.map(move |p| format!("{council}.{}.{}", p.department, p.product))
}

/// The operations of a fragment in the order they run, each kind once.
fn operations(plan: &LogicalPlan) -> String {
    let mut names: Vec<&'static str> = Vec::new();
    let _ = plan.apply_with_subqueries(|node| {
        if let Some(name) = name(node)
            && !names.contains(&name)
        {
            names.push(name);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    names.reverse();
    if names.is_empty() {
        "rows".to_owned()
    } else {
        names.join(", ")
    }
}

fn name(plan: &LogicalPlan) -> Option<&'static str> {
    Some(match plan {
        LogicalPlan::Filter(_) => "filter",
        LogicalPlan::Window(_) => "window",
        LogicalPlan::Aggregate(_) => "aggregate",
        LogicalPlan::Sort(s) if s.fetch.is_some() => "top rows",
        LogicalPlan::Sort(_) => "sort",
        LogicalPlan::Join(_) => "join",
        LogicalPlan::Union(_) => "union",
        LogicalPlan::Limit(_) => "limit",
        LogicalPlan::Distinct(_) => "distinct",
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => "values",
        LogicalPlan::TableScan(_) => match plan {
            LogicalPlan::TableScan(scan) if crate::cut::product_of(scan).is_some() => return None,
            LogicalPlan::TableScan(scan) if scan.table_name.schema() == Some(OWN_SCHEMA) => {
                "what is the asker's own"
            }
            _ => "information schema",
        },
        LogicalPlan::Unnest(_) => "unnest",
        LogicalPlan::RecursiveQuery(_) => "recursion",
        _ => return None,
    })
}
