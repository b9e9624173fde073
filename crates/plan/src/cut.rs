//! Cuts an optimised plan into the largest parts that one node can answer alone.
//!
//! What is left between the parts runs at the gateway. A part that the profile cannot carry is
//! cut further down, so that a node does what it can and the gateway the rest.

use crate::catalogue::{CatalogueProduct, ProductTable};
use crate::planner::{self, PlanError};
use crate::profile;
use crate::remote::{Fragment, Mode, RemoteFragment};
use bytes::Bytes;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Extension, JoinType, LogicalPlan, TableScan};
use guildhall_grant::GrantedProduct;
use guildhall_model::{Digest, OutputClass, PeerId};
use std::sync::Arc;

/// Whose rows a part of a plan reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody's: literals only.
    Nobody,
    /// One node's.
    One(PeerId),
    /// Several nodes', or what only the gateway has.
    Gateway,
}

impl Owner {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nobody, o) | (o, Self::Nobody) => o,
            (Self::One(a), Self::One(b)) if a == b => Self::One(a),
            _ => Self::Gateway,
        }
    }
}

/// The product behind a scan, if it is one.
pub(crate) fn product_of(scan: &TableScan) -> Option<Arc<CatalogueProduct>> {
    let provider = source_as_provider(&scan.source).ok()?;
    let table = provider.downcast_ref::<ProductTable>()?;
    Some(Arc::clone(table.product()))
}

/// Whose rows `plan` reads, sub-queries included.
pub(crate) fn owner(plan: &LogicalPlan) -> Owner {
    let mut owner = Owner::Nobody;
    let walked = plan.apply_with_subqueries(|node| {
        owner = std::mem::replace(&mut owner, Owner::Nobody).and(match node {
            LogicalPlan::TableScan(scan) => match product_of(scan) {
                Some(product) => Owner::One(product.product.node.clone()),
                None => Owner::Gateway,
            },
            LogicalPlan::Extension(_) => Owner::Gateway,
            _ => Owner::Nobody,
        });
        Ok(if owner == Owner::Gateway {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    });
    match walked {
        Ok(_) => owner,
        Err(_) => Owner::Gateway,
    }
}

/// Replaces the largest parts of one owner by remote fragments.
pub(crate) fn cut(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan, PlanError> {
    let mut failed = None;
    let cut = plan.transform_down_with_subqueries(|node| match cut_here(node, state) {
        Ok(transformed) => Ok(transformed),
        Err(error) => {
            failed = Some(error);
            Err(DataFusionError::Internal("cut".to_owned()))
        }
    });
    match (cut, failed) {
        (_, Some(error)) => Err(error),
        (Ok(cut), None) => Ok(cut.data),
        (Err(source), None) => Err(PlanError::Internal {
            doing: "planned",
            source,
        }),
    }
}

fn cut_here(
    plan: LogicalPlan,
    state: &SessionState,
) -> Result<Transformed<LogicalPlan>, PlanError> {
    match owner(&plan) {
        Owner::Nobody => Ok(Transformed::new(plan, false, TreeNodeRecursion::Jump)),
        Owner::Gateway => Ok(Transformed::no(plan)),
        Owner::One(_) if swells(&plan) => Ok(Transformed::no(plan)),
        Owner::One(_) => match open_fragment(&plan, state) {
            Ok(part) => Ok(Transformed::new(
                LogicalPlan::Extension(Extension {
                    node: Arc::new(part),
                }),
                true,
                TreeNodeRecursion::Jump,
            )),
            // The profile does not carry this; perhaps it carries what is below.
            Err(_) if !matches!(plan, LogicalPlan::TableScan(_)) => Ok(Transformed::no(plan)),
            Err(error) => Err(error),
        },
    }
}

/// Whether a join would send more rows than its two sides hold.
fn swells(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(p) => swells(&p.input),
        LogicalPlan::SubqueryAlias(a) => swells(&a.input),
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner && join.on.is_empty() => {
            let sides = planner::rows(&join.left).given + planner::rows(&join.right).given;
            planner::rows(plan).given > 2.0 * sides
        }
        _ => false,
    }
}

/// The fragment that asks one node for `plan`, rows of it.
pub(crate) fn open_fragment(
    plan: &LogicalPlan,
    state: &SessionState,
) -> Result<RemoteFragment, PlanError> {
    let mut classes: Vec<&'static str> = Vec::new();
    let mut open = true;
    for product in products(plan) {
        open &= product.is_open();
        let class = product.product.class.as_str();
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    let fragment = rows_fragment(plan, state)?;
    Ok(RemoteFragment {
        fragment: Arc::new(fragment),
        plan: Some(Arc::new(plan.clone())),
        schema: Arc::clone(plan.schema()),
        rows: planner::rows(plan),
        rule: format!("rows of {} products", classes.join(" and ")),
        cells: None,
        open,
    })
}

/// The fragment that asks for the rows of `plan`.
pub(crate) fn rows_fragment(
    plan: &LogicalPlan,
    state: &SessionState,
) -> Result<Fragment, PlanError> {
    let read = products(plan);
    fragment(plan, state, &read, OutputClass::OpenRows, Mode::Open)
}

/// `plan` over the products `found`, in bytes, with what a grant for it must name.
pub(crate) fn fragment(
    plan: &LogicalPlan,
    state: &SessionState,
    found: &[Arc<CatalogueProduct>],
    output: OutputClass,
    mode: Mode,
) -> Result<Fragment, PlanError> {
    let bytes = profile::encode(plan, state).map_err(not_carried)?;
    let Some(first) = found.first() else {
        return Err(PlanError::invalid("a fragment that reads no product"));
    };
    let mut granted = Vec::new();
    for read in profile::reads(plan).map_err(not_carried)? {
        let version = found
            .iter()
            .find(|p| p.product.product_ref() == read.product)
            .map_or(0, |p| p.product.version);
        granted.push(GrantedProduct {
            department: read.product.department,
            product: read.product.product,
            version,
            columns: read.columns,
        });
    }
    Ok(Fragment {
        node: first.product.node.clone(),
        address: first.address.clone(),
        digest: Digest::of(&bytes),
        bytes: Bytes::from(bytes),
        products: granted,
        output,
        mode,
        cell_status: false,
        recipient: None,
        linked: None,
        parts: vec![],
    })
}

fn not_carried(error: profile::ProfileError) -> PlanError {
    PlanError::invalid(error.to_string())
}

/// The products that `plan` reads, one for each scan.
pub(crate) fn products(plan: &LogicalPlan) -> Vec<Arc<CatalogueProduct>> {
    let mut found = Vec::new();
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found.extend(product_of(scan));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}
